"""From findings to a verdict: the best one, and what speaks against its being the last word."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import fitted, schema
from occorr.causes.ties import settled
from occorr.rules import EPISODE
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from occorr.rules import Cause

_ITS_WORDS: Final = ("ambiguous", "code_gateway", "established")  # features of its line that are not called g_…
OF_ANY_PAGE: Final = ("auth.proxy_denied", "protocol.upgrade_missing")  # what a request for a page may get too
OF_ANY_UPSTREAM: Final = (  # … and what another site's may
    "unreachable.refused",
    "unreachable.socket",
    "unreachable.dns",
    "unreachable.loopback",
    "timeout.upstream",
    "auth.untrusted_proxy",
)
VERDICT: Final = {3: "decisive", 2: "supported", 1: "circumstantial", 0: "unknown"}


def weigh(
    wide: pl.DataFrame,
    findings: pl.DataFrame,
    episodes: pl.DataFrame,
    events: pl.DataFrame,
    causes: Sequence[Cause],
) -> pl.DataFrame:
    """The best finding of each close, and what speaks against its being the last word."""
    order = findings.sort("close_id", pl.col("rank"), pl.col("priority"), "rule", descending=[False, True, True, False])
    best = order.unique("close_id", keep="first", maintain_order=True).rename(
        {"rank": "best_rank", "rule": "best_rule", "episode": "best_episode"}
    )
    joined = order.join(best.select("close_id", pl.col("cause").alias("_best")), on="close_id", maintain_order="left")
    rivals = (
        joined.filter(pl.col("cause") != pl.col("_best"))
        .unique("close_id", keep="first", maintain_order=True)
        .select(
            "close_id",
            pl.col("cause").alias("runner_up"),
            pl.col("rank").alias("rival_rank"),
            pl.col("priority").alias("rival_priority"),
        )
    )
    frame = (
        wide.select(
            "close_id",
            "group_id",
            "p_clock_status",
            "p_status",
            "p_guessed",
            "p_to_gateway",
            "p_own_loopback",
            "p_serves",
            "p_other_host",
            "g_seen",
            "p_seen",
            "p_maybe_near",
            "c_seen",
            "c_far",
            "inferred",
        )
        .join(best, on="close_id", how="left", maintain_order="left")
        .join(rivals, on="close_id", how="left", maintain_order="left")
    )
    # Two decisive findings that disagree: neither is the last word, unless one outranks by design.
    disputed = (
        (pl.col("best_rank") == 3) & (pl.col("rival_rank") == 3) & (pl.col("rival_priority") > pl.col("priority") - 20)
    )
    # A row whose place on the axis hangs on an unverified clock cannot be decided by when it was, unless a refusal has
    # only one downtime to belong to.
    unplaced = (
        pl.col("best_episode").is_not_null()
        & (pl.col("p_clock_status") == "assumed")
        & ~pl.col("g_seen")
        & ~pl.col("c_seen")
        & ~pl.col("inferred").fill_null(value=False)
    )
    unplaced = unplaced & ~(pl.col("p_status").is_in([502, 503]) & pl.lit(_only_one(episodes))).fill_null(value=False)
    unplaced = unplaced & ~pl.col("close_id").is_in(settled(wide, episodes, events))
    # nothing that was not near can be told by a clock that nobody knows
    unplaced = unplaced | (pl.col("p_maybe_near") & pl.col("best_rule").is_in(_of_the_time(causes)))
    # a command that reaches the gateway by a public name runs on some other machine, whose clock nobody knows
    far = pl.col("best_episode").is_not_null() & pl.col("c_far") & ~pl.col("g_seen") & ~pl.col("p_seen")
    # Nothing says that a request was an upgrade: pages are refused so too, and other sites' upstreams cannot be reached.
    # What is asked for at the gateway's port of a loopback that is not the gateway's is meant for it.
    meant = pl.any_horizontal(pl.col("p_to_gateway", "p_own_loopback").fill_null(value=False))
    elsewhere = pl.col("cause").is_in(OF_ANY_UPSTREAM) & ~meant
    page = pl.col("p_guessed").fill_null(value=False) & (pl.col("cause").is_in(OF_ANY_PAGE) | elsewhere)
    # What takes tunnels at that address is another gateway, or another site: why it refuses now nothing tells.
    another = pl.col("p_serves") & ~pl.col("p_to_gateway") & pl.col("cause").is_in(OF_ANY_UPSTREAM)
    # … and so is what was asked for by another name than all the gateway's tunnels: its 502 may have nothing to do with it.
    stranger = pl.col("p_other_host") & ~pl.col("g_seen") & pl.col("best_episode").is_not_null()
    nameless = (
        pl.col("p_other_host").is_null() & pl.col("p_seen") & ~pl.col("g_seen") & pl.col("best_episode").is_not_null()
    )
    # Of closes in some order, each may be the other. What the gateway says of its own connection stays true in any order.
    mixed = (
        pl.col("group_id").is_not_null()
        & (pl.col("cause").n_unique().over("group_id") > 1)
        & ~pl.col("best_rule").is_in(_of_the_gateway(causes))
    )
    rank = (
        pl.when(stranger.fill_null(value=False))
        .then(pl.min_horizontal("best_rank", pl.lit(1)))
        .when(
            (disputed | unplaced | far | mixed | page | another | nameless).fill_null(value=False)
            & (pl.col("best_rank") == 3)
        )
        .then(2)
        .otherwise(pl.col("best_rank").fill_null(0))
        .cast(pl.Int32)
    )
    frame = frame.with_columns(rank.alias("rank"), pl.col("cause").fill_null("unknown.unknown"))
    # where an episode gave the cause its name, the rule that named it is what may be wrong
    borrowed = [rule.id for cause in causes for rule in cause.rules if rule.cause == EPISODE]
    named = frame.join(
        episodes.select(pl.col("episode").alias("best_episode"), pl.col("rule").alias("_named")),
        on="best_episode",
        how="left",
        maintain_order="left",
    )
    named = named.with_columns(
        pl.when(pl.col("best_rule").is_in(borrowed))
        .then(pl.coalesce("_named", "best_rule"))
        .otherwise("best_rule")
        .alias("rule"),
        pl.col("rank").replace_strict(VERDICT, return_dtype=pl.String).alias("verdict"),
    )
    family = pl.col("cause").str.extract(r"^([^.]+)", 1)
    return fitted.apply(named, fitted.builtin()).select(
        "close_id",
        "cause",
        family.alias("family"),
        "verdict",
        "probability",
        "runner_up",
        "runner_up_probability",
        family.replace_strict(schema.LAYER_OF_FAMILY, return_dtype=pl.String).alias("layer"),
        "rule",
        "best_rule",
        "best_episode",
    )


@cache
def _asked(when: str) -> tuple[str, ...]:
    """The features that a condition asks for."""
    return tuple(pl.sql_expr(when).meta.root_names())


def _of_the_gateway(causes: Sequence[Cause]) -> list[str]:
    """Rules that ask for nothing but the gateway's own lines: which proxy's or client's line is beside them changes nothing."""
    return [
        rule.id
        for cause in causes
        for rule in cause.rules
        if rule.when
        and rule.relation is None
        and all(name.startswith("g_") or name in _ITS_WORDS for name in _asked(rule.when))
    ]


def _of_the_time(causes: Sequence[Cause]) -> list[str]:
    """Rules that ask what was not near in time."""
    return [
        rule.id
        for cause in causes
        for rule in cause.rules
        if rule.when and any(name.endswith("_near") for name in _asked(rule.when))
    ]


def _only_one(episodes: pl.DataFrame) -> bool:
    """Whether all that happened to any path, as far as the engine's events tell, has one cause and is a gateway's downtime."""
    long = episodes.filter(
        (pl.col("up").is_null() | (pl.col("up") - pl.col("cut_low") >= SECOND)).fill_null(value=True)
    )
    return (
        long.height > 0
        and long.get_column("cause").n_unique() == 1
        and bool(
            ((long.get_column("kind") == "gateway") & (long.get_column("cause") != "")).all()
            and long.get_column("covered").fill_null(value=False).all()
        )
    )
