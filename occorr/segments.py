"""A rolling record of what an engine delivered: appended line by line, sealed into Parquet segments, read back by `read`.

A line goes to the open journal at once, a plain text file; nothing that arrived waits in memory. A journal that is full
or old is closed, and once its reader is through it becomes a Parquet segment, written beside its place and renamed. So
the journal is also the queue between those who follow the engine and those who judge: a slow reader costs disk, never a
line. After a crash the journals are still there; only the line that was being written may be torn, and is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from occorr.errors import OccorrError

try:
    import fcntl
except ImportError:  # Windows has none; there nothing keeps a second writer out
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MARK: Final = "occorr-record.json"
FULL: Final = 64 << 20  # bytes at which a journal is closed
OLD_S: Final = 900.0  # seconds after which it is closed too, if it holds a line
PIECE: Final = 1 << 18  # bytes that are parsed at once; it decides how much memory a busy log takes
_CONTROL: Final = "+"
_SCHEMA: Final = pa.schema(
    [
        pa.field(
            "source", pa.dictionary(pa.int32(), pa.string()), metadata={"doc": "the log, as it is named in evidence"}
        ),
        pa.field(
            "stream",
            pa.dictionary(pa.int32(), pa.string()),
            metadata={"doc": "stdout or stderr", "otel": "log.iostream"},
        ),
        pa.field(
            "time", pa.timestamp("ns", "UTC"), metadata={"doc": "the engine's stamp", "otel": "ObservedTimestamp"}
        ),
        pa.field("line", pa.int64(), metadata={"doc": "line number in the source, from 1"}),
        pa.field("offset", pa.int64(), metadata={"doc": "byte at which the line begins in the source"}),
        pa.field(
            "raw", pa.string(), metadata={"doc": "the line as docker logs --timestamps prints it, secrets replaced"}
        ),
    ]
)


@dataclass(frozen=True, slots=True)
class Source:
    """One log of the record.

    Attributes: number: its short name in journals. path: its name in evidence, as demo-gateway-1.log. kind: log (stamp
    and line), events (JSON), document (the newest version counts) or note (about the record itself). lines: how many
    lines it had before a journal or after a segment. size: the same in bytes. root: digest of its first record, from
    which ids of events are made. origin: container_id, container_name, compose_project, compose_service, where it has
    them.
    """

    number: int
    path: str
    kind: str = "log"
    lines: int = 0
    size: int = 0
    root: str = ""
    origin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the record is kept: bytes of segments, and seconds since a segment was sealed."""

    size: int = 1 << 30
    age_s: float = 14 * 86400.0


def parse(piece: bytes, book: dict[int, Source]) -> pl.DataFrame:
    """Lines of a journal, in order; `book` learns sources and counts on.

    Args:
        piece: whole lines.
        book: sources by number; changed.

    Returns:
        number i64, stream, stamp, line i64, offset i64, raw.
    """
    whole = (
        pl.Series("_whole", [piece.decode("utf-8", "replace").removesuffix("\n")] if piece else [], dtype=pl.String)
        .str.split("\n")
        .explode()
    )
    for text in whole.filter(whole.str.starts_with(_CONTROL + " ")):
        told = Source(**json.loads(text[2:]))
        book[told.number] = replace(told, root=told.root or (book[told.number].root if told.number in book else ""))
    fields = (
        whole.to_frame()
        .filter(~pl.col("_whole").str.starts_with(_CONTROL) & pl.col("_whole").str.contains(r"^\d+ \S \S* "))
        .select(pl.col("_whole").str.splitn(" ", 4).struct.rename_fields(["number", "stream", "stamp", "text"]))
        .unnest("_whole")
    )
    known = pl.DataFrame(
        {
            "number": list(book),
            "_kind": [s.kind for s in book.values()],
            "_lines": [s.lines for s in book.values()],
            "_size": [s.size for s in book.values()],
        },
        schema={"number": pl.Int64, "_kind": pl.String, "_lines": pl.Int64, "_size": pl.Int64},
    )
    rows = fields.with_columns(
        pl.col("number").cast(pl.Int64), pl.col("stream").replace({"o": "stdout", "e": "stderr", "-": ""})
    ).join(known, on="number", maintain_order="left")
    rows = rows.with_columns(
        pl.when(pl.col("_kind") == "log")
        .then(pl.concat_str("stamp", pl.lit(" "), "text"))
        .otherwise("text")
        .alias("raw")
    )
    length = pl.col("raw").str.len_bytes().cast(pl.Int64) + 1
    rows = rows.with_columns(
        (pl.col("_lines") + pl.int_range(1, pl.len() + 1).over("number")).alias("line"),
        (pl.col("_size") + length.cum_sum().over("number") - length).alias("offset"),
    )
    for number, lines, size, first, raw in (
        rows.group_by("number")
        .agg(
            pl.col("line").max(),
            (pl.col("offset") + length).max().alias("size"),
            pl.col("line").min().alias("first"),
            pl.col("raw").first(),
        )
        .rows()
    ):
        told = book[number]
        book[number] = replace(
            told, lines=lines, size=size, root=told.root or (digest(f"{raw}\n") if first == 1 else "")
        )
    return rows.select("number", "stream", "stamp", "line", "offset", "raw")


