"""From a configuration to a running agent: opens, lets go of rights, says ready, works, reports.

The only module that sees descriptors, engines and the node together. Must not know who starts it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from types import FrameType
from typing import Any, Final

from agent import confinement, metrics, ports, serving
from agent.config import (
    DEFAULT_HELLO_PERIODICITY_MS,
    SLOW_VARIABLE,
    AgentConfig,
    metrics_address,
)
from agent.control import Control, Later, open_listener
from agent.driver import Driver
from agent.engines.base import Engine, Side
from agent.engines.registry import Selection, select
from agent.errors import AgentError, ConfigError, LackingError
from agent.protocol.obu import Obu
from agent.protocol.rsu import Rsu
from agent.slowing import slow_ns
from agent.stats import SideSource, Stats, StatsFile, upstream_document

log = logging.getLogger("agent")

LOG_LEVEL_VARIABLE: Final = "TESTBED_AGENT_LOG_LEVEL"
SWITCH_S: Final = 50e-6
"""How long a thread may keep the interpreter while another wants it. The loop wants it back after
every system call, so this is what a thread beside it adds to each of them, at most."""
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run_agent(config: AgentConfig) -> int:
    """Run one agent in this process's network namespace until SIGTERM or SIGINT.

    Belongs in the main thread: it handles those signals, and the rights of this process are gone
    afterwards. Returns the exit status: 0 after a signal, else that of the `AgentError`, which has
    been logged in one line and told on `event_fd`.
    """
    if not log.hasHandlers():
        label = config.name or f"testbed-agent {config.kind}"
        logging.basicConfig(level=_log_level(), format=f"{label}: %(message)s")
    events = Events(config.event_fd)
    try:
        with ExitStack() as stack:
            Agent(config, events, stack).run()
    except AgentError as error:
        log.error("%s", error)
        events.tell("failed", error=str(error), exit_status=error.exit_code)
        return error.exit_code
    finally:
        events.tell("stopped")
    return 0


def _log_level() -> int:
    """The level that the environment asks for, of an agent that has no command line."""
    name = os.environ.get(LOG_LEVEL_VARIABLE, "info")
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        log.warning("%s: there is no level %r; it is info", LOG_LEVEL_VARIABLE, name)
        return logging.INFO
    return level


class Events:
    """JSON lines about what happens, for whoever started the agent; never waits for the reader."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        if fd is not None:
            os.set_blocking(fd, False)

    def tell(self, event: str, **details: Any) -> None:
        """Write one line; lost if nobody reads."""
        if self._fd is not None:
            with suppress(OSError):
                os.write(self._fd, json.dumps({"event": event, **details}).encode() + b"\n")


