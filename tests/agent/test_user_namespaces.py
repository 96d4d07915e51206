"""A process without rights that cannot have them back in a user namespace of its own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from agent_net import Net

from agent import confinement
from agent.confinement import REFUSED
from agent.linux import landlock, mounttree

pytestmark = pytest.mark.usefixtures("root")

NOBODY = 65534

CONFINED = """
import ctypes, os, struct, sys
from agent.linux import landlock, mounttree, rights

tree, with_landlock = sys.argv[1] == "tree", sys.argv[2] == "landlock"
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
USER, MOUNTS, NET, PIDS = 0x10000000, 0x00020000, 0x40000000, 0x20000000
user = os.open("/proc/self/ns/user", os.O_RDONLY)
mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY)
outside = os.open("/", os.O_RDONLY)
here = os.getcwd()

if tree:
    made = mounttree.copy()
    mounttree.enter(made)
    os.close(made)
held = landlock.Confinement({"/proc": landlock.READ}) if with_landlock else None
rights.drop_all((65534, 65534))
if held is not None:
    held.enter()

def call(*arguments):
    given = (one if isinstance(one, bytes) else ctypes.c_long(one) for one in arguments)
    done = libc.syscall(*given)
    if done == 0 and arguments[0] in (CLONE, CLONE3):
        os._exit(0)
    if done < 0:
        raise OSError(ctypes.get_errno(), "")

def unshare(flags):
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "")

SIGCHLD = 17
CLONE, CLONE3, SETNS, MOUNT, PIVOT_ROOT, OPEN_TREE, FSOPEN = (
    {"x86_64": (56, 435, 308, 165, 155, 428, 430), "aarch64": (220, 435, 268, 40, 41, 428, 430)}
    [os.uname().machine]
)
clone3_arguments = struct.pack("=8Q", USER, 0, 0, 0, SIGCHLD, 0, 0, 0)

def escape():
    os.fchdir(outside)
    os.chroot(".")

attempts = {
    "unshare": lambda: unshare(USER),
    "unshare with mounts": lambda: unshare(USER | MOUNTS),
    "unshare with all": lambda: unshare(USER | MOUNTS | NET | PIDS),
    "clone": lambda: call(CLONE, USER | SIGCHLD, 0, 0, 0, 0),
    "clone3": lambda: call(CLONE3, clone3_arguments, len(clone3_arguments)),
    "after a look outside": lambda: (os.fchdir(outside), unshare(USER)),
    "mounts": lambda: unshare(MOUNTS),
    "setns": lambda: call(SETNS, mounts, MOUNTS),
    "mount": lambda: call(MOUNT, b"/", b"/tmp", b"", 4096, 0),
    "pivot_root": lambda: call(PIVOT_ROOT, b"/", b"/tmp"),
    "open_tree": lambda: call(OPEN_TREE, -100, b"/", 1),
    "fsopen": lambda: call(FSOPEN, b"tmpfs", 0),
    "chroot": lambda: os.chroot("/"),
    "chroot outside": escape,
}

def attempted(what):
    # In a process forked in the confined state: one that succeeds must not help the next.
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            attempts[what]()
            told = "done"
        except OSError as error:
            told = str(error.errno)
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    told = os.read(reader, 99).decode()
    os.waitpid(child, 0)
    return told

for what in attempts:
    print(what, attempted(what), sep="\\t")
if os.path.exists("/proc/self/fd"):
    print("proc", "done", sep="\\t")
print("cwd", os.readlink("/proc/self/cwd") == here, sep="\\t")
"""

OF_USER = {"unshare", "unshare with mounts", "unshare with all", "clone", "clone3"} | {
    "after a look outside"
}


def attempts(directory: Path, *, tree: bool, with_landlock: bool) -> dict[str, str]:
    told = subprocess.run(
        [
            *(sys.executable, "-c", CONFINED),
            *("tree" if tree else "", "landlock" if with_landlock else ""),
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return dict(line.split("\t") for line in told.stdout.splitlines())


@pytest.mark.parametrize("with_landlock", [False, True], ids=["alone", "with Landlock"])
def test_no_call_makes_a_user_namespace_or_leads_back(tmp_path: Path, with_landlock: bool) -> None:
    if with_landlock and not landlock.version():
        pytest.skip("this kernel has no Landlock")
    said = attempts(tmp_path, tree=True, with_landlock=with_landlock)
    assert said.pop("proc") == "done"
    assert said.pop("cwd") == "True"
    assert len(said) >= 14
    assert set(said.values()) == {str(errno.EPERM)}, said


def test_without_it_giving_up_rights_alone_does_not_prevent_one(tmp_path: Path) -> None:
    """What the whole is for: it would be of no use where this fails."""
    said = attempts(tmp_path, tree=False, with_landlock=False)
    if said["unshare"] != "done":
        pytest.skip("this machine lets nobody make user namespaces")
    assert {what for what, how in said.items() if how == "done"} >= OF_USER


def test_paths_lead_where_they_did_and_nothing_is_mounted_anywhere(tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text().count("\n")
    script = """
