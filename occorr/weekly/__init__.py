"""The weekly mix: closes by ISO week, code, cause and service, what changed beyond noise, and who is behind it.

A week is Monday to Monday in a zone. A close counts in a week if its whole interval lies in it; one whose interval
reaches over a boundary stands in a bucket of its own, `2026-W46/2026-W47`, one without bounds in `no week`. Rates are
per hour that the logs cover, so that half a week can be compared with a whole one.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from occorr import history, resources
from occorr.weekly import behind, calendar, levels as counting
from occorr.weekly.calendar import Week, weeks
from occorr.weekly.levels import KEYS, TRAILING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr.history import History

__all__ = ["Callout", "Week", "Weekly", "callouts", "weekly"]


@dataclass(frozen=True, slots=True)
class Callout:
    """A kind of closes with a name and what to check next."""

    name: str
    family: str
    when: str
    check: str


@dataclass(frozen=True, slots=True)
class Weekly:
    """All that the weekly report says.

    Attributes: zone: IANA name. weeks: all weeks from the first to the last that a line or close is in. levels: `KEYS`
    → one row a group and week: closes, refused, incidents, hours, and the change against the previous week and the
    trailing four. buckets: closes in no single week: bucket and the columns of `mix`. keywords: words beside the codes
    of the last week. offenders: kind (address, client), name, closes, previous, incidents, causes; last week, ordinary
    closes and restarts left out. by_hour: 24 counts of the last week by hour of the day, ordinary closes left out.
    beats: what comes back: cause, kind and name of who, closes, and the period with the clock that it keeps. callouts:
    what is called out by name. totals: closes counted, results, rows that other results held too. redacted: whether all
    results are. about: index of the week that the report is about; -1 where there is none.
    """

    zone: str
    weeks: tuple[Week, ...]
    levels: Mapping[str, pl.DataFrame]
    buckets: pl.DataFrame
    keywords: pl.DataFrame
    offenders: pl.DataFrame
    by_hour: tuple[int, ...]
    beats: tuple[Mapping[str, Any], ...]
    callouts: tuple[Callout, ...]
    totals: Mapping[str, int]
    redacted: bool
    about: int

    @property
    def last(self) -> Week | None:
        """The week that the report is about."""
        return self.weeks[self.about] if self.weeks else None


def weekly(past: History, zone: str = "UTC", week: str = "") -> Weekly:
    """Counts a history by weeks.

    Args:
        past: many results as one.
        zone: IANA name of the zone whose Mondays part the weeks.
        week: the week that the report is about, as `2026-W46`, told as it was at its end; by default the last one that
            logs cover for a day at least, since one that began an hour ago says nothing.

    Raises:
        OccorrError: no such week, or nothing is known of it.
    """
    if week:
        past = history.clipped(past, until=calendar.bounds(week, zone)[1])
    found = weeks(past, zone)
    final = calendar.named(found, week) if week else calendar.focus(found)
    calls = callouts()
    closes = calendar.placed(counting.labelled(past.closes), found)
    inside = closes.filter(pl.col("index").is_not_null())
    called = (
        pl.concat(
            [
                inside.filter(pl.sql_expr(call.when).fill_null(value=False)).with_columns(callout=pl.lit(call.name))
                for call in calls
            ],
            rechunk=True,
        )
        if calls
        else inside.with_columns(callout=pl.lit(""))
    )
    levels = {
        level: counting.level(called if level == "callout" else inside, level, found, past.cover) for level in KEYS
    }
    outside = closes.filter(pl.col("index").is_null())
    last = inside.filter(pl.col("index") == final)
    return Weekly(
        zone=zone,
        weeks=found,
        levels=levels,
        buckets=outside.group_by("bucket", *KEYS["mix"])
        .agg(closes=pl.col("weight").sum())
        .sort("bucket", *KEYS["mix"], nulls_last=True),
        keywords=behind.telling_words(last),
        offenders=behind.offenders(inside, final),
        by_hour=behind.by_hour(last, zone),
        beats=behind.beats(inside.filter(pl.col("index").is_between(final - TRAILING, final)), zone),
        callouts=calls,
        totals={"closes": int(closes["weight"].sum()), "results": past.results, "doubled": past.doubled},
        redacted=past.redacted,
        about=final,
    )


def callouts() -> tuple[Callout, ...]:
    """What `reports/weekly/callouts.toml` names."""
    data = tomllib.loads((resources.folder("reports") / "weekly" / "callouts.toml").read_text(encoding="utf-8"))
    return tuple(Callout(**row) for row in data["callout"])
