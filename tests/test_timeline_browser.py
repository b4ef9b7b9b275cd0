"""timeline.html in Debian's chromium: nothing fires, nothing is fetched, and every close can be reached and read."""

from __future__ import annotations

import base64
import re
import time
from urllib.parse import quote

import pytest
from browsing import barriers, misdeeds, opened
from occorr import report
from report_tables import HOSTILE, made

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.actions.action_builder import ActionBuilder  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def tables():
    return made(ordinary=260)


@pytest.fixture(scope="module")
def address(tables, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "timeline.html"
    file.write_text(report.timeline_html(tables), encoding="utf-8")
    return file.as_uri()


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
    assert misdeeds(page, address) == []
    assert page.execute_script("return document.querySelector('#failure').hidden")


@pytest.mark.long
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
    assert (
        page.execute_script(
            "return document.querySelectorAll('body img, body svg[onload], #panel script, #table script').length"
        )
        == 0
    )
    assert (
        page.execute_script(r"return /[\u202a-\u202e\u2066-\u2069\u001b\u200b]/.test(document.body.innerText)") is False
    )
    assert misdeeds(page, page.current_url.partition("#")[0]) == []


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


@pytest.mark.long
@pytest.mark.parametrize("close", ["refused-3", "timeless", "plain-259"])
def test_a_link_opens_its_close(browser, address, close):
    page = opened(browser, address, f"#close={quote(close)}")
    assert close in panel(page)
    assert page.find_element(By.CSS_SELECTOR, "#table tr[aria-selected=true]").get_attribute("data-close") == close
    assert page.get_log("browser") == []


@pytest.mark.long
def test_marks_in_the_picture_can_be_chosen(page):
    points = page.execute_script("return document.querySelectorAll('#plot .scatterlayer .point').length")
    assert points > 20
    press(page, Keys.ESCAPE)
    place = page.execute_script(
        "const p = document.querySelector('#plot'), f = p._fullLayout, t = p.data.find(d => d.customdata && d.marker.symbol === 'diamond');"
        "const r = p.getBoundingClientRect(); return [r.left + f.xaxis.l2p(t.x[0]), r.top + f.yaxis.l2p(t.y[0])]"
    )
    webdriver.ActionChains(page).move_by_offset(0, 0).perform()
    mouse = ActionBuilder(page)
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


def look(page):
    return page.execute_script("const a = document.querySelector('#plot')._fullLayout.xaxis.range; return [a[0], a[1]]")


def test_drag_zooms_and_double_click_goes_home(page):
    home = look(page)
    box = page.execute_script(
        "const r = document.querySelector('#plot .nsewdrag').getBoundingClientRect(); return [r.left, r.top, r.width, r.height]"
    )
    mouse = ActionBuilder(page)
    # Between two lanes, where no mark is hit.
    mouse.pointer_action.move_to_location(int(box[0] + box[2] * 0.3), int(box[1] + 12)).pointer_down().pause(
        0.1
    ).move_to_location(int(box[0] + box[2] * 0.5), int(box[1] + 14)).pause(0.1).pointer_up()
    mouse.perform()
    time.sleep(0.6)
    near = look(page)
    assert (near[1] - near[0]) == pytest.approx(0.2 * (home[1] - home[0]), rel=0.05)
    assert near[0] == pytest.approx(home[0] + 0.3 * (home[1] - home[0]), rel=0.05)
    press(page, "0")
    time.sleep(0.3)
    assert look(page) == pytest.approx(home)


def test_keys_move_and_zoom_and_step_through_incidents(page):
    home = look(page)
    press(page, "w")
    assert look(page)[1] - look(page)[0] == pytest.approx((home[1] - home[0]) / 2)
    before = look(page)
    press(page, "d")
    assert look(page)[0] > before[0]
    press(page, Keys.ESCAPE, "]")
    first = page.find_element(By.CSS_SELECTOR, ".card.active h2").text
    press(page, "]")
    second = page.find_element(By.CSS_SELECTOR, ".card.active h2").text
    assert "Out of memory" in first and "Wrong token" in second


def test_opening_shows_the_close_that_the_heading_s_proof_belongs_to(page):
    proof = page.find_element(By.CSS_SELECTOR, ".sum a.place").text
    told = page.find_element(By.CSS_SELECTOR, "#panel .evidence li").text
    assert proof == "docker.events.jsonl:3" and told.startswith("decisive") and proof in told
    assert page.find_element(By.CSS_SELECTOR, "#panel .evidence pre").text.startswith("container oom")


def test_the_link_of_a_close_is_copied_and_shown(page):
    page.find_element(By.ID, "search").send_keys("docker.events.jsonl:3 refused")
    time.sleep(0.4)
    page.find_element(By.ID, "search").clear()
    page.execute_script(
        "window.copied = []; Object.defineProperty(navigator, 'clipboard', { value: { writeText: async (t) => copied.push(t) } })"
    )
    button = page.find_element(By.CSS_SELECTOR, "#panel .copy")
    button.click()
    time.sleep(0.1)
    close = page.find_element(By.CSS_SELECTOR, "#panel a[href^='#close=']").text
    assert page.execute_script("return copied") == [page.current_url.partition("#")[0] + "#close=" + quote(close)]
    assert "Copied the link" in page.find_element(By.CSS_SELECTOR, "[aria-live=polite]").text


def test_search_finds_lines_of_evidence(page):
    page.find_element(By.ID, "search").send_keys("docker.events.jsonl:4 oom-")
    time.sleep(0.4)
    assert {r.get_attribute("data-close")[:4] for r in rows(page)} == {"oom-"}


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 420)])
def test_no_barrier_that_axe_calls_serious(browser, address, theme, width):
    browser.set_window_size(width, 1000)
    try:
        page = opened(browser, address)
        page.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
        if width == 1440:
            press(page, "?")  # the dialog stands over the page, which is judged with it
        assert barriers(page) == []
        # Wide things scroll in their own box, never the page.
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        browser.set_window_size(1440, 1000)


