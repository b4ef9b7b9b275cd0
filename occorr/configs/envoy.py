"""Reads Envoy's bootstrap configuration: YAML or JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from occorr.configs.base import Finding, Reader, durations, line_at, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUTS: Final = (
    (r"\bstream_idle_timeout[\"']?\s*:\s*[\"']?([\w.]+)", "timeout.idle"),
    (r"\bconnect_timeout[\"']?\s*:\s*[\"']?([\w.]+)", "timeout.connect"),
)

READ: Final = ("start_time", "duration", "response_code", "response_flags")  # keys of an access log that is read
USUAL: Final = "[%START_TIME%]"  # what the usual form begins with


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
    yield from _forms(text)


def _forms(text: str) -> Iterator[Finding]:
    """Forms of access logs that are not read; the names of a JSON form's keys are its own."""
    for form in re.finditer(r"\bjson_format\b|\btext_format(?:_source)?\b", text):
        lacking = [key for key in READ if not re.search(rf"\b{key}\b[\"']?\s*:", text)]
        at = line_at(text, form.start())
        if form[0] == "json_format":
            if lacking:
                why = f"Envoy's json_format lacks keys by which its lines are read: {', '.join(lacking)}"
                yield Finding("logging.access", why, at)
        elif USUAL not in text:
            why = (
                f"Envoy's access log has a form of its own ({form[0]}), which is not read;"
                f" without it, or with a json_format of the keys {', '.join(READ)}, it is"
            )
            yield Finding("logging.access", why, at)


READER: Final = Reader("Envoy configuration", recognised, timeouts, gaps)
