"""The chain of evidence of one close."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
from rich.text import Text

from occorr import quotes, rules as rule_files
from occorr.errors import OccorrError, nearest
from occorr.terminal.base import bound, clean, clock, console, delta, percent

if TYPE_CHECKING:

    from occorr.analysis import Analysis


def explain(result: Analysis, close_id: str) -> None:
    """The story of one close.

    Raises:
        OccorrError: no close, or several, begin with the id.
    """
    found = result.closes.filter(pl.col("close_id").str.starts_with(close_id))
    if found.is_empty():
        raise OccorrError(f"no close has the id {close_id!r}; {nearest(close_id, result.closes.get_column('close_id').to_list()[:200]) if result.closes.height else 'the result holds no close'}"[:300])
    if found.height > 1:
        raise OccorrError(f"{found.height} closes begin with {close_id!r}: {', '.join(found.get_column('close_id').head(5).to_list())}; give more characters")
    out, row = console(), found.row(0, named=True)
    causes = {c.cause: c for c in rule_files.builtin()}
    sentences = {r.id: r.sentence for c in causes.values() for r in c.rules}
    cause = causes.get(row["cause"])
    out.print(f"Close {row['close_id']}", style="bold")
    out.print(f"{row['cause']}: {cause.title if cause else ''}", style="bold")
    out.print(f"{row['verdict']}, {percent(row['probability'])}" + (f"; next best: {row['runner_up']} ({percent(row['runner_up_probability'])})" if row["runner_up"] else ""))
    when = f"{row['timestamp']:%Y-%m-%d} {clock(row['timestamp'])} UTC {bound(row)}" if row["timestamp"] is not None else "at a time that nothing bounds"
    lasted = f", open for {row['duration_ns'] / 1e9:.3f} s" if row["duration_ns"] else ""
    out.print(f"{when}{lasted}, {'through the proxy' if row['via'] == 'proxy' else row['via']}" + (f", from {row['client_address']}" + (f":{row['client_port']}" if row["client_port"] else "") if row["client_address"] else ""))
    codes = [f"{who} {row[c]}" for who, c in (("client", "code_client"), ("gateway", "code_gateway")) if row[c] is not None]
    if row["http_status_proxy"] is not None:
        codes.append(f"HTTP {row['http_status_proxy']} at the proxy")
    out.print(f"seen: {', '.join(codes) or 'no code'}" + (f"; reason: {clean(row['websocket_close_reason'])}" if row["websocket_close_reason"] else "") + ("" if row["established"] else "; it never opened"))
    if row["group_id"]:
        out.print("several closes fit these lines equally well: this is one of them, in some order")
    words = dict(quotes.sayings(result.timeline.filter(pl.col("event_id").is_in(result.evidence.filter(pl.col("close_id") == row["close_id"]).get_column("event_id").to_list()))).select("event_id", "said").rows())
    quoted: set[str] = set()
    for role, head in (("supports", "For it"), ("contradicts", "Against it")):
        lines = result.evidence.filter((pl.col("close_id") == row["close_id"]) & (pl.col("role") == role))
        if lines.is_empty():
            continue
        out.print()
        out.print(head, style="bold")
        for rule, rows in lines.group_by("rule", maintain_order=True):
            name = str(rule[0])
            strength, for_cause = rows.item(0, "strength"), rows.item(0, "cause")
            out.print(f"{sentences.get(name, name)} [{strength}{'' if role == 'supports' else ', for ' + str(for_cause)}; rule {name}]")
            for line in rows.to_dicts():
                out.print(f"  {line['log_file_path']}:{line['log_line']}  {delta(line['delta_ns'], line['error_ns'])}")
                if line["event_id"] not in quoted:
                    quoted.add(line["event_id"])
                    out.print(Text("    " + clean(words.get(line["event_id"]) or line["quote"])[:400]))
    if row["missing"]:
        out.print()
        out.print("What would settle it", style="bold")
        for text in row["missing"]:
            out.print(f"  {clean(text)}")
    if cause and cause.check:
        out.print()
        out.print("Check first", style="bold")
        out.print(f"  {cause.check}", soft_wrap=True)
