"""The application that every command joins, and how it speaks on standard error."""

from __future__ import annotations

import sys

import typer

app = typer.Typer(
    name="occorr", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Attributes every WebSocket close of an OpenClaw gateway to its cause, with the lines that prove it.",
)  # fmt: skip


def note(text: str) -> None:
    """Tells people something beside the answer."""
    print(text, file=sys.stderr)
