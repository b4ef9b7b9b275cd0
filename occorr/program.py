"""Offset and drift of a clock that ran evenly: a linear program that wrong anchors cannot pull away.

Each anchor is a half-plane or a strip in the plane of offset and drift. The point with the least total violation (an
L1-slack linear program, after Moon, Skelly and Towsley, INFOCOM 1999) tells the wrong anchors; among the points that
the others allow, the smallest and the greatest offset at each knot are the bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from occorr.anchors import vote
from occorr.schema import MS, SECOND

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from occorr.anchors import Anchors, Flags, Floats

DRIFT: Final = 200e-6  # the most that a computer's clock drifts, and what the bound widens by outside the anchors' span
ENOUGH: Final = 12  # anchors of estimated lag below which a clock is not aligned
HARD_ENOUGH: Final = 3  # … where each anchor bounds both sides for certain
VIOLATED: Final = 0.15  # share of wrong anchors above which a clock is not aligned
COARSE: Final = 1_200 * MS  # what an open side is taken to leave open while the place is sought
MOST: Final = 400  # anchors in one program
RUN: Final = 4  # so many violated anchors in a row are a step of the clock and no chance
KNOTS: Final = 5
UNEVEN: Final = 10.0  # ms by which sure anchors may miss a line that holds the others
_TOLERANCE: Final = 1e-6  # ms


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time in which a clock ran evenly.

    Attributes:
        start: reference time from which it holds, ns; −inf if it is the first.
        end: reference time up to which it holds, ns; +inf if it is the last.
        first: reference time of its first anchor, ns.
        last: reference time of its last anchor, ns.
        origin: reference time at which `offset` holds, ns.
        offset: this clock minus the reference at `origin`, ns.
        drift: offset gained per reference time (1e-6 is one ppm).
        knots: reference times of the bound, ns.
        errors: half-width of the bound at the knots, ns; between them it is no greater than the line through them.
        anchors: how many anchors hold it.
        violated: share of its anchors that contradict it.
        status: aligned, unalignable, or assumed beyond what the anchors can tell.
        reason: why it is not aligned, or only widely; or empty.
    """

    start: float
    end: float
    first: float
    last: float
    origin: float
    offset: float
    drift: float
    knots: Floats
    errors: Floats
    anchors: int
    violated: float
    status: str = "aligned"
    reason: str = ""

    def at(self, when: Floats) -> Floats:
        """The offset at reference times, ns."""
        return self.offset + self.drift * (when - self.origin)

    def later(self, by: float) -> Segment:
        """The same in times that begin `by` ns earlier."""
        return replace(
            self,
            start=self.start + by,
            end=self.end + by,
            first=self.first + by,
            last=self.last + by,
            origin=self.origin + by,
            knots=self.knots + by,
        )

    def error(self, when: Floats) -> Floats:
        """Half-width of the bound at reference times, ns; wider with the distance from the anchors' span."""
        if self.status != "aligned":
            return np.full(len(when), np.inf)
        outside = np.maximum(np.maximum(self.first - when, when - self.last), 0)
        return np.interp(when, self.knots, self.errors) + DRIFT * outside


@dataclass(frozen=True, slots=True)
class _Line:
    """A fit in the scale of the program: x in half-spans from the middle, offsets in ms from the coarse place."""

    middle: float
    half: float
    place: float
    offset: float
    slope: float

    def residuals(self, anchors: Anchors) -> tuple[Floats, Floats]:
        """By how much each anchor's lower and upper end is violated, ms; negative where it holds."""
        value = self.offset + self.slope * (anchors.at - self.middle) / self.half
        return (anchors.low - self.place) / MS - value, value - (anchors.high - self.place) / MS


def missing(given: Anchors) -> str | None:
    """What keeps these anchors from carrying an estimate of both sides."""
    hard = int(given.hard.sum())
    if hard < HARD_ENOUGH and len(given) < ENOUGH:
        return f"{len(given)} anchors; {ENOUGH} are needed"
    if not (np.isfinite(given.low).any() and np.isfinite(given.high).any()):
        return "the anchors bound one side only"
    return None


def unalignable(given: Anchors, reason: str, violated: float = 0.0) -> Segment:
    """The segment of anchors that carry no estimate, and why."""
    first, last = (float(given.at[0]), float(given.at[-1])) if len(given) else (0.0, 0.0)
    return Segment(
        -np.inf,
        np.inf,
        first,
        last,
        first,
        0.0,
        0.0,
        np.array([first]),
        np.array([np.inf]),
        len(given),
        violated,
        "unalignable",
        reason,
    )


