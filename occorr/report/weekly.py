"""The weekly report: a page, Markdown for a ticket, JSON, and the counts as one table in CSV or Parquet."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import schema
from occorr.report import panels, phrases, tabular
from occorr.report.document import environment
from occorr.visible import unredacted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr.weekly import Week, Weekly

_ROWS: Final = 60  # of the mix in Markdown
_SAID: Final = {"more": "more", "fewer": "fewer", "same": "no clear change", "no data": "nothing to compare with"}
_LEVELS: Final = ("total", "callout", "cause", "code", "service")


def html(w: Weekly) -> str:
    """weekly.html: one page without requests."""
    from occorr.report import shell  # noqa: PLC0415 - brings plotly, which only pages need

    return shell.page(
        "weekly/page.html.j2",
        styles=("weekly/style.css",),
        scripts=("weekly/page.js",),
        **_context(w),
        panels={level: panels.panels(w, level) for level in ("callout", "cause", "code", "service")},
        hours=panels.hour_bars(w),
        size=panels.SIZE,
    )


def markdown(w: Weekly) -> str:
    """weekly.md: for a ticket."""
    return environment().get_template("weekly/page.md.j2").render(**_context(w))


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
    recent = phrases.recent(w)
    by_word: dict[str, list[dict[str, Any]]] = {}
    for row in w.keywords.iter_rows(named=True):
        by_word.setdefault(row["group"], []).append(row)
    total = next(now["total"].iter_rows(named=True), None)
    return {
        "w": w,
        "banners": unredacted(redacted=w.redacted),
        "last": last,
        "total": total,
        "fresh": total is not None and total["previous_change"] == total["trailing_change"] == "no data",
        "leading": _leading(now["cause"]),
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
        "beats": [dict(beat) | {"told": phrases.beat_told(beat)} for beat in w.beats],
        "buckets": (
            w.buckets.group_by("bucket")
            .agg(pl.col("closes").sum(), causes=pl.col("cause").unique().sort())
            .sort("bucket")
            .to_dicts()
        ),
        "kinds": sorted({kind for week in w.weeks for kind in week.kinds}),
        "lacking": _lacking(w),
        "share": phrases.share,
        "ratio": phrases.ratio,
        "said": _SAID,
        "busiest": _busiest(w),
    }


def _begun(w: Weekly) -> list[tuple[Week, int]]:
    """Weeks after the one that the report is about, with their closes so far."""
    counts = dict(w.levels["total"].select("week", "closes").rows())
    later = [(week, int(counts.get(week.name, 0))) for week in w.weeks[w.about + 1 :]] if w.last else []
    return [(week, n) for week, n in later if n or week.covered]


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
                        "name": phrases.named(level, row),
                        "against": "the week before" if against == "previous" else "the four weeks before",
                        "which": against,
                        "direction": row[f"{against}_change"],
                        "row": row,
                        "ratio": phrases.rated(row, against),
                        "family": phrases.family(w, level, row),
                    }
                )
    order = {level: i for i, level in enumerate(_LEVELS)}
    return sorted(found, key=lambda c: (order[c["level"]], -abs(c["row"]["closes"] - c["row"][c["which"]]), c["name"]))


def _leading(causes: pl.DataFrame) -> dict[str, Any] | None:
    """The family with most closes of a week, ordinary ones left out."""
    loud = causes.filter((pl.col("family") != "client") & (pl.col("closes") > 0))
    families = loud.group_by("family").agg(pl.col("closes").sum()).sort("closes", "family", descending=[True, False])
    return next(families.iter_rows(named=True), None)


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
    shown_weeks = phrases.recent(w)
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
