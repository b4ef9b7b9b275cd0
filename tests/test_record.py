"""`occorr record`: what the command prints arrives untouched, and each line of it with its time in the file."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

import occorr

OCCORR = [sys.executable, "-c", "from occorr.cli import main; main()"]
SECRET = "s3cr3t-0123456789abcdef"


def record(tmp_path, *command, **options):
    """(finished process, rows of the file)."""
    path = tmp_path / "run.jsonl"
    done = subprocess.run([*OCCORR, "record", "-o", path, "--", *command], capture_output=True, timeout=60, **options)
    return done, [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def test_output_passes_untouched_and_each_line_has_its_time(tmp_path):
    script = r"""printf 'one\r\ntwo\377\n'; sleep 0.4; printf 'err \033[31mred\n' >&2; printf 'no end'; exit 7"""
    before = time.time_ns()
    done, rows = record(tmp_path, "sh", "-c", script)
    after = time.time_ns()
    assert (done.returncode, done.stdout, done.stderr) == (7, b"one\r\ntwo\xff\nno end", b"err \x1b[31mred\n")
    said = [(r["stream"], r["record"]) for r in rows if r["stream"] != "recorder"]
    assert sorted(said) == [
        ("stderr", "err \x1b[31mred\n"),
        ("stdout", "no end\n"),
        ("stdout", "one\n"),
        ("stdout", "two\\xff\n"),
    ]
    own = [r["record"] for r in rows if r["stream"] == "recorder"]
    assert own[0].startswith("$ sh -c ")
    begun, ended, code = map(int, re.fullmatch(r"# start_ms=(\d+) end_ms=(\d+) rc=(-?\d+)\n", own[1]).groups())
    assert before // 10**6 <= begun <= ended <= after // 10**6 + 1
    assert code == 7
    mono = {r["record"]: r["mono"] for r in rows}
    assert rows == sorted(rows, key=lambda r: r["mono"])
    assert 0.35e9 <= mono["err \x1b[31mred\n"] - mono["one\n"] <= 20e9  # the sleep between them


@pytest.mark.parametrize(("command", "code", "says"), [
    (["no-such-command-of-ours"], 127, "no such command"), (["/etc/passwd"], 126, "cannot be run"), ([], 125, "needs a command"), (["sh", "-c", "kill -TERM $$"], 143, ""), (["false"], 1, ""),
])  # fmt: skip
def test_exit_codes(command, code, says, tmp_path):
    done, _ = record(tmp_path, *command)
    assert done.returncode == code
    assert says in done.stderr.decode()


def test_a_file_that_cannot_be_written_runs_nothing(tmp_path):
    done = subprocess.run(
        [*OCCORR, "record", "-o", tmp_path / "none" / "x", "--", "touch", tmp_path / "ran"],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 125
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a device of Linux")
def test_a_full_disk_ends_the_record_and_not_the_command():
    done = subprocess.run(
        [*OCCORR, "record", "-o", "/dev/full", "--", "sh", "-c", "echo a; echo b; exit 3"],
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (3, b"a\nb\n")
    assert b"the record ends at" in done.stderr


def test_what_the_command_leaves_in_the_background_does_not_hold_it_up(tmp_path):
    """As a CLI does that starts a service: the prompt comes back, with the command's own code."""
    begun = time.monotonic()
    script = "sleep 50 & (sleep 0.3; printf late) & echo done; exit 3"
    done = subprocess.run([*OCCORR, "record", "-o", str(tmp_path / "r"), "--", "sh", "-c", script], capture_output=True)
    assert (done.returncode, done.stdout) == (3, b"done\nlate")
    assert time.monotonic() - begun < 40
    rows = [json.loads(line) for line in (tmp_path / "r").read_text().splitlines()]
    assert [r["record"] for r in rows[1:-1]] == ["done\n", "late\n"]


def test_secrets_do_not_reach_the_file(tmp_path):
    done, rows = record(tmp_path, "sh", "-c", f"echo --token {SECRET}; echo 'Authorization: Bearer {SECRET}'")
    assert done.stdout.count(SECRET.encode()) == 2
    assert rows
    assert SECRET not in json.dumps(rows)


def test_signals_reach_the_command(tmp_path):
    path = tmp_path / "run.jsonl"
    script = "trap 'echo got term; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen([*OCCORR, "record", "-o", path, "--", "sh", "-c", script], stdout=subprocess.PIPE) as run:
        assert run.stdout.readline() == b"ready\n"
        run.send_signal(signal.SIGTERM)
        assert run.stdout.read() == b"got term\n"
        assert run.wait(30) == 9


