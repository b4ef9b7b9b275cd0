"""Finds the inputs and turns them into lines that keep their number and byte offset.

A line is never copied on its way into polars: the newlines of a chunk are found with numpy, and an Arrow array is laid
over the bytes that were read.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import hashlib
import lzma
import mmap
import os
import re
import stat
import sys
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import zstandard

from occorr.errors import OccorrError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

CHUNK: Final = 64 << 20
_DOCUMENTATION: Final = frozenset({".md", ".rst", ".html", ".htm", ".toml", ".png", ".svg", ".pdf", ".parquet", ".css", ".js", ".py"})
_MAGIC: Final = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\x00", "xz"), (b"BZh", "bzip2"))
_UTF16: Final = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes of one input, uncompressed, and what happened while reading it.

    `status` is ok, partial (some bytes could not be read), failed, empty or skipped. An input that holds no bytes of its
    own gives `lines`: frames like those of `chunks`, with numbers and offsets that it knows, and `root`, its first record.
    """

    path: str
    data: bytes | mmap.mmap = b""
    sha256: str = ""
    status: str = "ok"
    message: str = ""
    lines: Callable[[], Iterator[pl.DataFrame]] | None = None
    root: str = ""


def expand(inputs: Sequence[str | Path]) -> list[tuple[Path | None, bool]]:
    """The files behind paths, directories and patterns, each once, in a stable order; None stands for stdin.

    Returns:
        pairs (file, named): named tells that a person asked for this very file.

    Raises:
        OccorrError: an input does not exist.
    """
    found: dict[str, tuple[Path | None, bool]] = {}
    for given in inputs:
        text = str(given)
        if text == "-":
            found.setdefault("-", (None, True))
            continue
        path = Path(text)
        if path.is_dir():
            for base, folders, names in os.walk(path):
                folders[:] = sorted(f for f in folders if not f.startswith("."))
                for name in sorted(names, key=_rotation):
                    if not name.startswith("."):
                        file = Path(base, name)
                        found.setdefault(str(file), (file, False))
            continue
        matches = [path] if path.exists() else [Path(m) for m in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207
        if not matches:
            raise OccorrError(f"{text}: no such file or directory. Give a log file, a directory of logs, or - for stdin.")
        for match in matches:
            found.setdefault(str(match), (match, True))
    return list(found.values())


def _rotation(name: str) -> tuple[str, int, str]:
    """Sorts a rotated set from its oldest file to its newest: app.log.2.gz, app.log.1, app.log; app.2.log, app.1.log, app.log."""
    bare = re.sub(r"\.(?:gz|xz|zst|bz2)$", "", name)
    if found := re.fullmatch(r"(.+?)\.(\d{1,3})(\.log)?", bare):
        return found[1] + (found[3] or ""), -int(found[2]), name
    if found := re.fullmatch(r"(.+\.log)[-.](\d{4}-?\d\d-?\d\d(?:[-T_]?\d{2,6})?)", bare):
        return found[1], -1, name
    return bare, 0, name


def blobs(inputs: Sequence[str | Path]) -> Iterator[Blob]:
    """Reads every input; one that fails says so in its status and the next one is read."""
    for file, named in expand(inputs):
        yield _stdin() if file is None else _file(file, named=named)


def _stdin() -> Blob:
    data = sys.stdin.buffer.read()
    return _unpacked(Blob("-", data, hashlib.sha256(data).hexdigest()))


def _file(path: Path, *, named: bool) -> Blob:
    shown = str(path)
    if not named and path.suffix.lower() in _DOCUMENTATION:
        return Blob(shown, status="skipped", message=f"documentation or data ({path.suffix}), not read; name the file itself to read it")
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return Blob(shown, status="failed", message="not a regular file (pipe, socket or device); copy its content to a file, or pipe it to 'occorr analyze -'")
        if path.stat().st_size == 0:
            return Blob(shown, status="empty", message="the file is empty; collect it again if it should hold lines", sha256=hashlib.sha256(b"").hexdigest())
        with path.open("rb") as handle:
            data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        return Blob(shown, status="failed", message=f"cannot be read: {error.strerror}; check its permissions and path")
    return _unpacked(Blob(shown, data, hashlib.sha256(data).hexdigest()))


def _unpacked(blob: Blob) -> Blob:
    """The blob with its compression and UTF-16 undone, recognised by magic bytes and never by the name."""
    head = bytes(blob.data[:6])
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            data, error = _decompress(bytes(blob.data), kind)
            if error and not data:
                return replace(blob, data=b"", status="failed", message=f"damaged {kind}: {error}; copy the file again")
            blob = replace(blob, data=data)
            if error:
                message = f"damaged {kind}: {error}; the first {len(data):,} bytes were read, copy the file again for the rest"
                blob = replace(blob, status="partial", message=message)
            break
    for bom, encoding in _UTF16:
        if bytes(blob.data[:2]) == bom:
            return replace(blob, data=bytes(blob.data).decode(encoding, "replace").lstrip("\ufeff").encode())
    if b"\x00" in bytes(blob.data[:8192]):
        return replace(blob, data=b"", status="failed", message="a binary file, no text log; leave it out, or convert it to text first")
    if not bytes(blob.data[:8192]).strip() and not bytes(blob.data[:]).strip():
        return replace(blob, data=b"", status="empty", message="the file holds only blank lines")
    return blob


def _decompress(data: bytes, kind: str) -> tuple[bytes, str]:
    """Everything that can be had, and what stopped it."""
    out: list[bytes] = []
    try:
        if kind == "gzip":
            _feed(data, lambda: zlib.decompressobj(wbits=31), out)
        elif kind == "zstd":
            _feed(data, lambda: zstandard.ZstdDecompressor().decompressobj(), out)
        else:
            _feed(data, bz2.BZ2Decompressor if kind == "bzip2" else lzma.LZMADecompressor, out)
    except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile) as error:
        return b"".join(out), str(error) or type(error).__name__
    return b"".join(out), ""


