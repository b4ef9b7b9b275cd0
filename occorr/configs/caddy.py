"""Reads a Caddyfile."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from occorr.configs.base import Finding, Reader, bare, durations, line_at

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNS: Final = (r"(?m)^[^\n;]*\{\s*$", r"(?m)(?:^|[\s{])reverse_proxy\s", r"(?m)^\s*\}\s*$")
TIMEOUTS: Final = (
    (r"\bstream_timeout\s+(\w+)", "timeout.life"),
    (r"\bdial_timeout\s+(\w+)", "timeout.connect"),
    (r"\bresponse_header_timeout\s+(\w+)", "timeout.handshake"),
)


def recognised(text: str) -> bool:
    """Whether a text holds all that such a configuration must hold."""
    return all(re.search(sign, bare(text)) for sign in SIGNS)


def timeouts(text: str) -> Iterator[Finding]:
    """The timeouts, in seconds."""
    return durations(text, TIMEOUTS)


def gaps(text: str) -> Iterator[Finding]:
    """What the logs will not show."""
    whole = bare(text)
    proxied = re.search(r"(?m)(?:^|[\s{])reverse_proxy\s", whole)
    body = whole
    options = re.match(r"\s*\{", whole)  # the global options hold only the log of Caddy itself
    if options:
        depth = 0
        for at, c in enumerate(whole):
            depth += (c == "{") - (c == "}")
            if c == "}" and depth == 0:
                body = whole[at + 1 :]
                break
    if (
        proxied
        and not re.search(r"(?m)^\s*log(?:\s+\w+)?\s*(?:\{|$)", body)
        and not re.search(r"(?m)^\s*import\s", body)
    ):
        yield Finding(
            "logging.access",
            "Caddy writes no access log for its sites; add a log block to the site",
            line_at(whole, proxied.start()),
        )
    if found := re.search(r"(?m)^\s*(?:log_skip|skip_log)\b.*$", body):
        yield Finding(
            "logging.access",
            f"Caddy leaves requests out of its access log ({found[0].strip()}); log upgrades too",
            line_at(whole, found.start() + len(whole) - len(body)),
        )
    if found := re.search(r"(?m)^\s*level\s+(WARN|ERROR|PANIC|FATAL)\b", body):
        yield Finding(
            "logging.access",
            f"Caddy's log begins at {found[1]}, and its access lines are INFO; remove the level",
            line_at(whole, found.start(1) + len(whole) - len(body)),
        )


READER: Final = Reader("Caddyfile", recognised, timeouts, gaps)
