"""Words of others in the gateway's own logs, and lines that are joined to closes of which they do not speak."""

from __future__ import annotations

import json

import polars as pl
import pytest
from made_logs import DEVICE, GATEWAY, conn, inspect, ready, short, stamp, started, twice
from test_false_leads import AGAIN, BOOT, CLIENT, MORNING, busy, caddy, closes, gone, nginx, ns, told, web
from test_strangers import HEARTBEAT, sure, tied

GATEWAYS = "172.18.0.2:18789"
DOWN = [nginx(f"10:02:0{i}.500", 31 + i, 0.001, 502, GATEWAYS) for i in range(1, 9)]


def file_line(at, subsystem, message):
    name = json.dumps({"subsystem": subsystem}, separators=(",", ":"))
    meta = {"runtime": "node", "date": f"2026-11-21T{at}Z", "logLevelId": 5, "logLevelName": "ERROR", "name": name}
    return json.dumps({"0": name, "1": message, "_meta": meta, "time": f"2026-11-21T{at}+00:00", "message": message}, separators=(",", ":"))  # fmt: skip


QUIET = [
    file_line(at, "gateway", said)
    for at, said in (
        ("09:59:50.003", "loading configuration…"),
        ("10:00:00.003", "http server listening (14 plugins: anthropic; 4.1s)"),
        ("10:00:00.007", "gateway ready"),
        ("10:09:59.100", f"device pairing approved device={DEVICE} role=operator"),
    )
]


