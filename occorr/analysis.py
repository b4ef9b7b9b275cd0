"""The pipeline as one function: read → unwrap → decode → link → clocks → place → closes → causes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import (
    anonymize,
    bundle,
    causes,
    closes,
    customs,
    definitions,
    documents,
    episodes,
    facts,
    ingest,
    instances,
    link,
    lookalikes,
    moments,
    place,
    plans,
    read,
    redact,
    resources,
    rules,
    schema,
    scope,
    services,
)
from occorr.clocks import align
from occorr.errors import NothingParsableError
from occorr.visible import unredacted, visible
from occorr.zones import years

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

NAMED: Final = 20  # inputs that an error lists
FAILED: Final = ("failed", "partial", "unknown")


@dataclass(frozen=True, slots=True)
class Analysis:
    """The tables of one analysis, each with the columns of `schema.TABLES`, and what notebooks want beside them.

    Attributes:
        timeline: EVENTS, sorted by aligned time.
        closes: CLOSES, one row a close.
        evidence: EVIDENCE, the lines that speak for or against each verdict.
        incidents: INCIDENTS.
        facts: FACTS.
        clocks: CLOCKS.
        sources: SOURCES.
        partial: whether some input could not be read or recognised.
        redacted: whether secrets were replaced.
        asked: which closes were asked for; the other tables hold what the logs do.
    """

    timeline: pl.DataFrame
    closes: pl.DataFrame
    evidence: pl.DataFrame
    incidents: pl.DataFrame
    facts: pl.DataFrame
    clocks: pl.DataFrame
    sources: pl.DataFrame
    partial: bool = False
    redacted: bool = True
    asked: schema.Asked = schema.EVERY

    @property
    def banners(self) -> tuple[str, ...]:
        """What every report says first: that secrets are in it, that it does not hold all closes."""
        of = f" of project {visible(self.asked.project)}" if self.asked.project is not None else ""
        when = moments.span(self.asked.since_ns, self.asked.until_ns)
        only = f"Other closes are left out: these are those{of}{f' {when}' if when else ''}." if of or when else ""
        return (*unredacted(redacted=self.redacted), *filter(None, (only,)))


@dataclass(frozen=True, slots=True)
class Taken:
    """What one input gave: events of a log, or facts of a document, and its rows of SOURCES."""

    path: str
    events: pl.DataFrame
    facts: tuple[facts.Fact, ...]
    source: pl.DataFrame


def analyze(
    paths: Sequence[str | Path] | str | Path,
    *,
    tz: str | None = None,
    offsets: Mapping[str, tuple[int, int]] | None = None,
    clocks: Mapping[str, str] | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    project: str | None = None,
    all_lines: bool = False,
    redact_key: bytes | None = None,
    redact_secrets: bool = True,
    parsers: Path | None = None,
    watching: Callable[[Sequence[read.Blob]], Iterable[read.Blob]] = iter,
) -> Analysis:
    """Reads logs as they were found and attributes each WebSocket close in them.

    Args:
        paths: files, directories, glob patterns, or `-` for stdin.
        tz: IANA zone of stamps that carry none and whose container's zone is not known.
        offsets: clock → (offset ns, half-width ns) that override the estimates; this clock minus the reference.
        clocks: input or glob → the clock that wrote its stamps, where the sources do not tell it right.
        since_ns: closes before this aligned time (ns since 1970) are left out.
        until_ns: closes after this aligned time are left out.
        project: only closes of this Compose project.
        all_lines: keep every line, not only those that can matter.
        redact_key: key of the fingerprints, for comparing across runs; by default they compare inside one result.
        redact_secrets: False leaves secrets in the output.
        parsers: a folder with further definitions.
        watching: gives the inputs on one by one, and may show how far it is.

    Returns:
        the tables; identical for identical input.

    Raises:
        OccorrError: an input does not exist, or a definition is wrong.
        NothingParsableError: no input held a line of a known format.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    library = definitions.builtin() if parsers is None else definitions.load(resources.folder("parsers"), parsers)
    inputs = bundle.checked(list(read.blobs(given)))
    library = customs.extended(library, documents.texts(inputs))
    redactor = redact.Redactor(redact_key or read.digest(inputs).encode(), enabled=redact_secrets)
    redactor.learn(documents.secrets(inputs) if redact_secrets else ())
    return attribute(
        [take(blob, library, redactor, all_lines=all_lines) for blob in watching(inputs)],
        library=library,
        tz=tz,
        offsets=offsets,
        clocks=clocks,
        redacted=redact_secrets,
        asked=schema.Asked(since_ns, until_ns, project),
    )


