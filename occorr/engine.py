"""Speaks to a Docker engine: who is there, what their logs hold, what happened. The only module that knows the SDK.

The SDK finds the engine (DOCKER_HOST, the context of the docker CLI, TLS, SSH) and speaks HTTP; its streams are not
used, since they end silently when the engine dies, split long lines and cut stamps to seconds. Nothing that leaves this
module holds a secret that `redact` or `scrub` know: environment values, labels, command lines and log lines come out
with fingerprints.

    engine = connect(Redactor(key))
    for container in containers(engine, projects=["claw"]):
        with logs(engine, container, since_ns=..., follow=True) as lines:
            for line in lines:          # Line(time_ns, stamp, stream, text)
                ...
    with events(engine, since_ns=...) as found:
        for event in found:             # Event(time_ns, kind, action, container_id, attributes, wire)
            ...

`logs` and `events` return a `Stream`: an iterator that another thread may `close()`, after which it ends. A stream that
the engine broke off raises `EngineLostError`, so that the reader can `connect` again and go on from its last stamp.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import requests
import urllib3
from docker import APIClient, DockerClient
from docker.context import ContextAPI
from docker.errors import APIError, DockerException
from docker.types import CancellableStream

from occorr import scrub
from occorr.errors import EXIT_NOTHING, OccorrError, nearest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from occorr.redact import Redactor

SECOND: Final = 1_000_000_000
KEPT: Final = 256  # past events that an engine keeps in memory; none over its own restart
SPLIT: Final = 16_384  # bytes at which the engine splits a line
LONGEST: Final = 1 << 20  # bytes; a line longer than this stays in pieces
UNREADABLE: Final = {"none": "the log driver 'none' keeps nothing"}
_CONNECT: Final = 10.0  # seconds
_ANSWER: Final = 60  # seconds for an answer that is no stream
_BROKEN: Final = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
    AttributeError,
)  # the last two: a response that was closed while it was read
_ID: Final = re.compile(r"[0-9a-f]{12,64}")
T = TypeVar("T")


class EngineError(OccorrError):
    """The engine cannot be had, or refuses."""

    exit_code = EXIT_NOTHING


class EngineLostError(EngineError):
    """The engine was there and broke off: it was stopped, killed or restarted."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A connection, and who is at its other end.

    Attributes:
        api: the SDK's client; used in this module only.
        redactor: what replaces secrets; it learns the secrets of each container that is inspected.
        address: where the engine listens, as the SDK was told.
        version: the engine's version, as 26.1.5.
        api_version: the API that is spoken, as 1.45.
        local: whether the engine runs on this machine (its kernel's log is this one's).
    """

    api: APIClient
    redactor: Redactor
    address: str
    version: str
    api_version: str
    local: bool


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine lists it; `service` and `project` are Compose's, or empty.

    `shares` is the id of the container whose network it uses (`network_mode: service:X`), or empty.
    """

    id: str
    name: str
    image: str
    state: str
    project: str = ""
    service: str = ""
    tty: bool = False
    log_driver: str = ""
    shares: str = ""
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a container's log.

    Attributes:
        time_ns: the engine's stamp, nanoseconds since 1970.
        stamp: the same as the engine wrote it (RFC 3339).
        stream: stdout or stderr; a container with a terminal has stdout only.
        text: without line break; bytes that are no UTF-8 are U+FFFD; secrets are fingerprints.
    """

    time_ns: int
    stamp: str
    stream: str
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, as the engine tells it.

    Attributes:
        time_ns: the engine's stamp, nanoseconds since 1970.
        kind: container, network, volume, image, daemon, …
        action: `die`, `health_status: unhealthy`, `exec_create: …`, …
        container_id: the container that it is about, also for networks and volumes; else empty.
        attributes: exitCode, signal, name, image, labels …
        wire: the whole, in the form that `docker events --format json` prints.
    """

    time_ns: int
    kind: str
    action: str
    container_id: str
    attributes: Mapping[str, str]
    wire: Mapping[str, Any]

    @property
    def project(self) -> str:
        """The Compose project, or an empty string."""
        return self.attributes.get("com.docker.compose.project", "")


