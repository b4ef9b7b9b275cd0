"""What a definition says, once it is read: formats with their dialects and events, envelopes, samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ZONES: Final = ("inline", "UTC", "naive")
MARKS: Final = {"event": "at_event", "start": "at_start", "end": "at_end", "write": "at_write", "unknown": "unknown"}
UNITS: Final = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "count": 1, "go": 1}


@dataclass(frozen=True, slots=True, eq=False)
class Time:
    """How a stamp is read: the captured group, its strptime core, its zone and which moment it marks.

    `other` names a column that holds the stamp of the connection's other end in the same form; the two give its
    duration.
    """

    column: str = "time"
    format: str = "%Y-%m-%dT%H:%M:%S"
    zone: str = "inline"
    marks: str = "event"
    other: str = ""
    resolution_ns: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Extract:
    r"""What a dialect or event takes out of a text and how it tidies it.

    `json_from` names a column captured by `regex` that holds the JSON; `loose` mends JSON with `\xHH` escapes or
    zero-padded numbers before it is read. `join` puts columns together, `"{_host}:{_port}"`; null where one is null.
    """

    regex: str = ""
    json: Mapping[str, str] = field(default_factory=dict)
    json_from: str = ""
    loose: bool = False
    kv: Mapping[str, str] = field(default_factory=dict)
    kv_from: str = "_tail"
    split: Mapping[str, str] = field(default_factory=dict)
    join: Mapping[str, str] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)
    map: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    null: tuple[str, ...] = ()
    once: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    number: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """One way in which a format is written.

    `line` tells whether a line is of this dialect; `json` or `regex` cut it. `time` is None for lines without a stamp.
    """

    definition: str
    name: str
    line: str
    extract: Extract
    time: Time | None
    event: str
    body: str
    rank: int

    @property
    def parser(self) -> str:
        """The name under which EVENTS and SOURCES show it."""
        return f"{self.definition}/{self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """What a body says: the literals that select it and what is taken from it."""

    name: str
    select: tuple[str, ...]
    dialects: tuple[str, ...]
    column: str
    extract: Extract
    context: bool
    speaker: str  # regex of the subsystems that may say it, of lines that name one; empty where any may


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A line and what it must become; `dialect` is empty for a line that the definition must refuse.

    `version` is that of the program that wrote it, where it is an older one than those that wrote the others.
    """

    path: str
    line_number: int
    line: str
    dialect: str
    event: str
    expect: Mapping[str, Any]
    version: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A format: one file in `parsers/`.

    `ambiguous_with` names formats whose lines look the same; `called` are the words in images, paths and unit names
    that tell whose lines they are.
    """

    name: str
    title: str
    source_kind: str
    path: str
    ambiguous_with: tuple[str, ...]
    called: tuple[str, ...]
    keep_all: bool
    dialects: tuple[Dialect, ...]
    events: tuple[Event, ...]
    samples: tuple[Sample, ...]
    record_start: str
    record_continue: str

    @property
    def selects(self) -> tuple[str, ...]:
        """The literals that make a line matter; an event that is only `context` makes none matter."""
        return tuple(sorted({literal for event in self.events if not event.context for literal in event.select}))


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """A wrapper around lines of any format, such as the stamps of `docker logs -t`.

    It is taken where at least `min_share` of at least `min_lines` lines fit; where several fit as many, the lowest
    `rank` wins. One that is `doubtful`, since its beginning may be the line's own, is taken only where what is inside
    is understood better without it. A line that does not match `whole` and holds at least `split_at` bytes goes on in
    the next line of the same stream.
    """

    name: str
    title: str
    path: str
    line: str
    extract: Extract
    time: Time | None
    clock: str
    min_share: float
    min_lines: int
    rank: int
    whole: str
    split_at: int
    doubtful: bool
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """All definitions that are known, by name.

    `declared` holds the formats that a proxy's configuration among the inputs declares: name of a log (or `*`) →
    dialects that the configuration has it written in.
    """

    formats: Mapping[str, Definition]
    envelopes: Mapping[str, Envelope]
    declared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """Every dialect, the most specific first."""
        return tuple(sorted((d for f in self.formats.values() for d in f.dialects), key=lambda d: (d.rank, d.parser)))

    @property
    def line(self) -> str:
        """What a line of any dialect matches: one pattern, which polars keeps, where to make so many anew costs more than all else."""
        return "|".join(f"(?:{d.line})" for d in self.dialects)

    def rivals(self, dialect: Dialect) -> tuple[Dialect, ...]:
        """The dialects of the formats that look like this one's, and itself; empty where none does or the stamp marks no end."""
        if dialect.time is None or dialect.time.marks not in ("start", "end"):
            return ()
        others = self.formats[dialect.definition].ambiguous_with
        found = tuple(d for name in others for d in self.formats[name].dialects if d.event == dialect.event)
        return (dialect, *found) if found else ()
