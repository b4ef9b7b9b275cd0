"""`python -m tests.lab.sample OUT ID NAME`: makes an incident of the lab a sample in sample_logs/, with a README to finish and expected.toml from its truth."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HEAD = "# What must come out, worked out from what was done and from what each client received. Times are the host's.\n"
PROXY_FORMATS = {
    "nginx": {"combined": "nginx_access/combined", "main": "nginx_access/main", "json": "nginx_access/json", "upstreaminfo": "nginx_access/upstreaminfo"}, "haproxy": {"httplog": "haproxy/httplog"}, "caddy": {"json": "caddy/json"},
    "httpd": {"combined": "apache/combined"}, "traefik": {"json": "traefik/json", "common": "traefik/clf"}, "envoyproxy/envoy": {"default": "envoy/default"},
}  # fmt: skip
OTHERS = {
    "docker.events.jsonl": "docker_events/json",
    "docker.inspect.json": "docker inspect",
    "compose.yml": "compose",
    "gateway.file.log": "openclaw/file",
}


def moment(ms: int) -> str:
    """Epoch ms as TOML writes it."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock_time(ms: int) -> str:
    return moment(ms)[11:-1]


def sources(files: list[str], meta: dict[str, Any]) -> dict[str, str]:
    """Formats that are sure from how the incident was made."""
    found = {f: OTHERS[f] for f in files if f in OTHERS}
    image = (meta["proxy"] or "").rpartition(":")[0]
    access = PROXY_FORMATS.get(image, {}).get(meta["proxy_format"])
    if "proxy.access.log" in files and access:
        found["proxy.access.log"] = access
    if meta["console"] == "default":
        found |= {
            f: "openclaw/console"
            for f in files
            if f in ("gateway.docker.log", "gateway-json.log", "gateway.stdout.log", "gateway.stderr.log")
        }
    return found | {f: "openclaw/cli" for f in files if f.startswith("cli/") and f.endswith((".out", ".json"))}


def least(row: dict[str, Any]) -> str:
    """How sure one may be at least: a configuration alone shows only what could be."""
    return (
        "supported"
        if any(not f.endswith((".conf", ".cfg", "file", ".yml", "envoy.json")) for f in row["decisive_evidence_in"])
        else "circumstantial"
    )


def expected(
    bundle: Path, rows: list[dict[str, Any]], faults: list[dict[str, Any]], meta: dict[str, Any], clocks: dict[str, Any]
) -> str:
    """expected.toml."""
    files = sorted(str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file())
    seen = [r for r in rows if r["observable"]]
    out = [HEAD, "[sources] # file → format", *(f'"{k}" = "{v}"' for k, v in sorted(sources(files, meta).items())), ""]
    out += [
        "[closes]",
        f"observable = {len(seen)} # some line shows them",
        f"happened = {len(rows) + meta['dropped']} # more rows than that would be invented",
        "",
        "[causes] # of the closes that these logs can settle: how many, and how sure one may be",
    ]
    causes = sorted({r["cause"] for r in seen if r["knowable"]})
    for cause in causes:
        mine = [r for r in seen if r["knowable"] and r["cause"] == cause]
        verdicts = ["decisive", "supported"] + (
            ["circumstantial"] if any(least(r) == "circumstantial" for r in mine) else []
        )
        out.append(f'"{cause}" = {{ count = {len(mine)}, verdicts = {json.dumps(verdicts)} }}')
    for fault in faults:
        mine = [r for r in seen if r["fault_id"] == fault["fault_id"] and r["cause"] == fault["cause"]]
        if mine and any(r["knowable"] for r in mine):
            out += [
                "",
                "[[incident]]",
                f'cause = "{fault["cause"]}"',
                f"from = {moment(fault['t_start_ms'])}",
                f"until = {moment(fault['t_end_ms'])}",
                "most = 2 # incidents",
                f"closes = {len(mine)} # in all of them",
                f"give = {max(2, len(mine) // 3)} # some may be counted elsewhere",
            ]
    gateway = clocks["gateway.*#own-timestamp"]
    out += ["", "[[clock]]", 'id = "gateway"', f"offset_ms = {gateway['offset_ms']}", "within_ms = 25"]
    for row in seen:
        out += ["", "[[close]]", f"at = {moment(row['t_close_ms'])}"]
        named = {
            "conn": row["conn_id"],
            "client": row["src_ip"],
            "port": row["client_local_port"],
            "via": row["via"],
            "code": None if row["http_status"] else row["code"],
            "status": row["http_status"],
            "cause": row["cause"],
        }
        out += [f"{k} = {json.dumps(v)}" for k, v in named.items() if v is not None]
        if row["client"].startswith("cli/"):
            out.append("cli = true")
        if row["accept"]:
            out.append(f"also = {json.dumps(row['accept'])}")
        out.append(f'least = "{least(row)}"' if row["knowable"] else 'most = "circumstantial"')
    return "\n".join(out) + "\n"


