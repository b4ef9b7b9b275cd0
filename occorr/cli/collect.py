"""Evidence from a Docker engine into a bundle."""

from __future__ import annotations

import secrets
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from occorr.cli.base import app, note
from occorr.cli.options import RedactKey, duration_ns, moment, redaction_key
from occorr.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_PARTIAL, OccorrError


@app.command()
def collect(
    project: Annotated[
        list[str] | None,
        typer.Option("--project", "-p", metavar="NAME", help="a Compose project; may be given several times"),
    ] = None,
    container: Annotated[
        list[str] | None, typer.Option("--container", metavar="NAME|ID", help="a container; may be given several times")
    ] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="from when on: 1h, ISO 8601, or '2 hours ago'")] = "1h",
    until: Annotated[str | None, typer.Option(metavar="TIME", help="until when; now if not given")] = None,
    follow: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="go on for so long: 30s, 10m, 1h30m; Ctrl-C ends it earlier and keeps what is there",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR|FILE.tar.zst",
            help=(
                "the bundle: a directory, or an archive (.tar, .tar.gz, .tar.zst, .tar.xz); named after project and"
                " time if not given"
            ),
        ),
    ] = None,
    files: Annotated[
        bool,
        typer.Option(
            "--files",
            help=(
                "also the gateway's file log and openclaw.json, and the proxies' log files and configuration, from"
                " inside the containers"
            ),
        ),
    ] = False,
    path: Annotated[
        list[str] | None,
        typer.Option("--path", metavar="CONTAINER:PATH", help="a further log file or folder from inside a container"),
    ] = None,
    redact_key: RedactKey = None,
    tz: Annotated[str | None, typer.Option(help="IANA zone of --since and --until where they name none")] = None,
) -> None:
    """Takes what a Docker engine still knows of an incident into a bundle that analyze reads; no secret is written.

    The engine keeps 256 past events and forgets them when it restarts: collect soon, or with --follow.
    """
    from occorr import bundle, collect as collecting, engine as engines  # noqa: PLC0415
    from occorr.redact import Redactor  # noqa: PLC0415

    if follow is not None and until is not None:
        raise OccorrError(
            "--follow and --until contradict each other: a bundle that follows ends when the duration is over"
        )
    follow_ns = duration_ns("--follow", follow) if follow is not None else 0
    paths = tuple(_path(p) for p in path or ())
    engine = engines.connect(
        Redactor(redaction_key(redact_key) or secrets.token_bytes(32))
    )  # a key that is thrown away: nobody can try secrets against the fingerprints
    if not project and not container:
        raise OccorrError(_who(engine))
    target = (
        out
        if out is not None
        else Path(f"{(project or container or ['bundle'])[0]}-{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.tar.zst")
    )
    bundle.free(target)
    since_ns = moment("--since", since, tz)
    wanted = collecting.Wanted(
        tuple(project or ()),
        tuple(container or ()),
        since_ns or 0,
        moment("--until", until, tz),
        follow_ns,
        files,
        paths,
    )
    interrupted = threading.Event()
    with bundle.writing(target) as draft:
        # without --follow there is nothing to end early: then a signal throws away what was begun, and leaves nothing there
        interrupt = _Interrupt(interrupted, following=bool(follow_ns))
        before = {n: signal.signal(n, interrupt.handle) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            about = collecting.collect(engine, wanted, draft, tell=note, interrupted=interrupted)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        manifest = bundle.finish(draft, target, about)
    _tell(manifest, target)
    code = EXIT_PARTIAL if any(m["asked"] for m in manifest["missing"]) else EXIT_OK
    raise typer.Exit(EXIT_INTERRUPTED if interrupted.is_set() else code)


def _path(text: str) -> tuple[str, str]:
    name, colon, place = text.partition(":")
    if not colon or not name or not place.startswith("/"):
        raise OccorrError(f"--path {text!r} was not understood; give CONTAINER:/PATH, as proxy:/var/log/nginx")
    return name, place


def _who(engine: Any) -> str:
    """What could be asked for."""
    from occorr import engine as engines  # noqa: PLC0415

    found = engines.containers(engine)
    projects = sorted({c.project for c in found if c.project})
    alone = [c.name for c in found if not c.project]
    told = "; ".join(
        t
        for t in (
            f"projects here: {', '.join(projects)}" if projects else "",
            f"containers: {', '.join(alone)}" if alone else "",
        )
        if t
    )
    return f"give --project NAME or --container NAME; {told or 'the engine has no containers at all'}"


class _Interrupt:
    """The first Ctrl-C or SIGTERM ends the following; the second one, or one where nothing is followed, everything."""

    def __init__(self, event: threading.Event, *, following: bool) -> None:
        self.event, self.following = event, following

    def handle(self, _signal: int, _frame: FrameType | None) -> None:
        """What the signal calls."""
        if self.event.is_set() or not self.following:
            raise KeyboardInterrupt
        self.event.set()
        note("ending; once more to throw everything away")


def _tell(manifest: dict[str, Any], target: Path) -> None:
    lines = sum(c["lines"] for c in manifest["containers"])
    count, events = len(manifest["containers"]), manifest["events"]["count"]
    note(
        f"{count} container{'s' * (count != 1)}, {lines:,} log line{'s' * (lines != 1)}, {events} event{'s' * (events != 1)} from"
        f" {manifest['events']['covered_from']} on"
    )
    for row in manifest["missing"]:
        note(f"could not be had: {row['what']}: {row['why']}")
    note(f"Next: occorr analyze {target}")
    print(target)
