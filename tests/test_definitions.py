"""Every definition proves itself: its samples decode to what they say, its refusals and other formats' lines do not fit."""

from __future__ import annotations

import itertools
import re
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from occorr import decode, definitions, detect, plans, read, unwrap

HERE = Path(__file__).parent
# Recordings of releases that are older than those that wrote the other samples.
OLDER = {
    ("caddy", "2.6"): ["recordings/older/caddy-2.6/*"],
    ("haproxy", "2.6"): ["../sample_logs/paused-behind-haproxy/proxy.*"],
    ("nginx_access", "1.22"): ["../sample_logs/in-process-restart/proxy.access.log"],
    ("nginx_error", "1.22"): [
        f"../sample_logs/{incident}/proxy.error.log" for incident in ("crash-then-sigterm", "in-process-restart")
    ],
    ("openclaw", "2026.3.13"): ["recordings/older/openclaw-2026.3.13/*", "../sample_logs/old-release-2026.3/gateway.*"],
}
LIBRARY = definitions.builtin()
FORMATS = LIBRARY.formats
SAMPLES = [(d, s) for d in FORMATS.values() for s in d.samples if s.dialect]
REFUSED = [(d, s) for d in (*FORMATS.values(), *LIBRARY.envelopes.values()) for s in d.samples if not s.dialect]
WRAPPED = [(e, s) for e in LIBRARY.envelopes.values() for s in e.samples if s.dialect]


def named(pairs):
    return [pytest.param(d, s, id=f"{s.path}:{s.line_number}") for d, s in pairs]


def frame(line: str) -> pl.DataFrame:
    raw = pl.DataFrame({"raw": [line], "line": [1], "offset": [0]})
    return unwrap.bare(raw).drop("raw").with_columns(pl.col("line").cast(pl.UInt32))


@cache
def recognised(line: str) -> tuple[definitions.Dialect, ...]:
    return detect.recognise(frame(line).get_column("text"), LIBRARY).dialects


def own(definition, sample) -> definitions.Dialect:
    """The dialect that the sample names, or the first of its definition that fits."""
    fits = [d for d in recognised(sample.line) if d.definition == definition.name]
    assert fits, "no dialect of this definition fits the line"
    if sample.dialect == "*":
        return fits[0]
    return next(d for d in fits if d.name == sample.dialect)


def plain(value: object) -> object:
    return str(value) if isinstance(value, bool) else value


def instant(value: str) -> str:
    """ISO text with nine digits of fraction."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)", value)
    assert found, f"{value!r} is no ISO instant"
    return f"{found[1]}.{(found[2] or '').ljust(9, '0')}Z"


@pytest.mark.parametrize(("definition", "sample"), named(SAMPLES))
def test_sample_is_recognised(definition, sample):
    first = recognised(sample.line)
    assert first, "no dialect fits the line"
    if sample.dialect != "*" and first[0].definition == definition.name:
        assert first[0].name == sample.dialect
    if first[0].definition != definition.name:
        assert first[0].definition in definition.ambiguous_with
        assert definition.name in FORMATS[first[0].definition].ambiguous_with
    own(definition, sample)


@pytest.mark.parametrize(("definition", "sample"), named(SAMPLES))
def test_sample_decodes(definition, sample):
    rows = decode.decode(frame(sample.line), own(definition, sample), definition)
    assert rows.height == 1
    if "timestamp_raw" in rows.columns:
        rows = rows.with_columns(pl.col("timestamp_raw").dt.strftime("%Y-%m-%dT%H:%M:%S%.9fZ"))
    row = rows.row(0, named=True)
    if sample.event:
        assert row["event_name"] == sample.event
    want = {k: instant(v) if k == "timestamp_raw" and v != "<null>" else plain(v) for k, v in sample.expect.items()}
    have = {k: plain(row.get(k)) for k in want}
    want = {k: None if v == "<null>" else v for k, v in want.items()}
    assert have == want


@pytest.mark.parametrize(("definition", "sample"), named(REFUSED))
def test_refused(definition, sample):
    text = frame(sample.line).get_column("text")
    tests = (
        [d.line for d in definition.dialects] if isinstance(definition, definitions.Definition) else [definition.line]
    )
    assert [t for t in tests if text.str.contains(t).item()] == []


@pytest.mark.parametrize(("envelope", "sample"), named(WRAPPED))
def test_envelope(envelope, sample):
    lines = frame(sample.line).rename({"text": "raw"}).with_columns(pl.col("raw").alias("text"))
    assert lines.get_column("text").str.contains(envelope.line).item()
    row = unwrap.peel(lines, [envelope]).row(0, named=True)
    for key, value in sample.expect.items():
        assert row["text" if key == "rest" else key] == value


def event_indexes(texts: pl.DataFrame, definition, dialect) -> pl.Series:
    """Which event of the definition claims each line's body; null for none."""
    base = decode.extract(texts.lazy(), dialect.extract, "text").collect()
    base = base.with_columns(pl.col(dialect.body if dialect.body in base.columns else "text").alias("body"))
    found = pl.lit(None, pl.Int64)
    for index, event in reversed(list(enumerate(definition.events))):
        if not event.dialects or dialect.name in event.dialects:
            found = pl.when(decode._selected(event, base)).then(index).otherwise(found)
    return base.select(found.alias("index")).get_column("index")


