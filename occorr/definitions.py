"""Loads `parsers/*.toml`: checks every key, regex and column, and reports all mistakes at once with file and line.

A definition holds *dialects* (how a line is cut into stamp, body and fields) and *events* (what a body says). A dialect
of one format may appear in any envelope, and all dialects of a definition share its events, so a message is described
once however it was written.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import resources, schema
from occorr.errors import DefinitionError, Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

ZONES: Final = ("inline", "UTC", "naive")
MARKS: Final = {"event": "at_event", "start": "at_start", "end": "at_end", "write": "at_write", "unknown": "unknown"}
UNITS: Final = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "count": 1, "go": 1}
ENVELOPE_COLUMNS: Final = frozenset(
    {
        "rest",
        "observed",
        "log_iostream",
        "compose_service",
        "container_name",
        "container_id",
        "host_name",
        "process_pid",
        "systemd_unit",
        "syslog_program",
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Time:
    """How a stamp is read: the captured group, its strptime core, its zone and which moment it marks.

    `other` names a column that holds the stamp of the connection's other end in the same form; the two give its
    duration.
    """

    column: str = "time"
    format: str = "%Y-%m-%dT%H:%M:%S"
    zone: str = "inline"
    marks: str = "event"
    other: str = ""
    resolution_ns: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Extract:
    r"""What a dialect or event takes out of a text and how it tidies it.

    `json_from` names a column captured by `regex` that holds the JSON; `loose` mends JSON with `\xHH` escapes or
    zero-padded numbers before it is read. `join` puts columns together, `"{_host}:{_port}"`; null where one is null.
    """

    regex: str = ""
    json: Mapping[str, str] = field(default_factory=dict)
    json_from: str = ""
    loose: bool = False
    kv: Mapping[str, str] = field(default_factory=dict)
    kv_from: str = "_tail"
    split: Mapping[str, str] = field(default_factory=dict)
    join: Mapping[str, str] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)
    map: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    null: tuple[str, ...] = ()
    once: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    number: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """One way in which a format is written.

    `line` tells whether a line is of this dialect; `json` or `regex` cut it. `time` is None for lines without a stamp.
    """

    definition: str
    name: str
    line: str
    extract: Extract
    time: Time | None
    event: str
    body: str
    rank: int

    @property
    def parser(self) -> str:
        """The name under which EVENTS and SOURCES show it."""
        return f"{self.definition}/{self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """What a body says: the literals that select it and what is taken from it."""

    name: str
    select: tuple[str, ...]
    dialects: tuple[str, ...]
    column: str
    extract: Extract
    context: bool


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A line and what it must become; `dialect` is empty for a line that the definition must refuse."""

    path: str
    line_number: int
    line: str
    dialect: str
    event: str
    expect: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A format: one file in `parsers/`.

    `ambiguous_with` names formats whose lines look the same; `called` are the words in images, paths and unit names
    that tell whose lines they are.
    """

    name: str
    title: str
    source_kind: str
    path: str
    ambiguous_with: tuple[str, ...]
    called: tuple[str, ...]
    keep_all: bool
    dialects: tuple[Dialect, ...]
    events: tuple[Event, ...]
    samples: tuple[Sample, ...]
    record_start: str
    record_continue: str

    @property
    def selects(self) -> tuple[str, ...]:
        """The literals that make a line matter; an event that is only `context` makes none matter."""
        return tuple(sorted({literal for event in self.events if not event.context for literal in event.select}))


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """A wrapper around lines of any format, such as the stamps of `docker logs -t`.

    It is taken where at least `min_share` of at least `min_lines` lines fit; where several fit as many, the lowest
    `rank` wins. One that is `doubtful`, since its beginning may be the line's own, is taken only where what is inside
    is understood better without it. A line that does not match `whole` and holds at least `split_at` bytes goes on in
    the next line of the same stream.
    """

    name: str
    title: str
    path: str
    line: str
    extract: Extract
    time: Time | None
    clock: str
    min_share: float
    min_lines: int
    rank: int
    whole: str
    split_at: int
    doubtful: bool
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """All definitions that are known, by name.

    `declared` holds the formats that a proxy's configuration among the inputs declares: name of a log (or `*`) →
    dialects that the configuration has it written in.
    """

    formats: Mapping[str, Definition]
    envelopes: Mapping[str, Envelope]
    declared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """Every dialect, the most specific first."""
        return tuple(sorted((d for f in self.formats.values() for d in f.dialects), key=lambda d: (d.rank, d.parser)))

    def rivals(self, dialect: Dialect) -> tuple[Dialect, ...]:
        """The dialects of the formats that look like this one's, and itself; empty where none does or the stamp marks no end."""
        if dialect.time is None or dialect.time.marks not in ("start", "end"):
            return ()
        others = self.formats[dialect.definition].ambiguous_with
        found = tuple(d for name in others for d in self.formats[name].dialects if d.event == dialect.event)
        return (dialect, *found) if found else ()


