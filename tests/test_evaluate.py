"""The scores: against figures that scikit-learn works out, and on answers whose scores are known beforehand."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from occorr import evaluate, schema
from occorr.evaluate import figures, matching
from occorr.evaluate.baseline import baseline
from occorr.evaluate.scoring import lessened, on_reference
from occorr.report import scores as shown


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    """Intervals are not what most tests here are about, and cost the most."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "RESAMPLES", 100)
        yield


CAUSES = ("restart.oom", "restart.manual", "auth.origin", "client.normal", "unknown.unknown")


def answer(incident, truth, said, *, p=0.9, knowable=True, verdict="decisive", code=1006, status=None, decidable=True):
    right = truth == said
    humble = verdict == "unknown" or (verdict == "circumstantial" and p <= 0.6) or (right and verdict != "decisive")
    return {
        "incident": incident, "label": "c", "knowable": knowable, "decidable": knowable and decidable, "cause": truth, "truth": truth, "said": said, "verdict": verdict, "decisive": verdict == "decisive", "probability": p,
        "runner_up": None, "runner_up_probability": None, "runner_up_right": None, "rule": None, "right": right, "family_right": truth.split(".")[0] == said.split(".")[0], "humble": humble, "code": code, "status": status,
    }  # fmt: skip


def table(rows):
    return pl.DataFrame(rows, schema=figures.COLUMNS, orient="row")


@st.composite
def some_answers(draw):
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 4), st.sampled_from(CAUSES[:4]), st.sampled_from(CAUSES), st.integers(0, 100)),
            min_size=4,
            max_size=60,
        )
    )
    return table([answer(f"i{i}", t, s, p=p / 100) for i, t, s, p in rows])


@settings(max_examples=30, deadline=None)
@given(some_answers())
def test_scores_are_those_of_scikit_learn(rows):
    metrics = pytest.importorskip("sklearn.metrics")
    truth, said, right = rows["truth"].to_list(), rows["said"].to_list(), rows["right"].to_numpy()
    got = figures.figures(rows)
    assert got["accuracy"] == pytest.approx(metrics.accuracy_score(truth, said), abs=1e-4)
    names = [r["cause"] for r in got["causes"] if r["scored"]]
    if names:
        assert got["macro_f1"] == pytest.approx(
            metrics.f1_score(truth, said, labels=names, average="macro", zero_division=0), abs=1e-4
        )
    cells = {(c["truth"], c["said"]): c["closes"] for c in got["confusion"]}
    matrix = metrics.confusion_matrix(truth, said, labels=CAUSES)
    assert cells == {(CAUSES[i], CAUSES[j]): n for (i, j), n in np.ndenumerate(matrix) if n}
    assert got["calibration"]["brier_of_right"] == pytest.approx(
        metrics.brier_score_loss(right, rows["probability"], pos_label=True), abs=1e-4
    )
    weights = [1 / sum(a == (i, t) for a in zip(rows["incident"], truth)) for i, t in zip(rows["incident"], truth)]
    assert got["accuracy_by_incident"] == pytest.approx(
        metrics.accuracy_score(truth, said, sample_weight=weights), abs=1e-4
    )


@settings(max_examples=30, deadline=None)
@given(some_answers())
def test_calibration_error_and_risk_by_their_definitions(rows):
    got = figures.figures(rows)
    p, right = rows["probability"].to_numpy(), rows["right"].to_numpy()
    want = 0.0
    for k in range(10):
        inside = np.floor(p * 10).clip(0, 9) == k
        if inside.any():
            want += inside.mean() * abs(p[inside].mean() - right[inside].mean())
    assert got["calibration"]["ece"] == pytest.approx(want, abs=2e-4)
    # with all covered, the risk is the share of wrong answers
    assert got["risk_coverage"]["curve"][-1] == {
        "coverage": 1.0,
        "risk": pytest.approx(1 - right.mean(), abs=1e-5),
        "probability": p.min(),
    }


