r"""Turns a proxy's own log format (`log_format`, `log-format`, `LogFormat`) into a definition.

Each variable becomes a piece of the regex, bounded by the literal text behind it. What a stamp marks is the proxy's
doing: nginx writes at the end, HAProxy and Apache stamp the beginning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from occorr import configs, definitions
from occorr.definitions import Library
from occorr.errors import OccorrError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from occorr.configs import Declared

_HEAD: Final = 'title = "{title}"\nsource_kind = "proxy"\nkeep_all = true\n\n'
_META: Final = re.compile(r"([\\.^$*+?()\[\]{}|])")
_ITEMS: Final = r"[^\s,]+(?:(?:,| :) [^\s,]+)*"  # nginx: one item an attempt


@dataclass(frozen=True, slots=True)
class Variable:
    """What a variable of a format becomes: a column, the unit of its number, and what its text looks like."""

    column: str = ""
    unit: str = ""
    pattern: str = ""
    form: str = ""
    zone: str = "inline"
    marks: str = "end"
    rank: int = 0


@dataclass(slots=True)
class _Draft:
    """A definition in the making."""

    title: str
    pieces: list[str | Variable] = field(default_factory=list)

    def literal(self, text: str) -> None:
        """Adds text that stands as it is."""
        if text and self.pieces and isinstance(self.pieces[-1], str):
            self.pieces[-1] += text
        elif text:
            self.pieces.append(text)


_LIST: Final = r"[^\s,]+(?:, ?[^\s,]+)*"  # X-Forwarded-For: an item a proxy
_ADDRESS: Final = r"[\w.:%-]+"  # also IPv6, which holds the colon that may stand behind it
_CLF: Final = r"\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d"
_REQUEST: Final = Variable("*request")
_V = Variable
NGINX: Final[Mapping[str, Variable]] = {
    "remote_addr": _V("client_address", pattern=_ADDRESS),
    "remote_port": _V("client_port", "count"),
    "request": _REQUEST,
    "request_method": _V("http_request_method"),
    "request_uri": _V("*uri"),
    "uri": _V("*uri"),
    "status": _V("http_response_status_code", pattern=r"\d{3}"),
    "bytes_sent": _V("http_response_size", pattern=r"\d+"),
    "body_bytes_sent": _V("http_response_size", pattern=r"\d+"),
    "request_time": _V("duration_ns", "s", r"[\d.]+"),
    "http_user_agent": _V("user_agent_original"),
    "http_x_forwarded_for": _V("forwarded_for"),
    "http_upgrade": _V("http_upgrade"),
    "upstream_addr": _V("*upstream_address", pattern=_ITEMS),
    "upstream_status": _V("*upstream_status", pattern=_ITEMS),
    "upstream_response_time": _V("*upstream_duration_ns", "s", _ITEMS),
    "upstream_connect_time": _V(pattern=_ITEMS),
    "upstream_header_time": _V(pattern=_ITEMS),
    "upstream_response_length": _V(pattern=_ITEMS),
    "upstream_bytes_sent": _V(pattern=_ITEMS),
    "upstream_bytes_received": _V(pattern=_ITEMS),
    "request_id": _V("request_id", pattern=r"[^\s\"]+"),
    "connection": _V("connection_serial", pattern=r"\d+"),
    "http_host": _V("host_header"),
    "host": _V("host_header"),
    "request_completion": _V("proxy_flags", pattern="(?:OK|-)?"),
    "msec": _V("time", pattern=r"\d+\.\d{3}", form="epoch_s", zone="UTC", rank=3),
    "time_iso8601": _V(
        "time", pattern=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", form="%Y-%m-%dT%H:%M:%S", rank=2
    ),
    "time_local": _V("time", pattern=_CLF + r" [+-]\d{4}", form="%d/%b/%Y:%H:%M:%S", rank=1),
}
_INT: Final = r"\+?-?\d+"
HAPROXY: Final[Mapping[str, Variable]] = {
    "ci": _V("client_address", pattern=_ADDRESS),
    "cp": _V("client_port", "count", _INT),
    "ft": _V("proxy_frontend"),
    "f": _V("proxy_frontend"),
    "b": _V("proxy_backend"),
    "s": _V("upstream_address"),
    "ST": _V("http_response_status_code", pattern=r"-?\d+"),
    "B": _V("http_response_size", "count", _INT),
    "U": _V(pattern=_INT),
    "ts": _V("proxy_termination", pattern="[-A-Za-z]{2}"),
    "tsc": _V("proxy_termination", pattern="[-A-Za-z]{4}"),
    "HM": _V("http_request_method"),
    "HP": _V("*uri"),
    "HU": _V("*uri"),
    "r": _REQUEST,
    "ID": _V("request_id", pattern=r"[^\s\"]+"),
    "bp": _V("upstream_port_local", "count", _INT),
    "si": _V("upstream_address"),
    "Ta": _V("duration_ns", "ms", _INT, rank=2),
    "Tt": _V("duration_ns", "ms", _INT, rank=1),
    "Tq": _V(pattern=_INT),
    "TR": _V(pattern=_INT),
    "Tw": _V(pattern=_INT),
    "Tc": _V(pattern=_INT),
    "Tr": _V(pattern=_INT),
    "Td": _V(pattern=_INT),
    "hr": _V("?", pattern=r"\{[^}]*\}"),
    "hs": _V("?", pattern=r"\{[^}]*\}"),
    **{n: _V(pattern=_INT) for n in ("ac", "fc", "bc", "sc", "sq", "bq", "lc", "ms", "pid", "rt")},
    "CC": _V(),
    "CS": _V(),
    "rc": _V(pattern=_INT),
    "tr": _V("time", pattern=_CLF + r"\.\d{3}", form="%d/%b/%Y:%H:%M:%S", zone="naive", marks="start", rank=5),
    "trg": _V("time", pattern=_CLF + r" \+0000", form="%d/%b/%Y:%H:%M:%S", marks="start", rank=3),
    "trl": _V("time", pattern=_CLF + r" [+-]\d{4}", form="%d/%b/%Y:%H:%M:%S", marks="start", rank=3),
    "t": _V("time", pattern=_CLF + r"\.\d{3}", form="%d/%b/%Y:%H:%M:%S", zone="naive", marks="start", rank=4),
    "T": _V("time", pattern=_CLF + r" \+0000", form="%d/%b/%Y:%H:%M:%S", marks="start", rank=2),
    "Tl": _V("time", pattern=_CLF + r" [+-]\d{4}", form="%d/%b/%Y:%H:%M:%S", marks="start", rank=2),
    "Ts": _V("time", pattern=r"\d{10}", form="epoch_s", zone="UTC", marks="start", rank=1),
}
APACHE: Final[Mapping[str, Variable]] = {
    "h": _V("client_address", pattern=_ADDRESS),
    "a": _V("client_address", pattern=_ADDRESS),
    "remote p": _V("client_port", "count", r"\d+"),
    "r": _REQUEST,
    "U": _V("*uri"),
    "m": _V("http_request_method"),
    "s": _V("http_response_status_code", pattern=r"\d{3}"),
    "O": _V("http_response_size", pattern=r"\d+"),
    "b": _V("http_response_size", pattern=r"(?:\d+|-)"),
    "B": _V("http_response_size", pattern=r"\d+"),
    "User-Agent i": _V("user_agent_original"),
    "X-Forwarded-For i": _V("forwarded_for"),
    "Host i": _V("host_header"),
    "Upgrade i": _V("http_upgrade"),
    "UNIQUE_ID e": _V("request_id", pattern=r"[^\s\"]+"),
    "X": _V("proxy_flags", pattern="[-X+]"),
    "D": _V("duration_ns", "us", r"\d+", rank=3),
    "us T": _V("duration_ns", "us", r"\d+", rank=3),
    "ms T": _V("duration_ns", "ms", r"\d+", rank=2),
    "T": _V("duration_ns", "s", r"\d+", rank=1),
    "s T": _V("duration_ns", "s", r"\d+", rank=1),
    "t": _V("time", pattern=_CLF + r" [+-]\d{4}", form="%d/%b/%Y:%H:%M:%S", marks="start", rank=1),
    "sec t": _V("time", pattern=r"\d{10}", form="epoch_s", zone="UTC", marks="start", rank=2),
    "begin:sec t": _V("time", pattern=r"\d{10}", form="epoch_s", zone="UTC", marks="start", rank=2),
    "msec t": _V("time", pattern=r"\d{13}", form="epoch_ms", zone="UTC", marks="start", rank=5),
    "begin:msec t": _V("time", pattern=r"\d{13}", form="epoch_ms", zone="UTC", marks="start", rank=5),
    "usec t": _V("time", pattern=r"\d{16}", form="epoch_us", zone="UTC", marks="start", rank=6),
    "begin:usec t": _V("time", pattern=r"\d{16}", form="epoch_us", zone="UTC", marks="start", rank=6),
    "end:sec t": _V("time", pattern=r"\d{10}", form="epoch_s", zone="UTC", rank=1),
    "end:msec t": _V("time", pattern=r"\d{13}", form="epoch_ms", zone="UTC", rank=4),
    "end:usec t": _V("time", pattern=r"\d{16}", form="epoch_us", zone="UTC", rank=4),
}


def from_nginx(text: str) -> str:
    """The definition of a `log_format`: its string, or its whole statement."""
    text = _statement(text, r"\s*log_format\s+\S+\s+(?:escape=\w+\s+)?")
    text = re.sub(r"\\([tn\"'\\])", lambda found: {"t": "\t", "n": "\n"}.get(found[1], found[1]), text)
    draft = _Draft("nginx access log, own format")
    for part in re.split(r"(\$\{\w+\}|\$\w+)", text):
        if part.startswith("$"):
            draft.pieces.append(NGINX.get(part.strip("${}"), Variable()))
        else:
            draft.literal(part)
    return _definition(draft)


def from_haproxy(text: str) -> str:
    """The definition of a `log-format`."""
    text = _statement(text, r"\s*log-format\s+").replace("\\ ", " ").replace('\\"', '"')
    draft = _Draft("HAProxy log, own format")
    for part in re.split(r"(%\[[^\]]*\]|%(?:\{[^}]*\})?[A-Za-z]+|%%)", text):
        if part == "%%":
            draft.literal("%")
        elif part.startswith("%["):
            draft.pieces.append(Variable())
        elif part.startswith("%"):
            name, quoted = re.sub(r"^%(?:\{[^}]*\})?", "", part), "+Q" in part
            draft.literal('"' if quoted else "")
            draft.pieces.append(HAPROXY.get(name, Variable()))
            draft.literal('"' if quoted else "")
        else:
            draft.literal(part)
    return _definition(draft)


def from_apache(text: str) -> str:
    """The definition of a `LogFormat`."""
    text = re.sub(r'"\s+[\w-]+\s*$', '"', text) if re.match(r"\s*LogFormat\s", text) else text
    text = _statement(text, r"\s*LogFormat\s+").replace('\\"', '"').replace("\\t", "\t")
    draft = _Draft("Apache httpd access log, own format")
    for part in re.split(
        r"(%[<>!,\d]*(?:\{[^}]*\})?\^?[A-Za-z]+?(?![A-Za-z])|%[<>!,\d]*(?:\{[^}]*\})?[A-Za-z]|%%)", text
    ):
        if part == "%%":
            draft.literal("%")
        elif part.startswith("%") and len(part) > 1:
            found = re.fullmatch(r"%[<>!,\d]*(?:\{([^}]*)\})?(\^?[A-Za-z]+)", part)
            name = f"{found[1]} {found[2]}" if found and found[1] else (found[2] if found else "")
            bracketed = name == "t"  # %t alone writes its brackets itself
            draft.literal("[" if bracketed else "")
            draft.pieces.append(APACHE.get(name) or _strftime(name) or Variable())
            draft.literal("]" if bracketed else "")
        else:
            draft.literal(part)
    return _definition(draft)


_STRFTIME: Final = {"Y": r"\d{4}", "b": r"\w{3}", "z": r"[+-]\d{4}", **dict.fromkeys("mdHMS", r"\d\d")}


def _strftime(name: str) -> Variable | None:
    """Apache's `%{FORMAT}t` with a format of strftime; None where it is none, or no whole date and time."""
    found = re.fullmatch(r"(?:(begin|end):)?(.*%.*) t", name)
    form = found[2].replace("%F", "%Y-%m-%d").replace("%T", "%H:%M:%S") if found else ""
    core = form.removesuffix("%z").rstrip()
    letters = set(re.findall(r"%(.)", core))
    if not found or not letters <= set(_STRFTIME) - {"z"} or not {"Y", "d", "H", "M", "S"} <= letters:
        return None
    pattern = re.sub(r"%(.)", lambda v: _STRFTIME[v[1]], _META.sub(r"\\\1", form))
    zone, marks = ("inline" if form.endswith("%z") else "naive"), ("end" if found[1] == "end" else "start")
    return Variable("time", pattern=pattern, form=core, zone=zone, marks=marks, rank=1)


