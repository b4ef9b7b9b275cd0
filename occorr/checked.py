"""A TOML file of ours while it is checked: where its keys stand, and every mistake with its line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr.errors import Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LOOK_AROUND: Final = re.compile(r"\(\?(?:[=!]|<[=!])")
_BACK_REFERENCE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\[1-9]")


@dataclass(slots=True)
class File:
    """A file being checked: where its keys stand and what is wrong with it."""

    path: str
    text: str
    problems: list[Problem] = field(default_factory=list)
    patterns: list[tuple[str, str, int, str]] = field(default_factory=list)

    def compile(self) -> None:
        """Compiles all patterns with polars' engine: together, and one by one only to name those that fail."""
        tests = [pl.lit("").str.contains(p).alias(str(i)) for i, (p, *_) in enumerate(self.patterns)]
        try:
            pl.select(tests)
        except pl.exceptions.ComputeError:
            for test, (_, table, index, key) in zip(tests, self.patterns, strict=True):
                try:
                    pl.select(test)
                except pl.exceptions.ComputeError as error:
                    reason = [line.strip() for line in str(error).splitlines() if line.strip().startswith("error:")]
                    self.wrong(f"{key} is no valid regex: {reason[0] if reason else error}", table, index, key)

    def line_of(self, table: str, index: int, key: str) -> int:
        """The line of `key` in the index-th `[[table]]` (or `[table]`), of the header, or 1."""
        header = re.compile(rf"^\[\[?{re.escape(table)}\]?\]") if table else None
        seen, inside, at = -1, not table, 1
        for number, text in enumerate(self.text.splitlines(), 1):
            if text.startswith("["):
                inside = False
                if header and header.match(text):
                    seen += 1
                    if seen == index:
                        inside, at = True, number
                elif header and seen == index and text.startswith(f"[{table}."):
                    inside = True
            if inside and key and re.match(rf'\s*"?{re.escape(key)}"?\s*=', text):
                return number
        return at

    def wrong(self, message: str, table: str = "", index: int = 0, key: str = "") -> None:
        """Notes a mistake at a key."""
        self.problems.append(Problem(self.path, self.line_of(table, index, key), message))

    def keys(
        self, given: Mapping[str, Any], shape: Mapping[str, type | tuple[type, ...]], table: str = "", index: int = 0
    ) -> None:
        """Unknown keys and values of a wrong type."""
        where = f"[{table}]" if table else "the top of the file"
        for key, value in given.items():
            if key not in shape:
                self.wrong(f"unknown key {key!r} in {where}; {nearest(key, shape)}", table, index, key)
            elif not isinstance(value, shape[key]) or (isinstance(value, bool) and shape[key] is int):
                want = shape[key]
                names = want.__name__ if isinstance(want, type) else " or ".join(t.__name__ for t in want)
                self.wrong(f"{key} is {type(value).__name__}, expected {names}", table, index, key)

    def regex(self, pattern: str, table: str, index: int, key: str) -> list[str]:
        """Compiles a pattern with polars' engine; returns its named groups, also those of a broken one."""
        groups = re.findall(r"\(\?P?<([A-Za-z_]\w*)>", pattern)
        if found := _LOOK_AROUND.search(pattern):
            self.wrong(f"{key} uses look-around {found[0]!r}, which polars' regex engine lacks", table, index, key)
            return groups
        if found := _BACK_REFERENCE.search(pattern):
            self.wrong(f"{key} uses a back-reference {found[0]!r}, which polars' regex engine lacks", table, index, key)
            return groups
        self.patterns.append((pattern, table, index, key))
        return groups

    def columns(self, names: Iterable[str], valid: frozenset[str], table: str, index: int, key: str) -> None:
        """Names that are no column."""
        for name in names:
            if name not in valid and not name.startswith(("_", "x_")):
                self.wrong(f"{name!r} in {key} is no column; {nearest(name, valid)}", table, index, key)
