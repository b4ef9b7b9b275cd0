"""Other people's lines beside the gateway's: containers, sites, hosts and signals that look like the cause and are not."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from made_logs import GATEWAY, access, event, inspect, ready, short, stamp, started, twice, write
from test_false_leads import (
    AGAIN,
    BOOT,
    CLIENT,
    MORNING,
    busy,
    caddy,
    decisive,
    error,
    gone,
    nginx,
    ns,
    opened,
    told,
    web,
)

import occorr

STRANGER = "ee" * 32
TIES = list(enumerate(zip((113, 271, 337, 419, 557, 613, 701, 127), (777, 331, 127, 701, 613, 557, 419, 337), strict=True), 1))  # fmt: skip
HEARTBEAT = busy(*(f"10:{m:02d}:{s:02d}.123" for m in range(5, 20) for s in range(0, 60, 10)))
SECONDS = busy(*(f"10:{m:02d}:{s:02d}.713" for m in range(1, 20) for s in range(60)))
STOP = [f"{stamp('11:01:59.500')} [gateway] signal SIGTERM received", gone(1, "11:01:59.637", 1012, "service restart")]
BASE = [*MORNING, web(1, "10:00:11.113", CLIENT), *busy(*(f"10:{m:02d}:30.713" for m in range(1, 60)))]
EVENING = [x.replace("T10:02", "T11:02") for x in AGAIN]


def other(at, action, name, image, ident=STRANGER, labels=None, **attributes):
    """An engine's event of a container that is not the gateway's."""
    row = json.loads(event(ns(at), action, **attributes))
    row["Actor"] = {"ID": ident, "Attributes": {"image": image, "name": name, **attributes, **(labels or {})}}
    return json.dumps(row)


def tied(line, remote="172.18.0.3"):
    """Eight connections that tie a proxy's clock to the gateway's: its lines, and the proxy's by `line(end, n, seconds)`."""
    own, lines = [], []
    for n, (begun, ended) in TIES:
        at, end = f"10:00:{10 + n}.{begun}", f"10:0{2 + n % 3}:{10 + 3 * n}.{ended}"
        own += [(at, web(n, at, remote)), (end, gone(n, end, 1005))]
        lines.append(line(end, n, (ns(end) - ns(at)) / 1e9))
    return [text for _, text in sorted(own)], lines


def sure(folder, **files):
    """What is told for certain but for ordinary ends."""
    write(folder, **files)
    found = decisive(occorr.analyze([folder]).closes)
    return {cause: count for cause, count in found.items() if cause != "client.normal"}


LIVING = sorted([web(1, "10:00:11.113", CLIENT), web(2, "10:00:31.113", CLIENT), *SECONDS])
STAGING = {"com.docker.compose.project": "staging", "com.docker.compose.service": "gateway"}
IMAGE = "openclaw/gateway:2026.9.6"


@pytest.mark.parametrize(
    ("name", "image", "labels", "ends"),
    [
        ("staging-gateway-1", IMAGE, STAGING, [("10:10:00.300", "oom", {}), ("10:10:00.437", "die", {"exitCode": "137"}), ("10:10:01.000", "start", {})]),
        ("staging-gateway-1", IMAGE, STAGING, [("10:10:00.000", "kill", {"signal": "15"}), ("10:10:00.437", "die", {"exitCode": "0"}), ("10:10:01.000", "start", {})]),
        ("openclaw-sbx-agent-main-1", "openclaw-sandbox:bookworm-slim", {}, [("10:10:00.300", "oom", {}), ("10:10:00.437", "die", {"exitCode": "137"})]),
        ("openclaw-openclaw-cli-1", IMAGE, {}, [("10:10:00.437", "die", {"exitCode": "1"})]),
        ("redis", "redis:7", {}, [("10:10:00.300", "oom", {}), ("10:10:00.437", "die", {"exitCode": "137"})]),
    ],
)  # fmt: skip
def test_a_container_that_the_gateways_log_outlives_is_not_the_gateways(tmp_path, name, image, labels, ends):
    """The gateway writes each second all the while, and no connection of its ends."""
    begun = other("09:59:45.000", "start", name, image, labels=labels)
    told_ends = [other(at, action, name, image, labels=labels, **more) for at, action, more in ends]
    write(tmp_path / "in", gateway__log=twice([*MORNING, *LIVING]), events__jsonl=[begun, *told_ends])
    assert occorr.analyze([tmp_path / "in"]).closes.is_empty()


