"""Stamps become instants, clocks get offsets with bounds that hold, and one message in several streams is one event."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import occorr
from made_logs import event, ready, started, write
from occorr import clock_faults, offsets, place, schema, times

SAMPLES = Path(__file__).parent.parent / "sample_logs"
MS = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# ---------------------------------------------------------------- times.parse
FORMS = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%d/%b/%Y:%H:%M:%S"]
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC)).map(
    lambda d: d.replace(microsecond=0)
)
OFFSETS = st.integers(-14 * 4, 14 * 4).map(lambda quarters: quarters * 15)


def parsed(text: str, form: str, zone: str) -> tuple:
    instant, digits, inline = times.parse(pl.col("t"), form, zone)
    row = (
        pl.DataFrame({"t": [text]})
        .select(
            instant.cast(pl.Int64).alias("i"), digits.alias("d"), pl.when(inline).then(True).otherwise(False).alias("z")
        )
        .row(0, named=True)
    )
    return row["i"], row["d"], row["z"]


def nanoseconds(moment: datetime) -> int:
    return int((moment - EPOCH) / timedelta(seconds=1)) * 1_000_000_000


@settings(max_examples=150, deadline=None)
@given(
    MOMENTS,
    st.sampled_from(FORMS),
    st.integers(0, 10**9 - 1),
    st.integers(0, 9),
    OFFSETS,
    st.sampled_from(["colon", "plain", "Z", "none"]),
)
def test_stamps_against_datetime(moment, form, nanos, digits, minutes, style):
    minutes = 0 if style in ("Z", "none") else minutes
    local = moment.astimezone(timezone(timedelta(minutes=minutes)))
    fraction = f"{nanos:09d}"[:digits]
    sign, rest = "-" if minutes < 0 else "+", abs(minutes)
    zone = {
        "colon": f"{sign}{rest // 60:02d}:{rest % 60:02d}",
        "plain": f"{sign}{rest // 60:02d}{rest % 60:02d}",
        "Z": "Z",
        "none": "",
    }[style]
    text = local.strftime(form) + (f".{fraction}" if digits else "") + zone
    instant, found, known = parsed(text, form, "inline")
    assert instant == nanoseconds(moment) + (int(fraction.ljust(9, "0")) if digits else 0)
    assert found == digits
    assert known == (style != "none")


@settings(max_examples=60, deadline=None)
@given(MOMENTS, st.sampled_from(["UTC", "naive"]))
def test_stamps_without_a_zone(moment, zone):
    assert parsed(moment.strftime("%Y-%m-%d %H:%M:%S,125"), "%Y-%m-%d %H:%M:%S", zone) == (
        nanoseconds(moment) + 125 * MS,
        3,
        zone == "UTC",
    )


@settings(max_examples=60, deadline=None)
@given(MOMENTS)
def test_stamps_behind_a_blank_and_a_zone(moment):
    assert (
        parsed(moment.strftime("%d/%b/%Y:%H:%M:%S +0530"), "%d/%b/%Y:%H:%M:%S", "inline")[0]
        == nanoseconds(moment) - 19_800 * 1_000_000_000
    )


@settings(max_examples=60, deadline=None)
@given(st.times())
def test_stamps_without_a_date(time):
    seconds = time.hour * 3600 + time.minute * 60 + time.second
    assert parsed(time.strftime("%H:%M:%S"), "%H:%M:%S", "naive")[:2] == (seconds * 1_000_000_000, 0)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(10**8, 4 * 10**9),
    st.integers(0, 10**9 - 1),
    st.integers(0, 9),
    st.sampled_from([("epoch_s", 0), ("epoch_ms", 3), ("epoch_us", 6), ("epoch_ns", 9)]),
)
def test_epochs_keep_their_last_digit(seconds, nanos, digits, unit):
    form, power = unit
    whole = str(seconds) + f"{nanos:09d}"[:power]
    rest = f"{nanos:09d}"[power : power + digits]
    instant, found, known = parsed(whole + (f".{rest}" if rest else ""), form, "UTC")
    kept = (f"{nanos:09d}"[:power] + rest).ljust(9, "0")
    assert instant == seconds * 1_000_000_000 + int(kept)
    assert found == power + len(rest)
    assert known


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-11-21T25:00:00Z"]
)
def test_what_is_no_stamp_is_null(text):
    assert parsed(text, "%Y-%m-%dT%H:%M:%S", "inline")[0] is None


# ---------------------------------------------------------------- place
ONCE = (pl.lit(None, schema.TS).alias("observed_timestamp"), pl.lit(None, pl.String).alias("observed_clock_id"))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1_700_000_000_000_000_000, 1_900_000_000_000_000_000),
    st.integers(0, 50 * MS),
    st.floats(-1, 1),
    st.integers(0, 400 * MS),
    st.sampled_from([MS, 1_000 * MS]),
)
def test_a_coarse_stamp_is_placed_by_when_the_engine_read_its_line(true, error, within, lag, resolution):
    written = (true + round(error * within)) // resolution * resolution
    table = schema.conform(
        pl.DataFrame(
            {
                "clock_id": ["c", "engine"],
                "offset_ns": [0, 0],
                "error_ns": [error, 0],
                "status": ["aligned", "reference"],
            }
        ),
        schema.CLOCKS,
    )
    events = pl.DataFrame(
        {
            "timestamp_raw": [written],
            "observed_timestamp": [true + lag],
            "recorded_start": [None],
            "recorded_end": [None],
        },
        schema=dict.fromkeys(("timestamp_raw", "observed_timestamp", "recorded_start", "recorded_end"), pl.Int64),
    ).select(
        pl.col("timestamp_raw", "observed_timestamp").cast(schema.TS),
        pl.col("recorded_start", "recorded_end"),
        clock_id=pl.lit("c"),
        observed_clock_id=pl.lit("engine"),
        time_resolution_ns=pl.lit(resolution, pl.Int64),
        source_kind=pl.lit("gateway"),
        log_file_path=pl.lit("f"),
        log_line=pl.lit(1, pl.Int64),
    )
    placed = place.place(events, table)
    low, best, high = placed.select(pl.col("time_earliest", "timestamp", "time_latest").cast(pl.Int64)).row(0)
    assert low <= true <= high
    assert low <= best <= high
    if resolution == 1_000 * MS:
        assert best == high == true + lag or true + lag > written + resolution + error
    else:
        assert best == written


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1_700_000_000_000_000_000, 1_900_000_000_000_000_000),
    st.integers(-4_000_000_000_000, 4_000_000_000_000),
    st.integers(0, 5_000_000_000),
    st.floats(-1, 1),
    st.sampled_from([1, 1000, MS, 1_000 * MS]),
)
def test_the_interval_holds_the_true_moment(true, offset, error, within, resolution):
    """A clock that runs `offset` ± `error` ahead writes the moment, truncated; the interval printed for it holds it."""
    written = (true + offset + round(error * within)) // resolution * resolution
    events = pl.DataFrame({
        "timestamp_raw": [written], "clock_id": ["c"], "time_resolution_ns": [resolution], "source_kind": ["gateway"], "recorded_start": [None], "recorded_end": [None], "log_file_path": ["f"], "log_line": [1],
    }, schema={"timestamp_raw": pl.Int64, "clock_id": pl.String, "time_resolution_ns": pl.Int64, "source_kind": pl.String, "recorded_start": pl.Int64, "recorded_end": pl.Int64, "log_file_path": pl.String, "log_line": pl.Int64}).with_columns(pl.col("timestamp_raw").cast(schema.TS), *ONCE)  # fmt: skip
    table = schema.conform(
        pl.DataFrame({"clock_id": ["c"], "offset_ns": [offset], "error_ns": [error], "status": ["aligned"]}),
        schema.CLOCKS,
    )
    row = (
        place.place(events, table)
        .select(pl.col("timestamp", "time_earliest", "time_latest").cast(pl.Int64))
        .row(0, named=True)
    )
    assert row["time_earliest"] <= true <= row["time_latest"]
    assert row["time_earliest"] <= row["timestamp"] <= row["time_latest"]
    assert row["time_latest"] - row["time_earliest"] == 2 * error + resolution, "no wider than what is not known"


def test_events_without_a_stamp_are_last_and_open():
    events = pl.DataFrame({"timestamp_raw": [None, 5], "clock_id": ["c", "c"], "time_resolution_ns": [1, 1], "source_kind": ["gateway", "gateway"], "recorded_start": [None, None], "recorded_end": [None, None], "log_file_path": ["f", "f"], "log_line": [1, 2]}, schema_overrides={"recorded_start": pl.Int64, "recorded_end": pl.Int64}).with_columns(pl.col("timestamp_raw").cast(schema.TS), *ONCE)  # fmt: skip
    out = place.place(
        events,
        schema.conform(
            pl.DataFrame({"clock_id": ["c"], "offset_ns": [0], "error_ns": [0], "status": ["reference"]}), schema.CLOCKS
        ),
    )
    assert out.get_column("log_line").to_list() == [2, 1]
    assert out.row(1, named=True)["time_earliest"] is None


@pytest.mark.parametrize("name", ["oom-then-deploy", "crash-behind-traefik", "bad-clients-without-file-log"])
def test_every_placed_event_lies_in_its_interval(name):
    timeline = occorr.analyze(SAMPLES / name).timeline.filter(pl.col("timestamp").is_not_null())
    assert timeline.height > 50
    assert timeline.filter(
        (pl.col("timestamp") < pl.col("time_earliest")) | (pl.col("timestamp") > pl.col("time_latest"))
    ).is_empty()
    assert timeline.get_column("timestamp").is_sorted()


# ---------------------------------------------------------------- offsets
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(?=Z|[+-]\d\d:\d\d)")


def moved(text: str, shift: timedelta) -> str:
    return STAMP.sub(lambda m: (datetime.fromisoformat(m[0]) + shift).isoformat(timespec="milliseconds"), text)


def shifted(name: str, folder: Path, shift: timedelta) -> Path:
    """The sample with every stamp that the gateway wrote itself moved; what the engine wrote before it stays."""
    shutil.copytree(SAMPLES / name, folder, ignore=shutil.ignore_patterns("*.md", "expected.toml"))
    for path in folder.glob("gateway*.log"):
        path.write_text(
            "\n".join(moved(line, shift) for line in path.read_text(encoding="utf-8").split("\n")), encoding="utf-8"
        )
    return folder


@pytest.mark.parametrize(
    "shift",
    [timedelta(milliseconds=-2345), timedelta(hours=7, milliseconds=1), timedelta(days=-2)],
    ids=["-2.345s", "+7h", "-2d"],
)
@pytest.mark.parametrize("name", ["partition-behind-caddy", "untrusted-proxy"])
def test_a_shifted_gateway_shifts_its_offset_and_nothing_else(name, shift, tmp_path):
    before, after = occorr.analyze(SAMPLES / name), occorr.analyze(shifted(name, tmp_path / name, shift))
    offset = [a.clocks.filter(pl.col("clock_id") == "gateway").get_column("offset_ns").item() for a in (before, after)]
    assert abs(offset[1] - offset[0] - shift // timedelta(microseconds=1) * 1000) <= 1000
    columns = ["cause", "verdict", "via", "websocket_close_code", "http_status_proxy"]
    assert after.closes.select(columns).equals(before.closes.select(columns))
    gap = (after.closes.get_column("timestamp") - before.closes.get_column("timestamp")).dt.total_nanoseconds().abs()
    assert gap.max() <= MS
    inner = [a.clocks.filter(pl.col("clock_id") == "gateway").get_column("error_ns").item() for a in (before, after)]
    assert inner[0] == inner[1]


def test_an_override_is_taken(tmp_path):
    result = occorr.analyze(SAMPLES / "untrusted-proxy", offsets={"nginx": (2_000 * MS, 5 * MS)})
    row = result.clocks.filter(pl.col("clock_id") == "nginx").to_dicts()[0]
    assert (row["offset_ns"], row["error_ns"], row["method"]) == (2_000 * MS, 5 * MS, "override")


# ---------------------------------------------------------------- twins
def streams(folder: Path) -> list[str]:
    """One recorded refusal as `docker logs -t`, as the engine's json-file, and as the gateway's file log."""
    console = next(
        line
        for line in (SAMPLES / "handshake-timeout-coded-1000" / "gateway.stderr.log")
        .read_text(encoding="utf-8")
        .splitlines()
        if "closed before connect conn=24cbf1c0" in line
    )
    outer, inner = console.split(" ", 1)
    file = next(
        line
        for line in (SAMPLES / "handshake-timeout-coded-1000" / "gateway.file.log")
        .read_text(encoding="utf-8")
        .splitlines()
        if '"cause":"handshake-timeout"' in line
    )
    (folder / "a.log").write_text(console + "\n", encoding="utf-8")
    (folder / "b.log").write_text(
        json.dumps({"log": inner + "\n", "stream": "stderr", "time": outer}, ensure_ascii=False, separators=(",", ":"))
        + "\n",
        encoding="utf-8",
    )
    (folder / "c.log").write_text(file + "\n", encoding="utf-8")
    return ["a.log", "b.log", "c.log"]


@pytest.mark.parametrize(
    "names", [("a.log", "b.log", "c.log"), ("a.log", "c.log"), ("b.log", "c.log"), ("a.log", "b.log")], ids="+".join
)
def test_one_message_in_several_streams_is_one_event(tmp_path, names):
    for name in streams(tmp_path):
        if name not in names:
            (tmp_path / name).unlink()
    result = occorr.analyze(tmp_path)
    events = result.timeline.filter(pl.col("event_name") == "websocket.close")
    assert events.height == 1
    (row,) = result.closes.to_dicts()
    assert (row["cause"], row["verdict"], row["count"]) == ("timeout.handshake", "decisive", 1)
    kept = events.to_dicts()[0]
    # the richest form stays, and says where the others stand
    assert Path(kept["log_file_path"]).name == ("c.log" if "c.log" in names else "a.log")
    also = {a["key"]: a["value"] for a in kept["attributes"]}["also_at"]
    assert sorted(re.findall(r"(\w\.log):1", also)) == sorted({*names} - {Path(kept["log_file_path"]).name})


def test_two_messages_alike_are_two_events(tmp_path):
    streams(tmp_path)
    for name in ("b.log", "c.log"):
        (tmp_path / name).unlink()
    line = (tmp_path / "a.log").read_text(encoding="utf-8")
    other = line.replace("24cbf1c0", "24cbf1c1")
    (tmp_path / "b.log").write_text(other, encoding="utf-8")
    assert occorr.analyze(tmp_path).closes.height == 2


def test_the_gateways_words_count_once_in_a_whole_incident():
    """restart-beside-worker holds the same lines in five streams."""
    timeline = occorr.analyze(SAMPLES / "restart-beside-worker").timeline
    said = timeline.filter(pl.col("event_name") == "gateway.signal")
    console = (SAMPLES / "restart-beside-worker" / "gateway.docker.log").read_text(encoding="utf-8")
    assert console.count("received SIGTERM") == 1
    assert said.filter(pl.col("body").str.contains("received SIGTERM", literal=True)).height == 1


# ---------------------------------------------------------------- segments, names, words
def stepped(back: int) -> pl.DataFrame:
    """A clock that was right until 1000 s and ran `back` s behind from 1010 s on."""
    second = 1_000 * MS
    rows = [
        {
            "clock_id": "c",
            "segment_start": 0,
            "segment_end": 1_000 * second,
            "reference_time": 0,
            "anchored_from": 0,
            "anchored_to": 1_000 * second,
            "offset_ns": 0,
            "drift_ppm": 100.0,
            "error_ns": MS,
            "status": "aligned",
        },
        {
            "clock_id": "c",
            "segment_start": 1_010 * second,
            "segment_end": 2_000 * second,
            "reference_time": 1_010 * second,
            "anchored_from": 1_010 * second,
            "anchored_to": 2_000 * second,
            "offset_ns": -back * second,
            "drift_ppm": 0.0,
            "error_ns": MS,
            "status": "aligned",
        },
    ]
    return schema.conform(pl.DataFrame(rows), schema.CLOCKS)


@pytest.mark.parametrize(("true", "back"), [(10, 30), (500, 30), (1200, 30), (1990, 30), (990, 60), (1015, 60)])
def test_stamps_around_a_step_keep_the_truth_in_their_interval(true, back):
    second = 1_000 * MS
    written = round(true * second * 1.0001) if true <= 1_000 else (true - back) * second
    events = pl.DataFrame({"clock_id": ["c"], "timestamp_raw": [written]}).with_columns(
        pl.col("timestamp_raw").cast(schema.TS)
    )
    offset, error, status = offsets.offsets(events, stepped(back))
    assert abs(written - offset[0] - true * second) <= error[0]
    assert status == ["aligned"]
    # only a stamp that both segments may have written is wide
    assert error[0] <= (2 * MS if true in (10, 500, 1200, 1990) else 2 * back * second)


def test_the_bound_widens_behind_the_last_anchor():
    second = 1_000 * MS
    events = pl.DataFrame({"clock_id": ["c", "c"], "timestamp_raw": [1_970 * second, 2_970 * second]}).with_columns(
        pl.col("timestamp_raw").cast(schema.TS)
    )
    _, error, _ = offsets.offsets(events, stepped(30))
    assert error[1] - error[0] == pytest.approx(200e-6 * 1_000 * second, rel=0.01)


def test_a_person_names_a_clock():
    result = occorr.analyze(SAMPLES / "partition-behind-caddy", clocks={"proxy*": "edge"})
    row = result.clocks.filter(pl.col("clock_id") == "edge").to_dicts()
    assert len(row) == 1 and row[0]["method"].endswith("; named by --clock")
    assert "caddy" not in result.clocks.get_column("clock_id").to_list()


def row(**values):
    return {
        "clock_id": "nginx",
        "offset_ns": 0,
        "error_ns": MS,
        "status": "aligned",
        "method": "x",
        "segment_start": None,
        "segment_end": None,
    } | values


@pytest.mark.parametrize(("values", "said"), [
    ({"offset_ns": 2_350 * MS, "error_ns": 1_100_000}, "nginx runs 2.350 s ahead; its stamps were corrected by −2.350 s ± 1.1 ms."),
    ({"offset_ns": -2_000 * MS}, "nginx runs 2.000 s behind; its stamps were corrected by +2.000 s ± 1.0 ms."),
    ({"offset_ns": 5 * 3_600_000 * MS + 1_800_000 * MS}, "nginx runs 5 h 30 min ahead (by the look of it a wrong zone); its stamps were corrected by −19800.000 s ± 1.0 ms."),
    ({"offset_ns": -3_637_250 * MS, "error_ns": 2_500 * MS}, "nginx runs 1 h 0 min 37.250 s behind (by the look of it a wrong zone); its stamps were corrected by +3637.250 s ± 2.500 s."),
    ({"offset_ns": 3 * MS}, None),
    ({"status": "assumed", "offset_ns": 2_350 * MS}, None),
    ({"status": "unalignable", "method": "3 anchors; 12 are needed"}, "nginx could not be aligned: 3 anchors; 12 are needed; its stamps stand as written."),
    ({"method": "x; the clock was set in this time", "segment_start": 0, "segment_end": 5_000 * MS}, "nginx was set between 1970-01-01 00:00:00 and 1970-01-01 00:00:05 UTC."),
    ({"method": "x; a connection says that the clock was set", "segment_start": 0, "segment_end": 5_000 * MS, "error_ns": 2_500 * MS}, "nginx may have been set: its stamps between 1970-01-01 00:00:00 and 1970-01-01 00:00:05 UTC are known to ± 2.500 s only."),
])  # fmt: skip
def test_a_wrong_clock_is_a_sentence(values, said):
    assert clock_faults.sentence(row(**values)) == said


# ---------------------------------------------------------------- lives
def test_one_start_of_a_container_explains_one_start_of_a_process(tmp_path):
    """The gateway starts at 10:00:00 and, after a death, at 10:01:01; only the second start is among the events.

    Were the clock 60 to 119 s slow, the one event would lie at a usual distance before both; it is right.
    """
    lines = [line for at in ("10:00:00.000", "10:01:01.000") for line in [*started(at), *ready(f"{at[:6]}12.000")]]
    at = nanoseconds(datetime(2026, 11, 21, 10, 1, tzinfo=UTC))
    events = [event(at - 20 * 10**9, "die", exitCode="137"), event(at, "start")]
    result = occorr.analyze(write(tmp_path, **{"gateway.log": lines, "docker.events.jsonl": events}))
    row = result.clocks.filter(pl.col("clock_id") == "gateway").row(0, named=True)
    assert row["status"] == "assumed"
    assert row["offset_ns"] == 0
