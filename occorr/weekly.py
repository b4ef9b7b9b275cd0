"""The weekly mix: closes by ISO week, code, cause and service, what changed beyond noise, and who is behind it.

A week is Monday to Monday in a zone. A close counts in a week if its whole interval lies in it; one whose interval
reaches over a boundary stands in a bucket of its own, `2026-W46/2026-W47`, one without bounds in `no week`. Rates are
per hour that the logs cover, so that half a week can be compared with a whole one.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from occorr import history, keywords, periods, rates, resources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from occorr.history import History

TRAILING: Final = 4  # weeks
WHOLE: Final = 0.95  # share of a week's hours that must be covered for it to count as whole
LEAST_H: Final = 24.0  # hours that logs must cover for a report to be about a week
NO_WEEK: Final = "no week"
_MOST: Final = 530  # weeks: a decade; more is a stray stamp
_TOP: Final = 8
_OFFENDER: Final = ("client_address", "client")
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "total": (),
    "cause": ("family", "cause"),
    "code": ("code", "code_observer"),
    "service": ("project", "service"),
    "callout": ("callout",),
    "mix": ("code", "code_observer", "family", "cause", "project", "service"),
}


@dataclass(frozen=True, slots=True)
class Week:
    """A week in a zone: its ISO name, bounds in ns since 1970, hours in it, and how many of them logs cover, in all and by kind of source."""

    name: str
    start: int
    end: int
    hours: float
    covered: float
    kinds: Mapping[str, float]

    @property
    def partial(self) -> bool:
        """Whether the logs cover less than the whole week."""
        return self.covered < WHOLE * self.hours


@dataclass(frozen=True, slots=True)
class Callout:
    """A kind of closes with a name and what to check next."""

    name: str
    family: str
    when: str
    check: str


@dataclass(frozen=True, slots=True)
class Weekly:
    """All that the weekly report says.

    Attributes: zone: IANA name. weeks: all weeks from the first to the last that a line or close is in. levels: `KEYS`
    → one row a group and week: closes, refused, incidents, hours, and the change against the previous week and the
    trailing four. buckets: closes in no single week: bucket and the columns of `mix`. keywords: words beside the codes
    of the last week. offenders: kind (address, client), name, closes, previous, incidents, causes; last week, ordinary
    closes and restarts left out. by_hour: 24 counts of the last week by hour of the day, ordinary closes left out.
    beats: what comes back: cause, kind and name of who, closes, and the period with the clock that it keeps. callouts:
    what is called out by name. totals: closes counted, results, rows that other results held too. redacted: whether all
    results are.
    """

    zone: str
    weeks: tuple[Week, ...]
    levels: Mapping[str, pl.DataFrame]
    buckets: pl.DataFrame
    keywords: pl.DataFrame
    offenders: pl.DataFrame
    by_hour: tuple[int, ...]
    beats: tuple[Mapping[str, Any], ...]
    callouts: tuple[Callout, ...]
    totals: Mapping[str, int]
    redacted: bool

    @property
    def last(self) -> Week | None:
        """The week that the report is about: the last one that logs cover for a day at least, since one that began an hour ago says nothing."""
        return self.weeks[_focus(self.weeks)] if self.weeks else None


def weekly(past: History, zone: str = "UTC") -> Weekly:
    """Counts a history by weeks.

    Args:
        past: many results as one.
        zone: IANA name of the zone whose Mondays part the weeks.
    """
    found = weeks(past, zone)
    final = _focus(found)
    calls = callouts()
    closes = _placed(_labelled(past.closes), found)
    inside = closes.filter(pl.col("index").is_not_null())
    called = (
        pl.concat(
            [
                inside.filter(pl.sql_expr(call.when).fill_null(value=False)).with_columns(callout=pl.lit(call.name))
                for call in calls
            ],
            rechunk=True,
        )
        if calls
        else inside.with_columns(callout=pl.lit(""))
    )
    levels = {level: _level(called if level == "callout" else inside, level, found, past.cover) for level in KEYS}
    outside = closes.filter(pl.col("index").is_null())
    last = inside.filter(pl.col("index") == final)
    return Weekly(
        zone=zone,
        weeks=found,
        levels=levels,
        buckets=outside.group_by("bucket", *KEYS["mix"])
        .agg(closes=pl.col("weight").sum())
        .sort("bucket", *KEYS["mix"], nulls_last=True),
        keywords=_keywords(last),
        offenders=_offenders(inside, final),
        by_hour=_by_hour(last, zone),
        beats=_beats(inside.filter(pl.col("index").is_between(final - TRAILING, final)), zone),
        callouts=calls,
        totals={"closes": int(closes["weight"].sum()), "results": past.results, "doubled": past.doubled},
        redacted=past.redacted,
    )


def _focus(found: Sequence[Week]) -> int:
    """The index of the week that the report is about; -1 where there is none."""
    return next((i for i in range(len(found) - 1, -1, -1) if found[i].covered >= LEAST_H), len(found) - 1)


def callouts() -> tuple[Callout, ...]:
    """What `reports/weekly/callouts.toml` names."""
    data = tomllib.loads((resources.folder("reports") / "weekly" / "callouts.toml").read_text(encoding="utf-8"))
    return tuple(Callout(**row) for row in data["callout"])


def stop_words() -> frozenset[str]:
    """What `reports/weekly/stop_words.txt` lists."""
    lines = (resources.folder("reports") / "weekly" / "stop_words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def weeks(past: History, zone: str) -> tuple[Week, ...]:
    """All weeks from the first line or close to the last, the gaps between them too."""
    moments = pl.concat(
        [
            past.cover["start"],
            (past.cover["end"] - 1).clip(past.cover["start"]),
            past.closes["timestamp"].cast(pl.Int64),
            past.closes["time_latest"].cast(pl.Int64),
        ]
    ).drop_nulls()
    if moments.is_empty():
        return ()
    place = ZoneInfo(zone)
    ordered = moments.sort()
    low, high = (
        datetime.fromtimestamp(int(ns) // 10**9, UTC).astimezone(place).date() for ns in (ordered[0], ordered[-1])
    )
    monday = max(low - timedelta(days=low.weekday()), high - timedelta(days=high.weekday(), weeks=_MOST))
    seen = history.seen(past.cover)
    kinds = past.cover["kind"].drop_nulls().unique().sort().to_list()
    made = []
    while monday <= high:
        start, end = (
            int(datetime(d.year, d.month, d.day, tzinfo=place).timestamp()) * 10**9
            for d in (monday, monday + timedelta(weeks=1))
        )
        covered = {kind: history.hours(past.cover.filter(pl.col("kind") == kind), start, end) for kind in kinds}
        year, number, _ = monday.isocalendar()
        made.append(
            Week(f"{year}-W{number:02d}", start, end, (end - start) / 3.6e12, history.hours(seen, start, end), covered)
        )
        monday += timedelta(weeks=1)
    return tuple(made)


def _labelled(closes: pl.DataFrame) -> pl.DataFrame:
    """The closes with the code as people say it, and plain names of project and service."""
    status = pl.col("http_status_proxy")
    code = (
        pl.when(pl.col("websocket_close_code").is_not_null())
        .then(pl.col("websocket_close_code").cast(pl.String))
        .when(status.is_not_null() & (status != 101))
        .then(pl.format("HTTP {}", status))
        .otherwise(pl.lit("none"))
    )
    observer = (
        pl.when(pl.col("websocket_close_code").is_not_null())
        .then(pl.col("code_observer"))
        .when(status.is_not_null() & (status != 101))
        .then(pl.lit("proxy"))
        .otherwise(pl.lit("nobody"))
    )
    return closes.with_columns(
        code=code,
        code_observer=observer.fill_null("unknown"),
        project=pl.col("compose_project").fill_null(""),
        service=pl.col("service_name").fill_null(""),
    )


def _placed(closes: pl.DataFrame, found: Sequence[Week]) -> pl.DataFrame:
    """`index` of the week that the whole interval lies in, else null and the `bucket` that says why."""
    starts = np.array([week.start for week in found], dtype=np.int64)
    # A close with one open side has no best moment; only a bound on both sides says in which week it lies.
    bounds = closes.select(
        low=pl.coalesce("time_earliest", "timestamp"), high=pl.coalesce("time_latest", "timestamp")
    ).cast(pl.Int64)
    if len(starts):
        bounds = bounds.with_columns(
            pl.Series(name, np.searchsorted(starts, bounds[name].fill_null(0).to_numpy(), side="right") - 1).zip_with(
                bounds[name].is_not_null(), pl.Series([None], dtype=pl.Int64)
            )
            for name in bounds.columns
        )
    low, high = pl.col("low"), pl.col("high")
    names = {i: week.name for i, week in enumerate(found)}
    known = low.is_not_null() & high.is_not_null() & (low >= 0)
    both = pl.format("{}/{}", *(c.replace_strict(names, default=None, return_dtype=pl.String) for c in (low, high)))
    placed = bounds.select(
        index=pl.when(known & (low == high)).then(low),
        bucket=pl.when(known & (low != high)).then(both).when(~known).then(pl.lit(NO_WEEK)),
    )
    return closes.hstack(placed)


def _level(closes: pl.DataFrame, level: str, found: Sequence[Week], cover: pl.DataFrame) -> pl.DataFrame:
    """One row a group and week with what changed; weeks in which nothing is or was are left out."""
    keys = list(KEYS[level])
    refused = pl.col("weight").filter(~pl.col("established").fill_null(value=True)).sum()
    clusters = closes.group_by(*keys, "index", "cluster").agg(m=pl.col("weight").sum(), refused=refused)
    counted = clusters.group_by(*keys, "index").agg(
        closes=pl.col("m").sum(), refused=pl.col("refused").sum(), incidents=pl.len(), squares=(pl.col("m") ** 2).sum()
    )
    groups = (
        (closes.select(keys).unique() if keys else pl.DataFrame({"_": [0]}))
        .sort(keys or "_", nulls_last=True)
        .with_row_index("group")
        .drop("_", strict=False)
    )
    shape = (groups.height, len(found))
    joined = (
        counted.join(groups, on=keys, how="left", nulls_equal=True)
        if keys
        else counted.with_columns(group=pl.lit(0, dtype=pl.UInt32))
    )
    arrays = {}
    for name in ("closes", "refused", "incidents", "squares"):
        arrays[name] = np.zeros(shape)
        arrays[name][joined["group"].to_numpy(), joined["index"].to_numpy()] = joined[name].to_numpy()
    exposure = _exposure(groups, found, cover)
    columns: dict[str, Any] = {
        "group": np.repeat(np.arange(shape[0]), shape[1]),
        "week": np.tile(np.arange(shape[1]), shape[0]),
        "hours": exposure.ravel(),
    } | {name: a.ravel() for name, a in arrays.items()}
    for name, width in (("previous", 1), ("trailing", TRAILING)):
        past_closes, past_hours, past_squares = (
            _before(a, width) for a in (arrays["closes"], exposure, arrays["squares"])
        )
        spread = rates.spread_of(arrays["closes"] + past_closes, arrays["squares"] + past_squares)
        compared = rates.ratios(arrays["closes"], exposure, past_closes, past_hours, spread)
        columns |= {
            name: past_closes.ravel(),
            f"{name}_hours": past_hours.ravel(),
            f"{name}_ratio": compared.ratio.ravel(),
            f"{name}_low": compared.low.ravel(),
            f"{name}_high": compared.high.ravel(),
            f"{name}_change": _said(compared, past_hours, exposure).ravel(),
        }
    frame = pl.DataFrame(columns).with_columns(
        pl.col("group").cast(pl.UInt32), pl.col("closes", "refused", "incidents", "previous", "trailing").cast(pl.Int64)
    )
    named = frame.join(groups, on="group", how="left", maintain_order="left").with_columns(
        week=(
            pl.col("week").replace_strict({i: w.name for i, w in enumerate(found)}, return_dtype=pl.String)
            if found
            else pl.lit("")
        )
    )
    floats = [name for name, dtype in named.schema.items() if dtype.is_float()]
    return (
        named.filter((pl.col("closes") > 0) | (pl.col("trailing") > 0) | pl.lit(level == "total"))
        .with_columns(pl.when(pl.col(floats).is_finite()).then(pl.col(floats)))
        .select("week", *keys, *(c for c in columns if c not in ("group", "week", "squares")))
    )


def _exposure(groups: pl.DataFrame, found: Sequence[Week], cover: pl.DataFrame) -> Any:
    """Covered hours by group and week: of the group's own project, where the sources say whose they are."""
    if "project" not in groups.columns:
        return np.tile(np.array([week.covered for week in found]), (groups.height, 1))
    by_project = {
        name: np.array([history.hours(spans, week.start, week.end) for week in found])
        for name in groups["project"].unique().to_list()
        for spans in [history.seen(cover, name or None)]
    }
    return np.array([by_project[name] for name in groups["project"].to_list()]).reshape(groups.height, len(found))


