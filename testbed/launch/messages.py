"""What the launcher and its clients say to each other: values, and their JSON lines.

A request is one line `{"cmd": …}`, its answer one line `{"ok": true, …}` or `{"error": "…"}`.
Must not know sockets or processes. Imported by the launcher, whose every import each node carries
in memory: only the standard library and `agent.config`.
"""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from agent.config import AgentConfig

State = Literal["starting", "ready", "exited"]

_LONGEST_S: Final = 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A program that is a node, and how it is dealt with.

    `env` is added to the environment. `user` None is root with all rights; another one has
    CAP_NET_ADMIN and CAP_NET_RAW. The program makes the interface `tap`, if any, and is ready once
    that is up with a carrier, and once a line of its log matches `ready_log`, if any; after
    `ready_within_s` it has failed. What it leaves out of `addresses` is then added to the TAP.
    On the radio `answers_on` its first reply to a heartbeat is looked out for.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop: str = "SIGTERM"
    ready_log: str | None = None
    ready_within_s: float = 10.0
    tap: str | None = None
    addresses: tuple[str, ...] = ()
    answers_on: str | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Program:
        """The program that `asdict` made plain.

        KeyError, TypeError or ValueError if it is none: what is held on to is known to be whole.
        """
        made = cls(**{**values, **{name: _texts(values[name]) for name in ("argv", "addresses")}})
        if not made.argv or not isinstance(made.env, dict):
            raise ValueError("a program has a command line and an environment")
        _texts([*made.env, *made.env.values()])
        _texts(
            one for one in (made.user, made.ready_log, made.tap, made.answers_on) if one is not None
        )
        if made.stop not in signal.Signals.__members__:
            raise ValueError(f"no such signal: {made.stop!r}")
        seconds(made.ready_within_s)
        return made


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSpec:
    """What to run as a node: our agent with `config`, or a `program`; exactly one.

    `netns` is the namespace's name. Relative paths in `config` are relative to the node's own
    directory, where it starts. `cpus` pins the node.
    """

    name: str
    netns: str
    config: AgentConfig | None = None
    program: Program | None = None
    cpus: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if (self.config is None) == (self.program is None):
            raise ValueError(f"{self.name}: a node is either an agent or a program")

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` makes an equal spec of them."""
        return {
            "name": self.name,
            "netns": self.netns,
            "config": None if self.config is None else asdict(self.config),
            "program": None if self.program is None else asdict(self.program),
            "cpus": None if self.cpus is None else list(self.cpus),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> NodeSpec:
        """The spec that `to_json` wrote; KeyError, TypeError or ValueError if it is none."""
        # Each is the name of a file.
        for name in _texts(values[key] for key in ("name", "netns")):
            if "/" in name or name in ("", ".", ".."):
                raise ValueError(f"no name of a node: {name!r}")
        config, program, cpus = values["config"], values["program"], values["cpus"]
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
            program=None if program is None else Program.from_json(program),
            cpus=None if cpus is None else tuple(cpus),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeStatus:
    """How one node is, as its launcher sees it.

    `start_ticks` (clock ticks since boot, proc_pid_stat(5) field 22) with `pid` names the process
    beyond doubt. `exit_status` is that of the process, negative for a signal, None while it lives.
    `asked` tells that the exit was wanted. `since_ns` (CLOCK_MONOTONIC) is when `state` began.
    `upstream` and `engines` are what the agent said last; a program says nothing. Of a program
    that is an OBU, `answered` is its first reply to a heartbeat as it was seen on its radio: to
    which neighbour (`mac`), for which `rsu`, over how many `hops`. `error` is why a program could
    not be started, or did not get ready; `unheard` is why its agent is not listened to any more,
    and then nothing is known of its upstream. `restarts` counts how often it was started again
    after it had died, `ended_before` is how the process before ended (None for the first), and
    `restart_at_ns` (CLOCK_MONOTONIC) is when it will be started again, None if it will not.
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
    answered: Mapping[str, Any] | None = None
    error: str | None = None
    unheard: str | None = None
    restarts: int = 0
    restart_at_ns: int | None = None
    ended_before: int | None = None

    @property
    def joined(self) -> bool:
        """Whether an OBU has an upstream, or was seen to answer one."""
        return self.upstream is not None or self.answered is not None

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self.state != "exited"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> NodeStatus:
        """The status that `asdict` made plain."""
        return cls(**values)


def seconds(value: object) -> float:
    """A time that can be waited for; TypeError or ValueError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"not a time: {value!r}")
    # JSON as Python reads it has more numbers than there are times.
    if not (math.isfinite(value) and 0 <= value <= _LONGEST_S):
        raise ValueError(f"not a time: {value!r}")
    return float(value)


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    found = tuple(values)
    for one in found:
        if not isinstance(one, str) or "\0" in one:
            raise TypeError(f"not a text: {one!r}")
    return found  # type: ignore[return-value]


def start_request(specs: Sequence[NodeSpec], *, restart: bool) -> dict[str, Any]:
    """Ask for these nodes to be started, and with `restart` again when they die."""
    return {"cmd": "start", "specs": [spec.to_json() for spec in specs], "restart": restart}


def encode(message: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message in one line; ValueError if it is none, whatever it is."""
    try:
        message = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message
