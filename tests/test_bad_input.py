"""Inputs as people hand them over: broken, packed, empty, endless, or no logs at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import zstandard

import occorr
from occorr import read
from occorr.cli import options
from occorr.errors import EXIT_NOTHING, EXIT_USAGE, NothingParsableError, OccorrError

SAMPLE = Path(__file__).parent.parent / "sample_logs" / "wrong-token-without-events"
CONSOLE = (SAMPLE / "gateway.docker.log").read_bytes()
CLOSED = CONSOLE.count(b"closed before connect conn=") + CONSOLE.count(b"webchat disconnected code=")


def analyzed(folder: Path) -> tuple[occorr.Analysis, dict[str, dict]]:
    result = occorr.analyze(folder)
    return result, {Path(r["path"]).name: r for r in result.sources.to_dicts()}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "gateway.log").write_bytes(CONSOLE)
    return tmp_path


def whole(result: occorr.Analysis) -> None:
    """The good file was analysed in full."""
    assert result.closes.height == CLOSED
    assert (
        result.closes.filter((pl.col("cause") == "auth.token_mismatch") & (pl.col("verdict") == "decisive")).height == 2
    )


def test_the_good_file_alone(folder):
    result, sources = analyzed(folder)
    whole(result)
    assert not result.partial
    assert sources["gateway.log"]["status"] == "ok"
    assert sources["gateway.log"]["lines_read"] == CONSOLE.count(b"\n")


def test_unreadable_file(folder, monkeypatch):
    (folder / "secret.log").write_bytes(CONSOLE)
    real = Path.open

    def refuse(self, *args, **kwargs):  # root may read everything, so the refusal is played
        if self.name == "secret.log":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    result, sources = analyzed(folder)
    whole(result)
    assert result.partial
    assert sources["secret.log"]["status"] == "failed"
    assert "Permission denied" in sources["secret.log"]["message"] and "permissions" in sources["secret.log"]["message"]


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"", "empty", "empty"),
        (b"\n\n   \n", "empty", "blank"),
        (b"\x7fELF\x02\x01\x01\x00\x00\x00" + bytes(range(256)), "failed", "binary"),
        (b"Dear diary,\nnothing happened today.\n" * 20, "unknown", "no known format"),
    ],
    ids=["empty", "blank", "binary", "unknown"],
)
def test_what_is_no_log_is_told_and_the_rest_is_read(folder, data, status, says):
    (folder / "other.log").write_bytes(data)
    result, sources = analyzed(folder)
    whole(result)
    assert sources["other.log"]["status"] == status
    assert says in sources["other.log"]["message"]
    assert result.partial == (status != "empty")


def damaged(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def packed(kind: str, data: bytes) -> bytes:
    return {
        "gzip": lambda d: gzip.compress(d, mtime=0),
        "zstd": zstandard.compress,
        "xz": lzma.compress,
        "bzip2": bz2.compress,
    }[kind](data)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_compression_is_known_by_its_magic(tmp_path, kind):
    (tmp_path / "gateway.log").write_bytes(packed(kind, CONSOLE))  # the name tells nothing
    result, sources = analyzed(tmp_path)
    whole(result)
    assert (sources["gateway.log"]["status"], sources["gateway.log"]["lines_read"]) == ("ok", CONSOLE.count(b"\n"))


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_compressed_members_one_behind_the_other(tmp_path, kind):
    half = CONSOLE.index(b"\n", len(CONSOLE) // 2) + 1
    (tmp_path / "gateway.log").write_bytes(packed(kind, CONSOLE[:half]) + packed(kind, CONSOLE[half:]))
    whole(analyzed(tmp_path)[0])


def test_truncated_gzip_gives_what_it_holds(tmp_path):
    long = CONSOLE + b"".join(CONSOLE.splitlines(keepends=True)[:1] + [os.urandom(3000).hex().encode() + b"\n"] * 40)
    data = gzip.compress(CONSOLE + long, mtime=0)
    (tmp_path / "gateway.log").write_bytes(data[: len(data) - 2000])
    result, sources = analyzed(tmp_path)
    row = sources["gateway.log"]
    assert result.partial
    assert row["status"] == "partial"
    assert "damaged gzip" in row["message"] and "copy the file again" in row["message"]
    assert row["lines_read"] >= CONSOLE.count(b"\n")
    assert result.closes.filter(pl.col("cause") == "auth.token_mismatch").height == 2


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_damaged_archive_does_not_stop_the_rest(folder, kind):
    (folder / "old.log").write_bytes(packed(kind, CONSOLE)[:20])
    result, sources = analyzed(folder)
    whole(result)
    assert result.partial
    assert sources["old.log"]["status"] in ("failed", "partial")
    assert f"damaged {kind}" in sources["old.log"]["message"]


def test_invalid_utf8_costs_its_characters_only(tmp_path):
    lines = CONSOLE.splitlines(keepends=True)
    (tmp_path / "gateway.log").write_bytes(
        b"".join([*lines[:3], b"2026-11-21T05:53:48.000000001Z \xff\xfe\xc3( broken\n", *lines[3:]])
    )
    result, sources = analyzed(tmp_path)
    whole(result)
    assert sources["gateway.log"]["lines_read"] == len(lines) + 1


def test_carriage_returns(tmp_path):
    (tmp_path / "gateway.log").write_bytes(CONSOLE.replace(b"\n", b"\r\n"))
    result, _ = analyzed(tmp_path)
    whole(result)
    assert result.timeline.filter(
        pl.col("body").str.contains("\r") | pl.col("websocket_close_reason").str.contains("\r")
    ).is_empty()


def test_no_line_break_at_the_end(tmp_path):
    (tmp_path / "gateway.log").write_bytes(CONSOLE.rstrip(b"\n"))
    result, sources = analyzed(tmp_path)
    whole(result)
    assert sources["gateway.log"]["lines_read"] == CONSOLE.count(b"\n")


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf"], ids=["utf-8"])
def test_byte_order_mark(tmp_path, mark):
    (tmp_path / "gateway.log").write_bytes(mark + CONSOLE)
    whole(analyzed(tmp_path)[0])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_of_windows_shells(tmp_path, encoding):
    (tmp_path / "gateway.log").write_bytes(("\ufeff" + CONSOLE.decode()).encode(encoding))
    result, sources = analyzed(tmp_path)
    whole(result)
    assert sources["gateway.log"]["lines_read"] == CONSOLE.count(b"\n")


def test_a_line_of_ten_megabytes(tmp_path):
    lines = CONSOLE.splitlines(keepends=True)
    (tmp_path / "gateway.log").write_bytes(
        b"".join([*lines[:5], lines[4][:80] + b"x" * 10_000_000 + b"\n", *lines[5:]])
    )
    result, sources = analyzed(tmp_path)
    whole(result)
    assert sources["gateway.log"]["lines_read"] == len(lines) + 1


def test_chunks_split_no_line_and_lose_none():
    data = b"".join(b"%d %s\n" % (i, b"y" * (i % 50)) for i in range(2000)) + b"end"
    for size in (1, 7, 100, 4096, 1 << 20):
        frames = list(read.chunks(read.Blob("x", data), size))
        raw = b"".join(t.encode() for f in frames for t in f.get_column("raw"))
        assert raw == data
        assert [n for f in frames for n in f.get_column("line")] == list(range(1, 2002))
        for f in frames:
            for offset, text in f.select("offset", "raw").rows():
                assert data[offset : offset + len(text)] == text.encode()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe.log")
    result, sources = analyzed(folder)
    whole(result)
    assert result.partial
    assert sources["pipe.log"]["status"] == "failed" and "not a regular file" in sources["pipe.log"]["message"]


def test_a_loop_of_directories_ends(folder):
    (folder / "again").symlink_to(folder, target_is_directory=True)
    (folder / "below").mkdir()
    (folder / "below" / "up").symlink_to(folder, target_is_directory=True)
    whole(occorr.analyze(folder))


def test_a_dangling_link_is_told(folder):
    (folder / "gone.log").symlink_to(folder / "nowhere.log")
    result, sources = analyzed(folder)
    whole(result)
    assert sources["gone.log"]["status"] == "failed"
    assert "cannot be read" in sources["gone.log"]["message"]


def test_the_same_file_twice_is_read_once(folder):
    result = occorr.analyze([folder, folder / "gateway.log", str(folder / "*.log")])
    whole(result)
    assert result.sources.height == 1


def test_a_copy_of_a_log_does_not_double_its_closes(folder):
    (folder / "copy.log").write_bytes(CONSOLE)
    whole(occorr.analyze(folder))


def test_documentation_is_not_read(folder):
    (folder / "notes.md").write_bytes(CONSOLE)
    result, sources = analyzed(folder)
    whole(result)
    assert sources["notes.md"]["status"] == "skipped"
    assert not result.partial


def test_a_path_that_is_not_there(folder):
    with pytest.raises(OccorrError, match="no such file or directory") as error:
        occorr.analyze([folder, folder / "missing.log"])
    assert error.value.exit_code == EXIT_USAGE
    assert "missing.log" in str(error.value)


def test_nothing_at_all(tmp_path):
    with pytest.raises(NothingParsableError) as error:
        occorr.analyze(tmp_path)
    assert error.value.exit_code == EXIT_NOTHING
    assert "no input" in str(error.value)


def test_nothing_that_is_known(tmp_path):
    (tmp_path / "diary.txt").write_text("Dear diary,\nnothing happened.\n", encoding="utf-8")
    (tmp_path / "void.log").write_bytes(b"")
    with pytest.raises(NothingParsableError) as error:
        occorr.analyze(tmp_path)
    for word in ("diary.txt", "void.log", "the file is empty", "formats list"):
        assert word in str(error.value)


def test_standard_input(monkeypatch):
    class Pipe:
        buffer = io.BytesIO(gzip.compress(CONSOLE))

    monkeypatch.setattr(sys, "stdin", Pipe)
    whole(occorr.analyze("-"))


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_everything_at_once_ends_with_4_and_a_table(folder, tmp_path_factory, capsys, monkeypatch):
    """What a person drops: each input is named with what happened to it, and the rest is analysed."""
    from occorr.cli import main

    (folder / "prog.bin").write_bytes(b"\x7fELF\x02\x01\x01\x00\x00\x00" + bytes(range(256)))
    (folder / "empty.log").write_bytes(b"")
    (folder / "cut.log.gz").write_bytes(gzip.compress(CONSOLE, mtime=0)[:900])
    (folder / "long.log").write_bytes(b"x" * 50_000_000 + b"\n")
    (folder / "wide.log").write_bytes(("\ufeff" + CONSOLE.decode()).encode("utf-16-le"))
    (folder / "crlf.log").write_bytes(CONSOLE.replace(b"\n", b"\r\n"))
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "pipe")
    out = tmp_path_factory.mktemp("out") / "result"
    monkeypatch.setattr(sys, "argv", ["occorr", "analyze", str(folder), "-o", str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 4
    told = " ".join(capsys.readouterr().out.split())
    for name, status in {
        "prog.bin": "failed",
        "empty.log": "empty",
        "cut.log.gz": "partial",
        "long.log": "unknown",
        "pipe": "failed",
    }.items():
        assert re.search(rf"{status}:\S*{re.escape(name)}", told.replace(" ", "")), name
    sources = {Path(r["path"]).name: r for r in pl.read_parquet(out / "sources.parquet").to_dicts()}
    assert {n: r["status"] for n, r in sources.items()} == {
        "gateway.log": "ok",
        "wide.log": "ok",
        "crlf.log": "ok",
        "prog.bin": "failed",
        "empty.log": "empty",
        "cut.log.gz": "partial",
        "long.log": "unknown",
        "pipe": "failed",
    }
    closes = pl.read_parquet(out / "closes.parquet")
    assert closes.height == CLOSED  # the same log three times and a half counts once


DEEP = "[" * 100_000 + "]" * 100_000
MISSHAPEN = {
    # a date that there is none of, which YAML's reader takes for one
    "a date": ("compose.yml", "services:\n  gw:\n    image: openclaw\n    labels:\n      built: 2026-02-30\n", "compose"),
    "no mapping": ("compose.yml", "services:\n  gw:\n    image: openclaw\n    healthcheck: x\n", "compose"),
    "no list": ("compose.yml", "services:\n  gw:\n    image: openclaw\nnetworks:\n  a: 5\n", "compose"),
    "a tab": ("compose.yml", "services:\n  gw:\n\timage: openclaw\n", "compose"),
    "inspect": ("inspect.json", '[{"Id": "abc", "State": "up", "Config": {}}]', "docker inspect"),
    "network": ("network.json", '[{"Name": "n", "IPAM": {"Config": ["x"]}}]', "docker network inspect"),
    "manifest": ("manifest.json", '{"occorr_bundle": 1, "missing": ["x"]}', "occorr bundle"),
    "manifest's files": ("manifest.json", '{"occorr_bundle": 1, "files": ["x"]}', None),
    "depth": ("deep.json", DEEP, None),
    "depth in a bundle": ("manifest.json", '{"occorr_bundle": ' + DEEP + "}", None),
    "depth in Envoy's": ("envoy.json", '{"static_resources": ' + DEEP + "}", None),
    "depth in openclaw.json": ("openclaw.json", '{gateway: ' + DEEP + "}", None),
    "Traefik's": ("traefik.yml", "entryPoints: x\naccessLog: 5\n", None),
    "Envoy's": ("envoy.yaml", "static_resources:\n  listeners: 7\n", None),
}  # fmt: skip


@pytest.mark.parametrize("case", MISSHAPEN)
def test_a_document_that_is_not_as_it_should_be_ends_nothing(folder, case):
    """What stands before the mistake is read, the mistake is told, and the rest of the directory is analysed."""
    name, text, kind = MISSHAPEN[case]
    (folder / name).write_text(text, encoding="utf-8")
    result, sources = analyzed(folder)
    whole(result)
    if kind is not None:
        assert sources[name]["format"] == kind
        assert sources[name]["status"] == "partial"
        assert "not read to its end: " in sources[name]["message"]
        assert result.partial
    if case in ("no mapping", "no list"):  # the image stands before it
        assert "openclaw" in result.facts.filter(pl.col("key") == "image")["value"].to_list()
    if case == "a tab":
        assert "line 3" in sources[name]["message"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not enter a directory")
def test_a_directory_that_may_not_be_entered_is_named(tmp_path):
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        if folder.owner() == "root" and str(folder).startswith("/tmp/pytest"):
            folder.chmod(0o755)
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    run = [sys.executable, "-c", "import os, sys; from occorr.read import blobs; os.setgroups([]); os.setgid(65534); os.setuid(65534); print([(b.status, b.message) for b in blobs([sys.argv[1]])])", str(shut)]  # fmt: skip
    said = subprocess.run(run, capture_output=True, text=True, check=False)
    assert "failed" in said.stdout and "may not be listed" in said.stdout, said.stderr


def many(folder: Path, count: int) -> Path:
    for n in range(count):
        (folder / f"{n:03}.txt").write_text(f"Dear diary {n}\n")
    return folder


def test_of_many_inputs_that_are_no_logs_some_are_named(tmp_path):
    with pytest.raises(NothingParsableError) as error:
        occorr.analyze(many(tmp_path, 30))
    assert str(error.value).count(".txt: ") == 20
    assert "… and 10 more" in str(error.value)


@pytest.mark.parametrize(("tty", "count", "shown"), [(True, 101, True), (True, 3, False), (False, 101, False)])
def test_who_waits_at_a_terminal_sees_how_far_it_is(monkeypatch, tty, count, shown):
    class Screen(io.StringIO):
        def isatty(self):
            return tty

    monkeypatch.setattr(sys, "stderr", Screen())
    inputs = [read.Blob(f"{n}.log", b"", "") for n in range(count)]
    assert list(options._watching(inputs)) == inputs
    assert ("Reading" in sys.stderr.getvalue()) == shown


@pytest.mark.parametrize(
    "words",
    [["report", "postmortem", "LOGS"], ["report", "weekly", "LOGS"], ["diff", "LOGS", "LOGS"], ["check", "LOGS"]],
)
def test_every_command_that_reads_in_part_says_so(folder, capsys, monkeypatch, words):
    from occorr.cli import main

    (folder / "prog.bin").write_bytes(b"\x7fELF\x02\x01\x01\x00\x00\x00" + bytes(range(256)))
    monkeypatch.setattr(sys, "argv", ["occorr", *(w.replace("LOGS", str(folder)) for w in words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 4
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--since", "9999999d"], "--since '9999999d' is too long"),
        (["--since", "0001-01-01", "--tz", "Europe/Berlin"], "--since '0001-01-01' is no time that logs are of"),
        (["--until", "9999-12-31T23:59:59-14:00"], "is no time that logs are of"),
        (["--offset", "gateway=+99999999999d"], "--offset 'gateway=+99999999999d' is too long"),
        (["--dry-run", "--format", "json"], "--dry-run is for the terminal"),
        (["--parsers", "none-such"], "--parsers none-such: no such directory"),
        (["--project", "none-such"], "--project none-such: no input names it; none of them names any"),
        (["--since", "2026-11-22", "--until", "2026-11-21"], "--since '2026-11-22' is not before --until '2026-11-21'"),
    ],
)
def test_a_value_that_nothing_can_be_done_with_is_told_as_such(folder, capsys, monkeypatch, words, says):
    from occorr.cli import main

    monkeypatch.setattr(sys, "argv", ["occorr", "analyze", str(folder), *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == EXIT_USAGE
    assert says in " ".join(capsys.readouterr().err.split())


def test_closes_that_are_left_out_are_no_part_of_what_incidents_tell(folder):
    """The sample's two refusals of a wrong token, of which one is asked for."""
    own = occorr.analyze(folder).closes.filter(pl.col("cause") == "auth.token_mismatch").sort("timestamp")
    low, high = (own.get_column(name).cast(pl.Int64).to_list()[1] for name in ("time_earliest", "time_latest"))
    for window, counted in (({}, 2), ({"since_ns": high}, 1), ({"until_ns": low}, 1)):
        told = occorr.analyze(folder, **window)
        own = told.incidents.filter(pl.col("cause") == "auth.token_mismatch")
        assert own.get_column("closes").sum() == counted
        assert f"{counted} attempt" in own.get_column("title")[0]
        kept = set(told.closes.get_column("close_id"))
        assert set(told.evidence.get_column("close_id")) <= kept
    assert occorr.analyze(folder, project="no-such").closes.is_empty()


