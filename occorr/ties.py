"""What ties each clock to the others: two stamps of a line, lives of a process, the same connection seen from two sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from occorr import alignment, anchors, program
from occorr.anchors import vote
from occorr.offsets import ASSUMED_ERROR, REACH, Estimate, aligned, linear
from occorr.pairs import FINELY, settle

if TYPE_CHECKING:
    from collections.abc import Mapping

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
ENOUGH: Final = 3  # anchors that must agree
# no bound from lives and refusals is printed below this: lags between programs are not known better
FLOOR: Final = 3 * MS
LEAST_LAG: Final = 1_000_000  # the least of several such lags, ns, is below this beside the stamp's own truncation
STRETCH: Final = 2 * SECOND  # a busy process or engine may delay all lines for as long as a second
# a message's second form has a stamp of its own, on a busy machine up to 26 ms after the engine's of the first
TWIN_LAG: Final = 30 * MS
SEVERAL: Final = 5  # lines of which one does not stall
BUSIER: Final = 2.5  # median lag of so many lines over that of all
PROMPT: Final = 30 * MS  # what nine in ten lines lag less than
LINE_ERROR: Final = MS // 2  # what that may be off by
NEARBY: Final = 5 * SECOND
ALIKE: Final = 50 * MS  # a connection that both sides say lasted as long to this is one, if no timer ended several
_LIVES: Final = (  # what the gateway writes, what the engine says of its container, and by how much the first comes later
    ("gateway.signal", "container.kill", -100 * MS, 5 * SECOND),
    ("gateway.shutdown", "container.die", -15 * SECOND, 100 * MS),
    ("gateway.start", "container.start", 0, 120 * SECOND),
)
PRINTED: Final = 1_500 * MS  # how long after the gateway's line the CLI prints of a close and ends
STARTED: Final = 50 * MS  # … and how long before it, since the gateway's line comes late
THIN: Final = 300
MARGIN: Final = 0.6  # second peak / first peak above which a coarse place is ambiguous


def gateway(events: pl.DataFrame, clock: str) -> Estimate:
    """The gateway against the engine: two stamps of one line, else signals and deaths against the engine's events."""
    return (
        two_stamps(events, clock)
        or _lives(events, clock)
        or Estimate(0, ASSUMED_ERROR, 0, 0.0, "nothing ties this clock to the reference", "assumed")
    )


def two_stamps(events: pl.DataFrame, clock: str) -> Estimate | None:
    """A clock whose lines the engine stamped too, against the engine's."""
    two = events.filter(
        (pl.col("clock_id") == clock)
        & (pl.col("observed_clock_id") == "engine")
        & pl.col("observed_timestamp").is_not_null()
        & (pl.col("timestamp_raw") != pl.col("observed_timestamp"))
    )
    diff = (
        (two.get_column("timestamp_raw").cast(pl.Int64) - two.get_column("observed_timestamp").cast(pl.Int64))
        .drop_nulls()
        .to_numpy()
    )
    return _lines(two) if len(diff) >= ENOUGH else None


