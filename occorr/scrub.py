"""What an engine says of containers, without their secrets: before anything of it is written or shown.

Values are kept only where their name is known to be harmless; everything else becomes a fingerprint. A list of what is
secret would have to know every image's variables and labels; the list of what is needed is short.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from occorr.redact import Redactor

SECRET: Final = re.compile(
    r"(?i)token|secret|passw|passphrase|api[_-]?key|private[_-]?key|credential|cookie|authorization"
)
_REFERENCE: Final = re.compile(r"\$\w+|\$\{\w+(?::?[-?+]?)\}")
_VARIABLE: Final = re.compile(r"(?:--?)?([\w-]+)=(.*)", re.DOTALL)
_DEFAULT: Final = re.compile(r"\$\{\w+:?[-+]([^}]+)\}")  # what a variable's value is where it has none
_ENV_SECRET: Final = re.compile(r"[A-Z0-9_]*(?:TOKEN|SECRET|PASSWORD|PASS|PIN|KEY)")
_TELLING: Final = re.compile(
    r"(?i)--?[\w-]*(?:token|secret|passw(?:or)?d|requirepass|(?:api|auth|access|private)-?key)"
)
MASKED: Final = re.compile(
    r"(?i)\*{2,}|<[\w -]+>|\[redacted[^\]]*\]|_*(?:openclaw_)?redacted_*|x{4,}"
)  # whoever collected the document took the secret out
# Environment: what the analysis reads, and what says how a program behaves.
_ENV: Final = re.compile(
    r"(?:TZ|LANG|LC_\w+|NODE_ENV|NODE_VERSION|NODE_OPTIONS|PORT|HOST|RELEASE|NO_COLOR|OPENCLAW_(?:STATE_DIR|CONFIG_PATH|HOME|PROFILE|VERSION|GATEWAY_(?:PORT|URL|BIND|MODE|HOST)|NO_\w+|SKIP_\w+|DISABLE_\w+|LOG_\w+))"
)
_LABEL: Final = re.compile(
    r"(?:com\.docker\.compose\.|org\.opencontainers\.image\.(?!authors)|desktop\.docker\.io/|traefik\.).*"
)
# What the engine itself puts among an event's attributes, beside the labels.
_ATTRIBUTE: Final = frozenset(
    {
        "name",
        "image",
        "exitCode",
        "execDuration",
        "execID",
        "signal",
        "oldName",
        "container",
        "type",
        "driver",
        "destination",
        "propagation",
        "read/write",
        "reclaimed",
        "comment",
        "height",
        "width",
    }
)
_FLAG: Final = re.compile(
    r"(?i)--?[\w-]*(?:token|secret|pass|password|requirepass|(?:api|access|private|secret|auth)-?key|credentials?|cookie|auth|authorization|bearer|header|user)"
)
_SHORT: Final = re.compile(r"-[pHua]")  # mysql -p, curl -H and -u, redis-cli -a
_HEADER: Final = re.compile(r"(?i)[\"']?[\w-]*(?:key|token|secret|pass\w*|auth\w*|cookie)[\w-]*:")
_RANDOM: Final = re.compile(r"(?=[^/.]*\d)(?=[^/.]*[A-Za-z])[A-Za-z0-9+=_-]{20,}")
_NAMED: Final = re.compile(r"([A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
_HASH: Final = re.compile(r"\$(?:2[abxy]|apr1|[156]|argon2\w*)\$[^\s\"',;}]+")  # passwords of basic auth
PUBLIC_CONFIG: Final = ("gateway", "logging", "meta")  # parts of openclaw.json that an analysis reads


def text(value: str, redactor: Redactor) -> str:
    """A text with the secrets that it shows by name, shape or as one already known replaced."""
    return _HASH.sub(lambda m: redactor.fingerprint(m[0]), redactor.text(value))


def secret(value: str, redactor: Redactor) -> str:
    """A secret's fingerprint; a reference such as `${TOKEN}` names one and is none, a mask hides which one it was."""
    return value if _REFERENCE.fullmatch(value) or MASKED.fullmatch(value) else redactor.fingerprint(value)


def environment(pairs: Sequence[str], redactor: Redactor) -> list[str]:
    """`NAME=value` with the value kept where the name is known to be harmless, else its fingerprint."""
    return [
        f"{name}={text(value, redactor) if _ENV.fullmatch(name) else redactor.fingerprint(value) if value else ''}"
        for name, _, value in (str(p).partition("=") for p in pairs)
    ]


def labels(pairs: Mapping[str, Any], redactor: Redactor) -> dict[str, str]:
    """Labels with the values kept that Compose, image builders and Traefik wrote, the others as fingerprints."""
    return {
        k: text(str(v), redactor) if _LABEL.fullmatch(k) and not SECRET.search(k) else redactor.fingerprint(str(v))
        for k, v in pairs.items()
    }


def command(words: Sequence[str], redactor: Redactor) -> list[str]:
    """The words of a command line; what follows a telling flag, is named like a secret or looks random is replaced."""
    out: list[str] = []
    hidden = False
    for given in words:
        word = str(given)
        if hidden and not word.startswith("--"):
            out.append(redactor.fingerprint(word))
        elif (named := _NAMED.fullmatch(word)) and (SECRET.search(named[1]) or _FLAG.fullmatch(named[1])) and named[2]:
            out.append(f"{named[1]}={redactor.fingerprint(named[2])}")
        elif (flag := re.fullmatch(r"(--?[\w-]+)=(.+)", word, re.DOTALL)) and _FLAG.fullmatch(flag[1]):
            out.append(f"{flag[1]}={redactor.fingerprint(flag[2])}")
        elif _RANDOM.fullmatch(word):
            out.append(redactor.fingerprint(word))
        elif re.search(r"\s", word):  # a shell's script
            out.append(script(word, redactor))
        elif attached := re.fullmatch(r"(-p)([^\d/.=-].{3,})", word):  # mysql -phunter2
            out.append(attached[1] + redactor.fingerprint(attached[2]))
        else:
            out.append(text(word, redactor))
        hidden = bool(
            _FLAG.fullmatch(word)
            or _SHORT.fullmatch(word)
            or _HEADER.fullmatch(word)
            or (hidden and word.endswith(":"))
        )
    return out


