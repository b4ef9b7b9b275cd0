"""The figures of one way to answer: accuracy, macro-F1, calibration, risk and coverage, with intervals.

All of them are made from `answers`, a row a label that some line shows. Where nothing else is said, a figure is over
the closes that the logs can settle (`knowable`), and a close that was missed is a wrong answer of probability 0.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from occorr import fitted, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from occorr.evaluate.scoring import Score

SCORED: Final = 3  # a cause in fewer incidents is listed and not scored
BINS: Final = 10
RESAMPLES: Final = 2000
SEED: Final = 20_261_121  # the same incidents are drawn in every run
COVERAGE: Final = 0.8
CAUSES: Final = sorted(schema.CAUSE_NAMES)
UNKNOWN: Final = "unknown.unknown"
COLUMNS: Final[dict[str, Any]] = {
    "incident": pl.String,
    "label": pl.String,
    "knowable": pl.Boolean,
    "decidable": pl.Boolean,
    "cause": pl.String,
    "truth": pl.String,
    "said": pl.String,
    "verdict": pl.String,
    "decisive": pl.Boolean,
    "probability": pl.Float64,
    "runner_up": pl.String,
    "runner_up_probability": pl.Float64,
    "runner_up_right": pl.Boolean,
    "rule": pl.String,
    "right": pl.Boolean,
    "family_right": pl.Boolean,
    "humble": pl.Boolean,
    "code": pl.Int64,
    "status": pl.Int64,
}


def answers(scores: Sequence[Score]) -> pl.DataFrame:
    """A row a label that some line shows: what it is, what was said of it, how sure."""
    return pl.DataFrame([a for s in scores for a in s.answers], schema=COLUMNS, orient="row")


def figures(table: pl.DataFrame) -> dict[str, Any]:
    """Scores of one way to answer."""
    asked = table.filter("knowable")
    causes = by_cause(table)
    scored = [r["cause"] for r in causes if r["scored"]]
    return {
        "closes": asked.height,
        "accuracy": mean(asked, "right"),
        "accuracy_by_incident": mean(asked, "right", _even(asked)),
        "family_accuracy": mean(asked, "family_right"),
        "family_accuracy_by_incident": mean(asked, "family_right", _even(asked)),
        "macro_f1": _macro([r["f1"] for r in causes if r["scored"]]),
        "macro_f1_by_incident": _macro([r["f1_by_incident"] for r in causes if r["scored"]]),
        "family_macro_f1": _macro([r["f1"] for r in by_family(table)]),
        "answered": mean(asked, pl.col("said").is_in(["missed", UNKNOWN]).not_()),
        "decisive": mean(asked, "decisive"),
        "decided": mean(asked.filter("decidable"), "decisive"),
        "humble": mean(table.filter(~pl.col("knowable")), "humble"),
        "wrong_decisive": int((table.get_column("decisive") & ~table.get_column("right")).sum()),
        "wrong_decisive_bound": _bound(table.filter("decisive")),
        "calibration": calibration(asked),
        "calibration_of_all": calibration(table),
        "risk_coverage": risk_coverage(asked),
        "risk_coverage_of_all": risk_coverage(table),
        "causes": causes,
        "families": by_family(table),
        "confusion": confusion(table),
        "intervals": intervals(table, scored),
    }


def leave_one_out(table: pl.DataFrame) -> pl.DataFrame:
    """The answers with the probabilities that a fit on the other incidents gives: what a new incident would have got."""
    parts = table.partition_by("incident", maintain_order=True)
    if len(parts) < 2:
        return table
    missed = pl.col("said") == "missed"
    out = [
        fitted.apply(part, fitted.fit(table.filter(pl.col("incident") != part.item(0, "incident")))).with_columns(
            pl.when(missed).then(0.0).otherwise("probability").alias("probability")
        )
        for part in parts
    ]
    return pl.concat(out).select(table.columns)


def mean(table: pl.DataFrame, what: str | pl.Expr, weights: NDArray[np.float64] | None = None) -> float | None:
    """A share to four digits; None where there is nothing to share."""
    if table.is_empty():
        return None
    values = table.select(pl.col(what) if isinstance(what, str) else what).to_series().to_numpy().astype(float)
    return round(float(np.average(values, weights=weights)), 4)


def _macro(values: Sequence[float]) -> float | None:
    return round(statistics.fmean(values), 4) if values else None


def _even(table: pl.DataFrame) -> NDArray[np.float64]:
    """Weights that let each incident count once for each of its causes, however many closes that was."""
    return table.select(1.0 / pl.len().over("incident", "truth")).to_series().to_numpy()


def _asked(table: pl.DataFrame) -> pl.DataFrame:
    """Truth and answer of every close: one that the logs cannot settle is rightly answered by a humble word, as if by unknown."""
    unknowable = ~pl.col("knowable")
    return table.select(
        "incident",
        pl.when(unknowable).then(pl.lit(UNKNOWN)).otherwise("truth").alias("truth"),
        pl.when(unknowable & pl.col("humble")).then(pl.lit(UNKNOWN)).otherwise("said").alias("said"),
    )


def by_cause(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each cause, by close and with each incident counting once; `unknown` is one of them."""
    pairs = _asked(table)
    weight = _even(pairs)
    spread = dict(pairs.group_by("truth").agg(pl.col("incident").n_unique()).rows())
    counts = dict(pairs.group_by("truth").len().rows())
    plain, even = (_f1(pairs, w) for w in (np.ones(pairs.height), weight))
    return [
        {
            "cause": cause,
            "closes": counts[cause],
            "incidents": spread[cause],
            "scored": spread[cause] >= SCORED,
            "precision": round(plain[cause][0], 4),
            "recall": round(plain[cause][1], 4),
            "f1": round(plain[cause][2], 4),
            "f1_by_incident": round(even[cause][2], 4),
        }
        for cause in sorted(counts)
    ]


