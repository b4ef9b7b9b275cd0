"""What rules may ask of a close: its observers' words, and what was near it in time and place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from occorr.causes import upstreams
from occorr.episodes import coverage
from occorr.episodes.gap import HUNG
from occorr.facts import proxies
from occorr.scope import BEGINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
NEAR: Final = 30 * SECOND
LOOSE: Final = 600 * SECOND  # what a clock that nothing ties is off by, at most, in rules that ask what was not near
# addresses that a proxy on the same host or network may have, too
_NOBODYS: Final = (
    r"^(?:::ffff:)?(?:127\.|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|169\.254\.|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.)"
    r"|^::1$|^f[cd][0-9a-f]{2}:|^fe[89ab][0-9a-f]:"
)
_LOOPBACK: Final = r"^(?:::ffff:)?127\.|^::1$"
_NAMED_NEAR: Final = r"^0\.0\.0\.0$|\.(?:internal|local|lan|home|localhost)$"
AT_ONCE: Final = 10 * MS  # ends that lie nearer together were cut by one hand
BREATH: Final = 40 * MS  # … and a busy gateway's lines of them lie within this (33 ms measured)
ALIKE: Final = 60 * MS  # durations that differ by less are one limit's
SILENT: Final = 6 * 3600 * SECOND  # a gateway that is quieter than this has lost a day's log, or says nothing of closes
LIMITS: Final = (60.0, 75.0, 300.0, 3600.0)  # idle limits that proxies and balancers come with, s
CITED: Final = {
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


def features(
    closes: pl.DataFrame,
    episodes: pl.DataFrame,
    events: pl.DataFrame,
    facts: pl.DataFrame,
    place: tuple[str | None, str | None] = (None, None),
) -> pl.DataFrame:
    """The closes with every feature that rules may ask for."""
    rows = closes.with_columns(
        pl.lit(None, pl.String).alias(c) for c in (*CITED.values(), "p_error", "p_upstream") if c not in closes.columns
    )
    t = pl.col("timestamp").cast(pl.Int64)
    low, high = pl.col("time_earliest").cast(pl.Int64), pl.col("time_latest").cast(pl.Int64)
    # whatever is asked of the time around a close holds for all of the time in which it may have been
    span = (pl.coalesce(low, t), pl.coalesce(high, t))
    # … and a clock that nothing ties may stand further off than it is taken to
    loose = (pl.col("p_clock_status") == "assumed") & pl.col("g_event").is_null() & pl.col("c_event").is_null()
    far = (span[0] - LOOSE, span[1] + LOOSE)
    gateway_times = (
        events.filter((pl.col("source_kind") == "gateway") & pl.col("timestamp").is_not_null())
        .select(pl.col("timestamp").cast(pl.Int64).alias("line"))
        .sort("line")
    )
    covered = coverage(events, facts)
    kinds = closes.get_column("p_kind").drop_nulls().unique().to_list() if "p_kind" in closes.columns else []
    kinds += proxies(facts)
    ports = _published(events, facts)
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
    # a format may be changed in the middle of a log, and fields of a structured one may be left out
    says_upstream = pl.col("p_says_upstream").any().over("p_file", "p_form") | pl.col("p_kind").is_in(
        ["haproxy", "envoy", "caddy"]
    )
    to_gateway, own_port = upstreams.to_gateway(rows, events, facts), upstreams.own_port(facts)
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
    rows = rows.with_columns(_distrusted(rows, events).alias("untrusted_event"))
    ends = (
        rows.filter(pl.coalesce("g_t", "p_t").is_not_null())
        .select("close_id", pl.coalesce("p_t", "g_t").alias("t"), pl.lit(value=True).alias("_any"))
        .sort("t")
    )
    cut = (
        pl.col("p_established")
        & pl.col("p_duration").is_not_null()
        & pl.col("code_gateway").is_in([1006], nulls_equal=False).fill_null(value=True)
        & (pl.col("p_duration") > 2 * SECOND)
    ).fill_null(value=False)
    lasted_alike = rows.filter(cut).select("close_id", pl.col("p_duration").alias("t"))
    lost = rows.filter(pl.col("code_gateway") == 1006).select("close_id", pl.col("g_t").alias("t")).drop_nulls()
    # by whom the gateway saw: the clients of one proxy have its address
    left = rows.filter((pl.col("code_gateway") == 1001) & pl.col("g_t").is_not_null())
    peers = left.select("close_id", pl.col("g_t").alias("t"), pl.col("g_remote").alias("by"))
    for name, which, reach in (
        ("same_moment", ends, AT_ONCE),
        ("same_breath", ends, BREATH),
        ("same_length", lasted_alike, ALIKE),
        ("lost_together", lost, BREATH),
        ("gone_together", peers, BREATH),
    ):
        rows = rows.join(_company(which, reach, name), on="close_id", how="left", maintain_order="left")
    rows = rows.join(_outlived(rows), on="close_id", how="left", maintain_order="left")
    unanswered = t.filter(
        pl.col("p_errno").is_in([110, 113])
        & (pl.col("p_phase") == "connecting")
        & ~pl.col("p_established")
        & to_gateway.fill_null(value=True)
    )
    gone = episodes.filter(pl.col("kind") == "gateway")
    proxied = episodes.filter(pl.col("kind") == "proxy")
    # one start, and so one proxy
    starts = (
        events.filter((pl.col("source_kind") == "proxy") & (pl.col("event_name") == "proxy.start"))
        .get_column("timestamp")
        .cast(pl.Int64)
    )
    broken = episodes.filter(pl.col("kind").is_in(["freeze", "partition"]))
    return rows.with_columns(
        pl.col("websocket_close_code").cast(pl.Int64).alias("code"),
        pl.col("websocket_close_reason").alias("reason"),
        (pl.col("duration_ns") / SECOND).alias("duration_s"),
        pl.col("g_event").is_not_null().alias("g_seen"),
        pl.col("g_ambiguous").alias("ambiguous"),
        pl.col("g_parse_event").is_not_null().alias("g_parse_error"),
        pl.col("g_timeout_event").is_not_null().alias("g_timeout_line"),
        pl.col("g_version_event").is_not_null().alias("g_version_line"),
        pl.col("g_auth_event").is_not_null().alias("g_auth_line"),
        pl.col("p_event").is_not_null().alias("p_seen"),
        _failed().alias("p_failed"),
        (upstream_known | says_upstream.fill_null(value=False)).alias("p_upstream_known"),
        (pl.col("p_duration") / SECOND).alias("p_duration_s"),
        to_gateway.alias("p_to_gateway"),
        own_port.alias("p_own_port"),
        pl.col("p_clock_status").is_in(["aligned", "reference"]).fill_null(value=False).alias("p_aligned"),
        limit.alias("p_limit_s"),
        upstreams.own_loopback(to_gateway, own_port).alias("p_own_loopback"),
        pl.col("p_flags").is_not_null().any().over("p_file").alias("p_flags_known"),
        pl.col("c_event").is_not_null().alias("c_seen"),
        (pl.col("c_port").is_in(ports) if ports is not None else pl.lit(None, pl.Boolean)).alias("c_published"),
        pl.col("c_port").cast(pl.String).is_in(upstreams.own_ports(facts)).alias("c_own_port"),
        _inside(facts, place[0]).alias("c_inside"),
        (
            pl.col("c_host").str.contains(r"[.:]")
            & ~pl.col("c_host").str.contains(_NOBODYS)
            & ~pl.col("c_host").str.contains(_NAMED_NEAR)
        )
        .fill_null(value=False)
        .alias("c_far"),
        (
            (t - pl.col("_before") < NEAR)
            & (pl.col("_after") - t < NEAR)
            & ~_between(pl.col("_before"), pl.col("_after"), episodes)
            & (high - low < NEAR)
        )
        .fill_null(value=False)
        .alias("gateway_alive"),
        pl.lit(gateway_times.height > 0).alias("gateway_log"),
        _gap(gateway_times).alias("log_gap"),
        _stopping(gone).alias("stopping"),
        (span[0].is_between(*covered) & span[1].is_between(*covered) if covered is not None else pl.lit(value=False))
        .fill_null(value=False)
        .alias("docker_covers"),
        pl.lit(kinds[0] if len(set(kinds)) == 1 else None, pl.String).alias("proxy_known"),
        pl.col("untrusted_event").is_not_null().alias("untrusted_line"),
        _any_near(gone, span).alias("downtime_near"),
        _any_near(gone.filter("abrupt"), span, HUNG).alias("death_soon"),
        (pl.coalesce("p_resolution", pl.lit(MS)) < SECOND).alias("fine"),
        _any_near(proxied, span).alias("proxy_event_near"),
        # its own log tells of no reload and no stop since before the connection was opened
        (pl.lit(proxied.is_empty() and starts.len() == 1) & (pl.col("opened").cast(pl.Int64) > pl.lit(starts.min())))
        .fill_null(value=False)
        .alias("proxy_stayed"),
        _any_near(broken, span).alias("interruption_near"),
        (loose & _any_near(episodes, far)).fill_null(value=False).alias("p_maybe_near"),
        _trusted(rows, events, to_gateway).alias("p_trusted"),
        pl.col("g_remote").str.contains(_NOBODYS).not_().fill_null(value=False).alias("g_public"),
        # behind another proxy all clients have that one's address
        (
            ~pl.col("p_client").str.contains(_NOBODYS)
            | (pl.col("p_client").filter(~pl.col("p_client").str.contains(_LOOPBACK)).n_unique().over("p_clock") > 1)
            | ~pl.col("g_forwarded").str.contains(_NOBODYS)
        )
        .fill_null(value=False)
        .alias("p_edge"),
        _rotated(events, t).alias("rotated_near"),
        t.is_between(unanswered.min() - NEAR, unanswered.max() + NEAR).fill_null(value=False).alias("unanswered_near"),
        ((pl.col("g_t") - pl.coalesce("p_t", "c_t")) > 2 * SECOND).fill_null(value=False).alias("late_gateway"),
    )


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


def _trusted(rows: pl.DataFrame, events: pl.DataFrame, to_gateway: pl.Expr) -> pl.Series:
    """Whether a gateway's process let connections through a proxy, in the life in which each close was: then it trusts it."""
    starts = _starts(events)
    life = np.searchsorted(starts, rows.get_column("timestamp").cast(pl.Int64).fill_null(0).to_numpy(), side="right")
    let = (pl.col("p_status") == 101) & to_gateway.fill_null(value=False)
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
    return pl.any_horizontal(tests).fill_null(value=False) if tests else pl.lit(value=False)


