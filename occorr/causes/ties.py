"""Refusals at a proxy whose clock nothing ties to the gateway's: which of them can belong to one cause only, whatever that clock shows.

A proxy refuses while the gateway is down and opens tunnels while it is up. However wrong its clock is, the same shift
holds for all of its lines: the shifts at which its refusals fall into downtimes, and no tunnel opens in one, are what
the clock can be. A refusal that lies in downtimes of one cause at all of them is settled.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

SECOND: Final = 1_000_000_000
FEWEST: Final = 3  # refusals that fit by chance are too likely below this
MOST: Final = 64  # lines of a proxy that are tried
FARTHEST: Final = 3600 * SECOND  # logs that were collected together overlap
NEARLY_ALL: Final = 0.9  # a proxy goes on refusing for a while when the gateway is back (Apache: 60 s)
EDGE: Final = 2 * SECOND  # a refusal may come so much before the cut or after the gateway listens
OPENS: Final = 3 * SECOND  # from a tunnel's request to its opening, and whole seconds


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
    out: list[str] = []
    for (clock,), lines in refused.partition_by("p_clock", as_dict=True).items():
        times = lines.get_column("p_t").to_numpy()
        if len(times) < FEWEST:
            continue
        opened = loose.filter((pl.col("p_clock") == clock) & pl.col("p_established")).get_column("p_opened")
        shifts = _shifts(_some(times), _some(opened.drop_nulls().to_numpy()), down)
        out += [
            ident
            for ident, at in zip(lines.get_column("close_id").to_list(), times.tolist(), strict=True)
            if len(_causes(at, shifts, down)) == 1
        ]
    return out


def _some(times: np.ndarray) -> np.ndarray:
    """At most `MOST` of the moments, the first and the last among them: with fewer, more shifts are possible, never less."""
    return times[np.unique(np.linspace(0, len(times) - 1, MOST).astype(int))] if len(times) > MOST else times


def _shifts(refused: np.ndarray, opened: np.ndarray, down: pl.DataFrame) -> list[tuple[int, int]]:
    """The intervals of shifts, ns to add to the proxy's stamps, at which the refusals lie in downtimes and no opening does."""
    low, high, up = (down.get_column(c).to_numpy() for c in ("low", "high", "up"))
    begins = (low[None, :] - EDGE - refused[:, None]).ravel()
    ends = (high[None, :] + EDGE - refused[:, None]).ravel()
    shut_low = (low[None, :] + OPENS - opened[:, None]).ravel()
    shut_high = (up[None, :] - OPENS - opened[:, None]).ravel()
    # between two of these points nothing changes
    points = np.unique(np.concatenate([begins, ends, shut_low, shut_high, [-FARTHEST, FARTHEST]]))
    points = points[(points >= -FARTHEST) & (points <= FARTHEST)]
    out: list[tuple[int, int]] = []
    for a, b in zip(points[:-1].tolist(), points[1:].tolist(), strict=True):
        middle = (a + b) // 2
        inside = ((refused[:, None] + middle >= low - EDGE) & (refused[:, None] + middle <= high + EDGE)).any(axis=1)
        if inside.mean() < NEARLY_ALL:
            continue
        shut = (opened[:, None] + middle >= low + OPENS) & (opened[:, None] + middle <= up - OPENS)
        if not shut.any():
            out.append((a, b))
    return out


def _causes(at: int, shifts: list[tuple[int, int]], down: pl.DataFrame) -> set[str]:
    """The causes of the downtimes that a refusal may lie in."""
    out: set[str] = set()
    for a, b in shifts:
        hit = (pl.col("low") - EDGE <= at + b) & (pl.col("high") + EDGE >= at + a)
        out |= set(down.filter(hit).get_column("cause").to_list())
    return out
