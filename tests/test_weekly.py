"""The weekly mix: counts worked by hand or by DuckDB, weeks in a zone, and nothing counted twice."""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st
from markdown_it import MarkdownIt
from report_tables import HOSTILE
from typer.testing import CliRunner
from weekly_results import HOUR, MONDAY, close, result

from occorr import history, keywords, results, schema
from occorr.cli import app
from occorr.errors import OccorrError
from occorr.report import weekly as pages
from occorr.weekly import levels, weekly
from occorr.weekly.calendar import NO_WEEK

WEEK = timedelta(weeks=1)
FORMS = (pages.html, pages.markdown, pages.json_text, pages.csv, pages.parquet)


def covered(weeks=2, kind="gateway", project=None, start=MONDAY):
    return (kind, project, start, start + weeks * WEEK)


def of(*parts, zone="UTC"):
    return weekly(history.gather(list(parts)), zone)


def row(w, level, week, **keys):
    found = [
        r for r in w.levels[level].filter(pl.col("week") == week).to_dicts() if all(r[k] == v for k, v in keys.items())
    ]
    assert len(found) <= 1, found
    return found[0] if found else None


def counts(w):
    return sorted(
        w.levels["mix"]
        .select("week", "code", "code_observer", "cause", "project", "service", "closes", "refused")
        .filter(pl.col("closes") > 0)
        .rows()
    ) + sorted(w.buckets.rows())


@pytest.fixture(scope="module")
def small():
    """Two weeks: W40 has 2 ordinary closes and 3 wrong tokens (one row stands for 2); W41 has 1 and 1."""
    return result(
        [
            close(MONDAY + 1 * HOUR), close(MONDAY + 2 * HOUR),
            close(MONDAY + 3 * HOUR, "auth.token_mismatch", 1008, count=2, established=False), close(MONDAY + 4 * HOUR, "auth.token_mismatch", 1008, established=False, code_observer="client"),
            close(MONDAY + WEEK + HOUR), close(MONDAY + WEEK + 2 * HOUR, "auth.token_mismatch", 1008, established=False, compose_project="assistant"),
            close(MONDAY + WEEK, "restart.deploy", 1012, width=4), close(None, "unknown.unknown", None, name="timeless"), close(MONDAY + WEEK - HOUR, "restart.oom", None, time_latest=None, timestamp=None),
        ],
        [covered()],
    )  # fmt: skip


def test_counts_by_hand(small):
    w = of(small)
    assert [week.name for week in w.weeks] == ["2026-W40", "2026-W41"]
    assert row(w, "total", "2026-W40")["closes"] == 5
    assert row(w, "total", "2026-W41")["closes"] == 2
    assert row(w, "cause", "2026-W40", cause="auth.token_mismatch") | {
        "closes": 3,
        "refused": 3,
        "incidents": 2,
    } == row(w, "cause", "2026-W40", cause="auth.token_mismatch")
    assert row(w, "code", "2026-W40", code="1008", code_observer="client")["closes"] == 1
    assert row(w, "code", "2026-W40", code="1008", code_observer="server")["closes"] == 2
    assert row(w, "service", "2026-W41", project="assistant")["closes"] == 1
    assert row(w, "callout", "2026-W40", callout="1008 with auth words")["closes"] == 3
    assert row(w, "cause", "2026-W41", cause="auth.token_mismatch")["previous"] == 3
    assert w.totals["closes"] == 10


def test_a_close_on_the_boundary_and_one_without_bounds_stand_apart(small):
    buckets = {(b["bucket"], b["cause"]): b["closes"] for b in of(small).buckets.to_dicts()}
    assert buckets == {
        ("2026-W40/2026-W41", "restart.deploy"): 1,
        (NO_WEEK, "unknown.unknown"): 1,
        (NO_WEEK, "restart.oom"): 1,
    }


