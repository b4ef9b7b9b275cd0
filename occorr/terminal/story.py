"""The story of one close: what happened, how that is known, what else it could have been and why not, and what would settle it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from rich.text import Text

from occorr import advice, quotes, rules as rule_files
from occorr.errors import OccorrError, nearest
from occorr.terminal.base import bound, clean, clock, console, delta, percent, whole

if TYPE_CHECKING:
    from rich.console import Console

    from occorr.analysis import Analysis

SURE: Final = {
    "decisive": "A source states the cause, and nothing as strong contradicts it",
    "supported": "Strong evidence points to it, and no source states it",
    "circumstantial": "It looks like it, and nothing proves it",
    "unknown": "The logs cannot tell",
}
WORTH: Final = {"decisive": 3, "supporting": 2, "circumstantial": 1}
MOST: Final = 400  # characters of a quoted line


def explain(result: Analysis, close_id: str) -> None:
    """The story of one close.

    Raises:
        OccorrError: no close, or several, begin with the id.
    """
    row = _found(result, close_id)
    out = console()
    causes = {c.cause: c for c in rule_files.builtin()}
    title = causes[row["cause"]].title if row["cause"] in causes else ""
    lines = result.evidence.filter(pl.col("close_id") == row["close_id"])
    words = dict(
        quotes.sayings(result.timeline.filter(pl.col("event_id").is_in(lines.get_column("event_id").to_list())))
        .select("event_id", "said")
        .rows()
    )
    for banner in result.banners:
        out.print(banner, style="bold")
    out.print(f"Close {clean(row['close_id'])}", style="bold")
    out.print(f"{row['cause']}: {title}", style="bold")
    if row["correction"]:
        was = f", where the logs said {row['original_cause']}" if row["original_cause"] else ""
        out.print(f"Corrected by people{was}: {clean(row['correction'])}")
    out.print(f"{_happened(row)} {SURE[row['verdict']]} ({row['verdict']}, {percent(row['probability'])}).")
    _incident(out, result, row)
    quoted: set[str] = set()
    _because(out, row, lines, words, quoted)
    _against(out, row, lines, words, quoted)
    _open(out, result, row)


def _found(result: Analysis, close_id: str) -> dict[str, Any]:
    found = result.closes.filter(pl.col("close_id").str.starts_with(close_id))
    if found.is_empty():  # of an incident the close that is surest
        own = result.closes.filter(pl.col("incident_id") == close_id)
        found = own.sort("probability", "timestamp", "close_id", descending=[True, False, False], nulls_last=True).head(
            1
        )
    if found.is_empty():
        # whoever types i099 means an incident
        known = result.closes.get_column("incident_id" if re.fullmatch(r"i\d+", close_id) else "close_id")
        ids = known.drop_nulls().unique(maintain_order=True).head(200).to_list()
        hint = nearest(close_id, ids) if ids else "the result holds none"
        raise OccorrError(f"no close or incident has the id {close_id!r}; {hint}"[:300])
    if found.height > 1:
        raise OccorrError(
            f"{found.height} closes begin with {close_id!r}:"
            f" {', '.join(found.get_column('close_id').head(5).to_list())}; give more characters"
        )
    return found.row(0, named=True)


def _happened(row: dict[str, Any]) -> str:
    """Who, when, how long and what each side saw, in two sentences."""
    who = clean(row["client_address"] or "A client") + (
        f":{row['client_port']}" if row["client_address"] and row["client_port"] else ""
    )
    path = {"proxy": " through the proxy", "direct": " directly"}.get(row["via"], "")
    when = (
        f"at {row['timestamp']:%Y-%m-%d} {clock(row['timestamp'])} UTC ({bound(row)})".replace(" ()", "")
        if row["timestamp"] is not None
        else "at a time that nothing bounds"
    )
    if row["established"]:
        lasted = f" for {row['duration_ns'] / 1e9:.3f} s" if row["duration_ns"] else ""
        deed = f"{who} was connected{path}{lasted}; the connection ended {when}."
    else:
        deed = f"{who} tried to connect{path} and was refused {when}."
    codes = [
        f"the {who} saw {row[c]}"
        for who, c in (("client", "code_client"), ("gateway", "code_gateway"))
        if row[c] is not None
    ]
    if row["http_status_proxy"] is not None:
        codes.append(f"the proxy logged HTTP {row['http_status_proxy']}")
    seen = f" {', '.join(codes)}.".replace(" the", " The", 1) if codes else " Nobody logged a code."
    reason = f" The reason given: {clean(row['websocket_close_reason'])}." if row["websocket_close_reason"] else ""
    group = (
        " Several closes fit these lines equally well: this is one of them, in some order." if row["group_id"] else ""
    )
    many = f" The line stands for {row['count']} closes." if (row["count"] or 1) > 1 else ""
    return deed + seen + reason + group + many


def _incident(out: Console, result: Analysis, row: dict[str, Any]) -> None:
    own = (
        result.incidents.filter(pl.col("incident_id") == row["incident_id"])
        if row["incident_id"]
        else result.incidents.clear()
    )
    for incident in own.to_dicts():
        out.print(f"It is part of {incident['incident_id']}: {clean(incident['title'])}")


def _sentences() -> dict[str, str]:
    """What each rule says."""
    return {r.id: r.sentence for c in rule_files.builtin() for r in c.rules}


def _because(out: Console, row: dict[str, Any], lines: pl.DataFrame, words: dict[str, str], quoted: set[str]) -> None:
    """The rules that speak for the cause, the one that decided first, each with its lines."""
    out.print()
    own = lines.filter(pl.col("role") == "supports")
    if own.is_empty():
        out.print("No line speaks for a cause." if row["verdict"] == "unknown" else "No line is cited for it.")
        return
    out.print("Because", style="bold")
    named = next((e for c in rule_files.builtin() for e in c.episodes if e.id == row["rule"]), None)
    if named is not None:
        out.print(f"{named.sentence}. [{named.strength}; rule {named.id}]")
    _rules(out, own, words, quoted)


def _against(out: Console, row: dict[str, Any], lines: pl.DataFrame, words: dict[str, str], quoted: set[str]) -> None:
    """What else it could have been, and why it lost."""
    rest = lines.filter(pl.col("role") == "contradicts")
    if row["runner_up"] is None and rest.is_empty():
        return
    out.print()
    out.print("What else it could have been", style="bold")
    if row["runner_up"]:
        out.print(f"{row['runner_up']} ({percent(row['runner_up_probability'])}). {_lost(row, lines)}")
    if rest.height:
        _rules(out, rest, words, quoted, name_cause=True)


def _lost(row: dict[str, Any], lines: pl.DataFrame) -> str:
    """Why the runner-up lost."""
    best, rival = (
        max((WORTH[s] for s in lines.filter((pl.col("cause") == c)).get_column("strength").to_list()), default=0)
        for c in (row["cause"], row["runner_up"])
    )
    names = {3: "stated by a source", 2: "supported", 1: "circumstantial", 0: "without a line"}
    if row["original_cause"]:
        return "That is what the logs said."
    if best > rival:
        return f"It lost because it is only {names[rival]}, and {row['cause']} is {names[best]}."
    if best == 3 and row["verdict"] != "decisive":
        return f"Both are {names[best]}, so neither is decisive; {row['cause']} is the more direct."
    return f"Both are {names[best]}; {row['cause']} is the more direct of the two."


def _rules(
    out: Console, lines: pl.DataFrame, words: dict[str, str], quoted: set[str], *, name_cause: bool = False
) -> None:
    sentences = _sentences()
    for rule, rows in lines.group_by("rule", maintain_order=True):
        name = str(rule[0])
        cause = f" for {rows.item(0, 'cause')}" if name_cause else ""
        out.print(f"{sentences.get(name, name)} [{rows.item(0, 'strength')}{cause}; rule {name}]")
        for line in rows.to_dicts():
            out.print(
                f"  {clean(line['log_file_path'])}:{line['log_line']}  {delta(line['delta_ns'], line['error_ns'])}"
            )
            if line["event_id"] not in quoted:
                quoted.add(line["event_id"])
                out.print(Text("    " + clean(words.get(line["event_id"]) or line["quote"])[:MOST]))


def _open(out: Console, result: Analysis, row: dict[str, Any]) -> None:
    """What would settle it, and what to check first."""
    cause = next((c for c in rule_files.builtin() if c.cause == row["cause"]), None)
    if row["verdict"] != "decisive":
        wishes = [*(row["missing"] or []), *([cause.settle] if cause and cause.settle else [])]
        out.print()
        out.print("What would settle it", style="bold")
        for text in wishes:
            out.print(f"  {clean(text)}")
    check, command = advice.check_of(result, row["cause"], result.closes.filter(pl.col("close_id") == row["close_id"]))
    if check:
        out.print()
        out.print("Check first", style="bold")
        out.print(f"  {clean(check)}")
        if command:
            out.print(whole(command, 2), soft_wrap=True)
