"""The post-mortem: what a manager reads first, what an engineer needs next, and what the next time will need; as page, Markdown and JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from occorr import figures, moments, policy, schema
from occorr.gates import Place
from occorr.report import actions, happened, ledger, picture, review, shell, words
from occorr.report.digest import Digest, digest
from occorr.report.document import code, environment, headline, prose
from occorr.report.said import Said
from occorr.report.tables import Tables, shown
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT: Final = 65_000  # characters; GitHub's limit of a comment is 65,536
_STEPS: Final = (60, 30, 15, 8, 4)  # rows a table, tried until the text fits
_QUOTE: Final = 300  # characters of a quoted line
_TIMES: Final = frozenset({"start", "end", "first", "last", "at"})


def html(tables: Tables) -> str:
    """The page: no script, no request, the picture drawn into it."""
    found = gather(tables)
    return shell.page(
        "postmortem/page.html.j2",
        styles=("postmortem/style.css",),
        banners=tables.banners,
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
        quote = _QUOTE if most > _STEPS[-2] else 120
        said = _brief(quote)
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
                lengthy=_brief(2 * quote),  # the end of a gateway's close line is what decides
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
    document = {k: v for k, v in found.items() if k not in {"digest", "headline", "several"}}
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
    wanted = actions.wanted(d, tables, seen, answers)
    head = headline(d)
    incidents = [happened.incident(i, d) for i in d.incidents]
    outages = figures.outages(seen)
    return {
        "schema_version": schema.VERSION,
        "redacted": tables.redacted,
        "banners": tables.banners,
        "digest": d,
        "headline": head,
        "title": (
            f"{head['who']} {head['deed'].replace('*', '')} {head['at']} {head['when']} UTC".strip()
            if head["worst"]
            else head["deed"]
        ),
        "summary": happened.summary(d, head, incidents, outages),
        "blast_radius": happened.blast(d),
        "span": {"first": d.first, "last": d.last},
        "incidents": incidents,
        "several": len(seen.gates) > 1,
        "actions": actions.actions(d, tables, judged, wanted),
        "questions": answers,
        "figures": [ledger.figure(f, verdicts.get((f.id, f.scope))) for f in given],
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
        "health_checks": ledger.health_checks(seen),
        "ports": ledger.ports(seen),
        "deploys": ledger.deploys(seen),
        "versions": ledger.versions(seen),
        "layers": review.layers(d, seen),
        "clocks": [ledger.clock(c, d) for c in d.clocks.iter_rows(named=True)],
        "sources": ledger.sources(d),
        "hand_off": ledger.hand_off(d, seen),
        "collect": wanted,
    }


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
        return moments.iso(value)
    return shown(value) if isinstance(value, str) else value
