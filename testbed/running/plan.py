"""From a topology to the ordered operations that make it real, and from one plan to the next.

Pure. Must not know how an operation is done, nor whether it was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from agent.config import AgentConfig, batch_sizes
from testbed.files.fields import OFF
from testbed.kernel.netns import MEDIUM_NODE, namespace_name
from testbed.kernel.operations import Hear, MakeCable, MakeNamespace, MakePort
from testbed.launch.messages import NodeSpec, Program
from testbed.topology import medium, placeholders
from testbed.topology.model import RADIO_INTERFACE, TAP_INTERFACE, Node, NodeSettings, Topology

RADIO_MTU: Final = 1500
NOBODY: Final = (65534, 65534)
"""Whom an agent runs as once its descriptors are open."""

CONTROL_SOCKET: Final = "agent.sock"
STATS_FILE: Final = "stats.json"
"""Both in the node's own directory, where it starts: it may be unable to walk there by path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StartNode:
    """The process of a node."""

    key: str
    kind: str
    spec: NodeSpec
    needs: tuple[str, ...]


Operation: TypeAlias = MakeNamespace | MakeCable | MakePort | Hear | StartNode


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that makes one testbed, in an order in which it can be made.

    `ports` holds the number of each node's port in the medium, to be kept by the next plan.
    """

    testbed: str
    operations: tuple[Operation, ...]
    ports: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How to come from what is there to a plan: `shrink`, `undo`, `do`, each in its order.

    `shrink` holds hearing that must leave out a port before that port goes. A `Hear` in `do` may
    replace one that is there, in place; nothing else does.
    """

    shrink: tuple[Hear, ...] = ()
    undo: tuple[Operation, ...] = ()
    do: tuple[Operation, ...] = ()
    keep: tuple[Operation, ...] = field(default=(), repr=False)


def node_key(name: str) -> str:
    """The key of the operation that starts the node `name`."""
    return f"node/{name}"


def agent_config(node: Node, settings: NodeSettings | None = None) -> AgentConfig:
    """What the agent of `node` is told in a testbed; `settings` in place of the node's own."""
    chosen = node.settings if settings is None else settings
    return AgentConfig(
        kind=node.kind,
        bind=RADIO_INTERFACE,
        tap_name=TAP_INTERFACE,
        ip=(str(node.ipv4), str(node.ipv6)),
        mtu=chosen.mtu,
        hello_history=chosen.hello_history,
        cached_candidates=chosen.cached_candidates,
        hello_periodicity_ms=chosen.hello_periodicity_ms if node.kind == "rsu" else None,
        name=node.name,
        handler=chosen.handler,
        wire_engine=chosen.engine_wire,
        tap_engine=chosen.engine_tap,
        batch=chosen.batch,
        adaptive_batch=None if chosen.adaptive_batch == OFF else batch_sizes(chosen.adaptive_batch),
        coalesce=chosen.coalesce,
        max_wait_us=chosen.max_wait_us,
        group_copies=chosen.group_copies,
        tap_mac=node.tap_mac,
        control_path=CONTROL_SOCKET,
        metrics=None if chosen.metrics == OFF else chosen.metrics,
        stats_path=STATS_FILE,
        run_as=NOBODY,
        quiet_tap=True,
    )


def node_spec(
    testbed: str,
    node: Node,
    settings: NodeSettings | None = None,
    cpus: tuple[int, ...] | None = None,
) -> NodeSpec:
    """What the launcher is told to run for `node`; `settings` in place of the node's own."""
    chosen = node.settings if settings is None else settings
    return NodeSpec(
        name=node.name,
        netns=namespace_name(testbed, node.name),
        config=None if chosen.is_program else agent_config(node, chosen),
        program=program(testbed, node, chosen) if chosen.is_program else None,
        cpus=cpus,
    )


def program(testbed: str, node: Node, settings: NodeSettings) -> Program:
    """The program that runs as `node`, with every placeholder filled in."""
    netns = namespace_name(testbed, node.name)
    values = placeholders.values_for(testbed, netns, node, settings)
    has_tap = settings.ready.how != "started"
    return Program(
        argv=tuple(placeholders.fill(word, values) for word in settings.command),
        env={name: placeholders.fill(text, values) for name, text in settings.env},
        user=settings.user,
        stop=settings.stop,
        ready_log=settings.ready.pattern,
        ready_within_s=settings.ready_within_ms / 1000,
        tap=TAP_INTERFACE if has_tap else None,
        addresses=(str(node.ipv4), str(node.ipv6)) if has_tap else (),
        answers_on=RADIO_INTERFACE if has_tap and node.kind == "obu" else None,
    )


def hear(testbed: str, name: str, peers: Sequence[str], ports: Mapping[str, int]) -> Hear:
    """Let exactly the nodes `peers` hear the node `name`, all of them ports with these numbers."""
    return Hear(
        key=f"hearing/{name}",
        medium=namespace_name(testbed, MEDIUM_NODE),
        port=f"p{ports[name]}",
        peers=tuple(f"p{ports[peer]}" for peer in peers),
        needs=(f"radio/{name}", *(f"radio/{peer}" for peer in peers)),
    )


