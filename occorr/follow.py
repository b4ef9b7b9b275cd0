"""Follows an engine into a record: its events, the logs of the containers in scope, and what inspect says of them.

Each log has a thread of its own, so have the events: whoever reads slowly loses events without a word. All of them only
append to the record, which is on disk; nobody who judges or prints can hold them up. When the engine breaks off, each
goes on from its last stamp, and what comes twice is dropped. What an engine that restarted has forgotten is a gap: it
is bounded, noted, and what inspect still knows of it (starts, deaths, exit codes, OOM) is written down as events that
say so.
"""

from __future__ import annotations

import json
import queue
import re
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from occorr import engine as engines
from occorr.engine import EngineError, EngineLostError, stamp_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from occorr.engine import Container, Engine, Event, Line, Stream
    from occorr.segments import Record

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
EVENTS: Final = "docker.events.jsonl"
NOTES: Final = "record.notes.jsonl"
AGAIN: Final = SECOND  # so much of a log is read again after a break: stamps of its two streams are not quite in order
LEAST: Final = 2_000  # lines that are remembered for that, however old: an engine repeats some hundred where it turns its file over (20.10)
REMEMBERED: Final = 50_000  # … and at most
PATIENCE: Final = (
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
)  # seconds between attempts to reach an engine that is gone; the last one repeats
SETTLED: Final = (
    0.7  # seconds after a new connection until its kept events have come (a death is told up to 0.23 s late)
)
ROUND: Final = 3.0  # seconds between looks at which containers there are
CHANGES: Final = frozenset(
    {"create", "start", "die", "oom", "health_status", "rename", "update", "pause", "unpause", "restart"}
)
_FINGERPRINT: Final = re.compile(r"fp:[0-9a-f]+")
SIGNALLED: Final = (0, 137, 143)  # exit codes behind which a signal may stand
MANIFEST: Final = "manifest.json"
ENDED: Final = "0001-01-01T00:00:00Z"  # inspect's word for never


@dataclass(frozen=True, slots=True)
class Scope:
    """Which containers are followed; without projects and names all of them."""

    projects: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def holds(self, ident: str, name: str, project: str) -> bool:
        """Whether a container is followed."""
        everything = not self.projects and not self.names
        return (
            everything
            or project in self.projects
            or name in self.names
            or any(len(n) >= 12 and ident.startswith(n) for n in self.names)
        )


@dataclass(slots=True)
class _Log:
    """A container's log: who reads it, and what came last."""

    container: Container
    number: int
    since_ns: int | None
    kick: threading.Event = field(default_factory=threading.Event)
    stream: Stream[Line] | None = None
    newest: int = 0
    tail: deque[tuple[int, str, str]] = field(default_factory=deque)
    seen: set[tuple[int, str, str]] = field(default_factory=set)  # what is in the tail
    refused: str = ""
    gone: bool = False