def script(value: str, redactor: Redactor) -> str:
    """A command line in one text; blanks and quotes stay where they are."""
    value = text(value, redactor)
    parts = re.split(r"(\"[^\"]*\"|'[^']*'|\s+)", value)
    words = [p for p in parts if p and not p.isspace()]
    bare = iter(command([w[1:-1] if w[:1] in "\"'" and w[-1:] == w[:1] and len(w) > 1 else w for w in words], redactor))
    return "".join(
        (
            p
            if p.isspace()
            else (p[0] + next(bare) + p[0] if p[:1] in "\"'" and p[-1:] == p[:1] and len(p) > 1 else next(bare))
        )
        for p in parts
        if p
    )


def inspected(item: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """`docker inspect` of a container or an image: environment, labels, command lines and health output without secrets."""
    return {str(k): _part(str(k), v, redactor) for k, v in item.items()}


def _part(key: str, value: Any, redactor: Redactor, above: str = "") -> Any:
    if isinstance(value, dict):
        if key == "Labels":
            return labels(value, redactor)
        if key in ("Options", "DriverOpts", "Annotations") or (key, above) == (
            "Config",
            "LogConfig",
        ):  # of a volume, network or log driver
            return {
                k: (
                    text(str(v), redactor)
                    if not SECRET.search(k)
                    and re.fullmatch(r"max-\w+|mode|compress|com\.docker\..*|tag|type|device|o|mtu|internal|parent", k)
                    else redactor.fingerprint(str(v))
                )
                for k, v in value.items()
            }
        return {k: _part(str(k), v, redactor, key) for k, v in value.items()}
    if isinstance(value, list):
        if key == "Env":
            return environment(value, redactor)
        if key in ("Cmd", "Entrypoint", "Args", "Test", "Shell"):
            return command(value, redactor)
        return [_part(key, v, redactor) for v in value]
    if isinstance(value, str):
        if SECRET.search(key) and value:
            return redactor.fingerprint(value)
        return script(value, redactor) if key == "Output" else text(value, redactor)
    return value


def event(wire: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """An event of the engine: labels among its attributes and the command of an exec without secrets."""
    out = dict(wire)
    for name in ("Action", "status"):
        if isinstance(out.get(name), str) and out[name].startswith("exec_"):
            verb, colon, rest = out[name].partition(":")
            out[name] = verb + colon + script(rest, redactor)
    actor = dict(out.get("Actor") or {})
    found = actor.get("Attributes") or {}
    own = {k: text(str(v), redactor) for k, v in found.items() if k in _ATTRIBUTE}
    actor["Attributes"] = {**labels({k: v for k, v in found.items() if k not in _ATTRIBUTE}, redactor), **own}
    out["Actor"] = actor
    return out


def config(data: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """`openclaw.json` with the gateway's, the log's and the release's settings kept, everything else as fingerprints."""
    return {str(k): _setting(str(k), v, redactor, known=k in PUBLIC_CONFIG) for k, v in data.items()}


def _setting(key: str, value: Any, redactor: Redactor, *, known: bool, hidden: bool = False) -> Any:
    """A setting without its secrets; `hidden` when a key above it says that what is below is one."""
    hidden = hidden or SECRET.search(key) is not None
    if isinstance(value, dict):
        return {str(k): _setting(str(k), v, redactor, known=known, hidden=hidden) for k, v in value.items()}
    if isinstance(value, list):
        return [_setting(key, v, redactor, known=known, hidden=hidden) for v in value]
    if isinstance(value, bool) or value is None:
        return value
    if not known:
        return redactor.fingerprint(str(value))
    if hidden:
        return secret(str(value), redactor)
    return text(value, redactor) if isinstance(value, str) else value


def secrets(data: Any) -> Iterator[str]:
    """The values of a document that their keys, or the names of variables, call secret: they may turn up anywhere else."""
    stack = [("", data)]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            stack += [(str(k), v) for k, v in value.items()]
        elif isinstance(value, list):
            stack += [variable if (variable := _variable(v)) else (key, v) for v in value]
            stack += [
                ("secret", v) for flag, v in pairwise(value) if isinstance(flag, str) and _TELLING.fullmatch(flag)
            ]
        elif isinstance(value, str) and SECRET.search(key):
            default = _DEFAULT.fullmatch(value)
            if default or not _REFERENCE.fullmatch(value):
                yield default[1] if default else value
        elif isinstance(value, str) and "--" in value and len(words := value.split()) > 1:  # a command line
            stack.append((key, words))
        # a password of digits, which YAML takes for a number
        elif isinstance(value, int) and _ENV_SECRET.fullmatch(key):
            yield str(value)


def _variable(pair: Any) -> tuple[str, str] | None:
    """Name and value of `NAME=value`, or of `--name=value`."""
    found = _VARIABLE.fullmatch(pair) if isinstance(pair, str) else None
    return (found[1], found[2].strip("\"'")) if found else None
