"""What a report is made from, and how its values become text that is safe to show."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from occorr.schema import Tables, plain
from occorr.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Tables", "plain", "shorten", "shown", "visible"]


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
