"""Thresholds for figures: the defaults stand in `policy.toml`, a file of one's own replaces single values."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from occorr.checked import File
from occorr.errors import DefinitionError, OccorrError, Problem, nearest
from occorr.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from occorr.figures import Figure

DEFAULT: Final = Path(__file__).parent / "policy.toml"
_NUMBER: Final = (int, float)
_LIMIT: Final[Mapping[str, type | tuple[type, ...]]] = {
    "max": _NUMBER,
    "min": _NUMBER,
    "min_n": int,
    "why": str,
    "off": bool,
}


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure's threshold: it must be at most `max` and at least `min`, from at least `min_n` observations."""

    figure: str
    max: float | None = None
    min: float | None = None
    min_n: int = 1
    why: str = ""
    off: bool = False

    def __str__(self) -> str:
        unit = FIGURES[self.figure][1]
        parts = [f"{sign} {number:g}" for sign, number in (("≥", self.min), ("≤", self.max)) if number is not None]
        return " and ".join(parts) + (f" {unit}" if unit else "")


@dataclass(frozen=True, slots=True)
class Judgement:
    """A figure held against its limit; `status` is pass, fail or no-data."""

    figure: Figure
    limit: Limit
    status: str
    reason: str


@cache
def default() -> dict[str, Limit]:
    """The thresholds that come with occorr, by figure."""
    return load(DEFAULT, {})


def load(path: Path, base: Mapping[str, Limit] | None = None) -> dict[str, Limit]:
    """The thresholds of a file over those of `base`.

    Args:
        path: a TOML file with a table a figure.
        base: what holds where the file says nothing; by default the ones that come with occorr.

    Raises:
        DefinitionError: holds every mistake of the file.
        OccorrError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OccorrError(
            f"--policy {path}: {getattr(error, 'strerror', None) or 'is no UTF-8 text'}; give a TOML file with a table"
            " a figure"
        ) from error
    file = File(str(path), text)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        raise DefinitionError(
            [Problem(str(path), int(found[1]) if found else 1, f"not valid TOML: {error}")]
        ) from error
    limits = dict(default() if base is None else base)
    for name, given in data.items():
        if name not in FIGURES:
            _wrong(file, f"{name!r} is no figure; {nearest(name, FIGURES)}", name)
        elif not isinstance(given, dict):
            _wrong(file, f"{name} is {type(given).__name__}, expected a table with max or min", name)
        else:
            limits[name] = _merged(file, name, given, limits.get(name, Limit(name)))
    if file.problems:
        raise DefinitionError(file.problems)
    return limits


def _wrong(file: File, message: str, table: str, key: str = "") -> None:
    """Notes a mistake of a table, however it is written: as a header, inline or with dots."""
    lines = enumerate(file.text.splitlines(), 1)
    name = rf'"?{re.escape(table)}"?'
    header = re.compile(rf"^\s*(?:\[\s*{name}\s*\]|{name}\s*[.=])")
    if re.search(rf"(?m)^\[{re.escape(table)}\]", file.text):
        file.wrong(message, table, 0, key)
    else:
        at = next((n for n, line in lines if header.match(line) and (not key or key in line)), 1)
        file.problems.append(Problem(file.path, at, message))


def _merged(file: File, name: str, given: Mapping[str, Any], before: Limit) -> Limit:
    good: dict[str, Any] = {}
    for key, value in given.items():
        want = _LIMIT.get(key)
        if want is None:
            _wrong(file, f"unknown key {key!r} in [{name}]; {nearest(key, _LIMIT)}", name, key)
        elif (
            not isinstance(value, want)
            or (isinstance(value, bool) and want is not bool)
            or (isinstance(value, float) and not math.isfinite(value))
        ):
            kind = (
                "a number"
                if want is _NUMBER
                else "a whole number"
                if want is int
                else "true or false"
                if want is bool
                else "text"
            )
            _wrong(file, f"{key} is {value!r}, expected {kind}", name, key)
        else:
            good[key] = value
    made = replace(before, **good)
    if made.max is None and made.min is None and not made.off and not file.problems:
        _wrong(file, f"[{name}] sets neither max nor min, and has no default", name)
    if made.max is not None and made.min is not None and made.min > made.max:
        _wrong(
            file,
            f"[{name}] asks for at least {made.min:g} and at most {made.max:g}",
            name,
            "min" if "min" in given else "max",
        )
    return made


def judge(figures: Iterable[Figure], limits: Mapping[str, Limit]) -> list[Judgement]:
    """Each figure that has a limit, judged. Where there is no data, nothing passes."""
    made = []
    for figure in figures:
        limit = limits.get(figure.id)
        if limit is not None and not limit.off:
            status, reason = _status(figure, limit)
            made.append(Judgement(figure, limit, status, reason))
    return made


def _status(figure: Figure, limit: Limit) -> tuple[str, str]:
    if figure.value is None:
        return "no-data", figure.note
    if figure.n < limit.min_n and limit.min_n > 1:
        return "no-data", f"only {figure.n} of the {limit.min_n} observations that it takes; {figure.note}"
    if limit.max is not None and figure.value > limit.max:
        return "fail", limit.why or figure.note
    if limit.min is not None and figure.value < limit.min:
        # The truth may lie higher than what these inputs show: that is neither a breach nor a pass.
        return ("no-data", figure.note) if figure.floor else ("fail", limit.why or figure.note)
    if limit.max is not None and figure.floor:
        return "no-data", f"it is at least this, and may be more; {figure.note}"
    return "pass", figure.note
