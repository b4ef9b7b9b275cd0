"""The weekly report: a page, Markdown for a ticket, JSON, and the counts as one table in CSV or Parquet."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import rates, schema
from occorr.report import tabular, words
from occorr.report.document import environment
from occorr.report.tables import shown
from occorr.visible import NOT_REDACTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr.weekly import Week, Weekly

_SHOWN_WEEKS: Final = 53  # on the page and in Markdown's table fewer
_PANELS: Final = 12
_ROWS: Final = 60  # of the mix in Markdown
_WIDE, _HIGH, _TOP, _GAP = 240.0, 46.0, 9.0, 1.5  # of a small picture, px
_SAID: Final = {"more": "more", "fewer": "fewer", "same": "no clear change", "no data": "nothing to compare with"}
_LEVELS: Final = ("total", "callout", "cause", "code", "service")


@dataclass(frozen=True, slots=True)
class Bar:
    """One week of a small picture, in px."""

    x: float
    y: float
    width: float
    height: float
    kind: str  # whole, partial, none
    told: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A small picture: one group over the weeks, the last week's count with its interval, and the mean of the trailing four."""

    name: str
    title: str
    family: str
    bars: tuple[Bar, ...]
    top: int
    row: Mapping[str, Any]
    whisker: tuple[float, float] | None
    mean: float | None


def html(w: Weekly) -> str:
    """weekly.html: one page without requests."""
    from occorr.report import shell  # noqa: PLC0415 - brings plotly, which only pages need

    return shell.page(
        "weekly/page.html.j2",
        styles=("weekly/style.css",),
        scripts=("weekly/page.js",),
        redacted=w.redacted,
        **_context(w),
        panels={level: _panels(w, level) for level in ("callout", "cause", "code", "service")},
        hours=_hour_bars(w),
        size=(_WIDE, _HIGH + _TOP),
    )


def markdown(w: Weekly) -> str:
    """weekly.md: for a ticket."""
    return (
        environment().get_template("weekly/page.md.j2").render(**_context(w), banner="" if w.redacted else NOT_REDACTED)
    )


def json_text(w: Weekly) -> str:
    """weekly.json: all of it."""
    document = {
        "schema_version": schema.VERSION,
        "zone": w.zone,
        "redacted": w.redacted,
        "totals": dict(w.totals),
        "weeks": [asdict(week) | {"partial": week.partial} for week in w.weeks],
        "levels": {level: tabular.rows(frame) for level, frame in w.levels.items()},
        "buckets": tabular.rows(w.buckets),
        "keywords": tabular.rows(w.keywords),
        "offenders": tabular.rows(w.offenders),
        "by_hour": list(w.by_hour),
        "beats": [dict(beat) for beat in w.beats],
        "callouts": [asdict(c) for c in w.callouts],
    }
    return json.dumps(document, ensure_ascii=True, sort_keys=True, indent=1, allow_nan=False) + "\n"


def csv(w: Weekly) -> str:
    """weekly.csv: `table` for a spreadsheet."""
    return tabular.csv(table(w))


def parquet(w: Weekly) -> bytes:
    """weekly.parquet: `table` for a program."""
    return tabular.parquet(table(w))


def table(w: Weekly) -> pl.DataFrame:
    """One row a week, code, observer, cause, project and service, and one for each such group of a bucket; every close is in exactly one row."""
    about = pl.DataFrame(
        [{"week": week.name, "partial": week.partial, "hours_in_week": week.hours} for week in w.weeks],
        schema={"week": pl.String, "partial": pl.Boolean, "hours_in_week": pl.Float64},
    )
    inside = (
        w.levels["mix"]
        .join(about, on="week", how="left", maintain_order="left")
        .with_columns(zone=pl.lit(w.zone), bucket=pl.lit("week"))
    )
    outside = w.buckets.with_columns(
        pl.col("bucket").alias("week"),
        zone=pl.lit(w.zone),
        bucket=pl.when(pl.col("bucket").str.contains("/")).then(pl.lit("straddles")).otherwise(pl.lit("no week")),
    )
    order = ["week", "bucket", "zone", "partial", "hours_in_week", "hours"]
    return pl.concat([inside, outside], how="diagonal_relaxed").select(*order, pl.exclude(order))


