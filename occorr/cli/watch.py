"""Live verdicts from a Docker engine."""

from __future__ import annotations

import errno
import gc
import importlib.util
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from occorr.cli.base import app, note
from occorr.cli.options import RedactKey, duration_ns, redaction_key
from occorr.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_PARTIAL, OccorrError
from occorr.moments import iso
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from occorr.follow import Follower
    from occorr.metrics import Metrics
    from occorr.segments import Record
    from occorr.watch import Watch

LOOK_BACK: Final = 600 * SECOND  # of logs and kept events that are read as context when it begins
# Frames are small here: one thread is as fast as many, and what is freed goes back to the system soon (38 MB of 319
# measured; at once would cost a third more of the processor).
LEAN: Final = {
    "POLARS_MAX_THREADS": "1",
    "_RJEM_MALLOC_CONF": "narenas:1,dirty_decay_ms:100,muzzy_decay_ms:0",
}
# A judgement gives up the interpreter at each of its thousands of calls into polars; with the usual 5 ms a reader of
# a busy log would hold it that long each time.
SWITCH_S: Final = 0.0005
LOOPBACK: Final = "127.0.0.1"
PATIENCE_S: Final = 5.0  # for those who read what is told, at the end
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_SIZES: Final = {"": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}


class Shown(StrEnum):
    """Forms of what is told."""

    auto = "auto"
    table = "table"
    ndjson = "ndjson"


@app.command()
def watch(
    project: Annotated[
        list[str] | None,
        typer.Option(
            "--project",
            "-p",
            metavar="NAME",
            help="a Compose project; may be repeated. Without --project and --container: every container of the engine",
        ),
    ] = None,
    container: Annotated[list[str] | None, typer.Option(metavar="NAME|ID", help="a container; may be repeated")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION", help="also tell closes that are up to so old, as 10m")
    ] = None,
    lasting: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="end after this time, as 30s or 2h")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="keep everything that was followed here; analyze and report read it"),
    ] = None,
    record_size: Annotated[
        str, typer.Option(metavar="SIZE", help="delete the oldest of the record above this size")
    ] = "1GB",
    record_age: Annotated[str, typer.Option(metavar="DURATION", help="… and what is older")] = "14d",
    form: Annotated[
        Shown,
        typer.Option("--format", help="a live table, or a line of JSON for each thing; auto: a table on a terminal"),
    ] = Shown.auto,
    on_close: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="run this for each close: the row as JSON on its standard input and in OCCORR_… variables; no shell",
        ),
    ] = None,
    on_close_rate: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="at most so often a minute; the rest is counted in OCCORR_SUPPRESSED"),
    ] = 30,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS:]PORT", help="serve Prometheus metrics, on loopback unless an address is given"),
    ] = None,
    redact_key: RedactKey = None,
) -> None:
    """Follows a Docker engine and tells each WebSocket close with its cause as it happens; a verdict that changes is told again."""
    _lean()
    from occorr import segments  # noqa: PLC0415

    limits = segments.Limits(_size("--record-size", record_size), duration_ns("--record-age", record_age) / SECOND)
    settings = _Settings(
        projects=tuple(project or ()),
        containers=tuple(container or ()),
        back_ns=duration_ns("--since", since) if since else 0,
        seconds=duration_ns("--for", lasting) / SECOND if lasting else None,
        table=form is Shown.table or (form is Shown.auto and sys.stdout.isatty()),
        command=_command(on_close),
        rate=on_close_rate,
        metrics=_port(metrics),
        key=redaction_key(redact_key),
    )
    with ExitStack() as stack:
        if (
            record is None
        ):  # the record is also the queue between reading and judging: without a place of its own it is short and goes at the end
            record, limits = (
                Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="occorr-"))) / "record",
                segments.Limits(0, 0.0),
            )
        kept = segments.Record(record, limits)
        stack.callback(kept.close)
        try:
            code = _run(stack, kept, settings)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise OccorrError(
                f"{record}: the record ends here: {error.strerror}; what came before is there", EXIT_PARTIAL
            ) from error
    raise typer.Exit(code)


def _lean() -> None:
    """Sets this process up to run for days beside what it watches."""
    for name, value in LEAN.items():  # read once, when polars is loaded
        os.environ.setdefault(name, value)
    sys.setswitchinterval(SWITCH_S)
    # the SDK loads it for every engine: 18 MB that only SSH needs
    if "paramiko" not in sys.modules and importlib.util.find_spec("paramiko") is not None:
        sys.modules["paramiko"] = _Late("paramiko")


class _Late(ModuleType):
    """A module that is loaded when something of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        """What the module itself has under that name."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@dataclass(frozen=True, slots=True)
class _Settings:
    projects: tuple[str, ...]
    containers: tuple[str, ...]
    back_ns: int
    seconds: float | None
    table: bool
    command: list[str] | None
    rate: int
    metrics: tuple[str, int] | None
    key: bytes | None