def test_a_gateway_that_restarts_is_not_withdrawn(tmp_path):
    ends = [
        told("10:10:00.000", "kill", signal="9"),
        told("10:10:00.437", "die", exitCode="137"),
        told("10:10:01.000", "start"),
    ]
    before = [x for x in LIVING if x[11:19] < "10:10:00"]
    again = [*started("10:10:02.337"), *ready("10:10:07.551"), *busy("10:10:30.100")]
    assert sure(tmp_path / "in", gateway__log=twice([*MORNING, *before, *again]), events__jsonl=[BOOT, *ends]) == {"restart.killed": 2}  # fmt: skip


@pytest.mark.parametrize(
    ("log", "ends"),
    [
        (STOP, [("11:01:51.500", "oom", {}), ("11:01:59.400", "kill", {"signal": "15"}), ("11:02:00.137", "die", {"exitCode": "0"})]),
        ([], [("11:01:51.900", "oom", {}), ("11:01:59.900", "kill", {"signal": "9"}), ("11:02:00.137", "die", {"exitCode": "137"})]),
        ([f"{stamp('11:01:59.900')} [openclaw] Uncaught exception: TypeError: x is undefined"], [("11:01:51.900", "oom", {}), ("11:02:00.137", "die", {"exitCode": "1"})]),
    ],
)  # fmt: skip
def test_a_child_that_was_killed_for_memory_is_not_the_gateway_that_was_stopped_or_crashed(tmp_path, log, ends):
    kills = [told(at, action, **more) for at, action, more in ends]
    found = sure(tmp_path / "in", gateway__log=twice([*BASE, *log, *EVENING]), events__jsonl=[BOOT, *kills, told("11:02:05.000", "start")])  # fmt: skip
    assert "restart.oom" not in found


@pytest.mark.parametrize("signal", ["15", "9"])
def test_another_containers_start_after_a_stop_is_no_restart_by_hand(tmp_path, signal):
    """Events filtered to starts, stops and deaths: `docker compose up -d` put another container in its place."""
    code = "0" if signal == "15" else "137"
    ends = [told("11:01:59.400", "kill", signal=signal), told("11:02:00.137", "die", exitCode=code)]
    new = other("11:02:05.000", "start", "demo-gateway-1", "openclaw/gateway:2026.9.7")
    own = [*BASE, *busy("11:01:40.100"), *(STOP if signal == "15" else [])]
    assert (
        sure(tmp_path / "in", gateway__log=twice(own), new__log=twice(EVENING), events__jsonl=[BOOT, *ends, new]) == {}
    )


def test_a_stop_of_a_container_that_was_unhealthy_for_minutes_is_nobodys_kill(tmp_path):
    sick = told("10:57:30.000", "health_status: unhealthy")
    ends = [
        told("11:01:59.900", "kill", signal="9"),
        told("11:02:00.137", "die", exitCode="137"),
        told("11:02:05.000", "start"),
    ]
    assert sure(tmp_path / "in", gateway__log=twice([*BASE, *EVENING]), events__jsonl=[BOOT, sick, *ends]) == {}


def test_a_plugins_port_is_no_second_gateway_for_one_that_was_up_for_an_hour(tmp_path):
    line = f"{stamp('11:01:59.900')} [openclaw] Uncaught exception: Error: listen EADDRINUSE: address already in use :::3978"
    ends = [told("11:02:00.137", "die", exitCode="1"), told("11:02:05.000", "start")]
    assert "restart.conflict" not in sure(tmp_path / "in", gateway__log=twice([*BASE, line, *EVENING]), events__jsonl=[BOOT, *ends])  # fmt: skip


def test_words_of_another_service_are_no_crash_of_a_gateway_that_was_killed(tmp_path):
    bot = [f"2026-11-21T11:02:00.{n}00000Z {x}" for n, x in (("2010", "Error: gateway closed (1006): no close reason"), ("2040", "Node.js v22.12.0"))]  # fmt: skip
    lines = [("gateway-1", x) for x in twice(BASE)] + [("discord-bot-1", x) for x in bot] + [("gateway-1", x) for x in twice(EVENING)]  # fmt: skip
    ends = [told("11:02:00.137", "die", exitCode="137"), told("11:02:00.900", "start")]
    assert sure(tmp_path / "in", compose__log=[f"{s:<14}| {x}" for s, x in lines], events__jsonl=[BOOT, *ends]) == {}