def _feed(data: bytes, make: Callable[[], Any], out: list[bytes]) -> None:
    """Runs one decompressor after another over concatenated members, in pieces, so that a broken end costs only itself."""
    while data:
        machine = make()
        position = 0
        while position < len(data) and not machine.eof:
            piece = data[position : position + (1 << 16)]
            position += len(piece)
            out.append(machine.decompress(piece))
        if not machine.eof:
            raise EOFError("the file ends in the middle of the compressed data")
        data = machine.unused_data + data[position:]


def chunks(blob: Blob, size: int = CHUNK) -> Iterator[pl.DataFrame]:
    """The blob's lines, in frames of at most about `size` bytes (or one longer line).

    Columns: `line` i64 from 1; `offset` i64, the byte where it starts; `raw` str with its line break still on.
    """
    if blob.lines is not None:
        yield from blob.lines()
        return
    data, position, number = blob.data, 0, 1
    if bytes(data[:3]) == b"\xef\xbb\xbf":
        position = 3
    while position < len(data):
        end = len(data)
        if position + size < end:
            cut = data.rfind(b"\n", position, position + size) + 1
            cut = cut or data.find(b"\n", position + size) + 1
            end = cut or end
        frame = _lines(data[position:end], position, number)
        yield frame
        number += frame.height
        position = end


def _lines(chunk: bytes, base: int, number: int) -> pl.DataFrame:
    breaks = np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")) + 1
    tail = [] if len(breaks) and breaks[-1] == len(chunk) else [len(chunk)]
    starts = np.concatenate([[0], breaks, tail]).astype(np.int64)
    count = len(starts) - 1
    array = pa.Array.from_buffers(pa.large_binary(), count, [None, pa.py_buffer(starts), pa.py_buffer(chunk)])
    raw = pl.Series("raw", pl.from_arrow(array))
    try:
        raw = raw.cast(pl.String)
    except pl.exceptions.ComputeError:  # invalid UTF-8: replacing never makes or removes a line break, so the lines stay
        texts = [bytes(line).decode("utf-8", "replace") for line in raw]
        raw = pl.Series("raw", texts, dtype=pl.String)
    return pl.DataFrame(
        {"line": pl.Series(np.arange(number, number + count)), "offset": pl.Series(starts[:-1] + base), "raw": raw}
    )


def digest(blobs_: Iterable[Blob]) -> str:
    """One digest of all inputs, independent of their order and names."""
    return hashlib.sha256("".join(sorted(b.sha256 for b in blobs_)).encode()).hexdigest()
