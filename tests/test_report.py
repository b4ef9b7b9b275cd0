"""report.md, report.json and the page's bytes: the same for the same tables, and nothing of a log gets out of its place."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import occorr
import polars as pl
import pytest
from occorr import report, schema
from occorr.report import document, words
from occorr.report.document import code, prose
from occorr.report.digest import digest
from occorr.report.tables import shorten, visible
from occorr.analysis import Analysis
from report_tables import HOSTILE, made

SAMPLES = Path(__file__).parent.parent / "sample_logs"


@pytest.fixture(scope="module")
def tables() -> Analysis:
    return made()


@pytest.fixture(scope="module")
def html(tables) -> str:
    return report.timeline_html(tables)


def nothing() -> Analysis:
    return Analysis(**{name: schema.conform(schema.empty(t), t, final=True) for name, t in schema.TABLES.items()})


def carried(html: str, name: str) -> str:
    packed = re.search(rf'<script type="text/plain" id="{name}">([^<]*)</script>', html)
    return gzip.decompress(base64.b64decode(packed[1])).decode()


@pytest.mark.parametrize("make", [report.markdown, report.json_text, report.timeline_html])
def test_same_tables_give_same_bytes_whatever_their_string_type(make, tables):
    assert make(tables) == make(made(final=False))


@pytest.mark.parametrize("make", [report.markdown, report.json_text, report.timeline_html])
def test_row_order_of_the_input_does_not_matter_to_closes(make, tables):
    turned = Analysis(
        **{
            n: getattr(tables, n).reverse() if n in ("incidents", "evidence") else getattr(tables, n)
            for n in schema.TABLES
        }
    )
    if make is not report.json_text:  # the JSON keeps the tables' own order
        assert make(turned) == make(tables)


@pytest.mark.parametrize("make", [report.markdown, report.json_text, report.timeline_html])
def test_empty_tables_make_a_report(make):
    assert "No WebSocket close was found" in make(nothing()) or make is report.json_text


def test_json_holds_every_close_with_its_evidence(tables):
    document = json.loads(report.json_text(tables))
    assert document["schema_version"] == schema.VERSION
    assert [c["close_id"] for c in document["closes"]] == tables.closes["close_id"].to_list()
    assert sum(len(c["evidence"]) for c in document["closes"]) == tables.evidence.height
    assert document["incidents"][0]["start"] == "2026-11-21T05:46:12.318000000Z"
    assert document["clocks"][1]["drift_ppm"] is None


def test_headline_tells_cut_from_refused_and_names_the_deciding_line(tables):
    first, _, third = report.markdown(tables).splitlines()[:3]
    assert first == "# claw’s gateway ran **out of memory** at 05:46:12.318 UTC"
    assert third.startswith(
        "9 connections cut, 11 refused, no ready gateway for 31 s. 96 % sure, the log says so: `docker.events.jsonl:3`"
    )


def test_incidents_stand_worst_first_and_ordinary_closes_last(tables):
    """What is known stands above what is only guessed, whatever that cut."""
    assert [i.cause for i in digest(tables).incidents] == ["restart.oom", "auth.token_mismatch", "unknown.unknown"]


def test_one_guessed_cut_does_not_outrank_an_outage_or_ten_refusals():
    """The sample's README: ten refusals for a wrong token and four of the lockout; besides them one client fell silent, which nothing proves."""
    d = digest(occorr.analyze(SAMPLES / "lockout-beside-worker"))
    assert [(i.cause, i.cut, i.refused) for i in d.incidents] == [
        ("auth.token_mismatch", 0, 10),
        ("auth.rate_limited", 0, 4),
        ("timeout.heartbeat", 1, 0),
    ]
    assert d.worst.harm == 10


def test_an_outage_is_counted_for_the_restart_that_began_it():
    """The sample's engine logs the death at 05:47:19.075 and its gateway says ready at 05:48:05.443: 46.4 s, over the deploy between them."""
    d = digest(occorr.analyze(SAMPLES / "oom-then-deploy"))
    down = {i.cause: (i.down_ns, i.shared) for i in d.incidents}
    deploy = next(i.number for i in d.incidents if i.cause == "restart.deploy")
    assert 44e9 < down["restart.oom"][0] < 48e9
    assert down["restart.oom"][1] == (deploy,)
    assert down["restart.deploy"] == (None, ())
    assert f"no ready gateway for 46.4 s, incident {deploy} included" in document.headline(d)["harm"]


def test_a_guess_of_an_ordinary_end_is_told_as_one(tables):
    calm = replace(
        tables, closes=tables.closes.filter(pl.col("family") == "client"), incidents=tables.incidents.clear()
    )
    assert report.markdown(calm).startswith("# No incident: all closes were ordinary")
    guessed = calm.closes.with_columns(verdict=pl.lit("circumstantial").cast(calm.closes["verdict"].dtype))
    told = report.markdown(replace(calm, closes=guessed))
    assert told.startswith("# No incident found: all closes look ordinary")
    assert f"{guessed.height} closes of {guessed.height} only fit an ordinary end, which is no proof" in told


def test_gateway_lane_shows_the_restart(tables):
    lane = digest(tables).lanes[0]
    assert lane.gateway and [s.state for s in lane.spans] == ["starting", "up", "down", "starting", "up"]
    assert [text for _, text, _ in lane.labels] == ["ready", "OOM", "ready"]