def test_sure_answers_that_are_right_carry_no_risk_at_80_percent():
    rows = [answer("a", "restart.oom", "restart.oom", p=0.99)] * 80 + [
        answer("b", "restart.oom", "client.normal", p=0.3)
    ] * 20
    assert figures.figures(table(rows))["risk_coverage"]["risk_at_80"] == 0
    rows = [answer("a", "restart.oom", "restart.oom", p=0.9)] * 50 + [
        answer("b", "restart.oom", "client.normal", p=0.9)
    ] * 50
    assert figures.figures(table(rows))["risk_coverage"]["risk_at_80"] == 0.5  # nothing tells them apart


def test_a_perfect_and_a_useless_set_of_probabilities():
    perfect = table(
        [answer("a", "restart.oom", "restart.oom", p=1.0), answer("b", "client.normal", "client.normal", p=1.0)]
    )
    assert figures.figures(perfect)["calibration"] == {
        "brier": 0.0,
        "brier_skill": 1.0,
        "brier_of_right": 0.0,
        "brier_of_right_skill": None,
        "ece": 0.0,
        "bins": [{"from": 0.9, "until": 1.0, "closes": 2, "probability": 1.0, "right": 1.0}],
    }
    wrong = table(
        [answer("a", "restart.oom", "client.normal", p=1.0), answer("b", "client.normal", "restart.oom", p=1.0)]
    )
    assert figures.figures(wrong)["calibration"]["brier"] == 2.0  # as far as probabilities can be
    assert figures.figures(wrong)["calibration"]["ece"] == 1.0


def test_unknowable_closes_count_as_unknown_where_the_answer_is_humble():
    rows = [
        answer(f"i{i}", "client.abort", "client.normal", p=0.55, knowable=False, verdict="circumstantial")
        for i in range(3)
    ]
    rows += [answer("i9", "client.abort", "client.normal", p=0.9, knowable=False, verdict="supported")]
    got = figures.figures(table(rows))
    assert got["humble"] == 0.75
    assert {(c["truth"], c["said"]): c["closes"] for c in got["confusion"]} == {
        ("unknown.unknown", "unknown.unknown"): 3,
        ("unknown.unknown", "client.normal"): 1,
    }


def test_a_cause_in_two_incidents_is_listed_and_not_scored():
    rows = [answer(f"i{i}", "restart.oom", "restart.oom") for i in range(3)] + [
        answer(f"i{i}", "auth.origin", "restart.oom") for i in range(2)
    ]
    got = figures.figures(table(rows))
    assert {r["cause"]: r["scored"] for r in got["causes"]} == {"restart.oom": True, "auth.origin": False}
    assert got["macro_f1"] == pytest.approx(6 / 8, abs=1e-4)  # three right, two said of it wrongly


def test_one_burst_does_not_outweigh_the_other_incidents():
    rows = [answer("burst", "auth.origin", "auth.origin")] * 98 + [
        answer("x", "restart.oom", "client.normal"),
        answer("y", "restart.oom", "client.normal"),
    ]
    got = figures.figures(table(rows))
    assert got["accuracy"] == 0.98
    assert got["accuracy_by_incident"] == pytest.approx(1 / 3, abs=1e-4)


def test_intervals_hold_the_value_and_repeat():
    rows = [answer(f"i{i}", "restart.oom", "restart.oom" if i % 4 else "client.normal") for i in range(12)]
    got = figures.figures(table(rows))
    low, high = got["intervals"]["accuracy"]
    assert low < got["accuracy"] < high
    assert figures.figures(table(rows))["intervals"] == got["intervals"]


def test_no_wrong_decisive_verdict_in_n_incidents_bounds_their_share_by_the_rule_of_three():
    rows = [answer(f"i{i}", "restart.oom", "restart.oom") for i in range(30)]
    assert figures.figures(table(rows))["wrong_decisive_bound"] == pytest.approx(1 - 0.05 ** (1 / 30), abs=1e-4)