# --- the shape of a file: table → key → type. One place; the checker and `nearest` read it.
_EXTRACT: Final[Mapping[str, type | tuple[type, ...]]] = {
    "regex": str,
    "json": dict,
    "json_from": str,
    "loose": bool,
    "kv": dict,
    "kv_from": str,
    "split": dict,
    "join": dict,
    "set": dict,
    "map": dict,
    "null": list,
    "once": list,
    "twice": list,
    "number": dict,
}
_TIME: Final[Mapping[str, type | tuple[type, ...]]] = {
    "column": str,
    "format": str,
    "zone": str,
    "marks": str,
    "other": str,
    "resolution_ns": int,
}
_TOP_FORMAT: Final[Mapping[str, type | tuple[type, ...]]] = {
    "kind": str,
    "title": str,
    "source_kind": str,
    "ambiguous_with": list,
    "called": list,
    "keep_all": bool,
    "dialect": list,
    "event": list,
    "sample": list,
    "refuse": list,
    "record": dict,
}
_TOP_ENVELOPE: Final[Mapping[str, type | tuple[type, ...]]] = {
    "kind": str,
    "title": str,
    "line": str,
    "time": dict,
    "clock": str,
    "min_share": (int, float),
    "min_lines": int,
    "rank": int,
    "whole": str,
    "split_at": int,
    "doubtful": bool,
    "sample": list,
    "refuse": list,
    **_EXTRACT,
}
_DIALECT: Final[Mapping[str, type | tuple[type, ...]]] = {
    "name": str,
    "line": str,
    "time": dict,
    "event": str,
    "body": str,
    "rank": int,
    **_EXTRACT,
}
_EVENT: Final[Mapping[str, type | tuple[type, ...]]] = {
    "name": str,
    "select": (str, list),
    "dialects": list,
    "column": str,
    "context": bool,
    **_EXTRACT,
}
_SAMPLE: Final[Mapping[str, type | tuple[type, ...]]] = {
    "line": str,
    "dialect": str,
    "event": str,
    "expect": dict,
    "rest": str,
}
_REFUSE: Final[Mapping[str, type | tuple[type, ...]]] = {"line": str}
_RECORD: Final[Mapping[str, type | tuple[type, ...]]] = {"start": str, "continue": str}
_LOOK_AROUND: Final = re.compile(r"\(\?(?:[=!]|<[=!])")
_BACK_REFERENCE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\[1-9]")


