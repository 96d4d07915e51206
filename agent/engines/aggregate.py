"""Aggregation: control messages that are sent at the same moment share a frame.

Data goes as with mmsg. A control message has a length of its own, so that the receiver finds the
next one behind it, and a frame is cheaper than a message; the nodes that our agents speak with do
it with each heartbeat that they pass on and their reply to it. A data message has no length: it is
never followed, and follows nothing. Must not know what messages mean, beyond who hears them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from errno import EMSGSIZE
from typing import ClassVar

from agent.engines.base import Buffer, SendResult, merge
from agent.engines.joining import ends_itself
from agent.engines.mmsg import MmsgEngine

_FEW = 2
"""Up to so many frames cost less one by one than through a table."""


class AggregateEngine(MmsgEngine):
    """mmsg, with the control messages of one call back to back in frames up to the MTU.

    They leave in front of the data given with them. A frame that holds messages for several
    neighbours begins with one to a group, so that switches and filters, which see only the first,
    let all of them have it; messages to one neighbour alone share a frame too.
    """

    name: ClassVar[str] = "aggregate"
    joins: ClassVar[bool] = True

    def send_frames(self, frames: Sequence[Buffer]) -> SendResult:
        control = [frame for frame in frames if ends_itself(frame)]
        if len(control) < 2:
            return self._send_singly(frames)
        results = [self._send_together(group) for group in packed(control, self.port.frame_limit)]
        if len(control) < len(frames):
            others = [frame for frame in frames if not ends_itself(frame)]
            results.append(self._send_singly(others))
        return merge(results)

    def _send_singly(self, frames: Sequence[Buffer]) -> SendResult:
        if len(frames) > _FEW:
            return super().send_frames(frames)
        return merge([self._send_alone(frame) for frame in frames])

    def _send_together(self, messages: Sequence[Buffer]) -> SendResult:
        """Send messages as one frame; they go or are dropped together."""
        count = len(messages)
        if count == 1:
            return self._send_alone(messages[0])
        frame = b"".join(messages)
        counters = self.counters
        counters.syscalls[self.send_call] += 1
        try:
            self.send_one(frame)
        except OSError as error:
            if error.errno == EMSGSIZE:
                # The interface carries less than when it was opened.
                return merge([self._send_alone(message) for message in messages])
            return self._settle_together(frame, messages, error)
        counters.tx_frames += 1
        counters.tx_bytes += len(frame)
        counters.carried[count] += 1
        return SendResult(count)

    def _settle_together(
        self, frame: bytes, messages: Sequence[Buffer], error: OSError
    ) -> SendResult:
        before = self.counters.drops.copy()
        count = len(messages)
        settled = self.settle(frame, error)
        if settled.sent:
            self.counters.carried[count] += 1
            return SendResult(count)
        for cause in self.counters.drops - before:
            self.counters.drops[cause] += count - 1
        failed = dict.fromkeys(bytes(message[:6]) for message in messages) if settled.failed else {}
        return SendResult(0, count, tuple(failed))


def packed(messages: Sequence[Buffer], limit: int) -> Iterator[list[Buffer]]:
    """Control messages as they share frames of at most `limit` bytes, each frame a list.

    Those to a group come first, and every frame that has room takes what is next, whoever it is
    for. Once none to a group is left to begin a frame with, each frame is for one neighbour.
    """
    to_groups = [message for message in messages if message[0] & 1]
    waiting = [message for message in messages if not message[0] & 1]
    while to_groups:
        taken = max(_fitting(to_groups, limit), 1)
        frame, to_groups = to_groups[:taken], to_groups[taken:]
        if not to_groups:
            taken = _fitting(waiting, limit - sum(map(len, frame)))
            frame += waiting[:taken]
            waiting = waiting[taken:]
        yield frame
    by_neighbour: dict[bytes, list[Buffer]] = {}
    for message in waiting:
        by_neighbour.setdefault(bytes(message[:6]), []).append(message)
    for own in by_neighbour.values():
        rest = own
        while rest:
            taken = max(_fitting(rest, limit), 1)
            yield rest[:taken]
            rest = rest[taken:]


def _fitting(messages: Sequence[Buffer], room: int) -> int:
    """How many of `messages`, from the first on, fit into `room` bytes."""
    for place, message in enumerate(messages):
        room -= len(message)
        if room < 0:
            return place
    return len(messages)
