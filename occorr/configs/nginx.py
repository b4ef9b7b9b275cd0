"""Reads `nginx.conf` and its parts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from occorr.configs.base import QUIET, Declared, Finding, Reader, Statement, bare, durations, last_part, line_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SIGNS: Final = (
    r"(?m)(?:^|[;{}])\s*(?:(?:http|server|location|upstream|events)\b[^;\n]*\{|log_format\s+\w+\s+[^;]*['\"]?\$)",
    r";\s*(?:$|\n|\}|#)",
    r"(?m)(?:^|[\s;{])(?:proxy_pass|proxy_read_timeout|log_format|listen|server_name)\s[^;]*;",
)
TIMEOUTS: Final = (
    (r"\bproxy_read_timeout\s+([\w.]+)\s*;", "timeout.idle"),
    (r"\bproxy_send_timeout\s+([\w.]+)\s*;", "timeout.send"),
    (r"\bproxy_connect_timeout\s+([\w.]+)\s*;", "timeout.connect"),
)


def recognised(text: str) -> bool:
    """Whether a text holds all that such a configuration must hold."""
    return all(re.search(sign, bare(text)) for sign in SIGNS)


def _statements(text: str) -> list[Statement]:
    """The statements of an nginx configuration."""
    token = re.compile(
        r"""\s+|\#[^\n]*|'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([{};])|((?:\$\{\w+\}|\\.|[^\s;{}'"\\])(?:\$\{\w+\}|\\.|[^\s;{}\\])*)"""
    )
    out: list[Statement] = []
    words: list[str] = []
    blocks: list[str] = []
    start = position = 0
    while position < len(text):
        found = token.match(text, position)
        if found is None:
            position += 1
            continue
        position = found.end()
        if found[3] is None:
            word = next((g for g in (found[1], found[2], found[4]) if g is not None), None)
            if word is not None:
                start = start if words else found.start()
                words.append(word)
            continue
        if words:
            out.append(Statement(tuple(words), tuple(blocks), line_at(text, start), text[start : found.start()]))
        if found[3] == "{":
            blocks.append(words[0] if words else "")
        elif found[3] == "}" and blocks:
            blocks.pop()
        words = []
    return out


def formats(text: str) -> list[Declared]:
    """The log formats that a configuration declares or uses, and the logs that are written in each."""
    statements = _statements(text)
    files: dict[str, list[str]] = {}
    for s in statements:
        if s.words[0] == "access_log" and len(s.words) > 1 and s.words[1] != "off":
            used = next((w for w in s.words[2:] if "=" not in w), "combined")
            files.setdefault(used, []).append(last_part(s.words[1]))
    made = [
        Declared("nginx", s.words[1], s.raw + ";", tuple(dict.fromkeys(files.pop(s.words[1], []))), s.line)
        for s in statements
        if s.words[0] == "log_format" and len(s.words) > 2
    ]
    # what is used here and declared elsewhere, or known by nginx itself
    return [*made, *(Declared("nginx", n, "", tuple(dict.fromkeys(f)), 1) for n, f in files.items())]


def timeouts(text: str) -> Iterator[Finding]:
    """The timeouts, in seconds."""
    return durations(text, TIMEOUTS)


def gaps(text: str) -> Iterator[Finding]:
    """What the logs will not show."""
    statements = _statements(text)
    logs = [s for s in statements if s.words[0] == "access_log" and len(s.words) > 1]
    on = [s for s in logs if s.words[1] != "off"]
    off = [s for s in logs if s.words[1] == "off"]
    whole = any(s.words[0] in ("proxy_pass", "grpc_pass") for s in statements)
    upgraded = [s for s in off if "http" in s.inside or "server" in s.inside]
    hiding = [s for s in upgraded if s.inside[-1:] != ("location",) or _proxies(statements, s)]
    if hiding:
        where = (
            "for the location that it passes on"
            if hiding[0].inside[-1:] == ("location",)
            else "altogether"
            if not on
            else "in a part of its configuration"
        )
        yield Finding("logging.access", f"nginx logs no upgrades {where} (access_log off); turn it on", hiding[0].line)
    for s in on:
        condition = next((w for w in s.words[2:] if w.startswith("if=")), None)
        if condition:
            yield Finding(
                "logging.access",
                f"nginx leaves requests out of its access log (access_log … {condition}); log upgrades too",
                s.line,
            )
            break
    levels = [s for s in statements if s.words[0] == "error_log" and len(s.words) > 1]
    quiet = [s for s in levels if (s.words[2] if len(s.words) > 2 else "error") in QUIET]
    if levels and len(quiet) == len(levels):
        yield Finding(
            "logging.errors",
            f"nginx's error log begins at {quiet[0].words[2] if len(quiet[0].words) > 2 else 'error'}, so idle timeouts"
            " and resets by clients do not show; set error_log … info",
            quiet[0].line,
        )
    declared = {s.words[1]: s for s in statements if s.words[0] == "log_format" and len(s.words) > 2}
    used = [(next((w for w in s.words[2:] if "=" not in w), "combined"), s.line) for s in on]
    known = [(n, line) for n, line in used if n in declared or n == "combined"]
    if whole and known and not any("request_time" in declared[n].raw for n, _ in known if n in declared):
        yield Finding(
            "logging.duration",
            f"nginx's log format {known[0][0]} holds no $request_time, so how long a connection lasted is not known;"
            " add $msec and $request_time",
            known[0][1],
        )


def _proxies(statements: Sequence[Statement], off: Statement) -> bool:
    """Whether the location of a statement passes requests on: the statements between two blocks are neighbours."""
    at = statements.index(off)
    depth = len(off.inside)
    for step in (1, -1):
        i = at + step
        while 0 <= i < len(statements) and len(statements[i].inside) >= depth:
            if statements[i].inside[:depth] == off.inside and statements[i].words[0] == "proxy_pass":
                return True
            i += step
    return False


READER: Final = Reader("nginx configuration", recognised, timeouts, gaps, formats)
