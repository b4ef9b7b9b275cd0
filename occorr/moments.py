"""Moments as people and programs read them: ISO 8601 (RFC 3339) in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from occorr.schema import SECOND

if TYPE_CHECKING:
    import polars as pl


def iso(time_ns: int, digits: int = 9) -> str:
    """Nanoseconds since 1970 as text, with 1 to 9 digits of the second's fraction, the rest cut off."""
    fraction = f"{time_ns % SECOND:09d}"[:digits]
    return f"{datetime.fromtimestamp(time_ns // SECOND, UTC):%Y-%m-%dT%H:%M:%S}.{fraction}Z"


def span(since_ns: int | None, until_ns: int | None) -> str:
    """From when to when, to the second; empty without an end."""
    ends = (("from", since_ns), ("until", until_ns))
    return " ".join(f"{word} {iso(at, 1)[:19]}Z" for word, at in ends if at is not None)


def isos(column: pl.Expr) -> pl.Expr:
    """Datetimes as text, with nine digits."""
    return column.dt.to_string("%Y-%m-%dT%H:%M:%S%.9fZ")
