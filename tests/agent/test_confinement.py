"""What an agent can no longer do once it has begun to work."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from errno import EACCES, EPERM
from pathlib import Path

import pytest

from agent.linux import landlock
from agent.linux.landlock import READ, REPLACE, Access, Confinement

SCRIPT = """
import ctypes, os, signal, socket, sys
from agent.linux import rights
from agent.linux.landlock import READ, REPLACE, Confinement
place, there, port, other = sys.argv[1:]
before = open(there)
held = os.open(place, os.O_RDONLY)
listening = socket.create_server(("127.0.0.1", 0))
with Confinement({place: REPLACE, "/proc": READ}) as confinement:
    rights.drop_all()
    confinement.enter()

def tried(what, action):
    try:
        action()
        print(what, "done")
    except OSError as error:
        print(what, error.errno)

def replaced():
    fd = os.open("new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=held)
    os.write(fd, b"x")
    os.close(fd)
    os.rename("new", "old", src_dir_fd=held, dst_dir_fd=held)

tried("read-open", before.read)
tried("proc", lambda: open("/proc/thread-self/net/dev").read())
tried("replace", replaced)
tried("read", lambda: open(there))
tried("write", lambda: open(there, "w"))
tried("list", lambda: os.listdir("/"))
tried("make", lambda: open(there + "2", "w"))
tried("link", lambda: os.symlink(there, place + "/link"))
tried("socket", lambda: socket.socket(socket.AF_UNIX).bind(place + "/sock"))
tried("run", lambda: os.execv("/bin/true", ["true"]))
tried("connect", lambda: socket.create_connection(("127.0.0.1", int(port))))
tried("bind", lambda: socket.create_server(("127.0.0.1", 0)))
tried("accept", lambda: socket.socket.settimeout(listening, 0.0))
tried("signal", lambda: os.kill(int(other), 0))
tried("own signal", lambda: os.kill(os.getpid(), 0))
"""


@pytest.mark.usefixtures("root")
def test_what_is_confined_reaches_only_what_was_allowed(tmp_path: Path) -> None:
    """As root without capabilities: whose files, and whose processes, these all are."""
    version = landlock.version()
    if not version:
        pytest.skip("this kernel has no Landlock")
    place, there = tmp_path / "place", tmp_path / "there"
    place.mkdir()
    there.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        told = subprocess.run(
            [
                *(sys.executable, "-c", SCRIPT),
                *(str(place), str(there), str(server.getsockname()[1]), str(os.getpid())),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    assert told.returncode == 0, told.stderr
    said = dict(line.rsplit(" ", 1) for line in told.stdout.splitlines())
    allowed = {"read-open", "proc", "replace", "accept", "own signal"}
    if version < 4:
        allowed |= {"connect", "bind"}
    if version < 6:
        allowed |= {"signal"}
    assert {what for what, how in said.items() if how == "done"} == allowed
    refused = {what: int(how) for what, how in said.items() if how != "done"}
    assert refused.pop("signal", EPERM) == EPERM
    assert set(refused.values()) == {EACCES}
    assert refused.keys() >= {"read", "write", "list", "make", "link", "socket", "run"}
    assert (place / "old").read_text() == "x"
    assert there.read_text() == "secret"


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        Confinement({str(tmp_path / "none"): READ})
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_kernel_without_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    with pytest.raises(OSError, match="no Landlock"):
        Confinement({})


@pytest.mark.parametrize("older", [1, 2, 3, 4, 5, 6])
def test_an_older_kernel_is_asked_only_for_what_it_knows(
    monkeypatch: pytest.MonkeyPatch, older: int, tmp_path: Path
) -> None:
    """The kernel takes no bit that its version does not know, nor a rule for an unhandled one."""
    monkeypatch.setattr(landlock, "version", lambda: older)
    with Confinement({str(tmp_path): REPLACE | Access.EXECUTE}) as confinement:
        assert confinement.version == older
