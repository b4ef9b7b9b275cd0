"""`occorr watch` as a process of its own, with what it tells as it tells it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.engine import Engine

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from occorr.cli import main; main()", "watch"]


class Watching:
    """A running watch and the rows that it told until now."""

    def __init__(self, engine: Engine, *options: object) -> None:
        environment = {
            **engine.environment,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "OCCORR_DEBUG": "1",
        }
        self.process = subprocess.Popen(
            [*COMMAND, "--format", "ndjson", *map(str, options)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        self.rows: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            row = json.loads(line)
            with self._changed:
                self.rows.append(row)
                self._changed.notify_all()

    def until(
        self, wanted: Callable[[dict[str, Any]], bool], patience: float = 20.0, count: int = 1
    ) -> list[dict[str, Any]]:
        """The rows that are wanted, as soon as there are so many."""
        deadline = time.monotonic() + patience
        with self._changed:
            while len(found := [r for r in self.rows if wanted(r)]) < count:
                left = deadline - time.monotonic()
                assert left > 0 and self.process.poll() is None, (
                    f"{count} rows wanted, there are {len(found)} of {[(r['type'], r.get('cause') or r.get('action')) for r in self.rows]}"
                )
                self._changed.wait(left)
        return found

    def closes(self, ids: set[str], patience: float = 20.0) -> dict[str, dict[str, Any]]:
        """The first row told of each of these closes."""
        self.until(lambda r: r["type"] == "close" and r["close_id"] in ids, patience, len(ids))
        return {r["close_id"]: r for r in reversed(self.rows) if r["type"] == "close" and r["close_id"] in ids}

    def end(self) -> str:
        """Stops it as Ctrl-C does; what it wrote to stderr."""
        self.process.send_signal(signal.SIGINT)
        said = self.process.stderr.read().decode()
        self.process.wait(30)
        self._reader.join(5)
        return said


@contextmanager
def watching(engine: Engine, *options: object) -> Iterator[Watching]:
    watch = Watching(engine, *options)
    try:
        watch.until(lambda r: r["type"] == "watching", patience=60.0)  # it reads its record first
        yield watch
    finally:
        if watch.process.poll() is None:
            watch.process.kill()
        watch.process.wait()
        watch._reader.join(5)
        watch.process.stdout.close()
        watch.process.stderr.close()
