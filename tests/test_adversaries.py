"""What an expert would try: coincidences, forged headers, missing sources, clocks that are off. Expectations are from what was written."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from made_logs import GATEWAY, conn, ready, stamp, started

import occorr

REMOTE = "198.51.100.7"


def opened(n, at):
    return [
        f"{stamp(at)} [ws] webchat connected conn={conn(n)} remote={REMOTE} client=openclaw-control-ui webchat v2026.9.6"
    ]


def closed(n, at, code, reason="n/a"):
    return f"{stamp(at)} [ws] webchat disconnected code={code} reason={reason} conn={conn(n)}"


def engine(*rows):
    """Engine events: (time of day, action, container, attributes)."""
    out = []
    for at, action, name, more in rows:
        nano = int(datetime.fromisoformat(f"2026-11-21T{at}+00:00").astimezone(UTC).timestamp() * 1000) * 10**6
        ident = GATEWAY if name == "claw-gateway-1" else "bb" * 32
        image = "openclaw:2026.9.6" if name == "claw-gateway-1" else "redis:7"
        attributes = {
            "image": image,
            "name": name,
            "com.docker.compose.project": "claw",
            "com.docker.compose.service": name.split("-")[1],
            **more,
        }
        row = {"Type": "container", "Action": action, "Actor": {"ID": ident, "Attributes": attributes}}
        out.append(
            json.dumps({"status": action, "id": ident, "from": image, **row, "time": nano // 10**9, "timeNano": nano})
        )
    return out


def run(tmp_path, offsets=None, **files):
    for name, lines in files.items():
        (tmp_path / name.replace("_", ".", 1)).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return occorr.analyze([tmp_path], offsets=offsets)


def session(*, closing):
    """A gateway's log from its start at 10:00 to 10:10, with lines in between."""
    lines = [*started("10:00:00.000"), *ready("10:00:05.000")]
    for n in (1, 2, 3):
        lines += opened(n, f"10:01:0{n}.000")
    return [*lines, *closing, f"{stamp('10:10:00.000')} [heartbeat] started"]


STOPPED = [
    f"{stamp('10:05:00.000')} [gateway] signal SIGTERM received",
    f"{stamp('10:05:00.010')} [gateway] received SIGTERM; shutting down",
]
STOP = [
    ("10:05:00.000", "kill", "claw-gateway-1", {"signal": "15"}),
    ("10:05:01.000", "die", "claw-gateway-1", {"exitCode": "0"}),
    ("10:05:01.100", "stop", "claw-gateway-1", {}),
    ("10:05:02.000", "start", "claw-gateway-1", {}),
    ("10:05:02.010", "restart", "claw-gateway-1", {}),
]
BOOT = ("09:59:59.500", "start", "claw-gateway-1", {})


def one(result, n):
    return result.closes.filter(pl.col("conn_id") == conn(n)).row(0, named=True)


def test_the_gateways_own_lines_are_compared_by_its_own_clock(tmp_path):
    """Nothing says better than to 2.5 s how its clock stands to the engine's; that its close follows its signal is certain."""
    lines = session(closing=[*STOPPED, closed(1, "10:05:00.300", 1012, "service restart")])
    lines[-1:] = [*started("10:05:03.000"), *ready("10:05:08.000"), lines[-1]]
    result = run(tmp_path, {"gateway": (0, 2_500_000_000)}, gateway_log=lines, docker_events_jsonl=engine(BOOT, *STOP))
    close = one(result, 1)
    assert (close["cause"], close["verdict"]) == ("restart.manual", "decisive")


def test_a_close_frame_before_the_signal_is_the_clients_however_near(tmp_path):
    lines = session(closing=[closed(1, "10:04:59.500", 1000, "done"), *STOPPED, closed(2, "10:05:00.300", 1000)])
    lines[-1:] = [*started("10:05:03.000"), *ready("10:05:08.000"), lines[-1]]
    result = run(tmp_path, gateway_log=lines, docker_events_jsonl=engine(BOOT, *STOP))
    assert (one(result, 1)["cause"], one(result, 1)["verdict"]) == ("client.normal", "decisive")
    assert one(result, 2)["verdict"] != "decisive", "after the signal the gateway's own frame may be echoed"


