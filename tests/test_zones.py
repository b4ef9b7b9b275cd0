"""Zones, years and dates of stamps that carry none; what is right comes from zoneinfo and the calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from made_logs import event, ready, stamp, twice, write

import occorr
from occorr import definitions, times, zones


# ---------------------------------------------------------------- years
def table(*rows: tuple[str | None, str | None], path: str = "a") -> pl.DataFrame:
    """Events with (timestamp_raw, observed_timestamp); a stamp without a year stands in 1972."""
    frame = pl.DataFrame(
        {"raw": [r for r, _ in rows], "seen": [o for _, o in rows], "seq": range(len(rows))},
        schema={"raw": pl.String, "seen": pl.String, "seq": pl.UInt32},
    )
    stamp = [
        pl.col(a)
        .str.strptime(pl.Datetime("us"), "%Y-%m-%dT%H:%M:%S")
        .cast(pl.Datetime("ns"))
        .dt.replace_time_zone("UTC")
        .alias(b)
        for a, b in (("raw", "timestamp_raw"), ("seen", "observed_timestamp"))
    ]
    return frame.with_columns(*stamp, pl.lit(path).alias("log_file_path"), pl.lit("").alias("part")).drop("raw", "seen")


def seen(frame: pl.DataFrame, path: str = "a") -> list[str]:
    return (
        zones.years(frame)
        .filter(pl.col("log_file_path") == path)
        .sort("seq")
        .get_column("observed_timestamp")
        .dt.to_string("%Y-%m-%d")
        .to_list()
    )


OTHER = table(("2027-01-02T00:00:00", None), path="b")


def test_year_of_the_newest_other_stamp():
    assert seen(pl.concat([table((None, "1972-01-01T00:00:00"), (None, "1972-01-02T10:00:00")), OTHER])) == [
        "2027-01-01",
        "2027-01-02",
    ]


def test_never_after_the_newest_other_stamp():
    assert seen(pl.concat([table((None, "1972-11-01T00:00:00"), (None, "1972-12-02T00:00:00")), OTHER])) == [
        "2026-11-01",
        "2026-12-02",
    ]


def test_new_year():
    rows = [(None, f"1972-{d}T00:00:00") for d in ("12-30", "12-31", "01-01", "12-31", "01-01", "01-02")]
    assert seen(pl.concat([table(*rows), OTHER])) == [
        "2026-12-30",
        "2026-12-31",
        "2027-01-01",
        "2026-12-31",
        "2027-01-01",
        "2027-01-02",
    ]


def test_two_new_years():
    rows = [(None, f"1972-{d}T00:00:00") for d in ("11-01", "03-01", "08-15", "12-01", "01-01")]
    assert seen(pl.concat([table(*rows), OTHER])) == [
        "2025-11-01",
        "2026-03-01",
        "2026-08-15",
        "2026-12-01",
        "2027-01-01",
    ]


def test_leap_day_needs_a_leap_year():
    assert seen(pl.concat([table((None, "1972-02-28T00:00:00"), (None, "1972-02-29T00:00:00")), OTHER])) == [
        "2024-02-28",
        "2024-02-29",
    ]


def test_a_second_stamp_in_the_line_decides():
    assert seen(
        pl.concat(
            [
                table(("2025-12-31T23:59:59", "1972-01-01T00:59:59"), ("2020-05-05T00:00:00", "1972-05-05T00:00:00")),
                OTHER,
            ]
        )
    ) == ["2026-01-01", "2020-05-05"]


def test_no_other_stamp_at_all():
    told = zones.years(table((None, "1972-01-01T00:00:00")))
    assert told.item(0, "observed_timestamp") <= datetime.now(UTC) + timedelta(days=1)
    assert told.item(0, "year_origin").startswith("assumed")


DAY = timedelta(days=1)
# a span of log: from one line to the next less than half a year
GAPS = st.lists(st.integers(0, 180 * 86_400), min_size=0, max_size=12)
SECONDS = st.datetimes(datetime(1999, 1, 1), datetime(2035, 1, 1)).map(lambda t: t.replace(microsecond=0))


@given(SECONDS, GAPS, st.integers(0, 360 * 86_400))
def test_years_come_back_over_any_new_years_and_leap_days(begin, gaps, later):
    """Written without their years, and another source goes on for less than a year after the last of them."""
    wrote = [begin]
    for gap in gaps:
        wrote.append(wrote[-1] + timedelta(seconds=gap))
    rows = [(None, t.replace(year=times.YEARLESS).isoformat()) for t in wrote]
    newest = table(((wrote[-1] + timedelta(seconds=later)).isoformat(), None), path="b")
    assert seen(pl.concat([table(*rows), newest])) == [f"{t:%Y-%m-%d}" for t in wrote]


# ---------------------------------------------------------------- zones
def utc(local: str, zone: str) -> tuple[str, int]:
    first, slack = zones._in_utc(pl.col("t"), zone, None, pl.Series([0]))
    frame = pl.DataFrame({"t": [local]}).with_columns(
        pl.col("t")
        .str.strptime(pl.Datetime("us"), "%Y-%m-%dT%H:%M:%S")
        .cast(pl.Datetime("ns"))
        .dt.replace_time_zone("UTC")
    )
    row = frame.select(first.dt.to_string("%Y-%m-%dT%H:%M:%S"), slack.alias("s")).row(0)
    return row[0], row[1] // 10**9


@pytest.mark.parametrize(
    ("local", "zone", "want", "slack"),
    [
        ("2026-07-01T12:00:00", "Europe/Berlin", "2026-07-01T10:00:00", 0),
        ("2026-10-25T02:30:00", "Europe/Berlin", "2026-10-25T00:30:00", 3600),
        ("2026-10-25T03:00:00", "Europe/Berlin", "2026-10-25T02:00:00", 0),
        ("2026-03-29T02:30:00", "Europe/Berlin", "2026-03-29T01:30:00", 0),
        ("2026-04-05T01:45:00", "Australia/Lord_Howe", "2026-04-04T14:45:00", 1800),
        ("2024-02-29T23:59:59", "Asia/Kolkata", "2024-02-29T18:29:59", 0),
    ],
)
def test_beginning_and_end_of_summer(local, zone, want, slack):
    assert utc(local, zone) == (want, slack)


# summers of an hour, half an hour and two hours, a winter instead of a summer, a day that was left out, no summers
PLACES = st.sampled_from(
    [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Antarctica/Troll",
        "Africa/Casablanca",
        "Pacific/Chatham",
        "Pacific/Apia",
        "Asia/Kolkata",
    ]
)


def change_after(place: str, moment: datetime) -> datetime | None:
    """When the zone's offset changes next, to the second, within some 13 months."""
    zone = ZoneInfo(place)

    def offset(at: datetime) -> timedelta | None:
        return at.astimezone(zone).utcoffset()

    low = next((d for d in (moment + n * DAY for n in range(400)) if offset(d) != offset(d + DAY)), None)
    if low is None:
        return None
    high, first = low + DAY, offset(low)
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        low, high = (middle, high) if offset(middle) == first else (low, middle)
    return high.replace(microsecond=0)


