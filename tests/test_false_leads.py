"""Incidents of which the obvious cause is the wrong one: nothing there may be told for certain that is not so."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from made_logs import DEVICE, GATEWAY, access, conn, event, inspect, ready, refused, short, stamp, started, twice, write

import occorr

CLIENT = "198.51.100.7"
OTHER = "bb" * 32


def ns(at: str) -> int:
    """`10:00:01.500` of the day in ns since 1970."""
    return int(datetime.fromisoformat(f"2026-11-21T{at}+00:00").astimezone(UTC).timestamp() * 1000) * 10**6


def told(at, action, **more):
    return event(ns(at), action, **more)


def opened(n, at, remote="172.18.0.1"):
    peer = f"{remote}:{50000 + n}->172.18.0.2:18789"
    return [
        f"{stamp(at)} [ws] ← open remoteAddr={remote} remotePort={50000 + n} localAddr=172.18.0.2 localPort=18789 endpoint={peer} conn={short(n)}",
        f"{stamp(at)} [ws] → hello-ok methods=467 events=64 presence=2 stateVersion=1 conn={short(n)}",
    ]


def closed(n, at, lasted_ms, remote="172.18.0.1"):
    return f"{stamp(at)} [ws] → close code=1000 durationMs={lasted_ms} handshake=connected endpoint={remote}:{50000 + n}->172.18.0.2:18789 conn={short(n)}"


def web(n, at, remote="172.18.0.3"):
    return f"{stamp(at)} [ws] webchat connected conn={conn(n)} remote={remote} client=openclaw-control-ui webchat v2026.9.6"


def gone(n, at, code, reason="n/a"):
    return f"{stamp(at)} [ws] webchat disconnected code={code} reason={reason} conn={conn(n)}"


def busy(*moments):
    return [f"{stamp(at)} [gateway] device pairing approved device={DEVICE} role=operator" for at in moments]


def nginx(at, n, lasted, status, upstream):
    row = {"ts": f"2026-11-21T{at[:8]}+00:00", "msec": ns(at) / 1e9, "client": CLIENT, "port": 40000 + n, "method": "GET", "uri": "/", "status": status, "rt": lasted,
           "upgrade": "websocket", "upstream": upstream, "ustatus": str(status), "urt": str(lasted), "sent": 389, "conn": n, "ua": "openclaw-cli/2026.9.6"}  # fmt: skip
    return json.dumps(row)


def caddy(n, end, lasted, status=101):
    request = {"remote_ip": CLIENT, "remote_port": str(40000 + n), "client_ip": CLIENT, "proto": "HTTP/1.1", "method": "GET", "host": "gw.example.org", "uri": "/", "headers": {"User-Agent": ["Mozilla/5.0"], "Upgrade": ["websocket"]}}  # fmt: skip
    return json.dumps({"level": "info", "ts": ns(end) / 1e9 + 0.001, "logger": "http.log.access.log0", "msg": "handled request", "request": request, "bytes_read": 708, "user_id": "", "duration": lasted, "size": 590, "status": status, "resp_headers": {"Upgrade": ["websocket"], "Server": ["Caddy"]}}, separators=(",", ":"))  # fmt: skip


def error(at, n, upstream):
    return f'2026/11/21 {at} [error] 7#7: *{n} connect() failed (111: Connection refused) while connecting to upstream, client: {CLIENT}, server: gw, request: "GET /ws HTTP/1.1", upstream: "http://{upstream}/ws", host: "gw.example.org"'


def closes(folder, **files):
    write(folder, **files)
    return occorr.analyze([folder]).closes.sort("timestamp")


def decisive(rows):
    """What is told for certain, cause by cause."""
    sure = rows.filter(pl.col("verdict") == "decisive")
    return dict(sure.group_by(pl.col("cause").cast(pl.String)).len().sort("cause").iter_rows())


UNTRUSTED = "[gateway] observed unattributable proxy-shaped traffic from 172.18.0.3; Gateway-authenticated routes reject it. Configure gateway.trustedProxies narrowly."
MORNING = [*started("09:59:50.003"), *ready("10:00:00.007")]
AGAIN = [*started("10:02:10.337"), *ready("10:02:20.551")]
BOOT = told("09:59:45.000", "start")


def test_a_proxy_on_the_host_reaches_a_published_port_on_its_own_loopback(tmp_path):
    """nginx beside Docker, `proxy_pass http://127.0.0.1:18789`; the gateway is killed. Its error log names the loopback."""
    log = [*MORNING, *opened(1, "10:00:10.113"), *opened(2, "10:00:20.100"), *AGAIN]
    events = [BOOT, told("10:02:00.000", "kill", signal="9"), told("10:02:00.137", "die", exitCode="137"), told("10:02:05.000", "start")]  # fmt: skip
    lines = [*[access("10:02:00", 101)] * 2, *(access(at, 502) for at in ("10:02:03", "10:02:04", "10:02:07"))]
    errors = [error(at, n, "127.0.0.1:18789") for at, n in (("10:02:03", 11), ("10:02:04", 12), ("10:02:07", 13))]
    rows = closes(tmp_path, gateway__log=twice(log), events__jsonl=events, access__log=lines, error__log=errors)
    assert set(rows.get_column("cause").cast(pl.String)) == {"restart.killed"}


def test_what_haproxy_calls_a_server_is_no_address_to_be_held_against_the_gateways(tmp_path):
    log = [*MORNING, *opened(1, "10:00:11.171", "172.18.0.3"), *busy(*(f"10:30:{s:02d}.123" for s in range(0, 60, 10)))]
    lines = [f'{CLIENT}:4183{i} [21/Nov/2026:10:30:{20 + i}.254] web gw/gateway 0/0/-1/-1/5002 503 216 - - sC-- 1/1/0/0/3 0/0 {{websocket|}} "GET / HTTP/1.1"' for i in range(3)]  # fmt: skip
    cut = {"Type": "network", "Action": "disconnect", "Actor": {"ID": "cc" * 32, "Attributes": {"container": GATEWAY, "name": "demo_default", "type": "bridge"}}, "scope": "local", "time": ns("10:30:10.000") // 10**9, "timeNano": ns("10:30:10.000")}  # fmt: skip
    rows = closes(tmp_path, gateway__log=twice(log), haproxy__log=lines, events__jsonl=[BOOT, json.dumps(cut)])
    lost = rows.filter(pl.col("http_status_proxy") == 503)
    assert lost.height == 3
    assert set(lost.get_column("cause").cast(pl.String)) == {"network.partition"}


def test_an_upstream_in_the_error_log_does_not_make_the_access_log_name_upstreams(tmp_path):
    """The gateway's own 403, in a log that names no upstream; another attempt's error line does."""
    log = [*MORNING, f"{stamp('10:00:30.241')} {UNTRUSTED}", f"{stamp('10:05:30.241')} [gateway] ready"]
    lines = [access("09:59:55", 502), *(access(at, 403) for at in ("10:00:30", "10:00:33", "10:00:36"))]
    rows = closes(tmp_path, gateway__log=twice(log), access__log=lines, error__log=[error("09:59:55", 11, "172.18.0.2:18789")])  # fmt: skip
    told_403 = rows.filter(pl.col("http_status_proxy") == 403)
    assert set(told_403.get_column("cause").cast(pl.String)) == {"auth.untrusted_proxy"}
    assert decisive(rows) == {}


@pytest.mark.parametrize(
    ("group", "cause", "verdict"),
    [(f"docker-{GATEWAY}.scope", "restart.oom", "decisive"), ("user.slice", "restart.oom", "supported")],
)
def test_the_kernel_tells_of_a_kill_for_memory_that_the_engine_does_not(tmp_path, group, cause, verdict):
    log = [*MORNING, *opened(1, "10:00:10.113", CLIENT), f"{stamp('10:01:59.500')} [gateway] ready", *AGAIN]
    events = [BOOT, told("10:02:00.137", "die", exitCode="137"), told("10:02:05.000", "start")]
    kernel = [
        f"[Sat Nov 21 10:02:00 2026] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset={group},mems_allowed=0,global_oom,task_memcg=/system.slice/{group},task=node,pid=812,uid=1000",
        "[Sat Nov 21 10:02:00 2026] Out of memory: Killed process 812 (node) total-vm:1048576kB, anon-rss:524288kB",
    ]
    row = closes(tmp_path, gateway__log=twice(log), events__jsonl=events, kernel__log=kernel).row(0, named=True)
    assert (row["cause"], row["verdict"]) == (cause, verdict)


def test_one_gateways_death_is_not_the_others_where_only_their_starts_tell_them_apart(tmp_path):
    def of(ident, project, at, action, **more):
        row = json.loads(event(ns(at), action, **more))
        row["Actor"]["ID"] = ident
        row["Actor"]["Attributes"] |= {"image": "openclaw/gateway:2026.9.6", "name": f"{project}-gateway-1", "com.docker.compose.project": project, "com.docker.compose.service": "gateway"}  # fmt: skip
        return json.dumps(row)

    alpha = [*MORNING, web(1, "10:00:11.113", CLIENT), *busy("10:01:59.713"), *AGAIN]
    beta = [*started("09:50:50.003"), *ready("09:51:00.007"), web(11, "10:00:35.113", CLIENT), *busy("10:01:59.513", "10:03:59.513")]  # fmt: skip
    events = [
        of(OTHER, "beta", "09:50:46.000", "start"),
        of(GATEWAY, "alpha", "09:59:46.000", "start"),
        of(GATEWAY, "alpha", "10:02:00.000", "kill", signal="9"),
        of(GATEWAY, "alpha", "10:02:00.130", "die", exitCode="137"),
        of(GATEWAY, "alpha", "10:02:06.000", "start"),
    ]
    rows = closes(tmp_path, alpha__log=twice(alpha), beta__log=twice(beta), events__jsonl=events)
    assert rows.get_column("conn_id").to_list() == [conn(1)]
    assert decisive(rows) == {"restart.killed": 1}


@pytest.mark.parametrize("edges", [1, 2])
def test_a_reload_spares_newer_connections_and_those_of_another_proxy(tmp_path, edges):
    """Caddy sends 1001 to its three at a reload; what stayed came later, or through the other one."""
    cut = [(1, "10:00:01.113", "10:06:00.317", 1001), (2, "10:00:05.219", "10:06:00.319", 1001), (3, "10:00:07.441", "10:06:00.321", 1001)]  # fmt: skip
    stayed = [(n, at if edges == 2 else f"10:03:0{n}.117", end, 1005) for n, at, end in ((4, "10:00:03.117", "10:08:00.553"), (5, "10:00:09.171", "10:08:04.513"), (6, "10:00:12.711", "10:08:07.113"))]  # fmt: skip
    lines, logs = [], {1: [], edges: []}
    for n, at, end, code in cut + stayed:
        edge = edges if n > 3 else 1
        lines += [(at, web(n, at, f"172.18.0.{2 + edge}")), (end, gone(n, end, code))]
        logs[edge].append((end, caddy(n, end, (ns(end) - ns(at)) / 1e9)))
    write(tmp_path, gateway__log=twice([*MORNING, *(line for _, line in sorted(lines)), *busy("10:09:30.241")]))
    for edge, own in logs.items():
        write(tmp_path / f"edge{edge}", access__log=[line for _, line in sorted(own)])
    rows = occorr.analyze([tmp_path]).closes
    assert decisive(rows.filter(pl.col("websocket_close_code") == 1001)) == {}
    assert decisive(rows) == {"client.normal": 3}


def test_a_proxys_log_that_begins_after_a_close_tells_nothing_of_it(tmp_path):
    cut = [(1, "10:00:01.113", "10:06:00.317", 1001), (2, "10:00:05.219", "10:06:00.919", 1001)]
    after = [(4, "10:07:00.117", "10:08:00.553", 1005), (5, "10:07:03.117", "10:08:04.513", 1005), (6, "10:07:05.117", "10:08:07.113", 1005)]  # fmt: skip
    lines = [line for n, at, end, code in cut + after for line in ((at, web(n, at)), (end, gone(n, end, code)))]
    own = [json.dumps({"level": "info", "ts": ns(at) / 1e9, "msg": text}, separators=(",", ":")) for at, text in (("10:06:05.000", "using config from file"), ("10:06:05.100", "serving initial configuration"))]  # fmt: skip
    own += [caddy(n, end, (ns(end) - ns(at)) / 1e9) for n, at, end, _ in after]
    log = [*MORNING, *(line for _, line in sorted(lines)), *busy("10:09:30.241")]
    rows = closes(tmp_path, gateway__log=twice(log), caddy__log=own)
    assert decisive(rows.filter(pl.col("websocket_close_code") == 1001)) == {}


def test_a_deploy_after_a_failed_health_check_is_a_deploy(tmp_path):
    def new(at, action):
        row = json.loads(event(ns(at), action, image="openclaw/gateway:2026.9.7"))
        row["Actor"]["ID"] = OTHER
        return json.dumps(row)

    first = [*MORNING, web(1, "10:00:11.113", CLIENT), f"{stamp('10:01:59.500')} [gateway] signal SIGTERM received", gone(1, "10:01:59.637", 1012, "service restart")]  # fmt: skip
    events = [BOOT, told("10:00:30.000", "health_status: unhealthy"), new("10:01:58.000", "create"), told("10:01:59.400", "kill", signal="15"), told("10:02:00.137", "die", exitCode="0"), told("10:02:00.237", "stop"), told("10:02:00.337", "destroy"), new("10:02:05.000", "start")]  # fmt: skip
    rows = closes(tmp_path, gateway__log=twice(first), gateway2__log=twice(AGAIN), events__jsonl=events)
    assert [(r["cause"], r["verdict"]) for r in rows.to_dicts()] == [("restart.deploy", "supported")]


def test_a_port_is_published_by_nobody_only_if_all_containers_ports_are_known(tmp_path):
    """The proxy's container publishes it and is dead for 40 s; only the gateway's was inspected."""

    def proxy(at, action, **more):
        row = json.loads(event(ns(at), action, **more))
        row["Actor"]["ID"] = OTHER
        row["Actor"]["Attributes"] |= {"image": "caddy:2", "name": "demo-proxy-1", "com.docker.compose.project": "demo", "com.docker.compose.service": "proxy"}  # fmt: skip
        return json.dumps(row)

    log = [*started("09:50:50.003"), *ready("09:51:00.007"), *busy(*(f"10:0{m}:{s:02d}.713" for m in range(3) for s in range(0, 60, 5)))]  # fmt: skip
    events = [told("09:50:45.000", "start"), proxy("10:01:00.000", "kill", signal="9"), proxy("10:01:00.100", "die", exitCode="137"), proxy("10:01:40.000", "start")]  # fmt: skip
    call = "openclaw gateway call health --url ws://127.0.0.1:8443 --token ***"
    said = f"$ {call}\nGateway not reachable at ws://127.0.0.1:8443 (ECONNREFUSED).\nGateway target: ws://127.0.0.1:8443\nSource: cli --url\nConfig: /home/user/.openclaw/openclaw.json\n"
    meta = {"argv": call, "start_ms": ns("10:01:10.000") // 10**6, "end_ms": ns("10:01:11.500") // 10**6, "rc": 1}
    write(tmp_path / "cli", **{"01__out": said, "01__meta__json": json.dumps(meta)})
    rows = closes(tmp_path, gateway__log=twice(log), events__jsonl=events, inspect__json=inspect())
    assert rows.height == 1
    assert decisive(rows) == {}


def test_another_proxys_403_is_not_the_gateways(tmp_path):
    log = [f"{stamp('08:00:30.241')} {UNTRUSTED}", *MORNING]
    lines = [nginx(at, n, 0.004, 403, "172.18.0.5:80") for n, at in enumerate(("10:05:00.111", "10:05:02.111"))]
    assert decisive(closes(tmp_path, gateway__log=twice(log), access__log=lines)) == {}


def test_pages_of_other_sites_behind_the_same_proxy_are_told_for_certain_by_nobody(tmp_path):
    conf = """http { log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $upstream_addr $upstream_status';
access_log /var/log/nginx/access.log main; server { location / { proxy_pass http://gw; } } }"""

    def page(at, path, status, upstream, answer):
        return f'{CLIENT} - - [21/Nov/2026:{at} +0000] "GET {path} HTTP/1.1" {status} 157 "-" "Mozilla/5.0" {upstream} {answer}'

    lines = [
        page("10:00:10", "/ws", 101, "172.18.0.2:18789", "101"),
        page("10:00:20", "/grafana/login", 401, "-", "-"),
        page("10:00:21", "/phpmyadmin/", 403, "-", "-"),
        page("10:00:22", "/wp-login.php", 404, "172.18.0.7:80", "404"),
    ]
    log = [*MORNING, *refused(1, "10:00:30.241")]
    rows = closes(tmp_path, gateway__log=twice(log), access__log=lines, nginx__conf=conf)
    assert decisive(rows) == {"auth.token_mismatch": 1}
    assert 404 not in rows.get_column("http_status_proxy").to_list()


def test_a_log_that_lacks_a_day_does_not_tell_that_a_connection_was_open_until_the_next(tmp_path):
    early = [line.replace("2026-11-21", "2026-11-19") for line in [*MORNING, web(1, "10:00:11.113", CLIENT)]]
    late = [*busy(*(f"10:01:{s:02d}.713" for s in range(0, 60, 5))), *AGAIN]
    events = [told("10:01:00.000", "exec_create: x"), told("10:02:00.000", "kill", signal="9"), told("10:02:00.130", "die", exitCode="137"), told("10:02:06.000", "start")]  # fmt: skip
    rows = closes(tmp_path, gateway19__log=twice(early), gateway21__log=twice(late), events__jsonl=events)
    assert decisive(rows) == {}


def test_a_proxy_that_nothing_ties_does_not_get_another_machines_clock(tmp_path):
    """Two Caddys' logs in two folders; the second one's clock is 3 s ahead, and it saw two refusals only."""
    lines, first = [], []
    for n, (begun, ended) in enumerate(zip((113, 271, 337, 419, 557, 613, 701, 127), (777, 331, 127, 701, 613, 557, 419, 337), strict=True), 1):  # fmt: skip
        at, end = f"10:00:{10 + n}.{begun}", f"10:0{2 + n % 5}:{10 + 3 * n}.{ended}"
        lines += [(at, web(n, at)), (end, gone(n, end, 1005))]
        first.append((end, caddy(n, end, (ns(end) - ns(at)) / 1e9)))
    write(tmp_path, gateway__log=twice([*MORNING, *(line for _, line in sorted(lines)), *busy("10:09:30.241")]))
    write(tmp_path / "edge1", access__log=[line for _, line in sorted(first)])
    write(
        tmp_path / "edge2", access__log=[caddy(50, "10:03:03.411", 0.003, 502), caddy(51, "10:03:43.111", 0.004, 502)]
    )
    status = dict(occorr.analyze([tmp_path]).clocks.select("clock_id", pl.col("status").cast(pl.String)).iter_rows())
    assert (status["caddy:edge1"], status["caddy:edge2"]) == ("aligned", "assumed")


@pytest.mark.parametrize("upstream", ["172.18.0.2:18789", "127.0.0.1:18789", "gateway:18789"])
def test_a_tunnel_is_the_gateways_connection_by_whatever_name_the_proxy_reached_it(tmp_path, upstream):
    lines, log = [], []
    for n, (begun, ended) in enumerate(zip((113, 271, 337, 419, 557), (557, 419, 337, 271, 113), strict=True), 1):
        at, end = f"10:00:{10 + n}.{begun}", f"10:02:{10 + 3 * n}.{ended}"
        lasted = (ns(end) - ns(at)) // 10**6
        log += [(at, line) for line in opened(n, at)] + [(end, closed(n, end, lasted))]
        lines.append(nginx(end, n, lasted / 1e3, 101, upstream))
    rows = closes(tmp_path, gateway__log=twice([*MORNING, *(line for _, line in sorted(log))]), access__log=lines)
    assert rows.height == 5
    assert decisive(rows) == {"client.normal": 5}


def test_a_call_to_one_gateway_is_not_joined_to_a_close_of_another(tmp_path):
    def document(ident, project, address):
        row = json.loads(inspect())
        row[0] |= {"Id": ident, "Name": f"/{project}-gateway-1"}
        row[0]["Config"]["Hostname"] = ident[:12]
        row[0]["Config"]["Labels"]["com.docker.compose.project"] = project
        row[0]["NetworkSettings"]["Networks"] = {f"{project}_default": {"IPAddress": address}}
        return json.dumps(row)

    call = "openclaw gateway call health --url ws://gw-b.example.com:443 --token ***"
    said = f"$ {call}\nGateway call failed: unauthorized: gateway token mismatch (set gateway.remote.token to match gateway.auth.token)\nGateway target: ws://gw-b.example.com:443\nSource: cli --url\n"
    meta = {"argv": call, "start_ms": ns("10:00:29.500") // 10**6, "end_ms": ns("10:00:30.600") // 10**6, "rc": 1}
    alpha = [*MORNING, *refused(1, "10:00:30.241", "pairing")]
    beta = [*started("09:58:50.003"), *ready("09:59:00.007")]
    write(tmp_path / "a", gateway__log=twice(alpha), inspect__json=document(GATEWAY, "alpha", "192.0.2.2"))
    write(tmp_path / "b", gateway__log=twice(beta), inspect__json=document(OTHER, "beta", "192.0.3.2"), cli__out=said, cli__meta__json=json.dumps(meta))  # fmt: skip
    rows = occorr.analyze([tmp_path]).closes.sort("timestamp")
    assert rows.get_column("cause").cast(pl.String).to_list() == ["auth.pairing_required", "auth.token_mismatch"]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("SyntaxError: Unexpected token 'h', \"hello there\" is not valid JSON", "protocol.invalid_frame"),
        ("Error: EACCES: permission denied, mkdir '/home/node/.openclaw/devices'", "unknown.unknown"),
        ("JsonFileReadError: Failed to parse JSON file: /home/node/.openclaw/devices/paired.json <- SyntaxError: Unexpected end of JSON input", "unknown.unknown"),
    ],
)  # fmt: skip
def test_a_parse_error_may_be_the_gateways_own_disk(tmp_path, text, cause):
    log = [
        *MORNING,
        f"{stamp('10:00:30.100')} [ws] ✗ parse-error error={text} conn={short(1)}",
        f"{stamp('10:00:30.104')} [ws] closed before connect conn={conn(1)} remote={CLIENT} fwd=n/a origin=n/a host=gw.example.com ua=n/a code=1000 reason=n/a",
    ]
    row = closes(tmp_path, gateway__log=log).row(0, named=True)
    assert row["cause"] == cause
    assert any("disk" in wish for wish in row["missing"]) == (cause == "unknown.unknown")


LATER = [line.replace("T10:02", "T11:02") for line in AGAIN]
STOPPED = [f"{stamp('11:01:59.500')} [gateway] signal SIGTERM received", gone(1, "11:01:59.637", 1012, "service restart")]  # fmt: skip
DIED = [told("11:02:00.137", "die", exitCode="137"), told("11:02:05.000", "start")]


def test_events_of_kills_and_deaths_alone_do_not_say_what_was_not_asked_for(tmp_path):
    """An OOM kill, collected with a filter: its own event, the next start and all health reports are missing."""
    log = [*MORNING, web(1, "10:00:11.113", CLIENT), *busy("10:30:00.713", "11:01:59.950"), *LATER]
    early = [told("08:02:00.137", "kill", signal="15"), told("08:02:01.137", "die", exitCode="0")]
    assert decisive(closes(tmp_path, gateway__log=twice(log), events__jsonl=[*early, DIED[0]])) == {}


def test_a_death_by_137_that_nobody_asked_for_may_be_the_hosts_memory(tmp_path):
    log = [*MORNING, web(1, "10:00:11.113", CLIENT), *busy("10:30:00.713", "11:01:59.950"), *LATER]
    assert decisive(closes(tmp_path, gateway__log=twice(log), events__jsonl=[BOOT, *DIED])) == {}


def test_the_engine_forgets_the_name_of_a_stopped_container(tmp_path):
    events = [BOOT, told("10:02:00.000", "kill", signal="9"), told("10:02:00.137", "die", exitCode="137"), told("10:02:05.000", "start")]  # fmt: skip
    failed = [f'2026/11/21 {at} [error] 7#7: *{n} gateway could not be resolved (3: Host not found), client: {CLIENT}, server: gw.example.org, request: "GET /ws HTTP/1.1", host: "gw.example.org"' for n, at in ((11, "10:02:02"), (12, "10:02:03"))]  # fmt: skip
    lines = [access("10:02:00", 101), access("10:02:02", 502), access("10:02:03", 502)]
    log = [*MORNING, *opened(1, "10:00:10.113", "172.18.0.3"), *AGAIN]
    rows = closes(tmp_path, gateway__log=twice(log), events__jsonl=events, access__log=lines, error__log=failed)
    assert set(rows.get_column("cause").cast(pl.String)) == {"restart.killed"}


@pytest.mark.parametrize(
    ("remote", "ends"),
    [
        ("127.0.0.1", [f"10:0{n}:58.20{n}" for n in range(1, 5)]),  # tailscale serve drops what is idle for 58 s
        ("172.18.0.3", [f"10:06:00.20{n}" for n in range(1, 5)]),  # a reload of a proxy whose log is not there
    ],
)
def test_a_1001_may_come_from_something_in_front_that_logs_nothing(tmp_path, remote, ends):
    lines = [
        line
        for n, end in enumerate(ends, 1)
        for line in ((f"10:0{n}:00.113" if remote == "127.0.0.1" else f"10:00:1{n}.113", n), (end, n))
    ]
    log = [gone(n, at, 1001) if at in ends else web(n, at, remote) for at, n in sorted(lines)]
    rows = closes(tmp_path, gateway__log=twice([*MORNING, *log, *busy("10:09:30.241")]))
    assert rows.height == 4
    assert decisive(rows) == {}


@pytest.mark.parametrize(
    ("line", "stamped"),
    [
        ("[openclaw] Non-fatal uncaught exception (continuing): Error: write EPIPE", True),
        ("fatal: not a git repository (or any of the parent directories): .git", False),
        ("TypeError: fetch failed", False),
    ],
)
def test_an_error_that_the_gateway_outlived_by_an_hour_did_not_end_it(tmp_path, line, stamped):
    said = twice([f"{stamp('10:10:00.100')} {line}"]) if stamped else [f"2026-11-21T10:10:00.101000000Z {line}"]
    after = [*busy(*(f"10:{m:02d}:30.713" for m in range(11, 60)), "11:01:59.900"), *LATER]
    log = [*twice([*MORNING, web(1, "10:03:11.113", CLIENT)]), *said, *twice(after)]
    rows = closes(tmp_path, gateway__log=log, events__jsonl=[BOOT, told("11:01:59.990", "kill", signal="9"), *DIED])
    assert decisive(rows) == {"restart.killed": 1}


def test_a_childs_oom_kill_in_the_morning_is_not_the_restart_an_hour_later(tmp_path):
    events = [BOOT, told("10:05:00.000", "oom"), told("11:01:59.400", "kill", signal="15"), told("11:02:00.137", "die", exitCode="0"), told("11:02:00.237", "stop"), told("11:02:05.000", "start"), told("11:02:05.010", "restart")]  # fmt: skip
    log = [*MORNING, web(1, "10:00:11.113", CLIENT), *busy(*(f"10:{m:02d}:30.713" for m in range(5, 60))), *STOPPED, *LATER]  # fmt: skip
    assert decisive(closes(tmp_path, gateway__log=twice(log), events__jsonl=events)) == {"restart.manual": 1}


def test_a_stop_after_which_nothing_was_collected_does_not_explain_the_evening(tmp_path):
    """The proxy's log is of the whole day: tunnels at noon and at three, refusals at six."""
    log = [*MORNING, web(1, "10:00:11.113"), f"{stamp('10:01:59.500')} [gateway] signal SIGTERM received", gone(1, "10:01:59.637", 1012, "service restart")]  # fmt: skip
    events = [BOOT, told("10:01:59.400", "kill", signal="15"), told("10:02:00.137", "die", exitCode="0"), told("10:02:00.237", "stop")]  # fmt: skip
    lines = [caddy(1, "10:01:59.600", 108.5), caddy(2, "12:00:00.100", 300.0), caddy(3, "15:00:00.100", 300.0), *(caddy(n, f"17:59:5{n}.100", 0.004, 502) for n in (1, 3, 5))]  # fmt: skip
    rows = closes(tmp_path, gateway__log=twice(log), events__jsonl=events, caddy__log=lines)
    evening = rows.filter(pl.col("http_status_proxy") == 502)
    assert evening.height == 3
    assert decisive(evening) == {}


@pytest.mark.parametrize("upstream", ["192.168.1.10:18789", "172.17.0.1:18789", "172.18.0.7:18789"])
def test_an_address_that_the_gateways_lines_do_not_show_may_be_its_own(tmp_path, upstream):
    """Its published port, the host's, or the one that it got with its last start."""
    log = [*MORNING, *opened(1, "10:00:10.113"), *AGAIN]
    events = [BOOT, told("10:02:00.000", "kill", signal="9"), told("10:02:00.137", "die", exitCode="137"), told("10:02:05.000", "start")]  # fmt: skip
    lines = [access("10:02:00", 101), *(access(at, 502) for at in ("10:02:03", "10:02:04", "10:02:07"))]
    errors = [error(at, n, upstream) for at, n in (("10:02:03", 11), ("10:02:04", 12), ("10:02:07", 13))]
    rows = closes(tmp_path, gateway__log=twice(log), events__jsonl=events, access__log=lines, error__log=errors)
    assert set(rows.get_column("cause").cast(pl.String)) == {"restart.killed"}


def test_a_page_at_the_path_of_the_tunnels_is_no_attempt_for_certain(tmp_path):
    def page(at, status, agent="Mozilla/5.0"):
        return access(at, status).replace("openclaw-cli/2026.9.6", agent)

    lines = [page("10:00:09", 401), access("10:02:30", 101), page("10:05:00", 426, "Zabbix"), access("10:06:00", 401)]
    rows = closes(tmp_path, gateway__log=twice([*MORNING, *busy("10:09:30.241")]), access__log=lines)
    sure = rows.filter(pl.col("verdict") == "decisive")
    assert not sure.height or set(sure.get_column("http_status_proxy")) <= {401}
    assert sure.filter(pl.col("timestamp").dt.hour() == 10, pl.col("timestamp").dt.minute() < 6).is_empty()


def test_a_browsers_empty_preconnect_is_no_attempt(tmp_path):
    line = f'{CLIENT}:41830 [21/Nov/2026:10:06:00.099] web web/<NOSRV> -1/-1/-1/-1/10001 408 212 - - cR-- 1/1/0/0/0 0/0 {{}} "<BADREQ>"'
    tunnel = f'{CLIENT}:41831 [21/Nov/2026:10:00:10.099] web gw/gateway 0/0/1/2/60000 101 708 - - ---- 1/1/0/0/0 0/0 {{websocket}} "GET / HTTP/1.1"'
    rows = closes(tmp_path, gateway__log=twice([*MORNING, *busy("10:09:30.241")]), haproxy__log=[tunnel, line])
    assert rows.get_column("http_status_proxy").to_list() == [101]


@pytest.mark.parametrize("what", ["cut off", "paused"])
def test_a_tunnel_that_was_silent_since_the_gateway_was_away_was_not_idle(tmp_path, what):
    log = [*MORNING, *opened(1, "10:00:10.113", "172.18.0.3"), *busy("10:04:30.241", "10:13:30.241")]
    network = [json.dumps({"Type": "network", "Action": action, "Actor": {"ID": "cc" * 32, "Attributes": {"container": GATEWAY, "name": "demo_default", "type": "bridge"}}, "scope": "local", "time": ns(at) // 10**9, "timeNano": ns(at)}) for at, action in (("10:05:00.000", "disconnect"), ("10:08:00.000", "connect"))]  # fmt: skip
    events = [BOOT, *(network if what == "cut off" else [told("10:05:00.000", "pause"), told("10:12:00.000", "unpause")])]  # fmt: skip
    failed = f'2026/11/21 10:06:00 [error] 7#7: *11 upstream timed out (110: Connection timed out) while proxying upgraded connection, client: {CLIENT}, server: gw, request: "GET /ws HTTP/1.1", upstream: "http://172.18.0.2:18789/ws", host: "gw.example.org"'
    rows = closes(tmp_path, gateway__log=twice(log), events__jsonl=events, access__log=[access("10:06:00", 101)], error__log=[failed])  # fmt: skip
    assert "timeout.proxy_idle" not in decisive(rows)


def test_a_container_that_died_before_it_was_replaced_was_not_deployed(tmp_path):
    """`docker run --rm` under a supervisor: killed from the host, removed, made anew."""

    def new(at, action):
        row = json.loads(event(ns(at), action))
        row["Actor"]["ID"] = OTHER
        return json.dumps(row)

    log = [*MORNING, web(1, "10:00:11.113", CLIENT), *busy("11:01:59.950")]
    events = [BOOT, told("11:02:00.137", "die", exitCode="137"), told("11:02:00.237", "destroy"), new("11:02:05.000", "create"), new("11:02:05.100", "start")]  # fmt: skip
    assert decisive(closes(tmp_path, gateway__log=twice(log), events__jsonl=events)) == {}


def test_a_gateway_that_was_unhealthy_for_minutes_was_not_restarted_by_hand_for_certain(tmp_path):
    log = [*MORNING, web(1, "10:00:11.113", CLIENT), *busy("10:57:30.713"), *STOPPED, *LATER]
    events = [BOOT, told("10:57:29.000", "health_status: unhealthy"), told("11:01:59.400", "kill", signal="15"), told("11:02:00.137", "die", exitCode="0"), told("11:02:05.000", "start")]  # fmt: skip
    assert decisive(closes(tmp_path, gateway__log=twice(log), events__jsonl=events)) == {}


@pytest.mark.parametrize(("set_by", "told", "sure"), [(30, 8, 6), (0, 8, 8), (30, 6, 8)])
def test_brief_connections_that_the_gateways_log_lacks_tell_that_the_proxys_clock_was_set(tmp_path, set_by, told, sure):
    """Eight through nginx, a minute apart, the last two after its clock was set; `told` of them are in the gateway's log, which may end before."""
    lasted = [0.61, 0.83, 0.72, 0.94, 0.66, 0.78, 0.88, 0.69]
    seconds = [5, 27, 12, 3, 19, 25, 8, 21]
    own, lines = [], []
    for n, (long, second) in enumerate(zip(lasted, seconds, strict=True), start=1):
        at = f"10:{n:02d}:{second:02d}.{100 + 37 * n}"
        begun = f"10:{n:02d}:{second - 1:02d}.{100 + 37 * n + 1000 - round(1000 * long)}"
        if n <= told:
            own += [*opened(n, begun, "172.18.0.3"), closed(n, at, round(1000 * long), "172.18.0.3")]
        shown = f"10:{n:02d}:{second + (set_by if n > 6 else 0):02d}.{100 + 37 * n}"
        lines.append(nginx(shown, n, long, 101, "172.18.0.2:18789"))
    end = busy("10:20:00.000") if told == 8 else []
    write(tmp_path / "in", gateway__log=twice([*MORNING, *own, *end]), access__log=lines)
    result = occorr.analyze([tmp_path / "in"])
    proxy = result.timeline.filter(pl.col("source_kind") == "proxy").sort("log_line")
    assert proxy.get_column("clock_status").to_list() == ["aligned"] * sure + ["assumed"] * (8 - sure)
    why = result.clocks.filter(pl.col("clock_id") == "nginx").get_column("method").to_list()
    assert ["may have been set" in w for w in why] == [False, *[True] * (sure < 8)]


UNMASKED = "Invalid WebSocket frame: MASK must be set"


@pytest.mark.parametrize("stop", ["its log", "nothing"])
def test_a_frame_without_a_mask_that_came_through_a_proxy_is_the_proxys(tmp_path, stop):
    """Caddy before 2.6.3 writes its goodbye to the gateway without a mask; of the fourth nothing tells how it came."""
    log = [
        *MORNING,
        *(web(n, f"10:00:0{n}.113", "172.18.0.3" if n < 4 else "203.0.113.9") for n in (1, 2, 3, 4)),
        *(
            f"{stamp(at)} [ws] error conn={conn(n)} remote={'172.18.0.3' if n < 4 else '203.0.113.9'}: {UNMASKED}"
            for n, at in ((1, "10:05:00.317"), (2, "10:05:00.319"), (3, "10:05:00.323"), (4, "10:07:00.113"))
        ),
        *(gone(n, at, 1006) for n, at in ((1, "10:05:00.331"), (2, "10:05:00.333"), (3, "10:05:00.337"), (4, "10:07:00.127"))),
        *busy("10:09:30.241"),
    ]  # fmt: skip
    tunnels = [caddy(n, f"10:05:00.{316 + n}", 300.21 - n) for n in (1, 2, 3)]
    words = [
        json.dumps({"level": "info", "ts": ns(at) / 1e9, "msg": text, "signal": "SIGTERM"}, separators=(",", ":"))
        for at, text in (("10:05:00.309", "shutting down apps, then terminating"), ("10:05:00.310", "exiting; byeee!! 👋"))
    ]  # fmt: skip
    files = {"proxy__access__log": tunnels} | ({"proxy__error__log": words} if stop == "its log" else {})
    rows = closes(tmp_path, gateway__log=twice(log), **files).sort("timestamp")
    assert rows.get_column("cause").cast(pl.String).to_list() == ["restart.proxy"] * 3 + ["protocol.invalid_frame"]
    sure = "decisive" if stop == "its log" else "supported"
    assert rows.get_column("verdict").cast(pl.String).to_list() == [sure] * 3 + ["circumstantial"]


@pytest.mark.parametrize(
    "agent", ["curl/8.5.0", "kube-probe/1.31", "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)", "Pingdom.com_bot_version_1.4", "Blackbox Exporter/0.25.0"],
)  # fmt: skip
def test_a_monitor_that_asks_at_the_path_of_the_tunnels_is_no_client(tmp_path, agent):
    lines = [access("10:01:00", 101), access("10:02:00", 101)]
    lines += [access(f"10:05:1{n}", 502).replace("openclaw-cli/2026.9.6", agent) for n in range(4)]
    rows = closes(tmp_path, access__log=lines)
    assert rows.height == 2
    others = closes(tmp_path / "ours", access__log=[access("10:01:00", 101), access("10:05:11", 502)])
    assert others.height == 2  # a client's own refusal counts


def test_an_address_in_the_form_of_ipv6_is_the_same_address(tmp_path):
    """A dual-stack listener writes ::ffff:172.18.0.3; the close is that of the tunnel, and its client the proxy's."""
    lines = [*MORNING, *opened(1, "10:00:05.113", "172.18.0.3"), web(1, "10:00:05.213", "172.18.0.3"), gone(1, "10:03:05.113", 1001), *busy("10:09:30.241")]  # fmt: skip
    tunnel = [nginx("10:03:05.115", 1, 180.0, 101, "172.18.0.2:18789")]
    document = inspect().replace("192.0.2.2", "172.18.0.2")
    told = [
        closes(tmp_path / name, gateway__log=twice(log), access__log=tunnel, inspect__json=document)
        for name, log in (("plain", lines), ("mapped", [x.replace("172.18.0.", "::ffff:172.18.0.") for x in lines]))
    ]
    kept = ["via", "client_address", "client_port", "websocket_close_code", "http_status_proxy", "verdict", "cause"]
    assert told[0].select(kept).equals(told[1].select(kept))
    assert told[1].height == 1
    assert told[1].get_column("client_address").to_list() == [CLIENT]


COMPOSE = """services:
  gateway:
    image: openclaw/openclaw
    networks: {default: {ipv4_address: 172.18.0.2}}
  cli:
    image: openclaw/openclaw
    command: status
  edge:
    image: IMAGE
    networks: {default: {ipv4_address: 172.18.0.3}}
"""


@pytest.mark.parametrize(
    ("image", "ways"),
    [
        ("nginx", ["proxy", "direct"]),
        ("caddy:2.11", ["proxy", "direct"]),
        ("nginx/nginx-prometheus-exporter:1.4", ["direct", "direct"]),  # it counts what nginx does
    ],
)
def test_a_compose_file_alone_tells_which_way_a_connection_took(tmp_path, image, ways):
    log = [*MORNING, web(1, "10:00:05.213", "172.18.0.3"), web(2, "10:00:06.213", "203.0.113.9"), gone(1, "10:03:05.113", 1005), gone(2, "10:04:05.113", 1005), *busy("10:09:30.241")]  # fmt: skip
    rows = closes(tmp_path, gateway__log=twice(log), compose__yml=COMPOSE.replace("IMAGE", image))
    assert rows.get_column("via").cast(pl.String).to_list() == ways


def of_host(line, host):
    row = json.loads(line)
    row["request"]["host"] = host
    return json.dumps(row, separators=(",", ":"))


def test_a_502_of_another_site_is_no_refusal_of_the_gateway(tmp_path):
    """Caddy in front of a shop with WebSockets of its own; the gateway is killed, and the shop's server fails for itself."""
    lines = [
        *MORNING,
        web(1, "10:00:05.213", "172.18.0.3"),
        gone(1, "10:01:05.113", 1005),
        *busy("10:01:59.100"),
        *AGAIN,
    ]
    events = [BOOT, told("10:02:00.000", "kill", signal="9"), told("10:02:00.137", "die", exitCode="137"), told("10:02:05.000", "start")]  # fmt: skip
    log = [caddy(1, "10:01:05.115", 60.0), of_host(caddy(2, "10:01:06.115", 60.0), "shop.example.org"), caddy(3, "10:02:08.100", 0.003, 502), of_host(caddy(4, "10:02:09.100", 0.003, 502), "shop.example.org")]  # fmt: skip
    rows = closes(tmp_path, gateway__log=twice(lines), docker__events__jsonl=events, caddy__log=log)
    refused_ = rows.filter(pl.col("http_status_proxy") == 502).sort("client_port")
    assert refused_.get_column("verdict").cast(pl.String).to_list() == ["decisive", "circumstantial"]


def test_events_without_deaths_do_not_tell_that_nobody_died(tmp_path):
    """Collected with a filter on starts and stops: the container began twice, so it ended in between."""
    events = [BOOT, told("10:02:05.000", "start")]
    lines = [
        nginx("10:01:50.100", 1, 0.5, 101, "172.18.0.2:18789"),
        nginx("10:01:59.900", 2, 4.0, 504, "172.18.0.2:18789"),
    ]
    rows = closes(tmp_path, gateway__log=twice([*MORNING, *busy("10:01:40.100"), *AGAIN]), docker__events__jsonl=events, access__log=lines)  # fmt: skip
    assert decisive(rows.filter(pl.col("http_status_proxy") == 504)) == {}


PLAIN = "name: demo\nservices:\n  gateway:\n    image: openclaw/gateway:2026.9.6\n    restart: unless-stopped\n"


@pytest.mark.parametrize(
    ("documents", "verdict"),
    [
        (
            {"compose__yml": PLAIN},
            "circumstantial",
        ),  # the image may bring a check with it, and somebody may act on it
        ({"inspect__json": inspect()}, "decisive"),
        (
            {
                "inspect__json": inspect(),
                "compose__yml": f"{PLAIN}  updates:\n    image: containrrr/watchtower:1.7.1\n",
            },
            "circumstantial",
        ),  # fmt: skip
    ],
)
def test_only_the_engine_says_that_nobody_checks_health(tmp_path, documents, verdict):
    """A log in which a SIGTERM came and the same container went on: by hand, or by one that restarts what is unhealthy or old."""
    stop = [f"{stamp('10:01:59.500')} [gateway] received SIGTERM; shutting down", gone(1, "10:01:59.637", 1012, "service restart")]  # fmt: skip
    log = [*MORNING, web(1, "10:00:11.113", CLIENT), *busy("10:01:30.713"), *stop, *AGAIN]
    row = closes(tmp_path, gateway__log=twice(log), **documents).row(0, named=True)
    assert (row["cause"], row["verdict"]) == ("restart.manual", verdict)


@pytest.mark.parametrize(
    ("before", "cause", "verdict"),
    [
        ([], "restart.manual", "supported"),
        # it had hung for seconds, and wrote of those who left meanwhile only when it was stopped
        ([told("10:01:58.000", "health_status: unhealthy")], "restart.unhealthy", "circumstantial"),
    ],
)
def test_an_end_that_a_hung_gateway_wrote_of_as_it_stopped_may_be_older(tmp_path, before, cause, verdict):
    stop = [f"{stamp('10:01:59.600')} [gateway] received SIGTERM; shutting down", gone(1, "10:01:59.637", 1006)]
    log = [*MORNING, web(1, "10:00:11.113", CLIENT), *busy("10:01:30.713"), *stop, *AGAIN]
    events = [BOOT, *before, told("10:01:59.500", "kill", signal="15"), told("10:02:00.137", "die", exitCode="0"), told("10:02:00.200", "stop"), told("10:02:05.000", "start")]  # fmt: skip
    row = closes(tmp_path, gateway__log=twice(log), events__jsonl=events).row(0, named=True)
    assert (row["cause"], row["verdict"]) == (cause, verdict)
