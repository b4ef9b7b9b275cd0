"""The live table of `occorr watch`."""

from __future__ import annotations

import threading
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from occorr.terminal.base import clean, console, label, percent
from occorr.terminal.verdicts import SHORT, STYLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from occorr.follow import Follower
    from occorr.watch import Watch

KEPT: Final = 500  # closes that are remembered for the table
A_SECOND: Final = 4  # how often it is drawn
_HEALTH: Final = {
    "healthy": "",
    "unhealthy": "bold red",
    "running": "",
    "exited": "bold red",
    "paused": "yellow",
    "removed": "dim",
}
_STATES: Final = {
    "create": "created",
    "start": "running",
    "unpause": "running",
    "die": "exited",
    "pause": "paused",
    "destroy": "removed",
}


@dataclass(slots=True)
class Board:
    """What was told, as a table shows it. Rows come from one thread and are drawn by another."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    closes: dict[str, dict[str, Any]] = field(default_factory=dict)
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    causes: Counter[str] = field(default_factory=Counter)
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=3))
    gaps: int = 0
    revised: int = 0

    def put(self, row: dict[str, Any]) -> None:
        """Takes a row that `watch` told."""
        with self.lock:
            kind = row["type"]
            if kind == "watching":
                self.containers |= {r["id"]: {**r, "restarts": 0, "died": False} for r in row["containers"]}
            elif kind == "container":
                self._container(row)
            elif kind in ("close", "revised"):
                self._close(row)
            elif kind == "gap":
                self.gaps += 1
                self.notes.append(
                    f"{_time(row['begin'])}–{_time(row['end'])} gap of {row['seconds']:.1f} s: no events."
                    f" {'; '.join(row['reconciled']) or 'inspect shows no change'}"
                )
            elif kind == "lost":
                self.notes.append(f"{_time(row['at'])} the engine broke off; waiting for it")
            elif kind == "reconnected":
                self.notes.append(f"{_time(row['at'])} connected again, nothing is missing")
            elif kind == "unreadable":
                self.notes.append(f"{_time(row['at'])} {row['container']}: its log cannot be read: {row['reason']}")

    def _close(self, row: dict[str, Any]) -> None:
        for ident in (row["close_id"], *row.get("replaces", ())):
            before = self.closes.pop(ident, None)
            if before is not None:
                self.causes[before["cause"]] -= max(int(before["count"] or 1), 1)
        self.revised += row["type"] == "revised"
        self.closes[row["close_id"]] = row
        self.causes[row["cause"]] += max(int(row["count"] or 1), 1)
        while len(self.closes) > KEPT:
            del self.closes[next(iter(self.closes))]

    def _container(self, row: dict[str, Any]) -> None:
        ident = str(row.get("container_id") or "")[:12]
        own = self.containers.setdefault(
            ident, {"container": row.get("container"), "state": "", "restarts": 0, "died": False}
        )
        action = row["action"]
        own["container"] = row.get("container") or own["container"]
        own["state"] = _STATES.get(action, own["state"])
        if action == "die":
            own |= {"died": True, "exit": row.get("exit_code"), "health": ""}
        elif action == "start":
            own["restarts"] += own["died"]
        elif action == "oom":
            own["oom"] = True
        elif action == "health_status":
            own["health"] = row.get("health")
        elif action == "destroy":
            self.containers.pop(ident)


def _line(text: object) -> str:
    """Log text that stays on its line."""
    return clean(text).replace("\n", " ")


def _time(text: str | None) -> str:
    """The time of day of a stamp."""
    return text[11:23] if text else "–"


@dataclass(frozen=True, slots=True)
class _Picture:
    """What is drawn; it fits itself into the window."""

    board: Board
    watched: Watch
    follower: Follower

    def __rich_console__(self, out: Console, options: ConsoleOptions) -> RenderResult:
        """The parts from top to bottom; closes take the room that is left, the newest first."""
        with self.board.lock:
            boxes = list(self.board.containers.values())
            notes = list(self.board.notes)
            closes = list(self.board.closes.values())
            causes = Counter({c: n for c, n in self.board.causes.items() if n > 0})
            gaps, revised = self.board.gaps, self.board.revised
        room = max(options.max_height or out.height, 12)
        boxes.sort(key=_urgency)
        shown = boxes[: max(room // 3, 3)]
        head = _head(self.watched, self.follower, len(boxes), gaps)
        parts: list[Any] = [head, _boxes(shown)]
        if len(shown) < len(boxes):
            parts.append(Text(f"… and {len(boxes) - len(shown)} more containers", style="dim"))
        parts += [Text(_line(n), style="yellow", no_wrap=True, overflow="ellipsis") for n in notes]
        total = sum(causes.values())
        told = ", ".join(f"{n} {c}" for c, n in causes.most_common(3))
        parts.append(
            Text(
                f"{_count(total, 'close')}{', ' + str(revised) + ' revised' if revised else ''}{': ' + told if told else ' yet'}",
                style="bold",
                no_wrap=True,
                overflow="ellipsis",
            )
        )
        left = room - len(shown) - len(notes) - 4 - (len(shown) < len(boxes))
        if closes and left > 0:
            parts.append(_closes(closes[::-1][:left], options.max_width))
        yield Group(*parts)


def _urgency(box: dict[str, Any]) -> tuple[int, str]:
    """What went wrong under watch first, what had ended before last."""
    wrong = box["died"] and box["state"] != "running"
    return (
        0 if wrong or box.get("health") == "unhealthy" else 1 if box["state"] == "running" else 2,
        str(box["container"]),
    )


def _count(number: int, what: str) -> str:
    """So many of something."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def _head(watched: Watch, follower: Follower, boxes: int, gaps: int) -> Text:
    state = ("connected", "green") if follower.connected else ("ENGINE GONE", "bold red")
    lag = f"lag {watched.lag_s:.1f} s" if watched.lag_s < 60 else "quiet"
    text = Text.assemble(
        state,
        "  ".join(
            [
                "",
                *(_count(n, w) for n, w in ((boxes, "container"), (watched.lines, "line"), (watched.events, "event"))),
                lag,
            ]
        ),
        (f"  {_count(gaps, 'gap')}" if gaps else "", "yellow"),
        no_wrap=True,
    )
    text.overflow = "ellipsis"
    return text


