"""One command in one container, from the image to the end: nothing of it stays with the engine.

Whatever ends it, the container goes: at the end, after Ctrl-C, after an error. Where the engine
could not be told, or this process was killed, the next one finds the container by its label.
Must not know the Docker SDK, nor what the command does.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent import __version__
from testbed.container import parcel
from testbed.container.engine import Attached, Engine, Found, Image, UnknownCapability
from testbed.container.inside import LIFELINE_VARIABLE, NOTES_VARIABLE
from testbed.container.owner import Owner
from testbed.container.parcel import Parcel
from testbed.container.rights import Rights
from testbed.errors import TestbedError
from testbed.interrupts import Interrupts

DEFAULT_IMAGE: Final = "testbed"
_LABEL: Final = "testbed.owner"
_LEAVE_S: Final = 60.0
"""For a container to end by itself once it was asked to: it undoes and writes what it has."""
_ENDED_S: Final = 30.0
"""From the end of a container's output to its exit code."""
_FORGOTTEN_S: Final = 600.0
"""A container idle for this long belongs to nobody, if nobody can tell whether its owner lives."""

Say = Callable[[str], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What to run: arguments of `testbed`, in which image, with what rights and files.

    `results` is the directory, the same inside and here, whose files are copied out in the end.
    """

    arguments: Sequence[str]
    image: str = DEFAULT_IMAGE
    rights: Rights = field(default_factory=Rights)
    files: Parcel = field(default_factory=lambda: Parcel(environment={}))
    results: Path | None = None


def run(order: Order, *, say: Say) -> int:
    """Run it and pass its output on; its exit code. `say` gets what a person should know.

    Ctrl-C and SIGTERM ask the container to stop and undo, then go on as the exceptions they are;
    what it had written until then is copied out as well.

    :raises Lacking: no engine, no right to it, no image, or it cannot give what is needed.
    :raises EngineGone: the connection was lost.
    """
    with Engine.connect() as engine:
        removed, _ = sweep(engine)
        for name in removed:
            say(f"removed the container {name}, which an earlier run left")
        image = engine.image(order.image)
        say(f"container engine {engine.version}, image {image.reference} ({image.id[:19]})")
        if image.version not in (None, __version__):
            say(f"the image {order.image} holds testbed {image.version}, this is {__version__}")
        with _container(engine, image, order, say) as container:
            engine.put(container, parcel.archive(order.files.files))
            attached = engine.attach(container)
            try:
                engine.start(container)
                _follow(engine, container, attached)
                status = engine.wait(container, timeout_s=_ENDED_S)
            except BaseException:
                # What it had written until then; the error that is on its way is the one to tell.
                try:
                    _bring(engine, container, order.results)
                except TestbedError as error:
                    say(f"no results could be copied out of the container: {error}")
                raise
            finally:
                attached.close()
            _bring(engine, container, order.results)
            if status == 128 + signal.SIGKILL:
                lacked = engine.out_of_memory(container)
                raise TestbedError(
                    "the container was killed" + (" for want of memory" if lacked else "")
                )
            if status == 128 + signal.SIGTERM:
                say("the container was stopped, by somebody else or since the connection was lost")
            return status


def sweep(engine: Engine) -> tuple[list[str], list[str]]:
    """Remove the containers whose owner is gone; names of the removed, and of those left alone."""
    removed, left = [], []
    for found in engine.find(_LABEL):
        if _is_orphan(found):
            engine.remove(found.id)
            removed.append(found.name)
        else:
            left.append(found.name)
    return removed, left


def _is_orphan(found: Found) -> bool:
    owner = Owner.of_label(found.labels[_LABEL])
    life = "unknown" if owner is None else owner.life()
    if life == "unknown":
        # Running, it ends by itself when its owner is gone: the engine closes its input then.
        return not found.running and found.idle_s > _FORGOTTEN_S
    return life == "dead"


@contextmanager
def _container(engine: Engine, image: Image, order: Order, say: Say) -> Iterator[str]:
    """The container, made and in the end removed."""
    container = None
    try:
        with Interrupts():
            container = _create(engine, image, order, say)
        yield container
    finally:
        if container is not None:
            try:
                engine.remove(container)
            except TestbedError as error:
                say(
                    f"the container {container[:12]} could not be removed ({error}); the next "
                    "`testbed run --container` or `testbed down --all` will"
                )


def _create(engine: Engine, image: Image, order: Order, say: Say) -> str:
    rights = order.rights
    notes = [f"in a container of the image {image.reference} ({image.id[:19]})"]
    if rights.privileged:
        notes[0] += ", privileged"
    while True:
        try:
            return engine.create(
                image,
                order.arguments,
                rights=rights,
                labels={_LABEL: Owner.this().label()},
                environment=_environment(order.files.environment, notes),
                working_directory=os.getcwd(),
            )
        except UnknownCapability as error:
            if not rights.can_spare(error.name):
                raise
            rights = rights.spare(error.name)
            (used_for,) = (one.used_for for one in rights.capabilities if one.name == error.name)
            notes.append(f"the engine does not know {error.name}: without {used_for}")
            say(notes[-1])


def _environment(variables: Mapping[str, str], notes: Sequence[str]) -> dict[str, str]:
    return {**variables, LIFELINE_VARIABLE: "stdin", NOTES_VARIABLE: "\n".join(notes)}


def _follow(engine: Engine, container: str, attached: Attached) -> None:
    """Pass its output on until it ends; asked to stop, ask it, wait for it, and go on stopping."""
    try:
        _pass_on(attached)
    except KeyboardInterrupt:
        engine.signal(container, "SIGINT")
        # One that takes longer is ended when it is removed.
        _pass_on(attached, timeout_s=_LEAVE_S)
        raise


def _pass_on(attached: Attached, *, timeout_s: float | None = None) -> None:
    streams = {1: sys.stdout, 2: sys.stderr}
    for stream, piece in attached.output(timeout_s=timeout_s):
        to = streams.get(stream, sys.stderr)
        to.flush()
        to.buffer.write(piece)
        to.flush()


def _bring(engine: Engine, container: str, results: Path | None) -> None:
    if results is not None:
        with engine.get(container, str(results)) as archive:
            if archive is not None:
                parcel.unpack(archive, results)
