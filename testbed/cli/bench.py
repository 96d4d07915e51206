"""`testbed bench`: the agent by itself, beside what the kernel allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from testbed.cli.measure import made_directory
from testbed.cli.options import duration, format_option

if TYPE_CHECKING:
    from testbed.bench.coalescing import CoalescingBench
    from testbed.bench.engines import EngineBench
    from testbed.bench.record import Progress

PATHS = ("relay", "tap-to-wire", "wire-to-tap")

Rows = TypeVar("Rows")


@click.group()
def bench() -> None:
    """Measure the agent by itself, beside what the kernel allows."""


rounds_option = click.option(
    "--rounds", type=click.IntRange(min=1), help="How often each is measured."
)
trial_option = click.option(
    "--trial", type=duration, metavar="TIME", help="How long each is measured each time."
)
frame_option = click.option(
    "--frame-bytes",
    type=click.IntRange(64, 1450),
    default=256,
    show_default=True,
    help="Size of the inner Ethernet frames.",
)


@bench.command()
@click.option("--quick", is_flag=True, help="Batches of 8 and 32, once each: within two minutes.")
@click.option(
    "--path",
    type=click.Choice(PATHS),
    multiple=True,
    help="Only this way through the node; may be repeated.",
)
@click.option(
    "--engine",
    metavar="NAME",
    multiple=True,
    help="Only this engine on the wire (mmsg), or this pair of wire and TAP (mmsg/uring); may be "
    "repeated.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 256),
    multiple=True,
    help="Only this batch size; may be repeated. 1, 2, 4 … 256 if not given.",
)
@rounds_option
@trial_option
@frame_option
@click.option(
    "--output",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Where engines.json and engines.svg go; a new directory in results/ if not given.",
)
@format_option
def engines(
    quick: bool,
    path: Sequence[str],
    engine: Sequence[str],
    batch: Sequence[int],
    rounds: int | None,
    trial: float | None,
    frame_bytes: int,
    output: str | None,
    format: str,
) -> None:
    """Every engine at saturation, beside a C program and the kernel.

    An OBU relays (wire to wire), and passes frames on from and to its TAP, as fast as it is
    offered them. The floor is a small C program that makes the same system calls and nothing else;
    it is measured next to each engine, and the ratios are to it. The physical limit is an XDP
    program. What cannot be measured here is named with the reason. The full form takes some 40
    minutes.
    """
    from testbed import console
    from testbed.bench import figures, plot
    from testbed.bench.engines import QUICK, EngineBench, Extent
    from testbed.bench.entries import NAMES
    from testbed.bench.record import write_document
    from testbed.cli import benchview
    from testbed.errors import InputError
    from testbed.results.store import write_atomically
    from testbed.traffic.paths import Path as Way

    for name in engine:
        if name not in NAMES:
            raise InputError(
                "there is no such engine", value=name, expected="one of " + ", ".join(NAMES)
            )
    extent = QUICK if quick else Extent()
    extent = replace(
        extent,
        names=tuple(engine),
        ways=tuple(Way(one) for one in PATHS if not path or one in path),
        sizes=tuple(sorted(set(batch))) or extent.sizes,
        rounds=rounds or extent.rounds,
        trial_s=trial or extent.trial_s,
        frame_bytes=frame_bytes,
    )

    def finish(document: dict[str, Any], place: Path) -> tuple[list[figures.Row], list[Path]]:
        rows = figures.rows(document)
        document["rows"] = [row.to_json() for row in rows]
        files = [write_document(document, place / "engines.json")]
        if any(row.pps is not None for row in rows):
            picture = plot.draw(rows, caption=benchview.caption(document))
            files.append(write_atomically(place / "engines.svg", picture))
        return rows, files

    document, rows = _measured(
        lambda progress: EngineBench(extent=extent, progress=progress), "engines", output, finish
    )
    if format == "json":
        console.print_json(document)
    else:
        benchview.print_engines(document, rows)


def _rates(
    ctx: click.Context, option: click.Parameter, given: Sequence[str]
) -> tuple[int | None, ...]:
    from testbed.bench.coalescing import MAXIMUM

    return tuple(dict.fromkeys(None if text == MAXIMUM else _rate(text) for text in given))


def _rate(text: str) -> int:
    from testbed.bench.coalescing import MAXIMUM
    from testbed.files.units import UnitError, rate_pps

    try:
        rate = rate_pps(f"{text}pps" if text.isdecimal() else text)
    except UnitError as error:
        raise click.BadParameter(f"{text!r}: {error}, or {MAXIMUM!r}.") from error
    if not 1 <= rate <= 10**7 or rate != int(rate):
        raise click.BadParameter(f"{text!r}: expected 1pps to 10mpps in whole packets a second.")
    return int(rate)


@bench.command()
@click.option("--quick", is_flag=True, help="Three rounds of one second.")
@click.option(
    "--rate",
    metavar="RATE",
    multiple=True,
    callback=_rates,
    help="Only so many packets a second, as 5kpps or 5000, or max; may be repeated. 500, 5000, "
    "50000 and max if not given.",
)
@click.option(
    "--max-wait",
    type=duration,
    default="1ms",
    show_default=True,
    metavar="TIME",
    help="How long a frame may wait, up to 10ms.",
)
@click.option(
    "--burst",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Packets that are due together.",
)
@rounds_option
@trial_option
@frame_option
@click.option(
    "--output",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Where coalescing.json goes; a new directory in results/ if not given.",
)
@format_option
def coalescing(
    quick: bool,
    rate: tuple[int | None, ...],
    max_wait: float,
    burst: int,
    rounds: int | None,
    trial: float | None,
    frame_bytes: int,
    output: str | None,
    format: str,
) -> None:
    """What letting frames wait for each other saves and costs.

    An OBU relays smooth traffic frame by frame, in batches without waiting, and in batches with
    waiting always (fixed) or where it pays (adaptive): CPU time, wake-ups and latency. The full
    form takes some six minutes.
    """
    from testbed import console
    from testbed.bench import waiting
    from testbed.bench.coalescing import QUICK, CoalescingBench, Extent
    from testbed.bench.record import write_document
    from testbed.cli import benchview
    from testbed.errors import InputError

    max_wait_us = round(max_wait * 1e6)
    if not 1 <= max_wait_us <= 10_000:
        raise InputError(
            "so long no frame may wait", value=f"{max_wait_us} µs", expected="1us to 10ms"
        )
    extent = QUICK if quick else Extent()
    extent = replace(
        extent,
        rates_pps=rate or extent.rates_pps,
        max_wait_us=max_wait_us,
        burst=burst,
        rounds=rounds or extent.rounds,
        trial_s=trial or extent.trial_s,
        frame_bytes=frame_bytes,
    )

    def finish(document: dict[str, Any], place: Path) -> tuple[list[waiting.Row], list[Path]]:
        rows = waiting.rows(document)
        document["rows"] = [row.to_json() for row in rows]
        return rows, [write_document(document, place / "coalescing.json")]

    document, rows = _measured(
        lambda progress: CoalescingBench(extent=extent, progress=progress),
        "coalescing",
        output,
        finish,
    )
    if format == "json":
        console.print_json(document)
    else:
        benchview.print_coalescing(document, rows)


def _measured(
    make: Callable[[Progress], EngineBench | CoalescingBench],
    name: str,
    output: str | None,
    finish: Callable[[dict[str, Any], Path], tuple[Rows, list[Path]]],
) -> tuple[dict[str, Any], Rows]:
    """The document and the rows of a run; what was measured is written, whatever ends it."""
    from testbed import console
    from testbed.kernel import limits

    limits.require_rights()
    place = Path(output or f"results/bench-{name}-{datetime.now():%Y%m%d-%H%M%S}")
    with made_directory(place):
        with console.Gauge() as gauge:
            run = make(
                lambda title, done, total, left_s: gauge.show(
                    title, done=done, total=total, remaining_s=left_s
                )
            )
            try:
                run.run()
            except BaseException:
                if run.record.trials:
                    _, files = finish(run.document(interrupted=True), place)
                    console.note(f"what was measured until now is in {files[0]}")
                raise
        document = run.document()
        rows, files = finish(document, place)
    console.note("written: " + ", ".join(str(path) for path in files))
    return document, rows


COMMANDS = (bench,)
