"""Deaths and reloads of proxies."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from occorr.episodes.table import record

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
RELOAD_GAP: Final = 3 * SECOND  # lines of one reload
DEATH_GAP: Final = 15 * SECOND  # from a stop's first signal to the death
RELOAD_GRACE: Final = 12 * SECOND  # how long old workers may live on: from 1 s to 10 s in the usual configurations


def proxies(events: pl.DataFrame, covered: tuple[int, int] | None) -> list[dict[str, Any]]:
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
    return record(
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
