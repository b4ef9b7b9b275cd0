"""Weeks of a zone, how far logs cover them, and in which of them a close lies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from occorr import history
from occorr.errors import OccorrError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from occorr.history import History

WHOLE: Final = 0.95  # share of a week's hours that must be covered for it to count as whole
LEAST_H: Final = 24.0  # hours that logs must cover for a report to be about a week
NO_WEEK: Final = "no week"
_MOST: Final = 530  # weeks: a decade; more is a stray stamp


@dataclass(frozen=True, slots=True)
class Week:
    """A week in a zone: its ISO name, bounds in ns since 1970, hours in it, and how many of them logs cover, in all and by kind of source."""

    name: str
    start: int
    end: int
    hours: float
    covered: float
    kinds: Mapping[str, float]

    @property
    def partial(self) -> bool:
        """Whether the logs cover less than the whole week."""
        return self.covered < WHOLE * self.hours


def focus(found: Sequence[Week]) -> int:
    """The index of the week that the report is about; -1 where there is none."""
    return next((i for i in range(len(found) - 1, -1, -1) if found[i].covered >= LEAST_H), len(found) - 1)


def bounds(week: str, zone: str) -> tuple[int, int]:
    """Start and end of an ISO week in a zone, ns since 1970.

    Raises:
        OccorrError: there is no such week.
    """
    try:
        monday = datetime.strptime(f"{week}-1", "%G-W%V-%u").date()  # noqa: DTZ007 - a day, which has no zone
    except ValueError as error:
        raise OccorrError(f"--week {week}: no such week; give an ISO week, as 2026-W46") from error
    return _midnight(monday, zone), _midnight(monday + timedelta(weeks=1), zone)


def named(found: Sequence[Week], week: str) -> int:
    """The index of a week.

    Raises:
        OccorrError: nothing is known of it.
    """
    known = {one.name: i for i, one in enumerate(found)}
    if week not in known:
        reach = f"the weeks {found[0].name} to {found[-1].name}" if found else "nothing at all"
        raise OccorrError(f"--week {week}: neither a line nor a close is in it; up to its end there is {reach}")
    return known[week]


def _midnight(day: date, zone: str) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp()) * 10**9


def weeks(past: History, zone: str) -> tuple[Week, ...]:
    """All weeks from the first line or close to the last, the gaps between them too."""
    moments = pl.concat(
        [
            past.cover["start"],
            (past.cover["end"] - 1).clip(past.cover["start"]),
            past.closes["timestamp"].cast(pl.Int64),
            past.closes["time_latest"].cast(pl.Int64),
        ]
    ).drop_nulls()
    if moments.is_empty():
        return ()
    place = ZoneInfo(zone)
    ordered = moments.sort()
    low, high = (
        datetime.fromtimestamp(int(ns) // 10**9, UTC).astimezone(place).date() for ns in (ordered[0], ordered[-1])
    )
    monday = max(low - timedelta(days=low.weekday()), high - timedelta(days=high.weekday(), weeks=_MOST))
    seen = history.seen(past.cover)
    kinds = past.cover["kind"].drop_nulls().unique().sort().to_list()
    made = []
    while monday <= high:
        start, end = _midnight(monday, zone), _midnight(monday + timedelta(weeks=1), zone)
        covered = {kind: history.hours(past.cover.filter(pl.col("kind") == kind), start, end) for kind in kinds}
        year, number, _ = monday.isocalendar()
        made.append(
            Week(f"{year}-W{number:02d}", start, end, (end - start) / 3.6e12, history.hours(seen, start, end), covered)
        )
        monday += timedelta(weeks=1)
    return tuple(made)


def placed(closes: pl.DataFrame, found: Sequence[Week]) -> pl.DataFrame:
    """`index` of the week that the whole interval lies in, else null and the `bucket` that says why."""
    starts = np.array([week.start for week in found], dtype=np.int64)
    # A close with one open side has no best moment; only a bound on both sides says in which week it lies.
    bounds = closes.select(
        low=pl.coalesce("time_earliest", "timestamp"), high=pl.coalesce("time_latest", "timestamp")
    ).cast(pl.Int64)
    if len(starts):
        bounds = bounds.with_columns(
            pl.Series(name, np.searchsorted(starts, bounds[name].fill_null(0).to_numpy(), side="right") - 1).zip_with(
                bounds[name].is_not_null(), pl.Series([None], dtype=pl.Int64)
            )
            for name in bounds.columns
        )
    low, high = pl.col("low"), pl.col("high")
    names = {i: week.name for i, week in enumerate(found)}
    known = low.is_not_null() & high.is_not_null() & (low >= 0)
    both = pl.format("{}/{}", *(c.replace_strict(names, default=None, return_dtype=pl.String) for c in (low, high)))
    placed = bounds.select(
        index=pl.when(known & (low == high)).then(low),
        bucket=pl.when(known & (low != high)).then(both).when(~known).then(pl.lit(NO_WEEK)),
    )
    return closes.hstack(placed)
