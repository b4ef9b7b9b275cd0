"""Reads Apache httpd's configuration and its parts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from occorr.configs.base import Declared, Finding, Reader, Statement, bare, durations, last_part

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNS: Final = (
    r"(?m)^\s*(?:ProxyPass|ProxyPassMatch|ProxyTimeout|<VirtualHost|<Proxy|LogFormat)\b",
    r"(?m)^\s*(?:LoadModule|Listen|ServerName|ServerRoot|ProxyPass\w*|CustomLog|LogFormat)\s+\S",
)
TIMEOUTS: Final = (
    (r"(?im)^\s*ProxyTimeout\s+(\w+)", "timeout.idle"),
    (r"(?im)^\s*ProxyPass\w*\s[^\n]*\btimeout=(\w+)", "timeout.idle"),
    (r"(?im)^\s*ProxyPass\w*\s[^\n]*\bconnectiontimeout=(\w+)", "timeout.connect"),
)


def recognised(text: str) -> bool:
    """Whether a text holds all that such a configuration must hold."""
    return all(re.search(sign, bare(text)) for sign in SIGNS)


def _statements(text: str) -> list[Statement]:
    """The directives of an Apache configuration."""
    out: list[Statement] = []
    blocks: list[str] = []
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        start, raw = number, lines[number]
        while raw.endswith("\\") and number + 1 < len(lines):
            number += 1
            raw = raw[:-1] + lines[number]
        number += 1
        line = raw.strip()
        if line.startswith("</"):
            blocks = blocks[:-1]
            continue
        words = tuple(
            re.sub(r'\\"', '"', a) if a else b
            for a, b in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line.strip("<>") if line.startswith("<") else line)
        )
        if not words or line.startswith("#"):
            continue
        if line.startswith("<"):
            blocks.append(words[0].lower())
            continue
        out.append(Statement(words, tuple(blocks), start + 1, line))
    return out


def formats(text: str) -> list[Declared]:
    """The log formats that a configuration declares or uses, and the logs that are written in each."""
    statements = _statements(text)
    files: dict[str, list[str]] = {}
    inline: list[Declared] = []
    for s in statements:
        if s.words[0].lower() not in ("customlog", "transferlog") or len(s.words) < 2:
            continue
        name = s.words[2] if len(s.words) > 2 else "common"
        if "%" in name:
            inline.append(Declared("apache", f"line{s.line}", _as_statement(name), (last_part(s.words[1]),), s.line))
        else:
            files.setdefault(name, []).append(last_part(s.words[1]))
    made = [
        Declared(
            "apache", s.words[2], _as_statement(s.words[1]), tuple(dict.fromkeys(files.pop(s.words[2], []))), s.line
        )
        for s in statements
        if s.words[0].lower() == "logformat" and len(s.words) > 2
    ]
    return [*made, *inline, *(Declared("apache", n, "", tuple(dict.fromkeys(f)), 1) for n, f in files.items())]


def _as_statement(form: str) -> str:
    return 'LogFormat "' + form.replace('"', '\\"') + '"'


def timeouts(text: str) -> Iterator[Finding]:
    """The timeouts, in seconds."""
    return durations(text, TIMEOUTS)


def gaps(text: str) -> Iterator[Finding]:
    """What the logs will not show."""
    statements = _statements(text)
    logs = [s for s in statements if s.words[0].lower() in ("customlog", "transferlog", "globallog")]
    passes = [s for s in statements if s.words[0].lower() in ("proxypass", "proxypassmatch")]
    if passes and not logs and any(s.words[0].lower() in ("loadmodule", "serverroot") for s in statements):
        yield Finding("logging.access", "Apache writes no access log (no CustomLog); add one with %D", passes[0].line)
    for s in logs:
        condition = next((w for w in s.words[2:] if w.startswith(("env=", "expr="))), None)
        if condition:
            yield Finding(
                "logging.access",
                f"Apache leaves requests out of its access log (CustomLog … {condition}); log upgrades too",
                s.line,
            )
            break
    declared = {s.words[2]: s for s in statements if s.words[0].lower() == "logformat" and len(s.words) > 2}
    used = [(s.words[2] if len(s.words) > 2 else "common", s.line) for s in logs]
    shown = [
        (declared[n].words[1] if n in declared else n, n, line)
        for n, line in used
        if n in declared or "%" in n or n in ("common", "combined")
    ]
    if (
        passes
        and shown
        and not any(re.search(r"%(?:[<>])?(?:\{[^}]*\})?[DT](?![a-z])|%\{end:", form) for form, _, _ in shown)
    ):
        yield Finding(
            "logging.duration",
            f"Apache's log format {shown[0][1] if '%' not in shown[0][1] else 'of its CustomLog'} holds no duration,"
            " and its stamp is the beginning: when a connection ended is not known; add %D",
            shown[0][2],
        )


READER: Final = Reader("Apache httpd configuration", recognised, timeouts, gaps, formats)
