"""Fits what each rule is worth: python .ci/fit.py [BUNDLES TRUTH]… writes occorr/rules/fitted.csv (needs scikit-learn).

Without arguments the sample incidents are the labelled ones. Each incident is analysed whole and with kinds of sources taken
away, so that a rule also learns what it is worth when there is less beside it. How strongly a rule's own incidents are drawn
to the average of its strength is chosen by leaving one incident out; the figures that are printed are made the same way.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from sklearn.model_selection import LeaveOneGroupOut

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from occorr import evaluate, fitted  # noqa: E402


def answered(number, bundles, truth):
    """The answers of one pair of folders: whole, and a list of those with sources taken away and of corrections."""
    scores = evaluate.score_all(bundles, truth)
    if not scores:
        sys.exit(
            f"{bundles} and {truth} share no incident; expected folders BUNDLES/ID and files TRUTH/ID.jsonl or TRUTH/ID/expected.toml"
        )
    parts = [
        scores,
        *evaluate.score_ablated(bundles, truth).values(),
        *([s] for s in evaluate.score_corrected(bundles)),
    ]
    name = pl.format("{}/{}", pl.lit(number), "incident").alias("incident")
    return [evaluate.answers(part).with_columns(name) for part in parts]


def main():
    given = [Path(a) for a in sys.argv[1:]] or [ROOT / "sample_logs", ROOT / "sample_logs"]
    if len(given) % 2:
        sys.exit("give pairs: BUNDLES TRUTH [BUNDLES TRUTH]…")
    pairs = range(len(given) // 2), given[::2], given[1::2]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:  # a pair a process
        parts = list(pool.map(answered, *pairs))
    whole, tables = [p[0] for p in parts], [table for p in parts for table in p]
    answers, asked = pl.concat(tables), pl.concat(whole).filter(pl.col("said") != "missed")
    groups, right = answers.get_column("incident").to_numpy(), asked.get_column("right").to_numpy()

    def held_out(shrink):
        """Probabilities of the whole incidents, each by a fit on the others."""
        out = np.zeros(asked.height)
        for train, test in LeaveOneGroupOut().split(groups, groups=groups):
            table = fitted.fit(answers[train], shrink)
            inside = asked.get_column("incident").is_in([groups[test[0]]]).to_numpy()
            out[inside] = fitted.apply(asked.filter(inside), table).get_column("probability").to_numpy()
        return out

    if len(set(groups)) < 2:
        sys.exit("a fit needs two incidents or more")
    losses = {
        shrink: log_loss(right, held_out(shrink), labels=[False, True]) for shrink in (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    }
    best = min(losses, key=losses.get)
    said = held_out(best)
    table = fitted.fit(answers, best)
    target = ROOT / "occorr" / "rules" / fitted.FILE
    head = (
        f"# What each rule is worth, fitted by `make fit` on {len(set(groups))} labelled incidents, whole and with sources taken away ({answers.height} closes).\n"
        f"# An incident counts once for a rule. The average of a strength (*) weighs as much as {best:g} incidents; guesses end at {fitted.MOST_OF_A_GUESS:g}.\n"
    )
    target.write_text(head + table.write_csv(), encoding="utf-8")
    print(
        f"{target.relative_to(ROOT)}: {table.height} rows from {len(set(groups))} incidents; a strength's average weighs {best:g} incidents (log loss {losses[best]:.4f})"
    )
    wrong = answers.filter(pl.col("decisive") & ~pl.col("right"))
    print(f"wrong decisive verdicts, whole and with sources taken away: {wrong.height}")
    for row in wrong.select("incident", "label", "cause", "said", "rule").unique(maintain_order=True).rows():
        print("  ", *row)
    print("Leaving one incident out:")
    for name, part in (
        ("all closes that were found", np.ones(len(said), dtype=bool)),
        ("those the logs can settle", asked.get_column("knowable").to_numpy()),
    ):
        p, r = said[part], right[part]
        true, claimed = calibration_curve(r, p, n_bins=10)
        weights = np.histogram(p, bins=np.linspace(0, 1, 11))[0]
        ece = float(np.sum(weights[weights > 0] * np.abs(true - claimed)) / len(p))
        print(
            f"  {name}: {len(p)}, right {r.mean():.4f}, Brier score of being right {brier_score_loss(r, p, pos_label=True):.4f}, expected calibration error {ece:.4f}"
        )


if __name__ == "__main__":
    main()