@pytest.mark.parametrize(
    ("subsystem", "said"),
    [
        ("gateway/channels/telegram", "getUpdates failed: request to https://api.telegram.org/bot failed, reason: getaddrinfo ENOTFOUND api.telegram.org"),
        ("agents/sandbox", "sandbox failed: connect ENOENT /var/run/docker.sock"),
        ("agents/sandbox", "connect EACCES /var/run/docker.sock"),
        ("agents/ollama", "model discovery failed: connect ECONNREFUSED 127.0.0.1:11434"),
        ("gateway/channels/discord", "message: gateway closed (1008): pairing required"),
        ("gateway/channels/telegram", 'inbound text="my cli says gateway closed (1008): unauthorized: gateway token mismatch, what now?"'),
        ("agents/embedded", 'reply: The error "Gateway call failed: unauthorized: gateway token mismatch" means that two tokens differ'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["file", "console", "logs"])
def test_what_a_plugin_or_a_chat_says_is_no_close(tmp_path, subsystem, said, form):
    at = "10:05:00.500"
    if form == "file":
        files = {"openclaw__log": sorted([*QUIET, file_line(at, subsystem, said)], key=lambda x: json.loads(x)["time"])}
    else:
        its = f"[{subsystem.rpartition('/')[2]}]" if form == "console" else f"error {subsystem}"
        own = "[gateway]" if form == "console" else "info gateway"
        lines = [f"{stamp(f'10:0{n}:00.123')} {own} device pairing approved device={DEVICE} role=operator" for n in (4, 5, 6)]  # fmt: skip
        files = {"gateway__log": sorted([*lines, f"{stamp(at)} {its} {said}"])}
    assert closes(tmp_path / "in", events__jsonl=[BOOT], **files).is_empty()


@pytest.mark.parametrize(
    "words",
    [
        "[tools] exec failed: FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
        '[whatsapp] inbound +15550001 text="node says FATAL ERROR: JavaScript heap out of memory, what is that?"',
        "[browser] received SIGTERM; closing browser, as it was asked to",
    ],
)
def test_words_of_others_do_not_say_how_the_gateway_ended(tmp_path, words):
    """Its log just stops: killed, for all that is known."""
    own = [web(1, "10:00:11.113"), web(2, "10:00:31.113"), *busy("10:01:30.100"), f"{stamp('10:01:54.500')} {words}"]
    log = twice([*MORNING, *own, *busy("10:01:59.100"), *AGAIN])
    assert sure(tmp_path / "in", gateway__log=log, access__log=DOWN, inspect__json=inspect()) == {}
    ends = [told("10:02:00.137", "die", exitCode="0"), told("10:02:05.000", "start")]
    assert sure(tmp_path / "ends", gateway__log=log, access__log=DOWN, events__jsonl=[BOOT, *ends]) == {}


def test_a_plugins_port_that_is_taken_is_not_the_gateways(tmp_path):
    """The configuration is refused, which the gateway says itself."""
    taken = "[plugins] browser control: listen EADDRINUSE: address already in use 127.0.0.1:18791"
    why = "Gateway failed to start: Invalid config at /home/node/.openclaw/openclaw.json"
    log, ends = [], [BOOT]
    for begun, tried, ended in (("09:59:50", "09:59:55", "09:59:58"), ("10:00:20", "10:00:25", "10:00:28")):
        log += [*started(f"{begun}.003"), f"{stamp(f'{tried}.003')} {taken}", f"{stamp(f'{ended}.003')} {why}"]
        ends.append(told(f"{ended}.300", "die", exitCode="1"))
    ends.insert(2, told("10:00:18.300", "start"))
    lines = [nginx("09:58:02.100", 3, 100.0, 101, GATEWAYS), *(nginx(f"10:00:{at:02}.100", 30 + at, 0.001, 502, GATEWAYS) for at in (2, 6, 12))]  # fmt: skip
    found = sure(
        tmp_path / "in", gateway__log=twice(log), events__jsonl=ends, access__log=lines, inspect__json=inspect()
    )
    assert "restart.conflict" not in found


def missed(n, end, word):
    """A lookup of the gateway's name that Caddy could not do."""
    request = {"remote_ip": CLIENT, "remote_port": str(40000 + n), "client_ip": CLIENT, "proto": "HTTP/1.1", "method": "GET", "host": "gw.example.org", "uri": "/", "headers": {"Upgrade": ["websocket"]}}  # fmt: skip
    message = f"dial tcp: lookup gateway on 127.0.0.11:53: {word}"
    return [json.dumps({"level": "error", "ts": ns(end) / 1e9, "logger": "http.log.error.log0", "msg": message, "request": request, "duration": 0.003, "status": 502}, separators=(",", ":")), caddy(n, end, 0.003, 502)]  # fmt: skip


@pytest.mark.parametrize("word", ["no such host", "server misbehaving"])
def test_the_name_of_a_container_that_may_be_stopped_is_no_fault_of_names(tmp_path, word):
    """The engine forgets a stopped container's name; tunnels to that name went before and after."""
    lines = [caddy(1, "10:05:20.100", 311.0), *(x for n in range(3) for x in missed(20 + n, f"10:05:3{n}.100", word)), caddy(3, "10:09:20.100", 100.0)]  # fmt: skip
    before = twice([*MORNING, web(1, "10:00:11.113"), *busy("10:05:00.100", "10:05:20.000")])
    later = twice([*started("10:06:02.337"), *ready("10:06:20.551"), *busy("10:07:00.100")])
    for name, files in (("alone", {}), ("stops", {"gateway__log": before}), ("begins", {"gateway__log": later})):
        assert sure(tmp_path / name, caddy__log=lines, **files) == {}
    alive = twice([*MORNING, *busy(*(f"10:0{n // 6}:{n % 6}5.100" for n in range(6, 60)))])
    assert "unreachable.dns" in sure(tmp_path / "alive", caddy__log=lines, gateway__log=alive)


STOP = [
    f"{stamp('10:02:00.050')} [admission] closed: stop (SIGTERM)",
    f"{stamp('10:02:00.060')} [gateway] received SIGTERM; shutting down",
    f"{stamp('10:02:00.090')} [shutdown] completed cleanly in 40ms",
]


def test_a_socket_that_is_gone_while_the_gateway_restarts_is_the_restarts(tmp_path):
    events = [BOOT, told("10:02:00.000", "kill", signal="15"), told("10:02:00.137", "die", exitCode="0"), told("10:02:00.200", "stop"), told("10:02:09.000", "start")]  # fmt: skip
    socket = "unix:/run/openclaw/gw.sock"
    access = [nginx(f"10:02:0{n}.500", 31 + n, 0.001, 502, socket) for n in range(3, 6)]
    errors = [f'2026/11/21 10:02:0{n} [crit] 7#7: *{31 + n} connect() to {socket} failed (2: No such file or directory) while connecting to upstream, client: {CLIENT}, server: gw, request: "GET / HTTP/1.1", upstream: "http://{socket}:/", host: "gw.example.org"' for n in range(3, 6)]  # fmt: skip
    log = twice([*MORNING, *busy("10:01:59.100"), *STOP, *AGAIN])
    found = sure(tmp_path / "in", gateway__log=log, events__jsonl=events, access__log=access, error__log=errors)
    assert "unreachable.socket" not in found


def network(at, action, name="demo_default"):
    about = {"container": GATEWAY, "name": name, "type": "bridge"}
    return json.dumps({"Type": "network", "Action": action, "Actor": {"ID": "cc" * 32, "Attributes": about}, "scope": "local", "time": ns(at) // 10**9, "timeNano": ns(at)})  # fmt: skip


@pytest.mark.parametrize("stop", [STOP, []], ids=["stopped", "killed"])
def test_networks_of_which_a_stop_takes_the_container_are_no_partition(tmp_path, stop):
    """Only the network's events were collected; the gateway's own log tells that it began again."""
    own = [web(1, "10:00:11.113", "172.18.0.3"), web(2, "10:00:31.113", "172.18.0.3")]
    log = twice([*MORNING, *own, *busy("10:01:30.100", "10:01:59.100"), *stop, *AGAIN])
    events = [network("10:02:00.120", "disconnect"), network("10:02:05.001", "connect")]
    lines = [nginx("09:59:58.500", 30, 48.001, 101, GATEWAYS), *DOWN[:4]]
    found = sure(tmp_path / "in", gateway__log=log, events__jsonl=events, access__log=lines, inspect__json=inspect())
    assert "network.partition" not in found


def test_who_accepts_connections_is_on_a_network(tmp_path):
    """It was taken off another one, for good."""
    own, lines = tied(lambda end, n, seconds: nginx(end, n, seconds, 101, GATEWAYS))
    refused = [nginx("10:07:03.500", 60, 3.001, 504, GATEWAYS)]
    events = [BOOT, network("09:58:00.120", "disconnect", "monitoring")]
    log = twice([*MORNING, *own, *HEARTBEAT])
    rows = closes(tmp_path / "in", gateway__log=log, events__jsonl=events, access__log=lines + refused, inspect__json=inspect().replace("192.0.2.2", "172.18.0.2"))  # fmt: skip
    assert "network.partition" not in rows.get_column("cause")


def test_an_idle_tunnel_in_the_error_log_is_not_the_browsers_that_leaves_later(tmp_path):
    idle = f'2026/11/21 10:05:30 [info] 7#7: *7 upstream timed out (110: Connection timed out) while proxying upgraded connection, client: 198.51.100.99, server: gw, request: "GET / HTTP/1.1", upstream: "http://{GATEWAYS}/", host: "gw.example.org"'
    lines = [*MORNING, web(1, "10:04:11.113"), *busy("10:04:50.100", "10:05:10.100"), gone(1, "10:05:33.000", 1001), *busy("10:08:00.100")]  # fmt: skip
    assert "timeout.proxy_idle" not in sure(tmp_path / "in", gateway__log=twice(lines), error__log=[idle])


@pytest.mark.parametrize("call", ["send()", "writev()", "recv()"])
def test_a_peer_that_no_longer_acknowledges_is_no_idle_timer(tmp_path, call):
    failed = f'2026/11/21 10:05:30 [info] 7#7: *7 {call} failed (110: Connection timed out) while proxying upgraded connection, client: {CLIENT}, server: gw, request: "GET / HTTP/1.1", upstream: "http://{GATEWAYS}/", host: "gw.example.org"'
    log = twice([*MORNING, web(1, "10:00:11.113"), *busy("10:05:00.100", "10:05:40.100", "10:06:00.100")])
    access = [nginx("10:05:30.100", 7, 331.2, 101, GATEWAYS)]
    assert sure(tmp_path / "in", gateway__log=log, error__log=[failed], access__log=access) == {}


def printed(*lines):
    """What a command printed between 10:05:10 and 10:05:21."""
    head = ["$ openclaw gateway call health --timeout 10000 --url ws://192.0.2.2:18789", f"# start_ms={ns('10:05:10.000') // 10**6} end_ms={ns('10:05:21.000') // 10**6} rc=1"]  # fmt: skip
    return [*head, *lines, "Gateway target: ws://192.0.2.2:18789", "Source: cli --url"]


WRONG = "unauthorized: gateway token mismatch (set gateway.remote.token to match gateway.auth.token)"


@pytest.mark.parametrize(
    ("code", "reason", "agent", "said"),
    [
        (1006, "n/a", "Mozilla/5.0 (X11; Linux x86_64)", "gateway timeout after 10000ms"),
        (1008, "pairing required", "Mozilla/5.0 (X11; Linux x86_64)", f"gateway closed (1008): {WRONG}"),
        (1008, "pairing required", "n/a", f"gateway closed (1008): {WRONG}"),
        (1008, "device identity required", "n/a", f"gateway closed (1008): {WRONG}"),
    ],
)
def test_a_close_that_another_client_had_is_not_the_commands(tmp_path, code, reason, agent, said):
    line = f"{stamp('10:05:20.300')} [ws] closed before connect conn={conn(1)} remote=203.0.113.9 fwd=n/a origin=n/a host=gw.example.com ua={agent} code={code} reason={reason}"
    log = twice([*MORNING, *busy("10:04:50.100"), line, *busy("10:05:30.100")])
    rows = closes(tmp_path / "in", gateway__log=log, events__jsonl=[BOOT], cli__out=printed(said))
    assert sorted(rows.get_column("observers").to_list()) == [["cli"], ["gateway"]]


def test_a_restart_that_a_command_heard_of_is_not_what_it_heard_later(tmp_path):
    """`logs --follow` hears of a restart, connects anew, and is refused: two closes, each told by its own line."""
    said = ["gateway closed (1012): service restart", f"gateway connect failed: GatewayClientRequestError: {WRONG}"]
    log = twice([*MORNING, *busy("10:04:50.100", "10:05:30.100")])
    rows = closes(tmp_path / "in", gateway__log=log, events__jsonl=[BOOT], cli__out=printed(*said))
    told = {code: (cause, at) for code, cause, at in rows.select("websocket_close_code", pl.col("cause").cast(pl.String), pl.col("timestamp").cast(pl.Int64)).rows()}  # fmt: skip
    assert told[None][0] == "auth.token_mismatch" and told[1012][0].split(".")[0] == "restart"
    # the recorder bounds both
    assert all(ns("10:05:10.000") <= at <= ns("10:05:21.001") for _, at in told.values())


@pytest.mark.parametrize(
    ("reason", "cause"), [("device-token-revoked", "auth.device_identity"), ("gateway-auth-changed", "auth.rotated")]
)
def test_a_device_that_was_removed_is_no_rotation(tmp_path, reason, cause):
    said = [f"gateway closed (4001): client invalidated: {reason}"]
    log = twice([*MORNING, *busy("10:04:50.100", "10:05:30.100")])
    rows = closes(tmp_path / "in", gateway__log=log, events__jsonl=[BOOT], cli__out=printed(*said))
    assert rows.get_column("cause").to_list() == [cause]


def test_of_verbose_lines_that_somebody_chose_none_takes_the_connection_of_the_one_above(tmp_path):
    """`grep -E 'close|error'`: the parse error was a third connection's, and the two ends are of two others."""
    ends = [
        f"{stamp(at)} [ws] → close code={code} durationMs={ms} handshake=connected endpoint=172.18.0.1:{50000 + n}->172.18.0.2:18789"
        for n, at, code, ms in (
            (1, "10:01:00.300", "1000", 49300),
            (2, "10:02:00.300", "1006 cause=heartbeat-timeout", 108300),
        )
    ]
    torn = f"{stamp('10:00:20.000')} [ws] ✗ parse-error error=SyntaxError: Unexpected token 'h' is not valid JSON conn={short(3)}"
    rows = closes(tmp_path / "in", gateway__log=twice([*MORNING, torn, *ends]))
    told_of = dict(rows.select("websocket_close_code", "cause").rows())
    assert told_of.get(1000) != "timeout.heartbeat"


@pytest.mark.parametrize("width", [140, 150, 160])
def test_a_line_that_was_cut_off_is_not_of_the_connection_above(tmp_path, width):
    """The id stands at the end. The first connection ended with a frame, the third for its protocol."""
    wide = [f"{stamp(f'10:00:3{n}.000')} [gateway] {'words that go on and on ' * 9}" for n in range(3)]
    answer = f"{stamp('10:01:59.000')} [ws] ⇄ res ✓ health 5ms cached=true conn={short(1)} id=h1"
    third = f"{stamp('10:01:59.300')} [ws] → close code=1002 reason=protocol mismatch cause=protocol-mismatch durationMs=20 handshake=failed endpoint=172.18.0.1:50003->172.18.0.2:18789 conn={short(3)}"
    bye = f"{stamp('10:02:10.300')} [ws] → close code=1000 reason=bye durationMs=49300 conn={short(1)}"
    log = [line[:width] for line in twice([*MORNING, *wide, answer, third, bye, *busy("10:03:00.100")])]
    rows = closes(tmp_path / "in", gateway__log=log)
    assert {c: k for c, k in rows.select("websocket_close_code", "cause").rows()}[1000] != "protocol.version_mismatch"


def test_a_command_of_no_known_time_is_not_whatever_ended_in_a_short_log(tmp_path):
    """All that was read is half a minute; that does not place what somebody pasted."""
    lines = [nginx("10:00:20.500", 7, 9.3, 101, GATEWAYS)]
    said = ["$ openclaw gateway call health --timeout 3500 --url ws://127.0.0.1:8080", "gateway timeout after 3500ms", "Gateway target: ws://127.0.0.1:8080", "Source: cli --url"]  # fmt: skip
    rows = closes(tmp_path / "in", access__log=lines, gateway__log=twice([*MORNING, *busy("10:00:20.600")]), cli__out=said)  # fmt: skip
    assert sorted(rows.get_column("observers").to_list()) == [["cli"], ["proxy"]]


QUOTED = [
    "unauthorized: gateway token mismatch (open the dashboard URL and paste the token in Control UI settings)",
    "pairing required: device is not approved yet (requestId: 7c206152-3a78-4f2f-8ff7-56030576452e)",
    "webchat disconnected code=1008 reason=slow consumer conn=abc",
    "read error: websocket: close 1008 (policy violation): pairing required",
]


@pytest.mark.parametrize("name", ["gateway__log", "gateway__txt"])
@pytest.mark.parametrize("line", QUOTED)
def test_the_second_line_of_a_message_is_no_close(tmp_path, name, line):
    said = [f"{stamp('10:01:00.100')} [whatsapp] inbound from +15550100: it says", line, *busy("10:01:30.100")]
    assert closes(tmp_path / "in", **{name: [*MORNING, *said]}).is_empty()


@pytest.mark.parametrize(
    "line",
    [
        "2026/11/21 10:01:59 read: websocket: close 1006 (abnormal closure): unexpected EOF",
        "websockets.exceptions.ConnectionClosedError: received 1008 (policy violation) not allowed here; then sent 1008 (policy violation)",
        '[Discord] Disconnected from Gateway (code: 4004, reason: "Authentication failed", wasClean: true)',
        "error: websocket: close 1001 (going away): CloudFlare WebSocket proxy restarting",
    ],
)
def test_another_programs_socket_is_none_of_the_gateways(tmp_path, line):
    files = {"gateway__log": twice([*MORNING, *busy("10:01:30.100")]), "bot__txt": [line] * 3}
    assert closes(tmp_path / "in", events__jsonl=[BOOT], **files).is_empty()
