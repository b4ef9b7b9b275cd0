"""Lines that were split, wrapped, rotated or collected twice."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

import occorr
from occorr import definitions, ingest, read, redact

FOLDER = Path(__file__).parent.parent / "sample_logs" / "wrong-token-without-events"
LINES = (FOLDER / "gateway.docker.log").read_text().splitlines(keepends=True)
PLAIN = occorr.analyze(FOLDER / "gateway.docker.log")
LONG = "2026-11-21T05:43:45.413+00:00 [gateway] " + "x" * 40_000 + " fatal end"
AFTER = "2026-11-21T05:43:46.413+00:00 [gateway] received SIGTERM; shutting down"


def pieces(text: str, size: int = 16384) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def json_file(text: str, stream: str = "stdout", end: str = "\n") -> list[str]:
    parts = pieces(text)
    return [
        json.dumps(
            {"log": p + (end if i == len(parts) - 1 else ""), "stream": stream, "time": "2026-11-21T05:43:45.5Z"},
            separators=(",", ":"),
        )
        + "\n"
        for i, p in enumerate(parts)
    ]


def cri(text: str, stream: str = "stdout") -> list[str]:
    parts = pieces(text)
    return [f"2026-11-21T05:43:45.5Z {stream} {'F' if i == len(parts) - 1 else 'P'} {p}\n" for i, p in enumerate(parts)]


@pytest.mark.parametrize("write", [json_file, cri])
@pytest.mark.parametrize("between", [False, True])
def test_pieces_of_16_kib_are_one_line_again(tmp_path, write, between):
    long, other = write(LONG), write("2026-11-21T05:43:45.414+00:00 [gateway] ready", "stderr")
    lines = [long[0], *other, *long[1:]] if between else [*long, *other]
    (tmp_path / "a.log").write_text("".join([*lines, *write(AFTER)]))
    result = occorr.analyze(tmp_path, all_lines=True)
    bodies = result.timeline.sort("timestamp").get_column("body").to_list()
    assert [len(b) for b in bodies if b.startswith("xxx")] == [len(LONG) - 40]
    assert len(bodies) == 3
    row = result.sources.row(0, named=True)
    assert (row["lines_read"], row["lines_kept"], row["lines_unparsed"]) == (5, 5, 0)


def test_a_last_line_without_its_break_is_no_piece(tmp_path):
    (tmp_path / "a.log").write_text(
        "".join([*json_file("2026-11-21T05:43:45.413+00:00 [gateway] cut by the kill", end=""), *json_file(AFTER)])
    )
    assert occorr.analyze(tmp_path, all_lines=True).timeline.height == 2


CLOSE = next(line.partition(" ")[2].rstrip("\n") for line in LINES if "closed before connect" in line)


def paste(text: str) -> dict:
    library = definitions.builtin()
    events, sources = ingest.ingest(read.Blob("-", text.encode()), library, redact.Redactor(b"k"))
    return {"events": events, "sources": sources.row(0, named=True)}


@pytest.mark.parametrize("width", [70, 80, 100, 140])
def test_a_close_that_a_terminal_wrapped(width):
    cut = [CLOSE[i : i + width] for i in range(0, len(CLOSE), width)][:4]
    whole = paste("".join(cut) + "\n")["events"].row(0, named=True)
    row = paste("\n".join(cut) + "\n")
    got = row["events"].row(0, named=True)
    if whole["event_name"] == "websocket.close":
        assert got["event_name"] == "websocket.close"
        for name in ("conn_id", "websocket_close_code", "websocket_close_reason", "gateway_cause", "remote_address"):
            assert got.get(name) == whole.get(name), name
        assert row["sources"]["lines_unparsed"] == 0
        assert row["sources"]["lines_read"] == len(cut)


def test_a_failure_that_a_chat_wrapped_at_spaces():
    row = paste("gateway connect failed: Error:\ngateway closed (1008):\npairing required\n")
    names = row["events"].get_column("event_name").to_list()
    assert "cli.failure" in names
    row = next(r for r in row["events"].to_dicts() if r["event_name"] == "cli.failure")
    assert (row["websocket_close_code"], row["websocket_close_reason"]) == (1008, "pairing required")


def test_other_lines_stay_apart():
    row = paste(CLOSE + "\nthanks for looking at this!\n")
    assert (
        row["events"].filter(pl.col("event_name") == "websocket.close").row(0, named=True)["websocket_close_code"]
        is not None
    )
    assert "thanks" not in str(row["events"].get_column("body").to_list())


def test_sources_say_why_lines_were_not_understood(tmp_path):
    (tmp_path / "a.log").write_text("".join(ACCESS) + 'hello\n{"a\n')
    row = occorr.analyze(tmp_path).sources.row(0, named=True)
    assert (row["lines_unparsed"], row["message"].split(";")[0]) == (
        2,
        "not understood: 1 JSON that is cut off, 1 no known format",
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"0":"{\\"subsystem', "JSON that is cut off"),
        ('{"a":1}', "JSON of no known format"),
        ("2026/11/21 hello", "a stamp, and nothing known behind it"),
        ("hello", "no known format"),
        ("hello \ufffd", "not UTF-8"),
    ],
)
def test_why_a_line_was_not_understood(line, reason):
    assert pl.DataFrame({"t": [line]}).select(ingest._reason(pl.col("t"))).item() == reason


def counts(result: occorr.Analysis) -> list:
    return sorted(result.closes.select("conn_id", "cause", "verdict").rows())


def rows(result: occorr.Analysis) -> dict[str, dict]:
    return {Path(r["path"]).name: r for r in result.sources.to_dicts()}


def test_a_log_and_its_gz_count_once(tmp_path):
    (tmp_path / "gateway.log").write_text("".join(LINES))
    (tmp_path / "gateway.log.1.gz").write_bytes(gzip.compress("".join(LINES).encode()))
    result = occorr.analyze(tmp_path)
    assert counts(result) == counts(PLAIN)
    kept = rows(result)
    assert kept["gateway.log"]["lines_kept"] == 0
    assert "also stand in" in kept["gateway.log"]["message"] and "gateway.log.1.gz" in kept["gateway.log"]["message"]
    assert result.timeline.height == PLAIN.timeline.height


ACCESS = [
    '192.0.2.7 - - [21/Nov/2026:05:44:{:02d} +0000] "GET / HTTP/1.1" 101 590 "-" "openclaw-cli/2026.9.6"\n'.format(s)
    for s in range(0, 40, 2)
]


def test_overlapping_collections_count_once(tmp_path):
    (tmp_path / "a.log").write_text("".join(ACCESS[:14]))
    (tmp_path / "b.log").write_text("".join(ACCESS[6:]))
    assert occorr.analyze(tmp_path).timeline.height == len(ACCESS)


def test_the_same_line_twice_in_one_second_is_two_connections(tmp_path):
    lines = [*ACCESS[:5], ACCESS[4], ACCESS[4], *ACCESS[5:]]
    (tmp_path / "a.log").write_text("".join(lines))
    (tmp_path / "b.log").write_text("".join(lines))
    assert occorr.analyze(tmp_path).timeline.height == len(lines)


def test_one_chance_twin_is_no_overlap(tmp_path):
    (tmp_path / "a.log").write_text("".join(ACCESS))
    (tmp_path / "b.log").write_text(
        "".join([line.replace("192.0.2.7", "192.0.2.8") for line in ACCESS[:-1]] + ACCESS[-1:])
    )
    assert occorr.analyze(tmp_path).timeline.height == 2 * len(ACCESS)


def test_order_of_rotated_sets(tmp_path):
    names = [
        "a.log.10.gz",
        "a.log.2",
        "a.log.1",
        "a.log",
        "b.5.log",
        "b.1.log",
        "b.log",
        "c.log-20261119",
        "c.log-20261120.gz",
        "c.log",
    ]
    for name in names:
        (tmp_path / name).write_text("x")
    assert [p.name for p, _ in read.expand([tmp_path])] == names
