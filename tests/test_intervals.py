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
    at,
    *,
    cause="client.normal",
    verdict="decisive",
    code=1000,
    opened=-60.0,
    heard=None,
    proxy=None,
    inferred=False,
    decided=None,
):
    """One close whose gateway line stands `at` seconds after T0, known to 10 ms; `proxy`: from and to of the proxy's; `decided`: a refused handshake's last line before it."""
    moment = pl.lit(BASE + round(at * SECOND), pl.Int64)
    row = pl.select(
        close_id=pl.lit("c1"),
        instance=pl.lit(""),
        code_gateway=pl.lit(code, pl.Int64),
        p_established=pl.lit(None, pl.Boolean),
        inferred=pl.lit(inferred),
        p_t=pl.lit(proxy and BASE + round(proxy[0] * SECOND), pl.Int64),
        g_t=moment,
        g_low=moment - 10 * MS,
        g_high=moment,
        p_low=pl.lit(proxy and BASE + round(proxy[0] * SECOND), pl.Int64),
        p_high=pl.lit(proxy and BASE + round(proxy[1] * SECOND), pl.Int64),
        p_resolution=pl.lit(MS if proxy else None, pl.Int64),
        c_event=pl.lit(None, pl.String),
        c_high=pl.lit(None, pl.Int64),
        g_heard=pl.lit(None if heard is None else BASE + round(heard * SECOND), pl.Int64),
        g_established=pl.lit(decided is None),
        g_decided=pl.lit(None if decided is None else BASE + round(decided * SECOND), pl.Int64),
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
        time_resolution_ns=pl.lit(MS, pl.Int64),
    )


def settled(made, spans=(), pairs=()):
    """(earliest, latest) in seconds after T0."""
    row = intervals.settle(*made, lifes(*spans), lines(*pairs)).row(0, named=True)
    assert row["time_earliest"] <= row["timestamp"] <= row["time_latest"]
    return tuple((row[c] - T0).total_seconds() for c in ("time_earliest", "time_latest"))


def test_what_the_gateway_decided_keeps_its_bounds():
    made = close(5, cause="auth.token_mismatch", code=1008)
    assert settled(made, [("freeze", 4, 6)], [(s, 900 if s == 5 else 1) for s in range(10)]) == (4.99, 5)


def test_a_refused_client_had_its_answer_before_the_gateway_wrote_of_the_close():
    """The line comes with the peer's echo; the frame went out after what the gateway wrote of that connection before."""
    assert settled(close(5, cause="auth.origin", code=1008, decided=4.2)) == (4.2, 5)


def test_a_stopping_gateway_told_its_clients_before_it_wrote_of_their_closes():
    assert settled(close(5, cause="restart.manual", code=1012), [("gateway", 3, 6)]) == (3, 5)
    assert settled(close(5, cause="restart.manual", code=1006), [("gateway", 3, 6)]) == (4.99, 5)


def test_a_gateway_that_wrote_of_nothing_for_long_and_then_late_of_all_had_hung():
    waking = [(0, 1), (1, 1), (9, 200), (9.1, 1), (9.2, 1)]
    assert settled(close(9.2), (), waking)[0] == 1
    assert settled(close(9.2, opened=9.1), (), waking)[0] == 1  # it read late that the connection came, too
    assert settled(close(9.2, opened=0.5), (), waking)[0] == 1
    assert settled(close(9.2, opened=5), (), waking)[0] == 5  # before it woke: somebody else saw that
    lost = close(9.2, cause="client.abort", verdict="circumstantial", code=1006, opened=9.1)
    assert settled(lost, (), waking)[0] == 1
    quiet = [(s, 1) for s, _ in waking]  # it had nothing to say
    assert settled(close(9.2), (), quiet)[0] == pytest.approx(9.2 - HEARD)


# 24 ms, which even an idle gateway may take, and the 10 ms of its clock: neither knows of the other
HEARD = (24**2 + 10**2) ** 0.5 / 1000


def test_a_busy_machine_hears_late_of_what_a_client_did():
    idle = settled(close(5), (), [(s, 1) for s in range(10)])
    busy = settled(close(5), (), [(s, 51 if s == 5 else 1) for s in range(10)])
    assert idle == (pytest.approx(5 - HEARD), 5)
    # 51 − 1 as always − 2 ms of every machine, fourteen times
    assert busy == (pytest.approx(5 - (0.672**2 + 0.01**2) ** 0.5), 5)