@dataclass(slots=True)
class Stream(Generic[T]):
    """What the engine sends, one after another; `close` may be called from any thread and ends it.

    Ends by itself where the engine ended it properly. Raises `EngineLostError` where the connection broke.
    """

    response: requests.Response
    items: Generator[T]
    closed: bool = field(default=False)

    def __iter__(self) -> Iterator[T]:
        """Itself."""
        return self

    def __next__(self) -> T:
        """The next item; waits for it."""
        try:
            return next(self.items)
        except StopIteration:
            raise
        except _BROKEN as error:
            if self.closed:
                raise StopIteration from None
            raise EngineLostError(f"the engine broke off while it was read: {_short(error)}") from error

    def __enter__(self) -> Stream[T]:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def close(self) -> None:
        """Ends the stream; a reader that waits in another thread wakes up."""
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(
            *_BROKEN, DockerException
        ):  # it shuts the socket down, which `response.close` does not
            CancellableStream(self.items, self.response).close()
        with contextlib.suppress(*_BROKEN, RuntimeError):
            self.response.close()


# ---------------------------------------------------------------- the engine
def connect(redactor: Redactor, environment: Mapping[str, str] | None = None) -> Engine:
    """Finds the engine as the docker CLI would: DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, else the current context.

    Args:
        redactor: what replaces secrets in everything that is read.
        environment: variables; by default those of the process.

    Raises:
        EngineError: no engine, no permission, or an engine that is too old; the message says what to do.
    """
    given = dict(os.environ if environment is None else environment)
    address = _address(given)
    try:
        _knock(address)
        api = DockerClient.from_env(environment=given, timeout=_ANSWER).api
        told = api.version()
    except (DockerException, *_BROKEN) as error:
        raise EngineError(_unreachable(address, error)) from error
    return Engine(
        api,
        redactor,
        address,
        str(told.get("Version", "")),
        str(api.api_version),
        address.startswith(("unix://", "npipe://")),
    )


def _knock(address: str) -> None:
    """Tries a local socket: the operating system's reason is clearer than what the SDK makes of it, which also leaks a socket."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(address.removeprefix("unix://"))


def _address(environment: Mapping[str, str]) -> str:
    if environment.get("DOCKER_HOST"):
        return re.sub(r"//[^/@]*@", "//", environment["DOCKER_HOST"])
    name = environment.get("DOCKER_CONTEXT")
    try:
        context = ContextAPI.get_context(name)
    except (DockerException, OSError, ValueError) as error:
        raise EngineError(
            f"the docker context {name or 'in use'} cannot be read: {_short(error)}; see 'docker context ls'"
        ) from error
    if context is None:  # the SDK would silently take the default socket
        raise EngineError(f"DOCKER_CONTEXT={name}: no such context; see 'docker context ls'")
    return (
        str(context.Host or "unix:///var/run/docker.sock")
        .replace("http+unix://", "unix://")
        .replace("unix:////", "unix:///")
    )


def _unreachable(address: str, error: BaseException) -> str:
    """Why there is no engine, and what to do, in one line."""
    text, seen = "", error
    while seen is not None:
        text += f" {type(seen).__name__} {seen}"
        seen = seen.__cause__ or seen.__context__  # type: ignore[assignment]
    if "Permission denied" in text or "PermissionError" in text:
        return (
            f"no permission for the Docker engine at {address}; run as root, or add yourself to the group docker (sudo"
            " usermod -aG docker $USER, then log in again)"
        )
    if "paramiko" in text:
        return f"the engine at {address} is reached by SSH, which needs paramiko; install it: pip install 'occorr[ssh]'"
    if "too old" in text or "no longer supported" in text:
        return f"the Docker engine at {address} is too old: {_short(error)}"
    if "certificate" in text.lower() or "SSLError" in text or "TLS" in text:
        return (
            f"no trust between here and the Docker engine at {address}: {_short(error)}; see DOCKER_TLS_VERIFY and"
            " DOCKER_CERT_PATH"
        )
    if "FileNotFoundError" in text or "No such file" in text:
        return (
            f"no Docker engine at {address}: no such socket; is it running? Otherwise set DOCKER_HOST, or see 'docker"
            " context ls'"
        )
    if "Connection refused" in text or "ConnectionRefused" in text:
        return f"no Docker engine at {address}: the connection is refused; is it running?"
    return f"no Docker engine at {address}: {_short(error)}"


def _short(error: BaseException) -> str:
    """An error's own words in one line of bearable length."""
    if isinstance(error, APIError):
        return " ".join(str(error.explanation or error).split())[:200]
    words = " ".join(str(error).split())
    inner = re.findall(r"\[Errno \d+\] ([^'\")]+)", words)
    return (inner[-1] if inner else words or type(error).__name__)[:200]