def test_a_reader_that_leaves_ends_the_command(tmp_path):
    done = subprocess.run(
        ["sh", "-c", '"$@" | head -n 1', "sh", *OCCORR, "record", "-o", tmp_path / "x", "--", "yes"],
        capture_output=True,
        timeout=60,
    )
    assert done.stdout == b"y\n"


def test_a_terminal_stays_a_terminal(tmp_path):
    ours, theirs = pty.openpty()
    asks = "import os, sys; print(sys.stdout.isatty(), sys.stderr.isatty(), os.get_terminal_size(1).columns)"
    import termios

    termios.tcsetwinsize(theirs, (24, 97))
    run = subprocess.Popen(
        [*OCCORR, "record", "-o", tmp_path / "x", "--", sys.executable, "-c", asks], stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    while b"\n" not in said:
        said += os.read(ours, 1000)
    assert run.wait(30) == 0
    os.close(ours)
    assert said == b"True True 97\r\n"  # our terminal, and nothing else, made \r\n of \n


def test_a_record_dates_what_the_cli_printed(tmp_path):
    (tmp_path / "out.txt").write_text(
        "gateway connect failed: Error: gateway closed (1008): pairing required\nGateway target: ws://127.0.0.1:18789\n"
    )
    subprocess.run(
        [
            *OCCORR,
            "record",
            "-o",
            tmp_path / "run.jsonl",
            "--",
            "sh",
            "-c",
            f"sleep 0.3; cat {tmp_path}/out.txt >&2; exit 1",
        ],
        capture_output=True,
        timeout=60,
    )
    rows = [json.loads(line) for line in (tmp_path / "run.jsonl").read_bytes().splitlines()]
    close = occorr.analyze(tmp_path / "run.jsonl").closes.row(0, named=True)
    assert (close["websocket_close_code"], close["code_observer"]) == (1008, "client")
    stamp = next(r["time"] for r in rows if "1008" in r["record"])
    assert f"{close['timestamp']:%Y-%m-%dT%H:%M:%S.%f}" == stamp[:26]


def test_the_recorders_clock_is_tied_by_the_closes_that_both_saw(tmp_path):
    """Five commands on a machine whose clock runs 7.5 s ahead; the gateway's lines carry the engine's stamps too."""
    gateway, records = [], []
    for n in range(5):
        minute, reason = 10 + n * 3 + n * n, f"pairing required {n}"
        gateway.append(
            f"2026-11-21T05:{minute:02d}:20.000200000Z 2026-11-21T05:{minute:02d}:20.000+00:00 [ws] webchat disconnected code=1008 reason={reason} conn=0000000{n}-0000-4000-8000-000000000000"
        )
        rows = [
            ("recorder", "$ openclaw gateway call health", "27.100"),
            ("stderr", f"gateway connect failed: Error: gateway closed (1008): {reason}", "27.620"),
            ("recorder", "# start_ms=1795237827100 end_ms=1795237827700 rc=1", "27.700"),
        ]
        records += [
            json.dumps(
                {"record": text + "\n", "stream": stream, "time": f"2026-11-21T05:{minute:02d}:{at}000000Z", "mono": 1},
                separators=(",", ":"),
            )
            for stream, text, at in rows
        ]
    (tmp_path / "gateway.log").write_text("\n".join(gateway) + "\n")
    (tmp_path / "runs.jsonl").write_text("\n".join(records) + "\n")
    clock = {r["clock_id"]: r for r in occorr.analyze(tmp_path).clocks.to_dicts()}["recorder"]
    assert clock["status"] == "aligned"
    assert abs(clock["offset_ns"] - 7.5e9) <= clock["error_ns"] <= 1e9


def test_a_recorders_clock_that_is_ahead_moves_what_it_recorded(tmp_path):
    """The same run, recorded by a clock that is right and by one that is 30 s ahead and known to be."""
    sample = Path(__file__).parent.parent / "sample_logs" / "bad-clients-without-file-log"
    right, ahead = ({"host": (seconds * 10**9, 10**8)} for seconds in (0, 30))
    shutil.copytree(sample, tmp_path / "ahead")
    (notes,) = (tmp_path / "ahead").rglob("*.meta.json")
    told = json.loads(notes.read_text())
    notes.write_text(json.dumps({**told, "start_ms": told["start_ms"] + 30_000, "end_ms": told["end_ms"] + 30_000}))
    one, other = (
        result.timeline.filter(pl.col("clock_id") == "host").select("timestamp", "time_earliest", "time_latest")
        for result in (occorr.analyze(sample, offsets=right), occorr.analyze(tmp_path / "ahead", offsets=ahead))
    )
    assert one.height and one.equals(other)
    ends = datetime.fromtimestamp(told["end_ms"] / 1000, UTC)
    assert one.get_column("timestamp").max() == ends
    assert one.get_column("time_latest").max() == ends + timedelta(milliseconds=101)  # to the ms, give or take 100
