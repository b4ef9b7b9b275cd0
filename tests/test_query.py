"""occorr query: SQL over a result, answered the same each time, with mistakes explained; DuckDB is the second opinion."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from report_tables import made
from typer.testing import CliRunner

from occorr import analysis, results, schema
from occorr.cli import app
from occorr.errors import OccorrError
from occorr.query import query


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("query") / "result"
    tables = made()
    results.save(analysis.Analysis(**{name: getattr(tables, name) for name in schema.TABLES}), directory, {})
    return directory


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT cause, verdict, sum(count) AS n FROM closes GROUP BY cause, verdict ORDER BY cause, verdict",
        "SELECT e.strength, count(*) AS n FROM closes c JOIN evidence e ON c.close_id = e.close_id WHERE c.family = 'restart' GROUP BY e.strength ORDER BY e.strength",
        "SELECT count(*) AS n FROM timeline WHERE severity_number >= 13 AND source_kind = 'gateway'",
        "SELECT max(probability) AS p, min(websocket_close_code) AS code FROM closes WHERE cause LIKE 'auth.%'",
    ],
)
def test_duckdb_gives_the_same_answer(place, sql):
    other = duckdb.connect()
    for name in schema.TABLES:
        other.execute(f"CREATE VIEW {name} AS SELECT * FROM '{place}/{name}.parquet'")
    assert query(place, sql).rows() == other.execute(sql).fetchall()


def test_a_moment_is_compared_as_utc(place):
    # report_tables: the first of 14 wrong tokens at T0 + 70 s = 05:47:10
    auth = "SELECT count(*) AS n FROM closes WHERE family = 'auth' AND timestamp {} '2026-11-21T05:47:10'"
    assert query(place, auth.format(">=")).item() == 14
    assert query(place, auth.format("<")).item() == 0


def test_rows_without_order_come_in_the_same_order_each_time(place):
    sql = "SELECT cause, websocket_close_code, count(*) AS n FROM closes GROUP BY cause, websocket_close_code"
    answers = {query(place, sql).write_json() for _ in range(8)}
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT caus FROM closes", "did you mean 'cause'"),
        ("SELECT c.close_di FROM closes c", "did you mean 'close_id'"),
        ("SELECT * FROM close", "did you mean 'closes'"),
        ("SELECT xyzzy FROM closes", "README"),
        ("DROP TABLE closes", "give one SELECT"),
        ("DELETE FROM closes", "give one SELECT"),
        ("CREATE TABLE x AS SELECT 1", "give one SELECT"),
        ("", "give one SELECT"),
        ("SELECT 1; DROP TABLE closes", "one statement at a time"),
        ("SELECT * FROM read_csv('/etc/hostname')", "only the tables"),
        ("SELECT * FROM \"read_csv\"('/etc/hostname')", "only the tables"),
        ("SELECT * FROM `read_csv`('/etc/hostname')", "only the tables"),
        ("SELECT 1 AS \"it's\", * FROM read_csv('/etc/hostname')", "only the tables"),
        ("SELECT 1 AS \"--\", * FROM read_csv('/etc/hostname')", "only the tables"),
        ("SELECT cast(websocket_close_reason AS INT) FROM closes", "conversion"),
    ],
)
def test_mistakes_are_explained(place, sql, told):
    with pytest.raises(OccorrError) as error:
        query(place, sql)
    assert told in str(error.value)
    assert "\x1b" not in str(error.value)
    assert "\u202e" not in str(error.value)


def test_asking_changes_nothing(place):
    before = {p.name: p.read_bytes() for p in place.iterdir()}
    query(place, "SELECT * FROM timeline")
    assert {p.name: p.read_bytes() for p in place.iterdir()} == before


def test_forms_of_the_answer(place, tmp_path):
    run = CliRunner().invoke
    sql = "SELECT cause, sum(count) AS n FROM closes WHERE family = 'restart' GROUP BY cause"
    table = run(app, ["query", str(place), sql])
    assert [line.split() for line in table.stdout.splitlines()] == [["cause", "n"], ["restart.oom", "20"], ["1", "row"]]
    answer = json.loads(run(app, ["query", str(place), sql, "--format", "json"]).stdout)
    assert (answer["schema_version"], answer["rows"]) == (1, [{"cause": "restart.oom", "n": 20}])
    assert run(app, ["query", str(place), sql, "--format", "csv"]).stdout == "cause,n\nrestart.oom,20\n"
    for ending in ("csv", "ndjson", "json", "parquet"):
        assert run(app, ["query", str(place), sql, "-o", str(tmp_path / f"x.{ending}")]).exit_code == 0
    assert duckdb.execute(f"SELECT * FROM '{tmp_path}/x.parquet'").fetchall() == [("restart.oom", 20)]
    assert duckdb.execute(f"SELECT * FROM read_json('{tmp_path}/x.ndjson')").fetchall() == [("restart.oom", 20)]


def test_a_wide_row_is_shown_a_column_a_line_and_log_text_stays_quiet(place):
    shown = CliRunner().invoke(app, ["query", str(place), "SELECT * FROM closes WHERE family = 'unknown'"]).stdout
    assert "  websocket_close_reason " in shown
    assert not set(shown) & set("\x1b\x07\u202e\u2066\u200b")


def test_an_interrupted_exchange_leaves_the_old_result(tmp_path, monkeypatch):
    tables = made()
    made_up = analysis.Analysis(**{name: getattr(tables, name) for name in schema.TABLES})
    target = tmp_path / "result"
    results.save(made_up, target, {"note": "old"})
    rename, calls = Path.rename, []

    def interrupted(self, other):
        calls.append(other)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        results.save(made_up, target, {"note": "new"})
    assert (target / "note").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result"]
