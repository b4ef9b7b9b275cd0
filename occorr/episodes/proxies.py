"""Deaths and reloads of proxies."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from occorr.episodes.table import record
from occorr.facts import program, proxy_kind
from occorr.schema import MS, SECOND

RELOADS: Final = ("1", "HUP", "SIGHUP", "10", "USR1", "SIGUSR1", "12", "USR2", "SIGUSR2")  # signals that end no proxy
RELOAD_GAP: Final = 3 * SECOND  # lines of one reload
DEATH_GAP: Final = 15 * SECOND  # from a stop's first signal to the death
RELOAD_GRACE: Final = 12 * SECOND  # how long old workers may live on: from 1 s to 10 s in the usual configurations


def proxies(events: pl.DataFrame, covered: tuple[int, int] | None) -> list[dict[str, Any]]:
    """Deaths and reloads of proxies, from the engine's events and the proxy's own log.

    Each proxy has its own. One of another project stands before the gateway only where the gateway's has none.
    """
    t = pl.col("timestamp").cast(pl.Int64)
    names = pl.col("event_name")
    told = pl.col("exec_command").fill_null("").str.contains(r"reload|-s (?:reload|quit|stop)|kill|graceful|HUP|USR2")
    engine = events.filter(
        (pl.col("role") == "proxy")
        & (
            names.is_in(["container.die", "container.kill", "container.stop", "container.start"])
            | ((names == "container.exec_create") & told)
        )
    ).filter(_beside(events))
    own = events.filter(
        (pl.col("source_kind") == "proxy") & names.is_in(["proxy.reload", "proxy.stop", "proxy.start", "proxy.worker"])
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
            _which(engine).alias("proxy"),
        )
        .sort("t")
    )
    again = pl.col("signal").is_in(RELOADS)
    reloads = names.is_in(["container.exec_create", "proxy.reload"]) | ((names == "container.kill") & again)
    deaths = names.is_in(["container.die", "container.stop", "proxy.stop"]) | ((names == "container.kill") & ~again)
    stranger = _strangers(engine, events)
    out = []
    for acts, gap, ended in ((reloads, RELOAD_GAP, False), (deaths, DEATH_GAP, True)):
        chosen = life.filter(acts)
        if chosen.is_empty():
            continue
        apart = (pl.col("t").diff().fill_null(0) > gap).cum_sum().over("proxy")
        chosen = chosen.with_columns(apart.alias("_c"))
        for (proxy, _), group in chosen.partition_by("proxy", "_c", maintain_order=True, as_dict=True).items():
            row = _proxy_episode(group, life.filter(pl.col("proxy") == proxy), covered, ended=ended)
            out.append(row | {"narrow": row["narrow"] and row["container_id"] not in stranger})
    return out


def _strangers(engine: pl.DataFrame, events: pl.DataFrame) -> list[str]:
    """Proxies' containers that run another program than those of which there are access logs: they may serve others."""
    if not {"parser", "container_image_name"} <= set(events.columns):
        return []
    access = events.filter(pl.col("event_name") == "http.access")
    logged = access.select(program()).to_series().unique().drop_nulls().to_list()
    images = engine.select("container_id", pl.col("container_image_name").cast(pl.String)).drop_nulls().unique().rows()
    return sorted({ident for ident, image in images if logged and proxy_kind(image) not in ("", *logged)})


def _beside(events: pl.DataFrame) -> pl.Expr:
    """Whether a proxy's container is of the gateway's project, where that has a proxy at all."""
    own = events.filter(pl.col("role").is_in(["gateway", "proxy"])).select("role", "compose_project").drop_nulls()
    projects = {role: set(names) for role, names in own.group_by("role").agg("compose_project").rows()}
    ours = projects.get("gateway", set()) & projects.get("proxy", set())
    return pl.col("compose_project").is_in(sorted(ours)).fill_null(value=True) if ours else pl.lit(value=True)


def _which(engine: pl.DataFrame) -> pl.Expr:
    """The proxy that an event or line is of: its service, whichever container runs it; empty where there is only one."""
    family = pl.coalesce(
        pl.concat_str("compose_project", pl.lit("/"), "compose_service"), "container_name", "container_id"
    )
    several = engine.select(family).to_series().drop_nulls().n_unique() > 1
    return family.fill_null("") if several else pl.lit("")


def _proxy_episode(
    group: pl.DataFrame, life: pl.DataFrame, covered: tuple[int, int] | None, *, ended: bool
) -> dict[str, Any]:
    """One reload, or death where it `ended`: when the connections were cut, as narrowly as the lines tell."""
    names = group.get_column("event_name").to_list()
    times = group.get_column("t").to_list()
    begun = times[0]
    dies = [x for x, n in zip(times, names, strict=True) if n == "container.die"]
    error = int(group.get_column("clock_error_ns").drop_nulls().max() or 0)  # type: ignore[arg-type]  # polars types a column's maximum as any value
    after = life.filter(pl.col("t") >= begun)
    ups, back = (
        after.filter(pl.col("event_name").is_in(told)).get_column("t").to_list()
        for told in (["container.start"], ["container.start", "proxy.start"])
    )
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
    return record(
        kind="proxy",
        cut_low=low,
        cut_high=high,
        up=up,
        back=back[0] if back and ended else None,
        error=error,
        covered=covered is not None and covered[0] - SECOND <= begun <= covered[1],
        abrupt=bool(dies),
        die=len(dies),
        reload=0 if dies else len(times),
        exit_code=group.get_column("container_exit_code").drop_nulls().first(),
        narrow=narrow,
        shown=True,
        events=group.get_column("event_id").head(6).to_list(),
        container_id=group.get_column("container_id").drop_nulls().first(),
    )
