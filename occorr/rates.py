"""Whether two rates differ: exact intervals for counts over hours, where closes of one incident do not count as independent.

Counts are compared as Poisson rates by the exact conditional test: given the sum, the first count is binomial (Clopper
and Pearson 1934; Przyborowski and Wilenski 1940). One restart that cuts 500 connections is one event and not 500:
counts are divided by the mean size of the cluster that a close is in before they are compared, which is Kish's
effective number (1965). The beta and chi-square distributions take the fractions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LEVEL: Final = 0.95  # of every interval
FALSE: Final = 0.05  # share of false alarms among what is called a change


@dataclass(frozen=True, slots=True)
class Ratios:
    """Rate ratios with their intervals and two-sided p-values; NaN where a side has no hours or both counts are 0."""

    ratio: Floats
    low: Floats
    high: Floats
    p: Floats


def ratios(now: Any, now_hours: Any, before: Any, before_hours: Any, spread: Any = 1.0) -> Ratios:
    """Rates now against before.

    Args:
        now: counts.
        now_hours: hours in which they were counted.
        before: counts to compare with.
        before_hours: their hours.
        spread: mean size of the cluster that a close is in, at least 1; see `spread_of`.
    """
    a, s, b, t, phi = (
        np.asarray(x, dtype=np.float64) for x in np.broadcast_arrays(now, now_hours, before, before_hours, spread)
    )
    known = (s > 0) & (t > 0) & (a + b > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(known, t / s, np.nan)
        ratio = np.where(known, a / b * scale, np.nan)
        x, y = a / phi, b / phi
        tail = (1 - LEVEL) / 2
        low_share = np.where(a > 0, stats.beta.ppf(tail, np.maximum(x, 1e-12), y + 1), 0.0)
        high_share = np.where(b > 0, stats.beta.ppf(1 - tail, x + 1, np.maximum(y, 1e-12)), 1.0)
        low = np.where(known, low_share / (1 - low_share) * scale, np.nan)
        high = np.where(known, high_share / (1 - high_share) * scale, np.nan)
        even = s / (s + t)  # the first count's share where the rates are the same
        at_least = np.where(a > 0, stats.beta.cdf(even, np.maximum(x, 1e-12), y + 1), 1.0)
        at_most = np.where(b > 0, stats.beta.sf(even, x + 1, np.maximum(y, 1e-12)), 1.0)
        p = np.where(known, np.minimum(1.0, 2 * np.minimum(at_least, at_most)), np.nan)
    return Ratios(ratio, low, high, p)


def per_hour(count: Any, hours: Any, spread: Any = 1.0) -> tuple[Floats, Floats, Floats]:
    """Rates with their exact intervals (Garwood 1936); NaN without hours.

    Args:
        count: how many.
        hours: in which they were counted.
        spread: mean size of the cluster that a close is in.

    Returns:
        rate, lower and upper bound, each in 1/h.
    """
    n, t, phi = (np.asarray(x, dtype=np.float64) for x in np.broadcast_arrays(count, hours, spread))
    tail = (1 - LEVEL) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        hours_or_nan = np.where(t > 0, t, np.nan)
        low = np.where(n > 0, stats.chi2.ppf(tail, np.maximum(2 * n / phi, 1e-12)) / 2, 0.0)
        high = stats.chi2.ppf(1 - tail, 2 * (n / phi + 1)) / 2
        return n / hours_or_nan, low * phi / hours_or_nan, high * phi / hours_or_nan


def spread_of(total: Any, squares: Any) -> Floats:
    """Mean size of the cluster that a close is in: the sum of the clusters' squared sizes by the sum of their sizes; 1 where there is none."""
    n, q = (np.asarray(x, dtype=np.float64) for x in np.broadcast_arrays(total, squares))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n > 0, np.maximum(1.0, q / n), 1.0)


def real(p: Any) -> npt.NDArray[np.bool_]:
    """Which of several changes are no noise: at most 5 % of them are false alarms (Benjamini and Hochberg 1995)."""
    values = np.asarray(p, dtype=np.float64)
    known = ~np.isnan(values)
    out = np.zeros(values.shape, dtype=np.bool_)
    if known.any():
        out[known] = stats.false_discovery_control(values[known]) <= FALSE
    return out
