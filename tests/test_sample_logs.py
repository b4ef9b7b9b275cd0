"""The real incidents in sample_logs/: what came out is compared with what was done, and must not hang on names or on luck."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.optimize import linear_sum_assignment

import occorr
from occorr import history, report, weekly
from occorr.report import weekly as pages, words

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path(__file__).parent.parent / "sample_logs"
SAMPLES = sorted(p.name for p in FOLDER.iterdir() if p.is_dir())
SMOKE = {"wrong-token-without-events", "untrusted-proxy", "old-release-2026.3"}
RANK = {"unknown": 0, "circumstantial": 1, "supported": 2, "decisive": 3}
SLACK = 1.5  # seconds that a close may lie outside its printed bounds and still be the one that is meant
TABLES = ("timeline", "closes", "evidence", "incidents", "facts", "clocks", "sources")
KINDS = {
    "docker events": ["docker.events.jsonl"],
    "proxy logs": ["proxy.access.log", "proxy.error.log"],
    "file log": ["gateway.file.log"],
}


@pytest.fixture(
    scope="module", params=[pytest.param(n, marks=pytest.mark.smoke if n in SMOKE else ()) for n in SAMPLES]
)
def name(request):
    """Of the module's scope, so that all tests of one sample run together and share its analysis."""
    return request.param


@cache
def expected(name: str) -> dict:
    return tomllib.loads((FOLDER / name / "expected.toml").read_text(encoding="utf-8"))


@lru_cache(2)
def analyzed(name: str) -> occorr.Analysis:
    return occorr.analyze(FOLDER / name)


def short(conn: str | None) -> str | None:
    return conn if conn is None or "…" in conn else f"{conn[:8]}…{conn[-4:]}"


def cost(row: dict, close: dict, shift: timedelta) -> float:
    """How far a row is from an expected close; infinite where it cannot be that one."""
    at = close["at"] + shift
    if row["conn_id"] and "conn" in close:
        return 0.0 if short(row["conn_id"]) == short(close["conn"]) else np.inf
    low, high = row["time_earliest"], row["time_latest"]
    if low is None or high is None or "client" in close and row["client_address"] not in (None, close["client"]):
        return np.inf
    beyond = max((low - at).total_seconds(), (at - high).total_seconds(), 0.0)
    same_port = row["client_port"] is not None and row["client_port"] == close.get("port")
    other_port = row["client_port"] is not None and "port" in close and not same_port and not close.get("cli")
    status = row["http_status_proxy"]
    other_status = status is not None and (status if status not in (0, 101, 499) else None) != close.get("status")
    if (
        close.get("cli") != ("cli" in row["observers"] or None)
        or other_port
        or other_status
        or row["via"] not in ("unknown", close["via"])
    ):
        return np.inf
    if beyond > (15.0 if same_port or close.get("cli") else SLACK):
        return np.inf
    return (0.1 if same_port else 1.0) + abs((row["timestamp"] - at).total_seconds()) / 10


def pairs(
    result: occorr.Analysis, name: str, shift: timedelta = timedelta(0)
) -> tuple[list[tuple[dict, dict]], list[dict], list[dict]]:
    """Rows with the closes that they are, rows that are none, closes that no row is."""
    rows, wanted = result.closes.to_dicts(), expected(name)["close"]
    table = np.array([[cost(r, c, shift) for c in wanted] for r in rows])
    left, right = linear_sum_assignment(np.where(np.isinf(table), 1e6, table))
    found = [(i, j) for i, j in zip(left, right, strict=True) if np.isfinite(table[i, j])]
    used, met = {i for i, _ in found}, {j for _, j in found}
    return (
        [(rows[i], wanted[j]) for i, j in found],
        [r for i, r in enumerate(rows) if i not in used],
        [c for j, c in enumerate(wanted) if j not in met],
    )


def told(row: dict) -> tuple:
    return tuple(
        str(row[c])
        for c in ("timestamp", "cause", "verdict", "conn_id", "client_address", "client_port", "http_status_proxy")
    )


def right(row: dict, close: dict) -> bool:
    return row["cause"] in (close["cause"], *close.get("also", ()))