def _before(values: Any, width: int) -> Any:
    """For each week the sum of the `width` weeks before it."""
    summed = np.cumsum(np.pad(values, ((0, 0), (width + 1, 0))), axis=1)
    return summed[:, width:-1] - summed[:, : -width - 1]


def _said(compared: rates.Ratios, past_hours: Any, exposure: Any) -> Any:
    """More, fewer or same, week by week; `no data` where one side has no hours."""
    out = np.full(compared.p.shape, "same", dtype="<U7")
    for week, p in enumerate(compared.p.T):
        moved = rates.real(p)
        up = moved & ~(compared.ratio[:, week] < 1)
        out[up, week] = "more"
        out[moved & ~up, week] = "fewer"
    out[(past_hours <= 0) | (exposure <= 0)] = "no data"
    return out


def _keywords(last: pl.DataFrame) -> pl.DataFrame:
    proxied = pl.col("code").str.starts_with("HTTP")
    label = (
        pl.when(pl.col("code") == "none")
        .then(pl.lit("no code seen"))
        .when(proxied)
        .then(pl.format("{} at the proxy", "code"))
        .otherwise(pl.format("{} seen by {}", "code", "code_observer"))
        .alias("group")
    )
    counted = (
        last.select(label, pl.col("weight"), keywords.words(pl.col("words").fill_null(""), stop_words()).alias("word"))
        .explode("word")
        .drop_nulls("word")
        .group_by("group", "word")
        .agg(n=pl.col("weight").sum())
    )
    return (
        keywords.telling(counted, _TOP) if counted["group"].n_unique() > 1 else keywords.telling(counted.clear(), _TOP)
    )


