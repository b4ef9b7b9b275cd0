"""Journals: plain text, a line for each line that came, and a control line for each source; parsed back to frames."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PIECE: Final = 1 << 18  # bytes that are parsed at once; it decides how much memory a busy log takes
_CONTROL: Final = "+"


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


def control(source: Source) -> bytes:
    """The line that tells of a source, and how far it was counted."""
    return f"{_CONTROL} {json.dumps(asdict(source), sort_keys=True)}\n".encode()


def pieces(journal: Path, book: dict[int, Source]) -> Iterator[pl.DataFrame]:
    """The lines of a journal, piece by piece; a torn last line is left out."""
    with journal.open("rb") as handle:
        while piece := handle.read(PIECE):
            piece += handle.readline()
            whole = piece[: piece.rfind(b"\n") + 1]
            rows = parse(whole, book)
            if rows.height:
                yield rows
