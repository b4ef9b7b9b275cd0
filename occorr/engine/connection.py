"""The way to an engine: where it listens, what it answers, how its streams end, and what to do where there is none."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import requests
import urllib3
from docker import APIClient, DockerClient
from docker.context import ContextAPI
from docker.errors import APIError, DockerException
from docker.types import CancellableStream

from occorr.errors import EXIT_NOTHING, OccorrError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from occorr.redact import Redactor

_CONNECT: Final = 10.0  # seconds
_ANSWER: Final = 60  # seconds for an answer that is no stream
_BROKEN: Final = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
    AttributeError,
)  # the last two: a response that was closed while it was read
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


def request(
    engine: Engine, where: str, *, stream: bool = False, idle: bool = False, **params: Any
) -> requests.Response:
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


def answer(engine: Engine, path: str, **params: Any) -> Any:
    """What the engine answers to a request, decoded; raises as `request` does, and where the answer is no JSON."""
    try:
        return request(engine, path, **params).json()
    except ValueError as error:
        raise EngineError(
            f"the engine's answer to {path} is no JSON; is {engine.address} really a Docker engine?"
        ) from error


def chunks(response: requests.Response) -> Iterator[bytes]:
    """What arrives, as it arrives."""
    yield from response.raw.stream(1 << 16, decode_content=False)