def event_index(definition, sample) -> int | None:
    """Which event of its definition claims the sample's body."""
    return event_indexes(frame(sample.line), definition, own(definition, sample)).item()


@pytest.mark.parametrize("definition", FORMATS.values(), ids=FORMATS)
def test_everything_has_a_sample(definition):
    samples = [s for s in definition.samples if s.dialect]
    dialects = {own(definition, s).name for s in samples}
    events = {event_index(definition, s) for s in samples}
    assert [d.name for d in definition.dialects if d.name not in dialects] == []
    assert [f"{i}: {e.name} {e.select}" for i, e in enumerate(definition.events) if i not in events] == []


def shown(path: Path, definition) -> set[str | int]:
    """The dialects of the definition that a recording is written in, and the indexes of the events that it tells."""
    blob = read.Blob(str(path), path.read_bytes())
    found: set[str | int] = set()
    for chunk, plan in itertools.product(read.chunks(blob), plans.plans(blob, LIBRARY)):
        peeled = unwrap.peel(plans.bare(chunk, blob, LIBRARY), plan.envelopes)
        for dialect in plan.recognition.dialects:
            own_lines = peeled.filter(pl.col("text").str.contains(dialect.line)).select("line", "text")
            if dialect.definition == definition.name and own_lines.height:
                told = event_indexes(own_lines, definition, dialect).drop_nulls()
                found |= {dialect.name, *told} if told.len() or not definition.events else set()
    return found


@pytest.mark.parametrize(("name", "version"), OLDER)
def test_patterns_have_samples_of_the_older_version(name, version):
    """Each pattern that a recording of it shows has a line of the recording as a sample."""
    definition = FORMATS[name]
    recordings = [path for pattern in OLDER[name, version] for path in sorted(HERE.glob(pattern))]
    written = "\n".join(path.read_text() for path in recordings)
    samples = [s for s in definition.samples if s.version == version]
    assert [s.line_number for s in samples if s.line not in written] == []
    have = {own(definition, s).name for s in samples} | {event_index(definition, s) for s in samples}
    assert set().union(*(shown(path, definition) for path in recordings)) - have == set()


def neighbours(line: str) -> pl.DataFrame:
    """Every line that differs from this one in a single character."""
    lines = [f"{line[:at]}{'~' if char != '~' else '#'}{line[at + 1 :]}" for at, char in enumerate(line)]
    raw = pl.DataFrame({"raw": lines, "line": range(len(lines)), "offset": 0})
    return unwrap.bare(raw).drop("raw").with_columns(pl.col("line").cast(pl.UInt32))


def refused_by_line(pattern: str, line: str) -> bool:
    """Whether a recognition's pattern does not fit some line that is a character away from one that it fits."""
    return not neighbours(line).get_column("text").str.contains(pattern).all()


def refused_by_event(definition, event, sample) -> bool:
    """Whether some line a character away from the event's sample is not this event; its dialect's captures are part of it."""
    dialect = own(definition, sample)
    base = decode.extract(neighbours(sample.line).lazy(), dialect.extract, "text").collect()
    body = dialect.body if dialect.body in base.columns else "text"
    return not base.with_columns(pl.col(body).alias("body")).select(decode._selected(event, base).all()).item()


def test_definitions_covered(capsys):
    """Prints how many patterns have a sample that fits, and how many refuse a line that is a character away from it.

    Lines that are near to two patterns, and lines of other programs, are written by hand in `[[refuse]]`.
    """
    fits = {}
    for f in FORMATS.values():
        for sample in f.samples:
            if sample.dialect:
                fits.setdefault((f.name, own(f, sample).name), []).append(sample)
                fits.setdefault((f.name, event_index(f, sample)), []).append(sample)
    shown, refusing = [], []
    for f in FORMATS.values():
        for dialect in f.dialects:
            samples = fits.get((f.name, dialect.name), [])
            shown.append((f"{f.name}/{dialect.name}", bool(samples)))
            refusing.append((f"{f.name}/{dialect.name}", any(refused_by_line(dialect.line, s.line) for s in samples)))
        for index, event in enumerate(f.events):
            samples = fits.get((f.name, index), [])
            shown.append((f"{f.name}: {event.name} {event.select}", bool(samples)))
            refusing.append(
                (f"{f.name}: {event.name} {event.select}", any(refused_by_event(f, event, s) for s in samples))
            )
    for envelope in LIBRARY.envelopes.values():
        samples = [s for s in envelope.samples if s.dialect]
        shown.append((envelope.name, bool(samples)))
        refusing.append((envelope.name, any(refused_by_line(envelope.line, s.line) for s in samples)))
    by_hand = [d.name for d in (*FORMATS.values(), *LIBRARY.envelopes.values()) if all(s.dialect for s in d.samples)]
    with capsys.disabled():
        print(
            f"\nDefinitions covered {sum(ok for _, ok in shown)}/{len(shown)};"
            f" patterns that refuse a line one character away {sum(ok for _, ok in refusing)}/{len(refusing)}"
        )
    assert [name for name, ok in shown if not ok] == []
    assert [name for name, ok in refusing if not ok] == []
    assert by_hand == []