def test_another_containers_restart_in_the_same_second_is_no_cause(tmp_path):
    other = [
        ("10:05:00.000", "kill", "claw-redis-1", {"signal": "15"}),
        ("10:05:00.200", "die", "claw-redis-1", {"exitCode": "0"}),
        ("10:05:00.900", "start", "claw-redis-1", {}),
    ]
    result = run(
        tmp_path,
        gateway_log=session(closing=[closed(1, "10:05:00.300", 1006)]),
        docker_events_jsonl=engine(BOOT, ("09:59:58.000", "start", "claw-redis-1", {}), *other),
    )
    close = one(result, 1)
    assert close["family"] != "restart" and close["verdict"] in ("circumstantial", "unknown")


def test_a_close_half_a_minute_after_a_restart_is_not_the_restarts(tmp_path):
    lines = session(closing=[*STOPPED])[:-1]
    lines += [*started("10:05:03.000"), *ready("10:05:08.000"), *opened(7, "10:05:20.000")]
    lines += [closed(7, "10:05:38.000", 1006), f"{stamp('10:10:00.000')} [heartbeat] started"]
    close = one(run(tmp_path, gateway_log=lines, docker_events_jsonl=engine(BOOT, *STOP)), 7)
    assert close["family"] != "restart" and close["verdict"] in ("circumstantial", "unknown")


def test_a_gateway_that_falls_silent_without_an_engines_word_is_not_called_killed_for_certain(tmp_path):
    lines = session(closing=[])[:-1]
    lines += [*started("10:05:03.000"), *ready("10:05:08.000"), f"{stamp('10:10:00.000')} [heartbeat] started"]
    closes = run(tmp_path, gateway_log=lines).closes
    assert closes.height == 3
    assert set(closes.get_column("verdict").cast(pl.String)) <= {"circumstantial", "unknown"}


def test_1006_alone_is_left_open(tmp_path):
    close = one(run(tmp_path, gateway_log=session(closing=[closed(1, "10:05:00.300", 1006)])), 1)
    assert close["verdict"] in ("circumstantial", "unknown") and close["probability"] <= 0.6


def test_unhealthy_counts_before_the_kill_even_where_the_gateways_clock_says_otherwise(tmp_path):
    """By a clock that may be 0.6 s off the signal line stands before the report; both events are the engine's, and in order."""
    lines = session(closing=[*STOPPED, closed(1, "10:05:00.300", 1012, "service restart")])
    lines[-1:] = [*started("10:05:03.000"), *ready("10:05:08.000"), lines[-1]]
    sick = ("10:05:00.400", "health_status: unhealthy", "claw-gateway-1", {})
    stop = [(at.replace("10:05:00.000", "10:05:00.600"), *rest) for at, *rest in STOP]
    result = run(
        tmp_path, {"gateway": (0, 700_000_000)}, gateway_log=lines, docker_events_jsonl=engine(BOOT, sick, *stop)
    )
    assert one(result, 1)["cause"] == "restart.unhealthy"


NGINX = (
    '2026/11/21 10:05:0{s} [error] 7#7: *{n} connect() failed (111: Connection refused) while connecting to upstream, client: 203.0.113.9, server: gw.example.org, request: "GET / HTTP/1.1",'
    ' upstream: "http://192.0.2.{u}:18789/", host: "gw.example.org"'
)


def test_an_error_log_alone_tells_of_attempts_once_each(tmp_path):
    """Two upstreams tried for one request are one attempt; a style sheet is none; nothing says why nobody listened."""
    lines = [NGINX.format(s=1, n=41, u=2), NGINX.format(s=1, n=41, u=3), NGINX.format(s=3, n=42, u=2)]
    lines.append(NGINX.format(s=4, n=43, u=2).replace("GET / HTTP", "GET /assets/app.css HTTP"))
    closes = run(tmp_path, error_log=lines).closes
    assert closes.height == 2
    assert closes.get_column("http_status_proxy").null_count() == 2, "no line says which status the client got"
    assert not closes.get_column("established").any()
    assert set(closes.get_column("verdict").cast(pl.String)) == {"circumstantial"}


