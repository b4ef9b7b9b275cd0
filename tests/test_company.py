"""Which closes are alike: a timer's limit stands out among durations, chance does not; the gateway's own words reach several clients at once."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occorr.causes.company import company

MS = 1_000_000
SECOND = 1000 * MS
BASE = 1_795_000_000 * SECOND


def closes(lasted, **more):
    """Tunnels that ended one a minute, each after so many seconds."""
    rows = [
        {
            "p_client": None,
            "g_forwarded": None,
            "close_id": f"c{i}",
            "p_t": BASE + 60 * i * SECOND,
            "p_duration": round(s * SECOND),
        }
        | {
            "g_t": None,
            "g_reason": None,
            "g_opened": None,
            "code_gateway": None,
            "g_remote": None,
            "via": "proxy",
            "p_clock": "nginx",
        }
        | {name: values[i] for name, values in more.items()}
        for i, s in enumerate(lasted)
    ]
    types = {
        "g_t": pl.Int64,
        "g_opened": pl.Int64,
        "g_reason": pl.String,
        "code_gateway": pl.Int64,
        "g_remote": pl.String,
        "p_client": pl.String,
        "g_forwarded": pl.String,
    }
    return pl.DataFrame(rows, schema_overrides=types).with_columns(
        pl.lit(value=True).alias("p_established"),
        (pl.col("p_t") - pl.col("p_duration")).cast(pl.Datetime("ns", "UTC")).alias("opened"),
        pl.col("p_t").cast(pl.Datetime("ns", "UTC")).alias("time_earliest"),
        pl.col("p_t").cast(pl.Datetime("ns", "UTC")).alias("time_latest"),
    )


@pytest.mark.parametrize(
    ("lasted", "alike"),
    [
        ([60.003, 60.011, 60.02, 7.2, 31.5], [3, 3, 3, 1, 1]),
        # a hundred that lasted from 3 to 6 s, some 33 ms apart: each has three neighbours within 60 ms
        ([3 + 0.033 * i for i in range(100)], [1] * 100),
        # a limit of 60 s, and one that happened to last nearly as long
        ([60.0, 60.01, 60.02, 60.9], [3, 3, 3, 1]),
    ],
)
def test_a_limit_stands_out_among_durations(lasted, alike):
    assert company(closes(lasted)).get_column("same_length").to_list() == alike


def test_other_clients_that_were_told_4001_within_a_second_are_counted_and_ones_own_tabs_are_not():
    at = [BASE, BASE + 900 * MS, BASE + 100 * MS, BASE + 3 * SECOND, BASE + 200 * MS]
    of = ["192.0.2.7", "192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10"]
    rows = closes([9.0] * 5, g_t=at, p_client=of, code_gateway=[4001, 4001, 4001, 4001, 1000])
    assert company(rows).get_column("others_invalid").to_list() == [1, 1, 2, 0, None]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["192.0.2.7", "192.0.2.8", None])), min_size=1, max_size=30)
)
def test_who_left_together_is_counted_as_by_hand(left):
    at, of = ([BASE + ms * MS for ms, _ in left], [peer for _, peer in left])
    rows = closes([9.0] * len(left), g_t=at, g_remote=of, code_gateway=[1001] * len(left))
    wanted = [
        sum(abs(a - b) <= 40 * MS and p == q for b, q in zip(at, of, strict=True)) for a, p in zip(at, of, strict=True)
    ]
    assert company(rows).get_column("gone_together").to_list() == wanted


def test_those_that_went_away_after_one_time_are_counted_by_the_address_that_the_gateway_saw():
    lasted = [58.02, 58.03, 58.0, 58.01, 12.0, 58.04]
    rows = closes(lasted, g_t=[BASE + 60 * i * SECOND for i in range(6)], code_gateway=[1001] * 5 + [1006], g_remote=["192.0.2.7"] * 3 + ["192.0.2.8"] * 3)  # fmt: skip
    rows = rows.with_columns((pl.col("g_t") - pl.col("p_duration")).alias("g_opened"), pl.lit(None, pl.Int64).alias("p_duration"))  # fmt: skip
    assert company(rows).get_column("gone_after").to_list() == [3, 3, 3, 1, 1, None]
