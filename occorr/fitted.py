"""What a verdict's evidence is worth: probabilities fitted on labelled incidents, with the counts that they came from.

`occorr/rules/fitted.csv` holds a row for each rule and each strength it ended with: in how many incidents and closes it
was the last word there, and how often it was right. `make fit` writes the file. A rule that was seen in few incidents
lies near the average of its strength, since one incident proves little; no rule reaches 1.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import resources

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "fitted.csv"
ANY: Final = "*"  # the row of a strength's average
RUNNER_UP: Final = "runner-up"  # the row of how often the runner-up was right where the verdict was wrong
COLUMNS: Final[dict[str, Any]] = {
    "rule": pl.String,
    "verdict": pl.String,
    "incidents": pl.Int64,
    "closes": pl.Int64,
    "share": pl.Float64,
    "probability": pl.Float64,
}
# A guess rides on how frequent causes are, and the labelled incidents were made: what is frequent there need not be so
# with you.
MOST_OF_A_GUESS: Final = 0.6
MOST: Final = 0.995  # of anything: the labelled incidents are fewer than what can happen
SHRINK: Final = 2.0  # a rule's own incidents weigh as much as the average of its strength when there are this many
LAPLACE: Final = 1.0  # right and wrong answers of each strength that are taken as seen before any was


def fit(answers: pl.DataFrame, shrink: float = SHRINK) -> pl.DataFrame:
    """The table of probabilities from answers whose truth is known.

    Args: answers: a row a close: `incident`, `rule` (null: none), `verdict`, `right`, and `runner_up_right` (null: no
    runner-up). shrink: how many incidents the average of a strength counts for.

    Returns: the columns of `COLUMNS`. Each incident counts once for a rule, however many closes it has: they stand or
    fall together.
    """
    known = answers.filter(pl.col("verdict") != "missed").with_columns(pl.col("rule").fill_null(""))
    per = known.group_by("rule", "verdict", "incident").agg(
        pl.len().alias("closes"), pl.col("right").mean().alias("share")
    )
    averages = per.group_by("verdict").agg(
        pl.len().alias("incidents"), pl.col("closes").sum(), pl.col("share").sum().alias("good")
    )
    averages = averages.with_columns(
        ((pl.col("good") + LAPLACE) / (pl.col("incidents") + 2 * LAPLACE)).alias("average")
    )
    rows = (
        per.group_by("rule", "verdict")
        .agg(pl.len().alias("incidents"), pl.col("closes").sum(), pl.col("share").sum().alias("good"))
        .join(averages.select("verdict", "average"), on="verdict", maintain_order="left")
    )
    rows = rows.with_columns(
        ((pl.col("good") + shrink * pl.col("average")) / (pl.col("incidents") + shrink)).alias("probability")
    )
    base = averages.select(
        pl.lit(ANY).alias("rule"), "verdict", "incidents", "closes", "good", pl.col("average").alias("probability")
    )
    rivals = (
        known.filter(~pl.col("right") & pl.col("runner_up_right").is_not_null())
        .group_by("incident")
        .agg(pl.len().alias("closes"), pl.col("runner_up_right").mean().alias("share"))
    )
    good = float(rivals.get_column("share").sum())
    last = pl.DataFrame(
        {
            "rule": [RUNNER_UP],
            "verdict": [""],
            "incidents": [rivals.height],
            "closes": [int(rivals.get_column("closes").sum())],
            "good": [good],
            "probability": [(good + LAPLACE) / (rivals.height + 2 * LAPLACE)],
        }
    )
    every = pl.concat([base, rows.select(base.columns), last], how="vertical_relaxed").with_columns(
        (pl.col("good") / pl.col("incidents")).fill_nan(None).alias("share")
    )
    most = pl.when(pl.col("verdict") == "circumstantial").then(MOST_OF_A_GUESS).otherwise(MOST)
    every = every.with_columns(pl.min_horizontal("probability", most).alias("probability"))
    return every.select(
        pl.col("rule", "verdict"),
        pl.col("incidents", "closes").cast(pl.Int64),
        pl.col("share").round(4),
        pl.col("probability").round(4),
    ).sort((pl.col("rule") != ANY), "rule", "verdict")


def apply(answers: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """The answers with `probability` and `runner_up_probability` by the table.

    Args:
        answers: with `rule`, `verdict` and `runner_up`.
        table: as `fit` makes it.
    """
    own = table.select("rule", "verdict", pl.col("probability").alias("_own"))
    average = table.filter(pl.col("rule") == ANY).select("verdict", pl.col("probability").alias("_average"))
    rival = table.filter(pl.col("rule") == RUNNER_UP).get_column("probability")
    share = float(rival[0]) if rival.len() else 0.5
    rows = answers.with_columns(pl.col("rule").fill_null("").alias("_rule"))
    rows = rows.join(
        own, left_on=["_rule", "verdict"], right_on=["rule", "verdict"], how="left", maintain_order="left"
    ).join(average, on="verdict", how="left", maintain_order="left")
    probability = pl.coalesce("_own", "_average", pl.lit(0.0))
    return rows.with_columns(
        probability.round(3).alias("probability"),
        pl.when(pl.col("runner_up").is_not_null())
        .then(((1 - probability) * share).round(3))
        .alias("runner_up_probability"),
    ).drop("_rule", "_own", "_average")


def read(path: Path) -> pl.DataFrame:
    """A table that `make fit` wrote."""
    return pl.read_csv(path, schema=COLUMNS, comment_prefix="#")


@cache
def builtin() -> pl.DataFrame:
    """The table that comes with occorr."""
    return read(resources.folder("rules") / FILE)
