"""Clock domains: which clock wrote each stamp, and how coarsely it ticks."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
# resolutions that stamps may have although they are written with more digits
TICKS: Final = (SECOND, 100 * MS, 10 * MS)
UNMOVED: Final = 8  # moments whose further digits are all zero: by chance once in 10^8 for the least of them


def assign(events: pl.DataFrame) -> pl.DataFrame:
    """Fills `clock_id`: the engine's, the gateway's, each proxy's, the recorder's host.

    A line without a stamp of its own takes its envelope's stamp and clock.
    """
    kind = pl.col("source_kind")
    gateways = events.filter((kind == "gateway") & (pl.col("part").fill_null("") != "")).get_column("part").n_unique()
    gateway = pl.concat_str(pl.lit("gateway:"), pl.col("part")) if gateways > 1 else pl.lit("gateway")
    own = (
        pl.when(kind == "docker")
        .then(pl.lit("engine"))
        .when(kind == "proxy")
        .then(pl.col("parser").str.extract(r"^([a-z]+)", 1))
        .when((kind == "cli") & (pl.col("parser") == "openclaw/cli"))
        .then(pl.lit("host"))
        .when(kind.is_in(["gateway", "cli"]))
        .then(gateway)
        .when(kind == "kernel")
        .then(pl.lit("host"))
        .otherwise(pl.lit("other"))
    )
    bare = pl.col("timestamp_raw").is_null() & pl.col("observed_timestamp").is_not_null()
    return events.with_columns(
        pl.when(bare).then("observed_clock_id").otherwise(pl.coalesce("clock_id", own)).alias("clock_id"),
        pl.when(bare).then("observed_timestamp").otherwise("timestamp_raw").alias("timestamp_raw"),
        pl.when(bare)
        .then(pl.col("observed_zone_inline").fill_null(value=True))
        .otherwise("zone_inline")
        .alias("zone_inline"),
        pl.when(bare)
        .then(pl.col("observed_resolution_ns").fill_null(1))
        .otherwise("time_resolution_ns")
        .cast(pl.Int64)
        .alias("time_resolution_ns"),
        pl.when(bare).then(pl.lit("at_write")).otherwise("time_semantics").alias("time_semantics"),
    )


def named(events: pl.DataFrame, given: Mapping[str, str]) -> pl.DataFrame:
    """Gives the stamps of the inputs that a pattern matches (a path, its last part, or a glob of either) to the clock that a person named."""
    if not given:
        return events
    names: dict[str, str] = {}
    for path in events.get_column("log_file_path").cast(pl.String).unique().drop_nulls().sort().to_list():
        for pattern, clock in given.items():
            if fnmatchcase(path, pattern) or fnmatchcase(PurePath(path).name, pattern):
                names[path] = clock
    if not names:
        return events
    said = pl.col("log_file_path").cast(pl.String).replace_strict(names, default=None, return_dtype=pl.String)
    return events.with_columns(
        pl.when(pl.col("timestamp_raw").is_not_null())
        .then(pl.coalesce(said, pl.col("clock_id").cast(pl.String)))
        .otherwise(pl.col("clock_id").cast(pl.String))
        .alias("clock_id")
    )


def ticks(events: pl.DataFrame) -> pl.DataFrame:
    """Coarser resolutions where digits are written that the clock never moves, as milliseconds that are always 000."""
    raw = pl.col("timestamp_raw").cast(pl.Int64)
    for tick in TICKS:
        still = (raw % tick == 0).all() & (raw.n_unique() >= UNMOVED)
        coarse = (
            events.filter(raw.is_not_null() & (pl.col("time_resolution_ns") < tick))
            .group_by("clock_id")
            .agg(still.alias("_still"))
            .filter("_still")
        )
        if coarse.height:
            events = (
                events.join(coarse, on="clock_id", how="left", maintain_order="left")
                .with_columns(
                    pl.when(pl.col("_still") & (pl.col("time_resolution_ns") < tick))
                    .then(pl.lit(tick, pl.Int64))
                    .otherwise("time_resolution_ns")
                    .alias("time_resolution_ns")
                )
                .drop("_still")
            )
    return events


def complete_roles(events: pl.DataFrame) -> pl.DataFrame:
    """`role` of the engine's events, where nobody has told yet."""
    return events if "role" in events.columns else events.with_columns(pl.lit(None, pl.String).alias("role"))
