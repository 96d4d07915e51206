"""Named network namespaces: made fast, entered by a thread, removed only when they are ours.

A namespace is a file in /run/netns with the namespace mounted on it, exactly as ip-netns(8) does
it, so that `ip netns` shows and enters it. Must not know topologies, links or journals.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from testbed.errors import Lacking, TestbedError

NETNS_DIR: Final = Path("/run/netns")
MADE_NOTE: Final = Path("/run/netns.testbed")
"""Says what of /run/netns we made (the directory, the mount), as long as it is ours to undo."""

MEDIUM_NODE: Final = "_medium"
"""Stands where a node's name stands; no node can be called so."""

_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_SHARED: Final = 1 << 20
_MNT_DETACH: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


class ForeignNamespace(TestbedError):
    """A namespace of that name is there, and somebody else made it."""


def namespace_name(testbed: str, node: str) -> str:
    """The name under which `ip netns` shows the namespace of `node`."""
    return f"tb.{testbed}.{node}"


def namespace_path(name: str) -> Path:
    """The file on which the namespace is mounted."""
    return NETNS_DIR / name


def _call(function: str, *arguments: object) -> None:
    if getattr(_libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def _mount(source: str, target: Path, flags: int) -> None:
    _call("mount", source.encode(), os.fsencode(target), b"none", ctypes.c_ulong(flags), None)


def _unmount(target: Path) -> None:
    _call("umount2", os.fsencode(target), _MNT_DETACH)


def in_thread(function: Callable[[], T]) -> T:
    """`function()` in a thread of its own, so that what it does to its namespaces ends with it."""
    value: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            value.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="namespace")
    try:
        thread.start()
    except RuntimeError as error:
        raise Lacking(
            f"no further thread ({error})", "free some memory, or raise `ulimit -v` and pids.max"
        ) from None
    thread.join()
    if failure:
        try:
            raise failure[0]
        finally:
            failure.clear()  # an exception that holds its own frame would be a cycle
    return value[0]


