"""The last minutes of what is followed, small enough to be judged again at each new line.

Of each log the lines that a definition selects are kept, those around a close, the newest, and the openings of
connections that are still open. So the cost of a verdict depends on what matters and not on how much is written.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from occorr import analysis, decode, definitions, plans, relevance
from occorr.errors import NothingParsableError
from occorr.read import Blob
from occorr.redact import Redactor
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from occorr.analysis import Analysis, Taken
    from occorr.plans import Plan
    from occorr.segments import Source

WIDTH: Final = 600 * SECOND  # lines older than this leave, but for connections that are open
MOST: Final = 30_000  # lines kept of one log; then the oldest leave earlier
HEAD: Final = 100  # lines of a new log that are kept whole, to recognise it
NEWEST: Final = relevance.HEAD_TAIL * 2  # lines at the end of a log that are kept whole
REHEARSED: Final = ("openclaw", "docker_events")
OPENINGS: Final = ("websocket.open", "websocket.connected")
LIFE: Final = ("gateway.start", "gateway.listening", "gateway.ready")
OPEN: Final = 5_000  # openings that are kept beyond the width
RARELY: Final = 20 * SECOND  # a log of no known format is looked at again after this
# Execs flood: three for each health check. Only those that may have ended or reloaded something matter.
_EXECS: Final = r'"Action":"exec_'
_TOLD: Final = r'"Action":"exec_create[^"]*(?:reload|kill|graceful|HUP|USR2|-s (?:quit|stop))'
# A proxy's line of an ordinary request: a status of success, and nowhere a number that could be 101 or a failure.
_SUCCESS: Final = r"""[" :=](?:2\d\d|3\d\d)[", ]"""
_OTHER: Final = r"""(?i)[" :=](?:000|0|1\d\d|4\d\d|5\d\d)(?:[", }]|$)|websocket|upgrade"""
_EMPTY: Final = {"line": pl.Int64, "offset": pl.Int64, "raw": pl.String, "time_ns": pl.Int64}


@cache
def _words() -> tuple[str, str]:
    """What makes a line matter, and what makes its neighbours matter too."""
    formats = [f for f in definitions.builtin().formats.values() if f.source_kind != "docker"]
    closing = {s for f in formats for e in f.events if e.name in ("websocket.close", "cli.failure") for s in e.select}
    return decode.literals(
        tuple(sorted({*(s for f in formats for s in f.selects), *relevance.TROUBLE}))
    ), decode.literals(tuple(sorted(closing)))


def rehearse() -> None:
    """Judges the definitions' own samples once: what is loaded at first use, a solver above all, would make the first verdict late.

    They are given as a record gives lines, so that nothing is loaded which only files need.
    """
    import scipy.optimize  # noqa: F401, PLC0415 - joins and clocks load it when they first need it

    library, redactor = definitions.builtin(), Redactor(b"")
    taken = []
    for name in REHEARSED:
        lines = [sample.line for sample in library.formats[name].samples if sample.event][: HEAD // 10]
        rows = pl.DataFrame({"line": range(1, len(lines) + 1), "offset": 0, "raw": lines})
        taken.append(analysis.take(Blob(f"{name}.log", lines=partial(iter, [rows])), library, redactor))
    with suppress(NothingParsableError):
        analysis.attribute(taken)


@dataclass(slots=True)
class _Log:
    """What the window holds of one source."""

    source: Source
    kept: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_EMPTY))
    newest: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_EMPTY))
    everything: bool = False  # its format keeps all lines
    known: bool = True  # some line has a known format, or nobody looked yet
    stale: bool = True
    taken: Taken | None = None
    taken_at: int = 0
    seen: int = 0
    plans: list[Plan] | None = None
    planned: int = 0  # so many lines told how it is to be read


@dataclass(slots=True)
class Window:
    """The lines, and what was decoded of them.

    Attributes:
        redactor: as for the record; what is in it already stays as it is.
        now_ns: the newest stamp, ns since 1970, of the engine's clock.
    """

    redactor: Redactor
    now_ns: int = 0
    _logs: dict[int, _Log] = field(default_factory=dict)
    _forgotten: int = 0

    def add(self, rows: pl.DataFrame, book: Mapping[int, Source]) -> bool:
        """Takes new lines of the record.

        Args:
            rows: as `segments.parse` gives them.
            book: the record's sources by number.

        Returns:
            whether any of them can matter for a verdict.
        """
        if rows.is_empty():
            return False
        stamped = rows.with_columns(
            pl.col("stamp")
            .str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="ns", time_zone="UTC", strict=False)
            .cast(pl.Int64)
            .alias("time_ns")
        )
        self.now_ns = max(self.now_ns, int(str(stamped.get_column("time_ns").max() or 0)))
        matters = False
        for (number,), part in stamped.partition_by("number", as_dict=True, maintain_order=True).items():
            source = book[int(number)]
            if source.kind == "note":
                continue
            log = self._logs.setdefault(source.number, _Log(source))
            log.source = source
            matters = self._into(log, part.select(*_EMPTY)) or matters
        return matters

    def _into(self, log: _Log, part: pl.DataFrame) -> bool:
        raw = part.get_column("raw")
        if log.source.kind == "document":
            log.kept, log.stale = _own(part.tail(1)), True
            return True
        if log.source.kind == "events":
            hit = ~raw.str.contains(_EXECS) | raw.str.contains(_TOLD)
        elif log.everything:
            hit = ~raw.str.contains(_SUCCESS) | raw.str.contains(_OTHER)
        else:
            words, closing = _words()
            hit = raw.str.contains(words)
            if hit.any():
                near = raw.filter(hit).str.contains(closing)
                places = hit.arg_true().filter(near).to_numpy().astype(np.int64)
                mark = np.zeros(part.height + 1, dtype=np.int32)
                np.add.at(mark, np.maximum(places - relevance.AROUND, 0), 1)
                np.add.at(mark, np.minimum(places + relevance.AROUND + 1, part.height), -1)
                hit = hit | pl.Series(np.cumsum(mark[:-1]) > 0)
        early = max(HEAD - log.seen, 0)
        log.seen += part.height
        if early:
            hit = hit | pl.Series(np.arange(part.height) < early)
        log.newest = pl.concat([log.newest, _own(part.tail(NEWEST))]).tail(NEWEST)
        log.stale = True
        chosen = part.filter(hit)
        if chosen.is_empty():
            return False
        log.kept = pl.concat([log.kept, _own(chosen)]).tail(MOST)
        return log.known or self.now_ns - log.taken_at >= RARELY

    def judge(self) -> Analysis | None:
        """The verdicts of what the window holds, or None where it holds nothing of a known format."""
        self._forget()
        taken = []
        for log in self._logs.values():
            if log.taken is None or (log.stale and (log.known or self.now_ns - log.taken_at >= RARELY)):
                self._decode(log)
            if log.taken is not None:
                taken.append(log.taken)
        try:
            return analysis.attribute([t for t in taken if t.facts or t.events.height], redacted=self.redactor.enabled)
        except NothingParsableError:
            return None

    def _decode(self, log: _Log) -> None:
        library = definitions.builtin()
        if log.source.kind == "document":
            blob = Blob(log.source.path, log.kept.item(0, "raw").encode())
        else:
            rows = (
                pl.concat([log.kept, log.newest])
                .unique("line", keep="first", maintain_order=True)
                .sort("line")
                .select("line", "offset", "raw")
            )
            blob = Blob(log.source.path, lines=lambda: iter([rows]), root=log.source.root, origin=log.source.origin)
            if log.plans is None or not log.known or rows.height > 2 * log.planned:
                log.plans, log.planned = plans.plans(blob, library), rows.height
        log.taken = analysis.take(blob, library, self.redactor, known=log.plans)
        log.stale, log.taken_at = False, self.now_ns
        formats = [f.partition("/")[0] for f in log.taken.source.get_column("format").drop_nulls().to_list() if f]
        log.known = bool(formats) or log.source.kind != "log"
        log.kept = log.kept.filter(~pl.col("line").is_in(_requests(log.taken.events)))
        log.everything = any(library.formats[f].keep_all for f in formats if f in library.formats)

    def _forget(self) -> None:
        """Drops what is older than the window, but for connections that are open and the newest start of a gateway."""
        since = self.now_ns - WIDTH
        if since - self._forgotten < WIDTH // 10:
            return
        self._forgotten = since
        old = [
            log
            for log in self._logs.values()
            if log.source.kind in ("log", "events") and log.kept.filter(pl.col("time_ns") < since).height
        ]
        closed = _closed(log.taken.events for log in self._logs.values() if log.taken is not None)
        for log in old:
            held: pl.Series = pl.Series([], dtype=pl.Int64)
            if log.taken is not None and "event_name" in log.taken.events.columns:
                events = log.taken.events
                open_ = (
                    events.filter(pl.col("event_name").is_in(OPENINGS) & ~_conn(events).is_in(closed))
                    .get_column("log_line")
                    .tail(OPEN)
                )
                born = events.filter(pl.col("event_name").is_in(LIFE)).get_column("log_line").tail(2 * len(LIFE))
                held = pl.concat([open_, born])
            log.kept = log.kept.filter(
                (pl.col("time_ns") >= since).fill_null(value=False) | pl.col("line").is_in(held.to_list())
            )
            log.stale = True


def _own(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows without the piece that they were cut from: a selection of strings keeps all of their bytes alive."""
    return pl.DataFrame(rows.to_dict(as_series=False), schema=_EMPTY)


