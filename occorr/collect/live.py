"""The live part of a collection: a thread for the events, one for each container's log, over restarts of both."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from occorr import engine as engines
from occorr.collect.work import SECOND, iso
from occorr.engine import EngineError, EngineLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from occorr.collect.work import Log, Work
    from occorr.engine import Event, Stream

_WAIT: Final = 0.2  # seconds between looks at what changed
_RETRY: Final = 0.5  # seconds between attempts to reach an engine that broke off
_HEALTH: Final = 30.0  # seconds between looks at health logs, of which the engine keeps five entries
_SETTLE: Final = 5.0  # seconds that the threads have to end once their streams are closed


@dataclass(slots=True)
class _Live:
    """What the threads share beside the work; `failure` is what stopped one that should not have stopped."""

    work: Work
    stop: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    streams: dict[int, Stream[Any]] = field(default_factory=dict)
    failure: BaseException | None = None

    def begin(self, target: Callable[..., None], *arguments: Any) -> None:
        """Runs a function in a thread of its own."""

        def run() -> None:
            try:
                target(self, *arguments)
            except BaseException as error:  # noqa: BLE001 - it is raised again where somebody hears it
                self.failure = self.failure or error

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    def opened(self, stream: Stream[Any]) -> Stream[Any]:
        """Remembers a stream until it ends, so that it can be closed from outside."""
        with self.work.lock:
            self.streams = {k: s for k, s in self.streams.items() if not s.closed}
            self.streams[id(stream)] = stream
        if self.stop.is_set():
            stream.close()
        return stream


def follow(work: Work, begun: int, interrupted: threading.Event) -> None:
    """Follows events and logs for the time that was asked for; shortens it when interrupted.

    Raises:
        OSError: the bundle cannot be written any more.
    """
    live = _Live(work)
    started = looked = time.monotonic()
    end = started + work.wanted.follow_ns / SECOND
    live.begin(_events, begun)
    for log in list(work.logs.values()):
        live.begin(_log, log)
    while (now := time.monotonic()) < end and live.failure is None and not interrupted.wait(min(_WAIT, end - now)):
        if now - looked > _HEALTH:
            looked = now
            for ident in [i for i, item in work.inspected.items() if (item.get("State") or {}).get("Health")]:
                work.look(ident)
    if interrupted.is_set():
        work.until_ns = min(work.until_ns, engines.now_ns(work.engine))
    live.stop.set()
    for stream in list(live.streams.values()):
        with stream:
            pass
    for thread in live.threads:
        thread.join(_SETTLE)
    if live.failure is not None:
        raise live.failure
    with engines.events(work.engine, since_ns=begun, until_ns=work.until_ns) as found:
        for event in found:
            work.note(event)


def _events(live: _Live, since_ns: int) -> None:
    """Live events, also over a restart of the engine, and what they mean for the logs that are read."""
    work, last, lost = live.work, since_ns, 0
    while not live.stop.is_set():
        try:
            with live.opened(engines.events(work.engine, since_ns=last)) as stream:
                if lost:
                    work.draft.lacks(
                        "docker events",
                        f"between {iso(lost)} and {iso(engines.now_ns(work.engine))}: the engine was gone, and what it"
                        " knew of this time with it",
                        asked=False,
                    )
                    lost = 0
                    for log in list(work.logs.values()):
                        log.changed.set()
                for event in stream:
                    last = max(last, event.time_ns)
                    work.note(event)
                    _react(live, event)
        except EngineError:
            lost = lost or last
            live.stop.wait(_RETRY)


def _react(live: _Live, event: Event) -> None:
    """New containers are read too, restarted ones read on; states are looked at while they stand."""
    work = live.work
    if event.kind != "container":
        return
    log = work.logs.get(event.container_id)
    if log is None:
        if work.ours(event) and event.action in ("create", "start"):
            made = next((c for c in engines.containers(work.engine) if c.id == event.container_id), None)
            if made is not None and (log := work.add(made)) is not None:
                live.begin(_log, log)
        return
    if event.action in ("start", "destroy"):
        log.gone = log.gone or event.action == "destroy"
        log.changed.set()
    if event.action.startswith("health_status") or event.action in ("die", "start", "oom"):
        work.look(event.container_id)


def _log(live: _Live, log: Log) -> None:
    """Follows a container's log over its restarts, until the end or its destruction."""
    work = live.work
    while not live.stop.is_set():
        log.changed.clear()
        try:
            with live.opened(
                engines.logs(work.engine, log.container, since_ns=log.since_ns(work.wanted.since_ns), follow=True)
            ) as stream:
                log.take(stream, work.until_ns)
        except EngineLostError:
            live.stop.wait(_RETRY)
            continue
        except EngineError:
            return  # why it cannot be read is noted when it is read once more at the end
        while not log.gone and not live.stop.is_set() and not log.changed.wait(_WAIT):
            pass
        if log.gone:
            return
