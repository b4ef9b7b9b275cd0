"""Every rule proves itself: its cases fire or do not, what it names exists, and mistakes are told at their line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import polars as pl
import pytest

from occorr import resources, rules, schema
from occorr.causes.features import CITED
from occorr.errors import DefinitionError

CAUSES = rules.builtin()
CASES = [(cause, case) for cause in CAUSES for case in cause.cases]
MISTAKES = sorted(p for p in (Path(__file__).parent / "bad_rules").iterdir() if p.is_dir())
KINDS = {"gateway", "proxy", "freeze", "partition"}
FILES = sorted(resources.folder("rules").glob("*.toml"))

pytestmark = pytest.mark.smoke


def fired(cause: rules.Cause, case: rules.Case) -> list[str]:
    """Ids of the file's rules that hold for an imagined close or episode; what the case does not say is not known."""
    features = rules.FEATURES if case.about == "close" else rules.EPISODE_FEATURES
    row = pl.DataFrame({name: [case.values.get(name)] for name in features}, schema=dict(features))
    own = cause.rules if case.about == "close" else cause.episodes
    return [r.id for r in own if not r.when or row.select(pl.sql_expr(r.when).fill_null(value=False)).item()]


@pytest.mark.parametrize(("cause", "case"), [pytest.param(c, k, id=f"{k.path}:{k.line_number}") for c, k in CASES])
def test_case(cause, case):
    assert bool(fired(cause, case)) == case.fires, fired(cause, case)


def test_every_cause_has_a_file_and_no_other():
    assert {c.cause for c in CAUSES} - {rules.EPISODE} == set(schema.CAUSE_NAMES)
    assert len({c.cause for c in CAUSES}) == len(CAUSES)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda c: c.cause)
def test_cause_is_told_and_proved(cause):
    name = Path(cause.path).stem
    assert cause.cause in (name, f"{name}.{name}") or (name, cause.cause) == ("restart", rules.EPISODE)
    assert cause.title
    if cause.cause != rules.EPISODE:
        assert cause.check and cause.settle
    assert {c.fires for c in cause.cases} == {True, False}, "at least one case that fires and one that does not"
    assert cause.rules or cause.episodes


@pytest.mark.parametrize("cause", CAUSES, ids=lambda c: c.cause)
def test_rules_name_what_exists(cause):
    for rule in cause.rules:
        assert rule.cites and set(rule.cites) <= set(rules.CITES), rule.id
        assert rule.strength in schema.STRENGTHS
        assert rule.sentence.endswith("."), rule.id
        assert 0 < rule.priority <= 100
        assert rule.cause in schema.CAUSE_NAMES | {rules.EPISODE}
        if rule.relation:
            assert rule.relation.kind in KINDS and rule.relation.at in rules.AT, rule.id
            assert rule.relation.before >= 0 and rule.relation.after >= 0
        else:
            assert rule.cause != rules.EPISODE, f"{rule.id} takes its cause from an episode and stands to none"
            assert rule.when, f"{rule.id} holds for every close"
    for episode in cause.episodes:
        assert episode.when and episode.sentence and episode.strength in schema.STRENGTHS


def test_rule_ids_are_unique():
    ids = [r.id for c in CAUSES for r in (*c.rules, *c.episodes)]
    assert len(ids) == len(set(ids))


def test_cited_names_have_a_column():
    assert set(rules.CITES) - {"episode"} == set(CITED)


def test_episodes_of_equal_strength_exclude_each_other():
    """On the cases of all files no two files name different causes for one episode at the same strength."""
    clashes = []
    for _, case in CASES:
        if case.about != "episode":
            continue
        row = pl.DataFrame(
            {n: [case.values.get(n)] for n in rules.EPISODE_FEATURES}, schema=dict(rules.EPISODE_FEATURES)
        )
        told = {
            (e.strength, c.cause)
            for c in CAUSES
            for e in c.episodes
            if row.select(pl.sql_expr(e.when).fill_null(value=False)).item()
        }
        for strength in schema.STRENGTHS:
            names = sorted(cause for s, cause in told if s == strength)
            if len(names) > 1:
                clashes.append((f"{case.path}:{case.line_number}", strength, names))
    assert clashes == []


def test_what_a_peer_may_write_never_decides_alone():
    """A console line whose text is ambiguous, or a reason without the gateway's own cause, decides no refusal."""
    reasons = [
        "unauthorized: gateway token mismatch",
        "pairing required",
        "origin not allowed",
        "device identity required",
        "slow consumer",
        "invalid request frame",
    ]
    for reason in reasons:
        for values in (
            {
                "g_seen": True,
                "code_gateway": 1008,
                "code": 1008,
                "reason": reason,
                "ambiguous": False,
                "via": "direct",
                "c_seen": False,
                "p_seen": False,
                "established": False,
            },
            {
                "g_seen": True,
                "code_gateway": 1008,
                "code": 1008,
                "reason": reason,
                "ambiguous": True,
                "via": "direct",
                "c_seen": False,
                "p_seen": False,
                "g_cause": "unauthorized",
                "g_auth": "token_mismatch",
            },
        ):
            case = rules.Case("", 0, "close", values, True)
            held = {i for c in CAUSES for i in fired(c, case)}
            decisive = [
                r.id for c in CAUSES for r in c.rules if r.id in held and r.strength == "decisive" and not r.relation
            ]
            assert decisive == [], (reason, values["ambiguous"])


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda p: p.name)
def test_mistakes_are_told_at_their_line(mistake):
    with pytest.raises(DefinitionError) as error:
        rules.load(mistake)
    want = mistake / "expected.txt"
    if want.exists():
        assert str(error.value) == want.read_text(encoding="utf-8").rstrip("\n")
    else:  # the text behind the colon is polars' own
        assert str(error.value).startswith(f"{mistake.name}/rule.toml:8: when is no valid SQL expression: ")


def test_mistakes_of_several_files_are_told_at_once(tmp_path):
    for name in ("unknown_cause", "unknown_feature"):
        (tmp_path / f"{name}.toml").write_bytes((Path(__file__).parent / "bad_rules" / name / "rule.toml").read_bytes())
    with pytest.raises(DefinitionError) as error:
        rules.load(tmp_path)
    assert [p.line for p in error.value.problems] == [2, 19]


def test_toml_errors_keep_the_other_files(tmp_path):
    (tmp_path / "a.toml").write_text("cause = \n", encoding="utf-8")
    (tmp_path / "b.toml").write_bytes(
        (Path(__file__).parent / "bad_rules" / "unknown_cause" / "rule.toml").read_bytes()
    )
    with pytest.raises(DefinitionError) as error:
        rules.load(tmp_path)
    assert [Path(p.path).name for p in error.value.problems] == ["a.toml", "b.toml"]
    assert "not valid TOML" in str(error.value)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_phases_in_conditions_are_written_by_a_format(path):
    """A misspelt literal would make a rule that never fires and never fails."""
    parsers = "\n".join(p.read_text(encoding="utf-8") for p in resources.folder("parsers").glob("*.toml"))
    phases = set(re.findall(r'proxy_phase"? = "(\w+)"', parsers))
    assert {"connecting", "tunnel"} <= phases
    for rule in tomllib.loads(path.read_text(encoding="utf-8")).get("rule", []):
        for words in re.findall(r"p_phase (?:=|<>|IN) (\([^)]*\)|'\w+')", rule.get("when", "")):
            assert set(re.findall(r"'(\w+)'", words)) <= phases, rule["id"]
