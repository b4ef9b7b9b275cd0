"""How causes are recognised."""

from __future__ import annotations

from typing import Annotated

import typer

from occorr.cli.base import App, app
from occorr.errors import EXIT_FINDINGS, EXIT_OK

rules_app = App(
    no_args_is_help=True, help="How causes are recognised: the rules, with their cases.", rich_markup_mode=None
)
app.add_typer(rules_app, name="rules")


@rules_app.command("list")
def rules_list() -> None:
    """Every cause with its rules and their strength."""
    from occorr.terminal import rules  # noqa: PLC0415

    rules.rules()


@rules_app.command("show")
def rules_show(cause: Annotated[str, typer.Argument(metavar="CAUSE")]) -> None:
    """One cause: what its rules need, what they say, what to check first."""
    from occorr.terminal import rules  # noqa: PLC0415

    rules.rule_details(cause)


@rules_app.command("test")
def rules_test() -> None:
    """Runs the cases of every rule file."""
    from occorr.terminal import rules  # noqa: PLC0415

    raise typer.Exit(EXIT_OK if rules.rule_cases() else EXIT_FINDINGS)
