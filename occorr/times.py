"""Reads stamps: a column of texts becomes instants, resolutions and the knowledge of whether a zone was written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import polars as pl

from occorr.schema import TS

_UNITS: Final = {"epoch_s": 9, "epoch_ms": 6, "epoch_us": 3, "epoch_ns": 0}
# Names of zones that stand for one offset only, in seconds; BST, CST or IST may be one of several and are no knowledge.
ZONES: Final = {
    "UTC": 0,
    "GMT": 0,
    "WET": 0,
    "WEST": 3600,
    "CET": 3600,
    "CEST": 7200,
    "EET": 7200,
    "EEST": 10800,
    "MSK": 10800,
    "EST": -18000,
    "EDT": -14400,
    "CDT": -18000,
    "MST": -25200,
    "MDT": -21600,
    "PST": -28800,
    "PDT": -25200,
    "AKST": -32400,
    "AKDT": -28800,
    "HST": -36000,
    "JST": 32400,
    "KST": 32400,
    "AEST": 36000,
    "AEDT": 39600,
    "NZST": 43200,
    "NZDT": 46800,
}
YEARLESS: Final = 1972  # a leap year, so that 29 February can be read, and before any log
_SAMPLE: Final = datetime(2026, 11, 21, 5, 6, 7, tzinfo=UTC)


def parse(text: pl.Expr, form: str, zone: str) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Stamps as (instant, digits, inline).

    Args:
        text: the stamp's characters. A fraction of a second and a zone may follow what `form` describes.
        form: a strptime format of fixed width, or `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`.
        zone: `inline` (written behind the stamp), `UTC`, or `naive`.

    Returns: instant: ts[ns, UTC]; a naive stamp as if its zone were UTC, a stamp without a date on 1970-01-01, one
    without a year in YEARLESS; digits: i64, digits of the fraction; inline: bool, a zone was known.
    """
    if form in _UNITS:
        return _epoch(text, _UNITS[form])
    dated = "%d" in form or "%j" in form
    width = len(_SAMPLE.strftime(form))
    core = text.str.slice(0, width)
    if dated and "%Y" not in form and "%y" not in form:
        core, form = pl.lit(f"{YEARLESS} ") + core, f"%Y {form}"
    if "%b %d" in form:
        core = core.str.replace("  ", " 0", literal=True)
    if dated:
        seconds = core.str.strptime(pl.Datetime("us"), form, strict=False, cache=True).dt.epoch("s")
    else:
        clock = core.str.strptime(pl.Time, form, strict=False, cache=True)
        seconds = clock.cast(pl.Int64) // 1_000_000_000
    rest = text.str.slice(width)
    fraction = rest.str.extract(r"^[.,](\d{1,9})", 1)
    digits = fraction.str.len_bytes().fill_null(0).cast(pl.Int64)
    nanos = fraction.str.pad_end(9, "0").cast(pl.Int64).fill_null(0)
    sign = rest.str.extract(r"([+-])\d{2}:?\d{2}$", 1)
    offset = (
        rest.str.extract(r"[+-](\d{2}):?\d{2}$", 1).cast(pl.Int64) * 3600
        + rest.str.extract(r"[+-]\d{2}:?(\d{2})$", 1).cast(pl.Int64) * 60
    ) * pl.when(sign == "-").then(-1).otherwise(1)
    word = rest.str.extract(r" ?([A-Z]{3,4})$", 1).replace_strict(ZONES, default=None, return_dtype=pl.Int64)
    offset = pl.coalesce(offset, word)
    known = (
        sign.is_not_null() | rest.str.ends_with("Z") | word.is_not_null() if zone == "inline" else pl.lit(zone == "UTC")
    )
    shift = offset.fill_null(0) if zone == "inline" else pl.lit(0, pl.Int64)
    instant = ((seconds - shift) * 1_000_000_000 + nanos).cast(TS)
    return instant, digits, known


def _epoch(text: pl.Expr, power: int) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Decimal text to ns without a float in between, which would lose the last digits."""
    whole = text.str.extract(r"^(\d{1,19})", 1).cast(pl.Int64, strict=False)
    fraction = text.str.extract(r"^\d+\.(\d{1,9})", 1)
    digits = fraction.str.len_bytes().fill_null(0).cast(pl.Int64)
    part = (
        (fraction.str.pad_end(power, "0").str.slice(0, power).cast(pl.Int64, strict=False))
        if power
        else pl.lit(0, pl.Int64)
    )
    instant = (whole * 10**power + part.fill_null(0)).cast(TS)
    return instant, digits + (9 - power), pl.lit(value=True)