def known(at: Floats, offset: float, error: float, anchors: int = 1, violated: float = 0.0) -> Segment:
    """The segment of anchors, at reference times in order, that tell an offset and its bound but no drift, ns."""
    middle = (at[0] + at[-1]) / 2
    return Segment(
        -np.inf,
        np.inf,
        float(at[0]),
        float(at[-1]),
        float(middle),
        offset,
        0.0,
        np.array([middle]),
        np.array([error]),
        anchors,
        violated,
    )


def closed(given: Anchors) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both ends of each anchor, an open one taken to stand as far away as lags and drift may reach."""
    reach = COARSE + DRIFT * (given.at[-1] - given.at[0]) / 2
    low = np.where(np.isfinite(given.low), given.low, given.high - reach) - reach / 2
    high = np.where(np.isfinite(given.high), given.high, given.low + reach) + reach / 2
    return low.astype(np.int64), high.astype(np.int64)


def _solve(given: Anchors, line: _Line, kept: tuple[Flags, Flags]) -> _Line:
    """The offset and slope with the least total violation of the kept ends."""
    from scipy.optimize import linprog  # noqa: PLC0415 - half a second that only a clock with enough anchors need pay
    from scipy.sparse import csr_array  # noqa: PLC0415

    x = (given.at - line.middle) / line.half
    below, above = kept
    rows = np.concatenate([x[below], -x[above]])
    signs = np.concatenate([np.ones(below.sum()), -np.ones(above.sum())])
    limit = np.concatenate([(given.low[below] - line.place) / MS, -(given.high[above] - line.place) / MS])
    n = len(limit)
    if n == 0:
        return line
    # sign·(offset + slope·x) + slack ≥ limit
    matrix = csr_array(
        (
            np.concatenate([-signs, -rows, -np.ones(n)]),
            (np.tile(np.arange(n), 3), np.concatenate([np.zeros(n), np.ones(n), np.arange(n) + 2]).astype(np.int64)),
        ),
        shape=(n, n + 2),
    )
    steepest = DRIFT * line.half / MS
    bounds: list[tuple[float | None, float | None]] = [(None, None), (-steepest, steepest), *([(0.0, None)] * n)]
    found = linprog(np.concatenate([[0.0, 0.0], np.ones(n)]), A_ub=matrix, b_ub=-limit, bounds=bounds, method="highs")  # type: ignore[call-overload]  # the stubs know no sparse matrix
    return (
        line
        if found.status != 0 or found.x is None
        else replace(line, offset=float(found.x[0]), slope=float(found.x[1]))
    )


def fit(given: Anchors) -> tuple[_Line, Flags, Flags]:
    """The line and which lower and upper ends it keeps: far ones go first, since enough of them would pull it."""
    low, high = closed(given)
    start, end, _ = vote(low, high)
    middle, half = (given.at[0] + given.at[-1]) / 2, max((given.at[-1] - given.at[0]) / 2, float(SECOND))
    line = _Line(middle, half, (start + end) / 2, 0.0, 0.0)
    near = (low <= end) & (high >= start)
    below, above = np.isfinite(given.low) & near, np.isfinite(given.high) & near
    finite = np.isfinite(given.low), np.isfinite(given.high)
    line = _solve(given, line, (below, above))
    for _ in range(8):
        under, over = line.residuals(given)
        slack = np.maximum(under[below].max(initial=0), over[above].max(initial=0))
        if slack <= _TOLERANCE:
            break
        # the worst third of what is wrong goes, then all may come back that the new line allows
        cut = slack / 3 if slack > 0.01 else _TOLERANCE
        below, above = finite[0] & (under <= cut), finite[1] & (over <= cut)
        line = _solve(given, line, (below, above))
    under, over = line.residuals(given)
    return line, finite[0] & (under <= _TOLERANCE), finite[1] & (over <= _TOLERANCE)


def share(given: Anchors, below: Flags, above: Flags) -> float:
    """Share of the anchors of which an end is not among the kept ones."""
    wrong = (np.isfinite(given.low) & ~below) | (np.isfinite(given.high) & ~above)
    return float(wrong.mean()) if len(given) else 0.0


def estimate(given: Anchors, sample: Anchors) -> Segment:
    """One segment from all its anchors: the sample's line tells which are right, the tightest of those make the bound."""
    from scipy.optimize import linprog  # noqa: PLC0415

    if (lacking := missing(sample if len(sample) == len(given) else given)) is not None:
        return unalignable(given, lacking)
    line, below, above = fit(sample)
    if len(given) > len(sample):
        sample = _tightest(given, line, sample, below, above)
        line, below, above = fit(sample)
    violated = share(sample, below, above)
    if violated > VIOLATED:
        return unalignable(given, f"{violated:.0%} of the anchors contradict the rest", violated)
    if not (below.any() and above.any()):
        return unalignable(given, "the anchors that agree bound one side only", violated)
    x = (sample.at - line.middle) / line.half
    matrix = np.concatenate(
        [np.column_stack([-np.ones(below.sum()), -x[below]]), np.column_stack([np.ones(above.sum()), x[above]])]
    )
    limit = (
        np.concatenate([-(sample.low[below] - line.place) / MS, (sample.high[above] - line.place) / MS]) + _TOLERANCE
    )
    steepest = DRIFT * line.half / MS
    knots = np.linspace(-1, 1, KNOTS)
    ends = np.empty((KNOTS, 2))
    corners: list[Floats] = []
    for i, knot in enumerate(knots):
        for side, sign in enumerate((1.0, -1.0)):
            found = linprog(
                [sign, sign * knot],
                A_ub=matrix,
                b_ub=limit,
                bounds=[(None, None), (-steepest, steepest)],
                method="highs",
            )
            if found.status != 0 or found.x is None:
                return unalignable(given, "the anchors leave the offset open", violated)
            ends[i, side] = found.x[0] + found.x[1] * knot
            corners.append(np.asarray(found.x, np.float64))
    offset, slope = _centre(np.asarray(corners, np.float64))
    value = offset + slope * knots
    errors = np.maximum(ends[:, 1] - value, value - ends[:, 0])
    # an anchor that is wrong by little may be right, and another wrong that contradicts it; one of which both ends are
    # sure is, and the clock ran less evenly than a line
    under, over = line.residuals(sample)
    lows, highs = np.isfinite(sample.low) & ~below, np.isfinite(sample.high) & ~above
    wrong = np.concatenate([under[lows], over[highs]])
    little = np.where(np.concatenate([sample.hard[lows], sample.hard[highs]]), UNEVEN, 0.0)
    close = wrong[wrong <= np.maximum(little, 2 * errors.max())]
    errors = (errors + close.max(initial=0.0)) * MS
    at = line.middle + knots * line.half
    return Segment(
        -np.inf,
        np.inf,
        float(sample.at[0]),
        float(sample.at[-1]),
        line.middle,
        line.place + float(offset) * MS,
        float(slope) * MS / line.half,
        at,
        errors,
        len(given),
        round(violated, 4),
    )


