"""From the tables of a definition's file to the definition: every key, regex and column is checked on the way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from occorr import schema
from occorr.definitions.model import MARKS, UNITS, ZONES, Definition, Dialect, Envelope, Event, Extract, Sample, Time
from occorr.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr.checked import File

# The shape of a file: table → key → type. One place; the checker and `nearest` read it.
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
    "speaker": str,
    **_EXTRACT,
}
_SAMPLE: Final[Mapping[str, type | tuple[type, ...]]] = {
    "line": str,
    "dialect": str,
    "event": str,
    "expect": dict,
    "rest": str,
    "version": str,
}
_REFUSE: Final[Mapping[str, type | tuple[type, ...]]] = {"line": str}
_RECORD: Final[Mapping[str, type | tuple[type, ...]]] = {"start": str, "continue": str}
ENVELOPE_COLUMNS: Final = frozenset({"rest", "observed", *schema.CARRIED})
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
    file: File, given: Mapping[str, Any], valid: frozenset[str], table: str, index: int
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


def _time(file: File, given: Mapping[str, Any], names: set[str], table: str, index: int) -> Time | None:
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


def _samples(file: File, data: Mapping[str, Any], dialects: set[str], events: set[str]) -> tuple[Sample, ...]:
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
            found.append(
                Sample(
                    file.path, number, raw["line"], dialect, raw.get("event", ""), expect, str(raw.get("version", ""))
                )
            )
    return tuple(found)


def envelope(file: File, data: Mapping[str, Any], name: str) -> Envelope:
    """The envelope that a file describes; what is wrong with it is noted in the file."""
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


def format_(file: File, data: Mapping[str, Any], name: str) -> Definition:
    """The format that a file describes; what is wrong with it is noted in the file."""
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
        if raw.get("speaker"):
            file.regex(raw["speaker"], "event", index, "speaker")
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
                raw.get("speaker", ""),
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
