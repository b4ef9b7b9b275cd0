"""Envelopes around the same lines: what stands inside is found, the stamps outside get their year and zone."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import json
import polars as pl
import pytest

import occorr
from occorr import definitions, read, unwrap

LIBRARY = definitions.builtin()
SAMPLE = Path(__file__).parent.parent / "sample_logs" / "wrong-token-without-events"
DOCKER = (SAMPLE / "gateway.docker.log").read_text().splitlines()
STAMPS = [line.partition(" ")[0] for line in DOCKER]
INNER = [line.partition(" ")[2] for line in DOCKER]
PLAIN = occorr.analyze(SAMPLE / "gateway.docker.log")


def moment(stamp: str) -> datetime:
    return (
        datetime.fromisoformat(stamp[:26].rstrip("Z").ljust(26, "0")[:26] + "+00:00")
        if "." in stamp
        else datetime.fromisoformat(stamp)
    )


TIMES = [moment(s) for s in STAMPS]


def short(t: datetime) -> str:
    return f"{t:%b} {t.day:2d} {t:%H:%M:%S}"


def nanos(t: datetime, digits: int) -> str:
    return f"{t:%Y-%m-%dT%H:%M:%S}.{t.microsecond:06d}{'1234'[: digits - 6]}"


WRAPS = {
    "syslog_rfc3164": lambda t, s: f"{short(t)} claw node[812]: {s}",
    "syslog_iso": lambda t, s: f"{t:%Y-%m-%dT%H:%M:%S}.{t.microsecond:06d}+00:00 claw node[812]: {s}",
    "syslog_rfc5424": lambda t, s: f"<30>1 {t:%Y-%m-%dT%H:%M:%S}.{t.microsecond:06d}Z claw node 812 - - {s}",
    "journald_json": lambda t, s: json.dumps(
        {
            "__REALTIME_TIMESTAMP": str(round(t.timestamp() * 1e6)),
            "_HOSTNAME": "claw",
            "_PID": "812",
            "_SYSTEMD_UNIT": "openclaw.service",
            "MESSAGE": s,
        }
    ),
    "journald_unix": lambda t, s: f"{t.timestamp():.6f} claw node[812]: {s}",
    "cri": lambda t, s: f"{nanos(t, 9)}Z stdout F {s}",
    "github_actions": lambda t, s: f"{nanos(t, 7)}Z {s}",
    "ts": lambda t, s: f"{short(t)} {s}",
    "journal_full": lambda t, s: f"{t:%a %Y-%m-%d %H:%M:%S} UTC claw openclaw-gateway.service[812]: {s}",
    "journal_monotonic": lambda t, s: f"[12345.{t.microsecond:06d}] claw node[812]: {s}",
    "syslog_year": lambda t, s: f"{t:%Y} {short(t)} claw node[812]: {s}",
    "syslog_year_behind": lambda t, s: f"{short(t)[:6]} {t:%Y %H:%M:%S} claw node[812]: {s}",
    "occorr_record": lambda t, s: json.dumps(
        {"record": f"{s}\n", "stream": "stderr", "time": f"{nanos(t, 9)}Z", "mono": 1}, separators=(",", ":")
    ),
    "kubectl_prefix": lambda t, s: f"[pod/gw-7c9f78e368-x2x4q/gateway] {s}",
    "stamp_iso": lambda t, s: f"[{t:%Y-%m-%dT%H:%M:%S}+0000] {s}",
    "stamp_space": lambda t, s: f"{t:%Y-%m-%d %H:%M:%S}.{t.microsecond:06d} {s}",
    "stamp_clock": lambda t, s: f"{t:%H:%M:%S}.{t.microsecond:06d} {s}",
    "wrapped_json": lambda t, s: json.dumps(
        {"@timestamp": f"{nanos(t, 6)}Z", "message": s, "container": {"name": "gateway"}}
    ),
    "ts_epoch": lambda t, s: f"{t.timestamp():.6f} {s}",
    "desktop_wrapper": lambda t, s: (
        f"[{t:%Y-%m-%dT%H:%M:%S}.{t.microsecond // 1000:03d}Z] [INFO ] [Gateway stdout] {s}"
    ),
    "docker_timestamps": lambda t, s: f"{nanos(t, 9)}Z {s}",
    "docker_json_file": lambda t, s: json.dumps(
        {"log": s + "\n", "stream": "stdout", "time": f"{nanos(t, 9)}Z"}, separators=(",", ":")
    ),
    "compose_prefix": lambda t, s: f"gateway-1  | {s}",
}
NESTED = [
    ("compose_prefix", "docker_timestamps"),
    ("syslog_rfc3164", "compose_prefix"),
    ("compose_prefix", "journald_json"),
    ("syslog_rfc3164", "compose_prefix", "docker_timestamps"),
    ("github_actions", "compose_prefix", "docker_timestamps"),
]


OF_ONE_PROGRAM = {"haproxy_stamp"}  # stands before HAProxy's lines only: its own samples hold it to what it does


def wrapped(names: tuple[str, ...]) -> str:
    lines = []
    for t, line in zip(TIMES, INNER, strict=True):
        for name in reversed(names):
            line = WRAPS[name](t, line)
        lines.append(line)
    return "\n".join(lines) + "\n"


def verdicts(result: occorr.Analysis) -> list:
    return sorted(result.closes.select("conn_id", "cause", "verdict", "websocket_close_code").rows())


def test_every_envelope_is_tried_here():
    assert set(WRAPS) | OF_ONE_PROGRAM == set(LIBRARY.envelopes)


@pytest.mark.parametrize("names", [*((n,) for n in WRAPS), *NESTED], ids=" > ".join)
def test_the_same_lines_in_any_envelope(tmp_path, names):
    file = tmp_path / "gateway.log"
    file.write_text(wrapped(names))
    result = occorr.analyze(file)
    row = result.sources.row(0, named=True)
    assert row["envelope"] == " > ".join(names)
    assert row["lines_unparsed"] == 0
    assert verdicts(result) == verdicts(PLAIN)
    ours, plain = (
        r.timeline.filter(pl.col("conn_id").is_not_null()).sort("log_line").get_column("timestamp").cast(pl.Int64)
        for r in (result, PLAIN)
    )
    assert ((ours - plain).abs() <= 50_000_000).all()  # inner stamps, whatever stands outside


@pytest.mark.parametrize(
    "name", [n for n, e in LIBRARY.envelopes.items() if e.time is not None and n not in OF_ONE_PROGRAM]
)
def test_lines_without_a_stamp_take_the_envelopes(tmp_path, name):
    """Stamps outside only: year and zone come from another source, and the time is right to the envelope's resolution."""
    bare = [line.partition(" ")[2] for line in INNER if line[:4].isdigit()]
    moments = [t for t, line in zip(TIMES, INNER, strict=True) if line[:4].isdigit()]
    (tmp_path / "gateway.log").write_text(
        "".join(WRAPS[name](t, line) + "\n" for t, line in zip(moments, bare, strict=True))
    )
    (tmp_path / "docker.events.json").write_text(EVENT)
    result = occorr.analyze(tmp_path)
    rows = result.timeline.filter(
        pl.col("conn_id").is_not_null() & pl.col("log_file_path").cast(pl.String).str.ends_with("gateway.log")
    ).sort("log_line")
    plain = PLAIN.timeline.filter(pl.col("conn_id").is_not_null()).sort("log_line")
    assert rows.height == plain.height
    width = rows.get_column("time_resolution_ns").max()
    assert width == dict.fromkeys(
        ("syslog_rfc3164", "ts", "journal_full", "syslog_year", "syslog_year_behind", "stamp_iso"), 10**9
    ).get(name, width)
    assert width <= 10**9
    late = plain.get_column("observed_timestamp").cast(pl.Int64) - rows.get_column("timestamp_raw").cast(pl.Int64)
    assert late.is_between(-1_000, width + 1_000_000).all()


