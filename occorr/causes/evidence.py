"""EVIDENCE: the lines that each finding cites, with their distance from the close."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import schema
from occorr.causes.features import CITED
from occorr.rules import RANK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from occorr.rules import Cause

STRENGTH: Final = {rank: name for name, rank in RANK.items()}


def cite(
    wide: pl.DataFrame,
    findings: pl.DataFrame,
    verdicts: pl.DataFrame,
    episodes: pl.DataFrame,
    events: pl.DataFrame,
    causes: Sequence[Cause],
) -> pl.DataFrame:
    """EVIDENCE: each finding's cited lines; those of other causes contradict."""
    rows = findings.join(
        wide.select(
            "close_id",
            pl.col("timestamp").cast(pl.Int64).alias("t"),
            pl.col("time_earliest").cast(pl.Int64).alias("lo"),
            pl.col("time_latest").cast(pl.Int64).alias("hi"),
            pl.col(list(CITED.values())),
        ),
        on="close_id",
        maintain_order="left",
    )
    keys = ["close_id", "rule", "cause", "rank", "t", "lo", "hi"]
    cites = _cites(causes)
    own = rows.unpivot([*CITED.values()], index=keys, variable_name="cited", value_name="event_id").join(
        cites, on=["rule", "cited"], how="semi"
    )
    of_episode = (
        rows.join(cites.filter(pl.col("cited") == "episode"), on="rule", how="semi")
        .join(episodes.select("episode", pl.col("events").alias("event_id")), on="episode", maintain_order="left")
        .explode("event_id")
    )
    lines = events.select(
        "event_id",
        pl.col("timestamp").cast(pl.Int64).alias("et"),
        pl.col("clock_error_ns").fill_null(0).alias("ee"),
        "log_file_path",
        "log_line",
        pl.col("log_record_original").alias("quote"),
    ).unique("event_id", keep="first")
    out = (
        pl.concat([own.select(*keys, "event_id"), of_episode.select(*keys, "event_id")])
        .drop_nulls("event_id")
        .unique(["close_id", "rule", "event_id"], maintain_order=True)
        .join(lines, on="event_id", maintain_order="left")
    )
    out = out.join(
        verdicts.select("close_id", pl.col("cause").alias("_verdict"), "best_rule"),
        on="close_id",
        maintain_order="left",
    )
    supports = pl.col("cause") == pl.col("_verdict")
    out = out.with_columns(
        pl.when(supports).then(pl.lit("supports")).otherwise(pl.lit("contradicts")).alias("role"),
        pl.col("rank").replace_strict(STRENGTH, return_dtype=pl.String).alias("strength"),
        (pl.col("et") - pl.col("t")).alias("delta_ns"),
        ((pl.col("hi") - pl.col("lo")) // 2 + pl.col("ee")).alias("error_ns"),
    )
    out = out.sort(
        "close_id",
        supports.not_(),
        pl.col("rule") != pl.col("best_rule"),
        pl.col("rank") * -1,
        pl.col("delta_ns").abs(),
        "event_id",
        "rule",
    )
    return schema.conform(out, schema.EVIDENCE)


def _cites(causes: Sequence[Cause]) -> pl.DataFrame:
    """Which of a close's lines each rule cites: rule, cited (the line's column in the features, or `episode`)."""
    pairs = [
        {"rule": rule.id, "cited": CITED.get(name, name)}
        for cause in causes
        for rule in cause.rules
        for name in rule.cites
    ]
    return pl.DataFrame(pairs, schema={"rule": pl.String, "cited": pl.String})
