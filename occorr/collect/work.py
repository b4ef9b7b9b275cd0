"""What the parts of a collection share: what is wanted, the logs on their way into files, what is known of containers."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TextIO

from occorr import engine as engines
from occorr.collect.files import safe
from occorr.engine import EngineError, EngineLostError
from occorr.follow import LogReader

if TYPE_CHECKING:
    from occorr.bundle import Draft
    from occorr.engine import Container, Engine, Event, Line

OWN_NETWORKS: Final = frozenset({"bridge", "host", "none", "ingress"})  # the engine's; nobody's neighbourhood


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be collected.

    Attributes:
        projects: Compose projects.
        names: containers by name or id.
        since_ns: the first moment, nanoseconds since 1970.
        until_ns: the last one; None: now.
        follow_ns: how long to go on from now; 0: not at all.
        files: also the gateway's file log and `openclaw.json`, and the proxies' log files and configuration.
        paths: further files as (container name, path).
    """

    projects: tuple[str, ...]
    names: tuple[str, ...]
    since_ns: int
    until_ns: int | None = None
    follow_ns: int = 0
    files: bool = False
    paths: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Log:
    """The log of one container on its way into files, one for each stream."""

    container: Container
    draft: Draft
    count: int = 0
    first: str = ""
    last: str = ""
    files: dict[str, TextIO] = field(default_factory=dict)

    def write(self, line: Line) -> None:
        """Takes a line."""
        out = self.files.get(line.stream)
        if out is None:
            name = f"logs/{safe(self.container.name)}-{self.container.id[:12]}.{line.stream}.log"
            out = self.files[line.stream] = self.draft.path(name).open(
                "w", encoding="utf-8", newline="\n", buffering=1 << 16
            )
        out.write(f"{line.stamp} {line.text}\n")
        self.last = line.stamp
        self.first = self.first or line.stamp
        self.count += 1


@dataclass(slots=True)
class Work:
    """What the threads of one collection share; `lock` guards what several of them change.

    Attributes:
        until_ns: the end, by the engine's clock.
        known: ids of containers whose events are kept.
        beside: those that were not asked for, but stand on the path.
    """

    engine: Engine
    wanted: Wanted
    draft: Draft
    until_ns: int
    logs: dict[str, Log] = field(default_factory=dict)
    readers: dict[str, LogReader] = field(default_factory=dict)
    inspected: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[tuple[int, str, str, str], Event] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    networks: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)
    covered_from: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, container: Container) -> LogReader | None:
        """Inspects a container and prepares its log; None if it is gone already."""
        try:
            found = engines.inspect(self.engine, container.id)
        except EngineLostError:
            raise
        except EngineError as error:
            self.draft.lacks(f"container {container.name}", str(error))
            return None
        log = Log(engines.detailed(container, found), self.draft)

        def take(line: Line) -> None:
            if line.time_ns <= self.until_ns:
                log.write(line)

        # why a log cannot be read is noted when it is read once more at the end
        reader = LogReader(log.container, take, lambda _: None, self.wanted.since_ns)
        with self.lock:
            self.inspected[container.id] = _with_health(self.inspected.get(container.id), found)
            self.known.add(container.id)
            self.networks |= set(container.networks) - OWN_NETWORKS
            self.logs.setdefault(container.id, log)
            return self.readers.setdefault(container.id, reader)

    def look(self, container_id: str) -> None:
        """Inspects a container again; if it is gone, what was seen last stands."""
        try:
            found = engines.inspect(self.engine, container_id)
        except EngineError:
            return
        with self.lock:
            self.inspected[container_id] = _with_health(self.inspected.get(container_id), found)

    def ours(self, event: Event) -> bool:
        """Whether an event is about a container that was asked for by project or name, even one that is gone."""
        return event.project in self.wanted.projects or event.attributes.get("name", "") in self.wanted.names

    def note(self, event: Event) -> None:
        """Keeps an event that concerns the containers, their networks and volumes, or the engine; others are none of ours."""
        with self.lock:
            if event.kind == "container":
                if self.ours(event):
                    self.known.add(event.container_id)
                keep = event.container_id in self.known
            elif event.kind in ("network", "volume"):
                name = event.attributes.get("name", "")
                keep = (
                    event.container_id in self.known
                    if event.container_id
                    else name in self.networks or any(name.startswith(f"{p}_") for p in self.wanted.projects)
                )
            else:
                keep = event.kind == "daemon"
            if keep:
                self.events[event.time_ns, event.kind, event.action, event.container_id] = event

    def read(self, ident: str) -> None:
        """Reads a log to the end of the time, from where it was left."""
        log, reader = self.logs[ident], self.readers[ident]
        try:
            reader.read(self.engine, until_ns=self.until_ns)
        except EngineError as error:
            if not reader.gone:
                why = f"after {log.last}: {error}" if log.last else str(error)
                self.draft.lacks(f"log of {log.container.name}", why)


def _with_health(before: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """`docker inspect` with the health checks that an earlier look saw: the engine keeps five."""
    old = (((before or {}).get("State") or {}).get("Health") or {}).get("Log") or []
    health = (now.get("State") or {}).get("Health")
    if health is not None and old:
        entries = {str(e.get("Start")): e for e in [*old, *(health.get("Log") or [])]}
        health["Log"] = [entries[k] for k in sorted(entries)]
    return now