@given(PLACES, SECONDS, st.integers(-10_000, 10_000), st.booleans())
def test_what_a_right_clock_shows_lies_within_what_is_made_of_it(place, moment, seconds, near):
    moment, zone = moment.replace(tzinfo=UTC), ZoneInfo(place)
    if near and (change := change_after(place, moment)):
        moment = change + timedelta(seconds=seconds)
    wall = moment.astimezone(zone).replace(tzinfo=None)
    first, slack = utc(wall.isoformat(), place)
    earliest = datetime.fromisoformat(first).replace(tzinfo=UTC)
    assert moment in (earliest, earliest + timedelta(seconds=slack))
    both = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    assert slack == (max(both) - min(both)).total_seconds()


@given(PLACES, SECONDS, st.floats(0, 1, exclude_max=True))
def test_what_no_clock_shows_is_read_by_the_offset_before(place, moment, share):
    change = change_after(place, moment.replace(tzinfo=UTC))
    assume(change is not None)
    zone = ZoneInfo(place)
    before, after = ((change + timedelta(seconds=s)).astimezone(zone).utcoffset() for s in (-1, 0))
    assume(before < after)
    skipped = (change + before).replace(tzinfo=None) + timedelta(seconds=int(share * (after - before).total_seconds()))
    assert utc(skipped.isoformat(), place) == ((skipped - before).isoformat(), 0)


FORMS = sorted(
    {
        (d.time.format, d.time.zone)
        for definition in definitions.builtin().formats.values()
        for d in definition.dialects
        if d.time is not None and "%d" in d.time.format
    }
)


@pytest.mark.parametrize(("form", "zone"), FORMS)
@given(SECONDS)
def test_a_leap_second_is_the_next_one(form, zone, moment):
    last = moment.replace(second=59)
    text, sixtieth = last.strftime(form), last.strftime(form.replace("%S", "60"))
    tail = "Z" if zone == "inline" else ""
    one, two = (parsed(t + tail, form, zone) for t in (text, sixtieth))
    assert datetime.fromisoformat(two) - datetime.fromisoformat(one) == timedelta(seconds=1)
    if "%Y" in form:
        assert datetime.fromisoformat(one) == last


def parsed(text: str, form: str = "%Y-%m-%dT%H:%M:%S", zone: str = "inline") -> str | None:
    return (
        pl.DataFrame({"t": [text]})
        .select(times.parse(pl.col("t"), form, zone)[0].dt.to_string("%Y-%m-%dT%H:%M:%S%.f"))
        .item()
    )


