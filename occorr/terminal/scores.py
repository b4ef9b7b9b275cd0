"""How well the verdicts fit labelled incidents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from occorr.terminal.base import console, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from occorr.evaluate import Score


def scores(found: Sequence[Score], total: dict[str, Any]) -> None:
    """The scores as a table, and every wrong decisive verdict."""
    out = console()
    figures = ("found", "split", "inv", "cause", "family", "decided", "humble", "wrong")
    rows = table("incident", "clocks", *figures, right=figures)
    for s in found:
        rows.add_row(s.incident, "skewed" if s.skewed else "", f"{s.found}/{s.labels}", str(s.split + s.merged), str(s.invented), f"{s.cause_right}/{s.knowable}", f"{s.family_right}/{s.knowable}", f"{s.decided}/{s.decidable}", f"{s.humble}/{s.unknowable}", str(len(s.wrong)))
    out.print(rows)
    for name in ("clean", "skewed", "all"):
        if name in total:
            t = total[name]
            out.print(f"{name}: " + ", ".join(f"{k.replace('_', ' ')} {v:.4f}" if isinstance(v, float) else f"{k.replace('_', ' ')} {v}" for k, v in t.items()))
    for s in found:
        for c in s.clocks:
            mark = "inside" if c["inside"] == 1 else f"{c['inside']:.0%} inside"
            out.print(f"{s.incident} {c['clock']}: true {c['true_ms']:+.3f} ms, found {c['found_ms']:+.3f} ms ± {c['error_ms']:.3f} ms, {mark}, {c['status']}")
    for s in found:
        for wrong in s.wrong:
            row, truth = wrong["row"], wrong["label"]
            out.print(f"wrong decisive: {s.incident} {truth['close_id']}: {truth['cause']} called {row['cause']}")