def _run(stack: ExitStack, record: Record, settings: _Settings) -> int:
    """Follows until the time is over or somebody interrupts."""
    import secrets  # noqa: PLC0415

    from occorr import engine, follow, redact, tell, watch as watching, window  # noqa: PLC0415

    redactor = redact.Redactor(
        settings.key or secrets.token_bytes(32)
    )  # a key that nobody has: secrets cannot be tried against the fingerprints
    begun = time.time_ns()
    follower = follow.Follower(
        lambda: engine.connect(redactor),
        follow.Scope(settings.projects, settings.containers),
        record,
        time.time_ns,
        begun - max(LOOK_BACK, settings.back_ns),
    )
    tellers: list[Callable[[dict[str, Any]], None]] = []

    def to_all(row: dict[str, Any]) -> None:
        for put in tellers:
            put(row)

    watched = watching.Watch(
        record, window.Window(redactor), to_all, time.monotonic, lambda: time.time_ns() + follower.skew_ns
    )
    ended = _signals(stack)
    served = _serve(settings.metrics, watched, follower) if settings.metrics else None
    connected = follower.start()
    stack.callback(follower.stop)
    if served is not None:
        stack.callback(served.close)
        tellers.append(served.put)
        note(f"Metrics: http://{served.address}:{served.port}/metrics")
    hook = tell.Hook(settings.command, settings.rate, time.monotonic) if settings.command else None
    if hook is not None:
        tellers.append(hook.put)
    watched.since_ns = begun + follower.skew_ns - settings.back_ns
    for rows in record.recent(watched.since_ns - LOOK_BACK):
        watched.window.add(rows, record.known())
    deadline = None if settings.seconds is None else time.monotonic() + settings.seconds
    outbox = None if settings.table else tell.Outbox(sys.stdout.buffer)

    def until() -> bool:
        if follower.failure is not None:
            raise follower.failure
        over = (
            ended.is_set()
            or (deadline is not None and time.monotonic() >= deadline)
            or (outbox is not None and outbox.broken)
        )
        if over:
            follower.stop()
        return over

    window.rehearse()  # what it follows is recorded meanwhile
    gc.freeze()
    started = {
        "type": "watching",
        "at": iso(watched.engine_ns()),
        "engine": connected.address,
        "version": connected.version,
        "containers": follower.followed(),
    }
    if outbox is not None:
        tellers.append(outbox.put)
        watched.say(started)
        watched.run(until)
        watched.say(
            {
                "type": "end",
                "at": iso(watched.engine_ns()),
                "lines": watched.lines,
                "events": watched.events,
                "analyses": watched.analyses,
                "slowest_analysis_s": round(watched.slowest_s, 3),
                "counts": dict(sorted(watched.counts.items())),
            }
        )
        outbox.close(PATIENCE_S)
    else:
        from occorr.terminal import live  # noqa: PLC0415

        board = live.Board()
        tellers.append(board.put)
        watched.say(started)
        with live.screen(board, watched, follower):
            watched.run(until)
        live.farewell(board, watched)
    if hook is not None:
        hook.close(PATIENCE_S)
        if hook.failed:
            note(f"occorr: --on-close failed {hook.failed} of {hook.ran} times; the last: {hook.trouble}")
    return EXIT_INTERRUPTED if ended.is_set() else EXIT_OK


def _signals(stack: ExitStack) -> threading.Event:
    """Set by Ctrl-C and SIGTERM; a second one has its usual effect."""
    ended = threading.Event()
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def end(number: int, _: object) -> None:
        ended.set()
        signal.signal(number, usual[signal.Signals(number)])

    for number, handler in usual.items():
        signal.signal(number, end)
        stack.callback(signal.signal, number, handler)
    return ended


def _serve(place: tuple[str, int], watched: Watch, follower: Follower) -> Metrics:
    from occorr import metrics  # noqa: PLC0415

    return metrics.Metrics(
        *place,
        {
            "occorr_engine_connected": (
                "1 while the engine's events are being read",
                lambda: float(follower.connected),
            ),
            "occorr_lag_seconds": ("the engine's time minus the newest stamp at the last look", lambda: watched.lag_s),
            "occorr_analysis_seconds": ("how long the last judgement took", lambda: watched.analysis_s),
            "occorr_lines_read": ("lines of logs since the start", lambda: float(watched.lines)),
            "occorr_events_read": ("events of the engine since the start", lambda: float(watched.events)),
        },
    )


def _command(text: str | None) -> list[str] | None:
    if text is None:
        return None
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise OccorrError(
            f"--on-close {text!r}: {error}; quote its words as for a shell, though none is started"
        ) from error
    if not words or shutil.which(words[0]) is None:
        raise OccorrError(f"--on-close {text!r}: there is no program {words[0] if words else ''!r}; give its path")
    return words


def _port(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(?:\[?([^\]]+?)\]?:)?(\d{1,5})", text)
    if not found or int(found[2]) > 65_535:
        raise OccorrError(f"--metrics {text!r} was not understood; give PORT or ADDRESS:PORT, as 9464 or 0.0.0.0:9464")
    return found[1] or LOOPBACK, int(found[2])


def _size(option: str, text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmg]b?)?", text.strip().lower())
    if not found:
        raise OccorrError(f"{option} {text!r} was not understood; give a size as 500MB or 2GB")
    return int(float(found[1]) * _SIZES[found[2] or ""])