def by_family(table: pl.DataFrame) -> list[dict[str, Any]]:
    """The same for families."""
    pairs = _asked(table).with_columns(pl.col("truth", "said").str.extract(r"^([^.]+)", 1))
    scores = _f1(pairs, np.ones(pairs.height))
    counts = dict(pairs.group_by("truth").len().rows())
    return [
        {
            "family": f,
            "closes": counts[f],
            "precision": round(scores[f][0], 4),
            "recall": round(scores[f][1], 4),
            "f1": round(scores[f][2], 4),
        }
        for f in sorted(counts)
    ]


def _f1(pairs: pl.DataFrame, weights: NDArray[np.float64]) -> dict[str, tuple[float, float, float]]:
    """Precision, recall and F1 of each class that is a truth."""
    truth, said = pairs.get_column("truth").to_numpy(), pairs.get_column("said").to_numpy()
    out = {}
    for name in sorted(set(truth)):
        hit, have, meant = (
            float(weights[mask].sum()) for mask in ((truth == name) & (said == name), said == name, truth == name)
        )
        out[name] = (hit / have if have else 0.0, hit / meant, 2 * hit / (have + meant))
    return out


def confusion(table: pl.DataFrame) -> list[dict[str, Any]]:
    """The confusion matrix as its cells that are not zero: truth, answer, closes, incidents."""
    cells = (
        _asked(table)
        .group_by("truth", "said")
        .agg(pl.len().alias("closes"), pl.col("incident").n_unique().alias("incidents"))
    )
    return cells.sort("truth", "said").to_dicts()


def calibration(table: pl.DataFrame) -> dict[str, Any]:
    """How true the probabilities are.

    Returns: brier: mean squared distance between the probabilities of all causes and what was so; brier_skill: 1 minus
    its ratio to what the base rates of the causes would get. brier_of_right and its skill: the same of one event, that
    the answer is right (no skill is defined where no answer is wrong). ece: mean distance of probability and share of
    right ones over ten bins of equal width, weighted by their closes. bins: those bins.
    """
    if table.is_empty():
        return {
            "brier": None,
            "brier_skill": None,
            "brier_of_right": None,
            "brier_of_right_skill": None,
            "ece": None,
            "bins": [],
        }
    claimed, right = table.get_column("probability").to_numpy(), table.get_column("right").to_numpy().astype(float)
    spread = table.get_column("truth").value_counts().get_column("count").to_numpy() / table.height
    own, apart = float(np.mean((claimed - right) ** 2)), float(np.mean(right) * (1 - np.mean(right)))
    brier, base = _brier(table), 1 - float((spread**2).sum())
    place = np.minimum((claimed * BINS).astype(int), BINS - 1)
    bins = []
    for k in sorted(set(place.tolist())):
        inside = place == k
        bins.append(
            {
                "from": k / BINS,
                "until": (k + 1) / BINS,
                "closes": int(inside.sum()),
                "probability": round(float(claimed[inside].mean()), 4),
                "right": round(float(right[inside].mean()), 4),
            }
        )
    ece = sum(b["closes"] * abs(b["probability"] - b["right"]) for b in bins) / table.height
    return {
        "brier": round(brier, 4),
        "brier_skill": round(1 - brier / base, 4) if base else None,
        "brier_of_right": round(own, 4),
        "brier_of_right_skill": round(1 - own / apart, 4) if apart else None,
        "ece": round(ece, 4),
        "bins": bins,
    }


def _brier(table: pl.DataFrame) -> float:
    """Brier's score over all causes; what an answer leaves to neither its cause nor its runner-up lies evenly on the others."""
    best, second = (
        table.get_column("probability").to_numpy(),
        table.get_column("runner_up_probability").fill_null(0.0).to_numpy(),
    )
    rest = np.clip(1 - best - second, 0, 1) / (len(CAUSES) - 2)
    truth, said, rival = (table.get_column(c).to_numpy() for c in ("truth", "said", "runner_up"))
    named, runner = truth == said, truth == rival
    total = best**2 + second**2 + (len(CAUSES) - 2) * rest**2
    given = np.where(named, best, np.where(runner, second, rest))
    return float(np.mean(total - 2 * given + 1))


