"""nginx and Apache write the same combined line, stamped at opposite ends: who wrote it is told by the lines or by what stands around them."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

import occorr

RECORDINGS = Path(__file__).parent / "recordings"
OPEN = '192.0.2.7 - - [21/Nov/2026:05:{:02d}:10 +0000] "GET / HTTP/1.1" 101 590 "-" "openclaw-cli/2026.9.6"\n'
LINES = "".join(OPEN.format(m) for m in range(10, 18))
NGINX_ERROR = '2026/11/21 05:12:10 [error] 31#31: *5 connect() failed (111: Connection refused) while connecting to upstream, client: 192.0.2.7, server: gw, request: "GET / HTTP/1.1", upstream: "http://192.0.2.2:18789/", host: "gw.example.com"\n'
APACHE_ERROR = "[Sat Nov 21 05:12:10.264082 2026] [mpm_event:notice] [pid 14556:tid 14556] AH00489: Apache/2.4.71 (Debian) configured -- resuming normal operations\n"
NGINX_CONF = (
    "events {}\nhttp { server { listen 80; location / { proxy_pass http://gw:18789; proxy_read_timeout 60s; } } }\n"
)
APACHE_CONF = "Listen 80\nProxyTimeout 30\n<VirtualHost *:80>\n  ProxyPass / ws://gw:18789/\n</VirtualHost>\n"


def meaning(folder: Path, name: str = "proxy.log") -> set[tuple[str, str]]:
    result = occorr.analyze(folder)
    rows = result.timeline.filter(
        (pl.col("event_name") == "http.access") & pl.col("log_file_path").cast(pl.String).str.ends_with(name)
    )
    return set(rows.select("parser", "time_semantics").rows())


NGINX = {("nginx_access/combined", "at_end")}
APACHE = {("apache/combined", "at_start")}


@pytest.mark.parametrize(
    ("other", "want"),
    [
        ('192.0.2.7 - - [21/Nov/2026:05:30:10 +0000] "GET / HTTP/1.1" 499 0 "-" "x"\n', NGINX),
        ('192.0.2.7 - - [21/Nov/2026:05:30:10 +0000] "GET / HTTP/1.1" 101 0 "-" "x"\n', NGINX),
        ('192.0.2.7 - - [21/Nov/2026:05:30:10 +0000] "GET /\\xC3\\xA9 HTTP/1.1" 404 153 "-" "x"\n', NGINX),
        ('192.0.2.7 - - [21/Nov/2026:05:30:10 +0000] "GET / HTTP/1.1" 304 - "-" "x"\n', APACHE),
        ('192.0.2.7 - - [21/Nov/2026:05:30:10 +0000] "GET / HTTP/1.1" 304 180 "-" "x"\n', APACHE),
        ('192.0.2.7 - - [21/Nov/2026:05:30:10 +0000] "GET / HTTP/1.1" 200 180 "-" "say \\"x\\""\n', APACHE),
    ],
)
def test_one_line_that_only_one_program_writes(tmp_path, other, want):
    (tmp_path / "proxy.log").write_text(LINES + other)
    assert meaning(tmp_path) == want


def test_nothing_tells(tmp_path):
    (tmp_path / "proxy.log").write_text(LINES)
    result = occorr.analyze(tmp_path)
    assert set(result.timeline.get_column("time_semantics")) == {"unknown"}
    assert "nothing tells whose they are" in result.sources.item(0, "message")
    # the end may be the stamp, if nginx wrote it, or any later moment, if Apache did
    assert result.closes.get_column("time_latest").null_count() == 8
    assert result.closes.get_column("timestamp").null_count() == 8
    first = result.closes.get_column("time_earliest").min()
    assert first is not None and 590 <= first.minute * 60 + first.second <= 610, "a little before the stamp"


@pytest.mark.parametrize(
    ("name", "text", "want"),
    [
        ("error.log", NGINX_ERROR, NGINX),
        ("error.log", APACHE_ERROR, APACHE),
        ("nginx.conf", NGINX_CONF, NGINX),
        ("site.conf", APACHE_CONF, APACHE),
        ("elsewhere/error.log", APACHE_ERROR, APACHE),
        (
            "ps.txt",
            'CONTAINER ID   IMAGE         COMMAND              CREATED       STATUS       PORTS     NAMES\n4f1c0d6b2a91   httpd:2.4     "httpd-foreground"   2 hours ago   Up 2 hours   80/tcp    edge\n',
            APACHE,
        ),
        ("compose.yml", "services:\n  edge:\n    image: nginx:1.29\n", NGINX),
    ],
)
def test_what_stands_beside(tmp_path, name, text, want):
    (tmp_path / "proxy.log").write_text(LINES)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert meaning(tmp_path) == want


@pytest.mark.parametrize(("folder", "want"), [("nginx", NGINX), ("apache2", APACHE), ("httpd", APACHE)])
def test_the_path(tmp_path, folder, want):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "proxy.log").write_text(LINES)
    assert meaning(tmp_path) == want


def test_witnesses_for_both_are_none(tmp_path):
    (tmp_path / "proxy.log").write_text(LINES)
    (tmp_path / "a.log").write_text(NGINX_ERROR)
    (tmp_path / "b.log").write_text(APACHE_ERROR)
    assert meaning(tmp_path) == {("nginx_access/combined", "unknown")}


@pytest.mark.parametrize(("tag", "want"), [("nginx", NGINX), ("apache2", APACHE)])
def test_the_program_that_syslog_names(tmp_path, tag, want):
    (tmp_path / "proxy.log").write_text(
        "".join(f"Nov 21 05:10:10 edge {tag}: {line}" for line in LINES.splitlines(keepends=True))
    )
    assert meaning(tmp_path) == want


def test_two_programs_in_one_compose_log(tmp_path):
    rows = LINES.splitlines(keepends=True)
    text = (
        "".join(f"web-1    | {r}" for r in rows)
        + "web-1    | "
        + NGINX_ERROR
        + "".join(f"edge-1   | {r}" for r in rows)
        + "edge-1   | "
        + APACHE_ERROR
    )
    (tmp_path / "compose.log").write_text(text)
    assert meaning(tmp_path, "compose.log") == NGINX | APACHE


def gateway(shift: int) -> str:
    """The file log of a gateway whose connections of 30 s end `shift` seconds after the stamps of LINES."""
    out = []
    for m in range(10, 18):
        end = f"2026-11-21T05:{m:02d}:{10 + shift:02d}.400"
        meta = {
            "conn": f"a1ade6e8-2878-459a-87da-a809afb581{m}",
            "cause": "client-closed",
            "durationMs": 30_000,
            "code": 1005,
            "handshake": "connected",
        }
        out.append(
            json.dumps(
                {
                    "0": '{"subsystem":"gateway/ws"}',
                    "1": meta,
                    "2": f"webchat disconnected code=1005 reason=n/a conn={meta['conn']}",
                    "_meta": {"date": f"{end}Z", "logLevelName": "INFO", "name": '{"subsystem":"gateway/ws"}'},
                    "time": f"{end}+00:00",
                    "hostname": "gw",
                    "message": f"webchat disconnected code=1005 reason=n/a conn={meta['conn']}",
                },
                separators=(",", ":"),
            )
        )
    return "\n".join(out) + "\n"


@pytest.mark.parametrize(("shift", "want"), [(0, NGINX), (30, APACHE)])
def test_the_gateways_own_closings(tmp_path, shift, want):
    (tmp_path / "proxy.log").write_text(LINES)
    (tmp_path / "gateway.log").write_text(gateway(shift))
    result = occorr.analyze(tmp_path)
    assert result.closes.filter(pl.col("duration_ns") == 30_000_000_000).height == 8, "the gateway's own closes"
    assert meaning(tmp_path) == want
    assert "the gateway's own" in result.sources.filter(pl.col("path").str.ends_with("proxy.log")).item(0, "message")
    assert result.closes.height == 8, "each attempt is one of the gateway's connections"


def test_a_recorded_log_of_each():
    for folder, want in (("nginx-1.31", NGINX), ("apache-2.4", APACHE)):
        rows = occorr.analyze(RECORDINGS / folder / "access_combined.log").timeline
        assert set(rows.select("parser", "time_semantics").rows()) == want
