"""Decides whose lines those are that several proxies write alike, although their stamps mark opposite moments.

nginx and Apache httpd both write the combined format; nginx stamps the end of a connection, Apache its beginning. First
the lines of a part themselves: what only one of the programs can write (a status, an escape, a dash for no bytes). Then
what stands around them: another log of one program in the same part, the container's image or the unit, the path, a
sibling log or configuration, and at last whether the stamps fall on the openings or on the closings that the gateway
logged. If nothing tells, the stamp marks neither.
"""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from occorr.customs import OWN
from occorr.definitions import MARKS
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from occorr.definitions import Dialect, Library

ENOUGH: Final = 0.99  # of a part's lines a program must be able to write, for the part to be its own
REACH: Final = 2 * SECOND  # between a stamp and the opening or closing that it may mark
VOTES: Final = 3  # stamps that must fall on one side …
LEAD: Final = 4  # … and how many times as many as on the other
FIELD: Final = "x_alike"
_NAMES: Final = ("syslog_program", "container_name", "compose_service", "systemd_unit", "container_image_name")


def settle(
    decoded: Sequence[pl.DataFrame], table: pl.DataFrame, facts: pl.DataFrame, library: Library
) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    """Gives lines that look alike to one program, or takes the meaning of their stamps away.

    Args:
        decoded: the events of each input.
        table: SOURCES.
        facts: FACTS.
        library: the definitions.

    Returns:
        the events without the column that names the candidates; SOURCES with the format that was chosen and why.
    """
    if not any(FIELD in frame.columns for frame in decoded):
        return list(decoded), table
    known = {d.parser: d for d in library.dialects}
    told: dict[tuple[str, str], tuple[Dialect | None, str, tuple[Dialect, ...]]] = {}
    out = []
    # what is itself in question is no witness
    asked = _open(decoded, known)
    plain = [row for row in table.to_dicts() if (row["path"], row["part"]) not in asked]
    for frame in decoded:
        if FIELD not in frame.columns:
            out.append(frame)
            continue
        parts = [
            _settled(part, told, decoded, plain, facts, library, known)
            for part in frame.partition_by("part", maintain_order=True)
        ]
        out.append(pl.concat(parts, how="diagonal").drop(FIELD).sort("seq"))
    return out, _told(table, told, library)


def _open(decoded: Sequence[pl.DataFrame], known: Mapping[str, Dialect]) -> list[tuple[str, str]]:
    """The parts (path, part) whose lines alone do not tell."""
    found = []
    for frame in decoded:
        if FIELD in frame.columns:
            for part in frame.filter(pl.col(FIELD).is_not_null()).partition_by("part", maintain_order=True):
                if len({_meaning(known[n]) for n in _able(part)}) > 1:
                    found.append((part.item(0, "log_file_path"), part.item(0, "part")))
    return found


def _settled(
    part: pl.DataFrame,
    told: dict[tuple[str, str], Any],
    decoded: Sequence[pl.DataFrame],
    sources: Sequence[Mapping[str, Any]],
    facts: pl.DataFrame,
    library: Library,
    known: Mapping[str, Dialect],
) -> pl.DataFrame:
    alike = part.filter(pl.col(FIELD).is_not_null())
    if alike.is_empty():
        return part
    candidates = [known[name] for name in _able(alike)]
    chosen, why = candidates[0], "what it writes, only one program can"
    if len({_meaning(c) for c in candidates}) > 1:
        found = _context(part, candidates, decoded, sources, facts, library)
        if found is None:
            told[part.item(0, "log_file_path"), part.item(0, "part")] = (None, "", tuple(candidates))
            return part.with_columns(
                pl.when(pl.col(FIELD).is_not_null())
                .then(pl.lit("unknown"))
                .otherwise("time_semantics")
                .alias("time_semantics")
            )
        chosen, why = found
    if alike.get_column(FIELD).str.contains("|", literal=True).any():
        told[part.item(0, "log_file_path"), part.item(0, "part")] = (chosen, why, tuple(candidates))
    elif alike.get_column("parser").ne(chosen.parser).any():
        told[part.item(0, "log_file_path"), part.item(0, "part")] = (chosen, "", (chosen,))
    mine = pl.col(FIELD).is_not_null() & pl.col(FIELD).str.split("|").list.contains(chosen.parser)
    return part.with_columns(
        pl.when(mine).then(pl.lit(chosen.parser)).otherwise("parser").alias("parser"),
        pl.when(mine).then(pl.lit(_meaning(chosen))).otherwise("time_semantics").alias("time_semantics"),
    )