def _failed() -> pl.Expr:
    """Whether the proxy could not reach its upstream, or got no answer; an error line alone says so without a status."""
    told = pl.col("p_status").is_in([502, 503, 504]) | (
        pl.col("p_status").is_null() & pl.col("p_phase").is_in(["connecting", "no_upstream", "awaiting_response"])
    )
    return (told & ~pl.col("p_established")).fill_null(value=False)


def _published(events: pl.DataFrame, facts: pl.DataFrame) -> list[int] | None:
    """Ports at which containers are published; None unless the documents tell those of all containers that the events name."""
    ports = facts.filter(pl.col("key").str.starts_with("port.")).get_column("value").str.extract(r":(\d+)$", 1)
    named = events.filter((pl.col("source_kind") == "docker") & pl.col("container_id").is_not_null())
    gone = named.filter(pl.col("event_name") == "container.destroy").get_column("container_id")
    known = facts.get_column("subject").str.strip_prefix("container:")
    unknown = named.filter(~pl.col("container_id").is_in(pl.concat([gone.cast(pl.String), known]).implode()))
    return ports.cast(pl.Int64, strict=False).drop_nulls().to_list() if ports.len() and unknown.is_empty() else None


def _inside(facts: pl.DataFrame, gateway: str | None) -> pl.Expr:
    """Whether a call came from another container than the gateway's, as far as its log's service tells; null if it does not.

    A container that shares another one's network (`network_mode: service:…`) has that one's loopback.
    """
    mode = (pl.col("key") == "network_mode") & pl.col("value").str.contains(r"^(?:service|container):|^host$")
    subjects = facts.filter(mode).get_column("subject").unique()
    services = facts.filter(pl.col("subject").is_in(subjects.implode()) & (pl.col("key") == "compose.service"))
    shared = [*subjects.str.replace(r"^\w+:", ""), *services.get_column("value")]
    if gateway is None:
        return pl.lit(None, pl.Boolean)
    known = facts.filter(pl.col("key") == "compose.service").get_column("value")
    said = pl.concat([known, facts.get_column("subject").str.replace(r"^service:", "")]).unique().implode()
    return (
        pl.when(pl.col("c_service").is_null() | ~pl.col("c_service").is_in(said))
        .then(None)
        .otherwise((pl.col("c_service") != gateway) & ~pl.col("c_service").is_in(shared))
    )