UNDEFINED = {
    "stern": lambda t, s: f"gw-7c9f78e368 gateway {s}",
    "pm2": lambda t, s: f"0|gateway  | {s}",
    "fly": lambda t, s: f"{t:%Y-%m-%dT%H:%M:%S}Z app[148e2] ams [info] {s}",
    "heroku": lambda t, s: f"{nanos(t, 6)}+00:00 app[web.1]: {s}",
    "supervisord": lambda t, s: f"{t:%Y-%m-%d %H:%M:%S},{t.microsecond // 1000:03d} DEBG 'gateway' stdout output: {s}",
    "logcli": lambda t, s: f"{t:%Y-%m-%dT%H:%M:%S}Z {{container=gateway}} {s}",
    "fluentd": lambda t, s: (
        f"{t:%Y-%m-%d %H:%M:%S}.000000000 +0000 docker.gateway: "
        + json.dumps({"container_name": "/demo-gateway-1", "source": "stderr", "log": s})
    ),
    "journal_export": lambda t, s: (
        f"__CURSOR=s=1\n__REALTIME_TIMESTAMP={round(t.timestamp() * 1e6)}\n_HOSTNAME=claw\n_PID=812\nMESSAGE={s}\n"
    ),
    "json_laid_out": lambda t, s: json.dumps(
        {"__REALTIME_TIMESTAMP": str(round(t.timestamp() * 1e6)), "_HOSTNAME": "claw", "MESSAGE": s}, indent=4
    ),
}


@pytest.mark.parametrize("name", UNDEFINED)
def test_the_same_lines_in_what_nobody_defined(tmp_path, name):
    """Some words before each line, a collector's stamp and JSON, records that run over several lines."""
    (tmp_path / "gateway.log").write_text(
        "".join(UNDEFINED[name](t, line) + "\n" for t, line in zip(TIMES, INNER, strict=True))
    )
    result = occorr.analyze(tmp_path / "gateway.log")
    assert result.sources.item(0, "lines_unparsed") == 0
    assert verdicts(result) == verdicts(PLAIN)
    ours, plain = (
        r.timeline.filter(pl.col("conn_id").is_not_null()).sort("log_line").get_column("timestamp").cast(pl.Int64)
        for r in (result, PLAIN)
    )
    assert ((ours - plain).abs() <= 50_000_000).all()


