"""Debian's chromium, headless, without a network and with a witness of what pages try to do."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1440,1000",
)  # fmt: skip
# Before any script of a page: what the policy stopped, what failed, and what an injection would have reached.
WITNESS = """
window.__seen = [];
addEventListener("securitypolicyviolation", (e) => __seen.push(`policy: ${e.violatedDirective} ${e.blockedURI} ${e.sample}`), true);
addEventListener("error", (e) => __seen.push(`error: ${e.message || e.target?.tagName}`), true);
addEventListener("unhandledrejection", (e) => __seen.push(`rejected: ${e.reason}`));
for (const name of ["alert", "confirm", "prompt", "open", "eval", "print"]) window[name] = () => __seen.push(`called: ${name}`);
for (const name of ["fetch", "XMLHttpRequest", "WebSocket", "EventSource"]) window[name] = function () { __seen.push(`network: ${name}`); throw new Error(name); };
"""
AXE = Path(__file__).resolve().parent.parent / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"


def start(profile: Path):
    """A browser; skips where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Debian's chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_script_timeout(300)  # axe on a busy machine
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WITNESS})
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    return browser


def opened(browser, address: str, fragment: str = ""):
    """The page at an address, once its script says that it is ready; a page without scripts is at once."""
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(address + fragment)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if browser.execute_script(
            "return document.documentElement.dataset.ready === 'yes' || !document.querySelector('script:not([type])')"
        ):
            return browser
        time.sleep(0.1)
    raise AssertionError(
        f"the page did not get ready: {browser.get_log('browser')} {browser.execute_script('return __seen')}"
    )


def misdeeds(browser, address: str) -> list[str]:
    """What the page did that a page must not: console messages, violations, requests, a changed title, dialogs."""
    found = [e["message"] for e in browser.get_log("browser")] + browser.execute_script("return window.__seen || []")
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if not url.startswith((address, "data:", "about:", "blob:")):
                found.append(f"request: {url}")
    if "fired" in browser.title:
        found.append(f"title: {browser.title}")
    return found


def barriers(browser) -> list[str]:
    """What axe-core calls serious or critical on the page as it stands; skips where axe is not installed."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make test installs it where there is npm")
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script(
        "const done = arguments[0]; axe.run({ resultTypes: ['violations'] }).then((r) => done(r.violations.map((v) => [v.impact, v.id, v.nodes.map((n) => n.html.slice(0, 120)).slice(0, 3)])))"
    )
    return [f"{impact} {rule}: {nodes}" for impact, rule, nodes in found if impact in {"serious", "critical"}]
