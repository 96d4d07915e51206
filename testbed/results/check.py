"""What a variant was checked for before it was measured: who reaches whom, and what arrives.

Must not know how a check is made, nor what follows from one that failed.
"""

from __future__ import annotations

from typing import Literal

from testbed.results.base import Count, Model

CheckKind = Literal["reachability", "group", "integrity", "failover"]


class CheckPair(Model):
    """Packets from one node to another; `expected` is whether the protocol joins the two."""

    source: str
    destination: str
    family: Literal["ipv4", "ipv6", "group"]
    expected: bool
    sent: Count
    received: Count
    rtt_ns: int | None = None


class CheckSize(Model):
    """Packets of the sizes from `frame_bytes` to `last_bytes` that were tried, on one way.

    Several sizes stand together where all of their packets arrived as they were sent.
    """

    way: str
    frame_bytes: Count
    last_bytes: Count
    sent: Count
    delivered: Count
    damaged: Count = 0
    truncated: Count = 0
    tailed: Count = 0


class CheckFailover(Model):
    """What became of traffic when the neighbour that carried it fell silent."""

    node: str
    direction: Literal["up", "down"]
    """To the RSU, or from it."""
    silenced: str
    resumed_by: str | None
    outage_ns: int | None
    """From the last packet by the old way to the first by the new one; null: never resumed."""
    lost: Count | None = None


class Check(Model):
    """One check of one variant. `why` says in words what failed; `seen` what a capture shows."""

    variant: str
    kind: CheckKind
    topology: str
    passed: bool
    why: str | None = None
    seen: list[str] = []
    pairs: list[CheckPair] = []
    sizes: list[CheckSize] = []
    failovers: list[CheckFailover] = []
    elapsed_s: float = 0.0