class Agent:
    """Everything one agent holds; `stack` closes it, in reverse order of opening."""

    def __init__(self, config: AgentConfig, events: Events, stack: ExitStack) -> None:
        self._config = config
        self._events = events
        self._upstream: dict[str, Any] | None = None
        # Signals first: from here on SIGTERM means an orderly end.
        self._stopping = False
        self._driver: Driver | None = None
        wakeup = self._handle_signals(stack)

        # Whatever can be refused is asked for before anything is made.
        self._selected = self._select()
        wire = stack.enter_context(ports.open_wire(config.bind))
        tap = stack.enter_context(ports.open_tap(config, wire))
        self._stats_file = _open_stats_file(config)
        if self._stats_file is not None:
            stack.callback(self._stats_file.close)
        listener = None
        if config.control_path is not None:
            listener = stack.enter_context(open_listener(config.control_path))
            stack.callback(_unlink, config.control_path)
        self._served = None if config.metrics is None else self._serve(config.metrics, stack)

        self._node = _make_node(config, wire.mac, wire.frame_limit)
        sides = {Side.WIRE: self._open(wire, stack), Side.TAP: self._open(tap, stack)}
        self._driver = self._make_driver(sides[Side.WIRE].engine, sides[Side.TAP].engine)
        stack.callback(self._driver.close)
        if self._stopping:
            self._driver.stop()
        self._driver.watch(wakeup.fileno(), lambda: wakeup.recv(4096))
        # Everything that takes rights is open; what follows only reads and writes it.
        confined = confinement.give_up(config)
        self._stats = Stats(config, self._node, self._driver, sides, confined=confined)
        if listener is not None:
            control = Control(listener, self._answer)
            stack.callback(control.close)
            self._driver.watch(control.fileno(), control.serve)
        if self._served is not None:
            desk, _ = self._served
            self._driver.watch(desk.fileno(), desk.serve)
        self._ready = self._describe(tap.port.ifname)

    def run(self) -> None:
        """Say ready, work until told to stop, write the counters whatever ended it."""
        assert self._driver is not None
        sys.setswitchinterval(SWITCH_S)
        if self._served is not None:
            # Not before: a thread takes over the rights of its maker.
            self._served[1].start()
        self._events.tell("ready", **self._ready)
        try:
            self._driver.run()
        except OSError as error:
            raise AgentError(f"cannot go on: {error}") from error
        finally:
            if self._stats_file is not None:
                try:
                    self._stats_file.write(self._stats.document())
                except OSError as error:
                    log.error("cannot write %s: %s", self._config.stats_path, error.strerror)

    def _select(self) -> dict[Side, Selection]:
        """An engine for each side; whether frames are handled in batches goes by that of the wire,
        where it is not said."""
        config = self._config
        wire = select(Side.WIRE, config.wire_engine, batched=config.handler != "per-packet")
        self._batched = config.handler == "batched" or (
            config.handler == "auto" and wire.engine.batches
        )
        tap = select(Side.TAP, config.tap_engine, batched=self._batched)
        return {Side.WIRE: wire, Side.TAP: tap}

    def _open(self, opened: ports.WirePort | ports.TapPort, stack: ExitStack) -> SideSource:
        """The engine selected for the port's side; where the choice is free, the next one if that
        cannot be opened, which is the selected one then."""
        port = opened.port
        passed_over: dict[str, str] = {}
        while True:
            selection = self._selected[port.side]
            try:
                engine = selection.open(port, self._config.batch_limit if self._batched else 1)
            except (OSError, NotImplementedError) as error:
                why = (error.strerror if isinstance(error, OSError) else None) or str(error)
                if not selection.free:
                    raise LackingError(
                        f"{port.side} engine {selection.used} cannot be opened on "
                        f"{port.ifname}: {why}"
                    ) from error
                passed_over[selection.used] = f"not on {port.ifname}: {why}"
                self._selected[port.side] = select(
                    port.side,
                    selection.requested,
                    batched=self._batched,
                    passed_over=passed_over,
                )
                continue
            stack.callback(engine.close)
            return SideSource(
                engine=engine,
                selection=selection,
                kernel_drops=opened.kernel_drops,
                queues=opened.queues,
            )

    def _make_driver(self, wire: Engine, tap: Engine) -> Driver:
        config = self._config
        wasted_ns = slow_ns()
        if wasted_ns:
            log.warning("slowed by %d µs for each frame: %s", wasted_ns // 1000, SLOW_VARIABLE)
        return Driver(
            self._node,
            wire,
            tap,
            batched=self._batched,
            coalesce=config.coalescing,
            max_wait_us=config.max_wait_us,
            batch_sizes=_batch_sizes(config),
            wasted_ns=wasted_ns,
            changed=self._tell_upstream,
        )

    def _describe(self, tap: str) -> dict[str, Any]:
        """What is told once it is ready, and logged; `tap` is the name of its TAP."""
        config, mac = self._config, self._node.mac.hex(":")
        log.info(
            "%s on %s (%s), TAP %s, %s, wire %s, tap %s",
            config.kind,
            config.bind,
            mac,
            tap,
            "batched" if self._batched else "per packet",
            self._selected[Side.WIRE].used,
            self._selected[Side.TAP].used,
        )
        return {
            "name": config.name,
            "pid": os.getpid(),
            "mac": mac,
            "tap": tap,
            "handler": "batched" if self._batched else "per-packet",
            "engines": {
                str(side): {"requested": one.requested, "used": one.used, "why": one.why}
                for side, one in self._selected.items()
            },
        }

    def _serve(self, address: str, stack: ExitStack) -> tuple[serving.Desk, serving.MetricsServer]:
        # Now, while nobody waits for frames: it takes a while.
        metrics.load()
        listener = serving.open_listener(*metrics_address(address))
        desk = serving.Desk(lambda: self._stats.document())
        server = serving.MetricsServer(listener, desk, metrics.render)
        stack.callback(server.close)
        # First of the two, so that the server waits for nothing.
        stack.callback(desk.close)
        return desk, server

    def _handle_signals(self, stack: ExitStack) -> socket.socket:
        """Let SIGTERM and SIGINT end the loop; readable when one has come."""
        inside, outside = socket.socketpair()
        for one in (inside, outside):
            one.setblocking(False)
            stack.enter_context(one)
        before = signal.set_wakeup_fd(outside.fileno(), warn_on_full_buffer=False)
        stack.callback(signal.set_wakeup_fd, before)
        for number in STOP_SIGNALS:
            previous = signal.signal(number, self._on_signal)
            stack.callback(signal.signal, number, previous or signal.SIG_DFL)
        return inside

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        if self._driver is not None:
            self._driver.stop()

    def _tell_upstream(self) -> None:
        """Tell about the upstream if it has become another one."""
        current = self._node.upstream if isinstance(self._node, Obu) else None
        upstream = upstream_document(current)
        if upstream is not None:
            del upstream["score_us"]
        if upstream != self._upstream:
            self._upstream = upstream
            self._events.tell("upstream", **(upstream or {"mac": None, "rsu": None, "hops": None}))
            if upstream is None:
                log.info("no upstream")
            else:
                hops = "1 hop" if upstream["hops"] == 1 else f"{upstream['hops']} hops"
                log.info("upstream %s, %s to RSU %s", upstream["mac"], hops, upstream["rsu"])

    def _answer(self, request: Mapping[str, Any]) -> Mapping[str, Any] | Later:
        match request.get("cmd"):
            case "stats":
                return self._stats.document()
            case "metrics":
                document = self._stats.document()
                return Later(lambda: _metrics(document))
            case "hello" if isinstance(self._node, Rsu):
                assert self._driver is not None
                self._driver.send(self._node.heartbeat_now(time.monotonic_ns()))
                return {"ok": True}
            case "hello":
                return {"error": "only an RSU sends heartbeats of its own"}
        return {"error": 'unknown command (expected "stats", "metrics" or "hello")'}


def _make_node(config: AgentConfig, mac: bytes, max_frame_bytes: int) -> Obu | Rsu:
    if config.kind == "obu":
        return Obu(
            mac,
            hello_history=config.hello_history,
            cached_candidates=config.cached_candidates,
            max_frame_bytes=max_frame_bytes,
        )
    return Rsu(
        mac,
        boot_ns=time.monotonic_ns(),
        hello_periodicity_ms=config.hello_periodicity_ms or DEFAULT_HELLO_PERIODICITY_MS,
        hello_history=config.hello_history,
        group_copies=config.group_copies,
        max_frame_bytes=max_frame_bytes,
    )


def _metrics(document: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        kind, text = metrics.render(document)
    except AgentError as error:
        return {"error": str(error)}
    return {"content_type": kind, "text": text.decode()}


def _batch_sizes(config: AgentConfig) -> tuple[int, int, int] | None:
    """Least, first and greatest size of batches that follow the load."""
    if config.adaptive_batch is None:
        return None
    low, high = config.adaptive_batch
    return low, config.batch, high


def _open_stats_file(config: AgentConfig) -> StatsFile | None:
    if config.stats_path is None:
        return None
    try:
        return StatsFile(config.stats_path, run_as=config.run_as)
    except OSError as error:
        raise ConfigError(f"stats file {config.stats_path}: {error.strerror}") from error


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        # Another user's directory: the next agent there replaces it.
        if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM):
            log.warning("cannot remove %s: %s", path, error.strerror)
