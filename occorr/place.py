"""Puts events on the one time axis: aligned stamp, and the interval that resolution and clock error leave open."""

from __future__ import annotations

from typing import Final

import polars as pl

from occorr import schema

MS: Final = 1_000_000


def place(events: pl.DataFrame, clocks: pl.DataFrame) -> pl.DataFrame:
    """Fills the aligned columns and sorts.

    A stamp truncated to its resolution r and written by a clock with offset o ± e stands for [t − o − e, t + r − o + e).
    Lines of a recorded CLI run have no stamp; they lie between the recorder's two.

    Args:
        events: events with `clock_id` and `timestamp_raw` in UTC.
        clocks: CLOCKS.
    """
    known = clocks.select("clock_id", pl.col("offset_ns").alias("clock_offset_ns"), pl.col("error_ns").alias("clock_error_ns"), pl.col("status").alias("clock_status"))
    have = [c for c in ("clock_offset_ns", "clock_error_ns", "clock_status") if c in events.columns]
    events = events.drop(have).join(known, on="clock_id", how="left", maintain_order="left")
    raw = pl.col("timestamp_raw").cast(pl.Int64) - pl.col("clock_offset_ns").fill_null(0)
    error = pl.col("clock_error_ns").fill_null(0)
    recorded = pl.col("recorded_start").is_not_null() & pl.col("timestamp_raw").is_null()
    slack = pl.col("zone_slack_ns").fill_null(0) if "zone_slack_ns" in events.columns else pl.lit(0, pl.Int64)
    status = pl.when(pl.col("zone_assumed") & (pl.col("clock_status") == "reference")).then(pl.lit("assumed")).otherwise("clock_status") if "zone_assumed" in events.columns else pl.col("clock_status")
    low = pl.when(recorded).then(pl.col("recorded_start") * MS - error).otherwise(raw - error)
    high = pl.when(recorded).then(pl.col("recorded_end") * MS + MS + error).otherwise(raw + pl.col("time_resolution_ns").fill_null(1) + slack + error)
    # A recorder writes its two stamps around the whole run: what the run prints comes at its end, give or take the exit.
    best = pl.when(recorded).then(pl.col("recorded_end") * MS).otherwise(raw)
    return events.with_columns(
        best.cast(schema.TS).alias("timestamp"), low.cast(schema.TS).alias("time_earliest"), high.cast(schema.TS).alias("time_latest"), status.alias("clock_status")
    ).sort("timestamp", "log_file_path", "log_line", nulls_last=True)
