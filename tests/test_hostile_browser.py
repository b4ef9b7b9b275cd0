"""Every HTML output, made of the corpus of injections, in a browser that watches: nothing fires, nothing is fetched, nothing is hidden."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hostile
from browsing import barriers, misdeeds, opened
from occorr.cli.base import app

pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]
PAGES = [name for name, (_, form) in hostile.OUTPUTS.items() if form == "html"]
# As a person would, but of everything: each button, summary and close.
USE = """
for (const d of document.querySelectorAll("details")) d.open = true;
for (const b of document.querySelectorAll("button:not(#theme):not(.copy), summary, select, th button")) if (!b.closest("dialog")) b.click();
for (const c of [...document.querySelectorAll("[data-close]")].slice(0, 120)) c.click();
for (const n of document.querySelectorAll("*")) n.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
return document.querySelectorAll("*").length;
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    place = tmp_path_factory.mktemp("hostile-pages")
    done = CliRunner().invoke(app, ["analyze", str(hostile.logs(place / "logs")), "-o", str(place / "result")])
    assert done.exit_code == 0, done.output
    return place / "result"


@pytest.mark.long
@pytest.mark.parametrize("name", PAGES)
def test_page(name, result, browser, tmp_path):
    command, _ = hostile.OUTPUTS[name]
    assert CliRunner().invoke(app, [w.format(result=result, out=tmp_path / "page") for w in command]).exit_code == 0
    address = (tmp_path / "page.html").as_uri()
    page = opened(browser, address)
    assert page.execute_script(USE) > 50
    time.sleep(1)
    # What was put into attributes and text may not have become markup: no element that the page's own code does not make.
    assert (
        page.execute_script(
            "return [...document.querySelectorAll('iframe, object, embed, base, img, form[action], a[href^=http], a[href^=javascript], [onerror], [onload], [onfocus], [onclick]')].map((n) => n.outerHTML.slice(0, 100))"
        )
        == []
    )
    assert (
        page.execute_script(
            r"return /[\\u202a-\\u202e\\u2066-\\u2069\\u200b\\u001b\\u009b]/.test(document.body.innerText)".replace(
                "\\\\", "\\"
            )
        )
        is False
    )
    assert misdeeds(page, address) == []
    page.execute_cdp_cmd("Page.printToPDF", {})
    assert misdeeds(page, address) == []


def test_the_witness_sees(browser, tmp_path):
    """A page that does what none may do, so that silence means something."""
    file = Path(tmp_path / "bad.html")
    policy = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"
    file.write_text(
        f"<html>{policy}<body><script>document.title='fired'</script><img src='http://127.0.0.1:9/x.png'></body></html>",
        encoding="utf-8",
    )
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(file.as_uri())
    time.sleep(0.5)
    seen = misdeeds(browser, file.as_uri())
    assert [s for s in seen if "script-src" in s] and [s for s in seen if "img-src" in s]


@pytest.mark.parametrize(
    "name", [n for n in PAGES if "timeline" not in n]
)  # the timeline is judged in test_timeline_browser.py
def test_no_barrier_that_axe_calls_serious(name, result, browser, tmp_path):
    command, _ = hostile.OUTPUTS[name]
    assert CliRunner().invoke(app, [w.format(result=result, out=tmp_path / "page") for w in command]).exit_code == 0
    assert barriers(opened(browser, (tmp_path / "page.html").as_uri())) == []