def _get(engine: Engine, where: str, *, stream: bool = False, idle: bool = False, **params: Any) -> requests.Response:
    """One request; an error of the engine becomes an `EngineError`.

    Args:
        engine: the connection.
        where: the path below the API's version.
        stream: the answer is read piece by piece.
        idle: the answer may pause for any time.
        params: of the query; None is left out.
    """
    try:
        response = engine.api.get(
            f"{engine.api.base_url}/v{engine.api_version}{where}",
            params={k: v for k, v in params.items() if v is not None},
            stream=stream,
            headers={"Accept-Encoding": "identity"},
            timeout=(_CONNECT, None if idle else _ANSWER),
        )
    except _BROKEN as error:
        raise EngineLostError(_unreachable(engine.address, error)) from error
    if response.status_code >= 400:
        try:
            words = str(response.json().get("message", ""))
        except _BROKEN:
            words = response.reason
        response.close()
        raise EngineError(f"the engine refuses {where}: {' '.join(words.split())[:200]} (HTTP {response.status_code})")
    return response


def _json(engine: Engine, path: str, **params: Any) -> Any:
    try:
        return _get(engine, path, **params).json()
    except ValueError as error:
        raise EngineError(
            f"the engine's answer to {path} is no JSON; is {engine.address} really a Docker engine?"
        ) from error


# ---------------------------------------------------------------- who is there
def containers(
    engine: Engine, projects: Sequence[str] = (), names: Sequence[str] = (), *, missing: str = "raise"
) -> list[Container]:
    """The containers of Compose projects and those with these names or ids, stopped ones too, in a stable order.

    Args:
        engine: the connection.
        projects: names of Compose projects.
        names: containers' names or (short) ids. Without projects and names: all containers.
        missing: `raise` or `ignore` projects and names that are not there.

    Raises:
        OccorrError: there is no such project or container; the message names the nearest.
    """
    listed = [_listed(row) for row in _json(engine, "/containers/json", all=1)]
    if not projects and not names:
        return sorted(listed, key=_order)
    chosen = {c.id: c for c in listed if c.project and c.project in projects}
    known = sorted({c.project for c in listed if c.project})
    for project in projects:
        if missing == "raise" and project not in known:
            hint = nearest(project, known) if known else "no container here belongs to one"
            raise OccorrError(f"--project {project}: the engine has no container of this Compose project; {hint}")
    for name in names:
        found = [
            c
            for c in listed
            if c.name == name.lstrip("/") or c.id == name or (_ID.fullmatch(name) and c.id.startswith(name))
        ]
        if not found and missing == "raise":
            hint = nearest(name, [c.name for c in listed]) if listed else "it has none at all"
            raise OccorrError(f"--container {name}: the engine has no such container; {hint}")
        chosen |= {c.id: c for c in found}
    return sorted(chosen.values(), key=_order)


def _order(container: Container) -> tuple[str, str, str]:
    return container.project, container.name, container.id


def _listed(row: Mapping[str, Any]) -> Container:
    found = row.get("Labels") or {}
    mode = str((row.get("HostConfig") or {}).get("NetworkMode", ""))
    return Container(
        id=str(row["Id"]),
        name=_name(row.get("Names") or []),
        image=str(row.get("Image", "")),
        state=str(row.get("State", "")),
        project=str(found.get("com.docker.compose.project", "")),
        service=str(found.get("com.docker.compose.service", "")),
        shares=mode.removeprefix("container:") if mode.startswith("container:") else "",
        networks=tuple(sorted((row.get("NetworkSettings") or {}).get("Networks") or {})),
    )


def _name(names: Sequence[str]) -> str:
    """A container's own name; links give it more, with two slashes."""
    own = sorted(n.lstrip("/") for n in names if n.count("/") == 1)
    return own[0] if own else str(names[0]).lstrip("/") if names else ""


def inspect(engine: Engine, container_id: str) -> dict[str, Any]:
    """`docker inspect` of one container without secrets: environment values, labels and command lines are fingerprints.

    The redactor learns the container's secrets, so that they are also found in log lines read from now on.

    Raises:
        EngineError: the container is gone (`… No such container …`), or the engine is.
    """
    raw = _json(engine, f"/containers/{container_id}/json")
    engine.redactor.learn(scrub.secrets(raw))
    return scrub.inspected(raw, engine.redactor)


