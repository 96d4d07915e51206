"""perf_event_open(2) through ctypes: one counter on one thread, and the numbers of tracepoints.

Sources: perf_event_open(2), the kernel's Documentation/trace/ftrace.rst. Must not know what is
counted or why.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from testbed.errors import Lacking

TYPE_SOFTWARE: Final = 1
TYPE_TRACEPOINT: Final = 2

_ENABLE: Final = 0x2400
_DISABLE: Final = 0x2401
_SET_FILTER: Final = 0x40082406
_FLAG_CLOEXEC: Final = 8
_ATTR_SIZE_VER0: Final = 64
_FORMAT_TIMES: Final = 3
_DISABLED: Final = 1 << 0
_INHERIT: Final = 1 << 1

_SYSCALL_NUMBERS: Final = {"x86_64": 298, "aarch64": 241}

_CLONE_NEWNS: Final = 0x00020000
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000
_TRACEFS: Final = Path("/sys/kernel/tracing")

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A counter's value and the time, in ns, it was enabled and really counting."""

    value: int
    enabled_ns: int
    running_ns: int


class Counter:
    """A counter on one thread and on every thread and process that it starts from now on.

    It stands still until `enable`; one with a `leader` runs exactly when the leader does, so that
    a whole group starts and stops at one moment. Reading sums up all that it was inherited by,
    also after they ended.
    """

    __slots__ = ("_fd",)

    def __init__(
        self,
        *,
        kind: int,
        config: int,
        thread_id: int,
        filter: str | None = None,
        leader: Counter | None = None,
    ) -> None:
        """Open it. `filter` is an event filter such as ``id == 45`` (tracepoints only).

        :raises ProcessLookupError: there is no such thread.
        :raises Lacking: this kernel or these rights do not allow it.
        """
        number = _SYSCALL_NUMBERS.get(platform.machine())
        if number is None:
            raise Lacking(f"perf_event_open has no known number on {platform.machine()}")
        attributes = struct.pack(
            "IIQQQQQIIQ",
            kind,
            _ATTR_SIZE_VER0,
            config,
            0,
            0,
            _FORMAT_TIMES,
            _INHERIT | (_DISABLED if leader is None else 0),
            0,
            0,
            0,
        )
        group = -1 if leader is None else leader._fd
        fd = _libc.syscall(number, attributes, thread_id, -1, group, _FLAG_CLOEXEC)
        if fd < 0:
            _refused(ctypes.get_errno(), f"a counter on thread {thread_id}")
        self._fd: int = fd
        if filter is not None:
            text = ctypes.create_string_buffer(filter.encode())
            if _libc.ioctl(self._fd, _SET_FILTER, text) != 0:
                reason = ctypes.get_errno()
                self.close()
                _refused(reason, f"the event filter {filter!r}")

    def enable(self) -> None:
        """Count from here on, and so all that it leads."""
        fcntl.ioctl(self._fd, _ENABLE, 0)

    def disable(self) -> None:
        """Count no longer; the value stays."""
        fcntl.ioctl(self._fd, _DISABLE, 0)

    def read(self) -> Reading:
        """The value now."""
        value, enabled, running = struct.unpack("QQQ", os.read(self._fd, 24))
        return Reading(value=value, enabled_ns=enabled, running_ns=running)

    def close(self) -> None:
        """Give the counter back; twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _refused(number: int, what: str) -> None:
    if number == errno.ESRCH:
        raise ProcessLookupError(number, os.strerror(number), what)
    how = {
        errno.EACCES: "run as root, or give CAP_PERFMON",
        errno.EPERM: "run as root, or give CAP_PERFMON; a container must allow perf_event_open",
        errno.ENOENT: "this kernel has no such event",
        errno.ENOSYS: "build the kernel with CONFIG_PERF_EVENTS",
        errno.EMFILE: "allow more open files (ulimit -n)",
    }.get(number)
    raise Lacking(f"perf_event_open refused {what}: {os.strerror(number)}", how)


def threads_of(pid: int) -> tuple[int, ...]:
    """The thread ids of a process; ProcessLookupError if there is none such."""
    try:
        return tuple(sorted(int(name) for name in os.listdir(f"/proc/{pid}/task")))
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, f"process {pid} is gone") from None


def on_all_threads(pid: int, make: Callable[[int], T], undo: Callable[[T], object]) -> list[T]:
    """`make(thread)` for every thread of a process, also those that start meanwhile.

    A thread that one already watched started inherits; so rounds are made until one finds no
    thread that it did not know. What was made is undone if one fails.
    """
    made: dict[int, T] = {}
    try:
        while new := [thread for thread in threads_of(pid) if thread not in made]:
            for thread in new:
                try:
                    made[thread] = make(thread)
                except ProcessLookupError:
                    if thread == pid:
                        raise
    except BaseException:
        for thing in made.values():
            undo(thing)
        raise
    return list(made.values())


def tracepoint_ids(names: Iterable[str]) -> dict[str, int | None]:
    """The number of each tracepoint ("category:name"); None for what this kernel does not have.

    Reads tracefs where it is mounted, else mounts it in a mount namespace of its own that ends
    with this call, so that nothing is left mounted.

    :raises Lacking: there is no tracefs, or no right to look.
    """
    wanted = tuple(names)
    if (_TRACEFS / "events").is_dir():
        return _read_ids(wanted)
    found: dict[str, int | None] = {}
    failure: list[OSError] = []

    def look() -> None:
        # Only this thread leaves for the new mount namespace (CLONE_NEWNS implies CLONE_FS), and
        # the namespace ends with it.
        try:
            _check(_libc.unshare(_CLONE_NEWNS), "unshare")
            _check(_libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None), "mount")
            _check(_libc.mount(b"tracefs", bytes(_TRACEFS), b"tracefs", 0, None), "mount tracefs")
            found.update(_read_ids(wanted))
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=look, name="tracefs")
    thread.start()
    thread.join()
    if failure:
        raise Lacking(
            f"tracepoints cannot be looked up ({failure[0]})",
            "run as root on a kernel with CONFIG_FTRACE; in a container mount tracefs at "
            f"{_TRACEFS}",
        ) from failure[0]
    return found


def _read_ids(names: tuple[str, ...]) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for name in names:
        category, _, event = name.partition(":")
        try:
            found[name] = int((_TRACEFS / "events" / category / event / "id").read_text())
        except FileNotFoundError:
            found[name] = None
        except PermissionError as error:
            raise Lacking(f"tracefs may not be read ({error})", "run as root") from error
    return found


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
