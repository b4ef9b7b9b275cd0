"""A bundle: evidence taken from an engine as files that `analyze` reads, with a manifest that says what is there and what is not.

Layout, in the forms that docker's own commands print:

    manifest.json              what was taken, when, from whom; sha256 of each file; what could not be had and why
    docker.events.jsonl        docker events --format json
    docker.inspect.json        docker inspect of each container; its health log grows while it is followed
    docker.images.json         docker image inspect
    docker.networks.json       docker network inspect
    docker.version.json        docker version and docker info
    logs/NAME-ID.stdout.log    docker logs -t, a file a stream
    files/NAME/…               files from inside a container
    kernel.log                 the kernel's lines about killed processes, with the host's stamps

It is written beside its place and renamed, so that it is there whole or not at all; one that is there is never
replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import zstandard

from occorr.errors import OccorrError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from occorr.read import Blob

MANIFEST: Final = "manifest.json"
MARK: Final = "occorr_bundle"
FORMAT: Final = 1
_PACKED: Final = {
    ".tar": "",
    ".tar.gz": "gz",
    ".tgz": "gz",
    ".tar.zst": "zst",
    ".tzst": "zst",
    ".tar.xz": "xz",
    ".tar.bz2": "bz2",
}
_LEVEL: Final = 9  # of zstd: about 1/20 of a gateway's log at tens of MB/s


@dataclass(slots=True)
class Draft:
    """A bundle that is being written.

    Attributes:
        place: the directory that it is written to, for the time being.
        missing: what could not be had: what, why, and whether it was asked for (then the bundle is partial).
    """

    place: Path
    missing: list[dict[str, Any]] = field(default_factory=list)

    def lacks(self, what: str, why: str, *, asked: bool = True) -> None:
        """Notes what could not be had; the same is noted once."""
        row = {"what": what, "why": why, "asked": asked}
        if row not in self.missing:
            self.missing.append(row)

    def path(self, name: str) -> Path:
        """Where a file of the bundle is to be written; its folder is made."""
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_json(self, name: str, data: Any) -> None:
        """Writes a document."""
        self.path(name).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def packing(target: Path) -> str | None:
    """How a target's name asks to be packed: gz, zst, xz, bz2, or an empty string for a plain tar; None for a directory."""
    name = target.name.lower()
    return next(
        (how for ending, how in sorted(_PACKED.items(), key=lambda p: -len(p[0])) if name.endswith(ending)), None
    )


def free(target: Path) -> None:
    """Makes sure that a bundle can be put there.

    Raises:
        OccorrError: something is there already, or the name asks for a form that bundles do not have.
    """
    if target.suffix.lower() in (".zip", ".gz", ".zst", ".xz", ".bz2", ".7z") and packing(target) is None:
        raise OccorrError(
            f"-o {target}: a bundle is a directory or a tar archive; name it"
            f" {target.stem.removesuffix('.tar')}.tar.zst, or without an ending"
        )
    if target.exists() and not (target.is_dir() and packing(target) is None and not any(target.iterdir())):
        raise OccorrError(f"-o {target} exists; evidence is never overwritten, so give another name")


@contextlib.contextmanager
def writing(target: Path) -> Iterator[Draft]:
    """A draft that becomes the bundle at `target` when `finish` was called, and vanishes otherwise.

    Raises:
        OccorrError: something is there already, or the place cannot be written.
    """
    free(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OccorrError(f"-o {target}: cannot be written: {error.strerror}; give another place") from error
    try:
        yield Draft(place)
    except OSError as error:
        raise OccorrError(
            f"-o {target}: cannot be written: {error.strerror or error}; nothing is left there"
        ) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def finish(draft: Draft, target: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Adds the manifest and puts the bundle into its place; returns the manifest."""
    files = []
    for path in sorted(p for p in draft.place.rglob("*") if p.is_file()):
        with path.open("rb") as handle:
            files.append(
                {
                    "path": path.relative_to(draft.place).as_posix(),
                    "bytes": path.stat().st_size,
                    "sha256": hashlib.file_digest(handle, "sha256").hexdigest(),
                }
            )
    manifest = {MARK: FORMAT, **about, "files": files, "missing": draft.missing}
    draft.write_json(MANIFEST, manifest)
    how = packing(target)
    if how is None:
        mask = os.umask(0)
        os.umask(mask)
        draft.place.chmod(0o777 & ~mask)
        if target.exists():
            target.rmdir()  # it is empty
        draft.place.rename(target)
        return manifest
    beside = draft.place.with_name(draft.place.name + ".packed")
    try:
        _pack(draft.place, beside, how, target.name.split(".")[0] or "bundle")
        free(target)  # something may have come to stand there meanwhile
        beside.rename(target)
    finally:
        beside.unlink(missing_ok=True)
    return manifest


def _pack(folder: Path, target: Path, how: str, name: str) -> None:
    with target.open("xb") as raw, contextlib.ExitStack() as stack:
        if how == "zst":
            out: IO[bytes] = stack.enter_context(
                zstandard.ZstdCompressor(level=_LEVEL).stream_writer(raw, closefd=False)
            )
            tar = stack.enter_context(tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT))
        else:
            tar = stack.enter_context(tarfile.open(fileobj=raw, mode=f"w|{how}", format=tarfile.PAX_FORMAT))  # type: ignore[call-overload]  # the stubs know each mode as a literal only
        paths = sorted(p for p in folder.rglob("*") if p.is_file())
        for path in sorted(paths, key=lambda p: p.name != MANIFEST):  # the manifest first: it tells what follows
            tar.add(path, f"{name}/{path.relative_to(folder).as_posix()}", recursive=False, filter=_anonymous)


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's name travels in a bundle."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o644
    return info


def checked(blobs: Sequence[Blob]) -> list[Blob]:
    """The inputs, those of a bundle held against its manifest: what was changed since, or is gone, says so."""
    out = list(blobs)
    by_path = {b.path: i for i, b in enumerate(out)}
    for blob in blobs:
        if blob.path.rpartition("/")[2] != MANIFEST or not (found := manifest(blob)):
            continue
        root = blob.path.removesuffix(MANIFEST)
        for entry in found.get("files") or []:
            path, digest = f"{root}{entry.get('path')}", str(entry.get("sha256"))
            at = by_path.get(path)
            if at is None:
                out.append(
                    replace(
                        blob,
                        path=path,
                        data=b"",
                        sha256="",
                        status="failed",
                        message="the manifest names this file, and it is not there",
                    )
                )
            elif out[at].sha256 and out[at].sha256 != digest and out[at].status in ("ok", "partial"):
                out[at] = replace(
                    out[at],
                    status="partial",
                    message="changed since it was collected: its sha256 is not that of manifest.json",
                )
    return out


def manifest(blob: Blob) -> dict[str, Any] | None:
    """The manifest that an input holds, or None."""
    head = bytes(blob.data[:64])
    if not head.lstrip().startswith(b"{") or f'"{MARK}"'.encode() not in head:
        return None
    try:
        data = json.loads(bytes(blob.data))
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get(MARK), int):
        return None
    files = data.get("files") or []
    return data if isinstance(files, list) and all(isinstance(entry, dict) for entry in files) else None
