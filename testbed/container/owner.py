"""Who a container belongs to: the process that started it, as a label, and whether it still lives.

A process number says nothing in another PID namespace or after a reboot, so the label has both
beside it. Must not know any engine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

Life = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """One process of one boot. `began` is in clock ticks since that boot (proc(5), stat)."""

    boot: str
    pid_namespace: int
    pid: int
    began: int

    @classmethod
    def this(cls) -> Self:
        """The calling process."""
        return cls(
            boot=_boot(),
            pid_namespace=os.stat("/proc/self/ns/pid").st_ino,
            pid=os.getpid(),
            began=_began(os.getpid()) or 0,
        )

    @classmethod
    def of_label(cls, label: str) -> Self | None:
        """What `label` says, None where it says nothing that can be read."""
        try:
            boot, namespace, pid, began = label.split()
            return cls(boot=boot, pid_namespace=int(namespace), pid=int(pid), began=int(began))
        except ValueError:
            return None

    def label(self) -> str:
        """The text that `of_label` reads."""
        return f"{self.boot} {self.pid_namespace} {self.pid} {self.began}"

    def life(self) -> Life:
        """Whether it still runs, as far as this process can see."""
        here = Owner.this()
        if (self.boot, self.pid_namespace) != (here.boot, here.pid_namespace):
            return "unknown"
        return "alive" if _began(self.pid) == self.began else "dead"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _began(pid: int) -> int | None:
    """When the process began, None where there is none or only what is left of one."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in brackets may hold anything; state is the third field, starttime the 22nd.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
