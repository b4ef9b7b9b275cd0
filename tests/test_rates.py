"""Rate ratios against figures that others print."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from occorr import rates

counts = st.integers(0, 300)
times = st.floats(0.5, 500)


def test_the_ratio_is_that_of_poisson_test_in_r():
    # poisson.test(c(11, 6 + 8 + 7), c(800, 1083 + 1050 + 878)) in R's own manual prints: rate ratio 1.971488, 95 % from 0.8584264 to 4.2772659
    found = rates.ratios(11, 800, 21, 1083 + 1050 + 878)
    assert float(found.ratio) == pytest.approx(1.971488, abs=1e-6)
    assert (float(found.low), float(found.high)) == pytest.approx((0.8584264, 4.2772659), abs=1e-6)


def test_a_rate_has_garwoods_interval():
    # Garwood's table, 95 %: 0 → 0 to 3.689; 10 → 4.795 to 18.390
    _, low, high = rates.per_hour([0, 10], [1, 2])
    assert low == pytest.approx([0, 4.795 / 2], abs=1e-3)
    assert high == pytest.approx([3.689, 18.390 / 2], abs=1e-3)


@settings(deadline=None)
@given(counts, times, counts, times)
def test_the_interval_is_clopper_and_pearsons(a, s, b, t):
    found = rates.ratios(a, s, b, t)
    if a + b == 0:
        assert np.isnan(found.ratio)
        return
    share = stats.binomtest(a, a + b).proportion_ci(0.95, method="exact")
    assert float(found.low) == pytest.approx(share.low / (1 - share.low) * t / s, rel=1e-6)
    if b:
        assert float(found.high) == pytest.approx(share.high / (1 - share.high) * t / s, rel=1e-6)
    even = s / (s + t)
    assert float(found.p) == pytest.approx(
        min(1, 2 * min(stats.binom.sf(a - 1, a + b, even), stats.binom.cdf(a, a + b, even))), abs=1e-9
    )


@settings(deadline=None)
@given(counts, times, counts, times, st.floats(1, 50))
def test_before_and_after_are_mirrors(a, s, b, t, spread):
    there, back = rates.ratios(a, s, b, t, spread), rates.ratios(b, t, a, s, spread)
    if a and b:
        assert float(there.ratio) == pytest.approx(1 / float(back.ratio))
        assert float(there.low) == pytest.approx(1 / float(back.high), rel=1e-6)
    np.testing.assert_allclose(there.p, back.p, atol=1e-9)


def test_one_restart_that_cuts_500_is_no_trend_and_100_refusals_are():
    one = rates.ratios(500, 168, 0, 168, rates.spread_of(500, 500**2))
    assert float(one.p) > 0.5
    many = rates.ratios(100, 168, 20, 168, rates.spread_of(120, 120))
    assert float(many.p) < 1e-6
    assert float(many.low) > 2


def test_no_hours_no_claim():
    assert np.isnan(rates.ratios([5, 5], [0, 1], [5, 5], [1, 0]).p).all()
    assert not rates.real([np.nan, np.nan]).any()


def test_false_alarms_are_few_where_nothing_changes():
    """2,000 pairs of weeks with one rate: at most 5 % of all are ever called a change, and far fewer once all are judged together."""
    random = np.random.default_rng(4)
    a, b = random.poisson(12, 2000), random.poisson(12, 2000)
    found = rates.ratios(a, 168, b, 168)
    assert (found.p < 0.05).mean() <= 0.05
    assert rates.real(found.p).sum() == 0
