"""What an agent has counted, in the text form that Prometheus reads.

Made from the document of :mod:`agent.stats` alone, so both say the same. The library behind it
takes a tenth of a second to load, and so is loaded when somebody first asks. Must not know how the
text is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from agent.errors import LackingError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PREFIX: Final = "testbed_agent"
SIDES: Final = ("wire", "tap")
FILL_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Document = Mapping[str, Any]


def load() -> None:
    """Load the library.

    :raises LackingError: it is not installed.
    """
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise LackingError("metrics: install prometheus_client (pip)") from error


def render(document: Document) -> tuple[str, bytes]:
    """Content type and text. LackingError as `load`."""
    load()
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(document))
    return CONTENT_TYPE_LATEST, generate_latest(registry)


class _Collector:
    """What the library asks for metrics."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def collect(self) -> Iterable[Metric]:
        return families(self._document)


def families(document: Document) -> Iterator[Metric]:
    """Every metric of the document; what it does not have is left out, never zero."""
    yield from _identity(document)
    yield from _traffic(document)
    yield from _calls(document)
    yield from _waiting(document)
    yield from _queues(document)
    yield from _routing(document)


def _identity(document: Document) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

    yield InfoMetricFamily(
        PREFIX,
        "Which node it is, and what it runs on.",
        value={
            "name": document["name"],
            "kind": document["kind"],
            "mac": document["mac"],
            "handler": document["handler"],
            **{f"{side}_engine": document["engines"][side]["used"] for side in SIDES},
            "coalesce": document["coalescing"]["mode"],
        },
    )
    yield GaugeMetricFamily(
        f"{PREFIX}_uptime_seconds", "Since it was ready.", value=document["uptime_ns"] / 1e9
    )


def _traffic(document: Document) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily

    for word, name in (("rx", "received"), ("tx", "sent")):
        for unit, key in (("packets", "frames"), ("bytes", "bytes")):
            yield _counter(
                f"{name}_{unit}",
                f"{unit.capitalize()} {name}, by side.",
                "side",
                {side: document[side][f"{word}_{key}"] for side in SIDES},
            )
    yield _counter(
        "kernel_dropped_packets",
        "Packets that the kernel dropped at a side before or after the agent.",
        "side",
        {side: document[side]["kernel_drops"] for side in SIDES},
    )
    fill = HistogramMetricFamily(
        f"{PREFIX}_batch_packets", "Packets in a received batch.", labels=["side"]
    )
    for side in SIDES:
        counts = {int(size): times for size, times in document["fill"][side].items()}
        fill.add_metric([side], *histogram(counts))
    yield fill
    yield _gauge(
        "batch_size",
        "Packets that a batch may have at most, now.",
        ["side"],
        (
            ([side], document["adaptive_batch"].get(side, {"size": document["batch"]})["size"])
            for side in SIDES
        ),
    )


def _calls(document: Document) -> Iterator[Metric]:
    yield _counter("syscalls", "System calls, by name.", "call", document["syscalls"])
    yield _gauge(
        "saved_syscalls",
        "Calls that one for each packet would have taken, less those to receive and send them.",
        ["side"],
        (([side], document["saved_syscalls"][side]) for side in SIDES),
    )
    yield _counter(
        "messages", "Messages of the node protocol taken, by kind.", "kind", document["messages"]
    )
    yield _counter(
        "dropped_packets", "Packets that the agent dropped, by cause.", "cause", document["drops"]
    )


def _waiting(document: Document) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    coalescing = document["coalescing"]
    yield CounterMetricFamily(f"{PREFIX}_wakeups", "Sleeps that ended.", value=document["wakeups"])
    yield CounterMetricFamily(
        f"{PREFIX}_waits", "Sleeps in which packets gathered.", value=coalescing["waits"]
    )
    yield CounterMetricFamily(
        f"{PREFIX}_waited_seconds", "Time in such sleeps.", value=document["waited_ns"] / 1e9
    )
    yield _counter(
        "wait_decisions", "Whether to wait, as decided.", "decision", coalescing["decisions"]
    )


def _queues(document: Document) -> Iterator[Metric]:
    for name, text, key in (
        ("queue_bytes", "Memory that the kernel holds for packets in a queue of a side.", "bytes"),
        ("queue_limit_bytes", "What it may hold there at most.", "limit_bytes"),
    ):
        yield _gauge(
            name,
            text,
            ["side", "queue"],
            [
                ([side, queue], depth[key])
                for side, queues in document["queues"].items()
                for queue, depth in (queues or {}).items()
            ],
        )


def _routing(document: Document) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    yield _gauge(
        "candidate_hops",
        "Hops to an RSU through a neighbour that could be upstream.",
        ["mac", "rsu", "current"],
        (
            ([one["mac"], one["rsu"], str(one == document["upstream"]).lower()], one["hops"])
            for one in document["candidates"]
        ),
    )
    yield _gauge(
        "candidate_score_seconds",
        "How far such a neighbour seems: least and mean latency added up.",
        ["mac", "rsu"],
        (([one["mac"], one["rsu"]], _seconds(one["score_us"])) for one in document["candidates"]),
    )
    yield _gauge(
        "route_hops",
        "Hops to a node for which there is a route.",
        ["node", "next_hop"],
        (([one["node"], one["next_hop"]], one["hops"]) for one in document["routes"]),
    )
    yield _gauge(
        "route_score_seconds",
        "How far such a node seems: least and mean latency added up.",
        ["node", "next_hop"],
        (([one["node"], one["next_hop"]], _seconds(one["score_us"])) for one in document["routes"]),
    )
    yield GaugeMetricFamily(
        f"{PREFIX}_clients", "Hosts whose place is known.", value=document["clients"]
    )


def _counter(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _gauge(
    name: str, text: str, labels: list[str], values: Iterable[tuple[list[str], float | None]]
) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
    for keys, value in values:
        if value is not None:
            family.add_metric(keys, value)
    return family


def histogram(counts: Mapping[int, int]) -> tuple[list[tuple[str, float]], float]:
    """How often each size came, as cumulative buckets and the sum of all."""
    buckets: list[tuple[str, float]] = [
        (str(bound), sum(times for size, times in counts.items() if size <= bound))
        for bound in FILL_BOUNDS
    ]
    buckets.append(("+Inf", sum(counts.values())))
    return buckets, sum(size * times for size, times in counts.items())


def _seconds(score_us: float | None) -> float | None:
    return None if score_us is None else score_us / 1e6
