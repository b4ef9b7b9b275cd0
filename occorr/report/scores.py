"""The scores of `occorr eval` as a page with plots and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from occorr.report import shell
from occorr.report.document import environment

if TYPE_CHECKING:
    from collections.abc import Mapping

# name in the summary → what people read
FIGURES: Final = (
    ("accuracy", "accuracy"),
    ("accuracy_by_incident", "accuracy, by incident"),
    ("macro_f1", "macro-F1 of causes"),
    ("macro_f1_by_incident", "macro-F1 of causes, by incident"),
    ("family_accuracy", "accuracy of families"),
    ("family_macro_f1", "macro-F1 of families"),
    ("answered", "answered"),
    ("decisive", "decisive"),
    ("decided", "decisive where a line decides"),
    ("humble", "humble where no line can"),
)
CALIBRATED: Final = (
    ("brier", "Brier score"),
    ("brier_skill", "Brier skill over the base rates"),
    ("brier_of_right", "Brier score of being right"),
    ("ece", "expected calibration error"),
)
OWN: Final = ("decisive", "decided", "humble")  # a table of codes has no verdicts
BAR: Final = 30  # characters


def share(value: float | None) -> str:
    """A share as people read it: one digit of a per cent, and never 100 % for less."""
    if value is None:
        return "–"
    return f"{value * 100:.1f} %" if value < 0.9995 or value == 1 else "99.9 %"


def headline(summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Measure, value, its 95 % interval over incidents, and the baseline's value."""
    own, base = summary["occorr"], summary["baseline"]
    rows = []
    for key, name in FIGURES:
        spread = own["intervals"].get(key)
        rows.append(
            (
                name,
                share(own[key]),
                f"{share(spread[0])} to {share(spread[1])}" if spread else "",
                "" if key in OWN else share(base[key]),
            )
        )
    for key, name in CALIBRATED:
        rows.append((name, _number(own["calibration"][key]), "", _number(base["calibration"][key])))
    rows.append(
        (
            "risk at 80 % coverage",
            share(own["risk_coverage"]["risk_at_80"]),
            "",
            share(base["risk_coverage"]["risk_at_80"]),
        )
    )
    bound = own["wrong_decisive_bound"]
    rows.append(
        (
            "wrong decisive verdicts",
            str(own["wrong_decisive"]),
            "" if bound is None else f"incidents with one: below {share(bound)}",
            "",
        )
    )
    return rows


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def causes(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a cause: how often, how well, what the baseline does, and what it was mistaken for."""
    base = {r["cause"]: r["f1"] for r in summary["baseline"]["causes"]}
    mistaken: dict[str, list[str]] = {}
    for cell in summary["occorr"]["confusion"]:
        if cell["truth"] != cell["said"]:
            mistaken.setdefault(cell["truth"], []).append(f"{cell['closes']} {cell['said']}")
    return [
        {
            "cause": r["cause"],
            "closes": str(r["closes"]),
            "incidents": str(r["incidents"]),
            "mistaken": ", ".join(mistaken.get(r["cause"], ())),
            **{
                k: _number(v) if r["scored"] else ""
                for k, v in (
                    ("f1", r["f1"]),
                    ("f1_by_incident", r["f1_by_incident"]),
                    ("baseline", base.get(r["cause"], 0.0)),
                )
            },
        }
        for r in summary["occorr"]["causes"]
    ]


def markdown(summary: Mapping[str, Any]) -> str:
    """The scores as Markdown, the plots drawn in characters."""
    return (
        environment()
        .get_template("eval/report.md.j2")
        .render(
            s=summary,
            own=summary["occorr"],
            headline=headline(summary),
            causes=causes(summary),
            share=share,
            bins=[b | {"bar": _bar(b["right"], b["probability"])} for b in summary["occorr"]["calibration"]["bins"]],
            curve=_curve(summary["occorr"]["risk_coverage"]["curve"]),
            worse=_curve(summary["baseline"]["risk_coverage"]["curve"]),
        )
    )


def _bar(right: float, said: float) -> str:
    """A bar as long as the share of right answers, with a mark where the probability says it should end."""
    cells = ["█" if i < round(right * BAR) else "·" for i in range(BAR)]
    cells[min(BAR - 1, max(0, round(said * BAR) - 1))] = "│"
    return "".join(cells)


def _curve(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most ten points of a curve, the last among them."""
    step = max(1, -(-len(points) // 10))
    kept = points[step - 1 :: step]
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def html(summary: Mapping[str, Any]) -> str:
    """The scores as a page that opens without a network."""
    keys = ("calibration", "risk_coverage", "confusion")
    data = {way: {k: summary[way][k] for k in keys} for way in ("occorr", "baseline")}
    return shell.page(
        "eval/page.html.j2",
        styles=("eval/style.css",),
        scripts=("eval/plots.js",),
        data=data,
        picture=True,
        s=summary,
        own=summary["occorr"],
        headline=headline(summary),
        causes=causes(summary),
        share=share,
    )
