"""Thresholds for a change ticket or for CI."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from occorr.cli.base import app, ending, note, write
from occorr.cli.options import Anonymize, NoRedact, Parsers, Project, Reading, RedactKey, Tz, read_inputs, stored
from occorr.errors import EXIT_FINDINGS, EXIT_OK, EXIT_PARTIAL, OccorrError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from occorr.policy import Judgement


class Shape(StrEnum):
    """Forms of the answer."""

    table = "table"
    json = "json"


@app.command()
def check(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT…",
            help="log files, directories, patterns, - for standard input, or a result directory",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="thresholds of your own over the defaults, as occorr-policy.toml"),
    ] = None,
    form: Annotated[Shape, typer.Option("--format", help="form of the answer")] = Shape.table,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="write JUnit XML for CI")] = None,
    require_data: Annotated[bool, typer.Option("--require-data", help="a figure without data is a breach too")] = False,
    listed: Annotated[bool, typer.Option("--list", help="only show all figures and their limits")] = False,
    tz: Tz = None,
    project: Project = None,
    redact_key: RedactKey = None,
    no_redact: NoRedact = False,
    anonymize: Anonymize = False,
    parsers: Parsers = None,
) -> None:
    """Holds the figures of logs or of a result directory against thresholds: pass, fail or no data. Ends with 1 when one is broken."""
    from occorr import figures, policy as policies, results  # noqa: PLC0415

    limits = policies.load(policy) if policy is not None else policies.default()
    if listed:
        from occorr.terminal import checks  # noqa: PLC0415

        checks.limits(limits)
        return
    if not inputs:
        raise OccorrError("nothing to check; give logs, or a directory that analyze -o wrote")
    single = Path(inputs[0])
    how = Reading(
        tz=tz, project=project, redact_key=redact_key, no_redact=no_redact, anonymize=anonymize, parsers=parsers
    )
    if len(inputs) == 1 and results.is_result(single):
        how.not_for(single)
        result = stored(single, redact_key=redact_key, anonymize=anonymize)
    else:
        result = read_inputs(inputs, how)
    judged = policies.judge(figures.figures(result), limits)
    counts = {status: sum(j.status == status for j in judged) for status in ("fail", "pass", "no-data")}
    if junit is not None:
        _write_junit(judged, junit, require_data=require_data)
    breached = counts["fail"] or (require_data and counts["no-data"])
    for banner in result.banners:
        note(banner)
    with ending(EXIT_FINDINGS if breached else EXIT_PARTIAL if result.partial else EXIT_OK):
        if form is Shape.json:
            print(json.dumps(_document(judged, counts), ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False))
        else:
            from occorr.terminal import checks  # noqa: PLC0415

            checks.show(judged, counts)


def _write_junit(judged: Sequence[Judgement], path: Path, *, require_data: bool) -> None:
    from occorr.report import junit  # noqa: PLC0415

    write(path, junit.junit(judged, require_data=require_data).encode())
    note(f"Written to {path}")


def _document(judged: Sequence[Judgement], counts: dict[str, int]) -> dict[str, Any]:
    from occorr import schema  # noqa: PLC0415

    rows = [
        {
            "figure": j.figure.id,
            "title": j.figure.title,
            "scope": j.figure.scope,
            "status": j.status,
            "value": j.figure.value,
            "at_least": j.figure.floor,
            "unit": j.figure.unit,
            "n": j.figure.n,
            "max": j.limit.max,
            "min": j.limit.min,
            "min_n": j.limit.min_n,
            "reason": j.reason,
            "note": j.figure.note,
            "lines": [{"path": p.path, "line": p.line} for p in j.figure.lines],
        }
        for j in judged
    ]
    return {
        "schema_version": schema.VERSION,
        "summary": {"fail": counts["fail"], "pass": counts["pass"], "no_data": counts["no-data"]},
        "checks": rows,
    }
