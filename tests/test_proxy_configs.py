"""Configurations of proxies are documents: their timeouts are facts, and no log is taken for one."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import occorr
from occorr import documents, read, redact
from occorr.configs import envoy

LOGS = sorted(Path(__file__).parent.parent.glob("sample_logs/*/*.log"))
NGINX = """# proxy_read_timeout 9s;
events { worker_connections 256; }
http {
  server {
    listen 80;
    location / { proxy_pass http://gw:18789; proxy_read_timeout 1h30m; proxy_connect_timeout 2s; }
  }
}
"""
HAPROXY = """global
  log stdout format raw daemon info
defaults
  timeout client 10s
  timeout server 10000
  timeout connect 2s
listen gw
  mode http
  bind :80
  timeout http-request 500ms
  server gw 192.0.2.2:18789
"""
CADDY = """:80 {
  reverse_proxy gw:18789 {
    stream_timeout 24h
    transport http {
      dial_timeout 2s
      response_header_timeout 3s
    }
  }
}
"""
APACHE = """Listen 80
ProxyTimeout 3
<VirtualHost *:80>
  ProxyPass / ws://gw:18789/ connectiontimeout=500ms timeout=30
</VirtualHost>
"""
GATEWAY = (
    "2026-11-21T05:53:20.988+01:00 [ws] handshake timeout conn=1cd036a6-aa74-43c8-b05e-fca91151f03d remote=127.0.0.1\n"
)
TRAEFIK = """entryPoints:
  web:
    address: ":80"
serversTransport:
  forwardingTimeouts:
    dialTimeout: 2s
    responseHeaderTimeout: "3s"
"""


def test_traefiks_own_toml_is_read_among_other_files(tmp_path):
    """Traefik looks for `traefik.toml`; other TOML beside logs is data, unless somebody names it."""
    (tmp_path / "traefik.toml").write_text(
        '[entryPoints.web]\naddress = ":80"\n[serversTransport.forwardingTimeouts]\ndialTimeout = "4s"\n'
    )
    (tmp_path / "verdicts.toml").write_text('[[verdict]]\nclose_id = "x"\ncause = "client.normal"\n')
    (tmp_path / "gateway.log").write_text(GATEWAY)
    result = occorr.analyze(tmp_path)
    found = result.facts.filter(pl.col("key") == "timeout.connect").select("value", "log_file_path").rows()
    assert [(value, Path(path).name) for value, path in found] == [("4", "traefik.toml")]
    assert "skipped" in result.sources.filter(pl.col("path").str.ends_with("verdicts.toml"))["status"].to_list()


@pytest.mark.parametrize(
    ("text", "kind", "want"),
    [
        (NGINX, "nginx", [("timeout.idle", "5400", 6), ("timeout.connect", "2", 6)]),
        (
            HAPROXY,
            "haproxy",
            [
                ("timeout.idle.client", "10", 4),
                ("timeout.idle.server", "10", 5),
                ("timeout.connect", "2", 6),
                ("timeout.handshake", "0.5", 10),
            ],
        ),
        (
            HAPROXY.replace("  mode http", "  timeout tunnel 1h\n  mode http"),
            "haproxy",
            [
                ("timeout.idle", "3600", 8),
                ("timeout.client", "10", 4),
                ("timeout.server", "10", 5),
                ("timeout.connect", "2", 6),
                ("timeout.handshake", "0.5", 11),
            ],
        ),
        (CADDY, "caddy", [("timeout.life", "86400", 3), ("timeout.connect", "2", 5), ("timeout.handshake", "3", 6)]),
        (APACHE, "apache", [("timeout.idle", "3", 2), ("timeout.idle", "30", 4), ("timeout.connect", "0.5", 4)]),
        (TRAEFIK, "traefik", [("timeout.connect", "2", 6), ("timeout.handshake", "3", 7)]),
    ],
)
def test_timeouts(text, kind, want):
    document = documents.document(read.Blob("x", text.encode()), redact.Redactor(b"k"))
    title, found = document.kind, document.facts
    assert {f.subject for f in found} == {f"proxy:{kind}"}
    assert [(f.key, f.value, f.line) for f in found if f.key.startswith("timeout.")] == want
    assert kind in title.lower() or title == "Apache httpd configuration"


@pytest.mark.parametrize("path", LOGS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_no_log_is_a_configuration(path):
    assert documents._proxy_config(path.read_text(errors="replace")) is None


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("json_format: {start_time: '%START_TIME%', duration: '%DURATION%', response_code: '%RESPONSE_CODE%', response_flags: '%RESPONSE_FLAGS%'}", []),
        ("json_format: {at: '%START_TIME%', duration: '%DURATION%', status: '%RESPONSE_CODE%', response_flags: '%RESPONSE_FLAGS%'}", ["lacks keys by which its lines are read: start_time, response_code"]),
        ("text_format: \"%START_TIME% %RESPONSE_CODE%\\n\"", ["a form of its own (text_format)"]),
        ("text_format: '[%START_TIME%] \"%REQ(:METHOD)% %PROTOCOL%\" %RESPONSE_CODE%'", []),
    ],
)  # fmt: skip
def test_envoys_own_forms_are_said_to_be_unread(form, said):
    text = f"filter_chains:\n- filters:\n  - access_log:\n    - log_format:\n        {form}\n"
    found = list(envoy.gaps(text))
    assert [f.line for f in found] == [5] * len(said)
    assert all(words in f.value for words, f in zip(said, found, strict=True))
