"""How much earlier or later than its lines a close may have been, once it is known what ended it.

The lines of one close are written after the fact. What the gateway or the proxy decided stands in their lines within
milliseconds. What the client did stands there only when they came to read it: a busy event loop, a frozen container or
a cut network delay it, and so the interval must reach back, as far as what else the gateway wrote just then shows it to
have been late. A client that is cut off sees that later than whoever cut.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from occorr import schema
from occorr.pairs import FINELY
from occorr.schema import MS, SECOND

SLOT: Final = 100 * MS
AROUND: Final = range(-2, 2)  # slots in which a late line tells that the machine was busy at the close
HEARD: Final = 24 * MS  # how late an idle gateway or proxy reads what a client did: 96 of 100 are read sooner
USUAL: Final = 2 * MS  # the engine's stamp of a line lags by so much on an idle machine too
STARVED: Final = 4 * MS  # … and by so much more for a quarter of all lines on one that is busy all the time
BUSY: Final = 14  # a close frame waits up to this many times as long as the engine's stamp of a line did beside it
WAITED: Final = 4  # … or up to this many times as long as an answer took beside it
MOST: Final = 2 * SECOND  # … and no longer than this
# methods that are answered from memory, and slowly while the gateway is busy only
_AT_ONCE: Final = ("health", "status", "system-presence", "last-heartbeat")
THAW: Final = 3 * SECOND  # a gateway that thaws, or has its network again, logs what it missed for so long
HANG: Final = 1.0  # s; a gateway that is silent for so long before an abrupt end may have hung
FARTHEST: Final = 60 * SECOND  # a peer that vanished without a word is found by the second unanswered ping, 30 s apart
EOF: Final = 15 * MS  # what the client reads of a cut comes up to 13 ms after the gateway's or proxy's line
IDLE: Final = 4 * MS  # … and up to 4 ms after a proxy with nothing else to do
DYING: Final = 75 * MS  # … and up to 68 ms after it on a machine that kills for lack of memory
STOPPING: Final = 1012  # what a gateway that is told to stop closes with
_BY_CLIENT: Final = (
    "client.normal",
    "client.abort",
    "network.partition",
    "network.reset",
    "restart.proxy",
    "unknown.unknown",
)
_CUT: Final = ("timeout.heartbeat", "restart.proxy", "overload.slow_consumer")


def settle(rows: pl.DataFrame, verdicts: pl.DataFrame, episodes: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Closes with intervals as wide as their cause leaves them.

    Args:
        rows: closes with the observers' features (`g_*`, `p_*`, `c_*`), `opened`, `time_earliest` and `time_latest`.
        verdicts: `close_id`, `cause` and `verdict`.
        episodes: rows of `episodes.episodes`.
        events: placed events.

    Returns:
        `rows` with `time_earliest` and `time_latest`, and `timestamp` inside them; never before the connection began, if that was seen in time.
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
    lateness = _lateness(events)
    for more in (
        _busy(own, lateness, events),
        _interrupted(own, episodes),
        _stopped(own, episodes),
        _silent(own, events),
    ):
        own = own.join(more, on="close_id", how="left", maintain_order="left")
    opened = pl.col("_opened")
    seen = pl.col("code_gateway").is_not_null() | pl.col("p_established").fill_null(value=False)
    acted = (cause.is_in(_BY_CLIENT) & seen & ~pl.col("inferred").fill_null(value=False)).fill_null(value=False)
    read, first, last = _heard()
    # what a client did is read late; on a machine that is busy all the time, what was done to it it hears late, too
    usually = _usually_late(lateness)
    late = pl.max_horizontal(pl.col("_late").fill_null(0), usually).clip(HEARD, MOST)
    hung = pl.when(pl.col("_late") >= SECOND).then("_silent")
    # the line of a close that the gateway decided upon stands where the peer had answered it
    refused = pl.when(pl.col("code_gateway").is_not_null() & ~pl.col("g_established")).then("g_decided")
    stopped = pl.when(pl.col("code_gateway") == STOPPING).then("_stopped")
    low = (
        pl.when(acted)
        .then(pl.min_horizontal(read - _both(read - first, late), "_since", hung))
        .otherwise(pl.min_horizontal(pl.col("_time_earliest") - usually, refused, stopped))
    )
    high = pl.when(acted).then(last).otherwise(pl.col("_time_latest") + usually)
    # what hung read late that a connection came, too
    told_late = (hung.is_not_null() & pl.col("p_t").is_null() & (opened >= pl.col("_woke"))).fill_null(value=False)
    # without a close frame and without a proxy that saw the end, the peer may have been gone since its last sign of
    # life
    gone = (
        acted
        & (pl.col("code_gateway") == 1006)
        & verdict.is_in(["circumstantial", "unknown"])
        & pl.col("p_t").is_null()
    )
    low = (
        pl.when(gone.fill_null(value=False))
        .then(
            pl.min_horizontal(
                pl.max_horizontal(pl.coalesce("g_heard", "_opened"), first - FARTHEST),
                pl.when(told_late).then("_silent"),
            )
        )
        .otherwise(low)
    )
    began = (opened <= pl.when(acted).then(first).otherwise("_time_earliest")) & ~told_late
    low = pl.max_horizontal(low, pl.when(began).then(opened))
    cut = (cause.is_in(_CUT) & (pl.col("code_gateway") == 1006)).fill_null(value=False)
    high = high + pl.when(cause == "restart.oom").then(DYING).when(cut).then(EOF).when(
        cause == "timeout.proxy_idle"
    ).then(IDLE).otherwise(0)
    best = pl.col("timestamp").cast(pl.Int64)
    own = own.with_columns(low.alias("_low"), high.alias("_high")).with_columns(
        pl.when(best.is_not_null())
        .then(pl.max_horizontal(pl.min_horizontal(best, "_high"), "_low"))
        .cast(schema.TS)
        .alias("timestamp"),
        pl.col("_low").cast(schema.TS).alias("time_earliest"),
        pl.col("_high").cast(schema.TS).alias("time_latest"),
    )
    return own.select(rows.columns)


def _heard() -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """When the first of gateway and proxy wrote of an end that the client brought about: most likely, from, to (ns).

    Neither can write of it before it was, so what both say holds; where their stamps contradict each other, one was
    late, and the earlier counts. A command that reports the close ends after it.
    """
    fine = pl.col("p_resolution").fill_null(SECOND) < SECOND
    both = (pl.col("g_low").is_not_null() & pl.col("p_low").is_not_null() & fine).fill_null(value=False)
    agree = (pl.col("g_low") <= pl.col("p_high")) & (pl.col("p_low") <= pl.col("g_high"))
    proxys = pl.when(agree).then(pl.col("p_low") > pl.col("g_low")).otherwise(pl.col("p_low") < pl.col("g_low"))
    one = both & proxys
    read = pl.when(one).then("p_t").otherwise(pl.coalesce("g_t", "p_t", "_time_earliest"))
    first = pl.when(one).then("p_low").otherwise(pl.coalesce("g_low", "p_low", "_time_earliest"))
    last = (
        pl.when(both)
        .then(pl.min_horizontal("g_high", "p_high"))
        .otherwise(pl.coalesce("g_high", "p_high", "_time_latest"))
    )
    return read, first, pl.max_horizontal(last, pl.when(pl.col("c_event").is_not_null()).then("c_high"))


def _both(error: pl.Expr, lag: pl.Expr) -> pl.Expr:
    """What an error of a clock and a lag, which know nothing of each other, reach together, ns: they are rarely both at their worst."""
    return (error.cast(pl.Float64) ** 2 + lag.cast(pl.Float64) ** 2).sqrt().round().cast(pl.Int64)


def _busy(rows: pl.DataFrame, lateness: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """`_late`: how long, in ns, what a client did may have waited at each close, going by what the gateway wrote beside it."""
    seen = pl.concat([_late_lines(lateness), _slow_answers(events)])
    # who is slow for so long is so before and after it
    spread = pl.int_ranges(pl.col("_slot") - pl.col("_for") // SLOT, pl.col("_slot") + pl.col("_for") // SLOT + 1)
    slots = seen.with_columns(spread.alias("_slot")).explode("_slot").group_by("_slot").agg(pl.col("_late").max())
    moments = rows.select("close_id", (pl.col("_time_latest") // SLOT).alias("_slot")).drop_nulls()
    near = pl.concat([moments.with_columns(pl.col("_slot") + step) for step in AROUND])
    return (
        near.join(slots, on="_slot", maintain_order="left")
        .group_by("close_id", maintain_order=True)
        .agg(pl.col("_late").max())
    )


def _lateness(events: pl.DataFrame) -> pl.DataFrame:
    """By how much, in ns, the second stamp of each line of the gateway lags more than usual: `at` (ns), `late`."""
    two = (
        (pl.col("source_kind") == "gateway")
        & pl.col("observed_timestamp").is_not_null()
        & pl.col("timestamp").is_not_null()
        & (pl.col("clock_id") != pl.col("observed_clock_id"))
    )
    lag = (pl.col("observed_timestamp") - pl.col("timestamp_raw")).dt.total_nanoseconds()
    late = lag - lag.median().over("clock_id", "observed_clock_id").cast(pl.Int64)
    # stamps of a second would seem late by up to one
    fine = pl.col("time_resolution_ns").fill_null(MS) <= FINELY
    return events.filter(two & fine).select(pl.col("timestamp").cast(pl.Int64).alias("at"), late.alias("late"))


def _usually_late(lateness: pl.DataFrame) -> int:
    """What a client waits for in these logs as a whole, ns: 0 unless the machine was busy all the time."""
    quarter = lateness.get_column("late").quantile(0.75)
    return round(quarter) * BUSY if quarter is not None and quarter >= STARVED else 0


def _late_lines(lateness: pl.DataFrame) -> pl.DataFrame:
    """Lines of the gateway whose second stamp lagged: `_slot`, `_late`, and `_for` how long, ns."""
    more = pl.col("late") - USUAL
    return lateness.filter(more > 0).select(
        (pl.col("at") // SLOT).alias("_slot"), (more * BUSY).alias("_late"), more.clip(upper_bound=MOST).alias("_for")
    )


def _slow_answers(events: pl.DataFrame) -> pl.DataFrame:
    """How long the gateway says that its answers took: `_slot`, `_late`, `_for`."""
    if "rpc_duration_ms" not in events.columns:
        return pl.DataFrame(schema={"_slot": pl.Int64, "_late": pl.Int64, "_for": pl.Int64})
    took = pl.col("rpc_duration_ms") * MS
    timed = pl.col("timestamp").is_not_null() & took.is_not_null() & pl.col("method").is_in(_AT_ONCE)
    return events.filter((pl.col("event_name") == "rpc.response") & timed).select(
        (pl.col("timestamp").cast(pl.Int64) // SLOT).alias("_slot"),
        (took * WAITED).cast(pl.Int64).alias("_late"),
        took.cast(pl.Int64).clip(upper_bound=MOST).alias("_for"),
    )


def _silent(rows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """`_silent`: when the gateway last wrote, ns, before it was silent for long; `_woke`: when it then wrote of the close with all that had waited."""
    t = pl.col("timestamp").cast(pl.Int64)
    lines = events.filter((pl.col("source_kind") == "gateway") & pl.col("timestamp").is_not_null())
    ends = (
        lines.select("instance" if "instance" in lines.columns else pl.lit("").alias("instance"), t.alias("_to"))
        .unique()
        .sort("instance", "_to")
        .with_columns(pl.col("_to").shift(1).over("instance").alias("_silent"))
        .filter(pl.col("_to") - pl.col("_silent") >= round(HANG * SECOND))
        .sort("_to")
    )
    own = rows.select("close_id", "instance", "_time_latest").drop_nulls("_time_latest").sort("_time_latest")
    return (
        own.join_asof(
            ends.with_columns(pl.col("instance").cast(own.schema["instance"])),
            left_on="_time_latest",
            right_on="_to",
            by="instance",
            tolerance=THAW,
            check_sortedness=False,
        )
        .select("close_id", "_silent", pl.col("_to").alias("_woke"))
        .drop_nulls()
    )


def _stopped(rows: pl.DataFrame, episodes: pl.DataFrame) -> pl.DataFrame:
    """`_stopped`: when the gateway began to stop, ns, whose stop a close may belong to."""
    stops = episodes.filter(pl.col("kind") == "gateway").select(
        pl.col("cut_low").alias("_stopped"), pl.col("cut_high").alias("_to"), pl.col("instance").alias("_where")
    )
    own = rows.select("close_id", "instance", "_time_earliest", "_time_latest").join(stops, how="cross")
    held = (pl.col("_stopped") <= pl.col("_time_latest")) & (pl.col("_to") >= pl.col("_time_earliest"))
    return own.filter(held & _same_gateway()).group_by("close_id", maintain_order=True).agg(pl.col("_stopped").max())


def _same_gateway() -> pl.Expr:
    """Whether a close and an episode are one gateway's, as far as both are known."""
    one, other = pl.col("instance").fill_null(""), pl.col("_where").fill_null("")
    return (one == other) | (one == "") | (other == "")


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
        (pl.col("_time_latest") >= pl.col("_from")) & (pl.col("_time_earliest") <= pl.col("_to")) & _same_gateway()
    )
    return hit.group_by("close_id", maintain_order=True).agg(pl.col("_from").min().alias("_since"))
