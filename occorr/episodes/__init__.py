"""Downtimes of the gateway and of proxies, freezes and partitions: what happened to a path, before any close is blamed on it.

An episode has the interval in which open connections were cut (`cut_low` to `cut_high`), the time until new ones were
taken again (`up`), the features that rules read to name its cause, and the events that show it.
"""

from __future__ import annotations

import polars as pl

from occorr import scope
from occorr.episodes.downtimes import READ, downtimes
from occorr.episodes.interruptions import interruptions
from occorr.episodes.proxies import proxies
from occorr.episodes.table import SHAPE, coverage


def episodes(events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """All episodes, in order of time; times in ns on the reference clock.

    Args:
        events: placed events with `role`.
        facts: FACTS.
    """
    covered = coverage(events, facts)
    events = events if "instance" in events.columns else events.with_columns(pl.lit("").alias("instance"))
    found = [*proxies(events, covered), *interruptions(events)]
    beside = scope.one_offs(events).select("a", "b").rows()
    gateways = events.select(READ).drop_nulls("instance").partition_by("instance", as_dict=True)
    for (name,), own in sorted(gateways.items()):
        found += [
            {
                **row,
                "instance": name,
                "beside": (
                    sum(low <= row["cut_high"] and until >= row["cut_low"] for low, until in beside)
                    if row["cut_low"] is not None
                    else 0
                ),
            }
            for row in downtimes(own, facts, covered, alone=len(gateways) == 1)
        ]
    rows = pl.DataFrame(found, schema=SHAPE, orient="row") if found else pl.DataFrame(schema=SHAPE)
    return rows.sort("cut_low", "kind").with_columns(pl.format("e{}", pl.int_range(pl.len())).alias("episode"))


__all__ = ["coverage", "episodes"]
