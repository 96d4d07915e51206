"""The measured quantities: how each is derived from the counts of one trial.

Every figure of a report goes through here, so that there is one definition of each. Must not know
what is compared with what. None is "no data": a ratio without packets, a counter that was not
there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from testbed.results import Traffic, Trial
from testbed.targets import Better

SEARCHED: Final[Mapping[str, Literal["ndr", "pdr"]]] = {"ndr_pps": "ndr", "pdr_pps": "pdr"}
"""The quantities that come from searches instead of trials, and the goal of each."""

CLASSES: Final = ("receive", "send", "wait", "ring", "other")


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """One derived figure: `of` takes a trial and gives the figure in `unit`, or None."""

    key: str
    label: str
    unit: str
    of: Callable[[Trial], float | None]
    better: Better = Better.LOWER
    digits: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Calls:
    """System calls of one trial by name, what each name is for, and who counted them."""

    by_name: Mapping[str, int]
    classes: Mapping[str, str]
    counted_by: str

    def of(self, wanted: str | None) -> int:
        """All of them, or those of one class or name."""
        return sum(
            count
            for name, count in self.by_name.items()
            if wanted is None or wanted in (name, self.classes.get(name, "other"))
        )


OTHER_CALLS: Final = "(other)"
"""The name under which calls stand that the kernel counted without a name."""


def calls(trial: Trial) -> Calls | None:
    """What was counted, by the kernel where it did, else by the node itself."""
    if trial.node is None or trial.node.syscalls is None:
        return None
    counted = trial.node.syscalls
    if counted.kernel is not None:
        by_name = dict(counted.kernel)
        if counted.total is not None:
            named = sum(by_name.values()) + sum(counted.aside.values())
            by_name[OTHER_CALLS] = max(counted.total - named, 0)
        return Calls(by_name=by_name, classes=counted.classes, counted_by="kernel")
    if counted.node is not None:
        return Calls(by_name=counted.node, classes=counted.classes, counted_by="node")
    return None


def handled(trial: Trial) -> int | None:
    """Packets that the node under test sent on within the window of its other counts.

    As the node counted them, on the side where it sent most; of a node that does not tell, what
    arrived and what the sink then dropped.
    """
    if trial.node is not None and trial.node.tx_frames:
        return max(trial.node.tx_frames.values())
    traffic = trial.traffic
    return None if traffic is None else traffic.delivered + traffic.sink_drops


def syscalls_per_packet(trial: Trial, wanted: str | None = None) -> float | None:
    """Calls per packet that the node handled, all or of one class or name."""
    counted = calls(trial)
    return None if counted is None else _per(counted.of(wanted), handled(trial))


def own_count_deviation(trial: Trial) -> float | None:
    """Relative difference of the node's own count from the kernel's, over the calls that both name.

    A call that only one of them has counts as a difference.
    """
    if trial.node is None or trial.node.syscalls is None:
        return None
    counted = trial.node.syscalls
    if counted.kernel is None or counted.node is None:
        return None
    names = set(counted.kernel) | set(counted.node)
    apart = sum(abs(counted.node.get(n, 0) - counted.kernel.get(n, 0)) for n in names)
    return _per(apart, sum(counted.kernel.values()))


def loss_ratio(trial: Trial) -> float | None:
    """Lost / offered."""
    return None if trial.traffic is None else _per(trial.traffic.lost, trial.traffic.offered)


def mean_fill(trial: Trial, side: str | None = None) -> float | None:
    """Mean number of packets that a receiving call returned, on one side or both."""
    if trial.node is None:
        return None
    packets = calls = 0
    for name, fill in trial.node.fill.items():
        if side in (None, name):
            packets += sum(int(size) * times for size, times in fill.items())
            calls += sum(times for size, times in fill.items() if int(size) > 0)
    return _per(packets, calls)


def cpu_ns(trial: Trial) -> int | None:
    """CPU time of the node in ns: task-clock where the kernel counted it, else user + system."""
    if trial.node is None or trial.node.cpu is None:
        return None
    cpu = trial.node.cpu
    if cpu.task_clock_ns is not None:
        return cpu.task_clock_ns
    if cpu.user_ns is None or cpu.system_ns is None:
        return None
    return cpu.user_ns + cpu.system_ns


def busy_share(trial: Trial, cpus: list[int]) -> float | None:
    """How busy these CPUs were over the trial, 0 to 1."""
    busy = idle = 0
    for use in trial.machine:
        if use.cpu in cpus:
            busy += use.busy_ns
            idle += use.idle_ns
    return _per(busy, busy + idle)


def stolen_share(trials: Iterable[Trial]) -> float | None:
    """Part of all CPUs' time that the host of a virtual machine took away; None over no time."""
    uses = [use for trial in trials for use in trial.machine]
    stolen = sum(use.steal_ns for use in uses)
    return _per(stolen, stolen + sum(use.busy_ns + use.idle_ns for use in uses))


