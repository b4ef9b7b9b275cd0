"""Errors that a person reads: what happened, where, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_OK, EXIT_FINDINGS, EXIT_USAGE, EXIT_NOTHING, EXIT_PARTIAL, EXIT_BUG, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 70, 130


class OccorrError(Exception):
    """A failure that a message explains; `exit_code` is what the command ends with."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        if exit_code is not None:
            self.exit_code = exit_code


class NothingParsableError(OccorrError):
    """No input held a line of a known format."""

    exit_code = EXIT_NOTHING


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a definition, at its place."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class DefinitionError(OccorrError):
    """All mistakes of the definitions that were read, in the order of file and line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda p: (p.path, p.line, p.message))
        super().__init__("\n".join(map(str, self.problems)))


def nearest(word: str, valid: Iterable[str], *, few: str = "") -> str:
    """The hint behind an unknown name: the nearest valid one, or all of them.

    Args:
        word: what stands in the file.
        valid: the names that may stand there.
        few: what to say instead of all names, where they are too many to read.
    """
    names = sorted(valid)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else few or f"known: {', '.join(names)}"
