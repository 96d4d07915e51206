"""Who reaches whom: every pair by ping, and what an RSU sends to all.

Must not know how the nodes came to be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from testbed.checks import air, numbered
from testbed.checks.expected import homes, joined
from testbed.checks.site import Exchange, Seen, Site
from testbed.reach.reach import PairResult, reach
from testbed.results import CheckPair
from testbed.running.running import Running

_FAMILIES: Final[Mapping[int, Literal["ipv4", "ipv6"]]] = {4: "ipv4", 6: "ipv6"}
_PATIENCE_S: Final = 0.2
_MORE_PATIENCE_S: Final = 0.5
"""What is sent again has time enough on a busy machine too."""
_ROUNDS: Final = 2
_GROUPS: Final = (numbered.BROADCAST, numbered.ALL_HOSTS)
_MIDDLE: Final = 590


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """The pairs of one check, what is wrong with them (None: nothing), and what the air showed."""

    pairs: list[CheckPair]
    why: str | None
    seen: list[str]


def check_pairs(running: Running, site: Site, names: Mapping[str, str]) -> Reached:
    """Ping every pair, IPv4 and IPv6; `names` maps the site's nodes to those of the testbed.

    A pair that the protocol does not join is asked all the same, and no failure.
    """
    plain = {there: here for here, there in names.items()}
    found = reach(running.topology, nodes=list(plain), rounds=_ROUNDS)
    pairs = [_pair(site, plain, pair) for pair in found.pairs]
    heard = site.listen(0.0)
    missing = [pair for pair in pairs if pair.expected and not pair.received]
    if not missing:
        return Reached(pairs=pairs, why=None, seen=[])
    return Reached(pairs=pairs, why=_unreached(pairs), seen=air.tails(heard.aired))


def check_group(site: Site) -> Reached:
    """Send broadcasts and multicasts of several sizes into every RSU's TAP, one after the other.

    Every OBU that its copies are to reach has to get each whole. Where some are missing and none is
    damaged, all are sent once more: an OBU may change its upstream at any time.
    """
    pairs, why, seen = [], [], []
    home = homes(site.topology)
    for rsu in site.topology.rsus:
        obus = [
            obu.name
            for obu in site.topology.obus
            if (there := home[obu.name]) is not None
            and there[0] == rsu.name
            and joined(site.topology, rsu.name, obu.name)
        ]
        if not obus:
            continue
        sizes = (numbered.SHORTEST, _MIDDLE, rsu.settings.mtu + numbered.ETHERNET_BYTES)
        first = _Group(site, rsu.name, obus, sizes, patience_s=_PATIENCE_S)
        again = not (first.complete or first.damaged)
        attempt = (
            _Group(site, rsu.name, obus, sizes, patience_s=_MORE_PATIENCE_S) if again else first
        )
        pairs += attempt.pairs()
        if not attempt.complete:
            why.append(attempt.why())
            seen += attempt.seen()
    return Reached(pairs=pairs, why="; ".join(why) or None, seen=seen)


class _Group:
    """One attempt to reach some OBUs with group frames from an RSU."""

    def __init__(
        self,
        site: Site,
        rsu: str,
        obus: Sequence[str],
        sizes: Sequence[int],
        *,
        patience_s: float,
    ) -> None:
        self._site = site
        self._rsu = rsu
        self._obus = obus
        self._sizes: dict[int, int] = {}
        self._heard = Exchange()
        for size in sizes:
            for group in _GROUPS:
                number, frame = site.frame(rsu, group, size)
                self._sizes[number] = size
                heard = site.exchange(
                    [(rsu, frame)], [(obu, number) for obu in obus], patience_s=patience_s
                )
                self._heard.arrived += heard.arrived
                self._heard.aired += heard.aired
        self._whole: dict[str, set[int]] = {obu: set() for obu in obus}
        self._spoiled: dict[str, list[Seen]] = {obu: [] for obu in obus}
        for arrival in self._heard.arrived:
            number = numbered.number_of(arrival.frame)
            if arrival.node not in self._whole or number not in self._sizes:
                continue
            if numbered.damage(arrival.frame) is None:
                self._whole[arrival.node].add(number)
            else:
                self._spoiled[arrival.node].append(arrival)

    @property
    def complete(self) -> bool:
        return all(len(whole) == len(self._sizes) for whole in self._whole.values())

    @property
    def damaged(self) -> bool:
        return any(self._spoiled.values())

    def pairs(self) -> list[CheckPair]:
        return [
            CheckPair(
                source=self._rsu,
                destination=obu,
                family="group",
                expected=True,
                sent=len(self._sizes),
                received=len(self._whole[obu]),
            )
            for obu in self._obus
        ]

    def why(self) -> str:
        alike: dict[tuple[int, int], list[str]] = {}
        for obu in self._obus:
            whole = len(self._whole[obu])
            if whole < len(self._sizes):
                alike.setdefault((whole, len(self._spoiled[obu])), []).append(obu)
        return f"of {len(self._sizes)} group frames of {self._rsu}, " + ", ".join(
            f"{' and '.join(obus)} got {whole} whole"
            + (f" and {spoiled} damaged" if spoiled else "")
            for (whole, spoiled), obus in alike.items()
        )

    def seen(self) -> list[str]:
        nodes = (self._site.topology.node(obu) for obu in self._obus)
        names = {bytes.fromhex(node.mac.replace(":", "")): node.name for node in nodes}
        return air.copies(self._heard.aired, self._rsu, self._sizes, names)


def _pair(site: Site, plain: Mapping[str, str], pair: PairResult) -> CheckPair:
    source, destination = plain[pair.source], plain[pair.target]
    return CheckPair(
        source=source,
        destination=destination,
        family=_FAMILIES[pair.family],
        expected=joined(site.topology, source, destination),
        sent=pair.sent,
        received=pair.received,
        rtt_ns=None if pair.rtt_mean_us is None else round(pair.rtt_mean_us * 1000),
    )


def _unreached(pairs: Sequence[CheckPair]) -> str:
    said = []
    for family, title in (("ipv4", "IPv4"), ("ipv6", "IPv6")):
        asked = [pair for pair in pairs if pair.family == family and pair.expected]
        lost = [f"{pair.source} → {pair.destination}" for pair in asked if not pair.received]
        if lost:
            shown = ", ".join(lost[:6]) + (", …" if len(lost) > 6 else "")
            said.append(f"{len(asked) - len(lost)} of {len(asked)} {title} pairs (not {shown})")
    return "reached only " + " and ".join(said)