def readme(
    name: str, rows: list[dict[str, Any]], faults: list[dict[str, Any]], meta: dict[str, Any], bundle: Path
) -> str:
    """README.md: what was done; the sentences that need a person are left to be written."""
    table = "".join(
        f"| {clock_time(f['t_start_ms'])} | {clock_time(f['t_end_ms'])} | `{f['command']}` | {f['cause']} | {sum(r['fault_id'] == f['fault_id'] and r['observable'] for r in rows)} |\n" for f in faults
    )  # fmt: skip
    hidden = sum(not r["observable"] for r in rows)
    text = f"# {name}\n\nTO WRITE: the story in two sentences.\n\n## What was done\n\n| from | to | what | cause | closes of it that a line shows |\n|---|---|---|---|---|\n{table}\n"
    text += "Times are UTC on the host. All along, clients connected and left in ordinary ways.\n\n## The lines that decide\n\nTO WRITE: - `FILE:LINE`: why\n\n## What cannot be known\n\nTO WRITE\n\n"
    verbose = ", --verbose" if meta["verbose"] else ""
    return (
        text
        + f"{hidden} of the {len(rows)} closes and attempts left no line in any of these files.\n\nGateway {meta['gateway']}{verbose}, {meta['proxy']} ({meta['proxy_format']}).\n"
    )


def main() -> None:
    """Copy, label, and say what is left to write."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.sample", description=__doc__)
    parser.add_argument("out", type=Path, help="what the lab wrote: bundles/ and truth/")
    parser.add_argument("id")
    parser.add_argument("name", help="of the folder in sample_logs/")
    parser.add_argument(
        "--without", action="append", default=[], help="a file to leave out (its evidence must stand elsewhere)"
    )
    given = parser.parse_args()
    bundle, truth = given.out / "bundles" / given.id, given.out / "truth"
    read = lambda suffix: [json.loads(line) for line in (truth / f"{given.id}.{suffix}").read_text().splitlines()]
    rows, faults = read("jsonl"), read("faults.jsonl")
    meta, clocks = (json.loads((truth / f"{given.id}.{suffix}").read_text()) for suffix in ("meta.json", "clocks.json"))
    target = Path("sample_logs") / given.name
    shutil.copytree(bundle, target, ignore=shutil.ignore_patterns(*given.without))
    for row in rows:
        row["decisive_evidence_in"] = [f for f in row["decisive_evidence_in"] if f not in given.without]
        row["visible_in"] = [f for f in row["visible_in"] if f not in given.without]
        row["observable"] = bool(row["visible_in"])
        row["knowable"] = row["observable"] and bool(row["decisive_evidence_in"])
    (target / "expected.toml").write_text(expected(target, rows, faults, meta, clocks))
    (target / "README.md").write_text(readme(given.name, rows, faults, meta, target))
    size = sum(p.stat().st_size for p in target.rglob("*") if p.is_file())
    print(
        f"{target}: {size} bytes{', too many for a sample' if size >= 300_000 else ''}; finish {target}/README.md",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
