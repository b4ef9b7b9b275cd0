"""What a bundle shows of each close: which kinds of source hold a line of it, and which files hold a line that states its cause."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .clients import Record
    from .stage import Setting

ENDS = re.compile(
    r"closed before connect|disconnected|unauthorized|handshake timeout|protocol mismatch|invalid handshake|\berror\b|→ close|outbound|parse|rejected"
)
# a request to pair has an id of the same form
CONN = re.compile(r"\bconn\w*\W{1,4}([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b")
# a gateway's 1006 says that no close frame came, and not who went: what states an abort is the proxy's word
PER_CLOSE = {
    "auth.token_mismatch": r"token.mismatch", "auth.token_missing": r"token.missing", "auth.pairing_required": r"pairing.required|NOT_PAIRED", "auth.origin": r"origin.mismatch|origin not allowed", "auth.rate_limited": r"rate.limited|too many failed",
    "auth.device_identity": r"device.identity|control-ui-insecure-auth|device-required|device_identity|device-auth", "protocol.version_mismatch": r"protocol.mismatch", "protocol.invalid_frame": r"[Ii]nvalid|parse|WS_ERR|phase=ws_upgrade_started",
    "protocol.payload_too_large": r"Max payload|payload", "timeout.handshake": r"handshake.timeout", "timeout.heartbeat": r"heartbeat.timeout|code=4000|tick timeout", "restart.startup": r"1013|gateway starting", "overload.slow_consumer": r"slow consumer|outbound.buffer|code=1008",
    "auth.rotated": r"auth.rotated|auth changed|code=4001", "client.normal": r"code=100[015]|code\D+100[015]",
}  # fmt: skip
# cause → kind of source → what states it, anywhere in that source
ANYWHERE = {
    "restart.manual": {"gateway": r"SIGTERM", "events": r'"(?:Action|status)":"(?:kill|die|restart)"'}, "restart.in_process": {"gateway": r"SIGUSR[12]|in-process restart"},
    "restart.crash": {"gateway": r"TypeError|fatal: state store|heap limit|Aborted|[Uu]ncaught|FATAL|Native stack trace|unhandled rejection|Unhandled promise", "events": r'"exitCode":"(?:1|134|139|6|7)"'},
    "restart.oom": {"events": r'"(?:Action|status)":"oom"', "inspect": r'"OOMKilled": true'}, "restart.killed": {"events": r'"exitCode":"137"|"signal":"9"'}, "restart.deploy": {"events": r'"(?:Action|status)":"(?:destroy|rename)"'},
    "restart.unhealthy": {"events": r"health_status: unhealthy"}, "restart.conflict": {"gateway": r"Contention|already (?:running|listening)|EADDRINUSE|lock timeout|another OpenClaw|owner lease|Another Gateway", "events": r'"exitCode":"78"'},
    "restart.proxy": {"events": r'(?:kill|die|restart|exec_create)[^\n]*"com.docker.compose.service":"FRONT"', "error": r"signal process started|gracefully shutting|exiting|Loading success|Stopping|admin|reload|New worker|Former worker|caught SIG"},
    "timeout.upstream": {"error": r"timed out|i/o timeout|Gateway Timeout|timeout awaiting|context deadline|AH01102", "access": r"\b504\b|\"status\":504|sC--|sH--"}, "timeout.proxy_idle": {"error": r"timed out.*upgraded|\(70007\)", "access": r" sD--| cD--|101 \d+ - - [cs]D|\b101 SI\b|\"response_flags\":\s*\"SI\""},
    "auth.proxy_denied": {"access": r"\b40[13]\b|PR--", "error": r"access forbidden|no user/password|AH01630|AH01617"}, "unreachable.refused": {"error": r"refused|111", "access": r"SC--|\b50[23]\b"},
    "unreachable.loopback": {"error": r"127\.0\.0\.1:18789", "access": r"127\.0\.0\.1:18789", "config": r"127\.0\.0\.1:18789"}, "unreachable.dns": {"error": r"could not be resolved|no such host|dial tcp: lookup|DNS (?:lookup|NX)|could not resolve|AH00898", "config": "NAME"},
    "unreachable.socket": {"error": r"unix:|\.sock|No such file", "access": r"unix:|\.sock", "config": r"\.sock"}, "network.partition": {"events": r'"disconnect"', "error": r"timed out|No route|i/o timeout"},
    "network.reset": {"error": r"reset by peer|\(104|reset_by|ECONNRESET", "access": r" [SC]D--"}, "protocol.upgrade_missing": {"access": r"\b426\b|\b400\b|\b505\b|\"status\":(?:426|400)|\"Upgrade\":\[\"websocket\"\][^\n]*\"status\":200\b|\"status\":200\b[^\n]*\"upgrade\":\"websocket\""},
    "auth.untrusted_proxy": {"gateway": r"unattributable proxy|proxy-shaped"}, "client.abort": {"access": r" CD--"},
}  # fmt: skip
CLI = {
    "auth.token_mismatch": "token mismatch", "auth.rate_limited": "too many failed", "auth.pairing_required": "pairing required", "auth.proxy_denied": "40[13]", "timeout.client": "timeout after|timed out", "unreachable.refused": "ECONNREFUSED|502|1006",
    "client.normal": '"ok": true|ok', "unreachable.dns": "ENOTFOUND|EAI_AGAIN",
}  # fmt: skip
STAMPS = (
    (re.compile(r"\[(\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [-+]\d{4})\]"), "%d/%b/%Y:%H:%M:%S %z"),
    (re.compile(r"\[(\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d\.\d{3})\]"), "%d/%b/%Y:%H:%M:%S.%f"),
    (re.compile(r"\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)\]"), "%Y-%m-%dT%H:%M:%S.%f%z"),
)


@dataclass(slots=True)
class Sources:
    """What was collected: file name → kind (gateway, access, error, events, inspect, config, cli, compose) and text; and what only the lab knows."""

    kinds: Mapping[str, str]
    texts: Mapping[str, str]
    engine_log: Sequence[tuple[float, str]] = ()  # (epoch ms by the engine, line) of every gateway container, complete
    proxy_offset_ms: float = 0  # the proxy's clock minus the host's
    proxy_zone: str = "UTC"
    starts: bool = False  # the access log stamps the start
    conns: dict[str, str] = field(default_factory=dict)  # close_id → conn id that the gateway gave

    def of(self, *kinds: str) -> list[str]:
        return [name for name, kind in self.kinds.items() if kind in kinds]


def engine_lines(text: str) -> list[tuple[float, str]]:
    """The engine's json-file as (epoch ms, line)."""
    out = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
            out.append(
                (
                    datetime.fromisoformat(row["time"][:26].rstrip("Z").ljust(26, "0") + "+00:00").timestamp() * 1000,
                    row["log"].rstrip("\n"),
                )
            )
        except (ValueError, KeyError):
            continue
    return out


