"""Downtimes of the gateway and of proxies, freezes and partitions: what happened to a path, before any close is blamed on it.

An episode has the interval in which open connections were cut (`cut_low` to `cut_high`), the time until new ones were
taken again (`up`), the features that rules read to name its cause, and the events that show it.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from occorr import scope

if TYPE_CHECKING:
    from numpy.typing import NDArray

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
DIE_LAG: Final = (
    700 * MS
)  # the engine's `die` comes up to 0.25 s after the process's end, and a launcher outlives its child
SHORT: Final = 400 * MS
RELOAD_GAP: Final = 3 * SECOND  # lines of one reload
DEATH_GAP: Final = 15 * SECOND  # from a stop's first signal to the death
RELOAD_GRACE: Final = 12 * SECOND  # how long old workers may live on: from 1 s to 10 s in the usual configurations
BACK_UP: Final = 90 * SECOND  # without a gateway's log: how long a start may take until it listens
LIVED: Final = 60 * SECOND  # a start that fails does so sooner
BEFORE: Final = 120 * SECOND  # how long before a stop an unhealthy report or a command still belongs to it
_SCHEMA: Final[dict[str, Any]] = {
    "kind": pl.String,
    "cut_low": pl.Int64,
    "cut_high": pl.Int64,
    "up": pl.Int64,
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
    "stop": pl.Int64,
    "restart": pl.Int64,
    "created": pl.Int64,
    "destroyed": pl.Int64,
    "unhealthy": pl.Int64,
    "sigterm": pl.Int64,
    "sigusr": pl.Int64,
    "in_process": pl.Int64,
    "conflict": pl.Int64,
    "crash": pl.Int64,
    "fatal": pl.Int64,
    "node_exit": pl.Int64,
    "exec_signal": pl.Int64,
    "reload": pl.Int64,
    "moved": pl.Boolean,
    "boots": pl.Int64,
    "shown": pl.Boolean,
    "silent_s": pl.Float64,
    "listened": pl.Boolean,
    "beside": pl.Int64,
    "events": pl.List(pl.String),
    "narrow": pl.Boolean,
    "container_id": pl.String,
    "instance": pl.String,
}
_LIFE: Final = (
    "gateway.signal",
    "gateway.stop",
    "gateway.restart",
    "gateway.drained",
    "gateway.shutdown",
    "gateway.conflict",
    "gateway.start_failed",
    "gateway.crash",
    "process.error",
    "gateway.start",
    "gateway.listening",
    "gateway.ready",
)
_ENGINE: Final = (
    "container.die",
    "container.kill",
    "container.oom",
    "container.stop",
    "container.restart",
    "container.start",
    "container.create",
    "container.destroy",
    "container.rename",
    "container.health_status",
    "container.exec_create",
)


def episodes(events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """All episodes, in order of time; times in ns on the reference clock.

    Args:
        events: placed events with `role`.
        facts: FACTS.
    """
    covered = coverage(events, facts)
    events = events if "instance" in events.columns else events.with_columns(pl.lit("").alias("instance"))
    found = [*_proxy(events, covered), *_interruptions(events)]
    beside = _beside(events)
    for name in events.get_column("instance").drop_nulls().unique().sort().to_list():
        found += [
            {
                **row,
                "instance": name,
                "beside": (
                    sum(low <= row["cut_high"] and until >= row["cut_low"] for low, until in beside)
                    if row["cut_low"] is not None
                    else 0
                ),
            }
            for row in _gateway(events.filter(pl.col("instance") == name), facts, covered)
        ]
    rows = pl.DataFrame(found, schema=_SCHEMA, orient="row") if found else pl.DataFrame(schema=_SCHEMA)
    return rows.sort("cut_low", "kind").with_columns(pl.format("e{}", pl.int_range(pl.len())).alias("episode"))


def _beside(events: pl.DataFrame) -> list[tuple[int, int]]:
    """From when to when containers beside the gateway's own ran its image by `docker compose run`: they may hold its port or its state."""
    own = events.filter(
        pl.col("container_name").fill_null("").str.contains(scope.ONE_OFF)
        & pl.col("container_image_name").fill_null("").str.contains(scope.GATEWAY)
        & pl.col("timestamp").is_not_null()
    )
    t = pl.col("timestamp").cast(pl.Int64)
    ends = pl.col("event_name").is_in(["container.die", "container.destroy"])
    runs = own.group_by("container_id").agg(
        t.filter(pl.col("event_name") == "container.start").min().alias("a"), t.filter(ends).min().alias("b")
    )
    return [(a, b if b is not None else 1 << 62) for a, b in runs.select("a", "b").drop_nulls("a").sort("a").rows()]