def plan(
    topology: Topology,
    *,
    agents: bool | Collection[str] = True,
    ports: Mapping[str, int] | None = None,
    cables: bool = True,
    cpus: Mapping[str, tuple[int, ...]] | None = None,
) -> Plan:
    """Everything to be made for `topology`, OBUs before RSUs, so that one heartbeat joins all.

    `agents` names the nodes that get a process (True: all). `ports` are the port numbers of the
    plan before. With `cables` False all radios are ports of the medium, even of lonely pairs.
    `cpus` pins nodes.
    """
    testbed = topology.name
    arrangement = medium.arrange(topology.neighbours(), cables=cables)
    by_name = {node.name: node for node in topology.nodes}
    netns = {name: namespace_name(testbed, name) for name in by_name}
    ether = namespace_name(testbed, MEDIUM_NODE)
    numbers = medium.number_ports(tuple(arrangement.ports), ports or {})
    radio_key: dict[str, str] = {}

    operations: list[Operation] = []
    if numbers:
        operations.append(MakeNamespace(key=f"netns/{MEDIUM_NODE}", netns=ether, medium=True))
    operations += [MakeNamespace(key=f"netns/{name}", netns=netns[name]) for name in by_name]
    for a, b in arrangement.cables:
        radio_key[a] = radio_key[b] = f"radio/{a}+{b}"
        operations.append(
            MakeCable(
                key=radio_key[a],
                netns=(netns[a], netns[b]),
                mac=(by_name[a].mac, by_name[b].mac),
                mtu=RADIO_MTU,
                needs=(f"netns/{a}", f"netns/{b}"),
            )
        )
    for name, number in numbers.items():
        radio_key[name] = f"radio/{name}"
        operations.append(
            MakePort(
                key=radio_key[name],
                netns=netns[name],
                mac=by_name[name].mac,
                medium=ether,
                port=f"p{number}",
                mtu=RADIO_MTU,
                needs=(f"netns/{MEDIUM_NODE}", f"netns/{name}"),
            )
        )
    operations += [hear(testbed, name, peers, numbers) for name, peers in arrangement.ports.items()]
    for kind in ("obu", "rsu"):
        for node in topology.nodes:
            if node.kind != kind or not (agents is True or (agents and node.name in agents)):
                continue
            operations.append(
                StartNode(
                    key=node_key(node.name),
                    kind=kind,
                    spec=node_spec(testbed, node, cpus=(cpus or {}).get(node.name)),
                    needs=(f"netns/{node.name}", radio_key[node.name]),
                )
            )
    return Plan(testbed=testbed, operations=tuple(operations), ports=numbers)


def difference(
    there: Mapping[str, Operation], wanted: Plan, *, broken: Collection[str] = ()
) -> Difference:
    """What separates the operations that are `there` (by key, in their order) from `wanted`.

    `broken` names keys that are there in name only, such as a node whose process died: they are
    undone and done again, as is everything that needs something undone.
    """
    wanted_by_key = {operation.key: operation for operation in wanted.operations}
    undo: dict[str, Operation] = {}
    replaced: set[str] = set()
    for key, operation in there.items():
        new = wanted_by_key.get(key)
        lost_ground = any(need in undo for need in operation.needs)
        if isinstance(operation, Hear) and isinstance(new, Hear):
            # Set anew in place, unless its own port goes and takes the filters with it.
            if operation.needs[0] in undo or operation.port != new.port:
                undo[key] = operation
            elif new != operation or lost_ground or key in broken:
                replaced.add(key)
        elif new != operation or lost_ground or key in broken:
            undo[key] = operation
    do = [
        operation
        for operation in wanted.operations
        if operation.key not in there or operation.key in undo or operation.key in replaced
    ]
    done = {operation.key for operation in do}
    leaving = {operation.port for operation in undo.values() if isinstance(operation, MakePort)}
    shrink: list[Hear] = []
    for key in replaced:
        operation = there[key]
        assert isinstance(operation, Hear)
        staying = tuple(peer for peer in operation.peers if peer not in leaving)
        if staying != operation.peers:
            shrink.append(replace(operation, peers=staying))
    return Difference(
        shrink=tuple(shrink),
        undo=tuple(reversed(undo.values())),
        do=tuple(do),
        keep=tuple(op for op in wanted.operations if op.key not in done),
    )


_KINDS: Final[Mapping[str, type[Operation]]] = {
    "namespace": MakeNamespace,
    "cable": MakeCable,
    "port": MakePort,
    "hear": Hear,
    "node": StartNode,
}


def operation_to_json(operation: Operation) -> dict[str, Any]:
    """Plain values; `operation_from_json` makes an equal operation of them."""
    kind = next(name for name, made in _KINDS.items() if made is type(operation))
    values: dict[str, Any] = {"op": kind}
    for name in operation.__slots__:
        value = getattr(operation, name)
        if isinstance(value, NodeSpec):
            value = value.to_json()
        values[name] = list(value) if isinstance(value, tuple) else value
    return values


def operation_from_json(values: Mapping[str, Any]) -> Operation:
    """The operation that `operation_to_json` wrote; KeyError or TypeError if it is none."""
    given = {key: value for key, value in values.items() if key != "op"}
    for key, value in given.items():
        if isinstance(value, list):
            given[key] = tuple(value)
    if "spec" in given:
        given["spec"] = NodeSpec.from_json(given["spec"])
    return _KINDS[values["op"]](**given)
