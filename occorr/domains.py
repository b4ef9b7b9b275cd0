"""Clock domains: which clock wrote each stamp, and how coarsely it ticks."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

import polars as pl

from occorr.facts import program
from occorr.schema import MS, SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

# resolutions that stamps may have although they are written with more digits
TICKS: Final = (SECOND, 100 * MS, 10 * MS)
# what the name of a log says of its role, its age and its packing, and not of who wrote it
_ROLE: Final = (
    r"(?i)[-_.]?\b(?:access|errors?|logs?|jsonl?|txt|out|err|stdout|stderr|docker|current|old|gz|zst|xz|bz2|\d+)\b"
)
_SEPARATOR: Final = "\0"
UNMOVED: Final = 8  # moments whose further digits are all zero: by chance once in 10^8 for the least of them


def assign(events: pl.DataFrame) -> pl.DataFrame:
    """Fills `clock_id`: the engine's, the gateway's, each proxy's, the recorder's host.

    A line without a stamp of its own takes its envelope's stamp and clock.
    """
    kind = pl.col("source_kind")
    gateway = _gateways(events)
    own = (
        pl.when(kind == "docker")
        .then(pl.lit("engine"))
        .when(kind == "proxy")
        .then(_proxies(events))
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


def _gateways(events: pl.DataFrame) -> pl.Expr:
    """`gateway`, or `gateway:NAME` where there are several: services of one log, or what `instances.instances` told apart.

    Gateways that write into one file run on one host, and have its clock.
    """
    part = pl.col("part").cast(pl.String).replace("", None)
    names = pl.coalesce(pl.col("instance").replace("", None), part) if "instance" in events.columns else part
    lines = events.filter(pl.col("source_kind") == "gateway").select(
        "log_file_path", part.alias("part"), names.alias("name")
    )
    clock: dict[str, str] = {name: name for name in lines.get_column("name").drop_nulls().unique().sort()}
    files = (
        lines.filter(pl.col("part").is_null())
        .group_by("log_file_path")
        .agg(pl.col("name").drop_nulls().unique().sort())
    )
    for shared in files.sort("log_file_path").get_column("name"):
        one = {clock[name] for name in shared}
        clock |= {name: min(one) for name, now in clock.items() if now in one}
    if len(set(clock.values())) < 2:
        return pl.lit("gateway")
    return pl.coalesce(pl.concat_str(pl.lit("gateway:"), names.replace_strict(clock, default=None)), pl.lit("gateway"))


def by_folder(events: pl.DataFrame, clock: str) -> tuple[list[str], pl.Expr]:
    """The folders whose lines one clock wrote, and the clocks that they are if each folder has one of its own."""
    folder = pl.col("log_file_path").cast(pl.String).str.extract(r"^(.*/)", 1).fill_null("")
    own = events.filter(pl.col("clock_id") == clock)
    folders = own.select(folder.unique().sort()).to_series().to_list()
    names = {f: f"{clock}:{end}" for f, end in _told_apart(folders).items()}
    return folders, folder.replace_strict(names, default=clock, return_dtype=pl.String)


def _proxies(events: pl.DataFrame) -> pl.Expr:
    """`nginx`, or `nginx:edge` and the like where logs of one kind may be several proxies': other parts, hosts or names of files.

    An error log beside the access log of one proxy is that proxy's, whatever it is called.
    """
    path = pl.col("log_file_path").cast(pl.String)
    folder, name = path.str.extract(r"^(.*/)", 1).fill_null(""), path.str.extract(r"([^/]*)$", 1)
    stem = name.str.replace_all(_ROLE, "")
    whose = pl.concat_str(
        pl.coalesce(
            pl.col("part").cast(pl.String).replace("", None), pl.col("host_name").cast(pl.String), folder + stem
        )
    )
    sources = (
        events.filter(pl.col("source_kind") == "proxy")
        .select(
            program().alias("kind"),
            folder.alias("folder"),
            path.alias("path"),
            whose.alias("whose"),
            (pl.col("event_name") == "http.access").alias("access"),
        )
        .group_by("kind", "folder", "path", "whose")
        .agg(pl.col("access").any())
        .sort("kind", "folder", "path", "whose")
    )
    alone = (
        sources.filter("access")
        .group_by("kind", "folder")
        .agg(pl.col("whose").n_unique().alias("n"), pl.col("whose").first().alias("_only"))
        .filter(pl.col("n") == 1)
    )
    sources = sources.join(alone, on=["kind", "folder"], how="left", maintain_order="left").with_columns(
        pl.when("access").then("whose").otherwise(pl.coalesce("_only", "whose")).alias("_one")
    )
    names: dict[tuple[str, str], str] = {}
    for (kind,), group in sources.group_by("kind", maintain_order=True):
        ones = group.get_column("_one").unique().sort().to_list()
        short = _told_apart(ones)
        for path_, whose_, one in group.select("path", "whose", "_one").rows():
            names[path_ + _SEPARATOR + whose_] = str(kind) if len(ones) == 1 else f"{kind}:{short[one]}"
    return pl.concat_str(path, pl.lit(_SEPARATOR), whose).replace_strict(names, default=None, return_dtype=pl.String)


def _told_apart(paths: list[str]) -> dict[str, str]:
    """The shortest ends of the paths that differ, without what a name of a file says of its role."""
    for depth in range(1, 9):
        ends = {p: "/".join(PurePath(p.rstrip("/") or "log").parts[-depth:]) for p in paths}
        if len(set(ends.values())) == len(paths):
            return ends
    return {p: p for p in paths}


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
