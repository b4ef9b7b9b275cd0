"""Where the engine listens, and why it is not reached there: what to do, in one line."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Final

from docker.context import ContextAPI
from docker.errors import APIError

from occorr.errors import EXIT_NOTHING, OccorrError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SOCKET: Final = "unix:///var/run/docker.sock"
_SEE: Final = "see 'docker context ls'"
_TRUST: Final = "see DOCKER_TLS_VERIFY and DOCKER_CERT_PATH"
# What the errors' texts hold, in the order in which they are looked for, and what is said then.
_REASONS: Final = (
    (
        r"Permission denied|PermissionError",
        (
            "no permission for the Docker engine at {at}; run as root, or add yourself to the group docker (sudo"
            " usermod -aG docker $USER, then log in again)"
        ),
    ),
    (
        r"paramiko package",
        "the engine at {at} is reached by SSH, which needs paramiko; install it: pip install 'occorr[ssh]'",
    ),
    (
        r"not found in known_hosts",
        "the engine at {at} is reached by SSH, and its host is not known here; connect once with ssh, so that its key is kept",
    ),
    (
        r"AuthenticationException|No authentication methods|PasswordRequired|BadAuthenticationType",
        "the engine at {at} is reached by SSH, and no key of yours is accepted there; load it with ssh-add, or name it in ~/.ssh/config",
    ),
    (r"SSHException|NoValidConnections", "the engine at {at} is not reached by SSH: {words}"),
    (
        r"(?i)HTTP request to an HTTPS server",
        f"the Docker engine at {{at}} speaks TLS, and was spoken to without; {_TRUST}",
    ),
    (
        r"(?i)wrong version number|record layer failure",
        "the Docker engine at {at} speaks no TLS, and DOCKER_TLS_VERIFY or DOCKER_CERT_PATH asks for it",
    ),
    (
        r"(?i)alert (?:bad certificate|unknown ca|certificate required)|tlsv1\S* alert",
        f"the Docker engine at {{at}} does not accept the certificate of this side: {{words}}; {_TRUST}",
    ),
    (
        r"(?i)certificate verify failed",
        f"the certificate of the Docker engine at {{at}} is not trusted: {{words}}; {_TRUST}",
    ),
    (r"TLSParameterError", f"the certificates for the Docker engine at {{at}} are not there: {{words}}; {_TRUST}"),
    (r"SSLError|SSLEOFError", f"no trust between here and the Docker engine at {{at}}: {{words}}; {_TRUST}"),
    (
        r"FileNotFoundError|No such file",
        "no Docker engine at {at}: no such socket; is it running? Otherwise set DOCKER_HOST, or see 'docker context ls'",
    ),
    (r"Connection refused|ConnectionRefused", "no Docker engine at {at}: the connection is refused; is it running?"),
    (r"JSONDecodeError", "what answers at {at} is no Docker engine: its answer is no JSON"),
    ("", "no Docker engine at {at}: {words}"),
)


class EngineError(OccorrError):
    """The engine cannot be had, or refuses."""

    exit_code = EXIT_NOTHING


def address(environment: Mapping[str, str]) -> str:
    """Where the engine listens: DOCKER_HOST, else the context of the docker CLI; without a user's name.

    Raises:
        EngineError: the context is not there or cannot be read.
    """
    if environment.get("DOCKER_HOST"):
        return re.sub(r"//[^/@]*@", "//", environment["DOCKER_HOST"])
    asked = environment.get("DOCKER_CONTEXT")
    name = f"DOCKER_CONTEXT={asked}" if asked else "the docker context in use"
    try:
        context = ContextAPI.get_context(asked)
    except Exception as error:  # the SDK raises bare ones
        raise EngineError(f"{name} cannot be read: {words(error)}; {_SEE}") from error
    if context is None:  # the SDK would silently take the default socket
        raise EngineError(f"{name}: no such context; {_SEE}")
    host = str(context.Host or _SOCKET)
    return re.sub(r"//[^/@]*@", "//", host.replace("http+unix://", "unix://").replace("unix:////", "unix:///"))


def knock(place: str) -> None:
    """Tries a local socket: the operating system's reason is clearer than what the SDK makes of it, which also leaks a socket."""
    if place.startswith("unix://"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(place.removeprefix("unix://"))


def failed(place: str, error: BaseException) -> str:
    """Why there is no engine, and what to do, in one line."""
    text = " ".join(f"{type(e).__name__} {e}" for e in _chain(error))
    said = next(said for pattern, said in _REASONS if re.search(pattern, text))
    return said.format(at=place, words=words(error))


def words(error: BaseException) -> str:
    """An error's own words in one line of bearable length: those of what lies at its bottom, without what wraps it."""
    if isinstance(error, APIError):
        return " ".join(str(error.explanation or error).split())[:200]
    told = " ".join(str(error).split())
    inner = re.findall(r"\[Errno \d+\] ([^'\")]+)|\[SSL: \w+\] ([^'\")]+?)(?: \(_ssl\.c\S*)?['\")]", told)
    own = next((a or b for a, b in reversed(inner)), told)
    return (own or type(error).__name__)[:200].strip()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