def detailed(container: Container, inspected: Mapping[str, Any]) -> Container:
    """The container with what only `inspect` knows: terminal and log driver."""
    config, host = inspected.get("Config") or {}, inspected.get("HostConfig") or {}
    return Container(
        container.id,
        str(inspected.get("Name", container.name)).lstrip("/"),
        str(config.get("Image", container.image)),
        str((inspected.get("State") or {}).get("Status", container.state)),
        container.project,
        container.service,
        bool(config.get("Tty")),
        str((host.get("LogConfig") or {}).get("Type", "")),
        container.shares,
        container.networks,
    )


def image(engine: Engine, image_id: str) -> dict[str, Any]:
    """`docker image inspect`: digests, tags and versions, without secrets."""
    return scrub.inspected(_json(engine, f"/images/{image_id}/json"), engine.redactor)


def network(engine: Engine, name: str) -> dict[str, Any]:
    """`docker network inspect`: subnets and who is on it, without secrets."""
    return scrub.inspected(_json(engine, f"/networks/{name}"), engine.redactor)


def about(engine: Engine) -> dict[str, Any]:
    """`docker version` of the server, and what `docker info` says of kernel, log driver, storage and start-up."""
    info = _json(engine, "/info")
    kept = (
        "Name",
        "ServerVersion",
        "KernelVersion",
        "OperatingSystem",
        "OSType",
        "Architecture",
        "NCPU",
        "MemTotal",
        "LoggingDriver",
        "CgroupDriver",
        "CgroupVersion",
        "LiveRestoreEnabled",
        "SystemTime",
        "Warnings",
    )
    return scrub.inspected(
        {
            "Server": _json(engine, "/version"),
            "Info": {k: info[k] for k in kept if k in info},
            "ApiVersion": engine.api_version,
        },
        engine.redactor,
    )


def now_ns(engine: Engine) -> int:
    """The engine's own time, nanoseconds since 1970: `until` and `since` are of its clock, not of this machine's."""
    return stamp_ns(str(_json(engine, "/info").get("SystemTime", "")))


# ---------------------------------------------------------------- logs
def logs(
    engine: Engine,
    container: Container,
    *,
    since_ns: int | None = None,
    until_ns: int | None = None,
    follow: bool = False,
) -> Stream[Line]:
    """A container's log, both streams, each line whole and with its stamp.

    With `follow` it goes on until the container stops; it does not wait for the next start. To go on after a break, ask
    from the last line's `time_ns` (which comes again: drop what you have).

    Args:
        engine: the connection.
        container: as `detailed` gives it; whether it has a terminal decides how its bytes are read.
        since_ns: the first stamp, nanoseconds since 1970.
        until_ns: the last stamp.
        follow: also what is yet to come.

    Raises:
        EngineError: the log driver keeps nothing that can be read, or the container is gone.
    """
    if container.log_driver in UNREADABLE:
        raise EngineError(f"{container.name}: {UNREADABLE[container.log_driver]}")
    response = _get(
        engine,
        f"/containers/{container.id}/logs",
        stream=True,
        idle=True,
        stdout=1,
        stderr=1,
        timestamps=1,
        follow=int(follow),
        since=_seconds(since_ns),
        until=_seconds(until_ns),
    )
    pieces = _terminal(_chunks(response)) if container.tty else _frames(_chunks(response))
    return Stream(response, _lines(pieces, engine.redactor))


def _seconds(time_ns: int | None) -> str | None:
    """Seconds with nine digits, as the engine reads them without loss."""
    return None if time_ns is None else f"{time_ns // SECOND}.{time_ns % SECOND:09d}"


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """What arrives, as it arrives."""
    yield from response.raw.stream(1 << 16, decode_content=False)