def test_every_close_is_in_exactly_one_row_of_the_table(small):
    table = pages.table(of(small))
    assert table["closes"].sum() == 10
    assert dict(table.group_by("bucket").agg(pl.col("closes").sum()).rows()) == {
        "week": 7,
        "straddles": 1,
        "no week": 2,
    }


def test_a_week_begins_on_the_zones_monday_and_summer_time_counts():
    # 00:30 on Monday in Berlin is still Sunday in UTC
    early = datetime(2026, 10, 4, 22, 30, tzinfo=UTC)
    data = result(
        [close(early)], [("gateway", None, datetime(2026, 10, 19, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))]
    )
    assert row(of(data), "total", "2026-W40")["closes"] == 1
    assert row(of(data, zone="Europe/Berlin"), "total", "2026-W41")["closes"] == 1
    hours = {week.name: week.hours for week in of(data, zone="Europe/Berlin").weeks}
    assert hours["2026-W43"] == 169  # summer time ends on 25 October 2026
    assert hours["2026-W44"] == 168


def test_the_year_of_a_week_is_isos():
    # 1 January 2027 is a Friday of 2026-W53
    assert [week.name for week in of(result([close(datetime(2027, 1, 1, 12, tzinfo=UTC))])).weeks] == ["2026-W53"]


def test_coverage_is_the_union_of_what_sees_closes():
    cover = [
        ("gateway", None, MONDAY, MONDAY + 100 * HOUR),
        ("gateway", None, MONDAY + 50 * HOUR, MONDAY + 120 * HOUR),
        ("proxy", None, MONDAY + 160 * HOUR, MONDAY + 168 * HOUR),
        ("docker", None, MONDAY, MONDAY + 150 * HOUR),
    ]
    week = of(result([close(MONDAY + HOUR)], cover)).weeks[0]
    assert week.covered == pytest.approx(128)
    assert week.kinds == pytest.approx({"docker": 150, "gateway": 120, "proxy": 8})
    assert week.partial


def test_a_projects_hours_are_its_own():
    data = result(
        [close(MONDAY + HOUR, compose_project="a"), close(MONDAY + HOUR, compose_project="b")],
        [("gateway", "a", MONDAY, MONDAY + 10 * HOUR), ("gateway", "b", MONDAY, MONDAY + 30 * HOUR)],
    )
    w = of(data)
    assert row(w, "service", "2026-W40", project="a")["hours"] == pytest.approx(10)
    assert row(w, "service", "2026-W40", project="b")["hours"] == pytest.approx(30)


def many(n, cause="auth.token_mismatch", week=0, code=1008, **more):
    return [
        close(MONDAY + week * WEEK + (i + 1) * timedelta(minutes=7), cause, code, name=f"{cause}-{week}-{i}", **more)
        for i in range(n)
    ]


def test_rates_are_compared_per_covered_hour():
    """40 in 40 hours after 40 in 160 hours: four times the rate."""
    data = result(
        many(40) + many(40, week=1),
        [("gateway", None, MONDAY, MONDAY + 160 * HOUR), ("gateway", None, MONDAY + WEEK, MONDAY + WEEK + 40 * HOUR)],
    )
    found = row(of(data), "cause", "2026-W41", cause="auth.token_mismatch")
    assert found["previous_ratio"] == pytest.approx(4)
    assert found["previous_change"] == "more"
    assert found["previous_low"] > 2


def test_a_storm_of_one_incident_is_no_trend():
    calm = [c for week in range(5) for c in many(10, "client.normal", week, 1000)]
    storm = many(300, "restart.oom", 4, 1006, incident_id="i1")
    w = of(result(calm + storm, [covered(5)]))
    assert row(w, "cause", "2026-W44", cause="restart.oom")["trailing_change"] == "same"
    apart = of(result(calm + many(300, "restart.oom", 4, 1006), [covered(5)]))
    assert row(apart, "cause", "2026-W44", cause="restart.oom")["trailing_change"] == "more"


