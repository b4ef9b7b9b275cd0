"""Zones, years and dates of stamps that carry none.

A naive stamp gets its zone from the container, from a second stamp of the line, from the other log of the same program
or from `--tz`; a stamp without a year or a date gets it from the order of the lines and from the other sources.
"""

from __future__ import annotations

from calendar import isleap
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from occorr import schema, times
from occorr.facts import GATEWAY
from occorr.schema import SECOND

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_YEAR: Final = datetime(2000, 12, 31, tzinfo=UTC)  # a leap year, so that every date exists
NO_DATE: Final = datetime(2000, 1, 1, tzinfo=UTC)
STAMPS: Final = ("timestamp_raw", "observed_timestamp")
NO_DATE_YEAR: Final = 1971  # stamps with a time of day alone stand in the year of the epoch, or its neighbours
_OFFSET: Final = r"\d\d:\d\d:\d\d(?:[.,]\d+)? ?([+-])(\d\d):?(\d\d)\b"  # behind a time of day
QUARTER: Final = 900 * SECOND
FOLD: Final = 3_900 * SECOND  # a time of day that jumps back further than by a zone's winter time is the next day's
HALF_YEAR: Final = 182 * 86_400 * SECOND
RECORDERS: Final = (
    "host",
    "recorder",
    "runner",
    "desktop",
    "kubelet",
)  # clocks of envelopes: no container's TZ says theirs
REACH: Final = 14 * 3600 * SECOND
THIN: Final = 300
MARGIN: Final = 0.6  # second peak / first peak above which a coarse place is ambiguous
PLATEAU: Final = 0.8  # wrong anchors move the peak inside its plateau: the bound is where this share of it still agrees


def years(events: pl.DataFrame) -> pl.DataFrame:
    """Gives stamps without a year theirs: by the other stamp of the line, else by the order and the other sources.

    In one file the stamps go up, so a step back by half a year is New Year. The last one is put into the latest year
    that is not after the newest stamp that has a year; where no stamp has one, into this year or the last.
    """
    for column, other in (STAMPS, STAMPS[::-1]):
        if column in events.columns and events.select((pl.col(column).dt.year() == times.YEARLESS).any()).item():
            events = _with_years(events, column, other)
    return events


def _with_years(events: pl.DataFrame, column: str, other: str) -> pl.DataFrame:
    stamps = [c for c in (column, other) if c in events.columns]
    dated = pl.concat([events.get_column(c).rename("t") for c in stamps]).drop_nulls()
    newest = dated.filter(dated.dt.year() > times.YEARLESS).max()
    # without any year the day of the analysis must not decide: the same input gives the same bytes
    limit = (newest if isinstance(newest, datetime) else NO_YEAR) + timedelta(days=1)
    context = (
        pl.when(pl.col(other).dt.year() > times.YEARLESS).then(pl.col(other))
        if other in events.columns
        else pl.lit(None, schema.TS)
    )
    rows = (
        events.with_row_index("_row")
        .filter(pl.col(column).dt.year() == times.YEARLESS)
        .select("_row", "log_file_path", "part", "seq", pl.col(column).alias("t"), context.alias("context"))
    )
    found: list[pl.DataFrame] = []
    for (_path, _part), group in rows.sort("seq").group_by("log_file_path", "part", maintain_order=True):
        step = group.get_column("t").cast(pl.Int64).diff().fill_null(0).to_numpy()
        rolls = np.cumsum((step < -HALF_YEAR).astype(np.int64) - (step > HALF_YEAR).astype(np.int64))
        base = _base_year(group, rolls, limit)
        chosen = pl.Series("year", base + rolls, dtype=pl.Int32)
        told = group.with_columns(chosen).with_columns(
            pl.when(pl.col("context").is_not_null())
            .then(_nearest_year(pl.col("t"), pl.col("context")))
            .otherwise("year")
            .alias("year")
        )
        origin = (
            "the other sources"
            if isinstance(newest, datetime)
            else f"assumed: no stamp has one, {NO_YEAR:%Y} stands for it"
        )
        found.append(
            told.select(
                "_row",
                pl.col("t").dt.replace(year=pl.col("year")).alias("_whole"),
                pl.when(pl.col("context").is_not_null())
                .then(pl.lit("the other stamp of the line"))
                .otherwise(pl.lit(origin))
                .alias("_origin"),
            )
        )
    joined = events.with_row_index("_row").join(pl.concat(found), on="_row", how="left", maintain_order="left")
    before = pl.col("year_origin") if "year_origin" in events.columns else pl.lit(None, pl.String)
    yearless = pl.col(column).dt.year() == times.YEARLESS
    return joined.with_columns(
        pl.when(yearless).then("_whole").otherwise(column).alias(column),
        pl.coalesce("_origin", before).alias("year_origin"),
    ).drop("_row", "_whole", "_origin")