def _context(w: Weekly) -> dict[str, Any]:
    last = w.last
    now = {level: frame.filter(pl.col("week") == (last.name if last else "")) for level, frame in w.levels.items()}
    mix = (
        now["mix"]
        .filter(pl.col("closes") > 0)
        .sort(
            "closes",
            "code",
            "code_observer",
            "cause",
            "project",
            "service",
            descending=[True, *[False] * 5],
            nulls_last=True,
        )
    )
    recent = _recent(w)
    by_word: dict[str, list[dict[str, Any]]] = {}
    for row in w.keywords.iter_rows(named=True):
        by_word.setdefault(row["group"], []).append(row)
    return {
        "w": w,
        "last": last,
        "total": next(now["total"].iter_rows(named=True), None),
        "changes": _changes(w, now),
        "called": [
            (call, next(now["callout"].filter(pl.col("callout") == call.name).iter_rows(named=True), None))
            for call in w.callouts
        ],
        "mix": mix.to_dicts(),
        "mix_rows": _ROWS,
        "recent": recent,
        "begun": _begun(w),
        "matrix": _matrix(w, recent),
        "words": by_word,
        "offenders": w.offenders.to_dicts(),
        "beats": [dict(beat) | {"told": _beat(beat)} for beat in w.beats],
        "buckets": (
            w.buckets.group_by("bucket")
            .agg(pl.col("closes").sum(), causes=pl.col("cause").unique().sort())
            .sort("bucket")
            .to_dicts()
        ),
        "kinds": sorted({kind for week in w.weeks for kind in week.kinds}),
        "lacking": _lacking(w),
        "share": _share,
        "ratio": _ratio,
        "said": _SAID,
        "busiest": _busiest(w),
    }


def _recent(w: Weekly) -> tuple[Week, ...]:
    """The weeks to show, up to the one that the report is about."""
    return w.weeks[: w.weeks.index(w.last) + 1][-_SHOWN_WEEKS:] if w.last else ()


def _begun(w: Weekly) -> list[tuple[Week, int]]:
    """Weeks after the one that the report is about, with their closes so far."""
    counts = dict(w.levels["total"].select("week", "closes").rows())
    return [(week, int(counts.get(week.name, 0))) for week in w.weeks[w.weeks.index(w.last) + 1 :]] if w.last else []


def _share(week: Week, kind: str = "") -> str:
    """`161 of 168 h`."""
    covered = week.kinds.get(kind, 0.0) if kind else week.covered
    return f"{_hours(covered)} of {week.hours:.0f} h"


def _hours(hours: float) -> str:
    return f"{hours:.0f}" if hours >= 10 or hours == 0 else f"{hours:.1f}" if hours >= 0.1 else "under 0.1"


def _ratio(row: Mapping[str, Any], against: str) -> str:
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


def _rated(row: Mapping[str, Any], against: str) -> str:
    """The ratio in a sentence."""
    text = _ratio(row, against)
    return f"rate {text}" if text.startswith("×") else text


