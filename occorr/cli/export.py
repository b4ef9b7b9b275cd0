"""A result handed to other programs, and questions in SQL about it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from occorr.cli.base import app, note, write
from occorr.cli.options import Anonymize, Directory, RedactKey, stored
from occorr.errors import OccorrError


class To(StrEnum):
    """Whom the result is for."""

    timesketch = "timesketch"
    perfetto = "perfetto"
    otlp = "otlp"
    csv = "csv"
    parquet = "parquet"


class Unit(StrEnum):
    """Units of time in Parquet."""

    us = "us"
    ms = "ms"
    ns = "ns"


class Rows(StrEnum):
    """Forms of rows."""

    table = "table"
    csv = "csv"
    json = "json"
    ndjson = "ndjson"
    parquet = "parquet"


@app.command()
def export(
    directory: Directory,
    to: Annotated[
        To,
        typer.Option(
            "--to",
            help=(
                "timesketch (JSONL or CSV), perfetto (trace JSON), otlp (OpenTelemetry logs, JSON), csv, parquet (for"
                " Spark)"
            ),
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="PATH", help="the file; for csv and parquet the folder, a file a table"),
    ] = None,
    tables: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            metavar="NAME",
            help="csv, parquet: only this table; -o is then a file (may be repeated: a folder again)",
        ),
    ] = None,
    unit: Annotated[Unit, typer.Option("--time-unit", help="parquet: unit of the times; Spark reads no ns")] = Unit.us,
    redact_key: RedactKey = None,
    anonymize: Anonymize = False,
) -> None:
    """Hands a result to a program that others wrote; without -o to standard output."""
    from occorr import results, schema  # noqa: PLC0415
    from occorr.export import forms, timesketch  # noqa: PLC0415

    result = stored(directory, redact_key=redact_key, anonymize=anonymize)
    if not result.redacted:
        note(f"{directory} was written with --no-redact: what is exported holds secrets as the logs do.")
    if to.value in forms.TEXTS:
        if tables:
            raise OccorrError(f"--table is for csv and parquet; {to.value} takes the whole result")
        text = forms.text(to.value, out.suffix.lower() if out else "", result)
        if to is To.timesketch and (lost := timesketch.timeless(result)):
            note(f"{lost:,} lines and closes have no time and are left out.")
        _deliver(text.encode(), out)
        return
    made = forms.files(to.value, result, tables or list(schema.TABLES), unit.value)
    if len(made) == 1:
        _deliver(next(iter(made.values())), out)
        return
    if out is None:
        raise OccorrError(
            f"--to {to.value} writes a file a table: give a folder with -o, or one table with --table closes"
        )
    if results.is_result(out):
        raise OccorrError(f"-o {out} is a result directory, whose tables would be overwritten; give another folder")
    for name, data in made.items():
        write(out / name, data, folder=True)
    note(f"Written to {out}: {', '.join(made)}")


@app.command()
def query(
    directory: Directory,
    sql: Annotated[
        str,
        typer.Argument(
            metavar="SQL",
            help=(
                "one SELECT over closes, evidence, incidents, timeline, clocks, facts, sources; - reads it from"
                " standard input"
            ),
        ),
    ],
    form: Annotated[
        Rows | None, typer.Option("--format", help="form of the rows; by default the ending of -o, else a table")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="the file to write: .csv, .json, .ndjson, .parquet"),
    ] = None,
    redact_key: RedactKey = None,
    anonymize: Anonymize = False,
) -> None:
    """Asks the tables of a result in SQL, as: occorr query DIR "SELECT cause, sum(count) AS closes FROM closes GROUP BY cause"."""
    from occorr import query as asked  # noqa: PLC0415
    from occorr.report import tabular  # noqa: PLC0415

    ending = out.suffix.lower().removeprefix(".").replace("jsonl", "ndjson") if out else ""
    if form is None and ending not in {"", *(r.value for r in Rows if r is not Rows.table)}:
        raise OccorrError(
            f"-o {out}: the file's ending says the form; give .csv, .json, .ndjson or .parquet, or say --format"
        )
    form = form or Rows(ending or "table")
    if form is Rows.parquet and out is None:
        raise OccorrError("Parquet is no text: give a file with -o")
    if form is Rows.table and out is not None:
        raise OccorrError("a table is for the terminal; for a file give --format csv, json, ndjson or parquet")
    source = stored(directory, redact_key=redact_key, anonymize=True) if anonymize else directory
    answer = asked.query(source, sys.stdin.read() if sql == "-" else sql)
    if form is Rows.table:
        from occorr.terminal import rows  # noqa: PLC0415

        rows.show(answer)
        return
    data = (
        tabular.parquet(answer, "ns")
        if form is Rows.parquet
        else {Rows.csv: tabular.csv, Rows.json: tabular.json_text, Rows.ndjson: tabular.ndjson}[form](answer).encode()
    )
    _deliver(data, out)


def _deliver(data: bytes, out: Path | None) -> None:
    if out is not None:
        write(out, data)
        note(f"Written to {out}")
    elif sys.stdout.isatty() and data[:4] == b"PAR1":
        raise OccorrError("Parquet is no text: give a file with -o")
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
