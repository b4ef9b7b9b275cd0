"""Reports of logs or of results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from occorr.cli.base import app, note, write
from occorr.cli.options import (
    Anonymize,
    Inputs,
    NoRedact,
    RedactKey,
    Tz,
    Verdicts,
    corrected,
    past,
    read_inputs,
    redaction_key,
)

if TYPE_CHECKING:
    from occorr.weekly import Weekly


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
    tz: Tz = None,
    redact_key: RedactKey = None,
    no_redact: NoRedact = False,
    anonymize: Anonymize = False,
    verdicts: Verdicts = None,
) -> None:
    """Writes a report of logs, or of a result directory without reading the logs again; weekly takes many of them, and --tz says whose weeks."""
    from occorr import analysis, results  # noqa: PLC0415
    from occorr.report import library  # noqa: PLC0415

    make = library.pick(name, out.suffix.lower().removeprefix(".") if out else "md")
    single = Path(inputs[0])
    if library.over(name) == "weeks":
        made = make(
            _weeks(inputs, tz, redact_key=redact_key, no_redact=no_redact, anonymize=anonymize, verdicts=verdicts)
        )
    elif len(inputs) == 1 and results.is_result(single):
        result = corrected(results.load(single), [], verdicts)
        made = make(analysis.anonymized(result, redaction_key(redact_key)) if anonymize else result)
    else:
        made = make(
            read_inputs(
                inputs,
                None,
                None,
                tz,
                None,
                None,
                redact_key=redact_key,
                no_redact=no_redact,
                anonymize=anonymize,
                verdicts=verdicts,
            )
        )
    if out is None:
        sys.stdout.write(made if isinstance(made, str) else made.decode())
        return
    write(out, made.encode() if isinstance(made, str) else made)
    note(f"Written to {out}")


def _weeks(inputs: list[str], tz: str | None, **redaction: Any) -> Weekly:
    """The weeks of all results that the inputs name or hold, and of the logs among them."""
    from occorr import weekly  # noqa: PLC0415

    return weekly.weekly(past(inputs, tz, **redaction), tz or "UTC")
