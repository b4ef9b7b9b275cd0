"""How well the verdicts fit labelled incidents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from occorr.report.scores import causes, headline, share as figure
from occorr.terminal.base import clean, console, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console


def scores(summary: Mapping[str, Any]) -> None:
    """The scores as tables, and every wrong decisive verdict."""
    out = console()
    total = summary["all"]
    out.print(
        f"{total['incidents']} incidents, {total['labels']} closes that some line shows, {summary['occorr']['closes']}"
        " of them that the logs can settle",
        style="bold",
    )
    out.print(
        f"recall {figure(total['recall'])} ({total['missed']} missed), invented {figure(total['invented'])}, split"
        f" {total['split']}, merged {total['merged']}\n"
    )
    rows = table(
        "of what the logs can settle", "occorr", "95 % interval", "baseline", right=("occorr", "baseline"), gap=2
    )
    for row in headline(summary):
        rows.add_row(*row)
    out.print(rows)
    out.print("The baseline is the majority cause of each close code and HTTP status, learnt on the other incidents.\n")
    _causes(out, summary)
    _incidents(out, summary)
    _clocks(out, summary)
    _ablated(out, summary)
    _wrong(out, summary)


def _causes(out: Console, summary: Mapping[str, Any]) -> None:
    rows = table(
        "cause",
        "closes",
        "incid.",
        "F1",
        "by inc.",
        "base",
        "mistaken for",
        right=("closes", "incid.", "F1", "by inc.", "base"),
    )
    for r in causes(summary):
        rows.add_row(*(r[k] for k in ("cause", "closes", "incidents", "f1", "f1_by_incident", "baseline", "mistaken")))
    out.print(rows)
    if any(not r["scored"] for r in summary["occorr"]["causes"]):
        out.print("A cause in fewer than three incidents is listed and not scored.")
    out.print()


def _incidents(out: Console, summary: Mapping[str, Any]) -> None:
    figures = ("found", "split", "inv", "cause", "family", "decided", "humble", "wrong")
    rows = table("incident", "clocks", *figures, right=figures)
    for s in summary["incidents"]:
        shares = [
            f"{s[part]}/{s[whole]}"
            for part, whole in (
                ("cause_right", "knowable"),
                ("family_right", "knowable"),
                ("decided", "decidable"),
                ("humble", "unknowable"),
            )
        ]
        rows.add_row(
            clean(s["incident"]),
            "skewed" if s["skewed"] else "",
            f"{s['found']}/{s['labels']}",
            str(s["split"] + s["merged"]),
            str(s["invented"]),
            *shares,
            str(s["wrong_decisive"]),
        )
    out.print(rows)
    out.print()


def _clocks(out: Console, summary: Mapping[str, Any]) -> None:
    for name in ("clean", "skewed", "all"):
        if name in summary:
            t = summary[name]
            known = (
                f"clocks aligned {figure(t['clocks_aligned'])}, inside their bounds {figure(t['clocks_inside'])}"
                if t["clocks"]
                else "no truth of clocks (INCIDENT.clocks.json)"
            )
            out.print(
                f"{name} clocks: {t['incidents']} incidents, decided {figure(t['decided'])}, in time"
                f" {figure(t['time_inside'])}, off by {t['time_error_ms']} ms ± {t['time_half_width_ms']} ms, {known}"
            )
    for c in summary["clocks"]:
        if c["inside"] < 1 or c["status"] not in ("aligned", "reference"):
            out.print(
                f"{c['incident']} {c['clock']}: true {c['true_ms']:+.3f} ms, found {c['found_ms']:+.3f} ms ±"
                f" {c['error_ms']:.3f} ms, {figure(c['inside'])} inside, {c['status']}"
            )
    out.print()


def _ablated(out: Console, summary: Mapping[str, Any]) -> None:
    if not summary["ablation"]:
        return
    rows = table(
        "taken away",
        "incidents",
        "closes",
        "recall",
        "accuracy",
        "decisive",
        "humble",
        "wrong decisive",
        right=("incidents", "closes", "recall", "accuracy", "decisive", "humble", "wrong decisive"),
    )
    for r in summary["ablation"]:
        rows.add_row(
            r["without"],
            str(r["incidents"]),
            str(r["labels"]),
            figure(r["recall"]),
            figure(r["accuracy"]),
            str(r["decisive"]),
            figure(r["humble"]),
            str(r["wrong_decisive"]),
        )
    out.print(rows)
    for r in summary["ablation"]:
        for w in r["wrong"]:
            out.print(
                f"wrong decisive without {r['without']}: {w['incident']} {w['label']}: {w['cause']} called {w['said']}"
            )
    out.print()


def _wrong(out: Console, summary: Mapping[str, Any]) -> None:
    for w in summary["wrong_decisive"]:
        out.print(
            f"wrong decisive: {w['incident']} {w['label']} ({w['close_id']}, {w['timestamp']}): {w['cause']} called"
            f" {w['said']}"
        )
    if not summary["wrong_decisive"]:
        out.print("No decisive verdict is wrong.")
