"""An engine's events over its restarts, each once; who reads them is the first to see that the engine is gone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from occorr import engine as engines
from occorr.engine import KEPT, EngineError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from occorr.engine import Engine, Event, Stream

PATIENCE: Final = (0.1, 0.2, 0.5, 1.0, 2.0)  # s between attempts to reach an engine that is gone; the last one repeats


@dataclass(slots=True)
class EventReader:
    """Reads the events; `run` belongs in a thread of its own.

    Attributes:
        engine: the connection; None while the engine is gone.
        connect: finds the engine again.
        take: gets each event once.
        lost: is told when the engine broke off, and why.
        back: is called when its events are read again.
        since_ns: the first moment that is wanted.
        replayed: events of this connection that were known before.
    """

    engine: Engine | None
    connect: Callable[[], Engine]
    take: Callable[[Event], None]
    lost: Callable[[str], None]
    back: Callable[[], None]
    since_ns: int
    replayed: int = 0
    _recent: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=2 * KEPT))
    _stream: Stream[Event] | None = None

    def know(self, time_ns: int, wire: Mapping[str, Any]) -> None:
        """An event that an earlier reader took."""
        self._recent.append((time_ns, _which(wire)))
        self.since_ns = max(self.since_ns, time_ns)

    def stop(self) -> None:
        """Ends the reading; `run` returns where its `stopping` is set."""
        stream = self._stream
        if stream is not None:
            stream.close()

    def run(self, stopping: threading.Event) -> None:
        """Reads until `stopping`."""
        attempt, broken = 0, False
        while not stopping.is_set():
            try:
                if broken:
                    self.engine = self.connect()
                assert self.engine is not None
                with engines.events(self.engine, since_ns=self.since_ns) as found:
                    self._stream, self.replayed, attempt = found, 0, 0
                    if stopping.is_set():
                        return
                    if broken:
                        broken = False
                        self.back()
                    for event in found:
                        self._new(event)
            except EngineError as error:
                if stopping.is_set():
                    return
                self.engine = None
                if not broken:
                    broken = True
                    self.lost(str(error))
                stopping.wait(PATIENCE[min(attempt, len(PATIENCE) - 1)])
                attempt += 1

    def _new(self, event: Event) -> None:
        key = (event.time_ns, _which(event.wire))
        if key in self._recent:  # few, and only those of the last moment can come twice
            self.replayed += 1
            return
        self._recent.append(key)
        self.since_ns = max(self.since_ns, event.time_ns)
        self.take(event)


def _which(wire: Mapping[str, Any]) -> str:
    """What tells an event from others of its moment, whichever run redacted it."""
    return f"{wire.get('Type')} {str(wire.get('Action')).partition(':')[0]} {(wire.get('Actor') or {}).get('ID')}"
