"""What a service manager tells of the gateway's own unit, in the engine's words: that its process ended, was killed for memory, or was to end.

A unit of that name need not be this gateway: the gateway may run in a container, the journal be another host's, the unit be
the second of two. So only a journal that holds the gateway's own lines is read, and an end that one process of the gateway
wrote through is none of it.
"""

from __future__ import annotations

from typing import Final, Literal

import polars as pl

from occorr import schema
from occorr.schema import SECOND
from occorr.scope import BEGINS

UNIT: Final = r"(?i)^(?:openclaw|clawdbot|moltbot)(?:-gateway)?(?:@[\w.-]+)?\.service$"
# A clean exit is told by the second alone, a stop for a child's OOM kill by the third.
ENDS: Final = ("unit.exited", "unit.stopped", "unit.failed")
ENGINE: Final = {  # what an engine would have called it; whoever asked for an end, it did not come by itself
    **dict.fromkeys(ENDS, "container.die"),
    **dict.fromkeys(("unit.stopping", "unit.killed", "unit.timeout"), "container.kill"),
    "unit.oom": "container.oom",
    "unit.watchdog": "container.health_status",
}
STOPPED: Final = 30 * SECOND  # an exit is told again when the unit is started anew
AT_ONCE: Final = 2 * SECOND  # two stamps of whole seconds that are one moment's
KILL: Final = 9


def services(events: pl.DataFrame) -> pl.DataFrame:
    """The events, and beside them those of the gateway's unit as if an engine had told them of a container of that name.

    A journal stamps whole seconds: each stands in the middle of the time that it may mean, which is its error. What was
    killed by a signal has no exit code, since no line tells who sent it; but for SIGKILL. The OOM killer's work is told of
    any process of the unit, and counts where the main one died of SIGKILL with it or the unit was stopped for it. A
    watchdog that heard nothing is a health check that failed.

    Args:
        events: placed events with `role` and `instance`.
    """
    gateway = events.filter(pl.col("source_kind") == "gateway")
    whose = gateway.get_column("instance").drop_nulls().unique()
    contained = (pl.col("role") == "gateway") | (pl.col("source_kind") == "gateway") & pl.col(
        "container_id"
    ).is_not_null()
    if "systemd_unit" not in events.columns or whose.len() != 1 or events.select(contained.any()).item():
        return events
    files = gateway.get_column("log_file_path").unique()
    low, high = (pl.col(c).cast(pl.Int64) for c in ("time_earliest", "time_latest"))
    told = events.filter(
        pl.col("event_name").cast(pl.String).is_in(list(ENGINE))
        & ((pl.col("event_name") != "unit.failed") | pl.col("unit_result").is_not_null())
        & pl.col("timestamp").is_not_null()
        & pl.col("systemd_unit").str.contains(UNIT)
        & pl.col("log_file_path").is_in(files.implode())
    )
    placed = told.with_columns((low + (high - low) // 2).alias("t"), ((high - low) // 2).alias("clock_error_ns"))
    name = pl.col("event_name").cast(pl.String)
    told = _once(_survived(placed.sort("t"), gateway), gateway).with_columns(
        name.replace(ENGINE).alias("event_name"),
        pl.when(name == "unit.stopping").then(pl.lit("SIGTERM")).otherwise("signal").alias("signal"),
        pl.when(name == "unit.watchdog").then(pl.lit("unhealthy")).otherwise("health_status").alias("health_status"),
        # what the end came from was before it in that second
        pl.when(name == "unit.watchdog").then(low).otherwise("t").cast(schema.TS).alias("timestamp"),
        pl.when(pl.col("unit_code") == "exited")
        .then("unit_status")
        .when(pl.col("unit_status") == KILL)
        .then(pl.lit(128 + KILL))
        .alias("container_exit_code"),
        pl.col("systemd_unit").alias("container_id"),
        pl.lit("gateway").alias("role"),
        pl.lit(whose.item()).alias("instance"),
    )
    return pl.concat([events, told.select(events.columns)], how="vertical_relaxed") if told.height else events


def _survived(told: pl.DataFrame, gateway: pl.DataFrame) -> pl.DataFrame:
    """Without the ends that one process of the gateway wrote through: it has one number before and after, or else none began between."""
    written = gateway.filter(pl.col("timestamp").is_not_null()).sort("timestamp")
    lines = written.select(
        pl.col("timestamp").cast(pl.Int64).alias("line"),
        pl.col("process_pid").alias("pid"),
        pl.col("event_name").is_in(BEGINS).cum_sum().alias("life"),
    )
    margin = pl.col("clock_error_ns") + AT_ONCE
    before = _beside(told, lines, pl.col("t") - margin, "backward")
    after = _beside(told, lines, pl.col("t") + margin, "forward")
    same = (before.get_column("pid") == after.get_column("pid")).fill_null(
        before.get_column("life") == after.get_column("life")
    )
    return told.filter(~(pl.col("event_name").is_in(ENDS) & pl.lit(same.fill_null(value=False))))


def _once(told: pl.DataFrame, gateway: pl.DataFrame) -> pl.DataFrame:
    """Each end once, by the line that tells its status; an OOM kill only with the main process's death of SIGKILL, or the stop for it."""
    what, t = pl.col("event_name"), told.get_column("t")
    exits = told.filter(what == "unit.exited").select(pl.col("t").alias("line"), "unit_status")
    stops = told.filter(pl.col("unit_result") == "oom-kill").select(pl.col("t").alias("line"))
    after = _beside(told, exits, pl.col("t"), "forward")
    with_it = (after.get_column("line") - t <= AT_ONCE) & (after.get_column("unit_status") == KILL)
    for_it = _beside(told, stops, pl.col("t"), "forward").get_column("line") - t <= STOPPED
    kept = told.filter((what != "unit.oom") | pl.lit(with_it.fill_null(value=False) | for_it.fill_null(value=False)))
    # of one process: no other one of the gateway began since
    begins = gateway.filter(what.is_in(BEGINS) & pl.col("timestamp").is_not_null())
    ends = kept.filter(what.is_in(ENDS))
    life = _beside(ends, begins.select(pl.col("timestamp").cast(pl.Int64).alias("line")), pl.col("t"), "backward")
    same = life.get_column("line").eq_missing(life.get_column("line").shift(1))
    again = (pl.col("t") - pl.col("t").shift(1) <= STOPPED) & (what != "unit.exited") & pl.lit(same)
    told_again = ends.filter(again.fill_null(value=False)).get_column("event_id")
    return kept.filter(~pl.col("event_id").is_in(told_again.implode()))


def _beside(
    told: pl.DataFrame, lines: pl.DataFrame, at: pl.Expr, strategy: Literal["backward", "forward"]
) -> pl.DataFrame:
    """The last of some lines before a moment of each row, or the first after it; rows in their order, sorted by time."""
    moments = told.select(at.alias("at"))
    return moments.join_asof(
        lines.sort("line"), left_on="at", right_on="line", strategy=strategy, coalesce=False, check_sortedness=False
    )


def watched(events: pl.DataFrame) -> tuple[int, int] | None:
    """From when to when a service manager's words of the gateway's unit would be among the events, ns: while their file has lines."""
    own = events.filter((pl.col("role") == "gateway") & pl.col("container_id").cast(pl.String).str.contains(UNIT))
    beside = events.filter(pl.col("log_file_path").is_in(own.get_column("log_file_path").unique().implode()))
    seen = beside.get_column("timestamp").drop_nulls().cast(pl.Int64).sort()
    return (int(seen[0]), int(seen[-1])) if seen.len() else None
