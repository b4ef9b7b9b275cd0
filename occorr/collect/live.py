"""The live part of a collection: a thread for the events, one for each container's log, over restarts of both."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from occorr import engine as engines
from occorr.follow import EventReader, LogReader, Threads
from occorr.moments import iso
from occorr.schema import SECOND

if TYPE_CHECKING:
    import threading

    from occorr.collect.work import Work
    from occorr.engine import Event

_WAIT: Final = 0.2  # seconds between looks at what changed
_HEALTH: Final = 30.0  # seconds between looks at health logs, of which the engine keeps five entries
_SETTLE: Final = 5.0  # seconds that the threads have to end once their streams are closed


def follow(work: Work, begun: int, interrupted: threading.Event) -> None:
    """Follows events and logs for the time that was asked for; shortens it when interrupted.

    Raises:
        OSError: the bundle cannot be written any more.
    """
    live = _Live(work, begun)
    live.begin()
    started = looked = time.monotonic()
    end = started + work.wanted.follow_ns / SECOND
    while (now := time.monotonic()) < end and not live.threads.failure and not interrupted.wait(min(_WAIT, end - now)):
        if now - looked > _HEALTH:
            looked = now
            for ident in [i for i, item in work.inspected.items() if (item.get("State") or {}).get("Health")]:
                work.look(ident)
    if interrupted.is_set():
        work.until_ns = min(work.until_ns, engines.now_ns(work.engine))
    live.end()
    with engines.events(work.engine, since_ns=begun, until_ns=work.until_ns) as found:
        for event in found:
            work.note(event)


@dataclass(slots=True)
class _Live:
    """The readers of one collection."""

    work: Work
    begun: int
    threads: Threads = field(default_factory=Threads)
    events: EventReader = field(init=False)
    lost_ns: int = 0

    def __post_init__(self) -> None:
        self.events = EventReader(
            self.work.engine, lambda: self.work.engine, self._take, self._lost, self._back, self.begun
        )

    def begin(self) -> None:
        """Begins to read events and logs."""
        self.threads.begin("events", self.events.run, self.threads.stopping)
        for reader in list(self.work.readers.values()):
            self._read(reader)

    def end(self) -> None:
        """Ends all threads.

        Raises:
            Exception: what ended one of them before.
        """
        self.threads.stopping.set()
        self.events.stop()
        for reader in list(self.work.readers.values()):
            reader.stop()
        self.threads.join(_SETTLE)
        if self.threads.failure is not None:
            raise self.threads.failure

    def _read(self, reader: LogReader) -> None:
        reader.kick()
        self.threads.begin(
            f"log of {reader.container.name}", reader.run, lambda: self.events.engine, self.threads.stopping
        )

    def _lost(self, _why: str) -> None:
        self.lost_ns = self.events.since_ns

    def _back(self) -> None:
        """What the engine knew of the time between went with it."""
        now = engines.now_ns(self.work.engine)
        self.work.draft.lacks(
            "docker events",
            f"between {iso(self.lost_ns, 3)} and {iso(now, 3)}: the engine was gone, and what it knew of this time with it",
            asked=False,
        )
        for reader in list(self.work.readers.values()):
            reader.kick()

    def _take(self, event: Event) -> None:
        """New containers are read too, restarted ones read on; states are looked at while they stand."""
        work = self.work
        work.note(event)
        if event.kind != "container":
            return
        reader = work.readers.get(event.container_id)
        if reader is None:
            if work.ours(event) and event.action in ("create", "start"):
                made = next((c for c in engines.containers(work.engine) if c.id == event.container_id), None)
                if made is not None and (reader := work.add(made)) is not None:
                    self._read(reader)
            return
        if event.action == "destroy":
            reader.removed()
        elif event.action == "start":
            reader.kick()
        if event.action.startswith("health_status") or event.action in ("die", "start", "oom"):
            work.look(event.container_id)
