"""Makes anchors of a clock whose true offset is known: drift, steps, truncation, wrong anchors, log-normal delays, buffered writers."""

from dataclasses import dataclass

import numpy as np

from occorr.anchors import within

MS = 1_000_000
SECOND = 1_000_000_000
EPOCH = 1_795_240_000 * SECOND


@dataclass(frozen=True)
class Clock:
    """offset (ns) at the start, drift (ppm), and the steps (seconds from the start, ns)."""

    offset: float = 0.0
    drift: float = 0.0
    steps: tuple[tuple[float, float], ...] = ()

    def at(self, when):
        """True offset at reference times (ns)."""
        when = np.asarray(when, float)
        value = self.offset + self.drift * 1e-6 * (when - EPOCH)
        for after, size in self.steps:
            value = value + size * (when >= EPOCH + after * SECOND)
        return value


def truncate(stamps, resolution):
    return np.floor_divide(stamps, resolution) * resolution


def simulate(
    clock,
    seed,
    *,
    n=200,
    hours=2.0,
    wrong=0.05,
    resolution=MS,
    reference_resolution=MS,
    delay=2.0,
    sigma=0.8,
    one_way=False,
    buffered=0.0,
    wrong_reach=20.0,
):
    """Anchors of `n` messages between the two clocks, half of them each way, and which of them are wrong.

    A message leaves on one clock and arrives `delay` ms (median of a log-normal) later on the other. A wrong anchor pairs
    two lines that have nothing to do with each other, up to `wrong_reach` seconds apart. A buffered writer stamps late: up
    to one second for that share of the messages that this clock receives (a longer delay, which still bounds its side).
    """
    random = np.random.default_rng(seed)
    sent = np.sort(random.uniform(0, hours * 3600, n)) * SECOND + EPOCH
    lag = random.lognormal(np.log(delay), sigma, n) * MS
    here = np.zeros(n, bool) if one_way else random.random(n) < 0.5  # this clock sends
    late = ~here & (random.random(n) < buffered)
    lag = np.where(late, lag + random.uniform(0, SECOND, n), lag)
    arrived = sent + lag
    mine, other = np.where(here, sent, arrived), np.where(here, arrived, sent)
    false = random.random(n) < wrong
    mine = np.where(false, mine + random.uniform(-wrong_reach, wrong_reach, n) * SECOND, mine)
    written = truncate(mine + clock.at(mine), resolution)
    reference = truncate(other, reference_resolution)
    # stamps stand for [t, t + resolution); the offset changes little within one delay
    high = np.where(here, np.inf, written + resolution - reference)  # this clock received: offset ≤ written − sent
    low = np.where(
        here, written - reference - reference_resolution, -np.inf
    )  # this clock sent: offset ≥ written − arrived
    given = within(reference, low, high)
    return given, false[np.lexsort((high, low, reference))]


def measure(segments, clock, when):
    """Error of the estimate and its bound at reference times, ns; NaN and inf where the clock is unalignable."""
    when = np.asarray(when, float)
    error, bound = np.full(len(when), np.nan), np.full(len(when), np.inf)
    for segment in segments:
        inside = (when >= segment.start) & (when < segment.end)
        if segment.status == "aligned":
            error[inside] = np.abs(segment.at(when[inside]) - clock.at(when[inside]))
            bound[inside] = segment.error(when[inside])
    return error, bound


def periodic(clock, seed, *, pulses=40, period=30.0):
    """Candidate pairs of two logs that hold nothing but a pulse: each pulse of one may be any of the other."""
    random = np.random.default_rng(seed)
    true = EPOCH + np.arange(pulses) * period * SECOND
    mine = truncate(true + clock.at(true) + random.lognormal(np.log(2), 0.8, pulses) * MS, MS)
    difference = (mine[:, None] - true[None, :]).ravel()
    return within(np.tile(true, pulses), difference - 20 * MS, difference + 20 * MS)
