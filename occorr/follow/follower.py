"""Follows an engine into a record: its events, the logs of the containers in scope, and what inspect says of them.

Each log has a thread of its own, so have the events: whoever reads slowly loses events without a word. All of them only
append to the record, which is on disk; nobody who judges or prints can hold them up. What an engine that restarted has
forgotten is a gap: it is bounded, noted, and what inspect still knows of it is written down as events that say so.
"""

from __future__ import annotations

import json
import queue
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from occorr import engine as engines
from occorr.engine import EngineError, EngineLostError
from occorr.follow import gaps
from occorr.follow.events import EventReader
from occorr.follow.gaps import Life
from occorr.follow.logs import REMEMBERED, LogReader
from occorr.follow.threads import Threads
from occorr.moments import iso
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from occorr.engine import Container, Engine, Event, Line
    from occorr.segments import Record

EVENTS: Final = "docker.events.jsonl"
NOTES: Final = "record.notes.jsonl"
MANIFEST: Final = "manifest.json"
SETTLED: Final = (
    0.7  # seconds after a new connection until its kept events have come (a death is told up to 0.23 s late)
)
ROUND: Final = 3.0  # seconds between looks at which containers there are
PATIENCE: Final = 5.0  # seconds that the threads have to end once their streams are closed
CHANGES: Final = frozenset(
    {"create", "start", "die", "oom", "health_status", "rename", "update", "pause", "unpause", "restart", "destroy"}
)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which containers are followed; without projects and names all of them."""

    projects: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether no choice was made."""
        return not self.projects and not self.names

    def holds(self, ident: str, name: str, project: str) -> bool:
        """Whether a container is followed."""
        return (
            self.everything
            or project in self.projects
            or name in self.names
            or any(len(n) >= 12 and ident.startswith(n) for n in self.names)
        )


@dataclass(frozen=True, slots=True)
class _Break:
    """A time without the engine, until it is reconciled: its last event before, when it was lost, and why."""

    last_ns: int
    lost_ns: int
    why: str


