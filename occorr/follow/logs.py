"""A container's log, read whenever the container runs, over breaks of the engine, each line once."""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from occorr import engine as engines
from occorr.engine import EngineError, EngineLostError
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from occorr.engine import Container, Engine, Line, Stream

AGAIN: Final = SECOND  # so much of a log is read again after a break: stamps of its two streams are not quite in order
LEAST: Final = 2_000  # lines that are remembered for that, however old: an engine repeats some hundred where it turns its file over (20.10)
REMEMBERED: Final = 50_000  # … and at most
RETRY_S: Final = 0.5  # after a break, if nobody calls earlier
_FINGERPRINT: Final = re.compile(r"fp:[0-9a-f]+")
_GONE: Final = ("(HTTP 404)", "(HTTP 409)")  # removed, or about to be


@dataclass(slots=True)
class Place:
    """How far a log was read, and which of its lines would come again.

    An engine gives lines twice: where a reading is resumed, and some versions where they turn their own file over.
    Stamps go back without that too, since two streams share a log and clocks are set. So a line is dropped if it was
    taken already, and not because it is late.
    """

    newest_ns: int = 0
    _order: deque[tuple[int, int]] = field(default_factory=deque)
    _seen: set[int] = field(default_factory=set)

    def since_ns(self, begin_ns: int | None) -> int | None:
        """From where to read on: a little before the newest line, but not before what is remembered."""
        if not self.newest_ns:
            return begin_ns
        again = self.newest_ns - AGAIN
        if len(self._order) >= REMEMBERED:
            again = max(again, self._order[0][0])
        return again if begin_ns is None else max(begin_ns, again)

    def new(self, stream: str, time_ns: int, text: str) -> bool:
        """Whether a line was not there yet; from now on it is."""
        # another run has another key, so that its fingerprints differ
        key = hash((time_ns, stream, _FINGERPRINT.sub("fp:", text) if "fp:" in text else text))
        if time_ns <= self.newest_ns and key in self._seen:
            return False
        self.newest_ns = max(self.newest_ns, time_ns)
        self._order.append((time_ns, key))
        self._seen.add(key)
        while len(self._order) > REMEMBERED or (
            len(self._order) > LEAST and self._order[0][0] < self.newest_ns - AGAIN
        ):
            self._seen.discard(self._order.popleft()[1])
        return True


@dataclass(slots=True)
class LogReader:
    """Reads one log; `run` belongs in a thread of its own.

    Attributes:
        container: whose log it is.
        take: gets each line once.
        refused: is told, once, why the log cannot be read.
        begin_ns: the first stamp that is wanted, ns since 1970; None: from the log's beginning.
        place: how far it is read.
        gone: the container was removed; nothing more will come.
    """

    container: Container
    take: Callable[[Line], None]
    refused: Callable[[str], None]
    begin_ns: int | None = None
    place: Place = field(default_factory=Place)
    gone: bool = False
    trouble: str = ""
    _kick: threading.Event = field(default_factory=threading.Event)
    _stream: Stream[Line] | None = None
    _stopped: bool = False

    @property
    def idle(self) -> bool:
        """Whether nobody reads it though it could be read."""
        return self._stream is None and not self.trouble and not self.gone

    def kick(self) -> None:
        """Something happened after which the log may go on."""
        self._kick.set()

    def removed(self) -> None:
        """The container is gone: what is being read is read to its end, and nothing after it."""
        self.gone = True
        self._kick.set()

    def stop(self) -> None:
        """Ends the following; `run` returns where its `stopping` is set."""
        self._stopped = True
        stream = self._stream
        if stream is not None:
            stream.close()
        self._kick.set()

    def run(self, engine: Callable[[], Engine | None], stopping: threading.Event) -> None:
        """Follows the log until `stopping` or the container's removal.

        Args:
            engine: the connection as it is now; None while there is none.
            stopping: set from outside, before `stop`.
        """
        patience: float | None = None
        while not stopping.is_set() and not self.gone:
            self._kick.wait(patience)
            self._kick.clear()
            patience = None
            now = engine()
            if now is None or stopping.is_set():
                continue
            try:
                self.read(now, follow=True)
            except EngineLostError:
                patience = RETRY_S  # whoever reads the events sees it too, and kicks when the engine is back
            except EngineError as error:
                if any(code in str(error) for code in _GONE):
                    self.gone = True
                elif not self.trouble:
                    self.refused(str(error))
                    self.trouble = str(error)

    def read(self, engine: Engine, *, follow: bool = False, until_ns: int | None = None) -> None:
        """Reads on from the last line, to the end of what is there or, with `follow`, of the container's life.

        Raises:
            EngineError: the log cannot be read, or the engine broke off.
        """
        since_ns = self.place.since_ns(self.begin_ns)
        with engines.logs(engine, self.container, since_ns=since_ns, until_ns=until_ns, follow=follow) as stream:
            self._stream = stream
            if follow and self._stopped:
                return
            try:
                for line in stream:
                    if self.place.new(line.stream, line.time_ns, line.text):
                        self.take(line)
            finally:
                self._stream = None
