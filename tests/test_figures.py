"""Figures of small logs, worked out by hand; where nothing was logged there is none, and the note says what is missing."""

from __future__ import annotations

import json

import made_logs as made
import pytest

import occorr
from occorr import figures
from occorr.figures import FIGURES, Figure

BASE = 1795255200_000000000  # 2026-11-21T10:00:00Z
S = 10**9


def of(folder) -> dict[str, Figure]:
    found = figures.figures(occorr.analyze(folder))
    assert len({(f.id, f.scope) for f in found}) == len(found)
    return {f.id: f for f in found}


@pytest.fixture
def quiet(tmp_path):
    """A gateway that started and did nothing: every figure beyond that has no data."""
    return made.write(tmp_path / "in", gateway__log=[*made.started("10:00:00.000"), *made.ready("10:00:20.000")])


def test_every_figure_is_given_and_says_why_it_has_no_data(quiet):
    found = of(quiet)
    assert set(found) == set(FIGURES)
    for f in found.values():
        assert f.note, f.id
        assert f.value is not None or not f.n or f.id in ("subagent_success", "config_stamp", "versions"), f.id
    assert [f for f in found if found[f].value is not None] == [
        "token_mismatches",
        "pairing_retries",
        "pairing_successes",
        "restarts",
        "restart_cost",
        "longest_outage",
        "log_days",
    ]
    assert found["log_days"].floor  # a log of 20 s proves nothing about how long logs are kept


def test_mismatches_are_counted_in_the_fullest_pairing_window(tmp_path):
    # 10:00, 10:04, 10:05 lie within five minutes; 10:06 is within five minutes of the second and third
    lines = [
        made.refused(n, at)
        for n, at in enumerate(["10:00:00.000", "10:04:00.000", "10:05:00.000", "10:06:00.000", "10:30:00.000"], 1)
    ]
    found = of(
        made.write(
            tmp_path / "in", gateway__log=[*made.started("09:59:00.000"), *made.ready("09:59:20.000"), *sum(lines, [])]
        )
    )
    assert (found["token_mismatches"].value, found["token_mismatches"].n) == (3, 5)
    assert found["token_mismatches"].lines[0].path.endswith("gateway.log")


def test_two_sources_of_the_token_and_whether_they_agree(tmp_path):
    log = [*made.started("10:00:00.000"), *made.ready("10:00:20.000")]
    config = json.dumps(
        {
            "gateway": {
                "mode": "local",
                "auth": {"mode": "token", "token": "other-secret-1"},
                "remote": {"token": "first-secret-1"},
            },
            "meta": {"lastTouchedVersion": "2026.9.5"},
        }
    )
    found = of(
        made.write(
            tmp_path / "in", gateway__log=log, inspect__json=made.inspect(token="first-secret-1"), openclaw__json=config
        )
    )
    assert (found["token_sources"].value, found["token_fingerprints"].value) == (2, 2)
    assert "OPENCLAW_GATEWAY_TOKEN" in found["token_sources"].note and "secret" not in found["token_fingerprints"].note
    assert found["config_stamp"].value == 1 and "2026.9.5" in found["config_stamp"].note

    same = json.dumps(
        {
            "gateway": {"auth": {"mode": "token", "token": "${OPENCLAW_GATEWAY_TOKEN}"}},
            "meta": {"lastTouchedVersion": "2026.9.6"},
        }
    )
    found = of(made.write(tmp_path / "in", gateway__log=log, openclaw__json=same))
    assert (found["token_sources"].value, found["token_fingerprints"].value, found["config_stamp"].value) == (
        1,
        1,
        0,
    )  # a reference is no second source


def test_a_masked_token_is_a_source_and_no_fingerprint(tmp_path):
    found = of(
        made.write(tmp_path / "in", gateway__log=made.ready("10:00:20.000"), inspect__json=made.inspect(token="***"))
    )
    assert found["token_sources"].value == 1
    assert found["token_fingerprints"].value is None and "masked" in found["token_fingerprints"].note


def test_retries_and_time_to_pair(tmp_path):
    lines = [
        *made.ready("09:59:20.000"),
        *made.refused(1, "10:00:00.000", "pairing"),
        *made.refused(2, "10:00:30.000", "pairing"),
        made.approved("10:01:15.000"),
    ]
    found = of(made.write(tmp_path / "in", gateway__log=lines))
    assert (found["pairing_retries"].value, found["pairing_successes"].value) == (2, 1)
    assert found["time_to_pair"].value == pytest.approx(75.0, abs=0.01)
    assert found["time_to_pair"].n == 1


