"""EVIDENCE: the lines that each finding cites, with their distance from the close."""

from __future__ import annotations

from typing import Final

import polars as pl

from occorr import schema
from occorr.causes.features import CITED
from occorr.rules import RANK

STRENGTH: Final = {rank: name for name, rank in RANK.items()}


def cite(
    wide: pl.DataFrame, findings: pl.DataFrame, verdicts: pl.DataFrame, episodes: pl.DataFrame, events: pl.DataFrame
) -> pl.DataFrame:
    """EVIDENCE: each finding's cited lines; those of other causes contradict."""
    cites = _cites()
    rows = findings.join(
        wide.select(
            "close_id",
            pl.col("timestamp").cast(pl.Int64).alias("t"),
            pl.col("time_earliest").cast(pl.Int64).alias("lo"),
            pl.col("time_latest").cast(pl.Int64).alias("hi"),
            *dict.fromkeys(CITED.values()),
        ),
        on="close_id",
    )
    parts = []
    for name, column in CITED.items():
        ids = [rule for rule, names in cites.items() if name in names]
        parts.append(
            rows.filter(pl.col("rule").is_in(ids)).select(
                "close_id", "rule", "cause", "rank", "t", "lo", "hi", pl.col(column).alias("event_id")
            )
        )
    told = [rule for rule, names in cites.items() if "episode" in names]
    of_episode = (
        rows.filter(pl.col("rule").is_in(told) & pl.col("episode").is_not_null())
        .join(episodes.select("episode", "events"), on="episode")
        .explode("events")
    )
    parts.append(
        of_episode.select("close_id", "rule", "cause", "rank", "t", "lo", "hi", pl.col("events").alias("event_id"))
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
        pl.concat(parts)
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
    )
    return schema.conform(out, schema.EVIDENCE)


def _cites() -> dict[str, tuple[str, ...]]:
    from occorr import rules  # noqa: PLC0415 - the built-in rules are read once, on first use

    return {rule.id: rule.cites for cause in rules.builtin() for rule in cause.rules}
