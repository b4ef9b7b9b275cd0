"""The whole story of one close."""

from __future__ import annotations

from typing import Annotated

import typer

from occorr.cli.base import app
from occorr.cli.options import Anonymize, Directory, RedactKey, stored


@app.command()
def explain(
    close_id: Annotated[
        str,
        typer.Argument(
            metavar="CLOSE_ID",
            help="the close, the first characters of its id, or an incident (i001): its surest close",
        ),
    ],
    directory: Directory,
    redact_key: RedactKey = None,
    anonymize: Anonymize = False,
) -> None:
    """The whole chain of evidence of one close: file:line, the quoted text, and how far apart in time."""
    from occorr.terminal import story  # noqa: PLC0415

    story.explain(stored(directory, redact_key=redact_key, anonymize=anonymize), close_id)