def _company(frame: pl.DataFrame, reach: int, name: str) -> pl.DataFrame:
    """How many rows, itself included, have a `t` within `reach` of each row's, and its `by` if there is one: close_id, and the count under `name`."""

    def counted(own: pl.DataFrame) -> pl.DataFrame:
        own = own.sort("t")
        at = own.get_column("t").to_numpy()
        count = np.searchsorted(at, at + reach, side="right") - np.searchsorted(at, at - reach, side="left")
        return own.select("close_id", pl.Series(name, count, dtype=pl.Int64))

    groups = frame.partition_by("by") if "by" in frame.columns else [frame]
    return pl.concat([counted(own) for own in groups or [frame]])


def _outlived(rows: pl.DataFrame) -> pl.DataFrame:
    """Whether an older connection through the same proxy surely stayed for a second after each close: close_id, outlived.

    What ends connections at a proxy, as a reload does, may spare those that came later.
    """
    known = rows.filter(pl.col("via") == "proxy").select(
        "close_id",
        "p_clock",
        pl.col("opened").cast(pl.Int64),
        pl.col("time_earliest").cast(pl.Int64).alias("lo"),
        pl.col("time_latest").cast(pl.Int64).alias("hi"),
    )
    known = known.drop_nulls().sort("p_clock", "opened", "close_id")
    stayed = pl.col("lo").cum_max().over("p_clock") > pl.col("hi") + SECOND
    return known.select("close_id", stayed.alias("outlived"))


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
    return pl.any_horizontal(tests).fill_null(value=False) if tests else pl.lit(value=False)


