"""Puts events on the one time axis: aligned stamp, and the interval that resolution and clock error leave open."""

from __future__ import annotations

import polars as pl

from occorr import schema
from occorr.offsets import offsets
from occorr.pairs import FINELY
from occorr.schema import MS


def place(events: pl.DataFrame, clocks: pl.DataFrame) -> pl.DataFrame:
    """Fills the aligned columns and sorts.

    A stamp truncated to its resolution r and written by a clock with offset o ± e stands for [t − o − e, t + r − o +
    e). Lines of a recorded CLI run have no stamp; they lie between the recorder's two. Other lines of the CLI lie
    between their neighbours in a mixed log, or somewhere in the span of all sources; behind the last stamp of all they
    have no time.

    Args:
        events: events with `clock_id` and `timestamp_raw` in UTC.
        clocks: CLOCKS.
    """
    written = pl.coalesce(pl.col("timestamp_raw").cast(pl.Int64), pl.col("recorded_end") * MS)
    offset, error_ns, status = offsets(events.select("clock_id", written.alias("timestamp_raw")), clocks)
    events = events.with_columns(
        pl.Series("clock_offset_ns", offset, pl.Int64),
        pl.Series("clock_error_ns", error_ns, pl.Int64),
        pl.Series("clock_status", status, pl.String),
    ).with_columns(pl.when(pl.col("clock_status").is_not_null()).then(pl.col("clock_offset_ns", "clock_error_ns")))
    ahead = pl.col("clock_offset_ns").fill_null(0)
    raw = pl.col("timestamp_raw").cast(pl.Int64) - ahead
    error = pl.col("clock_error_ns").fill_null(0)
    recorded = pl.col("recorded_start").is_not_null() & pl.col("timestamp_raw").is_null()
    slack = pl.col("zone_slack_ns").fill_null(0) if "zone_slack_ns" in events.columns else pl.lit(0, pl.Int64)
    trust = (
        pl.when(_guessed(clocks)).then(pl.lit("assumed")).otherwise("clock_status")
        if "zone_assumed" in events.columns
        else pl.col("clock_status")
    )
    low = pl.when(recorded).then(pl.col("recorded_start") * MS - ahead - error).otherwise(raw - error)
    high = (
        pl.when(recorded)
        .then(pl.col("recorded_end") * MS + MS - ahead + error)
        .otherwise(raw + pl.col("time_resolution_ns").fill_null(1) + slack + error)
    )
    high, raw = _stamped_twice(clocks, low, high, raw)
    # A line without any stamp stands between its neighbours in the same file, or else in the span of everything.
    events = events.with_columns(raw.alias("_raw")).sort("log_file_path", "log_line")
    events = events.with_columns(
        pl.col("_raw").forward_fill().over("log_file_path").alias("_above"),
        pl.col("_raw").backward_fill().over("log_file_path").alias("_below"),
    )
    first, last = events.get_column("_raw").min(), events.get_column("_raw").max()
    bare = (pl.col("source_kind") == "cli") & pl.col("timestamp_raw").is_null() & pl.col("recorded_start").is_null()
    above, below = pl.coalesce("_above", pl.lit(first, pl.Int64)), pl.coalesce("_below", pl.lit(last, pl.Int64))
    # … of which nothing is left behind the last stamp of all, or before the first: it may be of any time after, or before
    outside = (pl.col("_below").is_null() | pl.col("_above").is_null()) & (above == below)
    between = pl.when(~outside.fill_null(value=False)).then(pl.struct(low=above, high=below))
    low = pl.when(bare).then(between.struct.field("low")).otherwise(low)
    high = pl.when(bare).then(between.struct.field("high")).otherwise(high)
    raw = (
        pl.when(bare)
        .then(pl.min_horizontal(low, high) + (pl.max_horizontal(low, high) - pl.min_horizontal(low, high)) // 2)
        .otherwise(raw)
    )
    # A recorder writes its two stamps around the whole run: what the run prints comes at its end, give or take the
    # exit.
    best = pl.when(recorded).then(pl.col("recorded_end") * MS - ahead).otherwise(raw)
    placed = events.with_columns(
        best.cast(schema.TS).alias("timestamp"),
        low.cast(schema.TS).alias("time_earliest"),
        high.cast(schema.TS).alias("time_latest"),
        trust.alias("clock_status"),
    )
    return placed.drop("_raw", "_above", "_below").sort("timestamp", "log_file_path", "log_line", nulls_last=True)


def _guessed(clocks: pl.DataFrame) -> pl.Expr:
    """Whether a line's zone is a guess that its clock's offset does not make good.

    An offset that anchors tell, or a person, holds a wrong zone too; but not of a log without one beside another with it.
    """
    said = clocks.filter(pl.col("method").cast(pl.String).str.starts_with("override")).get_column("clock_id")
    beside = pl.col("zone_inline").fill_null(value=False).any().over("clock_id")
    own = (pl.col("clock_status") == "reference") | beside
    return (pl.col("zone_assumed") & own & ~pl.col("clock_id").is_in(said.cast(pl.String).implode())).fill_null(
        value=False
    )


def _stamped_twice(clocks: pl.DataFrame, low: pl.Expr, high: pl.Expr, best: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Upper bounds and best times, where coarse stamps are of lines that the reference clock stamped more finely when it read them.

    No line is read before it is written, and most are read at once.
    """
    reference = clocks.filter(pl.col("status") == "reference").get_column("clock_id").cast(pl.String).unique().to_list()
    read = pl.col("observed_timestamp").cast(pl.Int64)
    finer = (
        (pl.col("time_resolution_ns") > FINELY)
        & (pl.col("clock_id").cast(pl.String) != pl.col("observed_clock_id").cast(pl.String))
        & pl.col("observed_clock_id").cast(pl.String).is_in(reference)
        & read.is_between(low, high)
    ).fill_null(value=False)
    return pl.when(finer).then(read).otherwise(high), pl.when(finer).then(read).otherwise(best)
