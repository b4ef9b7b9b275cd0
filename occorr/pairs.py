"""A clock's offset from candidate pairs of stamps, of which some have nothing to do with each other.

The place is the offset that most pairs share (a sweep over the ends of their intervals), first with wide tolerances,
then with narrow ones for the bound; with enough pairs the linear program finds the drift too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from occorr import alignment, anchors, program
from occorr.anchors import vote, vote_once
from occorr.offsets import Estimate, linear
from occorr.schema import MS, SECOND
from occorr.zones import QUARTER

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENOUGH: Final = 3  # anchors that must agree
COARSE: Final = 1_200 * MS  # a close line comes up to 1 s after the decision
# proxy end minus gateway close when nothing is wrong: the gateway logs up to 7 ms after
FINE: Final = (-9 * MS, 2 * MS)
SLOW: Final = 150 * MS  # by how much a busy gateway's lines come later than the proxy's
LATE: Final = 20 * MS  # … and the proxy's than the gateway's
NARROW: Final = (-4 * MS, 2 * MS)  # … and what two thirds of them keep to
MOSTLY: Final = 0.6  # share of the anchors in place that must keep to it
FINELY: Final = 10 * MS  # stamps of this resolution tell how much their own lags are
TOGETHER: Final = (3, 6)  # ends one after the other, of which one lags little
CHANCE: Final = 8  # one in so many pairs may have nothing to do with each other and look right
LEAST_LAG: Final = 2 * MS  # what the least lag of several is not known better than
SYSTEMATIC: Final = 2 * MS  # what the bulk of that lag may be off by
CHANCES: Final = 2  # so many wrong partners may look right beside coarse stamps
PLATEAU: Final = 0.8  # wrong anchors move the peak inside its plateau: the bound is where this share of it still agrees
FAR_ENOUGH: Final = 6  # … for an offset of more than NEARBY
ZONE_ENOUGH: Final = 4  # … or for one that is so near to a zone's
NEARBY: Final = 5 * SECOND
STEP: Final = 400 * MS  # the least step of a clock that is told from lags
NEAR: Final = 20 * MS  # what drift moves a place by in the usual span
WIDEST: Final = 30 * SECOND  # a place known no better than this settles nothing
SURELY: Final = 0.9  # share of the refusals that must lie in downtimes where nothing else tells the offset
THIN: Final = 300  # lines of a side that are paired with the other's
MANY: Final = 40  # lines of which it can be told whether their lags are alike from one to the next
SWINGS: Final = 5.0  # … by so many times what chance makes of it
NEIGHBOURS: Final = 5  # … of which one lags little
MARGIN: Final = 0.6  # second peak / first peak above which a coarse place is ambiguous


def thin(frame: pl.DataFrame) -> pl.DataFrame:
    """At most `THIN` of the rows, evenly, so that every one may be paired with every one."""
    return frame if frame.height <= THIN else frame.gather_every(frame.height // THIN + 1)


def settle(pairs: pl.DataFrame, windows: pl.DataFrame, method: str, extra: int) -> Estimate | None:
    """An offset from pairs of stamps and from windows that hold it: the place first, then offset, drift and bound.

    Args: pairs: candidate pairs: `p`, this clock's time of the end; `g`, the aligned stamp of the other side; `ours` and
    `theirs`, which connection of the one and which of the other that is, of which each is in one right pair; `at`,
    when this clock was read, which is the beginning where the end is told by a duration; `width`, the resolution of p;
    `alike`, whether both sides say that it lasted as long, and `same`, whether that was long enough to tell it from others.
    A stamp truncated to `width` stands for [p, p + width), so the offset lies in [p − g, p − g + width) but for lags.
    windows: `p`, a refused attempt, `up`, the end of a downtime, `low` and `high`, the offsets with which the one lies
    in the other. method: what the anchors are, for the table. extra: half-width of the other side's own bound, ns.
    """
    pairs = pairs.sort("at", "g", "p")
    cut = _set_at(pairs)
    if cut is not None:
        one, two = (
            _steady(part, windows.clear(), method, extra, sure=True)
            for part in (pairs.filter(pl.col("at") <= cut), pairs.filter(pl.col("at") > cut))
        )
        if one is not None and two is not None and one.segments and two.segments:
            both = [*one.segments, *(s.later(two.base - one.base) for s in two.segments)]
            return linear(
                alignment.beside(both, [_between(both[0], both[1], windows, one.base)]), one.base, extra, method
            )
    found, ends = _steady(pairs, windows, method, extra), _alone(pairs, method, extra)
    if found is not None and ends is not None:
        found = found if abs(found.offset - ends.offset) <= found.error + ends.error else ends
    else:
        found = found or ends
    return found and _doubted(found, pairs, windows)


def _alone(pairs: pl.DataFrame, method: str, extra: int) -> Estimate | None:
    """An offset from connections whatever the refusals say: a few that agree to fractions of a second outweigh many wide windows."""
    if pairs.is_empty():
        return None
    p, g, width = (pairs.get_column(c).to_numpy() for c in ("p", "g", "width"))
    low, high = p - g - LATE, p - g + width + SLOW
    start, end, agreed = vote_once(low, high, _sides(pairs))
    held = (low <= end) & (high >= start)
    rival = vote_once(low[~held], high[~held], _sides(pairs, ~held))[2] if not held.all() else 0
    needed = ENOUGH if start <= NEARBY and end >= -NEARBY else FAR_ENOUGH
    if agreed < needed or rival > MARGIN * agreed:
        return None
    near = (low <= end + COARSE) & (high >= start - COARSE)
    start, end, _ = _place(pairs, near, (-SLOW, LATE))
    return _even(pairs, (start, end), agreed, round(1 - agreed / int(held.sum()), 4), method, extra)


def _sides(pairs: pl.DataFrame, which: NDArray[np.bool_] | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Who is paired with whom, of some of the pairs."""
    ours, theirs = (pairs.get_column(c).to_numpy() for c in ("ours", "theirs"))
    return (ours, theirs) if which is None else (ours[which], theirs[which])


