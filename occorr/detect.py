"""Recognises formats by what the lines look like, never by the file's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from occorr import decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from occorr.definitions import Dialect, Library

HEAD, SPREAD, TAIL = 120, 120, 60
NONE: Final = -1
BEHIND: Final = 90  # dialects of such a rank were declared by a configuration
MORE: Final = 0.02  # … and come first only if they claim so much more
FEW: Final = 60  # lines that show what a dialect tells
TELLING: Final = {
    "duration_ns": 3,
    "client_address": 1,
    "client_port": 1,
    "upstream_address": 1,
    "upstream_status": 1,
    "request_id": 1,
    "http_upgrade": 1,
    "connection_serial": 1,
    "proxy_termination": 2,
    "http_response_status_code": 1,
}


@dataclass(frozen=True, slots=True)
class Recognition:
    """The dialects that occur in a group of lines, the most frequent first, with their shares of the sample.

    `margin` is the first one's share minus that of the best dialect of another format.
    """

    dialects: tuple[Dialect, ...]
    shares: tuple[float, ...]
    margin: float

    @property
    def name(self) -> str:
        """The main dialect's name, or an empty string."""
        return self.dialects[0].parser if self.dialects else ""


def sample(lines: pl.DataFrame) -> pl.DataFrame:
    """Lines from the head, all through and the tail of a frame."""
    height = lines.height
    if height <= HEAD + SPREAD + TAIL:
        return lines
    step = max(1, (height - HEAD - TAIL) // SPREAD)
    middle = lines.slice(HEAD, height - HEAD - TAIL).gather_every(step)
    return pl.concat([lines.head(HEAD), middle, lines.tail(TAIL)])


def recognise(texts: pl.Series, library: Library, path: str = "") -> Recognition:
    """The dialects of a sample of bare lines.

    Args:
        texts: the lines.
        library: the definitions.
        path: the input, whose last part a configuration may name.
    """
    filled = texts.filter(texts.str.len_bytes() > 0)
    if not filled.str.contains(library.line).any():
        return Recognition((), (), 0.0)
    dialects = library.dialects
    frame = pl.DataFrame({"text": filled})
    hits = frame.select(pl.col("text").str.contains(d.line).mean().alias(str(i)) for i, d in enumerate(dialects)).row(0)
    order = sorted(
        (i for i in range(len(dialects)) if hits[i] > 0),
        key=lambda i: (-hits[i] if hits[i] < 1 else -1.0, dialects[i].rank, dialects[i].parser),
    )
    # A more general dialect that covers the same lines must not stand before the specific one.
    order.sort(key=lambda i: dialects[i].rank if hits[i] >= 0.5 else 100 + dialects[i].rank)
    order = _declared(order, hits, dialects, filled, library, path)
    best = order[0] if order else None
    rivals = [hits[i] for i in order if best is not None and dialects[i].definition != dialects[best].definition]
    margin = float(hits[best] - max(rivals, default=0.0)) if best is not None else 0.0
    return Recognition(tuple(dialects[i] for i in order), tuple(float(hits[i]) for i in order), margin)


def _declared(
    order: list[int], hits: Sequence[float], dialects: Sequence[Dialect], texts: pl.Series, library: Library, path: str
) -> list[int]:
    """The order with a format of a configuration in front: where it claims more lines, or as many of a log that is its own and tells more."""
    if not library.declared:
        return order
    name = PurePath(path).name  # what was collected of several machines has a word in front of it
    named = (logs for file, logs in library.declared.items() if re.search(rf"(?:^|[-._]){re.escape(file)}$", name))
    logs = next(named, None) or library.declared.get("*", ())
    ours = [i for i in order if dialects[i].rank >= BEHIND]
    rest = [i for i in order if i not in ours]
    most = max((hits[i] for i in rest), default=0.0)
    rival = next((dialects[i] for i in rest if hits[i] >= most), None)
    known = _told(rival, texts, library) if rival is not None else 0
    first = [
        i
        for i in ours
        if hits[i] > most + MORE
        or (dialects[i].parser in logs and hits[i] >= most and _told(dialects[i], texts, library) > known)
    ]
    first.sort(key=lambda i: (dialects[i].parser not in logs, -hits[i]))
    return [*first, *(i for i in order if i not in first)]


def _told(dialect: Dialect, texts: pl.Series, library: Library) -> int:
    """How much a dialect tells of some lines: what settles closes counts, a duration and a fine stamp most."""
    lines = texts.filter(texts.str.contains(dialect.line)).head(FEW)
    frame = pl.DataFrame({"text": lines}).with_columns(pl.lit(1).alias("line"), pl.lit(0).alias("offset"))
    rows = decode.decode(frame, dialect, library.formats[dialect.definition])
    fine = int((rows.get_column("_digits") > 0).any()) if "_digits" in rows.columns else 0
    return 2 * fine + sum(
        weight for name, weight in TELLING.items() if name in rows.columns and rows.get_column(name).is_not_null().any()
    )


def assign(lines: pl.DataFrame, dialects: tuple[Dialect, ...], library: Library) -> pl.DataFrame:
    """Adds `_dialect`: the index into the returned order of the first dialect whose line test a line passes, or NONE.

    The sample's dialects are tried first; only what they leave, and what any other claims, is tried against all the others.
    """
    text = lines.get_column("text")
    result = np.full(lines.height, NONE, dtype=np.int32)
    places = np.arange(lines.height)
    for index, dialect in enumerate(order(dialects, library)):
        if index == len(dialects):
            claimed = text.str.contains(library.line)
            text, places = text.filter(claimed), places[claimed.to_numpy()]
        if not len(places):
            break
        hit = text.str.contains(dialect.line).to_numpy()
        if hit.any():
            result[places[hit]] = index
            places = places[~hit]
            text = text.filter(pl.Series(~hit))
    return lines.with_columns(pl.Series("_dialect", result))


def order(dialects: tuple[Dialect, ...], library: Library) -> tuple[Dialect, ...]:
    """The order that `assign` counts in."""
    known = set(dialects)
    return (*dialects, *(d for d in library.dialects if d not in known))