def _frames(chunks: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """(stream, payload) of the engine's multiplexed form: a byte for the stream, three zeros, the length, the payload."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        at = 0
        while len(held) - at >= 8:
            size = int.from_bytes(held[at + 4 : at + 8], "big")
            if len(held) - at - 8 < size:
                break
            payload = bytes(held[at + 8 : at + 8 + size])
            if held[at] == 3:
                raise EngineError(
                    f"the engine broke off a log: {' '.join(payload.decode('utf-8', 'replace').split())[:200]}"
                )
            yield "stderr" if held[at] == 2 else "stdout", payload
            at += 8 + size
        del held[:at]


def _terminal(chunks: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """The lines of a container with a terminal: one stream, no frames, CR LF."""
    held = b""
    for chunk in chunks:
        *whole, held = (held + chunk).split(b"\n")
        for line in whole:
            yield "stdout", line.removesuffix(b"\r") + b"\n"
    if held:
        yield "stdout", held


def _lines(pieces: Iterator[tuple[str, bytes]], redactor: Redactor) -> Generator[Line]:
    """Frames to lines: a piece of 16 KiB without line break goes on in the next one of its stream with its stamp."""
    open_: dict[str, tuple[bytes, bytes]] = {}
    for stream, payload in pieces:
        stamp, _, rest = payload.partition(b" ")
        pending = open_.pop(stream, None)
        if pending is not None:
            if pending[0] == stamp:
                rest = pending[1] + rest
            else:
                yield _line(pending[0], stream, pending[1], redactor)
        if not rest.endswith(b"\n") and len(rest) >= SPLIT and len(rest) < LONGEST:
            open_[stream] = (stamp, rest)
        else:
            yield _line(stamp, stream, rest, redactor)
    for stream, (stamp, rest) in open_.items():
        yield _line(stamp, stream, rest, redactor)


def _line(stamp: bytes, stream: str, rest: bytes, redactor: Redactor) -> Line:
    text = rest.removesuffix(b"\n").decode("utf-8", "replace")
    written = stamp.decode("ascii", "replace")
    return Line(stamp_ns(written), written, stream, redactor.line(text))


@lru_cache(maxsize=64)
def _whole_seconds(text: str, zone: str) -> int:
    return int(datetime.fromisoformat(text + (zone if zone not in ("Z", "") else "+00:00")).astimezone(UTC).timestamp())


def stamp_ns(text: str) -> int:
    """An RFC 3339 stamp of the engine, whose fraction has 0 to 9 digits, in nanoseconds since 1970.

    Raises:
        EngineError: the text is no such stamp.
    """
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", text)
    if found is None:
        raise EngineError(f"the engine wrote {text[:60]!r} where a stamp was expected")
    return _whole_seconds(found[1], found[3]) * SECOND + int((found[2] or "0").ljust(9, "0"))


# ---------------------------------------------------------------- files
def archive(engine: Engine, container_id: str, path: str) -> Stream[bytes]:
    """A file or folder of a container, running or not, as the pieces of a tar archive, whose secrets are still in it.

    Raises:
        EngineError: there is no such path, or the container is gone.
    """
    response = _get(engine, f"/containers/{container_id}/archive", stream=True, path=path)
    return Stream(response, (chunk for chunk in _chunks(response)))


# ---------------------------------------------------------------- events
def events(engine: Engine, *, since_ns: int, until_ns: int | None = None) -> Stream[Event]:
    """What happened from a moment on, the kept past first, then live; to `until_ns`, or without end.

    The engine keeps the newest 256 events and forgets them when it restarts: where exactly 256 come before now, earlier
    ones may be missing. The order is the engine's; it differs by version (stop before or after die).

    Args:
        engine: the connection.
        since_ns: the first moment, nanoseconds since 1970, of the engine's clock.
        until_ns: the last one; one that has passed gives the past only.

    Raises:
        EngineLostError: while reading, when the stream ends before `until_ns`: the engine was stopped or died.
    """
    response = _get(engine, "/events", stream=True, idle=True, since=_seconds(since_ns), until=_seconds(until_ns))
    return Stream(response, _events(response, engine, until_ns))


def _events(response: requests.Response, engine: Engine, until_ns: int | None) -> Generator[Event]:
    held = b""
    for chunk in _chunks(response):
        *whole, held = (held + chunk).split(b"\n")
        for line in whole:
            if line.strip(b"\x1e\r "):
                yield parse_event(json.loads(line.strip(b"\x1e\r ")), engine.redactor)
    if held.strip():
        yield parse_event(json.loads(held), engine.redactor)
    if until_ns is None or now_ns(engine) < until_ns:
        raise ConnectionResetError("the stream of events ended")


def parse_event(wire: Mapping[str, Any], redactor: Redactor) -> Event:
    """An event of the wire, without secrets."""
    clean = scrub.event(wire, redactor)
    actor = clean.get("Actor") or {}
    attributes = {str(k): str(v) for k, v in (actor.get("Attributes") or {}).items()}
    kind = str(clean.get("Type", ""))
    ident = str(actor.get("ID", "")) if kind == "container" else attributes.get("container", "")
    time_ns = int(clean.get("timeNano") or int(clean.get("time") or 0) * SECOND)
    return Event(time_ns, kind, str(clean.get("Action", "")), ident, attributes, clean)