def anonymized(result: Analysis, key: bytes | None = None) -> Analysis:
    """The result with addresses and host names replaced by fingerprints that keep joins; `anonymize.frames` says how."""
    told = anonymize.frames({name: getattr(result, name) for name in schema.TABLES}, key)
    return replace(
        result,
        timeline=told["timeline"],
        closes=told["closes"],
        evidence=told["evidence"],
        incidents=told["incidents"],
        facts=told["facts"],
        clocks=told["clocks"],
        sources=told["sources"],
    )


def take(
    blob: read.Blob,
    library: definitions.Library,
    redactor: redact.Redactor,
    *,
    all_lines: bool = False,
    known: Sequence[plans.Plan] | None = None,
) -> Taken:
    """Reads one input as what it is, a document or a log; `known` tells how a log is read that was looked at before."""
    document = documents.document(blob, redactor) if known is None else None
    if document is None:
        events, source = ingest.ingest(blob, library, redactor, all_lines=all_lines, known=known)
        return Taken(blob.path, events, (), source)
    lines = bytes(blob.data).count(b"\n") + 1
    row = {
        "path": blob.path,
        "part": "",
        "format": document.kind,
        "lines_read": lines,
        "lines_kept": 0,
        "lines_skipped": lines,
        "lines_unparsed": 0,
        "sha256": blob.sha256,
        "status": "partial" if document.trouble else blob.status,
        "message": "; ".join(filter(None, [f"{len(document.facts)} facts", document.trouble])),
    }
    return Taken(blob.path, pl.DataFrame(), document.facts, schema.conform(pl.DataFrame([row]), schema.SOURCES))


def attribute(
    taken: Sequence[Taken],
    *,
    library: definitions.Library | None = None,
    tz: str | None = None,
    offsets: Mapping[str, tuple[int, int]] | None = None,
    clocks: Mapping[str, str] | None = None,
    redacted: bool = True,
    asked: schema.Asked = schema.EVERY,
) -> Analysis:
    """From what the inputs gave to verdicts: everything that needs all of them together.

    Raises:
        NothingParsableError: no input held a line of a known format.
    """
    table = pl.concat([t.source for t in taken]) if taken else schema.empty(schema.SOURCES)
    decoded = [t.events for t in taken if t.events.height]
    if not any("parser" in e.columns and e.get_column("parser").is_not_null().any() for e in decoded):
        raise NothingParsableError(_nothing(table))
    fact_table = facts.frame([(t.path, list(t.facts)) for t in taken if t.facts])
    decoded, table = lookalikes.settle(decoded, table, fact_table, library or definitions.builtin())
    together, doubled = link.once(decoded)
    table = _doubled(table, doubled)
    events = link.link(years(together))
    events = scope.roles(scope.owned(events, fact_table), fact_table)
    events = instances.instances(events, fact_table)
    events, clock_table = align(events, fact_table, tz=tz, overrides=offsets, given=clocks)
    events = instances.survived(place.place(events, clock_table))
    told = services.services(events)
    rows, lives = closes.closes(told, fact_table), episodes.episodes(told, fact_table)
    judged = causes.judge(
        rows, lives, events, fact_table, rules.builtin(), scope.placement(events, fact_table), asked.closes()
    )
    return Analysis(
        timeline=_timeline(events),
        closes=schema.conform(judged.closes, schema.CLOSES),
        evidence=judged.evidence,
        incidents=judged.incidents,
        facts=fact_table,
        clocks=clock_table,
        sources=_sources(table, events),
        partial=bool(table.get_column("status").is_in(FAILED).any()),
        redacted=redacted,
        asked=asked,
    )


