"""Offset, drift and error bound of one clock over time: segments in which it ran evenly, each a linear program.

Where a clock was set, the anchors of one line end: segments grow while few of their anchors are violated (Zhang, Liu
and Xia, INFOCOM 2002). Too few anchors, anchors of one side only, or a second place that holds as many are no estimate.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from occorr import program
from occorr.anchors import Anchors, vote
from occorr.program import ENOUGH, MOST, RUN, VIOLATED, Segment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from occorr.anchors import Flags

MARGIN: Final = 0.5  # second peak / first peak above which the place is ambiguous
SET: Final = "the clock was set in this time"
DOUBTED: Final = "a connection says that the clock was set"
BUCKETS: Final = 16
KNOWN: Final = 4096  # anchors of a clock up to which its answer is kept


def align(given: Anchors) -> list[Segment]:
    """The clock's segments in order of time; one unalignable segment where its anchors do not carry an estimate."""
    if len(given) > KNOWN:
        return _aligned(given)
    return list(_again(*(array.tobytes() for array in (given.at, given.low, given.high, given.hard))))


@lru_cache(maxsize=256)
def _again(at: bytes, low: bytes, high: bytes, hard: bytes) -> tuple[Segment, ...]:
    """Remembered, since whoever watches judges the same clocks again and again, and few of them have new anchors."""
    times, lows, highs = (np.frombuffer(part, np.float64) for part in (at, low, high))
    return tuple(_aligned(Anchors(times, lows, highs, np.frombuffer(hard, bool))))


def _aligned(given: Anchors) -> list[Segment]:
    given = given.only(np.isfinite(given.low) | np.isfinite(given.high))
    if (lacking := program.missing(given)) is not None:
        return [program.unalignable(given, lacking)]
    if (rival := _rival(given)) > MARGIN:
        return [program.unalignable(given, f"ambiguous: a second place has {rival:.0%} of the first one's anchors")]
    sample = given.only(np.unique(np.linspace(0, len(given) - 1, MOST).astype(np.int64)))
    pieces = _grow(sample)
    if len(pieces) == 1:
        return [program.estimate(given, pieces[0][2])]
    found = _tile(given, pieces)
    held = sum(s.anchors for s in found if s.status == "aligned")
    return (
        found
        if held > len(given) / 2
        else [program.unalignable(given, f"{1 - held / len(given):.0%} of the anchors fit no line that holds for long")]
    )


def _rival(given: Anchors) -> float:
    """Second peak / first peak, where both stand at the same times (a clock that was set has them one after the other)."""
    low, high = program.closed(given)
    start, end, _ = vote(low, high)
    near = (low <= end) & (high >= start)
    far = ~near
    if not far.any():
        return 0.0
    from_, to, _ = vote(low[far], high[far])
    second = far & (low <= to) & (high >= from_)
    edges = np.quantile(given.at, np.linspace(0, 1, BUCKETS + 1)[1:-1])
    bucket = np.searchsorted(edges, given.at, side="right")
    peak, other = (np.bincount(bucket[w], minlength=BUCKETS) for w in (near, second))
    return float(np.minimum(peak, other).sum() / max(peak.sum(), 1))


def _broken(given: Anchors, below: Flags, above: Flags) -> bool:
    """Whether so many anchors are violated, or so many in a row, that one line does not hold them all."""
    for finite, kept in ((np.isfinite(given.low), below), (np.isfinite(given.high), above)):
        wrong = ~kept[finite]
        if len(wrong) >= RUN and np.convolve(wrong.astype(np.int64), np.ones(RUN, np.int64)).max() >= RUN:
            return True
    return program.share(given, below, above) > VIOLATED


