"""The main job: verdicts of logs, and the story of one close."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from occorr.cli.base import app, ending, note, weigh
from occorr.cli.options import (
    AllLines,
    Anonymize,
    Clock,
    Form,
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
    read_inputs,
)
from occorr.errors import EXIT_FINDINGS, EXIT_OK, EXIT_PARTIAL, OccorrError, nearest
from occorr.visible import json_escaped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from occorr.analysis import Analysis


@app.command()
def analyze(
    inputs: Inputs,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="DIR", help="write all tables, report.md, report.json and timeline.html here"
        ),
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="form of the answer")] = Form.table,
    since: Since = None,
    until: Until = None,
    tz: Tz = None,
    offset: Offset = None,
    clock: Clock = None,
    project: Project = None,
    all_lines: AllLines = False,
    redact_key: RedactKey = None,
    no_redact: NoRedact = False,
    anonymize: Anonymize = False,
    parsers: Parsers = None,
    verdicts: Verdicts = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="exit with 1 if a close has one of these families or causes, as restart,auth.origin,unknown",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say how each input would be read")] = False,
) -> None:
    """Reads logs as they were found and says for each WebSocket close what caused it, how sure that is, and which lines prove it."""
    watched = _watched(fail_on)
    if dry_run:
        if form is not Form.table:
            raise OccorrError(
                f"--dry-run is for the terminal; --format {form.value} says nothing of how inputs are read"
            )
        _dry_run(inputs, parsers)
        return
    how = Reading(
        tz=tz,
        since=since,
        until=until,
        offset=offset,
        clock=clock,
        project=project,
        all_lines=all_lines,
        redact_key=redact_key,
        no_redact=no_redact,
        anonymize=anonymize,
        parsers=parsers,
        verdicts=verdicts,
    )
    result = read_inputs(inputs, how)
    if out is not None:
        _save(result, out)
    with ending(_code(result, watched)):
        _answer(result, form, brief=inputs == ["-"])


def _save(result: Analysis, out: Path) -> None:
    from occorr import report, results  # noqa: PLC0415

    texts = {
        "report.md": report.markdown(result),
        "report.json": report.json_text(result),
        "timeline.html": report.timeline_html(result),
    }
    results.save(result, out, texts)
    weigh("timeline.html", len(texts["timeline.html"].encode()))
    note(f"Written to {out}: timeline.html (open it in a browser), report.md, report.json and the tables as Parquet.")


def _watched(text: str | None) -> set[str]:
    if not text:
        return set()
    from occorr import schema  # noqa: PLC0415

    names = {w.strip() for w in text.split(",") if w.strip()}
    for name in sorted(names):
        if name not in schema.CAUSES and name not in schema.CAUSE_NAMES:
            raise OccorrError(
                f"--fail-on {name!r} is no family or cause; {nearest(name, {*schema.CAUSES, *schema.CAUSE_NAMES})}"
            )
    return names


def _code(result: Analysis, watched: set[str]) -> int:
    if watched:
        seen = {*result.closes.get_column("family").to_list(), *result.closes.get_column("cause").to_list()}
        if seen & watched:
            return EXIT_FINDINGS
    return EXIT_PARTIAL if result.partial else EXIT_OK


def _answer(result: Analysis, form: Form, *, brief: bool) -> None:
    """The answer on standard output."""
    if form is Form.table:
        from occorr.terminal import verdicts  # noqa: PLC0415

        verdicts.show(result, brief=brief)
        return
    from occorr import report  # noqa: PLC0415

    if form is Form.md:
        sys.stdout.write(report.markdown(result))
    elif form is Form.json:
        sys.stdout.write(report.json_text(result))
    else:
        data = json.loads(report.json_text(result))
        for row in data["closes"]:
            print(
                json_escaped(
                    json.dumps(
                        {"schema_version": data["schema_version"], "redacted": data["redacted"], **row},
                        ensure_ascii=False,
                        sort_keys=True,
                    )
                )
            )


def _dry_run(paths: Sequence[str], parsers: Path | None) -> None:
    from occorr.terminal import inputs  # noqa: PLC0415

    inputs.dry_run(paths, parsers)
