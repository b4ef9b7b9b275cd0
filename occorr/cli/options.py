"""Options that several commands share, and what a person typed turned into values."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from occorr.cli.base import note, quiet
from occorr.cli.defaults import untyped
from occorr.errors import OccorrError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from occorr.analysis import Analysis
    from occorr.history import History
    from occorr.read import Blob

MANY, LARGE = 100, 20_000_000  # inputs, and bytes of them, that take more than some seconds to read
_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}


LONGEST: Final = 36_500 * _UNITS["d"]
YEARS: Final = 1971, 2200


class Form(StrEnum):
    """Forms of the answer on standard output."""

    table = "table"
    json = "json"
    ndjson = "ndjson"
    md = "md"


Directory = Annotated[Path, typer.Argument(metavar="DIR", help="a result directory that analyze -o wrote")]
Inputs = Annotated[
    list[str], typer.Argument(metavar="INPUT…", help="log files, directories, patterns, or - for standard input")
]
Since = Annotated[str | None, typer.Option(help="leave out closes before: ISO 8601, or '2 hours ago'")]
Until = Annotated[str | None, typer.Option(help="leave out closes after")]
Tz = Annotated[
    str | None, typer.Option(envvar="OCCORR_TZ", help="IANA zone of stamps that carry none, as Europe/Berlin")
]
Offset = Annotated[
    list[str] | None,
    typer.Option(metavar="CLOCK=±DUR", help="override a clock: gateway=+2s says that the gateway's runs 2 s ahead"),
]
Clock = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SOURCE=NAME",
        help="say which clock wrote the stamps of an input: 'proxy.*=nginx' (a file name or a pattern)",
    ),
]
Project = Annotated[str | None, typer.Option(help="only closes of this Compose project")]
AllLines = Annotated[
    bool, typer.Option("--all-lines", help="keep every line in the timeline, not only those that can matter")
]
RedactKey = Annotated[
    Path | None,
    typer.Option(
        envvar="OCCORR_REDACT_KEY", metavar="FILE", help="key of the fingerprints, to compare them across runs"
    ),
]
NoRedact = Annotated[bool, typer.Option("--no-redact", help="leave secrets in the output (a banner says so)")]
Anonymize = Annotated[bool, typer.Option("--anonymize", help="replace addresses and host names by fingerprints too")]
Parsers = Annotated[
    Path | None,
    typer.Option(envvar="OCCORR_PARSERS", metavar="DIR", help="a folder with definitions of your own formats"),
]

Verdicts = Annotated[
    Path | None,
    typer.Option(
        "--verdicts",
        metavar="FILE",
        help="corrections by people; a verdicts.toml in a given directory counts without this",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How logs are read, as a person typed it; every command that reads logs hands on what it has of these options."""

    tz: str | None = None
    since: str | None = None
    until: str | None = None
    offset: Sequence[str] | None = None
    clock: Sequence[str] | None = None
    project: str | None = None
    all_lines: bool = False
    redact_key: Path | None = None
    no_redact: bool = False
    anonymize: bool = False
    parsers: Path | None = None
    verdicts: Path | None = None

    def checked(self) -> bytes | None:
        """The key of the fingerprints; says what is wrong with what holds for results too, which are not read again."""
        zone_or_error(self.tz)
        if self.parsers is not None and not self.parsers.is_dir():
            raise OccorrError(
                f"--parsers {self.parsers}: no such directory; give the folder that holds your *.toml definitions"
            )
        return redaction_key(self.redact_key)

    def not_for(self, directory: Path) -> None:
        """Says which options that a person typed come too late for a result: the logs would have to be read with them."""
        late = {
            "--since": self.since,
            "--until": self.until,
            "--offset": self.offset,
            "--clock": self.clock,
            "--project": self.project,
        }
        if named := " and ".join(option for option, value in late.items() if value and option not in untyped.get()):
            raise OccorrError(f"{directory} is judged already; give {named} to analyze, or give the logs instead of it")


def read_inputs(inputs: Sequence[str], how: Reading) -> Analysis:
    """Analyses the inputs with what the options say; an option that cannot be understood is an `OccorrError`."""
    from occorr import analysis  # noqa: PLC0415

    key = how.checked()
    since_ns, until_ns = moment("--since", how.since, how.tz), moment("--until", how.until, how.tz)
    if since_ns is not None and until_ns is not None and since_ns >= until_ns:
        raise OccorrError(f"--since {how.since!r} is not before --until {how.until!r}: no close lies between them")
    result = analysis.analyze(
        list(inputs),
        tz=how.tz,
        offsets=dict(_offset(o) for o in how.offset or ()),
        clocks=dict(_clock(c) for c in how.clock or ()),
        since_ns=since_ns,
        until_ns=until_ns,
        project=how.project,
        all_lines=how.all_lines,
        redact_key=key,
        redact_secrets=not how.no_redact,
        parsers=how.parsers,
        watching=_watching,
    )
    if how.project is not None and result.closes.is_empty():
        _named(how.project, result)
    result = corrected(result, inputs, how.verdicts)
    return analysis.anonymized(result, key) if how.anonymize else result