def _set_at(pairs: pl.DataFrame) -> int | None:
    """When the clock was set, ns on the other side's clock: two places, each held by the anchors on one side of a moment.

    A connection that one place explains is not asked for the other, so that chance agreement has only the rest.
    """
    if pairs.is_empty():
        return None
    p, g, read, width, same = (pairs.get_column(c).to_numpy() for c in ("p", "g", "at", "width", "same"))
    low, high = p - g - FINE[1], p - g + width - FINE[0]
    ours, theirs = _sides(pairs)
    first = _held(low, high)
    rest = ~first & ~np.isin(ours, ours[first]) & ~np.isin(theirs, theirs[first])
    if first.sum() < ENOUGH or not rest.any():
        return None
    second = np.zeros(len(p), np.bool_)
    second[rest] = _held(low[rest], high[rest])
    needed = ENOUGH - 1 if same[second].all() else ENOUGH
    apart = abs(float(np.median(p[first] - g[first])) - float(np.median(p[second] - g[second])))
    if second.sum() < needed or apart < STEP + float(np.median(width)):
        return None
    # a gateway that was paused tells ends of one moment late, and by as much, and its connections lasted longer by as
    # much; nothing makes it tell them early
    behind = first if np.median((p - g)[first]) < np.median((p - g)[second]) else second
    if not same[behind].any() and (np.diff(np.sort(g[behind])) <= COARSE).all():
        return None
    at = np.concatenate([read[first], read[second]])
    side = np.concatenate([np.ones(int(first.sum()), np.int64), -np.ones(int(second.sum()), np.int64)])
    order = np.argsort(at, kind="stable")
    balance = np.cumsum(side[order])  # greatest distance from 0: where one place ends and the other begins
    where = int(np.argmax(np.abs(balance - balance[-1] / 2)))
    sign = np.sign(balance[where] - balance[-1] / 2)
    wrong = int((side[order][: where + 1] != sign).sum() + (side[order][where + 1 :] != -sign).sum())
    if wrong > program.VIOLATED * len(at) or where + 1 >= len(at):
        return None
    return int(at[order][where])


