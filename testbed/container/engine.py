"""A Docker engine, as little of it as a testbed needs; the only module that knows the Docker SDK.

Whatever the SDK raises is translated here, once, into words and an exit code. Must not know what
runs in a container, nor why.
"""

from __future__ import annotations

import json
import os
import re
import select
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, Final, Self

import docker
import docker.errors
import docker.utils
import docker.utils.socket
import requests

from testbed.container.rights import DEVICES, READ_ONLY_PATHS, Rights
from testbed.errors import InputError, Lacking, TestbedError

_ANSWER_S: Final = 60
_UNKNOWN_CAPABILITY: Final = re.compile(r'unknown capability: "?(?:CAP_)?(\w+)')
_FRAME: Final = struct.Struct(">BxxxL")
"""Before each piece of output: its stream, its length (Docker Engine API, ContainerAttach)."""


class EngineGone(TestbedError):
    """The connection to the engine is lost."""


class UnknownCapability(Lacking):
    """The engine does not know one of the capabilities that it was asked for; `name` tells."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"this container engine does not know the capability {name}",
            "a newer engine does; --privileged does without names",
        )
        self.name = name


class RealTimeRefused(TestbedError):
    """The engine gives no share of real time; `is_lost` where the kernel gives none without one."""

    def __init__(self, said: str, *, is_lost: bool) -> None:
        super().__init__(
            "the container gets no real time, so the tester does not run in real time: start "
            "dockerd with --cpu-rt-runtime=950000, and let nobody else have it"
            if is_lost
            else said
        )
        self.is_lost = is_lost


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """`id` says exactly which; `title` and `version` are what its labels say, None if nothing."""

    reference: str
    id: str
    title: str | None
    version: str | None
    entrypoint: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A container with a label of ours. `idle_s`: since it ended or, unstarted, was made."""

    id: str
    name: str
    labels: Mapping[str, str]
    running: bool
    idle_s: float


