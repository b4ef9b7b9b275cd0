"""occorr export: each form is read by a program that others wrote, and says there what the tables say."""

from __future__ import annotations

import csv
import io
import json
import uuid

import duckdb
import polars as pl
import pytest
from google.protobuf import json_format
from hypothesis import given, settings, strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from report_tables import HOSTILE, made
from typer.testing import CliRunner

from occorr import analysis, results, schema
from occorr.cli import app, main
from occorr import encode
from occorr.export import otlp, perfetto, timesketch
from occorr.report import tabular
from occorr.report.tables import visible


@pytest.fixture(scope="module")
def tables():
    return made()


@pytest.fixture(scope="module")
def place(tables, tmp_path_factory):
    directory = tmp_path_factory.mktemp("export") / "result"
    results.save(analysis.Analysis(**{name: getattr(tables, name) for name in schema.TABLES}), directory, {})
    return directory


def sql(text):
    return duckdb.execute(text).fetchall()


def export(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


# Spark and spreadsheets


def test_parquet_for_spark_has_its_types_and_the_same_moments(place, tmp_path):
    assert export(place, "--to", "parquet", "-o", tmp_path / "spark").exit_code == 0
    types = dict(sql(f"SELECT path_in_schema, type FROM parquet_metadata('{tmp_path}/spark/closes.parquet')"))
    assert types["timestamp"] == types["client_port"] == "INT64"
    kinds = dict(sql(f"SELECT name, logical_type FROM parquet_schema('{tmp_path}/spark/closes.parquet')"))
    assert "MICROS=MicroSeconds()" in kinds["timestamp"]
    assert not [kind for kind in kinds.values() if kind and ("NANOS=NanoSeconds()" in kind or "isSigned=0" in kind)]
    difference = sql(
        f"""SELECT count(*), sum(epoch_ns(a.timestamp)::BIGINT - epoch_us(b.timestamp) * 1000), max(epoch_ns(a.time_latest) - epoch_us(b.time_latest) * 1000), min(epoch_ns(a.time_earliest) - epoch_us(b.time_earliest) * 1000)
        FROM '{place}/closes.parquet' a JOIN '{tmp_path}/spark/closes.parquet' b USING (close_id) WHERE a.timestamp IS NOT NULL"""
    )[0]
    assert difference[0] == sql(f"SELECT count(timestamp) FROM '{place}/closes.parquet'")[0][0]
    assert difference[1:] == (0, 0, 0)  # the invented times are whole milliseconds


def test_coarser_bounds_still_hold_the_moment():
    ns = 1_795_240_038_616_123_456
    frame = pl.DataFrame(
        {name: pl.Series([ns]).cast(schema.TS) for name in ("time_earliest", "timestamp", "time_latest")}
    )
    back = pl.read_parquet(tabular.parquet(frame, "us")).row(0)
    micros = [int(t.timestamp()) * 10**6 + t.microsecond for t in back]
    assert micros == [1_795_240_038_616_123, 1_795_240_038_616_123, 1_795_240_038_616_124]


def test_csv_is_read_back_by_duckdb_row_by_row(place, tmp_path):
    assert export(place, "--to", "csv", "-o", tmp_path / "sheets").exit_code == 0
    assert {p.name for p in (tmp_path / "sheets").iterdir()} == {f"{name}.csv" for name in schema.TABLES}
    read = sql(
        f"SELECT cause, sum(count::INT) FROM read_csv('{tmp_path}/sheets/closes.csv', all_varchar=true) GROUP BY cause ORDER BY cause"
    )
    assert read == sql(f"SELECT cause::VARCHAR, sum(count) FROM '{place}/closes.parquet' GROUP BY cause ORDER BY cause")


FORMULAS = [
    "=1+1",
    "+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "  =1",
    "|calc",
    "%0",
    "＝1+1",
    "\u200b=1",
    "\ufeff=1",
    "\n=1",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text):
    (cell,) = list(csv.reader(io.StringIO(tabular.csv(pl.DataFrame({"a": [text]})))))[1]
    assert cell.startswith(("'", "\\u{"))


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=5))
def test_csv_keeps_every_cell_whole_and_quiet(texts):
    read = list(csv.reader(io.StringIO(tabular.csv(pl.DataFrame({"a": texts, "b": range(len(texts))})))))
    assert [row[1] for row in read[1:]] == [str(i) for i in range(len(texts))]
    for (cell, _), text in zip(read[1:], texts, strict=True):
        assert cell in {visible(text), "'" + visible(text)}
        assert not cell or cell[0] not in "=+-@\t\r"


# OpenTelemetry


def records(text):
    for line in text.splitlines():
        for resource in json_format.Parse(line, LogsData()).resource_logs:
            about = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    yield about, scope.scope.name, record


