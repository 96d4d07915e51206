"""The ring itself: io_uring as numpy arrays, one system call per batch.

A `Ring` maps the kernel's rings and nothing more: submissions are filled in as columns of a
structured array, queued by slot number and handed over by one `enter`, completions come back as
a structured array. It knows nothing of frames, batches or engines.

Slots. `sqes` has `entries` slots, and a slot may be filled once and queued again and again: the
kernel copies it during `enter` (IORING_FEAT_SUBMIT_STABLE), so after `enter` every slot is free
to change, and an unchanged one needs only to be queued. The memory that a slot's `addr` points
to must stay valid until its completion.

Order of memory accesses: with IORING_SETUP_DEFER_TASKRUN (always, where the kernel has it) the
kernel touches the rings only inside this thread's own `enter`, so plain loads and stores suffice
on every machine. Without it completions may appear at any time, which Python can only follow on
a strongly ordered machine: elsewhere the ring is refused (see `ordering`).

One thread owns a ring: the one that made it (IORING_SETUP_SINGLE_ISSUER; any other gets EEXIST).
So make it after fork(2), and best before rights are dropped: a ring made with CAP_IPC_LOCK counts
nothing against RLIMIT_MEMLOCK, and goes on without any right.

Sources: io_uring(7), io_uring_setup(2), io_uring_enter(2), io_uring_register(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.linux import uring_abi as abi
from agent.linux import uring_calls as calls
from agent.linux.mapping import Mapping
from agent.linux.ordering import strongly_ordered
from agent.linux.uring_abi import Feature, Register, Setup
from agent.linux.uring_calls import NO_SIGMASK, NR_ENTER, SIGMASK_SIZE, syscall

# In the order of their age: Linux 5.4, 5.5, 5.5, 5.17.
_NEEDED: Final = Feature.SINGLE_MMAP | Feature.NODROP | Feature.SUBMIT_STABLE | Feature.CQE_SKIP

Submissions = npt.NDArray[np.void]
Completions = npt.NDArray[np.void]


class Ring:
    """A ring of `entries` slots (a power of two is made of it) for the calling thread.

    It takes the best flags that this kernel accepts; `flags` says which, and `why` what was
    missing. Raises OSError when the kernel refuses (ENOSYS: no io_uring, EINVAL: older than Linux
    5.19, EPERM: forbidden by kernel.io_uring_disabled or a seccomp filter, ENOMEM: memory limits)
    and NotImplementedError where a needed feature or the machine's ordering is missing.
    """

    def __init__(self, entries: int, *, cq_entries: int | None = None) -> None:
        wanted_cq = cq_entries if cq_entries is not None else 4 * entries
        self.fd, params, self.why = calls.setup_best(entries, wanted_cq)
        self.flags = Setup(int(params["flags"][0]))
        self.features = Feature(int(params["features"][0]) & int(sum(Feature)))
        self.entries = int(params["sq_entries"][0])
        self.cq_entries = int(params["cq_entries"][0])
        self._maps: list[Mapping] = []
        self._registered = False
        try:
            self._check()
            self._map(params)
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        if missing := _NEEDED & ~self.features:
            names = ", ".join(str(one.name) for one in missing)
            raise NotImplementedError(f"this kernel's io_uring lacks {names}")
        ordered, why = strongly_ordered()
        if not ordered and Setup.DEFER_TASKRUN not in self.flags:
            raise NotImplementedError(why)

    def _map(self, params: npt.NDArray[np.void]) -> None:
        sq, cq = params["sq_off"][0], params["cq_off"][0]
        size = max(
            int(sq["array"]) + 4 * self.entries,
            int(cq["cqes"]) + abi.CQE.itemsize * self.cq_entries,
        )
        rings = Mapping(size, fd=self.fd, offset=abi.OFF_SQ_RING)
        self._maps.append(rings)
        slots = Mapping(abi.SQE.itemsize * self.entries, fd=self.fd, offset=abi.OFF_SQES)
        self._maps.append(slots)

        self.sqes: Submissions = slots.array(abi.SQE, self.entries)
        self._sq_tail = rings.word(int(sq["tail"]))
        self._cq_head = rings.word(int(cq["head"]))
        self._cq_tail = rings.word(int(cq["tail"]))
        self._sq_mask = self.entries - 1
        self._cq_mask = self.cq_entries - 1
        self._numbers = np.arange(self.entries, dtype=np.uint32)
        self._array = rings.bytes(int(sq["array"]), 4 * self.entries).view(np.uint32)
        # Counts that never wrap; what the rings hold is their low 32 bits.
        self._queued = self._taken = self._sq_tail[0]
        self._reaped = self._cq_head[0]
        # Completions as two words each: numpy copies them many times faster than records.
        completions = rings.array(abi.CQE, self.cq_entries, int(cq["cqes"]))
        self._cqe_words = completions.view(np.uint64).reshape(self.cq_entries, 2)
        self._done = np.zeros(self.cq_entries, abi.CQE)
        self._done_words = self._done.view(np.uint64).reshape(self.cq_entries, 2)

        self._enter_fd = ctypes.c_int(self.fd)
        self._enter_flags = abi.ENTER_GETEVENTS

    # -- submitting ---------------------------------------------------------------------------

    @property
    def space(self) -> int:
        """Slots that can be queued before the next `enter`."""
        return self.entries - (self._queued - self._taken)

    def queue(self, first: int, count: int) -> None:
        """Queue slots `first` … `first + count - 1`, in this order; ValueError past `space`."""
        if self._queued - self._taken + count > self.entries:
            raise ValueError(f"{count} submissions to queue, room for {self.space}")
        slots = self._numbers[first : first + count]
        start = self._queued & self._sq_mask
        end = start + count
        if end <= self.entries:
            self._array[start:end] = slots
        else:
            split = self.entries - start
            self._array[start:] = slots[:split]
            self._array[: count - split] = slots[split:]
        self._queued += count

    def enter(self) -> int:
        """Submit all that is queued, and let deferred work run; one system call that waits for
        nothing.

        Returns how many submissions the kernel took; each of them completes exactly once.
        OSError EBUSY or EAGAIN: nothing was taken; reap first, then try again.
        """
        pending = self._queued - self._taken
        if pending:
            self._sq_tail[0] = self._queued & 0xFFFFFFFF
        flags = self._enter_flags
        taken = syscall(NR_ENTER, self._enter_fd, pending, 0, flags, NO_SIGMASK, SIGMASK_SIZE)
        if taken >= 0:
            self._taken += taken
            return int(taken)
        error = ctypes.get_errno()
        if error != errno.EINTR:
            raise OSError(error, os.strerror(error), "io_uring_enter")
        return 0

    def withdraw(self) -> int:
        """Take back what is queued and was not submitted; how many slots that were."""
        count = self._queued - self._taken
        self._queued = self._taken
        self._sq_tail[0] = self._taken & 0xFFFFFFFF
        return count

    # -- completions --------------------------------------------------------------------------

    @property
    def ready(self) -> int:
        """Completions that `reap` would return now."""
        return (self._cq_tail[0] - self._reaped) & 0xFFFFFFFF

    def reap(self) -> Completions:
        """All completions that are there (fields user_data, res, flags), in order of completion.

        A copy, valid until the next `reap`; the ring's places are free again.
        """
        count = (self._cq_tail[0] - self._reaped) & 0xFFFFFFFF
        if not count:
            return self._done[:0]
        start = self._reaped & self._cq_mask
        end = start + count
        if end <= self.cq_entries:
            self._done_words[:count] = self._cqe_words[start:end]
        else:
            split = self.cq_entries - start
            self._done_words[:split] = self._cqe_words[start:]
            self._done_words[split:count] = self._cqe_words[: count - split]
        self._reaped += count
        self._cq_head[0] = self._reaped & 0xFFFFFFFF
        return self._done[:count]

    # -- registering --------------------------------------------------------------------------

    def register(self, opcode: Register, arg: int, count: int) -> int:
        """io_uring_register(2); `arg` is an address. OSError as the kernel has it."""
        return calls.register(self.fd, opcode, arg, count)

    def register_ring(self) -> None:
        """Let `enter` name the ring by its registered number: saves a file lookup per call.

        OSError EBUSY: this thread has 16 such rings already.
        """
        update = np.zeros(1, abi.RSRC_UPDATE)
        update["offset"], update["data"] = 0xFFFFFFFF, self.fd
        self.register(Register.RING_FDS, update.ctypes.data, 1)
        self._enter_fd = ctypes.c_int(int(update["offset"][0]))
        self._enter_flags = abi.ENTER_GETEVENTS | abi.ENTER_REGISTERED_RING
        self._registered = True

    def close(self) -> None:
        """Cancel what is under way and give everything back; twice is fine."""
        if self.fd < 0:
            return
        if self._registered:
            # The thread's table of rings holds the ring as a descriptor would.
            update = np.zeros(1, abi.RSRC_UPDATE)
            update["offset"] = self._enter_fd.value
            self._registered = False
            with contextlib.suppress(OSError):
                self.register(Register.UNREGISTER_RING_FDS, update.ctypes.data, 1)
        os.close(self.fd)
        self.fd = -1
        for mapping in self._maps:
            mapping.release()

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
