"""What `occorr diff` says, in sentences, Markdown and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from occorr import diff as diffs, schema
from occorr.report import words
from occorr.report.document import environment
from occorr.visible import unredacted

if TYPE_CHECKING:
    from occorr.diff import Diff, Row, Side

VERDICTS: Final = {
    "better": "better",
    "worse": "worse",
    "fewer": "fewer",
    "more": "more",
    "same": "not distinguishable",
    "no data": "no data",
}


def sentence(row: Row, before: Side, after: Side) -> str:
    """The verdict on one cause, as a person would say it."""
    counts = (
        f"{_many(row.before, row.before_events)} in {hours(before.hours)} before, {_many(row.after, row.after_events)}"
        f" in {hours(after.hours)} after"
    )
    if row.verdict == "no data":
        return f"{counts}; without hours on both sides nothing can be said"
    if row.verdict == "same":
        if not row.before and not row.after:
            return "none on either side"
        told = f"{counts}; given the coverage that is not distinguishable from chance"
        if row.enough_hours is not None and row.enough_hours > after.hours:
            told += f": it takes about {hours(row.enough_hours)} without one to tell"
        return told
    if row.after == 0:
        return f"{counts}; the rate is at most {number(row.high)} of what it was"
    if row.before == 0:
        return f"{counts}; there were none before"
    return f"{counts}; the rate is {number(row.ratio)} of what it was ({span(row)})"


def headline(found: Diff) -> str:
    """The answer in one sentence."""
    whole = next(row for row in found.rows if row.cause == diffs.ALL)
    better, worse = (
        [row for row in found.rows if row.verdict == v and row.cause != diffs.ALL and row.family != "client"]
        for v in ("better", "worse")
    )
    if whole.verdict == "no data":
        return "Nothing can be said: one side has no hours that logs cover."
    parts = []
    if better:
        parts.append(f"better: {', '.join(words.title(row.cause).lower() for row in better)}")
    if worse:
        parts.append(f"worse: {', '.join(words.title(row.cause).lower() for row in worse)}")
    if not parts:
        return (
            f"Not distinguishable from chance, given {hours(found.before.hours)} before and {hours(found.after.hours)}"
            " after."
            if whole.verdict == "same"
            else f"All in all {VERDICTS[whole.verdict]}; no single cause stands out."
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def markdown(found: Diff) -> str:
    """The comparison for a ticket."""
    return (
        environment()
        .get_template("diff/diff.md.j2")
        .render(
            d=found,
            headline=headline(found),
            sentence=lambda row: sentence(row, found.before, found.after),
            hours=hours,
            span=span,
            rate=rate,
            number=number,
            VERDICTS=VERDICTS,
            ALL=diffs.ALL,
            title=words.title,
            banners=unredacted(redacted=found.redacted),
        )
    )


def json_text(found: Diff) -> str:
    """The comparison for a program."""
    document = {
        "schema_version": schema.VERSION,
        "redacted": found.redacted,
        "headline": headline(found),
        "before": asdict(found.before),
        "after": asdict(found.after),
        "rows": [asdict(row) | {"sentence": sentence(row, found.before, found.after)} for row in found.rows],
        "hints": list(found.hints),
    }
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"


def hours(value: float) -> str:
    """`36 h`, `12 min`, `40 s`."""
    if value >= 48:
        return f"{value / 24:.3g} d"
    if value >= 2:
        return f"{value:.3g} h"
    return f"{value * 60:.3g} min" if value * 60 >= 2 else f"{value * 3600:.3g} s"


def number(value: float | None) -> str:
    """Two digits, or ∞."""
    return "∞" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def span(row: Row) -> str:
    """The interval of the ratio: `0.1 to 0.6`."""
    return "" if row.low is None else f"{number(row.low)} to {number(row.high)}"


def rate(three: tuple[float, float, float] | None) -> str:
    """`1.2 (0.8 to 1.7)` closes an hour."""
    return "" if three is None else f"{number(three[0])} ({number(three[1])} to {number(three[2])})"


def _many(closes: int, events: int) -> str:
    if not closes:
        return "none"
    return words.count(closes, "close") + (f" in {words.count(events, 'event')}" if events != closes else "")
