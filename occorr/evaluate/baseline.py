"""What a lookup table would answer: the majority cause of each close code and HTTP status, learnt on the other incidents."""

from __future__ import annotations

from typing import Final

import polars as pl

_KEY: Final = ("code", "status")


def baseline(answers: pl.DataFrame) -> pl.DataFrame:
    """The same answers given by the lookup, leaving the incident that is asked about out of what it learns from.

    It is told the code and status that the client received, which is more than most logs hold. A pair that it has never
    seen gets the most frequent cause of all. Its probability is the cause's share; it is never decisive.

    Args:
        answers: rows of `figures.answers`.
    """
    parts = [
        _answered(one, answers.filter(pl.col("incident") != name))
        for (name,), one in answers.partition_by("incident", maintain_order=True, as_dict=True).items()
    ]
    return pl.concat(parts) if parts else answers


def _answered(asked: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """What the causes of `known` closes say of others; ties go to the first name."""
    table = known.group_by(*_KEY, "cause").len().sort("len", "cause", descending=[True, False])
    best = table.with_columns((pl.col("len") / pl.col("len").sum().over(*_KEY)).alias("share")).unique(
        list(_KEY), keep="first", maintain_order=True
    )
    common = known.group_by("cause").len().sort("len", "cause", descending=[True, False]).head(1)
    fallback, rate = (
        (common.item(0, "cause"), common.item(0, "len") / known.height) if known.height else ("unknown.unknown", 0.0)
    )
    said, share = pl.col("answer").fill_null(fallback), pl.col("share").fill_null(rate)
    rows = asked.join(
        best.select(*_KEY, pl.col("cause").alias("answer"), "share"),
        on=list(_KEY),
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    # an accepted cause counts for the baseline where it counts for the verdict
    right = (said == pl.col("cause")) | (said == pl.col("truth"))
    return rows.with_columns(
        said.alias("said"),
        pl.when(right).then(said).otherwise("cause").alias("truth"),
        share.alias("probability"),
        pl.lit(None, pl.String).alias("runner_up"),
        pl.lit(None, pl.Float64).alias("runner_up_probability"),
        pl.lit(None, pl.String).alias("rule"),
        pl.lit(None, pl.Boolean).alias("runner_up_right"),
        right.alias("right"),
        (said.str.extract(r"^([^.]+)", 1) == pl.col("cause").str.extract(r"^([^.]+)", 1)).alias("family_right"),
        pl.lit(value=False).alias("decisive"),
        pl.lit("supported").alias("verdict"),
        (right | (share <= 0.6)).alias("humble"),
    ).select(asked.columns)
