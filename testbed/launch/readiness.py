"""Whether a program is ready, seen from outside: by its TAP, and by what it prints.

Looks whenever it is asked; must not know when that is, nor what becomes of a program that is not
ready. Imported by the launcher, whose every import each node carries in memory.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from pathlib import Path
from typing import Final

from agent.linux import netif
from testbed.kernel import netns
from testbed.launch.messages import Program

_READ_BYTES: Final = 1 << 18
_LONGEST_LINE: Final = 1 << 16


class Readiness:
    """One program that is starting in the namespace `inside`; `log` is the file that it prints to.

    Made before the program starts: only what it prints after that counts. Close it.
    """

    def __init__(self, program: Program, inside: str, log: Path) -> None:
        self._program = program
        self._inside = inside
        self._log = log
        self._read = log.stat().st_size
        self._line = b""
        self._said = program.ready_log is None
        self._pattern = re.compile(program.ready_log or "")
        self._sock = None if program.tap is None else netns.run_in(inside, netif.any_socket)

    def missing(self) -> str | None:
        """What it still lacks, in words; None once it is ready."""
        if not self._said:
            self._said = self._look_at_log()
        if not self._said:
            return f"no line of its log matches {self._program.ready_log!r}"
        if self._program.tap is None or self._sock is None:
            return None
        return _tap_lacks(self._program.tap, self._sock)

    def complete_addresses(self) -> list[str]:
        """Give the TAP the addresses that the program has not given it; what failed, in words."""
        tap = self._program.tap
        if tap is None:
            return []
        return netns.run_in(self._inside, lambda: _add_missing(tap, self._program.addresses))

    def close(self) -> None:
        """Let go of the namespace; twice is fine."""
        if self._sock is not None:
            self._sock.close()

    def _look_at_log(self) -> bool:
        with self._log.open("rb") as log:
            log.seek(self._read)
            new = log.read(_READ_BYTES)
        self._read += len(new)
        # The last line may not have its end yet, and need not: it is looked at again.
        *lines, rest = (self._line + new).split(b"\n")
        self._line = rest[-_LONGEST_LINE:]
        return any(
            self._pattern.search(line.decode(errors="replace")) for line in (*lines, self._line)
        )


def _tap_lacks(tap: str, through: socket.socket) -> str | None:
    try:
        flags = netif.flags(tap, through=through)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return f"there is no interface {tap}"
        return f"{tap}: {os.strerror(error.errno or 0)}"
    if not flags & netif.IFF_UP:
        return f"{tap} is down"
    return None if flags & netif.IFF_RUNNING else f"{tap} has no carrier: nobody holds it open"


def _add_missing(tap: str, wanted: tuple[str, ...]) -> list[str]:
    there = netif.addresses()
    failed = []
    for text in wanted:
        address = ipaddress.ip_interface(text)
        if there.get(address.ip) == tap:
            continue
        try:
            netif.add_address(tap, address)
        except OSError as error:
            failed.append(f"{address} could not be added to {tap}: {error.strerror}")
    return failed
