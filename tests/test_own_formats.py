"""A configuration among the inputs says in which format its logs are written, and what they will not show."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import polars as pl
import pytest

import occorr
from occorr import advice, configs

if TYPE_CHECKING:
    from pathlib import Path

NGINX = r"""
http {
  log_format timed '$remote_addr - $remote_user [$time_local] "$request" '
                   '$status $body_bytes_sent "$http_referer" '
                   '"$http_user_agent" "$request_time"';  # looks like main, whose last field is X-Forwarded-For
  log_format kv escape=none 'ts=$msec rt=$request_time ip=$remote_addr:$remote_port st=$status up="$upstream_addr" uri="$request_uri" m=$request_method {$host}';
  access_log /var/log/nginx/access.log timed;
  server { listen 80; access_log /var/log/nginx/gw.log kv buffer=32k; error_log /dev/stderr info; location / { proxy_pass http://gw:18789; } }
}
"""
TIMED = '192.0.2.7 - - [21/Nov/2026:05:10:10 +0000] "GET / HTTP/1.1" 101 590 "-" "cli" "4.743"\n'
KV = 'ts=1795236651.082 rt=3.210 ip=192.0.2.7:43210 st=101 up="192.0.2.2:18789" uri="/ws?a=1" m=GET {gw.example.com}\n'
HAPROXY = r"""
global
  log stdout format raw local0 info
defaults
  log global
  mode http
frontend web
  bind :80
  log-format "%ci:%cp|%[date(0,ms)]|%tr|%ft|%s|Ta=%Ta|%ST|%tsc|%{+Q}r"
  default_backend gw
backend gw
  server gw 192.0.2.2:18789
"""
PIPES = '192.0.2.7:43210|1795236651082|21/Nov/2026:04:50:47.872|web|gw|Ta=3210|101|cD--|"GET /ws?a=1 HTTP/1.1"\n'
APACHE = r"""
Listen 80
LogFormat "%t %D %h:%{remote}p \"%r\" %>s \"%{User-Agent}i\" \
[%{X-Forwarded-For}i]" slow
<VirtualHost *:80>
  ProxyPass / ws://gw:18789/
  CustomLog "|/usr/bin/rotatelogs /var/log/apache2/gw.%Y" slow
  CustomLog ${APACHE_LOG_DIR}/other.log "%h %{end:msec}t %D \"%r\" %>s"
</VirtualHost>
"""
SLOW = '[21/Nov/2026:05:10:10 +0000] 3210000 192.0.2.7:43210 "GET /ws HTTP/1.1" 101 "cli" [-]\n'
OTHER = '192.0.2.7 1795236651082 3210000 "GET /ws HTTP/1.1" 101\n'


def access(folder) -> pl.DataFrame:
    result = occorr.analyze(folder)
    assert result.sources.filter(pl.col("lines_unparsed") > 0).is_empty()
    return result.timeline.filter(pl.col("event_name") == "http.access").sort("log_file_path", "log_line")


@pytest.mark.parametrize(
    ("config", "name", "line", "parser", "at", "marks", "fields"),
    [
        (
            NGINX,
            "access.log",
            TIMED,
            "nginx_own/timed",
            "05:10:10.000",
            "at_end",
            {"duration_ns": 4_743_000_000, "client_address": "192.0.2.7"},
        ),
        (
            NGINX,
            "gw.log",
            KV,
            "nginx_own/kv",
            "04:50:51.082",
            "at_end",
            {"duration_ns": 3_210_000_000, "client_port": 43210, "url_path": "/ws", "http_request_method": "GET"},
        ),
        (NGINX, "collected.txt", KV, "nginx_own/kv", "04:50:51.082", "at_end", {"duration_ns": 3_210_000_000}),
        (
            HAPROXY,
            "haproxy.log",
            PIPES,
            "haproxy_own/frontend_web",
            "04:50:47.872",
            "at_start",
            {
                "duration_ns": 3_210_000_000,
                "client_port": 43210,
                "proxy_termination": "cD--",
                "http_response_status_code": 101,
            },
        ),
        (
            APACHE,
            "gw.2026",
            SLOW,
            "apache_own/slow",
            "05:10:10.000",
            "at_start",
            {"duration_ns": 3_210_000_000, "client_port": 43210, "user_agent_original": "cli"},
        ),
        (
            APACHE,
            "other.log",
            OTHER,
            "apache_own/line8",
            "04:50:51.082",
            "at_end",
            {"duration_ns": 3_210_000_000, "client_address": "192.0.2.7"},
        ),
    ],
)
def test_the_log_is_read_as_the_configuration_says(tmp_path, config, name, line, parser, at, marks, fields):
    (tmp_path / "proxy.conf").write_text(config)
    (tmp_path / name).write_text(line * 5)
    rows = access(tmp_path)
    assert rows.height == 5
    row = rows.with_columns(pl.col("timestamp_raw").dt.to_string("%H:%M:%S%.3f")).row(0, named=True)
    assert (row["parser"], row["timestamp_raw"], row["time_semantics"]) == (parser, at, marks)
    assert {k: row[k] for k in fields} == fields


def test_what_is_built_in_stays_where_it_tells_as_much(tmp_path):
    (tmp_path / "nginx.conf").write_text(
        """http { log_format mine '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for"'; access_log /var/log/nginx/access.log mine; }"""
    )
    (tmp_path / "access.log").write_text(TIMED.replace("4.743", "192.0.2.9") * 3)
    assert set(access(tmp_path).get_column("parser")) == {"nginx_access/main"}


def test_formats_and_their_use_may_stand_in_two_files(tmp_path):
    (tmp_path / "nginx.conf").write_text(
        "log_format kv 'ts=$msec rt=$request_time ip=$remote_addr:$remote_port st=$status';\n"
    )
    (tmp_path / "site.conf").write_text(
        "server { listen 80; access_log /var/log/nginx/gw.log kv; location / { proxy_pass http://gw:18789; } }\n"
    )
    (tmp_path / "gw.log").write_text("ts=1795236651.082 rt=3.210 ip=192.0.2.7:43210 st=101\n" * 3)
    assert set(access(tmp_path).get_column("parser")) == {"nginx_own/kv"}


def test_two_proxies_whose_logs_are_alike_and_named(tmp_path):
    (tmp_path / "nginx.conf").write_text(
        "http { access_log /var/log/edge.log combined; server { listen 80; location / { proxy_pass http://gw; } } }"
    )
    (tmp_path / "httpd.conf").write_text(
        'Listen 81\nLogFormat "%h %l %u %t \\"%r\\" %>s %b \\"%{Referer}i\\" \\"%{User-Agent}i\\"" combined\nCustomLog logs/inner.log combined\nProxyPass / ws://gw/\n'
    )
    for name, end in (("edge", 7), ("inner", 8)):
        (tmp_path / f"{name}.log").write_text(
            f'192.0.2.{end} - - [21/Nov/2026:05:10:10 +0000] "GET / HTTP/1.1" 101 590 "-" "cli"\n'
        )
    assert access(tmp_path).select("parser", "time_semantics").rows() == [
        ("nginx_access/combined", "at_end"),
        ("apache/combined", "at_start"),
    ]


GAPS = [
    (
        "http { access_log off; server { listen 80; location / { proxy_pass http://gw; } } }",
        "logging.access",
        "access_log off",
    ),
    (
        "server { listen 80; location /ws {\n proxy_pass http://gw;\n access_log off;\n } access_log /var/log/a.log; }",
        "logging.access",
        "passes on",
    ),
    (
        "http { access_log /a.log combined if=$loggable; server { listen 80; location / { proxy_pass http://gw; } } }",
        "logging.access",
        "if=$loggable",
    ),
    (
        "error_log /var/log/e.log warn;\nhttp { server { listen 80; location / { proxy_pass http://gw; } } }",
        "logging.errors",
        "begins at warn",
    ),
    (
        "http { access_log /a.log combined; server { listen 80; location / { proxy_pass http://gw; } } }",
        "logging.duration",
        "$request_time",
    ),
    (
        "global\n  maxconn 10\ndefaults\n  mode http\nlisten gw\n  bind :80\n  server gw gw:18789\n",
        "logging.access",
        "no log target",
    ),
    (
        "global\n  log /dev/log local0 notice\ndefaults\n  log global\n  option httplog\nlisten gw\n  bind :80\n",
        "logging.access",
        "keeps notice",
    ),
    (
        "global\n  log /dev/log local0\ndefaults\n  log global\n  option httplog\n  option dontlog-normal\nlisten gw\n  bind :80\n",
        "logging.access",
        "dontlog-normal",
    ),
    ("global\n  log /dev/log local0\nlisten gw\n  log global\n  bind :80\n", "logging.duration", "option httplog"),
    (":80 {\n  reverse_proxy gw:18789\n}\n", "logging.access", "no access log"),
    ("{\n  log {\n    level DEBUG\n  }\n}\n:80 {\n  reverse_proxy gw:18789\n}\n", "logging.access", "no access log"),
    (":80 {\n  log\n  log_skip /ws*\n  reverse_proxy gw:18789\n}\n", "logging.access", "log_skip"),
    ("ServerRoot /etc/httpd\nListen 80\nProxyPass / ws://gw/\n", "logging.access", "no CustomLog"),
    ("Listen 80\nProxyPass / ws://gw/\nCustomLog a.log combined env=!quiet\n", "logging.access", "env=!quiet"),
    ("Listen 80\nProxyPass / ws://gw/\nCustomLog a.log combined\n", "logging.duration", "%D"),
    ("entryPoints:\n  web:\n    address: ':80'\n", "logging.access", "no access log"),
    (
        "entryPoints:\n  web:\n    address: ':80'\naccessLog:\n  filters:\n    statusCodes: ['400-599']\n",
        "logging.access",
        "leaves WebSockets out",
    ),
    (
        "[entryPoints.web]\naddress = ':80'\n[accessLog.filters]\nminDuration = '10s'\n",
        "logging.access",
        "less than 10s",
    ),
    (
        "entryPoints:\n  web:\n    address: ':80'\naccessLog: {}\nlog:\n  level: ERROR\n",
        "logging.errors",
        "begins at ERROR",
    ),
]


@pytest.mark.parametrize(("text", "key", "says"), GAPS)
def test_what_the_logs_will_not_show(text, key, says):
    kind = configs.kind(text)
    assert kind is not None
    assert [f.value for f in configs.findings(kind, text) if f.key == key and says in f.value], configs.findings(
        kind, text
    )


SOUND = [
    NGINX,
    HAPROXY,
    APACHE,
    "http { access_log /a.log j; log_format j '$msec $request_time $status'; error_log /e.log info; server { listen 80; location /static { access_log off; } location / { proxy_pass http://gw; } } }",
    ":80 {\n  log {\n    format json\n  }\n  reverse_proxy gw:18789\n}\n",
    "entryPoints:\n  web:\n    address: ':80'\naccessLog:\n  format: json\n  filters:\n    statusCodes: ['0-599']\nlog: {level: DEBUG}\n",
]


@pytest.mark.parametrize("text", SOUND)
def test_a_sound_configuration_has_no_gap(text):
    kind = configs.kind(text)
    assert kind is not None
    assert [f for f in configs.findings(kind, text) if f.key.startswith("logging.")] == []


def test_the_gap_is_named_where_a_close_stays_open(tmp_path):
    (tmp_path / "nginx.conf").write_text(
        "error_log /var/log/e.log crit;\nhttp { access_log /a.log combined; server { listen 80; location / { proxy_pass http://gw; } } }"
    )
    (tmp_path / "a.log").write_text('192.0.2.7 - - [21/Nov/2026:05:10:10 +0000] "GET / HTTP/1.1" 101 0 "-" "cli"\n')
    result = occorr.analyze(tmp_path)
    asked = " ".join(result.closes.item(0, "missing"))
    assert "begins at crit" in asked and "$request_time" in asked
    assert result.facts.filter(pl.col("key") == "logging.errors").select("subject", "log_line").rows() == [
        ("proxy:nginx", 1)
    ]


def asked(folder: Path, port: int) -> None:
    """One WebSocket attempt through what listens at `port`, and its access log, written."""
    upgrade = b"GET /ws HTTP/1.1\r\nHost: gw.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nUser-Agent: cli/1\r\n\r\n"
    for _ in range(100):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as tcp:
                tcp.sendall(upgrade)
                while tcp.recv(4096) and not (folder / "access.log").stat().st_size:
                    pass
        except OSError:
            time.sleep(0.05)
            continue
        if (folder / "access.log").stat().st_size:
            return
    raise AssertionError((folder / "error.log").read_text(encoding="utf-8"))


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        return tcp.getsockname()[1]


@pytest.mark.parametrize(("kind", "program"), [("nginx", "nginx"), ("apache", "apache2")])
def test_what_the_advice_asks_for_is_read_without_the_configuration(tmp_path, kind, program):
    """The real program writes its access log as the advice says; nobody listens behind it."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (apt-get install {program})")
    port, nowhere = free(), free()
    folder = tmp_path / "logs"
    folder.mkdir()
    line = advice.PROXIES[kind][1]
    if kind == "nginx":
        form = line.partition(";")[0]
        conf = f"""
daemon off; master_process off; pid {tmp_path}/pid; error_log {folder}/error.log info;
events {{}}
http {{
  {form}; access_log {folder}/access.log occorr;
  client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p; fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{nowhere}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; }} }}
}}
"""
        command = ["nginx", "-p", str(tmp_path), "-e", f"{folder}/error.log", "-c", str(tmp_path / "conf")]
    else:
        form = line.partition("  (")[0]
        modules = "\n".join(
            f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so"
            for m in ("mpm_event", "authz_core", "proxy", "proxy_http")
        )
        conf = f"""
ServerRoot {tmp_path}
ServerName gw.example.com
PidFile {tmp_path}/pid
Listen 127.0.0.1:{port}
{modules}
User nobody
ErrorLog {folder}/error.log
{form}
CustomLog {folder}/access.log occorr
ProxyPass / http://127.0.0.1:{nowhere}/ upgrade=websocket
"""
        command = ["apache2", "-DFOREGROUND", "-f", str(tmp_path / "conf")]
    (tmp_path / "conf").write_text(conf, encoding="utf-8")
    for name in ("access.log", "error.log"):
        (folder / name).touch()
    began = time.time_ns()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            asked(folder, port)
        finally:
            server.terminate()
    (folder / "error.log").unlink()
    result = occorr.analyze([folder])
    row = result.timeline.filter(pl.col("event_name") == "http.access").row(0, named=True)
    assert row["parser"] == ("nginx_access/occorr" if kind == "nginx" else "apache/ms")
    assert (row["client_address"], row["url_path"]) == ("127.0.0.1", "/ws")
    assert row["client_port"] > 1023
    assert row["http_response_status_code"] == (502 if kind == "nginx" else 503)
    assert row["time_resolution_ns"] == 10**6
    assert began - 2e9 <= row["timestamp"].timestamp() * 1e9 <= time.time_ns()
