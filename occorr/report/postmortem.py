"""The post-mortem: what a manager reads first, what an engineer needs next, and what the next time will need; as page, Markdown and JSON."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import figures, inventory, policy, quotes, schema
from occorr.inventory import Place
from occorr.report import picture, review, shell, words
from occorr.report.digest import Digest, digest, proof_of
from occorr.report.document import code, environment, headline, prose
from occorr.report.review import Said
from occorr.report.tables import SECOND, Tables, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LIMIT: Final = 65_000  # characters; GitHub's limit of a comment is 65,536
_STEPS: Final = (60, 30, 15, 8, 4)  # rows a table, tried until the text fits
_LINES: Final = 20  # of the gateway, in the hand-off
_QUOTE: Final = 300  # characters of a quoted line
_TELLING: Final = (  # events whose lines tell a story
    r"^(?:gateway|auth|pairing|handshake|protocol|frame|process|state)\.|^proxy\.untrusted$"
)
_TIMES: Final = frozenset({"start", "end", "first", "last", "at"})


def html(tables: Tables) -> str:
    """The page: no script, no request, the picture drawn into it."""
    found = gather(tables)
    return shell.page(
        "postmortem/page.html.j2",
        styles=("postmortem/style.css",),
        redacted=tables.redacted,
        r=found,
        drawn=picture.svg(found["digest"]),
        verbal=words,
        said=_html,
        place=_placed(found["digest"]),
        brief=_brief(1000),
    )


def md(tables: Tables) -> str:
    """The ticket: never longer than `LIMIT`; what had to go is said at its place."""
    found = gather(tables)
    text = ""
    for most in _STEPS:
        said = _brief(_QUOTE if most > _STEPS[-2] else 120)
        text = (
            environment()
            .get_template("postmortem/ticket.md.j2")
            .render(
                r=found,
                most=most,
                mermaid=picture.mermaid(found["digest"], most),
                verbal=words,
                said=_markdown(said),
                place=_placed(found["digest"]),
                brief=said,
                fenced=_fenced,
            )
        )
        if len(text) <= LIMIT:
            return text
    end = "\n\nCut here: the ticket holds no more. The rest stands in the page and in the JSON.\n"
    return text[: LIMIT - len(end)].rpartition("\n")[0] + end


def json_text(tables: Tables) -> str:
    """All of it for a program; times ISO 8601."""
    found = gather(tables)
    document = {k: v for k, v in found.items() if k not in {"digest", "headline"}}
    return (
        json.dumps(
            _plain(document, _placed(found["digest"])), ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False
        )
        + "\n"
    )


def gather(tables: Tables) -> dict[str, Any]:
    """Everything that the forms show."""
    d, seen = digest(tables), figures.look(tables)
    judged = policy.judge(given := figures.figures(tables, seen), policy.default())
    verdicts = {(j.figure.id, j.figure.scope): j for j in judged}
    answers = review.questions(d, seen)
    wanted = review.wanted(d, tables, seen, answers)
    head = headline(d)
    incidents = [_incident(i, d) for i in d.incidents if i.family != "client"]
    outages = figures.outages(seen)
    return {
        "schema_version": schema.VERSION,
        "redacted": d.redacted,
        "digest": d,
        "headline": head,
        "title": (
            f"{head['who']} {head['deed'].replace('*', '')} at {head['when']} UTC".strip()
            if head["worst"]
            else head["deed"]
        ),
        "summary": _summary(d, head, incidents, outages),
        "blast_radius": _blast(d),
        "span": {"first": d.first, "last": d.last},
        "incidents": incidents,
        "actions": review.actions(d, tables, judged, wanted),
        "questions": answers,
        "figures": [_figure(f, verdicts.get((f.id, f.scope))) for f in given],
        "outages": [
            {
                "gateway": o.scope,
                "kind": o.kind,
                "start": o.start,
                "end": o.end,
                "seconds": o.cost_ns / SECOND,
                "downs": o.downs,
                "lines": o.lines,
            }
            for o in outages
        ],
        "health_checks": _health(seen),
        "ports": _ports(seen),
        "deploys": _deploys(seen),
        "versions": _versions(seen),
        "layers": review.layers(d, seen),
        "clocks": [_clock(c, d) for c in d.clocks.iter_rows(named=True)],
        "sources": _sources(d),
        "hand_off": _hand_off(d, seen),
        "collect": wanted,
    }


def _summary(
    d: Digest, head: Mapping[str, Any], incidents: list[dict[str, Any]], outages: list[figures.Outage]
) -> list[str]:
    """What happened, how bad, why, how sure; in sentences that need no other."""
    if not d.total:
        return [
            (
                "No WebSocket close was found in what was read; the rest of this report says what was read and what is"
                " missing."
            )
        ]
    if not incidents:
        return [
            (
                f"All {words.count(d.total, 'close')} between {words.moment(d.first, date=True)} and {words.moment(d.last)}"
                " UTC were ordinary. There was no incident."
            )
        ]
    worst, blast = head["worst"], _blast(d)
    cut, refused = blast["cut"], blast["refused"]
    harm = " and ".join(
        p
        for p in (
            f"{words.count(cut, 'open connection')} {'was' if cut == 1 else 'were'} cut" if cut else "",
            (
                f"{words.count(refused, 'attempt')} to connect {'was' if refused == 1 else 'were'} refused"
                if refused
                else ""
            ),
        )
        if p
    )
    starts, ends = (
        [i["start"] for i in incidents if i["start"] is not None],
        [i["end"] for i in incidents if i["end"] is not None],
    )
    lasted = f" within {words.length(max(ends) - min(starts))}" if starts and ends and max(ends) > min(starts) else ""
    text = [
        (
            f"{harm[:1].upper()}{harm[1:]}{lasted}, in {words.count(len(incidents), 'incident')}."
            if harm
            else f"{words.count(len(incidents), 'incident')}{lasted}."
        )
    ]
    again = [o for o in outages if o.kind != "freeze"]
    if again:
        whole, open_end = sum(o.cost_ns for o in again), any(o.end is None for o in again)
        downs = sum(o.downs for o in again)
        did = (
            f"restarted {'once' if downs == 1 else 'twice' if downs == 2 else f'{downs} times'}" if downs else "stopped"
        )
        text.append(
            f"The gateway {did} and was not ready for"
            f" {'at least ' if open_end else ''}{words.length(whole)}{' in all' if len(again) > 1 else ''}."
        )
    if worst.family == "unknown":
        text.append(f"Why, the logs do not say. What would settle it: {head['settle']}.")
    else:
        others = len(incidents) - 1
        text.append(
            f"The worst: {words.title(worst.cause)}, {words.count(worst.closes, 'close')};"
            f" {words.percent(worst.probability)} sure,"
            f" {words.SURE[worst.verdict]}.{f' {others} more below.' if others else ''}"
        )
    if d.unexplained:
        text.append(f"{words.count(d.unexplained, 'close')} could not be explained from these logs.")
    if d.ordinary:
        text.append(
            f"{words.count(d.ordinary, 'other close')} {'was' if d.ordinary == 1 else 'were'} ordinary and"
            f" {'is' if d.ordinary == 1 else 'are'} not counted here."
        )
    return text


def _blast(d: Digest) -> dict[str, Any]:
    """Who was hit, ordinary closes left out."""
    own = d.closes.filter(pl.col("family").fill_null("unknown") != "client")
    n = pl.col("count").fill_null(1).clip(lower_bound=1)
    cut = int(own.filter(pl.col("established").fill_null(value=True)).select(n.sum()).item() or 0)
    return {
        "closes": int(own.select(n.sum()).item() or 0),
        "cut": cut,
        "refused": int(own.select(n.sum()).item() or 0) - cut,
        "clients": own["client_address"].drop_nulls().n_unique(),
        "services": own["service_name"].drop_nulls().unique().sort().to_list(),
        "projects": own["compose_project"].drop_nulls().unique().sort().to_list(),
    }


def _incident(i: Any, d: Digest) -> dict[str, Any]:
    own = d.closes.filter(pl.col("incident_id") == i.incident_id)
    codes = (
        own.group_by("websocket_close_code", "http_status_proxy")
        .agg(pl.col("count").fill_null(1).sum().alias("n"))
        .sort("n", "websocket_close_code", "http_status_proxy", descending=[True, False, False], nulls_last=True)
    )
    return {
        "number": i.number,
        "incident_id": i.incident_id,
        "family": i.family,
        "cause": i.cause,
        "title": words.title(i.cause),
        "sentence": i.title,
        "start": i.start,
        "end": i.end,
        "duration_s": (i.end - i.start) / SECOND if i.start is not None and i.end is not None else None,
        "not_ready_s": i.down_ns / SECOND if i.down_ns else None,
        "cut": i.cut,
        "refused": i.refused,
        "closes": i.closes,
        "services": i.services,
        "projects": i.projects,
        "clients": own["client_address"].drop_nulls().n_unique(),
        "probability": i.probability,
        "verdict": i.verdict,
        "runner_up": next((r for r in own["runner_up"].drop_nulls().mode().sort() if r), None),
        "causes": [
            {"cause": c, "closes": int(n)}
            for c, n in (
                own.group_by("cause")
                .agg(pl.col("count").fill_null(1).sum().alias("n"))
                .sort("n", "cause", descending=[True, False])
                .rows()
            )
        ],
        "codes": [{"code": c, "http": h, "n": int(n)} for c, h, n in codes.rows()],
        "evidence": _proofs(i, own, d),
        "missing": own["missing"].explode().drop_nulls().unique(maintain_order=True).head(3).to_list(),
    }


def _proofs(i: Any, own: pl.DataFrame, d: Digest) -> list[dict[str, Any]]:
    """The deciding line first, then one line of each other rule that speaks for or against the cause."""
    rank = pl.col("strength").replace_strict(
        {"decisive": 0, "supporting": 1, "circumstantial": 2}, default=3, return_dtype=pl.Int8
    )
    lines = (
        d.evidence.filter(pl.col("close_id").is_in(own["close_id"].implode()))
        .with_columns(rank=rank, far=pl.col("delta_ns").abs())
        .sort(pl.col("role") != "supports", "rank", "far", "log_file_path", "log_line", "close_id", nulls_last=True)
        .unique(["rule", "role"], keep="first", maintain_order=True)
        .unique(["log_file_path", "log_line"], keep="first", maintain_order=True)
        .head(4)
    )
    cited = quotes.sayings(
        d.timeline.filter(
            pl.col("event_id").is_in(
                pl.concat(
                    [
                        lines["event_id"],
                        d.evidence.filter(pl.col("close_id") == (i.proof.close_id if i.proof else ""))["event_id"],
                    ]
                )
                .drop_nulls()
                .implode()
            )
        )
    )
    said = dict(cited.select("event_id", "said").rows())
    found = [proof_of(row, d.files, said.get(row["event_id"]) or "") for row in lines.iter_rows(named=True)]
    if i.proof is not None:
        deciding = next(
            (
                proof_of(row, d.files, said.get(row["event_id"]) or "")
                for row in d.evidence.filter(pl.col("close_id") == i.proof.close_id).iter_rows(named=True)
                if proof_of(row, d.files).place == i.proof.place
            ),
            i.proof,
        )
        found = [deciding, *(p for p in found if p.place != deciding.place)]
    return [
        {
            "place": p.place,
            "role": p.role,
            "strength": p.strength,
            "when": p.when,
            "rule": p.rule,
            "said": p.said.strip(),
        }
        for p in found[:4]
    ]


def _figure(f: figures.Figure, j: policy.Judgement | None) -> dict[str, Any]:
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


def _health(seen: figures.Seen) -> list[dict[str, Any]]:
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


def _ports(seen: figures.Seen) -> list[dict[str, Any]]:
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


def _deploys(seen: figures.Seen) -> list[dict[str, Any]]:
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


def _versions(seen: figures.Seen) -> list[dict[str, Any]]:
    return [
        {"gateway": g.label, "who": v.side, "version": v.version, "source": v.source, "n": v.n, "line": v.place}
        for g in seen.gates
        for v in inventory.versions(seen.timeline, seen.facts, g, only=seen.only)
    ]


def _clock(row: Mapping[str, Any], d: Digest) -> dict[str, Any]:
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


def _sources(d: Digest) -> list[dict[str, Any]]:
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


def _hand_off(d: Digest, seen: figures.Seen) -> dict[str, Any]:
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


def _placed(d: Digest) -> Callable[[Place | None], str]:
    def place(p: Place | None) -> str:
        if p is None or not p.path:
            return ""
        return d.files.get(p.path, shown(p.path)) + (f":{p.line}" if p.line is not None else "")

    return place


def _brief(most: int) -> Callable[[Any], str]:
    def brief(value: Any) -> str:
        text = shown(value)
        return text if len(text) <= most else text[: most - 1] + "…"

    return brief


def _markdown(brief: Callable[[Any], str]) -> Callable[[Said], str]:
    return lambda said: "".join(
        code(brief(text), cell=False) if kind == "code" else prose(brief(text)) if kind else text
        for text, kind in said.parts
    )


def _html(said: Said) -> list[tuple[str, str]]:
    return [(shown(text), kind) for text, kind in said.parts]


def _fenced(text: str) -> str:
    """A fence that no line of the text can close."""
    return "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))


def _plain(value: Any, place: Callable[[Place], str], key: str = "") -> Any:
    """JSON's own types: places as file:line, sentences as text, times ISO 8601."""
    if isinstance(value, Place):
        return place(value)
    if isinstance(value, Said):
        return shown(str(value))
    if isinstance(value, review.Answer):
        return {
            "question": value.question,
            "answer": shown(str(value.answer)) or None,
            "missing": value.missing or None,
            "lines": [place(p) for p in value.lines],
        }
    if isinstance(value, dict):
        return {k: _plain(v, place, k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, place, key) for v in value]
    if key in _TIMES and isinstance(value, int):
        return f"{datetime.fromtimestamp(value // SECOND, UTC):%Y-%m-%dT%H:%M:%S}.{value % SECOND:09d}Z"
    return shown(value) if isinstance(value, str) else value
