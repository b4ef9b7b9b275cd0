"""Segments: a journal that was read becomes a Parquet file, and the oldest go where there are too many."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from occorr.segments.journal import Source, pieces

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
class Limits:
    """How much of the record is kept: bytes of segments, and seconds since a segment was sealed."""

    size: int = 1 << 30
    age_s: float = 14 * 86400.0


def seal(journal: Path) -> None:
    """A segment of a journal, written beside its place and renamed; then the journal goes.

    Raises:
        OSError: there is no room for it; the journal stays.
    """
    target, beside = journal.with_suffix(".parquet"), journal.with_suffix(".part")
    if not target.exists():
        try:
            filled = _write(journal, beside)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        if filled:
            beside.rename(target)
    journal.unlink()


def _write(journal: Path, beside: Path) -> bool:
    """Writes a journal's lines as Parquet; False where it holds none."""
    book: dict[int, Source] = {}
    writer = None
    for rows in pieces(journal, book):
        writer = writer or pq.ParquetWriter(beside, _SCHEMA, compression="zstd")
        writer.write_table(_arrow(rows, book))
    if writer is None:
        return False
    writer.add_key_value_metadata({"occorr.sources": json.dumps([asdict(s) for s in book.values()], sort_keys=True)})
    writer.close()
    with beside.open("rb") as handle:
        os.fsync(handle.fileno())
    return True


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
    metadata = pq.read_metadata(segment).metadata or {}
    return [Source(**told) for told in json.loads(metadata.get(b"occorr.sources", b"[]"))]
