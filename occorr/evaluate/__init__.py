"""Scores verdicts against labelled incidents: what was found, whether its cause is right, how true the probabilities are.

`matching` pairs closes with labels, `scoring` counts an incident, `figures` measures the answers, `totals` is the table of all of them.
"""

from __future__ import annotations

from occorr.evaluate.figures import answers, leave_one_out
from occorr.evaluate.matching import labels, match, truth_of
from occorr.evaluate.scoring import Score, alignment, score, score_ablated, score_all, score_corrected
from occorr.evaluate.totals import ablation, summary

__all__ = [
    "Score",
    "ablation",
    "alignment",
    "answers",
    "labels",
    "leave_one_out",
    "match",
    "score",
    "score_ablated",
    "score_all",
    "score_corrected",
    "summary",
    "truth_of",
]