@pytest.mark.parametrize(("word", "zone"), [("UTC", 0), ("CET", 1), ("EDT", -4), ("JST", 9)])
def test_a_zone_by_its_name(tmp_path, word, zone):
    local = [t + timedelta(hours=zone) for t in TIMES]
    (tmp_path / "gateway.log").write_text(
        "".join(
            f"{t:%a %Y-%m-%d %H:%M:%S} {word} claw node[812]: {line.partition(' ')[2]}\n"
            for t, line in zip(local, INNER, strict=True)
        )
    )
    rows = occorr.analyze(tmp_path).timeline.filter(pl.col("conn_id").is_not_null())
    first = PLAIN.timeline.filter(pl.col("conn_id").is_not_null()).get_column("timestamp").min()
    assert abs((rows.get_column("timestamp").min() - first).total_seconds()) <= 1


def test_an_export_with_a_field_of_bytes(tmp_path):
    text = (
        b"__REALTIME_TIMESTAMP=1795240417449000\nMESSAGE\n"
        + len(INNER[0].encode() + b"\nmore").to_bytes(8, "little")
        + INNER[0].encode()
        + b"\nmore\n_PID=1\n\n"
    )
    frame = next(iter(read.chunks(read._unpacked(read.Blob("x", text * 2), read.packed.Allowance()))))
    assert [json.loads(r)["MESSAGE"] for r in frame.get_column("raw")] == [INNER[0] + "\nmore"] * 2
    assert frame.get_column("line").to_list() == [1, 7]
    assert [text[o : o + 22] for o in frame.get_column("offset")][0] == b"__REALTIME_TIMESTAMP=1"
    assert frame.get_column("offset").to_list() == [0, len(text)]


def test_json_laid_out_keeps_its_places():
    text = b'[\n  {\n    "a": 1\n  },\n  {"b": "x\xc3\xa9"},\n\n {"c":\n 2}]\n'
    frame = next(iter(read.chunks(read._unpacked(read.Blob("x", text), read.packed.Allowance()))))
    assert frame.select("line", "raw").rows() == [(2, '{"a":1}'), (5, '{"b":"xé"}'), (7, '{"c":2}')]
    assert [text[o : o + 1] for o in frame.get_column("offset")] == [b"{"] * 3


EVENT = (
    '{"Type":"container","Action":"create","Actor":{"ID":"'
    + "7c" * 32
    + '","Attributes":{"image":"x","name":"other"}},"scope":"local","time":1795240700,"timeNano":1795240700000000000}\n'
)


@pytest.mark.parametrize("definition", LIBRARY.formats.values(), ids=LIBRARY.formats)
def test_no_envelope_claims_a_formats_line(definition):
    for sample in definition.samples:
        if sample.dialect:
            found, _ = unwrap.chain(pl.Series([sample.line]), LIBRARY.envelopes)
            assert [
                e.name for e in found if not (definition.name == "docker_events" and e.name == "docker_timestamps")
            ] == [], sample.line


def test_docker_events_as_text_keep_their_time_when_their_stamp_is_peeled(tmp_path):
    ident = "7c" * 32
    (tmp_path / "events.txt").write_text(
        f"2026-11-21T04:39:16.355543681Z container create {ident} (image=x, name=gw)\n2026-11-21T04:39:17.1Z container die {ident} (exitCode=137, image=x, name=gw)\n2026-11-21T04:39:18.355543681Z container start {ident} (image=x, name=gw)\n"
    )
    rows = occorr.analyze(tmp_path).timeline.sort("log_line")
    assert rows.get_column("event_name").to_list() == ["container.create", "container.die", "container.start"]
    assert rows.get_column("timestamp").dt.to_string("%H:%M:%S%.f").to_list() == [
        "04:39:16.355543681",
        "04:39:17.100",
        "04:39:18.355543681",
    ]
    assert rows.get_column("clock_id").unique().to_list() == ["engine"]


def test_dry_run_tells_the_zone(tmp_path, capsys):
    from occorr.terminal import inputs

    line = '2026/11/21 05:44:00 [error] 7#7: *9 connect() failed (111: Connection refused) while connecting to upstream, client: 192.0.2.111, server: , request: "GET / HTTP/1.1", upstream: "http://192.0.2.2:18789/", host: "gw.example.org"'
    (tmp_path / "error.log").write_text(line + "\n")
    (tmp_path / "gateway.log").write_text("".join(f"{s}\n" for s in INNER))
    inputs.dry_run([str(tmp_path)], None)
    out = capsys.readouterr().out
    assert "zone" in out and "as written" in out and "not written" in " ".join(out.split())
