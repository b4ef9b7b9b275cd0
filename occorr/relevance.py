"""Which lines can matter: what an event selects, ends of a process's log, trouble, what stands around a close or a start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from occorr import decode

if TYPE_CHECKING:
    from occorr.definitions import Dialect, Library
    from occorr.plans import Plan

HEAD_TAIL: Final = 20  # lines kept at both ends of a process's segment
AROUND: Final = 10  # lines kept around a close
EVERY: Final = 5_000  # of the remaining two-stamp lines, one in so many is kept as an anchor between two clocks
TROUBLE: Final = ("Error", "error", "ERROR", "fatal", "FATAL", "panic", "xception", "out of memory")


def matters(lines: pl.DataFrame, order: tuple[Dialect, ...], plan: Plan, library: Library) -> pl.Series:
    """Which lines can matter: selected by an event, ends of a segment, trouble, no stamp, around a close or a start."""
    found = {d.definition: library.formats[d.definition] for d in plan.recognition.dialects}
    if any(f.keep_all for f in found.values()):
        return pl.repeat(True, lines.height, eager=True)
    formats = {
        **found,
        **{n: f for n, f in library.formats.items() if not f.keep_all and f.source_kind == "gateway"},
    }.values()
    text = lines.get_column("text")
    if any(
        e.clock == "host" for e in plan.envelopes
    ):  # a journal mixes the kernel, systemd and the engine in, few lines each
        formats = {
            **{f.name: f for f in formats},
            **{n: f for n, f in library.formats.items() if f.source_kind in ("kernel", "other")},
        }.values()
    selects = tuple(sorted({s for f in formats for s in f.selects}))
    # one pass over all lines; what follows looks only at those that it found
    selected = (
        text.str.contains(decode.literals((*selects, *TROUBLE)))
        if selects
        else text.str.contains(decode.literals(TROUBLE))
    )
    places = selected.arg_true()
    few = text.gather(places)
    keep = selected.clone()
    for names, reach in (
        (("websocket.close", "cli.failure"), AROUND),
        (("gateway.start", "gateway.shutdown"), HEAD_TAIL),
    ):
        words = tuple(sorted({s for f in formats for e in f.events if e.name in names for s in e.select}))
        if words:
            near = np.zeros(lines.height + 1, dtype=np.int32)
            hits = places.filter(few.str.contains(decode.literals(words))).to_numpy().astype(np.int64)
            np.add.at(near, np.maximum(hits - reach, 0), 1)
            np.add.at(near, np.minimum(hits + reach + 1, lines.height), -1)
            keep = keep | pl.Series(np.cumsum(near[:-1]) > 0)
    index = np.arange(lines.height)
    keep = keep | pl.Series((index < HEAD_TAIL) | (index >= lines.height - HEAD_TAIL) | (index % EVERY == 0))
    unstamped = [i for i, d in enumerate(order) if d.time is None]
    return keep | lines.get_column("_dialect").is_in([-1, *unstamped])