def _grow(given: Anchors) -> list[tuple[int, int, Anchors]]:
    """Stretches [from, to) of the anchors that one line holds, the longest first stretch by bisection, then the next."""
    out = []
    begin = 0
    while begin < len(given):
        rest = given.only(_span(begin, len(given)))
        end = len(given)
        if _breaks(rest):
            good, bad = min(ENOUGH, len(rest)), len(rest)
            while bad - good > 1:
                middle = (good + bad) // 2
                if _breaks(rest.only(_span(0, middle))):
                    bad = middle
                else:
                    good = middle
            end = begin + _trim(rest.only(_span(0, good)))
        if len(given) - end < ENOUGH and end < len(given) and program.missing(given.only(_span(end, len(given)))):
            end = len(given)
        out.append((begin, end, given.only(_span(begin, end))))
        begin = end
    return out


def _span(begin: int, end: int) -> NDArray[np.int64]:
    return np.arange(begin, end)


def _breaks(given: Anchors) -> bool:
    _, below, above = program.fit(given)
    return _broken(given, below, above)


def _trim(given: Anchors) -> int:
    """How many anchors stand before the violated ones at the end, which belong to what follows."""
    _, below, above = program.fit(given)
    wrong = (np.isfinite(given.low) & ~below) | (np.isfinite(given.high) & ~above)
    end = len(given)
    tail = np.flatnonzero(wrong[max(end - 2 * RUN, 0) :])
    if len(tail) >= 2:
        end = max(end - 2 * RUN, 0) + int(tail[0])
    return max(end, min(ENOUGH, len(given)))


def _tile(given: Anchors, pieces: list[tuple[int, int, Anchors]]) -> list[Segment]:
    """Segments of stretches of the anchors."""
    starts = [p[2].at[0] for p in pieces[1:]]
    cuts = np.searchsorted(given.at, starts)
    parts = [given.only(_span(a, b)) for a, b in zip([0, *cuts], [*cuts, len(given)], strict=True)]
    found = [program.estimate(part, piece[2]) for part, piece in zip(parts, pieces, strict=True)]
    return beside(found, [_gap(given, one, two) for one, two in zip(found, found[1:], strict=False)])


def beside(found: list[Segment], gaps: list[tuple[float, float]]) -> list[Segment]:
    """Segments one after the other; the gap between two, in which the clock was set, is one of its own, as wide as both."""
    out: list[Segment] = []
    for one, two, (begin, end) in zip(found, found[1:], gaps, strict=False):
        out.append(replace(one, start=out[-1].end if out else -np.inf, end=begin))
        if one.status == two.status == "aligned" and end > begin:
            out.append(either(one, two, begin, end, SET))
    out.append(replace(found[-1], start=out[-1].end, end=np.inf))
    return out


def either(one: Segment, two: Segment, begin: float, end: float, reason: str) -> Segment:
    """A segment in which the clock stood as the one says or as the other: its bound covers both."""
    when = np.array([begin, end])
    low, high = (
        bound(np.concatenate([s.at(when) + sign * s.error(when) for s in (one, two)]))
        for bound, sign in ((np.min, -1), (np.max, 1))
    )
    half = np.full(2, (high - low) / 2)
    return Segment(begin, end, begin, end, begin, float(low + high) / 2, 0.0, when, half, 0, 0.0, "aligned", reason)


def _gap(given: Anchors, one: Segment, two: Segment) -> tuple[float, float]:
    """When the clock was set: after the last anchor that only the first line holds, before the first that only the second does."""
    near = (given.at >= one.first) & (given.at <= two.last)
    at = given.at[near]

    def holds(segment: Segment) -> Flags:
        value, error = segment.at(at), np.minimum(segment.error(at), 1e15)
        held = (given.low[near] <= value + error) & (given.high[near] >= value - error)
        return np.asarray(held, bool)

    first, second = holds(one), holds(two)
    edge = (one.last + two.first) / 2
    reach = np.abs(at - edge) <= max((one.last - one.first), (two.last - two.first), 1.0)
    before = at[first & ~second & reach & (at <= two.first)]
    after = at[second & ~first & reach & (at >= one.last)]
    begin = float(before.max()) if len(before) else one.last
    end = float(after.min()) if len(after) else two.first
    return (begin, end) if begin <= end else (edge, edge)
