"""weekly.html in Debian's chromium: nothing fires, nothing is fetched, the filter works, and all of it is there without a script."""

from __future__ import annotations

import pytest
from browsing import barriers, misdeeds, opened
from report_tables import HOSTILE
from selenium.webdriver.common.by import By
from weekly_results import HOUR, MONDAY, close, result

from occorr import history
from occorr.report import weekly as pages
from occorr.weekly import weekly

pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]
DAY = 24 * HOUR


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    rows = [close(MONDAY + i * HOUR, "client.normal", 1000) for i in range(1, 300)] + [
        close(
            MONDAY + d * DAY + 3 * HOUR,
            "auth.token_mismatch",
            1008,
            client_address="198.51.100.7",
            text="unauthorized token",
        )
        for d in range(14)
    ]
    rows += [
        close(
            MONDAY + 8 * DAY + i * HOUR,
            "unknown.unknown",
            1006,
            service_name=text,
            client_address=text,
            _client=text,
            text=text,
            websocket_close_reason=text,
        )
        for i, text in enumerate(HOSTILE)
    ]
    data = weekly(history.gather([result(rows, [("gateway", None, MONDAY, MONDAY + 13 * DAY)])]))
    file = tmp_path_factory.mktemp("weekly") / "weekly.html"
    file.write_text(pages.html(data), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def page(browser, address):
    return opened(browser, address)


def test_nothing_fires_and_nothing_is_fetched(page, address):
    assert misdeeds(page, address) == []
    assert not page.find_elements(By.CSS_SELECTOR, "img, iframe, object, a[href^='javascript']")


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 420)])
def test_no_barrier_that_axe_calls_serious(browser, address, theme, width):
    browser.set_window_size(width, 1000)
    try:
        page = opened(browser, address)
        page.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert barriers(page) == []
    finally:
        browser.set_window_size(1440, 1000)


def test_the_page_says_what_the_week_was(page):
    assert "2026-W41" in page.find_element(By.TAG_NAME, "h1").text
    text = page.find_element(By.TAG_NAME, "body").text
    assert "every 24 h at about 03:00 (UTC)" in text
    assert "144 of 168 h" in text
    assert "Check next:" in text


def test_every_picture_has_words_and_its_bars_tell_their_weeks(page):
    charts = page.find_elements(By.CSS_SELECTOR, "svg.chart")
    assert charts
    assert all(chart.get_attribute("aria-label") for chart in charts)
    bars = page.execute_script(
        "return [...document.querySelectorAll('svg.chart')].map(s => [...s.querySelectorAll('title')].map(t => t.textContent))"
    )
    assert all(told[-1].startswith("2026-W41: ") for told in bars)
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_the_filter_keeps_matching_rows_and_says_how_many(page):
    box = page.find_element(By.ID, "search")
    box.send_keys("auth 1008")
    left = [row for row in page.find_elements(By.CSS_SELECTOR, "#table tbody tr") if row.is_displayed()]
    assert len(left) == 1
    assert "auth.token_mismatch" in left[0].text
    assert page.find_element(By.ID, "status").text == f"1 of {2 + len(HOSTILE)} rows"
    box.clear()


def test_light_and_dark_change_places(page):
    ground = "return getComputedStyle(document.body).backgroundColor"
    before = page.execute_script(ground)
    page.find_element(By.ID, "theme").click()
    assert page.execute_script(ground) != before
    page.find_element(By.ID, "theme").click()
