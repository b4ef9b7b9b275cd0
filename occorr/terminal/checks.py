"""Figures held against their thresholds, in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from occorr import figures
from occorr.report.words import amount
from occorr.terminal.base import clean, console, place, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from occorr.policy import Judgement, Limit

_ORDER = {"fail": 0, "pass": 1, "no-data": 2}
_STYLE = {"fail": "bold red", "pass": "", "no-data": "dim"}


def show(judged: Sequence[Judgement], counts: Mapping[str, int]) -> None:
    """The table: breaches first, each with what it means and where it stands; then what passed; then what has no data."""
    out = console()
    several = len({j.figure.scope for j in judged if j.figure.scope}) > 1
    for status in _ORDER:
        own = [j for j in judged if j.status == status]
        if not own:
            continue
        rows = table(status, "value", "limit", "n", right=("value", "n"), gap=2)
        for j in own:
            scope = f" ({j.figure.scope})" if several and j.figure.scope else ""
            sign = "≥ " if j.figure.floor and j.figure.value is not None else ""
            rows.add_row(
                Text(clean(j.figure.id + scope), style=_STYLE[status]),
                sign + amount(j.figure.value, j.figure.unit),
                str(j.limit),
                str(j.figure.n),
            )
        out.print(rows)
        if status != "pass":
            out.print()
            reasons: dict[str, list[str]] = {}
            for j in own:
                reasons.setdefault(j.reason, []).append(j.figure.id)
            for reason, ids in reasons.items():
                out.print(clean(f"  {', '.join(dict.fromkeys(ids))}: {reason}"))
            if status == "fail":
                for j in own:
                    if j.figure.lines:
                        out.print(
                            clean(
                                f"  {j.figure.id}:"
                                f" {', '.join(place(p.path, p.line) for p in j.figure.lines[:3])}{' …' if len(j.figure.lines) > 3 else ''}"
                            )
                        )
        out.print()
    out.print(
        f"{counts['fail']} failed, {counts['pass']} passed, {counts['no-data']} without data"
        + (": nothing is proven" if judged and not counts["fail"] and not counts["pass"] else "")
    )


def limits(found: Mapping[str, Limit]) -> None:
    """All figures with the limit that holds."""
    rows: Any = table("figure", "limit", "what it is", gap=2)
    for name, (title, unit) in figures.FIGURES.items():
        limit = found.get(name)
        rows.add_row(
            name,
            "off" if limit and limit.off else str(limit) if limit else "none",
            title + (f", {unit}" if unit else ""),
        )
    console().print(rows)
