"""What stands behind the figures: the ledger, trials set aside, how and where it was done.

Must not know how it will look.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator

from testbed.measure.statistics import PHASES, busy_share, cells, stolen_share, trials_of
from testbed.report.blocks import Block, Bullets, Cell, Rows, Section, Tone, line
from testbed.report.summary import point_text
from testbed.report.wording import NOTHING, count, percent, seconds
from testbed.results import EXCLUDING, Result, Trial, Variant, in_words

_SEEN = 0.02
"""A part of the CPUs' time that is seen in the figures."""


def ledger(result: Result) -> Section:
    """Where every offered packet went, summed over the trials of a cell and variant."""
    blocks: list[Block] = []
    points = list(dict.fromkeys(place.point for place in cells(result)))
    for point in points:
        account, drops = Rows(), Rows()
        silent: dict[str, None] = {}
        for place in (place for place in cells(result) if place.point == point):
            account.group()
            drops.group()
            for variant in result.scenario.variants:
                trials = [t for t in trials_of(result, place, variant.name) if t.ledger]
                if not trials:
                    continue
                account.add(place.load, variant.name, *_account(trials))
                if not _told(trials):
                    silent[variant.name] = None
                for (where, why), number in _drops(trials).most_common():
                    if number:
                        drops.add(place.load, variant.name, where, why, count(number))
        title = point_text(result.point(point))
        if len(account):
            blocks.append(
                account.table(
                    (
                        "<load", "<variant", "offered", "delivered", "dropped", "unexplained",
                        "dupli-\ncated", "reordered", "corrupted",
                    ),
                    title=title,
                    note="offered = delivered + dropped + unexplained, over all timing trials with "
                    "their warm-up. Below zero: a dropped frame was none of the offered ones, such "
                    "as a heartbeat." + _silence(silent),
                )
            )  # fmt: skip
        if len(drops):
            blocks.append(
                drops.table(
                    ("<load", "<variant", "<where", "<why", "packets"), title=f"{title}: dropped"
                )
            )
    return Section(title="Where the packets went", blocks=tuple(blocks))


def _account(trials: list[Trial]) -> Iterator[str | Cell]:
    traffic = [trial.traffic for trial in trials if trial.traffic is not None]
    closed = [trial.ledger for trial in trials if trial.ledger is not None]
    unexplained = sum(one.unexplained for one in closed)
    is_open = any(trial.marked("ledger-open") for trial in trials)
    yield count(sum(one.offered for one in closed))
    yield count(sum(one.delivered for one in closed))
    yield count(_drops(trials).total())
    if unexplained > 0 and not _told(trials):
        yield Cell(f"{count(unexplained)}, not told by the node", Tone.FAINT)
    else:
        yield Cell(count(unexplained), Tone.BAD if is_open else Tone.PLAIN)
    for damage in ("duplicated", "reordered", "corrupted"):
        total = sum(int(getattr(t, damage)) for t in traffic)
        yield Cell(count(total), Tone.BAD if total else Tone.PLAIN)


def _told(trials: list[Trial]) -> bool:
    """Whether the node said in all of them what it dropped."""
    return all(trial.ledger.node_told for trial in trials if trial.ledger is not None)


def _silence(variants: Iterable[str]) -> str:
    names = ", ".join(variants)
    if not names:
        return ""
    return f" What {names} dropped is not told by the node, and stands under unexplained."


def _drops(trials: list[Trial]) -> Counter[tuple[str, str]]:
    dropped: Counter[tuple[str, str]] = Counter()
    for trial in trials:
        for entry in trial.ledger.lines if trial.ledger is not None else ():
            dropped[entry.place, entry.cause] += entry.count
    return dropped


