"""How well simulated clocks are aligned: python .ci/bench_clocks.py [SEEDS]. Prints one line a figure, with its target."""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import clock_simulator as sim  # noqa: E402
from clock_simulator import MS, SECOND, Clock, measure, simulate  # noqa: E402

from occorr import alignment  # noqa: E402

seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
begin = time.time()
errors, coarse, inside, widths, found, false, abstained, useful = [], [], [], [], 0, 0, 0, 0
for seed in range(seeds):
    random = np.random.default_rng(10**6 + seed)
    clock = Clock(random.uniform(-5, 5) * SECOND, random.uniform(-50, 50))
    anchors, wrong = simulate(clock, seed)
    segments = alignment.align(anchors)
    false += len(segments) > 1
    error, bound = measure(segments, clock, anchors.at)
    errors.append(error)
    inside.append(error <= bound)
    _, oracle = measure(alignment.align(anchors.only(~wrong)), clock, anchors.at)
    widths.append(np.median(bound) / np.median(oracle))
    seconds, _ = simulate(clock, seed, resolution=SECOND)
    error, bound = measure(alignment.align(seconds), clock, seconds.at)
    coarse.append(error)
    inside.append(error <= bound)
    step = (
        random.uniform(720, 6480),
        random.choice([-1, 1]) * np.exp(random.uniform(np.log(0.5), np.log(600))) * SECOND,
    )
    stepped = Clock(clock.offset, clock.drift, (step,))
    anchors, _ = simulate(stepped, seed)
    segments = alignment.align(anchors)
    long = [s for s in segments if s.anchors and s.status == "aligned"]
    if len(long) == 2:
        moment = np.array([sim.EPOCH + step[0] * SECOND])
        found += abs(long[1].at(moment)[0] - long[0].at(moment)[0] - step[1]) <= 50 * MS
    error, bound = measure(segments, stepped, anchors.at)
    inside.append(error <= bound)
    few, _ = simulate(clock, seed, n=10)
    one_way = anchors.only(np.isfinite(anchors.low))
    cases = (few, one_way, sim.periodic(clock, seed))
    abstained += sum(alignment.align(case)[0].status == "unalignable" for case in cases)
    useful += len(cases)
errors, coarse, inside = np.concatenate(errors), np.concatenate(coarse), np.concatenate(inside)


def say(what, value, target, good):
    print(f"{what:58} {value:>10}  target {target:8} {'ok' if good else 'MISSED'}")


print(f"{seeds} seeds; two hours, ±50 ppm, 5 % wrong anchors, 200 anchors; {time.time() - begin:.0f} s")
say("stamps of 1 ms: median error", f"{np.nanmedian(errors) / MS:.3f} ms", "≤ 0.3 ms", np.nanmedian(errors) <= 0.3 * MS)
say(
    "stamps of 1 ms: 95th percentile",
    f"{np.nanquantile(errors, 0.95) / MS:.3f} ms",
    "≤ 1 ms",
    np.nanquantile(errors, 0.95) <= MS,
)
say("stamps of 1 s: median error", f"{np.nanmedian(coarse) / MS:.2f} ms", "≤ 8 ms", np.nanmedian(coarse) <= 8 * MS)
say("events whose bound holds the truth (also around steps)", f"{inside.mean():.4f}", "≥ 0.99", inside.mean() >= 0.99)
say("width against an oracle's: median of the runs", f"{np.median(widths):.2f}", "≤ 3", np.median(widths) <= 3)
say("width against an oracle's: greatest", f"{np.max(widths):.2f}", "≤ 3", np.max(widths) <= 3)
say("steps of 0.5 s to 10 min that were found", f"{found / seeds:.4f}", "≥ 0.95", found / seeds >= 0.95)
say("steps found where there is none", f"{false / seeds:.4f}", "≤ 0.01", false / seeds <= 0.01)
say("abstentions: few, one direction, periodic only", f"{abstained / useful:.4f}", "1", abstained == useful)