@dataclass(slots=True)
class _Life:
    """What is known of a container's starts and deaths, from events or inspect, ns since 1970."""

    started: int = 0
    ended: int = 0
    restarts: int = 0


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
        self.connected = False
        self.skew_ns = 0  # the engine's clock minus this machine's
        self._engine: Engine | None = None
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._logs: dict[str, _Log] = {}
        self._lives: dict[str, _Life] = {}
        self._known: set[str] = set()  # containers in scope
        self._events: Stream[Event] | None = None
        self._changed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._recent: deque[tuple[int, str]] = deque(maxlen=2 * engines.KEPT)
        self._replayed = 0
        self._manifest: dict[str, Any] = {}
        self._numbers = (record.source(EVENTS, "events"), record.source(NOTES, "note"))
        for text, time_ns in record.tail(EVENTS, engines.KEPT).select("raw", "time_ns").rows():
            self._recent.append((time_ns, _which(json.loads(text))))
        stops = [
            time_ns
            for text, time_ns in record.tail(NOTES, 10).select("raw", "time_ns").rows()
            if json.loads(text)["type"] == "stopped"
        ]
        self._stopped_ns = max(
            [*stops, *(time_ns for time_ns, _ in self._recent)], default=0
        )  # when an earlier watch left this record

    # ------------------------------------------------------------ from outside
    def start(self) -> Engine:
        """Connects and begins to follow.

        Raises:
            OccorrError: no engine, no permission, or no such project or container.
        """
        engine = self._connect()
        found = engines.containers(engine, self.scope.projects, self.scope.names)
        self._arrived(engine)
        kept = self.record.tail(MANIFEST, 1)
        self._manifest = (
            json.loads(kept.item(0, "raw"))
            if kept.height
            else {"occorr_bundle": 1, "events": {"covered_from": stamp(self._now())}, "missing": []}
        )
        self._document(MANIFEST, self._manifest)
        for container in found:
            self._known.add(container.id)
            self._tend(container.id, first=True)
        self._networks(found)
        self._run("events", self._follow_events)
        self._run("containers", self._follow_containers)
        return engine

    def stop(self) -> None:
        """Ends all threads; what arrived until now is in the record."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self.note("stopped")
        for stream in (self._events, *(log.stream for log in list(self._logs.values()))):
            if stream is not None:
                stream.close()
        for log in list(self._logs.values()):
            log.kick.set()
        self._changed.put("")
        for thread in self._threads:
            thread.join(5.0)

    def followed(self) -> list[dict[str, str]]:
        """The containers whose logs are read or will be."""
        found = [log.container for log in list(self._logs.values()) if not log.gone]
        return [
            {"container": c.name, "id": c.id[:12], "project": c.project, "service": c.service, "state": c.state}
            for c in sorted(found, key=lambda c: (c.project, c.name))
        ]

    def _run(self, name: str, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name=f"occorr {name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _arrived(self, engine: Engine) -> None:
        self._engine = engine
        with suppress(EngineError):
            self.skew_ns = engines.now_ns(engine) - self._now_ns()
        self.connected = True

    def _now(self) -> int:
        return self._now_ns() + self.skew_ns

    def note(self, kind: str, **told: Any) -> None:
        """Writes down something about the record itself."""
        self.record.append(
            self._numbers[1],
            "",
            stamp(self._now()),
            json.dumps({"type": kind, **told}, ensure_ascii=False),
            urgent=True,
        )

    # ------------------------------------------------------------ events
    def _follow_events(self) -> None:
        since, lost_at, why = self._since_ns, 0, ""
        if self._recent:  # a record that goes on
            since, lost_at, why = self._recent[-1][0], self._stopped_ns, "occorr watch was not running"
        while not self._stopping.is_set():
            engine = self._engine
            if engine is None:
                engine = self._reconnect()
                if engine is None:
                    return
            try:
                with engines.events(engine, since_ns=since) as found:
                    self._events, self._replayed = found, 0
                    if lost_at:
                        self._later(since, lost_at, why)
                    for event in found:
                        self._take(event)
            except EngineError as error:
                if self._stopping.is_set():
                    return
                if isinstance(error, EngineLostError) or not lost_at:
                    lost_at, why = self._now(), str(error)
                    self.note("lost", reason=why)
                self.connected, self._engine = False, None
            since = max(since, self._recent[-1][0] if self._recent else 0)

    def _reconnect(self) -> Engine | None:
        attempt = 0
        while not self._stopping.wait(PATIENCE[min(attempt, len(PATIENCE) - 1)]):
            attempt += 1
            try:
                engine = self._connect()
                self._arrived(engine)
            except EngineError:
                continue
            return engine
        return None

    def _take(self, event: Event) -> None:
        text = json.dumps(event.wire, ensure_ascii=False, separators=(",", ":"))
        key = (event.time_ns, _which(event.wire))
        if key in self._recent:  # few, and only those of the last moment can come twice
            self._replayed += 1
            return
        name, action = event.attributes.get("name", ""), event.action.partition(":")[0]
        mine = event.container_id in self._known
        if event.kind == "container" and not mine and self.scope.holds(event.container_id, name, event.project):
            self._known.add(event.container_id)
            mine = True
        self._recent.append(key)
        if not mine and (event.container_id or self.scope.projects or self.scope.names):
            return
        self.record.append(self._numbers[0], "", stamp(event.time_ns), text, urgent=not action.startswith("exec_"))
        if event.kind == "container":
            life = self._lives.setdefault(event.container_id, _Life())
            if action == "start":
                life.started = max(life.started, event.time_ns)
            elif action == "die":
                life.ended = max(life.ended, event.time_ns)
            if action in CHANGES or action == "destroy":
                self._changed.put(event.container_id)

    # ------------------------------------------------------------ gaps
    def _later(self, last_ns: int, lost_at: int, why: str) -> None:
        timer = threading.Timer(SETTLED, self._reconcile, (last_ns, lost_at, self._now(), why))
        timer.daemon = True
        timer.start()

    def _reconcile(self, last_ns: int, lost_at: int, back_at: int, why: str) -> None:
        """After a break: whether the engine forgot anything, and what inspect knows of that time."""
        engine = self._engine
        if engine is None or self._stopping.is_set():
            return
        with suppress(EngineError):
            self._look()
            if self._replayed and self._replayed < engines.KEPT:
                self.note("reconnected", reason=why)  # it still had the last event that we had: nothing is missing
                return
            local = engine.local  # a local socket breaks at once; a network may have been gone for longer
            begin = lost_at if local else last_ns
            found = [
                text for ident in sorted(self._known) for text in self._missed(engine, ident, begin - SECOND, back_at)
            ]
            self._manifest["missing"].append(
                {"what": f"events from {stamp(begin)} to {stamp(back_at)}", "why": why, "asked": False}
            )
            self._document(MANIFEST, self._manifest)
            self.note(
                "gap",
                begin=stamp(begin),
                end=stamp(back_at),
                seconds=round((back_at - begin) / SECOND, 3),
                reason=why,
                reconciled=found,
            )

    def _missed(self, engine: Engine, ident: str, begin: int, end: int) -> list[str]:
        """Starts and deaths of a container that no event told, written down as events; in words too."""
        log, life = self._logs.get(ident), self._lives.setdefault(ident, _Life())
        name = log.container.name if log else ident[:12]
        try:
            told = engines.inspect(engine, ident)
        except EngineLostError:
            raise
        except EngineError:
            if log is not None and not log.gone:
                log.gone = True
                return [f"{name}: is gone; it was removed between {stamp(begin)} and {stamp(end)}"]
            return []
        state, out = told.get("State") or {}, []
        ended, started = (
            stamp_ns(state[k]) if state.get(k) not in (None, "", ENDED) else 0 for k in ("FinishedAt", "StartedAt")
        )
        again = int(told.get("RestartCount") or 0) - life.restarts
        if ended > life.ended and ended >= begin:
            life.ended = ended
            if state.get("OOMKilled"):
                self._invent(told, ident, "oom", ended)
            # what a signal ended may have been ended by the engine itself as it came back: who sent it nobody told
            known = started < ended and state.get("ExitCode") not in SIGNALLED
            self._invent(told, ident, "die", ended, exitCode=str(state.get("ExitCode", "")) if known else "")
            out.append(
                f"{name}: died at {state['FinishedAt']}"
                + (f", exit code {state.get('ExitCode')}" if started < ended else "")
                + (", OOM killed" if state.get("OOMKilled") else "")
            )
        if started > life.started and started >= begin:
            life.started = started
            self._invent(told, ident, "start", started)
            out.append(f"{name}: started at {state['StartedAt']}")
        if again > 1:
            out.append(f"{name}: restarted {again} times by its policy; only the last start and death are known")
        life.restarts += max(again, 0)
        return out

    def _invent(self, told: Mapping[str, Any], ident: str, action: str, time_ns: int, **more: str) -> None:
        """Writes down an event that inspect shows and nobody told; its scope says so."""
        labels = {
            k: v
            for k, v in ((told.get("Config") or {}).get("Labels") or {}).items()
            if k.startswith("com.docker.compose.")
        }
        attributes = {
            **labels,
            **{k: v for k, v in more.items() if v},
            "image": str((told.get("Config") or {}).get("Image", "")),
            "name": str(told.get("Name", "")).lstrip("/"),
            "occorr.source": "docker inspect",
        }
        wire = {
            "Type": "container",
            "Action": action,
            "Actor": {"ID": ident, "Attributes": attributes},
            "scope": "reconciled",
            "time": time_ns // SECOND,
            "timeNano": time_ns,
        }
        self.record.append(
            self._numbers[0],
            "",
            stamp(time_ns),
            json.dumps(wire, ensure_ascii=False, separators=(",", ":")),
            urgent=True,
        )

    # ------------------------------------------------------------ containers and their logs
    def _follow_containers(self) -> None:
        while not self._stopping.is_set():
            idents: dict[str, None] = {}
            with suppress(queue.Empty):
                idents[self._changed.get(timeout=ROUND)] = None
                while True:  # a restart tells of itself several times: one look is enough
                    idents[self._changed.get_nowait()] = None
            if self._engine is None or self._stopping.is_set():
                continue
            with suppress(EngineError):
                for ident in idents:
                    self._tend(ident)
                if not idents:
                    self._look()

    def _look(self) -> None:
        """Containers that run and whose log nobody reads, also those whose start nobody told."""
        if self._engine is None:
            return
        for container in engines.containers(self._engine, self.scope.projects, self.scope.names, missing="ignore"):
            log = self._logs.get(container.id)
            if container.id not in self._known or log is None:
                self._known.add(container.id)
                self._tend(container.id)
            elif container.state in ("running", "paused") and log.stream is None and not log.refused:
                log.kick.set()

    def _tend(self, ident: str, *, first: bool = False) -> None:
        """Inspects a container and sees to it that its log is read."""
        if self._engine is None:
            return
        try:
            told = engines.inspect(self._engine, ident)
        except EngineLostError:
            raise
        except EngineError:
            if ident in self._logs:
                self._logs[ident].gone = True
                self._logs[ident].kick.set()
            return
        labels, mode = (
            (told.get("Config") or {}).get("Labels") or {},
            str((told.get("HostConfig") or {}).get("NetworkMode", "")),
        )
        bare = engines.Container(
            ident,
            str(told.get("Name", "")).lstrip("/"),
            "",
            "",
            str(labels.get("com.docker.compose.project", "")),
            str(labels.get("com.docker.compose.service", "")),
            shares=mode.removeprefix("container:") if mode.startswith("container:") else "",
            networks=tuple((told.get("NetworkSettings") or {}).get("Networks") or {}),
        )
        container = engines.detailed(bare, told)
        self._document(f"inspect/{container.name}-{ident[:12]}.json", [told])
        log = self._logs.get(ident)
        if log is None:
            state = told.get("State") or {}
            began, ended = (
                stamp_ns(state[k]) if first and state.get(k) not in (None, "", ENDED) else 0
                for k in ("StartedAt", "FinishedAt")
            )
            self._lives.setdefault(ident, _Life(began, ended, int(told.get("RestartCount") or 0)))
            origin = {
                "container_id": ident,
                "container_name": container.name,
                "compose_project": container.project,
                "compose_service": container.service,
            }
            log = self._logs[ident] = _Log(
                container,
                self.record.source(f"{container.name}-{ident[:12]}.log", "log", {k: v for k, v in origin.items() if v}),
                self._since_ns if first else None,
            )
            for stream, raw, time_ns in (
                self.record.tail(f"{container.name}-{ident[:12]}.log", LEAST).select("stream", "raw", "time_ns").rows()
            ):
                log.newest = max(log.newest, time_ns)
                log.tail.append((time_ns, stream, _FINGERPRINT.sub("fp:", raw.partition(" ")[2])))
                log.seen.add(log.tail[-1])
            self._run(f"log of {container.name}", self._read, log)
            if not first:
                self._networks([container])
        log.kick.set()

    def _networks(self, containers: list[Container]) -> None:
        for name in sorted({n for c in containers for n in c.networks}):
            if self._engine is not None and name not in ("host", "none"):
                with suppress(EngineError):
                    self._document(f"network/{name}.json", [engines.network(self._engine, name)])

    def _document(self, path: str, data: Any) -> None:
        """Writes a document down; its newest version counts."""
        self.record.append(self.record.source(path, "document"), "", "", json.dumps(data, ensure_ascii=False))

    def _read(self, log: _Log) -> None:
        """A log's thread: reads whenever its container runs, each time from its last stamp."""
        while not self._stopping.is_set() and not log.gone:
            log.kick.wait()
            log.kick.clear()
            engine = self._engine
            if engine is None or self._stopping.is_set():
                continue
            try:
                with engines.logs(
                    engine, log.container, since_ns=log.newest - AGAIN if log.newest else log.since_ns, follow=True
                ) as lines:
                    log.stream = lines
                    for line in lines:
                        self._line(log, line)
            except EngineLostError:
                pass  # the events' thread sees it too, and kicks when the engine is back
            except EngineError as error:
                if "(HTTP 404)" in str(error) or "(HTTP 409)" in str(error):  # removed, or about to be
                    log.gone = True
                    continue
                if not log.refused:
                    self.note("unreadable", container=log.container.name, reason=str(error))
                log.refused = str(error)
            finally:
                log.stream = None

    def _line(self, log: _Log, line: Line) -> None:
        """Records a line; one that comes again, after a break or where the engine turns its file over, is dropped."""
        key = (
            line.time_ns,
            line.stream,
            _FINGERPRINT.sub("fp:", line.text) if "fp:" in line.text else line.text,
        )  # another run has another key
        if line.time_ns <= log.newest and key in log.seen:
            return
        self.record.append(log.number, line.stream, line.stamp, line.text)
        log.newest = max(log.newest, line.time_ns)
        log.tail.append(key)
        log.seen.add(key)
        while len(log.tail) > REMEMBERED or (len(log.tail) > LEAST and log.tail[0][0] < log.newest - AGAIN):
            log.seen.discard(log.tail.popleft())


def _which(wire: Mapping[str, Any]) -> str:
    """What tells an event from others of its moment, whichever run redacted it."""
    return f"{wire.get('Type')} {str(wire.get('Action')).partition(':')[0]} {(wire.get('Actor') or {}).get('ID')}"


def stamp(time_ns: int) -> str:
    """RFC 3339 with nine digits."""
    return f"{datetime.fromtimestamp(time_ns // SECOND, UTC):%Y-%m-%dT%H:%M:%S}.{time_ns % SECOND:09d}Z"
