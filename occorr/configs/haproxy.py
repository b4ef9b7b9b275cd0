"""Reads `haproxy.cfg`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from occorr.configs.base import QUIET, Declared, Finding, Reader, bare, durations

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNS: Final = (r"(?m)^(?:defaults|frontend|backend|listen)\b", r"(?m)^\s+(?:bind|server|mode|timeout)\s")
TIMEOUTS: Final = (
    (r"(?m)^\s*timeout\s+tunnel\s+(\w+)", "timeout.idle"),
    (r"(?m)^\s*timeout\s+client\s+(\w+)", "timeout.idle.client"),
    (r"(?m)^\s*timeout\s+server\s+(\w+)", "timeout.idle.server"),
    (r"(?m)^\s*timeout\s+connect\s+(\w+)", "timeout.connect"),
    (r"(?m)^\s*timeout\s+http-request\s+(\w+)", "timeout.handshake"),
)


def recognised(text: str) -> bool:
    """Whether a text holds all that such a configuration must hold."""
    return all(re.search(sign, bare(text)) for sign in SIGNS)


def _statements(text: str) -> Iterator[tuple[str, str, int]]:
    """Section, statement and line of each line of a HAProxy configuration."""
    section = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(?:^|\s)#.*$", "", raw) if '"' not in raw and "'" not in raw else raw
        if re.match(
            r"(?:global|defaults|frontend|backend|listen|userlist|peers|resolvers|program|cache|mailers|http-errors)\b",
            line,
        ):
            section = line.strip()
        if line.strip() and not line.lstrip().startswith("#"):
            yield section, line.strip(), number


def formats(text: str) -> list[Declared]:
    """The log formats that a configuration declares or uses, and the logs that are written in each."""
    found = [(section, line, number) for section, line, number in _statements(text) if re.match(r"log-format\s", line)]
    return [
        Declared("haproxy", re.sub(r"\W+", "_", section) or "custom", line, ("*",), number)
        for section, line, number in found
    ]


def upstreams(text: str) -> Iterator[Finding]:
    """The address of each server, as `upstream.BACKEND/SERVER`: what the log calls an upstream is its name."""
    for section, line, number in _statements(text):
        backend = re.match(r"(?:backend|listen)\s+(\S+)", section)
        if backend and (server := re.match(r"server\s+(\S+)\s+(?:ipv[46]@|(unix@))?(\S+)", line)):
            yield Finding(f"upstream.{backend[1]}/{server[1]}", ("unix:" if server[2] else "") + server[3], number)


def timeouts(text: str) -> Iterator[Finding]:
    """The timeouts, in seconds; a bare number is milliseconds.

    Once a connection is a tunnel, the timeouts of client and server do not count if there is one for tunnels.
    """
    found = list(durations(text, TIMEOUTS, 0.001))
    if all(f.key != "timeout.idle" for f in found):
        yield from found
    else:
        yield from (replace(f, key=f.key.replace("idle.", "")) for f in found)


def gaps(text: str) -> Iterator[Finding]:
    """What the logs will not show."""
    lines = list(_statements(text))
    targets = [
        (line, n)
        for section, line, n in lines
        if section.startswith(("global", "defaults", "frontend", "listen")) and re.match(r"log\s+(?!global\b|-)", line)
    ]
    fronts = any(s.startswith(("frontend", "listen")) for s, _, _ in lines)
    if fronts and any(s == "global" for s, _, _ in lines) and not targets:
        yield Finding(
            "logging.access",
            "HAProxy has no log target; add 'log stdout format raw local0 info' to global and 'log global' to defaults",
            1,
        )
    for line, n in targets[:1]:
        level = line.split()[-1]
        if level in QUIET:
            yield Finding(
                "logging.access",
                f"HAProxy's log target keeps {level} and above, and its lines of connections are info; set it to info",
                n,
            )
    for _, line, n in lines:
        if re.match(r"option\s+dontlog-normal\b", line):
            yield Finding(
                "logging.access",
                "HAProxy leaves out connections that ended without an error (option dontlog-normal); remove it",
                n,
            )
        elif re.match(r"option\s+logasap\b", line):
            yield Finding(
                "logging.duration",
                "HAProxy writes its line when a connection begins (option logasap), so neither its duration nor how it"
                " ended is known; remove it",
                n,
            )
        elif re.match(r"(?:no\s+log\b|http-request\s+set-log-level\s+silent)", line):
            yield Finding(
                "logging.access",
                f"HAProxy logs nothing for a part of its traffic ({line.split(' if ')[0]}); let it log upgrades",
                n,
            )
    logs = any(re.match(r"(?:option\s+(?:httplog|tcplog|httpslog)|log-format)\b", line) for _, line, _ in lines)
    if fronts and targets and not logs:
        yield Finding(
            "logging.duration",
            "HAProxy's default log line holds neither duration nor termination state; add 'option httplog'",
            targets[0][1],
        )


READER: Final = Reader("HAProxy configuration", recognised, timeouts, gaps, formats, upstreams)
