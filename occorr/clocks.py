"""Which clock wrote each stamp, in which zone, and how far it stands from the reference clock, with an error bound.

An anchor is an interval in which the offset must lie if two lines speak of one moment. Wrong anchors are among them, so
the estimate is the point that most intervals share (a sweep over their ends), first with wide tolerances to find the
place, then with narrow ones for the bound. offset = this clock − reference, after its zone is applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from occorr import alignment, schema, zones
from occorr.alignment import vote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
QUARTER: Final = 900 * SECOND
REACH: Final = 14 * 3600 * SECOND
ENOUGH: Final = 3  # anchors that must agree
ASSUMED_ERROR: Final = 2 * SECOND  # what an unverified clock is taken to be off by at most, for windows
COARSE: Final = 1_200 * MS  # a close line comes up to 1 s after the decision
FINE: Final = (
    -9 * MS,
    2 * MS,
)  # proxy end minus gateway close when nothing is wrong: the gateway logs up to 7 ms after
SLOW: Final = 150 * MS  # by how much a busy gateway's lines come later than the proxy's
NARROW: Final = (-4 * MS, 2 * MS)  # … and what two thirds of them keep to
MOSTLY: Final = 0.6  # share of the anchors in place that must keep to it
SYSTEMATIC: Final = 2 * MS  # what the bulk of that lag may be off by
PLATEAU: Final = 0.8  # wrong anchors move the peak inside its plateau: the bound is where this share of it still agrees
FLOOR: Final = (
    3 * MS
)  # no bound from lives and refusals is printed below this: lags between programs are not known better
LEAST_LAG: Final = 1_000_000  # the least of several such lags, ns, is below this beside the stamp's own truncation
STRETCH: Final = 2 * SECOND  # a busy process or engine may delay all lines for as long as a second
TWIN_LAG: Final = (
    30 * MS
)  # a message's second form has a stamp of its own, on a busy machine up to 26 ms after the engine's of the first
LINE_ERROR: Final = 1 * MS  # what that may be off by
FAR_ENOUGH: Final = 6  # … for an offset of more than NEARBY
NEARBY: Final = 5 * SECOND
STEP: Final = 400 * MS  # the least step of a clock that is told from lags
NEAR: Final = 20 * MS  # what drift moves a place by in the usual span
_LIVES: Final = (  # what the gateway writes, what the engine says of its container, and by how much the first comes later
    ("gateway.signal", "container.kill", 0, 5 * SECOND),
    ("gateway.shutdown", "container.die", -15 * SECOND, 100 * MS),
    ("gateway.start", "container.start", 0, 120 * SECOND),
)
HOST_ERROR: Final = 50 * MS
PRINTED: Final = 1_500 * MS  # how long after the gateway's line the CLI prints of a close and ends
STARTED: Final = 50 * MS  # … and how long before it, since the gateway's line comes late
TICKS: Final = (
    SECOND,
    100 * MS,
    10 * MS,
)  # resolutions that stamps may have although they are written with more digits
UNMOVED: Final = 8  # moments whose further digits are all zero: by chance once in 10^8 for the least of them
THIN: Final = 300
WIDEST: Final = 30 * SECOND  # a place known no better than this settles nothing
SURELY: Final = 0.9  # share of the refusals that must lie in downtimes where nothing else tells the offset
MARGIN: Final = 0.6  # second peak / first peak above which a coarse place is ambiguous


@dataclass(frozen=True, slots=True)
class Estimate:
    """A clock's offset and the half-width of its bound, both in ns."""

    offset: int
    error: int
    anchors: int
    violated: float
    method: str
    status: str
    segments: tuple[alignment.Segment, ...] = ()
    base: int = 0
    extra: int = 0

    def pieces(self) -> list[dict[str, Any]]:
        """Rows of CLOCKS without the clock's name and zone, one a segment; times in ns, null where nothing bounds them."""
        if not self.segments:
            return [
                {
                    "offset_ns": self.offset,
                    "drift_ppm": 0.0,
                    "error_ns": self.error,
                    "anchors": self.anchors,
                    "violated_share": self.violated,
                    "method": self.method,
                    "status": self.status,
                }
            ]
        out = []
        for piece in self.segments:
            span = [
                None if np.isinf(t) else self.base + round(t)
                for t in (piece.start, piece.end, piece.origin, piece.first, piece.last)
            ]
            known = piece.status == "aligned"
            out.append(
                {
                    "segment_start": span[0],
                    "segment_end": span[1],
                    "reference_time": span[2] if known else None,
                    "anchored_from": span[3] if known else None,
                    "anchored_to": span[4] if known else None,
                    "offset_ns": round(piece.offset) if known else self.offset,
                    "drift_ppm": round(piece.drift * 1e6, 3),
                    "error_ns": round(float(piece.errors.max())) + self.extra if known else ASSUMED_ERROR,
                    "anchors": piece.anchors,
                    "violated_share": piece.violated,
                    "method": "; ".join(w for w in (self.method, piece.reason) if w),
                    "status": piece.status,
                }
            )
        return out


