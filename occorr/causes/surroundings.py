"""What was near a close in time and on its path: downtimes, proxies' deaths, interruptions, the gateway's other lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import polars as pl

from occorr.episodes import coverage
from occorr.episodes.gap import HUNG
from occorr.schema import SECOND
from occorr.scope import BEGINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR: Final = 30 * SECOND
LOOSE: Final = 600 * SECOND  # what a clock that nothing ties is off by, at most, in rules that ask what was not near
SILENT: Final = 6 * 3600 * SECOND  # a gateway that is quieter than this has lost a day's log, or says nothing of closes


def surroundings(rows: pl.DataFrame, episodes: pl.DataFrame, events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """The closes with what is known of the time around each.

    Args:
        rows: closes with the words of their observers (`features`).
        episodes: what happened to paths, named.
        events: placed events.
        facts: FACTS.
    """
    t = pl.col("timestamp").cast(pl.Int64)
    # whatever is asked of the time around a close holds for all of the time in which it may have been
    low, high = pl.col("time_earliest").cast(pl.Int64), pl.col("time_latest").cast(pl.Int64)
    span = (pl.coalesce(low, t), pl.coalesce(high, t))
    # … and a clock that nothing ties may stand further off than it is taken to
    loose = (pl.col("p_clock_status") == "assumed") & pl.col("g_event").is_null() & pl.col("c_event").is_null()
    far = (span[0] - LOOSE, span[1] + LOOSE)
    lines = _moments(events.filter(pl.col("source_kind") == "gateway")).sort("line")
    gone, proxied = (episodes.filter(pl.col("kind") == kind) for kind in ("gateway", "proxy"))
    broken = episodes.filter(pl.col("kind").is_in(["freeze", "partition"]))
    told = {
        "gateway_alive": _alive(t, high - low, episodes),
        "log_gap": _gap(lines),
        "stopping": _stopping(gone),
        "docker_covers": _covered(span, coverage(events, facts)),
        "untrusted_line": pl.col("untrusted_event").is_not_null(),
        "downtime_near": _any_near(gone, span),
        "death_soon": _any_near(gone.filter("abrupt"), span, HUNG),
        "proxy_event_near": _any_near(proxied, span),
        "proxy_stayed": _stayed(proxied, events),
        "interruption_near": _any_near(broken, span),
        "p_maybe_near": loose & _any_near(episodes, far),
        "rotated_near": _rotated(events, t),
        "unanswered_near": _unanswered(t),
    }
    return (
        _neighbours(rows, lines)
        .with_columns(
            _distrusted(rows, events).alias("untrusted_event"),
            _trusted(rows, events).alias("p_trusted"),
            pl.lit(lines.height > 0).alias("gateway_log"),
            pl.lit(_contained(events, facts)).alias("contained"),
            pl.lit(_hosted(events)).alias("hosted"),
        )
        .with_columns(test.fill_null(value=False).alias(name) for name, test in told.items())
    )


def _moments(events: pl.DataFrame) -> pl.DataFrame:
    """When lines were written: line, ns."""
    return events.select(pl.col("timestamp").cast(pl.Int64).alias("line")).drop_nulls()


def _contained(events: pl.DataFrame, facts: pl.DataFrame) -> bool:
    """Whether anything tells of containers: a document, an event, or what stands around lines."""
    told = pl.any_horizontal(
        pl.col("container_id").is_not_null(),
        pl.col("compose_service").is_not_null(),
        (pl.col("observed_clock_id") == "engine").fill_null(value=False),
    )
    return facts.get_column("subject").str.contains("^(?:container|service):").any() or events.select(told.any()).item()


def _hosted(events: pl.DataFrame) -> bool:
    """Whether lines went through a host's journal."""
    return "syslog_program" in events.columns and events.get_column("syslog_program").is_not_null().any()


