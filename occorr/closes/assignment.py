"""Optimal one-to-one assignment, and which of its pairs could as well be exchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

BRUTE: Final = 400  # pairs of one connected part up to which other solutions are searched for
EQUAL: Final = 0.05  # two assignments whose costs differ by less are equally good


def assign(pairs: pl.DataFrame, left: str, right: str) -> pl.DataFrame:
    """Optimal one-to-one assignment over candidate pairs, most pairs first and then least total cost.

    Args:
        pairs: one row a candidate pair, columns `left`, `right` and `cost` (≥ 0).
        left: name of the left key column.
        right: name of the right key column.

    Returns:
        the chosen pairs with `group`: null, or a number shared by pairs that could be exchanged at equal cost.
    """
    schema_out: dict[str, Any] = {left: pairs.schema[left], right: pairs.schema[right], "group": pl.Int64}
    if pairs.is_empty():
        return pl.DataFrame(schema=schema_out)
    pairs = pairs.group_by(left, right).agg(pl.col("cost").min()).sort(left, right)
    rows, columns = pairs.get_column(left).to_numpy(), pairs.get_column(right).to_numpy()
    costs = pairs.get_column("cost").to_numpy()
    if len(np.unique(rows)) == len(rows) and len(np.unique(columns)) == len(columns):
        return pairs.select(
            left, right, pl.lit(None, pl.Int64).alias("group")
        )  # no two compete: there is nothing to solve
    from scipy.sparse import coo_matrix  # noqa: PLC0415 - a fifth of a second that most small inputs need not pay
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    uniq_l, index_l = np.unique(rows, return_inverse=True)
    uniq_r, index_r = np.unique(columns, return_inverse=True)
    size = len(uniq_l) + len(uniq_r)
    _, label = connected_components(
        coo_matrix((np.ones(len(costs)), (index_l, index_r + len(uniq_l))), shape=(size, size)), directed=False
    )
    chosen: list[tuple[int, int, int | None]] = []
    by_part = np.argsort(label[index_l], kind="stable")
    groups = 0
    for part in np.split(by_part, np.flatnonzero(np.diff(label[index_l][by_part])) + 1):
        picked, exchanged = _solve(index_l[part], index_r[part], costs[part])
        for a, b, group in picked:
            chosen.append((int(uniq_l[a]), int(uniq_r[b]), None if group is None else group + groups))
        groups += exchanged
    return pl.DataFrame(chosen, schema=schema_out, orient="row")


def _solve(
    left: NDArray[np.intp], right: NDArray[np.intp], cost: NDArray[np.float64]
) -> tuple[list[tuple[int, int, int | None]], int]:
    """One connected part of the assignment; pairs that two equal solutions exchange share a group."""
    from scipy.sparse import coo_matrix  # noqa: PLC0415
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching  # noqa: PLC0415

    names_l, rows = np.unique(left, return_inverse=True)
    names_r, columns = np.unique(right, return_inverse=True)
    if len(cost) == 1:
        return [(int(names_l[0]), int(names_r[0]), None)], 0
    cost = np.round(cost * 1000) / 1000
    # Each left node may stay alone at a price that no solution pays if it can pair; +1 keeps zero costs in the sparse
    # matrix.
    alone = 1e4 + float(cost.max()) * len(cost)
    size_l, size_r = len(names_l), len(names_r)
    priced = coo_matrix(
        (
            np.concatenate([np.round(cost * 1000) + 1, np.full(size_l, np.round(alone * 1000))]),
            (np.concatenate([rows, np.arange(size_l)]), np.concatenate([columns, size_r + np.arange(size_l)])),
        ),
        shape=(size_l, size_r + size_l),
    ).tocsr()
    matched_r, matched_c = min_weight_full_bipartite_matching(priced)
    paired = matched_c < size_r
    solved_r, solved_c = matched_r[paired].astype(np.intp), matched_c[paired].astype(np.intp)
    table = np.full((size_l, size_r), np.inf)
    table[rows, columns] = cost
    own = table[solved_r, solved_c]
    crossed = table[np.ix_(solved_r, solved_c)]
    member, label = _exchangeable(table, solved_r, solved_c, crossed, own)
    names = {int(v): i for i, v in enumerate(dict.fromkeys(label[member].tolist()))}
    return [
        (int(names_l[r]), int(names_r[c]), names[int(label[k])] if member[k] else None)
        for k, (r, c) in enumerate(zip(solved_r, solved_c, strict=True))
    ], len(names)


def _exchangeable(
    table: NDArray[np.float64],
    solved_r: NDArray[np.intp],
    solved_c: NDArray[np.intp],
    crossed: NDArray[np.float64],
    own: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which pairs another solution of nearly the same cost would pair otherwise, and which of them exchange with each other.

    A pair gives its right side to another pair at the difference of their costs; another solution is a cycle of such
    gifts. Two more nodes stand for the left and the right sides that are left over.
    """
    from scipy.sparse import coo_matrix  # noqa: PLC0415
    from scipy.sparse.csgraph import connected_components, floyd_warshall  # noqa: PLC0415

    count = len(own)
    if count > BRUTE:  # too many to search: none of them is told apart
        return np.ones(count, dtype=bool), np.zeros(count, dtype=np.intp)
    table, crossed, own = (
        np.round(x * 1000) for x in (table, crossed, own)
    )  # whole numbers: sums round a cycle are exact
    gift = np.full((count + 2, count + 2), np.inf)
    gift[:count, :count] = crossed - own[:, None]
    lone_r, lone_c = (
        np.setdiff1d(np.arange(table.shape[0]), solved_r),
        np.setdiff1d(np.arange(table.shape[1]), solved_c),
    )
    if len(lone_r):  # a left-over left side takes a pair's right side, and the pair's own left side is left over
        gift[count, :count] = table[np.ix_(lone_r, solved_c)].min(axis=0)
        gift[:count, count] = -own
    if len(lone_c):
        gift[:count, count + 1] = table[np.ix_(solved_r, lone_c)].min(axis=1) - own
        gift[count + 1, :count] = 0.0
    np.fill_diagonal(gift, np.inf)
    gift = np.where(np.abs(gift) < 1e-6, 1e-6, gift)  # scipy reads what is nearly zero as no edge
    far = floyd_warshall(np.where(np.isinf(gift), 0.0, gift), directed=True)
    back = (gift + far.T) < EQUAL * 1000
    _, label = connected_components(coo_matrix(back | back.T), directed=False)
    return np.array(back[:count].any(axis=1)), label[:count].astype(np.intp)
