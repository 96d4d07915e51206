"""The end of an agent's start: all rights are given up, and all that is reached by them, for good.

After it the process can read and write what it has open, load more of its own program, look at
/proc, and put its counters into their file. Must not know what is open, nor by which engines.
"""

from __future__ import annotations

import logging
import os
import sysconfig
from collections.abc import Iterator
from typing import Final

from agent.config import AgentConfig
from agent.errors import AgentError
from agent.linux import landlock, rights
from agent.linux.landlock import Access, Confinement

log = logging.getLogger("agent")

_LIBRARIES: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")


def prepare(config: AgentConfig) -> Confinement | None:
    """What `give_up` will confine to, opened while there are rights; None without Landlock.

    That there is none is logged: users and capabilities then hold alone.
    """
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


def give_up(config: AgentConfig, confinement: Confinement | None) -> None:
    """Give up rights, become `config.run_as`, and enter the confinement.

    Acts on the calling thread, and on those that it makes afterwards.

    :raises AgentError: a step was refused, or rights were left.
    """
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


def _program() -> Iterator[str]:
    """Where Python, its libraries and we are: some of it is loaded only when asked for."""
    paths = sysconfig.get_paths()
    places = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {os.path.dirname(os.path.abspath(__file__)), *_LIBRARIES}
    return (place for place in sorted(places) if os.path.isdir(place))
