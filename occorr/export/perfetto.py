"""Perfetto (ui.perfetto.dev) and chrome://tracing: the JSON trace event format.

A project is a process; its containers' lives, its closes by family, its log files are threads; connections and
incidents, which overlap, are asynchronous slices. Times are µs since `otherData.base`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import lives, quotes
from occorr.encode import ascii_only, members, members_of, value
from occorr.moments import iso
from occorr.report import tables as safe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr.report.tables import Tables

_TEXT: Final = 400  # characters of a line in a slice's details; the whole line stands at its file:line
_NAMELESS: Final = "(no project)"


def trace(tables: Tables) -> str:
    """The whole trace as one JSON object, events sorted by time."""
    timeline, closes, incidents = safe.plain(tables.timeline), safe.plain(tables.closes), safe.plain(tables.incidents)
    only = next(
        (
            names[0]
            for names in (
                closes["compose_project"].drop_nulls().unique().to_list(),
                timeline["compose_project"].drop_nulls().unique().to_list(),
            )
            if len(names) == 1
        ),
        "",
    )
    moments = [
        frame[name]
        for frame, names in (
            (timeline, ["timestamp"]),
            (closes, ["timestamp", "opened"]),
            (incidents, ["start", "end"]),
        )
        for name in names
    ]
    known = pl.concat(moments).drop_nulls().sort()
    base, last = (int(known[0]), int(known[-1])) if known.len() else (0, 0)
    said = quotes.sayings(tables.timeline).select("event_id", "said")
    events = pl.concat(
        [
            _lives(timeline, closes, only, base, last),
            _lines(timeline.join(said, on="event_id", how="left", maintain_order="left"), only),
            _closes(closes, only),
            *_connections(closes, only),
            *_incidents(incidents, only),
        ],
        rechunk=True,
    )
    pids = {name: i for i, name in enumerate(events["project"].unique().sort().to_list(), 1)}
    tids = {
        pair: i
        for i, pair in enumerate(
            events.select("project", "thread").unique().drop_nulls("thread").sort("project", "thread").rows(), 1
        )
    }
    numbers = pl.DataFrame(
        [(p, t, i) for (p, t), i in tids.items()],
        schema={"project": pl.String, "thread": pl.String, "tid": pl.Int64},
        orient="row",
    )
    placed = events.join(numbers, on=["project", "thread"], how="left", maintain_order="left").with_columns(
        pid=pl.col("project").replace_strict(pids, return_dtype=pl.Int64)
    )
    ordered = placed.sort("at", "rank", "pid", "tid", "body", nulls_last=True, maintain_order=True)
    lines = ordered.select(
        pl.concat_str(
            pl.lit('{"pid":'),
            "pid",
            pl.lit(',"tid":'),
            pl.col("tid").fill_null(0),
            pl.lit(',"ts":'),
            _micros(pl.col("at") - base),
            pl.lit(","),
            "body",
            pl.lit("}"),
        )
    )
    named = [_name("process_name", pid, 0, name) for name, pid in pids.items()] + [
        _name("thread_name", pids[p], i, t) for (p, t), i in tids.items()
    ]
    start = iso(base)
    return ascii_only(
        '{"displayTimeUnit":"ms","otherData":'
        + json.dumps({"base": start, "generator": "occorr"})
        + ',"traceEvents":[\n'
        + ",\n".join([*named, *lines.to_series()])
        + "\n]}\n"
    )


def _project(only: str) -> pl.Expr:
    return pl.col("compose_project").fill_null(only).replace("", _NAMELESS).alias("project")


def _lives(timeline: pl.DataFrame, closes: pl.DataFrame, only: str, base: int, last: int) -> pl.DataFrame:
    """What state each container was in, from `base` and until `last` where nothing says since or until when."""
    gateways = (
        closes.select("compose_project", "service_name")
        .unique()
        .drop_nulls("service_name")
        .sort("compose_project", "service_name")
        .rows()
    )
    rows = [
        (
            lane.project or only or _NAMELESS,
            f"container {lane.name}",
            span.state,
            base if span.start is None else span.start,
            last if span.end is None else span.end,
        )
        for lane in lives.lives(timeline, [(p or only, s) for p, s in gateways], only)
        for span in lane.spans
    ]
    return _events(
        pl.DataFrame(
            rows,
            schema={"project": pl.String, "thread": pl.String, "name": pl.String, "at": pl.Int64, "until": pl.Int64},
            orient="row",
        ),
        "X",
        {},
        until=True,
    )


def _lines(timeline: pl.DataFrame, only: str) -> pl.DataFrame:
    placed = timeline.filter(pl.col("timestamp").is_not_null()).with_columns(
        _project(only),
        name=pl.coalesce("event_name", "source_kind", pl.lit("line")),
        thread=pl.format("file {}", pl.col("log_file_path").fill_null("")),
        at=pl.col("timestamp"),
        text=pl.coalesce("said", "log_record_original").str.slice(0, _TEXT),
    )
    return _events(placed, "i", {"text": "text", "line": "log_line", "conn_id": "conn_id", "event_id": "event_id"})


def _closes(closes: pl.DataFrame, only: str) -> pl.DataFrame:
    placed = closes.filter(pl.col("timestamp").is_not_null()).with_columns(
        _project(only),
        name=pl.col("cause").fill_null("unknown.unknown"),
        thread=pl.format("closes: {}", pl.col("family").fill_null("unknown")),
        at=pl.col("timestamp"),
    )
    details = {
        "verdict": "verdict",
        "probability": "probability",
        "code": "websocket_close_code",
        "reason": "websocket_close_reason",
        "client": "client_address",
        "incident": "incident_id",
        "earliest_ns": "time_earliest",
        "latest_ns": "time_latest",
    }
    return _events(placed, "i", {"close_id": "close_id", **details})


def _connections(closes: pl.DataFrame, only: str) -> list[pl.DataFrame]:
    known = closes.filter(pl.col("opened").is_not_null() & pl.col("timestamp").is_not_null())
    placed = known.with_columns(
        _project(only),
        cat=pl.lit("connection"),
        name=pl.format("connection, {}", pl.col("cause").fill_null("unknown.unknown")),
        id="close_id",
        at=pl.min_horizontal("opened", "timestamp"),
        until="timestamp",
    )
    return _asynchronous(placed, {"client": "client_address", "conn_id": "conn_id"})


def _incidents(incidents: pl.DataFrame, only: str) -> list[pl.DataFrame]:
    placed = incidents.filter(pl.col("start").is_not_null()).with_columns(
        project=pl.col("projects").list.sort().list.first().fill_null(only).replace("", _NAMELESS),
        cat=pl.lit("incident"),
        name=pl.format("incident {}", pl.col("cause").fill_null("unknown.unknown")),
        id="incident_id",
        at="start",
        until=pl.coalesce("end", "start"),
    )
    return _asynchronous(placed, {"title": "title", "closes": "closes", "probability": "probability"})


def _micros(ns: pl.Expr) -> pl.Expr:
    """Nanoseconds as µs with three digits behind the point, without the rounding of a float."""
    return pl.format("{}.{}", ns // 1000, (ns % 1000).cast(pl.String).str.zfill(3))


def _name(what: str, pid: int, tid: int, name: str) -> str:
    return json.dumps({"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": safe.visible(name)}})


def _events(frame: pl.DataFrame, phase: str, args: Mapping[str, str], *, until: bool = False) -> pl.DataFrame:
    """Events of a thread: `at`, `project`, `thread`, and `body`, the members of the JSON object behind `ts`."""
    own = members_of({name: value(pl.col(column)) for name, column in args.items()})
    extra = (
        pl.concat_str(pl.lit(',"dur":'), _micros(pl.max_horizontal(pl.col("until") - pl.col("at"), pl.lit(0))))
        if until
        else pl.lit(',"s":"t"')
    )
    body = pl.concat_str(pl.lit(f'"ph":"{phase}","name":'), value(pl.col("name")), extra, pl.lit(',"args":'), own)
    return frame.select("at", "project", "thread", rank=pl.lit(1, dtype=pl.Int8), body=body)


def _asynchronous(frame: pl.DataFrame, args: Mapping[str, str]) -> list[pl.DataFrame]:
    """Slices that may overlap: a beginning and an end with one id."""
    own = members_of({name: value(pl.col(column)) for name, column in args.items()})
    # id2.local: the id counts inside its process, and the slice stands there and not among the global ones.
    head = (
        members(name=value(pl.col("name")), cat=value(pl.col("cat")), id2=members(local=value(pl.col("id"))))
        .str.strip_prefix("{")
        .str.strip_suffix("}")
    )
    thread = pl.lit(None, dtype=pl.String).alias("thread")
    begin = frame.select(
        "at",
        "project",
        thread,
        rank=pl.lit(0, dtype=pl.Int8),
        body=pl.concat_str(pl.lit('"ph":"b",'), head, pl.lit(',"args":'), own),
    )
    # At one moment what begins comes first, so that a slice without length still has both ends in order.
    end = frame.select(
        at="until",
        project="project",
        thread=thread,
        rank=pl.lit(2, dtype=pl.Int8),
        body=pl.concat_str(pl.lit('"ph":"e",'), head),
    )
    return [begin, end]
