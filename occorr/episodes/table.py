"""The columns of an episode, and from when to when the engine's events reach."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from occorr.schema import SECOND

BACK_UP: Final = 90 * SECOND  # without a gateway's log: how long a start may take until it listens
FILTERED: Final = ("container.kill", "container.die", "container.restart", "container.oom")
LATER: Final = 30 * SECOND  # the engine tells of a death this soon after the gateway writes of a signal
CHECKED: Final = 600 * SECOND  # a health check runs more often than this
FAR: Final = 1 << 62
CITED: Final = 10  # events that tell the story of an episode, at most
SHAPE: Final[dict[str, Any]] = {
    "kind": pl.String,
    "cut_low": pl.Int64,
    "cut_high": pl.Int64,
    "up": pl.Int64,
    "back": pl.Int64,  # when something tells that it was there again; `up` may be an assumption
    "boot": pl.Int64,  # when its container began again, where nothing tells that it listened
    "failed": pl.Int64,  # starts that failed until then
    "surely": pl.Int64,  # until when nothing else can have kept clients out
    "ready": pl.Int64,
    "error": pl.Int64,
    "covered": pl.Boolean,
    "abrupt": pl.Boolean,
    "exit_code": pl.Int64,
    "die": pl.Int64,
    "kill_term": pl.Int64,
    "kill_kill": pl.Int64,
    "kill_other": pl.Int64,
    "oom": pl.Int64,
    "oom_fact": pl.Boolean,
    "oom_kernel": pl.Boolean,
    "oom_near": pl.Boolean,
    "stop": pl.Int64,
    "again": pl.Boolean,
    "watched": pl.Boolean,
    "restart": pl.Int64,
    "created": pl.Int64,
    "destroyed": pl.Int64,
    "unhealthy": pl.Int64,
    "sick": pl.Boolean,
    "sigterm": pl.Int64,
    "sigusr": pl.Int64,
    "in_process": pl.Int64,
    "conflict": pl.Int64,
    "clash": pl.Int64,  # when a start failed since another gateway was there, ns
    "rivals": pl.Int64,
    "leased": pl.Boolean,
    "released": pl.Boolean,
    "left": pl.Boolean,
    "crash": pl.Int64,
    "fatal": pl.Int64,
    "node_exit": pl.Int64,
    "reload": pl.Int64,
    "moved": pl.Boolean,
    "stayed": pl.Boolean,
    "unchecked": pl.Boolean,
    "shown": pl.Boolean,
    "silent_s": pl.Float64,
    "listened": pl.Boolean,
    "begun": pl.Boolean,  # its first line or its container's start is known
    "elsewhere": pl.Boolean,  # another container of the gateway's image began near, and this one not again
    "beside": pl.Int64,
    "events": pl.List(pl.String),
    "narrow": pl.Boolean,
    "own_low": pl.Int64,
    "own_high": pl.Int64,
    "told_ready": pl.Boolean,
    "container_id": pl.String,
    "project": pl.String,
    "instance": pl.String,
}


def coverage(events: pl.DataFrame, facts: pl.DataFrame) -> tuple[int, int] | None:
    """From when to when the engine's events were collected, ns: as a bundle says, else as far as the events themselves show.

    Events that end while nothing happens were collected on, unless the gateway writes later of a stop that they do not tell.
    """
    moment = pl.col("timestamp").cast(pl.Int64)
    placed = events.filter(pl.col("timestamp").is_not_null())
    engine = placed.filter(pl.col("source_kind") == "docker")
    docker = engine.select(moment).to_series()
    told = facts.filter(
        (pl.col("subject") == "engine") & pl.col("key").is_in(["events.covered_from", "events.covered_to"])
    ).select("key", pl.col("value").str.to_datetime("%+", time_unit="ns", time_zone="UTC", strict=False).cast(pl.Int64))
    low, high = (
        told.filter(pl.col("key") == f"events.covered_{end}").get_column("value").drop_nulls().to_list()
        for end in ("from", "to")
    )
    first, last = [*low, *docker.sort().head(1)], [*high, *docker.sort().tail(1)]
    if not (first and last):
        return None
    # whoever asked for kills and deaths alone did not see what else there was, nor who lacks a health check's commands
    names = engine.get_column("event_name").cast(pl.String)
    checked = facts.filter((pl.col("key") == "healthcheck.test") & ~pl.col("value").str.contains("NONE"))
    ids = checked.get_column("subject").str.strip_prefix("container:").unique()
    own = engine.filter(pl.col("container_id").is_in(ids.implode()))
    watched = own.get_column("event_name").cast(pl.String).str.contains(r"\.(?:exec_|health_status)").any()
    unwatched = own.height > 0 and not watched and max(last) - min(first) > CHECKED
    # who begins twice ended in between
    begun = engine.filter(names == "container.start").group_by("container_id").len().filter(pl.col("len") > 1)
    deathless = begun.height > 0 and not (names == "container.die").any()
    if engine.height > 0 and (names.is_in(FILTERED).all() or unwatched or deathless) and not low:
        return None
    stop = (pl.col("event_name") == "gateway.signal") & pl.col("signal").str.contains(r"(?i)^(?:SIG)?(?:TERM|INT)$")
    later = placed.filter(stop & (moment > max(last) + LATER)).height > 0
    return min(first), max(last) if high or later else FAR


def record(**values: Any) -> dict[str, Any]:
    """One episode, null where nothing is given."""
    return {name: values.get(name) for name in SHAPE}
