"""Before and after a change."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from occorr.cli.base import app, note, write
from occorr.cli.options import Anonymize, Parsers, Reading, RedactKey, Tz, Verdicts, pasts
from occorr.errors import EXIT_OK, EXIT_PARTIAL, OccorrError

if TYPE_CHECKING:
    from occorr.diff import Diff


class Forms(StrEnum):
    """Forms of the comparison."""

    table = "table"
    json = "json"
    md = "md"


@app.command()
def diff(
    before: Annotated[
        str, typer.Argument(metavar="BEFORE", help="a result directory, a folder of some, or logs of the time before")
    ],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="the same of the time after")],
    form: Annotated[
        Forms | None, typer.Option("--format", help="form of the answer; by default the ending of -o, else a table")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="the file to write: .md or .json")
    ] = None,
    tz: Tz = None,
    redact_key: RedactKey = None,
    anonymize: Anonymize = False,
    parsers: Parsers = None,
    verdicts: Verdicts = None,
) -> None:
    """Did the fix work: closes by cause before and after, per hour that the logs cover, and whether chance explains the difference."""
    from occorr import diff as diffs  # noqa: PLC0415

    ending = out.suffix.lower().removeprefix(".") if out else ""
    if form is None and ending not in ("", "md", "json"):
        raise OccorrError(f"-o {out}: the file's ending says the form; give .md or .json")
    form = form or Forms(ending or "table")
    if form is Forms.table and out is not None:
        raise OccorrError("a table is for the terminal; for a file give --format md or json")
    how = Reading(tz=tz, redact_key=redact_key, anonymize=anonymize, parsers=parsers, verdicts=verdicts)
    both = pasts([[before], [after]], how)
    _show(diffs.compare(*both), form, out)
    raise typer.Exit(EXIT_PARTIAL if any(side.partial for side in both) else EXIT_OK)


def _show(found: Diff, form: Forms, out: Path | None) -> None:
    """The comparison where and as it was asked for."""
    if form is Forms.table:
        from occorr.terminal import diff as shown  # noqa: PLC0415

        shown.show(found)
        return
    from occorr.report import comparison  # noqa: PLC0415

    text = comparison.markdown(found) if form is Forms.md else comparison.json_text(found)
    if out is None:
        sys.stdout.write(text)
        return
    write(out, text.encode())
    note(f"Written to {out}")
