"""One row a close, with the columns of the contract, from what its observers say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import schema
from occorr.closes.paths import published
from occorr.schema import MS, SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

GATEWAY_LAG: Final = 20 * MS  # a gateway's line stands 2–13 ms behind the client's own moment
STOP_LAG: Final = 35 * MS  # … and up to 32 ms where it closes all its connections
DECIDED_LAG: Final = 12 * MS  # … and up to 10 ms where the gateway itself refused or gave up
PROXY_LAG: Final = 8 * MS  # a proxy's line stands 0–7 ms behind
ANSWER_LAG: Final = 3 * MS  # … and up to 2 ms behind an answer of its own
START_LAG: Final = SECOND  # a starting gateway's line, 0.03–0.8 s
_SHAPE: Final[Sequence[tuple[str, pl.DataType | type[pl.DataType]]]] = (
    ("g_event", pl.String),
    ("p_event", pl.String),
    ("c_event", pl.String),
    ("g_t", pl.Int64),
    ("p_t", pl.Int64),
    ("c_t", pl.Int64),
    ("g_opened", pl.Int64),
    ("c_high", pl.Int64),
    ("p_error_event", pl.String),
    ("c_file", pl.String),
    ("death_event", pl.String),
    ("inferred", pl.Boolean),
    ("group", pl.Int64),
    ("c_group", pl.Int64),
    ("count", pl.Int64),
)


def finish(rows: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """The contract's columns from the observers' ones."""
    rows = rows.with_columns(pl.lit(None, d).alias(c) for c, d in _SHAPE if c not in rows.columns)
    fine = pl.col("p_resolution").fill_null(SECOND) < SECOND
    # what a client gave up, a frozen gateway logs later: the client's moment is the close's
    abandoned = (pl.col("c_error") == "timeout").fill_null(value=False) & (pl.col("code_gateway") == 1006).fill_null(
        value=False
    )
    has_g, has_p = (
        pl.col("g_t").is_not_null() & ~pl.col("inferred").fill_null(value=False) & ~abandoned,
        pl.col("p_t").is_not_null(),
    )
    both = has_g & has_p
    # A gateway's line comes after the fact and a proxy's beside it; where both are fine the earlier one is nearer.
    best = (
        pl.when(both & ~pl.col("p_established"))
        .then("p_t")
        .when(both & fine)
        .then(pl.min_horizontal("g_t", "p_t"))
        .when(has_g)
        .then("g_t")
        .when(has_p)
        .then(pl.when(fine).then("p_t").otherwise(pl.col("p_t") + pl.col("p_resolution") // 2))
        .when(pl.col("g_t").is_not_null() & ~abandoned)
        .then("g_t")
        .otherwise("c_t")
    )
    # A gateway that starts answers with 1013 at once and logs it when its event loop has time: not before the
    # connection began.
    starting = (pl.col("code_gateway") == 1013).fill_null(value=False) & pl.col("g_opened").is_not_null()
    # a gateway that shuts down sends its close frames first and logs them when all are sent
    decided = pl.col("g_cause").is_not_null() | pl.col("code_gateway").is_in(
        [1002, 1003, 1007, 1008, 1009, 4000]
    ).fill_null(value=False)
    lag = (
        pl.when((pl.col("code_gateway") == 1012).fill_null(value=False))
        .then(STOP_LAG)
        .when(decided)
        .then(DECIDED_LAG)
        .otherwise(GATEWAY_LAG)
    )
    g_low = (
        pl.when(starting)
        .then(
            pl.max_horizontal(pl.min_horizontal("g_opened", pl.col("g_low")) - GATEWAY_LAG, pl.col("g_low") - START_LAG)
        )
        .otherwise(pl.col("g_low") - lag)
    )
    p_low = pl.col("p_low") - pl.when(fine).then(
        pl.when("p_established").then(PROXY_LAG).otherwise(ANSWER_LAG)
    ).otherwise(GATEWAY_LAG)
    # what the proxy saw end before, the gateway logged late
    low = (
        pl.when(both & fine)
        .then(pl.min_horizontal(g_low, p_low))
        .when(has_g)
        .then(g_low)
        .when(has_p)
        .then(p_low)
        .when(pl.col("g_t").is_not_null() & ~abandoned)
        .then("g_low")
        .otherwise(pl.coalesce("c_low", p_low))
    )
    # what the proxy gave up ended for the client then, whenever the gateway noticed
    given_up = both & ~pl.col("p_established").fill_null(value=True)
    low = pl.when(given_up).then(p_low).otherwise(low)
    high = (
        pl.when(given_up)
        .then(pl.col("p_high") + 5 * MS)
        .when(has_g)
        .then("g_high")
        .when(has_p)
        .then(pl.col("p_high") + 5 * MS)
        .when(pl.col("g_t").is_not_null() & ~abandoned)
        .then("g_high")
        .otherwise("c_high")
    )
    # what a command reports, it may have seen as late as its end
    high = pl.max_horizontal(high, pl.when(pl.col("c_event").is_not_null()).then("c_high"))
    # the client's run bounds whatever the other sides leave open
    low = pl.max_horizontal(low, pl.when(has_g | has_p).then(None).otherwise("c_low"))
    opened = pl.coalesce(
        pl.when(abandoned).then(pl.col("c_start").cast(pl.Int64) * MS),
        pl.when(fine).then("p_opened"),
        "g_opened",
        "p_opened",
        pl.col("c_start").cast(pl.Int64) * MS,
    )
    code = pl.coalesce("code_client", "code_gateway")
    ports = published(facts)
    via = (
        pl.when(pl.col("p_event").is_not_null())
        .then(pl.lit("proxy"))
        .when(pl.col("via").is_not_null() & (pl.col("via") != "unknown"))
        .then("via")
        .when(pl.col("c_port").is_in(ports["proxy"]))
        .then(pl.lit("proxy"))
        .when(pl.col("c_port").is_in(ports["gateway"]))
        .then(pl.lit("direct"))
        .otherwise(pl.lit("unknown"))
    )
    observers = pl.concat_list(
        pl.when(pl.col("g_event").is_not_null() | pl.col("g_open_event").is_not_null()).then(pl.lit("gateway")),
        pl.when(pl.col("p_event").is_not_null()).then(pl.lit("proxy")),
        pl.when(pl.col("c_event").is_not_null()).then(pl.lit("cli")),
        pl.when(pl.col("death_event").is_not_null()).then(pl.lit("docker")),
    ).list.drop_nulls()
    rows = rows.with_columns(
        pl.coalesce("close_id", "p_event", "c_event").alias("close_id"),
        best.cast(schema.TS).alias("timestamp"),
        low.cast(schema.TS).alias("time_earliest"),
        high.cast(schema.TS).alias("time_latest"),
        opened.cast(schema.TS).alias("opened"),
        pl.coalesce("g_duration", "p_duration").alias("duration_ns"),
        via.alias("via"),
        pl.coalesce(
            "p_client",
            pl.col("g_forwarded").str.extract(r"^\s*([^,\s]+)", 1),
            pl.when(via == "direct").then("g_remote"),
        ).alias("client_address"),
        pl.coalesce("p_port", pl.when(via == "direct").then("g_port")).alias("client_port"),
        code.alias("websocket_close_code"),
        pl.when(pl.col("code_client").is_not_null())
        .then(pl.lit("client"))
        .when(pl.col("code_gateway").is_not_null())
        .then(pl.lit("server"))
        .otherwise(None)
        .alias("code_observer"),
        pl.col("p_status").alias("http_status_proxy"),
        pl.coalesce("g_reason", "c_reason").alias("websocket_close_reason"),
        pl.coalesce(
            pl.when(pl.col("g_event").is_not_null()).then("g_established"),
            pl.when(pl.col("inferred")).then(pl.lit(value=True)),
            pl.when(pl.col("p_event").is_not_null()).then("p_established"),
            pl.col("c_error").is_in(["none", "closed"]),
        ).alias("established"),
        pl.coalesce("count", pl.lit(1)).alias("count"),
        observers.alias("observers"),
        pl.col("inferred").fill_null(value=False),
        pl.col("g_ambiguous").fill_null(value=False).alias("g_ambiguous"),
    )
    # A middle that lies outside its own bounds (a late gateway line) is drawn to the nearer end.
    rows = rows.with_columns(
        pl.when(pl.col("timestamp") < pl.col("time_earliest"))
        .then("time_earliest")
        .when(pl.col("timestamp") > pl.col("time_latest"))
        .then("time_latest")
        .otherwise("timestamp")
        .alias("timestamp")
    )
    rows = rows.with_columns(
        pl.when(pl.col("opened") <= pl.col("time_latest"))
        .then("opened")
        .when(pl.col("time_latest").is_null())
        .then("opened")
        .alias("opened")
    )
    group = pl.coalesce(pl.format("g{}", "group"), pl.format("c{}", "c_group"))
    rows = rows.with_columns(group.alias("group_id")).sort("timestamp", "close_id", "c_file", nulls_last=True)
    # equal files have equal events: a command that printed the same twice was run twice
    again = pl.int_range(pl.len()).over("close_id")
    return rows.with_columns(
        pl.when(again > 0).then(pl.format("{}.{}", "close_id", again + 1)).otherwise("close_id").alias("close_id")
    )