def test_sample_is_documented(name):
    want = expected(name)
    assert {"sources", "closes", "causes", "incident", "clock", "close"} <= want.keys()
    text = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    cited = re.findall(r"^- `([\w./-]+):(\d+)`", text, re.MULTILINE)
    assert cited, "no deciding line is named"
    for file, line in cited:
        assert len((FOLDER / name / file).read_bytes().splitlines()) >= int(line)
    assert sum(p.stat().st_size for p in (FOLDER / name).rglob("*") if p.is_file()) < 300_000


def test_sources_are_recognised(name):
    found = {str(Path(r["path"]).relative_to(FOLDER / name)): r for r in analyzed(name).sources.to_dicts()}
    assert {k: found[k]["format"] for k in expected(name)["sources"]} == expected(name)["sources"]
    read = [r for k, r in found.items() if k not in ("README.md", "expected.toml")]
    assert {r["status"] for r in read} <= {"ok", "empty"}
    assert not analyzed(name).partial
    for row in read:
        assert row["lines_read"] == row["lines_kept"] + row["lines_skipped"] + row["lines_unparsed"]


def test_every_close_is_found_once(name):
    want = expected(name)["closes"]
    assert len(expected(name)["close"]) == want["observable"]
    _, extra, missed = pairs(analyzed(name), name)
    assert missed == []
    # a row that matches no label may be a close that left no label of its own, but there are no more rows than closes
    assert analyzed(name).closes.height <= want["happened"]
    assert len(extra) <= want["happened"] - want["observable"], [told(r) for r in extra]


def test_causes_and_verdicts(name):
    wrong = []
    for row, close in pairs(analyzed(name), name)[0]:
        rank = RANK[row["verdict"]]
        if "least" in close:
            fine = right(row, close) and rank >= RANK[close["least"]]
        else:  # what cannot be settled may be said rightly, but not with certainty
            fine = rank <= RANK[close["most"]] + right(row, close)
        if not fine:
            wrong.append((told(row), close["cause"], close.get("least", close.get("most"))))
    assert wrong == []


def test_closes_by_cause(name):
    matched = [(r, c) for r, c in pairs(analyzed(name), name)[0] if "least" in c]
    have = {
        cause: sum(c["cause"] == cause and right(r, c) and r["verdict"] in want["verdicts"] for r, c in matched)
        for cause, want in expected(name)["causes"].items()
    }
    assert have == {cause: want["count"] for cause, want in expected(name)["causes"].items()}


def test_no_decisive_verdict_is_wrong(name):
    matched, extra, _ = pairs(analyzed(name), name)
    possible = {c for close in expected(name)["close"] for c in (close["cause"], *close.get("also", ()))}
    assert [told(r) for r, c in matched if r["verdict"] == "decisive" and not right(r, c)] == []
    assert [told(r) for r in extra if r["verdict"] == "decisive" and r["cause"] not in possible] == []


def test_incidents(name):
    """A fault is one incident, at its time, with its closes, and faults of one cause that lie together may be one."""
    found = analyzed(name).incidents.to_dicts()
    for want in expected(name)["incident"]:
        around = timedelta(seconds=5)
        mine = [
            i
            for i in found
            if i["cause"] == want["cause"]
            and i["start"] <= want["until"] + around
            and i["end"] >= want["from"] - around
        ]
        titles = [i["title"] for i in found]
        assert 1 <= len(mine) <= want["most"], (want["cause"], titles)
        assert abs(sum(i["closes"] for i in mine) - want["closes"]) <= want["give"], (want["cause"], titles)


def test_clocks(name):
    found = {r["clock_id"]: r for r in analyzed(name).clocks.to_dicts()}
    for want in expected(name)["clock"]:
        row = found[want["id"]]
        beside = abs(row["offset_ns"] / 1e6 - want["offset_ms"])
        assert beside <= want["within_ms"]
        assert beside <= row["error_ns"] / 1e6 or row["status"] == "reference", (
            "the true offset lies outside the printed bound"
        )


def test_evidence_names_lines_that_stand_there(name):
    result = analyzed(name)
    for row in result.evidence.sample(min(20, result.evidence.height), seed=1).to_dicts():
        line = (
            Path(row["log_file_path"]).read_text(encoding="utf-8", errors="replace").splitlines()[row["log_line"] - 1]
        )
        assert row["quote"].splitlines()[0][:40] in line


