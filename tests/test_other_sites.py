"""A proxy serves other sites and other gateways too: what it tells of those tells nothing of this gateway."""

from __future__ import annotations

import json

import polars as pl
import pytest
from made_logs import inspect, ready, stamp, started, twice, write
from test_false_leads import AGAIN, BOOT, CLIENT, MORNING, error, gone, nginx, ns, told
from test_strangers import BASE, EVENING, HEARTBEAT, TIES, sure, tied

import occorr

LATE = twice([x.replace("T10:02", "T10:20") for x in AGAIN])
ASSISTANT = "192.168.1.30:8123"
STOPPED = [
    told("10:07:05.000", "kill", signal="15"),
    told("10:07:06.500", "die", exitCode="0"),
    told("10:07:06.600", "stop"),
    told("10:07:20.000", "start"),
    told("10:07:20.100", "restart"),
]


def home(at, n, seconds, status):
    """An access line of Home Assistant's WebSocket, which the same nginx serves."""
    line = nginx(at, n, seconds, status, ASSISTANT)
    return line.replace('"uri": "/"', '"uri": "/api/websocket"').replace("openclaw-cli/2026.9.6", "Mozilla/5.0")


@pytest.mark.parametrize("documents", [{}, {"inspect__json": inspect()}], ids=["events", "inspect"])
@pytest.mark.parametrize("log", [True, False], ids=["log", "nolog"])
def test_another_site_that_is_down_while_the_gateway_restarts_is_not_cut_by_it(tmp_path, documents, log):
    its = [home(f"10:0{n}:44.{100 + n * 37}", 60 + n, 25.3 + n * 3, 101) for n in range(1, 5)]
    ours = [nginx(f"10:0{n}:14.{100 + n * 41}", 70 + n, 35.3 + n * 3, 101, "172.18.0.2:18789") for n in range(1, 5)]
    moments = ("10:05:40.100", "10:06:40.100", "10:07:08.200", "10:07:12.300", "10:08:40.100")
    refused = [home(at, 30 + i, 0.001, 502) for i, at in enumerate(moments)]
    errors = [error(at[:8], 30 + i, ASSISTANT).replace("GET /ws", "GET /api/websocket") for i, at in enumerate(moments)]
    access = sorted([*its, *ours, *refused], key=lambda x: json.loads(x)["msec"])
    alive = [x for x in HEARTBEAT if not "10:07:05" < x[11:23] < "10:07:32"]
    stop = [f"{stamp('10:07:05.100')} [gateway] signal SIGTERM received"]
    lines = sorted([*MORNING, *alive, *stop, *started("10:07:21.000"), *ready("10:07:31.000")], key=lambda x: x[11:23])
    gateway = {"gateway__log": twice(lines)} if log else {}
    found = sure(tmp_path / "in", access__log=access, error__log=errors, events__jsonl=[BOOT, *STOPPED], **documents, **gateway)  # fmt: skip
    assert "restart.manual" not in found


def test_another_site_that_restarts_is_not_nothing_that_listens(tmp_path):
    own, lines = tied(lambda end, n, seconds: nginx(end, n, seconds, 101, "172.18.0.2:18789"))
    its = [home(f"10:0{n}:44.{100 + n * 37}", 60 + n, 25.3 + n * 3, 101) for n in range(1, 5)]
    refused = [home(f"10:07:{10 + n}.320", 30 + n, 0.001, 502) for n in range(3)]
    errors = [error(f"10:07:{10 + n}", 30 + n, ASSISTANT).replace("GET /ws", "GET /api/websocket") for n in range(3)]
    log = twice([*MORNING, *own, *HEARTBEAT])
    assert sure(tmp_path / "in", gateway__log=log, access__log=lines + its + refused, error__log=errors, events__jsonl=[BOOT]) == {}  # fmt: skip


