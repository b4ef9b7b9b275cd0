"""The estimator against simulated clocks whose truth is known."""

import clock_simulator as sim
import numpy as np
import pytest
from clock_simulator import MS, SECOND, Clock, measure, simulate
from hypothesis import given, settings, strategies as st

from occorr import alignment, program
from occorr.anchors import within

CLOCKS = st.builds(Clock, st.floats(-4e13, 4e13), st.floats(-50, 50))
SEEDS = st.integers(0, 10**6)


@pytest.mark.parametrize("resolution", [MS, SECOND], ids=["ms", "s"])
@pytest.mark.parametrize(("wrong", "buffered"), [(0.0, 0.0), (0.05, 0.0), (0.05, 0.3)])
def test_the_bound_holds_the_truth(resolution, wrong, buffered):
    """Of all events of several runs, since a wrong anchor may look right in one of them; `make bench-clocks` does 1,000."""
    errors, bounds = [], []
    for seed in range(5):
        clock = Clock(7e12 * (seed - 2), 25 * (seed - 2))
        anchors, _ = simulate(clock, seed, resolution=resolution, wrong=wrong, buffered=buffered)
        (segment,) = alignment.align(anchors)
        assert segment.status == "aligned"
        assert segment.violated <= 0.1
        error, bound = measure([segment], clock, anchors.at)
        errors.append(error)
        bounds.append(bound)
    assert (np.concatenate(errors) <= np.concatenate(bounds)).mean() >= 0.99
    # stamps of a second of which up to three in ten come late
    assert np.median(np.concatenate(errors)) <= (1.5 * MS if resolution == MS else 100 * MS)


@settings(max_examples=12, deadline=None)
@given(CLOCKS, SEEDS, st.integers(-4 * 10**15, 4 * 10**15))
def test_a_shifted_clock_shifts_its_offset_and_nothing_else(clock, seed, shift):
    anchors, _ = simulate(clock, seed)
    moved = within(anchors.at, anchors.low + shift, anchors.high + shift)
    (before,), (after,) = alignment.align(anchors), alignment.align(moved)
    assert after.offset - before.offset == pytest.approx(shift, abs=50)
    assert after.drift == pytest.approx(before.drift, abs=1e-9)
    assert after.errors == pytest.approx(before.errors, abs=50)


@settings(max_examples=12, deadline=None)
@given(CLOCKS, SEEDS)
def test_the_order_of_the_anchors_does_not_matter(clock, seed):
    anchors, _ = simulate(clock, seed)
    order = np.random.default_rng(seed).permutation(len(anchors))
    mixed = within(anchors.at[order], anchors.low[order], anchors.high[order])
    (one,), (two,) = alignment.align(anchors), alignment.align(mixed)
    assert (one.offset, one.drift, one.errors.tolist()) == (two.offset, two.drift, two.errors.tolist())


@pytest.mark.parametrize("size", [0.5, -0.5, 2.0, -30.0, 3600.0])
@pytest.mark.parametrize("when", [900, 3600, 6000])
def test_a_step_is_found(size, when):
    clock = Clock(1.3 * SECOND, 30, ((when, size * SECOND),))
    anchors, _ = simulate(clock, 7)
    segments = [s for s in alignment.align(anchors)]
    long = [s for s in segments if s.anchors]
    assert len(long) == 2 and all(s.status == "aligned" for s in segments)
    jump = long[1].at(np.array([sim.EPOCH + when * SECOND]))[0] - long[0].at(np.array([sim.EPOCH + when * SECOND]))[0]
    assert jump == pytest.approx(size * SECOND, abs=10 * MS)
    error, bound = measure(segments, clock, anchors.at)
    assert (error <= bound).mean() >= 0.99
    assert np.median(error) <= MS
    assert all(a.end == b.start for a, b in zip(segments, segments[1:]))


def test_no_step_is_found_where_there_is_none():
    for seed in range(25):
        anchors, _ = simulate(Clock(0, 50), seed, wrong=0.05)
        assert len(alignment.align(anchors)) == 1


def test_two_steps():
    clock = Clock(0, -20, ((2000, 4 * SECOND), (5000, -4 * SECOND)))
    anchors, _ = simulate(clock, 3, n=300)
    segments = [s for s in alignment.align(anchors) if s.anchors]
    assert [round(float(s.offset) / SECOND) for s in segments] == [0, 4, 0]


@pytest.mark.parametrize(("make", "words"), [
    (lambda: simulate(Clock(), 1, n=8)[0], "8 anchors"),
    (lambda: simulate(Clock(), 1, n=0)[0], "0 anchors"),
    (lambda: within(np.arange(50) * SECOND, np.full(50, -np.inf), np.arange(50) * 0.0), "one side only"),
    (lambda: sim.periodic(Clock(5 * SECOND), 1), "ambiguous"),
    (lambda: simulate(Clock(), 1, wrong=0.6, wrong_reach=2000.0)[0], "%"),
])  # fmt: skip
def test_it_abstains(make, words):
    (segment,) = alignment.align(make())
    assert segment.status == "unalignable"
    assert words in segment.reason
    assert np.isinf(segment.error(np.array([0.0]))).all()


def test_hard_bounds_need_few_anchors():
    at = np.arange(3) * SECOND
    anchors = within(at, np.full(3, 5.0 * MS), np.full(3, 8.0 * MS), hard=True)
    (segment,) = alignment.align(anchors)
    assert segment.status == "aligned"
    assert segment.at(at.astype(float)) == pytest.approx(6.5 * MS, abs=0.1 * MS)


def test_the_bound_widens_outside_the_anchors():
    anchors, _ = simulate(Clock(), 1)
    (segment,) = alignment.align(anchors)
    inside, outside = segment.error(np.array([segment.last, segment.last + 3600 * SECOND]))
    assert outside - inside == pytest.approx(program.DRIFT * 3600 * SECOND)


def test_many_anchors_take_near_linear_time():
    import time

    took = []
    for n in (20_000, 200_000):
        anchors, _ = simulate(Clock(2 * SECOND, 40), 5, n=n)
        begin = time.process_time()
        (segment,) = alignment.align(anchors)
        took.append(time.process_time() - begin)
        error, bound = measure([segment], Clock(2 * SECOND, 40), anchors.at)
        assert (error <= bound).all()
        assert np.median(error) <= 0.3 * MS
    assert took[1] <= 30 * took[0] + 1


@settings(max_examples=40, deadline=None)
@given(st.integers(12, 40), SEEDS)
def test_any_anchors_give_an_answer(n, seed):
    random = np.random.default_rng(seed)
    at = random.integers(0, 10**6, n) * 1.0
    low = random.choice([-np.inf, 0.0, 5e8, 7e12], n)
    high = np.where(random.random(n) < 0.3, np.inf, np.maximum(low, 0) + random.integers(0, 10**9, n))
    for segment in alignment.align(within(at, low, high)):
        assert segment.status in ("aligned", "unalignable")
        assert segment.start <= segment.end
        assert not np.isnan(segment.error(at)).any()
