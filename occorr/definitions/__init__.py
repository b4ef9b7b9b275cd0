"""Loads `parsers/*.toml`: checks every key, regex and column, and reports all mistakes at once with file and line.

A definition holds *dialects* (how a line is cut into stamp, body and fields) and *events* (what a body says). A dialect
of one format may appear in any envelope, and all dialects of a definition share its events, so a message is described
once however it was written.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from occorr import resources
from occorr.checked import File
from occorr.definitions import checks
from occorr.definitions.model import (
    MARKS,
    UNITS,
    Definition,
    Dialect,
    Envelope,
    Event,
    Extract,
    Library,
    Sample,
    Time,
)
from occorr.errors import DefinitionError, Problem, nearest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "MARKS",
    "UNITS",
    "Definition",
    "Dialect",
    "Envelope",
    "Event",
    "Extract",
    "Library",
    "Sample",
    "Time",
    "builtin",
    "load",
    "parse",
]


_PATTERNS: Final = ("regex", "line", "whole", "start", "continue")
_CLASSES: Final = {r"\d": "0-9", r"\w": "0-9A-Za-z_"}
_ESCAPED: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]")


def load(*folders: Path) -> Library:
    """Reads every `*.toml` of the folders; a later folder's file replaces an earlier one's of the same name.

    Raises:
        DefinitionError: holds every mistake of every file.
    """
    formats: dict[str, Definition] = {}
    envelopes: dict[str, Envelope] = {}
    problems: list[Problem] = []
    for base in folders:
        for path in sorted(base.glob("*.toml")):
            shown = f"{base.name}/{path.name}"
            file = File(shown, path.read_text(encoding="utf-8"))
            try:
                data = tomllib.loads(file.text)
            except tomllib.TOMLDecodeError as error:
                line = re.search(r"at line (\d+)", str(error))
                problems.append(Problem(shown, int(line[1]) if line else 1, f"not valid TOML: {error}"))
                continue
            _narrow(data)
            if data.get("kind", "format") == "envelope":
                envelopes[path.stem] = checks.envelope(file, data, path.stem)
            else:
                formats[path.stem] = checks.format_(file, data, path.stem)
            file.compile()
            problems += file.problems
    for definition in formats.values():
        for other in definition.ambiguous_with:
            if other not in formats:
                problems.append(
                    Problem(definition.path, 1, f"ambiguous_with names {other!r}; {nearest(other, formats)}")
                )
    if problems:
        raise DefinitionError(problems)
    return Library(formats, envelopes)


def parse(text: str, name: str, shown: str) -> Definition:
    """One format from its TOML text.

    Raises:
        DefinitionError: holds every mistake of it.
    """
    file, data = File(shown, text), tomllib.loads(text)
    _narrow(data)
    definition = checks.format_(file, data, name)
    file.compile()
    if file.problems:
        raise DefinitionError(file.problems)
    return definition


def _narrow(data: dict[str, Any]) -> None:
    r"""Makes \d and \w of a file's patterns ASCII, as logs are: to build Unicode's classes took a fifth of a whole analysis."""
    tables = [data, data.get("record"), *data.get("dialect", ()), *data.get("event", ())]
    for table in tables:
        for key in _PATTERNS:
            if isinstance(table, dict) and isinstance(table.get(key), str):
                table[key] = _ESCAPED.sub(_ascii, table[key])


def _ascii(found: re.Match[str]) -> str:
    """A class or an escape, without Unicode's digits and letters."""
    text = found[0]
    if text.startswith("["):
        return re.sub(r"\\.", lambda m: _CLASSES.get(m[0], m[0]), text)
    return f"[{_CLASSES[text]}]" if text in _CLASSES else text


@cache
def builtin() -> Library:
    """The definitions that come with occorr."""
    return load(resources.folder("parsers"))
