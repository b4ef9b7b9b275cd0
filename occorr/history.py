"""Many results as one: the closes of a year of analyses, each counted once, and for which hours logs cover them.

Only the columns that counting needs are read; no log is parsed again. Nothing here depends on the order of the results.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from occorr import results, schema
from occorr.errors import OccorrError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from occorr.analysis import Analysis

# Lines that are the close itself as somebody saw it: two closes of two results that both hold one of them are one
# close.
_OWN: Final = ("websocket.close", "http.access", "cli.failure")
# Sources that see closes as they happen; hours without one of them are hours in which closes could happen unseen.
SEEING: Final = ("gateway", "proxy")
_CLOSE: Final = (
    "close_id",
    "timestamp",
    "time_earliest",
    "time_latest",
    "client_address",
    "websocket_close_code",
    "code_observer",
    "http_status_proxy",
    "websocket_close_reason",
    "service_name",
    "compose_project",
    "established",
    "count",
    "family",
    "cause",
    "verdict",
    "probability",
    "incident_id",
    "observers",
)
_WORDS: Final = 4_000  # characters of the lines beside a close that are kept


@dataclass(frozen=True, slots=True)
class History:
    """Closes of all results, and what the logs cover.

    Attributes: closes: one row a close: those of `_CLOSE` and `weight` (closes it stands for), `cluster` (closes that
    share one happened together), `client` (its name), `words` (the lines beside it). cover: intervals in which a source
    has lines: project, kind (`schema.SOURCE_KINDS`), start, end; ns since 1970. results: how many results it is made
    of. doubled: rows that other results hold too, and that are not counted. redacted: whether all results are. partial:
    whether of any an input was read in part only.
    """

    closes: pl.DataFrame
    cover: pl.DataFrame
    results: int
    doubled: int
    redacted: bool
    partial: bool = False


def gather(parts: Sequence[Path | Analysis]) -> History:
    """One history of result directories and of analyses in memory.

    Args:
        parts: results; the same one may come twice.

    Raises:
        OccorrError: there is none, or a directory is no result.
    """
    if not parts:
        raise OccorrError("no result to count; give result directories that analyze -o wrote, or logs")
    closes, own, cover = [], [], []
    marks = [results.marked(part) if isinstance(part, Path) else part for part in parts]
    for number, (part, mark) in enumerate(zip(parts, marks, strict=True)):
        frames = _frames(part)
        rows, lines = _closes(frames)
        closes.append(rows.with_columns(part=pl.lit(number, dtype=pl.Int32)))
        own.append(lines.with_columns(part=pl.lit(number, dtype=pl.Int32)))
        cover.append(_within(_cover(frames["timeline"]), mark.asked, any_close=rows.height > 0))
    # In one piece: polars' format fails on filtered frames of several.
    rows, doubled = _once(pl.concat(closes, rechunk=True), pl.concat(own, rechunk=True))
    return History(
        rows,
        _ordered(pl.concat(cover, rechunk=True)),
        len(parts),
        doubled,
        all(mark.redacted for mark in marks),
        any(mark.partial for mark in marks),
    )


def clipped(past: History, since: int | None = None, until: int | None = None) -> History:
    """The part of a history between two moments, ns since 1970; a close whose interval reaches over one of them stays, and so does one without a time."""
    asked = schema.Asked(since, until)
    return replace(past, closes=past.closes.filter(asked.closes()), cover=_ordered(_within(past.cover, asked)))


def _within(cover: pl.DataFrame, asked: schema.Asked, *, any_close: bool = False) -> pl.DataFrame:
    """The part of the intervals of which closes were asked for, `any_close` of which there are: an hour whose closes were left out is not covered."""
    if asked.since_ns is not None:
        since = asked.since_ns
        cover = cover.filter(pl.col("end") > since).with_columns(pl.col("start").clip(lower_bound=since))
    if asked.until_ns is not None:
        until = asked.until_ns
        cover = cover.filter(pl.col("start") < until).with_columns(pl.col("end").clip(upper_bound=until))
    if asked.project is not None:
        # a source that names no project is the project's where the result knows it at all
        own = pl.col("project") == asked.project
        cover = cover.filter(own | pl.col("project").is_null() & (own.any() | pl.lit(any_close)))
    return cover


def _ordered(cover: pl.DataFrame) -> pl.DataFrame:
    return cover.unique().sort("project", "kind", "start", "end", nulls_last=True)


def _frames(part: Path | Analysis) -> Mapping[str, pl.LazyFrame]:
    if isinstance(part, Path):
        return results.scan(part, ("closes", "evidence", "timeline"))
    return {
        name: schema.conform(getattr(part, name), schema.TABLES[name]).lazy()
        for name in ("closes", "evidence", "timeline")
    }


def _closes(frames: Mapping[str, pl.LazyFrame]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The closes with the lines beside them, and which lines are a close's own."""
    cited = frames["evidence"].filter(pl.col("role") == "supports").select("close_id", "event_id").unique()
    lines = (
        frames["timeline"]
        .join(cited.select("event_id").unique(), on="event_id", how="semi")
        .select(
            "event_id", "event_name", "body", client=pl.coalesce(schema.attribute("client_id"), "user_agent_original")
        )
        .unique("event_id", keep="first", maintain_order=True)
    )
    joined = (
        cited.join(lines, on="event_id", how="left", maintain_order="left")
        .sort("close_id", "event_id")
        .collect()
        .rechunk()
    )
    beside = joined.group_by("close_id", maintain_order=True).agg(
        # An access line is a row of fields, which say the same beside every close.
        pl.col("body")
        .filter(pl.col("event_name") != "http.access")
        .drop_nulls()
        .unique(maintain_order=True)
        .str.join("\n")
        .str.slice(0, _WORDS)
        .alias("words"),
        pl.col("client").filter(pl.col("event_name").is_in(_OWN)).drop_nulls().sort().first(),
    )
    own = joined.filter(pl.col("event_name").is_in(_OWN) & (pl.len().over("event_id") == 1)).select(
        "close_id", "event_id"
    )
    rows = (
        frames["closes"]
        .select(_CLOSE)
        .collect()
        .rechunk()
        .join(beside, on="close_id", how="left", maintain_order="left")
    )
    times = ["timestamp", "time_earliest", "time_latest"]
    return (
        rows.with_columns(
            pl.col(times).dt.epoch("ns"),
            pl.col("count").fill_null(1).clip(lower_bound=1).alias("weight"),
            pl.col("family").fill_null("unknown"),
            pl.col("cause").fill_null("unknown.unknown"),
            pl.concat_str("websocket_close_reason", "words", separator="\n", ignore_nulls=True).alias("words"),
        ).drop("count"),
        own,
    )