OWN: Final = "_own"  # ends the names of the formats that configurations declare
_LAST: Final = 95  # their rank: they come behind what is built in, unless they claim more
_KNOWN: Final = {
    ("nginx", "combined"): "nginx_access/combined",
    ("apache", "combined"): "apache/combined",
    ("apache", "common"): "apache/common",
    ("apache", "vhost_combined"): "apache/vhost_combined",
}


def extended(library: Library, texts: Iterable[str]) -> Library:
    """The library with the log formats that proxies' configurations among some texts declare, and which log is written in which.

    Args:
        library: the definitions.
        texts: texts that may be configurations.
    """
    declared = [d for text in texts if (kind := configs.kind(text)) is not None for d in configs.formats(kind, text)]
    if not declared:
        return library
    formats, prefers = dict(library.formats), dict[str, list[str]]()
    for kind in sorted({d.kind for d in declared}):
        mine = [d for d in declared if d.kind == kind]
        made = {d.name: _own(d) for d in mine if d.text}
        merged = [text for text in made.values() if text]
        if merged:
            name = f"{kind}{OWN}"
            formats[name] = definitions.parse(
                _HEAD.format(title=f"{kind}, a log format of the configuration") + "\n".join(merged),
                name,
                f"{kind} configuration",
            )
        for d in mine:
            parsers = [f"{kind}{OWN}/{_identifier(d.name)}"] if made.get(d.name) else []
            parsers += (
                [_KNOWN[kind, d.name]] if (kind, d.name) in _KNOWN else []
            )  # declared anew or not, it is whose it is
            for file in d.files if parsers else ():
                prefers.setdefault(file, []).extend(parsers)
    return Library(
        formats, library.envelopes, {file: tuple(dict.fromkeys(parsers)) for file, parsers in prefers.items()}
    )


