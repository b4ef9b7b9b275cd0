"""Recordings of real proxies: every line is understood, and each connection that was made is found with its start and end.

`recordings/<proxy>/` holds all scenarios of a proxy one behind the other, as one busy log, and `truth.jsonl`: a line a connection with what
client and upstream noted of it, each with the time of the note (ms since 1970). A note stands behind what it tells, by as much as a busy recorder
was late; so a moment of the proxy's lies between a note of what led to it and a note of what followed from it.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from occorr import definitions, facts, ingest, lookalikes, read, redact

FOLDER = Path(__file__).parent / "recordings"
LOGS = sorted(p for p in FOLDER.glob("*/*") if p.suffix in (".log", ".stderr"))
TOLERANCE = 5_000_000
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


@cache
def truth(proxy: str) -> list[dict]:
    return [{"proxy": proxy, **json.loads(line)} for line in (FOLDER / proxy / "truth.jsonl").read_text().splitlines()]


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


# Ends that the proxy itself stamped late, up to 49 ms after both sides had noted theirs (Apache's workers and Traefik waited for a processor).
STAMPED_LATE = {
    ("apache-2.4", "upstream_sigkill"),
    ("apache-2.4", "upstream_fin"),
    ("apache-2.4", "client_frozen_pingtimeout"),
    ("traefik-3.7", "client_frozen_pingtimeout"),
}
BY_UPSTREAM = ("server_close_call", "fin", "rst", "os_exit", "sigterm", "ping_timeout")
KILLS = ("clikill", "upkill", "upterm", "pterm")


@cache
def lag() -> float:
    """How late the recorder's notes may be, ms: the longest way of a close through a proxy, from the note of sending it to that of receiving it."""
    ways = []
    for t in (t for proxy in UNLOGGED for t in truth(proxy)):
        client, upstream = t["client_noted"], t["upstream_noted"]
        if "server_close_call" in upstream and "close_frame" in client:
            ways.append(client["close_frame"] - upstream["server_close_call"])
        if t["how"] == "close_frame" and "action" in client and "closed" in upstream:
            ways.append(upstream["closed"] - client["action"])
    return max(ways)


def began(t: dict) -> tuple[float, float]:
    """When the proxy saw a connection's beginning: behind the note of the request (of HAProxy's tcplog the connect), before its first effect."""
    client, upstream = t["client_noted"], t["upstream_noted"]
    first = client["connect"] if t["variant"] == "tcplog" else client.get("request", client["connect"])
    return first, min(
        upstream.get("request", math.inf), client.get("response", math.inf), client.get("close", math.inf)
    )


def cause(t: dict) -> float | None:
    """The note of who ended a connection; None where it was the proxy, which takes no notes."""
    client, upstream, done = t["client_noted"], t["upstream_noted"], t.get("action", {})
    notes = [upstream.get(e) for e in BY_UPSTREAM] + [
        client.get("action"),
        done.get("at") if done.get("name") in KILLS else None,
    ]
    return min((n for n in notes if n is not None), default=None)


def ended(t: dict) -> tuple[float, float]:
    """When the proxy saw a connection's end: behind the note of who ended it, before the last note of its effects.

    Of what a proxy does of itself (a refusal, a timeout) only effects are noted, and late by no more than `lag`; so is what the client does behind
    a refusal, which is close the connection.
    """
    client, upstream = t["client_noted"], t["upstream_noted"]
    notes = (
        client.get("response") if t["status"] != 101 else None,
        client.get("eof"),
        client.get("close"),
        upstream.get("closed"),
        upstream.get("exc"),
    )
    effects = [n for n in notes if n is not None]
    if not effects:
        return client["connect"], math.inf  # the client broke down and noted nothing
    by = cause(t)
    return min(effects) - lag() if by is None else by, max(effects) + (0 if "open" in upstream else lag())


def inside(at: int, width: int, bounds: tuple[float, float]) -> bool:
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
    out |= {
        "connections": 0,
        "starts": 0,
        "ends": 0,
        "bracketed": 0,
        "wrong": [],
        "cids": {t["cid"] for t, row in rows if row},
    }
    for t, row in rows:
        if row is None:
            continue
        out["connections"] += 1
        for name, at, bounds in zip(
            ("start", "end"), span({"duration_ns": None, **row}), (began(t), ended(t)), strict=True
        ):
            if at is not None:
                out[f"{name}s"] += 1
                out["bracketed"] += name == "end" and cause(t) is not None
                if not inside(at, row["time_resolution_ns"], bounds):
                    early, late = bounds[0] - at / 1e6, at / 1e6 - bounds[1]
                    out["wrong"].append((t["scenario"], t["variant"], name, round(late if late > 0 else -early, 1)))
    return out


@cache
def table() -> dict[Path, dict]:
    return {path: measure(path) for path in LOGS}


def test_table(capsys):
    """Prints what is parsed and found, per proxy and log."""
    with capsys.disabled():
        print(
            "\n\nproxy         log                        format                   lines unparsed found starts ends cause noted wrong"
        )
        for path, row in table().items():
            print(
                f"{path.parent.name:13} {path.name:26} {row['format']:24} {row['lines']:5} {row['unparsed']:8} {row['connections']:5} {row['starts']:6} {row['ends']:4} {row['bracketed']:11} {len(row['wrong']):5}"
            )
        for path, row in table().items():
            for wrong in row["wrong"]:
                print("   ", path.parent.name, path.name, *wrong)


@pytest.mark.parametrize("path", LOGS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_lines_are_named_events_with_a_time(path):
    found, _ = events(path)
    when = ["timestamp_raw", *({"observed_timestamp"} & set(found.columns))]
    assert found.filter(pl.col("event_name").is_in(["log", "unparsed"])).height == 0
    if path.name != "haproxy.stderr":  # HAProxy stamps nothing there
        assert found.filter(pl.all_horizontal(pl.col(when).is_null())).height == 0


@pytest.mark.parametrize("path", LOGS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_lines_are_understood(path):
    assert table()[path]["unparsed"] <= 0.005 * table()[path]["lines"]


@pytest.mark.long
@pytest.mark.parametrize(
    "path", [p for p in LOGS if p.name.startswith(("access", "syslog"))], ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_starts_and_ends(path):
    late = [
        w
        for w in table()[path]["wrong"]
        if (path.parent.name, w[0]) in STAMPED_LATE and w[2] == "end" and 0 < w[3] < lag()
    ]
    assert [w for w in table()[path]["wrong"] if w not in late] == []


@pytest.mark.parametrize("proxy", sorted(UNLOGGED))
def test_the_bounds_are_narrow(proxy):
    """What is asked of starts and ends can fail: most lie between notes that are a few milliseconds apart."""
    starts = [b - a for a, b in map(began, truth(proxy))]
    assert statistics.median(starts) < 15
    if proxy != "envoy-1.40":  # it keeps a client's socket open for a second behind the end of its stream
        assert statistics.median(b - a for t in truth(proxy) if cause(t) is not None for a, b in [ended(t)]) < 20


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
