"""Definitions made of a proxy's own log format, on lines that the proxies wrote."""

from __future__ import annotations


import polars as pl
import pytest

from occorr import customs, decode, definitions
from occorr.errors import OccorrError

NGINX_UPSTREAM = """log_format upstreaminfo '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $request_length $request_time [gw-ws-80] [] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $request_id';"""
NGINX_JSON = '{"time_iso8601":"$time_iso8601","msec":"$msec","request_time":"$request_time","request_id":"$request_id","connection":"$connection","remote_addr":"$remote_addr","remote_port":"$remote_port","status":"$status","request_uri":"$request_uri","request_completion":"$request_completion","upstream_addr":"$upstream_addr","upstream_status":"$upstream_status","http_user_agent":"$http_user_agent"}'
NGINX_NPM = """'[$time_local] - $upstream_status $status - $request_method $scheme $host "$request_uri" [Client $remote_addr] [Length $body_bytes_sent] [Gzip $gzip_ratio] [Sent-to $proxy_host] "$http_user_agent" "$http_referer"'"""
HAPROXY_HTTP = r"""log-format "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r" """
HAPROXY_TCP = "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq"
APACHE_COMBINED = r'LogFormat "%h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\"" combined'
APACHE_JSON = r'LogFormat "{\"begin_ms\":%{begin:msec}t,\"end_ms\":%{end:msec}t,\"us\":%D,\"remote\":\"%a:%{remote}p\",\"status\":%>s,\"first_status\":%s,\"conn\":\"%X\",\"keepalive\":%k,\"in\":%I,\"out\":%O,\"id\":\"%{UNIQUE_ID}e\",\"log_id\":\"%L\",\"req\":\"%r\",\"ua\":\"%{User-Agent}i\"}" json'
APACHE_END = '%h %{end:usec}t %D "%r" %>s'

CASES = [
    (
        customs.from_nginx,
        NGINX_UPSTREAM,
        '127.0.0.1 - - [21/Nov/2026:04:48:52 +0000] "GET /idle?cid=26f44bd0 HTTP/1.1" 101 0 "-" "occorr-lab/1" 197 3.021 [gw-ws-80] [] 127.0.0.1:21120 0 3.021 101 27de712ec932204ff9ecdb8ca1e80e16',
        ("2026-11-21T04:48:52.000", "at_end", 3_021_000_000),
        {
            "url_path": "/idle",
            "upstream_status": "101",
            "upstream_duration_ns": 3_021_000_000,
            "request_id": "27de712ec932204ff9ecdb8ca1e80e16",
        },
    ),
    (
        customs.from_nginx,
        NGINX_UPSTREAM,
        '127.0.0.1 - - [21/Nov/2026:04:49:36 +0000] "GET /echo?cid=66a309c7 HTTP/1.1" 101 11 "-" "occorr-lab/1" 197 1.205 [gw-ws-80] [] 127.0.0.1:21121, 127.0.0.1:21120 0, 11 0.000, 1.204 502, 101 46fb620da6cc7266149cf635271430f7',
        ("2026-11-21T04:49:36.000", "at_end", 1_205_000_000),
        {"upstream_address": "127.0.0.1:21120", "upstream_status": "101", "http_response_status_code": 101},
    ),
    (
        customs.from_nginx,
        NGINX_JSON,
        r'{"time_iso8601":"2026-11-21T04:50:59+00:00","msec":"1795236659.407","request_time":"0.001","request_id":"635263105ea0fb6bb40f2c78715bc6f2","connection":"1","remote_addr":"127.0.0.1","remote_port":"35904","status":"502","request_uri":"/echo?cid=d2e67fed&q=\x22quoted\x22","request_completion":"","upstream_addr":"127.0.0.1:21120","upstream_status":"502","http_user_agent":"Mozilla/5.0 \"quoted\" [br]"}',
        ("2026-11-21T04:50:59.407", "at_end", 1_000_000),
        {"client_port": 35904, "url_path": "/echo", "upstream_status": "502"},
    ),
    (
        customs.from_nginx,
        NGINX_NPM,
        '[21/Nov/2026:04:48:52 +0000] - 101 101 - GET http localhost "/idle?cid=26f44bd0" [Client 127.0.0.1] [Length 0] [Gzip -] [Sent-to up] "occorr-lab/1" "-"',
        ("2026-11-21T04:48:52.000", "at_end", None),
        {"client_address": "127.0.0.1", "host_header": "localhost", "url_path": "/idle", "http_request_method": "GET"},
    ),
    (
        customs.from_haproxy,
        HAPROXY_HTTP,
        '127.0.0.1:38220 [21/Nov/2026:04:43:30.366] httplog httplog/gw 0/0/0/1/3003 101 198 - - cD-- 5/1/0/0/0 0/0 {websocket|occorr-lab/1} "GET /idle?cid=db76c754 HTTP/1.1"',
        ("2026-11-21T04:43:30.366", "at_start", 3_003_000_000),
        {"client_port": 38220, "proxy_termination": "cD--", "url_path": "/idle"},
    ),
    (
        customs.from_haproxy,
        HAPROXY_TCP,
        "127.0.0.1:38220 [21/Nov/2026:04:43:30.366] tcplog tcplog/gw 0/0/3003 198 cD 5/1/0/0/0 0/0",
        ("2026-11-21T04:43:30.366", "at_start", 3_003_000_000),
        {"proxy_termination": "cD"},
    ),
    (
        customs.from_apache,
        APACHE_COMBINED,
        '127.0.0.1 - - [21/Nov/2026:04:47:11 +0000] "GET /idle?cid=f94d237d HTTP/1.1" 101 203 "-" "occorr-lab/1"',
        ("2026-11-21T04:47:11.000", "at_start", None),
        {"http_response_status_code": 101, "http_response_size": 203, "user_agent_original": "occorr-lab/1"},
    ),
    (
        customs.from_apache,
        APACHE_JSON,
        '{"begin_ms":1795236431486,"end_ms":1795236434494,"us":3007675,"remote":"127.0.0.1:41262","status":101,"first_status":101,"conn":"-","keepalive":0,"in":208,"out":203,"id":"awEiT6pMC4buCEzEi4Tg_wAAAAI","log_id":"-","req":"GET /idle?cid=f94d237d HTTP/1.1","ua":"occorr-lab/1"}',
        ("2026-11-21T04:47:11.486", "at_start", 3_007_675_000),
        {"client_port": 41262, "request_id": "awEiT6pMC4buCEzEi4Tg_wAAAAI"},
    ),
    (
        customs.from_apache,
        APACHE_END,
        '127.0.0.1 1795236434494123 3007675 "GET /idle HTTP/1.1" 101',
        ("2026-11-21T04:47:14.494", "at_end", 3_007_675_000),
        {"url_path": "/idle"},
    ),
]