def test_rotation_ends_with_the_last_client_that_offers_the_old_token(tmp_path):
    lines = [
        *made.ready("09:59:20.000"),
        f"{made.stamp('10:00:00.000')} [gateway] gateway auth changed; closing clients",
        *made.refused(1, "10:00:40.000"),
        *made.refused(2, "10:07:00.000"),
    ]
    found = of(made.write(tmp_path / "in", gateway__log=lines))
    assert found["token_rotation"].value == pytest.approx(420, abs=0.5)


def test_restarts_cost_the_time_without_a_ready_gateway(tmp_path):
    # die at 10:01:00, started at 10:01:05, ready at 10:01:40: 40 s; then a kill at 10:03:00 and ready at 10:03:25: 25 s
    log = [
        *made.started("10:00:01.000"),
        *made.ready("10:00:20.000"),
        *made.started("10:01:06.000"),
        *made.ready("10:01:40.000"),
        *made.started("10:03:02.000"),
        *made.ready("10:03:25.000"),
    ]
    events = [
        made.event(BASE, "start"),
        made.event(BASE + 60 * S, "die", exitCode="1"),
        made.event(BASE + 65 * S, "start"),
        made.event(BASE + 180 * S, "die", exitCode="137"),
        made.event(BASE + 181 * S, "start"),
    ]
    found = of(made.write(tmp_path / "in", gateway__log=made.twice(log), events__jsonl=events))
    assert found["restarts"].value == 2 and found["restarts"].scope == "demo/gateway"
    assert found["restart_cost"].value == pytest.approx(65, abs=0.2)
    assert found["longest_outage"].value == pytest.approx(40, abs=0.2)
    assert not found["restart_cost"].floor
    assert [str(p).rpartition("/")[2] for p in found["restarts"].lines] == ["events.jsonl:2", "events.jsonl:4"]


def test_an_outage_that_is_not_over_is_at_least_so_long(tmp_path):
    log = [*made.started("10:00:01.000"), *made.ready("10:00:20.000")]
    events = [
        made.event(BASE, "start"),
        made.event(BASE + 60 * S, "die", exitCode="1"),
        made.event(BASE + 65 * S, "start"),
        made.event(BASE + 100 * S, "die", exitCode="1"),
    ]
    found = of(made.write(tmp_path / "in", gateway__log=made.twice(log), events__jsonl=events))
    assert found["restarts"].value == 1 and found["restart_cost"].floor
    assert found["restart_cost"].value == pytest.approx(40, abs=0.2)


def test_handshakes_by_nearest_rank(tmp_path):
    # 20 handshakes of 10, 20, … 200 ms: the median is the 10th, the 95th percentile the 19th
    lines = sum((made.handshake(n, f"10:00:{n:02d}.000", f"10:00:{n:02d}.{n * 10:03d}") for n in range(1, 21)), [])
    found = of(made.write(tmp_path / "in", gateway__log=[*made.ready("10:00:00.000"), *lines]))
    assert (found["handshake_p50"].value, found["handshake_p95"].value, found["handshake_p95"].n) == (100, 190, 20)


def test_state_lock_waits(tmp_path):
    lines = [
        *made.ready("10:00:00.000"),
        *(made.lock_wait(ms, f"10:00:{n:02d}.000") for n, ms in enumerate([150, 300, 3100], 1)),
    ]
    found = of(made.write(tmp_path / "in", gateway__log=lines))
    assert (found["state_lock_p95"].value, found["state_lock_p95"].n) == (3.1, 3)


def test_share_of_502_and_504(tmp_path):
    lines = [
        made.access(f"10:00:{n:02d}", status) for n, status in enumerate([101, 200, 502, 504, 503, 101, 200, 200], 1)
    ]
    found = of(made.write(tmp_path / "in", access__log=lines, gateway__log=made.ready("10:00:00.000")))
    assert (found["proxy_502_504"].value, found["proxy_502_504"].n) == (25, 8)


def test_subagents_count_what_both_sides_report(tmp_path):
    cli = [
        "$ openclaw agent --message hello",
        "Subagent announce failed: gateway closed (1006 abnormal closure (no close frame)): no close reason",
    ]
    found = of(made.write(tmp_path / "in", cli__out=cli, gateway__log=made.ready("10:00:00.000")))
    assert (found["subagent_failures"].value, found["subagent_success"].value) == (
        1,
        None,
    )  # of failures alone no rate can be told
    spawned = [
        f'{{"status": "accepted", "childSessionKey": "agent:main:subagent:{n}", "runId": "r{n}"}}' for n in range(6)
    ]
    broken = '{"status": "error", "error": "gateway closed (1008): pairing required\\nGateway target: ws://127.0.0.1:18789", "childSessionKey": "agent:main:subagent:7"}'
    cli += sum((["$ openclaw agent --message hello", line] for line in [*spawned, broken]), [])
    found = of(made.write(tmp_path / "in", cli__out=cli, gateway__log=made.ready("10:00:00.000")))
    assert (found["subagent_failures"].value, found["subagent_success"].value, found["subagent_success"].n) == (
        2,
        75,
        8,
    )


