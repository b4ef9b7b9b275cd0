"""What ran and what was read, for the post-mortem: figures, health checks, ports, deploys, versions, clocks, sources, and the block to hand on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import figures, inventory, policy
from occorr.gates import Place
from occorr.report.tables import shown
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr.report.digest import Digest

_LINES: Final = 20  # of the gateway, in the hand-off
_TELLING: Final = (  # events whose lines tell a story
    r"^(?:gateway|auth|pairing|handshake|protocol|frame|process|state)\.|^proxy\.untrusted$"
)


def figure(f: figures.Figure, j: policy.Judgement | None) -> dict[str, Any]:
    """A figure with what the policy says of it."""
    return {
        "id": f.id,
        "title": f.title,
        "gateway": f.scope,
        "value": f.value,
        "unit": f.unit,
        "at_least": f.floor,
        "n": f.n,
        "note": f.note,
        "lines": f.lines,
        "limit": str(j.limit) if j else "",
        "status": j.status if j else ("" if f.value is not None else "no-data"),
    }


def health_checks(seen: figures.Seen) -> list[dict[str, Any]]:
    """Each health check with what is wrong with it."""
    limits = policy.default()
    rows = []
    for gate in seen.gates:
        for check in inventory.health(seen.facts, gate):
            wrong = [
                f"{name.replace('_', ' ')} {check.settings[name]:g} is below {low:g}"
                for name in ("start_period", "interval", "retries")
                if check.settings and (low := limits[f"health_{name}"].min) is not None and check.settings[name] < low
            ]
            judged = {
                "none": "there is none: nothing restarts a gateway that hangs",
                "disabled": "switched off",
                "not declared": "not declared here; the image may bring one",
            }.get(check.state) or (f"aggressive: {', '.join(wrong)}" if wrong else "sound")
            rows.append(
                {
                    "gateway": gate.label,
                    "subject": check.subject.partition(":")[0],
                    "settings": check.settings,
                    "defaults": sorted(set(check.settings) - check.stated),
                    "judged": judged,
                    "aggressive": bool(wrong),
                    "line": check.place,
                }
            )
    return rows


def ports(seen: figures.Seen) -> list[dict[str, Any]]:
    """Who owns which port, and who else claims the same address of the host."""
    found = inventory.ports(seen.facts)
    return [
        {
            "owner": p.owner,
            "port": p.port,
            "published": p.published,
            "also": sorted(
                {o.owner for o in found if o.published == p.published and o.owner != p.owner} if p.published else ()
            ),
            "line": p.place,
        }
        for p in found
    ]


def deploys(seen: figures.Seen) -> list[dict[str, Any]]:
    """The ledger: each container with its closes, ordinary ones left out."""
    found = inventory.deploys(seen.timeline, seen.facts)
    own = seen.closes.filter(pl.col("family").fill_null("unknown") != "client").drop_nulls("at")
    labels = {g.label for g in seen.gates}
    stamps = sorted(
        {
            v.version
            for g in seen.gates
            for v in inventory.versions(seen.timeline, seen.facts, g, only=seen.only)
            if v.side == "configuration"
        }
    )
    rows = []
    for deploy in found:
        next_start = next(
            (
                o.start
                for o in found
                if o.owner == deploy.owner
                and o.start is not None
                and deploy.start is not None
                and o.start > deploy.start
            ),
            None,
        )
        end = deploy.end if deploy.end is not None else next_start
        project, _, service = deploy.owner.rpartition("/")
        mine = own.filter(
            (pl.col("compose_project").fill_null(project) == project)
            & (pl.col("service_name").fill_null(service) == service)
        )
        if deploy.start is not None:
            mine = mine.filter(pl.col("at") >= deploy.start)
        if end is not None:
            mine = mine.filter(pl.col("at") < end)
        rows.append(
            {
                "owner": deploy.owner,
                "container": deploy.container_id[:12],
                "image": deploy.image,
                "digest": deploy.digest,
                "config_hash": deploy.config_hash,
                "start": deploy.start,
                "end": deploy.end,
                "closes": int(mine["weight"].sum()) if deploy.owner in labels or not labels else None,
                "configuration_stamp": ", ".join(stamps) if deploy.owner in labels else "",
                "line": deploy.place,
            }
        )
    return rows


def versions(seen: figures.Seen) -> list[dict[str, Any]]:
    """Each version that anything tells, by gateway."""
    return [
        {"gateway": g.label, "who": v.side, "version": v.version, "source": v.source, "n": v.n, "line": v.place}
        for g in seen.gates
        for v in inventory.versions(seen.timeline, seen.facts, g, only=seen.only)
    ]


def clock(row: Mapping[str, Any], d: Digest) -> dict[str, Any]:
    """A clock with its offset and bound in seconds."""
    return {
        "clock": d.files.get(row["clock_id"], shown(row["clock_id"])),
        "zone": row["zone"],
        "zone_origin": row["zone_origin"],
        "offset_s": None if row["offset_ns"] is None else row["offset_ns"] / SECOND,
        "error_s": None if row["error_ns"] is None else row["error_ns"] / SECOND,
        "anchors": row["anchors"],
        "method": row["method"],
        "status": row["status"],
    }


def sources(d: Digest) -> list[dict[str, Any]]:
    """Each input with its coverage, and whether it covers the worst incident."""
    spans = {
        (p, part): (a, b)
        for p, part, a, b in (
            d.timeline.group_by("log_file_path", pl.lit(""))
            .agg(pl.col("timestamp").min().alias("a"), pl.col("timestamp").max().alias("b"))
            .rows()
        )
    }
    rows = []
    for s in d.sources.iter_rows(named=True):
        first, last = (
            (s["first_time"], s["last_time"])
            if s["first_time"] is not None
            else spans.get((s["path"], ""), (None, None))
        )
        covers = (
            None
            if d.worst is None or d.worst.start is None or first is None or last is None
            else first <= d.worst.start and last >= (d.worst.end or d.worst.start)
        )
        if s["format"] is None and not s["lines_read"]:
            continue  # a note beside the logs
        rows.append(
            {
                "source": d.files.get(s["path"], shown(s["path"])) + (f" ({s['part']})" if s["part"] else ""),
                "format": s["format"],
                "envelope": s["envelope"],
                "first": first,
                "last": last,
                "covers_worst": covers,
                "read": s["lines_read"],
                "kept": s["lines_kept"],
                "unparsed": s["lines_unparsed"],
                "status": s["status"],
                "message": s["message"],
            }
        )
    return rows


def hand_off(d: Digest, seen: figures.Seen) -> dict[str, Any]:
    """What the next team asks first."""
    worst = d.worst
    until = (worst.end or worst.start) if worst and worst.start is not None else None
    guilty = d.closes.filter(pl.col("family").fill_null("unknown") != "client")["close_id"].implode()
    cited = d.evidence.filter(pl.col("close_id").is_in(guilty))["event_id"].drop_nulls().unique().implode()
    relevant = (
        pl.col("event_id").is_in(cited)
        | pl.col("event_name").str.contains(_TELLING).fill_null(value=False)
        | (pl.col("severity_number").fill_null(0) >= 17)
    )
    own = seen.timeline.filter((pl.col("source_kind") == "gateway") & relevant).sort(
        "timestamp", "log_file_path", "log_line", nulls_last=False
    )
    if until is not None:
        near = own.filter(pl.col("timestamp").is_null() | (pl.col("timestamp") <= until + 5 * SECOND))
        own = near if near.height else own
    lines = [
        {
            "at": row["timestamp"],
            "place": Place(row["log_file_path"] or "", row["log_line"]),
            "text": row["body"] or row["log_record_original"] or "",
            "original": row["log_record_original"] or "",
        }
        for row in own.tail(_LINES).iter_rows(named=True)
    ]
    targets = seen.timeline["cli_target"].drop_nulls().unique(maintain_order=True).to_list()
    hosts = _attribute(seen.timeline, "host_header")
    images = inventory.deploys(seen.timeline, seen.facts)
    return {
        "projects": list(d.projects) or sorted({g.project for g in seen.gates if g.project}),
        "images": list(dict.fromkeys(f"{x.owner}: {x.image}{' @ ' + x.digest if x.digest else ''}" for x in images)),
        "urls": (
            [f"{u} (what the CLI dialled)" for u in targets[:5]] + [f"{h} (Host of the requests)" for h in hosts[:5]]
        ),
        "published": [f"{p.owner} {p.port} as {p.published}" for p in inventory.ports(seen.facts) if p.published][:10],
        "lines": lines,
    }


def _attribute(timeline: pl.DataFrame, name: str) -> list[str]:
    pairs = timeline.select("attributes").explode("attributes").unnest("attributes").filter(pl.col("key") == name)
    return (
        pairs.group_by("value").len().sort(["len", "value"], descending=[True, False])["value"].drop_nulls().to_list()
    )
