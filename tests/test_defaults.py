"""Options that are set once: `occorr.toml` < environment < flags, and where each value is from."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from occorr.cli import app
from occorr.errors import OccorrError

SAMPLE = str(Path(__file__).parent.parent / "sample_logs" / "wrong-token-without-events")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory, and nothing set."""
    monkeypatch.chdir(tmp_path)
    for name in ("CONFIG", "TZ", "REDACT_KEY", "PARSERS"):
        monkeypatch.delenv(f"OCCORR_{name}", raising=False)
    return tmp_path


def run(*words: str, **environment: str):
    return CliRunner().invoke(app, words, env=environment)


def test_flag_over_environment_over_file(here):
    (here / "occorr.toml").write_text('tz = "Europe/Berlin"\n[analyze]\nfail-on = "auth"\nformat = "json"\n')
    got = run("analyze", SAMPLE)
    assert got.exit_code == 1  # the sample's closes are refusals of a wrong token
    assert got.stdout.startswith("{")
    assert "--tz Europe/Berlin: from occorr.toml" in got.stderr
    assert "--fail-on auth: from occorr.toml" in got.stderr
    assert "--tz UTC: from the environment (OCCORR_TZ)" in run("analyze", SAMPLE, OCCORR_TZ="UTC").stderr
    typed = run("analyze", SAMPLE, "--tz", "Asia/Tokyo", "--fail-on", "restart", OCCORR_TZ="UTC")
    assert (typed.exit_code, "--tz" in typed.stderr, "--fail-on" in typed.stderr) == (0, False, False)


def test_a_table_counts_for_its_command_alone(here):
    (here / "mine.toml").write_text('[report]\ntz = "Europe/Berlin"\n')
    got = run("--config", "mine.toml", "analyze", SAMPLE)
    assert (got.exit_code, "Berlin" in got.stderr) == (0, False)


def test_quiet_says_only_the_answer(here):
    (here / "occorr.toml").write_text('tz = "Europe/Berlin"\n')
    got = run("-q", "analyze", SAMPLE, "-o", "result")
    assert (got.exit_code, got.stderr) == (0, "")
    assert "auth.token_mismatch" in got.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('tzz = "UTC"', "no command has an option --tzz"),
        ("[analyse]", "'analyse' is no command or option; did you mean 'analyze'?"),
        ('[analyze]\nofset = "UTC"', "'ofset' is no command or option; did you mean 'offset'?"),
        ("tz = ", "no TOML"),
        ('[watch]\non-close = "./run"', "on-close counts only in a file that you name"),
        ("no-redact = true", "no-redact counts only in a file that you name"),
        ('[check]\njunit = "/home/me/.profile"', "junit counts only in a file that you name"),
        ('[watch]\nmetrics = "0.0.0.0:9100"', "metrics counts only in a file that you name"),
        ('[analyze]\nparsers = "./formats"', "parsers counts only in a file that you name"),
    ],
)
def test_what_no_command_knows_is_an_error_that_names_the_file(here, text, says):
    (here / "occorr.toml").write_text(text)
    error = run("analyze", SAMPLE).exception
    assert isinstance(error, OccorrError)
    assert str(error).startswith("occorr.toml: ")
    assert says in str(error)


def test_a_value_of_the_wrong_kind_is_a_usage_error(here):
    (here / "occorr.toml").write_text('[analyze]\nformat = "xml"\n')
    got = run("analyze", SAMPLE)
    assert got.exit_code == 2
    assert "'xml' is not one of 'table', 'json', 'ndjson', 'md'" in got.stderr


def test_a_file_that_is_named_has_to_be_there(here):
    error = run("--config", "none.toml", "analyze", SAMPLE).exception
    assert isinstance(error, OccorrError)
    assert str(error).startswith("--config none.toml: ")


@pytest.mark.parametrize("name", ["postmortem", "weekly"])
@pytest.mark.parametrize(("option", "value"), [("--offset", "gateway=+2s"), ("--clock", "*.log=nginx"), ("--project", "claw")])  # fmt: skip
def test_a_result_says_which_options_come_too_late_for_it(here, name, option, value):
    assert run("analyze", SAMPLE, "-o", "result").exit_code == 0
    late = run("report", name, "result", option, value)
    assert isinstance(late.exception, OccorrError)
    assert f"result is judged already; give {option} to analyze" in str(late.exception)


def test_a_report_of_logs_is_made_as_analyze_makes_its_own(here):
    """The same options, the same bytes."""
    assert run("analyze", SAMPLE, "--offset", "gateway=+2s", "-o", "result").exit_code == 0
    assert run("report", "timeline", SAMPLE, "--offset", "gateway=+2s", "-o", "page.html").exit_code == 0
    assert Path("page.html").read_bytes() == Path("result/timeline.html").read_bytes()


def test_what_the_file_says_of_reading_does_not_hinder_commands_on_results(here):
    assert run("analyze", SAMPLE, "-o", "result").exit_code == 0
    (here / "occorr.toml").write_text('project = "claw"\n')
    for words in (("check", "result"), ("report", "postmortem", "result"), ("report", "weekly", "result")):
        assert run(*words).exit_code in (0, 1), words
