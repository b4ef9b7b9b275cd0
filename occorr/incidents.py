"""Closes that belong together are one incident, told in one sentence.

One episode is one incident; closes of one cause that lie together are one; what follows from another incident is part
of its story: a restart storm is one incident with its period, knocking at a gateway that starts belongs to what made it
start, and pairing that a deploy without its state makes necessary belongs to the deploy.
"""

from __future__ import annotations

import statistics
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import schema
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from occorr.rules import Cause

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
VAGUE: Final = timedelta(seconds=1.5)  # a beginning that is known no better is told as from when to when it may be
COARSE: Final = timedelta(seconds=0.5)  # … and one that is known no better than to this without fractions
SOME_TIME: Final = "some time between"
BEGUN: Final = ("start", "start_earliest", "start_latest")
TOGETHER: Final = 45 * SECOND  # closes of one cause that lie nearer together are one incident
STORM: Final = 3  # downtimes of one cause that follow on each other …
STORM_GAP: Final = 300 * SECOND  # … within this are a storm: a restart policy waits at most a minute between two starts
AFTER_DEPLOY: Final = 900 * SECOND  # how long after a deploy clients come back and find that they are not paired
AWAY: Final = {"gateway": "down", "proxy": "down", "freeze": "paused", "partition": "cut off"}
# A line tells when the process ended; without one an end lies somewhere before the next start.
_MARKED: Final = (pl.col("die") > 0) | pl.col("shown") | (pl.col("fatal") > 0)
_STATE: Final = r"(?i)/(?:\.openclaw|\.clawdbot|\.moltbot|openclaw|state)(?:/|$)"


