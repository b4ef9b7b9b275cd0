"""Runs a command and stamps each line of its output."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from occorr.cli.base import app, complain, note
from occorr.errors import OccorrError


@app.command(context_settings={"allow_interspersed_args": False})
def record(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND…", help="the command, as you would type it")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="the file to write; otherwise occorr-record-TIME.jsonl here"),
    ] = None,
) -> None:
    """Runs a command, passes its output through, and writes each line with its time: it gives the CLI the time that its output lacks.

    Exits with the command's code; 125 if the recorder failed, 126 if the command could not be run, 127 if it does not
    exist.
    """
    from occorr import record as recording  # noqa: PLC0415

    if not command:
        raise OccorrError(
            "record needs a command; give it after --, as: occorr record -- openclaw gateway call health",
            recording.FAILED,
        )
    path = out or Path(time.strftime("occorr-record-%Y%m%dT%H%M%SZ.jsonl", time.gmtime()))
    code, failure = recording.run(command, path)
    if failure:
        complain(f"occorr: {failure}")
    elif out is None:
        note(f"Written to {path}; read it with: occorr analyze {path}, and the gateway's logs beside it")
    raise typer.Exit(code)
