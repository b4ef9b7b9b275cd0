"""How far a close's interval reaches, given what ended it."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from occorr import intervals, schema
from occorr.episodes.table import SHAPE

MS, SECOND = 10**6, 10**9
T0 = datetime(2026, 11, 21, 6, tzinfo=UTC)
BASE = int(T0.timestamp()) * SECOND


def close(
    at, *, cause="client.normal", verdict="decisive", code=1000, opened=-60.0, heard=None, proxy=None, inferred=False
):
    """One close whose gateway line stands `at` seconds after T0, known to 10 ms."""
    moment = pl.lit(BASE + round(at * SECOND), pl.Int64)
    row = pl.select(
        close_id=pl.lit("c1"),
        instance=pl.lit(""),
        code_gateway=pl.lit(code, pl.Int64),
        p_established=pl.lit(None, pl.Boolean),
        inferred=pl.lit(inferred),
        p_t=pl.lit(proxy, pl.Int64),
        g_heard=pl.lit(None if heard is None else BASE + round(heard * SECOND), pl.Int64),
        opened=pl.lit(BASE + round(opened * SECOND), pl.Int64).cast(schema.TS),
        timestamp=moment.cast(schema.TS),
        time_earliest=(moment - 10 * MS).cast(schema.TS),
        time_latest=moment.cast(schema.TS),
    )
    return row, pl.DataFrame({"close_id": ["c1"], "cause": [cause], "verdict": [verdict]})


def lifes(*spans):
    """Freezes and partitions: (kind, from, to) in seconds after T0."""
    rows = [
        {
            "kind": kind,
            "cut_low": BASE + round(low * SECOND),
            "cut_high": BASE + round(high * SECOND),
            "abrupt": kind == "gateway",
            "silent_s": high - low if kind == "gateway" else None,
        }
        for kind, low, high in spans
    ]
    return pl.DataFrame(
        rows,
        schema={
            k: v for k, v in SHAPE.items() if k in ("kind", "cut_low", "cut_high", "abrupt", "silent_s", "instance")
        },
    )


def lines(*pairs):
    """Gateway lines with two stamps: (seconds after T0, by how many ms the engine's stamp lags)."""
    frame = pl.DataFrame(
        {
            "t": [T0 + timedelta(seconds=s) for s, _ in pairs],
            "o": [T0 + timedelta(seconds=s, milliseconds=lag) for s, lag in pairs],
        },
        schema={"t": schema.TS, "o": schema.TS},
    )
    return frame.select(
        source_kind=pl.lit("gateway"),
        timestamp="t",
        timestamp_raw="t",
        observed_timestamp="o",
        clock_id=pl.lit("gateway"),
        observed_clock_id=pl.lit("engine"),
    )


def settled(made, spans=(), pairs=()):
    """(earliest, latest) in seconds after T0."""
    row = intervals.settle(*made, lifes(*spans), lines(*pairs)).row(0, named=True)
    assert row["time_earliest"] <= row["timestamp"] <= row["time_latest"]
    return tuple((row[c] - T0).total_seconds() for c in ("time_earliest", "time_latest"))


def test_what_the_gateway_decided_keeps_its_bounds():
    made = close(5, cause="auth.token_mismatch", code=1008)
    assert settled(made, [("freeze", 4, 6)], [(s, 900 if s == 5 else 1) for s in range(10)]) == (4.99, 5)


def test_a_busy_machine_hears_late_of_what_a_client_did():
    idle = settled(close(5), (), [(s, 1) for s in range(10)])
    busy = settled(close(5), (), [(s, 51 if s == 5 else 1) for s in range(10)])
    assert idle == (4.965, 5)  # 10 ms and what even an idle gateway may take
    assert busy == (pytest.approx(4.99 - 0.048 * intervals.BUSY), 5)  # 51 − 1 usual − 2 ms of every machine


def test_nothing_is_heard_in_a_freeze():
    assert settled(close(20.3), [("freeze", 11, 20)]) == (11, 20.3)
    assert settled(close(24), [("freeze", 11, 20)])[0] == 23.965  # long after the thaw


def test_a_partition_hides_the_clients_end_but_no_close_precedes_its_connection():
    assert settled(close(20.3, cause="network.partition", code=1006, opened=14), [("partition", 11, 20)]) == (14, 20.3)


def test_a_gateway_that_hung_before_it_was_killed():
    assert settled(close(9.5), [("gateway", 6, 10)])[0] == 2  # silent for 4 s before the cut at 6 at the earliest


def test_a_peer_that_vanished_may_be_gone_since_it_was_last_heard():
    told = {"cause": "client.abort", "code": 1006}
    assert settled(close(20, **told, verdict="circumstantial", heard=8)) == (8, 20)
    assert settled(close(90, **told, verdict="circumstantial", heard=8))[0] == 29.99  # a minute at most: pings end it
    assert settled(close(20, **told, verdict="decisive", heard=8))[0] == 19.965
    assert (
        settled(close(20, **told, verdict="circumstantial", heard=8, proxy=BASE))[0] == 19.965
    )  # the proxy saw the end


def test_a_client_sees_a_cut_later_than_who_cut():
    assert settled(close(5, cause="timeout.heartbeat", code=1006)) == (4.99, 5.015)
    assert settled(close(5, cause="restart.oom", code=None)) == (4.99, 5.075)
