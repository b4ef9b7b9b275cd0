"""Those who are told: a stream that is slow or gone, a command, Prometheus, a table."""

import io
import json
import os
import sys
import threading
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from occorr import metrics, tell
from occorr.errors import OccorrError
from occorr.terminal import live

EVIL = "x\x1b[2J$(touch /tmp/pwned)`id`;\"'\n\x07‮"


def row(ident="c1", kind="close", cause="restart.oom", **more):
    return {
        "type": kind, "close_id": ident, "timestamp": "2026-11-21T05:00:00.123456789Z", "cause": cause, "family": cause.partition(".")[0], "verdict": "decisive", "probability": 0.98, "websocket_close_code": 1006, "http_status_proxy": None,
        "service_name": "gateway", "compose_project": "demo", "count": 1, "client_address": "192.0.2.7", "client_port": 4711, "observers": ["gateway"], "evidence": [], "lag_ms": 640, **more,
    }  # fmt: skip


class Slow(io.RawIOBase):
    """A terminal that takes nothing until it is let go."""

    def __init__(self):
        self.go, self.got = threading.Event(), b""

    def write(self, data):
        assert self.go.wait(30)
        self.got += bytes(data)
        return len(data)


def test_a_slow_stream_loses_nothing_and_holds_up_nobody():
    stream = Slow()
    outbox = tell.Outbox(stream)
    begun = time.monotonic()
    for i in range(30_000):
        outbox.put({"type": "close", "n": i, "text": "y" * 100})
    assert time.monotonic() - begun < 20
    stream.go.set()
    outbox.close(30)
    assert [json.loads(line)["n"] for line in stream.got.splitlines()] == list(range(30_000))


def test_a_stream_that_is_gone_is_noticed():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as stream:
        outbox = tell.Outbox(stream)
        outbox.put({"type": "close"})
        outbox.close(10)
        assert outbox.broken


SCRIPT = "import json, os, sys; print(json.dumps({'stdin': json.load(sys.stdin), 'env': {k: v for k, v in os.environ.items() if k.startswith('OCCORR_')}, 'argv': sys.argv[2:]}), file=open(sys.argv[1], 'a'))"


def test_the_command_gets_values_and_no_shell_sees_them(tmp_path):
    hook = tell.Hook([sys.executable, "-c", SCRIPT, str(tmp_path / "out"), "$HOME; id"], 30, time.monotonic)
    hook.put({"type": "container", "action": "die"})
    hook.put(row(service_name=EVIL, websocket_close_reason=EVIL))
    hook.close(30)
    (got,) = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert got["stdin"]["websocket_close_reason"] == EVIL
    assert (
        got["env"]["OCCORR_SERVICE"] == EVIL
        and got["env"]["OCCORR_CAUSE"] == "restart.oom"
        and got["env"]["OCCORR_CODE"] == "1006"
    )
    assert got["argv"] == ["$HOME; id"]
    assert (hook.ran, hook.failed, hook.suppressed) == (1, 0, 0)


def test_the_command_is_not_run_more_often_than_allowed(tmp_path):
    now = [0.0]
    hook = tell.Hook([sys.executable, "-c", SCRIPT, str(tmp_path / "out")], 2, lambda: now[0])
    for i in range(5):
        hook.put(row(f"c{i}"))
    now[0] = 61.0
    hook.put(row("later"))
    hook.close(60)
    got = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [g["env"]["OCCORR_CLOSE_ID"] for g in got] == ["c0", "c1", "later"]
    assert [g["env"]["OCCORR_SUPPRESSED"] for g in got] == ["0", "0", "3"]
    assert hook.suppressed == 3


def test_a_command_that_fails_is_told(tmp_path):
    hook = tell.Hook([sys.executable, "-c", "import sys; sys.exit('no such channel')"], 30, time.monotonic)
    hook.put(row())
    hook.close(30)
    assert (hook.ran, hook.failed) == (1, 1) and "no such channel" in hook.trouble


def test_a_command_that_hangs_is_ended_with_the_watch(tmp_path):
    hook = tell.Hook([sys.executable, "-c", "import time; time.sleep(1000)"], 30, time.monotonic)
    hook.put(row())
    begun = time.monotonic()
    hook.close(0.5)
    assert time.monotonic() - begun < 20
    assert (hook.ran, hook.failed) == (1, 1)