def coverage(events: pl.DataFrame, facts: pl.DataFrame) -> tuple[int, int] | None:
    """From when to when the engine's events were collected, ns: as a bundle says, else as far as the events themselves show."""
    docker = (
        events.filter((pl.col("source_kind") == "docker") & pl.col("timestamp").is_not_null())
        .get_column("timestamp")
        .cast(pl.Int64)
    )
    told = facts.filter(
        (pl.col("subject") == "engine") & pl.col("key").is_in(["events.covered_from", "events.covered_to"])
    ).select("key", pl.col("value").str.to_datetime("%+", time_unit="ns", time_zone="UTC", strict=False).cast(pl.Int64))
    low, high = (
        told.filter(pl.col("key") == f"events.covered_{end}").get_column("value").drop_nulls().to_list()
        for end in ("from", "to")
    )
    first, last = [*low], [*high]
    if docker.len():
        first.append(int(str(docker.min())))
        last.append(int(str(docker.max())))
    return (min(first), max(last)) if first and last else None


def _row(**values: Any) -> dict[str, Any]:
    return {name: values.get(name) for name in _SCHEMA}


def _gateway(events: pl.DataFrame, facts: pl.DataFrame, covered: tuple[int, int] | None) -> list[dict[str, Any]]:
    """Each downtime between two lives of a gateway, a life being the time from `listening` to the next stop."""
    t = pl.col("timestamp").cast(pl.Int64)
    names = pl.col("event_name")
    log = events.filter((pl.col("source_kind") == "gateway") & pl.col("timestamp").is_not_null())
    engine = events.filter(names.is_in(_ENGINE) & (pl.col("role") == "gateway"))
    life = (
        pl.concat([log.filter(names.is_in(_LIFE)), engine], how="diagonal")
        .select(
            t.alias("t"),
            "event_name",
            "event_id",
            "signal",
            "container_exit_code",
            "container_id",
            "health_status",
            "exec_command",
            "restart_mode",
            "stop_reason",
            "body",
            "clock_error_ns",
            "log_line",
            "config_hash",
            "container_image_name",
        )
        .sort("t", "log_line")
    )
    if life.is_empty():
        return []
    spoken = _Spoken.of(log)
    begins = [spoken.first(x) for x in _begins(life)]
    boots = life.filter(names == "container.start").get_column("t").to_list()
    listening = life.filter(names == "gateway.listening").get_column("t").to_list()
    bounds = [None, *begins, None]
    rows = life.to_dicts()
    when = [r["t"] for r in rows]
    out: list[dict[str, Any]] = []
    for before, after in zip(bounds, bounds[1:], strict=False):
        gap = rows[
            bisect_right(when, before) if before is not None else 0 : (
                bisect_left(when, after) if after is not None else len(rows)
            )
        ]
        up = None
        if after is not None:
            at = bisect_left(listening, after)
            up = listening[at] if at < len(listening) else None if listening else after + BACK_UP
        row = _downtime(gap, spoken, before, after, up, facts, covered)
        if row is None:
            continue
        # a start that fails by itself is why nobody listens from the moment its container began; one that is stopped
        # from outside is not
        stopped = any(row[k] for k in ("kill_term", "kill_kill", "kill_other", "sigterm", "sigusr", "oom", "destroyed"))
        if not row["listened"] and before is not None and not stopped:
            row["cut_low"] = min(
                row["cut_low"], max((b for b in boots if before - BACK_UP <= b <= before), default=before)
            )
        out.append(row)
    for row, later in zip(out, out[1:], strict=False):
        # a process that died before it listened never ended the downtime: the next one's cause takes over
        if row["up"] is None or row["up"] > later["cut_low"]:
            row["up"] = later["cut_low"]
    ready = life.filter(names == "gateway.ready").get_column("t").to_list()
    for row in out:
        at = bisect_left(ready, row["up"]) if row["up"] is not None else len(ready)
        row["ready"] = ready[at] if at < len(ready) else None
    return out