def test_error_lines_have_the_zone_that_the_access_log_of_their_proxy_writes(tmp_path):
    """nginx on a host in India: its error log has no zone, and resets of tunnels have no error status beside them."""
    own, lines = tied(lambda end, n, seconds: access(end[:8], 101))
    lines = [x.replace("21/Nov/2026:10", "21/Nov/2026:15").replace("+0000", "+0530") for x in lines]
    lines = [x[: x.index(":15:") + 4] + f"{int(x[x.index(':15:') + 4 :][:2]) + 30:02d}" + x[x.index(":15:") + 6 :] for x in lines]  # fmt: skip
    reset = f'2026/11/21 15:33:13 [error] 7#7: *101 recv() failed (104: Connection reset by peer) while proxying upgraded connection, client: {CLIENT}, server: gw, request: "GET /ws HTTP/1.1", upstream: "http://172.18.0.2:18789/ws", host: "gw.example.org"'
    write(tmp_path / "in", gateway__log=twice([*MORNING, *own, *HEARTBEAT]), access__log=lines, error__log=[reset])
    line = occorr.analyze([tmp_path / "in"]).timeline.filter(pl.col("event_name") == "proxy.error").row(0, named=True)
    assert f"{line['timestamp']:%H:%M}" == "10:03"


@pytest.mark.parametrize(
    ("said", "target"),
    [
        ("Gateway call failed: getaddrinfo ENOTFOUND gateway", "ws://gateway:18789"),
        ("Gateway call failed: Error: gateway timeout after 10000ms", "ws://192.168.1.10:18789"),
        ("Gateway not reachable at wss://localhost:8443 (ECONNREFUSED).", "wss://localhost:8443"),
    ],
)
def test_a_paste_without_a_time_may_be_of_the_downtime(tmp_path, said, target):
    own = [x for x in HEARTBEAT if not "10:07:00" < x[11:23] < "10:07:50"]
    again = [*started("10:07:41.337"), *ready("10:07:49.551")]
    log = sorted([*own, *again], key=lambda x: x[11:23])
    ends = [
        told("10:07:00.000", "kill", signal="9"),
        told("10:07:00.137", "die", exitCode="137"),
        told("10:07:40.000", "start"),
    ]
    paste = f"{said}\nGateway target: {target}\nSource: cli --url\nConfig: /home/node/.openclaw/openclaw.json\n"
    assert sure(tmp_path / "in", gateway__log=twice([*MORNING, *log]), events__jsonl=[BOOT, *ends], cli__txt=paste, inspect__json=inspect()) == {}  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "[ws] Proxy headers detected from untrusted address. Connection will not be treated as local. Configure gateway.trustedProxies to restore local client detection behind your proxy.",
        "[gateway] observed unattributable proxy-shaped traffic from 172.18.0.9; Gateway-authenticated routes reject it. Configure gateway.trustedProxies narrowly.",
    ],
)
@pytest.mark.parametrize("upstream", ["172.18.0.7:8123", "172.18.0.2:18789"])
def test_a_403_is_not_the_gateways_where_it_lets_others_through_that_proxy(tmp_path, line, upstream):
    own, lines = tied(lambda end, n, seconds: nginx(end, n, seconds, 101, "172.18.0.2:18789"))
    own = [*MORNING, f"{stamp('10:00:11.000')} {line}", *own, *HEARTBEAT]
    lines.append(nginx("10:07:00.100", 61, 0.003, 403, upstream))
    assert sure(tmp_path / "in", gateway__log=twice(own), access__log=lines) == {}


def test_pages_of_other_sites_that_fail_are_no_attempts_for_certain(tmp_path):
    own, lines = tied(lambda end, n, seconds: access(end[:8], 101))
    lines += [f'{CLIENT} - - [21/Nov/2026:10:07:00 +0000] "GET /blog/ HTTP/1.1" 502 157 "-" "Mozilla/5.0"', f'{CLIENT} - - [21/Nov/2026:10:08:00 +0000] "GET /grafana/d/abc HTTP/1.1" 502 157 "-" "Mozilla/5.0"']  # fmt: skip
    errors = [
        f'2026/11/21 10:07:00 [crit] 7#7: *60 connect() to unix:/run/php/php8.3-fpm.sock failed (2: No such file or directory) while connecting to upstream, client: {CLIENT}, server: blog, request: "GET /blog/ HTTP/1.1", upstream: "fastcgi://unix:/run/php/php8.3-fpm.sock:", host: "blog.example.org"',
        f'2026/11/21 10:08:00 [error] 7#7: *70 grafana could not be resolved (3: Host not found), client: {CLIENT}, server: mon, request: "GET /grafana/d/abc HTTP/1.1", host: "mon.example.org"',
    ]
    log = twice([*MORNING, *own, *HEARTBEAT])
    assert sure(tmp_path / "in", gateway__log=log, access__log=lines, error__log=errors) == {}
    assert sure(tmp_path / "alone", gateway__log=log, error__log=errors) == {}


