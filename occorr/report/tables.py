"""What a report is made from, and how its values become text that is safe to show."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from occorr.schema import Tables, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SECOND", "Tables", "plain", "shorten", "shown", "visible"]
SECOND: Final = 1_000_000_000
# C0 and C1 controls, zero-width characters, line separators and bidirectional controls: they move, hide or reorder what
# a reader sees, and a log line may hold them on purpose. Private-use and lone surrogates cannot be drawn at all.
_INVISIBLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
    "|[\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with every character that hides or reorders others written out, as a backslash, `u` and its number in braces."""
    return _INVISIBLE.sub(lambda m: f"\\u{{{ord(m[0]):x}}}", text)


def shown(value: Any) -> str:
    """Any value of a table as text that is safe to show; null is empty."""
    return "" if value is None else visible(str(value))


def shorten(paths: Iterable[str]) -> dict[str, str]:
    """What each path is called in a report: without the folders that all of them share.

    Args:
        paths: `log_file_path` of all tables. A report travels; where it was made is nobody's business.
    """
    unique = sorted(set(paths))
    parents = [PurePosixPath(p).parts[:-1] for p in unique]
    shared = 0
    while parents and all(len(p) > shared and p[shared] == parents[0][shared] for p in parents):
        shared += 1
    return {p: visible("/".join(PurePosixPath(p).parts[shared:]) or p) for p in unique}
