"""Finds the inputs and turns them into lines that keep their number and byte offset.

A line is never copied on its way into polars: the newlines of a chunk are found with numpy, and an Arrow array is laid
over the bytes that were read.
"""

from __future__ import annotations

import glob
import hashlib
import mmap
import os
import re
import stat
import sys
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from occorr import multiline, packed, segments
from occorr.errors import OccorrError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

CHUNK: Final = 64 << 20
_DOCUMENTATION: Final = frozenset(
    {".md", ".rst", ".html", ".htm", ".toml", ".png", ".svg", ".pdf", ".parquet", ".css", ".js", ".py"}
)
_CONFIGURATIONS: Final = frozenset({"traefik.toml"})  # the name under which Traefik itself looks for its own
_UTF16: Final = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes of one input, uncompressed, and what happened while reading it.

    `status` is ok, partial (some bytes could not be read), failed, empty or skipped. An input that holds no bytes of
    its own gives `lines`: frames like those of `chunks`, with numbers and offsets that it knows, and `root`, the digest
    of its first record.
    """

    path: str
    data: bytes | mmap.mmap = b""
    sha256: str = ""
    status: str = "ok"
    message: str = ""
    lines: Callable[[], Iterator[pl.DataFrame]] | None = None
    root: str = ""
    origin: Mapping[str, str] = field(default_factory=dict)


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
            closed: list[OSError] = []
            for base, folders, names in os.walk(path, onerror=closed.append):
                folders[:] = sorted(f for f in folders if not f.startswith("."))
                for name in sorted(names, key=_rotation):
                    if not name.startswith("."):
                        file = Path(base, name)
                        found.setdefault(str(file), (file, False))
            # a directory that may not be listed stands for itself, so that it is said why nothing of it was read
            found |= {str(e.filename): (Path(e.filename), True) for e in closed}
            continue
        matches = [path] if path.exists() else [Path(m) for m in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207
        if not matches:
            raise OccorrError(
                f"{text}: no such file or directory. Give a log file, a directory of logs, or - for stdin."
            )
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
    """Reads every input; one that fails says so in its status and the next one is read. An archive's files are inputs of their own."""
    for given in inputs:
        if segments.is_record(Path(given)):
            yield from recorded(Path(given))
    for file, named in expand([i for i in inputs if not segments.is_record(Path(i))]):
        yield from _stdin() if file is None else _file(file, named=named)


def recorded(directory: Path) -> Iterator[Blob]:
    """The logs and documents of a record that `occorr watch` keeps; what it could not have is said beside the events."""
    found = segments.stored(directory)
    notes = "; ".join(
        n
        for s in found
        if s.source.kind == "note"
        for frame in s.lines()
        for text in frame.get_column("raw")
        if (n := segments.sentence(text))
    )
    for part in found:
        path = str(directory / part.source.path)
        if part.source.kind == "document":
            data = "".join(deque((frame.item(-1, "raw") for frame in part.lines()), maxlen=1)).encode()
            yield Blob(path, data, hashlib.sha256(data).hexdigest())
        elif part.source.kind in ("log", "events"):
            told = notes if part.source.kind == "events" else ""
            yield Blob(
                path,
                sha256=part.sha256,
                status="partial" if told else "ok",
                message=told,
                lines=part.lines,
                root=part.source.root,
                origin=part.source.origin,
            )


def _stdin() -> Iterator[Blob]:
    data = sys.stdin.buffer.read()
    yield from _opened(Blob("-", data, hashlib.sha256(data).hexdigest()))


def _unread(name: str) -> str:
    """Why a file that nobody named is not read; empty if it is."""
    suffix = PurePath(name).suffix.lower()
    if suffix not in _DOCUMENTATION or PurePath(name).name.lower() in _CONFIGURATIONS:
        return ""
    return f"documentation or data ({suffix}), not read; name the file itself to read it"


def _file(path: Path, *, named: bool) -> Iterator[Blob]:
    shown = str(path)
    if not named and (why := _unread(path.name)):
        yield Blob(shown, status="skipped", message=why)
        return
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            why = "a directory that may not be listed; check its permissions"
            yield Blob(shown, status="failed", message=why)
            return
        if not stat.S_ISREG(mode):
            yield Blob(
                shown,
                status="failed",
                message=(
                    "not a regular file (pipe, socket or device); copy its content to a file, or pipe it to 'occorr"
                    " analyze -'"
                ),
            )
            return
        if path.stat().st_size == 0:
            yield Blob(
                shown,
                status="empty",
                message="the file is empty; collect it again if it should hold lines",
                sha256=hashlib.sha256(b"").hexdigest(),
            )
            return
        with path.open("rb") as handle:
            data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        yield Blob(shown, status="failed", message=f"cannot be read: {error.strerror}; check its permissions and path")
        return
    yield from _opened(Blob(shown, data, hashlib.sha256(data).hexdigest()))