def _nearest_year(stamp: pl.Expr, context: pl.Expr) -> pl.Expr:
    """The year, of the context's and its neighbours, that puts the stamp nearest to the context."""
    year = context.dt.year()
    best, distance = year, (stamp.dt.replace(year=year) - context).dt.total_seconds().abs()
    for step in (-1, 1):
        away = (stamp.dt.replace(year=year + step) - context).dt.total_seconds().abs()
        better = (away < distance).fill_null(value=False)
        best, distance = (
            pl.when(better).then(year + step).otherwise(best),
            pl.when(better).then(away).otherwise(distance),
        )
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


def to_utc(
    events: pl.DataFrame, facts: pl.DataFrame, tz: str | None
) -> tuple[pl.DataFrame, dict[str, tuple[str, str]]]:
    """Naive stamps to UTC: by the zone that the access log of the same proxy writes, else by `--tz`, else by that log's times.

    Where none of them tells, by the container's TZ, by a second stamp of the line, at last as UTC.
    """
    origins: dict[str, tuple[str, str]] = {}
    events = events.with_columns(pl.lit(0, pl.Int64).alias("zone_slack_ns"), pl.lit(value=False).alias("zone_assumed"))
    bare = ~pl.col("zone_inline").fill_null(value=True) & pl.col("timestamp_raw").is_not_null()
    around = ~pl.col("observed_zone_inline").fill_null(value=True) & pl.col("observed_timestamp").is_not_null()
    naive = pl.concat(
        [
            events.filter(bare).get_column("clock_id"),
            events.filter(around).get_column("observed_clock_id").rename("clock_id"),
        ]
    )
    clocks = naive.drop_nulls().unique().sort().to_list()
    if not clocks:
        return _dated(events), origins
    own_day, others_day = (_days(events, *pair) for pair in (STAMPS, STAMPS[::-1]))
    for clock in clocks:
        role = "gateway" if clock.startswith("gateway") else "proxy"
        zone, origin = _container_zone(facts, role, clock) if clock not in RECORDERS else ("", "")
        # one process writes in one zone, whatever people say of the stamps that carry none, unless its own lines tell
        # of the same attempts in another one
        shift = _written_shift(events, clock)
        why = f"the access log of the same proxy{', not --tz' if tz else ''}"
        if shift is not None or not tz:
            told = _sibling_shift(events, clock)
            shift = shift if told is None else told
        if shift is None and not tz and not zone:
            shift, why = _second_shift(events, clock, around), "a second stamp of its lines"
        if tz and shift is None:
            zone, origin = tz, "--tz"
        elif shift is not None:
            zone, origin = (
                (
                    f"UTC{'+' if shift >= 0 else '-'}{abs(shift) // (3600 * SECOND):02d}:{abs(shift) // (60 * SECOND) % 60:02d}"
                ),
                why,
            )
        elif not zone:
            zone, origin = "UTC", "assumed"
        mine, theirs = (pl.col("clock_id") == clock) & bare, (pl.col("observed_clock_id") == clock) & around
        first, slack = _in_utc(pl.col("timestamp_raw"), zone, shift, own_day)
        events = events.with_columns(
            pl.when(mine).then(first).otherwise("timestamp_raw").alias("timestamp_raw"),
            pl.when(mine).then(slack).otherwise("zone_slack_ns").alias("zone_slack_ns"),
            pl.when(mine).then(pl.lit(origin == "assumed")).otherwise("zone_assumed").alias("zone_assumed"),
            pl.when(theirs)
            .then(_in_utc(pl.col("observed_timestamp"), zone, shift, others_day)[0])
            .otherwise("observed_timestamp")
            .alias("observed_timestamp"),
        )
        origins[clock] = (zone, origin)
    return _dated(events), origins