def _begins(life: pl.DataFrame) -> list[int]:
    """When processes of the gateway began: their first lines, and starts of containers whose lines were not collected."""
    marks = life.filter(pl.col("event_name").is_in(["gateway.start", "gateway.listening"])).select("t", "event_name")
    starts = marks.filter(pl.col("event_name") == "gateway.start").get_column("t").to_list()
    again = (
        marks.filter(
            (pl.col("event_name") == "gateway.listening") & (pl.col("event_name").shift(1) == "gateway.listening")
        )
        .get_column("t")
        .to_list()
    )
    first = marks.item(0, "t") if marks.height and marks.item(0, "event_name") == "gateway.listening" else None
    logged = sorted({*starts, *again, *([first] if first is not None else [])})
    boots = life.filter(pl.col("event_name") == "container.start").get_column("t").to_list()
    spoken = {max((b for b in boots if x - BACK_UP <= b <= x + SECOND), default=None) for x in logged}
    silent = [b for b in boots if b not in spoken]
    return sorted({*logged, *silent})


@dataclass(frozen=True, slots=True)
class _Spoken:
    """When the gateway wrote anything, and under which host name: sorted, for looking up by bisection."""

    times: NDArray[np.int64]
    host_times: list[int]
    hosts: list[str]

    @classmethod
    def of(cls, log: pl.DataFrame) -> _Spoken:
        lines = log.select(pl.col("timestamp").cast(pl.Int64).alias("t"), "host_name").sort("t")
        named = lines.filter(pl.col("host_name").is_not_null())
        # only where the name changes, and the last line before and after it
        edges = named.filter(
            (pl.col("host_name") != pl.col("host_name").shift(1)).fill_null(value=True)
            | (pl.col("host_name") != pl.col("host_name").shift(-1)).fill_null(value=True)
        )
        return cls(
            lines.get_column("t").to_numpy(), edges.get_column("t").to_list(), edges.get_column("host_name").to_list()
        )

    def first(self, begin: int) -> int:
        """When a process that says at `begin` that it starts wrote its first line: a new container writes under a new host name."""
        host = self.host(begin, after=True)
        if host is None or host == self.hosts[0]:
            return begin
        first = self.host_times[self.hosts.index(host)]
        return first if 0 < begin - first <= BACK_UP else begin

    def followed(self, earlier: str, later: str) -> bool:
        """Whether one host name took another one's place; two that write by turns are two gateways on one log."""
        last = len(self.hosts) - 1 - self.hosts[::-1].index(earlier)
        return earlier != later and self.host_times[last] < self.host_times[self.hosts.index(later)]

    def last(self, before: int | None, limit: int | None) -> int | None:
        """The last line from `before` on and up to `limit`."""
        at = int(np.searchsorted(self.times, limit, side="right")) - 1 if limit is not None else len(self.times) - 1
        return int(self.times[at]) if at >= 0 and (before is None or self.times[at] >= before) else None

    def host(self, moment: int, *, after: bool) -> str | None:
        """The host name of the nearest named line at or after (or at or before) a moment."""
        at = bisect_left(self.host_times, moment) if after else bisect_right(self.host_times, moment) - 1
        return self.hosts[at] if 0 <= at < len(self.hosts) else None


