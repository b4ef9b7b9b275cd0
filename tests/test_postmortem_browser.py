"""postmortem.html in Debian's chromium: from disk, without a network, silent, readable in light, dark, narrow and on paper; nothing of a log fires."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import browsing
import pytest
from report_tables import HOSTILE, made
from test_postmortem import MORE, everywhere

import occorr
from occorr.report import postmortem

pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]
SAMPLE = Path(__file__).parent.parent / "sample_logs" / "oom-then-deploy"


def opened(browser, tmp_path, html):
    file = tmp_path / "postmortem.html"
    file.write_text(html, encoding="utf-8")
    browsing.opened(browser, file.as_uri())
    return file.as_uri()


@pytest.fixture(scope="module")
def real():
    return postmortem.html(occorr.analyze(SAMPLE))


def test_silent_from_disk_and_whole(browser, tmp_path, real):
    address = opened(browser, tmp_path, real)
    assert browsing.misdeeds(browser, address) == []
    assert "out of memory" in browser.find_element(By.TAG_NAME, "h1").text
    heads = [h.text for h in browser.find_elements(By.TAG_NAME, "h2")]
    assert heads[:4] == [
        "Next actions, in order",
        "Incidents, worst first",
        "Timeline",
        "The five questions of the review",
    ]
    for link in browser.find_elements(By.CSS_SELECTOR, "nav a"):
        assert browser.find_elements(By.CSS_SELECTOR, link.get_dom_attribute("href"))
    picture = browser.find_element(By.CSS_SELECTOR, "svg.picture")
    assert picture.size["height"] > 80 and picture.accessible_name.startswith("From 05:")
    # every mark of a close lies inside the picture and no number is cut off
    box = picture.rect
    for mark in picture.find_elements(By.CSS_SELECTOR, "path[class^='s-'], .count, .badge, .lane"):
        r = mark.rect
        assert (
            box["x"] - 1 <= r["x"]
            and r["x"] + r["width"] <= box["x"] + box["width"] + 1
            and box["y"] - 1 <= r["y"]
            and r["y"] + r["height"] <= box["y"] + box["height"] + 1
        )


def test_narrow_scrolls_inside_its_tables_only(browser, tmp_path, real):
    opened(browser, tmp_path, real)
    for width in (1280, 600):
        browser.set_window_size(width, 900)
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth"), width
    browser.set_window_size(1280, 1000)


def test_dark_and_light_keep_contrast(browser, tmp_path, real):
    opened(browser, tmp_path, real)
    shades = {}
    for scheme in ("light", "dark"):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        shades[scheme] = browser.execute_script(
            "const l = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 }); return .2126 * r + .7152 * g + .0722 * b };"
            "const ground = l(getComputedStyle(document.body).backgroundColor);"
            "return [...document.querySelectorAll('p, li, td, th, dd, dt, h1, h2, h3, pre, a, .lacks, .role, text')].map(e => { const s = getComputedStyle(e); const own = l(e.tagName === 'text' ? s.fill : s.color);"
            "return [e.className.baseVal ?? e.className, e.tagName, (Math.max(own, ground) + .05) / (Math.min(own, ground) + .05), !!e.closest('.badge')] })"
        )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    for scheme, found in shades.items():
        assert [f for f in found if f[2] < 4.5 and not f[3]] == [], scheme


def test_axe_finds_nothing_serious(browser, tmp_path, real):
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})  # axe is not of the page
    try:
        opened(browser, tmp_path, real)
        assert browsing.barriers(browser) == []
    finally:
        browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})


def test_printed_it_is_pages_of_text(browser, tmp_path, real):
    opened(browser, tmp_path, real)
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type /Page\b", pdf)) <= 12


@pytest.mark.parametrize("text", [HOSTILE[0], "\n".join([*HOSTILE, *MORE])])
def test_hostile_text_fires_nothing(browser, tmp_path, text):
    address = opened(browser, tmp_path, postmortem.html(everywhere(text)))
    # the page's own title quotes the text; what fired would have replaced it
    assert [m for m in browsing.misdeeds(browser, address) if not m.startswith("title: Post-mortem: ")] == []
    assert browser.execute_script(
        "return [window.pwned, document.querySelectorAll('script, img, iframe, object, style:not(head style), [onload], [onerror]').length]"
    ) == [None, 0]
    assert browser.find_elements(By.CSS_SELECTOR, "main section h2")


def test_nothing_scripted_is_needed(browser, tmp_path):
    html = postmortem.html(made())
    assert "script-src &#39;none&#39;" in html or "script-src 'none'" in html
    assert browsing.misdeeds(browser, opened(browser, tmp_path, html)) == []