def test_probes(tmp_path):
    good, bad = (
        "Connection to 192.0.2.2 18789 port [tcp/*] succeeded!",
        "nc: connect to 192.0.2.2 port 18789 (tcp) failed: Connection refused",
    )
    found = of(made.write(tmp_path / "in", probes__txt=[good] * 3 + [bad], gateway__log=made.ready("10:00:00.000")))
    assert (found["tcp_connect"].value, found["tcp_connect"].n) == (75, 4)


@pytest.mark.parametrize(
    ("health", "want"),
    [
        (
            {"Test": ["CMD", "true"], "Interval": 10 * S, "Timeout": 5 * S, "Retries": 3},
            (0, 10, 3),
        ),  # no start period is Docker's 0 s
        ({"Test": ["CMD", "true"], "Interval": 30 * S, "StartPeriod": 45 * S, "Retries": 5}, (45, 30, 5)),
        ({"Test": ["CMD", "true"]}, (0, 30, 3)),
        ({"Test": ["NONE"]}, (None, None, None)),
        (None, (None, None, None)),
    ],
)
def test_health_checks_with_dockers_own_values_where_they_say_nothing(tmp_path, health, want):
    found = of(
        made.write(tmp_path / "in", gateway__log=made.ready("10:00:00.000"), inspect__json=made.inspect(health=health))
    )
    assert tuple(found[f"health_{k}"].value for k in ("start_period", "interval", "retries")) == want


def test_a_compose_file_declares_the_health_check(tmp_path):
    text = "services:\n  gateway:\n    image: openclaw/gateway:2026.9.6\n    healthcheck:\n      test: [CMD, curl, -f, http://127.0.0.1:18789/health]\n      interval: 1m30s\n      start_period: 20s\n      retries: 4\n"
    found = of(made.write(tmp_path / "in", gateway__log=made.ready("10:00:00.000"), compose__yml=text))
    assert tuple(found[f"health_{k}"].value for k in ("start_period", "interval", "retries")) == (20, 90, 4)
    assert str(found["health_interval"].lines[0]).endswith("compose.yml:4")


def test_versions_of_gateway_and_cli(tmp_path):
    found = of(
        made.write(
            tmp_path / "in",
            gateway__log=[*made.ready("10:00:00.000"), *made.refused(1, "10:00:05.000")],
            inspect__json=made.inspect(image="ghcr.io/example/openclaw:2026.3.13"),
        )
    )
    assert found["versions"].value == 2
    assert "gateway 2026.3.13" in found["versions"].note and "CLI 2026.9.6" in found["versions"].note


def test_logs_that_begin_after_their_container_were_not_kept(tmp_path):
    old = made.inspect(created="2026-11-01T09:00:00.000000000Z")
    log = ["2026-11-18T10:00:00.000+00:00 [gateway] ready", "2026-11-21T10:00:00.000+00:00 [gateway] ready"]
    found = of(made.write(tmp_path / "in", gateway__log=log, inspect__json=old))
    assert found["log_days"].value == pytest.approx(3.0, abs=0.001) and not found["log_days"].floor


def test_each_project_has_figures_of_its_own(tmp_path):
    other = (
        made.inspect(health={"Test": ["CMD", "true"], "Interval": 5 * S})
        .replace("aa" * 32, "bb" * 32)
        .replace('"demo"', '"second"')
        .replace("192.0.2.2", "192.0.2.9")
        .replace("demo-gateway-1", "second-gateway-1")
    )
    folder = made.write(
        tmp_path / "in",
        gateway__log=made.ready("10:00:00.000"),
        a__json=made.inspect(token="one-secret-here"),
        b__json=other,
    )
    found = {(f.id, f.scope): f for f in figures.figures(occorr.analyze(folder))}
    assert found["token_sources", "demo/gateway"].value == 1
    assert found["token_sources", "second/gateway"].value is None
    assert found["health_interval", "second/gateway"].value == 5
    assert found["health_interval", "demo/gateway"].value is None
