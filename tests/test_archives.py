"""Archives: read like the directory they were made of, never unpacked to disk, and safe to open whoever made them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tracemalloc
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings, strategies as st

import occorr
from occorr import packed, read

SAMPLE = Path(__file__).parent.parent / "sample_logs" / "wrong-token-without-events"
LINE = b"2026-11-21T05:53:48.000000001Z hello\n"
PACK = {
    "tar": bytes,
    "tar.gz": lambda d: gzip.compress(d, mtime=0),
    "tar.zst": zstandard.compress,
    "tar.xz": lzma.compress,
    "tar.bz2": bz2.compress,
}


def tarred(*entries: tuple[str, bytes] | tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                tar.addfile(info, io.BytesIO(entry[1]))
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def opened(tmp_path: Path, data: bytes) -> dict[str, read.Blob]:
    path = tmp_path / "bundle.tar"
    path.write_bytes(data)
    return {b.path.removeprefix(str(path)).lstrip("/"): b for b in read.blobs([path])}


@pytest.fixture(scope="module")
def plain():
    return occorr.analyze(SAMPLE)


@pytest.mark.parametrize("form", PACK)
def test_an_archive_says_what_its_directory_says(plain, tmp_path, form):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(SAMPLE, "bundle")
    path = tmp_path / "evidence"  # the name tells nothing
    path.write_bytes(PACK[form](out.getvalue()))
    before = sorted(tmp_path.rglob("*"))
    result = occorr.analyze(path)
    assert sorted(tmp_path.rglob("*")) == before
    assert not result.partial
    assert result.closes.equals(plain.closes)
    assert result.evidence.drop("log_file_path").equals(plain.evidence.drop("log_file_path"))
    strip = pl.col("path").str.replace(r"^.*(?:/bundle/|wrong-token-without-events/)", "")
    assert (
        result.sources.with_columns(strip).drop("clock_id").equals(plain.sources.with_columns(strip).drop("clock_id"))
    )
    assert set(result.evidence.get_column("log_file_path")) <= {f"{path}/bundle/{p.name}" for p in SAMPLE.iterdir()}


def test_what_leads_out_links_and_devices_are_named_and_left_out(tmp_path):
    found = opened(tmp_path, tarred(
        ("good.log", LINE), ("../evil.log", LINE), ("/etc/evil.log", LINE), ("a/../../evil.log", LINE), ("C:\\evil.log", LINE), ("hid\x1b[2Jden.log", LINE),
        special("passwd.log", tarfile.SYMTYPE, "/etc/passwd"), special("hard.log", tarfile.LNKTYPE, "../../etc/shadow"), special("pipe.log", tarfile.FIFOTYPE), special("disk.log", tarfile.BLKTYPE), special("null.log", tarfile.CHRTYPE),
        special("folder", tarfile.DIRTYPE), (".hidden/x.log", LINE), ("good.log", b"another\n"), ("notes.md", b"# notes\n"),
    ))  # fmt: skip
    assert {n for n, b in found.items() if b.status == "ok"} == {"good.log"}
    assert bytes(found["good.log"].data) == LINE
    assert (
        "leads out" in found["../evil.log"].message
        and "leads out" in found["etc/evil.log" if "etc/evil.log" in found else "/etc/evil.log"].message
    )
    assert {b.status for n, b in found.items() if n != "good.log"} == {"skipped"}
    assert "link" in found["passwd.log"].message and "link" in found["hard.log"].message
    assert "device" in found["pipe.log"].message
    assert "twice" in found["good.log (again)"].message
    assert not any("\x1b" in n for n in found)
    assert not any(b.data for n, b in found.items() if n != "good.log")


def test_sparse_file_that_claims_an_exabyte(tmp_path):
    header = special("huge.log", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT)
    block = bytearray(header)
    block[386:398], block[398:410] = b"00000000000\0", b"00000000000\0"
    block[483:495] = (1 << 33).to_bytes(12, "big").replace(b"\0", b"\x80", 1)
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    found = opened(tmp_path, bytes(block) + tarred(("good.log", LINE)))
    assert found["huge.log"].status == "skipped"
    assert bytes(found["good.log"].data) == LINE


@pytest.mark.parametrize("form", [f for f in PACK if f != "tar"])
def test_bombs_are_cut(tmp_path, monkeypatch, form):
    monkeypatch.setattr(packed, "LIMIT", 4 << 20)
    path = tmp_path / "bomb"
    path.write_bytes(PACK[form](tarred(("good.log", LINE), ("zeros.log", b"0" * (48 << 20)))))
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    found = {b.path.removeprefix(str(path)).lstrip("/"): b for b in read.blobs([path])}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bytes(found["good.log"].data) == LINE
    assert found[""].status == "partial" and "unpacks to more than 4 MiB" in found[""].message
    assert found["zeros.log"].status == "partial"
    assert peak < 48 << 20


@pytest.mark.parametrize("form", [f for f in PACK if f != "tar"])
def test_bomb_that_is_no_archive(tmp_path, monkeypatch, form):
    monkeypatch.setattr(packed, "LIMIT", 4 << 20)
    path = tmp_path / "bomb"
    path.write_bytes(PACK[form](LINE * 2 + b"0" * (32 << 20)))
    (blob,) = read.blobs([path])
    assert blob.status == "partial" and "unpacks to more than 4 MiB" in blob.message
    assert bytes(blob.data[: len(LINE)]) == LINE and len(blob.data) <= 4 << 20


def test_many_small_bombs_in_one_archive_share_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "LIMIT", 4 << 20)
    bomb = gzip.compress(b"0" * (3 << 20), mtime=0)
    found = opened(tmp_path, tarred(*((f"{i}.log", bomb) for i in range(10))))
    assert sum(len(b.data) for b in found.values()) <= 4 << 20
    assert [b.status for b in found.values()][:1] == ["ok"] and {b.status for b in list(found.values())[2:]} == {
        "failed"
    }


def test_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "MEMBERS", 50)
    found = opened(tmp_path, tarred(*((f"{i:03}.log", LINE) for i in range(60))))
    assert found[""].status == "partial" and "more than 50 files" in found[""].message
    assert sum(b.status == "ok" for b in found.values()) == 50


def test_archive_in_an_archive_is_told(tmp_path):
    found = opened(
        tmp_path,
        tarred(
            ("inner.tar.gz", gzip.compress(tarred(("x.log", LINE)), mtime=0)),
            ("good.log.gz", gzip.compress(LINE, mtime=0)),
        ),
    )
    assert found["inner.tar.gz"].status == "failed" and "archive within an archive" in found["inner.tar.gz"].message
    assert bytes(found["good.log.gz"].data) == LINE


def test_empty_archive_and_missing_end(tmp_path):
    whole = tarred(("a.log", LINE), ("b.log", LINE))
    assert opened(tmp_path, whole[:1024])[""].status == "partial"
    assert "end is missing" in opened(tmp_path, whole[:2048])[""].message
    assert "" not in opened(tmp_path, whole)
    (blob,) = opened(tmp_path, tarred(special("folder", tarfile.DIRTYPE))).values()
    assert blob.status == "failed" and "without files" in blob.message


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damage_anywhere_never_fails_and_is_never_silent(data):
    whole = tarred(*((f"{i}.log", LINE * 50) for i in range(4)))
    body = 4 * (512 + 2048)  # headers and contents; behind them only zeros
    form = data.draw(st.sampled_from(sorted(PACK)))
    cut = data.draw(st.integers(min_value=600, max_value=body - 1))
    members, trouble = packed.members(
        PACK[form](whole[:cut]), "" if form == "tar" else packed.kind(PACK[form](whole)[:6])
    )
    assert trouble or any(m.status == "partial" for m in members)
    for member in members:
        assert (LINE * 50).startswith(member.data)
        assert member.status == ("ok" if len(member.data) == len(LINE) * 50 else "partial")


def test_from_standard_input(monkeypatch):
    class Stdin:
        buffer = io.BytesIO(gzip.compress(tarred(("a/x.log", LINE), ("a/y.log", LINE)), mtime=0))

    monkeypatch.setattr("sys.stdin", Stdin)
    assert [b.path for b in read.blobs(["-"])] == ["-/a/x.log", "-/a/y.log"]


def test_order_is_that_of_a_directory(tmp_path):
    names = ["z.log", "a/b.log.1", "a/b.log", "a/b.log.10", "a/c/d.log", "a/a.log", "b.log"]
    for name in names:
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(LINE)
    walked = [os.path.relpath(b.path, tmp_path / "d") for b in read.blobs([tmp_path / "d"])]
    assert list(opened(tmp_path, tarred(*((n, LINE) for n in names)))) == walked
