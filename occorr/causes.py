"""From closes and episodes to verdicts: rules are run as data, their findings weighed, and what is missing is named.

A verdict's name is the strength of its best finding. A finding that the error bounds leave open counts as
circumstantial at most; two decisive findings that name different causes take each other's decisiveness away. The number
beside the name is what such a verdict was worth on labelled incidents (`fitted`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from occorr import fitted, intervals, schema
from occorr.episodes import coverage
from occorr.incidents import incidents
from occorr.rules import EPISODE, EPISODE_FEATURES, FEATURES, RANK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from occorr.rules import Cause, Rule

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
VERDICT: Final = {3: "decisive", 2: "supported", 1: "circumstantial", 0: "unknown"}
STRENGTH: Final = {rank: name for name, rank in RANK.items()}
NEAR: Final = 30 * SECOND
AT_ONCE: Final = 10 * MS  # ends that lie nearer together were cut by one hand
ALIKE: Final = 60 * MS  # durations that differ by less are one limit's
HUNG: Final = 15 * SECOND  # from the trigger of a crash or OOM kill to the death: up to 11 s measured
DEFAULT_PORT: Final = "18789"
LIMITS: Final = (60.0, 75.0, 300.0, 3600.0)  # idle limits that proxies and balancers come with, s
_COLUMN_OF: Final = {
    "gateway": "g_event",
    "open": "g_open_event",
    "proxy": "p_event",
    "proxy_error": "p_error_event",
    "client": "c_event",
    "auth": "g_auth_event",
    "error": "g_error_event",
    "parse": "g_parse_event",
    "timeout": "g_timeout_event",
    "version": "g_version_event",
    "invalid": "g_invalid_event",
    "death": "death_event",
    "untrusted": "untrusted_event",
}


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
) -> Judged:
    """Verdicts for all closes.

    Args:
        closes: rows of `closes.closes`.
        episodes: rows of `episodes.episodes`.
        events: placed events.
        facts: FACTS.
        causes: the rules.
        place: the gateway's service and project.
    """
    named = name_episodes(episodes, causes)
    wide = features(closes, named, events, facts, place)
    findings = _findings(wide, named, causes)
    verdicts = _weigh(wide, findings, named, causes)
    wide = intervals.settle(wide, verdicts, named, events)
    evidence = _evidence(wide, findings, verdicts, named, events)
    rows = wide.join(verdicts, on="close_id", how="left", maintain_order="left").with_columns(
        pl.coalesce(pl.col("instance").str.extract(r"([^/]+)$", 1), pl.lit(place[0])).alias("service_name"),
        pl.coalesce(pl.col("instance").str.extract(r"^([^/]+)/", 1), pl.lit(place[1])).alias("compose_project"),
    )
    rows = rows.with_columns(_missing(facts).alias("missing"))
    rows, table = incidents(rows, named, facts, causes)
    return Judged(rows, evidence, table, named)


def name_episodes(episodes: pl.DataFrame, causes: Sequence[Cause]) -> pl.DataFrame:
    """Adds `cause`, `rank`, `rule` and `told` (the sentence) to each episode: the strongest rule that holds."""
    frame = episodes.with_columns(
        pl.lit("").alias("cause"), pl.lit(0).alias("rank"), pl.lit("").alias("rule"), pl.lit("").alias("told")
    )
    for cause in causes:
        for rule in cause.episodes:
            holds = pl.sql_expr(rule.when).fill_null(value=False) & (RANK[rule.strength] > pl.col("rank"))
            frame = (
                frame.with_columns(holds.alias("_h"))
                .with_columns(
                    pl.when("_h").then(pl.lit(cause.cause)).otherwise("cause").alias("cause"),
                    pl.when("_h").then(pl.lit(rule.id)).otherwise("rule").alias("rule"),
                    pl.when("_h").then(pl.lit(rule.sentence)).otherwise("told").alias("told"),
                    pl.when("_h").then(pl.lit(RANK[rule.strength])).otherwise("rank").alias("rank"),
                )
                .drop("_h")
            )
    return frame


def features(
    closes: pl.DataFrame,
    episodes: pl.DataFrame,
    events: pl.DataFrame,
    facts: pl.DataFrame,
    place: tuple[str | None, str | None] = (None, None),
) -> pl.DataFrame:
    """The closes with every feature that rules may ask for."""
    rows = closes.with_columns(
        pl.lit(None, pl.String).alias(c)
        for c in (*_COLUMN_OF.values(), "p_error", "p_upstream")
        if c not in closes.columns
    )
    t = pl.col("timestamp").cast(pl.Int64)
    gateway_times = (
        events.filter((pl.col("source_kind") == "gateway") & pl.col("timestamp").is_not_null())
        .select(pl.col("timestamp").cast(pl.Int64).alias("line"))
        .sort("line")
    )
    covered = coverage(events, facts)
    first_docker = covered[0] if covered is not None else None
    untrusted = events.filter(pl.col("event_name") == "proxy.untrusted")
    tunnels = (
        closes.filter(pl.col("p_established").fill_null(value=False))
        if "p_established" in closes.columns
        else closes.clear()
    )
    own = _gateway_upstreams(tunnels, events, facts)
    paths = tunnels.get_column("p_path").drop_nulls().unique().to_list() if "p_path" in tunnels.columns else []
    kinds = closes.get_column("p_kind").drop_nulls().unique().to_list() if "p_kind" in closes.columns else []
    kinds += [
        str(v).removeprefix("proxy.")
        for v in (
            facts.filter((pl.col("key") == "role") & pl.col("value").str.starts_with("proxy."))
            .get_column("value")
            .to_list()
        )
    ]
    ports = (
        facts.filter(pl.col("key").str.starts_with("port."))
        .get_column("value")
        .str.extract(r":(\d+)$", 1)
        .cast(pl.Int64, strict=False)
        .drop_nulls()
        .to_list()
    )
    limits = sorted(
        {
            *LIMITS,
            *(
                float(v)
                for v in (
                    facts.filter(pl.col("key").str.contains("timeout.idle"))
                    .get_column("value")
                    .cast(pl.Float64, strict=False)
                    .drop_nulls()
                    .to_list()
                )
            ),
        }
    )
    lasted = pl.coalesce("p_duration", "g_duration", "duration_ns") / SECOND
    limit = pl.coalesce([pl.when((lasted - x).abs() < max(0.25, 0.004 * x)).then(x) for x in limits])
    upstream_known = (pl.col("p_upstream").is_not_null() | pl.col("p_upstream_status").is_not_null()).fill_null(
        value=False
    )
    says_upstream = pl.col("p_upstream").is_not_null().any().over("p_file") | pl.col("p_kind").is_in(
        ["haproxy", "traefik", "envoy", "caddy"]
    )
    to_gateway = (
        pl.when(pl.col("p_upstream").is_not_null() & bool(own))
        .then(pl.col("p_upstream").is_in(own))
        .when(pl.col("p_path").is_in(paths))
        .then(pl.lit(value=True))
        .otherwise(None)
    )
    near = rows.select("close_id", t.alias("t")).filter(pl.col("t").is_not_null()).sort("t")
    last = near.join_asof(
        gateway_times, left_on="t", right_on="line", strategy="backward", check_sortedness=False
    ).rename({"line": "_before"})
    last = (
        last.join_asof(gateway_times, left_on="t", right_on="line", strategy="forward", check_sortedness=False)
        .rename({"line": "_after"})
        .drop("t")
    )
    rows = rows.join(last, on="close_id", how="left", maintain_order="left")
    ends = (
        rows.filter(pl.coalesce("g_t", "p_t").is_not_null())
        .select("close_id", pl.coalesce("p_t", "g_t").alias("t"), pl.lit(value=True).alias("_any"))
        .sort("t")
    )
    rows = rows.join(
        _company(ends, "t", AT_ONCE).rename({"n": "same_moment"}), on="close_id", how="left", maintain_order="left"
    )
    cut = (
        pl.col("p_established")
        & pl.col("p_duration").is_not_null()
        & pl.col("code_gateway").is_in([1006], nulls_equal=False).fill_null(value=True)
        & (pl.col("p_duration") > 2 * SECOND)
    ).fill_null(value=False)
    lasted_alike = rows.filter(cut).select("close_id", pl.col("p_duration").alias("t")).sort("t")
    rows = rows.join(
        _company(lasted_alike, "t", ALIKE).rename({"n": "same_length"}),
        on="close_id",
        how="left",
        maintain_order="left",
    )
    gone = episodes.filter(pl.col("kind") == "gateway")
    proxied = episodes.filter(pl.col("kind") == "proxy")
    broken = episodes.filter(pl.col("kind").is_in(["freeze", "partition"]))
    return rows.with_columns(
        pl.col("websocket_close_code").cast(pl.Int64).alias("code"),
        pl.col("websocket_close_reason").alias("reason"),
        (pl.col("duration_ns") / SECOND).alias("duration_s"),
        pl.col("group_id").is_not_null().alias("grouped"),
        pl.col("g_event").is_not_null().alias("g_seen"),
        pl.col("g_ambiguous").alias("ambiguous"),
        pl.col("g_parse_event").is_not_null().alias("g_parse_error"),
        pl.col("g_timeout_event").is_not_null().alias("g_timeout_line"),
        pl.col("g_version_event").is_not_null().alias("g_version_line"),
        pl.col("g_invalid_event").is_not_null().alias("g_invalid_line"),
        pl.col("g_auth_event").is_not_null().alias("g_auth_line"),
        pl.col("p_event").is_not_null().alias("p_seen"),
        (upstream_known | says_upstream.fill_null(value=False)).alias("p_upstream_known"),
        (pl.col("p_duration") / SECOND).alias("p_duration_s"),
        to_gateway.alias("p_to_gateway"),
        pl.col("p_clock_status").is_in(["aligned", "reference"]).fill_null(value=False).alias("p_aligned"),
        limit.alias("p_limit_s"),
        _own_loopback(to_gateway, facts).alias("p_own_loopback"),
        pl.col("p_flags").is_not_null().any().over("p_file").alias("p_flags_known"),
        pl.col("c_event").is_not_null().alias("c_seen"),
        pl.col("c_port").is_in(ports).alias("c_published"),
        _inside(facts, place[0]).alias("c_inside"),
        (
            (t - pl.col("_before") < NEAR)
            & (pl.col("_after") - t < NEAR)
            & ~_between(pl.col("_before"), pl.col("_after"), episodes)
        )
        .fill_null(value=False)
        .alias("gateway_alive"),
        pl.lit(gateway_times.height > 0).alias("gateway_log"),
        (t >= pl.lit(first_docker)).fill_null(value=False).alias("docker_covers"),
        pl.lit(kinds[0] if len(set(kinds)) == 1 else None, pl.String).alias("proxy_known"),
        pl.lit(untrusted.height > 0).alias("untrusted_line"),
        pl.lit(untrusted.item(0, "event_id") if untrusted.height else None, pl.String).alias("untrusted_event"),
        _any_near(gone, t).alias("downtime_near"),
        _any_near(gone.filter("abrupt"), t, HUNG).alias("death_soon"),
        (pl.coalesce("p_resolution", pl.lit(MS)) < SECOND).alias("fine"),
        _any_near(proxied, t).alias("proxy_event_near"),
        _any_near(broken, t).alias("interruption_near"),
        ((pl.col("g_t") - pl.coalesce("p_t", "c_t")) > 2 * SECOND).fill_null(value=False).alias("late_gateway"),
    )


def _own_loopback(to_gateway: pl.Expr, facts: pl.DataFrame) -> pl.Expr:
    """Whether the proxy dialled a loopback that is not the gateway's, at the gateway's port; null where it is not known whose it is."""
    upstream = pl.col("p_upstream").fill_null("")
    ports = {DEFAULT_PORT, *facts.filter(pl.col("key") == "gateway.port").get_column("value").to_list()}
    dialled = upstream.str.contains(r"^(?:127\.\d+\.\d+\.\d+|localhost|\[?::1\]?):") & upstream.str.extract(
        r":(\d+)$", 1
    ).is_in(sorted(ports))
    return (
        pl.when(dialled & to_gateway.is_not_null())
        .then(~to_gateway)
        .when(dialled)
        .then(None)
        .otherwise(pl.lit(value=False))
    )


def _inside(facts: pl.DataFrame, gateway: str | None) -> pl.Expr:
    """Whether a call came from another container than the gateway's, as far as its log's service tells; null if it does not.

    A container that shares another one's network (`network_mode: service:…`) has that one's loopback.
    """
    shared = (
        facts.filter(
            (pl.col("key") == "network_mode") & pl.col("value").str.contains(r"^(?:service|container):|^host$")
        )
        .get_column("subject")
        .str.replace(r"^\w+:", "")
        .to_list()
    )
    if gateway is None:
        return pl.lit(None, pl.Boolean)
    return (
        pl.when(pl.col("c_service").is_null())
        .then(None)
        .otherwise((pl.col("c_service") != gateway) & ~pl.col("c_service").is_in(shared))
    )


def _company(frame: pl.DataFrame, column: str, reach: int) -> pl.DataFrame:
    """How many rows, itself included, lie within `reach` of each row: close_id, n."""
    values = frame.get_column(column).to_numpy()
    count = np.searchsorted(values, values + reach, side="right") - np.searchsorted(values, values - reach, side="left")
    return frame.select("close_id").with_columns(pl.Series("n", count, dtype=pl.Int64))


def _any_near(episodes: pl.DataFrame, t: pl.Expr, before: int = 2 * SECOND) -> pl.Expr:
    """Whether a moment lies in or within a few seconds of one of the episodes."""
    tests = [
        t.is_between(low - before, (up if up is not None else 1 << 62) + 2 * SECOND)
        for low, up in episodes.select("cut_low", "up").rows()
        if low is not None
    ]
    return pl.any_horizontal(tests).fill_null(value=False) if tests else pl.lit(value=False)


def _between(before: pl.Expr, after: pl.Expr, episodes: pl.DataFrame) -> pl.Expr:
    """Whether a process of the gateway ended between two moments: lines on both sides then say nothing of the time between."""
    cuts = episodes.filter(pl.col("kind") == "gateway").get_column("cut_high").drop_nulls().unique().sort().to_list()
    return pl.any_horizontal([(before <= x) & (after >= x) for x in cuts]) if cuts else pl.lit(value=False)


def _gateway_upstreams(tunnels: pl.DataFrame, events: pl.DataFrame, facts: pl.DataFrame) -> list[str]:
    """host:port of the gateways as proxies name them: where tunnels go, where the gateways are reached, where they listen."""
    out = set(tunnels.get_column("p_upstream").drop_nulls().to_list()) if "p_upstream" in tunnels.columns else set()
    out |= (
        set(events.get_column("endpoint").str.extract(r"->\[?([^\]]+?\]?:\d+)$", 1).drop_nulls().unique().to_list())
        if "endpoint" in events.columns
        else set()
    )
    subjects = facts.filter((pl.col("key") == "role") & (pl.col("value") == "gateway")).get_column("subject").to_list()
    addresses = (
        facts.filter(pl.col("subject").is_in(subjects) & pl.col("key").str.contains(r"^network\..*\.address$"))
        .get_column("value")
        .to_list()
    )
    ports = {
        *facts.filter(pl.col("key") == "gateway.port").get_column("value").to_list(),
        *(u.rpartition(":")[2] for u in out),
    } or {DEFAULT_PORT}
    return sorted(out | {f"{a}:{p}" for a in addresses for p in ports})


def _findings(wide: pl.DataFrame, episodes: pl.DataFrame, causes: Sequence[Cause]) -> pl.DataFrame:
    """One row a rule that speaks for a close: close_id, rule, cause, rank, priority, certain, episode."""
    out = []
    for cause in causes:
        for rule in cause.rules:
            hits = wide.filter(pl.sql_expr(rule.when).fill_null(value=False)) if rule.when else wide
            if hits.is_empty():
                continue
            rows = (
                _related(hits, episodes, rule)
                if rule.relation
                else hits.select(
                    "close_id",
                    pl.lit(rule.cause).alias("cause"),
                    pl.lit(RANK[rule.strength]).alias("rank"),
                    pl.lit(value=True).alias("certain"),
                    pl.lit(None, pl.String).alias("episode"),
                )
            )
            out.append(rows.with_columns(pl.lit(rule.id).alias("rule"), pl.lit(rule.priority).alias("priority")))
    empty = pl.DataFrame(
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
    return pl.concat([empty, *out], how="vertical_relaxed").filter(pl.col("cause") != "")


def _related(hits: pl.DataFrame, episodes: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    """Closes that stand to an episode as the rule asks, and whether their bounds leave no doubt of it."""
    relation = rule.relation
    if relation is None:
        raise AssertionError("a rule without a relation has no episode")
    fit = episodes.filter(
        (pl.col("kind") == relation.kind)
        & (pl.sql_expr(relation.when).fill_null(value=False) if relation.when else pl.lit(value=True))
    )
    far = pl.lit(1 << 62)
    low, high = {
        "cut": (pl.col("cut_low"), pl.col("cut_high")),
        "end": (pl.col("cut_low"), pl.col("cut_high")),
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
        pl.col("error").fill_null(0),
        pl.col("instance").alias("of"),
    ).drop_nulls("from")
    times = hits.select(
        "close_id",
        "instance",
        pl.col("timestamp").cast(pl.Int64).alias("t"),
        pl.col("time_earliest").cast(pl.Int64).alias("lo"),
        pl.col("time_latest").cast(pl.Int64).alias("hi"),
        pl.when("inferred").then("g_high").alias("gone"),
    ).drop_nulls("t")
    if relation.at == "end":  # only the latest moment is known: when the process was gone, by the gateway's own clock
        latest = pl.coalesce("gone", "hi")
        times = times.with_columns(latest.alias("lo"), latest.alias("t"), latest.alias("hi"))
    pairs = times.join_where(
        windows, pl.col("hi") + pl.col("error") >= pl.col("from"), pl.col("lo") - pl.col("error") <= pl.col("until")
    )
    # what happened to another gateway never counts; where it is not known which one it was, it settles nothing
    pairs = pairs.filter((pl.col("instance") == pl.col("of")).fill_null(value=True))
    ours = (pl.col("instance") == pl.col("of")).fill_null(value=False) | pl.col("of").is_null()
    inside = (pl.col("lo") >= pl.col("from")) & (pl.col("hi") <= pl.col("until")) & ours
    # nearest episode first: a close belongs to one
    middle = (pl.col("from") + pl.min_horizontal("until", pl.col("from") + 600 * SECOND)) // 2
    pairs = (
        pairs.with_columns(inside.alias("certain"), (pl.col("t") - middle).abs().alias("_far"))
        .sort("close_id", pl.col("certain").not_(), "_far")
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


def _weigh(wide: pl.DataFrame, findings: pl.DataFrame, episodes: pl.DataFrame, causes: Sequence[Cause]) -> pl.DataFrame:
    """The best finding of each close, and what speaks against its being the last word."""
    order = findings.sort("close_id", pl.col("rank"), pl.col("priority"), "rule", descending=[False, True, True, False])
    best = order.unique("close_id", keep="first", maintain_order=True).rename(
        {"rank": "best_rank", "rule": "best_rule", "episode": "best_episode"}
    )
    joined = order.join(best.select("close_id", pl.col("cause").alias("_best")), on="close_id")
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
        wide.select("close_id", "group_id", "p_clock_status", "p_status", "g_seen", "c_seen", "inferred")
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
    mixed = pl.col("group_id").is_not_null() & (pl.col("cause").n_unique().over("group_id") > 1)
    rank = (
        pl.when((disputed | unplaced | mixed).fill_null(value=False) & (pl.col("best_rank") == 3))
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


def _evidence(
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
            *dict.fromkeys(_COLUMN_OF.values()),
        ),
        on="close_id",
    )
    parts = []
    for name, column in _COLUMN_OF.items():
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


def _missing(facts: pl.DataFrame) -> pl.Expr:
    """What would settle a close that is not settled; a proxy's configuration may say that its logs cannot."""
    open_ = pl.col("verdict") != "decisive"
    when = pl.coalesce(pl.col("timestamp").dt.strftime("%H:%M:%S"), pl.lit("that time"))
    asks = [
        pl.when(open_ & ~pl.col("docker_covers")).then(
            pl.concat_str(
                pl.lit("no docker events cover "),
                when,
                pl.lit("; collect them while the engine still has them (docker events --since 2h --until 0s)"),
            )
        ),
        pl.when(open_ & ~pl.col("gateway_log")).then(pl.lit("the gateway's log (docker logs -t <gateway>)")),
        pl.when(open_ & pl.col("gateway_log") & ~pl.col("g_seen") & pl.col("established").fill_null(value=True)).then(
            pl.lit("the gateway did not log this close: run it with --verbose, or keep its file log")
        ),
        pl.when(open_ & (pl.col("via") == "proxy") & ~pl.col("p_seen")).then(
            pl.lit("the proxy's access log with request time and port")
        ),
        pl.when(open_ & (pl.col("p_clock_status") == "assumed").fill_null(value=False)).then(
            pl.lit("nothing ties the proxy's clock to the gateway's; log $msec and $request_time")
        ),
        pl.when(
            open_
            & ~pl.col("c_seen")
            & pl.col("code_client").is_null()
            & (pl.col("code_gateway").is_null() | (pl.col("code_gateway") == 1006))
        ).then(pl.lit("what the client saw (its close code and reason)")),
    ]
    hidden = {
        "logging.access": ~pl.col("p_seen"),
        "logging.duration": pl.col("p_seen") & pl.col("p_duration").is_null(),
        "logging.errors": pl.col("p_seen") & pl.col("p_error_event").is_null(),
    }
    for key, subject, text in (
        facts.filter(pl.col("key").is_in(list(hidden)))
        .select("key", "subject", "value")
        .unique(maintain_order=True)
        .rows()
    ):
        its = pl.col("p_kind").is_null() | (pl.lit(subject) == pl.concat_str(pl.lit("proxy:"), "p_kind"))
        asks.append(
            pl.when(open_ & (pl.col("via") != "direct") & hidden[key].fill_null(value=False) & its).then(pl.lit(text))
        )
    return pl.concat_list(asks).list.drop_nulls()


__all__ = ["EPISODE_FEATURES", "FEATURES", "Judged", "features", "judge", "name_episodes"]