class Follower:
    """Follows until `stop`.

    Args:
        connect: finds the engine; called again whenever it was lost.
        scope: which containers.
        record: where everything goes.
        now_ns: this machine's clock, ns since 1970.
        since_ns: from when on logs and kept events are read; a record that goes on is continued from its last line.
    """

    def __init__(
        self, connect: Callable[[], Engine], scope: Scope, record: Record, now_ns: Callable[[], int], since_ns: int
    ) -> None:
        self.scope, self.record, self._connect, self._now_ns, self._since_ns = scope, record, connect, now_ns, since_ns
        self.skew_ns = 0  # the engine's clock minus this machine's
        self._threads = Threads()
        self._reader = EventReader(None, self._connected, self._take, self._lost, self._back, since_ns)
        self._logs: dict[str, LogReader] = {}
        self._lives: dict[str, Life] = {}
        self._known: set[str] = set()  # containers in scope
        self._changed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._break: _Break | None = None
        self._connections = 0
        self._manifest: dict[str, Any] = {}
        self._numbers = (record.source(EVENTS, "events"), record.source(NOTES, "note"))
        self._remember()

    # ------------------------------------------------------------ from outside
    @property
    def connected(self) -> bool:
        """Whether the engine's events are being read."""
        return self._reader.engine is not None

    @property
    def failure(self) -> BaseException | None:
        """What ended a thread that should have gone on; then nothing can be relied on any more."""
        return self._threads.failure

    def start(self) -> Engine:
        """Connects and begins to follow.

        Raises:
            OccorrError: no engine, no permission, or no such project or container.
        """
        engine = self._reader.engine = self._connected()
        found = engines.containers(engine, self.scope.projects, self.scope.names)
        kept = self.record.tail(MANIFEST, 1)
        self._manifest = (
            json.loads(kept.item(0, "raw"))
            if kept.height
            else {"occorr_bundle": 1, "events": {"covered_from": iso(self._now())}, "missing": []}
        )
        self._document(MANIFEST, self._manifest)
        for container in found:
            self._known.add(container.id)
            self._tend(container.id, first=True)
        self._networks(found)
        if self._break is not None:
            self._reconcile_soon()
        self._threads.begin("events", self._reader.run, self._threads.stopping)
        self._threads.begin("containers", self._follow_containers)
        return engine

    def stop(self) -> None:
        """Ends all threads; what arrived until now is in the record."""
        if self._threads.stopping.is_set():
            return
        self._threads.stopping.set()
        with suppress(OSError):  # no room: whoever waits hears of it by `failure`
            self.note("stopped")
        self._reader.stop()
        for log in list(self._logs.values()):
            log.stop()
        self._changed.put("")
        self._threads.join(PATIENCE)

    def followed(self) -> list[dict[str, str]]:
        """The containers whose logs are read or will be."""
        found = [log.container for log in list(self._logs.values()) if not log.gone]
        return [
            {"container": c.name, "id": c.id[:12], "project": c.project, "service": c.service, "state": c.state}
            for c in sorted(found, key=lambda c: (c.project, c.name))
        ]

    # ------------------------------------------------------------ the record
    def note(self, kind: str, **told: Any) -> None:
        """Writes down something about the record itself."""
        text = json.dumps({"type": kind, **told}, ensure_ascii=False)
        self.record.append(self._numbers[1], "", iso(self._now()), text, urgent=True)

    def _event(self, time_ns: int, wire: Mapping[str, Any], *, urgent: bool = True) -> None:
        text = json.dumps(wire, ensure_ascii=False, separators=(",", ":"))
        self.record.append(self._numbers[0], "", iso(time_ns), text, urgent=urgent)

    def _document(self, path: str, data: Any) -> None:
        """Writes a document down; its newest version counts."""
        self.record.append(self.record.source(path, "document"), "", "", json.dumps(data, ensure_ascii=False))

    def _remember(self) -> None:
        """What an earlier watch left in the record: its last events, and when it stopped."""
        newest = 0
        for text, time_ns in self.record.tail(EVENTS, engines.KEPT).select("raw", "time_ns").rows():
            self._reader.know(time_ns, json.loads(text))
            newest = max(newest, time_ns)
        if newest:
            notes = self.record.tail(NOTES, 10).select("raw", "time_ns").rows()
            stops = [time_ns for text, time_ns in notes if json.loads(text)["type"] == "stopped"]
            self._break = _Break(newest, max([newest, *stops]), "occorr watch was not running")

    def _now(self) -> int:
        return self._now_ns() + self.skew_ns

    # ------------------------------------------------------------ events
    def _connected(self) -> Engine:
        engine = self._connect()
        with suppress(EngineError):
            self.skew_ns = engines.now_ns(engine) - self._now_ns()
        return engine

    def _lost(self, why: str) -> None:
        self.note("lost", reason=why)
        self._connections += 1
        if self._break is None:
            self._break = _Break(self._reader.since_ns, self._now(), why)

    def _back(self) -> None:
        for log in list(self._logs.values()):
            log.kick()
        self._reconcile_soon()

    def _take(self, event: Event) -> None:
        name, action = event.attributes.get("name", ""), event.action.partition(":")[0]
        mine = event.container_id in self._known
        if event.kind == "container" and not mine and self.scope.holds(event.container_id, name, event.project):
            self._known.add(event.container_id)
            mine = True
        if not mine and (event.container_id or not self.scope.everything):
            return
        self._event(event.time_ns, event.wire, urgent=not action.startswith("exec_"))
        if event.kind == "container":
            life = self._lives.get(event.container_id, Life())
            if action == "start":
                life = replace(life, started=max(life.started, event.time_ns))
            elif action == "die":
                life = replace(life, ended=max(life.ended, event.time_ns))
            self._lives[event.container_id] = life
            if action in CHANGES:
                self._changed.put(event.container_id)

    # ------------------------------------------------------------ gaps
    def _reconcile_soon(self) -> None:
        self._threads.begin("reconcile", self._reconcile, self._connections, self._now())

    def _reconcile(self, connection: int, back_ns: int) -> None:
        """After a break: whether the engine forgot anything, and what inspect knows of that time."""
        self._threads.stopping.wait(SETTLED)
        engine, gap = self._reader.engine, self._break
        if engine is None or gap is None or connection != self._connections or self._threads.stopping.is_set():
            return
        with suppress(EngineError):
            self._look()
            if 0 < self._reader.replayed < engines.KEPT:
                self.note("reconnected", reason=gap.why)  # it still had the last event that we had: nothing is missing
            else:
                # a local socket breaks at once; a network may have been gone for longer
                begin = gap.lost_ns if engine.local else gap.last_ns
                self._tell_gap(begin, back_ns, gap.why, self._missed(engine, begin - SECOND, back_ns))
            if self._break is gap:  # and not one that began meanwhile
                self._break = None

    def _tell_gap(self, begin: int, end: int, why: str, found: list[str]) -> None:
        what = {"what": f"events from {iso(begin)} to {iso(end)}", "why": why, "asked": False}
        self._manifest["missing"].append(what)
        self._document(MANIFEST, self._manifest)
        seconds = round((end - begin) / SECOND, 3)
        self.note("gap", begin=iso(begin), end=iso(end), seconds=seconds, reason=why, reconciled=found)

    def _missed(self, engine: Engine, begin: int, end: int) -> list[str]:
        """Starts and deaths that no event told, written down as events; in words too."""
        words: list[str] = []
        for ident in sorted(self._known):
            log = self._logs.get(ident)
            try:
                found = gaps.missed(engines.inspect(engine, ident), self._lives.get(ident, Life()), begin)
            except EngineLostError:
                raise
            except EngineError:
                if log is not None and not log.gone:
                    log.removed()
                    words.append(f"{log.container.name}: is gone; it was removed between {iso(begin)} and {iso(end)}")
                continue
            for wire in found.events:
                self._event(wire["timeNano"], wire)
            self._lives[ident] = found.life
            words += found.words
        return words

    # ------------------------------------------------------------ containers and their logs
    def _follow_containers(self) -> None:
        while not self._threads.stopping.is_set():
            idents: dict[str, None] = {}
            with suppress(queue.Empty):
                idents[self._changed.get(timeout=ROUND)] = None
                while True:  # a restart tells of itself several times: one look is enough
                    idents[self._changed.get_nowait()] = None
            if not self.connected or self._threads.stopping.is_set():
                continue
            with suppress(EngineError):
                for ident in idents:
                    self._tend(ident)
                if not idents:
                    self._look()

    def _look(self) -> None:
        """Containers that run and whose log nobody reads, also those whose start nobody told."""
        engine = self._reader.engine
        if engine is None:
            return
        for container in engines.containers(engine, self.scope.projects, self.scope.names, missing="ignore"):
            log = self._logs.get(container.id)
            if container.id not in self._known or log is None:
                self._known.add(container.id)
                self._tend(container.id)
            elif container.state in ("running", "paused") and log.idle:
                log.kick()

    def _tend(self, ident: str, *, first: bool = False) -> None:
        """Inspects a container and sees to it that its log is read."""
        engine, log = self._reader.engine, self._logs.get(ident)
        if engine is None:
            return
        try:
            told = engines.inspect(engine, ident)
        except EngineLostError:
            raise
        except EngineError:
            if log is not None:
                log.removed()
            return
        container = engines.from_inspect(told)
        self._document(f"inspect/{container.name}-{ident[:12]}.json", [told])
        if log is None:
            self._lives.setdefault(ident, gaps.life(told) if first else Life())
            log = self._logs[ident] = self._reading(container, self._since_ns if first else None)
            if not first:
                self._networks([container])
        elif self._break is None:
            self._lives[ident] = replace(self._lives[ident], restarts=gaps.life(told).restarts)
        log.kick()

    def _reading(self, container: Container, begin_ns: int | None) -> LogReader:
        """A reader of a container's log, begun in a thread of its own, after what an earlier watch left of it."""
        path = f"{container.name}-{container.id[:12]}.log"
        origin = {
            "container_id": container.id,
            "container_name": container.name,
            "compose_project": container.project,
            "compose_service": container.service,
        }
        number = self.record.source(path, "log", {k: v for k, v in origin.items() if v})

        def take(line: Line) -> None:
            self.record.append(number, line.stream, line.stamp, line.text)

        def refused(why: str) -> None:
            self.note("unreadable", container=container.name, reason=why)

        log = LogReader(container, take, refused, begin_ns)
        for stream, raw, time_ns in self.record.tail(path, REMEMBERED).select("stream", "raw", "time_ns").rows():
            log.place.new(stream, time_ns, raw.partition(" ")[2])
        self._threads.begin(f"log of {container.name}", log.run, lambda: self._reader.engine, self._threads.stopping)
        return log

    def _networks(self, containers: list[Container]) -> None:
        engine = self._reader.engine
        for name in sorted({n for c in containers for n in c.networks}):
            if engine is not None and name not in ("host", "none"):
                with suppress(EngineError):
                    self._document(f"network/{name}.json", [engines.network(engine, name)])
