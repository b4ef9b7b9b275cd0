"""`occorr watch`: how soon each kind of fault is told, and then 10,000 lines a second from one container beside closes.

    bench_watch.py [MINUTES [TIMES]]      as root, with docker.io and busybox-static; default 10 minutes of load, each fault 5 times

First a table: from the engine's stamp of a close's last evidence to its verdict, at least, in the middle and at most, against the
2 s that are promised, and how many verdicts had to be revised; the machine should be idle. Then the most memory that it took (resident, all its processes), the processor's share, whether a
line is missing, and how late verdicts came. Exits with 1 where a verdict came later than promised.
"""

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import polars as pl

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from lab import drills, engine as engines, gateway as gateways, watching as watches  # noqa: E402
from lab.drills import DRILLS  # noqa: E402
from occorr import segments  # noqa: E402

MINUTES = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
TIMES = int(sys.argv[2]) if len(sys.argv) > 2 else 5
PROMISED_MS = 2000
TALK = r"""
while [ ! -e /tmp/go ]; do sleep 0.05; done
awk -v most=%d '
  function clock(line) { getline line < "/proc/uptime"; close("/proc/uptime"); sub(/ .*/, "", line); return line + 0 }
  BEGIN { begin = clock(); for (n = 1; n <= most; n++) {
    print n, "the quick brown fox jumps over the lazy dog and back again, said the hen to the gander"
    if (n %% 250 == 0) { fflush(); while (n / 10000 > clock() - begin) system("usleep 5000") }
  } }'
"""


def memory(pid: int) -> tuple[int, float]:
    """Resident KiB and processor seconds of a process and its children."""
    kib = ticks = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(entry.name) == pid or int(fields[1]) == pid:
                kib += int(
                    next(
                        line.split()[1]
                        for line in (entry / "status").read_text().splitlines()
                        if line.startswith("VmRSS")
                    )
                )
                ticks += int(fields[11]) + int(fields[12])
        except (OSError, StopIteration):
            continue
    return kib, ticks / 100


def catching_up(record: Path, quiet: float = 5.0, patience: float = 600.0) -> float:
    """Waits until nothing has been appended to the record for a while; how long that took beyond it, in seconds."""
    begun = time.time()
    while time.time() - begun < patience:
        newest = max(path.stat().st_mtime for path in record.glob("*.journal"))
        if time.time() - newest > quiet:
            return max(newest - begun, 0.0)
        time.sleep(0.5)
    return patience


def drilled() -> bool:
    """Prints the table of faults, each under a watch of its own; whether each was told in time and with its cause."""
    late = False
    print(
        f"{'fault':<42} {'told as':<20} {'ms: least':>9} {'median':>7} {'most':>6} {'revised':>8} {'judged s':>9}   load {os.getloadavg()[0]:.1f}"
    )
    with engines.running() as engine:
        gateways.prepare(engine)
        for number, drill in enumerate(DRILLS):
            conns: set[str] = set()
            with watches.watching(engine) as watch:
                for turn in range(TIMES):
                    with gateways.speaking() as gateway:
                        scene, cut = drill.run(engine, gateway, f"d{number}-{turn}")
                        conns |= set(cut)
                        watch.until(lambda r: r.get("close_id") in conns and r["cause"] == drill.cause, 60, len(conns))  # noqa: B023 - called in this turn
                        drills.clear(engine, scene.project)
                watch.end()
            told = [r for r in watch.rows if r.get("close_id") in conns]
            lags = [r["lag_ms"] for r in told if r["cause"] == drill.cause]
            revised = sum(r["type"] == "revised" for r in told)
            late = late or max(lags) > PROMISED_MS
            print(
                f"{drill.name:<42} {drill.cause:<20} {min(lags):>9} {round(statistics.median(lags)):>7} {max(lags):>6} {revised:>8} {watch.rows[-1]['slowest_analysis_s']:>9}",
                flush=True,
            )
    print()
    return not late


def loaded() -> None:
    """Prints what the load costs."""
    count = int(MINUTES * 600_000)
    with (
        engines.running() as engine,
        gateways.speaking() as gateway,
        tempfile.TemporaryDirectory(prefix="occorr-bench-") as folder,
    ):
        gateways.prepare(engine)
        gateways.run(engine, gateway, "bench")
        talker = engine.docker(
            "run",
            "--detach",
            "--name",
            "bench-talker-1",
            "--label",
            "com.docker.compose.project=bench",
            "--log-opt",
            "max-size=50m",
            "--log-opt",
            "max-file=3",
            engines.IMAGE,
            "sh",
            "-c",
            TALK % count,
        )
        record = Path(folder, "record")
        with watches.watching(engine, "--project", "bench", "--record", record, "--record-size", "10GB") as watch:
            engine.docker("exec", talker, "touch", "/tmp/go")
            begun, over, peak, spent = time.monotonic(), threading.Event(), 0, 0.0
            threading.Thread(
                target=lambda: (engine.docker("wait", talker, timeout=7200), over.set()), daemon=True
            ).start()
            told = 0
            while not over.wait(1.0):
                kib, spent = memory(watch.process.pid)
                peak = max(peak, kib)
                if time.monotonic() - begun > 5 * told:
                    told += 1
                    gateway.refuse(port=20_000 + told)
                    if told % 12 == 0:
                        print(
                            f"{time.monotonic() - begun:6.0f} s  {kib / 1024:.0f} MB now, {peak / 1024:.0f} MB at most",
                            flush=True,
                        )
            seconds = time.monotonic() - begun
            closes = watch.until(lambda r: r["type"] == "close", 60, told)
            behind_s = catching_up(record)
            watch.end()
        rows = watch.rows
        numbers = pl.concat(
            frame.select(pl.col("raw").str.extract(r"^\S+ (\d+) ", 1).cast(pl.Int64))
            for s in segments.stored(record)
            if s.source.kind == "log" and "talker" in s.source.path
            for frame in s.lines()
        ).to_series()
        size = sum(p.stat().st_size for p in record.iterdir())
    lags = sorted(r["lag_ms"] for r in closes)
    print(json.dumps({
        "seconds": round(seconds), "lines_a_second": round(count / seconds), "peak_rss_mb": round(peak / 1024), "processor_share": round(spent / seconds, 2), "lines_written": count, "lines_recorded": len(numbers),
        "missing": count - numbers.n_unique(), "twice": len(numbers) - numbers.n_unique(), "holes": int((numbers.diff() > 1).sum()), "in_order": bool(numbers.is_sorted()), "behind_s": round(behind_s, 1), "record_mb": round(size / 1e6), "verdicts": len(closes), "lag_ms_median": lags[len(lags) // 2], "lag_ms_p95": lags[int(len(lags) * 0.95)], "lag_ms_most": lags[-1],
        "analyses": rows[-1]["analyses"], "slowest_analysis_s": rows[-1]["slowest_analysis_s"],
    }, indent=1))  # fmt: skip


def main() -> int:
    if reason := engines.missing():
        sys.exit(reason)
    in_time = drilled() if TIMES else True
    if MINUTES:
        loaded()
    return 0 if in_time else 1


if __name__ == "__main__":
    sys.exit(main())
