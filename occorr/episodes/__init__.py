"""Downtimes of the gateway and of proxies, freezes and partitions: what happened to a path, before any close is blamed on it.

An episode has the interval in which open connections were cut (`cut_low` to `cut_high`), the time until new ones were
taken again (`up`), the features that rules read to name its cause, and the events that show it.
"""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from occorr import instances, scope
from occorr.episodes.downtimes import READ, REPLACED, downtimes
from occorr.episodes.interruptions import interruptions
from occorr.episodes.proxies import proxies
from occorr.episodes.table import SHAPE, coverage
from occorr.schema import SECOND
from occorr.services import watched

NEAR: Final = 60 * SECOND
FOLLOWS: Final = 3 * SECOND  # what a deploy does after a stop comes within a second


def episodes(events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """All episodes, in order of time; times in ns on the reference clock.

    Args:
        events: placed events with `role`.
        facts: FACTS.
    """
    engine = coverage(events, facts)
    covered = engine or watched(events)
    events = events if "instance" in events.columns else events.with_columns(pl.lit("").alias("instance"))
    found = [*proxies(events, engine), *interruptions(events)]
    beside = instances.one_offs(events).select("a", "b").rows()
    gateways = events.select(READ).drop_nulls("instance").partition_by("instance", as_dict=True)
    kernel = events.filter(pl.col("event_name").is_in(["kernel.oom", "kernel.oom_cgroup"]))
    begun = scope.begun(events)
    told = events.filter(pl.col("source_kind") == "docker").get_column("timestamp").cast(pl.Int64).max()
    heard = told if isinstance(told, int) else 0
    gone = {
        name: downtimes(own, facts, covered, kernel, alone=len(gateways) == 1)
        for (name,), own in sorted(gateways.items())
    }
    for name, rows in gone.items():
        for row in rows:
            row["instance"] = name
            # … or it was heard for long enough, of whatever container, to have told of who takes its place
            row["again"] = row["again"] or heard - row["cut_high"] >= FOLLOWS
            row["elsewhere"] = _elsewhere(row, begun)
            row["beside"] = sum(low <= row["cut_high"] and until >= row["cut_low"] for low, until in beside)
            row["rivals"] = sum(
                _ran(gateways[other,], gone[other], gateways[name,], row["clash"]) for other in gone if other != name
            )
        found += rows
    table = pl.DataFrame(found, schema=SHAPE, orient="row") if found else pl.DataFrame(schema=SHAPE)
    return table.sort("cut_low", "kind", "instance").with_columns(
        pl.format("e{}", pl.int_range(pl.len())).alias("episode")
    )


def _elsewhere(row: dict[str, Any], begun: pl.DataFrame) -> bool:
    """Whether another container of the gateway's image began near the end of one, which did not begin again."""
    if row["container_id"] is None:
        return False
    near = begun.filter(pl.col("t").is_between(row["cut_low"] - REPLACED, row["cut_high"] + REPLACED))
    own = pl.col("container_id") == row["container_id"]
    project = pl.lit(row["project"], pl.String)
    stranger = (pl.col("compose_project") != project).fill_null(value=False)  # another project's takes nobody's place
    again = near.filter(own & (pl.col("t") > row["cut_low"])).height > 0
    return near.filter(~own & ~stranger).height > 0 and not again


def _ran(other: pl.DataFrame, gone: list[dict[str, Any]], own: pl.DataFrame, moment: int | None) -> bool:
    """Whether another gateway that writes a log of this one's ran at a moment: it wrote just before and after, and did not end between."""
    files = own.get_column("log_file_path").unique()
    t = other.filter((pl.col("source_kind") == "gateway") & pl.col("timestamp").is_not_null())
    if moment is None or t.filter(pl.col("log_file_path").is_in(files.implode())).is_empty():
        return False
    lines = t.get_column("timestamp").cast(pl.Int64)
    before, after = (lines.is_between(*span).any() for span in ((moment - NEAR, moment), (moment, moment + NEAR)))
    ended = any(row["cut_low"] <= moment <= (row["up"] or 1 << 62) for row in gone)
    return before and after and not ended


__all__ = ["coverage", "episodes"]