def _downtime(
    gap: list[dict[str, Any]],
    spoken: _Spoken,
    before: int | None,
    after: int | None,
    up: int | None,
    facts: pl.DataFrame,
    covered: tuple[int, int] | None,
) -> dict[str, Any] | None:
    """The downtime between two processes (`before` and `after` are when they began), or None where nothing ended."""

    def times(*wanted: str) -> list[int]:
        return [r["t"] for r in gap if r["event_name"] in wanted]

    def signal(name: str, *values: str) -> list[int]:
        return [
            r["t"] for r in gap if r["event_name"] == name and str(r["signal"]).upper().removeprefix("SIG") in values
        ]

    dies = times("container.die")
    term_lines, user_lines = signal("gateway.signal", "TERM", "INT"), signal("gateway.signal", "USR1", "USR2")
    graceful = sorted([*term_lines, *user_lines, *times("gateway.stop")])
    fatal = times("gateway.crash", "process.error")
    ends = [
        *dies,
        *graceful,
        *times("gateway.shutdown"),
        *fatal,
        *times("container.stop", "container.destroy", "gateway.conflict"),
    ]
    if not ends and (before is None or after is None):
        return None  # the first boot, or the time after the last line: nothing ended
    if after is None and not (dies or graceful):
        return None
    limits = [
        x for x in (after - 1 if after is not None else None, dies[0] + SECOND if dies else None) if x is not None
    ]
    last_line = spoken.last(before, min(limits) if limits else None)
    cleaned = times("gateway.drained", "gateway.shutdown")
    if graceful:
        low = min([x for x in cleaned if x >= graceful[0] - SECOND], default=graceful[0]) - 50 * MS
        limit = [*dies[:1], *(x + 200 * MS for x in cleaned)]
        high = max(limit, default=after if after is not None else low + 2 * SECOND)
        abrupt = False
    elif dies:
        high, abrupt = dies[0] + 50 * MS, True
        low = max(dies[0] - DIE_LAG, last_line or 0)
    elif fatal:
        low, high, abrupt = fatal[0] - SHORT, fatal[-1] + SECOND, True
    else:
        low, high, abrupt = last_line or before or 0, after or 0, True
    kills_term, kills_kill = signal("container.kill", "15", "TERM"), signal("container.kill", "9", "KILL")
    onset = min([*kills_term, *kills_kill, *graceful], default=low)
    codes = [r["container_exit_code"] for r in gap if r["event_name"] == "container.die"]
    ids = list(dict.fromkeys(r["container_id"] for r in gap if r["container_id"]))
    earlier, later = spoken.host(low, after=False), spoken.host(after, after=True) if after is not None else None
    return _row(
        kind="gateway",
        cut_low=low,
        cut_high=high,
        up=up,
        error=max((r["clock_error_ns"] or 0 for r in gap), default=0),
        covered=covered is not None and covered[0] <= low + SECOND,
        abrupt=abrupt,
        exit_code=codes[0] if codes else None,
        die=len(dies),
        kill_term=len(kills_term),
        kill_kill=len([k for k in kills_kill if not dies or k <= dies[0] + SECOND]),
        kill_other=len(times("container.kill")) - len(kills_term) - len(kills_kill),
        oom=len(times("container.oom")),
        oom_fact=_oom_fact(facts, ids, dies),
        stop=len(times("container.stop")),
        restart=len(times("container.restart")),
        created=len(times("container.create")),
        destroyed=len(times("container.destroy", "container.rename")),
        unhealthy=_unhealthy(gap, onset),
        sigterm=len(term_lines)
        + len([r for r in gap if r["event_name"] == "gateway.stop" and "SIGTERM" in str(r["stop_reason"])]),
        sigusr=len(user_lines),
        in_process=(
            len([r for r in gap if re.search(r"in-process|supervisor|full process", str(r["restart_mode"] or ""))])
            if user_lines or not dies
            else 0
        ),
        conflict=len(times("gateway.conflict")),
        crash=len(times("gateway.crash")),
        fatal=len([x for x in fatal if not dies or x <= dies[0] + SECOND]),
        node_exit=len([r for r in gap if str(r["body"] or "").startswith("Node.js v")]),
        exec_signal=len(
            [r for r in gap if r["event_name"] == "container.exec_create" and "kill" in str(r["exec_command"])]
        ),
        moved=bool(earlier and later and spoken.followed(earlier, later)),
        boots=int(after is not None),
        shown=bool(times("gateway.signal", "gateway.stop", "gateway.crash")),
        events=_cited(gap),
        # it had come up: it said so, it was there when the logs begin, or it lived longer than a failed start does
        listened=before is None
        or low - before >= LIVED
        or any(r["event_name"] in ("gateway.listening", "gateway.ready") and r["t"] <= high for r in gap),
        container_id=ids[-1] if ids else None,
        silent_s=(high - last_line) / SECOND if last_line is not None else None,
    )