@pytest.mark.parametrize("remote", ["172.18.0.1", "::ffff:127.0.0.1", "100.101.102.103"])
def test_a_1001_from_an_address_that_a_proxy_may_have_is_nobodys_for_certain(tmp_path, remote):
    """`tailscale serve` drops an idle socket with 1001, and the gateway sees the bridge's address."""
    own = [
        x for n in range(1, 6) for x in (web(n, f"10:0{4 + n}:00.113", remote), gone(n, f"10:0{4 + n}:58.20{n}", 1001))
    ]
    write(tmp_path / "in", gateway__log=twice([*MORNING, *sorted([*own, *HEARTBEAT], key=lambda x: x[11:23])]), events__jsonl=[BOOT])  # fmt: skip
    assert decisive(occorr.analyze([tmp_path / "in"]).closes) == {}


def test_a_port_that_is_published_elsewhere_may_be_the_gateways(tmp_path):
    own = [x for n, (begun, _) in TIES for x in opened(n, f"10:00:{10 + n}.{begun}")]
    before = [x for x in HEARTBEAT if x[11:23] < "10:07:00"]
    ends = [
        told("10:07:00.000", "kill", signal="9"),
        told("10:07:00.137", "die", exitCode="137"),
        told("10:07:05.000", "start"),
    ]
    refused = [error(f"10:07:0{s}", 30 + s, "192.168.1.10:28789") for s in (2, 3, 4)]
    again = [x.replace("T10:02", "T10:07") for x in AGAIN]
    found = sure(tmp_path / "in", gateway__log=twice([*MORNING, *own, *before, *again]), error__log=refused, events__jsonl=[BOOT, *ends])  # fmt: skip
    assert found == {"restart.killed": 8}


