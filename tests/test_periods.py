"""What comes back is found, and what does not is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from occorr.periods import period

DAY, HOUR = 86_400.0, 3_600.0


@pytest.mark.parametrize(
    ("moments", "seconds", "at", "visits", "beats"),
    [
        pytest.param(np.arange(14) * DAY + 3 * HOUR, DAY, 3 * HOUR, 14, 14, id="nightly"),
        pytest.param(
            (np.arange(14)[:, None] * DAY + 3 * HOUR + np.arange(4) * 60).ravel(),
            DAY,
            3 * HOUR,
            14,
            14,
            id="nightly, with retries",
        ),
        pytest.param(
            np.delete(np.arange(14) * DAY + 3 * HOUR, [3, 7, 8]),
            DAY,
            3 * HOUR,
            11,
            14,
            id="nightly, some nights without",
        ),
        pytest.param(np.arange(100) * HOUR + 600, HOUR, 600, 100, 100, id="hourly"),
        pytest.param(np.arange(5) * 7 * DAY + 9 * HOUR, 7 * DAY, 9 * HOUR, 5, 5, id="weekly"),
        pytest.param(np.arange(30) * DAY / 2 + 5 * HOUR, DAY / 2, 5 * HOUR, 30, 30, id="twice a day"),
    ],
)
def test_a_beat_is_found_with_its_hour(moments, seconds, at, visits, beats):
    found = period(moments)
    assert (found.seconds, round(found.at), found.visits, found.beats) == (seconds, at, visits, beats)


def test_a_beat_is_found_among_strays():
    random = np.random.default_rng(1)
    found = period(
        np.concatenate([np.arange(28) * DAY + 3 * HOUR + random.normal(0, 60, 28), random.uniform(0, 28 * DAY, 5)])
    )
    assert found.seconds == pytest.approx(DAY, abs=60)
    assert found.visits == 28


@pytest.mark.long
def test_chance_and_office_hours_have_no_beat():
    for seed in range(75):
        random = np.random.default_rng(seed)
        assert period(random.uniform(0, 35 * DAY, random.integers(0, 60))) is None
        assert period(random.integers(0, 35, 40) * DAY + random.uniform(8, 18, 40) * HOUR) is None


def test_a_single_burst_has_no_beat():
    assert period(np.arange(500) * 2.0) is None