def _unhealthy(gap: list[dict[str, Any]], onset: int) -> int:
    """How often the engine called the container unhealthy before the stop began, and did not call it healthy again."""
    count = 0
    for row in gap:
        if onset - BEFORE <= row["t"] <= onset and row["health_status"]:
            count = count + 1 if row["health_status"] == "unhealthy" else 0
    return count


_STORY: Final = (
    "container.health_status",
    "container.oom",
    "container.kill",
    "gateway.signal",
    "gateway.stop",
    "gateway.restart",
    "gateway.crash",
    "process.error",
    "gateway.conflict",
    "container.die",
    "container.destroy",
    "container.create",
    "container.restart",
)


def _cited(gap: list[dict[str, Any]]) -> list[str]:
    """The events that tell the story of a downtime, the first two of each kind."""
    seen: dict[str, int] = {}
    out = []
    for row in gap:
        name = row["event_name"]
        seen[name] = seen.get(name, 0) + 1
        if name in _STORY and seen[name] <= 2:
            out.append(row["event_id"])
    return out[:10]


def _oom_fact(facts: pl.DataFrame, ids: list[str], dies: list[int]) -> bool:
    """Whether `docker inspect` says that the container's latest death, which is this one, was an OOM kill."""
    for ident in ids:
        own = facts.filter(pl.col("subject") == f"container:{ident}")
        if own.filter((pl.col("key") == "state.oom_killed") & (pl.col("value") == "true")).is_empty():
            continue
        ended = (
            own.filter(pl.col("key") == "state.finished_at")
            .get_column("value")
            .str.to_datetime(time_unit="ns", time_zone="UTC", strict=False)
            .cast(pl.Int64)
        )
        if ended.len() and any(abs(d - int(ended[0])) < 2 * SECOND for d in dies if ended[0] is not None):
            return True
    return False


def _proxy(events: pl.DataFrame, covered: tuple[int, int] | None) -> list[dict[str, Any]]:
    """Deaths and reloads of proxies, from the engine's events and the proxy's own log."""
    t = pl.col("timestamp").cast(pl.Int64)
    names = pl.col("event_name")
    told = pl.col("exec_command").fill_null("").str.contains(r"reload|-s (?:reload|quit|stop)|kill|graceful|HUP|USR2")
    engine = events.filter(
        (pl.col("role") == "proxy")
        & (
            names.is_in(["container.die", "container.kill", "container.stop", "container.start"])
            | ((names == "container.exec_create") & told)
        )
    )
    own = events.filter(
        (pl.col("source_kind") == "proxy") & names.is_in(["proxy.reload", "proxy.stop", "proxy.worker"])
    )
    life = (
        pl.concat([engine, own], how="diagonal")
        .filter(pl.col("timestamp").is_not_null())
        .select(
            t.alias("t"),
            "event_name",
            "event_id",
            "signal",
            "container_exit_code",
            "clock_error_ns",
            "time_resolution_ns",
            "container_id",
        )
        .sort("t")
    )
    reloads = names.is_in(["container.exec_create", "proxy.reload"]) | (
        (names == "container.kill")
        & pl.col("signal").is_in(["1", "12", "10", "HUP", "USR1", "USR2", "SIGHUP", "SIGUSR2"])
    )
    deaths = names.is_in(["container.die", "container.stop", "proxy.stop"]) | (
        (names == "container.kill")
        & ~pl.col("signal").is_in(["1", "12", "10", "HUP", "USR1", "USR2", "SIGHUP", "SIGUSR2"])
    )
    out = []
    for acts, gap in ((reloads, RELOAD_GAP), (deaths, DEATH_GAP)):
        chosen = life.filter(acts)
        if chosen.is_empty():
            continue
        chosen = chosen.with_columns((pl.col("t").diff().fill_null(0) > gap).cum_sum().alias("_c"))
        for group in chosen.partition_by("_c", maintain_order=True):
            out.append(_proxy_episode(group, life, covered))
    return out


