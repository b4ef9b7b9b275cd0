"""Which closes are alike: those that ended at one moment, lasted as long, or left together, and what outlived them."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

SECOND: Final = 1_000_000_000
MS: Final = 1_000_000
AT_ONCE: Final = 10 * MS  # ends that lie nearer together were cut by one hand
BREATH: Final = 40 * MS  # … and a busy gateway's lines of them lie within this (33 ms measured)
ALIKE: Final = 60 * MS  # durations that differ by less are one limit's
ABOUT: Final = 20 * ALIKE


def company(rows: pl.DataFrame) -> pl.DataFrame:
    """The closes with how many of them were like each: same_moment, same_breath, same_length, lost_together, gone_together, same_words, outlived.

    Args:
        rows: closes with the words of their observers (`features`).
    """
    ends = rows.select("close_id", pl.coalesce("p_t", "g_t").alias("t")).drop_nulls().sort("t")
    cut = (
        pl.col("p_established")
        & pl.col("p_duration").is_not_null()
        & pl.col("code_gateway").is_in([1006], nulls_equal=False).fill_null(value=True)
        & (pl.col("p_duration") > 2 * SECOND)
    ).fill_null(value=False)
    lasted_alike = rows.filter(cut).select("close_id", pl.col("p_duration").alias("t"))
    lost = rows.filter(pl.col("code_gateway") == 1006).select("close_id", pl.col("g_t").alias("t")).drop_nulls()
    # by whom the gateway saw: the clients of one proxy have its address
    left = rows.filter((pl.col("code_gateway") == 1001) & pl.col("g_t").is_not_null())
    peers = left.select("close_id", pl.col("g_t").alias("t"), pl.col("g_remote").alias("by"))
    said = rows.filter(pl.col("code_gateway").is_not_null() & pl.col("g_t").is_not_null())
    words = said.select(
        "close_id",
        pl.col("g_t").alias("t"),
        pl.format("{} {}", "code_gateway", pl.col("g_reason").fill_null("")).alias("by"),
    )
    for name, which, reach in (
        ("same_moment", ends, AT_ONCE),
        ("same_breath", ends, BREATH),
        ("same_length", lasted_alike, ALIKE),
        ("_about", lasted_alike, ABOUT),
        ("lost_together", lost, BREATH),
        ("gone_together", peers, BREATH),
        ("same_words", words, SECOND),
    ):
        rows = rows.join(_alike(which, reach, name), on="close_id", how="left", maintain_order="left")
    # of many that ended some time or other, three last alike by chance; a timer's stand out among those that lasted about as long
    stands_out = 2 * pl.col("same_length") >= pl.col("_about")
    rows = rows.with_columns(pl.when(stands_out).then("same_length").otherwise(1).alias("same_length")).drop("_about")
    return rows.join(_outlived(rows), on="close_id", how="left", maintain_order="left")


def _alike(frame: pl.DataFrame, reach: int, name: str) -> pl.DataFrame:
    """How many rows, itself included, have a `t` within `reach` of each row's, and its `by` if there is one: close_id, and the count under `name`."""

    def counted(own: pl.DataFrame) -> pl.DataFrame:
        own = own.sort("t")
        at = own.get_column("t").to_numpy()
        count = np.searchsorted(at, at + reach, side="right") - np.searchsorted(at, at - reach, side="left")
        return own.select("close_id", pl.Series(name, count, dtype=pl.Int64))

    groups = frame.partition_by("by") if "by" in frame.columns else [frame]
    return pl.concat([counted(own) for own in groups or [frame]])


def _outlived(rows: pl.DataFrame) -> pl.DataFrame:
    """Whether an older connection through the same proxy surely stayed for a second after each close: close_id, outlived.

    What ends connections at a proxy, as a reload does, may spare those that came later.
    """
    known = rows.filter(pl.col("via") == "proxy").select(
        "close_id",
        "p_clock",
        pl.col("opened").cast(pl.Int64),
        pl.col("time_earliest").cast(pl.Int64).alias("lo"),
        pl.col("time_latest").cast(pl.Int64).alias("hi"),
    )
    known = known.drop_nulls().sort("p_clock", "opened", "close_id")
    stayed = pl.col("lo").cum_max().over("p_clock") > pl.col("hi") + SECOND
    return known.select("close_id", stayed.alias("outlived"))
