"""Where traffic goes in and comes out: an interface of a namespace, as a plain value."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Surface(enum.StrEnum):
    """What passes there: frames of the node protocol, or the inner frames of applications."""

    WIRE = "wire"
    TAP = "tap"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Interface `ifname` in the network namespace that `ip netns` shows as `netns`."""

    netns: str
    ifname: str
    surface: Surface