def test_the_baseline_learns_from_the_other_incidents_only():
    rows = [
        answer("a", "restart.oom", "restart.oom", code=1006),
        answer("b", "restart.oom", "restart.oom", code=1006),
        answer("c", "client.normal", "client.normal", code=1000),
        answer("d", "client.normal", "client.normal", code=1000),
        answer("d", "client.normal", "client.normal", code=1000),
    ]
    got = baseline(table(rows)).sort("incident")
    assert got["said"].to_list() == ["restart.oom", "restart.oom", "client.normal", "client.normal", "client.normal"]
    alone = baseline(table([answer("a", "auth.origin", "auth.origin", code=1008), *rows[2:]])).sort("incident")
    assert alone.row(0, named=True)["said"] == "client.normal"  # 1008 was seen in its own incident only
    assert alone.row(0, named=True)["probability"] == 1.0


def test_labels_lose_what_only_the_missing_files_show(tmp_path):
    frame = pl.DataFrame(
        {
            "observable": [True, True, True],
            "knowable": [True, True, True],
            "visible_in": [["a.log"], ["a.log", "b.log"], []],
            "decisive_evidence_in": [["a.log"], ["a.log", "b.log"], ["a.log"]],
        }
    )
    got = lessened(frame, [tmp_path / "b.log"])
    assert got["observable"].to_list() == [False, True, True]
    assert got["knowable"].to_list() == [False, True, False]


def summary_of(rows):
    made = figures.figures(table(rows))
    shares = {"incidents": 1, "labels": len(rows), "recall": 1.0, "missed": 0, "invented": 0.0, "split": 0, "merged": 0}
    return {
        "all": shares,
        "occorr": made,
        "baseline": figures.figures(baseline(table(rows))),
        "incidents": [],
        "clocks": [],
        "ablation": [],
        "without": ["<b>.log"],
        "wrong_decisive": [
            {
                "incident": "<script>",
                "label": "c1",
                "close_id": "x|y`z",
                "cause": "restart.oom",
                "said": "client.normal",
                "runner_up": None,
                "probability": 0.9,
                "timestamp": "t",
            }
        ],
    }


def test_page_and_markdown_hold_the_figures_and_escape_names():
    summary = summary_of([answer(f"i{i}", "restart.oom", "restart.oom" if i else "client.normal") for i in range(4)])
    page, text = shown.html(summary), shown.markdown(summary)
    assert "<script>alert" not in page and "<td>&lt;script&gt;</td>" in page and "&lt;b&gt;.log" in page
    assert "75.0 %" in page and "75.0 %" in text
    assert "`` x¦y`z ``" in text
    assert (
        "http://" not in page.split('id="plotly-source"')[0] and "https://" not in page.split('id="plotly-source"')[0]
    )
    assert page == shown.html(summary)
    json.dumps(summary, allow_nan=False)


def test_a_share_below_one_is_never_shown_as_all():
    assert shown.share(0.99996) == "99.9 %"
    assert shown.share(1.0) == "100.0 %"
    assert shown.share(None) == "–"


@pytest.mark.long
def test_samples_are_scored_end_to_end(tmp_path):
    """A label made from a line of a sample: the recorded refusal at 05:53:46 by a wrong token."""
    from pathlib import Path

    sample = Path(__file__).parent.parent / "sample_logs" / "wrong-token-without-events"
    bundles, truth = tmp_path / "bundles", tmp_path / "truth"
    bundles.mkdir()
    truth.mkdir()
    (bundles / "one").symlink_to(sample, target_is_directory=True)
    label = {
        "close_id": "c1",
        "client": "x",
        "mode": "cli",
        "via": "direct",
        "src_ip": "192.0.2.113",
        "client_local_port": 54167,
        "conn_id": "e90e0a9f-73e6-42ce-a48f-a2d37f50ee5e",
        "t_open_ms": 1795240426500,
        "t_close_ms": 1795240426574,
        "code": 1008,
        "cause": "auth.token_mismatch",
        "observable": True,
        "knowable": True,
        "visible_in": ["gateway.file.log", "gateway.docker.log"],
        "decisive_evidence_in": ["gateway.file.log", "gateway.docker.log"],
        "established": False,
    }
    other = label | {
        "close_id": "c2",
        "conn_id": "00000000-0000-0000-0000-000000000000",
        "src_ip": "192.0.2.9",
        "client_local_port": 1,
        "t_close_ms": 1795239000000,
        "t_open_ms": 1795239000000,
        "visible_in": ["gateway.file.log"],
        "decisive_evidence_in": ["gateway.file.log"],
    }
    (truth / "one.jsonl").write_text(json.dumps(label) + "\n" + json.dumps(other) + "\n", encoding="utf-8")
    (score,) = evaluate.score_all(bundles, truth)
    assert (score.found, score.missed, score.cause_right, score.decided, len(score.wrong)) == (1, 1, 1, 1, 0)
    assert [a["probability"] for a in score.answers if a["said"] == "missed"] == [0.0]
    (less,) = evaluate.score_all(bundles, truth, without=["gateway.file.log"])
    assert (less.labels, less.found) == (1, 1)
    taken = evaluate.ablation(evaluate.score_ablated(bundles, truth))
    assert [r["without"] for r in taken] == ["file log"]  # it has neither events nor a proxy
    assert not math.isnan(taken[0]["accuracy"]) and taken[0]["wrong_decisive"] == 0


