"""What the launcher and its clients say to each other: values, and their JSON lines.

A request is one line `{"cmd": …}`, its answer one line `{"ok": true, …}` or `{"error": "…"}`.
Must not know sockets or processes. Imported by the launcher, whose every import each node carries
in memory: only the standard library and `agent.config`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from agent.config import AgentConfig

State = Literal["starting", "ready", "exited"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSpec:
    """What to run as a node: our agent with `config`, or the program `command`; exactly one.

    `netns` is the namespace's name. Relative paths in `config` are relative to the node's own
    directory, where it starts. `env` is added to the environment, `cpus` pins the node.
    """

    name: str
    netns: str
    config: AgentConfig | None = None
    command: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cpus: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if (self.config is None) == (self.command is None):
            raise ValueError(f"{self.name}: a node is either an agent or a command")

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` makes an equal spec of them."""
        return {
            "name": self.name,
            "netns": self.netns,
            "config": None if self.config is None else asdict(self.config),
            "command": None if self.command is None else list(self.command),
            "env": dict(self.env),
            "cpus": None if self.cpus is None else list(self.cpus),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> NodeSpec:
        """The spec that `to_json` wrote."""
        config, command, cpus = values["config"], values["command"], values["cpus"]
        if config is not None:
            pairs = {name: config[name] for name in ("adaptive_batch", "run_as")}
            config = AgentConfig(
                **{
                    **config,
                    "ip": tuple(config["ip"]),
                    **{name: None if one is None else tuple(one) for name, one in pairs.items()},
                }
            )
        return cls(
            name=values["name"],
            netns=values["netns"],
            config=config,
            command=None if command is None else tuple(command),
            env=values["env"],
            cpus=None if cpus is None else tuple(cpus),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeStatus:
    """How one node is, as its launcher sees it.

    `start_ticks` (clock ticks since boot, proc_pid_stat(5) field 22) with `pid` names the process
    beyond doubt. `exit_status` is that of the process, negative for a signal, None while it lives.
    `asked` tells that the exit was wanted. `since_ns` (CLOCK_MONOTONIC) is when `state` began.
    `upstream` and `engines` are what the agent said last; a command says nothing. `error` is why
    a program could not be started. `restarts` counts how often it was started again after it had
    died, `ended_before` is how the process before ended (None for the first), and `restart_at_ns`
    (CLOCK_MONOTONIC) is when it will be started again, None if it will not.
    """

    name: str
    pid: int
    start_ticks: int
    state: State
    exit_status: int | None
    asked: bool
    since_ns: int
    started_ns: int
    upstream: Mapping[str, Any] | None = None
    engines: Mapping[str, Any] | None = None
    error: str | None = None
    restarts: int = 0
    restart_at_ns: int | None = None
    ended_before: int | None = None

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self.state != "exited"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> NodeStatus:
        """The status that `asdict` made plain."""
        return cls(**values)


def start_request(specs: Sequence[NodeSpec], *, restart: bool) -> dict[str, Any]:
    """Ask for these nodes to be started, and with `restart` again when they die."""
    return {"cmd": "start", "specs": [spec.to_json() for spec in specs], "restart": restart}


def encode(message: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message in one line; ValueError if it is none."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message
