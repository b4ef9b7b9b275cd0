"""Words of others in the gateway's own logs, and lines that are joined to closes of which they do not speak."""

from __future__ import annotations

import json

import pytest
from made_logs import DEVICE, inspect, started, stamp, twice
from test_false_leads import AGAIN, BOOT, MORNING, busy, closes, nginx, told, web
from test_strangers import sure

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
        "[browser] received SIGTERM; closing browser",
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
    log, ends = [], []
    for n in (0, 3):
        taken = "[plugins] browser control: listen EADDRINUSE: address already in use 127.0.0.1:18791"
        log += [*started(f"09:59:{50 + n}.003"), f"{stamp(f'09:59:{51 + n}.003')} {taken}"]
        log += [
            f"{stamp(f'09:59:{52 + n}.003')} Gateway failed to start: Invalid config at /home/node/.openclaw/openclaw.json"
        ]
        ends += [told(f"09:59:{52 + n}.300", "die", exitCode="1"), told(f"09:59:{52 + n}.800", "start")]
    assert "restart.conflict" not in sure(tmp_path / "in", gateway__log=twice(log), events__jsonl=[BOOT, *ends], access__log=DOWN)  # fmt: skip
