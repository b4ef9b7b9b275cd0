"""occorr diff: better, worse or not to be told, by figures worked out elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import duckdb
import pytest
from hypothesis import given, settings, strategies as st
from report_tables import HOSTILE
from typer.testing import CliRunner
from weekly_results import HOUR, MONDAY, close, result

from occorr import history, results, schema
from occorr.cli import app
from occorr.diff import ALL, compare
from occorr.report import comparison

LATER = MONDAY + timedelta(days=14)


def side(counts, hours, start=MONDAY, kinds=("gateway",), **more):
    rows = [
        close(start + timedelta(seconds=i + 1), cause, None, name=f"{start:%d}-{cause}-{i}", **more)
        for cause, n in counts.items()
        for i in range(n)
    ]
    return result(rows, [(kind, None, start, start + hours * HOUR) for kind in kinds])


def of(before, after):
    found = compare(history.gather([before]), history.gather([after]))
    return found, {row.cause: row for row in found.rows}


def test_the_ratio_and_its_interval_are_rs():
    # poisson.test(c(11, 21), c(800, 3011)): 1.971488 (0.8584264 to 4.2772659), p = 0.07967
    found, rows = of(
        side({"auth.token_mismatch": 21}, 3011), side({"auth.token_mismatch": 11}, 800, LATER + 4000 * HOUR)
    )
    row = rows["auth.token_mismatch"]
    assert (row.ratio, row.low, row.high) == pytest.approx((1.971488, 0.8584264, 4.2772659), abs=1e-6)
    assert row.verdict == "same"
    assert comparison.headline(found).startswith("Not distinguishable from chance")


def test_better_and_worse_are_said_where_chance_does_not_explain_them():
    found, rows = of(
        side({"auth.token_mismatch": 60, "client.normal": 100}, 120),
        side({"auth.token_mismatch": 4, "timeout.proxy_idle": 29, "client.normal": 200}, 72, LATER),
    )
    assert {cause: row.verdict for cause, row in rows.items()} == {
        ALL: "same",
        "auth.token_mismatch": "better",
        "timeout.proxy_idle": "worse",
        "client.normal": "more",
    }
    assert rows["auth.token_mismatch"].ratio == pytest.approx(4 / 72 / (60 / 120))
    assert comparison.headline(found) == "Better: wrong token; worse: proxy cut idle connections."
    assert "60 closes in 5 d before, 4 closes in 3 d after; the rate is 0.11 of what it was" in comparison.markdown(
        found
    )


def test_one_restart_less_proves_nothing_and_says_what_would():
    """One incident of 50 closes in 24 h: without one for T (0.025⁻¹ − 1) = 39 T it would be told, and not sooner."""
    found, rows = of(side({"restart.oom": 50}, 24, incident_id="i1"), side({}, 24, LATER))
    row = rows["restart.oom"]
    assert (row.before, row.before_events, row.after, row.verdict) == (50, 1, 0, "same")
    assert row.enough_hours == pytest.approx(24 * 39)
    assert "it takes about 39 d without one to tell" in comparison.sentence(row, found.before, found.after)
    longer, rows = of(side({"restart.oom": 50}, 24, incident_id="i1"), side({}, 24 * 39 + 1, LATER))
    assert rows["restart.oom"].verdict == "better"


def test_fifty_single_closes_less_do_prove_something():
    _, rows = of(side({"auth.origin": 50}, 24), side({}, 24, LATER))
    assert rows["auth.origin"].verdict == "better"
    assert rows["auth.origin"].high < 0.1


@settings(deadline=None, max_examples=10)
@given(
    st.dictionaries(st.sampled_from(["auth.origin", "restart.oom", "client.normal"]), st.integers(1, 30)),
    st.integers(1, 400),
)
def test_the_same_on_both_sides_is_never_a_difference(counts, hours):
    _, rows = of(side(counts, hours), side(counts, hours, MONDAY + 3000 * HOUR))
    assert {row.verdict for row in rows.values()} <= {"same"}


def test_hints_name_what_makes_the_sides_hard_to_compare():
    both = side({"auth.origin": 5}, 100, kinds=("gateway", "docker"))
    assert any("docker lines only before" in hint for hint in of(both, side({"auth.origin": 5}, 100, LATER))[0].hints)
    assert any("the short side decides" in hint for hint in of(both, side({}, 2, LATER))[0].hints)
    assert any("is the order right" in hint for hint in of(side({}, 100, LATER), side({}, 100))[0].hints)
    assert any("5 closes stand on both sides" in hint for hint in of(both, both)[0].hints)
    assert any("a cause may hide" in hint for hint in of(both, side({"unknown.unknown": 9}, 100, LATER))[0].hints)
    found, rows = of(side({"auth.origin": 5}, 100), result([close(LATER, "auth.origin")], []))
    assert rows["auth.origin"].verdict == "no data"
    assert comparison.headline(found) == "Nothing can be said: one side has no hours that logs cover."


def test_hours_whose_closes_were_left_out_are_not_covered(tmp_path):
    """A result of 10 hours that was asked for its last 2: one close in them is one in two hours, also when it is read again."""
    since = int((LATER + 8 * HOUR).timestamp()) * 10**9
    whole = side({"auth.origin": 1}, 10, LATER + 8 * HOUR)
    cover = [
        ("gateway", "claw", LATER, LATER + 10 * HOUR),
        ("gateway", "other", LATER, LATER + 50 * HOUR),
        ("gateway", None, LATER, LATER + 9 * HOUR),
    ]
    asked = schema.Asked(since, None, "claw")
    kept = replace(whole, timeline=result([], cover).timeline, asked=asked)
    results.save(kept, tmp_path / "kept", {})
    assert results.load(tmp_path / "kept").asked == asked
    for part in (kept, tmp_path / "kept"):
        assert compare(history.gather([whole]), history.gather([part])).after.hours == pytest.approx(2)
    nobodys = replace(kept, closes=kept.closes.clear(), asked=schema.Asked(project="nobody"))
    assert compare(history.gather([whole]), history.gather([nobodys])).after.hours == 0
    assert kept.banners == (
        f"Other closes are left out: these are those of project claw from {LATER + 8 * HOUR:%Y-%m-%dT%H:%M:%S}Z.",
    )


def test_the_command_counts_what_duckdb_counts(tmp_path):
    places = [tmp_path / name for name in ("before", "after")]
    for place, data in zip(
        places,
        (side({"auth.origin": 40, "restart.oom": 3}, 48), side({"auth.origin": 2, "restart.oom": 3}, 48, LATER)),
        strict=True,
    ):
        results.save(data, place, {})
    answer = json.loads(CliRunner().invoke(app, ["diff", *map(str, places), "--format", "json"]).stdout)
    for name, place in zip(("before", "after"), places, strict=True):
        counted = dict(
            duckdb.execute(
                f"SELECT cause::VARCHAR, sum(count)::BIGINT FROM '{place}/closes.parquet' GROUP BY 1"
            ).fetchall()
        )
        assert {row["cause"]: row[name] for row in answer["rows"] if row["cause"] != ALL} == counted
    assert answer["headline"] == "Better: origin not allowed."
    table = CliRunner().invoke(app, ["diff", *map(str, places)])
    assert max(map(len, table.stdout.splitlines())) <= 80
    assert table.stdout.startswith("Better: origin not allowed.")
    for form in ("md", "json"):
        out = tmp_path / f"x.{form}"
        assert CliRunner().invoke(app, ["diff", *map(str, places), "-o", str(out)]).exit_code == 0
        assert "etter" in out.read_text()


def test_hostile_names_stay_quiet():
    rows = [
        close(MONDAY + i * HOUR, "auth.origin", 1008, service_name=text, compose_project=text, text=text)
        for i, text in enumerate(HOSTILE)
    ]
    found, _ = of(result(rows, [("gateway", None, MONDAY, MONDAY + 9 * HOUR)], redacted=False), side({}, 9, LATER))
    for text in (comparison.markdown(found), comparison.json_text(found)):
        assert "<script" not in text
        assert not [c for c in set(text) if c != "\n" and not c.isprintable()]
    assert comparison.markdown(found).startswith("> Not redacted")
