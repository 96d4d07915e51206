"""What Python may promise about the order of its loads and stores to memory shared with a kernel.

A ring shared with the kernel needs two things of user space: what is read after a head, tail or
status word must not be read before it (acquire), and what is written before such a word must not
become visible after it (release). Python has no fences, so the machine has to give them:

- On x86-64 every load is an acquire and every store is a release (Intel SDM volume 3, 9.2.2;
  AMD64 APM volume 2, 7.2): ordinary aligned accesses are enough. The one thing that x86-64
  reorders, a store with a later load, matters only for "is the other side asleep?" checks, and
  no wrapper here decides by such a check: it makes the system call, or none is needed.
- The compiler cannot reorder either: each access is a separate call into the interpreter.
- Elsewhere (arm64, riscv64, ppc64) nothing is promised for rings that the kernel fills from an
  interrupt or from another CPU, so such a ring is refused there rather than wrong once a day.
- A ring that the kernel touches only inside the caller's own system calls needs no promise on any
  machine: one thread sees its own accesses in program order. That is an io_uring with
  IORING_SETUP_DEFER_TASKRUN and without IORING_SETUP_SQPOLL.

Knows nothing of the rings themselves.
"""

from __future__ import annotations

import platform
import struct
import sys

_STRONG = frozenset({"x86_64", "AMD64"})


def strongly_ordered() -> tuple[bool, str]:
    """Whether plain loads acquire and plain stores release here, and if not, why not."""
    machine = platform.machine()
    if machine not in _STRONG or struct.calcsize("P") != 8 or sys.byteorder != "little":
        return False, f"{machine or 'this machine'} does not order plain loads and stores"
    return True, ""
