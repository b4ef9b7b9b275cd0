r"""Reads configurations of reverse proxies: the timeouts they set, the log formats they declare, and what their logs will not show.

A configuration is recognised by its statements and never by its name. Each reader keeps the lines' numbers, so that a
fact can say where it stands.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LIMIT: Final = 1 << 18  # a configuration larger than this is none
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
TITLES: Final = {
    "nginx": "nginx configuration",
    "haproxy": "HAProxy configuration",
    "apache": "Apache httpd configuration",
    "caddy": "Caddyfile",
    "traefik": "Traefik configuration",
    "envoy": "Envoy configuration",
}
# What a configuration must hold to be one, and where its timeouts stand. `timeout.idle` ends a silent connection,
# `timeout.connect` and `timeout.handshake` one that never opened, `timeout.life` every one.
_SIGNS: Final = {
    "nginx": (
        r"(?m)(?:^|[;{}])\s*(?:(?:http|server|location|upstream|events)\b[^;\n]*\{|log_format\s+\w+\s+[^;]*['\"]?\$)",
        r";\s*(?:$|\n|\}|#)",
        r"(?m)(?:^|[\s;{])(?:proxy_pass|proxy_read_timeout|log_format|listen|server_name)\s[^;]*;",
    ),
    "haproxy": (r"(?m)^(?:defaults|frontend|backend|listen)\b", r"(?m)^\s+(?:bind|server|mode|timeout)\s"),
    "apache": (
        r"(?m)^\s*(?:ProxyPass|ProxyPassMatch|ProxyTimeout|<VirtualHost|<Proxy|LogFormat)\b",
        r"(?m)^\s*(?:LoadModule|Listen|ServerName|ServerRoot|ProxyPass\w*|CustomLog|LogFormat)\s+\S",
    ),
    "caddy": (r"(?m)^[^\n;]*\{\s*$", r"(?m)(?:^|[\s{])reverse_proxy\s", r"(?m)^\s*\}\s*$"),
}
_TIMEOUTS: Final = {
    "nginx": (
        (r"\bproxy_read_timeout\s+([\w.]+)\s*;", "timeout.idle"),
        (r"\bproxy_send_timeout\s+([\w.]+)\s*;", "timeout.send"),
        (r"\bproxy_connect_timeout\s+([\w.]+)\s*;", "timeout.connect"),
    ),
    "haproxy": (
        (r"(?m)^\s*timeout\s+tunnel\s+(\w+)", "timeout.idle"),
        (r"(?m)^\s*timeout\s+client\s+(\w+)", "timeout.idle.client"),
        (r"(?m)^\s*timeout\s+server\s+(\w+)", "timeout.idle.server"),
        (r"(?m)^\s*timeout\s+connect\s+(\w+)", "timeout.connect"),
        (r"(?m)^\s*timeout\s+http-request\s+(\w+)", "timeout.handshake"),
    ),
    "apache": (
        (r"(?im)^\s*ProxyTimeout\s+(\w+)", "timeout.idle"),
        (r"(?im)^\s*ProxyPass\w*\s[^\n]*\btimeout=(\w+)", "timeout.idle"),
        (r"(?im)^\s*ProxyPass\w*\s[^\n]*\bconnectiontimeout=(\w+)", "timeout.connect"),
    ),
    "caddy": (
        (r"\bstream_timeout\s+(\w+)", "timeout.life"),
        (r"\bdial_timeout\s+(\w+)", "timeout.connect"),
        (r"\bresponse_header_timeout\s+(\w+)", "timeout.handshake"),
    ),
    "traefik": (
        (r"(?m)\bdialTimeout[\"']?\s*[:=]\s*[\"']?(\w+)", "timeout.connect"),
        (r"(?m)\bresponseHeaderTimeout[\"']?\s*[:=]\s*[\"']?(\w+)", "timeout.handshake"),
    ),
    "envoy": (
        (r"\bstream_idle_timeout[\"']?\s*:\s*[\"']?([\w.]+)", "timeout.idle"),
        (r"\bconnect_timeout[\"']?\s*:\s*[\"']?([\w.]+)", "timeout.connect"),
    ),
}
_TRAEFIK: Final = frozenset(
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
_QUIET: Final = ("notice", "warn", "warning", "err", "error", "crit", "alert", "emerg")


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


def kind(text: str) -> str | None:
    """Whose configuration a text is, or None."""
    if len(text) > LIMIT:
        return None
    bare = _bare(text)
    for name, signs in _SIGNS.items():
        if all(re.search(sign, bare) for sign in signs):
            return name
    data = _tree(text)
    if data is not None and ("static_resources" in data or "envoy.config.listener" in text):
        return "envoy"
    if (
        data is not None
        and len(_TRAEFIK & set(data))
        and set(data) <= _TRAEFIK
        and any(isinstance(data[k], dict) for k in _TRAEFIK & set(data))
        and any(k in data for k in ("entryPoints", "providers", "http", "serversTransport"))
    ):
        return "traefik"
    return None


def findings(name: str, text: str) -> list[Finding]:
    """The timeouts in seconds, and the gaps of the logs as sentences under `logging.…`."""
    return [*_timeouts(name, text), *_GAPS[name](text)]


def formats(name: str, text: str) -> list[Declared]:
    """The log formats that a configuration declares or uses."""
    return _FORMATS[name](text) if name in _FORMATS else []


def seconds(text: str, unit: float) -> float | None:
    """`90`, `500ms`, `1h30m` in seconds; a bare number is in the proxy's own unit."""
    if re.fullmatch(r"[\d.]+", text):
        return float(text) * unit
    parts = re.findall(r"([\d.]+)(us|ms|s|m|h|d)", text)
    return sum(float(n) * _UNITS[u] for n, u in parts) if parts else None