def caveats(result: Result) -> Section:
    """What limits the figures: shortfalls of the form, trials set aside, notes of the run."""
    items = [f"{said[0].upper()}{said[1:]}." for said in result.scenario.shortfalls]
    items += result.notes
    items += list(_taken_away(result))
    items += list(_set_aside(result))
    items += list(_fallbacks(result))
    title = f"What this {result.scenario.form} run falls short of"
    return Section(title=title, blocks=(Bullets(items=tuple(items)),) if items else ())


def _taken_away(result: Result) -> Iterator[str]:
    """What a host of virtual machines has taken, where that is enough to be seen in the figures."""
    shares = [share for trial in result.trials if (share := stolen_share((trial,))) is not None]
    if shares and max(shares) >= _SEEN:
        yield (
            f"The host of this virtual machine took {percent(sum(shares) / len(shares), 1)} of its "
            f"CPUs' time away, up to {percent(max(shares), 1)} in a trial: paced loads then miss "
            "their times, and CPU time per packet may contain what was taken."
        )


def _set_aside(result: Result) -> Iterator[str]:
    """Marks, with the trials that carry them by cell and variant, and one reason as an example."""
    found: dict[tuple[str, str], list[str]] = {}
    example: dict[tuple[str, str], str] = {}
    several = len(result.scenario.points) > 1
    for place in cells(result):
        for variant in result.scenario.variants:
            for phase in PHASES:
                trials = trials_of(result, place, variant.name, phase)
                marks = [m for trial in trials for m in trial.marks if m.mark != "lower-bound"]
                for mark in dict.fromkeys(m.mark for m in marks):
                    same = [m for m in marks if m.mark == mark]
                    where = f"{place.point}, " if several else ""
                    found.setdefault((mark, phase), []).append(
                        f"{len(same)} of {len(trials)} of {variant.name} "
                        f"at {where}{place.load} load"
                    )
                    example.setdefault((mark, phase), same[0].why)
    for (kind, name), where_found in found.items():
        effect = "no verdict from them" if kind in EXCLUDING else "still part of verdicts"
        yield (
            f"{name.title()} trials that are {kind}, {effect}: {'; '.join(where_found)}. "
            f"The first: {example[kind, name]}."
        )


def _fallbacks(result: Result) -> Iterator[str]:
    """Engines that were asked for and not used, each once."""
    said = set()
    for trial in result.trials:
        if trial.node is None:
            continue
        for side, engine in trial.node.engines.items():
            if engine.requested not in ("auto", engine.used):
                said.add(
                    f"{trial.variant} asked for {engine.requested} on its {side} and used "
                    f"{engine.used}: {engine.why or 'no reason given'}."
                )
    yield from sorted(said)


def method(result: Result) -> Section:
    """How it was done: variants, loads, pins, and how busy generator, node and sink were."""
    scenario, environment = result.scenario, result.environment
    variants = Rows()
    shown = _differing(scenario.variants)
    timed = scenario.kind != "checks"
    for variant in scenario.variants:
        variants.add(
            variant.name + (" (baseline)" if variant.baseline and timed else ""),
            *(str(variant.settings.get(key, NOTHING)) for key in shown),
            *((", ".join(variant.passes),) if timed else ()),
        )
    settings = (f"<{key.replace('_', ' ')}" for key in shown)
    listed = variants.table(
        ("<variant", *settings, *(("<passes",) if timed else ())),
        note="Settings that all variants share are not listed.",
    )
    programs = _programs(scenario.variants)
    about = (listed, *([programs] if programs is not None else []))
    if not timed:
        return Section(title="How it was done", blocks=about)
    return Section(
        title="How it was done",
        blocks=(
            *about,
            line(
                f"Frames of {', '.join(map(in_words, scenario.frame_bytes))} in "
                f"{scenario.flows} flow{'s' if scenario.flows > 1 else ''}; the variants alternate "
                "A B B A, each trial with a freshly started node and after "
                f"{seconds(scenario.warm_up_s)} of warm-up. Generator and sink ran on CPU "
                f"{_cpus(environment.tester_cpus)}, the "
                f"node under test on CPU {_cpus(environment.node_cpus)}. Seed {result.seed}."
            ),
            _busy(result),
        ),
    )


