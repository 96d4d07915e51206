"""One command in one container, from the image to the end: nothing of it stays with the engine.

Whatever ends it, the container goes: at the end, after Ctrl-C, after an error. Where the engine
could not be told, or this process was killed, the next one finds the container by its label.
Must not know the Docker SDK, nor what the command does.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from agent import __version__
from testbed.container import inside, parcel
from testbed.container.engine import (
    Attached,
    Engine,
    Found,
    Image,
    RealTimeRefused,
    UnknownCapability,
)
from testbed.container.owner import Owner
from testbed.container.parcel import Parcel
from testbed.container.rights import Rights
from testbed.errors import Lacking, TestbedError
from testbed.interrupts import Interrupts

DEFAULT_IMAGE: Final = "testbed"
TITLE: Final = "testbed"
"""What an image of ours calls itself, and the program that it runs."""
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

    `results` is where what it writes into `inside.RESULTS` is copied to in the end; `shown` is what
    messages call that.
    """

    arguments: Sequence[str]
    image: str = DEFAULT_IMAGE
    rights: Rights = field(default_factory=Rights)
    files: Parcel = field(default_factory=lambda: Parcel(environment={}))
    results: Path | None = None
    shown: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How it ended: its exit code, and the files that were copied out."""

    status: int
    brought: Sequence[Path]


def run(order: Order, *, say: Say) -> Ended:
    """Run it and pass its output on. `say` gets what a person should know.

    Ctrl-C and SIGTERM ask the container to stop and undo, then go on as the exceptions they are;
    what it had written until then is copied out as well.

    :raises InputError: no image can have that name.
    :raises Lacking: no engine, no right to it, no such image, or it cannot give what is needed.
    :raises EngineGone: the connection was lost.
    """
    with Engine.connect() as engine:
        removed, _ = sweep(engine)
        for name in removed:
            say(f"removed the container {name}, which an earlier run left")
        image = engine.image(order.image)
        _require_testbed(image)
        say(f"container engine {engine.version}, image {image.reference} ({image.id[:19]})")
        if image.version not in (None, __version__):
            say(f"the image {order.image} holds testbed {image.version}, this is {__version__}")
        notes = [f"in a container of the image {image.reference} ({image.id[:19]})"]
        if order.rights.privileged:
            notes[0] += ", privileged"
        while True:
            try:
                return _run(engine, image, order, notes, say)
            except UnknownCapability as error:
                if not order.rights.can_spare(error.name):
                    raise
                lost = f"the engine does not know {error.name}: without " + next(
                    one.used_for for one in order.rights.capabilities if one.name == error.name
                )
                order = replace(order, rights=order.rights.spare(error.name))
            except RealTimeRefused as error:
                lost = str(error) if error.is_lost else ""
                order = replace(order, rights=replace(order.rights, real_time_us=None))
            if lost:
                notes.append(lost)
                say(lost)


def _run(engine: Engine, image: Image, order: Order, notes: Sequence[str], say: Say) -> Ended:
    with _container(engine, image, order, notes, say) as container:
        engine.put(container, parcel.archive(order.files.files))
        attached = engine.attach(container)
        try:
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
        with Interrupts():
            brought = _bring(engine, container, order.results)
        if status == 128 + signal.SIGKILL:
            lacked = engine.out_of_memory(container)
            raise TestbedError(
                "the container was killed" + (" for want of memory" if lacked else "")
            )
        if status == 128 + signal.SIGTERM:
            say("the container was stopped, by somebody else or since the connection was lost")
        return Ended(status=status, brought=brought)


def _require_testbed(image: Image) -> None:
    """By its label, or by what it runs: whoever builds upon an image may change one of them.

    :raises Lacking: it is something else.
    """
    runs = os.path.basename(image.entrypoint[-1]) if image.entrypoint else ""
    if TITLE not in (image.title, runs):
        raise Lacking(
            f"the image {image.reference} is no testbed image",
            f"`docker build -t {DEFAULT_IMAGE} .` in the source tree makes one",
        )


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
def _container(
    engine: Engine, image: Image, order: Order, notes: Sequence[str], say: Say
) -> Iterator[str]:
    """The container, made and in the end removed."""
    container = None
    try:
        with _undisturbed():
            container = engine.create(
                image,
                order.arguments,
                rights=order.rights,
                labels={_LABEL: Owner.this().label()},
                environment={
                    **order.files.environment,
                    inside.LIFELINE_VARIABLE: "stdin",
                    inside.NOTES_VARIABLE: "\n".join(notes),
                    inside.SHOWN_VARIABLE: order.shown,
                },
                working_directory=os.getcwd(),
            )
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


def _follow(engine: Engine, container: str, attached: Attached) -> None:
    """Start it, and pass its output on until it ends; asked to stop, ask it, wait for it, and go
    on stopping.

    It is asked through its standard input: a signal to a program that has not begun to listen for
    it is lost, since it is the first process of its container, or ends it anyhow.
    """
    started = False
    try:
        with _undisturbed():
            engine.start(container)
            started = True
        _pass_on(attached)
    except KeyboardInterrupt:
        if started:
            attached.ask_to_stop()
            # One that takes longer is ended when it is removed.
            _pass_on(attached, timeout_s=_LEAVE_S)
        raise


@contextmanager
def _undisturbed() -> Iterator[None]:
    """To be stopped takes effect at the end; if that is an error, then in place of it, since
    another attempt may follow."""
    with Interrupts() as interrupts:
        try:
            yield
        except TestbedError:
            interrupts.check()
            raise


def _pass_on(attached: Attached, *, timeout_s: float | None = None) -> None:
    streams = {1: sys.stdout, 2: sys.stderr}
    for stream, piece in attached.output(timeout_s=timeout_s):
        to = streams.get(stream, sys.stderr)
        to.flush()
        to.buffer.write(piece)
        to.flush()


def _bring(engine: Engine, container: str, results: Path | None) -> Sequence[Path]:
    if results is None:
        return ()
    with engine.get(container, inside.RESULTS) as archive:
        return () if archive is None else parcel.bring(archive, results)