def _able(alike: pl.DataFrame) -> list[str]:
    """The dialects that could have written (nearly) all of the lines, the most specific first; those that can write most where none can."""
    fits: Counter[str] = Counter()
    first: Counter[str] = Counter()
    for names, count in alike.get_column(FIELD).value_counts().sort(FIELD).rows():
        fits.update(dict.fromkeys(names.split("|"), count))
        first[names.split("|")[0]] += count
    most = max(fits.values())
    # a file of two forms of one program, as where a configuration was changed: what fits the most decides
    return sorted((n for n, c in fits.items() if c >= ENOUGH * most), key=lambda n: (-first[n], n))


def _meaning(dialect: Dialect) -> str:
    return MARKS[dialect.time.marks] if dialect.time else "unknown"


def _context(
    part: pl.DataFrame,
    candidates: list[Dialect],
    decoded: Sequence[pl.DataFrame],
    sources: Sequence[Mapping[str, Any]],
    facts: pl.DataFrame,
    library: Library,
) -> tuple[Dialect, str] | None:
    """The candidate for which the nearest witness speaks, and what that is."""
    path = part.item(0, "log_file_path")
    words = {c: library.formats[c.definition].called for c in candidates}
    own = part.filter(pl.col(FIELD).is_null()).get_column("parser").drop_nulls().unique().sort().to_list()
    named = [
        str(v) for n in _NAMES if n in part.columns for v in part.get_column(n).drop_nulls().unique().sort().to_list()
    ]
    other = [r for r in sources if r["path"] != path]
    beside = [r for r in other if PurePath(r["path"]).parent == PurePath(path).parent]
    containers = _containers([*named, part.item(0, "part") or ""], facts)
    engine = [
        str(i)
        for f in decoded
        if "container_image_name" in f.columns
        for i in f.get_column("container_image_name").drop_nulls().unique().sort().to_list()
    ]
    images = facts.filter(pl.col("key") == "image").get_column("value").to_list()
    declared = library.declared.get(PurePath(path).name, ())
    programs = {
        d.definition.removesuffix(OWN) for d in library.dialects if d.parser in declared and d.definition.endswith(OWN)
    }
    stated = {c for c in candidates if c.parser in declared or c.definition.partition("_")[0] in programs}
    if len({_meaning(c) for c in stated}) == 1:
        return next(c for c in candidates if c in stated), "the configuration that names it"
    witnesses: list[tuple[str, Callable[[], list[str]]]] = [
        ("other lines of the same log", lambda: _of_definitions(own, library)),
        ("the container or program that the lines name", lambda: [*named, *containers]),
        ("its path", lambda: list(PurePath(path).parts[-3:])),
        ("the log or configuration beside it", lambda: _of_sources(beside, library)),
        ("the only proxy's log or configuration among the inputs", lambda: _of_sources(other, library)),
        ("the images of the containers", lambda: [*images, *engine]),
    ]
    for why, texts in witnesses:
        spoken = [c for c in candidates if any(word in text.lower() for text in texts() for word in words[c])]
        if spoken and len({_meaning(c) for c in spoken}) == 1:
            return spoken[0], why
    return _by_closes(part, candidates, decoded)


def _of_definitions(parsers: Sequence[str], library: Library) -> list[str]:
    """The words by which the formats of parsers are called, where nothing looks like those formats or the dialect tells."""
    return [
        w
        for p in parsers
        for w in library.formats[p.partition("/")[0]].called
        if p.partition("/")[0] in library.formats
    ]


def _of_sources(rows: Sequence[Mapping[str, Any]], library: Library) -> list[str]:
    """What other inputs are: a configuration's title, or the words of a log's format."""
    named = [str(row["format"] or "") for row in rows]
    return [
        w
        for n in named
        for w in (library.formats[n.partition("/")[0]].called if n.partition("/")[0] in library.formats else (n,))
    ]