def test_prometheus_reads_the_counters():
    served = metrics.Metrics("127.0.0.1", 0, {"occorr_lag_seconds": ("lag", lambda: 1.5)})
    try:
        for given in (
            row("a"),
            row("b", count=3),
            row("c", cause="auth.origin", websocket_close_code=None, http_status_proxy=403, service_name=EVIL),
            row("a", "revised", was={"cause": "restart.manual"}),
            {
                "type": "container",
                "action": "die",
                "container": "demo-gateway-1",
                "service": "gateway",
                "project": "demo",
                "exit_code": 137,
            },
            {
                "type": "container",
                "action": "start",
                "container": "demo-gateway-1",
                "service": "gateway",
                "project": "demo",
            },
            {"type": "container", "action": "start", "container": "other", "service": "other", "project": "demo"},
            {"type": "gap", "seconds": 2.5},
        ):
            served.put(given)
        with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        with pytest.raises(OccorrError, match="cannot be had"):
            metrics.Metrics("127.0.0.1", served.port, {})
    finally:
        served.close()
    samples = {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }
    assert (
        samples[
            "occorr_closes_total",
            tuple(
                sorted(
                    {
                        "code": "1006",
                        "family": "restart",
                        "cause": "restart.oom",
                        "verdict": "decisive",
                        "service": "gateway",
                        "project": "demo",
                    }.items()
                )
            ),
        ]
        == 4
    )
    assert (
        samples[
            "occorr_closes_total",
            tuple(
                sorted(
                    {
                        "code": "http_403",
                        "family": "auth",
                        "cause": "auth.origin",
                        "verdict": "decisive",
                        "service": EVIL,
                        "project": "demo",
                    }.items()
                )
            ),
        ]
        == 1
    )
    assert samples["occorr_revisions_total", (("cause", "restart.oom"), ("cause_before", "restart.manual"))] == 1
    assert [(labels, v) for (name, labels), v in samples.items() if name == "occorr_restarts_total"] == [
        ((("container", "demo-gateway-1"), ("project", "demo"), ("service", "gateway")), 1)
    ]
    assert samples["occorr_gap_seconds_total", ()] == 2.5 and samples["occorr_lag_seconds", ()] == 1.5


class _Followed:
    connected = True
    lag_s, lines, events = 0.4, 1_234_567, 89


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (200, 60)])
def test_the_table_fits_its_window_whatever_stands_in_it(width, height):
    board = live.Board()
    board.put(
        {
            "type": "watching",
            "containers": [
                {
                    "container": f"demo-{EVIL}-{i}",
                    "id": f"{i:012d}",
                    "state": "running",
                    "project": "demo",
                    "service": "s",
                }
                for i in range(30)
            ],
        }
    )
    for i in range(100):
        board.put(row(f"c{i}", client_address="2001:db8::" + "f" * 30, cause="auth.token_mismatch"))
    board.put(row("c99", "revised", was={"cause": "restart.manual"}, service_name=EVIL))
    board.put({"type": "container", "action": "die", "container_id": "0" * 64, "container": EVIL, "exit_code": 137})
    board.put(
        {
            "type": "gap",
            "begin": "2026-11-21T05:00:00.1Z",
            "end": "2026-11-21T05:00:02.1Z",
            "seconds": 2.0,
            "reconciled": [EVIL * 20],
        }
    )
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=False, highlight=False, markup=False)
    console.print(live.picture(board, _Followed(), _Followed()))
    drawn = out.getvalue().splitlines()
    assert len(drawn) <= height and max(map(len, drawn)) <= width
    assert "\x1b" not in out.getvalue() and "\x07" not in out.getvalue() and "‮" not in out.getvalue()
    assert "101 closes" not in out.getvalue() and "100 closes, 1 revised" in out.getvalue()


def test_nothing_in_a_row_steers_a_terminal():
    stream = io.BytesIO()
    stream.close = lambda: None
    outbox = tell.Outbox(stream)
    outbox.put(row(client_address="\u202e\x9b31m\u2066x\x7f"))
    outbox.close(5)
    told = stream.getvalue().decode()
    assert not set(told) & set("\u202e\x9b\u2066\x7f")
    assert json.loads(told)["client_address"] == "\u202e\x9b31m\u2066x\x7f"
