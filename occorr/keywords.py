"""Which words stand beside the closes of a kind and not beside the others.

Log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, "Fightin' Words"): words that are
frequent everywhere, and words that were seen twice, do not come out on top.
"""

from __future__ import annotations

from typing import Final

import polars as pl

_PRIOR: Final = 500.0  # words that the prior weighs at most
_FIELD: Final = r"\b[\w.-]+="  # the name before a value says the same in every line
_PIECE: Final = r"[\p{L}\p{N}_./:@-]+"
_WORD: Final = r"^\p{L}[\p{L}'-]{1,23}$"  # no numbers, ids, addresses or paths
Z: Final = 1.96  # how many standard errors a word must stand out


def words(text: pl.Expr, stop: frozenset[str]) -> pl.Expr:
    """The words of a text, each once, in lower case, without stop words, ids, numbers and the names of fields."""
    tokens = text.str.replace_all(_FIELD, " ").str.to_lowercase().str.extract_all(_PIECE)
    return (
        tokens.list.eval(
            pl.element().str.strip_chars(".:/@_-").filter(pl.element().str.strip_chars(".:/@_-").str.contains(_WORD))
        )
        .list.unique(maintain_order=True)
        .list.set_difference(sorted(stop))
    )


def telling(counted: pl.DataFrame, top: int = 8) -> pl.DataFrame:
    """The words that tell a group from the rest.

    Args:
        counted: columns group, word, n: beside how many closes of the group the word stands.
        top: words a group at most.

    Returns:
        columns group, word, n, log_odds, z; those that stand out by `Z` standard errors, the most telling first.
    """
    whole = float(counted["n"].sum())
    scale = min(1.0, _PRIOR / max(1.0, whole))
    weight = whole * scale  # of the prior, which has the words of all groups in their own shares
    summed = counted.with_columns(
        _word=pl.col("n").sum().over("word"), _group=pl.col("n").sum().over("group")
    ).with_columns(_alpha=pl.col("_word") * scale)
    own, rest = pl.col("n") + pl.col("_alpha"), pl.col("_word") - pl.col("n") + pl.col("_alpha")
    odds = (own / (pl.col("_group") + weight - own)).log() - (rest / (whole - pl.col("_group") + weight - rest)).log()
    scored = summed.with_columns(log_odds=odds, z=odds / (1 / own + 1 / rest).sqrt())
    kept = scored.filter(pl.col("z") >= Z).sort(
        "group", "z", "n", "word", descending=[False, True, True, False], nulls_last=True
    )
    return kept.group_by("group", maintain_order=True).head(top).select("group", "word", "n", "log_odds", "z")
