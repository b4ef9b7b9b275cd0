"""From an input's bytes to decoded events: the first half of the pipeline, one input at a time.

`read`, `unwrap`, `detect` and `decode` each know one thing; here they are put in a row, the lines that can matter are
chosen, and every line is counted as kept, skipped or unparsed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import decode, detect, pastes, plans, read, relevance, schema, unwrap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from occorr.definitions import Dialect, Library
    from occorr.plans import Plan
    from occorr.read import Blob
    from occorr.redact import Redactor

# Columns that hold ids and words of our own: they are joined on and can hold no secret.
KEYS: Final = frozenset(
    {
        "conn_id",
        "conn_short",
        "container_id",
        "event_name",
        "parser",
        "source_kind",
        "part",
        "time_semantics",
        "timestamp_text",
        "event_id",
        "endpoint",
        "x_alike",
    }
)
UNPARSED: Final = 10_000  # so many unparsed lines of a chunk are kept to be shown; all are counted


def ingest(
    blob: Blob,
    library: Library,
    redactor: Redactor,
    *,
    all_lines: bool = False,
    known: Sequence[Plan] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The events of one input and its rows of SOURCES.

    Args:
        blob: the input.
        library: the definitions.
        redactor: what replaces secrets.
        all_lines: keep every line that fits a format, not only those that can matter.
        known: how the parts of the input are to be read, where an earlier look at it told.

    Returns:
        events: decoded columns in working types, and `part`, `seq` (order within the input);
        sources: one row a part.
    """
    base = {"path": blob.path, "part": "", "sha256": blob.sha256, "status": blob.status, "message": blob.message}
    if not len(blob.data) and blob.lines is None:
        return pl.DataFrame(), schema.conform(
            pl.DataFrame([{**base, "lines_read": 0, "lines_kept": 0, "lines_skipped": 0, "lines_unparsed": 0}]),
            schema.SOURCES,
        )
    chosen = {plan.part: plan for plan in (plans.plans(blob, library) if known is None else known)}
    frames: list[pl.DataFrame] = []
    counts: dict[str, dict[str, int]] = {}
    root = blob.root
    for chunk in read.chunks(blob):
        if not root:
            root = hashlib.sha256(str(chunk.item(0, "raw")).encode()).hexdigest()
        for part, lines in plans.parts(plans.bare(chunk, blob, library), chosen):
            events, count = _part(
                lines,
                chosen.get(part) or next(iter(chosen.values())),
                library,
                redactor,
                root,
                peeled=len(plans.shared(chosen)),
                short=pastes.pasted(blob, chunk),
                all_lines=all_lines,
            )
            total = counts.setdefault(part, dict.fromkeys(count, 0))
            for key, value in count.items():
                total[key] += value
            if events.height:
                frames.append(events.with_columns(pl.lit(blob.path).alias("log_file_path"), pl.lit(part).alias("part")))
    events = pl.concat(frames, how="diagonal") if frames else pl.DataFrame()
    if events.height:
        events = _from(events, blob.origin)
        events = _with_resolution(events.sort("log_line", maintain_order=True).with_row_index("seq"))
    return events, _sources(base, counts, chosen, events)


def _from(events: pl.DataFrame, origin: Mapping[str, str]) -> pl.DataFrame:
    """What is known of all lines of an input stands in each; a line that says it itself is right."""
    return events.with_columns(
        pl.coalesce(pl.col(name) if name in events.columns else None, pl.lit(value)).alias(name)
        for name, value in origin.items()
    )