def test_leap_seconds_and_days():
    assert parsed("2016-12-31T23:59:60.250Z") == "2017-01-01T00:00:00.250"
    assert parsed("31/Dec/2016:23:59:60 +0100", "%d/%b/%Y:%H:%M:%S") == "2016-12-31T23:00:00"
    assert parsed("2024-02-29T00:00:00Z") == "2024-02-29T00:00:00"
    assert parsed("2026-02-29T00:00:00Z") is None


def error(stamp: str) -> str:
    return f'{stamp} [error] 7#7: *9 connect() failed (111: Connection refused) while connecting to upstream, client: 192.0.2.111, server: , request: "GET / HTTP/1.1", upstream: "http://192.0.2.2:18789/", host: "gw.example.org"'


def test_a_repeated_local_time_leaves_both_bounds_open(tmp_path):
    (tmp_path / "error.log").write_text(error("2026/10/25 02:30:00") + "\n")
    row = occorr.analyze(tmp_path, tz="Europe/Berlin").timeline.row(0, named=True)
    assert row["time_earliest"] <= datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert row["time_latest"] >= datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_an_assumed_zone_is_said(tmp_path):
    (tmp_path / "error.log").write_text(error("2026/10/25 02:30:00") + "\n")
    result = occorr.analyze(tmp_path)
    assert result.clocks.row(0, named=True)["zone_origin"] == "assumed"
    assert result.timeline.item(0, "clock_status") == "assumed"


def test_a_second_stamp_gives_the_zone(tmp_path):
    lines = [f"2026-11-21T05:44:{s:02d}.123456789Z {error(f'2026/11/21 11:14:{s:02d}')}\n" for s in range(5)]
    (tmp_path / "error.log").write_text("".join(lines))
    result = occorr.analyze(tmp_path)
    told = {r["clock_id"]: (r["zone"], r["zone_origin"]) for r in result.clocks.to_dicts()}
    assert told["nginx"] == ("UTC+05:30", "a second stamp of its lines")
    assert result.timeline.item(0, "timestamp_raw") == datetime(2026, 11, 21, 5, 44, 0, tzinfo=UTC)


def test_syslog_in_local_time_around_stamps_with_their_zone(tmp_path):
    lines = [
        f"Nov 21 06:44:{s:02d} claw node[812]: 2026-11-21T05:44:{s:02d}.001+00:00 [gateway] ready\n" for s in range(5)
    ]
    (tmp_path / "journal.txt").write_text("".join(lines) + "Nov 21 06:44:30 claw node[812]: [gateway] starting...\n")
    result = occorr.analyze(tmp_path, all_lines=True)
    last = result.timeline.sort("log_line").row(-1, named=True)
    assert (last["clock_id"], last["timestamp_raw"]) == ("host", datetime(2026, 11, 21, 5, 44, 30, tzinfo=UTC))
    assert (
        dict(last["attributes"][i].values() for i in range(len(last["attributes"])))["year_origin"]
        == "the other sources"
    )


# ---------------------------------------------------------------- a time of day alone
@pytest.mark.parametrize(
    ("zone", "moment"),
    [
        ("America/Los_Angeles", datetime(2026, 7, 10, 17, tzinfo=UTC)),  # summer time
        ("Europe/London", datetime(2026, 1, 10, 17, tzinfo=UTC)),  # in January 1970 it was an hour ahead
        ("Australia/Adelaide", datetime(2026, 11, 29, 3, tzinfo=UTC)),  # summer time, and there was none in 1970
        ("Asia/Kolkata", datetime(2026, 7, 10, 23, tzinfo=UTC)),  # already the next day there
    ],
)
@pytest.mark.parametrize("engine", [True, False])
def test_a_time_of_day_is_read_in_the_zone_as_it_is_on_its_date(tmp_path, zone, moment, engine):
    """What the offset is comes from zoneinfo; with the engine's stamp beside each line, and with events alone to tell the date."""
    lines = []
    for second in range(0, 240, 5):
        at = moment + timedelta(seconds=second)
        own = at.astimezone(ZoneInfo(zone))
        seen = f"{at:%Y-%m-%dT%H:%M:%S}.002000000Z " if engine else ""
        lines.append(f"{seen}{own:%H:%M:%S} [health-monitor] checked channels in {second} ms")
    (tmp_path / "gateway.docker.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "compose.yml").write_text(
        f"services:\n  gateway:\n    image: openclaw/openclaw:2026.9.6\n    environment:\n      TZ: {zone}\n",
        encoding="utf-8",
    )
    (tmp_path / "docker.events.jsonl").write_text(
        event(int(moment.timestamp()) * 10**9, "start") + "\n", encoding="utf-8"
    )
    result = occorr.analyze(tmp_path)
    first = result.timeline.filter(pl.col("source_kind") == "gateway").get_column("timestamp_raw").min()
    assert first == moment
    clock = result.clocks.filter(pl.col("clock_id") == "gateway").row(0, named=True)
    assert abs(clock["offset_ns"]) <= 10**9