@pytest.mark.parametrize(("make", "form", "line", "time", "want"), CASES)
def test_round_trip(tmp_path, make, form, line, time, want):
    (tmp_path / "own.toml").write_text(make(form))
    definition = definitions.load(tmp_path).formats["own"]
    (dialect,) = definition.dialects
    frame = pl.DataFrame({"text": [line], "line": [1], "offset": [0]})
    assert frame.get_column("text").str.contains(dialect.line).item()
    row = (
        decode.decode(frame, dialect, definition)
        .with_columns(pl.col("timestamp_raw").dt.to_string("%Y-%m-%dT%H:%M:%S%.3f"))
        .row(0, named=True)
    )
    assert (row["timestamp_raw"], row["time_semantics"], row.get("duration_ns")) == time
    assert {k: row[k] for k in want} == want
    for other in (line[: len(line) // 2], f"{line} z", line.replace("101", "abc").replace("502", "abc")):
        assert other == line or not pl.Series([other]).str.contains(dialect.line).item(), other


FREE_ENDS = [
    (
        customs.from_nginx,
        r'log_format tsv "$time_iso8601\t$remote_addr\t$remote_port\t$request_method\t$request_uri\t$status\t$request_time\t$http_user_agent";',
        "2026-11-27T18:53:36-05:00\t::1\t55960\tGET\t/close?code=1008\t101\t3.404\ta \\x22quoted\\x22 agent",
        {
            "client_address": "::1",
            "client_port": 55960,
            "url_path": "/close",
            "duration_ns": 3_404_000_000,
            "user_agent_original": "a \\x22quoted\\x22 agent",
        },
    ),
    (
        customs.from_haproxy,
        'log-format "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %tsc %{+Q}r %[capture.req.hdr(0)]"',
        '::1:45030 [27/Nov/2026:18:53:28.330] f_own b/gw 0/0/1/50/51 500 174 ---- "GET /reject?status=500 HTTP/1.1" tab\tagent 2',
        {"client_address": "::1", "client_port": 45030, "duration_ns": 51_000_000, "http_response_status_code": 500},
    ),
]


FREE_ENDS += [
    (
        customs.from_apache,
        r'LogFormat "%{%Y-%m-%dT%H:%M:%S%z}t %a %{remote}p \"%r\" %>s %{ms}T \"%{User-Agent}i\"" iso',
        r'2026-11-27T19:05:05-0500 127.0.0.1 51622 "GET /reject?status=401 HTTP/1.1" 401 180 "ua code=1000"',
        {"client_port": 51622, "duration_ns": 180_000_000, "time_semantics": "at_start", "zone_inline": True},
    ),
    (
        customs.from_apache,
        r'LogFormat "%{X-Forwarded-For}i %h %l %u %t \"%r\" %>s %O \"%{User-Agent}i\"" xff',
        '203.0.113.9, 198.51.100.7 ::1 - - [27/Nov/2026:19:04:52 -0500] "GET /rst HTTP/1.1" 101 203 "x"',
        {"forwarded_for": "203.0.113.9, 198.51.100.7", "client_address": "::1", "http_response_status_code": 101},
    ),
]


@pytest.mark.parametrize(("make", "form", "line", "want"), FREE_ENDS)
def test_addresses_of_six_and_free_text_at_the_end(tmp_path, make, form, line, want):
    (tmp_path / "own.toml").write_text(make(form))
    definition = definitions.load(tmp_path).formats["own"]
    row = decode.decode(
        pl.DataFrame({"text": [line], "line": [1], "offset": [0]}), definition.dialects[0], definition
    ).row(0, named=True)
    assert {k: row[k] for k in want} == want


def test_a_format_that_says_nothing_is_refused():
    with pytest.raises(OccorrError, match="no variable of this format is known"):
        customs.from_nginx("hello")