def _named(project: str, result: Analysis) -> None:
    """Says that no input names a project; one that is named may have no close."""
    stated = result.facts.filter(result.facts["key"] == "compose.project").get_column("value")
    known = {*result.timeline.get_column("compose_project").drop_nulls(), *stated.drop_nulls()}
    if project not in known:
        raise OccorrError(
            f"--project {project}: no input names it; {nearest(project, known, few='' if known else 'none of them names any')}"
        )


def _watching(inputs: Sequence[Blob]) -> Iterable[Blob]:
    """The inputs one by one; people at a terminal see how far it is where that takes a while."""
    slow = len(inputs) > MANY or sum(len(i.data) for i in inputs) > LARGE
    if not slow or quiet.get() or not sys.stderr.isatty():
        return inputs
    from occorr.terminal.base import watched  # noqa: PLC0415

    return watched(inputs)


def stored(directory: Path, *, redact_key: Path | None = None, anonymize: bool = False) -> Analysis:
    """What a result directory holds, on demand without addresses and host names."""
    from occorr import analysis, results  # noqa: PLC0415

    result = results.load(directory)
    return analysis.anonymized(result, redaction_key(redact_key)) if anonymize else result


def corrected(result: Analysis, inputs: Sequence[str], verdicts: Path | None) -> Analysis:
    """The result with what people say in `verdicts.toml`: the file that was given, and those in the directories."""
    from occorr import corrections  # noqa: PLC0415

    files = [verdicts] if verdicts is not None else []
    files += [p for p in (Path(i) / corrections.NAME for i in inputs if i != "-") if p.is_file()]
    known = [c for file in files for c in corrections.load(file)]
    for one in corrections.idle(result.closes, known):
        note(f"{one.place}: no close is meant by this correction")
    return corrections.apply(result, known)


def redaction_key(file: Path | None) -> bytes | None:
    """What --redact-key names; an empty file would protect nothing."""
    if file is None:
        return None
    try:
        key = file.read_bytes()
    except OSError as error:
        raise OccorrError(f"--redact-key {file}: {error.strerror}; give a file that holds the key") from error
    if not key.strip():
        raise OccorrError(
            f"--redact-key {file}: the file is empty; give one that holds the key, as made by: head -c 32 /dev/urandom"
            f" > {file}"
        )
    return key


def duration_ns(option: str, text: str) -> int:
    """`90s`, `1h30m` in nanoseconds."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|min|m|h|d)", text.replace(" ", ""))
    if not parts or "".join(n + u for n, u in parts) != text.replace(" ", ""):
        raise OccorrError(f"{option} {text!r} was not understood; give a duration as 30s, 10m or 1h30m")
    return _bounded(option, text, sum(round(float(number) * _UNITS[unit]) for number, unit in parts))


def _bounded(option: str, text: str, ns: int) -> int:
    """A duration that clocks and calendars can still count with."""
    if abs(ns) > LONGEST:
        raise OccorrError(f"{option} {text!r} is too long; give a duration of at most {LONGEST // _UNITS['d']} days")
    return ns


def past(inputs: Sequence[str], how: Reading) -> History:
    """Many results as one; `pasts` says how."""
    return pasts([inputs], how)[0]


def pasts(sides: Sequence[Sequence[str]], how: Reading) -> list[History]:
    """Each side's results as one: result directories, folders that hold some, and logs, which are read.

    With `anonymize` fingerprints keep joins between all the results.

    Args:
        sides: paths and patterns of each side.
        how: how the logs among them are read.
    """
    from occorr import corrections, history, results  # noqa: PLC0415

    key = how.checked()
    as_found = replace(how, anonymize=False, verdicts=None)
    parts: list[list[Path | Analysis]] = []
    for inputs in sides:
        directories, logs = _results_and_logs(inputs)
        if directories:
            how.not_for(directories[0])
        own = [read_inputs(logs, as_found)] if logs else []
        parts.append([*directories, *own])
    if not how.anonymize and how.verdicts is None:
        return [history.gather(side) for side in parts]
    loaded = [[results.load(part) if isinstance(part, Path) else part for part in side] for side in parts]
    known = corrections.load(how.verdicts) if how.verdicts else ()
    # A correction may be about any of the results.
    for one in set(known).intersection(*(corrections.idle(part.closes, known) for side in loaded for part in side)):
        note(f"{one.place}: no close is meant by this correction")
    loaded = [[corrections.apply(part, known) for part in side] for side in loaded]
    return [history.gather(side) for side in (_anonymous(loaded, key) if how.anonymize else loaded)]


def _results_and_logs(inputs: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The result directories that inputs name or hold, and the inputs that are none."""
    from occorr import results  # noqa: PLC0415

    directories, logs = [], []
    for given in (path for text in inputs for path in sorted(glob(text)) or [text]):  # noqa: PTH207 - a pattern may be absolute
        found = results.within(Path(given))
        directories += found
        if not found:
            logs.append(given)
        elif len(found) < sum(1 for _ in Path(given).iterdir()) and found != [Path(given)]:
            note(f"{given}: its {len(found)} results are counted; what else it holds is not read")
    return directories, logs