def _requests(events: pl.DataFrame) -> list[int]:
    """Lines of a proxy's ordinary requests, which closed no WebSocket and refused none."""
    if not {"event_name", "http_response_status_code"} <= set(events.columns):
        return []
    upgrade = (
        pl.col("http_upgrade").str.to_lowercase().eq_missing("websocket")
        if "http_upgrade" in events.columns
        else pl.lit(value=False)
    )
    return (
        events.filter(
            (pl.col("event_name") == "http.access")
            & pl.col("http_response_status_code").is_between(200, 399)
            & ~upgrade
        )
        .get_column("log_line")
        .to_list()
    )


def _conn(events: pl.DataFrame) -> pl.Expr:
    """A connection's short id: its beginning and end."""
    own = [pl.col("conn_short")] if "conn_short" in events.columns else []
    whole = (
        [pl.concat_str(pl.col("conn_id").str.slice(0, 8), pl.lit("…"), pl.col("conn_id").str.slice(-4))]
        if "conn_id" in events.columns
        else []
    )
    return pl.coalesce(*own, *whole, pl.lit(""))


def _closed(events: Iterable[pl.DataFrame]) -> list[str]:
    """Connections of which a close was logged."""
    found: list[str] = []
    for frame in events:
        if "event_name" in frame.columns:
            found += (
                frame.filter(pl.col("event_name") == "websocket.close")
                .select(_conn(frame).alias("c"))
                .get_column("c")
                .to_list()
            )
    return found
