"""What the readers of all proxies' configurations share: their findings, durations, and where a statement stands."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# What a text, or a tree of it, that is not of the shape that its reader expects may raise: people write these by hand.
SHAPELESS: Final = (
    yaml.YAMLError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    RecursionError,
)
QUIET: Final = (
    "notice",
    "warn",
    "warning",
    "err",
    "error",
    "crit",
    "alert",
    "emerg",
)  # levels above the lines of connections


@dataclass(frozen=True, slots=True)
class Finding:
    """A property that a configuration sets; `line` counts from 1."""

    key: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Declared:
    """A log format: its statement, and the last parts of the paths of the logs that are written in it.

    `text` is empty for a format that the program knows by itself. `files` holds `*` where the log goes to a stream or
    to syslog.
    """

    kind: str
    name: str
    text: str
    files: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of nginx or Apache: its words without their quotes, the blocks that it stands in, its line."""

    words: tuple[str, ...]
    inside: tuple[str, ...]
    line: int
    raw: str


@dataclass(frozen=True, slots=True)
class Reader:
    """How configurations of one proxy are read.

    Attributes:
        title: what a person is told that the document is.
        recognised: whether a text is such a configuration.
        timeouts: the timeouts that a configuration sets, in seconds. `timeout.idle` ends a silent connection,
            `timeout.connect` and `timeout.handshake` one that never opened, `timeout.life` every one.
        gaps: what the logs will not show, as sentences under `logging.…`.
        formats: the log formats that a configuration declares or uses.
        upstreams: `upstream.NAME`, the address behind a name that the log says instead of it.
    """

    title: str
    recognised: Callable[[str], bool]
    timeouts: Callable[[str], Iterable[Finding]]
    gaps: Callable[[str], Iterable[Finding]]
    formats: Callable[[str], list[Declared]] = lambda _: []
    upstreams: Callable[[str], Iterable[Finding]] = lambda _: ()


def durations(text: str, patterns: Iterable[tuple[str, str]], unit: float = 1.0) -> Iterator[Finding]:
    """The durations of a configuration in seconds.

    Args:
        text: the configuration.
        patterns: a regex whose first group is the duration, and the key of its finding.
        unit: what a bare number counts, in seconds.
    """
    told = bare(text)
    for pattern, key in patterns:
        for found in re.finditer(pattern, told):
            if (limit := seconds(found[1], unit)) is not None:
                yield Finding(key, f"{limit:g}", line_at(told, found.start(1)))


def seconds(text: str, unit: float) -> float | None:
    """`90`, `500ms`, `1h30m` in seconds; a bare number is in the proxy's own unit."""
    if re.fullmatch(r"[\d.]+", text):
        return float(text) * unit
    parts = re.findall(r"([\d.]+)(us|ms|s|m|h|d)", text)
    return sum(float(n) * _UNITS[u] for n, u in parts) if parts else None


def bare(text: str) -> str:
    """A text without its comment lines."""
    return re.sub(r"(?m)^\s*#.*$", "", text)  # the line breaks stay, so lines keep their numbers


@lru_cache(maxsize=8)  # each input is asked several times, and YAML is slow
def tree(text: str) -> dict[str, Any] | None:
    """A YAML, JSON or TOML text as a tree, where it looks like a configuration at all."""
    json = text.lstrip().startswith("{") and re.search(r'"static_resources"|envoy\.config\.listener', text) is not None
    if not json and not re.search(
        r"(?m)^(?:\s*\{?\s*\"(?:static_resources|entryPoints|http)\"\s*:|(?:static_resources|entryPoints|providers|http|serversTransport|accessLog):(?:\s|$)|\[(?:entryPoints|providers|http|accessLog)\b)",
        text,
    ):
        return None
    for load in (yaml.safe_load, tomllib.loads):
        try:
            data = load(text)
        except SHAPELESS:
            continue
        if isinstance(data, dict):
            return data
    return None


def line_at(text: str, at: int) -> int:
    """The number of the line, from 1, that holds a place of a text."""
    return text.count("\n", 0, at) + 1


def last_part(path: str) -> str:
    """The last part of a log's path; `*` for a stream or syslog, whose lines may arrive under any name.

    The image of Docker's library links /var/log/nginx to the streams.
    """
    if path.startswith(("syslog:", "/dev/", "|", "/proc/")):
        return "*"
    return path.rstrip('"').rpartition("/")[2] or "*"
