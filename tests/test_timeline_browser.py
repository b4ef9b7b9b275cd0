"""timeline.html in Debian's chromium: nothing fires, nothing is fetched, and every close can be reached and read."""

from __future__ import annotations

import shutil
import time
from urllib.parse import quote

import pytest
from occorr import report
from report_tables import HOSTILE, made

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1440,1000",
)  # fmt: skip


@pytest.fixture(scope="module")
def tables():
    return made(ordinary=260)


@pytest.fixture(scope="module")
def address(tables, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "timeline.html"
    file.write_text(report.timeline_html(tables), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Debian's chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


def opened(browser, address, fragment=""):
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(address + fragment)
    for _ in range(100):
        if browser.execute_script("return document.documentElement.dataset.ready") == "yes":
            return browser
        time.sleep(0.1)
    raise AssertionError(f"the page did not get ready: {browser.get_log('browser')}")


@pytest.fixture
def page(browser, address):
    return opened(browser, address)


def rows(page):
    return page.find_elements(By.CSS_SELECTOR, "#table tbody tr")


def panel(page):
    return page.find_element(By.ID, "panel").text


def press(page, *keys):
    webdriver.ActionChains(page).send_keys(*keys).perform()
    time.sleep(0.1)


def test_console_is_silent_and_nothing_is_fetched(page, address):
    assert page.get_log("browser") == []
    # Errors and policy violations would both stand in the console; requests stand in the performance log.
    asked = [e["message"] for e in page.get_log("performance") if '"Network.requestWillBeSent"' in e["message"]]
    assert all(address in a or '"url":"data:' in a or '"url":"about:' in a or '"url":"blob:' in a for a in asked)
    assert page.execute_script("return document.querySelector('#failure').hidden")


def test_hostile_text_does_not_fire_in_any_view(page, tables):
    for i, text in enumerate(HOSTILE):
        page.execute_script("arguments[0].click()", page.find_element(By.CSS_SELECTOR, ".card button"))
        page.execute_script(
            f"location.hash = '#close=' + encodeURIComponent([...document.querySelectorAll('[data-close]')].map(r => r.dataset.close).find(c => c.startsWith('hostile-{i}')) || '')"
        )
        time.sleep(0.05)
    press(page, Keys.ESCAPE)
    box = page.find_element(By.ID, "search")
    box.send_keys("hostile")
    time.sleep(0.4)
    assert len(rows(page)) == len(HOSTILE)
    for row in range(len(HOSTILE)):
        rows(page)[row].click()
        assert "unknown.unknown" in panel(page)
        assert "docker events" in panel(page)
    assert "fired" not in page.title
    assert (
        page.execute_script(
            "return document.querySelectorAll('body img, body svg[onload], #panel script, #table script').length"
        )
        == 0
    )
    assert (
        page.execute_script(r"return /[\u202a-\u202e\u2066-\u2069\u001b\u200b]/.test(document.body.innerText)") is False
    )
    assert page.get_log("browser") == []


def test_table_holds_a_row_a_close_in_pages_of_two_hundred(page, tables):
    seen = {row.get_attribute("data-close") for row in rows(page)}
    assert len(seen) == 200
    page.find_element(By.ID, "next").click()
    seen |= {row.get_attribute("data-close") for row in rows(page)}
    assert len(seen) == tables.closes.height


def test_click_shows_the_evidence(page):
    page.find_element(By.ID, "search").send_keys("restart.oom 1006")
    time.sleep(0.4)
    rows(page)[1].click()
    told = panel(page)
    for wanted in (
        "restart.oom",
        "97 % decisive",
        "docker.events.jsonl:3",
        "container oom claw_gateway_1",
        "−115 ms ± 1 ms",
        "restart.crash, 2 %",
    ):
        assert wanted in told
    assert "#close=oom-1" in page.current_url


def test_keys_walk_the_closes(page):
    press(page, Keys.ESCAPE, "j")
    first = page.current_url
    press(page, "j")
    second = page.current_url
    press(page, Keys.ARROW_UP)
    assert page.current_url == first != second
    press(page, Keys.ENTER)
    assert page.execute_script("return document.activeElement.id") == "panel"
    press(page, "/")
    assert page.execute_script("return document.activeElement.id") == "search"
    press(page, "token_mismatch")
    time.sleep(0.3)
    press(page, Keys.ENTER)
    assert "auth.token_mismatch" in panel(page)
    press(page, "?")
    assert page.find_element(By.ID, "keys").get_attribute("open")
    press(page, Keys.ESCAPE)
    assert not page.find_element(By.ID, "keys").get_attribute("open")
    press(page, Keys.ESCAPE)
    assert "Choose a close" in panel(page)
    press(page, "1")
    assert "active" in page.find_element(By.CSS_SELECTOR, ".card").get_attribute("class")
    assert len(rows(page)) == 20


def test_filters_narrow_the_table_and_say_so(page):
    page.find_element(By.CSS_SELECTOR, ".chip[data-family=auth]").click()
    assert {r.find_elements(By.TAG_NAME, "td")[8].text for r in rows(page)} == {"auth.token_mismatch"}
    page.find_element(By.CSS_SELECTOR, "#code option[value='HTTP 502']").click()
    assert rows(page) == []
    page.find_element(By.CSS_SELECTOR, ".chip[data-family=auth]").click()
    assert len(rows(page)) == 11
    assert "of 302" in page.find_element(By.CSS_SELECTOR, "[aria-live=polite]").text


@pytest.mark.parametrize("close", ["refused-3", "timeless", "plain-259"])
def test_a_link_opens_its_close(browser, address, close):
    page = opened(browser, address, f"#close={quote(close)}")
    assert close in panel(page)
    assert page.find_element(By.CSS_SELECTOR, "#table tr[aria-selected=true]").get_attribute("data-close") == close
    assert page.get_log("browser") == []


def test_marks_in_the_picture_can_be_chosen(page):
    points = page.execute_script("return document.querySelectorAll('#plot .scatterlayer .point').length")
    assert points > 20
    press(page, Keys.ESCAPE)
    place = page.execute_script(
        "const p = document.querySelector('#plot'), f = p._fullLayout, t = p.data.find(d => d.customdata && d.marker.symbol === 'diamond');"
        "const r = p.getBoundingClientRect(); return [r.left + f.xaxis.l2p(t.x[0]), r.top + f.yaxis.l2p(t.y[0])]"
    )
    webdriver.ActionChains(page).move_by_offset(0, 0).perform()
    mouse = webdriver.common.actions.action_builder.ActionBuilder(page)
    mouse.pointer_action.move_to_location(int(place[0]), int(place[1])).pause(0.3).click()
    mouse.perform()
    time.sleep(0.5)
    assert "auth.token_mismatch" in panel(page)


def test_without_scripts_the_verdicts_stand_in_the_page(browser, address):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(address)
        assert "ran out of memory" in browser.find_element(By.TAG_NAME, "h1").text
        assert len(browser.find_elements(By.CSS_SELECTOR, "table.still tbody tr")) == 200
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