def risk_coverage(table: pl.DataFrame) -> dict[str, Any]:
    """The share of wrong answers among the surest: at each coverage, at 80 %, and the area under the curve.

    Answers of equal probability cannot be told apart: inside them the expected share counts.
    """
    if table.is_empty():
        return {"curve": [], "risk_at_80": None, "area": None}
    steps = (
        table.group_by("probability")
        .agg(pl.len().alias("n"), (~pl.col("right")).sum().alias("bad"))
        .sort("probability", descending=True)
    )
    covered, bad = (
        np.concatenate([[0.0], steps.get_column(c).cum_sum().to_numpy().astype(float)]) for c in ("n", "bad")
    )
    grid = np.arange(1, table.height + 1, dtype=float)
    risk = np.interp(grid, covered, bad) / grid
    at = max(1, round(COVERAGE * table.height))
    curve = [
        {"coverage": round(float(n) / table.height, 4), "risk": round(float(b) / float(n), 5), "probability": p}
        for n, b, p in zip(covered[1:], bad[1:], steps.get_column("probability").to_list(), strict=True)
    ]
    return {"curve": curve, "risk_at_80": round(float(risk[at - 1]), 5), "area": round(float(risk.mean()), 5)}


def _bound(decided: pl.DataFrame) -> float | None:
    """The most that the share of wrong decisive verdicts may be, at 95 % (Clopper and Pearson), an incident counting once.

    Closes of one incident stand or fall together; an incident is bad if it holds one wrong decisive verdict.
    """
    if decided.is_empty():
        return None
    from scipy.stats import binomtest  # noqa: PLC0415 - a second that scoring alone need not pay

    bad = decided.group_by("incident").agg((~pl.col("right")).any()).get_column("right")
    return round(
        float(binomtest(int(bad.sum()), bad.len()).proportion_ci(0.90).high), 4
    )  # two sides of 5 %: one bound of 95 %


def intervals(table: pl.DataFrame, scored: Sequence[str]) -> dict[str, list[float]]:
    """95 % intervals by drawing incidents with replacement."""
    from scipy.stats import bootstrap  # noqa: PLC0415

    names = table.get_column("incident").unique().sort().to_list()
    if len(names) < 2:
        return {}
    classes = sorted({*_asked(table).get_column("truth"), *_asked(table).get_column("said")})
    cells = np.zeros((len(names), len(classes), len(classes)))
    places = {n: i for i, n in enumerate(names)}
    index = {n: i for i, n in enumerate(classes)}
    for incident, truth, said, n in _asked(table).group_by("incident", "truth", "said").len().rows():
        cells[places[incident], index[truth], index[said]] = n
    wanted = [index[c] for c in scored if c in index]
    per = (
        table.group_by("incident", maintain_order=True)
        .agg(
            pl.col("knowable").sum().alias("asked"),
            (pl.col("knowable") & pl.col("right")).sum().alias("right"),
            (pl.col("knowable") & pl.col("family_right")).sum().alias("family"),
            pl.col("decidable").sum(),
            (pl.col("decidable") & pl.col("decisive")).sum().alias("decided"),
            (~pl.col("knowable")).sum().alias("unknowable"),
            (~pl.col("knowable") & pl.col("humble")).sum().alias("humble"),
        )
        .sort("incident")
    )
    held = {c: per.get_column(c).to_numpy().astype(float) for c in per.columns if c != "incident"}

    def macro(drawn: NDArray[np.intp]) -> float:
        total = cells[drawn].sum(axis=0)
        hit, meant, have = np.diag(total)[wanted], total.sum(axis=1)[wanted], total.sum(axis=0)[wanted]
        there = meant > 0  # a cause of which no incident was drawn has no score
        return float(np.mean(2 * hit[there] / (meant + have)[there])) if there.any() else 1.0

    def share(part: str, whole: str) -> Callable[[NDArray[np.intp]], float]:
        return lambda drawn: float(held[part][drawn].sum() / max(held[whole][drawn].sum(), 1.0))

    wants: dict[str, Callable[[NDArray[np.intp]], float]] = {
        "macro_f1": macro,
        "accuracy": share("right", "asked"),
        "family_accuracy": share("family", "asked"),
        "decided": share("decided", "decidable"),
        "humble": share("humble", "unknowable"),
    }
    out = {}
    over = {"decided": "decidable", "humble": "unknowable", "accuracy": "asked", "family_accuracy": "asked"}
    for name, statistic in wants.items():
        if name in over and not held[over[name]].sum():
            continue
        found = bootstrap(
            (np.arange(len(names)),),
            statistic,
            vectorized=False,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(SEED),
        ).confidence_interval
        out[name] = [round(float(found.low), 4), round(float(found.high), 4)]
    return out