def test_a_command_has_no_connection_that_is_older_than_itself(tmp_path):
    """HAProxy's own timer ended a tunnel of six minutes while a health call of a second was made."""

    def haproxy(n, at, seconds, state="----"):
        return f'{CLIENT}:{40000 + n} [21/Nov/2026:{at}] web gw/gateway 0/0/1/2/{int(seconds * 1000)} 101 708 - - {state} 1/1/0/0/0 0/0 {{websocket|}} "GET / HTTP/1.1"'

    own, lines = tied(lambda end, n, seconds: haproxy(n, f"10:00:{10 + n}.{TIES[n - 1][1][0]}", seconds))
    lines.append(haproxy(40, "10:00:40.111", 380.6, "cD--"))
    call = {"argv": "openclaw gateway call health", "start_ms": ns("10:06:59.700") // 10**6, "end_ms": ns("10:07:01.200") // 10**6, "rc": 0}  # fmt: skip
    write(tmp_path / "in", gateway__log=twice([*MORNING, *own, *HEARTBEAT]), haproxy__log=lines, events__jsonl=[BOOT])
    write(tmp_path / "in" / "cli", **{"01__out": '$ openclaw gateway call health\nGateway call: health\n{\n  "ok": true\n}\n', "01__meta__json": json.dumps(call)})  # fmt: skip
    long = occorr.analyze([tmp_path / "in"]).closes.filter(pl.col("duration_ns") > 380 * 10**9)
    assert long.height == 1
    assert long.item(0, "cause") != "client.normal" or long.item(0, "verdict") != "decisive"


def test_a_line_of_nginx_that_is_of_no_request_tells_of_none(tmp_path):
    own, lines = tied(lambda end, n, seconds: nginx(end, n, seconds, 101, "172.18.0.2:18789"))
    stapling = '2026/11/21 10:07:00 [error] 7#7: ocsp.example-ca.com could not be resolved (2: Server failure) while requesting certificate status, responder: ocsp.example-ca.com, certificate: "/etc/nginx/tls/fullchain.pem"'
    lines.append(nginx("10:07:00.320", 30, 0.004, 400, "172.18.0.2:18789"))
    assert sure(tmp_path / "in", gateway__log=twice([*MORNING, *own, *HEARTBEAT]), access__log=lines, error__log=[stapling]) == {}  # fmt: skip


def test_a_command_in_the_gateways_own_network_has_the_gateways_loopback(tmp_path):
    gateway, cli = json.loads(inspect())[0], json.loads(inspect())[0]
    cli |= {"Id": STRANGER, "Name": "/demo-openclaw-cli-1", "Args": ["/app/openclaw.mjs", "logs", "--follow"]}
    cli["HostConfig"] = {"NetworkMode": f"container:{GATEWAY}"}
    cli["Config"]["Labels"]["com.docker.compose.service"] = "openclaw-cli"
    cli["NetworkSettings"] = {"Ports": {}, "Networks": {}}
    said = ["Gateway not reachable at ws://127.0.0.1:18789 (ECONNREFUSED).", "Gateway target: ws://127.0.0.1:18789", "Source: local loopback", "Config: /home/node/.openclaw/openclaw.json"]  # fmt: skip
    found = sure(tmp_path / "in", gateway__log=twice([*MORNING, *HEARTBEAT]), inspect__json=json.dumps([gateway, cli], indent=1), cli__log=[f"openclaw-cli-1  | {x}" for x in said], events__jsonl=[BOOT])  # fmt: skip
    assert "unreachable.loopback" not in found


def test_clients_that_echo_a_close_after_the_credentials_changed_did_not_leave_by_themselves(tmp_path):
    own = [web(n, f"10:00:{10 + n}.113", CLIENT) for n in range(1, 5)]
    changed = f"{stamp('10:07:00.300')} [gateway] gateway auth changed; closing clients"
    ends = [gone(n, f"10:07:00.31{n}", 1000) for n in range(1, 5)]
    log = sorted([*own, *HEARTBEAT, changed, *ends], key=lambda x: x[11:23])
    write(tmp_path / "in", gateway__log=twice([*MORNING, *log]))
    assert decisive(occorr.analyze([tmp_path / "in"]).closes).get("client.normal", 0) == 0


def test_a_clock_that_swings_has_a_bound_that_holds_its_swings(tmp_path):
    """A proxy's clock swings by 15 ms in an hour; sixty connections, which the gateway ends up to 3 ms later."""
    rng = random.Random(5)
    own, lines = [], []
    for n in range(1, 61):
        begun, lasted = 120.0 * n + rng.uniform(0, 60), rng.uniform(2, 90)
        ended = begun + lasted
        off = 0.015 * math.sin(2 * math.pi * ended / 3600)

        def clock(t):
            return f"{10 + int(t // 3600):02d}:{int(t % 3600 // 60):02d}:{t % 60:06.3f}"

        peer = f"172.18.0.3:{50000 + n}->172.18.0.2:18789"
        own += [(begun, f"{stamp(clock(begun))} [ws] ← open remoteAddr=172.18.0.3 remotePort={50000 + n} localAddr=172.18.0.2 localPort=18789 endpoint={peer} conn={short(n)}"),
                (ended, f"{stamp(clock(ended + rng.uniform(0, 0.003)))} [ws] → close code=1000 durationMs={int(lasted * 1000)} handshake=connected endpoint={peer} conn={short(n)}")]  # fmt: skip
        lines.append(
            (ended, json.loads(caddy(n, "10:00:00.000", lasted)) | {"ts": ns("10:00:00.000") / 1e9 + ended + off}, off)
        )
    lines.sort(key=lambda row: row[0])
    truth = [off for _, _, off in lines]
    write(tmp_path / "in", gateway__log=twice([*MORNING, *(x for _, x in sorted(own))]), caddy__log=[json.dumps(row, separators=(",", ":")) for _, row, _ in lines])  # fmt: skip
    timeline = occorr.analyze([tmp_path / "in"]).timeline.filter(pl.col("source_kind") == "proxy").sort("log_line")
    used = timeline.select((pl.col("timestamp_raw") - pl.col("timestamp")).dt.total_nanoseconds() / 1e9).to_series()
    bound = timeline.get_column("clock_error_ns") / 1e9
    assert set(timeline.get_column("clock_status")) == {"aligned"}
    assert max(abs(u - t) - b for u, t, b in zip(used, truth, bound, strict=True)) <= 0


COMBINED = 'rt=%.3f ut=%.3f us="101" ua="127.0.0.1:18789"'
NGINX_CONF = """http {
  log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" rt=$request_time ut=$upstream_response_time us="$upstream_status" ua="$upstream_addr"';
  access_log /var/log/nginx/access.log main;
  server { listen 443 ssl; location / { proxy_pass http://127.0.0.1:18789; } }
}
"""


@pytest.mark.parametrize(
    ("address", "second", "verdict"),
    [
        # a home's proxy behind a rented server, all of whose connections come from there: its reload closes with 1001, too
        ("203.0.113.50", "203.0.113.50", "supported"),
        ("203.0.113.50", "172.18.0.1", "supported"),  # … and a health check of the same network
        # two of Cloudflare's
        ("172.70.1.9", "162.158.4.4", "supported"),
        ("203.0.113.50", "198.51.100.7", "decisive"),  # clients' own
    ],
)
def test_the_address_that_all_connections_come_from_may_be_a_proxys_in_front(tmp_path, address, second, verdict):
    agent = '"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"'
    log, lines = [], []
    for n, (client, begun, ended, code) in enumerate(
        (
            (second, "10:00:30.100", "10:05:00.100", 1005),
            (address, "10:05:10.100", "10:15:00.300", 1001),
            (address, "10:15:02.100", "10:21:40.050", 1005),
        ),
        1,
    ):
        lasted = (ns(ended) - ns(begun)) / 1e9
        log += [(begun, web(n, begun, "127.0.0.1")), (ended, gone(n, ended, code))]
        lines.append(f'{client} - - [21/Nov/2026:{ended[:8]} +0000] "GET / HTTP/1.1" 101 23706 "-" {agent} {COMBINED % (lasted, lasted)}')  # fmt: skip
    write(tmp_path, gateway__log=[*MORNING, *(text for _, text in sorted(log))], access__log=lines, nginx__conf=NGINX_CONF)  # fmt: skip
    rows = occorr.analyze([tmp_path]).closes.filter(pl.col("websocket_close_code") == 1001)
    assert rows.select(pl.col("cause", "verdict").cast(pl.String)).rows() == [("client.normal", verdict)]


@pytest.mark.parametrize(
    ("lasted", "cause"),
    [((58.02,) * 6, "timeout.proxy_idle"), ((58.02, 31.4, 7.7, 112.3, 45.1, 83.9), "client.normal")],
)
def test_several_that_went_away_after_the_same_time_met_a_timer(tmp_path, lasted, cause):
    """`tailscale serve` closes idle connections with 1001 after some 58 s; browsers leave some time or other."""
    log, at = [], ns("10:00:10.100")
    for n, seconds in enumerate(lasted, 1):
        begun, ended = (
            (datetime.fromtimestamp(t // 10**9, UTC) + timedelta(milliseconds=t // 10**6 % 1000)).strftime("%H:%M:%S.%f")[:12]
            for t in (at, at + round(seconds * 1e9))
        )  # fmt: skip
        log += [web(n, begun, "127.0.0.1"), gone(n, ended, 1001)]
        at += round((seconds + 2) * 1e9)
    write(tmp_path, gateway__log=[*MORNING, *log])
    rows = occorr.analyze([tmp_path]).closes
    assert set(rows.get_column("cause").cast(pl.String)) == {cause}
    # a page that reloads itself looks the same as a proxy's timer
    assert set(rows.get_column("verdict").cast(pl.String)) == {"circumstantial" if cause == "timeout.proxy_idle" else "supported"}  # fmt: skip


def test_tabs_that_were_opened_and_closed_together_met_no_timer(tmp_path):
    log = [*(web(n, f"10:00:1{n}.100", "127.0.0.1") for n in (1, 2, 3)), *(gone(n, f"10:07:1{n}.120", 1001) for n in (1, 2, 3))]  # fmt: skip
    together = [line.replace("10:00:12", "10:00:11").replace("10:00:13", "10:00:11").replace("10:07:12", "10:07:11").replace("10:07:13", "10:07:11") for line in log]  # fmt: skip
    write(tmp_path, gateway__log=[*MORNING, *together])
    rows = occorr.analyze([tmp_path]).closes
    assert set(rows.get_column("cause").cast(pl.String)) == {"client.normal"}
