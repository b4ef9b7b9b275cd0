"""Which clock wrote each stamp, in which zone, and how far it stands from the reference clock, with an error bound.

An anchor is an interval in which the offset must lie if two lines speak of one moment. Wrong anchors are among them, so
the estimate is the point that most intervals share (a sweep over their ends), first with wide tolerances to find the
place, then with narrow ones for the bound. offset = this clock − reference, after its zone is applied.
"""

from __future__ import annotations

from calendar import isleap
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from occorr import schema, times

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
QUARTER: Final = 900 * SECOND
HALF_YEAR: Final = 182 * 86_400 * SECOND
RECORDERS: Final = ("host", "recorder", "runner", "desktop", "kubelet")  # clocks of envelopes: no container's TZ says theirs
REACH: Final = 14 * 3600 * SECOND
ENOUGH: Final = 3  # anchors that must agree
ASSUMED_ERROR: Final = 2 * SECOND  # what an unverified clock is taken to be off by at most, for windows
COARSE: Final = 1_200 * MS  # a close line comes up to 1 s after the decision
FINE: Final = (-40 * MS, 15 * MS)  # proxy end minus gateway close when nothing is wrong: the gateway logs 2–13 ms late
SYSTEMATIC: Final = 8 * MS  # what the mean of that lag may be off by
PLATEAU: Final = 0.8  # wrong anchors move the peak inside its plateau: the bound is where this share of it still agrees
FLOOR: Final = 3 * MS  # no bound is printed below this: lags between programs are not known better
FAR_ENOUGH: Final = 6  # … for an offset of more than NEARBY
NEARBY: Final = 5 * SECOND
THIN: Final = 300
WIDEST: Final = 30 * SECOND  # a place known no better than this settles nothing
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


def assign(events: pl.DataFrame) -> pl.DataFrame:
    """Fills `clock_id`: the engine's, the gateway's, each proxy's, the recorder's host.

    A line without a stamp of its own takes its envelope's stamp and clock.
    """
    kind = pl.col("source_kind")
    gateways = events.filter((kind == "gateway") & (pl.col("part").fill_null("") != "")).get_column("part").n_unique()
    gateway = pl.concat_str(pl.lit("gateway:"), pl.col("part")) if gateways > 1 else pl.lit("gateway")
    own = (
        pl.when(kind == "docker").then(pl.lit("engine"))
        .when(kind == "proxy").then(pl.col("parser").str.extract(r"^([a-z]+)", 1))
        .when((kind == "cli") & (pl.col("parser") == "openclaw/cli")).then(pl.lit("host"))
        .when(kind.is_in(["gateway", "cli"])).then(gateway)
        .when(kind == "kernel").then(pl.lit("host"))
        .otherwise(pl.lit("other"))
    )  # fmt: skip
    bare = pl.col("timestamp_raw").is_null() & pl.col("observed_timestamp").is_not_null()
    return events.with_columns(
        pl.when(bare).then("observed_clock_id").otherwise(pl.coalesce("clock_id", own)).alias("clock_id"),
        pl.when(bare).then("observed_timestamp").otherwise("timestamp_raw").alias("timestamp_raw"),
        pl.when(bare).then(pl.col("observed_zone_inline").fill_null(value=True)).otherwise("zone_inline").alias("zone_inline"),
        pl.when(bare).then(pl.col("observed_resolution_ns").fill_null(1)).otherwise("time_resolution_ns").cast(pl.Int64).alias("time_resolution_ns"),
        pl.when(bare).then(pl.lit("at_write")).otherwise("time_semantics").alias("time_semantics"),
    )