@dataclass(slots=True)
class _File:
    """A file being checked: where its keys stand and what is wrong with it."""

    path: str
    text: str
    problems: list[Problem] = field(default_factory=list)
    patterns: list[tuple[str, str, int, str]] = field(default_factory=list)

    def compile(self) -> None:
        """Compiles all patterns with polars' engine: together, and one by one only to name those that fail."""
        tests = [pl.lit("").str.contains(p).alias(str(i)) for i, (p, *_) in enumerate(self.patterns)]
        try:
            pl.select(tests)
        except pl.exceptions.ComputeError:
            for test, (_, table, index, key) in zip(tests, self.patterns, strict=True):
                try:
                    pl.select(test)
                except pl.exceptions.ComputeError as error:
                    reason = [line.strip() for line in str(error).splitlines() if line.strip().startswith("error:")]
                    self.wrong(f"{key} is no valid regex: {reason[0] if reason else error}", table, index, key)

    def line_of(self, table: str, index: int, key: str) -> int:
        """The line of `key` in the index-th `[[table]]` (or `[table]`), of the header, or 1."""
        header = re.compile(rf"^\[\[?{re.escape(table)}\]?\]") if table else None
        seen, inside, at = -1, not table, 1
        for number, text in enumerate(self.text.splitlines(), 1):
            if text.startswith("["):
                inside = False
                if header and header.match(text):
                    seen += 1
                    if seen == index:
                        inside, at = True, number
                elif header and seen == index and text.startswith(f"[{table}."):
                    inside = True
            if inside and key and re.match(rf'\s*"?{re.escape(key)}"?\s*=', text):
                return number
        return at

    def wrong(self, message: str, table: str = "", index: int = 0, key: str = "") -> None:
        """Notes a mistake at a key."""
        self.problems.append(Problem(self.path, self.line_of(table, index, key), message))

    def keys(
        self, given: Mapping[str, Any], shape: Mapping[str, type | tuple[type, ...]], table: str = "", index: int = 0
    ) -> None:
        """Unknown keys and values of a wrong type."""
        where = f"[{table}]" if table else "the top of the file"
        for key, value in given.items():
            if key not in shape:
                self.wrong(f"unknown key {key!r} in {where}; {nearest(key, shape)}", table, index, key)
            elif not isinstance(value, shape[key]) or (isinstance(value, bool) and shape[key] is int):
                want = shape[key]
                names = want.__name__ if isinstance(want, type) else " or ".join(t.__name__ for t in want)
                self.wrong(f"{key} is {type(value).__name__}, expected {names}", table, index, key)

    def regex(self, pattern: str, table: str, index: int, key: str) -> list[str]:
        """Compiles a pattern with polars' engine; returns its named groups, also those of a broken one."""
        groups = re.findall(r"\(\?P?<([A-Za-z_]\w*)>", pattern)
        if found := _LOOK_AROUND.search(pattern):
            self.wrong(f"{key} uses look-around {found[0]!r}, which polars' regex engine lacks", table, index, key)
            return groups
        if found := _BACK_REFERENCE.search(pattern):
            self.wrong(f"{key} uses a back-reference {found[0]!r}, which polars' regex engine lacks", table, index, key)
            return groups
        self.patterns.append((pattern, table, index, key))
        return groups

    def columns(self, names: Iterable[str], valid: frozenset[str], table: str, index: int, key: str) -> None:
        """Names that are no column."""
        for name in names:
            if name not in valid and not name.startswith(("_", "x_")):
                self.wrong(f"{name!r} in {key} is no column; {nearest(name, valid)}", table, index, key)


_FILLED_LATER: Final = frozenset(
    {
        "timestamp",
        "time_earliest",
        "time_latest",
        "event_id",
        "clock_offset_ns",
        "clock_error_ns",
        "clock_status",
        "attributes",
        "log_record_original",
        "log_line",
        "log_byte_offset",
        "log_file_path",
        "parser",
        "redacted",
    }
)
DECODABLE: Final = (frozenset(schema.EVENTS) | frozenset(schema.ATTRIBUTES) | {"time"}) - _FILLED_LATER


def _extract(
    file: _File, given: Mapping[str, Any], valid: frozenset[str], table: str, index: int
) -> tuple[Extract, set[str]]:
    """The verbs of a table and the columns that they fill."""
    at = (table, index)
    names: set[str] = set()
    if regex := given.get("regex"):
        groups = file.regex(str(regex), *at, "regex")
        file.columns(groups, valid, *at, "regex")
        names |= set(groups)
    for key in ("json", "kv", "split", "join", "set"):
        targets = given.get(key, {})
        if isinstance(targets, dict):
            file.columns(targets, valid, *at, key)
            names |= set(targets)
    if isinstance(given.get("split"), dict):
        for target, rule in given["split"].items():
            if not re.fullmatch(r"(?:first|last):.+ of \w+", str(rule), re.DOTALL):
                file.wrong(
                    f"split of {target!r} is {rule!r}, expected 'first:SEPARATOR of COLUMN' or 'last:…'", *at, "split"
                )
    for target, template in (given.get("join", {}) or {}).items():
        for name in re.findall(r"\{(\w+)\}", str(template)):
            if name not in names and table != "event":  # an event may join what its dialects captured
                file.wrong(
                    f"join of {target!r} reads {name!r}, which nothing captures; {nearest(name, names)}", *at, "join"
                )
    for key in ("number", "map"):
        for name in given.get(key, {}):
            if name not in names and name not in valid:
                file.wrong(f"{name!r} in {key} is filled by nothing here; {nearest(name, names or valid)}", *at, key)
    for name, unit in (given.get("number", {}) or {}).items():
        if unit not in UNITS:
            file.wrong(f"unit {unit!r} of {name!r} is unknown; {nearest(str(unit), UNITS)}", *at, "number")
    return (
        Extract(
            regex=given.get("regex", ""),
            json=given.get("json", {}),
            json_from=given.get("json_from", ""),
            loose=bool(given.get("loose", False)),
            kv=given.get("kv", {}),
            kv_from=given.get("kv_from", "_tail"),
            split=given.get("split", {}),
            join=given.get("join", {}),
            set=given.get("set", {}),
            map=given.get("map", {}),
            null=tuple(given.get("null", ())),
            once=tuple(given.get("once", ())),
            twice=tuple(given.get("twice", ())),
            number=given.get("number", {}),
        ),
        names,
    )


