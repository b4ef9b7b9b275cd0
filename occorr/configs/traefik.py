"""Reads Traefik's configuration, static or dynamic: YAML, TOML or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from occorr.configs.base import Finding, Reader, durations, line_at, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLES: Final = frozenset(
    {
        "entryPoints",
        "http",
        "providers",
        "serversTransport",
        "accessLog",
        "log",
        "api",
        "certificatesResolvers",
        "tls",
        "tcp",
        "global",
        "metrics",
        "tracing",
        "experimental",
        "ping",
    }
)
TIMEOUTS: Final = (
    (r"(?m)\bdialTimeout[\"']?\s*[:=]\s*[\"']?(\w+)", "timeout.connect"),
    (r"(?m)\bresponseHeaderTimeout[\"']?\s*[:=]\s*[\"']?(\w+)", "timeout.handshake"),
)


def recognised(text: str) -> bool:
    """Whether a text is a tree of nothing but Traefik's tables."""
    data = tree(text)
    return (
        data is not None
        and set(data) <= TABLES
        and any(isinstance(data[k], dict) for k in data)
        and any(k in data for k in ("entryPoints", "providers", "http", "serversTransport"))
    )


def timeouts(text: str) -> Iterator[Finding]:
    """The timeouts, in seconds."""
    return durations(text, TIMEOUTS)


def gaps(text: str) -> Iterator[Finding]:
    """What the logs will not show."""
    data = tree(text) or {}
    log = data.get("accessLog")
    if "entryPoints" in data and "accessLog" not in data:
        yield Finding(
            "logging.access",
            "Traefik writes no access log; add 'accessLog: {format: json}' to its static configuration",
            1,
        )
        return
    filters = (log or {}).get("filters") if isinstance(log, dict) else None
    at = line_at(text, max(text.find("filters"), 0))
    codes = [str(c) for c in (filters or {}).get("statusCodes", [])]
    if codes and not any(_covers(c) for c in codes):
        yield Finding(
            "logging.access",
            "Traefik leaves WebSockets out of its access log, whose status it writes as 0"
            f" (accessLog.filters.statusCodes {', '.join(codes)}); remove the filter",
            at,
        )
    least = (filters or {}).get("minDuration")
    if least:
        yield Finding(
            "logging.access",
            f"Traefik leaves out what lasted less than {least} (accessLog.filters.minDuration), so refusals do not"
            " show",
            at,
        )
    fields = (log or {}).get("fields") if isinstance(log, dict) else None
    if (
        isinstance(fields, dict)
        and fields.get("defaultMode") == "drop"
        and "Duration" not in (fields.get("names") or {})
    ):
        yield Finding(
            "logging.duration",
            "Traefik drops the fields of its access log (accessLog.fields.defaultMode: drop); keep Duration, StartUTC"
            " and ClientAddr",
            line_at(text, max(text.find("defaultMode"), 0)),
        )
    level = data.get("log", {}).get("level") if isinstance(data.get("log"), dict) else None
    if level and str(level).upper() in ("ERROR", "FATAL", "PANIC", "WARN", "INFO"):
        yield Finding(
            "logging.errors",
            f"Traefik's own log begins at {level}, and why it could not reach the gateway stands at DEBUG",
            line_at(text, max(text.find("level"), 0)),
        )


def _covers(codes: str) -> bool:
    """Whether a range of statuses holds the 0 or the 101 of a WebSocket."""
    low, _, high = codes.partition("-")
    return low.isdigit() and any(int(low) <= c <= int(high or low) for c in (0, 101))


READER: Final = Reader("Traefik configuration", recognised, timeouts, gaps)