def find_conns(records: Sequence[Record], sources: Sources) -> None:
    """The connection id that the gateway gave to attempts whose client never learnt it: by address, port and time."""
    named = [(at, line, m[1]) for at, line in sources.engine_log if (m := CONN.search(line)) and ENDS.search(line)]
    taken = {r.conn_id for r in records if r.conn_id}
    # who waited long may be answered late: those that were answered at once choose first
    for record in sorted(records, key=lambda r: r.http_status == 504 or r.how == "no_answer"):
        if record.conn_id:
            sources.conns[record.close_id] = record.conn_id
            continue
        if not record.src_ip or record.http_status and record.http_status not in (502, 503, 504):
            continue
        # a proxy that gave up may have left the gateway with an upgrade that it only answers, and logs, when it gets to it
        patience = 15000 if record.http_status == 504 or record.how == "no_answer" else 2500
        best = None
        for at, line, conn in named:
            by_port = record.client_local_port and f":{record.client_local_port}->" in line
            by_address = (
                f"fwd={record.src_ip} " in line
                or f"remote={record.src_ip} " in line
                or f'"forwardedFor":"{record.src_ip}"' in line
                or f'"remoteAddr":"{record.src_ip}"' in line
            )
            late = at - record.t_close_ms
            if (
                conn not in taken
                and (by_port or by_address and "peer=" not in line or by_address and record.via == "proxy")
                and -500 < late < (25000 if by_port else patience)
                and (best is None or abs(late) < best[0])
            ):
                best = (abs(late), conn)
        if best:
            taken.add(best[1])
            sources.conns[record.close_id] = best[1]


def gateway_lines(record: Record, sources: Sources, name: str) -> list[str]:
    """Lines of one file that tell of this close."""
    conn = sources.conns.get(record.close_id)
    if not conn:
        return []
    short = f"{conn[:8]}…{conn[-4:]}"
    lines = sources.texts[name].splitlines()
    own = [line for line in lines if conn in line or short in line]
    # a verbose console names the connection where it opens, and only its two ends where it closes
    ends = {m[1] for line in own if "← open" in line and (m := re.search(r"endpoint=(\S+)", line))}
    closing = [line for line in lines if "→ close" in line and any(f"endpoint={e}" in line for e in ends)]
    return [line for line in own if ENDS.search(line)] + [line for line in closing if line not in own]


