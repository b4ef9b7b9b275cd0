"""The command line, a module a command. Only typer is imported up front: `occorr --help` must not pay for polars."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from occorr.cli import (  # noqa: F401 - a command joins when its module is imported
    analyze,
    check,
    collect,
    diff,
    evaluate,
    explain,
    export,
    formats,
    probe,
    record,
    report,
    rules,
    watch,
)
from occorr.cli.base import app, complain, left, quiet
from occorr.cli.defaults import FILE, load
from occorr.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, DefinitionError, OccorrError


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(envvar="OCCORR_CONFIG", metavar="FILE", help=f"values of options, instead of ./{FILE}"),
    ] = None,
    only_errors: Annotated[bool, typer.Option("-q", "--quiet", help="only the answer, and errors")] = False,
    version: Annotated[bool, typer.Option("--version", help="print the version and exit", is_eager=True)] = False,
) -> None:
    if version:
        from occorr import __version__  # noqa: PLC0415

        print(f"occorr {__version__}")
        raise typer.Exit(EXIT_OK)
    quiet.set(only_errors)
    load(ctx, config)


def main() -> None:
    """Runs the command line; every failure is one message and an exit code that scripts can read."""
    try:
        app()
    except DefinitionError as error:
        complain(f"occorr: {len(error.problems)} mistake{'s' * (len(error.problems) != 1)} in definitions:\n{error}")
        raise SystemExit(error.exit_code) from None
    except OccorrError as error:
        complain(f"occorr: {error}")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    except SystemExit as end:
        if not left(end):
            raise
        raise SystemExit(EXIT_OK) from None
    except BaseException as error:  # the last resort names the bug and where to look; a panic of polars is no Exception
        if os.environ.get("OCCORR_DEBUG"):
            raise
        complain(
            f"occorr: a bug in occorr: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}\nRun"
            " again with OCCORR_DEBUG=1 to see where, and report it with the command line."
        )
        raise SystemExit(EXIT_BUG) from None
