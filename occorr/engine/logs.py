"""Containers' logs: the engine's frames joined to lines, each with its stamp and stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from occorr.engine import connection
from occorr.engine.connection import Stream
from occorr.engine.reach import EngineError
from occorr.engine.stamps import seconds, stamp_ns

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from occorr.engine.connection import Engine
    from occorr.engine.containers import Container
    from occorr.redact import Redactor

SPLIT: Final = 16_384  # bytes at which the engine splits a line
LONGEST: Final = 1 << 20  # bytes; a line longer than this stays in pieces
UNREADABLE: Final = {"none": "the log driver 'none' keeps nothing"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a container's log.

    Attributes:
        time_ns: the engine's stamp, nanoseconds since 1970.
        stamp: the same as the engine wrote it (RFC 3339).
        stream: stdout or stderr; a container with a terminal has stdout only.
        text: without line break; bytes that are no UTF-8 are U+FFFD; secrets are fingerprints.
    """

    time_ns: int
    stamp: str
    stream: str
    text: str


def logs(
    engine: Engine,
    container: Container,
    *,
    since_ns: int | None = None,
    until_ns: int | None = None,
    follow: bool = False,
) -> Stream[Line]:
    """A container's log, both streams, each line whole and with its stamp.

    With `follow` it goes on until the container stops; it does not wait for the next start. To go on after a break, ask
    from the last line's `time_ns` (which comes again: drop what you have).

    Args:
        engine: the connection.
        container: as `detailed` gives it; whether it has a terminal decides how its bytes are read.
        since_ns: the first stamp, nanoseconds since 1970.
        until_ns: the last stamp.
        follow: also what is yet to come.

    Raises:
        EngineError: the log driver keeps nothing that can be read, or the container is gone.
    """
    if container.log_driver in UNREADABLE:
        raise EngineError(f"{container.name}: {UNREADABLE[container.log_driver]}")
    response = connection.request(
        engine,
        f"/containers/{container.id}/logs",
        stream=True,
        idle=True,
        stdout=1,
        stderr=1,
        timestamps=1,
        follow=int(follow),
        since=seconds(since_ns),
        until=seconds(until_ns),
    )
    pieces = _terminal(connection.chunks(response)) if container.tty else _frames(connection.chunks(response))
    return Stream(response, _lines(pieces, engine.redactor))


def _frames(chunks: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """(stream, payload) of the engine's multiplexed form: a byte for the stream, three zeros, the length, the payload."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        at = 0
        while len(held) - at >= 8:
            size = int.from_bytes(held[at + 4 : at + 8], "big")
            if len(held) - at - 8 < size:
                break
            payload = bytes(held[at + 8 : at + 8 + size])
            if held[at] == 3:
                raise EngineError(
                    f"the engine broke off a log: {' '.join(payload.decode('utf-8', 'replace').split())[:200]}"
                )
            yield "stderr" if held[at] == 2 else "stdout", payload
            at += 8 + size
        del held[:at]


def _terminal(chunks: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """The lines of a container with a terminal: one stream, no frames, CR LF."""
    held = b""
    for chunk in chunks:
        *whole, held = (held + chunk).split(b"\n")
        for line in whole:
            yield "stdout", _whole(line).removesuffix(b"\r") + b"\n"
        if len(held) >= LONGEST:
            piece, held = _cut(held)
            yield "stdout", _whole(piece)
    if held:
        yield "stdout", _whole(held)


def _cut(line: bytes) -> tuple[bytes, bytes]:
    """A terminal's line that has no end yet, cut where the engine repeats the stamp; the rest begins with it as a line does."""
    stamp, blank, _ = line.partition(b" ")
    again = stamp + blank
    period = len(again) + SPLIT
    at = (len(line) // period - 1) * period
    rest = line[at:]
    return line[:at], rest if rest.startswith(again) else again + rest


def _whole(line: bytes) -> bytes:
    """A terminal's line without the stamps that the engine repeats inside, before each further 16 KiB."""
    stamp, blank, rest = line.partition(b" ")
    again = stamp + blank
    if len(rest) <= SPLIT or not rest.startswith(again, SPLIT):
        return line
    pieces, at = [again, rest[:SPLIT]], SPLIT
    while rest.startswith(again, at):
        at += len(again)
        pieces.append(rest[at : at + SPLIT])
        at += SPLIT
    return b"".join([*pieces, rest[at:]])


def _lines(pieces: Iterator[tuple[str, bytes]], redactor: Redactor) -> Generator[Line]:
    """Frames to lines: a piece of 16 KiB without line break goes on in the next one of its stream with its stamp."""
    open_: dict[str, tuple[bytes, bytes]] = {}
    for stream, payload in pieces:
        stamp, _, rest = payload.partition(b" ")
        pending = open_.pop(stream, None)
        if pending is not None:
            if pending[0] == stamp:
                rest = pending[1] + rest
            else:
                yield _line(pending[0], stream, pending[1], redactor)
        if not rest.endswith(b"\n") and len(rest) >= SPLIT and len(rest) < LONGEST:
            open_[stream] = (stamp, rest)
        else:
            yield _line(stamp, stream, rest, redactor)
    for stream, (stamp, rest) in open_.items():
        yield _line(stamp, stream, rest, redactor)


def _line(stamp: bytes, stream: str, rest: bytes, redactor: Redactor) -> Line:
    text = rest.removesuffix(b"\n").decode("utf-8", "replace")
    written = stamp.decode("ascii", "replace")
    return Line(stamp_ns(written), written, stream, redactor.text(text))