def _programs(variants: list[Variant]) -> Block | None:
    """The command lines of the variants that are programs; None where there are none."""
    rows = Rows()
    for variant in variants:
        if variant.command is not None:
            told = [f"{name}={value}" for name, value in variant.command.env.items()]
            rows.add(variant.name, shlex.join([*told, *variant.command.argv]))
    if not len(rows):
        return None
    return rows.table(
        ("<variant", "<program"),
        note="A program has no counters of ours: what is shown of it was counted by the kernel and "
        "by the tester.",
    )


def _busy(result: Result) -> Block:
    rows = Rows()
    environment = result.environment
    for place in cells(result):
        rows.group()
        for variant in result.scenario.variants:
            trials = trials_of(result, place, variant.name)
            if trials:
                rows.add(
                    point_text(result.point(place.point)),
                    place.load,
                    variant.name,
                    _mean_busy(trials, environment.tester_cpus),
                    _mean_busy(trials, environment.node_cpus),
                    percent(stolen_share(trials), 1),
                )
    return rows.table(
        ("<point", "<load", "<variant", "tester CPU\nbusy", "node CPU\nbusy", "stolen"),
        note="“stolen” is CPU time that the host of a virtual machine took away.",
    )


def _mean_busy(trials: tuple[Trial, ...], cpus: list[int]) -> str:
    shares = [share for trial in trials if (share := busy_share(trial, cpus)) is not None]
    return percent(sum(shares) / len(shares), 0) if shares else NOTHING


def _cpus(numbers: list[int]) -> str:
    return " and ".join(map(str, numbers)) or NOTHING


def _differing(variants: list[Variant]) -> list[str]:
    """The settings in which the variants differ."""
    keys = list(dict.fromkeys(key for variant in variants for key in variant.settings))
    return [key for key in keys if len({str(v.settings.get(key)) for v in variants}) > 1]


def environment(result: Result) -> Section:
    """Where it was done."""
    about = result.environment
    rows = Rows()
    rows.add("kernel", f"Linux {about.kernel}, {about.machine}")
    rows.add("CPU", f"{about.cpus} × {about.cpu_model}")
    if about.virtualisation:
        rows.add("virtual machine", about.virtualisation)
    rows.add("CPU governor", about.cpu_governor or NOTHING)
    rows.add("clock source", about.clock_source or NOTHING)
    rows.add("memory", f"{about.memory_total_bytes / (1 << 30):.1f} GiB")
    rows.add("load before the run", ", ".join(f"{value:.2f}" for value in about.load_average))
    rows.add("Python", about.python)
    rows.add("versions", ", ".join(f"{name} {v}" for name, v in sorted(about.versions.items())))
    if about.sysctls:
        rows.add("settings", ", ".join(f"{k} {v}" for k, v in sorted(about.sysctls.items())))
    active = {k: v for k, v in about.mitigations.items() if v != "Not affected"}
    rows.add("mitigations", "; ".join(f"{k}: {v}" for k, v in sorted(active.items())) or "none")
    rows.add("topology", str(result.topology.get("name", NOTHING)))
    rows.add("scenario", result.scenario.source or NOTHING)
    blocks: list[Block] = [rows.table(("<", "<<"))]
    devices = Rows()
    for device in about.devices:
        on = [name for name, enabled in sorted(device.offloads.items()) if enabled]
        devices.add(
            device.node, device.name, device.kind, count(device.mtu), count(device.queue_length),
            ", ".join(on) or "none",
        )  # fmt: skip
    if len(devices):
        blocks.append(
            devices.table(("<node", "<device", "<kind", "MTU", "queue", "<<offloads that are on"))
        )
    return Section(title="Environment", blocks=tuple(blocks))