@pytest.mark.parametrize(("others", "via"), [(False, "proxy"), (True, "unknown")])
def test_a_header_that_any_client_may_send_makes_no_proxy_of_an_address(tmp_path, others, via):
    def refused(n, at, fwd):
        peer = f"{REMOTE}:{40000 + n}->192.0.2.2:18789"
        return (
            f"{stamp(at)} [ws] closed before connect conn={conn(n)} peer={peer} remote={REMOTE} fwd={fwd} origin=n/a host=gw.example.com ua=openclaw-cli/2026.9.6 code=1008 reason=unauthorized: gateway token mismatch"
            f" phase=auth_credentials_received cause=unauthorized durationMs=200 handshake=failed phase=auth_credentials_received endpoint={peer} authReason=token_mismatch client=cli mode=cli version=2026.9.6"
        )

    lines = [refused(11, "10:02:00.000", "203.0.113.5"), *([refused(12, "10:02:05.000", "n/a")] if others else [])]
    result = run(tmp_path, gateway_log=session(closing=lines))
    assert one(result, 11)["via"] == via
    if others:
        assert one(result, 12)["via"] == "direct"


def haproxy(opened, took_ms, state, address=REMOTE, status=101):
    """A line of HAProxy's HTTP log; `state`: its termination state."""
    moment = datetime.fromisoformat(f"2026-11-21T{opened}").strftime("%d/%b/%Y:%H:%M:%S.%f")[:-3]
    return f'{address}:40{took_ms % 997:03} [{moment}] web gateway/gateway-1 0/0/0/2/{took_ms} {status} 812 - - {state} 3/3/2/2/0 0/0 "GET / HTTP/1.1"'


def proxied(n, at):
    return [
        f"{stamp(at)} [ws] webchat connected conn={conn(n)} remote=198.51.100.2 client=openclaw-control-ui webchat v2026.9.6"
    ]


def behind_haproxy(ends):
    """Connections through HAProxy: (n, seconds after 10:02 when the proxy saw the end, and the gateway, code, termination state)."""
    lines, log = [*started("10:00:00.000"), *ready("10:00:05.000")], []
    rows = sorted(ends, key=lambda e: e[2])
    for n, *_ in sorted(ends):
        lines += proxied(n, f"10:01:{n:02}.000")
    for n, seen, told, code, state in rows:
        minute, second = divmod(told, 60)
        lines.append(closed(n, f"10:{2 + int(minute):02}:{second:06.3f}", code))
        # each client has its own address: behind one alone there may be another proxy
        log.append(haproxy(f"10:01:{n:02}.000", round((seen + 60 - n) * 1000), state, f"203.0.113.{n}"))
    return [*lines, f"{stamp('10:10:00.000')} [heartbeat] started"], log


STEADY = [(n, 7.3 * n + 0.41 * n * n, 7.301 * n + 0.41 * n * n, 1000, "----") for n in range(1, 9)]  # no even beat


def test_haproxys_aborted_client_is_one_where_the_gateway_heard_of_it_at_once(tmp_path):
    gateway, log = behind_haproxy([*STEADY, (20, 55.0, 55.002, 1006, "CD--")])
    close = one(run(tmp_path, gateway_log=gateway, haproxy_log=log), 20)
    assert (close["cause"], close["verdict"]) == ("client.abort", "decisive")


def test_a_clients_own_timer_aborts_too_where_the_gateway_does_not_answer(tmp_path):
    """HAProxy says CD either way: the gateway read of it 11 s later, and wrote nothing meanwhile."""
    gateway, log = behind_haproxy([*STEADY, (20, 64.0, 75.0, 1006, "CD--"), (21, 64.4, 75.01, 1006, "CD--")])
    result = run(tmp_path, gateway_log=gateway, haproxy_log=log)
    for n in (20, 21):
        assert one(result, n)["verdict"] in ("circumstantial", "unknown")