def test_what_a_proxy_writes_in_its_own_zone_stands_against_the_option():
    """nginx's access log has its zone at each stamp; with a wrong --tz its error log's lines became closes of their own."""
    sample = Path(__file__).parents[1] / "sample_logs/oom-then-deploy"
    plain, wrong = occorr.analyze(sample), occorr.analyze(sample, tz="America/New_York")
    assert wrong.closes.height == plain.closes.height
    (nginx,) = wrong.clocks.filter(pl.col("clock_id") == "nginx").to_dicts()
    assert (nginx["zone"], nginx["zone_origin"]) == ("UTC+05:30", "the access log of the same proxy, not --tz")


def test_a_proxy_that_is_not_trusted_has_the_zone_that_puts_a_refusal_where_the_gateway_says_so(tmp_path):
    """HAProxy in New York, five hours behind, refused only: no connection ties its clock, and it was taken for UTC's."""
    word = "observed unattributable proxy-shaped traffic from 192.0.2.139; Gateway-authenticated routes reject it"
    log = twice(
        [
            *ready("07:16:00.100"),
            f"{stamp('07:16:13.087')} [gateway] {word}",
            f"{stamp('07:20:00.000')} [gateway] ready",
        ]
    )
    refused = [
        f'192.0.2.167:5262{n} [21/Nov/2026:02:16:{at}] web gateway/gateway-1 0/0/0/16/16 403 313 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"'
        for n, at in enumerate(("13.070", "15.642", "41.001"))
    ]
    write(tmp_path, **{"gateway.docker.log": log, "haproxy.log": refused})
    found = occorr.analyze(tmp_path)
    (clock,) = found.clocks.filter(pl.col("clock_id") == "haproxy").to_dicts()
    assert (clock["offset_ns"], clock["status"]) == (-5 * 3600 * 10**9, "assumed")
    assert (
        found.closes.filter(pl.col("http_status_proxy") == 403).get_column("timestamp").dt.hour().to_list() == [7] * 3
    )


def test_an_error_log_in_another_zone_than_its_access_log_is_read_in_its_own(tmp_path):
    """The access log writes UTC at each stamp; the error log is New York's, and tells of the same attempts of the same clients."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    access, errors = [], []
    for n, at in enumerate(("10:00:07", "10:07:13", "10:11:41", "10:13:29"), 1):
        access.append(
            f'198.51.100.{n} - - [21/Nov/2026:{at} +0000] "GET /ws HTTP/1.1" 502 157 "-" "openclaw-cli/2026.9.6"'
        )
        errors.append(error(f"2026/11/21 {int(at[:2]) - 5:02d}{at[2:]}").replace("192.0.2.111", f"198.51.100.{n}"))
    (folder / "proxy.access.log").write_text("\n".join(access) + "\n")
    (folder / "proxy.error.log").write_text("\n".join(errors) + "\n")
    result = occorr.analyze(folder)
    (clock,) = result.clocks.filter(pl.col("clock_id").str.starts_with("nginx")).to_dicts()
    assert (clock["zone"], result.closes.height) == ("UTC-05:00", 4)
    assert result.timeline.get_column("timestamp").dt.hour().unique().to_list() == [10]


@pytest.mark.parametrize("evening", ["14:00:00", "17:00:00", "19:59:00", "22:00:00"])
def test_a_time_of_day_that_jumps_back_is_the_next_days(tmp_path, evening):
    """A console without dates: the last line of the 19th, the first of the 20th at 08:00, and the stop that the engine tells of."""
    stop = datetime(2026, 11, 20, 11, 30, tzinfo=UTC)
    console = [f"{evening} [gateway] ready", "08:00:00 [health-monitor] checked channels in 5 ms", "11:29:59 [gateway] received SIGTERM; shutting down"]  # fmt: skip
    (tmp_path / "gateway.log").write_text("\n".join(["13:00:00 [gateway] starting...", *console]) + "\n")
    events = [event(int((stop + timedelta(seconds=s)).timestamp()) * 10**9, what, **more) for s, what, more in (
        (-24 * 3600 - 1800 + 5400, "start", {}), (0, "kill", {"signal": "15"}), (1, "die", {"exitCode": "0"}), (1, "stop", {}))]  # fmt: skip
    (tmp_path / "docker.events.jsonl").write_text("\n".join(events) + "\n")
    told = occorr.analyze(tmp_path, all_lines=True).timeline
    days = told.filter(pl.col("source_kind") == "gateway").sort("log_line").get_column("timestamp_raw").dt.day()
    assert days.to_list() == [19, 19, 20, 20]