def _boxes(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=36)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for row in rows:
        state = str(row.get("health") if row["state"] == "running" and row.get("health") else row["state"] or "–")
        more = [
            f"exit {row['exit']}" if row["state"] == "exited" and row.get("exit") is not None else "",
            "out of memory" if row.get("oom") else "",
            f"restarted {row['restarts']}×" if row["restarts"] else "",
        ]
        table.add_row(
            _line(row["container"] or "–"),
            Text(_line(state), style=_HEALTH.get(state, "")),
            ", ".join(m for m in more if m),
        )
    return table


def _closes(rows: list[dict[str, Any]], width: int) -> Table:
    """A row a close; whose gateway it was is said where there are several or there is room."""
    wheres = {(r["compose_project"], r["service_name"]) for r in rows}
    whose, who = len(wheres) > 1 or width > 100, len(wheres) < 2 or width > 100
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    for options in ({}, {"max_width": 20}, {"max_width": 20}, {"max_width": 8}, {"max_width": 15}, {}):
        table.add_column(no_wrap=True, overflow="ellipsis", **options)  # type: ignore[arg-type]  # keywords of one type each
    for row in rows:
        client = row["client_address"] or ("cli" if "cli" in (row["observers"] or []) else "–")
        port = f":{row['client_port']}" if row["client_port"] else ""
        place = "/".join(str(p) for p in (row["compose_project"], row["service_name"]) if p) or "–"
        times = f" ×{row['count']}" if (row["count"] or 1) > 1 else ""
        was = (
            f" (was {row['was']['cause']})"
            if "was" in row and row["was"]["cause"] != row["cause"]
            else " (revised)"
            if "was" in row
            else ""
        )
        cells = (
            _time(row["timestamp"]),
            _line(place) if whose else "",
            _line(f"{client}{port}") if who else "",
            f"{label(row)}{times}",
            f"{SHORT.get(row['verdict'], row['verdict'])} {percent(row['probability'])}",
            f"{row['cause']}{was}",
        )
        table.add_row(*cells, style=STYLE.get(row["verdict"], ""))
    return table


def picture(board: Board, watched: Watch, follower: Follower) -> RenderableType:
    """The table as it is now, fitted to the window."""
    return _Picture(board, watched, follower)


@contextmanager
def screen(board: Board, watched: Watch, follower: Follower) -> Iterator[None]:
    """Draws the table until the block ends; a terminal that takes nothing holds up nobody but the drawing."""
    with Live(
        picture(board, watched, follower),
        console=console(),
        refresh_per_second=A_SECOND,
        screen=True,
        vertical_overflow="crop",
    ):
        yield


def farewell(board: Board, watched: Watch) -> None:
    """What stays on the terminal at the end: the closes that were told last, and the counts."""
    out = console()
    closes = list(board.closes.values())
    if closes:
        out.print(_closes(closes[-40:], out.width))
    told = ", ".join(f"{n} {c}" for c, n in board.causes.most_common() if n > 0)
    out.print(f"{_count(sum(board.causes.values()), 'close')}{': ' + told if told else ''}")
    out.print(
        f"{_count(watched.lines, 'line')} and {_count(watched.events, 'event')} were followed; {_count(board.gaps, 'gap')}"
    )
    for text in board.notes:
        out.print(_line(text))
