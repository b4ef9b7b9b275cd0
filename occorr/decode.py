"""Compiles definitions to polars plans: lines of a dialect become rows with EVENTS columns and attributes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import schema, times
from occorr.definitions import MARKS, UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr.definitions import Definition, Dialect, Event, Extract, Time

_TYPES: Final[Mapping[str, Any]] = {**schema.working(schema.EVENTS), **schema.working(schema.ATTRIBUTES)}
# Level words of every format met so far → OpenTelemetry's SeverityNumber.
SEVERITY: Final = {
    "trace": 1,
    "debug": 5,
    "dbg": 5,
    "verbose": 5,
    "info": 9,
    "inf": 9,
    "notice": 10,
    "log": 9,
    "warn": 13,
    "warning": 13,
    "wrn": 13,
    "alert": 21,
    "error": 17,
    "err": 17,
    "crit": 21,
    "emerg": 24,
    "fatal": 21,
    "panic": 24,
    "silly": 1,
}


def literals(words: tuple[str, ...]) -> str:
    """One regex that finds any of the literals; polars' engine runs it as a multi-literal search."""
    return "|".join(re.escape(word) for word in words)


def extract(frame: pl.LazyFrame, rule: Extract, column: str) -> pl.LazyFrame:
    """The frame with what a rule takes out of `column`, tidied; values are still strings.

    A column that is there already keeps its value where it has one: what a structured form of the line said outranks
    what its free text says.
    """
    before = set(frame.collect_schema().names())
    source = pl.col(column)
    made: dict[str, pl.Expr] = {}
    if rule.regex:
        fields = source.str.extract_groups(rule.regex).struct
        made |= {g: fields.field(g) for g in re.findall(r"\(\?P?<([A-Za-z_]\w*)>", rule.regex)}
    frame = frame.with_columns(_merged(_tidy(made, rule), before))
    before |= set(made)
    if rule.json:
        document = pl.col(rule.json_from or column)
        frame = frame.with_columns((_mended(document) if rule.loose else document).alias("_document"))
        found = {name: _json(pl.col("_document"), path) for name, path in rule.json.items()}
        frame = frame.with_columns(_merged(_tidy(found, rule), before))
        before |= set(found)
    late = {name: _pair(pl.col(rule.kv_from), key) for name, key in rule.kv.items()}
    frame = frame.with_columns(_merged(_tidy(late, rule), before))
    # a part of a column replaces it; everything else only fills what is empty
    frame = frame.with_columns(
        e.alias(n) for n, e in _tidy({n: _part(verb) for n, verb in rule.split.items()}, rule).items()
    )
    frame = frame.with_columns(
        e.alias(n) for n, e in _tidy({n: _filled(t) for n, t in rule.join.items()}, rule).items()
    )
    limits = {**dict.fromkeys(rule.once, 1), **dict.fromkeys(rule.twice, 2)}
    if limits:
        more = pl.any_horizontal(source.str.count_matches(literal, literal=True) > n for literal, n in limits.items())
        frame = frame.with_columns(more.fill_null(value=False).alias("ambiguous_text"))
    return frame.with_columns(pl.lit(str(v)).alias(k) for k, v in rule.set.items())


def _tidy(values: Mapping[str, pl.Expr], rule: Extract) -> dict[str, pl.Expr]:
    """The values with the rule's nulls, maps and numbers applied."""
    out = dict(values)
    for name, value in values.items():
        tidied = value.replace(list(rule.null), None) if rule.null else value
        if name in rule.map:
            tidied = tidied.replace({k: str(v) for k, v in rule.map[name].items()})
        out[name] = _number(tidied, rule.number[name]) if name in rule.number else tidied
    return out


def _merged(new: Mapping[str, pl.Expr], before: set[str]) -> list[pl.Expr]:
    return [(pl.coalesce(pl.col(n), e) if n in before else e).alias(n) for n, e in new.items()]


def _part(verb: str) -> pl.Expr:
    """`first:SEPARATOR of COLUMN` or `last:SEPARATOR of COLUMN`."""
    found = re.fullmatch(r"(first|last):(.+) of (\w+)", verb, re.DOTALL)
    if found is None:
        raise AssertionError(f"the loader let {verb!r} pass")
    parts = pl.col(found[3]).str.split(found[2]).list
    return parts.first() if found[1] == "first" else parts.last()


def _json(text: pl.Expr, path: str) -> pl.Expr:
    """One field of a JSON text; alternatives are separated by `|`. A missing field or a broken text gives null."""
    paths = [p.strip() for p in path.split("|")]
    return pl.coalesce(text.str.json_path_match(p) for p in paths)