def _containers(names: Sequence[str], facts: pl.DataFrame) -> list[str]:
    """Images of the containers or services that carry one of the names."""
    if facts.is_empty() or not any(names):
        return []
    carriers = (
        facts.filter(pl.col("key").is_in(["name", "compose.service"]) & pl.col("value").is_in([n for n in names if n]))
        .get_column("subject")
        .to_list()
    )
    carriers += [f"service:{n}" for n in names if n]
    return facts.filter(pl.col("subject").is_in(carriers) & (pl.col("key") == "image")).get_column("value").to_list()


def _by_closes(
    part: pl.DataFrame, candidates: list[Dialect], decoded: Sequence[pl.DataFrame]
) -> tuple[Dialect, str] | None:
    """Whether the stamps of the tunnels fall on the openings or the closings of the gateway's connections."""
    spans = [
        _spans(f)
        for f in decoded
        if {"event_name", "duration_ns", "timestamp_raw", "zone_inline", "source_kind"} <= set(f.columns)
    ]
    ends = np.sort(np.concatenate([s[1] for s in spans])) if spans else np.array([], dtype=np.int64)
    starts = np.sort(np.concatenate([s[0] for s in spans])) if spans else np.array([], dtype=np.int64)
    tunnels = (
        part.filter(pl.col(FIELD).is_not_null() & (pl.col("http_response_status_code") == 101))
        .get_column("timestamp_raw")
        .drop_nulls()
        .cast(pl.Int64)
        .to_numpy()
    )
    if not len(ends) or not len(tunnels):
        return None
    at_end, at_start = (_near(tunnels, moments) for moments in (ends, starts))
    votes = {"at_end": int((at_end & ~at_start).sum()), "at_start": int((at_start & ~at_end).sum())}
    best, worst = sorted(votes, key=lambda k: -votes[k])
    if votes[best] < VOTES or votes[best] < LEAD * votes[worst]:
        return None
    found = [c for c in candidates if _meaning(c) == best]
    return (
        (
            found[0],
            (
                f"the gateway's own {'closings' if best == 'at_end' else 'openings'}, on which {votes[best]} of its"
                " stamps fall"
            ),
        )
        if found
        else None
    )


def _spans(frame: pl.DataFrame) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]:
    rows = frame.filter(
        (pl.col("source_kind") == "gateway")
        & (pl.col("event_name") == "websocket.close")
        & pl.col("duration_ns").is_not_null()
        & pl.col("timestamp_raw").is_not_null()
        & pl.col("zone_inline")
    )
    rows = rows.filter(pl.col("duration_ns") > 2 * REACH)
    end = rows.get_column("timestamp_raw").cast(pl.Int64).to_numpy()
    return end - rows.get_column("duration_ns").to_numpy(), end


def _near(
    stamps: np.ndarray[Any, np.dtype[np.int64]], moments: np.ndarray[Any, np.dtype[np.int64]]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    at = np.searchsorted(moments, stamps)
    before = np.abs(stamps - moments[np.maximum(at - 1, 0)])
    after = np.abs(stamps - moments[np.minimum(at, len(moments) - 1)])
    near: np.ndarray[Any, np.dtype[np.bool_]] = np.minimum(before, after) <= REACH
    return near


def _told(
    table: pl.DataFrame,
    told: Mapping[tuple[str, str], tuple[Dialect | None, str, tuple[Dialect, ...]]],
    library: Library,
) -> pl.DataFrame:
    """SOURCES with the choice and its reason."""
    if not told:
        return table
    rows = table.to_dicts()
    for row in rows:
        if (row["path"], row["part"]) not in told:
            continue
        chosen, why, candidates = told[row["path"], row["part"]]
        names = [c.definition.partition("_")[0] for c in candidates]
        if chosen is None:
            note = (
                f"{' and '.join(names)} write such lines, and nothing tells whose they are: a stamp may be the"
                " beginning or the end of its connection; add the proxy's configuration, its error log or docker"
                " inspect"
            )
        else:
            row["format"] = (
                chosen.parser if row["format"] in {r.parser for r in library.rivals(chosen)} else row["format"]
            )
            note = f"taken for {chosen.definition.partition('_')[0]}'s by {why}" if len(candidates) > 1 else ""
        row["message"] = "; ".join(m for m in (row["message"], note) if m)
    return pl.DataFrame(rows, schema=table.schema)