@pytest.mark.parametrize("log", [{}, {"gateway__log": LATE}], ids=["nolog", "recreated"])
@pytest.mark.parametrize("program", ["nginx", "haproxy"])
def test_a_gateway_that_is_down_behind_its_hosts_loopback_is_not_elsewhere(tmp_path, program, log):
    """Published on the host, where the proxy runs; another site's tunnels go on."""
    if program == "nginx":
        its = [home(f"10:0{n}:11.100", n, 60.5 + n, 101) for n in range(1, 6)]
        refused = [nginx(f"10:07:{10 + n}.320", 30 + n, 0.001, 502, "127.0.0.1:18789") for n in range(3)]
        files = {"error__log": [error(f"10:07:{10 + n}", 30 + n, "127.0.0.1:18789") for n in range(3)]}
    else:
        its = [haproxy(n, f"10:0{n}:11.100", 20.5 + n, "lab", path="/api/websocket") for n in range(1, 6)]
        refused = [haproxy(30 + n, f"10:07:{10 + n}.320", 3.003, "relay", 503, "SC--") for n in range(3)]
        files = {"haproxy__cfg": LISTEN.replace("172.18.0.2:18788", ASSISTANT)}
    found = sure(tmp_path / "in", access__log=its + refused, **files, **log)
    assert "unreachable.loopback" not in found


def test_a_proxy_that_has_the_gateways_network_has_its_loopback(tmp_path):
    own, its = tied(lambda end, n, seconds: haproxy(n, f"10:00:{10 + n}.{TIES[n - 1][1][0]}", seconds, "lab"))
    refused = [haproxy(30 + n, f"10:07:{10 + n}.320", 3.003, "relay", 503, "SC--") for n in range(3)]
    gateway, proxy = (
        "services:\n  gateway:\n    image: openclaw/gateway:2026.9.6\n",
        "  haproxy:\n    image: haproxy:3.0\n",
    )
    ways = {
        "lent": f"{gateway}    network_mode: service:haproxy\n{proxy}",
        "variable": f"{gateway}{proxy}    network_mode: ${{NET:-host}}\n",
        "swarm": f"{gateway}{proxy}    networks: [outside]\nnetworks:\n  outside:\n    external: true\n    name: host\n",
    }
    for way, text in ways.items():
        found = sure(tmp_path / way, haproxy__log=its + refused, gateway__log=LATE, haproxy__cfg=LISTEN, compose__yml=text)  # fmt: skip
        assert "unreachable.loopback" not in found
    apart = f"{gateway}{proxy}    networks: [inside]\nnetworks:\n  inside: {{}}\n"
    assert "unreachable.loopback" in sure(tmp_path / "apart", haproxy__log=its + refused, gateway__log=LATE, haproxy__cfg=LISTEN, compose__yml=apart)  # fmt: skip


def test_a_term_of_which_the_engine_does_not_say_that_it_stopped_may_be_a_watchdogs(tmp_path):
    """Events that were collected with a filter lack health reports too."""
    signal = [f"{stamp('11:01:59.500')} [gateway] signal SIGTERM received", gone(1, "11:01:59.637", 1012, "service restart")]  # fmt: skip
    log = twice([*BASE, *signal, *EVENING])
    ends = [told("11:01:59.400", "kill", signal="15"), told("11:02:00.137", "die", exitCode="0"), told("11:02:05.000", "start")]  # fmt: skip
    assert "restart.manual" not in sure(tmp_path / "filtered", gateway__log=log, events__jsonl=[BOOT, *ends])
    ends.insert(2, told("11:02:00.200", "stop"))
    assert sure(tmp_path / "whole", gateway__log=log, events__jsonl=[BOOT, *ends]) == {"restart.manual": 1}