def _time(file: _File, given: Mapping[str, Any], names: set[str], table: str, index: int) -> Time | None:
    raw = given.get("time")
    if not isinstance(raw, dict):
        return None
    for key in raw:
        if key not in _TIME:
            file.wrong(f"unknown key {key!r} in time; {nearest(key, _TIME)}", table, index, "time")
    time = Time(**{key: value for key, value in raw.items() if key in _TIME})
    if time.column not in names:
        file.wrong(
            f"time reads {time.column!r}, which nothing captures; {nearest(time.column, names)}", table, index, "time"
        )
    if time.other and time.other not in names:
        file.wrong(
            f"time's other end is {time.other!r}, which nothing captures; {nearest(time.other, names)}",
            table,
            index,
            "time",
        )
    if time.zone not in ZONES:
        file.wrong(f"zone {time.zone!r} is unknown; {nearest(time.zone, ZONES)}", table, index, "time")
    if time.marks not in MARKS:
        file.wrong(f"marks {time.marks!r} is unknown; {nearest(time.marks, MARKS)}", table, index, "time")
    return time


def _samples(file: _File, data: Mapping[str, Any], dialects: set[str], events: set[str]) -> tuple[Sample, ...]:
    found = []
    for table, shape in (("sample", _SAMPLE), ("refuse", _REFUSE)):
        for index, raw in enumerate(data.get(table, [])):
            file.keys(raw, shape, table, index)
            if "line" not in raw:
                file.wrong(f"a [[{table}]] needs its line", table, index)
                continue
            dialect = str(raw.get("dialect", "" if table == "refuse" else "*"))
            if dialect not in dialects | {"", "*"}:
                file.wrong(f"dialect {dialect!r} is unknown; {nearest(dialect, dialects)}", table, index, "dialect")
            if raw.get("event") and events and raw["event"] not in events:
                file.wrong(f"event {raw['event']!r} is unknown; {nearest(raw['event'], events)}", table, index, "event")
            expect = dict(raw.get("expect", {}))
            if "rest" in raw:
                expect["rest"] = raw["rest"]
            number = file.line_of(table, index, "line")
            found.append(Sample(file.path, number, raw["line"], dialect, raw.get("event", ""), expect))
    return tuple(found)


def _envelope(file: _File, data: Mapping[str, Any], name: str) -> Envelope:
    file.keys(data, _TOP_ENVELOPE)
    for key in ("title", "line"):
        if key not in data:
            file.wrong(f"an envelope needs {key!r}")
    if isinstance(data.get("line"), str):
        file.regex(data["line"], "", 0, "line")
    if isinstance(data.get("whole"), str):
        file.regex(data["whole"], "", 0, "whole")
    extract, names = _extract(file, data, ENVELOPE_COLUMNS, "", 0)
    if "rest" not in names:
        file.wrong("an envelope must capture 'rest', the line inside it")
    return Envelope(
        name,
        data.get("title", ""),
        file.path,
        data.get("line", ""),
        extract,
        _time(file, data, names, "", 0),
        data.get("clock", ""),
        float(data.get("min_share", 0.5)),
        int(data.get("min_lines", 1)),
        int(data.get("rank", 50)),
        data.get("whole", ""),
        int(data.get("split_at", 0)),
        bool(data.get("doubtful", False)),
        _samples(file, data, set(), set()),
    )


