"""Scores against labels."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from occorr.cli.base import app, note, write
from occorr.errors import OccorrError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class ScoreForm(StrEnum):
    """Forms of the scores."""

    table = "table"
    json = "json"
    md = "md"
    html = "html"


@app.command(name="eval")
def evaluate(
    bundles: Annotated[Path, typer.Argument(metavar="BUNDLES", help="a folder with one folder an incident")],
    truth: Annotated[
        Path, typer.Option("--truth", metavar="DIR", help="a folder with the labels ID.jsonl of each incident")
    ],
    form: Annotated[
        ScoreForm, typer.Option("--format", help="form of the answer on standard output")
    ] = ScoreForm.table,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="write the scores here; .html, .md or .json")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB", help="leave these files of each incident away, as 'proxy.*.log'; may be given several times"
        ),
    ] = None,
    ablate: Annotated[
        bool,
        typer.Option(
            "--ablate", help="also score without Docker's events, the proxies' logs, the file log, and any two of them"
        ),
    ] = False,
) -> None:
    """Scores the verdicts against labelled incidents."""
    from occorr import evaluate as scoring  # noqa: PLC0415

    for folder in (bundles, truth):
        if not folder.is_dir():
            raise OccorrError(f"{folder}: no such directory; expected folders BUNDLES/ID and files TRUTH/ID.jsonl")
    if out is not None and out.suffix.lower() not in (".html", ".md", ".json"):
        raise OccorrError(f"-o {out}: the file's ending says the form; give one of .html, .json, .md")
    scores = scoring.score_all(bundles, truth, without=without or ())
    if not scores:
        raise OccorrError(
            f"{bundles} and {truth} share no incident; expected folders BUNDLES/ID and files TRUTH/ID.jsonl"
        )
    summary = scoring.summary(scores) | {"without": list(without or ())}
    if ablate:
        summary["ablation"] = scoring.ablation(scoring.score_ablated(bundles, truth))
    makers = _makers()
    if out is not None:
        write(out, makers[out.suffix.lower().removeprefix(".")](summary).encode())
        note(f"Written to {out}")
    if form is ScoreForm.table:
        from occorr.terminal import scores as shown  # noqa: PLC0415

        shown.scores(summary)
    else:
        sys.stdout.write(makers[form.value](summary))


def _makers() -> Mapping[str, Callable[[Mapping[str, Any]], str]]:
    from occorr import schema  # noqa: PLC0415
    from occorr.report import scores  # noqa: PLC0415

    return {
        "html": scores.html,
        "md": scores.markdown,
        "json": lambda s: (
            json.dumps({"schema_version": schema.VERSION, **s}, indent=1, sort_keys=True, default=str) + "\n"
        ),
    }
