"""How far each clock stands from the reference clock, with an error bound.

An anchor is an interval in which the offset must lie if two lines speak of one moment. Wrong anchors are among them, so
the estimate is the point that most intervals share (a sweep over their ends), first with wide tolerances to find the
place, then with narrow ones for the bound. offset = this clock − reference, after its zone is applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import domains, schema, ties, zones
from occorr.offsets import ASSUMED_ERROR, Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping

MS: Final = 1_000_000
HOST_ERROR: Final = 50 * MS


def align(
    events: pl.DataFrame,
    facts: pl.DataFrame,
    *,
    tz: str | None = None,
    overrides: Mapping[str, tuple[int, int]] | None = None,
    given: Mapping[str, str] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Applies zones and estimates every clock.

    Args:
        events: linked events.
        facts: FACTS, for the containers' time zones.
        tz: zone of naive stamps where nothing better is known.
        overrides: clock → (offset ns, error ns) that a person gave.
        given: input or glob → the clock that a person says wrote its stamps.

    Returns:
        events with `clock_id` and `timestamp_raw` in UTC; CLOCKS.
    """
    events = domains.ticks(domains.named(domains.assign(domains.complete_roles(events)), given or {}))
    events, origins = zones.to_utc(events, facts, tz)
    ids = (
        events.filter(pl.col("timestamp_raw").is_not_null())
        .get_column("clock_id")
        .drop_nulls()
        .unique()
        .sort()
        .to_list()
    )
    engine = "engine" in ids or events.get_column("observed_clock_id").eq("engine").any()
    main = next((i for i in ids if i.startswith("gateway")), None)
    reference = (
        "engine"
        if engine
        else main or (events.get_column("clock_id").drop_nulls().mode().sort().first() if ids else None)
    )
    found: dict[str, Estimate] = {}
    if reference is not None:
        found[str(reference)] = Estimate(0, 0, 0, 0.0, "reference", "reference")
    for clock in sorted(ids, key=lambda i: (not i.startswith("gateway"), i)):
        if clock in found:
            continue
        if overrides and clock in overrides:
            offset, error = overrides[clock]
            found[clock] = Estimate(offset, error, 0, 0.0, "override", "aligned")
        elif clock in ("host", "recorder"):
            found[clock] = ties.client(events, clock, found) or Estimate(
                0,
                HOST_ERROR if clock == "host" else ASSUMED_ERROR,
                0,
                0.0,
                (
                    "the recorder is taken to run on the engine's host"
                    if clock == "host"
                    else "nothing ties this clock to the reference"
                ),
                "assumed",
            )
        elif clock.startswith("gateway"):
            found[clock] = ties.gateway(events, clock)
        else:
            found[clock] = ties.proxy(events, clock, found)
    table = _table(found, origins, events)
    told = pl.col("clock_id").is_in(list((given or {}).values()))
    return events, table.with_columns(
        pl.when(told).then(pl.concat_str("method", pl.lit("; named by --clock"))).otherwise("method").alias("method")
    )


def _table(found: Mapping[str, Estimate], origins: Mapping[str, tuple[str, str]], events: pl.DataFrame) -> pl.DataFrame:
    spans = {
        row["clock_id"]: row
        for row in (
            events.filter(pl.col("timestamp_raw").is_not_null())
            .group_by("clock_id")
            .agg(
                pl.col("timestamp_raw").min().cast(pl.Int64).alias("a"),
                pl.col("timestamp_raw").max().cast(pl.Int64).alias("b"),
            )
            .to_dicts()
        )
    }
    rows = []
    for clock, e in sorted(found.items()):
        zone, origin = origins.get(clock, ("as written", "the stamps carry it"))
        span = spans.get(clock, {})
        pieces = e.pieces()
        for at, piece in enumerate(pieces):
            begin, end = (None if span.get(k) is None else int(span[k]) for k in "ab")
            start = piece.get("segment_start") if at else (None if begin is None else begin - piece["offset_ns"])
            stop = (
                piece.get("segment_end")
                if at < len(pieces) - 1
                else (None if end is None else end - piece["offset_ns"])
            )
            rows.append(
                {
                    **piece,
                    "clock_id": clock,
                    "segment_start": start,
                    "segment_end": stop,
                    "zone": zone,
                    "zone_origin": origin,
                }
            )
    return schema.conform(
        pl.DataFrame(rows, infer_schema_length=None) if rows else schema.empty(schema.CLOCKS), schema.CLOCKS
    )