def _format(file: _File, data: Mapping[str, Any], name: str) -> Definition:
    file.keys(data, _TOP_FORMAT)
    for key in ("title", "source_kind", "dialect"):
        if key not in data:
            file.wrong(f"a format needs {key!r}")
    kind = data.get("source_kind", "other")
    if kind not in schema.SOURCE_KINDS:
        file.wrong(f"source_kind {kind!r} is unknown; {nearest(str(kind), schema.SOURCE_KINDS)}", key="source_kind")
    record = data.get("record", {})
    file.keys(record, _RECORD, "record")
    for key in ("start", "continue"):
        if key in record:
            file.regex(record[key], "record", 0, key)
    dialects: list[Dialect] = []
    for index, raw in enumerate(data.get("dialect", [])):
        file.keys(raw, _DIALECT, "dialect", index)
        for key in ("name", "line"):
            if key not in raw:
                file.wrong(f"a [[dialect]] needs {key!r}", "dialect", index)
        if isinstance(raw.get("line"), str):
            file.regex(raw["line"], "dialect", index, "line")
        extract, names = _extract(file, raw, DECODABLE, "dialect", index)
        time = _time(file, raw, names, "dialect", index)
        dialects.append(
            Dialect(
                name,
                raw.get("name", ""),
                raw.get("line", ""),
                extract,
                time,
                raw.get("event", ""),
                raw.get("body", "body"),
                int(raw.get("rank", 50)),
            )
        )
    known = {d.name for d in dialects}
    events: list[Event] = []
    for index, raw in enumerate(data.get("event", [])):
        file.keys(raw, _EVENT, "event", index)
        for key in ("name", "select"):
            if key not in raw:
                file.wrong(f"an [[event]] needs {key!r}", "event", index)
        for dialect in raw.get("dialects", ()):
            if dialect not in known:
                file.wrong(f"dialect {dialect!r} is unknown; {nearest(dialect, known)}", "event", index, "dialects")
        extract, _ = _extract(file, raw, DECODABLE, "event", index)
        select = raw.get("select", ())
        literals = (select,) if isinstance(select, str) else tuple(select)
        events.append(
            Event(
                raw.get("name", ""),
                literals,
                tuple(raw.get("dialects", ())),
                raw.get("column", "body"),
                extract,
                bool(raw.get("context", False)),
            )
        )
    names = {e.name for e in events} | {d.event for d in dialects if d.event}
    names = set() if any("{" in n for n in names) else names  # a templated name may become any name
    return Definition(
        name,
        data.get("title", ""),
        kind,
        file.path,
        tuple(data.get("ambiguous_with", ())),
        tuple(data.get("called", ())),
        bool(data.get("keep_all", False)),
        tuple(dialects),
        tuple(events),
        _samples(file, data, known, names),
        record.get("start", ""),
        record.get("continue", ""),
    )


def load(*folders: Path) -> Library:
    """Reads every `*.toml` of the folders; a later folder's file replaces an earlier one's of the same name.

    Raises:
        DefinitionError: holds every mistake of every file.
    """
    formats: dict[str, Definition] = {}
    envelopes: dict[str, Envelope] = {}
    problems: list[Problem] = []
    for base in folders:
        for path in sorted(base.glob("*.toml")):
            shown = f"{base.name}/{path.name}"
            file = _File(shown, path.read_text(encoding="utf-8"))
            try:
                data = tomllib.loads(file.text)
            except tomllib.TOMLDecodeError as error:
                line = re.search(r"at line (\d+)", str(error))
                problems.append(Problem(shown, int(line[1]) if line else 1, f"not valid TOML: {error}"))
                continue
            if data.get("kind", "format") == "envelope":
                envelopes[path.stem] = _envelope(file, data, path.stem)
            else:
                formats[path.stem] = _format(file, data, path.stem)
            file.compile()
            problems += file.problems
    for definition in formats.values():
        for other in definition.ambiguous_with:
            if other not in formats:
                problems.append(
                    Problem(definition.path, 1, f"ambiguous_with names {other!r}; {nearest(other, formats)}")
                )
    if problems:
        raise DefinitionError(problems)
    return Library(formats, envelopes)


def parse(text: str, name: str, shown: str) -> Definition:
    """One format from its TOML text.

    Raises:
        DefinitionError: holds every mistake of it.
    """
    file = _File(shown, text)
    definition = _format(file, tomllib.loads(text), name)
    file.compile()
    if file.problems:
        raise DefinitionError(file.problems)
    return definition


@cache
def builtin() -> Library:
    """The definitions that come with occorr."""
    return load(resources.folder("parsers"))