def test_policy_admits_exactly_the_two_scripts(html):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1].replace("&#39;", "'")
    app = re.search(r"<script>(.*?)</script>", html, re.S)[1]
    wanted = {
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (app, carried(html, "plotly-source"))
    }
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == wanted
    assert (
        policy.startswith("default-src 'none'") and "unsafe-eval" not in policy and "script-src 'unsafe" not in policy
    )


def test_page_asks_for_nothing_and_leaks_no_folder(html):
    outside = re.sub(r'<script type="text/plain"[^<]*</script>', "", html)
    markup = re.sub(r"<script>.*?</script>", "", outside, flags=re.S)
    assert {a[:1] for a in re.findall(r"<[a-z]+ [^<>]*?(?:src|href)=\"([^\"]*)", markup)} <= {"#", "d"}
    assert not re.search(r"@import|url\(", markup)
    for part in (outside, carried(html, "page-data")):
        assert "/srv/home" not in part


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text, tables, html):
    still = re.sub(
        r"<script>.*?</script>", "", re.sub(r'<script type="text/plain"[^<]*</script>', "", html), flags=re.S
    )
    assert not re.search(r"<(?:script|img|svg onload|b>\d</b>\.log)", still, re.I)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200b\u202a-\u202e\u2066-\u2069\u2028]", still)
    for told in (prose(text), code(text), report.markdown(tables)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200b\u202a-\u202e\u2066-\u2069\u2028]", told)
    assert "<" not in prose(text)
    assert not code(text).strip("`").count("`" * (len(code(text)) - len(code(text).lstrip("`"))))


def test_ten_thousand_events_stay_under_three_megabytes():
    big = made(ordinary=2000, lines=8000)
    assert big.timeline.height > 10_000
    assert len(report.timeline_html(big).encode()) < 3_000_000


def test_beyond_fifty_thousand_lines_ticks_are_merged_and_no_close_or_restart_is():
    small = made(ordinary=100, lines=0)
    filler = pl.concat([small.timeline.filter(pl.col("source_kind") == "gateway").head(1)] * 60_000)
    filler = filler.with_columns(
        event_id=pl.int_range(60_000).cast(pl.String) + "-f", severity_number=pl.lit(9, pl.UInt8)
    )
    big = Analysis(**{n: getattr(small, n) for n in schema.TABLES} | {"timeline": pl.concat([small.timeline, filler])})
    data = json.loads(carried(report.timeline_html(big), "page-data"))
    assert data["binned"] > 50_000
    assert len(data["closes"]["t"]) == small.closes.height
    kinds = data["events"]["kind"]
    assert (
        sum(kinds["k"][i] == "docker" for i in kinds["i"])
        == small.timeline.filter(pl.col("source_kind") == "docker").height
    )


def test_every_cause_has_words():
    assert set(words.CAUSES) == schema.CAUSE_NAMES
    assert set(words.FAMILIES) == set(schema.CAUSES)


@pytest.mark.parametrize(
    ("ns", "said"),
    [
        (0, "0 ms"),
        (-377_000_000, "−377 ms"),
        (500_000, "0.5 ms"),
        (18_200_000_000, "18.2 s"),
        (119_000_000_000, "119 s"),
        (245_000_000_000, "4 min 5 s"),
        (7_400_000_000_000, "2 h 3 min"),
        (None, ""),
    ],
)
def test_lengths_in_words(ns, said):
    assert words.length(ns) == said


def test_paths_lose_what_they_share():
    assert shorten(["/a/b/c.log", "/a/b/d/e.log"]) == {"/a/b/c.log": "c.log", "/a/b/d/e.log": "d/e.log"}
    assert shorten(["/a/b/c.log"]) == {"/a/b/c.log": "c.log"}
    assert visible("a\u202eb") == "a\\u{202e}b"


@pytest.mark.long
def test_reports_depend_on_their_tables_alone(tables, tmp_path):
    """Neither the clock, the zone, the locale, the order of hashes nor SOURCE_DATE_EPOCH enters: the same tables, the same bytes."""
    import os
    import subprocess
    import sys
    from pathlib import Path

    here = Path(__file__).parent
    code = "import sys; sys.path.insert(0, sys.argv[1]); from hashlib import sha256; from occorr.report import library; from report_tables import made; t = made()\n"
    code += "for r in (r for r in library.reports().values() if r.over != 'weeks'):\n    for f in r.makers:\n        d = library.pick(r.name, f)(t); print(r.name, f, sha256(d if isinstance(d, bytes) else d.encode()).hexdigest())"
    base = {k: v for k, v in os.environ.items() if k not in {"SOURCE_DATE_EPOCH", "TZ", "LC_ALL", "PYTHONHASHSEED"}} | {
        "PYTHONPATH": os.pathsep.join([str(here.parent), os.environ.get("PYTHONPATH", "")])
    }
    told = [
        subprocess.run(
            [sys.executable, "-c", code, str(here)],
            env=base | more,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for more in (
            {"PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": "0", "TZ": "Pacific/Kiritimati"},
            {"PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": "1700000000", "LC_ALL": "C", "POLARS_MAX_THREADS": "1"},
        )
    ]
    assert told[0] == told[1] and told[0].count("\n") >= 5