def stamp_of(line: str, zone: str) -> float | None:
    """An access line's stamp, epoch ms."""
    for pattern, form in STAMPS:
        if m := pattern.search(line):
            at = datetime.strptime(m[1], form)
            return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))).timestamp() * 1000
    return None


def access_lines(record: Record, sources: Sources, name: str) -> list[str]:
    """Lines of an access log that may be this attempt's: by address and port, or by address and time."""
    found = []
    port = record.client_local_port
    exact = (
        re.compile(
            rf'{re.escape(record.src_ip or "-")}"?(?::|,"port":|","remote_port":"| ){port}\b|"ClientPort":"{port}"'
        )
        if port
        else None
    )
    for line in sources.texts[name].splitlines():
        if record.src_ip and record.src_ip in line or record.client.startswith("cli/"):
            if exact and exact.search(line):
                return [line]
            at = stamp_of(line, sources.proxy_zone)
            if at is not None and not re.search(
                rf'{re.escape(record.src_ip or "-")}:\d|"port":\d|ClientPort|msec', line
            ):
                want = (record.t_open_ms if sources.starts else record.t_close_ms) + sources.proxy_offset_ms
                low, high = record.t_close_window_ms or (want, want)
                if low - 1300 <= at <= high + 1300 and (
                    not record.http_status or re.search(rf"\b{record.http_status}\b", line)
                ):
                    found.append(line)
    return found


def cuts(text: str, container: str) -> str:
    """The engine's lines of a container that was taken off its network while it lived; each stop of any container is followed by one."""
    rows = [(line, json.loads(line)) for line in text.splitlines() if line.startswith("{")]
    own = {
        r["Actor"]["ID"]
        for _, r in rows
        if r["Type"] == "container" and r["Actor"]["Attributes"].get("name") == container
    }
    died = [r["timeNano"] for _, r in rows if r["Action"] == "die" and r["Actor"]["ID"] in own]
    return "\n".join(
        line
        for line, r in rows
        if r["Action"] == "disconnect"
        and r["Actor"]["Attributes"].get("container") in own
        and not any(0 <= r["timeNano"] - d < 5e9 for d in died)
    )


def judge(record: Record, cause: str, sources: Sources, setting: Setting) -> tuple[list[str], list[str], list[str]]:
    """Kinds of source that show the close; the files that show it; the files that state its cause."""
    seen, visible, decisive = set(), set(), set()
    for name in sources.of("gateway"):
        lines = gateway_lines(record, sources, name)
        if lines:
            seen.add("gateway")
            visible.add(name)
            pattern = PER_CLOSE.get(cause)
            if (
                pattern
                and any(re.search(pattern, line) for line in lines)
                or cause.startswith("restart.")
                and any("1012" in line for line in lines)
            ):
                decisive.add(name)
    if record.via == "proxy":
        for name in sources.of("access"):
            if access_lines(record, sources, name):
                seen.add("proxy")
                visible.add(name)
    if sources.kinds.get(record.client) == "cli":
        seen.add("cli")
        visible.add(record.client)
        if cause in CLI and re.search(CLI[cause], sources.texts[record.client]):
            decisive.add(record.client)
    for kind, pattern in ANYWHERE.get(cause, {}).items():
        pattern = pattern.replace("FRONT", re.escape(setting.front)).replace(
            "NAME",
            re.escape({"gateway": "gatway", "openclaw": "openclaw-gw"}.get(setting.gateway, f"{setting.gateway}-1")),
        )
        for name in sources.of(kind):
            if (
                kind in ("access", "error", "config")
                and record.via != "proxy"
                or kind == "error"
                and setting.proxy == "envoy"
            ):
                continue  # Envoy's own log tells of no request
            text = "\n".join(access_lines(record, sources, name)) if kind == "access" else sources.texts[name]
            if cause == "network.partition" and kind == "events":
                text = cuts(text, setting.container(setting.gateway))
            if re.search(pattern, text):
                decisive.add(name)
    return sorted(seen), sorted(visible), sorted(decisive) if seen else []


def utc(ms: float) -> str:
    """A moment as people write it."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
