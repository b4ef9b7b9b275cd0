"""Undoes compression and looks into tar archives, in memory and within limits: whoever made them is not trusted.

Nothing is unpacked to disk, so a name that leads out of the archive, a link or a device can do nothing; they are named
and left out. What unpacks to more than LIMIT is cut there.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final

import zstandard

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator

LIMIT: Final = 1 << 30  # bytes that one input may unpack to, archives within archives included
MEMBERS: Final = 10_000  # of an archive
_MAGIC: Final = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\x00", "xz"), (b"BZh", "bzip2"))
_PIECE: Final = 1 << 18  # bytes handled at once
_FEED: Final = 1 << 10  # the same of zstd, where four bytes can become 128 KiB
_DAMAGE: Final = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile)


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive; `status` is ok, skipped or failed, and `message` says why."""

    name: str
    data: bytes = b""
    status: str = "ok"
    message: str = ""


@dataclass(slots=True)
class Allowance:
    """How many bytes may still come out of one input."""

    left: int = field(default_factory=lambda: LIMIT)


def kind(head: bytes) -> str:
    """The compression that begins with these bytes, or an empty string."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


def unpack(data: bytes, how: str, allowance: Allowance | None = None) -> tuple[bytes, str]:
    """Everything that can be had, and what stopped it."""
    source = Source(_pieces(data, how, allowance or Allowance()), how)
    out: list[bytes] = []
    while piece := source.read(_PIECE):
        out.append(piece)
    return b"".join(out), source.trouble


class _LimitError(Exception):
    """More came out than an input may unpack to."""


def _pieces(data: bytes | mmap.mmap, how: str, allowance: Allowance) -> Iterator[bytes]:
    """The content in pieces; concatenated members one after another, so that a broken end costs only itself."""
    make: dict[str, Callable[[], Any]] = {
        "gzip": lambda: zlib.decompressobj(wbits=31),
        "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
        "xz": lzma.LZMADecompressor,
        "bzip2": bz2.BZ2Decompressor,
    }
    position, machine = 0, None
    while position < len(data):
        if machine is None and how:
            machine = make[how]()
        piece = bytes(data[position : position + (_FEED if how == "zstd" else _PIECE)])
        position += len(piece)
        for out in _step(machine, how, piece):
            if len(out) > allowance.left:
                yield out[: allowance.left]
                allowance.left = 0
                raise _LimitError
            allowance.left -= len(out)
            yield out
        if machine is not None and machine.eof:
            position -= len(machine.unused_data)
            machine = None
    if machine is not None:
        raise EOFError("the file ends in the middle of the compressed data")


def _step(machine: Any, how: str, piece: bytes) -> Iterator[bytes]:
    """What some bytes unpack to, in pieces of bearable size."""
    if machine is None:
        yield piece
    elif how == "zstd":  # has no bound of its own
        yield machine.decompress(piece)
    elif how == "gzip":
        out = machine.decompress(piece, _PIECE)
        yield out
        while not machine.eof and (machine.unconsumed_tail or len(out) == _PIECE):
            out = machine.decompress(machine.unconsumed_tail, _PIECE)
            yield out
    else:
        yield machine.decompress(piece, _PIECE)
        while not machine.eof and not machine.needs_input:
            yield machine.decompress(b"", _PIECE)


class Source:
    """What tarfile reads from: `read` over pieces. Damage ends it like the end of a file and stays told in `trouble`."""

    __slots__ = ("held", "how", "pieces", "trouble")

    def __init__(self, pieces: Iterator[bytes], how: str) -> None:
        self.pieces = pieces
        self.how = how
        self.held = b""
        self.trouble = ""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; fewer at the end only."""
        parts, have = [self.held], len(self.held)
        while have < size and not self.trouble:
            try:
                piece = next(self.pieces, None)
            except _DAMAGE as error:
                self.trouble = f"damaged {self.how}: {str(error) or type(error).__name__}; copy the file again"
                break
            except _LimitError:
                self.trouble = (
                    f"it unpacks to more than {LIMIT / 2**20:,.0f} MiB, the rest is left out; unpack it yourself and"
                    " give the part that matters"
                )
                break
            if piece is None:
                break
            parts.append(piece)
            have += len(piece)
        whole = b"".join(parts)
        self.held = whole[size:]
        return whole[:size]


def is_tar(data: bytes | mmap.mmap, how: str) -> bool:
    """Whether the content, once its compression is undone, is a tar archive."""
    head = Source(_pieces(data, how, Allowance()), how).read(512)
    return len(head) == 512 and head[257:262] == b"ustar"


def members(data: bytes | mmap.mmap, how: str, allowance: Allowance | None = None) -> tuple[list[Member], str]:
    """The files of a tar archive in its order, and what stopped the reading (empty: it was read to its end)."""
    source = Source(_pieces(data, how, allowance or Allowance()), how)
    found: dict[str, Member] = {}
    trouble = ""
    try:
        with tarfile.open(fileobj=source, mode="r|", errorlevel=2) as tar:  # type: ignore[call-overload] # only `read` is used
            for number, entry in enumerate(tar):
                if number >= MEMBERS:
                    return (
                        list(found.values()),
                        f"it holds more than {MEMBERS:,} files, the rest is left out; give the part that matters",
                    )
                member = _member(tar, entry, found)
                if member is not None:
                    found[member.name] = member
            trouble = "" if source.trouble else _ending(tar)
    except (tarfile.TarError, *_DAMAGE) as error:
        trouble = f"damaged archive: {str(error) or type(error).__name__}; copy the file again"
    return list(found.values()), source.trouble or trouble


def _member(tar: tarfile.TarFile, entry: tarfile.TarInfo, found: dict[str, Member]) -> Member | None:
    parts = PurePosixPath(entry.name.replace("\\", "/")).parts
    if entry.isdir():
        return None
    name = "/".join(p for p in parts if p not in ("/", "."))
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0] or not entry.name.isprintable():
        safe = "".join(c if c.isprintable() else "�" for c in entry.name)
        return Member(safe, status="skipped", message="its name leads out of the archive or hides something; left out")
    if any(p.startswith(".") for p in parts if p != "."):
        return None  # as in directories
    if entry.issym() or entry.islnk():
        return Member(
            name, status="skipped", message="a link; left out, since what it points at is read where it stands"
        )
    if not entry.isreg() or entry.issparse():
        return Member(name, status="skipped", message="no ordinary file (device, pipe or sparse); left out")
    if name in found:
        return Member(
            f"{name} (again)", status="skipped", message="the archive holds this name twice; the first one was read"
        )
    handle = tar.extractfile(entry)
    content = _content(handle) if handle is not None else b""
    if len(content) < entry.size:
        return Member(
            name, content, "partial", f"the archive breaks off in this file: {len(content):,} of {entry.size:,} bytes"
        )
    return Member(name, content)


def _content(handle: IO[bytes]) -> bytes:
    """As much of a file as the archive still holds."""
    parts: list[bytes] = []
    try:
        while piece := handle.read(_PIECE):
            parts.append(piece)
    except tarfile.ReadError:  # the archive ends in it
        pass
    return b"".join(parts)


def _ending(tar: tarfile.TarFile) -> str:
    """Tarfile takes a damaged header for the end; after a real one there are zeros only."""
    rest = b""
    while tar.fileobj is not None and (piece := tar.fileobj.read(_PIECE)):
        rest = piece
        if piece.strip(b"\0"):
            return (
                "damaged archive: no header where one was expected; what stands before it was read, copy the file again"
            )
    return "" if rest else "damaged archive: its end is missing; copy the file again"
