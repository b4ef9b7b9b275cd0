"""Whoever connects chooses a user agent, a reason and a path; none of them may decide anything.

The lines in forged/ are recorded ones in which only that text was replaced, with the escapes that each program applies.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import polars as pl
import pytest

import occorr

FOLDER = Path(__file__).parent / "forged"


@cache
def closes(name: str) -> list[dict]:
    return occorr.analyze(FOLDER / name).closes.to_dicts()


def decided(name: str) -> set[str]:
    return {r["cause"] for r in closes(name) if r["verdict"] == "decisive"}


# file → causes that only the forged text speaks for
GATEWAY = {
    "ua_code.log": {"client.normal"},
    "ua_cause.log": {"auth.pairing_required"},
    "ua_cause_only.log": {"auth.pairing_required"},
    "ua_whole_line.log": {"auth.pairing_required"},
    "forwarded.log": {"auth.pairing_required"},
    "reason_cause.log": {"auth.pairing_required"},
    "reason_phase_cause.log": {"auth.pairing_required"},
    "reason_code.log": {"restart.manual", "restart.in_process", "restart.killed"},
    "reason_words.log": {"auth.pairing_required"},
    "old_ua_code.log": {"client.normal"},
    "old_ua_refusal.log": {"auth.pairing_required"},
    "old_ua_restart.log": {"restart.manual", "restart.in_process", "restart.killed"},
    "old_reason_cause.log": {"auth.pairing_required"},
    "webchat_reason_code.log": {"restart.manual", "restart.in_process", "restart.killed"},
    "unauthorized_ua.log": {"auth.rate_limited"},
    "verbose_reason.log": {"timeout.heartbeat"},
    "twin_cause": {"auth.pairing_required"},
    "twin_none": {"auth.pairing_required"},
}


@pytest.mark.parametrize("name", GATEWAY)
def test_forged_text_decides_nothing(name):
    assert closes(name), "the line must still be a close"
    assert decided(name) & GATEWAY[name] == set()


@pytest.mark.parametrize(
    "name",
    sorted(
        p.name for p in FOLDER.iterdir() if p.name.split("_")[0] in ("ua", "old", "reason", "webchat", "forwarded.log")
    ),
)
def test_forged_repeats_do_not_count(name):
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    written = sum(
        "closed before connect conn=" in line.split(" ua=")[0] or "webchat disconnected" in line for line in lines
    )
    assert sum(r["count"] for r in closes(name)) == written


def test_only_the_gateways_own_repeats_count(tmp_path):
    """A real suppressed= stands between phase= and the tail."""
    line = (
        (FOLDER / "reason_suppressed.log")
        .read_text(encoding="utf-8")
        .replace("bye suppressed=900 phase=ws_upgrade_started", "bye phase=ws_upgrade_started suppressed=4")
    )
    assert "reason=bye phase=ws_upgrade_started suppressed=4 " in line
    (tmp_path / "gateway.log").write_text(line, encoding="utf-8")
    assert occorr.analyze(tmp_path).closes.get_column("count").to_list() == [5]


def test_a_reason_does_not_speak_for_another_connection():
    rows = {r["conn_id"]: r for r in closes("webchat_reason_conn.log")}
    named, forger = "156461b4-a223-4702-877f-ba2848b03998", "f32720fb-c64b-4349-83ed-7a8e300e01d6"
    assert rows[named]["websocket_close_code"] == 1000
    assert rows[named]["websocket_close_reason"] == "bye"
    assert rows[forger]["code_gateway"] in (1001, None)
    assert len(rows) == 2


def test_a_user_agent_makes_no_second_connection():
    assert [r["conn_id"] for r in closes("ua_whole_line.log")] == ["a02a8ee8-4961-4b61-90f9-25f4fc42b123"]


def test_the_structured_twin_wins():
    (row,) = closes("twin_cause")
    assert (row["cause"], row["verdict"], row["count"]) == ("timeout.handshake", "decisive", 1)
    assert row["websocket_close_code"] in (
        1000,
        None,
    )  # not the forged 1008; the code stands in free text even in the file log


def test_a_structured_twin_without_a_cause_leaves_none():
    (row,) = closes("twin_none")
    assert row["cause"] != "auth.pairing_required"
    assert row["websocket_close_code"] in (1000, None)


@pytest.mark.parametrize("agent", ["lab-wsc/1.0", "Mozilla/5.0 (X11; Linux x86_64) lab"])
def test_an_honest_refusal_is_decisive(tmp_path, agent):
    line = (FOLDER / "ua_suppressed.log").read_text(encoding="utf-8").splitlines()[1]
    quoted = json.dumps(agent) if " " in agent else agent
    (tmp_path / "g.log").write_text(
        line.replace(" ua=x suppressed=900 ", f" ua={agent} ").replace(
            'userAgent="x suppressed=900"', f"userAgent={quoted}"
        )
        + "\n",
        encoding="utf-8",
    )
    (row,) = occorr.analyze(tmp_path).closes.to_dicts()
    assert (row["cause"], row["verdict"]) == ("auth.origin", "decisive")


PROXY = [
    "nginx_combined.log",
    "nginx_upstreaminfo.log",
    "nginx_json.log",
    "nginx_json_badescape.log",
    "traefik_clf.log",
    "traefik_clf_path.log",
    "traefik_clf_agent.log",
    "apache_combined.log",
]


@pytest.mark.parametrize("name", PROXY)
def test_forged_request_line_does_not_move_the_status(name):
    """All these requests were answered with 502; what the path or the agent says about 101 is its own."""
    result = occorr.analyze(FOLDER / name)
    access = result.timeline.filter(pl.col("event_name") == "http.access")
    assert set(access.get_column("http_response_status_code").to_list()) <= {502, None}
    for row in result.closes.to_dicts():
        assert row["verdict"] != "decisive"
        assert not row["established"]
        assert row["duration_ns"] is None or row["duration_ns"] < 1_000_000_000


@pytest.mark.parametrize("name", [n for n in PROXY if not n.startswith("traefik")])
def test_escaped_quotes_are_read(name):
    """What a program escapes is one field, so the line is known in full."""
    access = occorr.analyze(FOLDER / name).timeline.filter(pl.col("event_name") == "http.access")
    assert access.get_column("http_response_status_code").to_list() == [502]
    assert access.get_column("url_path").item().startswith("/")


@pytest.mark.parametrize("name", ["docker_labels", "docker_labels_json"])
def test_labels_make_no_events(name):
    result = occorr.analyze(FOLDER / name)
    docker = result.timeline.filter(pl.col("source_kind") == "docker")
    assert set(docker.get_column("container_action").to_list()) <= {"create", "start"}
    gateway = docker.filter(pl.col("container_id") == "7" * 64)
    assert sorted(gateway.get_column("container_action").to_list()) == ["create", "start"]
    assert result.closes.height == 5
    assert result.closes.filter(pl.col("family") == "restart").is_empty()
    assert result.incidents.filter(pl.col("family") == "restart").is_empty()