def test_a_command_that_nobody_heard_of_may_never_have_arrived(tmp_path):
    own, _ = tied(lambda end, n, seconds: nginx(end, n, seconds, 101, "172.18.0.2:18789"))
    call = {"argv": "openclaw gateway call health --url ws://192.168.1.50:18789", "start_ms": ns("10:06:59.700") // 10**6, "end_ms": ns("10:07:10.200") // 10**6, "rc": 1}  # fmt: skip
    said = "$ openclaw gateway call health --url ws://192.168.1.50:18789\nGateway call failed: Error: gateway timeout after 10000ms\nGateway target: ws://192.168.1.50:18789\nSource: cli --url\n"
    log = twice([*MORNING, *own, *HEARTBEAT])
    found = sure(tmp_path / "in", gateway__log=log, events__jsonl=[BOOT])
    write(tmp_path / "in" / "cli", **{"01__out": said, "01__meta__json": json.dumps(call)})
    assert sure(tmp_path / "in", gateway__log=log) == found
    assert "timeout.client" not in found


LISTEN = """global
  log stdout format raw local0 info
defaults
  timeout client 60s
frontend web
  bind :80
  use_backend relay if { path_beg /relay/ }
backend gateway
  server a 172.18.0.2:18789 check
backend relay
  server a 127.0.0.1:18789
backend lab
  server a 172.18.0.2:18788
"""


def haproxy(n, at, seconds, backend="gateway", status=101, state="----", path="/"):
    return f'{CLIENT}:{40000 + n} [21/Nov/2026:{at}] web {backend}/a 0/0/1/2/{int(seconds * 1000)} {status} 708 - - {state} 1/1/0/0/0 0/0 "GET {path} HTTP/1.1"'


@pytest.mark.parametrize(
    ("configured", "backend", "state", "cause", "verdict"),
    [
        (True, "relay", "SC--", "unreachable.loopback", "supported"),
        (True, "relay", "sC--", "timeout.upstream", "supported"),
        (True, "gateway", "sC--", "timeout.upstream", "supported"),  # a firewall may drop what it dials
        (True, "lab", "SC--", "unreachable.refused", "supported"),
        (False, "relay", "SC--", "unreachable.refused", "circumstantial"),
    ],
)
def test_haproxys_configuration_says_where_a_server_is(tmp_path, configured, backend, state, cause, verdict):
    """Its log only has the name, which another backend's server may have too."""
    own, lines = tied(lambda end, n, seconds: haproxy(n, f"10:00:{10 + n}.{TIES[n - 1][1][0]}", seconds))
    lines.append(haproxy(30, "10:07:00.320", 1.001, backend, 503, state, "/relay/ws"))
    log = twice([*MORNING, *own, *HEARTBEAT])
    files = {"haproxy__cfg": LISTEN} if configured else {}
    write(tmp_path / "in", gateway__log=log, haproxy__log=lines, events__jsonl=[BOOT], **files)
    if cause == "unreachable.loopback":  # that it is a container beside the gateway makes it certain
        both = "services:\n  gateway:\n    image: openclaw/gateway:2026.9.6\n  edge:\n    image: haproxy:3.0\n"
        found = sure(tmp_path / "sure", gateway__log=log, haproxy__log=lines, events__jsonl=[BOOT], compose__yml=both, **files)  # fmt: skip
        assert found == {cause: 1}
    found = occorr.analyze([tmp_path / "in"]).closes.filter(pl.col("http_status_proxy") == 503)
    assert found.select(pl.col("cause", "verdict").cast(pl.String)).rows() == [(cause, verdict)]


@pytest.mark.parametrize(("elsewhere", "verdict"), [(True, "decisive"), (False, "supported")])
def test_envoy_writes_a_unix_socket_as_its_path(tmp_path, elsewhere, verdict):
    """That the gateway is reached by another way shows that it is not behind the socket."""
    line = f'[2026-11-21T10:07:00.320Z] "GET / HTTP/1.1" 503 UF 0 98 0 - "{CLIENT}" "openclaw-cli/2026.9.6" "a47a2d7e-974e-4dc0-920b-17a71c7b488a" "gw.example.com" "/run/openclaw/gateway.sock"'
    files = {"inspect__json": inspect()} if elsewhere else {}
    log = twice([*MORNING, *HEARTBEAT])
    write(tmp_path / "in", gateway__log=log, access__log=[line], events__jsonl=[BOOT], **files)
    row = occorr.analyze([tmp_path / "in"]).closes.row(0, named=True)
    assert (row["cause"], row["verdict"]) == ("unreachable.socket", verdict)