def _days(events: pl.DataFrame, column: str, beside: str) -> pl.Series:
    """How many ns lie between a stamp's date and the one that it is likely of: none but for stamps that have only a time of day.

    What a zone's offset is depends on the date. The line's other stamp tells it, or else the first stamp of any source that has one.
    """
    day = 86_400 * SECOND
    own, other = (pl.when(pl.col(c).dt.year() > NO_DATE_YEAR).then(c) for c in (column, beside))
    likely = pl.coalesce(other, pl.min_horizontal(own.min(), other.min()), pl.lit(NO_DATE, schema.TS))
    bare = pl.col(column).dt.year() <= NO_DATE_YEAR
    return events.select(pl.when(bare).then(likely.cast(pl.Int64) // day * day).otherwise(0)).to_series()


def _in_utc(stamp: pl.Expr, zone: str, shift: int | None, day: pl.Series) -> tuple[pl.Expr, pl.Expr]:
    """A naive stamp (as if UTC) in UTC, and how much later it may also be: a local time that the end of summer repeats is two.

    One that the beginning of summer leaves out comes from a clock that was not yet changed: the offset before holds. `day`
    is added for as long as the offset is asked for.
    """
    if shift is not None:
        return (stamp.cast(pl.Int64) - shift).cast(schema.TS), pl.lit(0, pl.Int64)
    since = pl.lit(day)
    local = (stamp.cast(pl.Int64) + since).cast(schema.TS).dt.replace_time_zone(None)

    def at(wall: pl.Expr, choice: Literal["earliest", "latest"]) -> pl.Expr:
        return wall.dt.replace_time_zone(zone, ambiguous=choice, non_existent="null").dt.convert_time_zone("UTC")

    # what is left out may be half an hour or a whole day: the offset before it held a day before
    before = pl.duration(days=1, time_unit="ns")
    first, second = (
        pl.coalesce(at(local, c), at(local - before, "latest") + before).cast(pl.Int64) - since
        for c in ("earliest", "latest")
    )
    return first.cast(schema.TS), second - first


def _second_shift(events: pl.DataFrame, clock: str, around: pl.Expr) -> int | None:
    """Zone in ns, from lines with two stamps of which the other one carries its zone: the quarter of an hour that most show."""
    outer = events.filter(
        (pl.col("observed_clock_id") == clock)
        & around
        & pl.col("zone_inline")
        & (pl.col("clock_id") != clock)
        & pl.col("time_semantics").is_in(["at_event", "at_end"])
    )
    inner = events.filter(
        (pl.col("clock_id") == clock)
        & ~pl.col("zone_inline").fill_null(value=True)
        & pl.col("observed_zone_inline")
        & (pl.col("observed_clock_id") != clock)
        & pl.col("time_semantics").is_in(["at_event", "at_end"])
    )
    raw, seen = pl.col("timestamp_raw").cast(pl.Int64), pl.col("observed_timestamp").cast(pl.Int64)
    undated = pl.col("timestamp_raw").dt.year() < times.YEARLESS
    day = 86_400 * SECOND
    wrapped = (raw - seen + day // 2) % day - day // 2
    diff = (
        pl.concat(
            [
                outer.select((seen - raw).alias("d")),
                inner.select(pl.when(undated).then(wrapped).otherwise(raw - seen).alias("d")),
            ]
        )
        .drop_nulls()
        .head(THIN * 10)
    )
    near = diff.with_columns((pl.col("d") / QUARTER).round().cast(pl.Int64).alias("q")).filter(
        ((pl.col("d") - pl.col("q") * QUARTER).abs() <= 60 * SECOND) & (pl.col("d").abs() <= REACH)
    )
    votes = near.group_by("q").len().sort("len", "q", descending=[True, False])
    if votes.is_empty() or votes.item(0, "len") < PLATEAU * diff.height:
        return None
    return int(votes.item(0, "q")) * QUARTER


def _dated(events: pl.DataFrame) -> pl.DataFrame:
    """Gives stamps without a date (terminal style) the day on which they fit the envelope's or the other sources' span."""
    undated = pl.col("timestamp_raw").is_not_null() & (pl.col("timestamp_raw").dt.year() <= NO_DATE_YEAR)
    if not events.select(undated.any()).item():
        return events
    day = 86_400 * SECOND
    first = events.filter(~undated).get_column("timestamp_raw").min()
    if (
        first is None
    ):  # no stamp of any source has a date: a day stands for it, so that the lines keep their order and distance
        told = pl.lit(f"assumed: no stamp has a date, {NO_DATE:%Y-%m-%d} stands for it")
        events = events.with_columns(
            pl.when(undated).then(told).alias("year_origin"), (undated | pl.col("zone_assumed")).alias("zone_assumed")
        )
        first = NO_DATE
    observed = pl.when(pl.col("observed_timestamp").dt.year() > NO_DATE_YEAR).then(
        "observed_timestamp"
    )  # an envelope's stamp may lack its date too
    context = pl.coalesce(observed, pl.lit(first, schema.TS))
    clock = pl.col("timestamp_raw").cast(pl.Int64)
    wrapped = (
        (clock.diff().over("log_file_path", "part", order_by="seq").fill_null(0) < -FOLD)
        .cast(pl.Int64)
        .cum_sum()
        .over("log_file_path", "part", order_by="seq")
    )
    near = ((context.cast(pl.Int64) - clock + day // 2) // day) * day
    # a zone may have moved a log's first line over midnight: then it is of the day that puts it nearer
    since = context.cast(pl.Int64) % day
    begun = clock.first().over("log_file_path", "part", order_by="seq")
    over = pl.when(begun < 0).then(1).when(begun >= day).then(-1).otherwise(0)
    moved = pl.when((begun + over * day - since).abs() < (begun - since).abs()).then(over).otherwise(0)
    whole = (context.cast(pl.Int64) // day + wrapped + moved) * day
    base = pl.when(observed.is_not_null()).then(near).otherwise(whole)
    return events.with_columns(
        pl.when(undated).then((clock + base).cast(schema.TS)).otherwise("timestamp_raw").alias("timestamp_raw")
    )


def _container_zone(facts: pl.DataFrame, role: str, clock: str) -> tuple[str, str]:
    """The TZ variable of the container in that role, where it is one and the same."""
    subjects = (
        facts.filter((pl.col("key") == "role") & pl.col("value").str.starts_with(role)).get_column("subject").to_list()
    )
    named = (
        facts.filter((pl.col("key") == "env.TZ") & pl.col("subject").is_in(subjects))
        .get_column("value")
        .unique()
        .to_list()
    )
    if not subjects:
        name = GATEWAY if role == "gateway" else clock.split(":", maxsplit=1)[0]
        images = (
            facts.filter((pl.col("key") == "image") & pl.col("value").str.contains(name))
            .get_column("subject")
            .to_list()
        )
        named = (
            facts.filter((pl.col("key") == "env.TZ") & pl.col("subject").is_in(images))
            .get_column("value")
            .unique()
            .to_list()
        )
    if len(named) == 1:
        try:
            ZoneInfo(named[0])
        except (KeyError, ValueError, OSError):
            return "", ""
        return named[0], "the container's TZ"
    return "", ""


def _written_shift(events: pl.DataFrame, clock: str) -> int | None:
    """Zone of an error log without one, in ns, where the access log of the same proxy writes one and the same with each stamp."""
    access = events.filter(
        (pl.col("clock_id") == clock) & (pl.col("event_name") == "http.access") & pl.col("zone_inline")
    )
    told = access.get_column("log_record_original").str.extract_groups(_OFFSET).struct.unnest().unique()
    if told.height != 1 or None in told.row(0):
        return None
    sign, hours, minutes = told.row(0)
    return (3600 * int(hours) + 60 * int(minutes)) * (-SECOND if sign == "-" else SECOND)


def _sibling_shift(events: pl.DataFrame, clock: str) -> int | None:
    """Zone of an error log without one, in ns, found against the access log of the same proxy by client and second."""
    own = events.filter(pl.col("clock_id") == clock)
    errors = (
        own.filter(
            (pl.col("event_name") == "proxy.error")
            & ~pl.col("zone_inline").fill_null(value=True)
            & pl.col("client_address").is_not_null()
        )
        .select("client_address", pl.col("timestamp_raw").cast(pl.Int64).alias("e"))
        .head(THIN)
    )
    access = (
        own.filter(
            (pl.col("event_name") == "http.access")
            & pl.col("zone_inline")
            & ((pl.col("http_response_status_code") >= 400) | (pl.col("http_response_status_code") == 101))
        )
        .select("client_address", pl.col("timestamp_raw").cast(pl.Int64).alias("a"))
        .head(THIN * 3)
    )
    pairs = errors.join(access, on="client_address", maintain_order="left").with_columns(
        ((pl.col("e") - pl.col("a")) / QUARTER).round().cast(pl.Int64).alias("q")
    )
    close = pairs.filter(
        ((pl.col("e") - pl.col("a") - pl.col("q") * QUARTER).abs() <= 2 * SECOND)
        & (pl.col("q").abs() * QUARTER <= REACH)
    )
    votes = close.group_by("q").agg(pl.col("e").n_unique().alias("n")).sort("n", "q", descending=[True, False])
    if votes.is_empty() or votes.item(0, "n") < min(2, errors.height):
        return None
    if votes.height > 1 and votes.item(1, "n") > MARGIN * votes.item(0, "n"):
        return None
    return int(votes.item(0, "q")) * QUARTER
