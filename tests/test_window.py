"""The last minutes judged live are judged as `analyze` judges the whole, and cost what matters and not what is written."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from occorr import analysis, segments
from occorr.redact import Redactor
from occorr.window import HEAD, NEWEST, WIDTH, Window

SAMPLES = Path(__file__).parents[1] / "sample_logs"
SECOND = 10**9


def stamp(ns):
    return pl.Series([ns]).cast(pl.Datetime("ns", "UTC")).dt.to_string("%Y-%m-%dT%H:%M:%S%.9fZ").item()


def kept(window):
    return sum(log.kept.height for log in window._logs.values())


@pytest.fixture
def record(tmp_path):
    made = segments.Record(tmp_path / "record")
    yield made
    made.close()


def feed(window, record):
    more = True
    while more:
        rows, more = record.take(0.0)
        window.add(rows, record.known())


LOADED = """
import sys
from occorr.cli.watch import _lean
_lean()
from occorr import engine, follow, metrics, redact, tell, watch, window
window.rehearse()
print(*sorted({"dateparser", "paramiko.client", "plotly", "pyarrow"} & set(sys.modules)))
"""


def test_watching_loads_nothing_that_only_others_need():
    """Its memory counts: pyarrow takes 44 MB, paramiko 18."""
    told = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, cwd=SAMPLES.parent
    )
    assert told.stdout.split() == []


@pytest.mark.long
@pytest.mark.parametrize("incident", ["restart-beside-worker", "crash-behind-traefik"])
def test_a_recorded_incident_comes_out_as_analyze_says(incident, record):
    """Line after line, as it came; the verdicts at the end are those of the files, close ids and all."""
    folder = SAMPLES / incident
    log, events, inspect = folder / "gateway.docker.log", folder / "docker.events.jsonl", folder / "docker.inspect.json"
    whole = analysis.analyze([log, events, inspect], redact_key=b"k")
    numbers = (
        record.source("gateway.docker.log"),
        record.source("docker.events.jsonl", "events"),
        record.source("docker.inspect.json", "document"),
    )
    record.append(numbers[2], "", "", " ".join(inspect.read_text().split()))
    window = Window(Redactor(b"k"))
    for number, line in enumerate(log.read_text().splitlines()):
        at, _, text = line.partition(" ")
        record.append(numbers[0], "stdout", at, text)
        if number % 20 == 0:
            feed(window, record)
            if number % 100 == 0:
                window.judge()
    for line in events.read_text().splitlines():
        record.append(numbers[1], "", "2026-11-21T05:00:00Z", line)
    feed(window, record)
    live = window.judge()
    columns = ["close_id", "cause", "verdict", "websocket_close_code"]
    assert live.closes.select(columns).sort("close_id").equals(whole.closes.select(columns).sort("close_id"))
    assert set(live.evidence.get_column("event_id")) == set(whole.evidence.get_column("event_id"))


def chatter(record, number, count, begin=1_795_239_825 * SECOND, step=10**6):
    for i in range(count):
        at = stamp(begin + i * step) if i % 1000 == 0 else at  # noqa: F821
        record.append(
            number, "stdout", at, f"2026-11-21T05:43:45.234+00:00 [gateway] tick {i} of something that nobody asks for"
        )


def test_chatter_costs_nothing(record):
    window, number = Window(Redactor(b"k")), record.source("a.log")
    chatter(record, number, 50_000)
    feed(window, record)
    assert kept(window) <= HEAD
    assert not window.add(*_more(record, number, "2026-11-21T05:43:46.234+00:00 [gateway] tick tock"))
    assert window.add(
        *_more(
            record,
            number,
            "2026-11-21T05:43:46.234+00:00 [ws] webchat disconnected code=1006 reason=n/a conn=5e313299-7e7e-409a-8efc-2e1e7833e793",
        )
    )
    window.judge()
    assert kept(window) <= HEAD + NEWEST


def _more(record, number, text):
    record.append(number, "stdout", "2026-11-21T05:43:46.234500000Z", text)
    return record.take(0.0)[0], record.known()


def test_health_checks_do_not_flood(record):
    window, number = Window(Redactor(b"k")), record.source("docker.events.jsonl", "events")
    for action in ("exec_create: /bin/sh -c test -e /tmp/ok", "exec_start: /bin/sh -c test -e /tmp/ok", "exec_die"):
        record.append(
            number,
            "",
            "2026-11-21T05:43:46Z",
            f'{{"Type":"container","Action":"{action}","Actor":{{"ID":"{"a" * 64}","Attributes":{{}}}},"timeNano":1795239826000000000}}',
        )
    chatter_until = HEAD + 10
    for _ in range(chatter_until):
        record.append(
            number,
            "",
            "2026-11-21T05:43:46Z",
            '{"Type":"container","Action":"exec_die","Actor":{"ID":"a","Attributes":{}},"timeNano":1795239826000000000}',
        )
    feed(window, record)
    before = kept(window)
    rows, book = _more(
        record,
        number,
        '{"Type":"container","Action":"exec_die","Actor":{"ID":"a","Attributes":{}},"timeNano":1795239826000000000}',
    )
    assert not window.add(rows, book) and kept(window) == before
    rows, book = _more(
        record,
        number,
        '{"Type":"container","Action":"exec_create: nginx -s reload","Actor":{"ID":"a","Attributes":{}},"timeNano":1795239826000000000}',
    )
    assert window.add(rows, book)


def test_a_connection_that_is_open_for_hours_is_remembered_and_its_death_is_seen(record):
    """Two browsers connect; one leaves. Long after that the gateway is killed: the other one's end is known."""
    begin = 1_795_239_825 * SECOND
    window, number, events = (
        Window(Redactor(b"k")),
        record.source("demo-gateway-1-aaaaaaaaaaaa.log", origin={"container_id": "a" * 64}),
        record.source("docker.events.jsonl", "events"),
    )
    gone, open_ = "5e313299-7e7e-409a-8efc-2e1e7833e793", "33efd742-ed05-4aa4-95c2-8e1d43bcf647"

    def say(at, text):
        record.append(number, "stdout", stamp(at), f"{stamp(at)[:-7]}+00:00 {text}")

    def event(at, action, **attributes):
        told = ",".join(
            f'"{k}":"{v}"'
            for k, v in {"image": "openclaw/gateway:2026.9.6", "name": "demo-gateway-1", **attributes}.items()
        )
        record.append(
            events,
            "",
            stamp(at),
            f'{{"Type":"container","Action":"{action}","Actor":{{"ID":"{"a" * 64}","Attributes":{{{told}}}}},"scope":"local","timeNano":{at}}}',
        )

    event(begin - SECOND, "start")
    for text in (
        "[gateway] loading configuration…",
        "[gateway] starting...",
        "[gateway] http server listening (14 plugins: anthropic; 7.0s)",
        "[gateway] ready",
    ):
        say(begin, text)
    for conn in (gone, open_):
        say(
            begin + SECOND,
            f"[ws] webchat connected conn={conn} remote=192.0.2.117 client=openclaw-control-ui webchat v2026.9.6 build=x",
        )
    say(begin + 2 * SECOND, f"[ws] webchat disconnected code=1001 reason=n/a conn={gone}")
    feed(window, record)
    assert set(window.judge().closes.get_column("close_id")) == {gone}
    for hour in range(1, 4):
        for i in range(300):
            say(begin + hour * 6 * WIDTH + i * SECOND // 10, f"[gateway] tick {i}")
        feed(window, record)
        window.judge()
    death = begin + 3 * 6 * WIDTH + 60 * SECOND
    say(death - SECOND // 2, "[gateway] tick")
    event(death - SECOND // 20, "kill", signal="9")
    event(death, "die", exitCode="137")
    feed(window, record)
    (row,) = window.judge().closes.to_dicts()
    assert (row["close_id"], row["cause"], row["verdict"]) == (open_, "restart.killed", "decisive")


def test_ordinary_requests_at_a_proxy_cost_nothing_and_its_tunnels_stay(record):
    """Nobody's tunnel hides among a thousand pages; an answer's size is no status."""
    window, number = Window(Redactor(b"k")), record.source("proxy.log")
    begin = 1_795_239_825 * SECOND

    def request(i, status, size, path="/page"):
        at = begin + i * SECOND // 10
        record.append(
            number,
            "stdout",
            stamp(at),
            f'192.0.2.7 - - [{pl.Series([at]).cast(pl.Datetime("ns")).dt.to_string("%d/%b/%Y:%H:%M:%S").item()} +0000] "GET {path} HTTP/1.1" {status} {size} "-" "Mozilla/5.0 (X11; Linux x86_64)"',
        )

    for i in range(200):
        request(i, 200, 3000 + i)
    feed(window, record)
    window.judge()
    for i in range(200, 1200):
        request(i, 200 if i % 3 else 304, i)
    request(1200, 101, 2000, "/ws")
    request(1201, 502, 200, "/ws")
    feed(window, record)
    result = window.judge()
    assert kept(window) <= HEAD + 2
    assert sorted(result.closes.get_column("http_status_proxy").to_list()) == [101, 502]
