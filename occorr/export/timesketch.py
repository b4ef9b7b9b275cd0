"""Timesketch: the lines, the closes with their verdicts and the incidents as one timeline, JSONL or CSV.

Its importer wants `message`, `datetime` (ISO 8601) and `timestamp_desc` (what the time means); `timestamp` is µs since
1970. Rows without a time cannot be on a timeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import quotes, schema
from occorr.encode import ascii_only, iso, members_of, value
from occorr.report import tabular

if TYPE_CHECKING:
    from occorr.report.tables import Tables

_LINE: Final = (
    "event_id",
    "source_kind",
    "event_name",
    "severity_text",
    "service_name",
    "compose_project",
    "container_name",
    "container_action",
    "client_address",
    "client_port",
    "http_response_status_code",
    "url_path",
    "conn_id",
    "websocket_close_code",
    "websocket_close_reason",
    "log_file_path",
    "log_line",
    "time_earliest",
    "time_latest",
    "clock_id",
    "clock_status",
)
_CLOSE: Final = (
    "close_id",
    "conn_id",
    "service_name",
    "compose_project",
    "client_address",
    "client_port",
    "websocket_close_code",
    "websocket_close_reason",
    "family",
    "cause",
    "verdict",
    "probability",
    "incident_id",
    "count",
    "time_earliest",
    "time_latest",
)
_INCIDENT: Final = ("incident_id", "family", "cause", "probability")


def jsonl(tables: Tables) -> str:
    """One object a line, in the order of time; empty members are left out."""
    rows = timeline(tables)
    encoded = rows.select(members_of({name: value(pl.col(name)) for name in rows.columns}).alias("line"))
    return ascii_only("".join(f"{line}\n" for line in encoded["line"]))


def csv(tables: Tables) -> str:
    """The same rows as CSV that a spreadsheet may open too."""
    return tabular.csv(timeline(tables))


def timeline(tables: Tables) -> pl.DataFrame:
    """The rows, sorted: message, datetime, timestamp, timestamp_desc, data_type and what else is known."""
    lines = tables.timeline.join(
        quotes.sayings(tables.timeline).select("event_id", "said"), on="event_id", how="left", maintain_order="left"
    ).with_columns(
        message=pl.coalesce("said", "log_record_original", "body"),
        timestamp_desc=pl.coalesce(pl.col("timestamp_desc").cast(pl.String), pl.lit("not known")),
    )
    code = pl.coalesce(
        pl.col("websocket_close_code").cast(pl.String),
        pl.format("HTTP {}", schema.refusal()),
        pl.lit("without a code"),
    )
    sure = pl.format(
        "{}, {} %",
        pl.col("verdict").cast(pl.String),
        (pl.col("probability").fill_nan(None) * 100).round().clip(1, 99).cast(pl.Int64),
    )
    closes = tables.closes.with_columns(
        message=pl.format(
            "WebSocket close {}: {} ({})",
            code,
            pl.col("cause").cast(pl.String).fill_null("unknown.unknown"),
            pl.coalesce(sure, pl.col("verdict").cast(pl.String), pl.lit("unknown")),
        ),
        timestamp_desc=pl.lit("WebSocket close"),
    )
    began = tables.incidents.with_columns(
        timestamp=pl.col("start"),
        message=pl.format("Incident began: {}", pl.coalesce("title", "incident_id")),
        timestamp_desc=pl.lit("Incident began"),
    )
    ended = tables.incidents.with_columns(
        timestamp=pl.col("end"),
        message=pl.format("Incident ended: {}", pl.coalesce("title", "incident_id")),
        timestamp_desc=pl.lit("Incident ended"),
    )
    parts = [
        (lines, "occorr:line", _LINE),
        (closes, "occorr:close", _CLOSE),
        (began, "occorr:incident", _INCIDENT),
        (ended, "occorr:incident", _INCIDENT),
    ]
    return pl.concat(
        [_rows(frame, kind, columns) for frame, kind, columns in parts], how="diagonal_relaxed", rechunk=True
    ).sort(
        "timestamp",
        "data_type",
        "event_id",
        "close_id",
        "incident_id",
        "timestamp_desc",
        nulls_last=True,
        maintain_order=True,
    )


def timeless(tables: Tables) -> int:
    """How many lines and closes have no time, and so no place in this form."""
    return tables.timeline["timestamp"].null_count() + tables.closes["timestamp"].null_count()


def _rows(frame: pl.DataFrame, kind: str, columns: tuple[str, ...]) -> pl.DataFrame:
    coded = [name for name in columns if isinstance(frame.schema[name], pl.Categorical | pl.Enum)]
    times = [name for name in columns if isinstance(frame.schema[name], pl.Datetime)]
    return frame.filter(pl.col("timestamp").is_not_null()).select(
        "message",
        iso(pl.col("timestamp"), 6).alias("datetime"),
        pl.col("timestamp").dt.epoch("us"),
        "timestamp_desc",
        pl.lit(kind).alias("data_type"),
        *(
            (
                pl.col(c).cast(pl.String)
                if c in coded
                else (
                    iso(pl.col(c))
                    if c in times
                    else pl.col(c).fill_nan(None)
                    if frame.schema[c].is_float()
                    else pl.col(c)
                )
            )
            for c in columns
        ),
    )
