"""The weekly page's small pictures: one group over the weeks as bars, readable in grey too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import rates
from occorr.report import phrases, words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr.weekly import Week, Weekly

_PANELS: Final = 12
_WIDE, _HIGH, _TOP, _GAP = 240.0, 46.0, 12.0, 1.5  # of a small picture, px
SIZE: Final = (_WIDE, _HIGH + _TOP)


@dataclass(frozen=True, slots=True)
class Bar:
    """One week of a small picture, in px."""

    x: float
    y: float
    width: float
    height: float
    kind: str  # whole, partial, none
    told: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A small picture: one group over the weeks, the last week's count with its interval, and the mean of the trailing four."""

    name: str
    title: str
    family: str
    bars: tuple[Bar, ...]
    top: int
    row: Mapping[str, Any]
    whisker: tuple[float, float] | None
    mean: float | None


def panels(w: Weekly, level: str) -> list[Panel]:
    """Small pictures of a level, most closes first, ordinary ones last."""
    recent = phrases.recent(w)
    last = w.last
    frame = w.levels[level].filter(pl.col("week").is_in([week.name for week in recent]))
    if last is None or frame.is_empty():
        return []
    keys = [
        c for c in ("family", "cause", "code", "code_observer", "project", "service", "callout") if c in frame.columns
    ]
    groups = [
        (rows["closes"].sum(), key, {r["week"]: r for r in rows.iter_rows(named=True)})
        for key, rows in frame.group_by(keys, maintain_order=True)
    ]
    groups.sort(key=lambda g: (level == "cause" and g[1][0] == "client", -g[0], tuple(map(str, g[1]))))
    made = []
    for _, key, by_week in groups[:_PANELS]:
        empty = (
            dict.fromkeys(frame.columns)
            | dict(zip(keys, key, strict=True))
            | {
                "closes": 0,
                "previous": 0,
                "trailing": 0,
                "incidents": 0,
                "previous_change": "no data",
                "trailing_change": "no data",
            }
        )
        row = by_week.get(last.name, empty)
        made.append(_panel(w, level, row, by_week, recent))
    return made


def _panel(
    w: Weekly, level: str, row: Mapping[str, Any], by_week: Mapping[str, Mapping[str, Any]], recent: tuple[Week, ...]
) -> Panel:
    counts = [int(by_week[week.name]["closes"]) if week.name in by_week else 0 for week in recent]
    spread = max(1.0, counts[-1] / row["incidents"]) if row["incidents"] else 1.0
    _, low, high = (
        float(x) * recent[-1].covered for x in rates.per_hour(counts[-1], recent[-1].covered or 1.0, spread)
    )
    top = max([*counts, 1])
    # Few weeks do not become planks: a bar is 14 px wide at most.
    step = min(_WIDE / len(recent), 14.0 + _GAP)

    def y(value: float) -> float:
        return round(_TOP + _HIGH * (1 - min(value / top, 1.12)), 1)

    bars = []
    for i, (week, count) in enumerate(zip(recent, counts, strict=True)):
        kind = "none" if week.covered == 0 and not count else "partial" if week.partial else "whole"
        told = (
            f"{week.name}:"
            f" {'no logs' if kind == 'none' else words.count(count, 'close')}{f', logs cover {phrases.share(week)}' if kind == 'partial' else ''}"
        )
        bars.append(
            Bar(
                round(_WIDE - (len(recent) - i) * step, 1),
                y(count),
                round(step - _GAP, 1),
                round(_TOP + _HIGH - y(count), 1),
                kind,
                told,
            )
        )
    mean = row["trailing"] / row["trailing_hours"] * recent[-1].covered if row.get("trailing_hours") else None
    whisker = (y(low), y(high)) if counts[-1] and recent[-1].covered else None
    return Panel(
        phrases.named(level, row),
        str(row.get("cause") or ""),
        phrases.family(w, level, row),
        tuple(bars),
        max(counts),
        row,
        whisker,
        None if mean is None else y(mean),
    )


def hour_bars(w: Weekly) -> list[dict[str, Any]]:
    """The bars of the day: 24 hours with their closes."""
    top = max([*w.by_hour, 1])
    return [{"hour": hour, "n": n, "height": round(_HIGH * n / top, 1)} for hour, n in enumerate(w.by_hour)]
