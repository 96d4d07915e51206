"""Runs commands where something has run out, and says how they end and what they leave.

Run it as `unshare --mount --net --pid --kill-child --mount-proc --propagation private python
starved.py WHAT LIMIT…`, in a world of its own as `chaos` is. For each limit it prints one JSON
object on a line: the exit code, what the command said, and what is not as it was before.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from chaos import RUN, SCENARIO, differences, world

TESTBED = (sys.executable, "-m", "testbed")
OUTPUT = Path("/mnt/output")
TOPOLOGY = """\
name: starved
topology:
  nodes: {rsu: {kind: rsu}, a: {kind: obu}, b: {kind: obu}}
  links: [[rsu, a], [a, b]]
"""
NODES_AND_MEDIUM = 4
# A namespace that was left is taken apart by the kernel later, and counts until then.
_HOLD_ONE = """
import ctypes, errno, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
while libc.unshare(0x40000000) != 0:
    if ctypes.get_errno() != errno.ENOSPC:
        sys.exit(os.strerror(ctypes.get_errno()))
    time.sleep(0.01)
print("held", flush=True)
signal.pause()
"""
_NEW_USER_MOUNT_NET = 0x10000000 | 0x00020000 | 0x40000000


@contextmanager
def disk(place: Path, options: str) -> Iterator[None]:
    """A small disk at `place`, for as long as the body runs."""
    there = place.exists()
    place.mkdir(mode=0o700, exist_ok=True)
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)])
    try:
        yield
    finally:
        subprocess.check_call(["umount", str(place)])
        if not there:
            place.rmdir()


@contextmanager
def namespaces(free: int) -> Iterator[None]:
    """Room for `free` network namespaces; in a user namespace that counts its own."""
    held = [
        subprocess.Popen([sys.executable, "-S", "-c", _HOLD_ONE], stdout=subprocess.PIPE)
        for _ in range(NODES_AND_MEDIUM - free)
    ]
    try:
        for one in held:
            assert one.stdout is not None
            if one.stdout.readline() != b"held\n":
                raise RuntimeError("no namespace could be held")
        # Of what is held we have one ourselves, from `unshare`.
        Path("/proc/sys/user/max_net_namespaces").write_text(str(NODES_AND_MEDIUM + 1))
        yield
    finally:
        for one in held:
            one.kill()
            one.communicate()


def own_user_namespace() -> None:
    """Be root of a user namespace with network and mounts of its own, whose limits are its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    there, gone = os.pipe()
    mapper = os.fork()
    if mapper == 0:  # stays outside, and so may map every user
        os.close(gone)
        os.read(there, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{os.getppid()}/{name}").write_text("0 0 65536")
        os._exit(0)
    if libc.unshare(_NEW_USER_MOUNT_NET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    os.close(gone)
    if os.waitpid(mapper, 0)[1] != 0:
        raise RuntimeError("no user could be mapped")


def command(what: str, limit: int, stack: ExitStack) -> subprocess.CompletedProcess[str]:
    """The command that meets the limit."""
    arguments = ["up", str(RUN / "topology.yaml")]
    limits: Callable[[], None] | None = None
    match what:
        case "blocks":
            stack.enter_context(disk(RUN / "testbed", f"size={limit}k"))
        case "inodes":
            stack.enter_context(disk(RUN / "testbed", f"nr_inodes={limit}"))
        case "read-only":
            stack.enter_context(disk(RUN / "testbed", "ro"))
        case "output":
            arguments = ["run", str(RUN / "scenario.yaml"), "--output", str(OUTPUT)]
            stack.enter_context(disk(OUTPUT, f"size={limit}k"))
        case "namespaces":
            stack.enter_context(namespaces(limit))
        case "descriptors" | "memory":
            which = resource.RLIMIT_NOFILE if what == "descriptors" else resource.RLIMIT_AS
            most = 4096 if what == "descriptors" else limit << 20
            number = limit if what == "descriptors" else limit << 20
            limits = lambda: resource.setrlimit(which, (number, most))  # noqa: E731
        case "all descriptors":
            limits = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # noqa: E731
    return subprocess.run(
        (*TESTBED, *arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        preexec_fn=limits,
    )


def main(what: str, *numbers: str) -> None:
    if what == "namespaces":
        own_user_namespace()
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", str(RUN)])
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", "/mnt"])
    os.environ.pop("TESTBED_RUN_DIR", None)
    (RUN / "topology.yaml").write_text(TOPOLOGY)
    (RUN / "scenario.yaml").write_text(SCENARIO)
    before = world()
    for number in numbers:
        with ExitStack() as stack:
            done = command(what, int(number), stack)
            if done.returncode == 0:
                subprocess.run((*TESTBED, "down", "--all"), capture_output=True, check=True)
            left = (
                []
                if what == "output"
                else sorted(os.listdir(RUN / "testbed"))
                if (RUN / "testbed").exists()
                else []
            )
        told = {
            "limit": int(number),
            "exit": done.returncode,
            "said": done.stderr.splitlines(),
            "left": [*left, *differences(before, world)],
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
