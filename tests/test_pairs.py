"""Candidate pairs of stamps become an offset: votes count each side once, wrong partners do not make a bound narrow."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_logs import conn, stamp, twice, write

import occorr
from occorr import anchors, pairs

MS = 1_000_000
INTERVALS = st.lists(st.tuples(st.integers(-100, 100), st.integers(0, 60)), min_size=1, max_size=25)


def cover(low: np.ndarray, high: np.ndarray, point: float) -> int:
    return int(((low <= point) & (point <= high)).sum())


@settings(max_examples=300, deadline=None)
@given(INTERVALS)
def test_vote_finds_the_stretch_that_most_share(intervals):
    low = np.array([a for a, _ in intervals])
    high = np.array([a + w for a, w in intervals])
    start, end, support = anchors.vote(low, high)
    most = max(cover(low, high, p) for p in {*low.tolist(), *high.tolist()})
    assert support == most
    assert start <= end
    assert cover(low, high, start) == cover(low, high, end) == cover(low, high, (start + end) / 2) == most
    assert cover(low, high, start - 0.5) < most and cover(low, high, end + 0.5) < most, "the stretch goes on"


@settings(max_examples=150, deadline=None)
@given(INTERVALS, st.floats(0.5, 0.95))
def test_vote_on_a_plateau_is_no_narrower(intervals, share):
    low = np.array([a for a, _ in intervals])
    high = np.array([a + w for a, w in intervals])
    start, end, support = anchors.vote(low, high)
    wide_start, wide_end, same = anchors.vote(low, high, share)
    assert same == support
    assert wide_start <= start and end <= wide_end
    assert cover(low, high, wide_start) >= share * support and cover(low, high, wide_end) >= share * support
    beyond = [p for p in (*low.tolist(), *high.tolist()) if not wide_start <= p <= wide_end]
    assert all(cover(low, high, p) < share * support for p in beyond), "a place as good lies outside"


@settings(max_examples=100, deadline=None)
@given(INTERVALS, st.integers(-(10**15), 10**15))
def test_vote_moves_with_its_intervals(intervals, shift):
    low = np.array([a for a, _ in intervals])
    high = np.array([a + w for a, w in intervals])
    start, end, support = anchors.vote(low, high)
    assert anchors.vote(low + shift, high + shift) == (start + shift, end + shift, support)


def test_a_busy_start_lags_more_than_the_rest():
    # five lines a group, ms stamps of a right clock; while the process starts they are stamped 4 to 29 ms later
    start = np.array([-16.6, -6.7, -7.5, -4.2, -29.0])
    later = np.tile([-0.7, -1.2, -1.8, -0.6, -2.1], 7)
    diff = (np.concatenate([start, later]) * MS).astype(np.int64)
    at = np.arange(len(diff)) * 1_000 * MS
    group = np.arange(len(diff)) // 5
    tight = anchors.least_lagged(at, diff, np.full(len(diff), MS), group, anchors.mean_lag(diff), MS, 2.5)
    assert (tight.high >= 0).all(), "a stretch says that the clock was behind"
    assert (tight.high[1:] <= 4 * MS).all(), "the quiet stretches say little"


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(-50, 50), st.integers(1, 30)),
        min_size=1,
        max_size=25,
    )
)
def test_a_vote_of_pairs_counts_each_side_once(rows):
    ours, theirs, low, width = (np.array(c, np.int64) for c in zip(*rows, strict=True))
    start, end, support = anchors.vote_once(low, low + width, (ours, theirs))

    def distinct(at):
        holds = (low <= at) & (low + width >= at)
        return min(len(set(ours[holds])), len(set(theirs[holds])))

    assert support == max(distinct(at) for at in {*low, *(low + width)})
    assert distinct(start) == support
    assert end >= start


def pairs_of(*rows, width=MS, same=False):
    """Ends of connections in ms: by the proxy, by the gateway; whether both say that they lasted as long."""
    ends = [(p * MS, g * MS) for p, g in rows]
    return pl.DataFrame(
        {"p": [p for p, _ in ends], "g": [g for _, g in ends], "at": [g for _, g in ends]},
        schema=dict.fromkeys(("p", "g", "at"), pl.Int64),
    ).with_columns(
        pl.lit(width, pl.Int64).alias("width"),
        pl.lit(same).alias("alike"),
        pl.lit(same).alias("same"),
        pl.col("p").alias("ours"),
        pl.col("g").alias("theirs"),
    )


WINDOWS = pl.DataFrame(schema=dict.fromkeys(("p", "up", "low", "high"), pl.Int64))


def refusals(count, *places):
    """Refused attempts, each of which fits as many downtimes: offsets in s."""
    return pl.DataFrame(
        [
            {"p": i, "up": up, "low": low * 1_000 * MS, "high": high * 1_000 * MS}
            for i in range(count)
            for up, (low, high) in enumerate(places)
        ],
        schema=WINDOWS.schema,
    )


def held(found, offset=0.0):
    return abs(found.offset - offset * MS) <= found.error


def test_a_burst_that_the_gateway_notices_late_is_no_step():
    steady = [(1_000 * k, 1_000 * k + 3) for k in (0, 20, 40, 70)]
    burst = [(100_000 + 40 * k, 183_000 + 40 * k) for k in range(5)]  # cut at once, noticed at once after a freeze
    found = pairs.settle(pairs_of(*steady, *burst), WINDOWS, "ends", 0)
    assert found is None or (len(found.segments) <= 1 and held(found))


def test_a_step_between_many_moments_is_one():
    before = [(10_000 * k, 10_000 * k + 2) for k in range(8)]
    after = [(10_000 * k + 83_000, 10_000 * k + 2) for k in range(8, 16)]
    found = pairs.settle(pairs_of(*before, *after), WINDOWS, "ends", 0)
    assert found is not None
    assert len(found.segments) == 3


@pytest.mark.parametrize(
    ("count", "same", "steps"), [(2, True, True), (2, False, False), (5, True, True), (5, False, False)]
)
def test_connections_of_one_moment_tell_a_step_only_where_they_lasted_as_long_on_both_sides(count, same, steps):
    before = [(10_000 + 40 * k, 10_002 + 40 * k) for k in range(count)]
    after = [(10_000 * k + 5_000, 10_000 * k + 2) for k in range(4, 12)]
    given = pl.concat([pairs_of(*before, same=same), pairs_of(*after)])
    found = pairs.settle(given, WINDOWS, "ends", 0)
    assert (found is not None and len(found.segments) == 3) == steps
    if found is not None and steps:
        first, _, last = found.segments
        assert abs(first.offset + 2 * MS) <= first.errors.max()
        assert abs(last.offset - 4_998 * MS) <= last.errors.max()


@pytest.mark.parametrize(("at", "shift"), [(5_000, -5_000), (5_000, 3_000), (200_000, -5_000), (200_000, 60_000)])
@pytest.mark.parametrize("alike", [True, False])
def test_one_connection_beyond_the_anchors_at_another_place_widens_the_bound_there(at, shift, alike):
    """The clock may have been set; a gateway that was paused tells an end late too, but says that it lasted longer."""
    steady = [(10_000 * k, 10_000 * k + 2) for k in range(2, 10)]
    given = pl.concat([pairs_of(*steady), pairs_of((at + shift, at + 2), same=alike)])
    found = pairs.settle(given, WINDOWS, "ends", 0)
    assert found is not None
    within = [(s.offset - s.errors.max(), s.offset + s.errors.max()) for s in found.segments]
    assert len(found.segments) == (2 if alike else 1)
    anchored = found.segments[1 if alike and at < 20_000 else 0]
    assert anchored.errors.max() < 20 * MS and abs(anchored.offset + 2 * MS) <= anchored.errors.max()
    if alike:
        low, high = within[0 if at < 20_000 else 1]
        assert low <= min(0, shift * MS) - 2 * MS and high >= max(0, shift * MS) - 2 * MS
        before, after = found.segments
        assert before.end == after.start
        assert found.base + before.end == pytest.approx((20_002 if at < 20_000 else 90_002) * MS, abs=10 * MS)


def test_refusals_tell_when_a_clock_was_set():
    """Down from 50 to 58 s; refused attempts at 51 s and 57 s, the later one stamped by the clock that ran 20 s ahead by then."""
    before = [(10_000 * k, 10_000 * k + 2) for k in range(4)]
    after = [(10_000 * k + 20_000, 10_000 * k + 2) for k in range(8, 12)]
    refused = pl.DataFrame(
        [{"p": p, "up": 58, "low": p - 58_000, "high": p - 50_000} for p in (51_000, 77_000)], schema=WINDOWS.schema
    ).with_columns(pl.col("p", "low", "high") * MS)
    found = pairs.settle(pairs_of(*before, *after), refused, "ends", 0)
    assert found is not None
    _, gap, _ = found.segments
    assert found.base + gap.start == pytest.approx(51_002 * MS, abs=10 * MS)
    assert found.base + gap.end == pytest.approx(57_002 * MS, abs=10 * MS)


def test_clients_that_may_be_any_of_several_do_not_make_a_bound_narrow():
    """Six ends that the gateway tells within a second, of which the proxy's stamps say the same second; it lost two of them."""
    said = [32_096, 32_101, 31_573, 31_648, 31_813, 31_983]
    one = [(p, g) for g in said for p in (31_000, 31_000, 31_000, 32_000)]
    clear = [(0, 684), (5_000, 5_720), (9_000, 9_847), (27_000, 27_293)]
    made = pairs_of(*one, *clear, width=1_000 * MS).with_columns(
        pl.when(pl.col("p") == 31_000 * MS).then(pl.int_range(pl.len()) % 4).otherwise("ours").alias("ours")
    )
    found = pairs.settle(made, WINDOWS, "ends", 0)
    assert found is not None
    assert held(found)