def test_a_machine_that_is_always_busy_lets_nobody_hear_in_time():
    """A quarter of all lines is 6 ms later than half of them: 84 ms to both sides of what the gateway decided."""
    lags = [(second, 7 if second % 3 == 0 else 1) for second in range(30)]
    made = close(5, cause="auth.token_mismatch", code=1008)
    assert settled(made, (), lags) == (pytest.approx(4.906), pytest.approx(5.084))


def test_nothing_is_heard_in_a_freeze():
    assert settled(close(20.3), [("freeze", 11, 20)]) == (11, 20.3)
    assert settled(close(24), [("freeze", 11, 20)])[0] == pytest.approx(24 - HEARD)  # long after the thaw


def test_a_partition_hides_the_clients_end_but_no_close_precedes_its_connection():
    assert settled(close(20.3, cause="network.partition", code=1006, opened=14), [("partition", 11, 20)]) == (14, 20.3)


def test_a_gateway_that_hung_before_it_was_killed():
    assert settled(close(9.5), [("gateway", 6, 10)])[0] == 2  # silent for 4 s before the cut at 6 at the earliest


def test_a_peer_that_vanished_may_be_gone_since_it_was_last_heard():
    told = {"cause": "client.abort", "code": 1006}
    assert settled(close(20, **told, verdict="circumstantial", heard=8)) == (8, 20)
    assert settled(close(90, **told, verdict="circumstantial", heard=8))[0] == 29.99  # a minute at most: pings end it
    assert settled(close(20, **told, verdict="decisive", heard=8))[0] == pytest.approx(20 - HEARD)
    seen = settled(close(20, **told, verdict="circumstantial", heard=8, proxy=(19.98, 20)))
    assert seen[0] == pytest.approx(20 - HEARD)  # the proxy saw the end


def answers(*pairs, method="health"):
    """Answers of the gateway: (seconds after T0, how many ms it says that they took)."""
    frame = pl.DataFrame({"t": [T0 + timedelta(seconds=s) for s, _ in pairs], "d": [d for _, d in pairs]})
    return (
        lines()
        .join(frame.select(timestamp=pl.col("t").cast(schema.TS), d="d"), on="timestamp", how="right")
        .select(
            *(c for c in lines().columns if c not in ("timestamp", "source_kind")),
            "timestamp",
            source_kind=pl.lit("gateway"),
            event_name=pl.lit("rpc.response"),
            method=pl.lit(method),
            rpc_duration_ms=pl.col("d").cast(pl.Int64),
        )
    )


@pytest.mark.parametrize(
    ("took", "method", "reach"), [(3, "health", 24), (100, "health", 400), (30_000, "agent.wait", 24)]
)
def test_a_close_waits_behind_an_answer(took, method, reach):
    """Four times what the answer took; one that took half a minute waited for a model, not for the event loop."""
    row = intervals.settle(*close(5), lifes(), answers((4.95, took), method=method)).row(0, named=True)
    assert (5 - (row["time_earliest"] - T0).total_seconds()) * 1000 == pytest.approx(
        (reach**2 + 10**2) ** 0.5, abs=0.001
    )


def test_an_answer_long_before_the_close_says_nothing():
    row = intervals.settle(*close(5), lifes(), answers((4.2, 100))).row(0, named=True)
    assert (row["time_earliest"] - T0).total_seconds() == pytest.approx(5 - HEARD)


@pytest.mark.parametrize(
    ("proxy", "interval"),
    [
        ((4.98, 5.02), (5 - HEARD, 5)),  # says nothing new
        ((4.996, 5.02), (4.972, 5)),  # the gateway's stamp is known to 10 ms, the proxy's begins later
        ((4.98, 4.994), (5 - HEARD, 4.994)),  # … or ends earlier
        ((4.80, 4.81), (4.776, 4.81)),  # the gateway wrote late
        ((5.80, 5.81), (5 - HEARD, 5)),  # the proxy wrote late
    ],
)
def test_what_two_observers_say_of_a_clients_end_holds(proxy, interval):
    assert settled(close(5, proxy=proxy)) == (pytest.approx(interval[0]), interval[1])


def test_a_client_sees_a_cut_later_than_who_cut():
    assert settled(close(5, cause="timeout.heartbeat", code=1006)) == (4.99, 5.015)
    assert settled(close(5, cause="restart.oom", code=None)) == (4.99, 5.075)


def test_the_causes_that_intervals_name_are_of_the_vocabulary():
    assert {*intervals._BY_CLIENT, *intervals._CUT} <= set(schema.CAUSE_NAMES)
