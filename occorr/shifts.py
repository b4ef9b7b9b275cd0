"""By how much a proxy's clock can be wrong, as its refusals and tunnels tell: it refuses while the gateway is down, and carries tunnels while it is up.

However wrong the clock is, one shift holds for all of its lines. The shifts at which nearly all refusals fall into downtimes,
no tunnel opens in one and none lasts through one, are what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from occorr.schema import SECOND

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST: Final = 64  # lines of a proxy that are tried
FARTHEST: Final = 3600 * SECOND  # logs that were collected together overlap
NEARLY_ALL: Final = 0.9  # a proxy goes on refusing for a while when the gateway is back (Apache: 60 s)
EDGE: Final = 2 * SECOND  # a refusal may come so much before the cut or after the gateway listens
OPENS: Final = 3 * SECOND  # from a tunnel's request to its opening, and whole seconds


class Downtimes(NamedTuple):
    """Times in which no process of the gateway listened, ns, an element each."""

    cut: NDArray[np.int64]  # it takes no more clients
    gone: NDArray[np.int64]  # its last connection has ended
    up: NDArray[np.int64]  # it listens again
    ready: NDArray[np.int64]  # … and refuses nobody any more


def shifts(refused: NDArray[np.int64], tunnels: NDArray[np.int64], down: Downtimes) -> list[tuple[int, int]]:
    """The intervals of shifts, ns to add to the proxy's stamps, that are possible.

    Args:
        refused: when attempts were refused, ns by the proxy's clock.
        tunnels: when tunnels began and ended by it, ns, shape (n, 2).
        down: the downtimes by the gateway's clock, in their order.
    """
    refused, tunnels = _some(refused)[:, None], _some(tunnels)
    begun, ended = tunnels[:, :1], tunnels[:, 1:]
    low, high = _union(down.cut - EDGE, down.ready + EDGE)  # so that a refusal lies in one at most
    fits = _proper(low - refused, high - refused)
    opens = _proper(down.cut + OPENS - begun, down.up - OPENS - begun)
    lasts = _proper(down.gone + EDGE - ended, down.cut - OPENS - begun)
    # between two of these points nothing changes
    points = np.unique(np.concatenate([*fits, *opens, *lasts, [-FARTHEST, FARTHEST]]))
    points = points[(points >= -FARTHEST) & (points <= FARTHEST)]
    middle = (points[:-1] + points[1:]) // 2
    possible = _within(middle, fits) >= NEARLY_ALL * len(refused)
    for forbidden in (opens, lasts):
        possible &= _within(middle, forbidden) == 0
    low, high = _union(points[:-1][possible], points[1:][possible])
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _proper(low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The beginnings and the ends of those intervals that are not empty, each sorted."""
    kept = low < high
    return np.sort(low[kept]), np.sort(high[kept])


def _within(moments: NDArray[np.int64], bounds: tuple[NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.int64]:
    """In how many of the intervals each moment lies, given their beginnings and their ends, each sorted."""
    return np.searchsorted(bounds[0], moments, side="right") - np.searchsorted(bounds[1], moments, side="left")


def _union(low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Intervals in the order of their beginnings, those that touch as one."""
    reach = np.maximum.accumulate(high)
    first = np.concatenate([[True], low[1:] > reach[:-1]]) if len(low) else np.zeros(0, dtype=bool)
    last = np.concatenate([first[1:], [True]]) if len(low) else first
    return low[first], reach[last]


def _some(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `MOST` of the rows, the first and the last among them: with fewer, more shifts are possible, never less."""
    return times[np.unique(np.linspace(0, len(times) - 1, MOST).astype(int))] if len(times) > MOST else times