def digest(record: str) -> str:
    """What ids of a source's events begin with; the record with its line break, as in a file that `docker logs -t` filled."""
    return hashlib.sha256(record.encode()).hexdigest()


# ---------------------------------------------------------------- writing
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
        for journal in sorted(directory.glob("*.journal")):
            _seal(journal)
        self._serial = max((int(p.stem) for p in directory.glob("*.parquet")), default=0)
        self._book = _latest(directory)
        self._read = dict(self._book)
        self._numbers = {s.path: n for n, s in self._book.items()}
        self._lines = {n: s.lines for n, s in self._book.items()}
        self._bytes = {n: s.size for n, s in self._book.items()}
        self._closed: list[Path] = []  # journals that the reader is not through with
        self._ready: list[Path] = []  # journals that wait to be sealed
        self._file, self._journal = self._begin()
        self._handle = self._journal.open("rb")

    def _begin(self) -> tuple[BinaryIO, Path]:
        """Opens the next journal, which repeats what is known of the sources."""
        self._serial += 1
        path = self.directory / f"{self._serial:08d}.journal"
        self._size, self._begun = 0, 0.0
        file = path.open("xb", buffering=1 << 16)
        for number, source in self._book.items():
            self._book[number] = replace(source, lines=self._lines[number], size=self._bytes[number])
            file.write(_control(self._book[number]))
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
                self._file.write(_control(self._book[number]))
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
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._closed.append(self._journal)
        self._file, self._journal = self._begin()

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
        whole = piece[: piece.rfind(b"\n") + 1]  # another thread may be in the middle of a line
        self._handle.seek(len(whole) - len(piece), os.SEEK_CUR)
        rows = parse(whole, self._read)
        if len(piece) < PIECE and closed:
            self._handle.close()
            with self.changed:
                self._ready.append(self._closed.pop(0))
                following = self._closed[0] if self._closed else self._journal
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
            file = pq.ParquetFile(segment)
            for group in range(file.num_row_groups):
                rows = pl.DataFrame(file.read_row_group(group)).filter(pl.col("time").dt.epoch("ns") >= since_ns)
                if rows.height:
                    yield rows.select(
                        pl.col("source")
                        .cast(pl.String)
                        .replace_strict(numbers, default=None, return_dtype=pl.Int64)
                        .alias("number"),
                        pl.col("stream").cast(pl.String),
                        pl.col("time").dt.to_string("%Y-%m-%dT%H:%M:%S%.9fZ").alias("stamp"),
                        "line",
                        "offset",
                        "raw",
                    ).drop_nulls("number")
            file.close()

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
            _seal(self._ready[0])
            self._ready.pop(0)
        _prune(self.directory, self.limits)

    def close(self) -> None:
        """Seals everything; a reader that is not through yet is not waited for."""
        with self.changed:
            if not self._file.closed:
                self._turn_last()
        self._handle.close()
        for journal in [*self._ready, *self._closed]:
            _seal(journal)
        self._ready, self._closed = [], []
        _prune(self.directory, self.limits)
        self._lock_file.close()

    def _turn_last(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._closed.append(self._journal)


def _control(source: Source) -> bytes:
    return f"{_CONTROL} {json.dumps(asdict(source), sort_keys=True)}\n".encode()


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


def _seal(journal: Path) -> None:
    """A segment of a journal, written beside its place and renamed; then the journal goes."""
    target, beside = journal.with_suffix(".parquet"), journal.with_suffix(".part")
    if not target.exists():
        book: dict[int, Source] = {}
        writer = None
        for rows in _pieces(journal, book):
            writer = writer or pq.ParquetWriter(beside, _SCHEMA, compression="zstd")
            writer.write_table(_arrow(rows, book))
        if writer is None:
            journal.unlink()
            return
        writer.add_key_value_metadata(
            {"occorr.sources": json.dumps([asdict(s) for s in book.values()], sort_keys=True)}
        )
        writer.close()
        with beside.open("rb") as handle:
            os.fsync(handle.fileno())
        beside.rename(target)
    journal.unlink()


def _arrow(rows: pl.DataFrame, book: Mapping[int, Source]) -> pa.Table:
    names = {n: s.path for n, s in book.items()}
    stamped = rows.select(
        pl.col("number").replace_strict(names, return_dtype=pl.String).alias("source"),
        "stream",
        pl.col("stamp")
        .str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="ns", time_zone="UTC", strict=False)
        .alias("time"),
        "line",
        "offset",
        "raw",
    )
    return stamped.to_arrow().cast(_SCHEMA)