@pytest.mark.parametrize("form", ["table", "ndjson"])
@pytest.mark.parametrize(("more", "code"), [((), 0), (("--fail-on", "client"), 1)])
def test_a_reader_that_has_seen_enough_is_no_failure_and_hides_none(form, more, code, tmp_path):
    """As `occorr analyze … | head -1`: rich and typer each end with 1 of their own there, which means findings here."""
    log = tmp_path / "gateway.log"
    log.write_text("".join(f"2026-11-21T05:{n // 60 % 60:02}:{n % 60:02}.000Z [ws] closed before connect conn={n:08x}-0000-4000-8000-000000000000 remote=203.0.113.9 fwd=n/a origin=n/a host=gw.example.com ua=n/a code=1006 reason=n/a\n" for n in range(2000)))  # fmt: skip
    run = [sys.executable, "-c", "from occorr.cli import main; main()", "analyze", str(log), "--format", form, *more]
    reads, writes = os.pipe()
    os.close(reads)
    ended = subprocess.run(run, stdout=writes, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writes)
    assert (ended.returncode, ended.stderr) == (code, "")


def test_what_compose_itself_says_between_the_services_lines_is_counted_and_no_failure(tmp_path):
    (tmp_path / "compose.log").write_text(
        "gateway-1  | 2026-11-21T06:00:04.400+00:00 [gateway] ready\ngateway-1 exited with code 137\n"
        "gateway-1  | 2026-11-21T06:00:09.400+00:00 [gateway] loading configuration…\n"
    )
    result = occorr.analyze([tmp_path])
    own = result.sources.filter(pl.col("part") == "").row(0, named=True)
    assert (own["lines_unparsed"], own["status"], result.partial) == (0, "ok", False)


def test_lines_of_an_unknown_format_between_the_services_are_named(tmp_path):
    (tmp_path / "compose.log").write_text(("gateway-1  | 2026-11-21T06:00:04.400+00:00 [gateway] ready\n" * 3 + "<<proxy>> GET /ws 502\n") * 9)  # fmt: skip
    result = occorr.analyze([tmp_path])
    own = result.sources.filter(pl.col("part") == "").row(0, named=True)
    assert (own["lines_unparsed"], own["status"], result.partial) == (9, "unknown", True)
