"""Writes a result directory whole or not at all, and reads one back."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from occorr import __version__, schema
from occorr.analysis import Analysis
from occorr.errors import OccorrError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MARK: Final = "occorr.json"


def save(result: Analysis, target: Path, texts: Mapping[str, str]) -> None:
    """Writes all tables and texts beside `target` and renames the directory into its place.

    Args:
        result: the tables.
        target: the directory; replaced if occorr wrote it.
        texts: further files by name, such as report.md.

    Raises:
        OccorrError: something that occorr did not write stands there, or the place cannot be written.
    """
    if target.exists() and (not target.is_dir() or (any(target.iterdir()) and not (target / MARK).is_file())):
        raise OccorrError(f"{target} exists and was not written by occorr; give another directory with -o")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OccorrError(f"{target}: cannot be written: {error.strerror}; give another directory with -o") from error
    try:
        for name, table in schema.TABLES.items():
            _parquet(getattr(result, name), table, beside / f"{name}.parquet")
        for name, text in texts.items():
            (beside / name).write_text(text, encoding="utf-8")
        mark = {
            "occorr": __version__,
            "schema": schema.VERSION,
            "partial": result.partial,
            "redacted": result.redacted,
            "asked": asdict(result.asked),
        }
        (beside / MARK).write_text(json.dumps(mark) + "\n", encoding="utf-8")
        beside.chmod(0o755)
        _exchange(beside, target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _exchange(beside: Path, target: Path) -> None:
    """The new directory takes the old one's place; between the two renames neither stands there."""
    if not target.exists():
        beside.rename(target)
        return
    old = beside.with_name(beside.name + ".old")
    target.rename(old)
    try:
        beside.rename(target)
    except BaseException:  # also Ctrl-C: the old result must not stay hidden
        if not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _parquet(frame: pl.DataFrame, table: Mapping[str, schema.Column], path: Path) -> None:
    """One table with the OpenTelemetry and ECS names in its fields' metadata."""
    arrow = schema.conform(frame, table, final=True).to_arrow()
    fields = []
    for field in arrow.schema:
        column = table[field.name]
        notes = {"doc": column.doc, "otel": column.otel, "ecs": column.ecs}
        fields.append(field.with_metadata({k: v for k, v in notes.items() if v}))
    named = pa.schema(fields, metadata={"occorr.schema": str(schema.VERSION)})
    pq.write_table(arrow.cast(named), path, compression="zstd", write_statistics=True)


def load(source: Path) -> Analysis:
    """The result that `save` wrote.

    Raises:
        OccorrError: the directory holds no result.
    """
    mark = marked(source)
    tables = {
        name: schema.conform(pl.read_parquet(_table(source, name)).rechunk(), table)
        for name, table in schema.TABLES.items()
    }
    return Analysis(**tables, partial=mark.partial, redacted=mark.redacted, asked=mark.asked)


def scan(source: Path, names: Iterable[str] = schema.TABLES) -> dict[str, pl.LazyFrame]:
    """The tables that `save` wrote, unread: plain strings in place of dictionaries and enums, other columns as written.

    Args:
        source: a result directory.
        names: which tables.

    Raises:
        OccorrError: the directory holds no result, or lacks one of these tables.
    """
    marked(source)
    frames = {}
    for name in names:
        frame = pl.scan_parquet(_table(source, name), glob=False)
        coded = [c for c, dtype in frame.collect_schema().items() if isinstance(dtype, pl.Categorical | pl.Enum)]
        frames[name] = frame.with_columns(pl.col(coded).cast(pl.String))
    return frames


def within(path: Path) -> list[Path]:
    """The result directories that a path stands for: itself, or those right in it, by name; none if it holds logs."""
    if is_result(path):
        return [path]
    return sorted(p for p in path.iterdir() if is_result(p)) if path.is_dir() else []


@dataclass(frozen=True, slots=True)
class Mark:
    """What a result says of itself: whether inputs were read in part only, whether its secrets were replaced, which closes were asked for."""

    partial: bool
    redacted: bool
    asked: schema.Asked


def marked(source: Path) -> Mark:
    """What the result in a directory says of itself.

    Raises:
        OccorrError: it holds no result, or one whose mark is broken.
    """
    again = f"write one with: occorr analyze INPUT… -o {source}"
    if not is_result(source):
        raise OccorrError(f"{source} is no result directory of occorr (it lacks {MARK}); {again}")
    try:
        said = json.loads((source / MARK).read_text(encoding="utf-8"))
        told = said.get("asked", {})  # results of earlier versions do not say
        since, until = (None if told.get(end) is None else int(told[end]) for end in ("since_ns", "until_ns"))
        asked = schema.Asked(since, until, told.get("project"))
        return Mark(partial=bool(said["partial"]), redacted=bool(said["redacted"]), asked=asked)
    except (ValueError, KeyError, TypeError) as error:
        raise OccorrError(f"{source / MARK} does not say what it should; {again}") from error


def _table(source: Path, name: str) -> Path:
    path = source / f"{name}.parquet"
    if not path.is_file():
        raise OccorrError(f"{source} lacks {path.name}; write the result again with: occorr analyze INPUT… -o {source}")
    return path


def is_result(path: Path) -> bool:
    """Whether a path is a directory that `save` wrote."""
    return os.path.isfile(path / MARK)  # noqa: PTH113 - is_file() raises where the directory may not be entered
