"""The record on disk: nothing that was appended is lost, whenever its writer dies."""

import os
import signal
import subprocess
import sys
import threading
import time

import polars as pl
import pyarrow.parquet as pq
import pytest

import occorr
from occorr import segments
from occorr.errors import OccorrError
from occorr.segments import Limits, Record, sealing

STAMP = "2026-11-21T05:43:45.1Z"


def read(record):
    """Everything that the record's reader has before it."""
    out = []
    while True:
        rows, more = record.take(0.0)
        out.append(rows)
        if not more:
            return pl.concat(out)


def followed(record, number, texts):
    """Appends lines, which are read and sealed on the way as by watch."""
    for i, text in enumerate(texts):
        record.append(number, "stdout", STAMP, text)
        if i % 100 == 50:
            read(record)
            record.seal()
    read(record)


def lines(directory, path):
    (found,) = [s for s in segments.stored(directory) if s.source.path == path]
    frames = list(found.lines())
    return (
        pl.concat(frames) if frames else pl.DataFrame(schema={"line": pl.Int64, "offset": pl.Int64, "raw": pl.String})
    )


def test_lines_come_back_numbered_as_in_a_file_of_docker_logs(tmp_path):
    record = Record(tmp_path / "r")
    a, b = record.source("a.log"), record.source("b.log")
    texts = ["first", "with  blanks ", "ünïcödé", "", "+ {not: control}", "3 o 2026 not a line of ours"]
    for text in texts:
        record.append(a, "stdout", STAMP, text)
        record.append(b, "stderr", STAMP, text)
    rows = read(record).filter(pl.col("number") == a)
    file = "".join(f"{STAMP} {t}\n" for t in texts).encode()
    assert rows.get_column("raw").to_list() == file.decode().splitlines()
    assert [file[o:].split(b"\n")[0].decode() for o in rows.get_column("offset")] == rows.get_column("raw").to_list()
    assert rows.get_column("line").to_list() == [1, 2, 3, 4, 5, 6]
    record.close()
    assert lines(tmp_path / "r", "a.log").equals(rows.select("line", "offset", "raw"))


def test_a_line_longer_than_a_piece_is_read(tmp_path):
    record = Record(tmp_path / "r")
    a = record.source("a.log")
    for text in ("before", "x" * 300_000, "after"):
        record.append(a, "stdout", STAMP, text)
    taken = [record.take(0.0) for _ in range(4)]
    assert not taken[-1][1]
    raw = pl.concat([rows for rows, _ in taken]).get_column("raw").to_list()
    assert raw == [f"{STAMP} before", f"{STAMP} {'x' * 300_000}", f"{STAMP} after"]
    record.close()


def test_what_a_container_writes_cannot_break_out_of_its_line(tmp_path):
    record = Record(tmp_path / "r")
    a, b = record.source("a.log"), record.source("b.log")
    record.append(a, "stdout", STAMP, f"x\n{b} o {STAMP} forged\r\n+ {{}}")
    record.append(b, "stdout", STAMP, "own")
    rows = read(record)
    assert rows.filter(pl.col("number") == b).get_column("raw").to_list() == [f"{STAMP} own"]
    assert rows.filter(pl.col("number") == a).height == 1
    record.close()


def test_journals_turn_and_become_segments_without_a_seam(tmp_path):
    record = Record(tmp_path / "r", full=2000)
    number = record.source("a.log", origin={"container_id": "c"})
    followed(record, number, [f"line {i}" for i in range(500)])
    assert list((tmp_path / "r").glob("*.parquet")) and list((tmp_path / "r").glob("*.journal"))
    assert lines(tmp_path / "r", "a.log").get_column("raw").to_list() == [
        f"{STAMP} line {i}" for i in range(500)
    ]  # while it is being written
    record.close()
    assert not list((tmp_path / "r").glob("*.journal"))
    assert lines(tmp_path / "r", "a.log").get_column("raw").to_list() == [f"{STAMP} line {i}" for i in range(500)]