class Engine:
    """A connection to one engine."""

    def __init__(self, api: docker.APIClient, version: str) -> None:
        # The stubs leave out what a few calls take or return.
        self._api: Any = api
        self.version = version
        """The engine's own, and that of its interface."""

    @classmethod
    def connect(cls) -> Self:
        """The engine that $DOCKER_HOST names, or the one of this machine.

        :raises Lacking: none answers, or not to us; in words, with what to do about it.
        """
        where = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        try:
            settings = docker.utils.kwargs_from_env()
            api = docker.APIClient(**settings, version="auto", timeout=_ANSWER_S)
            about = api.version()
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise _unreachable(where, error) from error
        return cls(api, f"{about['Version']} (API {about['ApiVersion']})")

    @staticmethod
    def expected() -> bool:
        """Whether there is any sign of an engine, without asking one."""
        return bool(os.environ.get("DOCKER_HOST")) or os.path.exists("/var/run/docker.sock")

    def close(self) -> None:
        """Let go of the connection."""
        self._api.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def image(self, reference: str) -> Image:
        """The image of that name, if this engine has it: none is fetched.

        :raises Lacking: it has not.
        :raises InputError: no image can have that name.
        """
        with _in_words():
            try:
                about = self._api.inspect_image(reference)
            except docker.errors.ImageNotFound:
                raise Lacking(
                    f"the container engine has no image {reference!r}",
                    f"`docker build -t {reference} .` in the source tree makes it, "
                    f"`docker pull {reference}` fetches it from a registry",
                ) from None
            except docker.errors.APIError as error:
                if "invalid reference" not in str(error):
                    raise
                raise InputError(
                    "no image can have that name",
                    value=reference,
                    expected="such as testbed or example.org/testbed:1",
                ) from None
        labels = about["Config"].get("Labels") or {}
        return Image(
            reference=reference,
            id=about["Id"],
            title=labels.get("org.opencontainers.image.title"),
            version=labels.get("org.opencontainers.image.version") or None,
            entrypoint=about["Config"].get("Entrypoint") or (),
        )

    def create(
        self,
        image: Image,
        command: Sequence[str],
        *,
        rights: Rights,
        labels: Mapping[str, str],
        environment: Mapping[str, str],
        working_directory: str,
    ) -> str:
        """A container that is not started yet, without any network but its own loopback; its id.

        Its standard input ends when the one who is attached to it leaves.

        :raises UnknownCapability, RealTimeRefused: and nothing is made.
        """
        security = ["apparmor=unconfined", f"seccomp={json.dumps(rights.seccomp())}"]
        host_config = self._api.create_host_config(
            network_mode="none",
            devices=list(DEVICES),
            cpu_rt_runtime=rights.real_time_us,
            **(
                {"privileged": True}
                if rights.privileged
                else {"cap_drop": ["ALL"], "cap_add": rights.names, "security_opt": security}
            ),
        )
        if not rights.privileged:
            host_config["ReadonlyPaths"] = list(READ_ONLY_PATHS)
        # create_container() cannot say that standard input belongs to one client only.
        config = self._api.create_container_config(
            image.id,
            list(command),
            stdin_open=True,
            labels=dict(labels),
            environment=dict(environment),
            working_dir=working_directory,
            host_config=host_config,
        )
        config |= {"StdinOnce": True, "AttachStdin": True}
        with _in_words():
            return str(self._api.create_container_from_config(config)["Id"])

    def put(self, container: str, archive: bytes) -> None:
        """Unpack a tar archive at the container's root."""
        with _in_words():
            self._api.put_archive(container, "/", archive)

    @contextmanager
    def get(self, container: str, path: str) -> Iterator[IO[bytes] | None]:
        """The tar archive of a directory in the container, None where it has none such."""
        with _in_words(), tempfile.TemporaryFile() as file:
            try:
                chunks, _ = self._api.get_archive(container, path)
            except docker.errors.NotFound:
                yield None
                return
            for chunk in chunks:
                file.write(chunk)
            file.seek(0)
            yield file

    def attach(self, container: str) -> Attached:
        """Hold its standard input and hear what it says; before `start`, so that all is heard."""
        with _in_words():
            wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            return Attached(self._api.attach_socket(container, wanted))

    def start(self, container: str) -> None:
        """Start it.

        :raises RealTimeRefused, Lacking: the engine could not give it its rights or its devices.
        """
        with _in_words():
            self._api.start(container)

    def wait(self, container: str, *, timeout_s: float) -> int:
        """Its exit code, once it has ended.

        :raises EngineGone: it has not within that time.
        """
        with _in_words():
            answer = self._api.wait(container, timeout=timeout_s)
        return int(answer["StatusCode"])

    def out_of_memory(self, container: str) -> bool:
        """Whether the kernel ended it for want of memory."""
        with _in_words():
            return bool(self._api.inspect_container(container)["State"].get("OOMKilled"))

    def remove(self, container: str) -> None:
        """Take it away whatever it does, with all that is in it; one that is gone is fine."""
        with _in_words():
            try:
                self._api.remove_container(container, force=True, v=True)
            except docker.errors.APIError as error:
                # 409: somebody else is removing it at this moment.
                if error.status_code not in (404, 409):
                    raise

    def find(self, label: str) -> list[Found]:
        """Every container that carries that label, running or not."""
        with _in_words():
            listed = self._api.containers(all=True, filters={"label": label})
            now = _time(self._api.info()["SystemTime"])
            found = []
            for one in listed:
                try:
                    about = self._api.inspect_container(one["Id"])
                except docker.errors.NotFound:
                    continue
                state = about["State"]
                ended = _time(state["FinishedAt"])
                since = _time(about["Created"]) if ended.year == 1 else ended
                found.append(
                    Found(
                        id=about["Id"],
                        name=about["Name"].lstrip("/"),
                        labels=about["Config"]["Labels"],
                        running=state["Running"],
                        idle_s=0.0 if state["Running"] else (now - since).total_seconds(),
                    )
                )
            return found


