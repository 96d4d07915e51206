"""Asks running agents over their control sockets, all at once.

Must not know what the answers mean. A request is one JSON line, its answer one JSON line.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import time
from collections.abc import Collection, Mapping
from typing import Any

from testbed.rundir import RunDir


def ask(
    run: RunDir, names: Collection[str], request: Mapping[str, Any], *, timeout_s: float = 1.0
) -> dict[str, dict[str, Any] | None]:
    """The answer of every node in `names`; None where none came in time."""
    answers: dict[str, dict[str, Any] | None] = dict.fromkeys(names)
    line = json.dumps(request).encode() + b"\n"
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        received: dict[str, bytearray] = {}
        try:
            for name in names:
                sock = _connect(run, name)
                if sock is None:
                    continue
                received[name] = bytearray()
                selector.register(sock, selectors.EVENT_READ, name)
                try:
                    sock.sendall(line)
                except OSError:
                    selector.unregister(sock)
                    sock.close()
            while selector.get_map():
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0:
                    break
                for key, _ in selector.select(remaining_s):
                    answering = key.fileobj
                    assert isinstance(answering, socket.socket)
                    if _receive(answering, received[key.data]):
                        selector.unregister(answering)
                        answering.close()
        finally:
            for key in list(selector.get_map().values()):
                if isinstance(key.fileobj, socket.socket):
                    key.fileobj.close()
    for name, data in received.items():
        try:
            answer = json.loads(data)
        except ValueError:
            continue
        if isinstance(answer, dict):
            answers[name] = answer
    return answers


def _connect(run: RunDir, name: str) -> socket.socket | None:
    path = run.control_socket(name)
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    sock = socket.socket(
        socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    )
    try:
        # By way of the directory: the path itself may be longer than an address can hold.
        sock.connect(f"/proc/self/fd/{directory}/{path.name}")
    except OSError:
        sock.close()
        return None
    finally:
        os.close(directory)
    return sock


def _receive(sock: socket.socket, received: bytearray) -> bool:
    """Take what is there; whether the line is complete, or nothing will come any more."""
    try:
        data = sock.recv(1 << 18)
    except BlockingIOError:
        return False
    except OSError:
        return True
    received += data
    return not data or b"\n" in data
