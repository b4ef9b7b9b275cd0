"""Reads Envoy's bootstrap configuration: YAML or JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from occorr.configs.base import Finding, Reader, durations, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUTS: Final = (
    (r"\bstream_idle_timeout[\"']?\s*:\s*[\"']?([\w.]+)", "timeout.idle"),
    (r"\bconnect_timeout[\"']?\s*:\s*[\"']?([\w.]+)", "timeout.connect"),
)


def recognised(text: str) -> bool:
    """Whether a text is a bootstrap configuration, or a listener of one."""
    data = tree(text)
    return data is not None and ("static_resources" in data or "envoy.config.listener" in text)


def timeouts(text: str) -> Iterator[Finding]:
    """The timeouts, in seconds."""
    return durations(text, TIMEOUTS)


def gaps(text: str) -> Iterator[Finding]:
    """What the logs will not show."""
    if re.search(r"\bfilter_chains\b", text) and "access_log" not in text:
        yield Finding("logging.access", "Envoy writes no access log; add access_log to the connection manager", 1)


READER: Final = Reader("Envoy configuration", recognised, timeouts, gaps)