def test_opentelemetry_reads_every_line_and_close(tables):
    read = list(records(otlp.jsonl(tables)))
    assert len(read) == tables.timeline.height + tables.closes.height
    times = sorted(record.time_unix_nano for _, scope, record in read if scope == "occorr")
    assert times == sorted(tables.timeline["timestamp"].dt.epoch("ns").to_list())
    closes = {
        a.value.string_value: record
        for _, scope, record in read
        if scope == "occorr.closes"
        for a in record.attributes
        if a.key == "occorr.close_id"
    }
    assert set(closes) == set(tables.closes["close_id"])
    assert closes["oom-0"].body.string_value == "restart.oom: decisive"
    assert next(a.value.int_value for a in closes["oom-0"].attributes if a.key == "occorr.websocket_close_code") == 1006
    bodies = {record.body.string_value for _, _, record in read}
    assert set(HOSTILE) <= bodies  # whole, since JSON holds any text


def test_what_opentelemetry_names_has_its_name():
    tables = made(lines=3, ordinary=0)
    about, _, record = next(r for r in records(otlp.jsonl(tables)) if "container oom" in r[2].body.string_value)
    assert about["service.namespace"] == "claw"
    assert about["container.id"] == "a" * 64
    assert {"log.file.path", "log.record.original"} <= {a.key for a in record.attributes}


def test_ids_are_hex_and_wide_numbers_are_strings():
    known = uuid.UUID("21222482-3c2b-438a-80eb-4098ae14e94e")
    tables = made(lines=1, ordinary=1, hostile=False)
    tables = type(tables)(
        **{name: getattr(tables, name) for name in schema.TABLES}
        | {"closes": tables.closes.with_columns(conn_id=pl.lit(str(known)))}
    )
    record = json.loads(otlp.jsonl(tables).splitlines()[-1])["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert record["traceId"] == known.hex
    assert isinstance(record["timeUnixNano"], str)
    numbers = [a["value"]["intValue"] for a in record["attributes"] if "intValue" in a["value"]]
    assert numbers
    assert all(isinstance(n, str) for n in numbers)
    assert isinstance(record["severityNumber"], int)


# Timesketch


def test_timesketch_has_its_three_columns_and_the_moment_twice(tables, place, tmp_path):
    for name in ("t.jsonl", "t.csv"):
        assert export(place, "--to", "timesketch", "-o", tmp_path / name).exit_code == 0
        file = (
            f"read_json('{tmp_path}/{name}', format='newline_delimited')"
            if name.endswith("jsonl")
            else f"read_csv('{tmp_path}/{name}', all_varchar=true)"
        )
        rows, wrong = sql(
            f"SELECT count(*), count(*) FILTER (message IS NULL OR timestamp_desc IS NULL OR epoch_us(datetime::TIMESTAMPTZ) <> timestamp::BIGINT) FROM {file}"
        )[0]
        timed = tables.timeline["timestamp"].count() + tables.closes["timestamp"].count() + 2 * tables.incidents.height
        assert (rows, wrong) == (timed, 0)
        assert sql(
            f"SELECT count(*) FROM {file} WHERE data_type = 'occorr:close' AND message = 'WebSocket close 1008: auth.token_mismatch (decisive, 99 %)'"
        ) == [(14,)]
        order = [t for (t,) in sql(f"SELECT timestamp::BIGINT FROM {file}")]
        assert order == sorted(order)
    told = export(place, "--to", "timesketch")
    assert "1 lines and closes have no time" in told.stderr


# all of them


@pytest.mark.parametrize(
    "make",
    [
        timesketch.jsonl,
        timesketch.csv,
        otlp.jsonl,
        perfetto.trace,
        lambda t: tabular.csv(t.closes),
        lambda t: tabular.ndjson(t.closes),
        lambda t: tabular.json_text(t.closes),
    ],
)
def test_nothing_that_moves_or_hides_leaves_in_any_text(make, tables):
    text = make(tables)
    assert not [c for c in set(text) if c != "\n" and (not c.isprintable() or c in "\u202e\u2066\u200b")]
    assert make(tables) == text


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_cells_say_what_they_held(text):
    line = pl.select(encode.members(a=encode.value(pl.lit(text)))).item()
    assert json.loads(line) == {"a": text}
    assert json.loads(encode.ascii_only(line)) == {"a": text}
    assert encode.ascii_only(line).isascii()


def test_empty_tables_have_every_form():
    nothing = analysis.Analysis(**{name: schema.empty(table) for name, table in schema.TABLES.items()})
    assert json.loads(perfetto.trace(nothing))["traceEvents"] == []
    assert otlp.jsonl(nothing) == timesketch.jsonl(nothing) == ""
    assert tabular.csv(nothing.closes).count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--to", "csv"), "give a folder with -o"),
        (("--to", "csv", "--table", "clos"), "did you mean 'closes'"),
        (("--to", "parquet", "-o", "{place}"), "would be overwritten"),
        (("--to", "perfetto", "-o", "{folder}/x.csv"), "perfetto comes as .json"),
        (("--to", "otlp", "--table", "closes"), "--table is for csv and parquet"),
        (("--to", "otlp", "-o", "{folder}/no/x.jsonl"), "cannot be written"),
    ],
)
def test_mistakes_on_the_command_line(place, tmp_path, arguments, told, monkeypatch, capsys):
    words = [word.format(place=place, folder=tmp_path) for word in arguments]
    monkeypatch.setattr("sys.argv", ["occorr", "export", str(place), *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, told in capsys.readouterr().err) == (2, True)
