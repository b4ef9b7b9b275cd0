"""The writing end of a record, and its one reader, the queue between those who follow and those who judge."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final

import polars as pl

from occorr import moments
from occorr.errors import OccorrError
from occorr.segments.journal import PIECE, Source, control, digest, parse
from occorr.segments.sealing import Limits, latest, prune, seal

try:
    import fcntl
except ImportError:  # Windows has none; there nothing keeps a second writer out
    fcntl = None  # type: ignore[assignment]  # a module where there is one

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MARK: Final = "occorr-record.json"
FULL: Final = 64 << 20  # bytes at which a journal is closed
BATCH: Final = 10_000  # lines of an earlier writer that are looked at at once
OLD_S: Final = 900.0  # seconds after which it is closed too, if it holds a line


@dataclass(frozen=True, slots=True)
class _Ended:
    """A journal that nobody appends to any more, and the sources as they stand at its end."""

    journal: Path
    book: dict[int, Source]


class Record:
    """The writing end of a record, and its one reader. `append` may be called from any thread, `take` and `seal` from one.

    Args:
        directory: where it is kept; made if it is not there, continued if it is a record.
        limits: what is kept.
        full: bytes at which a journal is closed.
        old_s: age in seconds at which it is closed.

    Raises:
        OccorrError: the directory holds something else, is in use, or cannot be written.
    """

    def __init__(
        self, directory: Path, limits: Limits | None = None, *, full: int = FULL, old_s: float = OLD_S
    ) -> None:
        self.directory, self.limits, self.full, self.old_s = directory, limits or Limits(), full, old_s
        self.changed = threading.Condition()
        self._lock_file = _claim(directory)
        try:
            for journal in sorted(directory.glob("*.journal")):
                seal(journal)
        except OSError as error:
            self._lock_file.close()
            raise OccorrError(f"{directory}: cannot be written: {error.strerror}") from error
        self._serial = max((int(p.stem) for p in directory.glob("*.parquet")), default=0)
        self._book = latest(directory)
        self._read = dict(self._book)
        self._numbers = {s.path: n for n, s in self._book.items()}
        self._lines = {n: s.lines for n, s in self._book.items()}
        self._bytes = {n: s.size for n, s in self._book.items()}
        self._documents: dict[
            int, tuple[bytes, int]
        ] = {}  # the newest version of each: its line, and the bytes that count
        self._closed: list[_Ended] = []  # journals that the reader is not through with
        self._ready: list[_Ended] = []  # journals that wait to be sealed
        self._file, self._journal = self._begin()
        self._handle = self._journal.open("rb")

    def _begin(self) -> tuple[BinaryIO, Path]:
        """Opens the next journal, which repeats what is known of the sources, and each document."""
        self._serial += 1
        path = self.directory / f"{self._serial:08d}.journal"
        self._size, self._begun = 0, 0.0
        file = path.open("xb", buffering=1 << 16)
        self._book = self._counted()
        for source in self._book.values():
            file.write(control(source))
        for number, (line, size) in self._documents.items():  # the segment that held it may be the next that is deleted
            file.write(line)
            self._lines[number] += 1
            self._bytes[number] += size
        file.flush()
        return file, path

    def source(self, path: str, kind: str = "log", origin: Mapping[str, str] | None = None) -> int:
        """The number of a source; a new one is noted."""
        with self.changed:
            if path not in self._numbers:
                number = len(self._numbers) + 1
                self._numbers[path] = number
                self._book[number] = Source(number, path, kind, origin=dict(origin or {}))
                self._lines[number] = self._bytes[number] = 0
                self._file.write(control(self._book[number]))
            return self._numbers[path]

    def append(self, number: int, stream: str, stamp: str, text: str, *, urgent: bool = False) -> None:
        """Takes one line.

        Args:
            number: its source.
            stream: stdout, stderr or empty.
            stamp: RFC 3339; empty for documents and notes.
            text: the line without its break.
            urgent: hands it to the operating system and wakes the reader at once; others go within the reader's next
                look.
        """
        if "\n" in text or "\r" in text:
            text = text.replace("\r", "").replace("\n", "\\n")
        rest = f"{text}\n".encode("utf-8", "replace")
        head = f"{number} {stream[3:4] or '-'} ".encode()
        written = f"{stamp or '-'} ".encode()
        with self.changed:
            source = self._book[number]
            if not source.root:
                self._book[number] = replace(
                    source, root=digest((written + rest if source.kind == "log" else rest).decode())
                )
            if source.kind == "document":
                self._documents[number] = head + written + rest, len(rest)
            self._file.write(head + written + rest)
            self._lines[number] += 1
            self._bytes[number] += len(rest) + (len(written) if source.kind == "log" else 0)
            self._size += len(head) + len(written) + len(rest)
            if self._size >= self.full:
                self._turn()
            elif urgent:
                self._file.flush()
            if urgent:
                self.changed.notify_all()

    def _turn(self) -> None:
        self._end()
        self._file, self._journal = self._begin()

    def _end(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._closed.append(_Ended(self._journal, self._counted()))

    def _counted(self) -> dict[int, Source]:
        """The sources as they stand at the end of what was appended."""
        return {n: replace(s, lines=self._lines[n], size=self._bytes[n]) for n, s in self._book.items()}

    def wait(self, seconds: float) -> None:
        """Until something urgent came, or the time is over."""
        with self.changed:
            self.changed.wait(seconds)

    def take(self, now_s: float) -> tuple[pl.DataFrame, bool]:
        """The next lines, as `parse` gives them, at most about PIECE bytes, and whether there are more at hand.

        Args:
            now_s: a monotonic clock, for the age of the journal.
        """
        with self.changed:
            self._file.flush()
            if not self._begun:
                self._begun = now_s
            if now_s - self._begun >= self.old_s and self._size:
                self._turn()
            closed = bool(self._closed)
        piece = self._handle.read(PIECE)
        if len(piece) == PIECE and b"\n" not in piece:
            piece += self._handle.readline()  # a line longer than a piece
        whole = piece[: piece.rfind(b"\n") + 1]  # another thread may be in the middle of a line
        self._handle.seek(len(whole) - len(piece), os.SEEK_CUR)
        rows = parse(whole, self._read)
        if len(piece) < PIECE and closed:
            self._handle.close()
            with self.changed:
                self._ready.append(self._closed.pop(0))
                following = self._closed[0].journal if self._closed else self._journal
            self._handle = following.open("rb")
            return rows, True
        return rows, len(piece) >= PIECE

    def known(self) -> dict[int, Source]:
        """The sources as the reader knows them: counted up to where it read."""
        return self._read

    def recent(self, since_ns: int) -> Iterator[pl.DataFrame]:
        """What an earlier writer left from a moment on, as `parse` gives it, in order and piece by piece."""
        numbers = {s.path: n for n, s in self._read.items()}
        for segment in sorted(self.directory.glob("*.parquet")):
            last = pl.scan_parquet(segment).select(pl.col("time").max().dt.epoch("ns")).collect().item()
            if last is None or last < since_ns:
                continue
            recent = pl.scan_parquet(segment).filter(pl.col("time").dt.epoch("ns") >= since_ns)
            for rows in recent.collect_batches(chunk_size=BATCH, maintain_order=True):
                if rows.height:
                    yield rows.select(
                        pl.col("source")
                        .cast(pl.String)
                        .replace_strict(numbers, default=None, return_dtype=pl.Int64)
                        .alias("number"),
                        pl.col("stream").cast(pl.String),
                        moments.isos(pl.col("time")).alias("stamp"),
                        "line",
                        "offset",
                        "raw",
                    ).drop_nulls("number")

    def tail(self, path: str, count: int) -> pl.DataFrame:
        """The last lines that an earlier writer left of a source: stream, raw, time_ns."""
        found: list[pl.DataFrame] = []
        have = 0
        for segment in sorted(self.directory.glob("*.parquet"), reverse=True):
            own = (
                pl.scan_parquet(segment)
                .filter(pl.col("source").cast(pl.String) == path)
                .select(pl.col("stream").cast(pl.String), "raw", pl.col("time").dt.epoch("ns").alias("time_ns"))
                .tail(count)
                .collect()
            )
            found.append(own)
            have += own.height
            if have >= count:
                break
        return (
            pl.concat(found[::-1]).tail(count)
            if found
            else pl.DataFrame(schema={"stream": pl.String, "raw": pl.String, "time_ns": pl.Int64})
        )

    def seal(self) -> None:
        """Makes segments of the journals that were read, and deletes what is too old or too much."""
        while self._ready:
            seal(self._ready[0].journal, self._ready[0].book)
            self._ready.pop(0)
        prune(self.directory, self.limits)

    def close(self) -> None:
        """Seals everything; a reader that is not through yet is not waited for.

        Where there is no room left, journals stay as they are: they are read as well as segments, and sealed by the next
        writer.
        """
        with self.changed:
            if not self._file.closed:
                try:
                    self._end()
                except OSError:
                    with suppress(OSError):
                        self._file.close()
        self._handle.close()
        with suppress(OSError):
            for ended in [*self._ready, *self._closed]:
                seal(ended.journal, ended.book)
            prune(self.directory, self.limits)
        self._ready, self._closed = [], []
        self._lock_file.close()


def _claim(directory: Path) -> io.TextIOWrapper:
    """Makes the directory a record and holds it against a second writer until the file is closed."""
    mark = directory / MARK
    try:
        if directory.exists() and (not directory.is_dir() or (any(directory.iterdir()) and not mark.is_file())):
            raise OccorrError(f"{directory} exists and is no record of occorr; give another directory with --record")
        directory.mkdir(parents=True, exist_ok=True)
        handle = mark.open("a+", encoding="utf-8")
    except OSError as error:
        raise OccorrError(
            f"{directory}: cannot be written: {error.strerror}; give another directory with --record"
        ) from error
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.close()
            raise OccorrError(
                f"{directory} is being written by another 'occorr watch'; give another directory with --record"
            ) from error
    if mark.stat().st_size == 0:
        handle.write('{"record": 1}\n')
        handle.flush()
    return handle
