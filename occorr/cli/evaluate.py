"""Scores against labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from occorr.cli.base import app
from occorr.cli.options import (
    Form,
)
from occorr.errors import OccorrError


@app.command(name="eval")
def evaluate(
    bundles: Annotated[Path, typer.Argument(metavar="BUNDLES", help="a folder with one folder an incident")],
    truth: Annotated[Path, typer.Option("--truth", metavar="DIR", help="a folder with the labels ID.jsonl of each incident")],
    form: Annotated[Form, typer.Option("--format", help="table or json")] = Form.table,
) -> None:
    """Scores the verdicts against labelled incidents."""
    from occorr import evaluate as scoring  # noqa: PLC0415
    from occorr.terminal import scores as shown  # noqa: PLC0415

    scores = scoring.score_all(bundles, truth)
    if not scores:
        raise OccorrError(f"{bundles} and {truth} share no incident; expected folders BUNDLES/ID and files TRUTH/ID.jsonl")
    if form is Form.json:
        print(json.dumps({"schema_version": 1, **scoring.summary(scores)}, indent=1, sort_keys=True, default=str))
    else:
        shown.scores(scores, scoring.summary(scores))
