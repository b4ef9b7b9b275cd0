"""Makes skewed twins of a bundle: every stamp of one source, in every format of that source, rewritten by a known amount."""

import json
import re
import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

UTC = timezone.utc
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
ISO = re.compile(r"(?<![\w.:-])(\d{4}-\d\d-\d\d)([T ])(\d\d:\d\d:\d\d)(?:([.,])(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?")
SLASHED = re.compile(r"^(\d{4}/\d\d/\d\d) (\d\d:\d\d:\d\d)")
CLF = re.compile(r"\[(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d:\d\d:\d\d)(?:\.(\d{3}))?(?: ([+-]\d{4}))?\]")
EPOCH_S = re.compile(r"(?<![\d.])(1[5-9]\d{8})\.(\d{3,9})(?!\d)")
ENVELOPE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{4,9}Z ")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Skew:
    """What is done to a clock: offset (s), drift (ppm from the first stamp), a step of `step` s at `at` (epoch s), a zone (minutes) in which stamps are written, a coarser resolution (digits)."""

    offset: float = 0.0
    drift: float = 0.0
    at: float | None = None
    step: float = 0.0
    zone: int | None = None
    digits: int | None = None
    begin: float = 0.0

    def moved(self, nanoseconds: int) -> int:
        seconds = nanoseconds / 1e9
        more = self.offset + self.drift * 1e-6 * (seconds - self.begin)
        if self.at is not None and seconds >= self.at:
            more += self.step
        return nanoseconds + round(more * 1e9)


def _text(skew: Skew, local: datetime, fraction: str, zone: timezone, form: str, *, carries: bool):
    """(date and time in `form`, fraction, zone) of a moved stamp."""
    places = len(fraction)
    whole = (local.replace(tzinfo=zone) - EPOCH) // timedelta(seconds=1)
    moved = skew.moved(whole * 10**9 + (int(fraction.ljust(9, "0")) if fraction else 0))
    if skew.zone is not None:
        zone = timezone(timedelta(minutes=skew.zone))
    if skew.digits is not None:  # the format keeps its digits, the clock does not move them
        moved -= moved % 10 ** (9 - skew.digits)
    seconds, rest = divmod(moved, 10**9)
    return (
        (EPOCH + timedelta(seconds=seconds)).astimezone(zone).strftime(form),
        f"{rest:09d}"[:places],
        zone if carries else None,
    )


def _zone(text: str | None) -> timezone:
    if not text or text == "Z":
        return UTC
    sign = -1 if text[0] == "-" else 1
    digits = text[1:].replace(":", "")
    return timezone(sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:])))


def _written(zone: timezone, like: str) -> str:
    minutes = zone.utcoffset(None) // timedelta(minutes=1)
    if like == "Z" and not minutes:
        return "Z"
    colon = ":" if ":" in like or like == "Z" else ""
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{colon}{abs(minutes) % 60:02d}"


def rewrite(line: str, skew: Skew) -> str:
    """The line with each stamp moved."""

    def iso(m: re.Match) -> str:
        local = datetime.fromisoformat(f"{m[1]}T{m[3]}")
        text, fraction, zone = _text(
            skew, local, m[5] or "", _zone(m[6]), f"%Y-%m-%d{m[2]}%H:%M:%S", carries=bool(m[6])
        )
        return text + (m[4] + fraction if fraction else "") + (_written(zone, m[6]) if m[6] else "")

    def clf(m: re.Match) -> str:
        local = datetime.fromisoformat(f"{m[3]}-{MONTHS.index(m[2]) + 1:02d}-{m[1]}T{m[4]}")
        text, fraction, zone = _text(skew, local, m[5] or "", _zone(m[6]), "%d/%m/%Y:%H:%M:%S", carries=bool(m[6]))
        day, month, rest = text.split("/")
        return (
            f"[{day}/{MONTHS[int(month) - 1]}/{rest}"
            + (f".{fraction}" if fraction else "")
            + (" " + _written(zone, m[6]) if m[6] else "")
            + "]"
        )

    def slashed(m: re.Match) -> str:
        return _text(
            skew, datetime.strptime(f"{m[1]} {m[2]}", "%Y/%m/%d %H:%M:%S"), "", UTC, "%Y/%m/%d %H:%M:%S", carries=False
        )[0]

    def epoch(m: re.Match) -> str:
        moved = skew.moved(int(m[1]) * 10**9 + int(m[2].ljust(9, "0")))
        if skew.digits is not None:
            moved -= moved % 10 ** (9 - skew.digits)
        return f"{moved // 10**9}.{f'{moved % 10**9:09d}'[: len(m[2])]}"

    return EPOCH_S.sub(epoch, SLASHED.sub(slashed, CLF.sub(clf, ISO.sub(iso, line))))


def _inner(line: str, skew: Skew) -> str:
    """A gateway's line: what the process wrote moves, what the engine wrote around it stays."""
    if line.startswith('{"log":'):
        record = json.loads(line)
        record["log"] = rewrite(record["log"], skew)
        return json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    envelope = ENVELOPE.match(line)
    head = envelope[0] if envelope else ""
    return head + rewrite(line[len(head) :], skew)


def _engine(line: str, skew: Skew) -> str:
    """A line of docker events: both epochs."""
    line = re.sub(r'("timeNano":)(\d+)', lambda m: m[1] + str(skew.moved(int(m[2]))), line)
    return re.sub(r'("time":)(\d{10})(?!\d)', lambda m: m[1] + str(skew.moved(int(m[2]) * 10**9) // 10**9), line)


KINDS = {"gateway": ("gateway", _inner), "proxy": ("proxy", rewrite), "docker": ("docker.events", _engine)}


def twin(bundle: Path, folder: Path, source: str, skew: Skew) -> Path:
    """A copy of the bundle in which the clock of `source` (gateway, proxy or docker) is skewed."""
    shutil.copytree(bundle, folder, ignore=shutil.ignore_patterns("*.md", "expected.toml"))
    start, move = KINDS[source]
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name.startswith(start) and path.suffix in (".log", ".jsonl", ".json", ".txt"):
            lines = path.read_text(encoding="utf-8").split("\n")
            path.write_text("\n".join(move(line, skew) if line.strip() else line for line in lines), encoding="utf-8")
    return folder
