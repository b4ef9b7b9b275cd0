"""How far each clock stands from the reference clock, with an error bound.

An anchor is an interval in which the offset must lie if two lines speak of one moment. Wrong anchors are among them, so
the estimate is the point that most intervals share (a sweep over their ends), first with wide tolerances to find the
place, then with narrow ones for the bound. offset = this clock − reference, after its zone is applied.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import domains, schema, ties, tunnels, zones
from occorr.offsets import ASSUMED_ERROR, Estimate
from occorr.schema import MS

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    events = _apart(events, origins)
    found = _reference(events)
    for clock in sorted(_ids(events), key=lambda i: (not i.startswith("gateway"), i)):
        if clock not in found:
            found[clock] = _estimate(events, clock, found, overrides or {})
    events = _together(events, found, origins, {*(overrides or {}), *(given or {}).values()})
    table = _table(found, origins, events)
    told = pl.col("clock_id").is_in(list((given or {}).values()))
    return events, table.with_columns(
        pl.when(told).then(pl.concat_str("method", pl.lit("; named by --clock"))).otherwise("method").alias("method")
    )


def _apart(events: pl.DataFrame, origins: dict[str, tuple[str, str]]) -> pl.DataFrame:
    """Gateway's logs of several folders get a clock a folder where their second stamps show that one clock did not write them."""
    folders, names = domains.by_folder(events, "gateway")
    if len(folders) < 2:
        return events
    mine = pl.col("clock_id") == "gateway"
    split = events.with_columns(pl.when(mine).then(names).otherwise("clock_id").alias("clock_id"))
    own = split.filter(events.get_column("clock_id") == "gateway").get_column("clock_id").unique().sort().to_list()
    tied = [e for e in (ties.two_stamps(split, clock) for clock in own) if e is not None]
    if all(abs(a.offset - b.offset) <= a.error + b.error for a, b in combinations(tied, 2)):
        return events
    if "gateway" in origins:
        zone = origins.pop("gateway")
        origins.update((clock, zone) for clock in own)
    return split


def _ids(events: pl.DataFrame) -> list[str]:
    """The clocks of all lines that have a stamp of their own, or a recorder's around them."""
    stamped = events.filter(pl.any_horizontal(pl.col("timestamp_raw", "recorded_end").is_not_null()))
    return [str(i) for i in stamped.get_column("clock_id").drop_nulls().unique().sort().to_list()]


def _reference(events: pl.DataFrame) -> dict[str, Estimate]:
    """The engine's clock, else the gateway's, else the one that most lines have."""
    ids = _ids(events)
    if "engine" in ids or events.get_column("observed_clock_id").eq("engine").any():
        name = "engine"
    elif gateway := next((i for i in ids if i.startswith("gateway")), None):
        name = gateway
    elif ids:
        name = str(events.get_column("clock_id").drop_nulls().mode().sort().first())
    else:
        return {}
    return {name: Estimate(0, 0, 0, 0.0, "reference", "reference")}


def _estimate(
    events: pl.DataFrame, clock: str, found: Mapping[str, Estimate], overrides: Mapping[str, tuple[int, int]]
) -> Estimate:
    """One clock against those found before it."""
    said = overrides.get(clock) or overrides.get(clock.partition(":")[0])
    if said is not None:
        return Estimate(*said, 0, 0.0, "override", "aligned")
    if clock.startswith("gateway"):
        return ties.gateway(events, clock)
    if clock not in ("host", "recorder"):
        return tunnels.proxy(events, clock, found)
    tied = ties.client(events, clock, found)
    if tied is None and clock == "host":
        why = "the recorder is taken to run on the engine's host"
        return Estimate(0, HOST_ERROR, 0, 0.0, why, "assumed")
    return tied or Estimate(0, ASSUMED_ERROR, 0, 0.0, "nothing ties this clock to the reference", "assumed")


def _together(
    events: pl.DataFrame, found: dict[str, Estimate], origins: dict[str, tuple[str, str]], said: set[str]
) -> pl.DataFrame:
    """Logs of one kind of which some are tied to nothing are taken for one proxy's if its anchors agree; `found` and `origins` follow.

    Only names of files tell such logs apart. Where hosts, containers or folders do, one that nothing ties to the reference does
    not get the other's clock.
    """
    proxies = events.filter((pl.col("source_kind") == "proxy") & pl.col("clock_id").str.contains(":", literal=True))
    for kind in proxies.get_column("clock_id").str.extract(r"^([^:]*)", 1).unique().sort().to_list():
        own = [i for i in found if i.startswith(f"{kind}:")]
        if said & {kind, *own} or len({origins.get(i) for i in own}) > 1:
            continue
        lines = proxies.filter(pl.col("clock_id").is_in(own))
        folder = pl.col("log_file_path").str.replace(r"[^/]*$", "")
        sure = lines.select(pl.struct("part", "host_name", folder).n_unique()).item() > 1 or _numbered(lines)
        tied = [found[i] for i in own if found[i].status == "aligned"]
        if sure or len(tied) == len(own):
            continue
        joint = events.with_columns(
            pl.when(pl.col("clock_id").is_in(own)).then(pl.lit(kind)).otherwise("clock_id").alias("clock_id")
        )
        one = tunnels.proxy(joint, kind, found)
        if any(one.status != "aligned" or abs(e.offset - one.offset) > e.error + one.error for e in tied):
            continue
        events, found[kind] = joint, one
        for i in own:
            del found[i]
            if i in origins:
                origins[kind] = origins.pop(i)
    return events


def _numbered(lines: pl.DataFrame) -> bool:
    """Whether logs are told apart by a number that is neither a date nor that of a rotation, as those of several hosts are."""
    stem = (
        lines.get_column("log_file_path")
        .unique()
        .str.extract(r"([^/]*)$", 1)
        .str.replace_all(r"\.(?:gz|xz|zst|bz2)$", "")
        .str.replace_all(r"\d{4}-?\d{2}-?\d{2}[\d.T_-]*|\d{5,}|\.\d+(?:\.log)?$", "")
        .unique()
    )
    return stem.str.replace_all(r"\d+", "").n_unique() < stem.len()


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