def _own(declared: Declared) -> str:
    """The dialect of a declared format, or nothing where no variable of it is known."""
    make = {"nginx": from_nginx, "haproxy": from_haproxy, "apache": from_apache}[declared.kind]
    try:
        text = make(declared.text)
    except OccorrError:
        return ""
    dialect = text[text.index("[[dialect]]") :]
    return dialect.replace('name = "custom"', f'name = "{_identifier(declared.name)}"').replace(
        "rank = 15", f"rank = {_LAST}"
    )


def _identifier(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_") or "custom"


def _statement(text: str, keyword: str) -> str:
    """The format string of a statement: its quoted pieces put together, or the text where it is no statement."""
    bare = re.sub(rf"^{keyword}", "", text).strip().removesuffix(";").strip()
    if bare[:1] == "'" and bare[-1:] == "'" and len(bare) > 1:
        return "".join(re.findall(r"'([^']*)'", bare))
    if bare[:1] == '"' and bare[-1:] == '"' and (bare != text.strip() or not re.match(r'"[$%]', bare)):
        return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', bare))
    return bare


def _definition(draft: _Draft) -> str:
    """The TOML text.

    Raises:
        OccorrError: nothing in the format tells a connection from another.
    """
    variables = [p for p in draft.pieces if isinstance(p, Variable)]
    if not any(v.column for v in variables):
        raise OccorrError(
            "no variable of this format is known; give the format as it stands in the configuration, in quotes, as"
            " '$remote_addr [$time_local] \"$request\" $status'"
        )
    best = {
        c: max((v for v in variables if v.column == c), key=lambda v: v.rank)
        for c in {v.column for v in variables if v.column}
    }
    regex, numbers, splits, used = "", {}, {}, set()
    for index, piece in enumerate(draft.pieces):
        before = draft.pieces[index - 1] if index else ""
        if isinstance(before, Variable) and before.column == "?" and isinstance(piece, str) and piece.startswith(" "):
            piece = piece[1:]  # noqa: PLW2901 - that space went away with the value
        if isinstance(piece, str):
            regex += _META.sub(r"\\\1", piece)
            continue
        behind = draft.pieces[index + 1] if index + 1 < len(draft.pieces) else ""
        text = piece.pattern or _any(behind if isinstance(behind, str) else "x")
        quoted = isinstance(behind, str) and behind.startswith('"') and isinstance(before, str) and before.endswith('"')
        if piece.pattern and quoted and not piece.form:
            text = f"(?:{piece.pattern})?-?"
        column = piece.column if piece is best.get(piece.column) and piece.column not in used else ""
        used.add(column)
        if piece.column == "?":  # HAProxy writes neither the value nor the space behind it where nothing was captured
            regex += f"(?:{text} ?)?"
        elif column == "*request":
            rest = r"[^\s\"]*" if not quoted else r'(?:[^"\\]|\\.)*'
            tail = rf"(?: {rest})?" if not quoted else rest
            regex += rf"(?:(?P<http_request_method>[A-Z]+) (?P<url_path>[^ ?\"]*)[^ \"]*{tail}|{text})"
        elif column == "forwarded_for" and not quoted:
            regex += f"(?P<forwarded_for>{_LIST})"
        elif column == "*uri":
            regex += rf"(?P<url_path>[^\s?\"]*)(?:\?{text})?"
        elif column.startswith("*"):
            name = column.removeprefix("*")
            regex += f"(?P<_{name}>{text})"
            splits[name] = f"last:  of _{name}"
        elif column and text == _INT:  # +N stands for a value that was not final when the line was written
            regex += rf"(?:\+\d+|(?P<{column}>-?\d+))"
        elif column:
            regex += f"(?P<{column}>{text})"
        else:
            regex += f"(?:{text})"
        if column and piece.unit:
            numbers[column.removeprefix("*")] = piece.unit
    return _toml(draft.title, regex, numbers, splits, best.get("time"))


def _any(behind: str) -> str:
    """What a value may be, given the character behind it."""
    if behind.startswith('"'):
        return r'(?:[^"\\]|\\.)*'
    if not behind:
        return ".*?"
    if behind[0] == " ":
        return r"\S*?"
    if behind[0].isalnum():
        return ".*?"
    stop = _META.sub(r"\\\1", behind[0])
    return f"[^{stop}]*"


def _toml(title: str, regex: str, numbers: Mapping[str, str], splits: Mapping[str, str], time: Variable | None) -> str:
    line = re.sub(r"\(\?P<\w+>", "(?:", regex)
    out = [
        f'title = "{title}"',
        'source_kind = "proxy"',
        "keep_all = true",
        "",
        "[[dialect]]",
        'name = "custom"',
        "rank = 15",
        f"line = '''^{line}$'''",
        f"regex = '''^{regex}$'''",
        'null = ["-", "-1", "<NOSRV>", ""]',
    ]
    if splits:
        out.append("split = { " + ", ".join(f'{k} = "{v}"' for k, v in splits.items()) + " }")
    if numbers:
        out.append("number = { " + ", ".join(f'{k} = "{v}"' for k, v in numbers.items()) + " }")
    if time is not None:
        out.append(f'time = {{ format = "{time.form}", zone = "{time.zone}", marks = "{time.marks}" }}')
    else:
        out.append("# no stamp: this format says nothing about when; add one to the proxy's configuration")
    return "\n".join([*out, 'event = "http.access"', ""])