def incidents(
    rows: pl.DataFrame, episodes: pl.DataFrame, facts: pl.DataFrame, causes: Sequence[Cause]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The closes with `incident_id`, and INCIDENTS; ordinary closes belong to none.

    Args:
        rows: closes with their verdicts and `best_episode`.
        episodes: episodes with their causes.
        facts: FACTS.
        causes: the rules, for their titles.
    """
    stories = storms(episodes)
    ranked = _keyed(rows, episodes, stories)
    lost = _lost_state(facts)
    if lost:
        ranked = _paired_again(ranked, episodes)
    startup = pl.col("cause") == "restart.startup"
    grouped = (
        ranked.filter(pl.col("_key").is_not_null())
        .group_by("_key")
        .agg(
            pl.col("timestamp").min().alias("start"),
            pl.col("timestamp").max().alias("end"),
            pl.struct("time_earliest", "time_latest")
            .sort_by("timestamp", "close_id", nulls_last=True)
            .first()
            .alias("_first"),
            pl.col("cause")
            .filter(~startup & ~pl.col("_follows"))
            .mode()
            .sort()
            .first()
            .fill_null("restart.startup")
            .alias("cause"),
            pl.struct("cause", "verdict", "probability", "count", "_follows").alias("_own"),
            pl.col("count").filter("_follows").sum().alias("_paired"),
            pl.col("count").sum().alias("closes"),
            pl.col("service_name").drop_nulls().unique().sort().alias("services"),
            pl.col("compose_project").drop_nulls().unique().sort().alias("projects"),
            pl.col("count").filter(~pl.col("established").fill_null(value=False)).sum().alias("_refused"),
            pl.col("best_episode").drop_nulls().first(),
        )
        .sort("start", "_key", nulls_last=True)
    )
    grouped = grouped.with_row_index("_i").with_columns(
        pl.format("i{}", (pl.col("_i") + 1).cast(pl.String).str.zfill(3)).alias("incident_id"),
        pl.col("cause").str.extract(r"^([^.]+)", 1).alias("family"),
    )
    told = grouped.join(
        episodes.select(
            pl.col("episode").alias("best_episode"),
            "kind",
            "told",
            "cut_low",
            "cut_high",
            "back",
            "boot",
            "failed",
            _marked=_MARKED,
        ),
        on="best_episode",
        how="left",
        maintain_order="left",
    )
    titles = {c.cause: c.title for c in causes}
    out = [row | _sureness(row) | _begun(row, stories.get(row["best_episode"] or "")) for row in told.to_dicts()]
    lines = [_title(row, titles, stories, lost) for row in out]
    table = told.with_columns(
        pl.Series("title", lines, dtype=pl.String),
        pl.Series("probability", [r["probability"] for r in out], dtype=pl.Float64),
        *(pl.Series(name, [r[name] for r in out], dtype=told.schema["start"]) for name in BEGUN),
    ).with_columns(pl.max_horizontal("start", "end").alias("end"))
    closes = ranked.join(grouped.select("_key", "incident_id"), on="_key", how="left", maintain_order="left").drop(
        "_key", "_n", "_follows"
    )
    return closes, schema.conform(table, schema.INCIDENTS)


def storms(episodes: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Downtimes of one gateway and one cause that follow on each other: story by each of its episodes.

    Returns:
        episode → `first` (the story's key), `times`, `left` (of them, starts that failed since the state was still held
        by what ended before), `period_s` (median from one to the next), `from` and `back` in ns.
    """
    out: dict[str, dict[str, Any]] = {}
    downs = episodes.filter(
        (pl.col("kind") == "gateway") & (pl.col("cause") != "") & pl.col("cut_low").is_not_null()
    ).sort("instance", "cut_low")
    gap = (
        (pl.col("cut_low").diff().fill_null(STORM_GAP + 1) > STORM_GAP)
        | (pl.col("cause") != pl.col("cause").shift(1)).fill_null(value=True)
        | pl.col("instance").ne_missing(pl.col("instance").shift(1))
    )
    for chain in (
        downs.with_columns(gap.cum_sum().alias("_c")).partition_by("_c", maintain_order=True) if downs.height else []
    ):
        if chain.height < STORM:
            continue
        starts = chain.get_column("cut_low").to_list()
        period = statistics.median(b - a for a, b in zip(starts, starts[1:], strict=False)) / SECOND
        story = {
            "first": chain.item(0, "episode"),
            "times": chain.height,
            "left": int(chain.get_column("left").sum()) if "left" in chain.columns else 0,
            "period_s": period,
            "from": starts[0],
            "back": chain.item(-1, "back"),
        }
        out |= dict.fromkeys(chain.get_column("episode").to_list(), story)
    return out


def _keyed(rows: pl.DataFrame, episodes: pl.DataFrame, stories: dict[str, dict[str, Any]]) -> pl.DataFrame:
    """Adds `_key`, which closes of one incident share, null for those of none."""
    gap = pl.col("timestamp").diff().dt.total_nanoseconds().fill_null(0).over("cause", order_by="timestamp") > TOGETHER
    ranked = rows.with_columns(
        gap.cum_sum().over("cause", order_by="timestamp").alias("_n"), pl.lit(value=False).alias("_follows")
    )
    own = (
        pl.col("best_episode").replace({e: s["first"] for e, s in stories.items()})
        if stories
        else pl.col("best_episode")
    )
    ranked = ranked.with_columns(own.alias("_story"))
    story = pl.col("_story").is_not_null()
    startup = pl.col("cause") == "restart.startup"
    key = (
        pl.when(pl.col("cause").is_in(["client.normal", "unknown.unknown"]))
        .then(None)
        .when(story)
        .then(pl.col("_story"))
        .otherwise(pl.concat_str("cause", pl.lit("/"), pl.col("_n").cast(pl.String)))
    )
    # closes of the same cause that no episode claims belong to the only episode of their stretch of time
    only = pl.when(
        pl.col("_story").n_unique().over("cause", "_n")
        - pl.col("_story").is_null().any().over("cause", "_n").cast(pl.Int64)
        == 1
    ).then(pl.col("_story").drop_nulls().first().over("cause", "_n"))
    ranked = ranked.with_columns(
        pl.when(story | key.is_null()).then(key).otherwise(pl.coalesce(only, key)).alias("_key")
    )
    # knocking while a gateway starts belongs to the restart that made it start
    if episodes.height:
        spans = episodes.filter((pl.col("kind") == "gateway") & (pl.col("cause") != "")).select(
            pl.col("episode").replace({e: s["first"] for e, s in stories.items()}).alias("_e"),
            pl.col("cut_low").alias("_l"),
            (pl.coalesce("ready", "up", "cut_high") + 60 * SECOND).alias("_u"),
        )
        claimed = (
            ranked.filter(startup & ~story)
            .select("close_id", pl.col("timestamp").cast(pl.Int64).alias("t"))
            .drop_nulls()
            .join_where(spans, pl.col("t") >= pl.col("_l"), pl.col("t") <= pl.col("_u"))
            .sort("_l", "_e")
            .unique("close_id", keep="last")
            .select("close_id", "_e")
        )
        ranked = (
            ranked.join(claimed, on="close_id", how="left", maintain_order="left")
            .with_columns(pl.coalesce("_e", "_key").alias("_key"))
            .drop("_e")
        )
    return ranked.drop("_story")


def _lost_state(facts: pl.DataFrame) -> str:
    """The gateway's state directory where it is on no persistent mount; empty where it is, or where nothing tells."""
    gateways = facts.filter((pl.col("key") == "role") & (pl.col("value") == "gateway")).get_column("subject").to_list()
    own = facts.filter(pl.col("subject").is_in(gateways))
    if own.filter(pl.col("key") == "state.status").is_empty():
        return ""  # only docker inspect tells all mounts
    mounts = (
        own.filter(pl.col("key").str.starts_with("mount.") & (pl.col("value") != "tmpfs"))
        .get_column("key")
        .str.strip_prefix("mount.")
        .to_list()
    )
    states = own.filter(pl.col("key") == "env.OPENCLAW_STATE_DIR").get_column("value").to_list()
    if states:
        return "" if any(states[0] == m or states[0].startswith(m.rstrip("/") + "/") for m in mounts) else states[0]
    return "" if pl.Series(mounts, dtype=pl.String).str.contains(_STATE).any() else "its state directory"


def _paired_again(ranked: pl.DataFrame, episodes: pl.DataFrame) -> pl.DataFrame:
    """Pairing required after a deploy, and never before it, joins the deploy's incident."""
    deploys = episodes.filter((pl.col("kind") == "gateway") & (pl.col("cause") == "restart.deploy")).select(
        pl.col("episode").alias("_e"), pl.col("cut_low").alias("_l")
    )
    pairing = (
        ranked.filter(pl.col("cause") == "auth.pairing_required")
        .select("close_id", pl.col("timestamp").cast(pl.Int64).alias("t"))
        .drop_nulls()
    )
    if deploys.is_empty() or pairing.is_empty():
        return ranked
    first = pairing.get_column("t").min()
    after = (
        pairing.join_where(
            deploys.filter(pl.col("_l") <= first),
            pl.col("t") >= pl.col("_l"),
            pl.col("t") <= pl.col("_l") + AFTER_DEPLOY,
        )
        .sort("_l", "_e")
        .unique("close_id", keep="last")
        .select("close_id", "_e")
    )
    joined = ranked.join(after, on="close_id", how="left", maintain_order="left")
    return joined.with_columns(
        pl.coalesce("_e", "_key").alias("_key"), pl.col("_e").is_not_null().alias("_follows")
    ).drop("_e")


def _sureness(row: dict[str, Any]) -> dict[str, Any]:
    """How sure the incident's cause is: as sure as its best proven close, and how many closes have which verdict."""
    own = [c for c in row["_own"] if c["cause"] == row["cause"]] or row["_own"]
    verdicts = {v: sum(int(c["count"] or 1) for c in row["_own"] if c["verdict"] == v) for v in schema.VERDICTS}
    best = next((v for v in schema.VERDICTS if any(c["verdict"] == v for c in own)), "unknown")
    return {
        "probability": max((c["probability"] or 0.0 for c in own if c["verdict"] == best), default=None),
        "_verdicts": {v: n for v, n in verdicts.items() if n},
        "_guessed": best not in schema.PROVEN,
    }


def _title(row: dict[str, Any], titles: dict[str, str], stories: dict[str, dict[str, Any]], lost: str) -> str:
    """The incident in one sentence: what, when, how many, for how long, and how much of it is less than decisive."""
    what = ("Perhaps: " if row["_guessed"] else "") + (row["told"] or titles.get(row["cause"], row["cause"]))
    storm = stories.get(row["best_episode"] or "")
    ended, refused = int(row["closes"]) - int(row["_refused"]), int(row["_refused"])
    nobody = row["cause"].startswith(("timeout.", "client.", "network.", "overload.", "unknown."))
    parts = [f"{ended} connection{'s' * (ended != 1)} closed"] * (ended > 0) + [
        f"{refused} attempt{'s' * (refused != 1)} {'failed' if nobody else 'refused'}"
    ] * (refused > 0)
    if storm and storm["left"]:
        what = f"{what}, and could not start {storm['left']} times, since its state was still held"
    elif storm:
        what = f"{what}, {storm['times']} times, every {storm['period_s']:.0f} s (a restart storm)"
    parts += _away(row, storm)
    if row["_paired"]:
        parts.append(f"{row['_paired']} of them had to be paired again, since {lost} is on no persistent mount")
    rest = {v: n for v, n in row["_verdicts"].items() if v != "decisive"}
    mixed = "decisive" in row["_verdicts"] and rest
    surely = (
        f" Decisive for {row['_verdicts']['decisive']} of {row['closes']},"
        f" {', '.join(f'{v} for {n}' for v, n in rest.items())}."
        if mixed
        else ""
    )
    meanwhile = ", as the gateway's container was paused" if row["kind"] == "freeze" else ""
    word, time = when(*(row[name] for name in BEGUN))
    begun = f" {word} {time} UTC" if word else ""
    return f"{what}{begun}{meanwhile}: {', '.join(parts)}.{surely}"


def _away(row: dict[str, Any], storm: dict[str, Any] | None) -> list[str]:
    """For how long clients found nobody, as far as something tells that it ended."""
    begun, back = (storm["from"], storm["back"]) if storm else (row["cut_low"], row["back"])
    if begun is None:
        return []
    if back is not None and back > begun:
        starts = f", {row['failed']} start{'s' * (row['failed'] != 1)} failed" if row["failed"] and not storm else ""
        return [f"{_seconds(back - begun)} {'until it was up again' if storm else AWAY[row['kind']]}{starts}"]
    if row["boot"] is not None and not storm:
        return [f"{_seconds(row['boot'] - begun)} until its container ran again"]
    return []


def _seconds(ns: int) -> str:
    return f"{ns / SECOND:.{0 if ns >= 10 * SECOND else 1}f} s"


def _begun(row: dict[str, Any], storm: dict[str, Any] | None) -> dict[str, datetime | None]:
    """When it began, and from when to when it may have: as the first close says, or the downtime.

    What ended connections is as old as the first that it ended; where that was refused later, or its end is less well
    known than the gateway's own, the downtime says when.
    """
    low, high = row["_first"]["time_earliest"], row["_first"]["time_latest"]
    if row["start"] is not None and storm is None and row["cut_high"] is not None:
        cut = moment(row["cut_low"]), moment(row["cut_high"])
        if row["start"] > cut[1] or (row["_marked"] and None not in (low, high) and cut[1] - cut[0] < high - low):
            low, high = cut
    at = row["start"]
    if at is not None and None not in (low, high) and not low <= at <= high:
        at = low + (high - low) / 2
    return {"start": at, "start_earliest": low, "start_latest": high}


def when(at: datetime | None, low: datetime | None, high: datetime | None) -> tuple[str, str]:
    """When something began, in UTC: `at` and the time of day, or from when to when it may have, where that is not known to a second.

    What is known no better than to half a second is told without fractions, and with how far off it may be. Both are
    empty where nothing tells.
    """
    if low is not None and high is not None and high - low > VAGUE:
        return SOME_TIME, f"{low:%H:%M:%S} and {high:%H:%M:%S}"
    if at is None:
        return "", ""
    error = max(at - low, high - at) if low is not None and high is not None else timedelta()
    if error >= COARSE:
        return "at", f"{at:%H:%M:%S} ± {error / timedelta(milliseconds=1):.0f} ms"
    return "at", f"{at:%H:%M:%S.%f}"[:-3]


def moment(time_ns: int) -> datetime:
    """Nanoseconds since 1970 as a time, to the microsecond."""
    return EPOCH + timedelta(microseconds=time_ns // 1000)
