"""The engine's stamps: RFC 3339 with up to nine digits, and nanoseconds since 1970."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from occorr.engine.reach import EngineError
from occorr.schema import SECOND

_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)")


@lru_cache(maxsize=64)
def _whole_seconds(text: str, zone: str) -> int:
    return int(datetime.fromisoformat(text + (zone if zone not in ("Z", "") else "+00:00")).astimezone(UTC).timestamp())


def stamp_ns(text: str) -> int:
    """An RFC 3339 stamp of the engine, whose fraction has 0 to 9 digits, in nanoseconds since 1970.

    Raises:
        EngineError: the text is no such stamp.
    """
    found = _STAMP.fullmatch(text)
    if found is None:
        raise EngineError(f"the engine wrote {text[:60]!r} where a stamp was expected")
    return _whole_seconds(found[1], found[3]) * SECOND + int((found[2] or "0").ljust(9, "0"))


def seconds(time_ns: int | None) -> str | None:
    """Seconds with nine digits, as the engine reads them without loss."""
    return None if time_ns is None else f"{time_ns // SECOND}.{time_ns % SECOND:09d}"