def _proxy_episode(group: pl.DataFrame, life: pl.DataFrame, covered: tuple[int, int] | None) -> dict[str, Any]:
    """One reload or death: when the connections were cut, as narrowly as the lines tell."""
    names = group.get_column("event_name").to_list()
    times = group.get_column("t").to_list()
    begun = times[0]
    dies = [x for x, n in zip(times, names, strict=True) if n == "container.die"]
    error = int(group.get_column("clock_error_ns").drop_nulls().max() or 0)  # type: ignore[arg-type]  # polars types a column's maximum as any value
    ups = [x for x in life.filter(pl.col("event_name") == "container.start").get_column("t").to_list() if x >= begun]
    if dies:
        low, high, narrow = dies[0] - 450 * MS, dies[0] + 150 * MS, True
        up = (ups[0] + SECOND) if ups else None
    else:
        # workers that leave after a reload mark the end of its grace; their stamps are whole seconds
        left = life.filter(
            (pl.col("event_name") == "proxy.worker")
            & (pl.col("t") >= begun - SECOND)
            & (pl.col("t") <= begun + RELOAD_GRACE)
        )
        ends = left.get_column("t").to_list()
        width = int(left.get_column("time_resolution_ns").drop_nulls().max() or 0)  # type: ignore[arg-type]  # polars types a column's maximum as any value
        narrow = bool(ends)
        low = (max(ends) - 100 * MS) if ends else begun - 200 * MS
        high = (max(ends) + width + 100 * MS) if ends else begun + RELOAD_GRACE
        low = max(low, begun - 200 * MS)
        up = high
        error = max(error, int(left.get_column("clock_error_ns").drop_nulls().max() or 0))  # type: ignore[arg-type]  # polars types a column's maximum as any value
    return _row(
        kind="proxy",
        cut_low=low,
        cut_high=high,
        up=up,
        error=error,
        covered=covered is not None and covered[0] <= begun + SECOND,
        abrupt=bool(dies),
        die=len(dies),
        reload=0 if dies else len(times),
        exit_code=group.get_column("container_exit_code").drop_nulls().first(),
        narrow=narrow,
        shown=True,
        events=group.get_column("event_id").head(6).to_list(),
        container_id=group.get_column("container_id").drop_nulls().first(),
    )


def _interruptions(events: pl.DataFrame) -> list[dict[str, Any]]:
    """Freezes (`pause`) and partitions (`network disconnect`) of a gateway's container, with their ends."""
    t = pl.col("timestamp").cast(pl.Int64)
    out = []
    ours = events.filter(pl.col("role") == "gateway")
    gone = (
        ours.filter(pl.col("event_name").is_in(["container.die", "container.start"]))
        .select(t.alias("t"))
        .get_column("t")
        .to_list()
    )
    for kind, begin, end in (
        ("freeze", "container.pause", "container.unpause"),
        ("partition", "network.disconnect", "network.connect"),
    ):
        starts = (
            ours.filter(pl.col("event_name") == begin)
            .select(t.alias("t"), "event_id", "container_id", "instance")
            .sort("t")
        )
        ends = (
            ours.filter(pl.col("event_name") == end)
            .select(t.alias("until"), pl.col("event_id").alias("end_id"))
            .sort("until")
        )
        spans = starts.join_asof(ends, left_on="t", right_on="until", strategy="forward", check_sortedness=False)
        # an engine may say twice that it began; it ends once
        for row in spans.unique(["until", "container_id"], keep="first", maintain_order=True).to_dicts():
            if kind == "partition" and any(abs(g - row["t"]) < 5 * SECOND for g in gone):
                continue  # a stop takes the container off its network: that is no partition
            until = row["until"] if row["until"] is not None else row["t"] + 3600 * SECOND
            out.append(
                _row(
                    kind=kind,
                    cut_low=row["t"],
                    cut_high=until,
                    up=until,
                    error=0,
                    covered=True,
                    abrupt=False,
                    shown=True,
                    events=[i for i in (row["event_id"], row["end_id"]) if i],
                    container_id=row["container_id"],
                    instance=row["instance"],
                )
            )
    return out
