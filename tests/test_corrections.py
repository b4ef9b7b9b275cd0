"""What people say in verdicts.toml takes the verdict's place, and the verdict stays beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

import occorr
from occorr import corrections, evaluate
from occorr.errors import DefinitionError

SAMPLE = Path(__file__).parent.parent / "sample_logs" / "wrong-token-without-events"


@pytest.fixture(scope="module")
def result():
    return occorr.analyze(SAMPLE)


def given(tmp_path, text):
    path = tmp_path / corrections.NAME
    path.write_text(text, encoding="utf-8")
    return corrections.load(path)


def test_a_close_is_corrected_and_the_original_kept(result, tmp_path):
    known = given(tmp_path, '[[verdict]]\nclose_id = "e90e0a9f"\ncause = "auth.rotated"\nnote = "rotated by hand"\n')
    row = corrections.apply(result, known).closes.filter(occorr_starts("e90e0a9f")).row(0, named=True)
    assert (row["cause"], row["family"], row["original_cause"], row["correction"]) == (
        "auth.rotated",
        "auth",
        "auth.token_mismatch",
        "rotated by hand",
    )
    assert (row["verdict"], row["runner_up"]) == ("decisive", "auth.token_mismatch")
    others = corrections.apply(result, known).closes.filter(~occorr_starts("e90e0a9f"))
    assert others.get_column("correction").is_null().all()
    assert others.drop("correction", "original_cause").equals(
        result.closes.filter(~occorr_starts("e90e0a9f")).drop("correction", "original_cause")
    )


def occorr_starts(text):
    import polars as pl

    return pl.col("close_id").str.starts_with(text)


def test_a_drill_is_noted_and_stays_what_it_was(result, tmp_path):
    known = given(
        tmp_path,
        '[[verdict]]\nfrom = 2026-11-21T05:53:46Z\nuntil = 2026-11-21T05:53:48Z\nwas = "auth"\nnote = "this was a drill"\n',
    )
    closes = corrections.apply(result, known).closes.filter(occorr_starts(""))
    noted = closes.filter(closes["correction"].is_not_null())
    assert noted.get_column("cause").to_list() == ["auth.token_mismatch"] * 2
    assert noted.get_column("original_cause").is_null().all()
    assert (
        noted.get_column("probability").to_list()
        == result.closes.filter(closes["correction"].is_not_null()).get_column("probability").to_list()
    )
    incident = corrections.apply(result, known).incidents.filter(occorr_family("auth")).row(0, named=True)
    assert (incident["correction"], incident["original_cause"]) == ("this was a drill", None)


def occorr_family(text):
    import polars as pl

    return pl.col("family") == text


def test_an_incident_is_corrected_with_all_its_closes(result, tmp_path):
    known = given(
        tmp_path,
        '[[verdict]]\nfrom = 2026-11-21T05:53:46Z\nuntil = 2026-11-21T05:53:48Z\nwas = "auth.token_mismatch"\ncause = "auth.rotated"\nnote = "rotation"\n',
    )
    incident = corrections.apply(result, known).incidents.filter(occorr_family("auth")).row(0, named=True)
    assert (incident["cause"], incident["original_cause"], incident["correction"]) == (
        "auth.rotated",
        "auth.token_mismatch",
        "rotation",
    )


def test_the_first_correction_of_a_close_counts(result, tmp_path):
    known = given(
        tmp_path,
        '[[verdict]]\nclose_id = "e90e0a9f"\ncause = "auth.rotated"\nnote = "first"\n[[verdict]]\nclose_id = "e90e"\ncause = "auth.origin"\nnote = "second"\n',
    )
    row = corrections.apply(result, known).closes.filter(occorr_starts("e90e0a9f")).row(0, named=True)
    assert (row["cause"], row["correction"], row["original_cause"]) == ("auth.rotated", "first", "auth.token_mismatch")


def test_idle_corrections_are_told(result, tmp_path):
    known = given(tmp_path, '[[verdict]]\nclose_id = "nothing"\nnote = "x"\n')
    assert corrections.idle(result.closes, known) == list(known)
    assert corrections.apply(result, known).closes.equals(result.closes)


@pytest.mark.parametrize(("text", "said"), [
    ('[[verdict]]\nclose_id = "a"\n', "verdicts.toml:1: note is missing"),
    ('[[verdict]]\nnote = "x"\n', "verdicts.toml:1: a verdict needs close_id, or from and until"),
    ('[[verdict]]\nclose_id = "a"\nnote = "x"\ncause = "restart.oomm"\n', "verdicts.toml:4: cause 'restart.oomm' is not in the vocabulary; did you mean 'restart.oom'?"),
    ('[[verdict]]\nclose_id = "a"\nnote = "x"\nwhy = "y"\n', "verdicts.toml:4: unknown key 'why'"),
    ("[[verdict]\n", "verdicts.toml:1: not valid TOML"),
])  # fmt: skip
def test_mistakes_are_told_at_their_line(tmp_path, text, said):
    with pytest.raises(DefinitionError) as error:
        given(tmp_path, text)
    assert said in str(error.value)


def test_corrections_are_labels_for_a_fit(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    for name in ("gateway.file.log", "gateway.docker.log"):
        (folder / name).symlink_to(SAMPLE / name)
    (folder / corrections.NAME).write_text(
        '[[verdict]]\nclose_id = "e90e0a9f"\ncause = "auth.rotated"\nnote = "rotation"\n', encoding="utf-8"
    )
    (score,) = evaluate.score_corrected(tmp_path)
    assert [(a["truth"], a["said"], a["right"]) for a in score.answers] == [
        ("auth.rotated", "auth.token_mismatch", False)
    ]
