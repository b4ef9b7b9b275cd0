"""What a rule is worth: the arithmetic by hand, and the table that comes with occorr."""

from __future__ import annotations

import polars as pl
import pytest

from occorr import fitted, rules

RULES = {r.id for c in rules.builtin() for r in (*c.rules, *c.episodes)}


def answers(*rows):
    return pl.DataFrame(
        [dict(zip(("incident", "rule", "verdict", "right", "runner_up", "runner_up_right"), r)) for r in rows],
        schema={
            "incident": pl.String,
            "rule": pl.String,
            "verdict": pl.String,
            "right": pl.Boolean,
            "runner_up": pl.String,
            "runner_up_right": pl.Boolean,
        },
    )


def of(table, rule, verdict):
    return table.filter((pl.col("rule") == rule) & (pl.col("verdict") == verdict)).row(0, named=True)


def test_an_incident_counts_once_and_few_lie_near_the_average():
    rows = (
        [("a", "r/one", "supported", True, None, None)] * 50
        + [("b", "r/one", "supported", False, None, None)]
        + [("c", "r/two", "supported", True, None, None)]
    )
    table = fitted.fit(answers(*rows), shrink=2.0)
    average = (2 + 1) / (3 + 2)  # two of three are right, and one of each is taken as seen
    assert of(table, fitted.ANY, "supported")["probability"] == pytest.approx(average, abs=1e-4)
    assert of(table, "r/one", "supported")["probability"] == pytest.approx((1 + 2 * average) / (2 + 2), abs=1e-4)
    assert of(table, "r/two", "supported")["probability"] == pytest.approx((1 + 2 * average) / (1 + 2), abs=1e-4)
    assert (of(table, "r/one", "supported")["incidents"], of(table, "r/one", "supported")["closes"]) == (2, 51)


def test_nothing_seen_right_makes_certain():
    table = fitted.fit(answers(*[(str(i), "r/one", "decisive", True, None, None) for i in range(500)]))
    assert of(table, "r/one", "decisive")["probability"] == fitted.MOST


def test_a_guess_ends_at_the_most_of_a_guess():
    table = fitted.fit(answers(*[(str(i), "r/one", "circumstantial", True, None, None) for i in range(50)]))
    assert of(table, "r/one", "circumstantial")["probability"] == fitted.MOST_OF_A_GUESS


def test_a_rule_that_was_never_seen_gets_the_average_of_its_strength():
    table = fitted.fit(
        answers(("a", "r/one", "decisive", True, None, None), ("b", "r/one", "supported", False, "x.y", True))
    )
    got = fitted.apply(
        answers(
            ("q", "r/new", "decisive", None, None, None),
            ("q", "r/new", "supported", None, "x.y", None),
            ("q", None, "unknown", None, None, None),
        ),
        table,
    )
    assert got["probability"].to_list() == [pytest.approx(2 / 3, abs=1e-3), pytest.approx(1 / 3, abs=1e-3), 0.0]
    assert got["runner_up_probability"].to_list() == [None, pytest.approx((1 - 1 / 3) * 2 / 3, abs=2e-3), None]


def test_the_table_names_rules_that_exist_and_orders_the_strengths():
    table = fitted.builtin()
    known = table.filter(~pl.col("rule").is_in([fitted.ANY, fitted.RUNNER_UP, ""])).drop_nulls("rule")
    assert set(known["rule"]) <= RULES, sorted(set(known["rule"]) - RULES)
    average = dict(table.filter(pl.col("rule") == fitted.ANY).select("verdict", "probability").rows())
    assert average["unknown"] < average["circumstantial"] < average["supported"] < average["decisive"] < 1
    assert table.filter(pl.col("verdict") == "circumstantial")["probability"].max() <= fitted.MOST_OF_A_GUESS
    assert table.select("rule", "verdict").is_duplicated().any() is False
    assert (table["incidents"] <= table["closes"]).all()
