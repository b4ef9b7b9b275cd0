"""Engines of other versions than the one that runs here: what they leave out of events, and in which order they tell them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import fake_engine
import occorr
from occorr.engine import parse_event
from occorr.redact import Redactor

CONN = "6b1f3a52-8f3e-4c8e-9d3a-2f1f7a7b9c01"
MOMENT = 1_795_236_240_000_000_000  # 2026-11-21T04:44:00Z
OLD = ("status", "id", "from")  # which API 1.52 has no more


def stamp(ms: int) -> str:
    return f"2026-11-21T04:44:{ms // 1000:02d}.{ms % 1000:03d}"


def event(ms: int, action: str, *, old: bool, **attributes: str) -> str:
    """An event of the wire, at so many ms after the moment."""
    own = {
        "image": "openclaw/gateway:2026.9.6",
        "name": "demo-gateway-1",
        "com.docker.compose.project": "demo",
        "com.docker.compose.service": "gateway",
    }
    wire = {
        "Type": "container", "Action": action, "Actor": {"ID": fake_engine.IDENT, "Attributes": {**own, **attributes}}, "scope": "local", "time": MOMENT // 10**9 + ms // 1000, "timeNano": MOMENT + ms * 10**6,
    }  # fmt: skip
    return json.dumps({"status": action, "id": fake_engine.IDENT, "from": own["image"], **wire} if old else wire)


def log(ms: int, text: str) -> tuple[str, bytes]:
    return "stdout", f"{stamp(ms)}000000Z {stamp(ms)}+00:00 {text}\n".encode()


# `docker restart` of a gateway that stops in good order, as 20.10 and 26.1 tell it (facts of both: the older one tells of the death before the stop)
ORDERS = {
    "20.10.24": ("1.41", True, [(5000, "kill", {"signal": "15"}), (5060, "die", {"exitCode": "0"}), (5080, "stop", {}), (5400, "start", {}), (5410, "restart", {})]),
    "26.1.5": ("1.45", True, [(5000, "kill", {"signal": "15"}), (5200, "stop", {}), (5206, "die", {"exitCode": "0", "execDuration": "300"}), (5500, "start", {}), (5510, "restart", {})]),
    "29.0.0": ("1.52", False, [(5000, "kill", {"signal": "15"}), (5200, "stop", {}), (5206, "die", {"exitCode": "0", "execDuration": "300"}), (5500, "start", {}), (5510, "restart", {})]),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("version", ORDERS)
def test_a_restart_has_its_cause_whatever_the_version_tells_and_when(version, tmp_path):
    api, old, happened = ORDERS[version]
    lines = [
        log(100, "[gateway] loading configuration…"),
        log(110, "[gateway] starting..."),
        log(130, "[gateway] ready"),
        log(400, f"[ws] webchat connected conn={CONN} remote=192.0.2.117 client=openclaw-control-ui webchat v2026.9.6"),
        log(5005, "[gateway] received SIGTERM; shutting down"),
        log(5020, f"[ws] webchat disconnected code=1012 reason=service restart conn={CONN}"),
        log(5050, "[shutdown] completed cleanly in 12ms"),
        log(5600, "[gateway] loading configuration…"),
        log(5610, "[gateway] starting..."),
        log(5630, "[gateway] ready"),
    ]
    told = fake_engine.Told(
        version,
        api,
        f"{stamp(59_000)}Z",
        [event(ms, action, old=old, **more) for ms, action, more in happened],
        lines,
        fake_engine.container("demo", "gateway", "openclaw/gateway:2026.9.6", StartedAt=f"{stamp(5500)}Z", FinishedAt=f"{stamp(5060)}Z"),
    )  # fmt: skip
    with fake_engine.serving(told, tmp_path) as host:
        words = ["collect", "-p", "demo", "--since", "2026-11-21T04:00:00Z", "-o", tmp_path / "b"]
        done = subprocess.run(
            [sys.executable, "-c", "from occorr.cli import main; main()", *map(str, words)],
            env={**os.environ, "DOCKER_HOST": host, "DOCKER_CONFIG": str(tmp_path)},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert {path.split("/")[1] for path in told.asked if path.startswith("/v1")} == {f"v{api}"}  # the engine's own
    (close,) = occorr.analyze(tmp_path / "b").closes.to_dicts()
    assert (close["conn_id"], close["cause"], close["verdict"]) == (CONN, "restart.manual", "decisive")
    assert close["websocket_close_code"] == 1012


def test_events_are_read_without_what_newer_engines_leave_out(tmp_path):
    """What 20.10 told of two Compose runs, and the same as API 1.52 would have told it."""
    told = [json.loads(event(ms, a, old=True, **m)) for ms, a, m in ORDERS["20.10.24"][2]]
    told += [
        {"Type": "network", "Action": "disconnect", "Actor": {"ID": "ab" * 32, "Attributes": {"container": fake_engine.IDENT, "name": "demo_default", "type": "bridge"}}, "scope": "local", "time": 1, "timeNano": 1_000_000_005},
        {"status": "health_status: unhealthy", "id": "x", "from": "y", "Type": "container", "Action": "health_status: unhealthy", "Actor": {"ID": fake_engine.IDENT, "Attributes": {"name": "demo-gateway-1"}}, "scope": "local", "time": 1, "timeNano": 1_000_000_006},
    ]  # fmt: skip
    redactor = Redactor(b"k" * 32)
    for wire in told:
        before = parse_event(wire, redactor)
        after = parse_event({k: v for k, v in wire.items() if k not in (*OLD, "time")}, redactor)
        assert (before.time_ns, before.kind, before.action, before.container_id, before.attributes) == (
            after.time_ns,
            after.kind,
            after.action,
            after.container_id,
            after.attributes,
        )
        assert before.container_id == fake_engine.IDENT and before.time_ns == wire["timeNano"]