def _offenders(inside: pl.DataFrame, last: int) -> pl.DataFrame:
    """Who is behind the closes of the last week: neither ordinary ones nor restarts, which make victims and no offenders."""
    loud = inside.filter(~pl.col("family").is_in(["client", "restart"]))
    parts = []
    for kind in _OFFENDER:
        held = loud.drop_nulls(kind)
        now = (
            held.filter(pl.col("index") == last)
            .group_by(name=kind)
            .agg(
                closes=pl.col("weight").sum(),
                causes=pl.col("cause").unique().sort(),
                incidents=pl.col("cluster").n_unique(),
            )
        )
        before = held.filter(pl.col("index") == last - 1).group_by(name=kind).agg(previous=pl.col("weight").sum())
        parts.append(
            now.join(before, on="name", how="left")
            .with_columns(
                pl.col("previous").fill_null(0), kind=pl.lit("address" if kind == "client_address" else "client")
            )
            .sort("closes", "name", descending=[True, False])
            .head(_TOP)
        )
    return pl.concat(parts).select("kind", "name", "closes", "previous", "incidents", "causes")


def _wall(zone: str) -> pl.Expr:
    return (
        pl.from_epoch("timestamp", time_unit="ns")
        .dt.replace_time_zone("UTC")
        .dt.convert_time_zone(zone)
        .dt.replace_time_zone(None, ambiguous="earliest", non_existent="null")
    )


