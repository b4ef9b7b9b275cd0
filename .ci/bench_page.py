"""How fast the timeline page opens and zooms: python .ci/bench_page.py [EVENTS …]. Prints one line a figure, with its target.

The log is made up, read by the real pipeline with every line kept, and opened from disk in Debian's chromium without a GPU.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from selenium import webdriver

import occorr
from occorr import report

SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1440,900",
)  # fmt: skip
# Two frames after the key: the first may still show the old picture.
ZOOM = """
const done = arguments[0], begin = performance.now();
document.dispatchEvent(new KeyboardEvent("keydown", { key: "%s", bubbles: true }));
requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begin)));
"""
START = datetime(2026, 11, 21, tzinfo=UTC)


def stamp(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def make(folder: Path, events: int) -> None:
    """A gateway's console, one close in twenty lines, ordinary ones and refused ones, and a restart every 50,000 lines."""
    step = 0.04
    with (folder / "gateway.log").open("w", encoding="utf-8") as out:
        for n in range(events):
            at = stamp(n * step)
            conn = f"{n // 20:08x}-77ab-4d68-9b48-62d412b765e5"
            if n % 40 == 10:
                text = f"[ws] webchat connected conn={conn} remote=192.0.2.{n % 200} client=openclaw-control-ui webchat v2026.9.6"
            elif n % 40 == 30:
                text = f"[ws] webchat disconnected code={(1000, 1001, 1005, 1012)[n // 40 % 4]} reason=n/a conn={f'{(n - 20) // 20:08x}'}-77ab-4d68-9b48-62d412b765e5"
            elif n % 40 == 35:
                text = f"[ws] closed before connect conn={conn} peer=192.0.2.7:{1024 + n % 60000}->192.0.2.2:18789 remote=192.0.2.7 fwd=n/a origin=n/a host=gw.example.org ua=x code=1008 reason=pairing required phase=ws_upgrade_started"
            else:
                text = f"[agent/embedded] tool call {n} finished in {n % 977}ms, 3 results kept of 12 that were found"
            out.write(f"{at} {text}\n")
    with (folder / "docker.events.jsonl").open("w", encoding="utf-8") as out:
        for n in range(0, events, 50_000):
            for k, action in enumerate(("oom", "die", "start")):
                nano = int((START.timestamp() + (n + 25_000) * step + k) * 1e9)
                attributes = {
                    "image": "openclaw/gateway:2026.9.6",
                    "name": "claw_gateway_1",
                    "com.docker.compose.project": "claw",
                    "com.docker.compose.service": "gateway",
                } | ({"exitCode": "137"} if action == "die" else {})
                out.write(
                    json.dumps(
                        {
                            "status": action,
                            "id": "a" * 64,
                            "Type": "container",
                            "Action": action,
                            "Actor": {"ID": "a" * 64, "Attributes": attributes},
                            "scope": "local",
                            "time": nano // 10**9,
                            "timeNano": nano,
                        }
                    )
                    + "\n"
                )


def say(what: str, value: str, target: str = "", good: bool = True) -> bool:
    print(
        f"  {what:44} {value:>12}" + (f"   target {target:9} {'ok' if good else 'MISSED'}" if target else ""),
        flush=True,
    )
    return good


def busy(browser: webdriver.Chrome) -> float:
    """CPU seconds of the page's main thread so far: what does not depend on who else uses the machine."""
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(m["value"] for m in metrics if m["name"] == "TaskDuration")


def measure(events: int) -> bool:
    held = events <= 100_000
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "logs"
        folder.mkdir()
        make(folder, events)
        begin = time.perf_counter()
        result = occorr.analyze(folder, all_lines=True)
        analysed = time.perf_counter() - begin
        begin = time.perf_counter()
        file = Path(place) / "timeline.html"
        file.write_text(report.timeline_html(result), encoding="utf-8")
        written = time.perf_counter() - begin
        print(
            f"{result.timeline.height:,} events, {result.closes.height:,} closes, {result.incidents.height:,} incidents (analysed in {analysed:.1f} s)"
        )
        good = [
            say("page written", f"{written:.1f} s"),
            say(
                "file",
                f"{file.stat().st_size / 1e6:.2f} MB",
                "≤ 6 MB" if held else "≤ 25 MB",
                file.stat().st_size < (6e6 if held else 25e6),
            ),
        ]
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or "chromium"
        for switch in (*SWITCHES, f"--user-data-dir={place}/profile"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.page_load_strategy = "none"
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            browser.set_script_timeout(120)
            browser.get("about:blank")
            browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
            browser.get(file.as_uri())
            until = time.monotonic() + 120
            while (
                browser.execute_script("return document.documentElement.dataset.ready") != "yes"
                and time.monotonic() < until
            ):
                time.sleep(0.2)
            used = busy(browser)
            paint = (
                browser.execute_script(
                    "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN"
                )
                / 1000
            )
            ready = (
                browser.execute_script("return window.performance.getEntriesByName('picture')[0]?.startTime ?? NaN")
                / 1000
            )
            good.append(
                say(
                    "first paint: header, cards, verdict",
                    f"{paint:.2f} s",
                    "≤ 3 s" if held else "≤ 10 s",
                    paint <= (3 if held else 10),
                )
            )
            good.append(
                say(
                    "picture drawn and table filled",
                    f"{ready:.2f} s",
                    "≤ 3 s" if held else "≤ 30 s",
                    ready <= (3 if held else 30),
                )
            )
            say("CPU time of the page until then", f"{used:.2f} s")
            browser.execute_script("document.querySelector('#home').click()")
            used = busy(browser)
            zooms = [browser.execute_async_script(ZOOM % key) / 1000 for key in "++++--+-+-"]
            used = (busy(browser) - used) / len(zooms)
            good.append(
                say(
                    "zoom by key, slowest of ten",
                    f"{max(zooms):.2f} s",
                    "≤ 1 s" if held else "≤ 10 s",
                    max(zooms) <= (1 if held else 10),
                )
            )
            say("CPU time of a zoom, mean", f"{used:.2f} s")
            begin = time.perf_counter()
            browser.execute_async_script(
                "const d = arguments[0]; document.querySelector('.card button').click(); requestAnimationFrame(() => requestAnimationFrame(d))"
            )
            say("zoom to an incident", f"{time.perf_counter() - begin:.2f} s")
            searched = browser.execute_async_script(
                "const d = arguments[0], b = document.querySelector('#search'), t = performance.now(); b.value = 'pairing 192.0.2.7'; b.dispatchEvent(new Event('input')); setTimeout(() => requestAnimationFrame(() => d(performance.now() - t)), 125)"
            )
            say("search, from the last letter", f"{searched / 1000:.2f} s")
            errors = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
            good.append(say("console errors", str(len(errors)), "0", not errors))
            print("\n".join(f"    {e}" for e in errors[:3]), end="")
        finally:
            browser.quit()
    return all(good)


def main() -> None:
    sizes = [int(a.replace("_", "")) for a in sys.argv[1:]] or [10_000, 100_000, 1_000_000]
    print(f"chromium without a GPU, {os.cpu_count()} cores")
    sys.exit(0 if all([measure(size) for size in sizes]) else 1)


if __name__ == "__main__":
    main()