def test_envoys_zero_is_an_attempt_whose_client_left_and_no_tunnel(tmp_path):
    tail = '- "198.51.100.9" "openclaw-cli/2026.9.6" "4671af26-b5ce-4c4c-906e-e457661c36a9" "gw.example.com" "198.51.100.3:18789"'
    log = [f'[2026-11-21T10:02:{n:02}.000Z] "GET / HTTP/1.1" 0 DC 0 0 2001{n} {tail}' for n in range(4)]
    closes = run(tmp_path, gateway_log=session(closing=[]), envoy_log=log).closes
    left = closes.filter(pl.col("http_status_proxy") == 0)
    assert left.height == 4
    assert not left.get_column("established").any()
    assert set(left.get_column("cause")) <= {"client.abort", "unknown.unknown"}
    assert set(left.get_column("verdict")) <= {"circumstantial", "unknown"}


def test_a_stop_that_drains_for_long_tells_of_its_closes_long_before_the_process_ends(tmp_path):
    closing = [
        f"{stamp('10:05:00.000')} [gateway] received SIGUSR2; restarting",
        closed(1, "10:05:00.700", 1012, "service restart"),
        f"{stamp('10:05:04.000')} [shutdown] completed cleanly in 3990ms",
        f"{stamp('10:05:04.500')} [gateway] restart mode: in-process restart (OPENCLAW_NO_RESPAWN)",
        *started("10:05:05.000"),
        *ready("10:05:09.000"),
    ]
    close = one(run(tmp_path, gateway_log=session(closing=closing)), 1)
    assert (close["cause"], close["verdict"]) == ("restart.in_process", "decisive")


def test_a_connection_that_came_after_a_cut_was_not_lost_in_it(tmp_path):
    network = {"container": GATEWAY, "name": "claw_default", "type": "bridge"}
    cut = [
        json.dumps({"Type": "network", "Action": action, "Actor": {"ID": "cc" * 32, "Attributes": network}, "time": t, "timeNano": t * 10**9})
        for action, t in (("disconnect", 1795255500), ("connect", 1795255511))
    ]  # fmt: skip
    assert datetime.fromtimestamp(1795255500, UTC).isoformat() == "2026-11-21T10:05:00+00:00"
    during, after = [closed(1, "10:05:11.400", 1006)], [*opened(9, "10:05:11.600"), closed(9, "10:05:14.000", 1006)]
    lines = session(closing=[*during, *after])
    result = run(tmp_path, gateway_log=lines, docker_events_jsonl=[*engine(BOOT), *cut])
    assert one(result, 1)["cause"] == "network.partition"
    assert one(result, 9)["cause"] != "network.partition"


@pytest.mark.parametrize(("first", "gap"), [(300.65, 0.05), (300.05, 0.09), (300.95, 0.09)])
def test_a_burst_of_one_client_counts_once_for_a_clock_of_whole_seconds(tmp_path, first, gap):
    """Each of its closes could be any of its attempts; three others, of which each is alone, say where the clock stands."""

    def refused(n, at, address):
        return (
            f"{stamp(at)} [ws] closed before connect conn={conn(n)} remote=? fwd={address} origin=n/a host=gw.example.com ua=openclaw-cli/2026.9.6 code=1008 reason=unauthorized: gateway token mismatch"
            f" phase=auth_credentials_received cause=unauthorized durationMs=80 handshake=failed authReason=token_mismatch client=cli mode=cli version=2026.9.6"
        )

    def traefik(n, ended, took_ms, address):
        begun = datetime.fromtimestamp(int(ended - took_ms / 1000), UTC)  # cut to the second
        return f'{address} - - [{begun:%d/%b/%Y:%H:%M:%S} +0000] "GET / HTTP/1.1" 0 0 "-" "-" {n} "all@file" "http://198.51.100.3:18789" {took_ms}ms'

    day = datetime(2026, 11, 21, 10, 0, tzinfo=UTC).timestamp()
    alone = [(n, 60 + 13.37 * n + 0.09 * n * n, 80 + n, f"203.0.113.{n}") for n in range(4)]
    burst = [(20 + k, first + gap * k, 81 + k, REMOTE) for k in range(12)]
    closing = [
        refused(n, datetime.fromtimestamp(day + s + 0.002, UTC).strftime("%H:%M:%S.%f")[:-3], address)
        for n, s, _, address in [*alone, *burst]
    ]
    log = [traefik(n, day + s, ms, address) for n, s, ms, address in [*alone, *burst]]
    clocks = run(tmp_path, gateway_log=session(closing=closing), traefik_log=log).clocks
    row = clocks.filter(pl.col("clock_id") == "traefik").row(0, named=True)
    assert row["status"] == "aligned"
    assert abs(row["offset_ns"]) <= row["error_ns"] <= 1e9