def test_paper_holds_cards_picture_and_table(page):
    pdf = base64.b64decode(
        page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})["data"]
    )
    assert pdf[:5] == b"%PDF-" and len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert page.execute_script("return getComputedStyle(document.querySelector('.bar')).display") == "none"
        assert (
            page.execute_script("return document.querySelector('#plot .main-svg').getBoundingClientRect().height") > 100
        )
        assert page.execute_script(
            "return [...document.querySelectorAll('.card')].every((c) => c.getBoundingClientRect().height > 10)"
        )
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.long
def test_many_lanes_are_drawn_by_webgl(browser, tmp_path):
    """Above a few thousand marks; whether the machine draws them by a processor or a graphics card does not matter."""
    import polars as pl
    from occorr.analysis import Analysis
    from occorr import schema

    few = made(ordinary=20, lines=3000)
    names = [f"service-{n:02d}" for n in range(30)]
    lines = few.timeline.filter(pl.col("body").str.starts_with("info line"))
    many = pl.concat(
        [
            lines.with_columns(
                event_id=pl.col("event_id") + f"-{n}", compose_service=pl.lit(n), severity_number=pl.lit(9, pl.UInt8)
            ).cast(lines.schema)
            for n in names
        ]
    )
    tables = Analysis(**{n: getattr(few, n) for n in schema.TABLES} | {"timeline": pl.concat([few.timeline, many])})
    file = tmp_path / "many.html"
    file.write_text(report.timeline_html(tables), encoding="utf-8")
    page = opened(browser, file.as_uri())
    labels = page.execute_script("return [...document.querySelectorAll('#lanes span')].map((s) => s.textContent)")
    assert {f"{n} lines" for n in names} <= set(labels)
    # As many lit pixels as strokes at least: the layer is drawn on, and plotly's own WebGL, which the policy stops, is not used.
    lit = page.execute_script(
        "const c = document.querySelector('#dense'), gl = c.getContext('webgl'), d = new Uint8Array(c.width * c.height * 4); gl.readPixels(0, 0, c.width, c.height, gl.RGBA, gl.UNSIGNED_BYTE, d); let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n"
    )
    assert lit > 4000 and page.execute_script(
        "return document.querySelector('#plot').data.every((t) => t.type !== 'scattergl') && !document.querySelector('.gl-canvas')"
    )
    place = page.execute_script(
        "const s = [...document.querySelectorAll('#lanes span')].find((n) => n.textContent === 'service-07 lines').getBoundingClientRect(), p = document.querySelector('#plot').getBoundingClientRect(); scrollTo(0, s.top - 300); return [p.left + p.width / 2, s.top + s.height / 2 - scrollY]"
    )
    mouse = ActionBuilder(page)
    mouse.pointer_action.move_to_location(int(place[0]) - 9, int(place[1])).pause(0.1).move_to_location(
        int(place[0]), int(place[1])
    ).pause(0.2)
    mouse.perform()
    assert (
        "gateway.file.log:" in page.find_element(By.ID, "tip").text
        and "info line" in page.find_element(By.ID, "tip").text
    )
    assert [m for m in misdeeds(page, file.as_uri()) if "GL Driver" not in m and "WebGL" not in m] == []
