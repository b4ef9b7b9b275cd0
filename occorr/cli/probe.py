"""WebSocket handshakes from where it runs."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from occorr.cli.base import app, note, write

if TYPE_CHECKING:
    from collections.abc import Iterator


@app.command()
def probe(
    url: Annotated[str, typer.Argument(metavar="URL", help="ws:// or wss://, as the failing side dials it")],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="where the rows go; otherwise to standard output, if that is no terminal",
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="how many handshakes; 10,000 at most")] = 100,
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="from one to the next; 0.05 at least")] = 0.2,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="for each step of a handshake", min=0.1, max=300)
    ] = 10.0,
    vantage: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="a name for where this runs, as inside or laptop; otherwise the host's"),
    ] = None,
    origin: Annotated[str | None, typer.Option(help="Origin header, as a browser sends it")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="do not check the certificate")] = False,
) -> None:
    """Tries the WebSocket handshake from here, and times connect, TLS, upgrade and first frame apart.

    Run it where the client runs (docker run --network container:NAME …) and once more outside; analyze and check
    compare the two.
    """
    from occorr import probe as probing  # noqa: PLC0415

    to = probing.target(url)
    rows: list[dict[str, Any]] = []

    def made() -> Iterator[dict[str, Any]]:
        made_ = probing.attempts(
            to,
            count=count,
            interval=interval,
            timeout=timeout,
            vantage=vantage or socket.gethostname(),
            origin=origin,
            verify=not insecure,
        )
        show = sys.stderr.isatty()
        for row in made_:
            if show:
                print(f"\r{row['n']}/{count} {row['result']:<16}", end="", file=sys.stderr, flush=True)
            yield row
        if show:
            print("\r" + " " * 40 + "\r", end="", file=sys.stderr)

    try:
        for row in made():
            rows.append(row)
            if out is None and not sys.stdout.isatty():
                print(probing.text(row), flush=True)
    finally:  # what was measured until Ctrl-C is worth keeping
        if rows:
            if out is not None:
                write(out, "".join(probing.text(r) + "\n" for r in rows).encode())
            note(probing.summary(rows))