def _lives(events: pl.DataFrame, clock: str) -> Estimate | None:
    """A gateway whose lines have no second stamp: signals, deaths and starts of its container against what it wrote of them.

    A loaded machine takes a minute from the container's start to the first line, so that side is nearly open.
    """
    known = events.get_column("role").is_not_null().any()
    own = events.filter((pl.col("role") == "gateway") | ~pl.lit(known))
    if "instance" in events.columns:  # of several gateways, the lives of this one only
        mine = events.filter(pl.col("clock_id") == clock).get_column("instance").drop_nulls().unique()
        own = own.filter(pl.col("instance").is_in(mine.to_list())) if known and len(mine) == 1 else own
    stamp = pl.col("timestamp_raw").cast(pl.Int64)
    parts = []
    for ours, theirs, least, most in _LIVES:
        lines = (
            events.filter((pl.col("clock_id") == clock) & (pl.col("event_name") == ours))
            .select(stamp.alias("line"))
            .drop_nulls()
            .head(THIN)
        )
        told = own.filter(pl.col("event_name") == theirs).select(stamp.alias("t")).drop_nulls().head(THIN)
        parts.append(
            lines.join(told, how="cross").select(
                "line",
                (pl.col("line") - pl.col("t") - most).alias("low"),
                (pl.col("line") - pl.col("t") - least).alias("high"),
            )
        )
    windows = pl.concat(parts).sort("line", "low")
    if windows.is_empty():
        return None
    # a line speaks of one event and counts once: what its windows share is one window
    apart = (
        (pl.col("low") > pl.col("high").cum_max().shift(1).over("line")).fill_null(value=True).cum_sum().over("line")
    )
    windows = windows.group_by("line", apart.alias("_n"), maintain_order=True).agg(
        pl.col("low").min(), pl.col("high").max()
    )
    lows, highs = windows.get_column("low").to_numpy(), windows.get_column("high").to_numpy()
    start, end, support = vote(lows, highs)
    error = max((end - start) // 2, FLOOR)
    count = windows.get_column("line").n_unique()
    if support < ENOUGH - 1 or (error > NEARBY and start <= 0 <= end):
        return None
    return Estimate(
        (start + end) // 2,
        error,
        support,
        round(1 - support / count, 4),
        "life of the process against the engine's events",
        "aligned",
    )


def _lines(two: pl.DataFrame) -> Estimate:
    """From two stamps of each line: the engine's comes a little after the process's, least after it at the tightest lines."""
    twin = pl.col("twin_observed").fill_null(value=False) & pl.col("twin_raw").is_null()
    two = (
        two.select(
            pl.col("observed_timestamp").cast(pl.Int64).alias("r"),
            pl.coalesce("twin_raw", "timestamp_raw").cast(pl.Int64).alias("c"),
            pl.col("time_resolution_ns").fill_null(MS).alias("w"),
            pl.when(twin).then(pl.lit(TWIN_LAG, pl.Int64)).otherwise(0).alias("later"),
        )
        .drop_nulls()
        .unique()
        .sort("r", "c")
    )
    base = int(two.item(0, "r"))
    at, diff, width, later = (
        two.get_column("r").to_numpy() - base,
        (two.get_column("c") - two.get_column("r")).to_numpy(),
        two.get_column("w").to_numpy(),
        two.get_column("later").to_numpy(),
    )
    # a line never lags less than nothing; that it lags little can be said only of the tightest of several lines
    open_ = np.full(len(at), np.inf)
    wide = anchors.within(at, diff - later, open_, hard=True)
    stretch = at // max(STRETCH, int(at[-1]) // program.MOST)
    # a lone line may have stalled for long, and a burst as one: several lines of more than one moment count together
    bucket = ((np.searchsorted(stretch, stretch, side="right") - 1) // SEVERAL).astype(np.int64)
    mean = anchors.mean_lag(diff)
    tight = anchors.least_lagged(at, diff, width, bucket, mean, LEAST_LAG, BUSIER)
    method = "two stamps of one line"
    # where stamps are coarse, what was cut off of them hides the lags, and most lines bound the offset from above too
    prompt = anchors.within(at, -open_, diff + width + PROMPT)
    for above in (tight,) if width.min() <= FINELY else (prompt, tight):
        segments = alignment.align(anchors.join([wide, above]))
        if any(s.status == "aligned" for s in segments):
            return linear(segments, base, LINE_ERROR, method)
    # lines that stalled: the largest difference is the one with the least lag
    most = int(np.quantile(diff - later, 0.98))
    near = np.abs(diff - most) < 200 * MS + width
    error = max(int(np.max(width)) // 2 + 2 * MS, FLOOR) + int(mean * np.log(100) / len(diff)) + int(np.max(later))
    return Estimate(
        most + int(np.median(width)) // 2 - MS // 4,
        error,
        int(near.sum()),
        round(1 - float(near.mean()), 4),
        method,
        "aligned",
    )


def proxy(events: pl.DataFrame, clock: str, found: Mapping[str, Estimate]) -> Estimate:
    """A proxy against the gateway (ends of the same connections) and the engine (refusals while the gateway is down)."""
    none = Estimate(0, ASSUMED_ERROR, 0, 0.0, "nothing ties this clock to the reference", "assumed")
    gateways = {k: v for k, v in found.items() if k.startswith("gateway") and v.status in ("reference", "aligned")}
    base = pl.col("timestamp_raw").cast(pl.Int64)
    access = events.filter(
        (pl.col("clock_id") == clock) & (pl.col("event_name") == "http.access") & pl.col("timestamp_raw").is_not_null()
    )
    if access.is_empty() or not gateways:
        return none
    end = (
        pl.when(pl.col("time_semantics") == "at_start").then(base + pl.col("duration_ns").fill_null(0)).otherwise(base)
    )
    ours = access.filter(was_tunnel()).select(
        pl.int_range(pl.len()).alias("ours"),
        "client_address",
        pl.col("user_agent_original").replace(["-", ""], None).alias("agent"),
        "duration_ns",
        end.alias("p"),
        (end - base).alias("before"),
        pl.col("time_resolution_ns").fill_null(SECOND).alias("width"),
    )
    theirs = gateway_closes(events).filter(pl.col("clock_id").is_in(list(gateways)))
    moment, bound = aligned(gateways, theirs.get_column("clock_id"), theirs.get_column("at"))
    # the lags that are taken for usual hold for stamps of a millisecond; a coarser one may mean any later moment
    coarse = (pl.col("resolution") - MS).clip(0)
    theirs = theirs.with_columns(pl.Series("g", moment) + coarse, coarse.alias("coarse")).select(
        pl.int_range(pl.len()).alias("theirs"),
        "forwarded_for",
        pl.col("duration_ns").alias("lasted"),
        "g",
        "coarse",
        "remote_address",
        "gateway_agent",
        "client_mode",
    )
    theirs = theirs.filter(
        ~pl.col("remote_address").is_in(access.get_column("client_address").drop_nulls().unique().to_list())
        | pl.col("forwarded_for").is_not_null()
        | pl.col("remote_address").is_null()
    )
    spread = (pl.col("duration_ns") - pl.col("lasted")).abs() <= 300 * MS
    alike = ((pl.col("duration_ns") - pl.col("lasted")).abs() <= ALIKE) & (pl.col("lasted") > SECOND)
    browser = pl.col("agent").str.contains("Mozilla/", literal=True)
    same_agent = (pl.col("agent") == pl.col("gateway_agent")).fill_null(value=True)
    same_kind = ((pl.col("client_mode") == "webchat") == browser).fill_null(value=True)
    keyed = ours.join(
        theirs.filter(pl.col("forwarded_for").is_not_null()), left_on="client_address", right_on="forwarded_for"
    ).filter(same_agent)
    loose = (
        _thin(ours.filter(pl.col("duration_ns").is_not_null()))
        .join(_thin(theirs.filter(pl.col("forwarded_for").is_null() & pl.col("lasted").is_not_null())), how="cross")
        .filter(spread & (pl.col("lasted") > 500 * MS) & same_kind)
    )
    blind = (
        _thin(ours.filter(pl.col("duration_ns").is_null()))
        .join(_thin(theirs.filter(pl.col("forwarded_for").is_null())), how="cross")
        .filter(same_kind)
    )
    columns = ["ours", "theirs", "p", "g", pl.col("width") + pl.col("coarse"), "before", alike.alias("same")]
    pairs = (
        pl.concat([keyed.select(columns), loose.select(columns), blind.select(columns)])
        .with_columns(pl.col("same").fill_null(value=False), (pl.col("g") - pl.col("before")).alias("at"))
        .filter((pl.col("p") - pl.col("g")).abs() <= REACH)
    )
    windows = _refusals(events, access, found)
    extra = int(np.median(bound)) if len(bound) else 0
    return (
        settle(pairs, windows, "the same connections and refusals at the gateway", extra) or _plausible(windows) or none
    )


def was_tunnel() -> pl.Expr:
    """Whether an access line is of a connection that was upgraded.

    Traefik and older Caddys write 0 of it; Envoy writes 0 of an attempt whose client left before an answer.
    """
    status = pl.col("http_response_status_code")
    return (status == 101) | ((status == 0) & ~pl.col("parser").cast(pl.String).str.starts_with("envoy"))


def client(events: pl.DataFrame, clock: str, found: Mapping[str, Estimate]) -> Estimate | None:
    """A recorder of the CLI against the gateway: what the CLI printed of a close, with its code and reason, came just after it."""
    gateways = {k: v for k, v in found.items() if k.startswith("gateway") and v.status in ("reference", "aligned")}
    said = ["websocket_close_code", "websocket_close_reason"]
    spoken = pl.all_horizontal(pl.col(said).is_not_null())
    printed = (
        events.filter((pl.col("source_kind") == "cli") & (pl.col("clock_id") == clock) & spoken)
        .select(*said, pl.coalesce(pl.col("timestamp_raw").cast(pl.Int64), pl.col("recorded_end") * MS).alias("c"))
        .drop_nulls()
    )
    closed = events.filter(
        pl.col("clock_id").is_in(list(gateways))
        & (pl.col("event_name") == "websocket.close")
        & spoken
        & pl.col("timestamp_raw").is_not_null()
    )
    if printed.is_empty() or closed.is_empty():
        return None
    moment, bound = aligned(gateways, closed.get_column("clock_id"), closed.get_column("timestamp_raw"))
    pairs = _thin(printed).join(_thin(closed.select(*said, pl.Series("g", moment))), on=said)
    if pairs.height < ENOUGH:
        return None
    diff = (pairs.get_column("c") - pairs.get_column("g")).to_numpy()
    start, end, support = vote(diff - PRINTED, diff + STARTED)
    far = (diff + STARTED < start) | (diff - PRINTED > end)
    rival = vote((diff - PRINTED)[far], (diff + STARTED)[far])[2] if far.any() else 0
    if (
        support < ENOUGH
        or rival > MARGIN * support
        or pairs.filter(pl.Series(~far)).get_column("c").n_unique() < ENOUGH
    ):
        return None
    return Estimate(
        (start + end) // 2,
        (end - start) // 2 + int(np.median(bound)),
        support,
        round(float(far.mean()), 4),
        "the same closes at the CLI and the gateway",
        "aligned",
    )


def _thin(frame: pl.DataFrame) -> pl.DataFrame:
    return frame if frame.height <= THIN else frame.gather_every(frame.height // THIN + 1)


def gateway_closes(events: pl.DataFrame) -> pl.DataFrame:
    """One row a connection whose close the gateway logged: clock_id, at (raw ns), duration_ns, forwarded_for, remote_address, resolution (ns)."""
    gateway = events.filter((pl.col("source_kind") == "gateway") & pl.col("conn_short").is_not_null())
    at = pl.col("timestamp_raw").cast(pl.Int64)
    remote = pl.coalesce("remote_address", pl.col("endpoint").str.extract(r"^\[?([^\]]+?)\]?:\d+->", 1))
    begun = pl.col("event_name").is_in(["websocket.open", "websocket.connected"])
    rows = gateway.group_by("conn_short", maintain_order=True).agg(
        pl.col("clock_id").first(),
        at.filter(pl.col("event_name") == "websocket.close").min().alias("at"),
        pl.col("time_resolution_ns")
        .filter(pl.col("event_name") == "websocket.close")
        .max()
        .fill_null(MS)
        .alias("resolution"),
        at.filter(begun).min().alias("began"),
        pl.col("duration_ns").drop_nulls().first(),
        pl.col("forwarded_for").drop_nulls().first(),
        pl.col("user_agent_original").drop_nulls().first().alias("gateway_agent"),
        pl.col("client_mode").drop_nulls().first(),
        remote.drop_nulls().first().alias("remote_address"),
    )
    return rows.filter(pl.col("at").is_not_null()).with_columns(
        pl.coalesce("duration_ns", pl.col("at") - pl.col("began")).alias("duration_ns")
    )


def _refusals(events: pl.DataFrame, access: pl.DataFrame, found: Mapping[str, Estimate]) -> pl.DataFrame:
    """Refused attempts (502, 503) fall between a stop and the next time the gateway listens: windows for the offset."""
    base = pl.col("timestamp_raw").cast(pl.Int64)
    offset = pl.col("clock_id").replace_strict(
        {k: v.offset for k, v in found.items()}, default=0, return_dtype=pl.Int64
    )
    ends = [
        "container.die",
        "gateway.signal",
        "gateway.stop",
        "gateway.shutdown",
        "gateway.start",
        "process.error",
        "gateway.crash",
    ]
    ours = (
        (pl.col("source_kind") == "gateway")
        | (pl.col("role") == "gateway")
        | ~pl.lit(events.get_column("role").is_not_null().any())
    )
    stops = events.filter(pl.col("event_name").is_in(ends) & ours).select((base - offset).alias("t")).sort("t")
    lives = events.filter(pl.col("event_name") == "gateway.listening").select((base - offset).alias("up")).sort("up")
    windows = (
        stops.join_asof(lives, left_on="t", right_on="up", strategy="forward", check_sortedness=False)
        .drop_nulls()
        .group_by("up")
        .agg(pl.col("t").min())
    )
    refused = _thin(access.filter(pl.col("http_response_status_code").is_in([502, 503]))).select(
        base.alias("p"),
        pl.when(pl.col("time_semantics") == "at_start").then(pl.col("duration_ns")).fill_null(0).alias("took"),
    )
    pairs = refused.join(windows, how="cross")
    return pairs.select(
        "p",
        "up",
        (pl.col("p") - pl.col("up") - SECOND).alias("low"),
        (pl.col("p") + pl.col("took") - pl.col("t") + SECOND).alias("high"),
    )


def _plausible(windows: pl.DataFrame) -> Estimate | None:
    """No offset at all, where the refusals agree with it; their windows bound the error."""
    holds = windows.filter((pl.col("low") <= 0) & (pl.col("high") >= 0))
    if holds.height < ENOUGH:
        return None
    error = int(min(-holds.get_column("low").to_numpy().max(), holds.get_column("high").to_numpy().min()))
    return Estimate(
        0, max(error, ASSUMED_ERROR), holds.height, 0.0, "refused attempts lie inside the gateway's downtime", "assumed"
    )