def _pieces(journal: Path, book: dict[int, Source]) -> Iterator[pl.DataFrame]:
    """The lines of a journal, piece by piece; a torn last line is left out."""
    with journal.open("rb") as handle:
        while piece := handle.read(PIECE):
            piece += handle.readline()
            whole = piece[: piece.rfind(b"\n") + 1]
            rows = parse(whole, book)
            if rows.height:
                yield rows


def _prune(directory: Path, limits: Limits) -> None:
    """Deletes the oldest segments while there are too many bytes, and those that are too old; the newest one stays."""
    found = [(p, p.stat()) for p in sorted(directory.glob("*.parquet"))]
    total = sum(s.st_size for _, s in found)
    newest = found[-1][1].st_mtime if found else 0.0
    for path, stat in found[:-1]:
        if total <= limits.size and newest - stat.st_mtime <= limits.age_s:
            break
        path.unlink()
        total -= stat.st_size


def _latest(directory: Path) -> dict[int, Source]:
    """The sources of a record's newest segment, which knows all of them."""
    newest = max(directory.glob("*.parquet"), default=None)
    if newest is None:
        return {}
    return {s.number: s for s in _noted(newest)}


def _noted(segment: Path) -> list[Source]:
    metadata = pq.read_metadata(segment).metadata or {}
    return [Source(**told) for told in json.loads(metadata.get(b"occorr.sources", b"[]"))]


# ---------------------------------------------------------------- reading
def is_record(path: Path) -> bool:
    """Whether a path is a directory that `Record` wrote."""
    return path.is_dir() and (path / MARK).is_file()


@dataclass(frozen=True, slots=True)
class Stored:
    """A source of a record and where its lines are: the parts' paths without suffix, and a digest of what they hold."""

    source: Source
    parts: tuple[Path, ...]
    sha256: str

    def lines(self) -> Iterator[pl.DataFrame]:
        """Frames of `line`, `offset` and `raw`, in order."""
        for part in self.parts:
            for rows in _rows(part, self.source):
                if rows.height:
                    yield rows.select("line", "offset", "raw")


def _rows(part: Path, source: Source) -> Iterator[pl.DataFrame]:
    """A source's lines of one part, sealed or not; it may be sealed at this moment."""
    journal, segment = part.with_suffix(".journal"), part.with_suffix(".parquet")
    if not segment.exists():
        try:
            yield from [rows.filter(pl.col("number") == source.number) for rows in _pieces(journal, {})]
        except FileNotFoundError:
            pass
        else:
            return
    yield pl.scan_parquet(segment).filter(pl.col("source").cast(pl.String) == source.path).collect()


def stored(directory: Path) -> list[Stored]:
    """The sources of a record, also of one that is still being written, in a stable order."""
    parts = tuple(sorted({p.with_suffix("") for p in directory.iterdir() if p.suffix in (".parquet", ".journal")}))
    book: dict[int, Source] = {}
    whole = hashlib.sha256()
    for part in parts:
        segment = part.with_suffix(".parquet")
        try:
            data = part.with_suffix(".journal").read_bytes() if not segment.exists() else segment.read_bytes()
        except FileNotFoundError:
            data = segment.read_bytes()
        whole.update(data)
    for part in parts[-1:]:  # the newest knows all sources
        if part.with_suffix(".parquet").exists():
            book = {s.number: s for s in _noted(part.with_suffix(".parquet"))}
        else:
            book = _latest(directory)
            for _ in _pieces(part.with_suffix(".journal"), book):
                pass
    found = whole.hexdigest()
    return [Stored(s, parts, digest(f"{found} {s.path}")) for s in sorted(book.values(), key=lambda s: s.path)]


def sentence(note: str) -> str:
    """What a note of the record means for whoever reads it later; empty for what leaves nothing out."""
    told = json.loads(note)
    if told.get("type") == "gap":
        return (
            f"no events from {told['begin']} to {told['end']} ({told['reason']});"
            f" {', '.join(told['reconciled']) or 'inspect shows no change'}"
        )
    return (
        f"the log of {told['container']} cannot be read: {told['reason']}" if told.get("type") == "unreadable" else ""
    )
