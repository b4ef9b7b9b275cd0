"""Reports of logs or of results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from occorr.cli.base import app, note
from occorr.cli.options import (
    Anonymize,
    Inputs,
    NoRedact,
    RedactKey,
    Tz,
    Verdicts,
    corrected,
    read_inputs,
    redaction_key,
)
from occorr.errors import OccorrError


@app.command()
def report(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the report: a folder of reports/, as timeline or postmortem")],
    inputs: Inputs,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="the file to write; its ending says the form: .html, .md, .json, .csv, .parquet. Without it Markdown goes to standard output")] = None,
    tz: Tz = None,
    redact_key: RedactKey = None,
    no_redact: NoRedact = False,
    anonymize: Anonymize = False,
    verdicts: Verdicts = None,
) -> None:
    """Writes a report of logs, or of a result directory without reading the logs again."""
    from occorr import analysis, results  # noqa: PLC0415
    from occorr.report import library  # noqa: PLC0415

    make = library.pick(name, out.suffix.lower().removeprefix(".") if out else "md")
    single = Path(inputs[0])
    if len(inputs) == 1 and results.is_result(single):
        result = corrected(results.load(single), [], verdicts)
        if anonymize:
            result = analysis.anonymized(result, redaction_key(redact_key))
    else:
        result = read_inputs(inputs, None, None, tz, None, None, redact_key=redact_key, no_redact=no_redact, anonymize=anonymize, verdicts=verdicts)
    made = make(result)
    if out is None:
        sys.stdout.write(made if isinstance(made, str) else made.decode())
        return
    try:
        out.write_bytes(made.encode() if isinstance(made, str) else made)
    except OSError as error:
        raise OccorrError(f"-o {out}: cannot be written: {error.strerror}; give a file in a directory that exists") from error
    note(f"Written to {out}")
