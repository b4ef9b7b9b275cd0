"""A record as `read` sees it, also one that is still being written."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from occorr.segments.journal import Source, digest, pieces
from occorr.segments.sealing import latest, noted
from occorr.segments.writing import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def is_record(path: Path) -> bool:
    """Whether a path is a directory that `Record` wrote."""
    return os.path.isfile(path / MARK)  # noqa: PTH113 - is_file() raises where the directory may not be entered


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
            yield from [rows.filter(pl.col("number") == source.number) for rows in pieces(journal, {})]
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
            book = {s.number: s for s in noted(part.with_suffix(".parquet"))}
        else:
            book = latest(directory)
            for _ in pieces(part.with_suffix(".journal"), book):
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
