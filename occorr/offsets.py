"""What was found of a clock, as rows of CLOCKS, and those rows applied to stamps. offset = this clock − reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from occorr import schema
from occorr.program import DRIFT, Segment
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

REACH: Final = 14 * 3600 * SECOND
ASSUMED_ERROR: Final = 2 * SECOND  # what an unverified clock is taken to be off by at most, for windows


@dataclass(frozen=True, slots=True)
class Estimate:
    """A clock's offset and the half-width of its bound, both in ns."""

    offset: int
    error: int
    anchors: int
    violated: float
    method: str
    status: str
    segments: tuple[Segment, ...] = ()
    base: int = 0
    extra: int = 0

    def pieces(self) -> list[dict[str, Any]]:
        """Rows of CLOCKS without the clock's name and zone, one a segment; times in ns, null where nothing bounds them."""
        if not self.segments:
            return [
                {
                    "offset_ns": self.offset,
                    "drift_ppm": 0.0,
                    "error_ns": self.error,
                    "anchors": self.anchors,
                    "violated_share": self.violated,
                    "method": self.method,
                    "status": self.status,
                }
            ]
        out = []
        for piece in self.segments:
            span = [
                None if np.isinf(t) else self.base + round(t)
                for t in (piece.start, piece.end, piece.origin, piece.first, piece.last)
            ]
            known = piece.status == "aligned"
            out.append(
                {
                    "segment_start": span[0],
                    "segment_end": span[1],
                    "reference_time": span[2] if known else None,
                    "anchored_from": span[3] if known else None,
                    "anchored_to": span[4] if known else None,
                    "offset_ns": round(piece.offset) if known else self.offset,
                    "drift_ppm": round(piece.drift * 1e6, 3),
                    "error_ns": round(float(piece.errors.max())) + self.extra if known else ASSUMED_ERROR,
                    "anchors": piece.anchors,
                    "violated_share": piece.violated,
                    "method": "; ".join(w for w in (self.method, piece.reason) if w),
                    "status": piece.status,
                }
            )
        return out


def linear(segments: Sequence[Segment], base: int, extra: int, method: str) -> Estimate:
    """An estimate whose rows are the segments that the anchors gave."""
    main = max(segments, key=lambda s: s.anchors)
    return Estimate(
        round(main.offset),
        round(float(main.errors.max())) + extra,
        sum(s.anchors for s in segments),
        main.violated,
        method,
        "aligned",
        tuple(segments),
        base,
        extra,
    )


def aligned(
    found: Mapping[str, Estimate], clock: pl.Series, raw: pl.Series
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Reference times of raw stamps, and the half-widths of their bounds, both ns; as `place` finds them."""
    frame = pl.DataFrame(
        {"clock_id": clock.cast(pl.String), "timestamp_raw": raw.cast(pl.Int64)},
        schema={"clock_id": pl.String, "timestamp_raw": pl.Int64},
    )
    table = schema.conform(
        pl.DataFrame(
            [{"clock_id": name, **row} for name, e in sorted(found.items()) for row in e.pieces()],
            infer_schema_length=None,
        ),
        schema.CLOCKS,
    )
    offset, error, _ = offsets(frame, table)
    return raw.cast(pl.Int64).fill_null(0).to_numpy() - offset, error


def offsets(events: pl.DataFrame, table: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str | None]]:
    """Each event's clock offset and the half-width of its bound in ns, and its clock's status; 0, 0 and null where unknown.

    Where a clock was set back, a stamp fits two segments: its bound then covers both.

    Args:
        events: `clock_id` and `timestamp_raw`.
        table: CLOCKS.
    """
    raw = events.get_column("timestamp_raw").cast(pl.Int64)
    has = raw.is_not_null().to_numpy()
    stamps = raw.fill_null(0).to_numpy()
    names = events.get_column("clock_id").cast(pl.String)
    offset, error = np.zeros(len(stamps), np.int64), np.zeros(len(stamps), np.int64)
    status: NDArray[np.object_] = np.full(len(stamps), None, dtype=object)
    times = [
        c
        for c in ("segment_start", "segment_end", "reference_time", "anchored_from", "anchored_to")
        if c in table.columns
    ]
    for (clock,), rows in table.with_columns(pl.col(times).cast(pl.Int64)).group_by("clock_id", maintain_order=True):
        which = np.flatnonzero((names == clock).fill_null(value=False).to_numpy())
        if not len(which):
            continue
        t = stamps[which]
        pieces = rows.to_dicts()
        low, high = np.full(len(t), np.iinfo(np.int64).max), np.full(len(t), np.iinfo(np.int64).min)
        nearest, least = np.zeros(len(t), np.int64), np.full(len(t), np.inf)
        best = np.full(len(t), np.inf)
        for at, piece in enumerate(pieces):
            own, bound, outside = _apply(piece, t, single=len(pieces) == 1)
            fits = outside <= 0
            low, high = (
                np.where(fits, np.minimum(low, own - bound), low),
                np.where(fits, np.maximum(high, own + bound), high),
            )
            nearest = np.where(outside < least, at, nearest)
            least = np.minimum(least, outside)
            take = fits & (bound < best)
            offset[which] = np.where(take, own, offset[which])
            status[which[take]] = piece["status"]
            best = np.where(take, bound, best)
        lost = np.isinf(best)
        for at, piece in enumerate(pieces):
            mine = lost & (nearest == at)
            own, bound, _ = _apply(piece, t, single=True)
            offset[which[mine]], low[mine], high[mine] = own[mine], (own - bound)[mine], (own + bound)[mine]
            status[which[mine]] = piece["status"]
        error[which] = np.maximum(high - offset[which], offset[which] - low)
    without = ~has
    offset[without] = 0
    return offset, error, status.tolist()


def _apply(
    piece: Mapping[str, Any], t: NDArray[np.int64], *, single: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """A segment's offset and bound at raw stamps, and how far outside of the segment they fall, ns."""
    own = np.full(len(t), piece["offset_ns"] or 0, np.int64)
    drift = (piece["drift_ppm"] or 0.0) * 1e-6
    if drift and piece["reference_time"] is not None:
        own = own + np.rint(drift / (1 + drift) * (t - own - piece["reference_time"]).astype(np.float64)).astype(
            np.int64
        )
    reference = t - own
    bound = np.full(len(t), piece["error_ns"] or 0, np.int64)
    if piece.get("anchored_from") is not None:
        beyond = np.maximum(np.maximum(piece["anchored_from"] - reference, reference - piece["anchored_to"]), 0)
        bound = bound + np.rint(DRIFT * np.minimum(beyond, REACH * 100)).astype(np.int64)
    outside = np.zeros(len(t))
    if not single:
        start, end = piece["segment_start"], piece["segment_end"]
        outside = np.maximum(
            0.0 if start is None else (start - reference).astype(np.float64),
            0.0 if end is None else (reference - end).astype(np.float64),
        )
    return own, bound, np.maximum(outside, 0)
