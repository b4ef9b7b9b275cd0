"""From closes and episodes to verdicts: rules are run as data, their findings weighed, and what is missing is named.

A verdict's name is the strength of its best finding. A finding that the error bounds leave open counts as
circumstantial at most; two decisive findings that name different causes take each other's decisiveness away. The number
beside the name is what such a verdict was worth on labelled incidents (`fitted`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from occorr import intervals
from occorr.causes.evidence import cite
from occorr.causes.features import features
from occorr.causes.findings import find, name_episodes
from occorr.causes.missing import missing
from occorr.causes.weighing import weigh
from occorr.incidents import incidents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from occorr.rules import Cause


@dataclass(frozen=True, slots=True)
class Judged:
    """What the rules made of the closes: the last columns of CLOSES, EVIDENCE and INCIDENTS."""

    closes: pl.DataFrame
    evidence: pl.DataFrame
    incidents: pl.DataFrame
    episodes: pl.DataFrame


def judge(
    closes: pl.DataFrame,
    episodes: pl.DataFrame,
    events: pl.DataFrame,
    facts: pl.DataFrame,
    causes: Sequence[Cause],
    place: tuple[str | None, str | None],
    among: pl.Expr | None = None,
) -> Judged:
    """Verdicts for all closes.

    Args:
        closes: rows of `closes.closes`.
        episodes: rows of `episodes.episodes`.
        events: placed events.
        facts: FACTS.
        causes: the rules.
        place: the gateway's service and project.
        among: which closes are asked for, by columns of CLOSES; what incidents tell is of these.
    """
    named = name_episodes(episodes, causes)
    wide = features(closes, named, events, facts, place)
    findings = find(wide, named, causes)
    verdicts = weigh(wide, findings, named, events, causes)
    wide = intervals.settle(wide, verdicts, named, events)
    evidence = cite(wide, findings, verdicts, named, events, causes)
    rows = wide.join(verdicts, on="close_id", how="left", maintain_order="left").with_columns(
        pl.coalesce(pl.col("instance").str.extract(r"([^/]+)$", 1), pl.lit(place[0])).alias("service_name"),
        pl.coalesce(pl.col("instance").str.extract(r"^([^/]+)/", 1), pl.lit(place[1])).alias("compose_project"),
    )
    rows = rows.with_columns(missing(facts).alias("missing"), _peer("client_address"), _peer("client_port"))
    if among is not None:
        rows = rows.filter(among)
        evidence = evidence.join(rows, on="close_id", how="semi", maintain_order="left")
    rows, table = incidents(rows, named, facts, causes)
    return Judged(rows, evidence, table, named)


def _peer(column: str) -> pl.Expr:
    """Whose close it is, unless it is one of several in some order that ended for different causes: then nobody can tell."""
    in_some_order = pl.col("group_id").is_not_null() & (pl.col("cause").n_unique().over("group_id") > 1)
    return (
        pl.when(in_some_order & (pl.col(column).n_unique().over("group_id") > 1))
        .then(None)
        .otherwise(column)
        .alias(column)
    )


__all__ = ["Judged", "features", "judge", "name_episodes"]