def _between(one: program.Segment, two: program.Segment, windows: pl.DataFrame, base: int) -> tuple[float, float]:
    """When the clock was set: after what only the first place explains, before what only the second does.

    That is ends of connections, and refused attempts, which lie in a downtime.
    """

    def explained(by: program.Segment, other: program.Segment) -> list[float]:
        lies = [
            ((pl.col("low") - s.offset) <= s.errors.max()) & ((s.offset - pl.col("high")) <= s.errors.max())
            for s in (by, other)
        ]
        sought = windows.group_by("p").agg(lies[0].any().alias("by"), lies[1].any().alias("other"))
        refused = sought.filter(pl.col("by") & ~pl.col("other")).get_column("p").to_numpy() - (base + by.offset)
        return [float(t) for t in refused if one.last < t < two.first]

    begin, end = max([one.last, *explained(one, two)]), min([two.first, *explained(two, one)])
    return (begin, end) if begin <= end else (one.last, two.first)


def _stands(found: Estimate, pairs: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """When the clock was read for each pair, in the estimate's time, and between which offsets it stood if the pair is one, ns."""
    p, g, read, width = (pairs.get_column(c).to_numpy() for c in ("p", "g", "at", "width"))
    return (read - found.base).astype(np.float64), p - g - LATE, p - g + width + SLOW


def explained(found: Estimate, pairs: pl.DataFrame) -> pl.Series:
    """Whether a segment of the estimate holds each pair, whether or not they are those that it was made of."""
    at, low, high = _stands(found, pairs)
    held = np.zeros(len(at), np.bool_)
    for line in found.segments:
        error = line.error(at) + found.extra
        held |= (low <= line.at(at) + error) & (high >= line.at(at) - error)
    return pl.Series(held)


def _doubted(found: Estimate, pairs: pl.DataFrame, windows: pl.DataFrame) -> Estimate:
    """The estimate of a clock that ran evenly, but for what lies beyond its anchors where a connection there tells another place.

    It is too little to say that the clock was set, and may have lasted as long as another by chance: the bound covers both.
    """
    if len(found.segments) != 1:
        return found
    (line,), held = found.segments, explained(found, pairs).to_numpy()
    at, low, high = _stands(found, pairs)
    width = pairs.get_column("width").to_numpy()
    (ours, its_ours), (theirs, its_theirs) = ((side, side[held]) for side in _sides(pairs))
    rest = ~np.isin(ours, its_ours) & ~np.isin(theirs, its_theirs)
    rest &= pairs.get_column("same").to_numpy() | (pairs.get_column("alike").to_numpy() & _unrivalled(pairs, rest))
    before, pieces, after = [], line, []
    for which in (rest & (at < line.first), rest & (at > line.last)):
        if not which.any() or (end := int(high[which].min())) < (begin := int(low[which].max())):
            continue
        if abs((begin + end) / 2 - line.offset) < STEP + np.median(width[which]):
            continue
        other = program.known(at[which], (begin + end) / 2, (end - begin) / 2)
        if other.last < line.first:
            edge = _between(other, line, windows, found.base)[1]
            both = alignment.either(other, line, other.first, edge, alignment.DOUBTED)
            before, pieces = [replace(both, start=-np.inf)], replace(pieces, start=edge)
        else:
            edge = _between(line, other, windows, found.base)[0]
            both = alignment.either(line, other, edge, other.last, alignment.DOUBTED)
            after, pieces = [replace(both, end=np.inf)], replace(pieces, end=edge)
    return replace(found, segments=(*before, pieces, *after))


def _held(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which intervals hold the place that most of them share, or nearly, as drift may move it."""
    start, end, _ = vote(low, high)
    return (low <= end + NEAR) & (high >= start - NEAR)


def _steady(
    pairs: pl.DataFrame, windows: pl.DataFrame, method: str, extra: int, *, sure: bool = False
) -> Estimate | None:
    """An estimate of a clock that nobody set; `sure`: chance agreement was ruled out."""
    diff, width = (pairs.get_column("p") - pairs.get_column("g")).to_numpy(), pairs.get_column("width").to_numpy()
    if len(diff) + windows.height == 0:
        return None
    low, high = (
        np.concatenate([diff - COARSE, windows.get_column("low").to_numpy()]),
        np.concatenate([diff + width + COARSE, windows.get_column("high").to_numpy()]),
    )
    # a connection is one of the other side's; each refusal stands for itself, whatever others lie in the same downtime
    own = -1 - np.arange(windows.height)
    ours, theirs = (np.concatenate([side, own]) for side in _sides(pairs))
    start, end, support = vote_once(low, high, (ours, theirs))
    far = (high < start - 2 * COARSE) | (low > end + 2 * COARSE)
    rival = vote_once(low[far], high[far], (ours[far], theirs[far]))[2] if far.any() else 0
    # Chance agreement grows with the range that is searched: far from zero more anchors must agree.
    enough = ENOUGH - 1 if sure or _of_one_mind(pairs) else ENOUGH
    zone = round((start + end) / 2 / QUARTER) * QUARTER
    usual = start <= zone + NEARBY and end >= zone - NEARBY
    needed = enough if sure or (usual and zone == 0) else ZONE_ENOUGH if usual else FAR_ENOUGH
    if support < needed or rival > MARGIN * support:
        return None
    near = (diff - COARSE <= end) & (diff + width + COARSE >= start)
    total = int(near.sum()) + windows.height
    violated = round(1 - support / max(total, support), 4)
    if near.any():
        first, last, agreed = _place(pairs, near, FINE)
        if vote((diff - FINE[1])[near], (diff + width - FINE[0])[near])[2] >= enough:
            place = _narrow(pairs, (first, last), agreed)
            even = _even(pairs, place, max(agreed, support), violated, method, extra)
            ends = _ends(pairs, place, method, extra)
            few = int(near.sum()) < program.ENOUGH
            return even if ends is None or (few and even.error < ends.error) else ends
        # two may agree by chance while a busy gateway delays the rest: what more of them hold is wider
        first, last, agreed = _place(pairs, near, (-SLOW, FINE[1]))
        if agreed >= ENOUGH - 1 and support > ENOUGH - 1:
            return _even(pairs, (first, last), max(agreed, support), violated, method, extra)
    # refusals alone: a proxy refuses for other reasons too, so nearly all of them must lie in several downtimes here
    holds = windows.filter((pl.col("low") <= end) & (pl.col("high") >= start))
    alone = (
        holds.get_column("up").n_unique() < 2
        or holds.get_column("p").n_unique() < SURELY * windows.get_column("p").n_unique()
    )
    if end - start > WIDEST or (not near.any() and (alone or start <= 0 <= end)):
        return None
    return Estimate((start + end) // 2, (end - start) // 2 + SYSTEMATIC + extra, support, violated, method, "aligned")


def _place(pairs: pl.DataFrame, which: NDArray[np.bool_], lag: tuple[int, int]) -> tuple[int, int, int]:
    """Where the offset lies, given by how much the one side's lines may come before and after the other's: (from, to, how many)."""
    diff, width = (pairs.get_column("p") - pairs.get_column("g")).to_numpy(), pairs.get_column("width").to_numpy()
    low, high, sides = (diff - lag[1])[which], (diff + width - lag[0])[which], _sides(pairs, which)
    if width[which].max() <= FINELY:
        return vote_once(low, high, sides, PLATEAU)
    # coarse stamps agree with wrong partners too
    most = vote_once(low, high, sides)[2]
    return vote_once(low, high, sides, max(min(PLATEAU, 1 - CHANCES / most), 0.5))


def _narrow(pairs: pl.DataFrame, place: tuple[int, int], agreed: int) -> tuple[int, int]:
    """The part of the place that most of its anchors share when each is given the usual lag and not the longest."""
    low, high = place
    diff, width = (pairs.get_column("p") - pairs.get_column("g")).to_numpy(), pairs.get_column("width").to_numpy()
    kept = (diff - FINE[1] <= high) & (diff + width - FINE[0] >= low)
    if kept.sum() < ENOUGH:
        return low, high
    first, last, support = _place(pairs, kept, NARROW)
    return (
        (max(low, first), min(high, last))
        if support >= max(ENOUGH, MOSTLY * agreed) and last > low and first < high
        else (low, high)
    )


def _ends(pairs: pl.DataFrame, place: tuple[int, int], method: str, extra: int) -> Estimate | None:
    """Offset and drift from the ends of the same connections that agree with the place but for drift."""
    base = int(pairs.item(0, "at"))  # sorted
    at, diff, width = (
        pairs.get_column("at").to_numpy() - base,
        (pairs.get_column("p") - pairs.get_column("g")).to_numpy(),
        pairs.get_column("width").to_numpy(),
    )
    reach = int(program.DRIFT * (at.max() - at.min()))
    low, high = diff - FINE[1], diff + width - FINE[0]
    likely = (low <= place[1] + reach) & (high >= place[0] - reach)
    if likely.sum() >= ENOUGH and width[likely].max() <= FINELY:
        given, systematic = _lagged(at[likely], diff[likely], width[likely], reach), 0
    elif (one := likely & _unrivalled(pairs, likely)).sum() >= program.ENOUGH:
        given, systematic = anchors.within(at[one], low[one], high[one], hard=True), SYSTEMATIC
    else:
        return None
    segments = alignment.align(given)
    if len(segments) != 1 or segments[0].status != "aligned":
        return None
    (line,) = segments
    line = replace(line, errors=line.errors + _wander(line.at(at[likely].astype(np.float64)) - diff[likely]))
    return linear([line], base, extra + systematic, method)


def _wander(late: NDArray[np.float64]) -> float:
    """By how much a clock ran off its line for a while, ns, from how late each of its lines looks in order of time.

    Lags of neighbours have little to do with each other. Where they have, the clock swung, and the least of several
    neighbours tells how far.
    """
    late = late[late < SLOW]
    if len(late) < MANY:
        return 0.0
    off = late - late.mean()
    alike = float((off[1:] * off[:-1]).sum() / max((off * off).sum(), 1.0))
    if alike <= SWINGS / np.sqrt(len(late)):
        return 0.0
    return max(float(np.lib.stride_tricks.sliding_window_view(late, NEIGHBOURS).min(axis=1).max()), 0.0)


def _unrivalled(pairs: pl.DataFrame, likely: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pairs of which neither side may be in another likely one."""
    counts = [(side, *np.unique(side[likely], return_counts=True)) for side in _sides(pairs)]
    ours, theirs = (np.isin(side, one[often == 1]) for side, one, often in counts)
    return np.asarray(ours & theirs, np.bool_)


def _of_one_mind(pairs: pl.DataFrame) -> bool:
    """Whether each connection has one possible partner, and all agree to milliseconds: nothing had to be chosen."""
    if pairs.is_empty() or not _unrivalled(pairs, np.ones(pairs.height, np.bool_)).all():
        return False
    diff, width = (pairs.get_column("p") - pairs.get_column("g")).to_numpy(), pairs.get_column("width").to_numpy()
    return bool(width.max() <= FINELY and np.ptp(diff) <= FINE[1] - FINE[0] + width.max())


def _lagged(at: NDArray[np.int64], diff: NDArray[np.int64], width: NDArray[np.int64], reach: int) -> anchors.Anchors:
    """Anchors from stamps that are fine enough to tell how late the gateway's lines are: of several one is hardly late."""
    chance = len(diff) // CHANCE
    most = int(np.sort(diff)[-1 - chance])
    kept = diff <= most + FINE[1] + reach
    at, diff, width = at[kept], diff[kept], width[kept]
    mean = anchors.mean_lag(np.minimum(diff, most))
    return anchors.join(
        [
            anchors.within(at, diff - FINE[1], np.full(len(at), np.inf), hard=True),
            *(anchors.least_lagged(at, diff, width, np.arange(len(at)) // size, mean, LEAST_LAG) for size in TOGETHER),
        ]
    )


def _even(
    pairs: pl.DataFrame, place: tuple[int, int], support: int, violated: float, method: str, extra: int
) -> Estimate:
    """Too few anchors to tell a drift: what it may be is part of the bound."""
    near = pairs.filter(
        (pl.col("p") - pl.col("g") <= place[1] + COARSE)
        & (pl.col("p") + pl.col("width") - pl.col("g") >= place[0] - COARSE)
    ).get_column("at")
    base = int(near.item(0))  # sorted
    at = (near.to_numpy() - base).astype(np.float64)
    error = (place[1] - place[0]) / 2 + SYSTEMATIC + program.DRIFT * at[-1] / 2
    piece = program.known(at, (place[0] + place[1]) / 2, error, support, violated)
    return linear([piece], base, extra, method)
