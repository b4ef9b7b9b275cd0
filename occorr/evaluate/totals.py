"""What `occorr eval` prints: shares by incident and of all, the figures with the baseline's beside them, what sources taken away leave."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr.evaluate.baseline import baseline
from occorr.evaluate.figures import answers, calibration, figures, leave_one_out, mean
from occorr.schema import MS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from occorr.evaluate.scoring import Score

VERSION: Final = 2


def summary(scores: Sequence[Score]) -> dict[str, Any]:
    """Everything that `occorr eval` prints.

    `clean`, `skewed` and `all` hold the shares of the incidents with right clocks, with wrong ones, and of all; the
    rest is over all of them. Its probabilities are those of a fit on the other incidents (`leave_one_out`).
    """
    groups = {
        "clean": [s for s in scores if not s.skewed],
        "skewed": [s for s in scores if s.skewed],
        "all": list(scores),
    }
    table = answers(scores)
    out = leave_one_out(table)
    return {name: _shares(group) for name, group in groups.items() if group} | {
        "version": VERSION,
        "incidents": [_incident(s) for s in scores],
        "clocks": [{"incident": s.incident, **c} for s in scores for c in s.clocks],
        "wrong_decisive": [_wrong(w) for s in scores for w in s.wrong],
        "occorr": figures(out),
        "calibration_as_shipped": calibration(table.filter("knowable")),
        "baseline": figures(baseline(table)),
        "ablation": [],
        "without": [],
    }


def ablation(scores: Mapping[str, Sequence[Score]]) -> list[dict[str, Any]]:
    """What is left of the verdicts when sources are taken away, a row a kind or two."""
    out = []
    for name, group in scores.items():
        table = answers(group)
        asked = table.filter("knowable")
        shares = _shares(group)
        out.append(
            {
                "without": name,
                "incidents": len(group),
                "labels": shares["labels"],
                "recall": shares["recall"],
                "knowable": asked.height,
                "accuracy": mean(asked, "right"),
                "family_accuracy": mean(asked, "family_right"),
                "decided": mean(asked.filter("decidable"), "decisive"),
                "humble": mean(table.filter(~pl.col("knowable")), "humble"),
                "decisive": int(table.get_column("decisive").sum()),
                "wrong_decisive": shares["wrong_decisive"],
                "wrong": [_wrong(w) for s in group for w in s.wrong],
            }
        )
    return out


def _incident(s: Score) -> dict[str, Any]:
    return {
        "incident": s.incident,
        "skewed": s.skewed,
        "labels": s.labels,
        "found": s.found,
        "missed": s.missed,
        "split": s.split,
        "merged": s.merged,
        "invented": s.invented,
        "knowable": s.knowable,
        "cause_right": s.cause_right,
        "family_right": s.family_right,
        "decidable": s.decidable,
        "decided": s.decided,
        "unknowable": s.unknowable,
        "humble": s.humble,
        "wrong_decisive": len(s.wrong),
    }


def _wrong(found: dict[str, Any]) -> dict[str, Any]:
    """A wrong decisive verdict, as much as it takes to look it up."""
    row, label = found["row"], found["label"]
    return {
        "incident": found["incident"],
        "label": label["close_id"],
        "close_id": row["close_id"],
        "cause": label["cause"],
        "said": row["cause"],
        "runner_up": row["runner_up"],
        "probability": row["probability"],
        "timestamp": str(row["timestamp"]),
    }


def _middle(values: list[float]) -> float:
    return round(statistics.median(values) / MS, 3) if values else 0.0


def _shares(group: Sequence[Score]) -> dict[str, Any]:
    clocks = [c for s in group for c in s.clocks]
    held = [c for c in clocks if c["status"] in ("aligned", "reference")]

    def total(name: str) -> int:
        return sum(int(getattr(s, name)) for s in group)

    def share(part: str, whole: str) -> float:
        return round(total(part) / max(total(whole), 1), 4)

    return {
        "incidents": len(group),
        "labels": total("labels"),
        "recall": share("found", "labels"),
        "missed": total("missed"),
        "invented": share("invented", "rows"),
        "split": total("split"),
        "merged": total("merged"),
        "family_accuracy": share("family_right", "knowable"),
        "cause_accuracy": share("cause_right", "knowable"),
        "decided": share("decided", "decidable"),
        "humble": share("humble", "unknowable"),
        "time_inside": share("inside", "timed"),
        "wrong_decisive": sum(len(s.wrong) for s in group),
        "time_error_ms": _middle([v for s in group for v in s.off_ns]),
        "time_half_width_ms": _middle([v for s in group for v in s.half_ns]),
        "clocks": len(clocks),
        "clocks_aligned": round(len(held) / max(len(clocks), 1), 4),
        "clocks_inside": round(sum(c["inside"] == 1 for c in held) / max(len(held), 1), 4),
    }