class Attached:
    """Both ends of a container's standard streams, until it ends or the connection is lost."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._unread = bytearray()

    def output(self, *, timeout_s: float | None = None) -> Iterator[tuple[int, bytes]]:
        """What it says, piece by piece: 1 for standard output, 2 for standard error.

        Ends with the container, with the connection, or after `timeout_s`. Interrupted by an
        exception, it can be called again and goes on where it was.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            while len(self._unread) >= _FRAME.size:
                stream, length = _FRAME.unpack_from(self._unread)
                end = _FRAME.size + length
                if len(self._unread) < end:
                    break
                piece = bytes(self._unread[_FRAME.size : end])
                del self._unread[:end]
                yield stream, piece
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._socket], [], [], left)[0]:
                return
            try:
                data = docker.utils.socket.read(self._socket, 65536)
            except OSError:
                return
            if not data:
                return
            self._unread += data

    def ask_to_stop(self) -> None:
        """Have something to be read on its standard input, which is all that it waits for there."""
        # Not its end: only half of an encrypted connection cannot be closed. The library's own
        # object for a local one can only be read.
        with suppress(OSError):
            getattr(self._socket, "_sock", self._socket).sendall(b"\n")

    def close(self) -> None:
        """Let go: its standard input ends."""
        self._socket.close()


def _time(text: str) -> datetime:
    """RFC 3339 with up to nine digits after the second, of which six are understood."""
    return datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", r"\1", text)).astimezone(UTC)


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except docker.errors.APIError as error:
        raise _refused(str(error.explanation or error)) from error
    except docker.errors.DockerException as error:
        raise TestbedError(f"container engine: {error}") from error
    except requests.RequestException as error:
        raise EngineGone(
            f"the connection to the container engine is lost: {_why(error)}"
        ) from error


def _refused(said: str) -> TestbedError:
    unknown = _UNKNOWN_CAPABILITY.search(said)
    if unknown is not None:
        return UnknownCapability(unknown[1])
    if "does not support CPU real-time" in said:
        # The kernel does not share real time out: whoever may have any has all of it.
        return RealTimeRefused(said, is_lost=False)
    if "cpu.rt_runtime_us" in said:
        return RealTimeRefused(said, is_lost=True)
    if "unable to apply caps" in said:
        return Lacking(
            "the container engine cannot give all rights, its own root lacks some",
            "without --privileged it is asked for fewer",
        )
    if any(device in said for device in DEVICES):
        return Lacking(f"container engine: {said}", "`modprobe tun` where the engine runs")
    return TestbedError(f"container engine: {said}")


def _unreachable(where: str, error: BaseException) -> Lacking:
    if any(isinstance(one, PermissionError) for one in _causes(error)):
        return Lacking(
            f"no right to talk to the container engine at {where}",
            "be in its group (docker, as a rule), or run it with sudo",
        )
    if isinstance(error, docker.errors.TLSParameterError):
        return Lacking(
            f"no encrypted connection to the container engine at {where}: "
            + str(error).partition(". TLS configurations")[0],
            "let DOCKER_CERT_PATH name the directory of ca.pem, cert.pem and key.pem, or unset "
            "DOCKER_TLS_VERIFY",
        )
    return Lacking(
        f"no container engine at {where}: {_why(error)}",
        "start one (`systemctl start docker`), or name another in DOCKER_HOST",
    )


def _why(error: BaseException) -> str:
    """What the system said, where it said anything: SDK, requests and urllib3 each wrap it."""
    said = (one.strerror for one in _causes(error) if isinstance(one, OSError) and one.strerror)
    return next(said, str(error))


def _causes(error: object, depth: int = 8) -> Iterator[BaseException]:
    """The exceptions within an exception, the innermost first."""
    if not isinstance(error, BaseException) or not depth:
        return
    for one in (error.__cause__, error.__context__, *error.args, getattr(error, "reason", None)):
        yield from _causes(one, depth - 1)
    yield error
