"""Refusals at a proxy with an unknown clock: settled only where no shift of it lets another cause in."""

from __future__ import annotations

import polars as pl
import pytest

from occorr import schema
from occorr.causes.ties import settled

SECOND = 10**9
BASE = 1_795_000_000 * SECOND


def rows(refused, opened=()):
    """Closes of one proxy: refusals and tunnels at seconds by its own clock."""
    table = [
        {"close_id": f"r{i}", "p_t": BASE + s * SECOND, "p_opened": None, "p_failed": True, "p_established": False}
        for i, s in enumerate(refused)
    ]
    table += [
        {
            "close_id": f"t{i}",
            "p_t": BASE + (s + 4) * SECOND,
            "p_opened": BASE + s * SECOND,
            "p_failed": False,
            "p_established": True,
        }
        for i, s in enumerate(opened)
    ]
    return pl.DataFrame(table, schema_overrides={"p_opened": pl.Int64}).with_columns(
        pl.lit("assumed").alias("p_clock_status"),
        pl.lit("nginx").alias("p_clock"),
        pl.lit(502, pl.Int64).alias("p_status"),
        pl.lit("connecting").alias("p_phase"),
        pl.lit(value=True).alias("p_to_gateway"),
    )


def downs(*spans):
    """Downtimes: (cause, from, until)."""
    return pl.DataFrame(
        [
            {
                "kind": "gateway",
                "cause": c,
                "covered": True,
                "cut_low": BASE + a * SECOND,
                "cut_high": BASE + a * SECOND,
                "up": BASE + b * SECOND,
                "ready": None,
            }
            for c, a, b in spans
        ],
        schema_overrides={"ready": pl.Int64},
    )


LINES = pl.DataFrame(
    {"source_kind": ["gateway", "gateway"], "timestamp": [BASE - 3000 * SECOND, BASE + 9000 * SECOND]}
).with_columns(pl.col("timestamp").cast(schema.TS))
REFUSED = (101, 105, 110, 119)


@pytest.mark.parametrize(
    ("opened", "spans", "found"),
    [
        ((), [("restart.oom", 100, 120)], 4),
        # both are long enough: the proxy may be 200 s off
        ((), [("restart.oom", 100, 120), ("restart.deploy", 300, 320)], 0),
        # the other one is too short for refusals over 18 s
        ((), [("restart.oom", 100, 120), ("restart.deploy", 300, 305)], 4),
        # a tunnel that opened 80 s before: shifted by 200 s it would have opened in a downtime
        ((20,), [("restart.oom", 100, 120), ("restart.crash", 213, 226), ("restart.deploy", 300, 320)], 4),
        # of one cause both: it does not matter in which they lie
        ((), [("restart.crash", 100, 120), ("restart.crash", 300, 320)], 4),
        # a downtime that nothing names counts as none, and the refusals fit no other
        ((), [("restart.oom", 400, 410)], 0),
    ],
)
def test_only_what_no_shift_turns_round_is_settled(opened, spans, found):
    assert len(settled(rows(REFUSED, opened), downs(*spans), LINES)) == found


def test_two_refusals_may_fit_by_chance():
    assert settled(rows((101, 119)), downs(("restart.oom", 100, 120)), LINES) == []


def test_downtimes_beyond_the_gateways_log_are_not_known():
    log = LINES.filter(pl.col("timestamp") < LINES.get_column("timestamp").max())
    spans = downs(("restart.oom", 100, 120)).with_columns(pl.lit(value=False).alias("covered"))
    assert settled(rows(REFUSED), spans, log) == []
