"""Tables of an invented incident: an OOM restart, a burst of wrong tokens, a text that attacks, and ordinary closes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from occorr import schema
from occorr.analysis import Analysis

T0 = datetime(2026, 11, 21, 5, 46, 0, tzinfo=UTC)
DIR = "/srv/home/someone/bundle/"
HOSTILE = (
    "</script><script>document.title='fired'</script>",
    "<img src=x onerror=\"document.title='fired'\">",
    "\x1b[31mred\x1b]0;owned\x07",
    "{{ 7*7 }} {% raw %} ${7*7} <%= 1 %>",
    "\u202ethgil\u202c \u2066x\u2069 \u200b",
    "'\"><svg onload=document.title='fired'> <!-- ]]> `a`|b| [l](javascript:document.title='fired')",
    "a\nb\r\nc\u2028d\x00e",
)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def made(ordinary: int = 40, lines: int = 200, final: bool = True, hostile: bool = True) -> Analysis:
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in schema.TABLES}
    seen: dict[str, int] = {}

    def event(kind: str, file: str, t: float, text: str, **more: object) -> str:
        seen[file] = seen.get(file, 0) + 1
        name = f"{file}-{seen[file]}"
        rows["timeline"].append(
            {"timestamp": at(t), "event_id": name, "source_kind": kind, "log_file_path": DIR + file, "log_line": seen[file],
             "body": text, "log_record_original": text, "compose_project": "claw", "severity_number": 9, "attributes": []} | more
        )  # fmt: skip
        return name

    def close(
        name: str,
        t: float,
        cause: str,
        p: float,
        verdict: str,
        cites: list[tuple[str, float, str, str]],
        **more: object,
    ) -> None:
        error = timedelta(milliseconds=2)
        rows["closes"].append(
            {"close_id": name, "timestamp": at(t), "time_earliest": at(t) - error, "time_latest": at(t) + error, "via": "proxy",
             "client_address": "192.0.2.7", "client_port": 40000 + len(rows["closes"]), "service_name": "gateway", "compose_project": "claw",
             "established": True, "count": 1, "family": cause.split(".")[0], "cause": cause, "probability": p, "verdict": verdict,
             "layer": "L1", "observers": ["server"], "missing": []} | more
        )  # fmt: skip
        by_id = {e["event_id"]: e for e in rows["timeline"][-400:]}
        for event_id, delta, rule, strength in cites:
            e = by_id[event_id]
            rows["evidence"].append(
                {"close_id": name, "event_id": event_id, "rule": rule, "cause": cause, "role": "supports", "strength": strength,
                 "delta_ns": int(delta * 1e9), "error_ns": 1_000_000, "log_file_path": e["log_file_path"], "log_line": e["log_line"], "quote": e["body"]}
            )  # fmt: skip

    box = {
        "container_id": "a" * 64,
        "container_name": "claw_gateway_1",
        "compose_service": "gateway",
        "container_image_name": "openclaw/gateway:2026.9.6",
    }
    event("docker", "docker.events.jsonl", -80, "container start gateway", container_action="start", **box)
    event(
        "docker",
        "docker.events.jsonl",
        -80,
        "container start nginx",
        container_action="start",
        container_id="b" * 64,
        container_name="claw_nginx_1",
        compose_service="nginx",
    )
    event("gateway", "gateway.docker.log", -50, "ready (42 ms)", event_name="gateway.ready")
    oom = event(
        "docker",
        "docker.events.jsonl",
        12.318,
        "container oom claw_gateway_1 image=openclaw/gateway",
        container_action="oom",
        **box,
    )
    die = event(
        "docker",
        "docker.events.jsonl",
        12.4,
        "container die claw_gateway_1 exitCode=137",
        container_action="die",
        container_exit_code=137,
        **box,
    )
    event("docker", "docker.events.jsonl", 13.2, "container start claw_gateway_1", container_action="start", **box)
    for i in range(9):
        line = event(
            "cli",
            "cli/01.out",
            12.41 + i / 40,
            "gateway closed (1006 abnormal closure (no close frame))",
            event_name="cli.failure",
            severity_number=17,
        )
        close(f"oom-{i}", 12.41 + i / 40, "restart.oom", 0.97, "decisive",
              [(oom, -0.09 - i / 40, "engine_oom_then_die", "decisive"), (die, -0.01, "gateway_died", "supporting"), (line, 0, "client_saw_1006", "circumstantial")],
              websocket_close_code=1006, code_observer="client", code_client=1006, opened=at(-20 + i), duration_ns=int(32e9), incident_id="i-oom",
              runner_up="restart.crash", runner_up_probability=0.02)  # fmt: skip
    for i in range(11):
        line = event(
            "proxy", "proxy.access.log", 14 + i * 2.4, '192.0.2.7 "GET /ws HTTP/1.1" 502 0', severity_number=13
        )
        close(f"refused-{i}", 14 + i * 2.4, "restart.oom", 0.94, "supported", [(die, -1.6 - i * 2.4, "gateway_died", "supporting"), (line, 0, "bad_gateway_run", "supporting")],
              http_status_proxy=502, established=False, incident_id="i-oom",
              time_earliest=at(13.5 + i * 2.4), time_latest=at(14.5 + i * 2.4))  # fmt: skip
    event("gateway", "gateway.docker.log", 43.4, "ready (38 ms)", event_name="gateway.ready")
    for i in range(14):
        line = event(
            "gateway",
            "gateway.file.log",
            70 + i * 0.7,
            "unauthorized conn=x reason=token_mismatch",
            event_name="auth.unauthorized",
            severity_number=13,
        )
        close(f"auth-{i}", 70 + i * 0.7, "auth.token_mismatch", 0.99, "decisive", [(line, -0.003, "gateway_says_unauthorized", "decisive")],
              websocket_close_code=1008, code_observer="server", code_gateway=1008, websocket_close_reason="unauthorized: gateway token mismatch", established=False, incident_id="i-auth", layer="L2")  # fmt: skip
    for i, text in enumerate(HOSTILE if hostile else ()):
        line = event("gateway", f"<b>{i}</b>.log", 90 + i, text, severity_number=17, event_name="websocket.close")
        close(f"hostile-{i} {text}", 90 + i, "unknown.unknown", 0.4, "unknown", [(line, 0, "no_rule", "circumstantial")],
              websocket_close_reason=text, websocket_close_code=1006, service_name=text, conn_id=text, missing=["docker events", text], incident_id="i-un")  # fmt: skip
    for i in range(ordinary):
        t = -60 + i * 200 / max(1, ordinary)
        line = event(
            "gateway", "gateway.file.log", t, f"closed code=1000 reason=bye conn={i}", event_name="websocket.close"
        )
        close(f"plain-{i}", t, "client.normal", 0.98, "decisive", [(line, 0.001, "client_said_1000", "decisive")],
              websocket_close_code=1000, code_observer="server", duration_ns=int(3e9), opened=at(t - 3), layer="none", conn_id=f"conn-{i:06d}")  # fmt: skip
    close(
        "timeless",
        0,
        "unknown.unknown",
        0.3,
        "unknown",
        [],
        timestamp=None,
        time_earliest=None,
        time_latest=at(50),
        missing=["no docker events cover 05:46"],
    )
    for i in range(lines):
        event(
            "gateway",
            "gateway.file.log",
            -60 + i * 200 / max(1, lines),
            f"info line {i} with some words that every log has, request {i * 7919 % 10007}",
        )
    for name, cause, p, start, end, n in (
        ("i-oom", "restart.oom", 0.96, 12.318, 40, 20),
        ("i-auth", "auth.token_mismatch", 0.99, 70, 79.1, 14),
        ("i-un", "unknown.unknown", 0.4, 90, 96, 7),
    ):
        if n == 7 and not hostile:
            continue
        rows["incidents"].append(
            {"incident_id": name, "start": at(start), "end": at(end), "family": cause.split(".")[0], "cause": cause, "probability": p, "closes": n,
             "services": ["gateway"], "projects": ["claw"], "title": HOSTILE[0] if n == 7 else "A sentence."}
        )  # fmt: skip
    rows["clocks"] = [
        {
            "clock_id": DIR + "docker.events.jsonl",
            "status": "reference",
            "offset_ns": 0,
            "error_ns": 0,
            "zone": "UTC",
            "method": "is the reference",
        },
        {
            "clock_id": DIR + "proxy.access.log",
            "status": "aligned",
            "offset_ns": 2_350_000_000,
            "error_ns": 500_000_000,
            "zone": "Asia/Kolkata",
            "drift_ppm": float("nan"),
        },
    ]
    rows["sources"] = [
        {
            "path": DIR + file,
            "part": "",
            "format": "openclaw/file",
            "lines_read": n,
            "lines_kept": n,
            "lines_skipped": 0,
            "lines_unparsed": 0,
            "status": "ok",
            "message": "",
        }
        for file, n in sorted(seen.items())
    ]
    rows["facts"] = [
        {
            "subject": "gateway",
            "key": "token",
            "value": "fp:01234567",
            "log_file_path": DIR + "compose.yml",
            "log_line": 4,
        }
    ]
    tables = {}
    for name, columns in schema.TABLES.items():
        own: dict[str, list[object]] = {c: [row.get(c) for row in rows[name]] for c in columns}
        types = schema.working(columns)
        frame = pl.DataFrame({c: pl.Series(c, v, dtype=types[c], strict=False) for c, v in own.items()})
        tables[name] = schema.conform(frame, columns, final=final)
    return Analysis(**tables)
