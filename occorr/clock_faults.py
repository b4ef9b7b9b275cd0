"""Clock faults in words: a clock that runs wrong, was set, or could not be aligned."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from occorr import alignment
from occorr.schema import MS, SECOND
from occorr.zones import QUARTER

if TYPE_CHECKING:
    from collections.abc import Mapping

NEAR_ZONE: Final = 60 * SECOND  # what a clock that stands in another zone may be off besides


def sentence(row: Mapping[str, Any]) -> str | None:
    """A clock that runs wrong, or that could not be aligned, in words; null where there is nothing to say.

    Args:
        row: a row of CLOCKS.
    """
    offset, error = row["offset_ns"] or 0, row["error_ns"] or 0
    if (row["method"] or "").endswith(alignment.SET):
        return f"{row['clock_id']} was set between {_when(row['segment_start'])} and {_when(row['segment_end'])} UTC."
    if (row["method"] or "").endswith(alignment.DOUBTED):
        span = f"between {_when(row['segment_start'])} and {_when(row['segment_end'])} UTC"
        return f"{row['clock_id']} may have been set: its stamps {span} are known to ± {_error(error)} only."
    if row["status"] == "unalignable":
        return (
            f"{row['clock_id']} could not be aligned: {row['method'] or 'no reason is known'}; its stamps stand as"
            " written."
        )
    if row["status"] != "aligned" or abs(offset) <= max(error, 50 * MS):
        return None
    quarters = round(offset / QUARTER)
    zone = " (by the look of it a wrong zone)" if quarters and abs(offset - quarters * QUARTER) <= NEAR_ZONE else ""
    way, sign = ("ahead", "−") if offset > 0 else ("behind", "+")
    return (
        f"{row['clock_id']} runs {_long(offset)} {way}{zone}; its stamps were corrected by {sign}{_seconds(offset)}"
        f" ± {_error(error)}."
    )


def _when(moment: datetime | int | None) -> str:
    """A moment of CLOCKS, which reports hold as nanoseconds."""
    if moment is None:
        return "an unknown moment"
    return (
        f"{moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment / SECOND, UTC):%Y-%m-%d %H:%M:%S}"
    )


def _long(ns: int) -> str:
    """A duration as people say it: 2.350 s, 5 h 30 min, 1 h 0 min 37.250 s."""
    minutes, rest = divmod(round(abs(ns) / MS) * MS, 60 * SECOND)
    if not minutes:
        return _seconds(ns)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min", f"{rest / SECOND:.3f} s" if rest else ""]
    return " ".join(p for p in parts if p)


def _error(ns: int) -> str:
    return f"{ns / MS:.1f} ms" if ns < SECOND else _seconds(ns)


def _seconds(ns: int) -> str:
    return f"{abs(ns) / SECOND:.3f} s"