def _per(count: float | None, of: float | None) -> float | None:
    return None if count is None or not of else count / of


def _rate(count: Callable[[Traffic], int]) -> Callable[[Trial], float | None]:
    def of(trial: Trial) -> float | None:
        traffic = trial.traffic
        return None if traffic is None else _per(count(traffic) * 1e9, traffic.duration_ns)

    return of


def _delivered(trial: Trial) -> int | None:
    return None if trial.traffic is None else trial.traffic.delivered


def _per_cpu_second(trial: Trial) -> float | None:
    delivered, cpu = _delivered(trial), cpu_ns(trial)
    return None if delivered is None else _per(delivered * 1e9, cpu)


def _cpu_us(part: Callable[[Trial], int | None]) -> Callable[[Trial], float | None]:
    def of(trial: Trial) -> float | None:
        spent = part(trial)
        return None if spent is None else _per(spent / 1e3, _delivered(trial))

    return of


def _user(trial: Trial) -> int | None:
    return None if trial.node is None or trial.node.cpu is None else trial.node.cpu.user_ns


def _system(trial: Trial) -> int | None:
    return None if trial.node is None or trial.node.cpu is None else trial.node.cpu.system_ns


def _machine(trial: Trial) -> int | None:
    return sum(use.busy_ns for use in trial.machine) if trial.machine else None


def _switches(*kinds: str, scale: float = 1.0) -> Callable[[Trial], float | None]:
    def of(trial: Trial) -> float | None:
        if trial.node is None or trial.node.switches is None:
            return None
        count = sum(int(getattr(trial.node.switches, kind)) for kind in kinds)
        return _per(scale * count, _delivered(trial))

    return of


def _switches_per_s(trial: Trial) -> float | None:
    if trial.node is None or trial.node.switches is None or trial.node.cpu is None:
        return None
    switches = trial.node.switches
    return _per((switches.voluntary + switches.involuntary) * 1e9, trial.node.cpu.window_ns)


def _wakeups(trial: Trial) -> float | None:
    return None if trial.node is None else _per(trial.node.wakeups, _delivered(trial))


def _latency(name: str) -> Callable[[Trial], float | None]:
    def of(trial: Trial) -> float | None:
        if trial.traffic is None or trial.traffic.latency is None:
            return None
        return int(getattr(trial.traffic.latency, name)) / 1e3

    return of


def _memory(name: str) -> Callable[[Trial], float | None]:
    def of(trial: Trial) -> float | None:
        if trial.node is None or trial.node.memory is None:
            return None
        value = getattr(trial.node.memory, name)
        return None if value is None else float(value)

    return of


def _growth(trial: Trial) -> float | None:
    if trial.node is None or trial.node.memory is None:
        return None
    memory = trial.node.memory
    if memory.pss_start_bytes is None or memory.pss_end_bytes is None:
        return None
    return _per((memory.pss_end_bytes - memory.pss_start_bytes) * 1e6, _delivered(trial))


