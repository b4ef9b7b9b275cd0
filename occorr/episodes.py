"""Downtimes of the gateway and of proxies, freezes and partitions: what happened to a path, before any close is blamed on it.

An episode has the interval in which open connections were cut (`cut_low` to `cut_high`), the time until new ones were
taken again (`up`), the features that rules read to name its cause, and the events that show it.
"""

from __future__ import annotations

from typing import Final

import polars as pl


MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
DIE_LAG: Final = 700 * MS  # the engine's `die` comes up to 0.25 s after the process's end, and a launcher outlives its child
SHORT: Final = 400 * MS
PROXY_GAP: Final = 15 * SECOND  # events of one proxy that lie nearer together belong to one episode
BACK_UP: Final = 90 * SECOND  # without a gateway's log: how long a start may take until it listens
BEFORE: Final = 120 * SECOND  # how long before a stop an unhealthy report or a command still belongs to it
_SCHEMA: Final = {
    "kind": pl.String, "cut_low": pl.Int64, "cut_high": pl.Int64, "up": pl.Int64, "ready": pl.Int64, "error": pl.Int64, "covered": pl.Boolean, "abrupt": pl.Boolean, "exit_code": pl.Int64,
    "die": pl.Int64, "kill_term": pl.Int64, "kill_kill": pl.Int64, "kill_other": pl.Int64, "oom": pl.Int64, "oom_fact": pl.Boolean, "stop": pl.Int64, "restart": pl.Int64, "created": pl.Int64,
    "destroyed": pl.Int64, "unhealthy": pl.Int64, "sigterm": pl.Int64, "sigusr": pl.Int64, "in_process": pl.Int64, "conflict": pl.Int64, "crash": pl.Int64, "fatal": pl.Int64, "node_exit": pl.Int64,
    "exec_signal": pl.Int64, "reload": pl.Int64, "moved": pl.Boolean, "boots": pl.Int64, "shown": pl.Boolean, "events": pl.List(pl.String), "exact": pl.Int64, "container_id": pl.String,
}  # fmt: skip
_LIFE: Final = (
    "gateway.signal", "gateway.stop", "gateway.restart", "gateway.drained", "gateway.shutdown", "gateway.conflict", "gateway.start_failed", "gateway.crash", "process.error", "gateway.start", "gateway.listening", "gateway.ready",
)  # fmt: skip
_ENGINE: Final = (
    "container.die", "container.kill", "container.oom", "container.stop", "container.restart", "container.start", "container.create", "container.destroy", "container.rename", "container.health_status", "container.exec_create",
)  # fmt: skip