def _doubled(table: pl.DataFrame, doubled: Mapping[tuple[str, str], Mapping[str, int]]) -> pl.DataFrame:
    """SOURCES with the lines that another input holds too counted as skipped."""
    if not doubled:
        return table
    rows = table.to_dicts()
    for row in rows:
        for other, count in doubled.get((row["path"], row["part"]), {}).items():
            row["lines_kept"] -= count
            row["lines_skipped"] += count
            note = f"{count:,} lines also stand in {other} and count there"
            row["message"] = f"{row['message']}; {note}" if row["message"] else note
    return schema.conform(pl.DataFrame(rows, infer_schema_length=None), schema.SOURCES)


def _nothing(table: pl.DataFrame) -> str:
    rows = [f"  {r['path']}: {r['message'] or r['status'] or 'no known format'}" for r in table.head(NAMED).to_dicts()]
    if table.height > NAMED:
        rows.append(f"  … and {table.height - NAMED:,} more")
    return (
        "No line of a known format was found.\n"
        + "\n".join(rows or ["  (no input)"])
        + "\nGive gateway, CLI or proxy logs, or docker events; 'occorr formats list' shows what is known."
    )


def _timeline(events: pl.DataFrame) -> pl.DataFrame:
    """EVENTS: the contract's columns, everything else folded into `attributes`."""
    told = {name for name, column in schema.ATTRIBUTES.items() if not column.inner} | {"also_at", "role", "instance"}
    extra = sorted(c for c in events.columns if c in told or c.startswith("x_"))
    numbered = events.with_row_index("_row")
    # long form: only what is there costs anything
    parts = [
        numbered.lazy()
        .filter(pl.col(c).is_not_null())
        .select(
            "_row",
            pl.struct(pl.lit(c.removeprefix("x_")).alias("key"), pl.col(c).cast(pl.String).alias("value")).alias(
                "attributes"
            ),
        )
        for c in extra
        if events.get_column(c).null_count() < events.height
    ]
    folded = (
        pl.concat(parts)
        .sort("_row", maintain_order=True)
        .group_by("_row", maintain_order=True)
        .agg("attributes")
        .collect()
        if parts
        else pl.DataFrame(schema={"_row": pl.UInt32, "attributes": schema.KEY_VALUES})
    )
    events = (
        numbered.drop("attributes", strict=False)
        .join(folded, on="_row", how="left", maintain_order="left")
        .drop("_row")
    )
    named = events.with_columns(
        pl.coalesce("service_name", "compose_service", pl.col("part").replace("", None)).alias("service_name"),
        pl.coalesce("compose_service", pl.col("part").replace("", None)).alias("compose_service"),
    )
    words = {
        "at_event": "when it happened",
        "at_start": "when the connection began",
        "at_end": "when the connection ended",
        "at_write": "when the line was written",
        "unknown": "not known",
    }
    named = named.with_columns(pl.col("time_semantics").replace(words).alias("timestamp_desc"))
    return schema.conform(named.filter(pl.col("event_name") != "unparsed"), schema.EVENTS)


def _sources(table: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """SOURCES with the times and clocks that placing found."""
    spans = (
        events.filter(pl.col("timestamp").is_not_null())
        .group_by("log_file_path", "part")
        .agg(
            pl.col("timestamp").min().alias("_a"),
            pl.col("timestamp").max().alias("_b"),
            pl.col("clock_id").drop_nulls().mode().sort().first().alias("_c"),
        )
    )
    joined = table.join(
        spans, left_on=["path", "part"], right_on=["log_file_path", "part"], how="left", maintain_order="left"
    )
    return schema.conform(
        joined.with_columns(
            pl.coalesce("first_time", "_a").alias("first_time"),
            pl.coalesce("last_time", "_b").alias("last_time"),
            pl.coalesce("clock_id", "_c").alias("clock_id"),
        ),
        schema.SOURCES,
    )
