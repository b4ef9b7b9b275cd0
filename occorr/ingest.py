"""From an input's bytes to decoded events: the first half of the pipeline, one input at a time.

`read`, `unwrap`, `detect` and `decode` each know one thing; here they are put in a row, the lines that can matter are
chosen, and every line is counted as kept, skipped or unparsed.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from occorr import decode, detect, read, schema, unwrap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr.definitions import Dialect, Envelope, Library
    from occorr.read import Blob
    from occorr.redact import Redactor

HEAD_TAIL: Final = 20  # lines kept at both ends of a process's segment
AROUND: Final = 10  # lines kept around a close
EVERY: Final = 5_000  # of the remaining two-stamp lines, one in so many is kept as an anchor between two clocks
TROUBLE: Final = ("Error", "error", "ERROR", "fatal", "FATAL", "panic", "xception", "out of memory")
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
SAMPLE: Final = 4 << 20  # so many bytes decide how a part is read
PASTE: Final = 400  # an input of fewer lines may be a paste
PASTED: Final = ("openclaw",)  # formats whose lines people paste
BROKEN: Final = (
    "gateway connect failed: ",
    "Gateway call failed: ",
    "Health check failed: ",
    "Subagent announce failed: ",
    "[openclaw] Failed to start CLI: ",
)  # named alone, but the code follows
INNER: Final = ("gateway closed (", "gateway timeout after ")
WRAPS: Final = 3  # a line is broken into at most so many more
JSON: Final = "wrapped_json"
TRIED: Final = 60  # lines on which further envelopes are tried …
CLEAR: Final = 0.75  # … where fewer than so many are understood as they are
BETTER: Final = 0.15  # what one more envelope must gain
UNSTAMPED: Final = 0.4  # how much a line without a stamp is known, for that
UNPARSED: Final = 10_000  # so many unparsed lines of a chunk are kept to be shown; all are counted


@dataclass(frozen=True, slots=True)
class Plan:
    """How one part of an input is to be read: decided on a sample, applied to every line."""

    part: str
    envelopes: tuple[Envelope, ...]
    recognition: detect.Recognition


def plans(blob: Blob, library: Library) -> list[Plan]:
    """What the parts of an input are: one part, or one for each service where a Compose log mixes them."""
    first = next(iter(read.chunks(blob, SAMPLE)), None)
    if first is None:
        return []
    sample = unwrap.bare(detect.sample(first))
    envelopes, _ = unwrap.chain(sample.get_column("text"), library.envelopes)
    peeled = unwrap.peel(sample, envelopes)
    if "compose_service" not in peeled.columns:
        plan = _best(
            Plan("", tuple(envelopes), detect.recognise(peeled.get_column("text"), library, blob.path)),
            peeled.get_column("text"),
            library,
            blob.path,
        )
        again = unwrap.peel(sample, plan.envelopes)
        if "compose_service" not in again.columns:
            return [plan]
        envelopes, peeled = list(plan.envelopes), again
    parts = peeled.get_column("compose_service").fill_null("").unique(maintain_order=True).sort()
    return [_service(part, peeled, envelopes, library, blob.path) for part in parts]


def _service(part: str, peeled: pl.DataFrame, envelopes: list[Envelope], library: Library, path: str) -> Plan:
    """A service's lines may be in one more envelope of their own, such as the stamps of `logs -t`."""
    own = peeled.filter(pl.col("compose_service").fill_null("") == part).get_column("text")
    more, inner = unwrap.chain(own, {n: e for n, e in library.envelopes.items() if e not in envelopes})
    return _best(Plan(part, (*envelopes, *more), detect.recognise(inner, library, path)), inner, library, path)


def _best(plan: Plan, texts: pl.Series, library: Library, path: str) -> Plan:
    """The plan, with one more envelope where that makes lines known that are not: a doubtful one, or some words that nobody has defined."""
    few = texts.filter(texts.str.len_bytes() > 0).head(TRIED)
    known = _understood(few, plan.recognition, library)
    if few.is_empty() or known >= CLEAR:
        return plan
    best, most = plan, known
    for envelope in [
        *sorted((e for e in library.envelopes.values() if e.doubtful), key=lambda e: (e.rank, e.name)),
        *unwrap.prefixes(few),
    ]:
        if float(str(few.str.contains(envelope.line).mean() or 0.0)) < envelope.min_share:
            continue
        inner = unwrap.peel(pl.DataFrame({"text": few}), [envelope]).get_column("text")
        more, inmost = unwrap.chain(inner, library.envelopes)
        score = _understood(inmost, detect.recognise(inmost, library, path), library)
        if (
            score < CLEAR and bool(inmost.str.starts_with('{"').mean()) and envelope.name != JSON
        ):  # a collector's JSON behind its stamp
            deeper, bottom = (
                unwrap.chain(
                    unwrap.peel(pl.DataFrame({"text": inmost}), [library.envelopes[JSON]]).get_column("text"),
                    library.envelopes,
                )
                if JSON in library.envelopes
                else ([], inmost)
            )
            told = _understood(bottom, detect.recognise(bottom, library, path), library)
            more, score = ([*more, library.envelopes[JSON], *deeper], told) if told > score else (more, score)
        if score > most + BETTER:
            whole = unwrap.peel(pl.DataFrame({"text": texts}), [envelope, *more]).get_column("text")
            best, most = (
                Plan(plan.part, (*plan.envelopes, envelope, *more), detect.recognise(whole, library, path)),
                score,
            )
    return best