def _by_hour(last: pl.DataFrame, zone: str) -> tuple[int, ...]:
    counts = dict(
        last.filter((pl.col("family") != "client") & pl.col("timestamp").is_not_null())
        .group_by(_wall(zone).dt.hour().alias("hour"))
        .agg(pl.col("weight").sum())
        .iter_rows()
    )
    return tuple(int(counts.get(hour, 0)) for hour in range(24))


def _beats(recent: pl.DataFrame, zone: str) -> tuple[Mapping[str, Any], ...]:
    """Causes that come back with a beat, by the address or client that they come from, else by themselves."""
    loud = recent.filter((pl.col("family") != "client") & pl.col("timestamp").is_not_null()).with_columns(
        wall=_wall(zone).dt.epoch("ms") / 1000, utc=pl.col("timestamp") / 1e9
    )
    found: list[Mapping[str, Any]] = []
    known: set[tuple[str, float]] = set()
    for kind in (*_OFFENDER, None):
        for _, rows in loud.drop_nulls(kind or "cause").group_by(
            ["cause", *([kind] if kind else [])], maintain_order=True
        ):
            # A job keeps its hour on the wall's clock or on UTC's; where summer time begins or ends, only one of them
            # has the beat.
            tries = [
                (beat.jitter, i, beat)
                for i, clock in enumerate(("wall", "utc"))
                if (beat := periods.period(rows[clock])) is not None
            ]
            if not tries:
                continue
            _, clock, beat = min(tries)
            cause = str(rows["cause"][0])
            if (cause, beat.seconds) in known:
                continue
            known.add((cause, beat.seconds))
            found.append(
                {
                    "cause": cause,
                    "kind": {"client_address": "address", "client": "client", None: "cause"}[kind],
                    "name": str(rows[kind][0]) if kind else "",
                    "closes": int(rows["weight"].sum()),
                    "seconds": beat.seconds,
                    "jitter": beat.jitter,
                    "at": beat.at,
                    "clock": "UTC" if clock else zone,
                    "visits": beat.visits,
                    "beats": beat.beats,
                }
            )
    return tuple(sorted(found, key=lambda b: (-b["closes"], b["cause"], b["kind"], b["name"])))