def _bare(text: str) -> str:
    return re.sub(r"(?m)^\s*#.*$", "", text)  # the line breaks stay, so lines keep their numbers


def _tree(text: str) -> dict[str, Any] | None:
    """A YAML, JSON or TOML text as a tree, where it looks like a configuration at all."""
    json = text.lstrip().startswith("{") and re.search(r'"static_resources"|envoy\.config\.listener', text) is not None
    if not json and not re.search(
        r"(?m)^(?:\s*\{?\s*\"(?:static_resources|entryPoints|http)\"\s*:|(?:static_resources|entryPoints|providers|http|serversTransport|accessLog):(?:\s|$)|\[(?:entryPoints|providers|http|accessLog)\b)",
        text,
    ):
        return None
    for load, wrong in ((yaml.safe_load, yaml.YAMLError), (tomllib.loads, tomllib.TOMLDecodeError)):
        try:
            data = load(text)
        except wrong:
            continue
        if isinstance(data, dict):
            return data
    return None


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _timeouts(name: str, text: str) -> Iterator[Finding]:
    bare = _bare(text)
    tunnel = name == "haproxy" and re.search(r"(?m)^\s*timeout\s+tunnel\s", bare) is not None
    for pattern, key in _TIMEOUTS[name]:
        for found in re.finditer(pattern, bare):
            limit = seconds(found[1], 0.001 if name == "haproxy" else 1.0)
            if limit is None:
                continue
            # once a connection is a tunnel, HAProxy's timeouts of client and server do not count if there is one for
            # tunnels
            shown = key.replace("idle.", "") if tunnel and key.startswith("timeout.idle.") else key
            yield Finding(shown, f"{limit:g}", _line(bare, found.start(1)))


# ---------------------------------------------------------------- nginx
def _nginx(text: str) -> list[Statement]:
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
            out.append(Statement(tuple(words), tuple(blocks), _line(text, start), text[start : found.start()]))
        if found[3] == "{":
            blocks.append(words[0] if words else "")
        elif found[3] == "}" and blocks:
            blocks.pop()
        words = []
    return out


def _nginx_formats(text: str) -> list[Declared]:
    statements = _nginx(text)
    files: dict[str, list[str]] = {}
    for s in statements:
        if s.words[0] == "access_log" and len(s.words) > 1 and s.words[1] != "off":
            used = next((w for w in s.words[2:] if "=" not in w), "combined")
            files.setdefault(used, []).append(_file(s.words[1]))
    made = [
        Declared("nginx", s.words[1], s.raw + ";", tuple(dict.fromkeys(files.pop(s.words[1], []))), s.line)
        for s in statements
        if s.words[0] == "log_format" and len(s.words) > 2
    ]
    # what is used here and declared elsewhere, or known by nginx itself
    return [*made, *(Declared("nginx", n, "", tuple(dict.fromkeys(f)), 1) for n, f in files.items())]


def _file(path: str) -> str:
    """The last part of a log's path; `*` for a stream or syslog, whose lines may arrive under any name.

    The image of Docker's library links /var/log/nginx to the streams.
    """
    if path.startswith(("syslog:", "/dev/", "|", "/proc/")):
        return "*"
    return path.rstrip('"').rpartition("/")[2] or "*"


def _nginx_gaps(text: str) -> Iterator[Finding]:
    statements = _nginx(text)
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
    quiet = [s for s in levels if (s.words[2] if len(s.words) > 2 else "error") in _QUIET]
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


# ---------------------------------------------------------------- HAProxy
def _haproxy(text: str) -> Iterator[tuple[str, str, int]]:
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


def _haproxy_formats(text: str) -> list[Declared]:
    found = [(section, line, number) for section, line, number in _haproxy(text) if re.match(r"log-format\s", line)]
    return [
        Declared("haproxy", re.sub(r"\W+", "_", section) or "custom", line, ("*",), number)
        for section, line, number in found
    ]