def _mended(text: pl.Expr) -> pl.Expr:
    r"""JSON made valid: nginx and Apache write `\xHH` in it, HAProxy pads numbers with zeros."""
    for _ in range(2):  # neighbouring escapes share a character, so every second one is left by the first turn
        text = text.str.replace_all(r"((?:^|[^\\])(?:\\\\)*)\\x([0-9A-Fa-f]{2})", r"${1}\u00${2}")
    return text.str.replace_all(r'(":-?)0+(\d)', "${1}${2}")


def _pair(text: pl.Expr, key: str) -> pl.Expr:
    """The value of `key=value` or `key="quoted value"` in a tail."""
    at = rf"(?:^|\s){re.escape(key)}="
    quoted = text.str.extract(rf'{at}"((?:[^"\\]|\\.)*)"', 1).str.replace_all(r"\"", '"', literal=True)
    return pl.coalesce(quoted, text.str.extract(rf'{at}([^\s"]\S*)', 1))


def _number(value: pl.Expr, unit: str) -> pl.Expr:
    """Digits as i64; with a unit of time, in ns."""
    if unit == "go":
        return _go_duration(value)
    if unit in ("ns", "count"):
        return value.str.extract(r"^\+?(-?\d+)", 1).cast(pl.Int64, strict=False)
    return (
        (value.str.extract(r"^\+?(-?[\d.]+)", 1).cast(pl.Float64, strict=False) * UNITS[unit])
        .round(0)
        .cast(pl.Int64, strict=False)
    )


def _go_duration(value: pl.Expr) -> pl.Expr:
    """Go's `1h2m3.5s`, `802.5ms`, `39µs`, or bare seconds, as ns."""
    parts = {
        r"(\d+)h": 3_600e9,
        r"(\d+)m(?:\d|$)": 60e9,
        r"([\d.]+)s$": 1e9,
        r"([\d.]+)ms$": 1e6,
        r"([\d.]+)[uµ]s$": 1e3,
        r"(\d+)ns$": 1.0,
        r"^([\d.]+)$": 1e9,
    }
    found = [value.str.extract(pattern, 1).cast(pl.Float64, strict=False) * size for pattern, size in parts.items()]
    return (
        pl.when(pl.any_horizontal(f.is_not_null() for f in found))
        .then(pl.sum_horizontal(found))
        .round(0)
        .cast(pl.Int64, strict=False)
    )


def stamps(time: Time | None) -> list[pl.Expr]:
    """timestamp_raw, its text, digits of its fraction, whether its zone was written, and what it marks."""
    if time is None:
        return [
            pl.lit(None, schema.TS).alias("timestamp_raw"),
            pl.lit(None, pl.String).alias("timestamp_text"),
            pl.lit(None, pl.Int64).alias("_digits"),
            pl.lit(None, pl.Boolean).alias("zone_inline"),
            pl.lit("unknown").alias("time_semantics"),
            pl.lit(None, pl.Int64).alias("time_resolution_ns"),
        ]
    instant, digits, known = times.parse(pl.col(time.column), time.format, time.zone)
    return [
        instant.alias("timestamp_raw"),
        pl.col(time.column).alias("timestamp_text"),
        digits.alias("_digits"),
        known.alias("zone_inline"),
        pl.lit(MARKS[time.marks]).alias("time_semantics"),
        pl.lit(time.resolution_ns, pl.Int64).alias("time_resolution_ns"),
    ]


