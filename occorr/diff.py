"""Did the fix work: closes by cause before and after, per hour that the logs cover, with what the difference may be by chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from occorr import history, rates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr.history import History

ALL: Final = "all but ordinary"  # the first row: every cause outside the family `client`
_EVER: Final = 2**62
_LITTLE: Final = 0.1  # share of the other side's hours below which the coverage is called lopsided


@dataclass(frozen=True, slots=True)
class Side:
    """One side: hours that logs cover, by kind of source too, closes in it, and its first and last covered moment in ns since 1970."""

    hours: float
    kinds: Mapping[str, float]
    closes: int
    first: int | None
    last: int | None
    results: int


@dataclass(frozen=True, slots=True)
class Row:
    """A cause on both sides.

    Attributes: cause: the cause, or `ALL`. family: its family. before: closes before. after: closes after.
    before_events: how many times they happened: closes of one incident count as one. after_events: the same after.
    before_rate: closes per hour with the bounds of its 95 % interval; null without hours. after_rate: the same after.
    ratio: rate after by rate before; null where it has none. low: lower bound of its 95 % interval. high: upper bound;
    null where there is none. verdict: better, worse (of ordinary closes: fewer, more), same (not distinguishable) or no
    data. enough_hours: how long the side after must stay without such a close for it to be told from chance; null where
    that does not help.
    """

    cause: str
    family: str
    before: int
    after: int
    before_events: int
    after_events: int
    before_rate: tuple[float, float, float] | None
    after_rate: tuple[float, float, float] | None
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str
    enough_hours: float | None


@dataclass(frozen=True, slots=True)
class Diff:
    """Both sides, a row a cause (most closes first, behind the row for all), and what to mind."""

    before: Side
    after: Side
    rows: tuple[Row, ...]
    hints: tuple[str, ...]
    redacted: bool


def compare(before: History, after: History) -> Diff:
    """Compares two histories cause by cause."""
    sides = _side(before), _side(after)
    table = (
        _counted(before, "before")
        .join(_counted(after, "after"), on=["family", "cause"], how="full", coalesce=True, maintain_order="left_right")
        .fill_null(0)
    )
    loud = table.filter(pl.col("family") != "client")
    numbers = [name for name, dtype in table.schema.items() if dtype.is_numeric()]
    whole = loud.select(pl.col(numbers).sum()).with_columns(family=pl.lit(""), cause=pl.lit(ALL))
    ordered = table.sort(
        pl.col("family") == "client", pl.col("before") + pl.col("after"), "cause", descending=[False, True, False]
    )
    both = pl.concat([whole.select(table.columns), ordered])
    return Diff(*sides, _rows(both, *sides), tuple(_hints(before, after, *sides)), before.redacted and after.redacted)


def _side(past: History) -> Side:
    seen = history.seen(past.cover)
    kinds = {
        str(kind): history.hours(past.cover.filter(pl.col("kind") == kind), -_EVER, _EVER)
        for kind in past.cover["kind"].drop_nulls().unique().sort()
    }
    first, last = (int(seen["start"].sort()[0]), int(seen["end"].sort()[-1])) if seen.height else (None, None)
    return Side(history.hours(seen, -_EVER, _EVER), kinds, int(past.closes["weight"].sum()), first, last, past.results)


def _counted(past: History, side: str) -> pl.DataFrame:
    """Closes, events and the sum of squared sizes of events, by cause."""
    events = past.closes.group_by("family", "cause", "cluster").agg(size=pl.col("weight").sum())
    return events.group_by("family", "cause").agg(
        pl.col("size").sum().cast(pl.Int64).alias(side),
        pl.len().cast(pl.Int64).alias(f"{side}_events"),
        (pl.col("size") ** 2).sum().cast(pl.Int64).alias(f"{side}_squares"),
    )


def _rows(table: pl.DataFrame, before: Side, after: Side) -> tuple[Row, ...]:
    a, b = table["after"].to_numpy(), table["before"].to_numpy()
    spread = rates.spread_of(a + b, table["after_squares"].to_numpy() + table["before_squares"].to_numpy())
    found = rates.ratios(a, after.hours, b, before.hours, spread)
    real = rates.real(found.p)
    per = {"before": rates.per_hour(b, before.hours, spread), "after": rates.per_hour(a, after.hours, spread)}
    made = []
    for i, row in enumerate(table.iter_rows(named=True)):
        if np.isnan(found.p[i]):
            verdict = "no data" if not (before.hours and after.hours) else "same"
        else:
            # More ordinary closes are more clients, and nothing worse.
            words = ("fewer", "more") if row["family"] == "client" else ("better", "worse")
            verdict = "same" if not real[i] else words[int(not found.ratio[i] < 1)]
        made.append(
            Row(
                cause=row["cause"],
                family=row["family"],
                before=row["before"],
                after=row["after"],
                before_events=row["before_events"],
                after_events=row["after_events"],
                before_rate=_three(per["before"], i),
                after_rate=_three(per["after"], i),
                ratio=_number(found.ratio[i]),
                low=_number(found.low[i]),
                high=_number(found.high[i]),
                verdict=verdict,
                enough_hours=(
                    _enough(row["before"] / float(spread[i]), before.hours)
                    if row["after"] == 0 and verdict == "same"
                    else None
                ),
            )
        )
    return tuple(made)


def _three(columns: tuple[Any, Any, Any], i: int) -> tuple[float, float, float] | None:
    values = [float(column[i]) for column in columns]
    return None if any(np.isnan(values)) else (values[0], values[1], values[2])


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _enough(events: float, hours: float) -> float | None:
    """Hours without a close after which the exact test would tell: 2 (T / (T + t))ⁿ = 5 %."""
    if not events or not hours:
        return None
    return float(hours * ((rates.FALSE / 2) ** (-1 / events) - 1))


def _hints(before: History, after: History, one: Side, two: Side) -> list[str]:
    """What makes the sides hard to compare."""
    hints = []
    for side, name in ((one, "before"), (two, "after")):
        if not side.hours:
            hints.append(f"no line {name} has a time, so there are no hours to count in; give logs that cover some")
    for kind in sorted({*one.kinds, *two.kinds} - {"other"}):
        here, there = one.kinds.get(kind, 0.0), two.kinds.get(kind, 0.0)
        if (here > 0) != (there > 0):
            hints.append(
                f"{kind} lines only {'before' if here else 'after'}: causes that only they show seem to"
                f" {'vanish' if here else 'appear'}; collect them on both sides"
            )
    if one.hours and two.hours and min(one.hours, two.hours) < _LITTLE * max(one.hours, two.hours):
        hints.append(
            f"{one.hours:.3g} h before against {two.hours:.3g} h after: the short side decides what can be told"
        )
    if one.last is not None and two.first is not None and two.first < one.last:
        hints.append("the side after begins before the other ends: is the order right?")
    shared = before.closes.join(after.closes, on="close_id", how="semi").height
    if shared:
        hints.append(f"{shared} closes stand on both sides; give each side logs of its own time")
    unknown = [
        int(side.filter(pl.col("family") == "unknown")["weight"].sum()) / max(1, int(side["weight"].sum()))
        for side in (before.closes, after.closes)
    ]
    if abs(unknown[0] - unknown[1]) > 0.2:
        hints.append(
            f"{unknown[0]:.0%} of the closes before and {unknown[1]:.0%} after have no known cause: a cause may hide"
            " among them"
        )
    return hints
