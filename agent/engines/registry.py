"""Which engines there are, and which one serves a side: as asked for, or the fastest that can.

Must not know what engines are used for, nor open descriptors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from agent.engines.aggregate import AggregateEngine
from agent.engines.base import Engine, Port, Probe, Side
from agent.engines.mmsg import MmsgEngine
from agent.engines.perpacket import PerPacketEngine
from agent.engines.ring import RingEngine
from agent.engines.uring import UringEngine
from agent.engines.writev import WritevEngine
from agent.engines.xsk import XskEngine
from agent.engines.xsk_tx import XskTxEngine
from agent.errors import ConfigError, LackingError

AUTO: Final = "auto"

ENGINES: Final[Mapping[str, type[Engine]]] = MappingProxyType(
    {
        engine.name: engine
        for engine in (
            PerPacketEngine,
            WritevEngine,
            AggregateEngine,
            MmsgEngine,
            UringEngine,
            RingEngine,
            XskEngine,
            XskTxEngine,
        )
    }
)

PREFERENCE: Final[Mapping[Side, Sequence[str]]] = MappingProxyType(
    {Side.WIRE: ("xsk-tx", "mmsg", "per-packet"), Side.TAP: ("uring", "per-packet")}
)
"""For `auto`, the fastest first; the last of each works everywhere. writev is in none: it loses
packets. docs/engines.md has the figures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The engine asked for, the one that is used, and the reason in words.

    `free`: another one may be used, if this one cannot be opened.
    """

    requested: str
    used: str
    why: str

    @property
    def free(self) -> bool:
        return self.requested != self.used

    @property
    def engine(self) -> type[Engine]:
        return ENGINES[self.used]

    def open(self, port: Port, batch_size: int) -> Engine:
        """The engine on `port`; batches of one where it cannot do more."""
        return self.engine(port, batch_size)


def probe_all() -> dict[str, dict[Side, Probe]]:
    """What every engine says of both sides, by engine name."""
    return {name: {side: probe(name, side) for side in Side} for name in ENGINES}


def probe(name: str, side: Side) -> Probe:
    """Whether engine `name` can serve `side` here. KeyError for a name that no engine has."""
    return ENGINES[name].probe(side)


def select(
    side: Side,
    requested: str,
    *,
    batched: bool = True,
    passed_over: Mapping[str, str] = MappingProxyType({}),
) -> Selection:
    """The engine for `side`; `auto` finds none that batches unless frames come `batched`, and none
    that is `passed_over`, which has the reason for each.

    An engine asked for by name that serves the other side only (mmsg has nothing for a TAP) gives
    way to `auto`, and the reason says so; one that this kernel lacks is an error, since a result
    under its name would be another engine's.

    :raises ConfigError: no engine has that name. :raises LackingError: it cannot work here.
    """
    if requested == AUTO:
        return _fastest(side, requested, "", batched, passed_over)
    engine = ENGINES.get(requested)
    if engine is None:
        raise ConfigError(
            f"{side} engine: got {requested!r}; expected {AUTO} or one of {', '.join(ENGINES)}"
        )
    found = engine.probe(side)
    if side not in engine.sides:
        reason = f"{requested} does not serve the {side}: {found.why_not}"
        return _fastest(side, requested, reason, batched, passed_over)
    if not found.available:
        raise LackingError(f"{side} engine {requested} cannot work here: {found.why_not}")
    return Selection(requested=requested, used=requested, why="asked for")


def _fastest(
    side: Side, requested: str, reason: str, batched: bool, passed_over: Mapping[str, str]
) -> Selection:
    reasons = [reason] if reason else []
    for name in PREFERENCE[side]:
        if ENGINES[name].batches and not batched:
            reasons.append(f"{name} is for batches, and frames are handled one at a time")
            continue
        if name in passed_over:
            reasons.append(f"{name} cannot: {passed_over[name]}")
            continue
        found = ENGINES[name].probe(side)
        if found.available:
            why = "; ".join([*reasons, "the fastest that works here"])
            return Selection(requested=requested, used=name, why=why)
        reasons.append(f"{name} cannot: {found.why_not}")
    raise LackingError(f"no engine can serve the {side}: {'; '.join(reasons)}")