def _class(name: str) -> Callable[[Trial], float | None]:
    return lambda trial: syscalls_per_packet(trial, name)


def _io_calls(trial: Trial) -> float | None:
    receive = syscalls_per_packet(trial, "receive")
    send = syscalls_per_packet(trial, "send")
    return None if receive is None or send is None else receive + send


def _not_of_a_trial(trial: Trial) -> float | None:
    """A rate that a search has found; `comparison` takes it from there."""
    return None


_BOTH = ("voluntary", "involuntary")
_ALL = (
    Quantity(key="offered_pps", label="offered", unit="pps", of=_rate(lambda t: t.offered)),
    Quantity(
        key="delivered_pps", label="delivered", unit="pps",
        of=_rate(lambda t: t.delivered), better=Better.HIGHER,
    ),
    Quantity(key="loss_ratio", label="lost", unit="", of=loss_ratio),
    Quantity(
        key="packets_per_cpu_s", label="packets per CPU-second", unit="packets/CPU-s",
        of=_per_cpu_second, better=Better.HIGHER,
    ),
    Quantity(
        key="cpu_us_per_packet", label="CPU per packet", unit="µs", of=_cpu_us(cpu_ns)
    ),
    Quantity(key="user_us_per_packet", label="user", unit="µs", of=_cpu_us(_user)),
    Quantity(key="system_us_per_packet", label="system", unit="µs", of=_cpu_us(_system)),
    Quantity(
        key="machine_cpu_us_per_packet", label="machine CPU per packet", unit="µs",
        of=_cpu_us(_machine),
    ),
    Quantity(
        key="syscalls_per_packet", label="system calls per packet", unit="calls",
        of=syscalls_per_packet,
    ),
    Quantity(
        key="io_calls_per_packet",
        label="receive and send calls per packet",
        unit="calls",
        of=_io_calls,
    ),
    *(
        Quantity(
            key=f"{name}_calls_per_packet", label=f"{name} calls per packet", unit="calls",
            of=_class(name),
        )
        for name in CLASSES
    ),
    Quantity(
        key="switches_per_packet", label="context switches per packet", unit="",
        of=_switches(*_BOTH),
    ),
    Quantity(
        key="voluntary_per_1000", label="voluntary switches per 1 000 packets", unit="",
        of=_switches("voluntary", scale=1000),
    ),
    Quantity(
        key="involuntary_per_1000", label="involuntary switches per 1 000 packets", unit="",
        of=_switches("involuntary", scale=1000),
    ),
    Quantity(key="switches_per_s", label="context switches", unit="/s", of=_switches_per_s),
    Quantity(key="wakeups_per_packet", label="wake-ups per packet", unit="", of=_wakeups),
    Quantity(key="fill", label="mean batch found", unit="packets", of=mean_fill),
    *(
        Quantity(key=f"latency_{name}_us", label=f"latency {name}", unit="µs", of=_latency(field))
        for name, field in (
            ("p50", "p50_ns"), ("p90", "p90_ns"), ("p99", "p99_ns"), ("p999", "p999_ns"),
            ("max", "max_ns"),
        )
    ),
    Quantity(
        key="pss_bytes", label="memory (PSS)", unit="bytes", of=_memory("pss_end_bytes")
    ),
    Quantity(
        key="peak_rss_bytes", label="peak RSS", unit="bytes", of=_memory("rss_peak_bytes")
    ),
    Quantity(
        key="growth_bytes_per_million", label="growth per million packets", unit="bytes",
        of=_growth,
    ),
    Quantity(
        key="ndr_pps", label="lossless rate (NDR)", unit="pps", of=_not_of_a_trial,
        better=Better.HIGHER,
    ),
    Quantity(
        key="pdr_pps", label="partial-drop rate (PDR)", unit="pps", of=_not_of_a_trial,
        better=Better.HIGHER,
    ),
)  # fmt: skip

QUANTITIES: Final[Mapping[str, Quantity]] = {quantity.key: quantity for quantity in _ALL}
