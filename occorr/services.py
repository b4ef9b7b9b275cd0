"""What a service manager tells of the gateway's own unit, in the engine's words: that its process ended, or was killed for memory."""

from __future__ import annotations

from typing import Final

import polars as pl

from occorr import schema

UNIT: Final = r"(?i)^(?:[\w-]+[.@-])*(?:openclaw|clawdbot|moltbot)(?:[.@-](?:gateway|server)[\w@.-]*)?\.service$"
WORDS: Final = {
    "unit.exited": "container.die",
    "unit.stopped": "container.die",  # a clean exit is told by no other line
    "unit.oom": "container.oom",
}


def services(events: pl.DataFrame) -> pl.DataFrame:
    """The events, and beside them those of the gateway's unit as if an engine had told them of a container of that name.

    A journal stamps whole seconds: each stands in the middle of the time that it may mean, which is its error. Where there
    are several gateways nobody says whose the unit is.

    Args:
        events: placed events with `role` and `instance`.
    """
    whose = events.filter(pl.col("source_kind") == "gateway").get_column("instance").drop_nulls().unique()
    if "systemd_unit" not in events.columns or whose.len() != 1:
        return events
    low, high = (pl.col(c).cast(pl.Int64) for c in ("time_earliest", "time_latest"))
    told = events.filter(
        pl.col("event_name").is_in(list(WORDS))
        & pl.col("timestamp").is_not_null()
        & pl.col("systemd_unit").str.contains(UNIT)
    ).with_columns(
        pl.col("event_name").cast(pl.String).replace(WORDS),
        (low + (high - low) // 2).cast(schema.TS).alias("timestamp"),
        ((high - low) // 2).alias("clock_error_ns"),
        (pl.col("unit_status") + pl.when(pl.col("unit_code") == "exited").then(0).otherwise(128)).alias(
            "container_exit_code"
        ),
        pl.col("systemd_unit").alias("container_id"),
        pl.lit("gateway").alias("role"),
        pl.lit(whose.item()).alias("instance"),
    )
    return pl.concat([events, told], how="vertical_relaxed") if told.height else events


def watched(events: pl.DataFrame) -> tuple[int, int] | None:
    """From when to when a service manager's words of the gateway's unit would be among the events, ns: while their file has lines."""
    own = events.filter((pl.col("role") == "gateway") & pl.col("container_id").cast(pl.String).str.contains(UNIT))
    beside = events.filter(pl.col("log_file_path").is_in(own.get_column("log_file_path").unique().implode()))
    seen = beside.get_column("timestamp").drop_nulls().cast(pl.Int64).sort()
    return (int(seen[0]), int(seen[-1])) if seen.len() else None
