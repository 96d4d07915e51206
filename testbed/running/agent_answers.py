"""The shape of what an agent counts, as it tells it: checked once, here, before anybody uses it.

An agent works on frames from anybody and may have been taken over; whoever shows or computes with
what it says relies on names, kinds and bounds of values, and on nothing else of it. The values
remain those of JSON. Must not know how they came, nor what they are used for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

_MOST: Final = (1 << 63) - 1
_LONGEST_PLACE: Final = 80

Count = Annotated[int, Field(ge=0, le=_MOST)]
Difference = Annotated[int, Field(ge=-_MOST, le=_MOST)]
Ratio = Annotated[float, Field(ge=-(2.0**63), le=2.0**63)]
# Without control characters: it may be shown on a terminal.
Word = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Mac = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")]
Size = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]
"""A number that is a key, and so a text."""
Side = Literal["wire", "tap"]


class _Shape(BaseModel):
    """Nothing missing, nothing more, nothing taken for what it is not."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Traffic(_Shape):
    rx_frames: Count
    rx_bytes: Count
    tx_frames: Count
    tx_bytes: Count
    kernel_drops: Count


class Adaptive(_Shape):
    size: Count
    fill: Ratio


class Engine(_Shape):
    requested: Word
    used: Word
    why: Word | None


class Depth(_Shape):
    bytes: Count
    limit_bytes: Count


class Coalescing(_Shape):
    mode: Word
    max_wait_us: Count
    waits: Count
    decisions: dict[Word, Count]
    late_us: Ratio | None


class Candidate(_Shape):
    mac: Mac
    rsu: Mac
    hops: Count
    score_us: Ratio | None


class Route(_Shape):
    node: Mac
    next_hop: Mac
    hops: Count
    score_us: Ratio | None


class Engines(_Shape):
    wire: Engine
    tap: Engine


class Saved(_Shape):
    wire: Difference
    tap: Difference


class Histograms(_Shape):
    wire: dict[Size, Count]
    tap: dict[Size, Count]


class Queues(_Shape):
    wire: dict[Word, Depth] | None
    tap: dict[Word, Depth] | None


class Stats(_Shape):
    """The document of `agent.stats`; the names are its own."""

    version: Literal[1] = Field(alias="schema")
    name: Word
    kind: Literal["obu", "rsu"]
    pid: Count
    mac: Mac
    uptime_ns: Count
    landlock: Count | None
    user_namespaces: Word
    handler: Literal["batched", "per-packet"]
    batch: Count
    adaptive_batch: dict[Side, Adaptive]
    engines: Engines
    wire: Traffic
    tap: Traffic
    syscalls: dict[Word, Count]
    saved_syscalls: Saved
    wakeups: Count
    fill: Histograms
    carried: Histograms
    queues: Queues
    messages: dict[Word, Count]
    drops: dict[Word, Count]
    waited_ns: Count
    coalescing: Coalescing
    upstream: Candidate | None
    candidates: list[Candidate]
    routes: list[Route]
    clients: Count


def stats(line: bytes | bytearray) -> Mapping[str, Any]:
    """What an agent counts, out of its answer: a document with all that `Stats` has.

    :raises ValueError: no JSON, or of another shape; the text says where and why, in few words.
    """
    try:
        return Stats.model_validate_json(line).model_dump(by_alias=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])[:_LONGEST_PLACE]
        # Some of it the agent has named; it stands in a line of ours.
        place = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in place)
        why = first["msg"][:_LONGEST_PLACE]
        raise ValueError(f"{place}: {why}" if place else why) from None
