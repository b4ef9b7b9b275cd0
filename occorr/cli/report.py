"""Reports of logs or of results."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from occorr.cli.base import TOO_HEAVY, app, note, weigh, write
from occorr.cli.options import (
    Anonymize,
    Clock,
    Inputs,
    NoRedact,
    Offset,
    Parsers,
    Project,
    Reading,
    RedactKey,
    Since,
    Tz,
    Until,
    Verdicts,
    corrected,
    moment,
    past,
    read_inputs,
)
from occorr.errors import EXIT_OK, EXIT_PARTIAL, OccorrError


@app.command()
def report(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="the report: a folder of reports/, as timeline or postmortem")
    ],
    inputs: Inputs,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help=(
                "the file to write; its ending says the form: .html, .md, .json, .csv, .parquet. Without it Markdown"
                " goes to standard output"
            ),
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    week: Annotated[
        str | None,
        typer.Option(metavar="WEEK", help="weekly: the week that it is about, as 2026-W46, told as at its end"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="write a page of more than 25 MB too")] = False,
    tz: Tz = None,
    offset: Offset = None,
    clock: Clock = None,
    project: Project = None,
    redact_key: RedactKey = None,
    no_redact: NoRedact = False,
    anonymize: Anonymize = False,
    parsers: Parsers = None,
    verdicts: Verdicts = None,
) -> None:
    """Writes a report of logs, or of a result directory without reading the logs again; weekly takes many of them, and --tz says whose weeks."""
    from occorr import analysis, results  # noqa: PLC0415
    from occorr.report import library  # noqa: PLC0415

    make = library.pick(name, out.suffix.lower().removeprefix(".") if out else "md")
    how = Reading(
        tz=tz,
        since=since,
        until=until,
        offset=offset,
        clock=clock,
        project=project,
        redact_key=redact_key,
        no_redact=no_redact,
        anonymize=anonymize,
        parsers=parsers,
        verdicts=verdicts,
    )
    single = Path(inputs[0])
    if week and library.over(name) != "weeks":
        raise OccorrError(f"--week is for reports of weeks; {name} takes --since and --until")
    if library.over(name) == "weeks":
        from occorr import history, weekly  # noqa: PLC0415 - brings scipy

        past_of = past(inputs, replace(how, since=None, until=None))
        window = moment("--since", since, tz), moment("--until", until, tz)
        made = make(weekly.weekly(history.clipped(past_of, *window), tz or "UTC", week or ""))
        partial = past_of.partial
    elif len(inputs) == 1 and results.is_result(single):
        how.not_for(single)
        result = corrected(results.load(single), [], verdicts)
        made = make(analysis.anonymized(result, how.checked()) if anonymize else result)
        partial = result.partial
    else:
        result = read_inputs(inputs, how)
        made, partial = make(result), result.partial
    _hand_over(made.encode() if isinstance(made, str) else made, out, force=force)
    raise typer.Exit(EXIT_PARTIAL if partial else EXIT_OK)


def _hand_over(data: bytes, out: Path | None, *, force: bool) -> None:
    """The report where it was asked for."""
    if out is None:
        sys.stdout.write(data.decode())
        return
    if out.suffix.lower() == ".html":
        if len(data) > TOO_HEAVY and not force:
            raise OccorrError(
                f"{out} would have {len(data) / 10**6:.0f} MB, which no tracker takes; narrow it with --since and --until,"
                " or write it all the same with --force"
            )
        weigh(str(out), len(data))
    write(out, data)
    note(f"Written to {out}")