def _centre(corners: Floats) -> tuple[float, float]:
    """Centroid of the polygon of what is allowed: the expected offset and slope where nothing inside is likelier."""
    mean, scale = corners.mean(axis=0), np.maximum(np.ptp(corners, axis=0), 1e-12)
    around = (corners - mean) / scale
    around = around[np.argsort(np.arctan2(around[:, 1], around[:, 0]), kind="stable")]
    after = np.roll(around, -1, axis=0)
    cross = around[:, 0] * after[:, 1] - after[:, 0] * around[:, 1]
    if cross.sum() <= 1e-9:
        return float(mean[0]), float(mean[1])
    centre = mean + scale * ((around + after) * cross[:, None]).sum(axis=0) / (3 * cross.sum())
    return float(centre[0]), float(centre[1])


def _tightest(given: Anchors, line: _Line, sample: Anchors, below: Flags, above: Flags) -> Anchors:
    """Of a great many anchors, the right ones that bind most in each stretch of time, and a share of the wrong ones."""
    under, over = line.residuals(given)
    fitted = line.residuals(sample)
    # a better bound moves the line by no more than the sample's own slack
    room = (
        max(float(np.quantile(-r[k], 0.1)) if k.any() else 0.0 for r, k in zip(fitted, (below, above), strict=True))
        + 1.0
    )
    edges = np.linspace(given.at[0], given.at[-1], MOST // 4 + 1)[1:-1]
    bucket = np.searchsorted(edges, given.at, side="right")
    kept = []
    for slack, finite in ((under, np.isfinite(given.low)), (over, np.isfinite(given.high))):
        right = np.flatnonzero(finite & (slack <= room))
        order = right[np.lexsort((-slack[right], bucket[right]))]
        _, first, count = np.unique(bucket[order], return_index=True, return_counts=True)
        # among very many, some wrong ones are wrong by little and would be the tightest: the second tightest is safe
        # from one
        kept.append(order[first + (count >= 2 * RUN)])
    wrong = np.flatnonzero((under > room) | (over > room))
    share = len(wrong) / max(len(given), 1)
    both = np.unique(np.concatenate(kept))
    few = (
        wrong[np.unique(np.linspace(0, len(wrong) - 1, min(len(wrong), round(share * len(both)))).astype(np.int64))]
        if len(wrong)
        else wrong
    )
    return given.only(np.unique(np.concatenate([both, few])))
