"""What a person is told about a mistake in a definition: file, line, what is wrong and what was meant."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from occorr import definitions
from occorr.errors import DefinitionError

MISTAKES = sorted(p for p in (Path(__file__).parent / "bad_definitions").iterdir() if p.is_dir())


def told(folder: Path) -> str:
    with pytest.raises(DefinitionError) as error:
        definitions.load(folder)
    return str(error.value)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda p: p.name)
def test_told_as_expected(mistake):
    assert told(mistake) == (mistake / "expected.txt").read_text(encoding="utf-8").rstrip("\n")


def test_three_mistakes_are_told_at_once():
    assert len(told(Path(__file__).parent / "bad_definitions" / "three_at_once").splitlines()) == 3


def test_mistakes_of_several_files_are_told_at_once(tmp_path):
    folder = tmp_path / "parsers"
    folder.mkdir()
    for name in ("unknown_zone", "look_around"):
        shutil.copy(Path(__file__).parent / "bad_definitions" / name / "definition.toml", folder / f"{name}.toml")
    files = [line.split(":")[0] for line in told(folder).splitlines()]
    assert files == ["parsers/look_around.toml", "parsers/unknown_zone.toml"]
