"""Which closes are alike: those that ended at one moment, lasted as long, or left together, and what outlived them."""

from __future__ import annotations

from typing import Final

import polars as pl

from occorr.schema import MS, SECOND

AT_ONCE: Final = 10 * MS  # ends that lie nearer together were cut by one hand
BREATH: Final = 40 * MS  # … and a busy gateway's lines of them lie within this (33 ms measured)
ALIKE: Final = 60 * MS  # durations that differ by less are one limit's
ABOUT: Final = 20 * ALIKE  # durations among which those of a limit stand out


def company(rows: pl.DataFrame) -> pl.DataFrame:
    """The closes with how many were like each: same_moment, same_breath, same_length, lost_together, gone_together, gone_after, others_invalid, outlived.

    Args:
        rows: closes with the words of their observers (`features`).
    """
    ends = rows.select("close_id", pl.coalesce("p_t", "g_t").alias("t")).drop_nulls()
    cut = (
        pl.col("p_established")
        & pl.col("p_duration").is_not_null()
        & pl.col("code_gateway").is_in([1006], nulls_equal=False).fill_null(value=True)
        & (pl.col("p_duration") > 2 * SECOND)
    ).fill_null(value=False)
    lasted_alike = rows.filter(cut).select("close_id", pl.col("p_duration").alias("t"))
    took = pl.coalesce("p_duration", pl.col("g_t") - pl.col("g_opened"))
    lost = rows.filter(pl.col("code_gateway") == 1006).select("close_id", pl.col("g_t").alias("t")).drop_nulls()
    # by whom the gateway saw: the clients of one proxy have its address
    left = rows.filter((pl.col("code_gateway") == 1001) & pl.col("g_t").is_not_null())
    politely = left.filter(took > 2 * SECOND).select("close_id", took.alias("t"), pl.col("g_remote").alias("by"))
    peers = left.select("close_id", pl.col("g_t").alias("t"), pl.col("g_remote").alias("by"))
    # a code is a client's own word, too: several clients have it from the gateway
    invalid = rows.filter((pl.col("code_gateway") == 4001) & pl.col("g_t").is_not_null())
    whose = pl.coalesce("p_client", "g_forwarded", "g_remote")
    all_invalid = invalid.select("close_id", pl.col("g_t").alias("t"))
    own_invalid = invalid.select("close_id", pl.col("g_t").alias("t"), whose.alias("by"))
    for name, which, reach in (
        ("same_moment", ends, AT_ONCE),
        ("same_breath", ends, BREATH),
        ("same_length", lasted_alike, ALIKE),
        ("_about", lasted_alike, ABOUT),
        ("gone_after", politely, ALIKE),
        ("_politely", politely, ABOUT),
        ("lost_together", lost, BREATH),
        ("gone_together", peers, BREATH),
        ("_invalid", all_invalid, SECOND),
        ("_own", own_invalid, SECOND),
    ):
        rows = rows.join(_alike(which, reach, name), on="close_id", how="left", maintain_order="left")
    # of many that ended some time or other, three last alike by chance; a timer's stand out among those that lasted about as long
    rows = rows.with_columns(
        *(
            pl.when((2 * pl.col(alike) >= pl.col(about)).fill_null(value=True)).then(alike).otherwise(1).alias(alike)
            for alike, about in (("same_length", "_about"), ("gone_after", "_politely"))
        ),
        (pl.col("_invalid") - pl.col("_own")).alias("others_invalid"),
    ).drop("_about", "_politely", "_invalid", "_own")
    return rows.join(_outlived(rows), on="close_id", how="left", maintain_order="left")


def _alike(frame: pl.DataFrame, reach: int, name: str) -> pl.DataFrame:
    """How many rows, itself included, have a `t` within `reach` of each row's, and its `by` if there is one: close_id, and the count under `name`."""
    of = pl.col("by").fill_null("") if "by" in frame.columns else pl.lit("")
    whole = frame.with_columns(of.alias("by")).sort("by", "t")
    counts = whole.rolling(
        index_column="t", period=f"{2 * reach}i", offset=f"-{reach}i", closed="both", group_by="by"
    ).agg(pl.len().cast(pl.Int64).alias(name))
    return whole.select("close_id").with_columns(counts.get_column(name))


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
