"""Hands what `watch` tells to others without ever waiting for them: a stream, a command."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from occorr.visible import json_escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHORT: Final = 1 << 20  # bytes of rows that were written out after which their file begins anew
WAITING: Final = 100  # rows that wait for the command; more are only counted
RUN_S: Final = 30.0  # how long the command may run
VARIABLES: Final = {
    "close_id": "OCCORR_CLOSE_ID",
    "timestamp": "OCCORR_TIME",
    "cause": "OCCORR_CAUSE",
    "family": "OCCORR_FAMILY",
    "verdict": "OCCORR_VERDICT",
    "probability": "OCCORR_PROBABILITY",
    "websocket_close_code": "OCCORR_CODE",
    "service_name": "OCCORR_SERVICE",
    "compose_project": "OCCORR_PROJECT",
    "type": "OCCORR_TYPE",
}


def _line(row: dict[str, Any]) -> bytes:
    """A row as a line of JSON in which nothing can steer a terminal."""
    return (json_escaped(json.dumps(row, ensure_ascii=False, sort_keys=True)) + "\n").encode("utf-8", "replace")


class Outbox:
    """Rows on their way to a stream that may be slow: they wait in a file without a name, not in memory.

    Args:
        stream: where they go, a line of JSON each.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._file = tempfile.TemporaryFile(prefix="occorr-")  # noqa: SIM115 - it lives as long as the outbox
        self._changed = threading.Condition()
        self._read = self._written = 0
        self._closing = False
        self.broken = False
        self._thread = threading.Thread(target=self._pass_on, name="occorr output", daemon=True)
        self._thread.start()

    def put(self, row: dict[str, Any]) -> None:
        """Takes a row."""
        line = _line(row)
        with self._changed:
            self._file.seek(self._written)
            self._file.write(line)
            self._written += len(line)
            self._changed.notify_all()

    def close(self, patience_s: float) -> None:
        """Waits until everything is written, but not longer than `patience_s`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(patience_s)
        if not self._thread.is_alive():
            self._file.close()

    def _pass_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._read < self._written or self._closing)
                if self._read == self._written:
                    return
                self._file.seek(self._read)
                piece = self._file.read(min(1 << 16, self._written - self._read))
            try:
                self._stream.write(piece)
                self._stream.flush()
            except OSError:  # the reader of the pipe has gone
                self.broken = True
                return
            with self._changed:
                self._read += len(piece)
                if self._read == self._written and self._written > SHORT:
                    self._file.truncate(0)
                    self._read = self._written = 0


class Hook:
    """Runs a command for each close, never through a shell: the row comes on its standard input and in variables.

    Args:
        command: the program and its arguments.
        per_minute: how many runs a minute; what is above is counted and told to the next run as OCCORR_SUPPRESSED.
        monotonic: seconds.
    """

    def __init__(self, command: Sequence[str], per_minute: int, monotonic: Callable[[], float]) -> None:
        self._command, self._per_minute, self._monotonic = list(command), per_minute, monotonic
        self._rows: queue.Queue[dict[str, Any] | None] = queue.Queue(WAITING)
        self._runs: deque[float] = deque()
        self.ran = self.failed = self.suppressed = 0
        self._silent = 0  # suppressed since the last run
        self.trouble = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._work, name="occorr on-close", daemon=True)
        self._thread.start()

    def put(self, row: dict[str, Any]) -> None:
        """Takes a row; only closes and revisions count."""
        if row["type"] not in ("close", "revised"):
            return
        now = self._monotonic()
        while self._runs and self._runs[0] <= now - 60:
            self._runs.popleft()
        if len(self._runs) < self._per_minute:
            with contextlib.suppress(queue.Full):
                self._rows.put_nowait({**row, "suppressed": self._silent})
                self._runs.append(now)
                self._silent = 0
                return
        self.suppressed += 1
        self._silent += 1

    def close(self, patience_s: float) -> None:
        """Lets what waits run, but not longer than `patience_s`; what runs then is ended."""
        with contextlib.suppress(queue.Full):
            self._rows.put(None, timeout=patience_s)
            self._thread.join(patience_s)
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
            self._thread.join(patience_s)

    def _work(self) -> None:
        while (row := self._rows.get()) is not None:
            told = {
                name: "" if row.get(key) is None else str(row[key]).replace("\x00", "")
                for key, name in VARIABLES.items()
            }
            environment = {**os.environ, **told, "OCCORR_SUPPRESSED": str(row["suppressed"])}
            given = _line(row)
            try:
                code, words = self._run(given, environment)
            except OSError as error:
                code, words = -1, str(error.strerror)
            self.ran += 1
            if code:
                self.failed += 1
                self.trouble = f"exit {code}: {' '.join(words.split())[:200]}"

    def _run(self, given: bytes, environment: dict[str, str]) -> tuple[int, str]:
        """Its exit code, and what it wrote to standard error."""
        with subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
        ) as process:
            self._process = process
            try:
                _, said = process.communicate(given, RUN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                return -1, f"it ran for more than {RUN_S:.0f} s and was ended"
            finally:
                self._process = None
        return process.returncode, said.decode("utf-8", "replace")