def test_an_unrelated_container_is_no_evidence(name):
    result = analyzed(name)
    cited = result.timeline.filter(pl.col("event_id").is_in(result.evidence.get_column("event_id").to_list()))
    assert cited.filter(pl.col("container_name").str.contains("worker")).is_empty()
    assert result.evidence.filter(pl.col("quote").str.contains("_worker_1", literal=True)).is_empty()


@pytest.mark.long
def test_the_unrelated_restart_is_there_to_be_missed():
    """Without its confounder the test above proves nothing."""
    confounded = [n for n in SAMPLES if n.endswith("beside-worker")]
    assert len(confounded) >= 2
    for name in confounded:
        worker = analyzed(name).timeline.filter(
            pl.col("container_name").str.contains("worker") & (pl.col("container_action") == "restart")
        )
        assert worker.height == 1


OF_ALL_KINDS = ["oom-then-deploy", "crash-behind-traefik", "untrusted-proxy", "old-release-2026.3"]
DIGESTS = """
import hashlib, json, sys, occorr
tables = sys.argv[1].split(",")
told = [occorr.analyze(path) for path in sys.argv[2:]]
print(json.dumps([[hashlib.sha256(getattr(t, n).write_ndjson().encode()).hexdigest() for n in tables] for t in told]))
"""


@pytest.mark.long
def test_same_input_same_bytes_whatever_threads_there_are():
    threads = "1" if pl.thread_pool_size() > 1 else "4"
    run = subprocess.run(
        [sys.executable, "-c", DIGESTS, ",".join(TABLES), *(str(FOLDER / name) for name in OF_ALL_KINDS)],
        env=os.environ | {"POLARS_MAX_THREADS": threads}, capture_output=True, check=True,
    )  # fmt: skip
    told = [
        [hashlib.sha256(getattr(analyzed(name), table).write_ndjson().encode()).hexdigest() for table in TABLES]
        for name in OF_ALL_KINDS
    ]
    assert json.loads(run.stdout) == told


def copied(name: str, folder: Path, without: list[str] = ()) -> Path:
    target = folder / "incident"
    shutil.copytree(FOLDER / name, target, ignore=shutil.ignore_patterns("README.md", "expected.toml", *without))
    return target


BUNDLES = [n for n in SAMPLES if (FOLDER / n / "docker.inspect.json").exists()]
REDUCED = [
    pytest.param(n, k, id=f"{n}-{k.replace(' ', '_')}")
    for n in BUNDLES
    for k, files in KINDS.items()
    if any((FOLDER / n / f).exists() for f in files)
]


@pytest.mark.long
@pytest.mark.parametrize(("sample", "kind"), REDUCED)
def test_less_evidence_never_makes_a_wrong_decisive_verdict(sample, kind, tmp_path):
    name = sample
    result = occorr.analyze(copied(name, tmp_path, KINDS[kind]))
    reference = result.clocks.filter(pl.col("status") == "reference").get_column("clock_id").to_list()
    ahead = {c["id"]: c["offset_ms"] for c in expected(name)["clock"]}
    shift = timedelta(milliseconds=ahead.get(reference[0], 0.0) if reference else 0.0)
    matched, extra, _ = pairs(result, name, shift)
    possible = {c for close in expected(name)["close"] for c in (close["cause"], *close.get("also", ()))}
    assert [(told(r), c["cause"]) for r, c in matched if r["verdict"] == "decisive" and not right(r, c)] == []
    assert [told(r) for r in extra if r["verdict"] == "decisive" and r["cause"] not in possible] == []
    assert matched, "nothing is left to judge"


def renamed(text: str) -> str:
    """Other service, container and network names, other addresses; the words of the formats stay."""
    text = re.sub(r"(?<=_)gateway(?=_1\b)", "alpha", text)
    text = re.sub(r"(?<=_)proxy(?=_1\b)", "beta", text)
    for old, new in (("gateway", "alpha"), ("proxy", "beta")):
        text = re.sub(rf'(compose\.service": ?"){old}"', rf'\1{new}"', text)
        text = re.sub(rf"(?m)^  {old}:$", f"  {new}:", text)
        text = re.sub(rf'(?s)("Aliases": \[[^\]]*)"{old}"', rf'\1"{new}"', text)
    return text.replace("192.0.2.", "198.51.100.")


