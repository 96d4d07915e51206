"""What `up` would do, as lines for `--dry-run`: from nothing, or from what is up.

Must not know how any of it is done, and changes nothing.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, Literal

from testbed import rundir
from testbed.kernel.operations import Hear, MakeCable, MakeNamespace, MakePort
from testbed.running import journal
from testbed.running.plan import Operation, Plan, difference, operation_to_json, plan
from testbed.topology.model import Topology


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One operation that `up` would do or undo."""

    do: Literal["make", "change", "remove"]
    operation: Operation

    @property
    def key(self) -> str:
        """The operation's own name."""
        return self.operation.key

    @property
    def details(self) -> str:
        """In a few words, what is made."""
        match self.operation:
            case MakeNamespace(netns=name):
                return name
            case MakeCable(mac=(a, b), mtu=mtu):
                return f"veth {a} – {b}, mtu {mtu}"
            case MakePort(mac=mac, port=port, mtu=mtu):
                return f"veth {mac} – {port}, mtu {mtu}"
            case Hear(port=port, peers=peers):
                return f"{port} is heard by {', '.join(peers) or 'nobody'}"
            case start:
                config, program = start.spec.config, start.spec.program
                if program is not None:
                    return f"{start.kind}, program: {shlex.join(program.argv)}"
                return start.kind if config is None else f"{config.kind}, {', '.join(config.ip)}"

    def to_json(self) -> dict[str, Any]:
        """Plain values: the operation, and what is to be done about it."""
        return {"do": self.do, **operation_to_json(self.operation)}


def steps(topology: Topology) -> list[Step]:
    """Everything that `up` would do now, in order. Without root nothing is known to be up."""
    there = _there(topology.name)
    ports = {
        key.removeprefix("radio/"): int(operation.port.removeprefix("p"))
        for key, operation in there.items()
        if isinstance(operation, MakePort)
    }
    wanted: Plan = plan(topology, ports=ports)
    change = difference(there, wanted)
    undone = {operation.key for operation in change.undo}
    return [
        *(Step(do="change", operation=operation) for operation in change.shrink),
        *(Step(do="remove", operation=operation) for operation in change.undo),
        *(
            Step(
                do="change" if operation.key in there and operation.key not in undone else "make",
                operation=operation,
            )
            for operation in change.do
        ),
    ]


def _there(name: str) -> dict[str, Operation]:
    try:
        state = journal.read(rundir.run_dir(name).journal)
    except PermissionError:
        return {}
    return {} if state is None or not state.header.of_this_boot else state.operations