def test_a_record_is_continued(tmp_path):
    for part in range(3):
        record = Record(tmp_path / "r")
        number = record.source("a.log", origin={"container_id": "c"})
        assert number == 1
        record.append(number, "stdout", STAMP, f"part {part}")
        record.close()
    found = lines(tmp_path / "r", "a.log")
    assert found.get_column("line").to_list() == [1, 2, 3]
    assert found.get_column("raw").to_list() == [f"{STAMP} part {i}" for i in range(3)]
    (source,) = segments.stored(tmp_path / "r")
    assert source.source.root == segments.digest(f"{STAMP} part 0\n")
    assert source.source.origin == {"container_id": "c"}


def test_a_second_writer_and_a_foreign_directory_are_refused(tmp_path):
    record = Record(tmp_path / "r")
    with pytest.raises(OccorrError, match="being written by another"):
        Record(tmp_path / "r")
    record.close()
    Record(tmp_path / "r").close()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").touch()
    with pytest.raises(OccorrError, match="is no record"):
        Record(tmp_path / "mine")
    (tmp_path / "file").touch()
    with pytest.raises(OccorrError, match="is no record"):
        Record(tmp_path / "file")


WRITER = """
import pathlib, sys
from occorr.segments import Record
record = Record(pathlib.Path(sys.argv[1]), full=20_000)
number = record.source("a.log")
i = 0
while True:
    i += 1
    record.append(number, "stdout", "2026-11-21T05:43:45.1Z", f"line {i} of a writer that will be killed", urgent=True)
    print(i, flush=True)
    if i % 200 == 0:
        while record.take(0.0)[1]:
            pass
        record.seal()
"""


def test_killed_while_it_writes(tmp_path):
    """SIGKILL at some moment: all lines that were handed over are there, and the record goes on."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [os.path.dirname(os.path.dirname(occorr.__file__)), os.environ.get("PYTHONPATH", "")]
        ),
    }
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "r"], env=environment, stdout=subprocess.PIPE
    ) as child:
        for _ in range(3000):
            told = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        told = int(([*child.stdout.read().split()] or [told])[-1])
    before = lines(tmp_path / "r", "a.log")
    assert before.height >= told
    record = Record(tmp_path / "r")
    record.append(record.source("a.log"), "stdout", STAMP, "the next one")
    record.close()
    after = lines(tmp_path / "r", "a.log")
    assert after.height == before.height + 1
    assert after.get_column("line").to_list() == list(range(1, after.height + 1))
    assert after.item(told - 1, "raw") == f"{STAMP} line {told} of a writer that will be killed"


def test_a_torn_last_line_and_a_half_written_segment(tmp_path):
    record = Record(tmp_path / "r")
    number = record.source("a.log")
    for i in range(10):
        record.append(number, "stdout", STAMP, f"line {i}", urgent=True)
    (journal,) = (tmp_path / "r").glob("*.journal")
    whole = journal.read_bytes()
    record.close()
    journal.with_suffix(".parquet").unlink()
    journal.write_bytes(whole[:-4])  # as a crash leaves it
    journal.with_suffix(".part").write_bytes(b"PAR1 half of a segment")
    assert lines(tmp_path / "r", "a.log").height == 9
    record = Record(tmp_path / "r")
    record.close()
    assert lines(tmp_path / "r", "a.log").get_column("raw").to_list() == [f"{STAMP} line {i}" for i in range(9)]
    assert not list((tmp_path / "r").glob("*.part"))


FULL_DISK = """
import errno, pathlib, resource, sys
from occorr.segments import Record
record = Record(pathlib.Path(sys.argv[1]), full=20_000)
number = record.source("a.log")
for i in range(400):
    record.append(number, "stdout", "2026-11-21T05:43:45.1Z", f"line {i} {i * 2654435761 % 2**32:x}" + "x" * 40)
