"""Segments: a journal that was read becomes a Parquet file, and the oldest go where there are too many."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import polars as pl
from polars.io.plugins import register_io_source

from occorr.segments.journal import Source, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# The source's path as it is named in evidence; stdout or stderr; the engine's stamp (OpenTelemetry: ObservedTimestamp);
# the line's number from 1 and the byte at which it begins; the line as `docker logs --timestamps` prints it, secrets replaced.
_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "source": pl.String,
    "stream": pl.String,
    "time": pl.Datetime("ns", "UTC"),
    "line": pl.Int64,
    "offset": pl.Int64,
    "raw": pl.String,
}
_SOURCES: Final = "occorr.sources"
_GROUP: Final = 10_000  # lines that are in memory before they are written


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the record is kept: bytes of segments, and seconds since a segment was sealed."""

    size: int = 1 << 30
    age_s: float = 14 * 86400.0


def seal(journal: Path, book: Mapping[int, Source] | None = None) -> None:
    """A segment of a journal, written beside its place and renamed; then the journal goes.

    Args:
        journal: what nobody appends to any more.
        book: the sources as they stand at its end; by default they are counted.

    Raises:
        OSError: there is no room for it; the journal stays.
    """
    target, beside = journal.with_suffix(".parquet"), journal.with_suffix(".part")
    if not target.exists() and next(pieces(journal, {}), None) is not None:
        if book is None:
            book = {}
            for _ in pieces(journal, book):
                pass
        try:
            _write(journal, beside, book)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        beside.rename(target)
    journal.unlink()


def _write(journal: Path, beside: Path, book: Mapping[int, Source]) -> None:
    """Writes a journal's lines as Parquet, a piece in memory at a time."""

    def stamped(*_: object) -> Iterator[pl.DataFrame]:
        known: dict[int, Source] = {}
        for rows in pieces(journal, known):
            yield rows.select(
                pl.col("number")
                .replace_strict({n: s.path for n, s in known.items()}, return_dtype=pl.String)
                .alias("source"),
                "stream",
                pl.col("stamp")
                .str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="ns", time_zone="UTC", strict=False)
                .alias("time"),
                "line",
                "offset",
                "raw",
            )

    told = json.dumps([asdict(s) for s in book.values()], sort_keys=True)
    try:
        register_io_source(stamped, schema=_SCHEMA).sink_parquet(
            beside, compression="zstd", row_group_size=_GROUP, metadata={_SOURCES: told}
        )
    except pl.exceptions.ComputeError as error:  # a full disk, as polars tells it
        if (found := re.search(r"os error (\d+)", str(error))) is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(beside)) from error
    with beside.open("rb") as handle:
        os.fsync(handle.fileno())


def prune(directory: Path, limits: Limits) -> None:
    """Deletes the oldest segments while there are too many bytes, and those that are too old; the newest one stays."""
    found = [(p, p.stat()) for p in sorted(directory.glob("*.parquet"))]
    total = sum(s.st_size for _, s in found)
    newest = found[-1][1].st_mtime if found else 0.0
    for path, stat in found[:-1]:
        if total <= limits.size and newest - stat.st_mtime <= limits.age_s:
            break
        path.unlink()
        total -= stat.st_size


def latest(directory: Path) -> dict[int, Source]:
    """The sources of a record's newest segment, which knows all of them."""
    newest = max(directory.glob("*.parquet"), default=None)
    if newest is None:
        return {}
    return {s.number: s for s in noted(newest)}


def noted(segment: Path) -> list[Source]:
    """The sources that a segment knows."""
    return [Source(**told) for told in json.loads(pl.read_parquet_metadata(segment).get(_SOURCES, "[]"))]