def _neighbours(rows: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
    """The closes with the moments of the gateway's last line `_before` each and the first one `_after` it, ns."""
    near = rows.select("close_id", pl.col("timestamp").cast(pl.Int64).alias("t")).drop_nulls().sort("t")
    sides: dict[str, Literal["backward", "forward"]] = {"_before": "backward", "_after": "forward"}
    for name, strategy in sides.items():
        near = near.join_asof(
            lines.rename({"line": name}), left_on="t", right_on=name, strategy=strategy, check_sortedness=False
        )
    return rows.join(near.drop("t"), on="close_id", how="left", maintain_order="left")


def _alive(t: pl.Expr, width: pl.Expr, episodes: pl.DataFrame) -> pl.Expr:
    """Whether one process of the gateway wrote lines shortly before a close and shortly after it."""
    return (
        (t - pl.col("_before") < NEAR)
        & (pl.col("_after") - t < NEAR)
        & ~_between(pl.col("_before"), pl.col("_after"), episodes)
        & (width < NEAR)
    )


def _covered(span: tuple[pl.Expr, pl.Expr], covered: tuple[int, int] | None) -> pl.Expr:
    """Whether the engine's events tell of all of a time."""
    return pl.all_horizontal(x.is_between(*covered) for x in span) if covered is not None else pl.lit(value=False)


def _stayed(proxied: pl.DataFrame, events: pl.DataFrame) -> pl.Expr:
    """Whether the proxy's own log tells of one start, before the connection was opened, and of no reload and no stop since."""
    starts = _moments(events.filter((pl.col("source_kind") == "proxy") & (pl.col("event_name") == "proxy.start")))
    one = pl.lit(proxied.is_empty() and starts.height == 1)
    return one & (pl.col("opened").cast(pl.Int64) > pl.lit(starts.get_column("line").min()))


def _unanswered(t: pl.Expr) -> pl.Expr:
    """Whether a proxy dialled the gateway in vain at about that time: nobody answered, or no way led there."""
    dialling = pl.col("p_errno").is_in([110, 113]) & (pl.col("p_phase") == "connecting")
    in_vain = t.filter(
        (dialling | pl.col("p_termination").str.starts_with("sC").fill_null(value=False))  # HAProxy: its connect timer
        & ~pl.col("p_established")
        & pl.col("p_to_gateway").fill_null(value=True)
    )
    return t.is_between(in_vain.min() - NEAR, in_vain.max() + NEAR)


def _distrusted(rows: pl.DataFrame, events: pl.DataFrame) -> pl.Series:
    """Ids of the lines in which the process that was asked says that it does not trust a proxy; null where it says no such thing.

    A process says so once, for all that it refuses. Where nothing ties the proxy's clock, any such line may be meant.
    """
    told = events.filter(pl.col("timestamp").is_not_null()).select(
        "event_id", "event_name", "body", pl.col("timestamp").cast(pl.Int64).alias("t")
    )
    # older gateways warn of headers and answer all the same
    refuses = pl.col("body").str.contains("unattributable", literal=True)
    lines = told.filter((pl.col("event_name") == "proxy.untrusted") & refuses).sort("t")
    if lines.is_empty():
        return pl.Series([None] * rows.height, dtype=pl.String)
    starts = _starts(events)
    said = lines.get_column("t").to_numpy()
    low, high = (
        rows.get_column(name).cast(pl.Int64).fill_null(0).to_numpy() + slack
        for name, slack in (("time_earliest", -SECOND), ("time_latest", SECOND))
    )
    before = np.searchsorted(said, high, side="right") - 1
    life_of_line = np.searchsorted(starts, said[before], side="right")
    same = (before >= 0) & (life_of_line >= np.searchsorted(starts, low, side="right"))
    which = pl.Series(np.where(same, before, -1)).replace(-1, None)
    loose = rows.select((pl.col("p_clock_status") == "assumed").fill_null(value=False)).to_series()
    which = which.zip_with(which.is_not_null() | ~loose, pl.Series([0] * rows.height, dtype=which.dtype))
    return lines.get_column("event_id").gather(which.cast(pl.UInt32))


def _trusted(rows: pl.DataFrame, events: pl.DataFrame) -> pl.Series:
    """Whether a gateway's process let connections through a proxy, in the life in which each close was: then it trusts it."""
    starts = _starts(events)
    life = np.searchsorted(starts, rows.get_column("timestamp").cast(pl.Int64).fill_null(0).to_numpy(), side="right")
    let = (pl.col("p_status") == 101) & pl.col("p_to_gateway").fill_null(value=False)
    told = rows.with_columns(pl.Series("_life", life)).select(let.fill_null(value=False).any().over("p_clock", "_life"))
    return told.to_series()


def _starts(events: pl.DataFrame) -> NDArray[np.int64]:
    """When processes of the gateway began or were there at last, ns, sorted."""
    told = events.filter(pl.col("event_name").is_in(BEGINS)).get_column("timestamp")
    return np.sort(told.drop_nulls().cast(pl.Int64).to_numpy())


def _rotated(events: pl.DataFrame, t: pl.Expr) -> pl.Expr:
    """Whether the gateway's credentials were changed just before, which makes clients end politely."""
    told = events.filter(pl.col("event_name") == "auth.rotated").get_column("timestamp").drop_nulls().cast(pl.Int64)
    tests = [t.is_between(x - SECOND, x + 5 * SECOND) for x in told.unique().sort()]
    return _any(tests)


def _stopping(downtimes: pl.DataFrame) -> pl.Expr:
    """Whether the gateway wrote of a close after it had begun to shut down, by its own clock where it tells of that itself."""
    t = pl.coalesce("g_t", pl.col("timestamp").cast(pl.Int64))
    tests = [
        t.is_between(
            own if own is not None else low - 2 * SECOND, max(x for x in (own_high, up, high) if x is not None)
        )
        for own, own_high, low, high, up in downtimes.filter(~pl.col("abrupt"))
        .select("own_low", "own_high", "cut_low", "cut_high", "up")
        .rows()
        if low is not None
    ]
    return _any(tests)


def _any_near(episodes: pl.DataFrame, span: tuple[pl.Expr, pl.Expr], before: int = 2 * SECOND) -> pl.Expr:
    """Whether a time reaches into one of the episodes, or to within a few seconds of it."""
    tests = [
        (span[1] >= low - before) & (span[0] <= (up if up is not None else 1 << 62) + 2 * SECOND)
        for low, up in episodes.select("cut_low", "up").rows()
        if low is not None
    ]
    return _any(tests)


def _gap(lines: pl.DataFrame) -> pl.Expr:
    """Whether the gateway wrote nothing for so long, while the connection was open, that a part of its log may be missing."""
    began = pl.col("line").shift(1)
    gaps = lines.filter(pl.col("line") - began > SILENT).select(pl.col("line").alias("b"))
    spans = (
        lines.with_columns(began.alias("a"))
        .join(gaps, left_on="line", right_on="b", maintain_order="left")
        .select("a", "line")
        .rows()
    )
    opened, ended = pl.col("opened").cast(pl.Int64), pl.col("time_latest").cast(pl.Int64)
    tests = [(opened <= a) & (ended >= b) for a, b in spans]
    return _any(tests)


def _between(before: pl.Expr, after: pl.Expr, episodes: pl.DataFrame) -> pl.Expr:
    """Whether a process of the gateway ended between two moments: lines on both sides then say nothing of the time between."""
    cuts = episodes.filter(pl.col("kind") == "gateway").get_column("cut_high").drop_nulls().unique().sort().to_list()
    return _any([(before <= x) & (after >= x) for x in cuts])


def _any(tests: list[pl.Expr]) -> pl.Expr:
    """Whether one of some tests holds; none of none does."""
    return pl.any_horizontal(tests).fill_null(value=False) if tests else pl.lit(value=False)