import os
from agent.linux import mounttree
paths = ("/", "/proc", "/dev/null", "/sys", "/tmp", "/run", ".", "..", os.getcwd())
seen = [(os.stat(path).st_dev, os.stat(path).st_ino) for path in paths]
tree = mounttree.copy()
mounttree.enter(tree)
os.close(tree)
assert seen == [(os.stat(path).st_dev, os.stat(path).st_ino) for path in paths]
assert open("/proc/self/mountinfo").read() == ""
open("made", "w").write("here")
os.mkfifo("other")
os.rename("made", "renamed")
os.unlink("other")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "renamed").read_text() == "here"
    assert Path("/proc/self/mountinfo").read_text().count("\n") == before


def test_threads_that_are_there_already_are_held_too() -> None:
    script = """
import ctypes, os, threading
from agent.linux import mounttree
go, roots = threading.Event(), []
def look():
    go.wait()
    fd = os.open("/", os.O_PATH)
    roots.append(open(f"/proc/self/fdinfo/{fd}").read())
thread = threading.Thread(target=look)
thread.start()
mounttree.enter(mounttree.copy())
go.set()
thread.join()
look()
assert roots[0] == roots[1], roots
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert done.returncode == 0, done.stderr


WITHOUT = """
import ctypes, os, sys
from agent.linux import mounttree, rights
capability = int(sys.argv[1])
tree = mounttree.copy()
libc = ctypes.CDLL(None, use_errno=True)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
data = (ctypes.c_uint32 * 6)()
assert libc.capget(header, data) == 0
data[0] &= ~(1 << capability)
assert libc.capset(header, data) == 0
before = os.getcwd(), os.stat("/proc/self/cwd").st_ino
try:
    mounttree.enter(tree) if capability == 18 else mounttree.copy()
except OSError as error:
    print(error.errno, error.strerror)
assert (os.getcwd(), os.stat("/proc/self/cwd").st_ino) == before
assert open("/proc/self/mountinfo").read()
"""


@pytest.mark.parametrize(("capability", "name"), [(18, "CAP_SYS_CHROOT"), (21, "CAP_SYS_ADMIN")])
def test_who_lacks_a_right_for_it_is_told_which_and_stays_where_it_was(
    tmp_path: Path, capability: int, name: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(capability)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{errno.EPERM} no {name}\n"


def test_a_working_directory_without_a_name_is_an_error(tmp_path: Path) -> None:
    script = """
import os
from agent.linux import mounttree
os.mkdir("gone")
os.chdir("gone")
os.rmdir("../gone")
try:
    mounttree.enter(mounttree.copy())
except FileNotFoundError:
    assert open("/proc/self/mountinfo").read()
else:
    raise SystemExit("entered")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_that_it_could_not_be_done_is_logged_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none() -> int:
        raise OSError(errno.ENOSYS, "no open_tree (Linux 5.2)")

    monkeypatch.setattr(mounttree, "copy", none)
    with caplog.at_level("INFO", logger="agent"):
        said = confinement._refuse_user_namespaces(None)
    assert said == "possible: no open_tree (Linux 5.2)"
    assert caplog.messages == ["user namespaces can be made from it: no open_tree (Linux 5.2)"]


def test_an_agent_by_hand_is_held_like_those_of_a_testbed(net: Net) -> None:
    agent = net.agent(net.pair()[0], "obu", "--user", str(NOBODY))
    told = agent.stats()
    assert told["user_namespaces"] == REFUSED
    assert Path(f"/proc/{agent.pid}/mountinfo").read_text() == ""
    directory = os.readlink(f"/proc/{agent.pid}/cwd")
    assert directory == os.getcwd()
    assert agent.stop() == 0
    assert '"user_namespaces": "refused"' in agent.stats_file.read_text()
