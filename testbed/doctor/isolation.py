"""Runs one probe in a child process with a network and a mount namespace of its own.

Whatever the probe makes is gone with the child, also when it hangs or crashes. Must not know what
is probed.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
_MS_REC_PRIVATE = 0x4000 | (1 << 18)

Probe = Callable[[], str]
"""Does what it probes for and returns a detail worth showing, or raises."""


class Unavailable(Exception):
    """What a probe raises to say why in its own words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """`said` is the probe's detail where it is available, and why not where it is not."""

    available: bool
    said: str


def libc() -> ctypes.CDLL:
    """The C library, with errno kept for `checked`."""
    return ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """The result of a C call, or OSError from errno where it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """unshare(2) for this process; OSError where it is not allowed."""
    checked(libc().unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int = 0) -> None:
    """mount(2); OSError where it fails."""
    encoded = None if kind is None else kind.encode()
    result = libc().mount(source.encode(), target.encode(), encoded, ctypes.c_ulong(flags), None)
    checked(result, f"mount {kind or source}")


def attempt(probe: Probe, *, network: bool = True, timeout_s: float = 5.0) -> Outcome:
    """Run the probe in a child; with `network`, in a network namespace of its own.

    Where the rights allow it the child has its own mount namespace too, so that nothing spreads.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _in_child(probe, writer, network)
    os.close(writer)
    try:
        answer = _read(reader, time.monotonic() + timeout_s)
    finally:
        os.close(reader)
        # Not reaped yet, so the number still is the child's, even when it has ended by itself.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if answer is None:
        return Outcome(available=False, said=f"no answer within {timeout_s:g} s")
    if not answer:
        return Outcome(available=False, said="the probing process died")
    values = json.loads(answer)
    return Outcome(available=values["available"], said=values["said"])


def _in_child(probe: Probe, writer: int, network: bool) -> NoReturn:
    """Everything that happens in the child; leaves through `_exit` and by no other way."""
    try:
        try:
            _isolate(network)
            answer = {"available": True, "said": probe()}
        except Unavailable as why:
            answer = {"available": False, "said": str(why)}
        except Exception as error:
            answer = {"available": False, "said": _words(error)}
        os.write(writer, json.dumps(answer).encode())
    finally:
        os._exit(0)


def _isolate(network: bool) -> None:
    try:
        unshare(CLONE_NEWNS)
        mount("none", "/", None, _MS_REC_PRIVATE)
    except OSError:
        # Not allowed, or in a chroot. What then needs a mount fails by itself, and says so.
        pass
    if network:
        unshare(CLONE_NEWNET)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    return text if text else type(error).__name__


def _read(descriptor: int, deadline: float) -> bytes | None:
    """Everything up to the end, or None if that has not come by the deadline."""
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(descriptor, 65536)
        if not part:
            return b"".join(parts)
        parts.append(part)
