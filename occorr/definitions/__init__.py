"""Loads `parsers/*.toml`: checks every key, regex and column, and reports all mistakes at once with file and line.

A definition holds *dialects* (how a line is cut into stamp, body and fields) and *events* (what a body says). A dialect
of one format may appear in any envelope, and all dialects of a definition share its events, so a message is described
once however it was written.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from typing import TYPE_CHECKING

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
    file = File(shown, text)
    definition = checks.format_(file, tomllib.loads(text), name)
    file.compile()
    if file.problems:
        raise DefinitionError(file.problems)
    return definition


@cache
def builtin() -> Library:
    """The definitions that come with occorr."""
    return load(resources.folder("parsers"))
