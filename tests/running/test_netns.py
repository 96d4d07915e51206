"""Namespaces of our own, beside those of `ip netns`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.kernel import netns
from testbed.kernel.netlink import Kernel
from testbed.kernel.operations import MakeNamespace

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def name(testbed_name: str) -> Iterator[str]:
    yield f"tb.{testbed_name}.n"
    netns.tidy_directory()


def create(name: str) -> int:
    with netns.directory():
        return netns.create(name, prepare=lambda: None, record=lambda inode: None)


def test_ip_netns_shows_enters_and_lists_processes(name: str) -> None:
    inode = create(name)
    try:
        assert name in subprocess.check_output(["ip", "netns"], text=True).split()
        link = ["ip", "netns", "exec", name, "readlink", "/proc/self/ns/net"]
        assert subprocess.check_output(link, text=True) == f"net:[{inode}]\n"
        assert netns.inode_of(name) == inode
    finally:
        assert netns.remove(name, inode)
    assert name not in subprocess.check_output(["ip", "netns"], text=True).split()
    assert netns.inode_of(name) is None
    assert not netns.remove(name, inode)


def test_the_caller_stays_where_it_is(name: str) -> None:
    before = os.stat("/proc/thread-self/ns/net").st_ino
    inode = create(name)
    try:
        inside = netns.run_in(name, lambda: os.stat("/proc/thread-self/ns/net").st_ino)
        assert (inside, os.stat("/proc/thread-self/ns/net").st_ino) == (inode, before)
    finally:
        netns.remove(name, inode)


def test_a_socket_made_inside_stays_inside(name: str) -> None:
    inode = create(name)
    try:
        sock = netns.run_in(name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with sock, pytest.raises(OSError, match="Network is unreachable"):
            sock.connect(("127.0.0.1", 9))  # its loopback is down
    finally:
        netns.remove(name, inode)


def test_errors_come_back_from_inside(name: str) -> None:
    def fail() -> None:
        raise ZeroDivisionError("inside")

    inode = create(name)
    try:
        with pytest.raises(ZeroDivisionError, match="inside"):
            netns.run_in(name, fail)
    finally:
        netns.remove(name, inode)
    with pytest.raises(FileNotFoundError):
        netns.run_in(name, lambda: None)


def test_it_is_recorded_before_it_can_be_seen(name: str) -> None:
    seen: list[tuple[int, bool]] = []
    with netns.directory():
        inode = netns.create(
            name,
            prepare=lambda: None,
            record=lambda inode: seen.append((inode, netns.namespace_path(name).exists())),
        )
    netns.remove(name, inode)
    assert seen == [(inode, False)]


def test_one_of_somebody_else_is_neither_taken_nor_removed(name: str) -> None:
    subprocess.check_call(["ip", "netns", "add", name])
    try:
        recorded: list[int] = []
        with netns.directory(), pytest.raises(netns.ForeignNamespace):
            netns.create(name, prepare=lambda: None, record=recorded.append)
        assert recorded == []
        with pytest.raises(netns.ForeignNamespace):
            netns.remove(name, 1)
        assert name in netns.names()
    finally:
        subprocess.check_call(["ip", "netns", "del", name])


def test_the_empty_file_that_a_crash_leaves_is_removed(name: str) -> None:
    path = netns.namespace_path(name)
    with netns.directory():
        path.touch()
    assert netns.inode_of(name) == 0
    assert netns.remove(name, 4711)
    path.write_text("no longer empty")
    with pytest.raises(netns.ForeignNamespace):
        netns.remove(name, 4711)
    path.unlink()


def test_it_is_up_quiet_and_marked(name: str) -> None:
    with netns.directory(), Kernel() as kernel:
        inode = kernel.make_namespace(
            MakeNamespace(key="netns/n", netns=name), mark="the mark", record=lambda inode: None
        )
        try:
            assert kernel.read_mark(name) == "the mark"
            flags = netns.run_in(name, lambda: _flags("lo"))
            assert flags & 1
            options = netns.run_in(
                name,
                lambda: {
                    option: Path(f"/proc/sys/net/ipv6/conf/default/{option}").read_text().strip()
                    for option in ("accept_ra", "autoconf", "addr_gen_mode", "accept_dad")
                },
            )
            assert options == {
                "accept_ra": "0",
                "autoconf": "0",
                "addr_gen_mode": "1",
                "accept_dad": "0",
            }
        finally:
            netns.remove(name, inode)
        assert kernel.read_mark(name) is None


def _flags(interface: str) -> int:
    from agent.linux import netif

    return netif.flags(interface)


WORLD = """
import os, pathlib, subprocess
from testbed.kernel import netns
subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", "/run"])
def mounts():
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return sum(line.split()[4].startswith("/run/netns") for line in lines)
hidden = mounts()  # those of the /run that lies under ours
def world():
    return sorted(os.listdir("/run")), mounts() - hidden
def create(name):
    return netns.create(name, prepare=lambda: None, record=lambda inode: None)
"""


@pytest.mark.parametrize(
    ("story", "ends"),
    [
        pytest.param(
            """
assert world() == ([], 0)
with netns.directory():
    inode = create("x")
    netns.tidy_directory()
assert world() == (["netns", "netns.testbed"], 2)
netns.tidy_directory()
assert world() == (["netns", "netns.testbed"], 2)
netns.remove("x", inode)
netns.tidy_directory()
""",
            ([], 0),
            id="what we made goes, once it is empty",
        ),
        pytest.param(
            """
subprocess.check_call(["ip", "netns", "add", "theirs"])
with netns.directory():
    inode = create("x")
netns.remove("x", inode)
netns.tidy_directory()
""",
            (["netns"], 2),
            id="what others made stays",
        ),
        pytest.param(
            """
os.mkdir("/run/netns")
with netns.directory():
    pass
assert world() == (["netns", "netns.testbed"], 1)
netns.tidy_directory()
""",
            (["netns"], 0),
            id="a directory that was there stays, our mount goes",
        ),
        pytest.param(
            """
with netns.directory():
    inode = create("x")
subprocess.check_call(["ip", "netns", "add", "theirs"])
netns.remove("x", inode)
netns.tidy_directory()
assert world() == (["netns", "netns.testbed"], 2)
subprocess.check_call(["ip", "netns", "del", "theirs"])
netns.tidy_directory()
""",
            ([], 0),
            id="others may use what we made",
        ),
        pytest.param(
            """
with netns.directory():
    pid = os.fork()
    if pid == 0:
        netns.tidy_directory()
        os._exit(0)
    os.waitpid(pid, 0)
    inode = create("x")
netns.remove("x", inode)
netns.tidy_directory()
""",
            ([], 0),
            id="nobody tidies while a testbed comes up",
        ),
    ],
)
def test_the_directory_of_namespaces(story: str, ends: tuple[list[str], int]) -> None:
    unshare = shutil.which("unshare")
    assert unshare is not None
    script = f"{WORLD}\n{story}\nassert world() == {ends!r}, world()\n"
    done = subprocess.run(
        [unshare, "--mount", "--propagation", "private", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