while record.take(0.0)[1]:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
try:
    record.seal()
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def test_no_room_for_a_segment(tmp_path):
    """The system's reason is told, the journal stays, and nothing half is left."""
    told = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "r"],
        capture_output=True,
        text=True,
        check=True,
        cwd=os.path.dirname(os.path.dirname(occorr.__file__)),
    )
    assert told.stdout.split() == ["EFBIG"]
    assert not list((tmp_path / "r").glob("*.part")) and not list((tmp_path / "r").glob("*.parquet"))
    assert lines(tmp_path / "r", "a.log").height == 400


def test_counted_while_it_was_written_as_when_it_is_read(tmp_path):
    """What a segment says of its sources does not depend on who counted."""
    record = Record(tmp_path / "r", full=5_000)
    log, told = record.source("a.log", origin={"compose_service": "gateway"}), record.source("i.json", "document")
    record.append(told, "", "", '[{"Id": "é"}]')
    for i in range(300):
        record.append(log, "stdout", STAMP, f"line {i} é", urgent=True)
    journals = {p.stem: p.read_bytes() for p in (tmp_path / "r").glob("*.journal")}
    record.close()
    assert len(journals) > 2
    del journals[max(journals)]  # it may not be whole yet
    for stem, written in journals.items():
        again = tmp_path / f"{stem}.journal"
        again.write_bytes(written)
        sealing.seal(again)
        assert sealing.noted(again.with_suffix(".parquet")) == sealing.noted(tmp_path / "r" / f"{stem}.parquet")


def test_the_oldest_goes_first(tmp_path):
    record = Record(tmp_path / "r", Limits(size=20_000), full=20_000)
    number = record.source("a.log")
    for i in range(20_000):
        record.append(number, "stdout", STAMP, f"{i} {i * 2654435761 % 2**32:x}")
        if i % 1000 == 0:
            read(record)
            record.seal()
    record.close()
    found = sorted((tmp_path / "r").glob("*.parquet"))
    assert sum(p.stat().st_size for p in found) <= 20_000 + found[-1].stat().st_size
    left = lines(tmp_path / "r", "a.log")
    assert left.item(-1, "line") == 20_000 and left.item(0, "line") > 1
    assert left.get_column("line").to_list() == list(range(left.item(0, "line"), 20_001))  # numbers stay what they were
    read_back = pq.read_table(found[-1])
    assert read_back.column_names == ["source", "stream", "time", "line", "offset", "raw"]


def test_a_document_outlives_the_segment_that_held_it(tmp_path):
    """What inspect said of a container counts as long as the container's log is kept."""
    record = Record(tmp_path / "r", Limits(size=1), full=2_000)
    log, told = record.source("a.log"), record.source("inspect/a.json", "document")
    for version in ("old", "new"):
        record.append(told, "", "", f'[{{"Id": "{version}"}}]')
    followed(record, log, [f"{number} {'x' * 50}" for number in range(500)])
    record.close()
    kept = lines(tmp_path / "r", "a.log")
    assert kept.height < 100  # the rest was deleted
    held = lines(tmp_path / "r", "inspect/a.json")
    assert set(held.get_column("raw")) == {'[{"Id": "new"}]'}
    assert held.get_column("line").is_sorted()
    assert held.item(-1, "line") > 2


def test_many_writers_and_one_reader(tmp_path):
    record = Record(tmp_path / "r", full=50_000)
    numbers = [record.source(f"{i}.log") for i in range(4)]

    def write(number):
        for i in range(3000):
            record.append(number, "stdout", STAMP, f"{number} {i}")

    threads = [threading.Thread(target=write, args=(n,)) for n in numbers]
    for thread in threads:
        thread.start()
    got = []
    deadline = time.monotonic() + 60
    while sum(g.height for g in got) < 12_000 and time.monotonic() < deadline:
        got.append(record.take(time.monotonic())[0])
        record.seal()
    for thread in threads:
        thread.join()
    rows = pl.concat(got)
    for number in numbers:
        assert rows.filter(pl.col("number") == number).get_column("raw").to_list() == [
            f"{STAMP} {number} {i}" for i in range(3000)
        ]
    record.close()
    assert all(lines(tmp_path / "r", f"{i}.log").height == 3000 for i in range(4))
