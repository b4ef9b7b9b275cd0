"""What a report is made from, and how its values become text that is safe to show."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Protocol

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable

SECOND: Final = 1_000_000_000
# C0 and C1 controls, zero-width characters, line separators and bidirectional controls: they move, hide or reorder what
# a reader sees, and a log line may hold them on purpose. Private-use and lone surrogates cannot be drawn at all.
_INVISIBLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
    "|[\U000e0000-\U000e007f]"
)


class Tables(Protocol):
    """The tables of one analysis, each with the columns of `schema.TABLES`."""

    @property
    def timeline(self) -> pl.DataFrame:
        """EVENTS."""

    @property
    def closes(self) -> pl.DataFrame:
        """CLOSES."""

    @property
    def evidence(self) -> pl.DataFrame:
        """EVIDENCE."""

    @property
    def incidents(self) -> pl.DataFrame:
        """INCIDENTS."""

    @property
    def facts(self) -> pl.DataFrame:
        """FACTS."""

    @property
    def clocks(self) -> pl.DataFrame:
        """CLOCKS."""

    @property
    def sources(self) -> pl.DataFrame:
        """SOURCES."""

    @property
    def redacted(self) -> bool:
        """Whether secrets were replaced; where not, every report says so."""


def plain(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with strings for dictionaries and enums, int64 ns since 1970 for times, and null for NaN."""
    return frame.with_columns(
        pl.col(name).cast(pl.String)
        if isinstance(dtype, pl.Categorical | pl.Enum)
        else pl.col(name).dt.epoch("ns")
        if isinstance(dtype, pl.Datetime)
        else pl.col(name).fill_nan(None)
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Categorical | pl.Enum | pl.Datetime) or dtype.is_float()
    )


def visible(text: str) -> str:
    """The text with every character that hides or reorders others written out, as a backslash, `u` and its number in braces."""
    return _INVISIBLE.sub(lambda m: f"\\u{{{ord(m[0]):x}}}", text)


def shown(value: Any) -> str:
    """Any value of a table as text that is safe to show; null is empty."""
    return "" if value is None else visible(str(value))


def shorten(paths: Iterable[str]) -> dict[str, str]:
    """What each path is called in a report: without the folders that all of them share.

    Args:
        paths: `log_file_path` of all tables. A report travels; where it was made is nobody's business.
    """
    unique = sorted(set(paths))
    parents = [PurePosixPath(p).parts[:-1] for p in unique]
    shared = 0
    while parents and all(len(p) > shared and p[shared] == parents[0][shared] for p in parents):
        shared += 1
    return {p: visible("/".join(PurePosixPath(p).parts[shared:]) or p) for p in unique}
