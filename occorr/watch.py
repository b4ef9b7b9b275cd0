"""Live verdicts: what comes into a record is judged again and again, and what is news is told.

The loop reads the record, lets the window keep what matters, runs the pipeline over it soon after a line that can
matter, and tells verdicts once they stand. It never speaks to the engine and never waits for whoever is told.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import moments, schema
from occorr.follow import Threads
from occorr.schema import SECOND
from occorr.standing import Standing
from occorr.window import WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from occorr.analysis import Analysis
    from occorr.segments import Record
    from occorr.standing import Told
    from occorr.window import Window

QUIET_S: Final = 0.08  # after a line that can matter, wait for its company
HASTE_S: Final = 0.3  # … but not longer than this
TICK_S: Final = 0.05  # how often the record is looked at
REST_S: Final = 0.25  # after a judgement, rest as long as it took but not longer than this
SEAL_S: Final = 2.0  # how often closed journals are sealed
SEALED_S: Final = 60.0  # how long that may take at the end
RECENT: Final = (
    WIDTH // 2
)  # closes older than this may have lost evidence to the window: their verdicts stay as they are
TELLING: Final = frozenset(
    {"create", "start", "die", "oom", "health_status", "destroy", "kill", "restart", "pause", "unpause"}
)
UNSETTLING: Final = frozenset(
    {"create", "die", "oom", "destroy", "kill"}
)  # what may turn one kind of restart into another
TOLD: Final = "record.verdicts.jsonl"


@dataclass(slots=True)
class Watch:
    """One run of the loop.

    Args: record: what is followed into. window: keeps what matters. tell: gets each row, ready for JSON; `type` says of
    what: close, revised, container, gap, lost, reconnected, unreadable, end. monotonic: seconds. engine_ns: the
    engine's clock, ns since 1970. since_ns: closes before are not told.
    """

    record: Record
    window: Window
    tell: Callable[[dict[str, Any]], None]
    monotonic: Callable[[], float]
    engine_ns: Callable[[], int]
    since_ns: int = 0
    lines: int = 0
    events: int = 0
    lag_s: float = 0.0
    analyses: int = 0
    analysis_s: float = 0.0
    slowest_s: float = 0.0
    standing: Standing = field(default_factory=Standing)
    counts: Counter[str] = field(default_factory=Counter)
    _judged_s: float = float("-inf")
    _unsettling: bool = False  # whether news at hand tells of an end or of another container
    _sealer: Threads = field(default_factory=Threads)

    def run(self, until: Callable[[], bool]) -> None:
        """Until `until` says so and everything that came before was judged."""
        first = last = None
        sealed = self.monotonic()
        ending = False
        while True:
            ending = ending or until()
            rows, more = self.record.take(self.monotonic())
            now = self.monotonic()
            if rows.height and self._new(rows):
                first, last = first if first is not None else now, now
            # whoever waits for a verdict does not wait for the processor's rest as well
            rested = self.standing.next_s() is not None or now - self._judged_s >= min(self.analysis_s, REST_S)
            due = (
                first is not None and last is not None and rested and (now - last >= QUIET_S or now - first >= HASTE_S)
            )
            if due and (not more or (first is not None and now - first >= 1.0)):
                first = last = None
                self._judge()
            else:  # news at hand is judged first, unless the verdict is decisive and no such news can change it
                for told in self.standing.due(now, all_=first is None, decisive=not self._unsettling):
                    self._verdict(told)
            if now - sealed >= SEAL_S:
                sealed = now
                self._seal()
            if ending and not more and not rows.height and first is None and self.standing.next_s() is None:
                break
            if not more:
                self.record.wait(TICK_S)
        self._sealer.join(SEALED_S)

    def _new(self, rows: pl.DataFrame) -> bool:
        """Counts new lines, tells what happened to containers, and whether a verdict may change."""
        book = self.record.known()
        kinds = {n: s.kind for n, s in book.items()}
        counted = rows.group_by("number").len().rows()
        self.lines += sum(n for number, n in counted if kinds[number] == "log")
        self.events += sum(n for number, n in counted if kinds[number] == "events")
        matters = self.window.add(rows, book)
        self.lag_s = max(self.engine_ns() - self.window.now_ns, 0) / SECOND
        notes = [n for n, k in kinds.items() if k == "note"]
        for number, at, text in (
            rows.filter(pl.col("number").is_in([*notes, *(n for n, k in kinds.items() if k == "events")]))
            .select("number", "stamp", "raw")
            .rows()
        ):
            told = json.loads(text)
            if number in notes:
                if told["type"] != "stopped":
                    self.say({**told, "at": at})
            elif (
                told.get("Type") == "container"
                and int(told["timeNano"]) >= self.since_ns
                and (row := _container(told, at))
            ):
                self._unsettling = self._unsettling or row["action"] in UNSETTLING
                self.say(row)
        return matters

    def _judge(self) -> None:
        began = self.monotonic()
        self._unsettling = False
        result = self.window.judge()
        self.analyses += 1
        self.analysis_s = self.monotonic() - began
        self._judged_s = self.monotonic()
        self.slowest_s = max(self.slowest_s, self.analysis_s)
        gc.collect()
        if result is None:
            return
        moment = pl.coalesce("timestamp", "time_latest").cast(pl.Int64)
        floor = max(self.since_ns, self.window.now_ns - RECENT)
        rows = result.closes.filter(moment >= floor)
        present = set(rows.get_column("close_id").to_list())
        judged = set(result.closes.get_column("close_id").to_list())
        self.standing.forget([i for i in self.standing.known() if i not in present and i in judged])
        evidence = _evidence(result, present)
        for told in self.standing.see(_plain(rows), evidence, began):
            self._verdict(told)

    def _verdict(self, told: Told) -> None:
        newest = max((int(e["seen_ns"]) for e in told.evidence if e.get("seen_ns") is not None), default=None)
        lag = None if newest is None else round((self.engine_ns() - newest) / 1e6)
        evidence = [{k: v for k, v in e.items() if k not in ("close_id", "seen_ns")} for e in told.evidence]
        row: dict[str, Any] = {
            "type": "revised" if told.revised else "close",
            **told.close,
            "evidence": evidence,
            "lag_ms": lag,
        }
        if told.before is not None:
            row["was"] = {
                k: told.before[k]
                for k in ("cause", "verdict", "probability", "websocket_close_code", "http_status_proxy")
            }
        if told.replaces:
            row["replaces"] = list(told.replaces)
        self.say(row)

    def say(self, row: dict[str, Any]) -> None:
        """Tells a row."""
        self.counts[str(row["type"])] += 1
        self.tell({"schema_version": schema.VERSION, **row})

    def _seal(self) -> None:
        """Seals beside the loop: it costs a second for a full journal."""
        if self._sealer.failure is not None:
            raise self._sealer.failure
        if not self._sealer.busy:
            self._sealer.begin("seal", self.record.seal)


def _evidence(result: Analysis, closes: set[str]) -> list[dict[str, Any]]:
    """Rows of EVIDENCE, each with when the engine saw its line."""
    seen = result.timeline.select(
        "event_id", pl.coalesce("observed_timestamp", "timestamp").cast(pl.Int64).alias("seen_ns")
    ).unique("event_id", keep="first")
    own = result.evidence.filter(pl.col("close_id").is_in(list(closes))).join(
        seen, on="event_id", how="left", maintain_order="left"
    )
    return _plain(own)


def _plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as report.json has them: times ISO 8601 with ns."""
    return schema.plain(frame.with_columns(moments.isos(pl.col(pl.Datetime("ns", "UTC"))))).to_dicts()


def _container(told: dict[str, Any], at: str) -> dict[str, Any] | None:
    """What happened to a container, as a row; None for what happens all the time."""
    action, _, word = str(told["Action"]).partition(": ")
    if action not in TELLING:
        return None
    attributes = (told.get("Actor") or {}).get("Attributes") or {}
    code = attributes.get("exitCode")
    row = {
        "type": "container",
        "at": at,
        "action": action,
        "container": attributes.get("name"),
        "container_id": (told.get("Actor") or {}).get("ID"),
        "project": attributes.get("com.docker.compose.project"),
        "service": attributes.get("com.docker.compose.service"),
        "exit_code": int(code) if code and code.isdigit() else None,
        "signal": attributes.get("signal"),
        "health": word or None,
        "reconciled": told.get("scope") == "reconciled" or None,
    }
    return {k: v for k, v in row.items() if v is not None}
