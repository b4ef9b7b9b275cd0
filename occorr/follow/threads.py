"""Threads that work until they are told to stop, and whose failure somebody hears of."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Threads:
    """Some threads and what they share.

    Attributes:
        stopping: set when all of them shall end.
        failure: the first error that ended one which should have gone on; raise it where somebody waits.
    """

    stopping: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None
    _running: list[threading.Thread] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        """Whether any of them still runs."""
        return any(t.is_alive() for t in self._running)

    def begin(self, name: str, target: Callable[..., None], *arguments: Any) -> None:
        """Runs a function in a thread of its own."""

        def run() -> None:
            try:
                target(*arguments)
            except BaseException as error:  # noqa: BLE001 - it is raised again where somebody waits
                if not self.stopping.is_set():
                    self.failure = self.failure or error

        thread = threading.Thread(target=run, name=f"occorr {name}", daemon=True)
        self._running = [t for t in self._running if t.is_alive()]
        self._running.append(thread)
        thread.start()

    def join(self, patience_s: float) -> None:
        """Waits until all have ended, but not longer than `patience_s`."""
        end = time.monotonic() + patience_s
        for thread in self._running:
            thread.join(max(0.0, end - time.monotonic()))
