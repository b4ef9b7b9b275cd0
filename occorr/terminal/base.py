"""What every answer in a terminal shares: the console, safe text, and how times and places read."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rich.console import Console, ConsoleRenderable
from rich.segment import Segment, Segments
from rich.table import Table

from occorr.visible import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")
WIDTH: Final = 80  # off a terminal
VAGUE: Final = timedelta(seconds=1)  # a time that is known no better is told without a fraction, with its error


@dataclass(frozen=True, slots=True)
class _Cleaner:
    """The last stop before the screen: log text that slipped through cannot move the cursor, set colours or open links."""

    console: Console

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Every renderable as its segments, without control characters of their own."""
        return [
            Segments([s if s.control else Segment(plain(s.text), s.style) for s in self.console.render(r)])
            for r in renderables
        ]


def console(*, stderr: bool = False) -> Console:
    """Standard output or error: colours and the window's width on a terminal, plain text of 80 columns elsewhere."""
    tty = (sys.stderr if stderr else sys.stdout).isatty() and os.environ.get("TERM") != "dumb"
    made = Console(
        stderr=stderr,
        width=None if tty else WIDTH,
        force_terminal=None if tty else False,
        no_color=None if tty else True,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )
    made.push_render_hook(_Cleaner(made))  # type: ignore[arg-type]  # rich asks for its own base class, and uses this one method of it
    return made


def watched(inputs: Sequence[T]) -> Iterable[T]:
    """The inputs one by one, with a bar on standard error that goes when the last was read."""
    from rich.progress import track  # noqa: PLC0415 - most runs need none

    return track(inputs, "Reading", console=console(stderr=True), transient=True)


def clean(text: object) -> str:
    """Log text on one line without control characters, which could move the cursor or hide what stands there."""
    return plain(text).replace("\n", "␤")


def whole(line: str, indent: int = 6) -> Segments:
    """A command on one line, however long: whoever copies it gets no line break into it. Print it with `soft_wrap`."""
    return Segments([Segment(f"{' ' * indent}{clean(line)}\n")])


def clock(value: Any) -> str:
    """A time of day in ms, or a dash."""
    return f"{value:%H:%M:%S.%f}"[:-3] if value is not None else "–"


def about(row: dict[str, Any]) -> str:
    """A close's time of day, as exactly as it is known: 05:35:02.603, or 05:34:58 ±2s."""
    low, high = row["time_earliest"], row["time_latest"]
    if low is None or high is None or high - low < VAGUE:
        return clock(row["timestamp"])
    half = (high - low).total_seconds() / 2
    error = f"{half:.0f}s" if half < 100 else f"{half / 60:.0f}m" if half < 6000 else f"{half / 3600:.0f}h"
    return f"{low + (high - low) / 2:%H:%M:%S} ±{error}"


def bound(row: dict[str, Any]) -> str:
    """Half of a close's interval, as ±3 ms."""
    low, high = row["time_earliest"], row["time_latest"]
    if low is None or high is None:
        return ""
    ms = (high - low).total_seconds() * 500
    return f"±{ms:.0f} ms" if ms < 1000 else f"±{ms / 1000:.1f} s"


def label(row: dict[str, Any]) -> str:
    """Close code as the client or the gateway saw it, or the HTTP status of a refused upgrade."""
    if row["websocket_close_code"] is not None:
        return str(row["websocket_close_code"])
    status = row["http_status_proxy"]
    return f"HTTP {status}" if status and status != 101 else "–"


def place(path: str, line: int | None) -> str:
    """file:line, the file by its last part."""
    return f"{clean(path.rsplit('/', 1)[-1])}:{line}"


def percent(value: float | None) -> str:
    """A probability for people: never 0 % or 100 %."""
    return "–" if value is None else f"{min(99, max(1, round(value * 100)))} %"


def delta(ns: int | None, error: int | None) -> str:
    """How far apart in time two lines are, with the error, in ms or s."""
    if ns is None:
        return "(no time)"
    side = "after" if ns > 0 else "before"
    return (
        f"{abs(ns) / 1e6:,.1f} ms {side} ± {(error or 0) / 1e6:,.1f} ms"
        if abs(ns) < 10**10
        else f"{abs(ns) / 1e9:,.1f} s {side} ± {(error or 0) / 1e9:,.3f} s"
    )


def table(*columns: str, right: tuple[str, ...] = (), gap: int = 1) -> Table:
    """A table without lines; the columns named in `right` stand flush right, long cells fold."""
    out = Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    for name in columns:
        out.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return out
