"""Stories of several episodes: storms, starts, what a deploy leads to, and what a heading says of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from occorr import incidents, rules, schema

SECOND = 1_000_000_000
T0 = 1_795_000_000 * SECOND


def at(seconds):
    return int(T0 + seconds * SECOND)


def downs(*rows):
    """Episodes: (name, cause, cut_low, up)."""
    return pl.DataFrame(
        [
            {
                "episode": n,
                "kind": "gateway",
                "cause": c,
                "cut_low": at(low),
                "up": at(up),
                "back": at(up),
                "boot": None,
                "failed": 0,
                "cut_high": at(low),
                "ready": None,
                "instance": "",
                "told": "Gateway crashed",
                "die": 1,
                "shown": False,
                "fatal": 0,
            }
            for n, c, low, up in rows
        ],
        schema={
            "episode": pl.String,
            "kind": pl.String,
            "cause": pl.String,
            "cut_low": pl.Int64,
            "up": pl.Int64,
            "back": pl.Int64,
            "boot": pl.Int64,
            "failed": pl.Int64,
            "cut_high": pl.Int64,
            "ready": pl.Int64,
            "instance": pl.String,
            "told": pl.String,
            "die": pl.Int64,
            "shown": pl.Boolean,
            "fatal": pl.Int64,
        },
    )


def closes(*rows):
    """Closes: (id, cause, second, episode, verdict)."""
    return pl.DataFrame([{
        "close_id": i, "cause": c, "timestamp": at(s), "best_episode": e, "verdict": v, "probability": {"decisive": 0.99, "circumstantial": 0.6}[v], "count": 1, "established": False,
        "service_name": "gateway", "compose_project": "claw"} for i, c, s, e, v in rows], schema_overrides={"best_episode": pl.String}).with_columns(pl.col("timestamp").cast(schema.TS)).with_columns(pl.col("timestamp").alias("time_earliest"), pl.col("timestamp").alias("time_latest"))  # fmt: skip


NOTHING = schema.empty(schema.FACTS)


def told(rows, lives, facts=NOTHING):
    found, table = incidents.incidents(rows, lives, facts, rules.builtin())
    return dict(found.select("close_id", "incident_id").rows()), {r["incident_id"]: r for r in table.to_dicts()}


def test_a_storm_is_one_incident_with_its_period():
    lives = downs(*[(f"e{i}", "restart.crash", 15 * i, 15 * i + 9) for i in range(5)])
    of, found = told(closes(*[(f"c{i}", "restart.crash", 15 * i + 1, f"e{i}", "decisive") for i in range(5)]), lives)
    assert set(of.values()) == {"i001"}
    assert "5 times, every 15 s" in found["i001"]["title"] and "5 attempts refused" in found["i001"]["title"]


def test_two_downtimes_are_no_storm_and_other_causes_are_other_incidents():
    assert incidents.storms(downs(("a", "restart.crash", 0, 9), ("b", "restart.crash", 15, 24))) == {}
    assert (
        incidents.storms(
            downs(("a", "restart.crash", 0, 9), ("b", "restart.manual", 15, 24), ("c", "restart.crash", 30, 39))
        )
        == {}
    )
    assert incidents.storms(downs(*[(f"e{i}", "restart.crash", 900 * i, 900 * i + 9) for i in range(5)])) == {}, (
        "a quarter of an hour apart is no storm"
    )


def test_a_heading_says_for_how_many_closes_it_is_decisive():
    of, found = told(
        closes(("c1", "restart.crash", 1, "e0", "decisive"), ("c2", "restart.crash", 2, "e0", "circumstantial")),
        downs(("e0", "restart.crash", 0, 9)),
    )
    assert len(set(of.values())) == 1
    assert found["i001"]["probability"] == 0.99
    assert found["i001"]["title"].endswith("Decisive for 1 of 2, circumstantial for 1.")


def facts(*rows):
    return schema.conform(pl.DataFrame([{"subject": s, "key": k, "value": v} for s, k, v in rows]), schema.FACTS)


INSPECTED = [("container:a", "role", "gateway"), ("container:a", "state.status", "running")]


def test_starts_that_fail_on_a_state_that_is_still_held_are_told_as_such_and_are_no_storm():
    lives = downs(*[(f"e{i}", "restart.deploy", 15 * i, 15 * i + 9) for i in range(5)])
    lives = lives.with_columns((pl.col("episode") != "e0").alias("left"))
    _, found = told(closes(*[(f"c{i}", "restart.deploy", 15 * i + 1, f"e{i}", "decisive") for i in range(5)]), lives)
    assert "could not start 4 times, since its state was still held" in found["i001"]["title"]
    assert "storm" not in found["i001"]["title"]


def test_pairing_after_a_deploy_without_a_persistent_mount_is_one_story():
    lives = downs(("e0", "restart.deploy", 0, 9))
    rows = closes(("c1", "restart.deploy", 1, "e0", "decisive"), ("c2", "auth.pairing_required", 60, None, "decisive"))
    of, found = told(
        rows,
        lives,
        facts(
            *INSPECTED,
            ("container:a", "mount./tmp/logs", "bind"),
            ("container:a", "env.OPENCLAW_STATE_DIR", "/home/node/.openclaw"),
        ),
    )
    assert of["c1"] == of["c2"]
    assert (
        found[of["c1"]]["cause"] == "restart.deploy"
        and "paired again, since /home/node/.openclaw is on no persistent mount" in found[of["c1"]]["title"]
    )
    kept, _ = told(
        rows,
        lives,
        facts(
            *INSPECTED,
            ("container:a", "mount./home/node", "volume"),
            ("container:a", "env.OPENCLAW_STATE_DIR", "/home/node/.openclaw"),
        ),
    )
    assert kept["c1"] != kept["c2"], "its state is on a volume: the pairing has another reason"
    earlier = closes(
        ("c0", "auth.pairing_required", -60, None, "decisive"),
        *[
            tuple(r)
            for r in (
                ("c1", "restart.deploy", 1, "e0", "decisive"),
                ("c2", "auth.pairing_required", 60, None, "decisive"),
            )
        ],
    )
    before, _ = told(earlier, lives, facts(*INSPECTED, ("container:a", "env.OPENCLAW_STATE_DIR", "/state")))
    assert before["c1"] != before["c2"], "devices had to be paired before it, too"


@pytest.mark.parametrize(
    ("die", "first", "low", "high", "said"),
    [
        (1, 100, 99.9, 100.1, "at 11:08:20.000 UTC:"),
        (1, 100, 80, 101, "at 11:08:20 ± 500 ms UTC:"),  # the engine tells the death; nobody logged the close
        (0, 100, 80, 101, "some time between 11:08:00 and 11:08:21 UTC:"),  # only the gateway's log, which just stops
        (1, 104, 104, 104, "at 11:08:20.150 UTC:"),  # the first client that knocked came later: the middle of the cut
    ],
)
def test_a_heading_says_when_it_began_or_from_when_to_when_it_may_have(die, first, low, high, said):
    rows = closes(("a", "restart.killed", first, "e0", "decisive")).with_columns(
        pl.lit(at(low)).cast(schema.TS).alias("time_earliest"), pl.lit(at(high)).cast(schema.TS).alias("time_latest")
    )
    lives = downs(("e0", "restart.killed", 99.8, 110)).with_columns(
        pl.lit(at(100.5)).alias("cut_high"), pl.lit(die).alias("die")
    )
    _, table = incidents.incidents(rows, lives, NOTHING, rules.builtin())
    assert f" {said} " in table.item(0, "title")


@pytest.mark.parametrize(
    ("kind", "back", "boot", "failed", "said"),
    [
        ("gateway", 148, None, 0, "1 attempt refused, 48 s down."),
        ("gateway", 148, None, 4, "1 attempt refused, 48 s down, 4 starts failed."),
        ("gateway", None, 104.5, 0, "1 attempt refused, 4.5 s until its container ran again."),
        ("gateway", None, None, 0, "1 attempt refused."),
        ("proxy", 101, None, None, "1 attempt refused, 1.0 s down."),
        ("freeze", 130, None, None, "1 attempt refused, 30 s paused."),
        ("partition", 130, None, None, "1 attempt refused, 30 s cut off."),
    ],
)
def test_a_heading_says_for_how_long_as_far_as_anything_tells(kind, back, boot, failed, said):
    lives = downs(("e0", "restart.manual", 100, 190)).with_columns(
        kind=pl.lit(kind),
        back=pl.lit(back and at(back), pl.Int64),
        boot=pl.lit(boot and at(boot), pl.Int64),
        failed=pl.lit(failed, pl.Int64),
    )
    _, table = incidents.incidents(
        closes(("a", "restart.manual", 100, "e0", "decisive")), lives, NOTHING, rules.builtin()
    )
    assert table.item(0, "title").endswith(f": {said}")
    assert (" UTC, as the gateway's container was paused: " in table.item(0, "title")) == (kind == "freeze")


@pytest.mark.parametrize(("verdict", "guessed"), [("decisive", False), ("circumstantial", True)])
def test_a_heading_says_that_it_guesses(verdict, guessed):
    _, table = incidents.incidents(
        closes(("a", "network.reset", 100, None, verdict)), downs(), NOTHING, rules.builtin()
    )
    assert table.item(0, "title").startswith("Perhaps: ") == guessed


@pytest.mark.parametrize(
    ("apart", "said"),
    [
        (0.9, ("at", "10:00:00.450")),  # by less than half a second off
        (1.2, ("at", "10:00:00 ± 600 ms")),
        (3.0, ("some time between", "10:00:00 and 10:00:03")),
    ],
)
def test_a_heading_has_no_digits_that_nobody_knows(apart, said):
    low = datetime(2026, 11, 21, 10, tzinfo=UTC)
    high = low + timedelta(seconds=apart)
    assert incidents.when(low + (high - low) / 2, low, high) == said
