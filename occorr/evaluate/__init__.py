"""Scores verdicts against labelled incidents: what was found, whether its cause is right, how true the probabilities are.

`matching` pairs closes with labels, `scoring` counts an incident, `figures` makes the table of all of them.
"""

from __future__ import annotations

from occorr.evaluate.figures import ablation, answers, summary
from occorr.evaluate.matching import labels, match
from occorr.evaluate.scoring import Score, alignment, score, score_ablated, score_all

__all__ = ["Score", "ablation", "alignment", "answers", "labels", "match", "score", "score_ablated", "score_all", "summary"]
