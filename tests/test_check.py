"""`occorr check`: pass, fail or no data; thresholds of one's own; JUnit XML that others can read."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import made_logs as made
import pytest
from report_tables import HOSTILE
from typer.testing import CliRunner

from occorr import policy
from occorr.cli import app
from occorr.errors import DefinitionError
from occorr.figures import FIGURES, Figure
from occorr.gates import Place
from occorr.report.junit import junit

SAMPLES = Path(__file__).parent.parent / "sample_logs"


def run(*arguments: str | Path):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def figure(name: str, value: float | None, n: int = 1, **more) -> Figure:
    return Figure(
        name,
        FIGURES[name][0],
        value,
        FIGURES[name][1],
        n,
        "demo/gateway",
        "a note",
        (Place("/logs/gateway.log", 7),),
        **more,
    )


def status(found: Figure, **limits) -> str:
    return policy.judge([found], policy.default() | limits)[0].status


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [  # the thresholds as the runbooks state them, with the last value that is still good
        ("token_sources", 1, 2), ("token_mismatches", 3, 4), ("tcp_connect", 97, 96.9), ("state_lock_p95", 2.5, 2.51), ("handshake_p95", 200, 201), ("log_days", 14, 13.9), ("token_rotation", 300, 301),
        ("health_start_period", 45, 44), ("health_interval", 30, 29), ("health_retries", 5, 4), ("probe_interval_outside", 60, 61), ("probe_interval_inside", 15, 16), ("versions", 1, 2), ("unexplained_closes", 0, 1),
    ],
)  # fmt: skip
def test_the_runbooks_thresholds_are_the_defaults(name, good, bad):
    assert status(figure(name, good, 100)) == "pass"
    assert status(figure(name, bad, 100)) == "fail"
    assert status(figure(name, None, 0)) == "no-data"


def test_too_few_probes_and_lower_bounds_prove_nothing():
    assert status(figure("tcp_connect", 50, 99)) == "no-data"
    assert status(figure("log_days", 2, 100, floor=True)) == "no-data"
    assert status(figure("log_days", 20, 100, floor=True)) == "pass"
    cost = {"restart_cost": policy.Limit("restart_cost", max=60)}
    assert status(figure("restart_cost", 50, floor=True), **cost) == "no-data"
    assert status(figure("restart_cost", 61, floor=True), **cost) == "fail"


def test_a_policy_replaces_single_values(tmp_path):
    mine = tmp_path / "occorr-policy.toml"
    mine.write_text(
        'handshake_p95.max = 400\n[token_mismatches]\nmax = 0\n[log_days]\noff = true\n[restarts]\nmax = 2\nwhy = "a storm"\n'
    )
    limits = policy.load(mine)
    assert (limits["handshake_p95"].max, limits["handshake_p95"].why) == (400, policy.default()["handshake_p95"].why)
    assert (limits["token_mismatches"].max, limits["restarts"].max, limits["restarts"].why) == (0, 2, "a storm")
    assert [
        j.figure.id
        for j in policy.judge([figure("log_days", 1), figure("restarts", 3), figure("restart_cost", 9)], limits)
    ] == ["restarts"]
    assert policy.default()["token_mismatches"].max == 3


def test_every_mistake_of_a_policy_is_told_with_line_and_nearest_name(tmp_path):
    mine = tmp_path / "occorr-policy.toml"
    mine.write_text(
        '[token_mismatch]\nmax = 3\n\n[tcp_connect]\nmim = 90\n\n[restarts]\nwhy = "no limit"\n\n[log_days]\nmin = "14"\n\n[versions]\nmax = 1\nmin = 2\n'
    )
    with pytest.raises(DefinitionError) as told:
        policy.load(mine)
    found = {p.line: p.message for p in told.value.problems}
    assert "did you mean 'token_mismatches'?" in found[1]
    assert "did you mean 'min'?" in found[5]
    assert "expected a number" in found[11]
    assert "at least 2 and at most 1" in found[15]
    mine.write_text("[restarts]\nwhy = 'no limit'\n")
    with pytest.raises(DefinitionError, match="occorr-policy.toml:1: .* neither max nor min"):
        policy.load(mine)
    mine.write_text("[restarts\n")
    with pytest.raises(DefinitionError, match="occorr-policy.toml:1: not valid TOML"):
        policy.load(mine)
    answer = run(SAMPLES / "untrusted-proxy", "--policy", tmp_path / "none.toml")
    assert answer.exit_code != 0 and "No such file" in str(answer.exception)


def test_a_breach_ends_with_1_and_no_data_only_on_demand(tmp_path):
    folder = SAMPLES / "lockout-beside-worker"
    answer = run(folder, "--format", "json")
    found = json.loads(answer.stdout)
    assert answer.exit_code == 1
    # its README: ten clients with a wrong token in a few seconds
    wrong = next(c for c in found["checks"] if c["figure"] == "token_mismatches")
    assert (wrong["status"], wrong["value"], wrong["max"]) == ("fail", 10, 3)
    calm = made.write(tmp_path / "in", gateway__log=made.ready("10:00:00.000"))
    assert run(calm).exit_code == 0
    assert run(calm, "--require-data").exit_code == 1
    text = run(calm).stdout
    assert "0 failed, 1 passed" in text and max(map(len, text.splitlines())) <= 80


def test_list_names_every_figure():
    text = run("--list").stdout
    assert all(name in text for name in FIGURES)


def judged(*found: Figure):
    return policy.judge(found, policy.default())


def test_junit_is_read_by_others():
    junitparser = pytest.importorskip("junitparser", reason="a reader of JUnit XML that others wrote")
    rows = judged(figure("token_mismatches", 10, 10), figure("versions", 1), figure("handshake_p95", None, 0))
    for require, want in ((False, (3, 1, 1)), (True, (3, 2, 0))):
        suites = junitparser.JUnitXml.fromstring(junit(rows, require_data=require).encode())
        suite = next(iter(suites))
        cases = list(suite)
        kinds = [type(case.result[0]).__name__ if case.result else "" for case in cases]
        assert (
            (suite.tests, suite.failures, suite.skipped)
            == want
            == (len(cases), kinds.count("Failure"), kinds.count("Skipped"))
        )
        assert "10, limit ≤ 3" in cases[0].result[0].message and "gateway.log:7" in cases[0].result[0].text


@pytest.mark.parametrize("hostile", [*HOSTILE, "\ufffe\uffff\x00", "]]>"])
def test_hostile_text_stays_text_in_junit(hostile):
    rows = policy.judge(
        [Figure("versions", FIGURES["versions"][0], 2.0, "", 2, hostile, hostile, (Place(hostile, 3),))],
        policy.default(),
    )
    tree = ET.fromstring(junit(rows))
    assert {e.tag for e in tree.iter()} == {"testsuites", "testsuite", "testcase", "failure", "system-out"}
    assert not any("\x1b" in (e.text or "") or "\u202e" in (e.text or "") for e in tree.iter())
