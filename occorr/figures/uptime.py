"""When a gateway was not ready, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from occorr.figures.seen import Figure, Seen, logged, measured, of_gate, percentile, places
from occorr.schema import SECOND

if TYPE_CHECKING:
    from occorr import lives
    from occorr.gates import Gate, Place


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without a ready gateway; ns since 1970. `end` is None where the data ends first.

    `kind` is restart, freeze, or stop where nothing shows that it came back; `downs` how often it went down meanwhile.
    """

    scope: str
    kind: str
    start: int
    end: int | None
    cost_ns: int
    downs: int
    lines: tuple[Place, ...]


def outages(seen: Seen) -> list[Outage]:
    """Each time that a gateway which had been up was not ready, in order of time."""
    ends = [t for t in (seen.timeline["timestamp"].max(), seen.closes["at"].max()) if isinstance(t, int)]
    last = max(ends, default=0)
    found = []
    for lane in seen.lanes:
        if not lane.gateway:
            continue
        scope = lane.label
        was_up = False
        current: list[lives.Span] = []
        for span in [*lane.spans, None]:
            if span is not None and span.state in {"down", "starting", "paused"}:
                current.append(span)
                continue
            if current and was_up and current[0].start is not None:
                end, start = current[-1].end, current[0].start
                kind = (
                    "freeze"
                    if all(s.state == "paused" for s in current)
                    else "stop"
                    if len(current) == 1 and end is None and current[0].state == "down"
                    else "restart"
                )
                downs = sum(s.state == "down" and s.end is not None for s in current)
                cost = (end if end is not None else max(last, start)) - start
                found.append(
                    Outage(scope, kind, start, end, cost, max(downs, int(kind == "restart")), _at(seen.timeline, start))
                )
            current, was_up = [], was_up or span is not None
    return sorted(found, key=lambda o: (o.start, o.scope))


def _at(timeline: pl.DataFrame, moment: int) -> tuple[Place, ...]:
    """The line that began it."""
    rows = timeline.filter(
        (pl.col("timestamp") == moment)
        & (pl.col("container_action").is_not_null() | pl.col("event_name").str.starts_with("gateway."))
    )
    return places(rows.head(1))


def restarts(seen: Seen, gate: Gate) -> list[Figure]:
    """How often the gateway restarted, what that cost, and the longest time without a ready gateway."""
    if not any(lane.gateway and (seen.only or lane.label == gate.label) for lane in seen.lanes):
        why = "neither docker events nor a gateway log with its start and stop lines was read"
        return [measured(name, None, 0, gate, why) for name in ("restarts", "restart_cost", "longest_outage")]
    own = [o for o in outages(seen) if seen.only or o.scope == gate.label]
    again = [o for o in own if o.kind != "freeze"]
    open_end = any(o.end is None for o in again)
    tail = "; the last one was not over when the logs end" if open_end else ""
    frozen = len(own) - len(again)
    lines = [p for o in again for p in o.lines]
    counted = next(
        (
            int(r["value"])
            for r in seen.facts.filter(
                (pl.col("key") == "restart_count") & pl.col("subject").is_in(list(gate.subjects))
            ).iter_rows(named=True)
            if (r["value"] or "").isdigit()
        ),
        None,
    )
    policy = f"; the engine's own count for the container that was inspected: {counted}" if counted is not None else ""
    cost, longest = sum(o.cost_ns for o in again), max((o.cost_ns for o in own), default=0)
    return [
        measured(
            "restarts",
            sum(o.downs for o in again),
            len(again),
            gate,
            f"{len(again)} time{'s' * (len(again) != 1)} without a ready gateway{policy}"
            + (f"; {frozen} freeze{'s' * (frozen != 1)} beside them" if frozen else ""),
            lines,
        ),
        measured(
            "restart_cost",
            cost / SECOND,
            len(again),
            gate,
            f"sum of the times without a ready gateway{tail}",
            lines,
            floor=open_end,
        ),
        measured(
            "longest_outage",
            longest / SECOND,
            len(own),
            gate,
            "restarts and freezes" + tail,
            [p for o in own if o.cost_ns == longest for p in o.lines],
            floor=open_end,
        ),
    ]


def state_lock(seen: Seen, gate: Gate) -> list[Figure]:
    """How long the gateway waited for the lock of its state."""
    waits = (
        of_gate(seen, gate, seen.timeline)
        .filter((pl.col("event_name") == "state.lock_wait") & pl.col("elapsed_ms").is_not_null())
        .with_columns(ms=pl.col("elapsed_ms").cast(pl.Float64, strict=False))
        .drop_nulls("ms")
        .sort("ms", descending=True)
    )
    if waits.is_empty():
        why = (
            "no wait was logged: the gateway (2026.9 and later) writes those above 100 ms"
            if logged(seen, gate, "gateway")
            else "no gateway log was read"
        )
        return [measured("state_lock_p95", None, 0, gate, why)]
    return [
        measured(
            "state_lock_p95",
            percentile(waits["ms"].to_list(), 0.95) / 1000,
            waits.height,
            gate,
            "of the waits that the gateway logs, those above 100 ms",
            places(waits),
        )
    ]
