"""Coalescing: whether to let frames gather before looking at them, and for how long.

Pure: times and counts in, a time to wait out. Must not know engines, descriptors or frames, nor
sleep itself.

What it saves. Below saturation a node's CPU time goes into being woken, not into system calls:
giving up the CPU and getting it back costs some 25 µs here, a frame that is already there 2 to 8.
If frames would wake the node g times within the time that it may wait, then waiting makes one
wake-up of them, and saves g - 1 of g. With g up to 1 it saves nothing: every frame still costs a
wake-up of its own, or two, one by the frame and one by the clock.

What it costs. Latency, of which `max_wait_ns` is the bound: from when a frame is ready until it is
sent, compared with sending it at once. When a frame became ready is not known, but when the queue
was last seen empty is; frames are not older than that. A wait also ends late: the clock's
interrupt, and the CPU, have to come back first. So what sleeps are known to be late by, and
when the first frame of many has left, is subtracted from the bound before.

`FixedWait` waits after each wake-up by a frame: two wake-ups for 1 + g frames.

`AdaptiveWait` does not let frames wake it while waiting pays. It then sleeps from the moment the
queue was seen empty, looks without blocking, and sleeps again: one wake-up for g frames, and no
need to guess when the first one came. Whether it pays is found out the way adaptive interrupt
moderation does in network cards, by looking:

- *looking*: frames wake it, and a window of wake-ups gives g. Above `ENTER` it comes to rest.
- *resting*: wake-ups and waits in vain are counted; where they show that frames come one by one
  after all, it looks again. If a whole wait brought nothing, the next frame wakes it, so that a
  node without traffic sleeps.
- Frames that come in bursts fill batches without any waiting, and look, at rest, as if waiting had
  filled them. So now and then it looks for one window, and rests again only if g is above `STAY`.

It also rests no longer than it takes `ENOUGH` frames to gather: of what they cost, the wake-up is
then a small part, and queues in front of the node have room for that many. A node that cannot keep
up never sees its queue empty, and so never waits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from agent.config import Coalesce

WINDOW: Final = 16
"""Wake-ups between which the distance of frames is measured."""
PROMPT: Final = 0.25
"""What a look that did not give up the CPU counts for, beside a wake-up."""
ENTER: Final = 1.2
"""Wake-ups that one wait must take the place of, for waiting to begin."""
STAY: Final = 1.05
"""The same for it to go on. Between the two nothing changes, so that it does not flutter."""
REVIEW: Final = 32
"""Waits after which it is seen whether they paid."""
DOUBT: Final = 64
"""Windows after which, at most, waiting is tried again where it did not pay."""
RECHECK: Final = 1024
"""Waits after which frames may wake it for one window, which makes up 2 % of all wake-ups."""
ENOUGH: Final = 128
"""Frames that are worth no further waiting for."""
LEAST_NS: Final = 40_000
"""A shorter sleep takes longer than that to come back from."""

_LATENESS_NS: Final = 60_000
_TYPICAL_NS: Final = 30_000
_HANDLING_NS: Final = 50_000
"""Assumed until it has been seen how late sleeps end, and when the first frame has left."""
_FIRST_NS: Final = 1_000_000
"""Length of the first wait, at most."""
_OF_MAX: Final = 4
"""No estimate takes more than this part of the bound: on a machine that is late by more, the
bound cannot be held, waiting or not."""


class Decision(StrEnum):
    """What was done before frames were taken, one for each time."""

    WAITED = "waited"
    """Slept while frames gathered."""
    NOT_WORTH = "not_worth"
    """Waiting would save too little: what comes wakes the node."""
    SAMPLED = "sampled"
    """The same for a moment, to see how far apart they are."""
    QUIET = "quiet"
    """A whole wait had brought nothing: the next frame wakes the node."""
    BACKLOG = "backlog"
    """Frames had been left behind, and had waited already."""
    LATE = "late"
    """Too little was left of the time that the first frame may wait."""


class Quantile:
    """What a share of all samples stays below, followed in small steps; one far off moves little.

    Each sample above pulls the value up, each one below pulls it down, by amounts that balance
    where `share` of them are below (Robbins and Monro, 1951).
    """

    __slots__ = ("_down", "_up", "value")

    def __init__(self, share: float, *, start: float, step: float) -> None:
        self.value = start
        self._up = step * share
        self._down = step * (1 - share)

    def add(self, sample: float) -> None:
        """Take one more sample into account."""
        if sample > self.value:
            self.value += self._up
        else:
            self.value -= self._down


class Waiting(ABC):
    """When to wait. All times in ns of CLOCK_MONOTONIC.

    `batch` is how many frames are sent at once, but up to `singly` are sent one after the other.
    While `whole` is set frames may wait, and whoever takes frames must take all there are;
    `next_pause`, `after_look` and `slept` are for then. While it is not, frames wake the node; once
    it has looked `judged_at` times, since it began, `judge` wants to know.
    """

    def __init__(self, *, max_wait_ns: int, batch: int, singly: int = 0) -> None:
        self.max_wait_ns = max_wait_ns
        self.whole = True
        self.judged_at = 0
        self._decided: Counter[Decision] = Counter()
        self._batch = batch
        self._singly = singly
        self._most_ns = max_wait_ns / _OF_MAX
        self._late = Quantile(0.95, start=_LATENESS_NS, step=4_000)
        self._handling_ns = min(_HANDLING_NS, self._most_ns)
        self._empty_ns = 0
        self._emptied = True
        self._budget_ns = 0.0
        self._plan()

    def decisions(self, looks: int) -> Mapping[Decision, int]:
        """How often each was taken, in a node that has looked as often as `judge` would be told."""
        return self._decided

    @property
    def lateness_ns(self) -> int:
        """How late nineteen of twenty sleeps end at most, as far as it is allowed for."""
        return round(min(max(self._late.value, 0.0), self._most_ns))

    @abstractmethod
    def next_pause(self, begun_ns: int, now_ns: int, frames: int, *, emptied: bool) -> int:
        """How long to sleep before looking for frames without blocking; 0: look now, and block.

        From `begun_ns` on `frames` frames were taken and sent, all there were if `emptied`; 0 if
        that is not known.
        """

    def after_look(self, asked_ns: int, woken_ns: int) -> int:
        """How long to sleep now that a look which began at `asked_ns` has found frames."""
        return 0

    def nothing_came(self) -> None:
        """A sleep was in vain. A look that blocks comes next."""
        self._decided[Decision.QUIET] += 1

    def slept(self, wanted_ns: int, took_ns: int) -> None:
        """A sleep of `wanted_ns` took `took_ns`."""
        self._late.add(took_ns - wanted_ns)

    def judge(self, now_ns: int, looks: int, blocked: int) -> None:  # noqa: B027
        """The node has looked `looks` times and given up the CPU `blocked` times, in all."""

    def _plan(self, handling_ns: float = 0.0, frames: int = 0) -> None:
        """What is left of the bound, by how late sleeps are and when the first frame has left, of
        so many that were handled in `handling_ns`."""
        if frames:
            together = self._batch if frames > self._singly else 1
            if together < frames:
                handling_ns *= together / frames
            self._handling_ns += (min(handling_ns, self._most_ns) - self._handling_ns) / 8
        late = self._late.value
        most = self._most_ns
        self._budget_ns = self.max_wait_ns - self._handling_ns - (late if late < most else most)


class FixedWait(Waiting):
    """Waits after each wake-up by a frame, as long as the bound allows, whatever it brings."""

    def __init__(self, *, max_wait_ns: int, batch: int, singly: int = 0) -> None:
        super().__init__(max_wait_ns=max_wait_ns, batch=batch, singly=singly)
        self._typical = Quantile(0.5, start=_TYPICAL_NS, step=2_000)

    def slept(self, wanted_ns: int, took_ns: int) -> None:
        super().slept(wanted_ns, took_ns)
        self._typical.add(took_ns - wanted_ns)

    def next_pause(self, begun_ns: int, now_ns: int, frames: int, *, emptied: bool) -> int:
        self._empty_ns, self._emptied = begun_ns, emptied
        if frames:
            self._plan(now_ns - begun_ns, frames)
        return 0

    def after_look(self, asked_ns: int, woken_ns: int) -> int:
        if not self._emptied:
            self._decided[Decision.BACKLOG] += 1
            return 0
        # A look that had to wait was woken by a frame, which took its time; one that came back at
        # once found frames that may have come since the queue was last seen empty.
        ready_ns = woken_ns - min(self._typical.value, self._most_ns)
        if ready_ns < asked_ns:
            ready_ns = self._empty_ns or asked_ns
        pause = int(ready_ns + self._budget_ns) - woken_ns
        if pause < LEAST_NS:
            self._decided[Decision.LATE] += 1
            return 0
        self._decided[Decision.WAITED] += 1
        return pause


class AdaptiveWait(Waiting):
    """Waits where that saves wake-ups; see above."""

    def __init__(self, *, max_wait_ns: int, batch: int, singly: int = 0) -> None:
        super().__init__(max_wait_ns=max_wait_ns, batch=batch, singly=singly)
        self.whole = False
        self._enough = max(ENOUGH, batch)
        # While looking: where the window of wake-ups began, as told then. Nothing is done before
        # it ends, so that a node at a low rate pays for no more than a comparison.
        self._since: tuple[int, int, int] | None = (0, 0, 0)
        self.judged_at = WINDOW
        self._sampling = False
        self._doubt = 1
        # Of the last waits, while at rest.
        self._waits = 0
        self._in_vain = 0
        self._frames = 0
        self._until_recheck = 0
        # Moving averages of the time from one look to the next and of what it found.
        self._span_ns = 0.0
        self._found = 1.0

    def decisions(self, looks: int) -> Mapping[Decision, int]:
        if self.whole or self._since is None:
            return self._decided
        return self._decided + Counter({self._looking: looks - self._since[1]})

    # -- looking -------------------------------------------------------------------------------

    @property
    def _looking(self) -> Decision:
        return Decision.SAMPLED if self._sampling else Decision.NOT_WORTH

    def judge(self, now_ns: int, looks: int, blocked: int) -> None:
        if self._since is None:
            # Back from rest: the window begins here.
            self._decided[self._looking] += 1
            self._begin(now_ns, looks, blocked)
            return
        since_ns, looks_before, blocked_before = self._since
        looked = looks - looks_before
        slept = min(blocked - blocked_before, looked)
        span_ns = max(now_ns - since_ns, 1)
        saved = (slept + PROMPT * (looked - slept)) * self._budget_ns / span_ns
        worth = saved > (STAY if self._sampling else ENTER)
        self._decided[self._looking] += looked
        self._sampling = False
        self._begin(now_ns, looks, blocked)
        if worth:
            self.whole = True
            # Frames come in greater numbers from now on.
            self._handling_ns = max(self._handling_ns, min(_HANDLING_NS, self._most_ns))
            self._plan()
            self._empty_ns = now_ns
            # A silence may have come before: begin with a short wait, and see what it brings.
            self._span_ns, self._found = min(span_ns / looked, _FIRST_NS / self._enough), 1.0
            self._waits = self._in_vain = self._frames = 0
            self._until_recheck = RECHECK

    def _begin(self, now_ns: int, looks: int, blocked: int) -> None:
        self._since = (now_ns, looks, blocked)
        self.judged_at = looks + WINDOW * self._doubt

    def _look(self, *, sampling: bool) -> None:
        """Let frames wake the node, from now on."""
        self.whole = False
        self._sampling = sampling
        self._since = None
        self.judged_at = 0

    # -- at rest -------------------------------------------------------------------------------

    def next_pause(self, begun_ns: int, now_ns: int, frames: int, *, emptied: bool) -> int:
        if not begun_ns:
            # What frames were left, and how old they are, is not known.
            return 0
        if frames:
            self._plan(now_ns - begun_ns, frames)
        # A long silence says nothing about what comes after it.
        span_ns = min(begun_ns - self._empty_ns, 2 * self.max_wait_ns)
        self._empty_ns = begun_ns
        self._frames += frames
        self._span_ns += (span_ns - self._span_ns) / 8
        self._found += (frames - self._found) / 8
        if self._waits >= REVIEW:
            self._review()
            if not self.whole:
                return 0
        if not emptied:
            self._decided[Decision.BACKLOG] += 1
            return 0
        wait_ns = min(self._budget_ns, self._enough * self._span_ns / self._found)
        pause = int(begun_ns + wait_ns) - now_ns
        if pause < LEAST_NS:
            self._decided[Decision.LATE] += 1
            return 0
        self._decided[Decision.WAITED] += 1
        self._waits += 1
        return pause

    def nothing_came(self) -> None:
        super().nothing_came()
        self._in_vain += 1

    def _review(self) -> None:
        """Whether the last waits paid."""
        waits, in_vain = self._waits, self._in_vain
        self._until_recheck -= waits
        # After a wait in vain a frame woke it besides.
        if STAY * (waits + in_vain) > self._frames or 5 * in_vain > 2 * waits:
            self._doubt = min(2 * self._doubt, DOUBT)
            self._look(sampling=False)
            return
        self._doubt = max(self._doubt // 2, 1)
        if self._until_recheck <= 0:
            self._look(sampling=True)
        self._waits = self._in_vain = self._frames = 0


def make(mode: Coalesce, *, max_wait_ns: int, batch: int, singly: int = 0) -> Waiting | None:
    """What decides in that mode; None where nothing is ever waited for."""
    if mode == "off" or max_wait_ns <= 0:
        return None
    kind = FixedWait if mode == "fixed" else AdaptiveWait
    return kind(max_wait_ns=max_wait_ns, batch=batch, singly=singly)
