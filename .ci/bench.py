"""Speed and memory of `occorr analyze` on a made-up log of a given size: python .ci/bench.py [MB]."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path


def make(path: Path, megabytes: int) -> int:
    """A gateway's console with one close in a hundred lines, the rest chatter; returns the number of closes."""
    start, closes, step = datetime(2026, 11, 21, tzinfo=UTC), 0, timedelta(milliseconds=40)
    with path.open("w", encoding="utf-8") as out:
        number = 0
        while out.tell() < megabytes * 1_000_000:
            block = []
            for _ in range(10_000):
                at = (start + number * step).isoformat(timespec="milliseconds")
                number += 1
                if number % 100:
                    block.append(
                        f"{at} [agent/embedded] tool call {number} finished in {number % 977}ms, 3 results kept of 12 that were found\n"
                    )
                else:
                    closes += 1
                    conn = f"{number:08x}-77ab-4d68-9b48-62d412b765e5"
                    block.append(
                        f"{at} [ws] closed before connect conn={conn} peer=192.0.2.7:{1024 + number % 60000}->192.0.2.2:18789 remote=192.0.2.7 fwd=n/a origin=n/a host=gw.example.org ua=x code=1008 reason=pairing required phase=ws_upgrade_started\n"
                    )
            out.writelines(block)
    return closes


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "gateway.log"
        closes = make(log, megabytes)
        begin = time.perf_counter()
        done = subprocess.run(
            [str(Path(sys.executable).with_name("occorr")), "analyze", str(log), "-o", str(Path(place) / "out")],
            stdout=subprocess.DEVNULL,
            check=False,
        )
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        size = log.stat().st_size / 1e6
        print(
            f"{size:.0f} MB, {closes:,} closes: {seconds:.1f} s, {size / seconds:.0f} MB/s, {peak:.0f} MiB at most, exit {done.returncode}"
        )


if __name__ == "__main__":
    main()
