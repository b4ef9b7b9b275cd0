"""Collects an incident as somebody would find it, writes its truth beside it, and takes away what was not kept."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import evidence, install
from .labels import label
from .proxies import HTPASSWD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .incident import Run

NAMES = {  # what a source is called in a bundle
    "gateway": "gateway.docker.log", "stdout": "gateway.stdout.log", "stderr": "gateway.stderr.log", "json": "gateway-json.log", "file": "gateway.file.log", "access": "proxy.access.log", "error": "proxy.error.log", "events": "docker.events.jsonl",
    "inspect": "docker.inspect.json", "compose": "compose.yml",
}  # fmt: skip
KINDS = {"second": "gateway", "stdout": "gateway", "stderr": "gateway", "json": "gateway", "file": "gateway"}


def gather(run: Run, names: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Everything that could be found: file name → (source, text)."""
    place, s, folder = run.stage, run.setting, run.stage.folder
    name = s.container(s.gateway)
    logs = lambda *options: subprocess.run(
        ["docker", "logs", *options, name],
        env=place.engine.environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    both = subprocess.run(
        f"docker logs -t {name} 2>&1",
        shell=True,
        env=place.engine.environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    ).stdout
    split = logs()
    out = {
        names["gateway"]: ("gateway", both), names["stdout"]: ("stdout", split.stdout), names["stderr"]: ("stderr", split.stderr), names["json"]: ("json", place.json_log()),
        names["file"]: ("file", "".join(p.read_text(errors="replace") for p in sorted((folder / "gateway-logs").glob("*.log")))), names["events"]: ("events", (folder / "events.jsonl").read_text()),
        names["compose"]: ("compose", place.compose()),
        names["inspect"]: ("inspect", place.docker("inspect", name, *([s.container(s.front)] if s.proxy else []), s.container(s.bystander)) + "\n"),
    }  # fmt: skip
    if place.proxy:
        console = subprocess.run(
            ["docker", "logs", s.container(s.front)],
            env=place.engine.environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        access, error = folder / "logs/access.log", folder / "logs/error.log"
        out[names["access"]] = (
            "access",
            console.stdout if place.proxy.stdout else access.read_text(errors="replace") if access.is_file() else "",
        )
        out[names["error"]] = (
            "error",
            error.read_text(errors="replace")
            if place.proxy.own_error_log and error.is_file()
            else console.stderr
            if place.proxy.stdout
            else console.stderr + console.stdout,
        )
        out[place.proxy.config] = ("config", (folder / "conf" / place.proxy.config).read_text())
    out |= {name: ("second", text) for name, text in place.other_logs.items()}
    for path in sorted((folder / "cli").iterdir()):
        out[f"cli/{path.name}"] = ("cli", path.read_text(errors="replace"))
    return out


def clean(text: str, run: Run) -> str:
    """Without this machine's paths and without secrets."""
    place = run.stage
    for path, shown in (
        (str(place.folder), f"/srv/{run.setting.project}"),
        (str(place.programs.node.resolve()), "/opt/node24/bin"),
        (str(install.CACHE), "/srv/openclaw"),
        (str(install.CACHE.resolve()), "/srv/openclaw"),
        (str(place.engine.root), "/var/lib/docker"),
    ):
        text = text.replace(path, shown)
    for secret in {run.setting.token, run.world.token}:
        text = text.replace(secret, "TOKEN-REMOVED")
    return text.replace("NODE_OPTIONS='--require /run/lab/hook.cjs'", "").replace(HTPASSWD, "ops:REMOVED")


def offsets(fake: str | None) -> tuple[float, float]:
    """Offset in ms and drift in ppm of a FAKETIME setting."""
    m = re.match(r"([-+][\d.]+)s?(?: x([\d.]+))?", fake or "")
    return (float(m[1]) * 1000, round((float(m[2]) - 1) * 1e6, 3) if m[2] else 0.0) if m else (0.0, 0.0)


def measured(both: str) -> float | None:
    """The gateway's own stamp minus the engine's of the same line, median, ms."""
    pairs = [
        (datetime.fromisoformat(m[1][:26].rstrip("Z").ljust(26, "0") + "+00:00"), datetime.fromisoformat(m[2]))
        for m in re.finditer(r"^(\S+?Z) (\d{4}-\d\d-\d\dT\S+?[+-]\d\d:\d\d) ", both, re.MULTILINE)
    ]
    return round(statistics.median((b - a).total_seconds() * 1000 for a, b in pairs), 1) if pairs else None


def clocks(run: Run, both: str) -> dict[str, Any]:
    """The truth about every clock."""
    s, place = run.setting, run.stage
    (go, gd), (po, pd) = offsets(s.clocks.get("gateway")), offsets(s.clocks.get("proxy"))
    zone, front = s.zones.get("gateway", "UTC"), s.zones.get("proxy", "UTC")

    def clock(offset: float, drift: float, tz: str, resolution: float, **more: Any) -> dict[str, Any]:
        return {"offset_ms": offset, "drift_ppm": drift, "tz": tz, "resolution_ms": resolution, **more}

    out = {
        "convention": "offset = source clock minus host clock at the start of that process; drift accumulates from there; tz = zone of the printed local time", "host": clock(0, 0, "UTC", 1e-6), "docker.events.jsonl": clock(0, 0, "UTC", 1e-6),
        "gateway.docker.log#docker-prefix": clock(0, 0, "UTC", 1e-6), "gateway-json.log#time": clock(0, 0, "UTC", 1e-6), "gateway.*#own-timestamp": clock(go, gd, zone, 1, measured_offset_ms=measured(both)), "gateway.file.log": clock(go, gd, zone, 1),
        "cli/*.meta.json": clock(0, 0, "UTC", 1), "faketime": {"gateway": s.clocks.get("gateway"), "proxy": s.clocks.get("proxy")},
    }  # fmt: skip
    if place.proxy:
        out["proxy.access.log"] = clock(po, pd, "UTC" if s.proxy == "traefik" else front, place.proxy.formats[s.format])
        out["proxy.error.log"] = clock(po, pd, front, 1000)
    return out


def write(run: Run, bundles: Path, truth: Path) -> dict[str, Any]:
    """Write the bundle and its truth, whole or not at all; a summary."""
    plan, s, place, keep = run.plan, run.setting, run.stage, run.plan.keep
    names = {**NAMES, **keep.get("names", {})}
    everything = {name: (source, clean(text, run)) for name, (source, text) in gather(run, names).items()}
    whole_engine_log = place.engine_log + evidence.engine_lines(place.json_log())
    for record in run.records:
        record.via = "proxy" if record.via == "proxy" else "direct"
    lost = set(keep.get("missing", ()))
    late_events = keep.get("events_from_s")
    kept: dict[str, tuple[str, str]] = {}
    for name, (source, text) in everything.items():
        if source in lost or not text.strip():
            continue
        if source == "events" and late_events:  # collected after the fact: the engine had forgotten the rest
            first = (run.begin + 1000 * late_events) * 10**6
            text = "".join(line + "\n" for line in text.splitlines() if json.loads(line).get("timeNano", 0) >= first)
        kept[name] = (source, text)
    sources = evidence.Sources(
        {n: KINDS.get(k, k) for n, (k, _) in kept.items()}, {n: t.replace("\\u003e", ">").replace("\\u001b", "") for n, (_, t) in kept.items()}, whole_engine_log, offsets(s.clocks.get("proxy"))[0], "UTC" if s.proxy == "traefik" else s.zones.get("proxy", "UTC"),
        starts=s.proxy in ("traefik", "apache", "haproxy", "envoy") and s.format != "json",
    )  # fmt: skip
    records = sorted(run.records, key=lambda r: r.t_close_ms)
    evidence.find_conns(records, sources)
    rows, dropped = [], []
    for record in records:
        got = label(record, run.faults, s)
        if got.cause and record.t_close_ms > run.end + 2000:
            got = type(got)(None, why="after the end")
        plain = record.plain()
        if got.cause is None:
            dropped.append({**plain, "drop_reason": got.why})
            continue
        seen, visible, decisive = evidence.judge(record, got.cause, sources, s)
        # a client that left while the other side was being killed: a line that says it left settles who was first
        settled = bool(decisive) and got.cause.startswith("client.")
        row = {
            k: plain[k]
            for k in (
                "close_id",
                "client",
                "via",
                "conn_id",
                "client_local_port",
                "t_open_ms",
                "t_close_ms",
                "code",
                "reason",
            )
        }
        row |= {
            "cause": got.cause,
            "family": got.cause.split(".")[0],
            "accept": [] if settled else [c for c in got.accept if c != got.cause],
            "fault_id": got.fault_id,
            **{
                k: plain[k] for k in ("http_status", "how", "ended_by", "established", "mode", "src_ip", "path", "kind")
            },
        }
        if record.t_close_window_ms:
            row["t_close_window_ms"] = record.t_close_window_ms
        row |= {
            "decisive_evidence_in": decisive,
            "knowable": bool(decisive),
            "visible_in": visible,
            "gateway_conn": sources.conns.get(record.close_id),
            "seen_by": seen,
            "observable": bool(seen),
        }
        rows.append(row)
    for fault in run.faults:
        fault.t_end_ms = fault.t_end_ms or run.end
        fault.closes = sum(r["fault_id"] == fault.fault_id for r in rows)
    both = everything[names["gateway"]][1]
    meta = {
        "id": plan.name, "seed": plan.seed, "story": plan.story, "gateway": s.version, "proxy": place.proxy.image if place.proxy else None, "proxy_format": s.format if place.proxy else None, "verbose": s.verbose, "console": s.console or "default",
        "skewed": bool(s.clocks), "missing": sorted(lost), "events_from_s": late_events, "faults": [f.cause for f in run.faults], "closes": len(rows), "observable": sum(r["observable"] for r in rows), "knowable": sum(r["knowable"] for r in rows),
        "causes": dict(sorted(Counter(r["cause"] for r in rows if r["observable"]).items())), "dropped": len(dropped), "problems": run.errors + [f"{f.fault_id} {f.cause} closed nothing" for f in run.faults if not f.closes and f.reach != "none"],
    }  # fmt: skip
    part = bundles / f".{plan.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    for name, (_, text) in kept.items():
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).write_text(text)
    truth.mkdir(parents=True, exist_ok=True)
    lines = lambda rows: "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    for suffix, text in (
        ("dropped.jsonl", lines(dropped)),
        (
            "faults.jsonl",
            lines(
                [
                    {
                        k: getattr(f, k)
                        for k in ("fault_id", "cause", "reach", "t_start_ms", "t_end_ms", "command", "also", "closes")
                    }
                    for f in run.faults
                ]
            ),
        ),
        ("clocks.json", json.dumps(clocks(run, both), indent=1)),
        ("meta.json", json.dumps(meta, indent=1)),
        ("jsonl", lines(rows)),
    ):
        fresh = truth / f".{plan.name}.{suffix}"
        fresh.write_text(text)
        fresh.rename(truth / f"{plan.name}.{suffix}")
    shutil.rmtree(bundles / plan.name, ignore_errors=True)
    part.rename(bundles / plan.name)
    return meta