def _any_near(episodes: pl.DataFrame, span: tuple[pl.Expr, pl.Expr], before: int = 2 * SECOND) -> pl.Expr:
    """Whether a time reaches into one of the episodes, or to within a few seconds of it."""
    tests = [
        (span[1] >= low - before) & (span[0] <= (up if up is not None else 1 << 62) + 2 * SECOND)
        for low, up in episodes.select("cut_low", "up").rows()
        if low is not None
    ]
    return pl.any_horizontal(tests).fill_null(value=False) if tests else pl.lit(value=False)


def _gap(lines: pl.DataFrame) -> pl.Expr:
    """Whether the gateway wrote nothing for so long, while the connection was open, that a part of its log may be missing."""
    began = pl.col("line").shift(1)
    gaps = lines.filter(pl.col("line") - began > SILENT).select(pl.col("line").alias("b"))
    spans = lines.with_columns(began.alias("a")).join(gaps, left_on="line", right_on="b").select("a", "line").rows()
    opened, ended = pl.col("opened").cast(pl.Int64), pl.col("time_latest").cast(pl.Int64)
    tests = [(opened <= a) & (ended >= b) for a, b in spans]
    return pl.any_horizontal(tests).fill_null(value=False) if tests else pl.lit(value=False)


def _between(before: pl.Expr, after: pl.Expr, episodes: pl.DataFrame) -> pl.Expr:
    """Whether a process of the gateway ended between two moments: lines on both sides then say nothing of the time between."""
    cuts = episodes.filter(pl.col("kind") == "gateway").get_column("cut_high").drop_nulls().unique().sort().to_list()
    return pl.any_horizontal([(before <= x) & (after >= x) for x in cuts]) if cuts else pl.lit(value=False)