def _understood(texts: pl.Series, recognition: detect.Recognition, library: Library) -> float:
    """The share of lines that are of a known format; one without a stamp of its own says less."""
    if texts.is_empty() or not recognition.dialects:
        return 0.0
    order = detect.order(recognition.dialects, library)
    found = detect.assign(pl.DataFrame({"text": texts}), recognition.dialects, library).get_column("_dialect")
    return sum((1.0 if order[i].time is not None else UNSTAMPED) for i in found if i >= 0) / len(found)


def ingest(
    blob: Blob, library: Library, redactor: Redactor, *, all_lines: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The events of one input and its rows of SOURCES.

    Args:
        blob: the input.
        library: the definitions.
        redactor: what replaces secrets.
        all_lines: keep every line that fits a format, not only those that can matter.

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
    chosen = {plan.part: plan for plan in plans(blob, library)}
    frames: list[pl.DataFrame] = []
    counts: dict[str, dict[str, int]] = {}
    root = blob.root
    for chunk in read.chunks(blob):
        if not root:
            root = hashlib.sha256(str(chunk.item(0, "raw")).encode()).hexdigest()
        for part, lines in _parts(chunk, chosen):
            events, count = _part(
                lines,
                chosen.get(part) or next(iter(chosen.values())),
                library,
                redactor,
                root,
                peeled=len(_shared(chosen)),
                short=_pasted(blob, chunk),
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


def _parts(chunk: pl.DataFrame, chosen: dict[str, Plan]) -> list[tuple[str, pl.DataFrame]]:
    lines = unwrap.bare(chunk)
    if set(chosen) == {""}:
        return [("", lines)]
    peeled = unwrap.peel(lines, _shared(chosen))
    groups = peeled.with_columns(pl.col("compose_service").fill_null("").alias("_part")).partition_by(
        "_part", as_dict=True, maintain_order=True
    )
    return [(str(key[0]), group.drop("_part")) for key, group in groups.items()]


def _shared(chosen: dict[str, Plan]) -> list[Envelope]:
    """The envelopes that stand around all parts of an input that mixes several: up to the one that names the service."""
    if set(chosen) == {""}:
        return []
    outer = next(iter(chosen.values())).envelopes
    return list(
        outer[
            : max(
                i
                for i, e in enumerate(outer)
                if "compose_service" in {*e.extract.json, *re.findall(r"\?P<(\w+)>", e.extract.regex)}
            )
            + 1
        ]
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
        lines = _unwrapped(lines, plan, library)
    order = detect.order(plan.recognition.dialects, library)
    fits = lines.get_column("_dialect") >= 0
    loose = lines.filter(~fits)
    unparsed = pl.repeat(False, lines.height, eager=True)
    if loose.height:
        blank = loose.get_column("text").str.strip_chars().str.len_bytes() == 0
        unparsed = unparsed.scatter((~fits).arg_true(), ~(blank | _continues(lines, order, library).filter(~fits)))
    keep = pl.repeat(True, lines.height, eager=True) if all_lines else _matters(lines, order, plan, library)
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


def _pasted(blob: Blob, chunk: pl.DataFrame) -> bool:
    """Whether a person may have pasted this: short, from standard input or a text file."""
    return chunk.height < PASTE and (blob.path == "-" or blob.path.lower().endswith(".txt"))


def _unwrapped(lines: pl.DataFrame, plan: Plan, library: Library) -> pl.DataFrame:
    """Lines that a terminal or a chat broke, put together where only the whole says something that is known."""
    order = detect.order(plan.recognition.dialects, library)
    dialect, texts = lines.get_column("_dialect").to_list(), lines.get_column("text").to_list()
    width = max((len(t) for t in texts), default=0)
    gone: dict[int, int] = {}
    new: dict[int, str] = {}
    for head, which in enumerate(dialect):
        if which < 0 or order[which].definition not in PASTED:
            continue
        if head in gone:
            continue
        cut = texts[head].endswith(":") and texts[head].startswith(
            BROKEN
        )  # broken just before what failed, which is known by itself too
        first = int(cut and head + 1 < len(texts) and texts[head + 1].lstrip().startswith(INNER))
        tail = [
            *range(head + 1, head + 1 + first),
            *itertools.takewhile(
                functools.partial(_lost, dialect, texts), range(head + 1 + first, min(head + 1 + WRAPS, len(texts)))
            ),
        ]
        if not tail:
            continue
        alone = _said(texts[head], order[which], library)
        if (alone % 2 and not texts[head].endswith("):")) or (alone and not texts[head].startswith((*BROKEN, *INNER))):
            continue
        # a terminal breaks at its width and in the middle of words, a chat at spaces
        glue = ("", " ") if len(texts[head]) >= width - 1 else (" ", "")
        tried = [
            (
                n,
                "".join(
                    [texts[head], *(g + texts[i].strip() if g else texts[i] for g, i in zip(g_, tail[:n], strict=True))]
                ),
            )
            for n in range(1, len(tail) + 1)
            for g_ in itertools.product(glue, repeat=n)
        ]
        scores = [(_said(text, order[which], library), n, text) for n, text in tried]
        score, n, text = max(scores, key=lambda s: (s[0] % 2, s[0], -s[1]))  # what comes first wins among equals
        if (score and not alone) or (score % 2 and score > alone):
            new[head] = text
            gone |= dict.fromkeys(tail[:n], head)
    if not new:
        return lines
    index = pl.int_range(pl.len())
    pieces = [sum(h == i for h in gone.values()) for i in range(len(texts))]
    joined = lines.with_columns(
        pl.Series("text", [new.get(i, t) for i, t in enumerate(texts)]), pl.Series("pieces", pieces, dtype=pl.Int64)
    )
    return joined.filter(~index.is_in(list(gone)))


def _lost(dialect: list[int], texts: list[str], index: int) -> bool:
    return dialect[index] < 0 and bool(texts[index].strip())


def _said(text: str, dialect: Dialect, library: Library) -> int:
    """How much a line says: 0 if no event claims it, else twice its fields, and one more if it holds a close code."""
    frame = pl.DataFrame({"text": [text], "line": [1], "offset": [0]})
    if not frame.get_column("text").str.contains(dialect.line).item():
        return 0
    row = decode.decode(frame, dialect, library.formats[dialect.definition]).row(0, named=True)
    return (
        0
        if row["event_name"] in (None, "log")
        else 2 * sum(v is not None for v in row.values()) + (row.get("websocket_close_code") is not None)
    )


def _matters(lines: pl.DataFrame, order: tuple[Dialect, ...], plan: Plan, library: Library) -> pl.Series:
    """Which lines can matter: selected by an event, ends of a segment, trouble, no stamp, around a close or a start."""
    found = {d.definition: library.formats[d.definition] for d in plan.recognition.dialects}
    if any(f.keep_all for f in found.values()):
        return pl.repeat(True, lines.height, eager=True)
    formats = {
        **found,
        **{n: f for n, f in library.formats.items() if not f.keep_all and f.source_kind == "gateway"},
    }.values()
    text = lines.get_column("text")
    if any(
        e.clock == "host" for e in plan.envelopes
    ):  # a journal mixes the kernel, systemd and the engine in, few lines each
        formats = {
            **{f.name: f for f in formats},
            **{n: f for n, f in library.formats.items() if f.source_kind in ("kernel", "other")},
        }.values()
    selects = tuple(sorted({s for f in formats for s in f.selects}))
    # one pass over all lines; what follows looks only at those that it found
    selected = (
        text.str.contains(decode.literals((*selects, *TROUBLE)))
        if selects
        else text.str.contains(decode.literals(TROUBLE))
    )
    places = selected.arg_true()
    few = text.gather(places)
    keep = selected.clone()
    for names, reach in (
        (("websocket.close", "cli.failure"), AROUND),
        (("gateway.start", "gateway.shutdown"), HEAD_TAIL),
    ):
        words = tuple(sorted({s for f in formats for e in f.events if e.name in names for s in e.select}))
        if words:
            near = np.zeros(lines.height + 1, dtype=np.int32)
            hits = places.filter(few.str.contains(decode.literals(words))).to_numpy().astype(np.int64)
            np.add.at(near, np.maximum(hits - reach, 0), 1)
            np.add.at(near, np.minimum(hits + reach + 1, lines.height), -1)
            keep = keep | pl.Series(np.cumsum(near[:-1]) > 0)
    index = np.arange(lines.height)
    keep = keep | pl.Series((index < HEAD_TAIL) | (index >= lines.height - HEAD_TAIL) | (index % EVERY == 0))
    unstamped = [i for i, d in enumerate(order) if d.time is None]
    return keep | lines.get_column("_dialect").is_in([-1, *unstamped])


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