def _anonymous(sides: Sequence[Sequence[Analysis]], key: bytes | None) -> list[list[Analysis]]:
    """All results under one key, by default the digest of what they were made of: the same name gets the same fingerprint in each."""
    from hashlib import sha256  # noqa: PLC0415

    from occorr import analysis  # noqa: PLC0415

    made_of = {str(digest) for side in sides for part in side for digest in part.sources["sha256"].drop_nulls()}
    one = key or sha256("".join(sorted(made_of)).encode()).digest()
    return [[analysis.anonymized(part, one) for part in side] for side in sides]


def zone_or_error(tz: str | None) -> None:
    """Says what is wrong with a zone's name."""
    if tz is None:
        return
    from zoneinfo import ZoneInfo, available_timezones  # noqa: PLC0415

    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError) as error:
        raise OccorrError(
            f"--tz {tz}: no such time zone;"
            f" {nearest(tz, available_timezones(), few='give an IANA name, as Europe/Berlin')}"
        ) from error


def moment(option: str, text: str | None, tz: str | None) -> int | None:
    """Nanoseconds of a moment that a person typed; says on standard error how it was understood. `1h` is an hour ago."""
    if text is None:
        return None
    if re.fullmatch(r"(?:\d+(?:\.\d+)?(?:ms|s|min|m|h|d) ?)+", text):
        at = time.time_ns() - duration_ns(option, text)
        note(f"{option} {text!r} understood as {datetime.fromtimestamp(at / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC")
        return at
    zone = tz or "UTC"
    found: datetime | None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        import dateparser  # noqa: PLC0415 - costs a quarter of a second

        found = dateparser.parse(
            text,
            settings={
                "TIMEZONE": zone,
                "RETURN_AS_TIMEZONE_AWARE": True,
                "PREFER_DATES_FROM": "past",
                "RELATIVE_BASE": datetime.now(UTC).replace(tzinfo=None),
            },
        )
    if found is None:
        raise OccorrError(
            f"{option} {text!r} was not understood; give ISO 8601 (2026-11-21T05:47:00Z) or words such as '2 hours ago'"
        )
    if found.tzinfo is None:
        from zoneinfo import ZoneInfo  # noqa: PLC0415

        found = found.replace(tzinfo=ZoneInfo(zone))
    if not YEARS[0] <= found.year < YEARS[1]:
        raise OccorrError(
            f"{option} {text!r} is no time that logs are of; give one of the years {YEARS[0]} to {YEARS[1]}"
        )
    note(f"{option} {text!r} understood as {found.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
    return int(found.timestamp() * 10**6) * 1000


def _offset(text: str) -> tuple[str, tuple[int, int]]:
    """`gateway=+2.5s` or `nginx=-350ms±5ms` as (clock, (offset ns, half-width ns))."""
    found = re.fullmatch(
        r"([\w:.-]+)=([+-]?)(\d+(?:\.\d+)?)(ns|us|µs|ms|s|min|m|h|d)(?:(?:±|\+-)(\d+(?:\.\d+)?)(ns|us|µs|ms|s))?", text
    )
    if not found:
        raise OccorrError(
            f"--offset {text!r} was not understood; give CLOCK=±DURATION, as gateway=+2s or nginx=-350ms±5ms"
        )
    clock, sign, number, unit, error, error_unit = found.groups()
    value = round(float(number) * _UNITS[unit]) * (-1 if sign == "-" else 1)
    bound = round(float(error) * _UNITS[error_unit]) if error else 10**6
    return clock, (_bounded("--offset", text, value), _bounded("--offset", text, bound))


def _clock(text: str) -> tuple[str, str]:
    """`proxy.access.log=nginx` as (input or pattern, clock)."""
    source, _, name = text.rpartition("=")
    if not source or not re.fullmatch(r"[\w:.-]+", name):
        raise OccorrError(
            f"--clock {text!r} was not understood; give SOURCE=NAME, as proxy.access.log=nginx or 'gateway*=gateway'"
        )
    return source, name
