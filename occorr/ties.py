"""What ties a gateway's clock and a recorder's to the reference: two stamps of a line, lives of a process, words of a close."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from occorr import alignment, anchors, program
from occorr.anchors import vote
from occorr.offsets import ASSUMED_ERROR, REACH, Estimate, aligned, linear
from occorr.pairs import FINELY, THIN, thin
from occorr.schema import MS, SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

ENOUGH: Final = 3  # anchors that must agree
# no bound from lives and refusals is printed below this: lags between programs are not known better
FLOOR: Final = 3 * MS
LEAST_LAG: Final = 1_000_000  # the least of several such lags, ns, is below this beside the stamp's own truncation
STRETCH: Final = 2 * SECOND  # a busy process or engine may delay all lines for as long as a second
# a message's second form has a stamp of its own, on a busy machine up to 26 ms after the engine's of the first
TWIN_LAG: Final = 30 * MS
BLOCK: Final = 5 * SECOND  # lines further apart than this are not written at once
MOSTLY: Final = 0.5
SEVERAL: Final = 5  # lines of which one does not stall
BUSIER: Final = 2.5  # median lag of so many lines over that of all
PROMPT: Final = 30 * MS  # what nine in ten lines lag less than
LINE_ERROR: Final = MS // 2  # what that may be off by
NEARBY: Final = 5 * SECOND
_LIVES: Final = (  # what the gateway writes, what the engine says of its container, and by how much the first comes later
    ("gateway.signal", "container.kill", -100 * MS, 5 * SECOND),
    ("gateway.shutdown", "container.die", -15 * SECOND, 100 * MS),
    ("gateway.start", "container.start", 0, 120 * SECOND),
)
PRINTED: Final = 1_500 * MS  # how long after the gateway's line the CLI prints of a close and ends
ENDED: Final = 4 * SECOND  # … and a recorder's end comes later still, if a container ends with the command
# … and how long before it, since the gateway's line comes late; a second where only the end is known
STARTED: Final = 50 * MS
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
    return _lines(two) if len(diff) >= ENOUGH and not _in_blocks(two) else None


def _in_blocks(two: pl.DataFrame) -> bool:
    """Whether lines of several seconds were read in one moment, as of a program between that writes when its buffer is full.

    How long a line waited there, nothing tells.
    """
    rows = two.select(
        pl.col("observed_timestamp").cast(pl.Int64).alias("r"), pl.col("timestamp_raw").cast(pl.Int64).alias("c")
    )
    moment = (pl.col("r").diff().fill_null(0) > TWIN_LAG).cum_sum()
    spread = (pl.col("c").max() - pl.col("c").min() - (pl.col("r").max() - pl.col("r").min())).over(moment)
    return bool(rows.sort("r").select((spread > BLOCK).mean()).item() > MOSTLY)


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
                "t",
                (pl.col("line") - pl.col("t") - most).alias("low"),
                (pl.col("line") - pl.col("t") - least).alias("high"),
            )
        )
    pairs = pl.concat(parts)
    windows = pairs.sort("line", "low")
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
    near = (lows <= REACH) & (highs >= -REACH)  # further off than zones are, it is another day
    if not near.any():
        return None
    lows, highs = lows[near], highs[near]
    start, end, support = vote(lows, highs)
    # a gateway that was often stopped fits several places; one host's clocks seldom differ by seconds
    elsewhere = max(_depth(lows, highs, *span) for span in ((-REACH, start - 1), (end + 1, REACH)))
    usual = _depth(lows, highs, -NEARBY, NEARBY)
    if elsewhere >= support or ((start > NEARBY or end < -NEARBY) and usual > MARGIN * support):
        return None
    error = max((end - start) // 2, FLOOR)
    count = windows.get_column("line").n_unique()
    # … and an event is of one line: two starts that one event may explain are no two anchors
    events_there = pairs.filter((pl.col("low") <= end) & (pl.col("high") >= start)).get_column("t").n_unique()
    if min(support, events_there) < ENOUGH - 1 or (error > NEARBY and start <= 0 <= end):
        return None
    return Estimate(
        (start + end) // 2,
        error,
        support,
        round(1 - support / count, 4),
        "life of the process against the engine's events",
        "aligned",
    )


def _depth(lows: NDArray[np.int64], highs: NDArray[np.int64], begin: int, end: int) -> int:
    """How many windows share a place of a stretch, at most."""
    there = (lows <= end) & (highs >= begin)
    return vote(lows[there].clip(begin, end), highs[there].clip(begin, end))[2] if there.any() else 0


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


def client(events: pl.DataFrame, clock: str, found: Mapping[str, Estimate]) -> Estimate | None:
    """A recorder of the CLI against the gateway: what the CLI printed of a close, with its code and reason, came just after it."""
    gateways = {k: v for k, v in found.items() if k.startswith("gateway") and v.status in ("reference", "aligned")}
    said = ["websocket_close_code", "websocket_close_reason"]
    spoken = pl.all_horizontal(pl.col(said).is_not_null())
    printed = (
        events.filter((pl.col("source_kind") == "cli") & (pl.col("clock_id") == clock) & spoken)
        .select(
            *said,
            pl.coalesce(pl.col("timestamp_raw").cast(pl.Int64), pl.col("recorded_end") * MS).alias("c"),
            pl.when(pl.col("timestamp_raw").is_null()).then(pl.col("recorded_start") * MS).alias("begun"),
        )
        .drop_nulls([*said, "c"])
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
    pairs = thin(printed).join(thin(closed.select(*said, pl.Series("g", moment))), on=said, maintain_order="left")
    if pairs.height < ENOUGH:
        return None
    recorded = pl.col("begun").is_not_null()
    late, early = pl.when(recorded).then(ENDED).otherwise(PRINTED), pl.when(recorded).then(SECOND).otherwise(STARTED)
    low = pairs.select(pl.max_horizontal("begun", pl.col("c") - late) - pl.col("g")).to_series().to_numpy()
    high = pairs.select(pl.col("c") - pl.col("g") + early).to_series().to_numpy()
    start, end, support = vote(low, high)
    far = (high < start) | (low > end)
    rival = vote(low[far], high[far])[2] if far.any() else 0
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
