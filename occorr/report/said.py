"""A sentence of ours with values of the logs in it, each of which is escaped as the form asks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# What to look at first: what cuts connections by itself comes before whatever it makes look broken too.
_COMMAND: Final = re.compile(r"(?:docker|openclaw|ls|ss|nc|dmesg|journalctl) ")


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence of ours with values of the logs in it: text and its kind, "" ours, "code" a value or a command, "text" any other that needs escaping."""

    parts: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "".join(text for text, _ in self.parts)

    def __bool__(self) -> bool:
        return bool(self.parts)


def say(form: str, *values: object) -> Said:
    """A sentence; each `{}` is a value of the logs, or a list of them."""
    parts: list[tuple[str, str]] = []
    for piece, value in zip(form.split("{}"), [*values, None], strict=True):
        parts.append((piece, ""))
        if isinstance(value, Said):
            parts += value.parts
        elif isinstance(value, list | tuple):
            for i, one in enumerate(value):
                parts += [(", " if i else "", ""), (str(one), "code")]
        elif value is not None:
            parts.append((str(value), "code"))
    return Said(tuple(p for p in parts if p[0]))


def told(text: str) -> Said:
    """Advice of a rule or a wish of a close: a command as one, all else as text."""
    return Said(((text, "code" if _COMMAND.match(text) else "text"),))


def together(said: Iterable[Said], mark: str = " ") -> Said:
    """Several sentences as one."""
    parts: list[tuple[str, str]] = []
    for one in said:
        parts += [(mark, ""), *one.parts] if parts else one.parts
    return Said(tuple(parts))