def test_a_commands_close_is_the_label_of_the_file_that_tells_of_it():
    """Two commands one after the other: the second one's label spans 6 s, and the first one's close lies nearer to its middle."""
    at = 1795956626 * 10**9
    closes = schema.conform(
        pl.DataFrame(
            {
                "close_id": ["a", "b"],
                "timestamp": [at, at + 6 * 10**9],
                "time_earliest": [at - 10**8, at],
                "time_latest": [at + 10**8, at + 7 * 10**9],
                "via": ["proxy", "unknown"],
                "established": [False, False],
                "observers": [["gateway", "cli"], ["cli"]],
            }
        ),
        schema.CLOSES,
    )
    evidence = schema.conform(
        pl.DataFrame({"close_id": ["a", "b"], "log_file_path": ["x/i1/cli/01.out", "x/i1/cli/02.out"]}), schema.EVIDENCE
    )
    own = {
        "close_id": "c1",
        "client": "cli/01.out",
        "via": "proxy",
        "t_open_ms": at / 1e6 - 4000,
        "t_close_ms": at / 1e6 + 400,
    }
    other = own | {"client": "cli/02.out", "close_id": "c2", "t_open_ms": at / 1e6 + 500, "t_close_ms": at / 1e6 + 1100}
    truth = pl.DataFrame(
        [{k: r.get(k) for k in matching.WANT} for r in (other, own)],
        schema_overrides=matching.TYPES,
        infer_schema_length=None,
    )
    pairs, candidates = matching.match(matching.with_files(closes, evidence), truth)
    told = {(closes["close_id"][row], truth["client"][label]) for row, label in pairs.select("row", "label").rows()}
    assert ("a", "cli/01.out") in told
    assert all(
        r != 0 or truth["client"][label] == "cli/01.out" for r, label in candidates.select("row", "label").rows()
    )


@pytest.mark.parametrize(
    ("kind", "clock", "status", "off"),
    [
        ("gateway", "gateway", "reference", -1750),  # nothing of the engine: the gateway's clock, 1.75 s slow
        ("proxy", "nginx", "reference", 2350),
        ("gateway", "engine", "reference", 0),  # the engine's stamps are the host's
        ("gateway", "gateway", "aligned", 0),
    ],
)
def test_labels_are_told_on_the_clock_that_the_result_tells_its_times_on(kind, clock, status, off):
    timeline = schema.conform(
        pl.DataFrame({"source_kind": [kind], "clock_id": [clock], "clock_status": [status]}), schema.EVENTS
    )
    known = {"gateway.*#own-timestamp": {"offset_ms": -1750.0}, "proxy.access.log": {"offset_ms": 2350.0}}
    truth = pl.DataFrame({"t_open_ms": [None, 5000.0], "t_close_ms": [9000.0, 9500.0]})
    told = on_reference(truth, timeline, known)
    assert told.rows() == [(None, 9000.0 + off), (5000.0 + off, 9500.0 + off)]
    assert on_reference(truth, timeline, {}).equals(truth)