def test_what_fell_to_nothing_is_still_a_row():
    w = of(result(many(60) + many(3, "client.normal", 1, 1000), [covered(2)]))
    assert row(w, "cause", "2026-W41", cause="auth.token_mismatch") | {
        "closes": 0,
        "previous": 60,
        "previous_change": "fewer",
    } == row(w, "cause", "2026-W41", cause="auth.token_mismatch")


def test_without_logs_before_nothing_is_claimed():
    assert row(of(result(many(50), [covered(1)])), "total", "2026-W40")["previous_change"] == "no data"


# nothing twice


def test_a_close_in_two_results_counts_once_by_its_better_verdict():
    weak = close(MONDAY + HOUR, "unknown.unknown", 1006, name="c", verdict="unknown", probability=0.4)
    strong = close(MONDAY + HOUR, "restart.oom", 1006, name="c")
    for parts in ([result([weak]), result([strong])], [result([strong]), result([weak])]):
        w = of(*parts)
        assert (w.totals["closes"], w.totals["doubled"]) == (1, 1)
        assert row(w, "cause", "2026-W40", cause="restart.oom")["closes"] == 1


def test_two_ids_for_one_line_are_one_close():
    first = close(MONDAY + HOUR, name="from the connection", _line="x")
    second = close(MONDAY + HOUR, name="from the event", _line="x")
    assert of(result([first]), result([second])).totals["closes"] == 1
    other = close(MONDAY + HOUR, name="another", _line="y")
    assert of(result([first]), result([other])).totals["closes"] == 2


def test_an_incident_that_two_results_share_is_one():
    whole = [
        close(MONDAY + HOUR + i * timedelta(seconds=1), "restart.oom", 1006, name=f"c{i}", incident_id="i001")
        for i in range(6)
    ]
    w = of(result(whole[:4]), result([c | {"incident_id": "i007"} for c in whole[2:]]))
    assert row(w, "total", "2026-W40") | {"closes": 6, "incidents": 1} == row(w, "total", "2026-W40")


causes = st.sampled_from(
    [("client.normal", 1000), ("auth.token_mismatch", 1008), ("restart.oom", 1006), ("unknown.unknown", None)]
)
moments = st.floats(-2 * 86400, 30 * 86400)


@st.composite
def closes(draw):
    rows = draw(
        st.lists(
            st.tuples(causes, moments, st.sampled_from([0.0, 5.0, 90_000.0]), st.integers(1, 3), st.booleans()),
            max_size=14,
        )
    )
    return [
        close(
            MONDAY + timedelta(seconds=round(at, 3)),
            cause,
            code,
            name=f"c{i}",
            width=width,
            count=n,
            incident_id="i1" if together else None,
        )
        for i, ((cause, code), at, width, n, together) in enumerate(rows)
    ]


@pytest.mark.long
@settings(deadline=None, max_examples=12)
@given(closes(), st.randoms(use_true_random=False), st.integers(0, 14))
def test_neither_the_order_nor_the_split_of_results_matters(rows, random, cut):
    whole = of(result(rows, [covered(3)]))
    parts = [
        result(rows[:cut], [covered(3)]),
        result(rows[cut:], [covered(3)]),
        result(rows[max(0, cut - 3) : cut + 3]),
    ]
    split = of(*parts)
    random.shuffle(parts)
    shuffled = of(*parts)
    assert counts(split) == counts(whole)
    assert pages.csv(shuffled) == pages.csv(split)
    assert pages.json_text(shuffled) == pages.json_text(split)
    assert sum(r[-2] for r in counts(whole)[: -whole.buckets.height or None]) + whole.buckets["closes"].sum() == sum(
        r["count"] for r in rows
    )


# a year of directories, against DuckDB