def _digits(value: float | None) -> str:
    if value is None:
        return "∞"
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _changes(w: Weekly, now: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """What moved beyond noise in the last week, once for each group, the total first."""
    found = []
    for level in _LEVELS:
        for row in now[level].iter_rows(named=True):
            against = next((a for a in ("previous", "trailing") if row[f"{a}_change"] in ("more", "fewer")), None)
            if against:
                found.append(
                    {
                        "level": level,
                        "name": _name(level, row),
                        "against": "the week before" if against == "previous" else "the four weeks before",
                        "which": against,
                        "direction": row[f"{against}_change"],
                        "row": row,
                        "ratio": _rated(row, against),
                        "family": _family(w, level, row),
                    }
                )
    order = {level: i for i, level in enumerate(_LEVELS)}
    return sorted(found, key=lambda c: (order[c["level"]], -abs(c["row"]["closes"] - c["row"][c["which"]]), c["name"]))


def _name(level: str, row: Mapping[str, Any]) -> str:
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


def _family(w: Weekly, level: str, row: Mapping[str, Any]) -> str:
    if level == "cause":
        return str(row["family"])
    return next((c.family for c in w.callouts if level == "callout" and c.name == row["callout"]), "")


def _matrix(w: Weekly, recent: tuple[Week, ...]) -> tuple[list[str], dict[str, dict[str, int]]]:
    """Closes by cause (most first) and week."""
    frame = w.levels["cause"].filter(pl.col("week").is_in([week.name for week in recent]))
    causes = (
        frame.group_by("cause")
        .agg(pl.col("closes").sum())
        .filter(pl.col("closes") > 0)
        .sort("closes", "cause", descending=[True, False])["cause"]
        .to_list()
    )
    cells: dict[str, dict[str, int]] = {}
    for week, cause, closes in frame.select("week", "cause", "closes").iter_rows():
        cells.setdefault(week, {})[cause] = closes
    return causes, cells


def _lacking(w: Weekly) -> list[str]:
    """Kinds of sources that the weeks before had and the last lacks, or the reverse: their closes compare badly."""
    shown_weeks = _recent(w)
    if len(shown_weeks) < 2:
        return []
    last, before = shown_weeks[-1], shown_weeks[-2]
    notes = []
    for kind in sorted({*last.kinds, *before.kinds} - {"other"}):
        now, then = last.kinds.get(kind, 0.0), before.kinds.get(kind, 0.0)
        if (now == 0) != (then == 0) and (last.covered and before.covered):
            notes.append(
                f"no {kind} lines in {(last if now == 0 else before).name}, though"
                f" {(before if now == 0 else last).name} has some: what only they show cannot be compared"
            )
    return notes


def _busiest(w: Weekly) -> tuple[int, int] | None:
    """The hour with most closes of the last week and their number."""
    most = max(w.by_hour, default=0)
    return (w.by_hour.index(most), most) if most else None


def _beat(beat: Mapping[str, Any]) -> str:
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


def _panels(w: Weekly, level: str) -> list[Panel]:
    """Small pictures of a level, most closes first, ordinary ones last."""
    recent = _recent(w)
    last = w.last
    frame = w.levels[level].filter(pl.col("week").is_in([week.name for week in recent]))
    if last is None or frame.is_empty():
        return []
    keys = [
        c for c in ("family", "cause", "code", "code_observer", "project", "service", "callout") if c in frame.columns
    ]
    groups = [
        (rows["closes"].sum(), key, {r["week"]: r for r in rows.iter_rows(named=True)})
        for key, rows in frame.group_by(keys, maintain_order=True)
    ]
    groups.sort(key=lambda g: (level == "cause" and g[1][0] == "client", -g[0], tuple(map(str, g[1]))))
    made = []
    for _, key, by_week in groups[:_PANELS]:
        empty = (
            dict.fromkeys(frame.columns)
            | dict(zip(keys, key, strict=True))
            | {
                "closes": 0,
                "previous": 0,
                "trailing": 0,
                "incidents": 0,
                "previous_change": "no data",
                "trailing_change": "no data",
            }
        )
        row = by_week.get(last.name, empty)
        made.append(_panel(w, level, row, by_week, recent))
    return made


def _panel(
    w: Weekly, level: str, row: Mapping[str, Any], by_week: Mapping[str, Mapping[str, Any]], recent: tuple[Week, ...]
) -> Panel:
    counts = [int(by_week[week.name]["closes"]) if week.name in by_week else 0 for week in recent]
    spread = max(1.0, counts[-1] / row["incidents"]) if row["incidents"] else 1.0
    _, low, high = (
        float(x) * recent[-1].covered for x in rates.per_hour(counts[-1], recent[-1].covered or 1.0, spread)
    )
    top = max([*counts, 1])
    # Few weeks do not become planks: a bar is 14 px wide at most.
    step = min(_WIDE / len(recent), 14.0 + _GAP)

    def y(value: float) -> float:
        return round(_TOP + _HIGH * (1 - min(value / top, 1.12)), 1)

    bars = []
    for i, (week, count) in enumerate(zip(recent, counts, strict=True)):
        kind = "none" if week.covered == 0 and not count else "partial" if week.partial else "whole"
        told = (
            f"{week.name}:"
            f" {'no logs' if kind == 'none' else words.count(count, 'close')}{f', logs cover {_share(week)}' if kind == 'partial' else ''}"
        )
        bars.append(
            Bar(
                round(_WIDE - (len(recent) - i) * step, 1),
                y(count),
                round(step - _GAP, 1),
                round(_TOP + _HIGH - y(count), 1),
                kind,
                told,
            )
        )
    mean = row["trailing"] / row["trailing_hours"] * recent[-1].covered if row.get("trailing_hours") else None
    whisker = (y(low), y(high)) if counts[-1] and recent[-1].covered else None
    return Panel(
        _name(level, row),
        str(row.get("cause") or ""),
        _family(w, level, row),
        tuple(bars),
        max(counts),
        row,
        whisker,
        None if mean is None else y(mean),
    )


def _hour_bars(w: Weekly) -> list[dict[str, Any]]:
    top = max([*w.by_hour, 1])
    return [{"hour": hour, "n": n, "height": round(_HIGH * n / top, 1)} for hour, n in enumerate(w.by_hour)]
