"""JSON, cell by cell, as polars expressions: a million lines are written without a Python loop over them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

_BEYOND: Final = re.compile("[^\x00-\x7e]+")


def value(column: pl.Expr) -> pl.Expr:
    """A column as JSON text: strings quoted and escaped, numbers and booleans as they are; null stays null."""
    return pl.when(column.is_not_null()).then(
        pl.struct(column.alias("v")).struct.json_encode().str.strip_prefix('{"v":').str.strip_suffix("}")
    )


def members(**named: pl.Expr) -> pl.Expr:
    """An object of JSON texts, without the members that are null.

    Args:
        named: the member's name → its value as JSON text.
    """
    return members_of(named)


def members_of(named: Mapping[str, pl.Expr]) -> pl.Expr:
    """As `members`, for names that are no Python names."""
    if not named:
        return pl.lit("{}")
    parts = [pl.format(f'"{name}":{{}}', column) for name, column in named.items()]
    return pl.concat_str(pl.lit("{"), pl.concat_str(parts, separator=",", ignore_nulls=True), pl.lit("}"))


def ascii_only(text: str) -> str:
    """JSON text with every character beyond ASCII written as an escape: nothing in it can move a cursor or turn a line round."""
    return _BEYOND.sub(lambda m: json.dumps(m[0])[1:-1].replace("\x7f", "\\u007f"), text)


def iso(column: pl.Expr, digits: int = 9) -> pl.Expr:
    """A time as ISO 8601 in UTC.

    Args:
        column: datetimes.
        digits: of the second's fraction; 9, 6 or 3.
    """
    return column.dt.to_string(f"%Y-%m-%dT%H:%M:%S%.{digits}f") + "+00:00"
