"""The end of an agent's start: all rights are given up, and all that is reached by them, for good.

First what takes rights: a root from which no user namespace can be made. Then the rights
themselves, and last what is reached by none: files, ports, other processes. After it the process
can read and write what it has open, load more of its own program, look at /proc, and put its
counters into their file. Must not know what is open, nor by which engines.
"""

from __future__ import annotations

import logging
import os
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from agent.config import AgentConfig
from agent.errors import AgentError
from agent.linux import landlock, mounttree, rights
from agent.linux.landlock import Access, Confinement

log = logging.getLogger("agent")

_LIBRARIES: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")


REFUSED: Final = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class Confined:
    """What holds the process from now on, beside its having no rights.

    `landlock` is the version of it, None where there is none. `user_namespaces` is "refused", or
    "possible: " and why.
    """

    landlock: int | None
    user_namespaces: str


def give_up(config: AgentConfig) -> Confined:
    """Give up rights, become `config.run_as`, and enter the confinement.

    Acts on the calling thread, and on those that it makes afterwards. What this kernel, or who has
    too few rights to begin with, cannot have is logged: the rest then holds alone.

    :raises AgentError: a step was refused, or rights were left.
    """
    with ExitStack() as stack:
        # Opened while there are rights.
        confinement = _landlock(config)
        if confinement is not None:
            stack.callback(confinement.close)
        user_namespaces = _refuse_user_namespaces(config.root_fd)
        try:
            left = rights.drop_all(config.run_as)
        except OSError as error:
            raise AgentError(f"cannot let go of rights: {error.strerror}") from error
        if confinement is not None:
            try:
                confinement.enter()
            except OSError as error:
                raise AgentError(f"cannot confine itself: {error.strerror}") from error
    log.debug("rights dropped: %s", left)
    return Confined(
        landlock=None if confinement is None else confinement.version,
        user_namespaces=user_namespaces,
    )


def _refuse_user_namespaces(tree: int | None) -> str:
    """Take the tree of mounts for a root, or one of our own; what `Confined` says of it."""
    try:
        if tree is None:
            tree = mounttree.copy()
        try:
            mounttree.enter(tree)
        finally:
            os.close(tree)
    except OSError as error:
        log.info("user namespaces can be made from it: %s", error.strerror)
        return f"possible: {error.strerror}"
    return REFUSED


def _landlock(config: AgentConfig) -> Confinement | None:
    allowed = dict.fromkeys(("/proc", *_program()), landlock.READ)
    for path, access in (
        (config.stats_path, landlock.REPLACE),
        (config.control_path, Access.REMOVE_FILE),
    ):
        if path is not None:
            directory = os.path.dirname(path) or "."
            allowed[directory] = allowed.get(directory, Access(0)) | access
    try:
        return Confinement(allowed)
    except OSError as error:
        log.info("not confined by Landlock: %s", error.strerror)
        return None


def _program() -> Iterator[str]:
    """Where Python, its libraries and we are: some of it is loaded only when asked for."""
    paths = sysconfig.get_paths()
    places = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {os.path.dirname(os.path.abspath(__file__)), *_LIBRARIES}
    return (place for place in sorted(places) if os.path.isdir(place))
