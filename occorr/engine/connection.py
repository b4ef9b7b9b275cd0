"""A connection to an engine: requests, and streams that another thread may end."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import requests
import urllib3
from docker import APIClient, DockerClient
from docker.constants import MINIMUM_DOCKER_API_VERSION
from docker.errors import DockerException
from docker.types import CancellableStream

from occorr.engine import reach
from occorr.engine.reach import EngineError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from occorr.redact import Redactor

_CONNECT: Final = 10.0  # seconds
_ANSWER: Final = 60  # seconds for an answer that is no stream
_BROKEN: Final[tuple[type[Exception], ...]] = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
    AttributeError,
)  # the last two: a response that was closed while it was read
T = TypeVar("T")


def _broken(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What a connection that breaks raises, and others; paramiko's errors are of no family but their own, and only SSH loads it."""
    ssh = sys.modules.get("paramiko.ssh_exception")
    return (*others, *_BROKEN, *(() if ssh is None else (ssh.SSHException, EOFError)))


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
        except _broken() as error:
            if self.closed:
                raise StopIteration from None
            raise EngineLostError(f"the engine broke off while it was read: {reach.words(error)}") from error

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
        with contextlib.suppress(*_broken()):
            try:  # it shuts the socket down, which `response.close` does not
                CancellableStream(self.items, self.response).close()
            except DockerException:  # SSH, of which the SDK knows no end; its channel does
                answer: Any = self.response.raw._fp  # noqa: SLF001 - there is no other way to it
                answer.fp.channel.close()
        with contextlib.suppress(*_broken(RuntimeError)):
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
    address = reach.address(given)
    try:
        reach.knock(address)
        # a version that is given is not asked for: the SDK would ask without the certificates that it was told to trust
        api = DockerClient.from_env(environment=given, timeout=_ANSWER, version=MINIMUM_DOCKER_API_VERSION).api
        told = _version(_get(api, f"{api.base_url}/version"))
    except _broken(DockerException) as error:
        raise EngineError(reach.failed(address, error)) from error
    spoken = str(told.get("ApiVersion", ""))
    if not re.fullmatch(r"\d+\.\d+", spoken):
        raise EngineError(f"what answers at {address} is no Docker engine: it tells no API version")
    if _ordered(spoken) < _ordered(MINIMUM_DOCKER_API_VERSION):
        raise EngineError(
            f"the Docker engine at {address} is too old: it speaks API {spoken}, {MINIMUM_DOCKER_API_VERSION} is needed"
        )
    return Engine(
        api, redactor, address, str(told.get("Version", "")), spoken, address.startswith(("unix://", "npipe://"))
    )


def _version(answered: requests.Response) -> dict[str, Any]:
    """Who answers; an error or something else than JSON is none."""
    if answered.status_code >= 400:
        raise DockerException(_refusal(answered))
    told = answered.json()
    return told if isinstance(told, dict) else {}


def _ordered(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _get(api: APIClient, url: str, **options: Any) -> requests.Response:
    """One request. Whom to trust is said each time: otherwise REQUESTS_CA_BUNDLE would overrule DOCKER_CERT_PATH."""
    timeout = options.pop("timeout", (_CONNECT, _ANSWER))
    return api.get(url, verify=api.verify, timeout=timeout, headers={"Accept-Encoding": "identity"}, **options)


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
        response = _get(
            engine.api,
            f"{engine.api.base_url}/v{engine.api_version}{where}",
            params={k: v for k, v in params.items() if v is not None},
            stream=stream,
            timeout=(_CONNECT, None if idle else _ANSWER),
        )
    except _broken() as error:
        raise EngineLostError(reach.failed(engine.address, error)) from error
    if response.status_code >= 400:
        raise EngineError(f"the engine refuses {where}: {_refusal(response)}")
    return response


def _refusal(response: requests.Response) -> str:
    """What an answer that is an error says."""
    try:
        text = str(response.json()["message"])
    except _broken(TypeError, KeyError):
        page = "html" in response.headers.get("Content-Type", "")
        text = response.reason if page else response.text or response.reason
    response.close()
    return f"{' '.join(text.split())[:200]} (HTTP {response.status_code})"


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
