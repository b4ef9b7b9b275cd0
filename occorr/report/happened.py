"""What happened, for the post-mortem: the summary, the blast radius, each incident with its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from occorr.report import words
from occorr.report.digest import Digest, proof_of, said_of
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr import figures


def summary(
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
        look = (
            f"{words.count(d.total, 'close')} between {words.moment(d.first, date=True)} and {words.moment(d.last)} UTC"
        )
        if head["calm"]:
            return [f"No incident was found: all {look} look ordinary.", head["calm"]]
        return [f"All {look} were ordinary. There was no incident."]
    worst, hit = head["worst"], blast(d)
    cut, refused = hit["cut"], hit["refused"]
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
            f" {words.percent(worst.probability)} sure, {words.SURE[worst.verdict]}"
            f".{f' {others} more below.' if others else ''}"
        )
    if d.unexplained:
        text.append(f"{words.count(d.unexplained, 'close')} could not be explained from these logs.")
    if d.ordinary:
        text.append(
            f"{words.count(d.ordinary, 'other close')} {'was' if d.ordinary == 1 else 'were'} ordinary and"
            f" {'is' if d.ordinary == 1 else 'are'} not counted here."
        )
    return text


def blast(d: Digest) -> dict[str, Any]:
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


def incident(i: Any, d: Digest) -> dict[str, Any]:
    """One incident: when, whom it hit, why, how sure, and the lines that say so."""
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
        "start_error": i.start_error,
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
    decided = d.evidence.filter(pl.col("close_id") == (i.proof.close_id if i.proof else ""))
    said = said_of(d.timeline, pl.concat([lines["event_id"], decided["event_id"]]))
    found = [proof_of(row, d.files, said.get(row["event_id"]) or "") for row in lines.iter_rows(named=True)]
    if i.proof is not None:
        deciding = next(
            (
                proof_of(row, d.files, said.get(row["event_id"]) or "")
                for row in decided.iter_rows(named=True)
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