def enter(name: str) -> None:
    """Move the calling thread into the namespace, for good. FileNotFoundError without one."""
    descriptor = os.open(namespace_path(name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("setns", descriptor, _CLONE_NEWNET)
    finally:
        os.close(descriptor)


def run_in(name: str, function: Callable[[], T]) -> T:
    """`function()` inside the namespace; sockets that it makes stay there (setns(2)).

    Runs in a thread of its own: the caller's namespace does not change.
    """

    def body() -> T:
        enter(name)
        return function()

    return in_thread(body)


@contextmanager
def _locked(operation: int) -> Iterator[None]:
    """Hold the lock of the directory that `ip netns add` takes too, for as long as the body runs.

    :raises FileNotFoundError: the directory is not there, or was removed while we waited.
    """
    descriptor = os.open(NETNS_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, operation)
        if not os.path.samestat(os.fstat(descriptor), os.stat(NETNS_DIR)):
            raise FileNotFoundError(NETNS_DIR)
        yield
    finally:
        os.close(descriptor)


def _write_note(note: dict[str, bool]) -> None:
    # Its name tells who writes it, so that one whose writer was killed can be found.
    draft = MADE_NOTE.with_name(f"{MADE_NOTE.name}.{os.getpid()}")
    draft.write_text(json.dumps(note))
    draft.rename(MADE_NOTE)


def _remove_drafts() -> None:
    for draft in MADE_NOTE.parent.glob(f"{MADE_NOTE.name}.*"):
        if not Path("/proc", draft.suffix.removeprefix(".")).is_dir():
            draft.unlink(missing_ok=True)


def _read_note() -> dict[str, bool] | None:
    try:
        return dict(json.loads(MADE_NOTE.read_text()))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}


def _set_up() -> None:
    if not NETNS_DIR.exists():
        _write_note({"directory": True, "mount": True})
        NETNS_DIR.mkdir(mode=0o755, exist_ok=True)
    with _locked(fcntl.LOCK_EX):
        try:
            _mount("", NETNS_DIR, _MS_SHARED | _MS_REC)
        except OSError:  # EINVAL: not a mount point yet
            _write_note({**(_read_note() or {"directory": False}), "mount": True})
            _mount(str(NETNS_DIR), NETNS_DIR, _MS_BIND | _MS_REC)
            _mount("", NETNS_DIR, _MS_SHARED | _MS_REC)


@contextmanager
def directory() -> Iterator[None]:
    """Make /run/netns ready as `ip netns add` does (there, and a shared mount), and keep it so.

    What was missing is noted in `MADE_NOTE` before it is made, and `tidy_directory` undoes it; it
    does nothing while a body of this runs, in whatever process.
    """
    with ExitStack() as stack:
        while True:
            try:
                _set_up()
                stack.enter_context(_locked(fcntl.LOCK_SH))
            except FileNotFoundError:  # tidied away by another testbed between the two
                continue
            break
        yield


def tidy_directory() -> None:
    """Undo what `directory` made, if that was us and no namespace is left or being made there."""
    _remove_drafts()
    note = _read_note()
    if note is None:
        return
    try:
        with _locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
            if any(NETNS_DIR.iterdir()):
                return
            if note.get("mount"):
                with suppress(OSError):
                    _unmount(NETNS_DIR)
            if note.get("directory"):
                with suppress(OSError):  # somebody put something in meanwhile: theirs now
                    NETNS_DIR.rmdir()
            MADE_NOTE.unlink(missing_ok=True)
    except BlockingIOError:
        return  # a testbed is coming up: its own removal will tidy
    except FileNotFoundError:
        MADE_NOTE.unlink(missing_ok=True)


def create(name: str, *, prepare: Callable[[], None], record: Callable[[int], None]) -> int:
    """Make a namespace and give it `name`; its inode, which tells it from any other, returns.

    `prepare()` runs inside, before the name is there. `record(inode)` is called before anything
    can be seen, so that whoever cleans up after a crash knows exactly what to remove.

    :raises ForeignNamespace: the name is taken.
    :raises Lacking: no right to make namespaces, or none left.
    """

    def body() -> int:
        try:
            _call("unshare", _CLONE_NEWNET)
        except PermissionError:
            raise Lacking(
                "no right to make network namespaces", "CAP_SYS_ADMIN is needed"
            ) from None
        except OSError as error:
            raise Lacking(
                f"no further network namespace: {error.strerror}",
                "see /proc/sys/user/max_net_namespaces and the free memory",
            ) from error
        inode = os.stat("/proc/thread-self/ns/net").st_ino
        prepare()
        path = namespace_path(name)
        if path.exists():
            raise ForeignNamespace(
                f"{path} is there already, and this testbed did not make it; if it is left of an "
                "earlier one, `testbed down --all` removes it"
            )
        record(inode)
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        except FileExistsError:
            raise ForeignNamespace(f"{path} was made by somebody else just now") from None
        _mount("/proc/thread-self/ns/net", path, _MS_BIND)
        return inode

    return in_thread(body)


def inode_of(name: str) -> int | None:
    """The inode of the namespace with that name; 0: only its empty file is there; None: nothing."""
    try:
        status = os.stat(namespace_path(name))
    except FileNotFoundError:
        return None
    # Every namespace lives on the one nsfs of the machine (namespaces(7)).
    return status.st_ino if status.st_dev == os.stat("/proc/self/ns/net").st_dev else 0


def remove(name: str, inode: int) -> bool:
    """Take the name of our namespace `inode` away; False if there was none.

    The namespace itself ends when the last process or socket in it does.

    :raises ForeignNamespace: another namespace carries that name, or the file is not ours.
    """
    found = inode_of(name)
    path = namespace_path(name)
    if found is None:
        return False
    if found == inode:
        _unmount(path)
    elif found != 0 or path.stat().st_size != 0:
        raise ForeignNamespace(f"{path} is not what this testbed made; it stays")
    path.unlink()
    return True


def names() -> list[str]:
    """The names of all namespaces, ours and others', sorted."""
    try:
        return sorted(os.listdir(NETNS_DIR))
    except FileNotFoundError:
        return []