def _cover(timeline: pl.LazyFrame) -> pl.DataFrame:
    """From the first to the last line of each file, by the project it speaks of."""
    named = timeline.filter(pl.col("timestamp").is_not_null()).group_by("log_file_path", kind="source_kind")
    spans = named.agg(
        start=pl.col("timestamp").min().dt.epoch("ns"),
        end=pl.col("timestamp").max().dt.epoch("ns"),
        project=pl.col("compose_project").drop_nulls().unique(),
    )
    # A file that speaks of several projects, as the engine's events, covers them all.
    one = spans.with_columns(project=pl.when(pl.col("project").list.len() == 1).then(pl.col("project").list.first()))
    return one.select("project", "kind", "start", "end").collect()


def _once(rows: pl.DataFrame, own: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Each close once, by the best verdict that a result gives it; which closes happened together; and how many rows fell away."""
    if rows.is_empty():
        return rows.with_columns(cluster=pl.lit(None, dtype=pl.Int64)).drop("part"), 0
    # One close: rows with one id, and rows of different results that hold one own line.
    numbered = rows.with_row_index("row")
    lines = own.join(numbered.select("part", "close_id", "row"), on=["part", "close_id"], maintain_order="left").select(
        "row", key=pl.format("line {}", "event_id")
    )
    ids = numbered.select("row", key=pl.format("id {}", "close_id"))
    numbered = numbered.with_columns(close=_components(numbered.height, pl.concat([ids, lines])))
    # One incident: closes that a result put into one, also where another result saw only some of them.
    incidents = numbered.drop_nulls("incident_id").select("row", key=pl.format("incident {} {}", "part", "incident_id"))
    same = numbered.select("row", key=pl.format("close {}", "close"))
    numbered = numbered.with_columns(cluster=_components(numbered.height, pl.concat([same, incidents])))
    order = {name: i for i, name in enumerate(schema.VERDICTS)}
    rest = [name for name in rows.columns if name not in ("part", "observers", "incident_id")]
    best = (
        numbered.with_columns(
            pl.col("verdict").replace_strict(order, default=len(order), return_dtype=pl.Int8).alias("_rank"),
            pl.col("observers").list.len().alias("_seen"),
        )
        # Ties are broken by what the rows say and never by where they stood: the order of the results must not matter.
        .sort(
            "close",
            "_rank",
            "_seen",
            "probability",
            *rest,
            descending=[False, False, True, True, *[False] * len(rest)],
            nulls_last=True,
        )
        .unique("close", keep="first", maintain_order=True)
    )
    sorted_rows = best.sort("timestamp", "time_latest", "close_id", nulls_last=True).drop(
        "_rank", "_seen", "row", "close", "part", "incident_id", "observers"
    )
    first = sorted_rows.select("cluster").with_row_index("at").select(pl.col("at").min().over("cluster"))["at"]
    return sorted_rows.with_columns(cluster=first.rank("dense").cast(pl.Int64)), rows.height - best.height


def _components(rows: int, keys: pl.DataFrame) -> pl.Series:
    """For each row the number of the group that it is in: rows that share a key, and what they share in turn."""
    labels = keys.with_columns(pl.col("key").rank("dense").cast(pl.Int64) - 1)
    groups = int(labels["key"].max()) + 1  # type: ignore[arg-type] # of integers, and never empty here
    edges = coo_array(
        (np.ones(labels.height, dtype=np.int8), (labels["row"].to_numpy(), rows + labels["key"].to_numpy())),
        shape=(rows + groups, rows + groups),
    )
    return pl.Series(connected_components(edges, directed=False)[1][:rows]).cast(pl.Int64)


def hours(spans: Sequence[tuple[int, int]] | pl.DataFrame, begin: int, end: int) -> float:
    """How many hours between `begin` and `end` at least one of the spans covers.

    Args:
        spans: (start, end) in ns, in any order.
        begin: ns since 1970.
        end: ns since 1970.
    """
    pairs = spans.select("start", "end").rows() if isinstance(spans, pl.DataFrame) else spans
    total, reached = 0, begin
    for first, last in sorted(pairs):
        low, high = max(first, reached), min(last, end)
        if high > low:
            total += high - low
            reached = high
    return total / 3.6e12


def seen(cover: pl.DataFrame, project: str | None = None) -> pl.DataFrame:
    """The spans of sources that see closes as they happen; where there is none, of all sources.

    Args:
        cover: `History.cover`.
        project: only what speaks of this project or of none in particular; null: of any.
    """
    own = cover if project is None else cover.filter(pl.col("project").is_null() | (pl.col("project") == project))
    seeing = own.filter(pl.col("kind").is_in(SEEING))
    return seeing if seeing.height else own
