"""Links and segments as a file has them, read into who hears whom.

Must not know settings or addresses. What is wrong goes to `Problems`; the result then is not used.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from testbed.files.document import Place
from testbed.files.fields import did_you_mean
from testbed.files.problems import Problems
from testbed.topology import model
from testbed.topology.file import LinkBody, SegmentBody


class Adjacency:
    """Reads endpoints, which are names of `nodes`, with or without the radio interface."""

    def __init__(self, nodes: Collection[str], problems: Problems) -> None:
        self._nodes = nodes
        self._problems = problems

    def links(self, bodies: Sequence[LinkBody]) -> tuple[model.Link, ...]:
        """The links: each between two different nodes, each pair once."""
        links: list[model.Link] = []
        lines: dict[frozenset[str], int] = {}
        for index, body in enumerate(bodies):
            place: Place = ("topology", "links", index)
            a, b = self._endpoints(body.endpoints, place, "endpoints")
            if a is None or b is None:
                continue
            pair = frozenset((a, b))
            if a == b:
                self._problems.add(
                    place, f"a link from {a} to itself", expected="two different nodes"
                )
            elif pair in lines:
                self._problems.add(
                    place,
                    f"{a} and {b} are linked already, on line {lines[pair]}",
                    expected="each pair once",
                )
            else:
                lines[pair] = self._problems.document.line(place)
                links.append(model.Link(a=a, b=b))
        return tuple(links)

    def segments(
        self, bodies: dict[str, SegmentBody] | list[SegmentBody]
    ) -> tuple[model.Segment, ...]:
        """The segments, from a mapping by name or from a list; a list's may go without a name."""
        base: Place = ("topology", "segments")
        found: dict[str, model.Segment] = {}
        keyed: list[tuple[Place, str | None, SegmentBody]]
        if isinstance(bodies, dict):
            keyed = [((*base, name), name, body) for name, body in bodies.items()]
        else:
            keyed = [((*base, index), None, body) for index, body in enumerate(bodies)]
        for place, key, body in keyed:
            if key is not None and body.name not in (None, key):
                self._problems.add(
                    (*place, "name"),
                    "the segment has two names",
                    value=body.name,
                    expected=repr(key),
                )
            name = key or body.name or f"segment{place[-1]}"
            if name in found:
                self._problems.add(
                    place, f"there are two segments {name!r}", expected="each name once"
                )
            found[name] = model.Segment(name=name, members=self._members(body.members, place))
        return tuple(found.values())

    def check_heard(self, links: Sequence[model.Link], segments: Sequence[model.Segment]) -> None:
        """A node that nobody hears is nearly always a forgotten link, so it must be said."""
        if self._problems:
            return  # What could not be read may be just the link that is missed here.
        named = {end for link in links for end in (link.a, link.b)}
        named.update(member for segment in segments for member in segment.members)
        for name in self._nodes:
            if name not in named:
                self._problems.add(
                    ("topology", "nodes", name),
                    "the node is in no link and in no segment, so nobody hears it",
                    expected="a link, or a segment (of its own, if it is meant to be alone)",
                )

    def _members(self, texts: Sequence[str], place: Place) -> tuple[str, ...]:
        members: list[str] = []
        for index, name in enumerate(self._endpoints(texts, place, "members")):
            if name is None:
                continue
            if name in members:
                at = self._inner(place, "members")
                self._problems.add(
                    (*at, index), f"{name} is a member twice", expected="each node once"
                )
            else:
                members.append(name)
        return tuple(members)

    def _endpoints(self, texts: Sequence[str], place: Place, key: str) -> list[str | None]:
        at = self._inner(place, key)
        return [self._endpoint(text, (*at, index)) for index, text in enumerate(texts)]

    def _inner(self, place: Place, key: str) -> Place:
        """The list of nodes: under that key, or in its place where it stands alone."""
        inner = (*place, key)
        return inner if inner in self._problems.document.lines else place

    def _endpoint(self, text: str, place: Place) -> str | None:
        """The node that an endpoint names, None (and a problem) where it names none."""
        name, colon, interface = text.partition(":")
        if name not in self._nodes:
            self._problems.add(
                place,
                f"there is no node {name!r}{did_you_mean(name, list(self._nodes))}",
                expected="a key of topology.nodes",
            )
            return None
        if colon and interface != model.RADIO_INTERFACE:
            self._problems.add(
                place,
                f"{name} has no interface {interface!r}",
                expected=f"{name}:{model.RADIO_INTERFACE}, as every node has one radio",
            )
            return None
        return name
