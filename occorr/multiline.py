"""Records that run over several lines of a file, written as one line each: JSON that was laid out for people, `journalctl -o export`.

A record keeps the number and the byte of its first line, so that evidence points to where it begins.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT: Final = 64 << 20  # a larger file is read line by line
_EXPORT: Final = re.compile(rb"(?:__CURSOR|__REALTIME_TIMESTAMP|_BOOT_ID)=")
_LAID_OUT: Final = re.compile(rb"(?:\[\s*)?\{\s*\n|\[\s*\{\"|\[\s*\n")


def rewritten(data: bytes) -> Iterator[pl.DataFrame] | None:
    """Frames of `line`, `offset` and `raw`, a record a row; None where the text is lines already."""
    if len(data) > LIMIT:
        return None
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if _EXPORT.match(head):
        rows = list(_export(data))
    elif _LAID_OUT.match(head):
        rows = _laid_out(data)
    else:
        return None
    if not rows:
        return None
    lines, offsets, texts = zip(*rows, strict=True)
    return iter(
        [
            pl.DataFrame(
                {
                    "line": pl.Series(lines, dtype=pl.Int64),
                    "offset": pl.Series(offsets, dtype=pl.Int64),
                    "raw": pl.Series(texts, dtype=pl.String),
                }
            )
        ]
    )


def _laid_out(data: bytes) -> list[tuple[int, int, str]]:
    """JSON objects over several lines, one behind the other or in one array; nothing where the text is not made of them."""
    text = data.decode("utf-8", "replace")
    decoder = json.JSONDecoder()
    out: list[tuple[int, int, str]] = []
    position = line = offset = before = 0
    skip = re.compile(r"[\s,\[\]\ufeff]*")
    while True:
        found = skip.match(text, position)
        position = found.end() if found else position
        if position >= len(text):
            return out
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            value, end = None, position
        if not isinstance(value, dict):
            return out  # what follows a record that is cut off cannot be told apart from it
        passed = text[before:position]
        line, offset, before = line + passed.count("\n"), offset + len(passed.encode()), position
        out.append((line + 1, offset, json.dumps(value, ensure_ascii=False, separators=(",", ":"))))
        position = end


def _export(data: bytes) -> Iterator[tuple[int, int, str]]:
    """The journal's export format: fields as NAME=value, or NAME, a length of eight bytes and the value; an empty line ends a record."""
    record: dict[str, str] = {}
    position, line, first, start = 0, 1, 1, 0
    while position < len(data):
        end = data.find(b"\n", position)
        end = len(data) if end < 0 else end
        row = data[position:end]
        position, number, line = end + 1, line, line + 1
        if not row.strip():
            if record:
                yield first, start, json.dumps(record, ensure_ascii=False, separators=(",", ":"))
            record = {}
            continue
        if not record:
            first, start = number, end - len(row)
        name, equals, value = row.partition(b"=")
        if not equals:
            size = int.from_bytes(data[position : position + 8], "little")
            value = data[position + 8 : position + 8 + size]
            line += data.count(b"\n", position, position + 9 + size)
            position += 9 + size
        record[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    if record:
        yield first, start, json.dumps(record, ensure_ascii=False, separators=(",", ":"))
