"""`python -m tests.lab`: makes labelled incidents with a real gateway, real proxies and a real engine."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

from . import bundle, engine, incident, install, plans, stage


def make(host: engine.Engine, programs: install.Programs, plan: incident.Plan, out: Path) -> dict[str, object]:
    """One incident, from nothing to its bundle and truth."""
    with tempfile.TemporaryDirectory(prefix="occorr-lab-") as folder:
        place = stage.Stage(host, programs, plan.setting, Path(folder))
        try:
            place.up()
            run = incident.Run(place, plan)
            run.execute()
            return bundle.write(run, out / "bundles", out / "truth")
        finally:
            place.down()


def main(words: list[str] | None = None) -> int:
    """Run what the command line asks for; 0 if every incident was made."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument("--size", choices=("smoke", "nightly"), default="smoke")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, counted from --seed")
    parser.add_argument("--out", type=Path, default=Path("out/lab"), help="bundles/ and truth/ are made in it")
    parser.add_argument(
        "--only", action="append", default=[], choices=sorted(plans.STORIES), help="only this story (repeatable)"
    )
    parser.add_argument(
        "--gateway", metavar="VERSION", help="all incidents with this version of openclaw instead of the two usual ones"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="engines at once; a gateway starts slowly on a busy machine"
    )
    given = parser.parse_args(words)
    if reason := install.missing():
        print(f"lab: {reason}", file=sys.stderr)
        return 77
    wanted = [
        p for seed in range(given.seed, given.seed + given.seeds) for p in plans.plans(given.size, seed, given.only)
    ]
    if given.gateway:  # how much memory it needs is not known
        wanted = [replace(p, setting=replace(p.setting, version=given.gateway, memory="3g")) for p in wanted]
    (given.out / "bundles").mkdir(parents=True, exist_ok=True)
    programs = install.fetch(tuple(sorted({p.setting.version for p in wanted})))
    hosts: SimpleQueue[engine.Engine] = SimpleQueue()
    started = [
        engine.start(Path(tempfile.mkdtemp(prefix="occorr-engine-")), image=False)
        for _ in range(min(given.jobs, len(wanted)))
    ]
    failed = 0

    def work(plan: incident.Plan) -> bool:
        host, began = hosts.get(), time.monotonic()
        try:
            got = make(host, programs, plan, given.out)
        except Exception:  # noqa: BLE001 - the others go on
            print(f"{plan.name} {plan.story} FAILED\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            return False
        finally:
            hosts.put(host)
        line = f"{plan.name} {plan.story} gateway={got['gateway']} proxy={got['proxy']} closes={got['closes']} observable={got['observable']} knowable={got['knowable']} dropped={got['dropped']} causes={got['causes']} missing={got['missing']} problems={got['problems']}"
        print(f"{line} {time.monotonic() - began:.0f} s", flush=True)
        with open(given.out / "bundles/INDEX.txt", "a") as index:
            index.write(line + "\n")
        return True

    try:
        if given.size == "nightly":
            for version in sorted({p.setting.version for p in wanted}):
                with tempfile.TemporaryDirectory(prefix="occorr-lab-") as folder:
                    stage.prepare_state(started[0], programs, version, Path(folder))
        for one in started:
            hosts.put(one)
        with ThreadPoolExecutor(len(started)) as pool:
            try:
                failed = sum(not good for good in pool.map(work, wanted))
            except KeyboardInterrupt:  # those under way are finished
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        for one in started:
            engine.stop(one)
    return 1 if failed else 0


if __name__ == "__main__":
    os.umask(0o022)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the engines end, too
    sys.exit(main())
