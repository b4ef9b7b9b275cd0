"""Clock faults in words: a clock that runs wrong, was set, or could not be aligned."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from occorr import alignment

if TYPE_CHECKING:
    from collections.abc import Mapping

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
QUARTER: Final = 900 * SECOND


def sentence(row: Mapping[str, Any]) -> str | None:
    """A clock that runs wrong, or that could not be aligned, in words; null where there is nothing to say.

    Args:
        row: a row of CLOCKS.
    """
    offset, error = row["offset_ns"] or 0, row["error_ns"] or 0
    if (row["method"] or "").endswith(alignment.SET):
        return f"{row['clock_id']} was set between {_when(row['segment_start'])} and {_when(row['segment_end'])} UTC."
    if row["status"] == "unalignable":
        return (
            f"{row['clock_id']} could not be aligned: {row['method'] or 'no reason is known'}; its stamps stand as"
            " written."
        )
    if row["status"] != "aligned" or abs(offset) <= max(error, 50 * MS):
        return None
    quarter = round(offset / QUARTER)
    zone = (
        f" ({'+' if quarter > 0 else '−'}{abs(quarter) // 4}:{abs(quarter) % 4 * 15:02d} h of it look like a wrong"
        " zone)"
        if quarter and abs(offset - quarter * QUARTER) <= 60 * SECOND
        else ""
    )
    way, sign = ("ahead", "−") if offset > 0 else ("behind", "+")
    return (
        f"{row['clock_id']} runs {_seconds(offset)} {way}{zone}; its stamps were corrected by {sign}{_seconds(offset)}"
        f" ± {error / MS:.1f} ms."
    )


def _when(moment: datetime | int | None) -> str:
    """A moment of CLOCKS, which reports hold as nanoseconds."""
    if moment is None:
        return "an unknown moment"
    return (
        f"{moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment / SECOND, UTC):%Y-%m-%d %H:%M:%S}"
    )


def _seconds(ns: int) -> str:
    return f"{abs(ns) / SECOND:.3f} s"
