"""OTLP: the lines and the closes as OpenTelemetry log records in its JSON encoding of protobuf, one request a line.

The encoding is protobuf's JSON mapping, except that ids are hex: 64-bit integers are strings, enums numbers, names
lowerCamelCase, absent members left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import __version__, moments, schema
from occorr.encode import ascii_only, members, value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr.report.tables import Tables

_PER_LINE: Final = 500  # records; a line stays far below the 4 MiB that receivers take by default
_SLICE: Final = 10_000  # rows that are encoded at a time: JSON takes many times the room of a table
# What a record is about stands once for all records of one source; OpenTelemetry's name for a Compose project is the
# service's namespace.
_RESOURCE: Final = {
    "service_name": "service.name",
    "compose_project": "service.namespace",
    "host_name": "host.name",
    "container_id": "container.id",
    "container_name": "container.name",
    "container_image_name": "container.image.name",
    "process_pid": "process.pid",
}
_OWN: Final = {
    "timestamp",
    "observed_timestamp",
    "severity_number",
    "severity_text",
    "event_name",
    "body",
    "attributes",
}
_UUID: Final = r"^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"


def jsonl(tables: Tables) -> str:
    """Log records of all lines, then of all closes; those of one connection share its id as their trace id."""
    closes = tables.closes.with_columns(
        severity_number=pl.when(pl.col("family").cast(pl.String) == "client").then(9).otherwise(13),
        severity_text=pl.when(pl.col("family").cast(pl.String) == "client")
        .then(pl.lit("INFO"))
        .otherwise(pl.lit("WARN")),
        event_name=pl.lit("occorr.close"),
        body=pl.format(
            "{}: {}",
            pl.col("cause").cast(pl.String).fill_null("unknown.unknown"),
            pl.col("verdict").cast(pl.String).fill_null("unknown"),
        ),
    )
    parts = ((tables.timeline, schema.EVENTS, "occorr"), (closes, schema.CLOSES, "occorr.closes"))
    return "".join(
        ascii_only(_lines(piece.rechunk(), table, scope))
        for frame, table, scope in parts
        for piece in frame.iter_slices(_SLICE)
    )


def _lines(frame: pl.DataFrame, table: Mapping[str, schema.Column], scope: str) -> str:
    if frame.is_empty():
        return ""
    resource = [
        _attribute(new, pl.col(old), frame.schema[old]) for old, new in _RESOURCE.items() if old in frame.columns
    ]
    rest = [
        _attribute(column.otel or f"occorr.{name}", pl.col(name), frame.schema[name])
        for name, column in table.items()
        if name not in _OWN and name not in _RESOURCE
    ]
    own = (
        [pl.col("attributes").list.eval(_own_attribute()).list.join(",").replace("", None)]
        if "attributes" in frame.columns
        else []
    )
    fields = {
        "timeUnixNano": _nanos("timestamp"),
        "observedTimeUnixNano": (
            _nanos("observed_timestamp") if "observed_timestamp" in frame.columns else pl.lit(None, dtype=pl.String)
        ),
        "severityNumber": value(pl.col("severity_number")),
        "severityText": value(pl.col("severity_text").cast(pl.String)),
        "eventName": value(pl.col("event_name").cast(pl.String)),
        "body": members(
            stringValue=value(
                pl.coalesce("body", "log_record_original") if "log_record_original" in frame.columns else pl.col("body")
            )
        ),
        "traceId": value(
            pl.when(pl.col("conn_id").str.contains(_UUID)).then(
                pl.col("conn_id").str.replace_all("-", "").str.to_lowercase()
            )
        ),
        "attributes": pl.concat_str(
            pl.lit("["), pl.concat_str([*rest, *own], separator=",", ignore_nulls=True), pl.lit("]")
        ),
    }
    made = frame.select(resource=pl.concat_str(resource, separator=",", ignore_nulls=True), record=members(**fields))
    batches = (
        made.with_columns(batch=pl.int_range(pl.len()).over("resource") // _PER_LINE)
        .group_by("resource", "batch", maintain_order=True)
        .agg(pl.col("record").str.join(","))
    )
    head = value(pl.lit(scope))
    lines = batches.select(
        pl.concat_str(
            pl.lit('{"resourceLogs":[{"resource":{"attributes":['),
            "resource",
            pl.lit(']},"scopeLogs":[{"scope":{"name":'),
            head,
            pl.lit(',"version":'),
            value(pl.lit(__version__)),
            pl.lit('},"logRecords":['),
            "record",
            pl.lit("]}]}]}\n"),
        )
    )
    return "".join(lines.to_series())


def _nanos(name: str) -> pl.Expr:
    return pl.format('"{}"', pl.col(name).dt.epoch("ns"))


def _attribute(name: str, column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """A column as one KeyValue; null where it is null."""
    if isinstance(dtype, pl.Datetime):
        kind, text = "stringValue", value(moments.isos(column))
    elif isinstance(dtype, pl.Categorical | pl.Enum):
        kind, text = "stringValue", value(column.cast(pl.String))
    elif dtype == pl.Boolean:
        kind, text = "boolValue", value(column)
    elif dtype.is_integer():
        kind, text = "intValue", pl.format('"{}"', column)
    elif dtype.is_float():
        kind, text = "doubleValue", value(pl.when(column.is_finite()).then(column))
    elif isinstance(dtype, pl.List):
        return pl.when(column.list.len() > 0).then(
            pl.concat_str(
                pl.lit(f'{{"key":"{name}","value":{{"arrayValue":{{"values":['),
                column.list.eval(members(stringValue=value(pl.element()))).list.join(","),
                pl.lit("]}}}"),
            )
        )
    else:
        kind, text = "stringValue", value(column)
    return pl.concat_str(pl.lit(f'{{"key":"{name}","value":{{"{kind}":'), text, pl.lit("}}"))


def _own_attribute() -> pl.Expr:
    key = value(pl.concat_str(pl.lit("occorr."), pl.element().struct.field("key")))
    return pl.concat_str(
        pl.lit('{"key":'),
        key,
        pl.lit(',"value":{"stringValue":'),
        value(pl.element().struct.field("value").fill_null("")),
        pl.lit("}}"),
    )