def _linear(segments: Sequence[alignment.Segment], base: int, extra: int, method: str) -> Estimate:
    """An estimate whose rows are the segments that the anchors gave."""
    main = max(segments, key=lambda s: s.anchors)
    return Estimate(
        round(main.offset),
        round(float(main.errors.max())) + extra,
        sum(s.anchors for s in segments),
        main.violated,
        method,
        "aligned",
        tuple(segments),
        base,
        extra,
    )


def aligned(
    found: Mapping[str, Estimate], clock: pl.Series, raw: pl.Series
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Reference times of raw stamps, and the half-widths of their bounds, both ns; as `place` finds them."""
    frame = pl.DataFrame(
        {"clock_id": clock.cast(pl.String), "timestamp_raw": raw.cast(pl.Int64)},
        schema={"clock_id": pl.String, "timestamp_raw": pl.Int64},
    )
    table = schema.conform(
        pl.DataFrame(
            [{"clock_id": name, **row} for name, e in sorted(found.items()) for row in e.pieces()],
            infer_schema_length=None,
        ),
        schema.CLOCKS,
    )
    offset, error, _ = offsets(frame, table)
    return raw.cast(pl.Int64).fill_null(0).to_numpy() - offset, error


def offsets(events: pl.DataFrame, table: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str | None]]:
    """Each event's clock offset and the half-width of its bound in ns, and its clock's status; 0, 0 and null where unknown.

    Where a clock was set back, a stamp fits two segments: its bound then covers both.

    Args:
        events: `clock_id` and `timestamp_raw`.
        table: CLOCKS.
    """
    raw = events.get_column("timestamp_raw").cast(pl.Int64)
    has = raw.is_not_null().to_numpy()
    stamps = raw.fill_null(0).to_numpy()
    names = events.get_column("clock_id").cast(pl.String)
    offset, error = np.zeros(len(stamps), np.int64), np.zeros(len(stamps), np.int64)
    status: NDArray[np.object_] = np.full(len(stamps), None, dtype=object)
    times = [
        c
        for c in ("segment_start", "segment_end", "reference_time", "anchored_from", "anchored_to")
        if c in table.columns
    ]
    for (clock,), rows in table.with_columns(pl.col(times).cast(pl.Int64)).group_by("clock_id", maintain_order=True):
        which = np.flatnonzero((names == clock).fill_null(value=False).to_numpy())
        if not len(which):
            continue
        t = stamps[which]
        pieces = rows.to_dicts()
        low, high = np.full(len(t), np.iinfo(np.int64).max), np.full(len(t), np.iinfo(np.int64).min)
        nearest, least = np.zeros(len(t), np.int64), np.full(len(t), np.inf)
        best = np.full(len(t), np.inf)
        for at, piece in enumerate(pieces):
            own, bound, outside = _apply(piece, t, single=len(pieces) == 1)
            fits = outside <= 0
            low, high = (
                np.where(fits, np.minimum(low, own - bound), low),
                np.where(fits, np.maximum(high, own + bound), high),
            )
            nearest = np.where(outside < least, at, nearest)
            least = np.minimum(least, outside)
            take = fits & (bound < best)
            offset[which] = np.where(take, own, offset[which])
            status[which[take]] = piece["status"]
            best = np.where(take, bound, best)
        lost = np.isinf(best)
        for at, piece in enumerate(pieces):
            mine = lost & (nearest == at)
            own, bound, _ = _apply(piece, t, single=True)
            offset[which[mine]], low[mine], high[mine] = own[mine], (own - bound)[mine], (own + bound)[mine]
            status[which[mine]] = piece["status"]
        error[which] = np.maximum(high - offset[which], offset[which] - low)
    without = ~has
    offset[without] = 0
    return offset, error, status.tolist()


def _apply(
    piece: Mapping[str, Any], t: NDArray[np.int64], *, single: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """A segment's offset and bound at raw stamps, and how far outside of the segment they fall, ns."""
    own = np.full(len(t), piece["offset_ns"] or 0, np.int64)
    drift = (piece["drift_ppm"] or 0.0) * 1e-6
    if drift and piece["reference_time"] is not None:
        own = own + np.rint(drift / (1 + drift) * (t - own - piece["reference_time"]).astype(np.float64)).astype(
            np.int64
        )
    reference = t - own
    bound = np.full(len(t), piece["error_ns"] or 0, np.int64)
    if piece.get("anchored_from") is not None:
        beyond = np.maximum(np.maximum(piece["anchored_from"] - reference, reference - piece["anchored_to"]), 0)
        bound = bound + np.rint(alignment.DRIFT * np.minimum(beyond, REACH * 100)).astype(np.int64)
    outside = np.zeros(len(t))
    if not single:
        start, end = piece["segment_start"], piece["segment_end"]
        outside = np.maximum(
            0.0 if start is None else (start - reference).astype(np.float64),
            0.0 if end is None else (reference - end).astype(np.float64),
        )
    return own, bound, np.maximum(outside, 0)


def named(events: pl.DataFrame, given: Mapping[str, str]) -> pl.DataFrame:
    """Gives the stamps of the inputs that a pattern matches (a path, its last part, or a glob of either) to the clock that a person named."""
    if not given:
        return events
    names: dict[str, str] = {}
    for path in events.get_column("log_file_path").cast(pl.String).unique().drop_nulls().sort().to_list():
        for pattern, clock in given.items():
            if fnmatchcase(path, pattern) or fnmatchcase(PurePath(path).name, pattern):
                names[path] = clock
    if not names:
        return events
    said = pl.col("log_file_path").cast(pl.String).replace_strict(names, default=None, return_dtype=pl.String)
    return events.with_columns(
        pl.when(pl.col("timestamp_raw").is_not_null())
        .then(pl.coalesce(said, pl.col("clock_id").cast(pl.String)))
        .otherwise(pl.col("clock_id").cast(pl.String))
        .alias("clock_id")
    )


def sentence(row: Mapping[str, Any]) -> str | None:
    """A clock that runs wrong, or that could not be aligned, in words; null where there is nothing to say.

    Args:
        row: a row of CLOCKS.
    """
    offset, error = row["offset_ns"] or 0, row["error_ns"] or 0
    if (row["method"] or "").endswith(alignment.SET):
        return f"{row['clock_id']} was set between {_when(row['segment_start'])} and {_when(row['segment_end'])} UTC."
    if row["status"] == "unalignable":
        return (
            f"{row['clock_id']} could not be aligned: {row['method'] or 'no reason is known'}; its stamps stand as"
            " written."
        )
    if row["status"] != "aligned" or abs(offset) <= max(error, 50 * MS):
        return None
    quarter = round(offset / QUARTER)
    zone = (
        f" ({'+' if quarter > 0 else '−'}{abs(quarter) // 4}:{abs(quarter) % 4 * 15:02d} h of it look like a wrong"
        " zone)"
        if quarter and abs(offset - quarter * QUARTER) <= 60 * SECOND
        else ""
    )
    way, sign = ("ahead", "−") if offset > 0 else ("behind", "+")
    return (
        f"{row['clock_id']} runs {_seconds(offset)} {way}{zone}; its stamps were corrected by {sign}{_seconds(offset)}"
        f" ± {error / MS:.1f} ms."
    )


def _when(moment: datetime | int | None) -> str:
    """A moment of CLOCKS, which reports hold as nanoseconds."""
    if moment is None:
        return "an unknown moment"
    return (
        f"{moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment / SECOND, UTC):%Y-%m-%d %H:%M:%S}"
    )


def _seconds(ns: int) -> str:
    return f"{abs(ns) / SECOND:.3f} s"


def assign(events: pl.DataFrame) -> pl.DataFrame:
    """Fills `clock_id`: the engine's, the gateway's, each proxy's, the recorder's host.

    A line without a stamp of its own takes its envelope's stamp and clock.
    """
    kind = pl.col("source_kind")
    gateways = events.filter((kind == "gateway") & (pl.col("part").fill_null("") != "")).get_column("part").n_unique()
    gateway = pl.concat_str(pl.lit("gateway:"), pl.col("part")) if gateways > 1 else pl.lit("gateway")
    own = (
        pl.when(kind == "docker")
        .then(pl.lit("engine"))
        .when(kind == "proxy")
        .then(pl.col("parser").str.extract(r"^([a-z]+)", 1))
        .when((kind == "cli") & (pl.col("parser") == "openclaw/cli"))
        .then(pl.lit("host"))
        .when(kind.is_in(["gateway", "cli"]))
        .then(gateway)
        .when(kind == "kernel")
        .then(pl.lit("host"))
        .otherwise(pl.lit("other"))
    )
    bare = pl.col("timestamp_raw").is_null() & pl.col("observed_timestamp").is_not_null()
    return events.with_columns(
        pl.when(bare).then("observed_clock_id").otherwise(pl.coalesce("clock_id", own)).alias("clock_id"),
        pl.when(bare).then("observed_timestamp").otherwise("timestamp_raw").alias("timestamp_raw"),
        pl.when(bare)
        .then(pl.col("observed_zone_inline").fill_null(value=True))
        .otherwise("zone_inline")
        .alias("zone_inline"),
        pl.when(bare)
        .then(pl.col("observed_resolution_ns").fill_null(1))
        .otherwise("time_resolution_ns")
        .cast(pl.Int64)
        .alias("time_resolution_ns"),
        pl.when(bare).then(pl.lit("at_write")).otherwise("time_semantics").alias("time_semantics"),
    )


def align(
    events: pl.DataFrame,
    facts: pl.DataFrame,
    *,
    tz: str | None = None,
    overrides: Mapping[str, tuple[int, int]] | None = None,
    given: Mapping[str, str] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Applies zones and estimates every clock.

    Args:
        events: linked events.
        facts: FACTS, for the containers' time zones.
        tz: zone of naive stamps where nothing better is known.
        overrides: clock → (offset ns, error ns) that a person gave.
        given: input or glob → the clock that a person says wrote its stamps.

    Returns:
        events with `clock_id` and `timestamp_raw` in UTC; CLOCKS.
    """
    events = ticks(named(assign(complete_roles(events)), given or {}))
    events, origins = zones.to_utc(events, facts, tz)
    ids = (
        events.filter(pl.col("timestamp_raw").is_not_null())
        .get_column("clock_id")
        .drop_nulls()
        .unique()
        .sort()
        .to_list()
    )
    engine = "engine" in ids or events.get_column("observed_clock_id").eq("engine").any()
    main = next((i for i in ids if i.startswith("gateway")), None)
    reference = (
        "engine"
        if engine
        else main or (events.get_column("clock_id").drop_nulls().mode().sort().first() if ids else None)
    )
    found: dict[str, Estimate] = {}
    if reference is not None:
        found[str(reference)] = Estimate(0, 0, 0, 0.0, "reference", "reference")
    for clock in sorted(ids, key=lambda i: (not i.startswith("gateway"), i)):
        if clock in found:
            continue
        if overrides and clock in overrides:
            offset, error = overrides[clock]
            found[clock] = Estimate(offset, error, 0, 0.0, "override", "aligned")
        elif clock in ("host", "recorder"):
            found[clock] = _client(events, clock, found) or Estimate(
                0,
                HOST_ERROR if clock == "host" else ASSUMED_ERROR,
                0,
                0.0,
                (
                    "the recorder is taken to run on the engine's host"
                    if clock == "host"
                    else "nothing ties this clock to the reference"
                ),
                "assumed",
            )
        elif clock.startswith("gateway"):
            found[clock] = _gateway(events, clock)
        else:
            found[clock] = _proxy(events, clock, found)
    table = _table(found, origins, events)
    told = pl.col("clock_id").is_in(list((given or {}).values()))
    return events, table.with_columns(
        pl.when(told).then(pl.concat_str("method", pl.lit("; named by --clock"))).otherwise("method").alias("method")
    )


def ticks(events: pl.DataFrame) -> pl.DataFrame:
    """Coarser resolutions where digits are written that the clock never moves, as milliseconds that are always 000."""
    raw = pl.col("timestamp_raw").cast(pl.Int64)
    for tick in TICKS:
        still = (raw % tick == 0).all() & (raw.n_unique() >= UNMOVED)
        coarse = (
            events.filter(raw.is_not_null() & (pl.col("time_resolution_ns") < tick))
            .group_by("clock_id")
            .agg(still.alias("_still"))
            .filter("_still")
        )
        if coarse.height:
            events = (
                events.join(coarse, on="clock_id", how="left", maintain_order="left")
                .with_columns(
                    pl.when(pl.col("_still") & (pl.col("time_resolution_ns") < tick))
                    .then(pl.lit(tick, pl.Int64))
                    .otherwise("time_resolution_ns")
                    .alias("time_resolution_ns")
                )
                .drop("_still")
            )
    return events


def complete_roles(events: pl.DataFrame) -> pl.DataFrame:
    """`role` of the engine's events, where nobody has told yet."""
    return events if "role" in events.columns else events.with_columns(pl.lit(None, pl.String).alias("role"))


def _settle(pairs: pl.DataFrame, windows: pl.DataFrame, method: str, extra: int) -> Estimate | None:
    """An offset from pairs of stamps and from windows that hold it: the place first, then offset, drift and bound.

    Args: pairs: candidate pairs: `p`, this clock's time of the end; `g`, the aligned stamp of the other side; `at`,
    when this clock was read, which is the beginning where the end is told by a duration; `width`, the resolution of p.
    A stamp truncated to `width` stands for [p, p + width), so the offset lies in [p − g, p − g + width) but for lags.
    windows: `p`, a refused attempt, `up`, the end of a downtime, `low` and `high`, the offsets with which the one lies
    in the other. method: what the anchors are, for the table. extra: half-width of the other side's own bound, ns.
    """
    pairs = pairs.sort("at", "g", "p")
    cut = _set_at(pairs)
    if cut is not None:
        one, two = (
            _steady(part, windows.clear(), method, extra, sure=True)
            for part in (pairs.filter(pl.col("at") <= cut), pairs.filter(pl.col("at") > cut))
        )
        if one is not None and two is not None and one.segments and two.segments:
            found = [*one.segments, *(s.later(two.base - one.base) for s in two.segments)]
            return _linear(alignment.beside(found, [(found[0].last, found[1].first)]), one.base, extra, method)
    return _steady(pairs, windows, method, extra)


def _set_at(pairs: pl.DataFrame) -> int | None:
    """When the clock was set, ns on the other side's clock: two places, each held by the anchors on one side of a moment.

    A connection that one place explains is not asked for the other, so that chance agreement has only the rest.
    """
    if pairs.is_empty():
        return None
    p, g, read, width = (pairs.get_column(c).to_numpy() for c in ("p", "g", "at", "width"))
    low, high = p - g - FINE[1], p - g + width - FINE[0]
    first = _held(low, high)
    rest = ~first & ~np.isin(p, p[first]) & ~np.isin(g, g[first])
    if first.sum() < ENOUGH or rest.sum() < ENOUGH:
        return None
    second = np.zeros(len(p), np.bool_)
    second[rest] = _held(low[rest], high[rest])
    apart = abs(float(np.median(p[first] - g[first])) - float(np.median(p[second] - g[second])))
    if second.sum() < ENOUGH or apart < STEP + float(np.median(width)):
        return None
    at = np.concatenate([read[first], read[second]])
    side = np.concatenate([np.ones(int(first.sum()), np.int64), -np.ones(int(second.sum()), np.int64)])
    order = np.argsort(at, kind="stable")
    balance = np.cumsum(side[order])  # greatest distance from 0: where one place ends and the other begins
    where = int(np.argmax(np.abs(balance - balance[-1] / 2)))
    sign = np.sign(balance[where] - balance[-1] / 2)
    wrong = int((side[order][: where + 1] != sign).sum() + (side[order][where + 1 :] != -sign).sum())
    if wrong > alignment.VIOLATED * len(at) or where + 1 >= len(at):
        return None
    return int(at[order][where])


def _held(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which intervals hold the place that most of them share, or nearly, as drift may move it."""
    start, end, _ = vote(low, high)
    return (low <= end + NEAR) & (high >= start - NEAR)


def _steady(
    pairs: pl.DataFrame, windows: pl.DataFrame, method: str, extra: int, *, sure: bool = False
) -> Estimate | None:
    """An estimate of a clock that nobody set; `sure`: chance agreement was ruled out."""
    diff, width = (pairs.get_column("p") - pairs.get_column("g")).to_numpy(), pairs.get_column("width").to_numpy()
    if len(diff) + windows.height == 0:
        return None
    low, high = (
        np.concatenate([diff - COARSE, windows.get_column("low").to_numpy()]),
        np.concatenate([diff + width + COARSE, windows.get_column("high").to_numpy()]),
    )
    start, end, support = vote(low, high)
    far = (high < start - 2 * COARSE) | (low > end + 2 * COARSE)
    rival = vote(low[far], high[far])[2] if far.any() else 0
    # Chance agreement grows with the range that is searched: far from zero more anchors must agree.
    needed = ENOUGH if sure or (start <= NEARBY and end >= -NEARBY) else FAR_ENOUGH
    if support < needed or rival > MARGIN * support:
        return None
    near = (diff - COARSE <= end) & (diff + width + COARSE >= start)
    total = int(near.sum()) + windows.height
    violated = round(1 - support / max(total, support), 4)
    if near.any():
        first, last, agreed = vote((diff - FINE[1])[near], (diff + width - FINE[0])[near], PLATEAU)
        if agreed >= ENOUGH:
            place = _narrow(diff, width, first, last, agreed)
            return _ends(pairs, place, method, extra) or _even(
                pairs, place, max(agreed, support), violated, method, extra
            )
        # two may agree by chance while a busy gateway delays the rest: what more of them hold is wider
        first, last, agreed = vote((diff - FINE[1])[near], (diff + width + SLOW)[near], PLATEAU)
        if agreed >= ENOUGH - 1 and support > ENOUGH - 1:
            return _even(pairs, (first, last), max(agreed, support), violated, method, extra)
    # refusals alone: a proxy refuses for other reasons too, so nearly all of them must lie in several downtimes here
    holds = windows.filter((pl.col("low") <= end) & (pl.col("high") >= start))
    alone = (
        holds.get_column("up").n_unique() < 2
        or holds.get_column("p").n_unique() < SURELY * windows.get_column("p").n_unique()
    )
    if end - start > WIDEST or (not near.any() and (alone or start <= 0 <= end)):
        return None
    return Estimate((start + end) // 2, (end - start) // 2 + SYSTEMATIC + extra, support, violated, method, "aligned")


def _narrow(diff: NDArray[np.int64], width: NDArray[np.int64], low: int, high: int, agreed: int) -> tuple[int, int]:
    """The part of the place that most of its anchors share when each is given the usual lag and not the longest."""
    kept = (diff - FINE[1] <= high) & (diff + width - FINE[0] >= low)
    if kept.sum() < ENOUGH:
        return low, high
    first, last, support = vote((diff - NARROW[1])[kept], (diff + width - NARROW[0])[kept], PLATEAU)
    return (
        (max(low, first), min(high, last))
        if support >= max(ENOUGH, MOSTLY * agreed) and last > low and first < high
        else (low, high)
    )


def _ends(pairs: pl.DataFrame, place: tuple[int, int], method: str, extra: int) -> Estimate | None:
    """Offset and drift from the ends of the same connections that agree with the place but for drift."""
    base = int(pairs.item(0, "at"))  # sorted
    at, diff, width = (
        pairs.get_column("at").to_numpy() - base,
        (pairs.get_column("p") - pairs.get_column("g")).to_numpy(),
        pairs.get_column("width").to_numpy(),
    )
    reach = alignment.DRIFT * (at.max() - at.min())
    low, high = diff - FINE[1], diff + width - FINE[0]
    likely = (low <= place[1] + reach) & (high >= place[0] - reach)
    if likely.sum() < alignment.ENOUGH:
        return None
    segments = alignment.align(alignment.anchors(at[likely], low[likely], high[likely], hard=True))
    if len(segments) != 1 or segments[0].status != "aligned":
        return None
    return _linear(segments, base, extra + SYSTEMATIC, method)


def _even(
    pairs: pl.DataFrame, place: tuple[int, int], support: int, violated: float, method: str, extra: int
) -> Estimate:
    """Too few anchors to tell a drift: what it may be is part of the bound."""
    near = pairs.filter(
        (pl.col("p") - pl.col("g") <= place[1] + COARSE)
        & (pl.col("p") + pl.col("width") - pl.col("g") >= place[0] - COARSE)
    ).get_column("at")
    base = int(near.item(0))  # sorted
    span = float(int(near.item(-1)) - base)
    error = (place[1] - place[0]) / 2 + SYSTEMATIC + alignment.DRIFT * span / 2
    piece = alignment.Segment(
        -np.inf,
        np.inf,
        0.0,
        span,
        span / 2,
        (place[0] + place[1]) / 2,
        0.0,
        np.array([span / 2]),
        np.array([error]),
        support,
        violated,
    )
    return _linear([piece], base, extra, method)


def _gateway(events: pl.DataFrame, clock: str) -> Estimate:
    """The gateway against the engine: two stamps of one line, else signals and deaths against the engine's events."""
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
    if len(diff) >= ENOUGH:
        return _lines(two)
    return _lives(events, clock) or Estimate(
        0, ASSUMED_ERROR, 0, 0.0, "nothing ties this clock to the reference", "assumed"
    )


def _lives(events: pl.DataFrame, clock: str) -> Estimate | None:
    """A gateway whose lines have no second stamp: signals, deaths and starts of its container against what it wrote of them.

    A loaded machine takes a minute from the container's start to the first line, so that side is nearly open.
    """
    known = events.get_column("role").is_not_null().any()
    own = events.filter((pl.col("role") == "gateway") | ~pl.lit(known))
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
    wide = alignment.anchors(at, diff - later, open_, hard=True)
    bucket = at // max(STRETCH, int(at[-1]) // alignment.MOST)
    order = np.lexsort((-diff, bucket))
    _, first, count = np.unique(bucket[order], return_index=True, return_counts=True)
    top = order[first]
    # lags are about exponential: the least of n is below their mean times ln 100 / n in 99 of 100 stretches
    mean = float(np.median(np.max(diff) - diff)) / np.log(2)
    room = np.clip(mean * np.log(100) / count, LEAST_LAG, None)
    tight = alignment.anchors(at[top], np.full(len(top), -np.inf), diff[top] + width[top] + room, hard=True)
    method = "two stamps of one line"
    segments = alignment.align(alignment.join([wide, tight]))
    if any(s.status == "aligned" for s in segments):
        return _linear(segments, base, LINE_ERROR, method)
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


def _proxy(events: pl.DataFrame, clock: str, found: Mapping[str, Estimate]) -> Estimate:
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
    ours = access.filter(pl.col("http_response_status_code").is_in([101, 0])).select(
        "client_address",
        pl.col("user_agent_original").replace(["-", ""], None).alias("agent"),
        "duration_ns",
        end.alias("p"),
        (end - base).alias("before"),
        pl.col("time_resolution_ns").fill_null(SECOND).alias("width"),
    )
    theirs = gateway_closes(events).filter(pl.col("clock_id").is_in(list(gateways)))
    moment, bound = aligned(gateways, theirs.get_column("clock_id"), theirs.get_column("at"))
    theirs = theirs.with_columns(pl.Series("g", moment)).select(
        "forwarded_for", pl.col("duration_ns").alias("lasted"), "g", "remote_address", "gateway_agent", "client_mode"
    )
    theirs = theirs.filter(
        ~pl.col("remote_address").is_in(access.get_column("client_address").drop_nulls().unique().to_list())
        | pl.col("forwarded_for").is_not_null()
        | pl.col("remote_address").is_null()
    )
    spread = (pl.col("duration_ns") - pl.col("lasted")).abs() <= 300 * MS
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
    columns = ["p", "g", "width", "before"]
    pairs = (
        pl.concat([keyed.select(columns), loose.select(columns), blind.select(columns)])
        .with_columns((pl.col("g") - pl.col("before")).alias("at"))
        .filter((pl.col("p") - pl.col("g")).abs() <= REACH)
    )
    windows = _refusals(events, access, found)
    extra = int(np.median(bound)) if len(bound) else 0
    return (
        _settle(pairs, windows, "the same connections and refusals at the gateway", extra)
        or _plausible(windows)
        or none
    )


def _client(events: pl.DataFrame, clock: str, found: Mapping[str, Estimate]) -> Estimate | None:
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
    """One row a connection whose close the gateway logged: clock_id, at (raw ns), duration_ns, forwarded_for, remote_address."""
    gateway = events.filter((pl.col("source_kind") == "gateway") & pl.col("conn_short").is_not_null())
    at = pl.col("timestamp_raw").cast(pl.Int64)
    remote = pl.coalesce("remote_address", pl.col("endpoint").str.extract(r"^\[?([^\]]+?)\]?:\d+->", 1))
    begun = pl.col("event_name").is_in(["websocket.open", "websocket.connected"])
    rows = gateway.group_by("conn_short", maintain_order=True).agg(
        pl.col("clock_id").first(),
        at.filter(pl.col("event_name") == "websocket.close").min().alias("at"),
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
    refused = _thin(access.filter(pl.col("http_response_status_code").is_in([502, 503]))).select(base.alias("p"))
    pairs = refused.join(windows, how="cross")
    return pairs.select(
        "p",
        "up",
        (pl.col("p") - pl.col("up") - SECOND).alias("low"),
        (pl.col("p") - pl.col("t") + SECOND).alias("high"),
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


def _table(found: Mapping[str, Estimate], origins: Mapping[str, tuple[str, str]], events: pl.DataFrame) -> pl.DataFrame:
    spans = {
        row["clock_id"]: row
        for row in (
            events.filter(pl.col("timestamp_raw").is_not_null())
            .group_by("clock_id")
            .agg(
                pl.col("timestamp_raw").min().cast(pl.Int64).alias("a"),
                pl.col("timestamp_raw").max().cast(pl.Int64).alias("b"),
            )
            .to_dicts()
        )
    }
    rows = []
    for clock, e in sorted(found.items()):
        zone, origin = origins.get(clock, ("as written", "the stamps carry it"))
        span = spans.get(clock, {})
        pieces = e.pieces()
        for at, piece in enumerate(pieces):
            begin, end = (None if span.get(k) is None else int(span[k]) for k in "ab")
            start = piece.get("segment_start") if at else (None if begin is None else begin - piece["offset_ns"])
            stop = (
                piece.get("segment_end")
                if at < len(pieces) - 1
                else (None if end is None else end - piece["offset_ns"])
            )
            rows.append(
                {
                    **piece,
                    "clock_id": clock,
                    "segment_start": start,
                    "segment_end": stop,
                    "zone": zone,
                    "zone_origin": origin,
                }
            )
    return schema.conform(
        pl.DataFrame(rows, infer_schema_length=None) if rows else schema.empty(schema.CLOCKS), schema.CLOCKS
    )