FILES = {
    "gateway.docker.log": "one.txt", "gateway.file.log": "two", "gateway-json.log": "three.log", "proxy.access.log": "gateway.log", "proxy.error.log": "z.err",
    "docker.events.jsonl": "a.json", "docker.inspect.json": "b.json", "compose.yml": "stack.yaml",
}  # fmt: skip


RENAMED = [
    "crash-behind-traefik",
    "crash-then-sigterm",
    "in-process-restart",
    "lockout-beside-worker",
    "oom-then-deploy",
    "partition-behind-caddy",
    "paused-behind-haproxy",
    "proxy-reload-then-deploy",
]


@pytest.mark.long
@pytest.mark.parametrize("sample", RENAMED)
def test_names_decide_nothing(sample, tmp_path):
    name = sample
    target = copied(name, tmp_path).rename(tmp_path / "Tuesday's logs")
    for path in [p for p in target.rglob("*") if p.is_file()]:
        path.write_text(renamed(path.read_text(encoding="utf-8")), encoding="utf-8")
        path.rename(path.with_name(FILES.get(path.name, path.name)))
    after, before = occorr.analyze(target), analyzed(name)
    assert after.closes.get_column("client_address").drop_nulls().str.starts_with("192.0.2.").sum() == 0
    assert before.closes.get_column("client_address").drop_nulls().str.starts_with("192.0.2.").sum() > 0
    columns = [
        "timestamp",
        "cause",
        "verdict",
        "probability",
        "websocket_close_code",
        "http_status_proxy",
        "via",
        "count",
        "established",
    ]
    assert_frame_equal(after.closes.select(columns).sort(columns), before.closes.select(columns).sort(columns))
    count = lambda a: sorted((i["cause"], i["closes"]) for i in a.incidents.to_dicts())  # noqa: E731
    assert count(after) == count(before)


def by_cause(rows: Iterable[tuple[str, int]]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for cause, n in rows:
        counted[cause] = counted.get(cause, 0) + n
    return counted


def cells(text: str, section: str) -> list[dict[str, str]]:
    """A section's table in Markdown, a row by the names of its columns."""
    body = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    head, _, *rows = [
        [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in body.splitlines() if line.startswith("|")
    ]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_every_form_of_the_reports_counts_what_was_done(name):
    """report.md, report.json and the weekly's forms, each as its reader sees it, against the labels; the post-mortem has its own tests."""
    result, want = analyzed(name), expected(name)
    weeks = weekly.weekly(history.gather([result]))
    document, mix = json.loads(report.json_text(result)), json.loads(pages.json_text(weeks))
    forms = {
        "report.json": by_cause((c["cause"], c["count"] or 1) for c in document["closes"]),
        "report.md": by_cause((r["Cause"].strip("`"), int(r["Closes"])) for r in cells(report.markdown(result), "Verdicts")),
        "weekly.json": by_cause((r["cause"], r["closes"]) for r in [*mix["levels"]["mix"], *mix["buckets"]]),
        "weekly.md": by_cause((r["Cause"].strip("`"), int(r["Closes"])) for r in cells(pages.markdown(weeks), f"The mix of {weeks.last.name}")),
        "weekly.csv": by_cause((r["cause"], int(r["closes"])) for r in csv.DictReader(io.StringIO(pages.csv(weeks)))),
    }  # fmt: skip
    # Labels of closes that have one right answer only.
    settled = by_cause((c["cause"], 1) for c in want["close"] if "least" in c and not c.get("also"))
    for form, counts in forms.items():
        assert want["closes"]["observable"] <= sum(counts.values()) <= want["closes"]["happened"], form
        for cause, n in settled.items():
            assert counts.get(cause, 0) >= n, (form, cause)
    loud = {i["cause"] for i in want["incident"] if not i["cause"].startswith("client.")}
    text = report.markdown(result)
    told = [row["Cause"].split("`")[1] for row in cells(text, "Incidents, worst first")] if loud else []
    assert loud <= set(told)
    assert not loud or words.deed(told[0]).replace("*", "**") in text.splitlines()[0]