@pytest.fixture(scope="module")
def year(tmp_path_factory):
    root = tmp_path_factory.mktemp("year")
    random = np.random.default_rng(3)
    for week in range(12):
        start = MONDAY + week * WEEK
        rows = [
            close(
                start + timedelta(seconds=float(s)),
                *[("client.normal", 1000), ("restart.oom", 1006), ("auth.pairing_required", 1008)][int(k)],
                width=0.0,
                client_address=f"192.0.2.{k}",
            )
            for s, k in zip(random.uniform(0, 7 * 86400, 60), random.integers(0, 3, 60), strict=True)
        ]
        rows += [
            close(
                start + timedelta(days=d, hours=3),
                "auth.token_mismatch",
                1008,
                client_address="198.51.100.7",
                _client="nightly",
                text="unauthorized token mismatch",
                established=False,
                width=0.0,
            )
            for d in range(7)
        ]
        results.save(result(rows, [("gateway", None, start, start + WEEK)]), root / f"week{week:02d}", {})
    return root


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_duckdb_counts_the_same(year, zone):
    counted = duckdb.execute(
        f"SELECT strftime(timestamp::TIMESTAMPTZ AT TIME ZONE '{zone}', '%G-W%V') AS week, cause::VARCHAR, sum(count)::BIGINT FROM '{year}/*/closes.parquet' GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    w = weekly(history.gather(results.within(year)), zone)
    assert (
        w.levels["cause"].filter(pl.col("closes") > 0).select("week", "cause", "closes").sort("week", "cause").rows()
        == counted
    )


def test_the_nightly_job_is_named_with_its_hour(year):
    w = weekly(history.gather(results.within(year)), "Europe/Berlin")
    (beat,) = w.beats
    assert (beat["cause"], beat["kind"], beat["name"], beat["seconds"]) == (
        "auth.token_mismatch",
        "address",
        "198.51.100.7",
        86400,
    )
    assert "every 24 h at about 04:00 (Europe/Berlin), 35 of 35 times" in pages.markdown(w)
    assert w.offenders.filter(pl.col("kind") == "client")["name"].to_list() == ["nightly"]


@pytest.mark.long
def test_all_forms_on_the_command_line_and_the_same_bytes_twice(year, tmp_path):
    for form in ("html", "md", "json", "csv", "parquet"):
        out = [tmp_path / f"{i}.{form}" for i in range(1 + (form in ("html", "json")))]
        for target, inputs in zip(out, ([year], sorted(year.iterdir(), reverse=True)), strict=False):
            done = CliRunner().invoke(
                app, ["report", "weekly", *map(str, inputs), "-o", str(target), "--tz", "Europe/Berlin"]
            )
            assert done.exit_code == 0, done.output
        assert out[0].read_bytes() == out[-1].read_bytes()
    assert len((tmp_path / "0.md").read_text()) < 65_000
    total = 12 * 67
    assert sum(r["closes"] for r in json.loads((tmp_path / "0.json").read_text())["levels"]["mix"]) == total
    assert (
        duckdb.execute(f"SELECT sum(closes), max(zone) FROM '{tmp_path}/0.csv'").fetchall()
        == duckdb.execute(f"SELECT sum(closes), max(zone) FROM '{tmp_path}/0.parquet'").fetchall()
        == [(total, "Europe/Berlin")]
    )


def test_logs_and_results_mix_and_a_wrong_zone_is_told(year, tmp_path):
    log = tmp_path / "gateway.log"
    log.write_text(
        "2026-11-21T05:39:33.349+00:00 [ws] webchat disconnected code=1000 reason=n/a conn=0eaccb27-2212-4ff0-b9c0-1fee9ef9360f\n"
    )
    done = CliRunner().invoke(app, ["report", "weekly", str(year), str(log), "-o", str(tmp_path / "x.json")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "x.json").read_text())["totals"]["closes"] == 12 * 67 + 1
    with pytest.raises(Exception, match="did you mean 'Europe/Berlin'"):
        CliRunner().invoke(app, ["report", "weekly", str(year), "--tz", "Europe/Berlni"], catch_exceptions=False)


# words


def test_log_odds_are_those_of_the_paper():
    """Monroe et al. 2008, equations 15, 16 and 19, worked out word by word; the prior is the corpus itself while it is small."""
    table = {("a", "token"): 9, ("a", "line"): 6, ("b", "token"): 1, ("b", "line"): 8, ("b", "oom"): 7}
    found = keywords.telling(pl.DataFrame([{"group": g, "word": w, "n": n} for (g, w), n in table.items()]))
    whole = sum(table.values())
    own, in_group, in_word = 9, 15, 10
    y, rest = own + in_word, in_word - own + in_word
    odds = math.log(y / (in_group + whole - y)) - math.log(rest / (whole - in_group + whole - rest))
    z = odds / math.sqrt(1 / y + 1 / rest)
    assert z == pytest.approx(2.202, abs=0.001)  # ln(19/27) − ln(11/36) = 0.834; √(1/19 + 1/11) = 0.379
    (first,) = found.filter(pl.col("group") == "a").rows()
    assert first == ("a", "token", 9, pytest.approx(odds), pytest.approx(z))


def test_words_leave_ids_fields_numbers_and_stop_words():
    text = 'closed before connect conn=0eaccb27-2212-4ff0 peer=192.0.2.3:58126 reason=gateway token mismatch {"ts":"2026-11-21T11:18:04+05:30"} fp:01ab the OOM'
    assert set(pl.select(keywords.words(pl.lit(text), frozenset({"closed", "before", "the"}))).item().to_list()) == {
        "connect",
        "gateway",
        "token",
        "mismatch",
        "ts",
        "oom",
    }


def test_codes_get_their_words():
    rows = [
        close(MONDAY + i * HOUR, "auth.token_mismatch", 1008, text="unauthorized: token mismatch") for i in range(20)
    ] + [close(MONDAY + i * HOUR, "restart.oom", 1006, text="container oom killed") for i in range(20)]
    words = {r["group"]: {*()} for r in of(result(rows)).keywords.to_dicts()}
    for r in of(result(rows)).keywords.to_dicts():
        words[r["group"]].add(r["word"])
    assert words == {
        "1008 seen by server": {"unauthorized", "token", "mismatch"},
        "1006 seen by server": {"container", "oom", "killed"},
    }


# hostile text


@pytest.fixture(scope="module")
def attacked():
    rows = [
        close(MONDAY + i * HOUR, "auth.token_mismatch", 1008, text=text, websocket_close_reason=text, service_name=text, compose_project=text, client_address=text, _client="=1+1 " + text, code_observer="client")
        for i, text in enumerate((*HOSTILE, "=cmd|' /C calc'!A0"))
    ]  # fmt: skip
    return of(result(rows, [covered(1)]))


@pytest.mark.parametrize("make", FORMS[:4])
def test_nothing_fires(attacked, make):
    text = make(attacked)
    if make in (pages.html, pages.markdown):
        text = text if make is pages.html else MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
        assert "<img" not in text
        assert "<a " not in text
        assert "<script>document" not in text
        assert "<svg onload" not in text
    assert not [c for c in set(text) if c != "\n" and not c.isprintable()]
    assert make(attacked) == make(attacked)


def test_no_cell_of_the_csv_is_a_formula(attacked):
    for line in csv.reader(io.StringIO(pages.csv(attacked))):
        assert not [cell for cell in line if cell and cell[0] in "=+-@\t\r|"]


def test_no_closes_at_all_is_a_report_too():
    for parts in ([result([])], [result([], [covered(1)])]):
        for make in FORMS:
            assert make(of(*parts))


def test_secrets_left_in_are_announced():
    w = of(result([close(MONDAY)]), result([close(MONDAY + HOUR)], redacted=False))
    assert "Not redacted" in pages.html(w)
    assert "Not redacted" in pages.markdown(w)
    assert not w.redacted


def test_a_week_that_has_just_begun_is_not_what_the_report_is_about():
    w = of(result(many(30) + [close(MONDAY + WEEK + HOUR)], [("gateway", None, MONDAY, MONDAY + WEEK + 2 * HOUR)]))
    assert w.last.name == "2026-W40"
    assert "2026-W41 has begun: 1 close, logs cover 2.0 of 168 h" in pages.markdown(w)
    assert pages.table(w)["closes"].sum() == 31


def test_a_chosen_week_is_told_as_it_was_at_its_end(small):
    past = history.gather([small])
    w = weekly(past, week="2026-W40")
    assert w.last.name == "2026-W40"
    assert row(w, "total", "2026-W40")["closes"] == 5
    # The close that straddles its end is in a bucket; the two of the week after were not there yet.
    assert dict(w.buckets.group_by("bucket").agg(pl.col("closes").sum()).rows()) == {"2026-W40/2026-W41": 1, NO_WEEK: 2}
    assert w.totals["closes"] == 8
    assert "2026-W41" not in pages.markdown(w).replace("2026-W40/2026-W41", "")
    assert row(w, "cause", "2026-W40", cause="auth.token_mismatch")["previous"] == 0
    assert weekly(past, week="2026-W41").last.name == "2026-W41"


@pytest.mark.parametrize(
    ("week", "told"),
    [("2026-W39", "up to its end there is nothing at all"), ("2026-W42", "neither a line nor a close is in it"), ("2026-W54", "give an ISO week"), ("last", "give an ISO week")],
)  # fmt: skip
def test_a_week_that_cannot_be_told_says_why(small, week, told):
    timed = history.clipped(history.gather([small]), until=None)
    with pytest.raises(OccorrError, match=told):
        weekly(timed, week=week)


def test_since_and_until_cut_closes_and_coverage_alike(small):
    ns = lambda at: int(at.timestamp()) * 10**9  # noqa: E731
    past = history.clipped(
        history.gather([small]), since=ns(MONDAY + 2.5 * HOUR), until=ns(MONDAY + WEEK + 90 * HOUR / 60)
    )
    w = weekly(past)
    assert row(w, "total", "2026-W40")["closes"] == 3
    assert row(w, "total", "2026-W41")["closes"] == 1
    assert [round(week.covered, 3) for week in w.weeks] == [168 - 2.5, 1.5]


def test_week_and_since_on_the_command_line(small, tmp_path):
    results.save(small, tmp_path / "r", {})
    ask = lambda *more: CliRunner().invoke(
        app, ["report", "weekly", str(tmp_path / "r"), "-o", str(tmp_path / "w.json"), *more]
    )  # noqa: E731
    assert ask("--week", "2026-W40", "--since", "2026-09-28T02:30:00Z").exit_code == 0
    made = json.loads((tmp_path / "w.json").read_text())
    assert [week["name"] for week in made["weeks"] if week["covered"]] == ["2026-W40"]
    assert sum(r["closes"] for r in made["levels"]["total"]) == 3
    assert "2026-W20" in str(ask("--week", "2026-W20").exception)
    alone = CliRunner().invoke(app, ["report", "postmortem", str(tmp_path / "r"), "--week", "2026-W40"])
    assert isinstance(alone.exception, OccorrError) and "--since and --until" in str(alone.exception)


@pytest.mark.parametrize(("status", "code"), [(0, "none"), (101, "none"), (None, "none"), (502, "HTTP 502")])
def test_a_status_that_the_proxy_did_not_write_is_no_code(status, code):
    """Traefik and older Caddys write 0 of a connection that was upgraded."""
    one = schema.conform(pl.DataFrame({"close_id": ["c1"], "http_status_proxy": [status]}), schema.CLOSES)
    assert levels.labelled(one).item(0, "code") == code
