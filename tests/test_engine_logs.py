"""The bytes of the engine's log streams to lines: what was said is what comes out, wherever the wire is cut."""

from __future__ import annotations


from hypothesis import given, settings, strategies as st

from fake_engine import frame
from occorr.engine.logs import _frames, _lines, _terminal
from occorr.redact import Redactor

STAMP = b"2026-11-21T04:44:41.028545122Z"
SPLIT = 16_384  # bytes at which engines 20.10 and 26.1 split a line


def lines(wire: bytes, cuts: list[int], *, tty: bool) -> list[tuple[str, str]]:
    marks = sorted({0, len(wire), *(c % (len(wire) + 1) for c in cuts)})
    chunks = (wire[a:b] for a, b in zip(marks, marks[1:]))
    pieces = _terminal(chunks) if tty else _frames(chunks)
    return [(x.stream, x.text) for x in _lines(pieces, Redactor(b"k" * 32))]


def split(text: bytes) -> list[bytes]:
    return [text[i : i + SPLIT] for i in range(0, len(text), SPLIT)] or [b""]


LENGTHS = st.sampled_from([0, 1, 80, SPLIT - 1, SPLIT, SPLIT + 1, 2 * SPLIT, 2 * SPLIT + 7, 40_000])


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), LENGTHS), min_size=1, max_size=5),
    st.lists(st.integers(0, 10**6), max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_a_long_line_is_one_line(said, cuts):
    """Each stream's own pieces follow each other, those of the other stream may stand between."""
    wire = b"".join(
        frame(stream, STAMP + b" " + piece) for stream, length in said for piece in split(b"x" * length + b"\n")
    )
    assert lines(wire, cuts, tty=False) == [(stream, "x" * length) for stream, length in said]


@given(st.lists(LENGTHS, min_size=1, max_size=5), st.lists(st.integers(0, 10**6), max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_terminals_long_line_is_one_line(lengths, cuts):
    """It has no frames: the engine writes the stamp again, in the middle of the line, before each piece."""
    wire = b"".join(STAMP + b" " + piece for length in lengths for piece in split(b"x" * length + b"\r\n"))
    assert lines(wire, cuts, tty=True) == [("stdout", "x" * length) for length in lengths]


def test_a_terminal_that_never_ends_its_line_is_told_in_pieces():
    """A progress bar writes for days without a line break: what is held stays bounded, and nothing of it is lost."""
    text = bytes(range(97, 123)) * 150_000  # 3.9 MB
    wire = b"".join(STAMP + b" " + piece for piece in split(text))
    told = lines(wire, list(range(0, len(wire), 40_000)), tty=True)
    assert "".join(piece for _, piece in told).encode() == text
    assert len(told) > 1
    assert max(len(piece) for _, piece in told) < 2.2e6


def test_a_terminals_line_may_hold_a_stamp():
    wire = STAMP + b" a copy of " + STAMP + b" in a line\r\n" + STAMP + b" \r\n"
    assert lines(wire, [], tty=True) == [("stdout", f"a copy of {STAMP.decode()} in a line"), ("stdout", "")]


def test_bytes_that_are_no_utf8_and_no_line_end():
    wire = frame("stdout", STAMP + b" \xff\xfe bad \xc3\x28\n") + frame("stderr", STAMP + b" no end")
    assert lines(wire, [5, 40], tty=False) == [("stdout", "\ufffd\ufffd bad \ufffd("), ("stderr", "no end")]
