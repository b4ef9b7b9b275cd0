"""What explain, the verdict table and the Markdown say in words, about a sample whose story is known."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import occorr
from occorr import corrections
from occorr.errors import OccorrError
from occorr.report import document
from occorr.terminal import rules as shown_rules, story, verdicts

SAMPLE = Path(__file__).parent.parent / "sample_logs" / "oom-then-deploy"


@pytest.fixture(scope="module")
def result():
    return occorr.analyze(SAMPLE)


@pytest.fixture
def said(monkeypatch):
    out = io.StringIO()
    for module in (story, verdicts, shown_rules):
        monkeypatch.setattr(
            module, "console", lambda: Console(file=out, width=100, force_terminal=False, highlight=False, markup=False)
        )
    return out


def test_the_story_of_a_refused_attempt(result, said):
    """At 05:47:45 the deploy had stopped the gateway (SIGTERM, exit 0) after an OOM kill at 05:47:18."""
    close = result.closes.filter(
        (occorr_col("cause") == "restart.deploy") & (occorr_col("http_status_proxy") == 502)
    ).row(0, named=True)
    story.explain(result, close["close_id"][:12])
    text = " ".join(said.getvalue().split())
    assert "tried to connect through the proxy and was refused at 2026-11-21 05:47:4" in text
    assert (
        "The proxy logged HTTP 502. A source states the cause, and nothing as strong contradicts it (decisive, 99 %)."
        in text
    )
    assert "docker.events.jsonl:28" in text and "container destroy" in text  # the line that the sample's README names
    assert "restart.oom (1 %). It lost because it is only supported, and restart.deploy is stated by a source." in text
    assert " before ± " in text and "Check first" in text and "docker inspect claw_gateway_1 --format" in text


@pytest.mark.parametrize(("asked", "known"), [("i099", "known: i001, i002"), ("zzz", "known: ")])
def test_an_id_that_is_not_known_names_those_of_its_kind(result, asked, known):
    with pytest.raises(OccorrError, match=known) as error:
        story.explain(result, asked)
    assert ("i001" in str(error.value)) == (asked == "i099")


def occorr_col(name):
    import polars as pl

    return pl.col(name)


def test_the_table_tells_first_checks_in_the_order_of_layers_and_what_to_switch_on(result, said):
    verdicts.show(result)
    text = said.getvalue()
    order = [
        text.index(f"{layer} {cause}:")
        for layer, cause in (("L1", "restart.oom"), ("L1", "restart.deploy"), ("L2", "auth.pairing_required"))
    ]
    assert order == sorted(order)
    assert "What would have settled most of what is open:" in text and "--verbose" in text
    assert "restart.oom  decisive, 99 %" in text


def test_markdown_and_json_hold_the_same_advice(result):
    text = document.markdown(result)
    data = json.loads(document.json_text(result))
    assert [s["layer"] for s in data["steps"]] == sorted(s["layer"] for s in data["steps"])
    assert {"what", "line", "closes"} == set(data["advice"][0]) and len(data["advice"]) <= 3
    assert data["advice"][0]["line"] in text.replace("¦", "|")
    assert "## What to check first" in text


def test_a_correction_is_told_with_the_original(result, said, tmp_path):
    (tmp_path / "verdicts.toml").write_text(
        '[[verdict]]\nfrom = 2026-11-21T05:47:10Z\nuntil = 2026-11-21T05:47:42Z\nwas = "restart.oom"\nnote = "load test | of the team"\n',
        encoding="utf-8",
    )
    corrected = corrections.apply(result, corrections.load(tmp_path / "verdicts.toml"))
    verdicts.show(corrected)
    assert "Corrected by people: load test | of the team" in said.getvalue()
    assert "load test \\| of the team" in document.markdown(corrected)


def test_rules_are_listed_and_shown_with_what_they_are_worth(said):
    shown_rules.rules()
    assert "restart.oom" in said.getvalue() and "engine-oom" in said.getvalue()
    shown_rules.rule_details("client.normal")
    text = said.getvalue()
    assert "labelled incidents" in text and "100 %" not in text.split("so ")[-1]
    assert shown_rules.rule_cases() is True
