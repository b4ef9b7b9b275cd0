"""Documentation that can drift: commands and options that it names, the answer that it shows, the modules that it lists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from occorr import rules
from occorr.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = typer.main.get_command(app).commands


def shown() -> list[str]:
    """Every `occorr …` line of a block or in the text, without its comment."""
    blocks = [line for block in re.findall(r"```(?:\w*)\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
    spans = re.findall(r"`(occorr [^`]+)`", README)
    found = [re.search(r"(?:^|\| )(occorr .*)", line) for line in blocks]
    lines = [m[1] for m in found if m and not line_is_output(m[1])] + spans
    return sorted({re.split(r"\s#|\s{2,}\(", line)[0].replace("…", "").strip() for line in lines})


def line_is_output(line: str) -> bool:
    return line.startswith(("occorr:", "occorr/"))


@pytest.mark.parametrize("line", shown())
def test_readme_names_commands_and_options_that_exist(line):
    words = shlex.split(line)[1:]
    if "--" in words:  # what record runs has options of its own
        words = words[: words.index("--")]
    while words and words[0] in ("-q", "--config", "FILE"):
        words = words[1:]
    if not words:
        return
    command = COMMANDS[words[0]]
    if hasattr(command, "commands") and len(words) > 1:
        for name in words[1].split("|"):
            assert name in command.commands
        command = command.commands[words[1].split("|")[0]]
    known = {o for p in command.params for o in p.opts}
    assert {w for w in words if w.startswith("-") and w != "-"} <= known


def test_readme_names_every_command():
    assert [name for name in COMMANDS if f"occorr {name}" not in README] == []


def test_readme_names_every_cause():
    rows = dict(re.findall(r"^\| (\w+) \| [^|]+ \| ((?:`\w+` ?)+) \|$", README, re.M))
    named = {f"{family}.{cause}" for family, causes in rows.items() for cause in re.findall(r"`(\w+)`", causes)}
    assert named == {c.cause for c in rules.builtin() if c.cause != rules.EPISODE}


def test_the_answer_that_readme_shows_is_what_is_printed(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    said = re.search(r"`occorr analyze (sample_logs/\S+)`:\n\n```\n(.*?)```", README, re.DOTALL)
    got = CliRunner().invoke(app, ["analyze", said[1]])
    assert [line.rstrip() for line in got.stdout.splitlines()] == said[2].splitlines()


def test_architecture_lists_every_module():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    listed = {name.rstrip("/") for row in rows for name in re.findall(r"`([\w/]+)`", row)}
    here = {p.stem for p in (ROOT / "occorr").glob("*.py")} | {
        p.parent.name for p in (ROOT / "occorr").glob("*/__init__.py")
    }
    assert here - listed - {"__init__", "__main__", "_builtin"} == set()
    assert {name for name in listed if "/" not in name} - here - {"rules", "samples"} == set()