def _opened(blob: Blob) -> Iterator[Blob]:
    """The blob without its compression; of an archive, its files in the order in which a directory's would come."""
    how = packed.kind(bytes(blob.data[:6]))
    if not packed.is_tar(blob.data, how):
        yield _unpacked(blob, packed.Allowance())
        return
    allowance = packed.Allowance()
    members, trouble = packed.members(blob.data, how, allowance)
    if trouble or not members:
        yield replace(
            blob, data=b"", status="partial" if members else "failed", message=trouble or "an archive without files"
        )
    for member in sorted(members, key=lambda m: _walked(m.name)):
        inner = Blob(
            f"{blob.path}/{member.name}",
            member.data,
            hashlib.sha256(member.data).hexdigest() if member.data else "",
            member.status,
            member.message,
        )
        if member.status == "ok" and (why := _unread(member.name)):
            yield replace(inner, data=b"", sha256="", status="skipped", message=why)
        elif member.status in ("ok", "partial"):
            yield _member(inner, allowance)
        else:
            yield inner


def _member(blob: Blob, allowance: packed.Allowance) -> Blob:
    if not len(blob.data):
        return replace(
            blob,
            status="empty",
            message="the file is empty; collect it again if it should hold lines",
            sha256=hashlib.sha256(b"").hexdigest(),
        )
    if packed.is_tar(blob.data, packed.kind(bytes(blob.data[:6]))):
        return replace(blob, data=b"", status="failed", message="an archive within an archive; unpack the outer one")
    return _unpacked(blob, allowance)


def _walked(name: str) -> tuple[tuple[int, object], ...]:
    """Sorts names as `expand` walks a directory: files first, then folders."""
    *folders, file = name.split("/")
    return (*((1, f) for f in folders), (0, _rotation(file)))


def _unpacked(blob: Blob, allowance: packed.Allowance) -> Blob:
    """The blob with its compression and UTF-16 undone, recognised by magic bytes and never by the name."""
    if kind := packed.kind(bytes(blob.data[:6])):
        data, error = packed.unpack(bytes(blob.data), kind, allowance)
        if error and not data:
            return replace(blob, data=b"", status="failed", message=error)
        blob = replace(blob, data=data)
        if error:
            blob = replace(blob, status="partial", message=f"{error}; the first {len(data):,} bytes were read")
    for bom, encoding in _UTF16:
        if bytes(blob.data[:2]) == bom:
            return replace(blob, data=bytes(blob.data).decode(encoding, "replace").lstrip("\ufeff").encode())
    rows = multiline.rewritten(bytes(blob.data)) if len(blob.data) <= multiline.LIMIT else None
    if rows is not None:
        frames = list(rows)
        return replace(blob, lines=lambda: iter(frames), root=frames[0].item(0, "raw"))
    if b"\x00" in bytes(blob.data[:8192]):
        return replace(
            blob,
            data=b"",
            status="failed",
            message="a binary file, no text log; leave it out, or convert it to text first",
        )
    if not bytes(blob.data[:8192]).strip() and not bytes(blob.data[:]).strip():
        return replace(blob, data=b"", status="empty", message="the file holds only blank lines")
    return blob


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
    import pyarrow as pa  # noqa: PLC0415 - 38 MB that `watch`, which runs for days, has no use for

    breaks = np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")) + 1
    tail = [] if len(breaks) and breaks[-1] == len(chunk) else [len(chunk)]
    starts = np.concatenate([[0], breaks, tail]).astype(np.int64)
    count = len(starts) - 1
    array = pa.Array.from_buffers(pa.large_binary(), count, [None, pa.py_buffer(starts), pa.py_buffer(chunk)])
    raw = pl.Series("raw", pl.from_arrow(array))
    try:
        raw = raw.cast(pl.String)
    except (
        pl.exceptions.ComputeError
    ):  # invalid UTF-8: replacing never makes or removes a line break, so the lines stay
        texts = [bytes(line).decode("utf-8", "replace") for line in raw]
        raw = pl.Series("raw", texts, dtype=pl.String)
    return pl.DataFrame(
        {"line": pl.Series(np.arange(number, number + count)), "offset": pl.Series(starts[:-1] + base), "raw": raw}
    )


def digest(blobs_: Iterable[Blob]) -> str:
    """One digest of all inputs, independent of their order and names."""
    return hashlib.sha256("".join(sorted(b.sha256 for b in blobs_)).encode()).hexdigest()
