"""Recordings of real proxies: every line is understood, and each connection that was made is found with its start and end.

`recordings/<proxy>/` holds all scenarios of a proxy one behind the other, as one busy log, and `truth.jsonl`: what the client and the
upstream of the recording saw. `start` and `end` there are intervals, from the first sign of an opening or closing that either side noted
to the last one (ms since 1970): in between, the proxy must have seen it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from occorr import definitions, facts, ingest, lookalikes, read, redact

FOLDER = Path(__file__).parent / "recordings"
LOGS = sorted(p for p in FOLDER.glob("*/*") if p.suffix in (".log", ".stderr"))
SECOND = 10**9
TOLERANCE = 5_000_000
LATE = 350_000_000  # a busy recorder noted an answer so much after the proxy had sent it
NEAR = 0.8  # at least so many starts and ends are within the tolerance itself
# A proxy that is killed writes nothing for what it held; nginx, HAProxy and some of Caddy's listeners write nothing on SIGTERM either; one
# of Envoy's escaped paths was refused by its parser, which logs no path.
UNLOGGED = {
    "apache-2.4": {"proxy_kill"},
    "traefik-3.7": {"proxy_kill"},
    "nginx-1.31": {"proxy_kill", "proxy_term"},
    "haproxy-2.8": {"proxy_kill", "proxy_term"},
    "caddy-2.11": {"proxy_kill", "proxy_term"},
    "envoy-1.40": {"proxy_kill", "escapes"},
}
# Ends that the recorder could not see: a frozen client reads nothing until it is thawed, and Envoy's socket stayed open for a second.
UNSEEN = {("client_frozen_pingtimeout", ""), ("upstream_sigkill", "envoy-1.40"), ("upstream_exit", "envoy-1.40")}


@cache
def truth(proxy: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / proxy / "truth.jsonl").read_text().splitlines()]


@cache
def events(path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    blob = next(read.blobs([path]))
    found, source = ingest.ingest(blob, definitions.builtin(), redact.Redactor(b"k", enabled=False), all_lines=True)
    (settled,), source = lookalikes.settle([found], source, facts.frame([]), definitions.builtin())
    return settled, source


def span(row: dict) -> tuple[int | None, int | None]:
    """Start and end of a connection as its line tells them, ns."""
    at, lasted, marks = row["ns"], row["duration_ns"], row["time_semantics"]
    if marks == "at_start":
        return at, at + lasted if lasted is not None else None
    return (at - lasted if lasted is not None else None), at


def inside(at: int, width: int, bounds: list[float]) -> bool:
    """Whether the interval that a stamp stands for touches the true one."""
    return at <= bounds[1] * 1e6 + TOLERANCE and at + width >= bounds[0] * 1e6 - TOLERANCE


def measure(path: Path) -> dict:
    """The row of a log in the table, and what it misses."""
    found, source = events(path)
    out = {
        "lines": int(source.get_column("lines_read").sum()),
        "unparsed": int(source.get_column("lines_unparsed").sum()),
        "format": source.item(0, "format"),
    }
    access = found.filter((pl.col("event_name") == "http.access") & pl.col("timestamp_raw").is_not_null()).with_columns(
        pl.col("timestamp_raw").cast(pl.Int64).alias("ns")
    )
    by_key: dict[object, dict] = {}
    for row in access.to_dicts():
        cid = re.search(r"cid=(\w+)", row["log_record_original"])
        by_key[cid[1] if cid else (row.get("client_address"), row.get("client_port"))] = row
    rows = [
        (t, by_key.get(t["cid"]) or by_key.get((t["client"].rpartition(":")[0], int(t["client"].rpartition(":")[2]))))
        for t in truth(path.parent.name)
    ]
    out |= {"connections": 0, "starts": 0, "ends": 0, "wrong": [], "cids": {t["cid"] for t, row in rows if row}}
    for t, row in rows:
        if row is None:
            continue
        out["connections"] += 1
        for name, at in zip(("start", "end"), span({"duration_ns": None, **row}), strict=True):
            if at is not None and t[name]:
                out[f"{name}s"] += 1
                if not inside(at, row["time_resolution_ns"], t[name]):
                    out["wrong"].append(
                        (
                            t["scenario"],
                            t["variant"],
                            name,
                            round(at / 1e6 - t[name][0], 1),
                            round(t[name][1] - t[name][0], 1),
                        )
                    )
    return out


@cache
def table() -> dict[Path, dict]:
    return {path: measure(path) for path in LOGS}


def test_table(capsys):
    """Prints what is parsed and found, per proxy and log."""
    with capsys.disabled():
        print(
            "\n\nproxy         log                        format                   lines unparsed found starts ends wrong"
        )
        for path, row in table().items():
            print(
                f"{path.parent.name:13} {path.name:26} {row['format']:24} {row['lines']:5} {row['unparsed']:8} {row['connections']:5} {row['starts']:6} {row['ends']:4} {len(row['wrong']):5}"
            )
        for path, row in table().items():
            for wrong in row["wrong"]:
                print("   ", path.parent.name, path.name, *wrong)


@pytest.mark.parametrize("path", LOGS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_lines_are_understood(path):
    assert table()[path]["unparsed"] <= 0.005 * table()[path]["lines"]


@pytest.mark.parametrize(
    "path", [p for p in LOGS if p.name.startswith(("access", "syslog"))], ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_starts_and_ends(path):
    row = table()[path]
    unseen = [w for w in row["wrong"] if w[2] == "end" and ((w[0], "") in UNSEEN or (w[0], path.parent.name) in UNSEEN)]
    wrong = [w for w in row["wrong"] if w not in unseen]
    assert len(wrong) <= (1 - NEAR) * (row["starts"] + row["ends"])
    assert [w for w in wrong if not -LATE / 1e6 <= w[3] <= w[4] + LATE / 1e6] == []


@pytest.mark.parametrize("proxy", UNLOGGED)
def test_every_connection_is_found_but_the_unlogged(proxy):
    seen = set().union(*(row["cids"] for path, row in table().items() if path.parent.name == proxy))
    assert {t["scenario"] for t in truth(proxy) if t["cid"] not in seen} == UNLOGGED[proxy]


ACCESS = [p for p in LOGS if p.name.startswith("access")]
MUTATIONS = {
    "cut in the middle": lambda line: line[: len(line) // 2],
    "digits lost": lambda line: re.sub(r"\d", "x", line),
    "no such month": lambda line: line.replace("Nov", "Foo").replace("-11-", "-19-").replace("/11/", "/19/"),
    "ends exchanged": lambda line: " ".join([*line.split(" ")[-1:], *line.split(" ")[1:-1], *line.split(" ")[:1]]),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("path", ACCESS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_damaged_lines_are_not_understood(path, mutation):
    """Among good ones, so that the format is known and still does not claim them."""
    lines = path.read_text().splitlines()
    damaged = {i + 1: MUTATIONS[mutation](line) for i, line in enumerate(lines) if i % 3 == 2}
    # an epoch stamp has no month, and where no blank is the ends cannot be exchanged
    damaged = {
        i: line
        for i, line in damaged.items()
        if line != lines[i - 1]
        and not (mutation == "no such month" and re.search(r'"ts":\d|"msec"|begin=|begin_ms', line))
    }
    # cut behind its status and size a line is a whole one of a shorter format
    damaged = {i: line for i, line in damaged.items() if not re.search(r'" \d{3} \d+$', line)}
    text = "".join(damaged.get(i, line) + "\n" for i, line in enumerate(lines, 1))
    found, _ = ingest.ingest(
        read.Blob("x", text.encode(), "0"), definitions.builtin(), redact.Redactor(b"k", enabled=False), all_lines=True
    )
    assert (
        found.filter((pl.col("event_name") != "unparsed") & pl.col("log_line").is_in(list(damaged)))
        .get_column("log_record_original")
        .to_list()
        == []
    )
