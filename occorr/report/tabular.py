"""Tables for programs that read columns: CSV that no spreadsheet runs, JSON, and Parquet whose times Spark reads."""

from __future__ import annotations

import io
import json
from typing import Any, Final, Literal

import polars as pl
import pyarrow.parquet as pq

from occorr import schema
from occorr.encode import ascii_only, iso, value
from occorr.report.tables import visible

Unit = Literal["ns", "us", "ms"]

# A spreadsheet runs a cell that begins so, also after blanks and in the wide forms that some input methods write.
_FORMULA: Final = r"^\s*[=+\-@\t\r\n|%＝＋－＠]"
_HIDDEN: Final = r"[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}]"


def csv(frame: pl.DataFrame) -> str:
    """RFC 4180 with a header; times ISO 8601, lists as JSON, invisible characters written out, formulas behind an apostrophe."""
    flat = harmless(_flat(frame))
    return flat.rename({name: _cell(name) for name in flat.columns}).write_csv(line_terminator="\n")


def harmless(frame: pl.DataFrame) -> pl.DataFrame:
    """Text columns as a spreadsheet may open them: nothing hides, nothing runs."""
    return frame.with_columns(_safe(frame[name]) for name, dtype in frame.schema.items() if dtype == pl.String)


def _safe(column: pl.Series) -> pl.Series:
    odd = column.filter(column.str.contains(_HIDDEN) | column.str.contains(_FORMULA)).unique()
    return column if odd.is_empty() else column.replace({text: _cell(text) for text in odd.to_list()})


def _cell(text: str) -> str:
    shown = visible(text)
    return f"'{shown}" if shown.lstrip()[:1] in set("=+-@|%＝＋－＠") or text[:1] in set("\t\r\n") else shown


def rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows with JSON's own types: times ISO 8601, null for NaN."""
    return _flat(frame, nested=True).to_dicts()


def json_text(frame: pl.DataFrame) -> str:
    """One object: `schema_version`, `columns` with their types, `rows`."""
    types = {name: str(dtype) for name, dtype in frame.schema.items()}
    return (
        json.dumps(
            {"schema_version": schema.VERSION, "columns": types, "rows": rows(frame)},
            indent=1,
            allow_nan=False,
            default=str,
        )
        + "\n"
    )


def ndjson(frame: pl.DataFrame) -> str:
    """One object a line."""
    return ascii_only(_flat(frame, nested=True).write_ndjson())


def parquet(frame: pl.DataFrame, unit: Unit = "us") -> bytes:
    """Parquet for readers that know neither dictionaries of strings nor unsigned numbers nor, with `us`, nanoseconds.

    Bounds stay bounds: `time_latest` is rounded up, all other times down.
    """
    arrow = frame.with_columns(
        (
            pl.col(name).cast(pl.String)
            if isinstance(dtype, pl.Categorical | pl.Enum)
            else (
                _coarse(name, unit)
                if isinstance(dtype, pl.Datetime)
                else pl.col(name).cast(pl.Int32 if dtype in (pl.UInt8, pl.UInt16) else pl.Int64)
            )
        )
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Categorical | pl.Enum | pl.Datetime) or dtype.is_unsigned_integer()
    ).to_arrow(compat_level=pl.CompatLevel.oldest())
    sink = io.BytesIO()
    pq.write_table(arrow, sink, compression="zstd", coerce_timestamps=None if unit == "ns" else unit)
    return sink.getvalue()


def _coarse(name: str, unit: Unit) -> pl.Expr:
    step = {"ns": 1, "us": 1_000, "ms": 1_000_000}[unit]
    ns = pl.col(name).dt.epoch("ns")
    late = ns + (step - 1) if name.endswith("_latest") else ns
    return pl.from_epoch(late.floordiv(step), time_unit=unit).dt.replace_time_zone("UTC").alias(name)


def _flat(frame: pl.DataFrame, *, nested: bool = False) -> pl.DataFrame:
    """Times and coded strings as text, NaN as null; lists and structs as JSON text unless `nested`."""
    made: dict[str, pl.Expr] = {}
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if isinstance(dtype, pl.Datetime):
            made[name] = iso(column) if dtype.time_zone else column.dt.to_string("iso")
        elif isinstance(dtype, pl.Date | pl.Time | pl.Duration):
            made[name] = column.dt.to_string("iso")
        elif isinstance(dtype, pl.Categorical | pl.Enum):
            made[name] = column.cast(pl.String)
        elif dtype.is_float():
            made[name] = pl.when(column.is_finite()).then(column)
        elif dtype.is_nested() and not nested:
            made[name] = value(column)
    return frame.with_columns(**made)