def test_that_a_proxy_is_not_trusted_holds_for_the_process_that_says_so(tmp_path):
    """The setting was mended with the restart at 10:05; the 403 after it has another reason, which nothing tells."""
    head = f"{stamp('10:03:00.100')} [gateway] observed unattributable proxy-shaped traffic from 192.0.2.3; Configure gateway.trustedProxies narrowly."
    lines = session(closing=[head, *STOPPED, *started("10:05:03.000"), *ready("10:05:08.000")])
    asked = [
        json.dumps({"ts": f"2026-11-21T{at}+00:00", "msec": datetime.fromisoformat(f"2026-11-21T{at}.100+00:00").timestamp(), "client": REMOTE, "port": 41000 + n, "method": "GET", "uri": "/", "status": 403, "rt": 0.004,
                    "upgrade": "websocket", "upstream": "192.0.2.2:18789", "ustatus": "403", "urt": "0.004", "sent": 389, "conn": n, "ua": "openclaw-cli/2026.9.6"})
        for n, at in enumerate(["10:03:00", "10:04:30", "10:08:00"])
    ]  # fmt: skip
    told = run(tmp_path, {"nginx": (0, 5_000_000)}, gateway_log=lines, proxy_access_log=asked).closes.sort("timestamp")
    told = told.filter(pl.col("http_status_proxy") == 403)
    assert told.get_column("verdict").to_list() == ["decisive", "decisive", "circumstantial"]
    assert told.get_column("cause").to_list()[:2] == ["auth.untrusted_proxy"] * 2


def test_a_gateway_that_was_stopped_again_and_again_does_not_say_where_its_clock_stands(tmp_path):
    """Its one stop is the first of four that the engine tells; its starts come tens of seconds after the container's."""
    name = "claw-gateway-1"
    stops = [("10:01:10.000", "11.470", "12.300"), ("10:01:19.560", "19.735", "20.680"), ("10:01:27.740", "27.937", "28.850"), ("10:01:35.930", "36.087", "37.040")]  # fmt: skip
    told = [("09:59:59.770", "start", name, {})]
    for kill, die, start in stops:
        told += [(kill, "kill", name, {"signal": "15"}), (f"10:01:{die}", "die", name, {"exitCode": "0"}), (f"10:01:{start}", "start", name, {})]  # fmt: skip
    lines = [
        *started("10:00:26.387"),
        *ready("10:00:40.000"),
        f"{stamp('10:01:10.155')} [gateway] signal SIGTERM received",
        f"{stamp('10:01:10.881')} [shutdown] completed cleanly in 650ms",
        *started("10:01:56.578"),
        *ready("10:02:10.000"),
    ]
    clocks = run(tmp_path, gateway_log=lines, docker_events_jsonl=engine(*told)).clocks
    row = clocks.filter(pl.col("clock_id") == "gateway").row(0, named=True)
    assert abs(row["offset_ns"]) <= row["error_ns"]
