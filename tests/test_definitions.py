"""Every definition proves itself: its samples decode to what they say, its refusals and other formats' lines do not fit."""

from __future__ import annotations

import re
from functools import cache

import polars as pl
import pytest

from occorr import decode, definitions, detect, unwrap

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


def event_index(definition, sample) -> int | None:
    """Which event of its definition claims the sample's body."""
    dialect = own(definition, sample)
    base = decode.extract(frame(sample.line).lazy(), dialect.extract, "text").collect()
    body = dialect.body if dialect.body in base.columns else "text"
    base = base.with_columns(pl.col(body).alias("body"))
    for index, event in enumerate(definition.events):
        if event.dialects and dialect.name not in event.dialects:
            continue
        if base.select(decode._selected(event, base)).item():
            return index
    return None


@pytest.mark.parametrize("definition", FORMATS.values(), ids=FORMATS)
def test_everything_has_a_sample(definition):
    samples = [s for s in definition.samples if s.dialect]
    dialects = {own(definition, s).name for s in samples}
    events = {event_index(definition, s) for s in samples}
    assert [d.name for d in definition.dialects if d.name not in dialects] == []
    assert [f"{i}: {e.name} {e.select}" for i, e in enumerate(definition.events) if i not in events] == []


def test_definitions_covered(capsys):
    """Prints how many patterns have a sample that fits and a line that must not."""
    formats = [d for f in FORMATS.values() for d in f.dialects]
    shown = [
        d for f in FORMATS.values() for d in f.dialects if any(own(f, s).name == d.name for s in f.samples if s.dialect)
    ]
    events = [(f.name, i) for f in FORMATS.values() for i in range(len(f.events))]
    seen = {(f.name, event_index(f, s)) for f in FORMATS.values() for s in f.samples if s.dialect}
    envelopes = [e for e in LIBRARY.envelopes.values() if any(s.dialect for s in e.samples)]
    refusing = [d for d in (*FORMATS.values(), *LIBRARY.envelopes.values()) if any(not s.dialect for s in d.samples)]
    whole = len(formats) + len(events) + len(LIBRARY.envelopes)
    covered = len(shown) + len(seen & set(events)) + len(envelopes)
    with capsys.disabled():
        print(
            f"\nDefinitions covered {covered}/{whole}; lines to refuse in {len(refusing)}/{len(FORMATS) + len(LIBRARY.envelopes)}"
        )
    assert covered == whole
    assert len(refusing) == len(FORMATS) + len(LIBRARY.envelopes)
