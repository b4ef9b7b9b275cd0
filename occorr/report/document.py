"""report.md, for people and tickets, and report.json, for programs."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from functools import cache
from typing import Any, Final

import jinja2
import polars as pl

from occorr import advice, incidents, moments, resources, schema
from occorr.clock_faults import sentence
from occorr.report import words
from occorr.report.digest import Digest, Proof, digest, proof_of, said_of
from occorr.report.tables import Tables, shown
from occorr.visible import json_escaped

_LINES: Final = 6  # of evidence that such a close cites
_EXAMPLES: Final = 3  # closes a verdict row cites; all of them stand in report.json and the page
# What Markdown could take for a mark. Round brackets mean something after a square one only, and those go; an
# underscore inside a word and a colon before a blank or in a time of day mean nothing, and escaping them would spoil
# the text for whoever reads it raw.
_MARKS: Final = re.compile(r"([\\`*{}\[\]#+!|~$@]|(?<![^\W_])_|_(?![^\W_])|(?<!\d):(?=\S)|:(?=[^\s\d]))")


@cache
def environment() -> jinja2.Environment:
    """The templates of `reports/`, with the filters that both report.md and the page use."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.folder("reports")),
        autoescape=jinja2.select_autoescape(["html.j2"], default_for_string=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters |= {
        "text": prose,
        "code": code,
        "shown": shown,
        "percent": words.percent,
        "moment": words.moment,
        "duration": words.length,
        "counted": words.count,
        "emphasis": emphasis,
        "cause_title": words.title,
    }
    env.globals |= {"SURE": words.SURE, "BY": words.BY}
    return env


def prose(value: Any) -> str:
    """Text of a log as Markdown prose: nothing in it marks, links, mentions or opens a tag."""
    marked = _MARKS.sub(r"\\\1", shown(value))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(value: Any, *, cell: bool = True) -> str:
    """Text of a log as a Markdown code span, fenced by more backticks than it holds; in a table's cell pipes would end it."""
    text = shown(value).replace("|", "¦") if cell else shown(value)
    if not text:
        return ""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if len(fence) > 1 or text[0] == " " else f"`{text}`"


def emphasis(text: str) -> list[tuple[str, bool]]:
    """`ran *out of memory*` as pieces, each with whether it is the news."""
    return [(piece, bool(i % 2)) for i, piece in enumerate(text.split("*")) if piece]


def markdown(tables: Tables) -> str:
    """report.md: summary, incidents worst first, verdicts, evidence, clocks, sources, and what is missing."""
    return environment().get_template("analyze/report.md.j2").render(context(tables))


def context(tables: Tables) -> dict[str, Any]:
    """What every template of `reports/` may use."""
    d = digest(tables)
    return {
        "d": d,
        "headline": headline(d),
        "verdicts": _verdicts(d),
        "stories": _stories(d),
        "file": _file(d),
        "deed": words.deed,
        "steps": advice.steps(tables),
        "settings": advice.collect(tables),
        "faults": [
            text for row in d.clocks.to_dicts() if (text := sentence({**row, "clock_id": _file(d)(row["clock_id"])}))
        ],
    }


def headline(d: Digest) -> dict[str, Any]:
    """The worst incident as the parts of a heading and a sentence."""
    worst = d.worst
    if worst is None:
        guessed = _guessed(d)
        text = (
            "No WebSocket close was found"
            if not d.total
            else "No incident found: all closes look ordinary"
            if guessed
            else "No incident: all closes were ordinary"
        )
        return {
            "worst": None,
            "who": "",
            "deed": text,
            "at": "",
            "when": "",
            "harm": "",
            "sure": "",
            "settle": "",
            "calm": guessed,
        }
    who = f"{worst.projects}’s gateway" if worst.projects and "," not in worst.projects else "The gateway"
    began = (None if t is None else incidents.moment(t) for t in (worst.start, worst.earliest, worst.latest))
    at, when = incidents.when(*began)
    parts = []
    if worst.cut:
        parts.append(f"{words.count(worst.cut, 'connection')} cut")
    if worst.refused:
        parts.append(
            f"{worst.refused:,} refused" if worst.cut else words.count(worst.refused, "connection") + " refused"
        )
    if worst.down_ns:
        with_ = f", incident {words.listed(worst.shared)} included" if worst.shared else ""
        parts.append(f"no ready gateway for {words.length(worst.down_ns)}{with_}")
    return {
        "worst": worst,
        "who": who,
        "deed": ("" if worst.proven or worst.family == "unknown" else "perhaps ") + words.deed(worst.cause),
        "at": at,
        "when": when,
        "harm": ", ".join(parts),
        # Nobody is sure of not knowing: what would settle it helps more than a figure.
        "sure": (
            "" if worst.family == "unknown" else f"{words.percent(worst.probability)} sure, {words.SURE[worst.verdict]}"
        ),
        "settle": next((text for text, _ in d.missing), "nothing that occorr knows of"),
        "calm": "",
    }


def _guessed(d: Digest) -> str:
    """Where there was no incident: how many closes only look ordinary, in a sentence; nothing where the logs tell all."""
    weight = pl.col("count").fill_null(1).clip(lower_bound=1)
    weak = ~pl.col("verdict").cast(pl.String).is_in(schema.PROVEN).fill_null(value=False)
    open_ = int(d.closes.filter(weak).select(weight.sum()).item() or 0)
    if not open_:
        return ""
    wish = next((text for text, _ in d.missing), "")
    return (
        f"{words.count(open_, 'close')} of {d.total:,} only {'fits' if open_ == 1 else 'fit'} an ordinary end, which is no"
        f" proof{'. What would settle it: ' + wish if wish else ''}."
    )


def _file(d: Digest) -> Any:
    return lambda path: d.files.get(path, shown(path)) if path else ""


def _verdicts(d: Digest) -> list[dict[str, Any]]:
    """One row a cause, code and verdict, most closes first."""
    keys = ["compose_project", "service_name", "cause", "verdict", "websocket_close_code", "http_status_proxy"]
    n = pl.col("count").fill_null(1).clip(lower_bound=1)
    return (
        d.closes.group_by(keys)
        .agg(
            n=n.sum(),
            refused=n.filter(~pl.col("established").fill_null(value=True)).sum(),
            low=pl.col("probability").min(),
            high=pl.col("probability").max(),
            first=pl.col("timestamp").min(),
            last=pl.col("timestamp").max(),
        )
        .sort(["n", *keys], descending=[True] + [False] * len(keys), nulls_last=True)
        .to_dicts()
    )


def _stories(d: Digest) -> dict[str, list[dict[str, Any]]]:
    """For each incident the first closes of each verdict with their evidence."""
    order = {"decisive": 0, "supporting": 1, "circumstantial": 2}
    chosen = (
        d.closes.drop_nulls("incident_id")
        .with_columns(place=pl.int_range(pl.len()).over("incident_id", "verdict"))
        .filter(pl.col("place") < _EXAMPLES)
    )
    # A line that several rules cite stands once, for the strongest of them.
    cited = (
        d.evidence.filter(pl.col("close_id").is_in(chosen["close_id"].implode()))
        .with_columns(against=pl.col("role") != "supports", rank=pl.col("strength").replace_strict(order, default=3))
        .sort("close_id", "against", "rank", "log_file_path", "log_line", nulls_last=True, maintain_order=True)
        .unique(["close_id", "role", "log_file_path", "log_line"], keep="first", maintain_order=True)
    )
    said = said_of(d.timeline, cited["event_id"])
    lines: dict[str, list[Proof]] = {}
    for row in cited.iter_rows(named=True):
        lines.setdefault(row["close_id"], []).append(proof_of(row, d.files, said.get(row["event_id"], "")))
    stories: dict[str, list[dict[str, Any]]] = {}
    for close in chosen.iter_rows(named=True):
        stories.setdefault(close["incident_id"], []).append(
            close | {"evidence": lines.get(close["close_id"], [])[:_LINES], "when": words.moment(close["timestamp"])}
        )
    return stories


def json_text(tables: Tables) -> str:
    """report.json: every row of every table but the timeline, evidence inside its close, times ISO 8601 with ns."""
    cited: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(tables.evidence):
        cited.setdefault(row.pop("close_id"), []).append(row)
    closes = [row | {"evidence": cited.get(row["close_id"], [])} for row in _rows(tables.closes)]
    document = {
        "schema_version": schema.VERSION,
        "redacted": tables.redacted,
        "incidents": _rows(tables.incidents),
        "closes": closes,
        "clocks": _rows(tables.clocks),
        "sources": _rows(tables.sources),
        "facts": _rows(tables.facts),
        "steps": [asdict(s) for s in advice.steps(tables)],
        "advice": [asdict(a) for a in advice.collect(tables)],
    }
    if tables.banners:
        document["banner"] = " ".join(tables.banners)
    return json_escaped(json.dumps(document, ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False)) + "\n"


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows with JSON's own types: strings for times and dictionaries, null for NaN."""
    return frame.with_columns(
        (
            moments.isos(pl.col(name))
            if isinstance(dtype, pl.Datetime)
            else (
                pl.col(name).cast(pl.String)
                if isinstance(dtype, pl.Categorical | pl.Enum)
                else pl.when(pl.col(name).is_finite()).then(pl.col(name))
            )
        )
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Datetime | pl.Categorical | pl.Enum) or dtype.is_float()
    ).to_dicts()
