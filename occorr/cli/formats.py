"""What is recognised."""

from __future__ import annotations

from typing import Annotated

import typer

from occorr.cli.base import App, app
from occorr.cli.options import (
    Parsers,
)

formats_app = App(
    no_args_is_help=True, help="What is recognised: formats and envelopes, with their samples.", rich_markup_mode=None
)
app.add_typer(formats_app, name="formats")


@formats_app.command("list")
def formats_list() -> None:
    """Every format and envelope, with its dialects and the file that defines it."""
    from occorr.terminal import inputs  # noqa: PLC0415

    inputs.formats()


@formats_app.command("show")
def formats_show(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """One definition: its dialects, events, time semantics and samples."""
    from occorr.terminal import inputs  # noqa: PLC0415

    inputs.format_details(name)


@formats_app.command("test")
def formats_test(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="a log, or - for standard input; with it a proxy's configuration"),
    ],
    parsers: Parsers = None,
) -> None:
    """Says for the lines of a file which format claims them, or where the nearest format stops matching."""
    from occorr.terminal.inputs import format_test  # noqa: PLC0415

    format_test(inputs, parsers)


@formats_app.command("from-nginx")
def formats_from_nginx(
    text: Annotated[
        str, typer.Argument(metavar="LOG_FORMAT", help="the string of a log_format, or the whole statement")
    ],
) -> None:
    """Prints the definition of an nginx log_format; save it as DIR/NAME.toml and give --parsers DIR."""
    from occorr import customs  # noqa: PLC0415

    print(customs.from_nginx(text), end="")


@formats_app.command("from-haproxy")
def formats_from_haproxy(
    text: Annotated[
        str, typer.Argument(metavar="LOG_FORMAT", help="the string of a log-format, or the whole statement")
    ],
) -> None:
    """Prints the definition of a HAProxy log-format; save it as DIR/NAME.toml and give --parsers DIR."""
    from occorr import customs  # noqa: PLC0415

    print(customs.from_haproxy(text), end="")


@formats_app.command("from-apache")
def formats_from_apache(
    text: Annotated[
        str, typer.Argument(metavar="LOG_FORMAT", help="the string of a LogFormat, or the whole statement")
    ],
) -> None:
    """Prints the definition of an Apache LogFormat; save it as DIR/NAME.toml and give --parsers DIR."""
    from occorr import customs  # noqa: PLC0415

    print(customs.from_apache(text), end="")
