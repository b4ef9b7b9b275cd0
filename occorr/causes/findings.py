"""Runs the rules: which of them speak for a close or name an episode, and whether the bounds leave doubt of it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl

from occorr.episodes.table import CITED
from occorr.rules import EPISODE, RANK
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from occorr.rules import Cause, Relation, Rule


@cache
def _holds(when: str) -> pl.Expr:
    """Where a condition holds; one over something unknown does not."""
    return pl.sql_expr(when).fill_null(value=False) if when else pl.lit(value=True)


def name_episodes(episodes: pl.DataFrame, causes: Sequence[Cause]) -> pl.DataFrame:
    """Adds `cause`, `rank`, `rule` and `told` (the sentence) to each episode: the strongest rule that holds."""
    rules = [rule for cause in causes for rule in cause.episodes]
    strongest = sorted(rules, key=lambda rule: -RANK[rule.strength])  # stable: of equals the first
    words = pl.Struct({"cause": pl.String, "rank": pl.Int32, "rule": pl.String, "told": pl.String})
    nothing = {"cause": "", "rank": 0, "rule": "", "told": ""}
    said = [{"cause": r.cause, "rank": RANK[r.strength], "rule": r.id, "told": r.sentence} for r in strongest]
    which = pl.coalesce(
        *(pl.when(_holds(rule.when)).then(index) for index, rule in enumerate(strongest)), pl.lit(len(said))
    )
    told = pl.Series("said", [*said, nothing], dtype=words).gather(episodes.select(which).to_series())
    named = _with_failed_starts(episodes.hstack(told.struct.unnest()))
    # what comes next has the same cause: then it does not matter which of them it was
    alike = (pl.col("cause") == pl.col("cause").shift(-1)).over("kind", "instance").fill_null(value=False)
    return named.with_columns(pl.when(~alike).then("surely").alias("surely"))


def _with_failed_starts(named: pl.DataFrame) -> pl.DataFrame:
    """Episodes in which the first start after a downtime, where it failed without a cause of its own, belongs to that downtime.

    What stopped the gateway began the outage, and one start that failed made it longer. A second failure is a fault of
    its own, unless what was stopped had left its state held. Which of the two kept a client out, no line says: such an
    episode is not decisive.
    """
    rows = named.to_dicts()
    last: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["kind"] != "gateway":
            continue
        before = last.get(row["instance"])
        last[row["instance"]] = row
        failed = not row["listened"] and row["rank"] <= RANK["circumstantial"]
        if not (failed and before and before["cause"] and before["up"] == row["cut_low"]):
            continue
        if before["listened"] or (before["left"] and row["left"]):
            row.update(cause=before["cause"], rule=before["rule"], told=before["told"])
            row.update(rank=min(before["rank"], RANK["supporting"]), events=[*before["events"], *row["events"]][:CITED])
    return pl.DataFrame(rows, schema=named.schema)


def find(wide: pl.DataFrame, episodes: pl.DataFrame, causes: Sequence[Cause]) -> pl.DataFrame:
    """One row a rule that speaks for a close: close_id, rule, cause, rank, priority, certain, episode."""
    rules = [rule for cause in causes for rule in cause.rules]
    # all conditions in one pass, and then only what a relation needs: the frame is wide, and few rules hold
    holds = wide.select(_holds(rule.when).alias(str(index)) for index, rule in enumerate(rules))
    closes = wide.select(
        "close_id",
        "instance",
        pl.col("timestamp").cast(pl.Int64).alias("t"),
        pl.col("time_earliest").cast(pl.Int64).alias("lo"),
        pl.col("time_latest").cast(pl.Int64).alias("hi"),
        pl.col("opened").cast(pl.Int64),
        pl.when("inferred").then("g_high").alias("gone"),
        pl.when(pl.col("g_seen") & ~pl.col("inferred")).then("g_t").alias("logged"),
    )
    out = []
    for rule, mask in zip(rules, holds.iter_columns(), strict=True):
        if not mask.any():
            continue
        hits = closes.filter(mask).lazy()
        rows = (
            _related(hits, episodes.lazy(), rule, rule.relation)
            if rule.relation
            else hits.select(
                "close_id",
                pl.lit(rule.cause).alias("cause"),
                pl.lit(RANK[rule.strength], pl.Int32).alias("rank"),
                pl.lit(value=True).alias("certain"),
                pl.lit(None, pl.String).alias("episode"),
            )
        )
        out.append(rows.with_columns(pl.lit(rule.id).alias("rule"), pl.lit(rule.priority, pl.Int32).alias("priority")))
    empty = pl.LazyFrame(
        schema={
            "close_id": pl.String,
            "cause": pl.String,
            "rank": pl.Int32,
            "certain": pl.Boolean,
            "episode": pl.String,
            "rule": pl.String,
            "priority": pl.Int32,
        }
    )
    return pl.concat([empty, *out]).filter(pl.col("cause") != "").collect()


def _related(hits: pl.LazyFrame, episodes: pl.LazyFrame, rule: Rule, relation: Relation) -> pl.LazyFrame:
    """Closes that stand to an episode as the rule asks, and whether their bounds leave no doubt of it."""
    fit = episodes.filter((pl.col("kind") == relation.kind) & _holds(relation.when))
    far = pl.lit(1 << 62)
    low, high = {
        "cut": (pl.col("cut_low"), pl.col("cut_high")),
        # without the engine's word of the death, it was known for certain only when the next process was there
        "end": (
            pl.col("cut_low"),
            pl.when(pl.col("die") == 0).then(pl.coalesce("up", "cut_high")).otherwise("cut_high"),
        ),
        "down": (pl.col("cut_low"), pl.coalesce("up", far)),
        "during": (pl.col("cut_low"), pl.coalesce("up", far)),
        "starting": (pl.coalesce("up", "cut_high"), pl.coalesce("ready", pl.coalesce("up", "cut_high") + 60 * SECOND)),
    }[relation.at]
    windows = fit.select(
        "episode",
        pl.col("cause").alias("episode_cause"),
        pl.col("rank").alias("episode_rank"),
        (low - int(relation.before * SECOND)).alias("from"),
        (high + int(relation.after * SECOND)).alias("until"),
        ((pl.coalesce("surely", high) if relation.at == "down" else high) + int(relation.after * SECOND)).alias(
            "_surely"
        ),
        low.alias("begin"),
        high.alias("end"),
        pl.col("error").fill_null(0),
        pl.col("instance").alias("of"),
        *(
            (pl.col("own_low") - int(relation.before * SECOND), pl.col("own_high") + int(relation.after * SECOND))
            if relation.at == "cut"
            else (pl.lit(None, pl.Int64).alias("own_low"), pl.lit(None, pl.Int64).alias("own_high"))
        ),
    ).drop_nulls("from")
    times = hits.drop_nulls("t")
    if relation.at == "end":  # only the latest moment is known: when the process was gone, by the gateway's own clock
        latest = pl.coalesce("gone", "hi")
        times = times.with_columns(latest.alias("lo"), latest.alias("t"), latest.alias("hi"))
    # a stop that drains for long tells of its closes well before the cut: what one process wrote needs no second clock
    reach = windows.with_columns(
        pl.min_horizontal("from", "own_low").alias("_from"), pl.max_horizontal("until", "own_high").alias("_until")
    )
    pairs = times.join_where(
        reach, pl.col("hi") + pl.col("error") >= pl.col("_from"), pl.col("lo") - pl.col("error") <= pl.col("_until")
    )
    told = pl.col("logged").is_between("own_low", "own_high").fill_null(value=False)
    near = (pl.col("hi") + pl.col("error") >= pl.col("from")) & (pl.col("lo") - pl.col("error") <= pl.col("until"))
    pairs = pairs.filter(near | told)
    if relation.kind == "partition":  # what came when the path was whole again was not cut with it
        pairs = pairs.filter((pl.col("opened") <= pl.col("end") + pl.col("error")).fill_null(value=True))
    # what happened to another gateway never counts; where it is not known which one it was, it settles nothing
    pairs = pairs.filter((pl.col("instance") == pl.col("of")).fill_null(value=True))
    ours = (pl.col("instance") == pl.col("of")).fill_null(value=False) | pl.col("of").is_null()
    # in a storm a close may lie in the one downtime or the next: where they touch and have one cause, that is enough
    alike = ["close_id", "of", "episode_cause"]
    pairs = pairs.sort("close_id", "from", "episode").with_columns(
        (pl.col("from") > pl.col("until").shift(1).over(alike)).fill_null(value=False).any().over(alike).alias("_apart")
    )
    first, last = (
        pl.when("_apart").then(edge).otherwise(far.over(alike))
        for edge, far in ((pl.col("from"), pl.col("from").min()), (pl.col("_surely"), pl.col("_surely").max()))
    )
    placed = (pl.col("lo") >= first) & (pl.col("hi") <= last)
    inside = (placed | told) & ours
    # nearest episode first, a close belongs to one: by how far it lies from the cut itself, since the windows of two
    # restarts that follow on each other overlap; then from the middle
    middle = (pl.col("from") + pl.min_horizontal("until", pl.col("from") + 600 * SECOND)) // 2
    off = pl.max_horizontal(pl.col("begin") - pl.col("t"), pl.col("t") - pl.col("end"), pl.lit(0, pl.Int64))
    pairs = (
        pairs.with_columns(inside.alias("certain"), off.alias("_off"), (pl.col("t") - middle).abs().alias("_far"))
        .sort("close_id", pl.col("certain").not_(), "_off", "_far", "episode")
        .unique("close_id", keep="first", maintain_order=True)
    )
    own = pl.when(pl.lit(rule.cause) == EPISODE).then("episode_cause").otherwise(pl.lit(rule.cause))
    rank = (
        pl.when(pl.lit(rule.cause) == EPISODE)
        .then(pl.min_horizontal(pl.lit(RANK[rule.strength]), "episode_rank"))
        .otherwise(pl.lit(RANK[rule.strength]))
    )
    return pairs.select(
        "close_id",
        own.alias("cause"),
        pl.when("certain").then(rank).otherwise(1).cast(pl.Int32).alias("rank"),
        "certain",
        "episode",
    ).filter(pl.col("cause") != "")
