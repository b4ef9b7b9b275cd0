"""The lab's smoke run: a real incident whose labels fit what was injected, and which occorr reads."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter

import pytest

import occorr
from lab import install
from occorr import schema

pytestmark = [pytest.mark.lab, pytest.mark.engine, pytest.mark.long]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    if reason := install.missing():
        pytest.skip(reason)
    pytest.importorskip("cryptography", reason="clients of the lab sign with a device key: pip install cryptography")
    from lab.__main__ import main

    base = tmp_path_factory.getbasetemp()
    # pytest-xdist spreads the tests over its workers: the first that comes makes the incident for all
    out = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "lab"
    with open(out.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / "bundles/INDEX.txt").exists():
            assert main(["--size", "smoke", "--seed", "7", "--out", str(out)]) == 0
    return out


def rows(made):
    (path,) = (made / "truth").glob("*.meta.json")
    name = path.name.removesuffix(".meta.json")
    return name, [json.loads(line) for line in (made / f"truth/{name}.jsonl").read_text().splitlines()]


def test_every_label_is_of_the_vocabulary_and_shown_by_a_file(made):
    for path in (made / "truth").glob("*.meta.json"):
        name = path.name.removesuffix(".meta.json")
        meta = json.loads(path.read_text())
        assert meta["problems"] == []
        files = {
            str(p.relative_to(made / "bundles" / name)) for p in (made / "bundles" / name).rglob("*") if p.is_file()
        }
        for line in (made / f"truth/{name}.jsonl").read_text().splitlines():
            row = json.loads(line)
            assert row["cause"] in schema.CAUSE_NAMES
            assert set(row["decisive_evidence_in"]) | set(row["visible_in"]) <= files
            assert row["observable"] or not row["knowable"]


def test_a_restart_cuts_off_who_was_connected_and_refuses_who_comes(made):
    _, restart = rows(made)
    caused = [r for r in restart if r["cause"] == "restart.manual"]
    assert any(r["established"] for r in caused)
    assert any(not r["established"] for r in caused)
    faults = Counter(r["fault_id"] for r in caused)
    assert len(faults) == 1


def test_routes_that_go_wrong_give_each_its_cause(made):
    _, routes = rows(made)
    causes = {r["cause"] for r in routes if r["path"] != "/"}
    assert len(causes) >= 4
    assert causes <= {
        "auth.proxy_denied",
        "unreachable.refused",
        "unreachable.loopback",
        "unreachable.dns",
        "unreachable.socket",
        "timeout.upstream",
        "protocol.upgrade_missing",
    }


def test_no_secret_and_no_path_of_this_machine_gets_into_a_bundle(made):
    for path in (made / "bundles").rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            assert "throwaway-" not in text and str(install.CACHE) not in text and "occorr-lab" not in text, path


def test_occorr_reads_the_bundle(made):
    name, _ = rows(made)
    result = occorr.analyze([made / "bundles" / name])
    assert result.closes.height
    assert set(result.sources.get_column("status").cast(str)) <= {"ok", "empty"}
