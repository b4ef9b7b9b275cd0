"""Anchors: what ties a clock to the reference at one moment, each an interval in which the offset must lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Times = NDArray[np.float64] | NDArray[np.int64]


NEIGHBOURS: Final = 15  # differences of which the greatest lags little; few, since a clock may be set between them


@dataclass(frozen=True, slots=True)
class Anchors:
    """Intervals in which the offset must lie, one an anchor.

    Attributes:
        at: reference time, ns; the error of an anchor's own reference time belongs into its interval.
        low: lower end of the offset, ns; −inf where nothing bounds it.
        high: upper end, ns; +inf where nothing bounds it.
        hard: whether both ends are sure (two stamps of one line), so that few suffice.
    """

    at: Floats
    low: Floats
    high: Floats
    hard: Flags

    def __len__(self) -> int:
        return len(self.at)

    def only(self, which: Flags | NDArray[np.int64]) -> Anchors:
        """Some of the anchors."""
        return Anchors(self.at[which], self.low[which], self.high[which], self.hard[which])


def within(at: Times, low: Times, high: Times, *, hard: bool = False) -> Anchors:
    """Anchors from arrays in ns, sorted by time."""
    at, low, high = (np.asarray(a, dtype=np.float64) for a in (at, low, high))
    order = np.lexsort((high, low, at))
    return Anchors(at[order], low[order], high[order], np.full(len(at), hard))


def join(parts: list[Anchors]) -> Anchors:
    """Several sets of anchors as one, sorted by time."""
    at, low, high = (
        np.concatenate([getattr(p, name) for p in parts]) if parts else np.empty(0) for name in ("at", "low", "high")
    )
    hard = np.concatenate([p.hard for p in parts]) if parts else np.empty(0, bool)
    order = np.lexsort((high, low, at))
    return Anchors(at[order], low[order], high[order], hard[order])


def least_lagged(
    at: NDArray[np.int64],
    diff: NDArray[np.int64],
    width: NDArray[np.int64],
    group: NDArray[np.int64],
    mean: float,
    floor: int,
    busier: float = np.inf,
) -> Anchors:
    """From above: a lag makes each difference smaller, and of several in a group the one that lags least lags little.

    Lags are about exponential: the least of n is below their mean times ln 100 / n in 99 of 100 groups.

    Args:
        at: reference times, ns.
        diff: this clock's stamp minus the other's, ns.
        width: resolution of this clock's stamps, ns.
        group: which of them are taken together.
        mean: their mean lag, ns.
        floor: a least lag is not known better than this, ns.
        busier: a group whose own differences say so many times as much lags as they say.
    """
    order = np.lexsort((-diff, group))
    _, first, count = np.unique(group[order], return_index=True, return_counts=True)
    top = order[first]
    # a busy stretch, as a start, lags more than the rest; one line that stalled is none
    own = (diff[top] - diff[order][first + count // 2]) / np.log(2)
    room = np.clip(np.where(own > busier * mean, own, mean) * np.log(100) / count, floor, None)
    return within(at[top], np.full(len(top), -np.inf), diff[top] + width[top] + room, hard=True)


def mean_lag(diff: NDArray[np.int64]) -> float:
    """Mean lag, ns, from the median of what differences in order of time fall short of the greatest around them, which has almost none."""
    window = min(len(diff), NEIGHBOURS)
    padded = np.pad(diff, (window // 2, window - 1 - window // 2), mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, window).max(axis=1)
    return float(np.median(around - diff)) / float(np.log(2))


def vote(low: NDArray[np.int64], high: NDArray[np.int64], plateau: float | None = None) -> tuple[int, int, int]:
    """The stretch that most intervals share, the first of several: (from, to, how many). Time n log n.

    With `plateau`, all from the first to the last place that so great a share of them hold: two places that are as
    good as each other are one that is not known better.
    """
    return _peak([(low, high)], plateau)


def vote_once(
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    sides: tuple[NDArray[np.int64], NDArray[np.int64]],
    plateau: float | None = None,
) -> tuple[int, int, int]:
    """As `vote`, of candidate pairs, in which who is paired with several is right at most once: the fewer of the two sides count.

    Args:
        low: lower ends, ns.
        high: upper ends, ns.
        sides: which of the one and which of the other each pair is of.
        plateau: as in `vote`.
    """
    return _peak([_once(low, high, side) for side in sides], plateau)


def _once(
    low: NDArray[np.int64], high: NDArray[np.int64], whose: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Intervals of one that overlap, as one."""
    apart = (pl.col("low") > pl.col("high").cum_max().shift(1).over("whose")).fill_null(value=True).cum_sum()
    joined = (
        pl.DataFrame({"whose": whose, "low": low, "high": high})
        .sort("whose", "low")
        .group_by(apart.alias("_n"))
        .agg(pl.col("low").min(), pl.col("high").max())
    )
    return joined.get_column("low").to_numpy(), joined.get_column("high").to_numpy()


def _peak(sides: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], plateau: float | None) -> tuple[int, int, int]:
    """Where the side that has the fewest intervals has the most: (from, to, how many)."""
    ends = np.concatenate([part for side in sides for part in side])
    steps = np.zeros((len(sides), len(ends)), np.int64)
    begin = 0
    for row, (low, high) in zip(steps, sides, strict=True):
        middle, end = begin + len(low), begin + len(low) + len(high)
        row[begin:middle], row[middle:end] = 1, -1
        begin = end
    order = np.lexsort((-steps.sum(axis=0), ends))
    depth = np.cumsum(steps[:, order], axis=1).min(axis=0)
    at = int(np.argmax(depth))
    first, last = at, at + 1
    if plateau is not None:
        good = np.flatnonzero(depth >= plateau * depth[at])
        first, last = int(good[0]), int(good[-1]) + 1
    return int(ends[order][first]), int(ends[order][last]), int(depth[at])