def align(
    events: pl.DataFrame, facts: pl.DataFrame, *, tz: str | None = None, overrides: Mapping[str, tuple[int, int]] | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Applies zones and estimates every clock.

    Args:
        events: linked events.
        facts: FACTS, for the containers' time zones.
        tz: zone of naive stamps where nothing better is known.
        overrides: clock → (offset ns, error ns) that a person gave.

    Returns:
        events with `clock_id` and `timestamp_raw` in UTC; CLOCKS.
    """
    events = assign(complete_roles(events))
    events, zones = _zones(events, facts, tz)
    ids = events.filter(pl.col("timestamp_raw").is_not_null()).get_column("clock_id").drop_nulls().unique().sort().to_list()
    engine = "engine" in ids or events.get_column("observed_clock_id").eq("engine").any()
    main = next((i for i in ids if i.startswith("gateway")), None)
    reference = "engine" if engine else main or (events.get_column("clock_id").drop_nulls().mode().sort().first() if ids else None)
    found: dict[str, Estimate] = {}
    if reference is not None:
        found[str(reference)] = Estimate(0, 0, 0, 0.0, "reference", "reference")
    for clock in sorted(ids, key=lambda i: (not i.startswith("gateway"), i)):
        if clock in found:
            continue
        if overrides and clock in overrides:
            offset, error = overrides[clock]
            found[clock] = Estimate(offset, error, 0, 0.0, "override", "aligned")
        elif clock == "host":
            found[clock] = Estimate(0, 50 * MS, 0, 0.0, "the recorder is taken to run on the engine's host", "assumed")
        elif clock.startswith("gateway"):
            found[clock] = _gateway(events, clock)
        else:
            found[clock] = _proxy(events, clock, found)
    return events, _table(found, zones, events)


def complete_roles(events: pl.DataFrame) -> pl.DataFrame:
    """`role` of the engine's events, where nobody has told yet."""
    return events if "role" in events.columns else events.with_columns(pl.lit(None, pl.String).alias("role"))


def years(events: pl.DataFrame) -> pl.DataFrame:
    """Gives stamps without a year theirs: by the other stamp of the line, else by the order and the other sources.

    In one file the stamps go up, so a step back by half a year is New Year. The last one is put into the latest year that
    is not after the newest stamp that has a year; where no stamp has one, into this year or the last.
    """
    for column, other in (("timestamp_raw", "observed_timestamp"), ("observed_timestamp", "timestamp_raw")):
        if column in events.columns and events.select((pl.col(column).dt.year() == times.YEARLESS).any()).item():
            events = _with_years(events, column, other)
    return events


def _with_years(events: pl.DataFrame, column: str, other: str) -> pl.DataFrame:
    stamps = [c for c in (column, other) if c in events.columns]
    dated = pl.concat([events.get_column(c).rename("t") for c in stamps]).drop_nulls()
    newest = dated.filter(dated.dt.year() > times.YEARLESS).max()
    limit = (newest if isinstance(newest, datetime) else datetime.now(UTC)) + timedelta(days=1)
    context = pl.when(pl.col(other).dt.year() > times.YEARLESS).then(pl.col(other)) if other in events.columns else pl.lit(None, schema.TS)
    rows = events.with_row_index("_row").filter(pl.col(column).dt.year() == times.YEARLESS).select("_row", "log_file_path", "part", "seq", pl.col(column).alias("t"), context.alias("context"))
    found: list[pl.DataFrame] = []
    for (_path, _part), group in rows.sort("seq").group_by("log_file_path", "part", maintain_order=True):
        step = group.get_column("t").cast(pl.Int64).diff().fill_null(0).to_numpy()
        rolls = np.cumsum((step < -HALF_YEAR).astype(np.int64) - (step > HALF_YEAR).astype(np.int64))
        base = _base_year(group, rolls, limit)
        chosen = pl.Series("year", base + rolls, dtype=pl.Int32)
        told = group.with_columns(chosen).with_columns(pl.when(pl.col("context").is_not_null()).then(_nearest_year(pl.col("t"), pl.col("context"))).otherwise("year").alias("year"))
        origin = "the other sources" if isinstance(newest, datetime) else "assumed: no other stamp has one"
        found.append(told.select("_row", pl.col("t").dt.replace(year=pl.col("year")).alias("_whole"), pl.when(pl.col("context").is_not_null()).then(pl.lit("the other stamp of the line")).otherwise(pl.lit(origin)).alias("_origin")))
    joined = events.with_row_index("_row").join(pl.concat(found), on="_row", how="left", maintain_order="left")
    before = pl.col("year_origin") if "year_origin" in events.columns else pl.lit(None, pl.String)
    yearless = pl.col(column).dt.year() == times.YEARLESS
    return joined.with_columns(pl.when(yearless).then("_whole").otherwise(column).alias(column), pl.coalesce("_origin", before).alias("year_origin")).drop("_row", "_whole", "_origin")


def _nearest_year(stamp: pl.Expr, context: pl.Expr) -> pl.Expr:
    """The year, of the context's and its neighbours, that puts the stamp nearest to the context."""
    year = context.dt.year()
    best, distance = year, (stamp.dt.replace(year=year) - context).dt.total_seconds().abs()
    for step in (-1, 1):
        away = (stamp.dt.replace(year=year + step) - context).dt.total_seconds().abs()
        better = (away < distance).fill_null(value=False)
        best, distance = pl.when(better).then(year + step).otherwise(best), pl.when(better).then(away).otherwise(distance)
    return best


def _base_year(group: pl.DataFrame, rolls: NDArray[np.int64], limit: datetime) -> int:
    """The year of a group's first stamp: the latest with which no stamp is after the limit and every 29 February exists."""
    stamps = group.get_column("t").to_list()
    leap = {int(r) for r, t in zip(rolls, stamps, strict=True) if (t.month, t.day) == (2, 29)}
    highest = int(rolls.max())
    last = max(t.replace(tzinfo=None) for t, r in zip(stamps, rolls, strict=True) if r == highest)
    for year in range(limit.year, limit.year - 9, -1):
        if any(not isleap(year - highest + r) for r in leap):
            continue
        if (year, last.month, last.day) <= (limit.year, limit.month, limit.day):
            return year - highest
    return limit.year - highest


def _zones(events: pl.DataFrame, facts: pl.DataFrame, tz: str | None) -> tuple[pl.DataFrame, dict[str, tuple[str, str]]]:
    """Naive stamps to UTC: by `--tz`, by the sibling log of the same program, by the container's TZ, by a second stamp of the line, else as UTC."""
    origins: dict[str, tuple[str, str]] = {}
    events = events.with_columns(pl.lit(0, pl.Int64).alias("zone_slack_ns"), pl.lit(value=False).alias("zone_assumed"))
    bare = ~pl.col("zone_inline").fill_null(value=True) & pl.col("timestamp_raw").is_not_null()
    around = ~pl.col("observed_zone_inline").fill_null(value=True) & pl.col("observed_timestamp").is_not_null()
    naive = pl.concat([events.filter(bare).get_column("clock_id"), events.filter(around).get_column("observed_clock_id").rename("clock_id")])
    for clock in naive.drop_nulls().unique().sort().to_list():
        role = "gateway" if clock.startswith("gateway") else "proxy"
        zone, origin = _container_zone(facts, role, clock) if clock not in RECORDERS else ("", "")
        shift = None if tz else _sibling_shift(events, clock)
        why = "the access log of the same proxy"
        if shift is None and not tz and not zone:
            shift, why = _second_shift(events, clock, around), "a second stamp of its lines"
        if tz:
            zone, origin = tz, "--tz"
        elif shift is not None:
            zone, origin = f"UTC{'+' if shift >= 0 else '-'}{abs(shift) // (3600 * SECOND):02d}:{abs(shift) // (60 * SECOND) % 60:02d}", why
        elif not zone:
            zone, origin = "UTC", "assumed"
        fixed = shift if shift is not None and not tz else None
        mine, theirs = (pl.col("clock_id") == clock) & bare, (pl.col("observed_clock_id") == clock) & around
        first, slack = _to_utc(pl.col("timestamp_raw"), zone, fixed)
        events = events.with_columns(
            pl.when(mine).then(first).otherwise("timestamp_raw").alias("timestamp_raw"),
            pl.when(mine).then(slack).otherwise("zone_slack_ns").alias("zone_slack_ns"),
            pl.when(mine).then(pl.lit(origin == "assumed")).otherwise("zone_assumed").alias("zone_assumed"),
            pl.when(theirs).then(_to_utc(pl.col("observed_timestamp"), zone, fixed)[0]).otherwise("observed_timestamp").alias("observed_timestamp"),
        )
        origins[clock] = (zone, origin)
    return _dated(events), origins


def _to_utc(stamp: pl.Expr, zone: str, shift: int | None) -> tuple[pl.Expr, pl.Expr]:
    """A naive stamp (as if UTC) in UTC, and how much later it may also be: a local time that the end of summer repeats is two.

    One that the beginning of summer leaves out comes from a clock that was not yet changed: the offset before holds.
    """
    if shift is not None:
        return (stamp.cast(pl.Int64) - shift).cast(schema.TS), pl.lit(0, pl.Int64)
    local = stamp.dt.replace_time_zone(None)

    def at(wall: pl.Expr, choice: Literal["earliest", "latest"]) -> pl.Expr:
        return wall.dt.replace_time_zone(zone, ambiguous=choice, non_existent="null").dt.convert_time_zone("UTC")

    hour = pl.duration(hours=1, time_unit="ns")
    first, second = (pl.coalesce(at(local, c), at(local - hour, c) + hour).cast(schema.TS) for c in ("earliest", "latest"))
    return first, second.cast(pl.Int64) - first.cast(pl.Int64)


def _second_shift(events: pl.DataFrame, clock: str, around: pl.Expr) -> int | None:
    """Zone in ns, from lines with two stamps of which the other one carries its zone: the quarter of an hour that most show."""
    outer = events.filter((pl.col("observed_clock_id") == clock) & around & pl.col("zone_inline") & (pl.col("clock_id") != clock) & pl.col("time_semantics").is_in(["at_event", "at_end"]))
    inner = events.filter((pl.col("clock_id") == clock) & ~pl.col("zone_inline").fill_null(value=True) & pl.col("observed_zone_inline") & (pl.col("observed_clock_id") != clock) & pl.col("time_semantics").is_in(["at_event", "at_end"]))
    raw, seen = pl.col("timestamp_raw").cast(pl.Int64), pl.col("observed_timestamp").cast(pl.Int64)
    undated = pl.col("timestamp_raw").dt.year() < times.YEARLESS
    day = 86_400 * SECOND
    wrapped = (raw - seen + day // 2) % day - day // 2
    diff = pl.concat([outer.select((seen - raw).alias("d")), inner.select(pl.when(undated).then(wrapped).otherwise(raw - seen).alias("d"))]).drop_nulls().head(THIN * 10)
    near = diff.with_columns((pl.col("d") / QUARTER).round().cast(pl.Int64).alias("q")).filter(((pl.col("d") - pl.col("q") * QUARTER).abs() <= 60 * SECOND) & (pl.col("d").abs() <= REACH))
    votes = near.group_by("q").len().sort("len", "q", descending=[True, False])
    if votes.is_empty() or votes.item(0, "len") < PLATEAU * diff.height:
        return None
    return int(votes.item(0, "q")) * QUARTER


def _dated(events: pl.DataFrame) -> pl.DataFrame:
    """Gives stamps without a date (terminal style) the day on which they fit the envelope's or the other sources' span."""
    undated = pl.col("timestamp_raw").is_not_null() & (pl.col("timestamp_raw").dt.year() <= 1971)
    if not events.select(undated.any()).item():
        return events
    day = 86_400 * SECOND
    first = events.filter(~undated).get_column("timestamp_raw").min()
    context = pl.coalesce(pl.col("observed_timestamp"), pl.lit(first, schema.TS))
    clock = pl.col("timestamp_raw").cast(pl.Int64)
    wrapped = (clock.diff().over("log_file_path", "part", order_by="seq").fill_null(0) < -day // 2).cast(pl.Int64).cum_sum().over("log_file_path", "part", order_by="seq")
    near = ((context.cast(pl.Int64) - clock + day // 2) // day) * day
    base = pl.when(pl.col("observed_timestamp").is_not_null()).then(near).otherwise((context.cast(pl.Int64) // day + wrapped) * day)
    return events.with_columns(pl.when(undated).then((clock + base).cast(schema.TS)).otherwise("timestamp_raw").alias("timestamp_raw"))


def _container_zone(facts: pl.DataFrame, role: str, clock: str) -> tuple[str, str]:
    """The TZ variable of the container in that role, where it is one and the same."""
    subjects = facts.filter((pl.col("key") == "role") & pl.col("value").str.starts_with(role)).get_column("subject").to_list()
    named = facts.filter((pl.col("key") == "env.TZ") & pl.col("subject").is_in(subjects)).get_column("value").unique().to_list()
    if not subjects:
        images = facts.filter((pl.col("key") == "image") & pl.col("value").str.contains(clock.split(":", maxsplit=1)[0])).get_column("subject").to_list()
        named = facts.filter((pl.col("key") == "env.TZ") & pl.col("subject").is_in(images)).get_column("value").unique().to_list()
    if len(named) == 1:
        try:
            ZoneInfo(named[0])
        except (KeyError, ValueError, OSError):
            return "", ""
        return named[0], "the container's TZ"
    return "", ""


def _sibling_shift(events: pl.DataFrame, clock: str) -> int | None:
    """Zone of an error log without one, in ns, found against the access log of the same proxy by client and second."""
    own = events.filter(pl.col("clock_id") == clock)
    errors = own.filter((pl.col("event_name") == "proxy.error") & ~pl.col("zone_inline").fill_null(value=True) & pl.col("client_address").is_not_null()).select("client_address", pl.col("timestamp_raw").cast(pl.Int64).alias("e")).head(THIN)
    access = own.filter((pl.col("event_name") == "http.access") & pl.col("zone_inline") & (pl.col("http_response_status_code") >= 400)).select("client_address", pl.col("timestamp_raw").cast(pl.Int64).alias("a")).head(THIN * 3)
    pairs = errors.join(access, on="client_address").with_columns(((pl.col("e") - pl.col("a")) / QUARTER).round().cast(pl.Int64).alias("q"))
    close = pairs.filter(((pl.col("e") - pl.col("a") - pl.col("q") * QUARTER).abs() <= 2 * SECOND) & (pl.col("q").abs() * QUARTER <= REACH))
    votes = close.group_by("q").agg(pl.col("e").n_unique().alias("n")).sort("n", "q", descending=[True, False])
    if votes.is_empty() or votes.item(0, "n") < min(2, errors.height):
        return None
    if votes.height > 1 and votes.item(1, "n") > MARGIN * votes.item(0, "n"):
        return None
    return int(votes.item(0, "q")) * QUARTER


def vote(low: NDArray[np.int64], high: NDArray[np.int64], plateau: float = 1.0) -> tuple[int, int, int]:
    """The stretch that most intervals share, or at least `plateau` of them: (from, to, how many). Time n log n."""
    ends = np.concatenate([low, high])
    steps = np.concatenate([np.ones(len(low), np.int64), -np.ones(len(high), np.int64)])
    order = np.lexsort((-steps, ends))
    depth = np.cumsum(steps[order])
    at = int(np.argmax(depth))
    below = np.flatnonzero(depth < plateau * depth[at])
    first = int(below[below < at].max(initial=-1)) + 1
    last = int(below[below > at].min(initial=len(ends) - 1))
    return int(ends[order][first]), int(ends[order][last]), int(depth[at])


def _settle(diff: NDArray[np.int64], width: NDArray[np.int64], windows: tuple[NDArray[np.int64], NDArray[np.int64]], method: str) -> Estimate | None:
    """An offset from differences of stamps and from windows that hold it: the place first, then the bound.

    Args:
        diff: stamp of this clock minus aligned stamp of the other side, one a candidate pair, ns. A stamp truncated to
            `width` stands for [t, t + width), so the offset lies in [diff, diff + width) but for lags.
        width: resolution of each stamp, ns.
        windows: lower and upper ends of wider intervals that must hold the offset.
        method: what the anchors are, for the table.
    """
    if len(diff) + len(windows[0]) == 0:
        return None
    low, high = np.concatenate([diff - COARSE, windows[0]]), np.concatenate([diff + width + COARSE, windows[1]])
    start, end, support = vote(low, high)
    far = (high < start - 2 * COARSE) | (low > end + 2 * COARSE)
    rival = vote(low[far], high[far])[2] if far.any() else 0
    # Chance agreement grows with the range that is searched: far from zero more anchors must agree.
    needed = ENOUGH if start <= NEARBY and end >= -NEARBY else FAR_ENOUGH
    if support < needed or rival > MARGIN * support:
        return None
    near = (diff - COARSE <= end) & (diff + width + COARSE >= start)
    total = int(near.sum()) + len(windows[0])
    fine_low, fine_high, agreed = vote((diff - FINE[1])[near], (diff + width - FINE[0])[near], PLATEAU) if near.any() else (start, end, 0)
    if agreed >= ENOUGH or (agreed >= ENOUGH - 1 and support > agreed):
        start, end = fine_low, fine_high
    elif end - start > WIDEST:
        return None
    error = (end - start) // 2 + SYSTEMATIC
    return Estimate((start + end) // 2, error, max(agreed, support), round(1 - support / max(total, support), 4), method, "aligned")


def _gateway(events: pl.DataFrame, clock: str) -> Estimate:
    """The gateway against the engine: two stamps of one line, else signals and deaths against the engine's events."""
    two = events.filter((pl.col("clock_id") == clock) & (pl.col("observed_clock_id") == "engine") & pl.col("observed_timestamp").is_not_null() & (pl.col("timestamp_raw") != pl.col("observed_timestamp")))
    diff = (two.get_column("timestamp_raw").cast(pl.Int64) - two.get_column("observed_timestamp").cast(pl.Int64)).drop_nulls().to_numpy()
    if len(diff) >= ENOUGH:
        width = two.get_column("time_resolution_ns").fill_null(MS).to_numpy()
        # the engine stamps a line after the process did (0.2–21 ms): the largest difference is the one with the least lag
        top = int(np.quantile(diff, 0.98))
        near = np.abs(diff - top) < 200 * MS + width
        error = max(int(np.max(width)) // 2 + 2 * MS, FLOOR)
        offset = top + int(np.median(width)) // 2 - MS // 4
        return Estimate(offset, error, int(near.sum()), round(1 - float(near.mean()), 4), "two stamps of one line", "aligned")
    pairs = [
        ("gateway.signal", "container.kill", 0, 500 * MS), ("gateway.shutdown", "container.die", -1_500 * MS, 100 * MS),
        ("gateway.start", "container.start", 0, 15 * SECOND),
    ]  # fmt: skip
    low, high = [], []
    for ours, theirs, least, most in pairs:
        a = events.filter((pl.col("clock_id") == clock) & (pl.col("event_name") == ours)).get_column("timestamp_raw").cast(pl.Int64).drop_nulls().head(THIN).to_numpy()
        b = events.filter(pl.col("event_name") == theirs).get_column("timestamp_raw").cast(pl.Int64).drop_nulls().head(THIN).to_numpy()
        delta = (a[:, None] - b[None, :]).ravel()
        low.append(delta - most)
        high.append(delta - least)
    lows, highs = np.concatenate(low), np.concatenate(high)
    if len(lows):
        start, end, support = vote(lows, highs)
        if support >= ENOUGH - 1:
            return Estimate((start + end) // 2, max((end - start) // 2, FLOOR), support, round(1 - support / len(lows), 4), "life of the process against the engine's events", "aligned")
    return Estimate(0, ASSUMED_ERROR, 0, 0.0, "nothing ties this clock to the reference", "assumed")


def _proxy(events: pl.DataFrame, clock: str, found: Mapping[str, Estimate]) -> Estimate:
    """A proxy against the gateway (ends of the same connections) and the engine (refusals while the gateway is down)."""
    none = Estimate(0, ASSUMED_ERROR, 0, 0.0, "nothing ties this clock to the reference", "assumed")
    gateways = {k: v for k, v in found.items() if k.startswith("gateway") and v.status in ("reference", "aligned")}
    base = pl.col("timestamp_raw").cast(pl.Int64)
    access = events.filter((pl.col("clock_id") == clock) & (pl.col("event_name") == "http.access") & pl.col("timestamp_raw").is_not_null())
    if access.is_empty() or not gateways:
        return none
    offset = pl.col("clock_id").replace_strict({k: v.offset for k, v in gateways.items()}, default=None, return_dtype=pl.Int64)
    end = pl.when(pl.col("time_semantics") == "at_start").then(base + pl.col("duration_ns").fill_null(0)).otherwise(base)
    ours = access.filter(pl.col("http_response_status_code").is_in([101, 0])).select("client_address", pl.col("user_agent_original").replace(["-", ""], None).alias("agent"), "duration_ns", end.alias("p"), pl.col("time_resolution_ns").fill_null(SECOND).alias("width"))
    theirs = gateway_closes(events).filter(pl.col("clock_id").is_in(list(gateways))).with_columns((pl.col("at") - offset).alias("g")).select("forwarded_for", pl.col("duration_ns").alias("lasted"), "g", "remote_address", "gateway_agent", "client_mode")
    theirs = theirs.filter(~pl.col("remote_address").is_in(access.get_column("client_address").drop_nulls().unique().to_list()) | pl.col("forwarded_for").is_not_null() | pl.col("remote_address").is_null())
    spread = (pl.col("duration_ns") - pl.col("lasted")).abs() <= 300 * MS
    browser = pl.col("agent").str.contains("Mozilla/", literal=True)
    same_agent = (pl.col("agent") == pl.col("gateway_agent")).fill_null(value=True)
    same_kind = ((pl.col("client_mode") == "webchat") == browser).fill_null(value=True)
    keyed = ours.join(theirs.filter(pl.col("forwarded_for").is_not_null()), left_on="client_address", right_on="forwarded_for").filter(same_agent)
    loose = _thin(ours.filter(pl.col("duration_ns").is_not_null())).join(_thin(theirs.filter(pl.col("forwarded_for").is_null() & pl.col("lasted").is_not_null())), how="cross").filter(spread & (pl.col("lasted") > 500 * MS) & same_kind)
    blind = _thin(ours.filter(pl.col("duration_ns").is_null())).join(_thin(theirs.filter(pl.col("forwarded_for").is_null())), how="cross").filter(same_kind)
    columns = ["p", "g", "width"]
    pairs = pl.concat([keyed.select(columns), loose.select(columns), blind.select(columns)]).filter((pl.col("p") - pl.col("g")).abs() <= REACH)
    diff, width = (pairs.get_column("p") - pairs.get_column("g")).to_numpy(), pairs.get_column("width").to_numpy()
    windows = _refusals(events, access, found)
    return _settle(diff, width, windows, "the same connections and refusals at the gateway") or _plausible(windows) or none


def _thin(frame: pl.DataFrame) -> pl.DataFrame:
    return frame if frame.height <= THIN else frame.gather_every(frame.height // THIN + 1)


def gateway_closes(events: pl.DataFrame) -> pl.DataFrame:
    """One row a connection whose close the gateway logged: clock_id, at (raw ns), duration_ns, forwarded_for, remote_address."""
    gateway = events.filter((pl.col("source_kind") == "gateway") & pl.col("conn_short").is_not_null())
    at = pl.col("timestamp_raw").cast(pl.Int64)
    remote = pl.coalesce("remote_address", pl.col("endpoint").str.extract(r"^\[?([^\]]+?)\]?:\d+->", 1))
    begun = pl.col("event_name").is_in(["websocket.open", "websocket.connected"])
    rows = gateway.group_by("conn_short", maintain_order=True).agg(
        pl.col("clock_id").first(), at.filter(pl.col("event_name") == "websocket.close").min().alias("at"),
        at.filter(begun).min().alias("began"), pl.col("duration_ns").drop_nulls().first(),
        pl.col("forwarded_for").drop_nulls().first(), pl.col("user_agent_original").drop_nulls().first().alias("gateway_agent"), pl.col("client_mode").drop_nulls().first(), remote.drop_nulls().first().alias("remote_address"),
    )  # fmt: skip
    return rows.filter(pl.col("at").is_not_null()).with_columns(pl.coalesce("duration_ns", pl.col("at") - pl.col("began")).alias("duration_ns"))


def _refusals(events: pl.DataFrame, access: pl.DataFrame, found: Mapping[str, Estimate]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Refused attempts (502, 503) fall between a stop and the next time the gateway listens: windows for the offset."""
    base = pl.col("timestamp_raw").cast(pl.Int64)
    offset = pl.col("clock_id").replace_strict({k: v.offset for k, v in found.items()}, default=0, return_dtype=pl.Int64)
    ends = ["container.die", "gateway.signal", "gateway.stop", "gateway.shutdown", "gateway.start", "process.error", "gateway.crash"]
    stops = events.filter(pl.col("event_name").is_in(ends) & (pl.col("role").fill_null("gateway") == "gateway")).select((base - offset).alias("t")).sort("t")
    lives = events.filter(pl.col("event_name") == "gateway.listening").select((base - offset).alias("up")).sort("up")
    windows = stops.join_asof(lives, left_on="t", right_on="up", strategy="forward", check_sortedness=False).drop_nulls().group_by("up").agg(pl.col("t").min())
    refused = _thin(access.filter(pl.col("http_response_status_code").is_in([502, 503]))).select(base.alias("p"))
    pairs = refused.join(windows, how="cross")
    return (pairs.get_column("p") - pairs.get_column("up") - SECOND).to_numpy(), (pairs.get_column("p") - pairs.get_column("t") + SECOND).to_numpy()


def _plausible(windows: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Estimate | None:
    """No offset at all, where the refusals agree with it; their windows bound the error."""
    holds = (windows[0] <= 0) & (windows[1] >= 0)
    if holds.sum() < ENOUGH:
        return None
    error = int(min(-windows[0][holds].max(), windows[1][holds].min()))
    return Estimate(0, max(error, ASSUMED_ERROR), int(holds.sum()), 0.0, "refused attempts lie inside the gateway's downtime", "assumed")


def _table(found: Mapping[str, Estimate], zones: Mapping[str, tuple[str, str]], events: pl.DataFrame) -> pl.DataFrame:
    spans = {
        row["clock_id"]: row
        for row in events.filter(pl.col("timestamp_raw").is_not_null()).group_by("clock_id").agg(pl.col("timestamp_raw").min().alias("a"), pl.col("timestamp_raw").max().alias("b")).to_dicts()
    }
    rows = []
    for clock, e in sorted(found.items()):
        zone, origin = zones.get(clock, ("as written", "the stamps carry it"))
        span = spans.get(clock, {})
        rows.append({
            "clock_id": clock, "segment_start": span.get("a"), "segment_end": span.get("b"), "zone": zone, "zone_origin": origin, "offset_ns": e.offset,
            "drift_ppm": 0.0, "error_ns": e.error, "anchors": e.anchors, "violated_share": e.violated, "method": e.method, "status": e.status,
        })  # fmt: skip
    return schema.conform(pl.DataFrame(rows) if rows else schema.empty(schema.CLOCKS), schema.CLOCKS)