def episodes(events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """All episodes, in order of time; times in ns on the reference clock.

    Args:
        events: placed events with `role`.
        facts: FACTS.
    """
    covered = _coverage(events)
    found = [*_gateway(events, facts, covered), *_proxy(events, covered), *_interruptions(events)]
    rows = pl.DataFrame(found, schema=_SCHEMA, orient="row") if found else pl.DataFrame(schema=_SCHEMA)
    return rows.sort("cut_low", "kind").with_columns(pl.format("e{}", pl.int_range(pl.len())).alias("episode"))


def _coverage(events: pl.DataFrame) -> tuple[int, int] | None:
    """From when to when the engine's events were collected, as far as the events themselves show."""
    docker = events.filter((pl.col("source_kind") == "docker") & pl.col("timestamp").is_not_null()).get_column("timestamp").cast(pl.Int64)
    if docker.is_empty():
        return None
    first, last = docker.min(), docker.max()
    return (int(str(first)), int(str(last)))


def _row(**values: object) -> dict[str, object]:
    return {name: values.get(name) for name in _SCHEMA}


def _gateway(events: pl.DataFrame, facts: pl.DataFrame, covered: tuple[int, int] | None) -> list[dict[str, object]]:
    """Each downtime between two lives of a gateway, a life being the time from `listening` to the next stop."""
    t = pl.col("timestamp").cast(pl.Int64)
    names = pl.col("event_name")
    log = events.filter((pl.col("source_kind") == "gateway") & pl.col("timestamp").is_not_null())
    engine = events.filter(names.is_in(_ENGINE) & (pl.col("role") == "gateway"))
    life = pl.concat([log.filter(names.is_in(_LIFE)), engine], how="diagonal").select(
        t.alias("t"), "event_name", "event_id", "signal", "container_exit_code", "container_id", "health_status", "exec_command", "restart_mode", "stop_reason", "body", "clock_error_ns", "log_line", "config_hash", "container_image_name").sort("t", "log_line")  # fmt: skip
    if life.is_empty():
        return []
    up_name = "gateway.listening" if (life.get_column("event_name") == "gateway.listening").any() else "gateway.start" if (life.get_column("event_name") == "gateway.start").any() else "container.start"
    ups = life.filter(names == up_name).get_column("t").unique().sort().to_list()
    bounds = [None, *ups, None]
    lines = log.select(t.alias("t"), "host_name").sort("t")
    out = []
    for before, after in zip(bounds, bounds[1:], strict=False):
        gap = life.filter((pl.col("t") > before) if before is not None else pl.lit(value=True)).filter((pl.col("t") < after) if after is not None else pl.lit(value=True))
        row = _downtime(gap, lines, before, after, facts, covered, last_up=after is None)
        if row is not None:
            out.append(row)
    ready = life.filter(names == "gateway.ready").get_column("t").to_list()
    for row in out:
        row["ready"] = next((r for r in ready if row["up"] is not None and r >= int(str(row["up"]))), None)
    return out


def _downtime(
    gap: pl.DataFrame, lines: pl.DataFrame, before: int | None, after: int | None, facts: pl.DataFrame, covered: tuple[int, int] | None, *, last_up: bool
) -> dict[str, object] | None:
    names = gap.get_column("event_name").to_list()
    when = gap.get_column("t").to_list()
    signals = gap.get_column("signal").to_list()

    def times(*wanted: str) -> list[int]:
        return [x for x, n in zip(when, names, strict=True) if n in wanted]

    def signal(name: str, *values: str) -> list[int]:
        return [x for x, n, s in zip(when, names, signals, strict=True) if n == name and str(s).upper().removeprefix("SIG") in values]

    dies, starts = times("container.die"), times("gateway.start")
    term_lines, user_lines = signal("gateway.signal", "TERM", "INT"), signal("gateway.signal", "USR1", "USR2")
    graceful = sorted([*term_lines, *user_lines, *times("gateway.stop")])
    fatal = times("gateway.crash", "process.error")
    seen = [x for x in lines.get_column("t").to_list() if (before is None or x >= before) and (not starts or x < min(starts)) and (after is None or x < after) and (not dies or x <= dies[0] + SECOND)]
    ends = [*dies, *graceful, *times("gateway.shutdown"), *fatal, *times("container.stop", "container.destroy", "gateway.conflict")]
    if not ends and (before is None or not starts):
        return None  # the first boot, or the time after the last line: nothing ended
    if last_up and not (dies or graceful):
        return None
    last_line = max(seen, default=None)
    cleaned = times("gateway.drained", "gateway.shutdown")
    if graceful:
        low = min([x for x in cleaned if x >= graceful[0] - SECOND], default=graceful[0]) - 50 * MS
        limit = [*dies[:1], *(x + 200 * MS for x in cleaned)]
        high = max(limit, default=(starts[0] if starts else low + 2 * SECOND))
        abrupt = False
    elif dies:
        high, abrupt = dies[0] + 50 * MS, True
        low = max(dies[0] - DIE_LAG, last_line or 0)
    elif fatal:
        low, high, abrupt = fatal[0] - SHORT, fatal[-1] + SECOND, True
    else:
        low, high, abrupt = last_line or int(str(before)), (starts[0] if starts else int(str(after))), True
    kills_term, kills_kill = signal("container.kill", "15", "TERM"), signal("container.kill", "9", "KILL")
    onset = min([low, *kills_term, *kills_kill, *graceful])
    pre = gap.filter(pl.col("t") >= onset - BEFORE)
    codes = gap.filter(pl.col("event_name") == "container.die").get_column("container_exit_code").to_list()
    ids = gap.get_column("container_id").drop_nulls().unique(maintain_order=True).to_list()
    hosts_before = {h for h, x in zip(lines.get_column("host_name").to_list(), lines.get_column("t").to_list(), strict=True) if h and x <= low and (before is None or x >= before - 60 * SECOND)}
    hosts_after = {h for h, x in zip(lines.get_column("host_name").to_list(), lines.get_column("t").to_list(), strict=True) if h and starts and x >= starts[0] and x <= starts[0] + 120 * SECOND}
    known = covered is not None and covered[0] <= low + SECOND
    cited = _cited(gap)
    commands = [str(c) for c in gap.filter(pl.col("event_name") == "container.exec_create").get_column("exec_command").to_list()]
    return _row(
        kind="gateway", cut_low=low, cut_high=high, up=after, error=int(gap.get_column("clock_error_ns").drop_nulls().max() or 0), covered=known, abrupt=abrupt, exit_code=codes[0] if codes else None,  # type: ignore[arg-type]
        die=len(dies), kill_term=len(kills_term), kill_kill=len([k for k in kills_kill if not dies or k <= dies[0] + SECOND]), kill_other=len(times("container.kill")) - len(kills_term) - len(kills_kill), oom=len(times("container.oom")),
        oom_fact=_oom_fact(facts, ids, dies), stop=len(times("container.stop")), restart=len(times("container.restart")), created=len(times("container.create")), destroyed=len(times("container.destroy")) + len(times("container.rename")),
        unhealthy=pre.filter((pl.col("event_name") == "container.health_status") & (pl.col("health_status") == "unhealthy")).height, sigterm=len(term_lines) + len([b for b in gap.filter(pl.col("event_name") == "gateway.stop").get_column("stop_reason").to_list() if "SIGTERM" in str(b)]),
        sigusr=len(user_lines), in_process=gap.filter(pl.col("restart_mode").str.contains(r"in-process|supervisor|full process")).height if user_lines or not dies else 0, conflict=len(times("gateway.conflict")), crash=len(times("gateway.crash")),
        fatal=len([x for x in fatal if not dies or x <= dies[0] + SECOND]), node_exit=gap.filter(pl.col("body").fill_null("").str.starts_with("Node.js v")).height, exec_signal=len([c for c in commands if "kill" in c]),
        moved=bool(hosts_before and hosts_after and not hosts_before & hosts_after), boots=len(starts), shown=bool(gap.filter(pl.col("event_name").is_in(["gateway.signal", "gateway.stop", "gateway.crash"])).height), events=cited,
        container_id=ids[-1] if ids else None,
    )  # fmt: skip


def _cited(gap: pl.DataFrame) -> list[str]:
    """The events that tell the story of a downtime, the first few of each kind."""
    keep = ("container.health_status", "container.oom", "container.kill", "gateway.signal", "gateway.stop", "gateway.restart", "gateway.crash", "process.error", "gateway.conflict", "container.die", "container.destroy", "container.create", "container.restart")
    order = {n: i for i, n in enumerate(keep)}
    rows = gap.filter(pl.col("event_name").is_in(keep)).with_columns(pl.col("event_name").replace_strict(order, default=99, return_dtype=pl.Int64).alias("_o"))
    return rows.group_by("event_name", maintain_order=True).head(2).sort("t", "_o").get_column("event_id").head(10).to_list()


def _oom_fact(facts: pl.DataFrame, ids: list[str], dies: list[int]) -> bool:
    """Whether `docker inspect` says that the container's latest death, which is this one, was an OOM kill."""
    for ident in ids:
        own = facts.filter(pl.col("subject") == f"container:{ident}")
        if own.filter((pl.col("key") == "state.oom_killed") & (pl.col("value") == "true")).is_empty():
            continue
        ended = own.filter(pl.col("key") == "state.finished_at").get_column("value").str.to_datetime(time_unit="ns", time_zone="UTC", strict=False).cast(pl.Int64)
        if ended.len() and any(abs(d - int(ended[0])) < 2 * SECOND for d in dies if ended[0] is not None):
            return True
    return False


def _proxy(events: pl.DataFrame, covered: tuple[int, int] | None) -> list[dict[str, object]]:
    """Restarts, kills and reloads of proxies, from the engine's events and the proxy's own log."""
    t = pl.col("timestamp").cast(pl.Int64)
    names = pl.col("event_name")
    reload = pl.col("exec_command").fill_null("").str.contains(r"reload|-s (?:reload|quit|stop)|kill|graceful|SIGHUP|USR2")
    engine = events.filter((pl.col("role") == "proxy") & (names.is_in(["container.die", "container.kill", "container.stop", "container.start", "container.restart", "container.oom"]) | ((names == "container.exec_create") & reload)))
    own = events.filter((pl.col("source_kind") == "proxy") & names.is_in(["proxy.reload", "proxy.stop", "proxy.start", "proxy.worker"]))
    life = pl.concat([engine, own], how="diagonal").filter(pl.col("timestamp").is_not_null()).select(t.alias("t"), t.alias("low"), "event_name", "event_id", "signal", "container_exit_code", "clock_error_ns", "clock_status", "time_resolution_ns", "container_id").sort("t")
    if life.is_empty():
        return []
    life = life.with_columns((pl.col("t").diff().fill_null(0) > PROXY_GAP).cum_sum().alias("_c"))
    out = []
    for (_,), group in life.partition_by("_c", as_dict=True, maintain_order=True).items():
        acts = group.filter(~names.is_in(["proxy.start", "container.start", "proxy.worker"]))
        if acts.is_empty():
            continue  # the first start
        deaths = group.filter(names == "container.die")
        reloads = group.filter(names.is_in(["container.exec_create", "proxy.reload"]) | ((names == "container.kill") & pl.col("signal").is_in(["1", "12", "HUP", "USR2", "10"])))
        begun = int(acts.get_column("t").min())  # type: ignore[arg-type]
        cuts = group.filter(names.is_in(["container.die", "proxy.worker", "proxy.stop"]) & (pl.col("t") >= begun - SECOND))
        width = int(group.get_column("time_resolution_ns").drop_nulls().max() or 0) if deaths.is_empty() else 0  # type: ignore[arg-type]
        exact = int(deaths.get_column("t").min()) if deaths.height else None  # type: ignore[arg-type]
        last = int(cuts.get_column("t").max()) if cuts.height else begun  # type: ignore[arg-type]
        ups = group.filter((names == "container.start") & (pl.col("t") >= begun)).get_column("t")
        high = (exact + 300 * MS) if exact is not None else max(last + width + SECOND, begun + 12 * SECOND)
        out.append(_row(
            kind="proxy", cut_low=(max(exact - SECOND, begun - 200 * MS) if exact is not None else begun - 200 * MS), cut_high=high, up=int(ups.max()) + SECOND if ups.len() else high,  # type: ignore[arg-type]
            error=int(group.get_column("clock_error_ns").drop_nulls().max() or 0), covered=covered is not None and covered[0] <= begun + SECOND, abrupt=deaths.height > 0, die=deaths.height, reload=reloads.height,  # type: ignore[arg-type]
            exit_code=deaths.item(0, "container_exit_code") if deaths.height else None, exact=exact if exact is not None else (last if cuts.height and width <= SECOND else None),
            shown=True, events=group.filter(~names.is_in(["proxy.worker"])).get_column("event_id").head(6).to_list(), container_id=group.get_column("container_id").drop_nulls().first(),
        ))  # fmt: skip
    return out


def _interruptions(events: pl.DataFrame) -> list[dict[str, object]]:
    """Freezes (`pause`) and partitions (`network disconnect`) of a gateway's container, with their ends."""
    t = pl.col("timestamp").cast(pl.Int64)
    out = []
    ours = events.filter(pl.col("role") == "gateway")
    gone = ours.filter(pl.col("event_name").is_in(["container.die", "container.start"])).select(t.alias("t")).get_column("t").to_list()
    for kind, begin, end in (("freeze", "container.pause", "container.unpause"), ("partition", "network.disconnect", "network.connect")):
        starts = ours.filter(pl.col("event_name") == begin).select(t.alias("t"), "event_id", "container_id").sort("t")
        ends = ours.filter(pl.col("event_name") == end).select(t.alias("until"), pl.col("event_id").alias("end_id")).sort("until")
        for row in starts.join_asof(ends, left_on="t", right_on="until", strategy="forward", check_sortedness=False).to_dicts():
            if kind == "partition" and any(abs(g - row["t"]) < 5 * SECOND for g in gone):
                continue  # a stop takes the container off its network: that is no partition
            until = row["until"] if row["until"] is not None else row["t"] + 3600 * SECOND
            out.append(_row(kind=kind, cut_low=row["t"], cut_high=until, up=until, error=0, covered=True, abrupt=False, shown=True, events=[i for i in (row["event_id"], row["end_id"]) if i], container_id=row["container_id"]))
    return out
