"""Reports of logs or of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from occorr.cli.base import app, note
from occorr.cli.options import (
    Inputs,
    NoRedact,
    Tz,
    read_inputs,
)
from occorr.errors import OccorrError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable



@app.command()
def report(
    name: Annotated[str, typer.Argument(metavar="NAME", help="timeline")],
    inputs: Inputs,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="the file to write; .html, .md or .json")],
    tz: Tz = None,
    no_redact: NoRedact = False,
) -> None:
    """Writes a report of logs, or of a result directory without reading the logs again."""
    from occorr import report as reports, results  # noqa: PLC0415

    makers: dict[tuple[str, str], Callable[[Any], str]] = {("timeline", ".html"): reports.timeline_html, ("timeline", ".md"): reports.markdown, ("timeline", ".json"): reports.json_text}
    if name not in {n for n, _ in makers}:
        raise OccorrError(f"report {name!r} is unknown; {nearest(name, {n for n, _ in makers})}")
    if (name, out.suffix.lower()) not in makers:
        raise OccorrError(f"-o {out}: the file's ending says the form; give one of {', '.join(sorted(s for n, s in makers if n == name))}")
    single = Path(inputs[0])
    result = results.load(single) if len(inputs) == 1 and results.is_result(single) else read_inputs(inputs, None, None, tz, None, None, no_redact=no_redact)
    out.write_text(makers[name, out.suffix.lower()](result), encoding="utf-8")
    note(f"Written to {out}")
