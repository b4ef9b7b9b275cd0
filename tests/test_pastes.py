"""What people paste into threads and chats: a few lines, wrapped, quoted, in fences, behind prompts, cut short, without stamps.

Each case was written from what the text says before it was run: the causes that it allows, and the strongest verdict that it can bear. The shapes are
those of public threads, the values are invented.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import polars as pl
import pytest
from typer.testing import CliRunner

import occorr
from occorr import schema
from occorr.cli import app
from occorr.errors import NothingParsableError

CONN = "5b1f6a52-1c1e-4b70-9a0e-0d6f7f5f5a11"
UNKNOWN = ("unknown.unknown",)
ANY_RESTART = tuple(c for c in schema.CAUSE_NAMES if c.startswith("restart."))


@dataclass(frozen=True)
class Paste:
    """A text; the causes that its closes may have; the strongest verdict; a code that must be found; how many closes; when the last was."""

    name: str
    text: str
    causes: tuple[str, ...]
    most: str
    code: int | None = None
    closes: int = 1
    at: str | None = None


PASTES = [
    Paste(
        "plain 1006 with its target",
        "Health check failed: gateway closed (1006 abnormal closure (no close frame)): no close reason\n  Gateway target: ws://127.0.0.1:18789\n  Source: local loopback\n  Config: C:\\Users\\someone\\.openclaw\\openclaw.json\n  Bind: loopback\n",
        UNKNOWN,
        "circumstantial",
        1006,
    ),
    Paste(
        "the same failure told twice",
        "gateway connect failed: Error: gateway closed (1000):\n◇\nError: gateway closed (1000 normal closure): no close reason\nGateway target: ws://127.0.0.1:18789\nSource: local loopback\nConfig: /home/install/.openclaw/openclaw.json\nBind: loopback\n",
        ("timeout.handshake", "unknown.unknown"),
        "supported",
        1000,
    ),
    Paste(
        "markdown fence and a prompt",
        "it says this when I try\n\n```\n$ openclaw devices list\ngateway connect failed: Error: gateway closed (1008): pairing required\n```\n\nany idea?\n",
        ("auth.pairing_required",),
        "decisive",
        1008,
    ),
    Paste(
        "a request for more scopes",
        "gateway connect failed: GatewayClientRequestError: scope upgrade pending approval (requestId: 3f1c9a60-6f0e-4b4c-9c9e-2d1a7a4f6c11)\nDirect scope access failed; using local fallback.\n",
        ("auth.pairing_required",),
        "decisive",
    ),
    Paste(
        "a line without what stands before it",
        "every few minutes:\nwebchat disconnected code=1008 reason=slow consumer conn=...\n",
        ("overload.slow_consumer",),
        "supported",
        1008,
    ),
    Paste(
        "a dashboard of others",
        '[OpenClaw] Connecting to: ws://127.0.0.1:18789/\n[OpenClaw] WebSocket opened, waiting for challenge...\n[OpenClaw] Disconnected from Gateway (code: 1008, reason: "device identity required", wasClean: true)\n',
        ("auth.device_identity",),
        "decisive",
        1008,
    ),
    Paste(
        "a desktop client that tells the reason first",
        "[ERROR] Gateway connect handshake failed:\nunauthorized: device token mismatch (rotate/reissue device token)\nWebSocket closed (code=1008)\n",
        ("auth.device_identity", "auth.rotated"),
        "decisive",
    ),
    Paste(
        "a client in Go",
        "[gateway] sending connect (protocol=3, role=operator)\n[gateway] read error: websocket: close 1002 (protocol error): protocol mismatch\n",
        ("protocol.version_mismatch",),
        "decisive",
        1002,
    ),
    Paste(
        "a client in Python",
        "websockets.exceptions.ConnectionClosedError: received 1008 (policy violation) pairing required; then sent 1008 (policy violation) pairing required\n",
        ("auth.pairing_required",),
        "decisive",
        1008,
    ),
    Paste(
        "what the dashboard shows in its banner",
        "unauthorized: gateway token mismatch (open the dashboard URL and paste the token in Control UI settings)\n",
        ("auth.token_mismatch",),
        "decisive",
    ),
    Paste(
        "the file log laid out by jq",
        '{\n  "0": "{\\"subsystem\\":\\"gateway/ws\\"}",\n  "1": {\n    "cause": "protocol-mismatch",\n    "handshake": "failed",\n    "durationMs": 6\n  },\n  "2": "closed before connect conn=22de2480-105b-48ce-a75d-41108ef40e18 peer=127.0.0.1:54548->127.0.0.1:18789 remote=127.0.0.1 fwd=n/a origin=n/a host=127.0.0.1:18789 ua=n/a code=1002 reason=protocol mismatch",\n  "time": "2026-05-12T10:00:00.000Z"\n}\n',
        ("protocol.version_mismatch",),
        "decisive",
        1002,
    ),
    Paste(  # a report that lists what it said at three times; openclaw#6959
        "three states of one dashboard",
        "disconnected (1008): unauthorized: gateway token missing \n(open a tokenized dashboard URL or paste token in Control UI settings)\n\ndisconnected (1008): pairing required\n\ndisconnected (1008): unauthorized: gateway token mismatch \n(open a tokenized dashboard URL or paste token in Control UI settings)\n",
        ("auth.token_missing", "auth.pairing_required", "auth.token_mismatch"),
        "decisive",
        1008,
        3,
    ),
    *(
        Paste(
            f"two commands, the second by {command.split()[0]}",
            f"user@host:~$ openclaw devices list\ngateway connect failed: Error: pairing required\nuser@host:~$ {command} health\ngateway connect failed: Error: pairing required\n",
            ("auth.pairing_required",),
            "decisive",
            closes=2,
        )
        for command in (
            "docker compose run --rm openclaw-cli",
            "docker exec -it openclaw openclaw",
            "sudo openclaw",
            "OPENCLAW_PROFILE=dev openclaw",
            "pnpm openclaw",
            "clawdbot",
            "node dist/index.js",
            "systemctl --user restart openclaw-gateway && openclaw",
        )  # fmt: skip
    ),
    Paste(
        "a change of directory in between",
        "user@host:~$ openclaw health\ngateway connect failed: Error: pairing required\nuser@host:~$ cd /opt/openclaw\ngateway closed (1008): pairing required\n",
        ("auth.pairing_required",),
        "decisive",
        1008,
    ),
    Paste(  # a prompt of a form that nobody knows
        "two commands, the second by a script",
        "user@host:~$ openclaw cron list\ngateway closed (1006 abnormal closure (no close frame)): no close reason\nGateway target: ws://127.0.0.1:18789\n~ >>> ./check.sh\ngateway closed (1008): pairing required\nGateway target: ws://172.18.0.2:18789\nSource: local lan 172.18.0.2\n",
        ("unknown.unknown", "auth.pairing_required"),
        "decisive",
        1008,
        2,
    ),
    Paste(
        "quoted mail",
        "On Tue someone wrote:\n> gateway connect failed: Error: gateway closed (1008):\n> unauthorized: gateway token mismatch (set gateway.remote.token to match gateway.auth.token)\n> Gateway target: ws://10.0.0.5:18789\n",
        ("auth.token_mismatch",),
        "decisive",
        1008,
    ),
    Paste(
        "the Control UI's banner",
        "disconnected (1008): pairing required\n",
        ("auth.pairing_required",),
        "decisive",
        1008,
    ),
    Paste(
        "the Control UI with smart quotes",
        "I get “disconnected (1008): device identity required” in the browser\n",
        ("auth.device_identity",),
        "decisive",
        1008,
    ),
    Paste(
        "HTML entities",
        "Error: gateway closed (1008): unauthorized: gateway token missing (open the dashboard URL &amp; paste the token in Control UI settings)<br>\nGateway target: ws://127.0.0.1:18789<br>\n",
        ("auth.token_missing",),
        "decisive",
        1008,
    ),
    Paste(
        "Windows line ends",
        "gateway connect failed: Error: gateway closed (1008): unauthorized: device token mismatch (rotate/reissue device token)\r\nGateway target: ws://127.0.0.1:18789\r\nSource: cli --url\r\n",
        ("auth.token_mismatch", "auth.device_identity"),
        "decisive",
        1008,
    ),
    Paste(
        "terminal colours",
        "\x1b[31mGateway call failed: Error: gateway closed (1006 abnormal closure (no close frame)): no close reason\x1b[39m\n\x1b[2mGateway target: ws://127.0.0.1:18789\x1b[22m\n",
        UNKNOWN,
        "circumstantial",
        1006,
    ),
    Paste(
        "a gateway line behind a strange service name",
        f"my_claw.gw-1  | 2026-11-21T05:41:25.307+01:00 [ws] closed before connect conn={CONN} peer=172.18.0.3:51002->172.18.0.2:18789 remote=172.18.0.3 fwd=n/a origin=n/a host=gw:18789 ua=n/a code=1008 reason=pairing required: device is not approved yet (requestId: 6f6c2c0e-5a1e-4a3b-9d39-4b6e5a8d2c11) phase=connect cause=pairing-required\n",
        ("auth.pairing_required",),
        "decisive",
        1008,
    ),
    Paste(
        "an old gateway line without stamp, wrapped by a chat",
        f"[ws] closed before connect conn={CONN} remote=127.0.0.1\nfwd=n/a origin=n/a host=127.0.0.1:18789 ua=n/a code=1006 reason=n/a\n",
        ("client.abort", "unknown.unknown"),  # that the peer went without a word is all that this line says
        "circumstantial",
        1006,
    ),
    Paste(
        "elided in the middle",
        f"2026-11-21T05:41:25.307+01:00 [ws] unauthorized conn={CONN} remote=172.18.0.1 client=openclaw-control-ui webchat v2026.9.6 ... reason=token_mismatch\n[...]\n2026-11-21T05:41:25.320+01:00 [ws] closed before connect conn={CONN} ... code=1008 reason=unauthorized: gateway token mismatch\n",
        ("auth.token_mismatch",),
        "decisive",
        1008,
    ),
    Paste(
        "service restart at the client",
        "gateway disconnected: gateway closed (1012): service restart\n",
        ANY_RESTART,
        "supported",
        1012,
    ),
    Paste(
        "a subagent",
        "Subagent announce failed: Error: gateway closed (1006 abnormal closure (no close frame)): no close reason\n[tools] browser failed: gateway closed (1006 abnormal closure (no close frame)): no close reason\n",
        UNKNOWN,
        "circumstantial",
        1006,
        2,
    ),
    Paste(
        "embedded fallback",
        "Gateway agent failed; falling back to embedded: Error: gateway closed (1006 abnormal closure (no close frame)): no close reason\n",
        UNKNOWN,
        "circumstantial",
        1006,
    ),
    Paste(
        "refused, new wording",
        "Gateway not reachable at ws://127.0.0.1:18789 (ECONNREFUSED).\nStart it with: openclaw gateway\n",
        ("unreachable.refused", "unreachable.loopback"),
        "supported",
        None,
    ),
    Paste(
        "refused, Node's wording",
        "Error: connect ECONNREFUSED 127.0.0.1:18789\n    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1611:16)\n",
        ("unreachable.refused", "unreachable.loopback"),
        "supported",
        None,
    ),
    Paste("no such name", "Error: getaddrinfo ENOTFOUND openclaw-gateway\n", ("unreachable.dns",), "decisive", None),
    Paste(
        "origin",
        "disconnected (1008): origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)\n",
        ("auth.origin",),
        "decisive",
        1008,
    ),
    Paste(
        "version",
        "gateway connect failed: Error: gateway closed (1002): protocol mismatch\n",
        ("protocol.version_mismatch",),
        "decisive",
        1002,
    ),
    Paste("the client's own second symptom", "disconnected (4008): connect failed\n", UNKNOWN, "circumstantial", 4008),
    Paste("a slow reader", "gateway closed (1008): slow consumer\n", ("overload.slow_consumer",), "decisive", 1008),
    Paste(
        "the client's ticks",
        "gateway closed (4000): tick timeout\n",
        ("timeout.heartbeat", "unknown.unknown"),
        "supported",
        4000,
    ),
    Paste("starting", "gateway closed (1013): gateway starting\n", ("restart.startup",), "decisive", 1013),
    Paste(
        "gateway status, old",
        "Runtime: running (pid 76036, state active, sub running, last exit 0, reason 0)\nWarm-up: launch agents can take a few seconds. Try again shortly.\nRPC probe: failed\nRPC target: ws://127.0.0.1:18789\n  gateway closed (1008): unauthorized: device token mismatch (rotate/reissue device token)\n  Gateway target: ws://127.0.0.1:18789\n  Source: cli --url\n\nPort 18789 is already in use.\n- pid 76036 ubuntu: openclaw-gateway (127.0.0.1:18789)\n",
        ("auth.token_mismatch", "auth.device_identity"),
        "decisive",
        1008,
    ),
    Paste(
        "rate limit",
        "gateway closed (1008): unauthorized: too many failed authentication attempts (retry later)\n",
        ("auth.rate_limited",),
        "decisive",
        1008,
    ),
    Paste(
        "JSON with escaped breaks",
        '{"status":"error","childSessionKey":"agent:main:subagent:1","error":"gateway closed (1008): pairing required\\nGateway target: ws://172.18.0.2:18789\\nSource: local lan 172.18.0.2\\nConfig: /home/node/.openclaw/openclaw.json\\nBind: lan"}\n',
        ("auth.pairing_required",),
        "decisive",
        1008,
    ),
    Paste(
        "PowerShell prompt",
        "PS C:\\Users\\someone> openclaw health\nHealth check failed: gateway closed (1006 abnormal closure (no close frame)): no close reason\n",
        UNKNOWN,
        "circumstantial",
        1006,
    ),
    Paste(
        "root prompt and a table of the status",
        "root@claw:~# openclaw status\n│ Gateway         │ local · ws://127.0.0.1:18789 (local loopback) · unreachable (connect failed: gateway closed (1006): )   │\n",
        UNKNOWN,
        "circumstantial",
        1006,
    ),
    Paste(
        "a bullet list",
        "* `gateway closed (1008): pairing required`\n* restarted the container, no change\n",
        ("auth.pairing_required",),
        "decisive",
        1008,
    ),
    Paste(
        "words about codes, no log",
        "Why do I get 1006 sometimes and 1008 at other times? Is 1008 always pairing required?\n",
        (),
        "unknown",
        None,
        0,
    ),
    Paste(
        "a forged reason in a user agent",
        f"2026-11-21T05:41:25.307+01:00 [ws] closed before connect conn={CONN} remote=203.0.113.9 fwd=n/a origin=n/a host=x ua=Mozilla code=1000 reason=pairing required code=1006 reason=n/a\n",
        (*UNKNOWN, "client.abort"),
        "circumstantial",
        None,
    ),
    Paste(
        "nginx's line alone",
        '203.0.113.9 - - [21/Nov/2026:05:44:07 +0000] "GET /ws HTTP/1.1" 502 157 "-" "openclaw-cli/2026.9.6"\n',
        ("unreachable.refused", "unknown.unknown", *ANY_RESTART, "timeout.upstream"),
        "circumstantial",
        None,
    ),
    Paste(
        "the upgrade refused",
        "Error: gateway rejected websocket upgrade (HTTP 403)\n",
        ("auth.untrusted_proxy", "auth.origin", "auth.proxy_denied", "unknown.unknown"),
        "circumstantial",
        None,
    ),
    Paste(
        "an OOM line beside a 1006",
        "[Sat Nov 21 05:43:45 2026] Memory cgroup out of memory: Killed process 812 (node) total-vm:11000000kB, anon-rss:900000kB\ngateway closed (1006 abnormal closure (no close frame)): no close reason\n",
        ("restart.oom", "unknown.unknown"),
        "circumstantial",
        1006,
    ),
    Paste(
        "a client's line with a stamp, among the gateway's",
        "2026-02-03T01:42:13.791Z [telegram] starting provider\n2026-02-03T01:52:13.802Z gateway connect failed: Error: gateway closed (1006): \n",
        UNKNOWN,
        "circumstantial",
        1006,
        at="2026-02-03T01:52:13.802",
    ),
    Paste(
        "one refusal in three lines of a journal",
        "Feb 22 06:35:53 host-a node[1682]: 2026-02-22T06:35:53.305+10:00 gateway connect failed: Error: pairing required\n"
        "Feb 22 06:35:53 host-a node[1682]: 2026-02-22T06:35:53.308+10:00 Subagent completion direct announce failed for run b1a26796: gateway closed (1008): pairing required\n"
        "Feb 22 06:35:53 host-a node[1682]: Gateway target: ws://127.0.0.1:18789\n"
        "Feb 22 06:35:53 host-a node[1682]: Source: local loopback\n"
        f"Feb 22 06:35:53 host-a node[1682]: 2026-02-21T20:35:53.316Z [ws] closed before connect conn={CONN} remote=127.0.0.1 fwd=n/a origin=n/a host=127.0.0.1:18789 ua=n/a code=1008 reason=pairing required\n",
        ("auth.pairing_required",),
        "decisive",
        1008,
        at="2026-02-21T20:35:53.316",
    ),
    Paste(
        "cut while the gateway stopped",
        "2026-07-19T12:30:20.330+02:00 [gateway] received SIGTERM; shutting down\n2026-07-19T12:30:20.387+02:00 [shutdown] started: gateway stopping\n"
        f"2026-07-19T12:30:20.564+02:00 [ws] webchat disconnected code=1006 reason=n/a conn={CONN}\n2026-07-19T12:30:20.566+02:00 [shutdown] completed cleanly in 181ms\n"
        "2026-07-19T12:30:21.511+02:00 [gateway] starting...\n",
        ("restart.manual",),
        "circumstantial",
        1006,
    ),
    Paste(
        "cut while it stopped, without the line that says why it did",
        f"2026-07-19T12:30:31.025+02:00 [ws] webchat disconnected code=1006 reason=n/a conn={CONN}\n2026-07-19T12:30:31.027+02:00 [shutdown] completed cleanly in 153ms\n"
        "2026-07-19T12:30:32.010+02:00 [gateway] starting...\n2026-07-19T12:30:33.106+02:00 [gateway] http server listening (11 plugins: browser; 1.1s)\n2026-07-19T12:30:33.257+02:00 [gateway] ready\n",
        ("restart.manual",),
        "circumstantial",
        1006,
    ),
    Paste(
        "only the line that says why",
        f"- Gateway log shows:\n```\n2026-03-16T09:11:02.114Z [ws] handshake timeout conn={CONN} remote=127.0.0.1\n```\n",
        ("timeout.handshake",),
        "decisive",
        None,
    ),
    Paste(
        "a cause and a code, and nothing else of the line",
        "```\n[gateway/ws] WARN closed before connect cause=handshake-timeout handshakeMs=12688 durationMs=16859 code=1000\n[gateway/ws] WARN closed before connect cause=handshake-timeout handshakeMs=14107 durationMs=18924 code=1000\n```\n",
        ("timeout.handshake",),
        "decisive",
        1000,
        2,
    ),
    Paste(
        "JSON whose backslashes a page took",
        '{"0":"{"subsystem":"gateway/ws"}","1":{"cause":"handshake-timeout","handshake":"failed","durationMs":5639},"2":"closed before connect conn='
        + CONN
        + ' remote=127.0.0.1 fwd=n/a origin=n/a host=127.0.0.1:18789 ua=n/a code=1000 reason=n/a","_meta":{"runtime":"node","date":"2026-03-16T09:11:35.015Z","logLevelName":"WARN"},"time":"2026-03-16T09:11:35.015Z"}\n',
        ("timeout.handshake",),
        "decisive",
        1000,
        at="2026-03-16T09:11:35.015",
    ),
    Paste(
        "an elided line behind Compose's word, broken in the middle",
        "```\nopenclaw-gateway-1 | 2026-02-01T06:35:03.089Z [ws] closed before connect conn=823f4c49-... \nremote=192.0.2.1 origin=http://localhost:18789 reason=pairing required\n```\n",
        ("auth.pairing_required",),
        "supported",
        None,
    ),
    Paste(
        "unauthorized, and no more",
        "it says:\n```\n[ws] unauthorized reason=token_mismatch\n```\n",
        ("auth.token_mismatch",),
        "decisive",
        None,
    ),
    Paste(
        "what gateway probe prints",
        "Gateway Status\nReachable: no\nProbe budget: 3000ms\n\nTargets\nLocal loopback ws://127.0.0.1:18789\n  Connect: failed - connect failed: connect ECONNREFUSED 127.0.0.1:18789\n",
        ("unreachable.refused", "unreachable.loopback"),
        "circumstantial",
        None,
    ),
    Paste(
        "two codes are two commands",
        "seen often:\n- `gateway closed (1012): service restart`\n```\nnode host gateway closed (1006): \n```\n",
        (*UNKNOWN, *ANY_RESTART),
        "circumstantial",
        1006,
        2,
    ),
    Paste(
        "a client of another version",
        "gateway connect failed: Error: invalid connect params: data must NOT have additional properties\n",
        ("protocol.invalid_frame", "protocol.version_mismatch"),
        "supported",
        None,
    ),
    Paste(
        "Caddy on the gateway's own host, twice on one connection",
        "".join(
            "May 27 06:52:"
            + second
            + ' host-a caddy[311]: {"level":"error","ts":17798899'
            + ts
            + ',"logger":"http.log.error","msg":"dial tcp 127.0.0.1:18789: connect: connection refused","request":{"remote_ip":"::1","remote_port":"42886","client_ip":"::1","proto":"HTTP/1.1","method":"GET","host":"gw.example.com","uri":"/ws","headers":{"Upgrade":["websocket"],"Connection":["Upgrade"]}},"duration":0.000358055,"status":502,"err_id":"5xfnmrx7c","err_trace":"reverseproxy.statusError (reverseproxy.go:1594)"}\n'
            for second, ts in (("36", "56.4404984"), ("41", "61.4403005"))
        ),
        ("unreachable.refused", *ANY_RESTART),
        "circumstantial",
        None,
        2,
    ),
    Paste(
        "a journal in which systemd tells of the OOM killer",
        "May 16 10:02:11 host-a node[812]: 2026-05-16T10:02:11.104+02:00 [ws] webchat connected conn="
        + CONN
        + " remote=127.0.0.1 client=openclaw-control-ui webchat v2026.5.4\n"
        "May 16 10:02:14 host-a systemd[938]: openclaw-gateway.service: A process of this unit has been killed by the OOM killer.\n"
        "May 16 10:02:14 host-a systemd[938]: openclaw-gateway.service: Main process exited, code=killed, status=9/KILL\n"
        "May 16 10:02:14 host-a systemd[938]: openclaw-gateway.service: Failed with result 'oom-kill'.\n"
        "May 16 10:02:19 host-a systemd[938]: openclaw-gateway.service: Scheduled restart job, restart counter is at 1.\n",
        ("restart.oom",),
        "decisive",
    ),
    Paste(
        "a journal in which systemd stops it, which an update may have asked for",
        "Feb 21 20:07:42 host-a systemd[1668]: Stopping openclaw-gateway.service - OpenClaw Gateway (v2026.2.19-2)...\n"
        "Feb 21 20:07:42 host-a node[4855]: 2026-02-21T10:07:42.632Z [gateway] received SIGTERM; shutting down\n"
        f"Feb 21 20:07:42 host-a node[4855]: 2026-02-21T10:07:42.902Z [ws] webchat disconnected code=1012 reason=service restart conn={CONN}\n"
        "Feb 21 20:07:42 host-a systemd[1668]: Stopped openclaw-gateway.service - OpenClaw Gateway (v2026.2.19-2).\n"
        "Feb 21 20:07:42 host-a systemd[1668]: Started openclaw-gateway.service - OpenClaw Gateway (v2026.2.19-2).\n",
        ("restart.manual",),
        "supported",
        1012,
    ),
    Paste(
        "a crash in a journal",
        "May 16 10:02:11 host-a node[812]: 2026-05-16T10:02:11.104+02:00 [ws] webchat connected conn="
        + CONN
        + " remote=127.0.0.1 client=openclaw-control-ui webchat v2026.5.4\n"
        "May 16 10:02:14 host-a node[812]: 2026-05-16T10:02:14.204+02:00 [openclaw] Unhandled promise rejection: TypeError: fetch failed\n"
        "May 16 10:02:14 host-a systemd[938]: openclaw-gateway.service: Main process exited, code=exited, status=1/FAILURE\n"
        "May 16 10:02:14 host-a systemd[938]: openclaw-gateway.service: Failed with result 'exit-code'.\n",
        ("restart.crash",),
        "decisive",
    ),
    Paste(
        "another unit's end",
        "May 16 10:02:11 host-a node[812]: 2026-05-16T10:02:11.104+02:00 [ws] webchat connected conn="
        + CONN
        + " remote=127.0.0.1 client=openclaw-control-ui webchat v2026.5.4\n"
        "May 16 10:02:14 host-a systemd[938]: openclaw-node.service: Main process exited, code=killed, status=9/KILL\n"
        f"May 16 10:02:14 host-a node[812]: 2026-05-16T10:02:14.704+02:00 [ws] webchat disconnected code=1001 reason=n/a conn={CONN}\n",
        ("client.normal",),
        "supported",
        1001,
    ),
    Paste(
        "the reason with its connection, and the close with that blacked out",
        f"2026-02-03T01:42:13.791Z [ws] unauthorized conn={CONN} remote=192.0.2.7 client=openclaw-control-ui webchat vdev reason=token_mismatch\n"
        "2026-02-03T01:42:13.799Z [ws] closed before connect conn=<id> remote=192.0.2.7 fwd=n/a origin=n/a host=gw.example.com ua=n/a code=1008 reason=unauthorized: gateway token mismatch\n",
        ("auth.token_mismatch", "unknown.unknown"),
        "supported",
        1008,
    ),
    Paste(
        "the reason with its connection, and only the tail of the close",
        f"2026-02-03T01:42:13.791Z [ws] handshake timeout conn={CONN} remote=192.0.2.7\n"
        "2026-02-03T01:42:13.799Z [ws] closed before connect cause=handshake-timeout durationMs=15001 code=1000\n",
        ("timeout.handshake",),
        "decisive",
        1000,
    ),
]


@pytest.mark.parametrize("name", ["report.text", "report.md"])
def test_a_text_may_be_a_paste(name, tmp_path):
    (tmp_path / name).write_text("When I run it:\n\n> gateway closed (1008): pairing required\n\nAny idea?\n")
    assert occorr.analyze([tmp_path / name]).closes.get_column("cause").cast(pl.String).to_list() == [
        "auth.pairing_required"
    ]


@pytest.mark.parametrize("paste", PASTES, ids=lambda p: p.name)
def test_paste(paste, tmp_path):
    (tmp_path / "paste.txt").write_bytes(paste.text.encode())
    if not paste.closes:
        with pytest.raises(NothingParsableError):
            occorr.analyze([tmp_path / "paste.txt"])
        return
    result = occorr.analyze([tmp_path / "paste.txt"])
    closes = result.closes
    assert closes.height == paste.closes, closes.select(
        "websocket_close_code", "websocket_close_reason", "cause"
    ).rows()
    for row in closes.to_dicts():
        assert row["cause"] in paste.causes
        assert schema.VERDICTS.index(row["verdict"]) >= schema.VERDICTS.index(paste.most)
        if row["verdict"] != "decisive":
            assert row["missing"]
    if paste.code is not None:
        assert paste.code in closes.get_column("websocket_close_code").to_list()
    if paste.at is not None:
        last = closes.get_column("timestamp").max()
        assert last.isoformat(timespec="milliseconds").startswith(paste.at)


def test_where_no_close_is_told_the_end_of_a_process_is(tmp_path):
    """A start that failed and a kill for memory are what such a paste is about."""
    paste = tmp_path / "paste.txt"
    paste.write_text(
        "it does not come up:\nGateway failed to start: another gateway instance is already listening on ws://127.0.0.1:18789\n"
        "[Sat Nov 21 05:43:45 2026] Memory cgroup out of memory: Killed process 812 (node) total-vm:11000000kB, anon-rss:900000kB\n",
        encoding="utf-8",
    )
    told = CliRunner().invoke(app, ["analyze", str(paste)])
    assert told.exit_code == 0
    assert "No WebSocket close was found" in told.output
    assert "paste.txt:2  Gateway failed to start: another gateway instance" in told.output
    assert "paste.txt:3  Memory cgroup out of memory: Killed process 812" in told.output


def test_each_state_that_a_paste_lists_cites_its_own_line(tmp_path):
    (tmp_path / "paste.txt").write_text(next(p.text for p in PASTES if p.name == "three states of one dashboard"))
    told = occorr.analyze([tmp_path / "paste.txt"])
    cited = (
        told.evidence.filter(pl.col("role") == "supports").join(told.closes, on="close_id").select("cause", "log_line")
    )
    assert {str(cause): line for cause, line in cited.rows()} == {"auth.token_missing": 1, "auth.pairing_required": 4, "auth.token_mismatch": 6}  # fmt: skip


@pytest.mark.parametrize("steps", [(0, 1.2), (0, 2.0, 4.0, 6.0)])
def test_runs_of_commands_in_the_file_log_are_a_close_each(tmp_path, steps):
    """Two runs that are refused for different reasons a second apart; several of one reason two seconds apart."""
    reasons = ["gateway closed (1008): pairing required", "gateway closed (1008): unauthorized: gateway token mismatch (set gateway.remote.token)"]  # fmt: skip
    lines = []
    for number, step in enumerate(steps):
        said = f"Error: {reasons[number if len(steps) == 2 else 0]}"
        at = f"2026-11-21T06:01:{step:06.3f}Z"
        lines.append(json.dumps({"0": said, "_meta": {"runtime": "node", "name": "openclaw", "date": at, "logLevelId": 5, "logLevelName": "ERROR", "path": {"method": "console.error"}}, "time": at.replace("Z", "+00:00"), "message": said}, separators=(",", ":")))  # fmt: skip
    (tmp_path / "openclaw-2026-11-21.log").write_text("\n".join(lines) + "\n")
    closes = occorr.analyze([tmp_path]).closes.sort("timestamp")
    wanted = ["auth.pairing_required", "auth.token_mismatch"] if len(steps) == 2 else ["auth.pairing_required"] * 4
    assert closes.get_column("cause").cast(pl.String).to_list() == wanted


def test_what_stands_below_the_last_stamp_has_no_time(tmp_path):
    """A command's words may have been pasted hours after the gateway's line above them."""
    (tmp_path / "paste.txt").write_text(
        "2026-02-21T06:00:00.100Z [gateway] ready\n\ngateway connect failed: Error: pairing required\n"
    )
    row = occorr.analyze([tmp_path / "paste.txt"]).closes.row(0, named=True)
    assert (row["cause"], row["timestamp"]) == ("auth.pairing_required", None)


def test_a_plugins_own_socket_is_none_of_the_gateways(tmp_path):
    (tmp_path / "paste.txt").write_text("[slack] WebSocket closed (code=1006)\n[slack] websocket: close 1006 (abnormal closure): unexpected EOF\n[gateway] ready\n")  # fmt: skip
    assert occorr.analyze([tmp_path / "paste.txt"]).closes.is_empty()


def test_an_earlier_run_in_the_file_log_does_not_part_a_later_one(tmp_path):
    """Run 2 tells its code before its reason; run 1, ten seconds before, was refused for another."""
    said = [("00.000", "gateway closed (1008): pairing required"), ("10.000", "gateway closed (1008):"), ("10.050", "gateway connect failed: unauthorized: gateway token mismatch (set gateway.remote.token)")]  # fmt: skip
    lines = [json.dumps({"0": text, "_meta": {"runtime": "node", "name": "openclaw", "date": f"2026-11-21T06:01:{at}Z", "path": {"method": "console.error"}}, "time": f"2026-11-21T06:01:{at}+00:00", "message": text}, separators=(",", ":")) for at, text in said]  # fmt: skip
    (tmp_path / "openclaw-2026-11-21.log").write_text("\n".join(lines) + "\n")
    rows = occorr.analyze([tmp_path]).closes.sort("timestamp")
    assert rows.select(pl.col("cause").cast(pl.String), "websocket_close_code").rows() == [("auth.pairing_required", 1008), ("auth.token_mismatch", 1008)]  # fmt: skip


def test_what_stands_between_two_lines_of_one_moment_is_of_that_moment(tmp_path):
    stamp = "2026-02-21T06:00:05.000Z [gateway] ready\n"
    (tmp_path / "paste.txt").write_text(stamp + "gateway connect failed: Error: pairing required\n" + stamp)
    at = occorr.analyze([tmp_path / "paste.txt"]).closes.item(0, "timestamp")
    assert at.isoformat().startswith("2026-02-21T06:00:05")
