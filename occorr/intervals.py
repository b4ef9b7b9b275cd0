"""How much earlier or later than its lines a close may have been, once it is known what ended it.

The lines of one close are written after the fact. What the gateway or the proxy decided stands in their lines within
milliseconds. What the client did stands there only when they came to read it: a busy event loop, a frozen container or
a cut network delay it, and so the interval must reach back. A client that is cut off sees that later than whoever cut.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from occorr import schema

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
SLOT: Final = 100 * MS
AROUND: Final = range(-7, 4)  # slots in which a late line tells that the machine was busy at the close
HEARD: Final = (
    25 * MS
)  # beyond the lag of the gateway's own decisions, even where nothing shows that it was busy: 97 of 100 keep to it
USUAL: Final = 2 * MS  # the engine's stamp of a line lags by so much on an idle machine too
BUSY: Final = 12  # a close frame waits up to this many times as long as the engine's stamp of a line did beside it
MOST: Final = 2 * SECOND  # … and no longer than this
THAW: Final = 3 * SECOND  # a gateway that thaws, or has its network again, logs what it missed for so long
HANG: Final = 1.0  # s; a gateway that is silent for so long before an abrupt end may have hung
FARTHEST: Final = 60 * SECOND  # a peer that vanished without a word is found by the second unanswered ping, 30 s apart
EOF: Final = 15 * MS  # what the client reads of a cut comes up to 13 ms after the gateway's or proxy's line
DYING: Final = 75 * MS  # … and up to 68 ms after it on a machine that kills for lack of memory
_BY_CLIENT: Final = ("client.normal", "client.abort", "network.partition", "network.reset", "restart.proxy", "unknown")
_CUT: Final = ("timeout.heartbeat", "restart.proxy", "client.slow_consumer")


def settle(rows: pl.DataFrame, verdicts: pl.DataFrame, episodes: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Closes with intervals as wide as their cause leaves them.

    Args:
        rows: closes with the observers' features (`g_*`, `p_*`, `c_*`), `opened`, `time_earliest` and `time_latest`.
        verdicts: `close_id`, `cause` and `verdict`.
        episodes: rows of `episodes.episodes`.
        events: placed events.

    Returns:
        `rows` with `time_earliest` and `time_latest`, and `timestamp` inside them; never before the connection began.
    """
    cause, verdict = pl.col("_cause"), pl.col("_verdict")
    own = rows.join(
        verdicts.select("close_id", pl.col("cause").alias("_cause"), pl.col("verdict").alias("_verdict")),
        on="close_id",
        how="left",
        maintain_order="left",
    )
    own = own.with_columns(
        pl.col("time_earliest", "time_latest", "opened").cast(pl.Int64).name.map(lambda name: f"_{name}")
    )
    own = own.join(_busy(own, events), on="close_id", how="left", maintain_order="left").join(
        _interrupted(own, episodes), on="close_id", how="left", maintain_order="left"
    )
    low, high, opened = pl.col("_time_earliest"), pl.col("_time_latest"), pl.col("_opened")
    spoken = pl.col("code_gateway").is_not_null() | pl.col("p_established").fill_null(value=False)
    acted = cause.is_in(_BY_CLIENT) & spoken & ~pl.col("inferred").fill_null(value=False)
    earlier = (
        pl.when(acted)
        .then(pl.min_horizontal(low - (pl.col("_late").fill_null(0) * BUSY).clip(HEARD, MOST), "_since"))
        .otherwise(low)
    )
    # without a close frame and without a proxy that saw the end, the peer may have been gone since its last sign of
    # life
    gone = (
        acted
        & (pl.col("code_gateway") == 1006)
        & verdict.is_in(["circumstantial", "unknown"])
        & pl.col("p_t").is_null()
    )
    earlier = (
        pl.when(gone.fill_null(value=False))
        .then(pl.max_horizontal(pl.coalesce("g_heard", "_opened"), low - FARTHEST))
        .otherwise(earlier)
    )
    began = pl.when(opened <= low).then(opened)
    earlier = pl.max_horizontal(pl.min_horizontal(earlier, low), began)
    cut = (cause.is_in(_CUT) & (pl.col("code_gateway") == 1006)).fill_null(value=False)
    later = high + pl.when(cause == "restart.oom").then(DYING).when(cut).then(EOF).otherwise(0)
    best = pl.col("timestamp").cast(pl.Int64)
    own = own.with_columns(earlier.alias("_low"), later.alias("_high")).with_columns(
        pl.when(best.is_not_null())
        .then(pl.max_horizontal(pl.min_horizontal(best, "_high"), "_low"))
        .cast(schema.TS)
        .alias("timestamp"),
        pl.col("_low").cast(schema.TS).alias("time_earliest"),
        pl.col("_high").cast(schema.TS).alias("time_latest"),
    )
    return own.select(rows.columns)


def _busy(rows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """`_late`: by how much, in ns, the second stamp of a gateway's line beside each close lagged behind its usual lag."""
    empty = pl.DataFrame(schema={"close_id": rows.schema["close_id"], "_late": pl.Int64})
    two = (
        (pl.col("source_kind") == "gateway")
        & pl.col("observed_timestamp").is_not_null()
        & pl.col("timestamp").is_not_null()
        & (pl.col("clock_id") != pl.col("observed_clock_id"))
    )
    lag = (pl.col("observed_timestamp") - pl.col("timestamp_raw")).dt.total_nanoseconds()
    lines = events.filter(two).select(
        (pl.col("timestamp").cast(pl.Int64) // SLOT).alias("_slot"),
        (lag - lag.median().over("clock_id", "observed_clock_id") - USUAL).alias("_late"),
    )
    slots = lines.filter(pl.col("_late") > 0).group_by("_slot").agg(pl.col("_late").max())
    if slots.is_empty():
        return empty
    moments = rows.select("close_id", (pl.col("_time_latest") // SLOT).alias("_slot")).drop_nulls()
    near = pl.concat([moments.with_columns(pl.col("_slot") + step) for step in AROUND])
    return (
        near.join(slots, on="_slot").group_by("close_id", maintain_order=True).agg(pl.col("_late").max().cast(pl.Int64))
    )


def _interrupted(rows: pl.DataFrame, episodes: pl.DataFrame) -> pl.DataFrame:
    """`_since`: when the freeze, partition or last silence began, ns, at whose time or just after it the close was logged."""
    paused = episodes.filter(pl.col("kind").is_in(["freeze", "partition"])).select(
        pl.col("cut_low").alias("_from"), (pl.col("cut_high") + THAW).alias("_to"), pl.col("instance").alias("_where")
    )
    hung = episodes.filter((pl.col("kind") == "gateway") & pl.col("abrupt") & (pl.col("silent_s") >= HANG)).select(
        (pl.col("cut_low") - (pl.col("silent_s") * SECOND).cast(pl.Int64)).alias("_from"),
        pl.col("cut_high").alias("_to"),
        pl.col("instance").alias("_where"),
    )
    spans = pl.concat([paused, hung])
    own = rows.select("close_id", "_time_latest", "_time_earliest", "instance")
    hit = own.join(spans, how="cross").filter(
        (pl.col("_time_latest") >= pl.col("_from"))
        & (pl.col("_time_earliest") <= pl.col("_to"))
        & (
            (pl.col("instance").fill_null("") == pl.col("_where").fill_null(""))
            | (pl.col("instance").fill_null("") == "")
            | (pl.col("_where").fill_null("") == "")
        )
    )
    return hit.group_by("close_id", maintain_order=True).agg(pl.col("_from").min().alias("_since"))