def _part(
    lines: pl.DataFrame,
    plan: Plan,
    library: Library,
    redactor: Redactor,
    root: str,
    *,
    peeled: int = 0,
    short: bool = False,
    all_lines: bool,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Chooses, counts and decodes the lines of one part of a chunk."""
    lines = unwrap.peel(lines, plan.envelopes[peeled:])
    lines = detect.assign(lines, plan.recognition.dialects, library)
    if short:
        lines = pastes.unwrapped(lines, plan.recognition.dialects, library)
    order = detect.order(plan.recognition.dialects, library)
    fits = lines.get_column("_dialect") >= 0
    loose = lines.filter(~fits)
    unparsed = pl.repeat(False, lines.height, eager=True)
    if loose.height:
        blank = loose.get_column("text").str.strip_chars().str.len_bytes() == 0
        unparsed = unparsed.scatter((~fits).arg_true(), ~(blank | _continues(lines, order, library).filter(~fits)))
    keep = pl.repeat(True, lines.height, eager=True) if all_lines else relevance.matters(lines, order, plan, library)
    kept = lines.filter(keep & fits)
    frames, bad = [], []
    for (index,), rows in kept.partition_by("_dialect", as_dict=True, maintain_order=True).items():
        dialect = order[int(index)]
        definition = library.formats[dialect.definition]
        decoded = decode.decode(_alike(rows.drop("_dialect"), dialect, library), dialect, definition)
        broken = decoded.filter(pl.col("unparsed_reason").is_not_null())
        if broken.height:
            bad.append(broken.select("line", "unparsed_reason"))
            decoded = decoded.filter(pl.col("unparsed_reason").is_null())
        if "source_kind" not in decoded.columns:
            decoded = decoded.with_columns(pl.lit(None, pl.String).alias("source_kind"))
        frames.append(decoded.with_columns(pl.col("source_kind").fill_null(definition.source_kind)))
    reasons = (
        pl.concat(bad) if bad else pl.DataFrame(schema={"line": lines.schema["line"], "unparsed_reason": pl.String})
    )
    unparsed = unparsed | lines.get_column("line").is_in(reasons.get_column("line").to_list())
    kept = kept.filter(~pl.col("line").is_in(reasons.get_column("line").to_list()))
    lost = lines.filter(unparsed).head(UNPARSED).join(reasons, on="line", how="left", maintain_order="left")
    if lost.height:
        frames.append(
            decode.typed(
                lost.drop("_dialect").with_columns(
                    pl.col("text").alias("body"),
                    pl.lit("unparsed").alias("event_name"),
                    pl.coalesce("unparsed_reason", _reason(pl.col("text"))).alias("unparsed_reason"),
                    pl.lit("other").alias("source_kind"),
                )
            )
        )
    joined = {
        n: int(f.get_column("pieces").sum()) if "pieces" in f.columns else 0
        for n, f in (("all", lines), ("kept", kept), ("lost", lines.filter(unparsed)))
    }
    counts = {
        "lines_read": lines.height + joined["all"],
        "lines_kept": kept.height + joined["kept"],
        "lines_unparsed": int(unparsed.sum()) + joined["lost"],
    }
    counts["lines_skipped"] = counts["lines_read"] - counts["lines_kept"] - counts["lines_unparsed"]
    if not frames:
        return pl.DataFrame(), counts
    return _finished(pl.concat(frames, how="diagonal"), lines, redactor, root), counts


def _alike(rows: pl.DataFrame, dialect: Dialect, library: Library) -> pl.DataFrame:
    """Adds `x_alike`, where other formats' lines look like a dialect's: all dialects that a line fits, the claimant first."""
    rivals = library.rivals(dialect)
    if not rivals:
        return rows
    fits = [pl.when(pl.col("text").str.contains(r.line)).then(pl.lit(r.parser)) for r in rivals]
    return rows.with_columns(pl.concat_list(fits).list.drop_nulls().list.join("|").alias("x_alike"))


def _reason(text: pl.Expr) -> pl.Expr:
    """Why a line was not understood, in words."""
    return (
        pl.when(text.str.contains("\ufffd", literal=True))
        .then(pl.lit("not UTF-8"))
        .when(text.str.contains(r"^\s*\{.*[^}\s]\s*$"))
        .then(pl.lit("JSON that is cut off"))
        .when(text.str.contains(r"^\s*\{"))
        .then(pl.lit("JSON of no known format"))
        .when(text.str.contains(r"^\[?(?:\d{4}[-/]\d\d[-/]\d\d|\d\d/[A-Z][a-z]{2}/\d{4}|[A-Z][a-z]{2} [ \d]\d )"))
        .then(pl.lit("a stamp, and nothing known behind it"))
        .otherwise(pl.lit("no known format"))
    )


def _continues(lines: pl.DataFrame, order: tuple[Dialect, ...], library: Library) -> pl.Series:
    """Lines that belong to the record before them: a command's output, a stack trace."""
    starts = [i for i, d in enumerate(order) if library.formats[d.definition].record_continue]
    inside = lines.get_column("_dialect").replace(-1, None).forward_fill().is_in(starts).fill_null(value=False)
    rules = {
        library.formats[d.definition].record_continue for d in order if library.formats[d.definition].record_continue
    }
    if not rules or not inside.any():
        return pl.repeat(False, lines.height, eager=True)
    return inside & lines.get_column("text").str.contains("|".join(sorted(rules))) & (lines.get_column("_dialect") < 0)


def _finished(events: pl.DataFrame, lines: pl.DataFrame, redactor: Redactor, root: str) -> pl.DataFrame:
    """Provenance, the raw record with its secrets replaced, and the stable event id."""
    original = (
        events.select(pl.col("line").cast(pl.Int64))
        .join(lines.select(pl.col("line").cast(pl.Int64), "raw"), on="line", how="left", maintain_order="left")
        .get_column("raw")
        .str.strip_chars_end("\r\n")
    )
    hints = redactor.hints(original)
    clean = redactor.column(original, hints)
    ids = pl.Series(
        "event_id", [_event_id(root, o, r) for o, r in zip(events.get_column("offset"), original, strict=True)]
    )
    free = [c for c, d in events.schema.items() if d == pl.String and c not in KEYS]
    texts = {c: redactor.column(events.get_column(c), hints) for c in free} if hints.len() else {}
    return (
        events.drop("text")
        .with_columns(
            clean.alias("log_record_original"),
            (clean != original).alias("redacted"),
            ids,
            pl.col("line").cast(pl.Int64).alias("log_line"),
            pl.col("offset").cast(pl.Int64).alias("log_byte_offset"),
            *(s.alias(c) for c, s in texts.items()),
        )
        .drop("line", "offset")
    )


def _event_id(root: str, offset: int, record: str) -> str:
    return hashlib.blake2b(f"{root}\x00{offset}\x00{record}".encode(), digest_size=8).hexdigest()


def _with_resolution(events: pl.DataFrame) -> pl.DataFrame:
    """A stamp's resolution: what its format declares, else the finest that its source shows (engines trim zeros)."""
    if "_digits" not in events.columns:
        return events.with_columns(pl.lit(None, pl.Int64).alias("time_resolution_ns"))
    finest = (9 - pl.col("_digits").max().over("part", "parser")).cast(pl.Int64)
    return events.with_columns(
        pl.coalesce("time_resolution_ns", pl.lit(10, pl.Int64).pow(finest)).alias("time_resolution_ns")
    ).drop("_digits")


def _sources(
    base: dict[str, Any], counts: dict[str, dict[str, int]], chosen: dict[str, Plan], events: pl.DataFrame
) -> pl.DataFrame:
    rows = []
    for part, count in counts.items():
        plan = chosen.get(part) or next(iter(chosen.values()))
        row = {
            **base,
            **count,
            "part": part,
            "format": plan.recognition.name,
            "envelope": " > ".join(e.name for e in plan.envelopes),
        }
        if count["lines_kept"] == 0 and base["status"] == "ok" and count["lines_unparsed"]:
            row["status"] = "unknown"
            row["message"] = (
                "no known format fits these lines; see 'occorr formats list', or describe the format with --parsers DIR"
            )
        elif count["lines_unparsed"] and "unparsed_reason" in events.columns:
            why = (
                events.filter(pl.col("part") == part)
                .get_column("unparsed_reason")
                .drop_nulls()
                .value_counts(sort=True)
                .sort("count", "unparsed_reason", descending=[True, False])
            )
            told = ", ".join(f"{n:,} {r}" for r, n in why.rows())
            row["message"] = "; ".join(m for m in (base["message"], f"not understood: {told}") if m)
        rows.append(row)
    return schema.conform(pl.DataFrame(rows), schema.SOURCES)
