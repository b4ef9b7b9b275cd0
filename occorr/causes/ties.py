"""Refusals at a proxy whose clock nothing ties to the gateway's: which of them can belong to one cause only, whatever that clock shows.

The shifts at which its refusals fit the gateway's downtimes are what the clock can be (`shifts`). A refusal that lies in
downtimes of one cause at all of them is settled.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from occorr.shifts import EDGE, FARTHEST, Downtimes, shifts

FEWEST: Final = 3  # refusals that fit by chance are too likely below this


def settled(rows: pl.DataFrame, episodes: pl.DataFrame, events: pl.DataFrame) -> list[str]:
    """Ids of the refusals at proxies with unknown clocks that can have one cause only.

    Args:
        rows: closes with features.
        episodes: named episodes.
        events: placed events; the gateway's lines among them bound what downtimes are known of.
    """
    loose = rows.filter((pl.col("p_clock_status") == "assumed") & pl.col("p_t").is_not_null())
    # what waited for an answer may have waited for a gateway that was up
    waited = (pl.col("p_status") == 504) | (pl.col("p_phase") == "awaiting_response")
    to_gateway = pl.col("p_failed") & pl.col("p_to_gateway").fill_null(value=False)
    refused = loose.filter(to_gateway & ~waited.fill_null(value=False))
    down = episodes.filter((pl.col("kind") == "gateway") & (pl.col("cause") != "")).select(
        "cause",
        "covered",
        pl.col("cut_low").alias("low"),
        pl.max_horizontal(pl.coalesce("up", pl.col("cut_high") + FARTHEST), "ready").alias("high"),
        pl.coalesce("up", pl.col("cut_high") + FARTHEST).alias("up"),
    )
    down = down.drop_nulls("low").sort("low")
    if refused.is_empty() or down.is_empty():
        return []
    # before its first line and after its last the gateway may have been down for other reasons, unless the engine tells
    spoken = events.filter(pl.col("source_kind") == "gateway").get_column("timestamp").cast(pl.Int64)
    told = pl.col("p_t").is_between(pl.lit(spoken.min(), pl.Int64), pl.lit(spoken.max(), pl.Int64))
    refused = refused.filter(told | pl.lit(down.get_column("covered").fill_null(value=False).all()))
    spans = Downtimes(*(down.get_column(c).to_numpy() for c in ("low", "low", "up", "high")))
    out: list[str] = []
    for (clock,), lines in refused.partition_by("p_clock", as_dict=True).items():
        times = lines.get_column("p_t").to_numpy()
        if len(times) < FEWEST:
            continue
        opened = loose.filter((pl.col("p_clock") == clock) & pl.col("p_established")).get_column("p_opened")
        # how long a tunnel lasts is no proof: over a broken path it outlives its gateway
        moments = opened.drop_nulls().to_numpy()
        possible = shifts(times, np.column_stack([moments, moments]), spans)
        out += [
            ident
            for ident, at in zip(lines.get_column("close_id").to_list(), times.tolist(), strict=True)
            if len(_causes(at, possible, down)) == 1
        ]
    return out


def _causes(at: int, possible: list[tuple[int, int]], down: pl.DataFrame) -> set[str]:
    """The causes of the downtimes that a refusal may lie in."""
    out: set[str] = set()
    for a, b in possible:
        hit = (pl.col("low") - EDGE <= at + b) & (pl.col("high") + EDGE >= at + a)
        out |= set(down.filter(hit).get_column("cause").to_list())
    return out
