"""Whether something comes back: the nightly job with the stale token, the scan each hour.

Moments on the wall clock, so that a job that follows summer time keeps its hour. A periodogram (scipy's) finds
candidates; one is a period when the moments stand close to its beat and fill most of its beats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy import signal, stats

_BIN_S: Final = 300.0  # width of a bin of the periodogram
_GAP_S: Final = 900.0  # moments nearer than this are one visit: retries do not make a period
_LEAST: Final = 4  # visits
_JITTER: Final = 0.06  # standard deviation around the beat, as a share of the period
_FILLED: Final = 0.5  # share of the beats that were kept
_SHARE: Final = 0.8  # share of the visits that keep the beat
_CHANCE: Final = 0.001  # how often moments without a beat may seem to have one
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Period:
    """A beat: its length and jitter in seconds, the second of the day of its first visit, how many visits kept it, and how many beats there were."""

    seconds: float
    jitter: float
    at: float
    visits: int
    beats: int


def period(moments: Any) -> Period | None:
    """The period of a series of moments, or none.

    Args:
        moments: seconds of the wall clock since any midnight, in any order.
    """
    visits = _visits(np.sort(np.asarray(moments, dtype=np.float64)))
    if visits.size < _LEAST:
        return None
    span = visits[-1] - visits[0]
    counts = np.bincount(((visits - visits[0]) / _BIN_S).astype(np.int64))
    frequencies, power = signal.periodogram(
        counts, fs=1 / _BIN_S, detrend="constant", window="hann", nfft=4 * counts.size
    )
    # A job leaves a comb: its beat and all its overtones. The longest period that the moments keep is the beat; twice
    # the beat is not kept, half of them fall between.
    strong = np.flatnonzero((power >= 0.2 * power.max()) & (frequencies >= 2 / span))
    tried = strong[:200]
    for index in tried:
        found = _kept(visits, 1 / frequencies[index], tried.size)
        if found is not None:
            return found
    return None


def _visits(moments: Any) -> Any:
    """The first moment of each run of neighbours."""
    if moments.size == 0:
        return moments
    return moments[np.concatenate(([True], np.diff(moments) > _GAP_S))]


def _kept(visits: Any, guess: float, tried: int) -> Period | None:
    """The period near `guess` that the visits keep, unless chance would do so too in that many tries."""
    angle = stats.circmean(visits % guess, high=guess)
    beat = np.round((visits - angle) / guess)
    near = np.abs(visits - angle - beat * guess) <= 0.2 * guess
    if near.sum() < max(_LEAST, _SHARE * visits.size) or np.unique(beat[near]).size < _LEAST:
        return None
    # Medians, since a visit of somebody else may fall near a beat.
    line = stats.siegelslopes(visits[near], beat[near])
    rest = visits[near] - (line.intercept + line.slope * beat[near])
    length, jitter = float(line.slope), float(stats.median_abs_deviation(rest, scale="normal"))
    width = max(3 * jitter, 0.02 * guess)
    on_beat = np.abs(rest) <= width
    kept, beats = int(np.unique(beat[near][on_beat]).size), int(np.ptp(beat[near][on_beat])) + 1 if on_beat.any() else 0
    chance = stats.binom.sf(int(on_beat.sum()) - 1, visits.size, min(1.0, 2 * width / guess)) * tried
    if (
        length <= 2 * _GAP_S
        or jitter > _JITTER * length
        or kept < max(_LEAST, _FILLED * beats)
        or on_beat.sum() < _SHARE * visits.size
        or chance > _CHANCE
    ):
        return None
    first = line.intercept + line.slope * beat[near][on_beat].min()
    return Period(round(length), round(jitter), float(first % _DAY_S), kept, beats)