def test_two_agreeing_late_ends_do_not_outvote_the_third():
    late = pairs_of((91_950, 91_953), (113_544, 113_674), (113_545, 113_760))
    found = pairs.settle(late, refusals(20, (-120, 120)), "ends", 0)
    assert found is not None
    assert held(found)


@pytest.mark.parametrize("places", [((53.9, 54.2), (-40, 70)), ((53.9, 54.2), (-40, 30))])
def test_a_few_connections_outweigh_many_wide_windows(places):
    ends = pairs_of((1_000, 1_004), (9_000, 9_003), (30_000, 30_002), (52_000, 52_000))
    found = pairs.settle(ends, refusals(16, *places), "ends", 0)
    assert found is not None
    assert held(found)
    assert found.error <= 100 * MS


def test_connections_that_recur_evenly_settle_nothing():
    every_five = pairs_of(*((5_000 * a, 5_000 * b) for a in range(4) for b in range(4)))
    assert pairs.settle(every_five, WINDOWS, "ends", 0) is None


def test_ends_that_a_log_of_beginnings_does_not_tell_tie_no_clock(tmp_path):
    """Apache's combined lines stamp when a request began. Five tunnels of 10 s each made its clock one that runs 10 s behind."""
    console, access = [], []
    for n, at in enumerate((0, 3, 11, 26, 45)):
        console += twice(
            [
                f"{stamp(f'10:00:{at:02}.100')} [ws] webchat connected conn={conn(n)} remote=192.0.2.9 client=openclaw-control-ui webchat v2026.9.6",
                f"{stamp(f'10:00:{at + 10:02}.100')} [ws] webchat disconnected code=1000 reason=n/a conn={conn(n)}",
            ]
        )
        access.append(
            f'203.0.113.{n} - - [21/Nov/2026:10:00:{at:02} +0000] "GET / HTTP/1.1" 101 9000 "-" "Mozilla/5.0 (X11) Chrome/139.0.0.0"'
        )
    started = "[Sat Nov 21 09:59:00.465621 2026] [mpm_event:notice] [pid 1:tid 1] AH00489: Apache/2.4.71 (Debian) configured -- resuming normal operations"
    write(tmp_path, **{"gateway.docker.log": sorted(console), "access.log": access, "error.log": [started]})
    (apache,) = occorr.analyze(tmp_path).clocks.filter(pl.col("clock_id") == "apache").to_dicts()
    assert (apache["status"], apache["offset_ns"]) == ("assumed", 0)