def decode(lines: pl.DataFrame, dialect: Dialect, definition: Definition) -> pl.DataFrame:
    """Rows of one dialect.

    Args:
        lines: columns `text` (the line inside its envelopes) and whatever is to be carried along.
        dialect: the dialect that claims the lines.
        definition: its definition.

    Returns:
        the rows with decoded columns in working types; `event_name` is "log" where no event claims the body.
    """
    frame = extract(lines.lazy(), dialect.extract, "text")
    made = frame.collect_schema().names()
    if "ambiguous_text" in made and dialect.time is not None:
        # a line that can be cut in two ways has no field behind the first cut
        safe = {"text", "ambiguous_text", "client_address", dialect.time.column, dialect.body, *lines.columns}
        frame = frame.with_columns(
            pl.when("ambiguous_text").then(None).otherwise(pl.col(c)).alias(c) for c in made if c not in safe
        )
    body = dialect.body if dialect.body in made else "text"
    frame = frame.with_columns(stamps(dialect.time)).with_columns(pl.col(body).alias("body"))
    if dialect.time is not None and dialect.time.other:
        there, *_ = times.parse(pl.col(dialect.time.other), dialect.time.format, dialect.time.zone)
        lasted = (pl.col("timestamp_raw") - there).dt.total_nanoseconds().abs()
        frame = frame.with_columns(
            (pl.coalesce("duration_ns", lasted) if "duration_ns" in made else lasted).alias("duration_ns")
        )
    base = frame.with_columns(_broken(dialect, set(frame.collect_schema().names())).alias("unparsed_reason")).collect()
    events = [e for e in definition.events if not e.dialects or dialect.name in e.dialects]
    choice = pl.lit(len(events), pl.UInt32)
    for index in range(len(events) - 1, -1, -1):
        choice = pl.when(_selected(events[index], base)).then(pl.lit(index, pl.UInt32)).otherwise(choice)
    base = base.with_columns(choice.alias("_event"))
    plans = []
    for (index,), rows in base.partition_by("_event", as_dict=True, maintain_order=True).items():
        if index == len(events):
            plans.append(rows.lazy().with_columns(_named(dialect.event or "log")))
            continue
        event = events[int(index)]
        plan = extract(rows.lazy(), event.extract, event.column)
        plans.append(plan.with_columns(_named(event.name)))
    frames = [typed(f) for f in pl.collect_all(plans)]
    if not frames:
        return typed(base.with_columns(pl.lit("log").alias("event_name")))
    return pl.concat(frames, how="diagonal").with_columns(pl.lit(dialect.parser).alias("parser"))


def _broken(dialect: Dialect, made: set[str]) -> pl.Expr:
    """Why a line that looks like its dialect is none of it after all; null where it is one."""
    why = pl.lit(None, pl.String)
    if dialect.time is not None:
        why = pl.when(pl.col("timestamp_raw").is_null()).then(pl.lit("a stamp that cannot be read")).otherwise(why)
    if "_document" in made:
        broken = pl.col("_document").is_not_null() & pl.col("_document").str.json_path_match("$").is_null()
        why = pl.when(broken).then(pl.lit("JSON that is cut off or broken")).otherwise(why)
    return why


def _named(name: str) -> pl.Expr:
    """The event's name; `{column}` in it stands for the row's value."""
    return _filled(name).alias("event_name")


def _filled(template: str) -> pl.Expr:
    """A text in which `{column}` stands for the row's value; null where one of them is null."""
    columns = re.findall(r"\{(\w+)\}", template)
    return pl.format(re.sub(r"\{\w+\}", "{}", template), *columns) if columns else pl.lit(template)


def _selected(event: Event, base: pl.DataFrame) -> pl.Expr:
    """Whether the line holds one of the event's literals, its column fits the event's regex and its speaker is one for it."""
    text = pl.col("text")
    test = (
        text.str.contains(event.select[0], literal=True)
        if len(event.select) == 1
        else text.str.contains(literals(event.select))
    )
    if event.extract.regex:
        test = test & pl.col(event.column if event.column in base.columns else "body").str.contains(event.extract.regex)
    if event.speaker and "subsystem" in base.columns:
        test = test & pl.col("subsystem").str.contains(event.speaker).fill_null(value=True)
    return test.fill_null(value=False)


def typed(frame: pl.DataFrame) -> pl.DataFrame:
    """Working types for every contract column and attribute; temporaries (`_x`, `time`) go, but for `_digits`."""
    keep = []
    for name in frame.columns:
        if name in _TYPES:
            keep.append(_cast(name, frame.schema[name]))
        elif name == "_digits" or name.startswith("x_") or name in ("line", "offset", "text", "part", "seq"):
            keep.append(pl.col(name))
    frame = frame.select(keep)
    if "severity_text" in frame.columns and "severity_number" not in frame.columns:
        level = pl.col("severity_text").str.to_lowercase()
        frame = frame.with_columns(
            level.replace_strict(SEVERITY, default=None, return_dtype=pl.UInt8).alias("severity_number")
        )
    return frame


def _cast(name: str, have: pl.DataType) -> pl.Expr:
    want = _TYPES[name]
    column = pl.col(name)
    if have == pl.String and want == pl.Boolean:
        return column.str.to_lowercase().is_in(["true", "1", "yes"]).alias(name)
    if have == pl.String and pl.Schema({"c": want})["c"].is_numeric():
        return column.str.extract(r"^\+?(-?\d+)", 1).cast(want, strict=False)
    return column if have == want else column.cast(want, strict=False)
