"""Every output survives a corpus of injections: nothing in it is executed, followed or hidden."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hostile
from occorr import cli, results
from occorr.cli.base import app


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The logs, a result of them, and the id of a close that a forged reason stands in."""
    place = tmp_path_factory.mktemp("hostile")
    logs = hostile.logs(place / "logs")
    done = CliRunner().invoke(app, ["analyze", str(logs), "-o", str(place / "result")])
    assert done.exit_code == 0, done.output
    loaded = results.load(place / "result")
    closes = loaded.closes
    reasons = closes.get_column("websocket_close_reason").drop_nulls()
    records = "\n".join(loaded.timeline.get_column("log_record_original").to_list())
    # An output that never gets to see them would pass without having been tried.
    assert (
        reasons.str.contains("fired").any()
        and reasons.str.contains("\u202e").any()
        and reasons.n_unique() > len(hostile.PAYLOADS) / 2
    )
    assert [
        name
        for name, text in hostile.PAYLOADS.items()
        if text.splitlines()[0][:12] not in records and name not in ("nul", "formula-tab", "csv")
    ] == []
    return {
        "logs": str(logs),
        "result": str(place / "result"),
        "close": closes.item(0, "close_id"),
        "out": str(place / "out"),
    }


@pytest.mark.long
@pytest.mark.parametrize("name", hostile.OUTPUTS)
def test_output(name, corpus):
    command, form = hostile.OUTPUTS[name]
    done = CliRunner().invoke(app, [word.format(**corpus) for word in command])
    assert done.exit_code in (0, 1), (done.output[-500:], done.exception)
    text = Path(corpus["out"] + "." + form).read_bytes().decode() if "{out}" in "".join(command) else done.stdout
    assert len(text) > 100
    assert hostile.faults(form, text) == []


def test_every_form_of_every_report_is_attacked():
    from occorr.report import library

    assert {f"report {r.name}.{f}" for r in library.reports().values() for f in r.makers if f != "parquet"} <= set(
        hostile.OUTPUTS
    )


@pytest.mark.long
def test_a_terminal_gets_colours_of_ours_only(corpus):
    """On a real terminal colours are written: bold and dim, and nothing that a log asked for."""
    parent, child = pty.openpty()
    command = [sys.executable, "-c", "from occorr.cli import main; main()", "analyze", corpus["logs"]]
    process = subprocess.Popen(
        command,
        stdout=child,
        stderr=child,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"TERM": "xterm-256color"},
        close_fds=True,
    )
    os.close(child)
    told = b""
    while select.select([parent], [], [], 60)[0]:
        try:
            piece = os.read(parent, 65536)
        except OSError:
            break
        if not piece:
            break
        told += piece
    process.wait(60)
    os.close(parent)
    text = told.decode()
    assert "\x1b[1m" in text
    assert hostile.UNSEEN.findall(re.sub(r"\x1b\[[0-9;]*m|\r\n", "", text)) == []
    assert not re.search(r"\x1b\[(?!0m|1m|2m|1;2m|2;1m|22m)[0-9;]*m", text)


def test_messages_on_standard_error_are_clean(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["occorr", "explain", "\x1b]0;owned\x07\u202e", "no\x1b[2Jwhere"])
    with pytest.raises(SystemExit):
        cli.main()
    assert hostile.UNSEEN.findall(capsys.readouterr().err) == []


def test_the_judges_know_an_injection_when_they_see_one():
    """The rules above are tested by what they must catch, so that a clean result means something."""
    for form, bad in {
        "txt": "a\x1b[31mb", "md": "see <img src=x>", "json": '"\u202e"', "csv": 'a,b\n"=1+1",2\n', "html": "<p onclick='x'>", "jsonl": '{"a": "\x9b"}',
    }.items():  # fmt: skip
        assert hostile.faults(form, bad), form
    assert hostile.faults("md", "[x](https://evil.example)") and hostile.faults("md", "go to https://evil.example")
    assert hostile.faults("html", "<script>1</script><script>2</script>") and hostile.faults("exe", "x")
    assert not hostile.faults("csv", "a,b\n-1.5,+2e3\n") and not hostile.faults("md", "`https://evil.example` \\@x")