def _haproxy_gaps(text: str) -> Iterator[Finding]:
    lines = list(_haproxy(text))
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
        if level in _QUIET:
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


# ---------------------------------------------------------------- Apache
def _apache(text: str) -> list[Statement]:
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


def _apache_formats(text: str) -> list[Declared]:
    statements = _apache(text)
    files: dict[str, list[str]] = {}
    inline: list[Declared] = []
    for s in statements:
        if s.words[0].lower() not in ("customlog", "transferlog") or len(s.words) < 2:
            continue
        name = s.words[2] if len(s.words) > 2 else "common"
        if "%" in name:
            inline.append(Declared("apache", f"line{s.line}", _apache_text(name), (_file(s.words[1]),), s.line))
        else:
            files.setdefault(name, []).append(_file(s.words[1]))
    made = [
        Declared(
            "apache", s.words[2], _apache_text(s.words[1]), tuple(dict.fromkeys(files.pop(s.words[2], []))), s.line
        )
        for s in statements
        if s.words[0].lower() == "logformat" and len(s.words) > 2
    ]
    return [*made, *inline, *(Declared("apache", n, "", tuple(dict.fromkeys(f)), 1) for n, f in files.items())]


def _apache_text(form: str) -> str:
    return 'LogFormat "' + form.replace('"', '\\"') + '"'


def _apache_gaps(text: str) -> Iterator[Finding]:
    statements = _apache(text)
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


# ---------------------------------------------------------------- Caddy, Traefik, Envoy
def _caddy_gaps(text: str) -> Iterator[Finding]:
    bare = _bare(text)
    proxied = re.search(r"(?m)(?:^|[\s{])reverse_proxy\s", bare)
    body = bare
    options = re.match(r"\s*\{", bare)  # the global options hold only the log of Caddy itself
    if options:
        depth = 0
        for at, c in enumerate(bare):
            depth += (c == "{") - (c == "}")
            if c == "}" and depth == 0:
                body = bare[at + 1 :]
                break
    if (
        proxied
        and not re.search(r"(?m)^\s*log(?:\s+\w+)?\s*(?:\{|$)", body)
        and not re.search(r"(?m)^\s*import\s", body)
    ):
        yield Finding(
            "logging.access",
            "Caddy writes no access log for its sites; add a log block to the site",
            _line(bare, proxied.start()),
        )
    if found := re.search(r"(?m)^\s*(?:log_skip|skip_log)\b.*$", body):
        yield Finding(
            "logging.access",
            f"Caddy leaves requests out of its access log ({found[0].strip()}); log upgrades too",
            _line(bare, found.start() + len(bare) - len(body)),
        )
    if found := re.search(r"(?m)^\s*level\s+(WARN|ERROR|PANIC|FATAL)\b", body):
        yield Finding(
            "logging.access",
            f"Caddy's log begins at {found[1]}, and its access lines are INFO; remove the level",
            _line(bare, found.start(1) + len(bare) - len(body)),
        )


def _traefik_gaps(text: str) -> Iterator[Finding]:
    data = _tree(text) or {}
    log = data.get("accessLog")
    if "entryPoints" in data and "accessLog" not in data:
        yield Finding(
            "logging.access",
            "Traefik writes no access log; add 'accessLog: {format: json}' to its static configuration",
            1,
        )
        return
    filters = (log or {}).get("filters") if isinstance(log, dict) else None
    at = _line(text, max(text.find("filters"), 0))
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
            _line(text, max(text.find("defaultMode"), 0)),
        )
    level = data.get("log", {}).get("level") if isinstance(data.get("log"), dict) else None
    if level and str(level).upper() in ("ERROR", "FATAL", "PANIC", "WARN", "INFO"):
        yield Finding(
            "logging.errors",
            f"Traefik's own log begins at {level}, and why it could not reach the gateway stands at DEBUG",
            _line(text, max(text.find("level"), 0)),
        )


def _covers(codes: str) -> bool:
    """Whether a range of statuses holds the 0 or the 101 of a WebSocket."""
    low, _, high = codes.partition("-")
    return low.isdigit() and any(int(low) <= c <= int(high or low) for c in (0, 101))


def _envoy_gaps(text: str) -> Iterator[Finding]:
    if re.search(r"\bfilter_chains\b", text) and "access_log" not in text:
        yield Finding("logging.access", "Envoy writes no access log; add access_log to the connection manager", 1)


_FORMATS: Final = {"nginx": _nginx_formats, "haproxy": _haproxy_formats, "apache": _apache_formats}
_GAPS: Final[Mapping[str, Any]] = {
    "nginx": _nginx_gaps,
    "haproxy": _haproxy_gaps,
    "apache": _apache_gaps,
    "caddy": _caddy_gaps,
    "traefik": _traefik_gaps,
    "envoy": _envoy_gaps,
}
