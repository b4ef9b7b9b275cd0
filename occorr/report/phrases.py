"""The weekly report's words: names of groups, weeks, rates and beats as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from occorr.report import words
from occorr.report.tables import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr.weekly import Week, Weekly

_SHOWN_WEEKS: Final = 53  # on the page and in Markdown's table fewer


def recent(w: Weekly) -> tuple[Week, ...]:
    """The weeks to show, up to the one that the report is about."""
    return w.weeks[: w.about + 1][-_SHOWN_WEEKS:] if w.last else ()


def share(week: Week, kind: str = "") -> str:
    """`161 of 168 h`."""
    covered = week.kinds.get(kind, 0.0) if kind else week.covered
    return f"{_hours(covered)} of {week.hours:.0f} h"


def _hours(hours: float) -> str:
    return f"{hours:.0f}" if hours >= 10 or hours == 0 else f"{hours:.1f}" if hours >= 0.1 else "under 0.1"


def ratio(row: Mapping[str, Any], against: str) -> str:
    """`× 2.3 (1.5 to 3.6)`; the rate now by the rate before, with its interval."""
    if row[f"{against}_change"] == "no data":
        return ""
    low, high, ratio = row[f"{against}_low"], row[f"{against}_high"], row[f"{against}_ratio"]
    if low is None:
        return "none then, none now"
    if ratio is None:
        return f"none before (at least × {_digits(low)})" if low >= 1 else "none before"
    if ratio == 0:
        return f"none now (at most × {_digits(high)})"
    return f"× {_digits(ratio)} ({_digits(low)} to {_digits(high)})"


def rated(row: Mapping[str, Any], against: str) -> str:
    """The ratio in a sentence."""
    text = ratio(row, against)
    return f"rate {text}" if text.startswith("×") else text


def _digits(value: float | None) -> str:
    if value is None:
        return "∞"
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def named(level: str, row: Mapping[str, Any]) -> str:
    """A group of a level, as people call it."""
    if level == "total":
        return "All closes"
    if level == "cause":
        return words.title(row["cause"])
    if level == "code":
        return _code(row)
    if level == "service":
        return (
            "/".join(part for part in (shown(row["project"]), shown(row["service"])) if part) or "no project or service"
        )
    return str(row["callout"])


def _code(row: Mapping[str, Any]) -> str:
    if row["code"] == "none":
        return "no code seen"
    return (
        f"{shown(row['code'])} seen by {row['code_observer']}"
        if not str(row["code"]).startswith("HTTP")
        else f"{shown(row['code'])} at the proxy"
    )


def family(w: Weekly, level: str, row: Mapping[str, Any]) -> str:
    """The family of a group, where it has one: its colour."""
    if level == "cause":
        return str(row["family"])
    return next((c.family for c in w.callouts if level == "callout" and c.name == row["callout"]), "")


def beat_told(beat: Mapping[str, Any]) -> str:
    """`every 24 h at about 03:00 (Europe/Berlin), 13 of 14 times`."""
    seconds = int(beat["seconds"])
    off, hours = min(seconds % 3600, 3600 - seconds % 3600), round(seconds / 3600)
    length = (
        (f"{hours // 24} days" if hours % 24 == 0 and hours > 24 else f"{hours} h")
        if off <= 60 and hours
        else words.length(seconds * 10**9)
    )
    minute = round(float(beat["at"]) / 60) % 1440
    when = f" at about {minute // 60:02d}:{minute % 60:02d} ({beat['clock']})" if hours % 24 == 0 and off <= 60 else ""
    return f"every {length}{when}, {beat['visits']} of {beat['beats']} times"
