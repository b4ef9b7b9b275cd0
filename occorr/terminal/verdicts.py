"""The verdict table of one analysis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl
from rich.table import Table
from rich.text import Text

from occorr import advice, quotes, rules as rule_files, schema
from occorr.clock_faults import sentence
from occorr.fitted import MOST_OF_A_GUESS
from occorr.terminal.base import about, clean, console, label, percent, place, whole
from occorr.zones import NO_DATE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from occorr.analysis import Analysis

STYLE: Final = {"decisive": "bold", "supported": "", "circumstantial": "dim", "unknown": "dim"}
SHORT: Final = {"circumstantial": "circumst."}
ROWS: Final = 60  # closes in the table; the rest is counted
FEW: Final = 20
ODD: Final = ("failed", "partial", "unknown", "empty")  # inputs that are told one by one


def show(result: Analysis, *, brief: bool = False) -> None:
    """The verdicts: incidents first, then the closes, then what was read and what is missing."""
    out = console()
    for banner in result.banners:
        out.print(banner, style="bold")
    if brief and result.closes.height <= 3:
        _brief(out, result)
        return
    closes = result.closes
    proof, left = _places(result), ROWS
    listed: set[str] = set()
    deciding = quotes.deciding(result.incidents, closes, result.evidence, result.timeline)
    order = sorted(result.incidents.to_dicts(), key=lambda r: (-_weight(r), r["incident_id"]))
    for row in order:
        own = closes.filter(pl.col("incident_id") == row["incident_id"])
        _incident(out, result, row, own, deciding)
        table = _table()
        for cause in own.get_column("cause").unique(maintain_order=True):
            part = own.filter(pl.col("cause") == cause)
            for close in part.head(max(left, 0)).to_dicts():
                table.add_row(
                    *_cells(close, proof, cause if cause != row["cause"] else ""), style=STYLE.get(close["verdict"], "")
                )
            left -= part.height
        listed |= set(own.get_column("close_id"))
        if table.row_count:
            out.print(table)
        if table.row_count < own.height:
            out.print(f"  … and {own.height - table.row_count} more; all of them with -o DIR or --format json")
        out.print()
    rest = closes.filter(~pl.col("close_id").is_in(list(listed)))
    notable = rest.filter((pl.col("cause") != "client.normal") | (pl.lit(rest.height) <= FEW))
    if notable.height:
        out.print("Other closes" if order else "Closes", style="bold")
        table = _table()
        for close in notable.head(max(left, FEW)).to_dicts():
            table.add_row(*_cells(close, proof, close["cause"]), style=STYLE.get(close["verdict"], ""))
        out.print(table)
        if table.row_count < notable.height:
            out.print(f"  … and {notable.height - table.row_count} more; all of them with -o DIR or --format json")
        out.print()
    quiet = rest.height - notable.height
    if quiet:
        out.print(
            f"{quiet} ordinary end{'s' * (quiet != 1)} by the client (client.normal); all of them with -o DIR or"
            " --format json\n"
        )
    if not closes.height:
        out.print(
            f"No WebSocket close was found in these logs, or in the part of them that was asked for{_reach(result)}.\n"
        )
        _ends(out, result)
    _first_steps(out, result)
    _footer(out, result)


def _quoted(out: Console, line: Mapping[str, Any], text: str) -> None:
    """A line of a log in one of the terminal's: where it stands, and as much of what it says as there is room for."""
    out.print(f"  {place(line['log_file_path'], line['log_line'])}  {clean(text)}"[: out.width - 1])


def _ends(out: Console, result: Analysis) -> None:
    """What the logs tell of processes that ended or did not start, where they tell of no close."""
    lines, count = quotes.ends(result.timeline)
    if not lines:
        return
    out.print("They do tell how processes ended, or why one did not start:")
    for line in lines:
        _quoted(out, line, line["said"] or "")
    if count > len(lines):
        out.print(f"  … and {count - len(lines)} more")
    out.print()


def _reach(result: Analysis) -> str:
    """From when to when the logs reach, as a half-sentence; empty where no line has a time."""
    first, last = result.timeline.select(pl.col("timestamp").min(), pl.col("timestamp").max().alias("last")).row(0)
    if first is None:
        return ""
    form = "%H:%M:%S" if first.year == NO_DATE.year else "%Y-%m-%d %H:%M:%S"  # the year of stamps without a date
    return f"; they reach from {first:{form}} to {last:{form}} UTC"


def _weight(row: dict[str, Any]) -> float:
    """How far up an incident stands: by its closes; what is guessed, and what clients did themselves, stands lower."""
    guessed = (row["probability"] or 0.0) <= MOST_OF_A_GUESS
    return int(row["closes"]) / (3 if guessed or row["family"] == "client" else 1)


def _incident(
    out: Console, result: Analysis, row: dict[str, Any], own: pl.DataFrame, deciding: Mapping[str, Mapping[str, Any]]
) -> None:
    """An incident's heading: cause, how sure, the sentence, and the one line that says most."""
    main = own.filter(pl.col("cause") == row["cause"])
    verdict = next((v for v in schema.VERDICTS if (main.get_column("verdict") == v).any()), "unknown")
    out.print(
        Text.assemble(
            (f"{row['cause']}", "bold"), f"  {verdict}, {percent(row['probability'])}  ({row['incident_id']})"
        )
    )
    out.print(clean(row["title"]))
    if row["correction"]:
        out.print(
            f"Corrected by people{', was ' + row['original_cause'] if row['original_cause'] else ''}:"
            f" {clean(row['correction'])}"
        )
    if line := deciding.get(row["incident_id"]):
        said = (
            quotes.sayings(result.timeline.filter(pl.col("event_id") == line["event_id"])).get_column("said").to_list()
        )
        text = next((s for s in said if s), line["quote"])
        _quoted(out, line, text)


def _table() -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    for options in ({"no_wrap": True}, {"no_wrap": True}, {"no_wrap": True}, {"no_wrap": True}, {"overflow": "fold"}):
        table.add_column(**options)
    return table


def _cells(row: dict[str, Any], proof: dict[str, str], cause: str) -> tuple[str, ...]:
    client = row["client_address"] or ("cli" if "cli" in (row["observers"] or []) else "–")
    port = f":{row['client_port']}" if row["client_port"] else ""
    times = f" ×{row['count']}" if (row["count"] or 1) > 1 else ""
    said = " ".join(x for x in (cause, proof.get(row["close_id"], "")) if x)
    return (
        f"  {about(row)}",
        clean(f"{client}{port}"),
        f"{label(row)}{times}",
        f"{SHORT.get(row['verdict'], row['verdict'])} {percent(row['probability'])}",
        said,
    )


def _proof(result: Analysis) -> dict[str, str]:
    """The first supporting line of each close, with its place."""
    return {r["close_id"]: f"{place(r['log_file_path'], r['log_line'])} {r['quote']}" for r in _first(result)}


def _places(result: Analysis) -> dict[str, str]:
    """The place of each close's first supporting line."""
    return {r["close_id"]: place(r["log_file_path"], r["log_line"]) for r in _first(result)}


def _first(result: Analysis) -> list[dict[str, Any]]:
    """Each close's first supporting row of EVIDENCE."""
    return (
        result.evidence.filter(pl.col("role") == "supports")
        .unique("close_id", keep="first", maintain_order=True)
        .to_dicts()
    )


def _brief(out: Console, result: Analysis) -> None:
    """A paste's answer: what it was, which line says so, what to collect."""
    titles = {c.cause: c for c in rule_files.builtin()}
    if not result.closes.height:
        names = result.timeline.get_column("event_name").drop_nulls().unique().sort().to_list()
        out.print("No WebSocket close in these lines.")
        out.print(f"They show: {', '.join(names) or 'nothing that is known'}.")
        out.print("Collect: docker logs -t of the gateway, the proxy's access log, docker events.")
        return
    proof = _proof(result)
    for number, row in enumerate(result.closes.to_dicts()):
        cause = titles.get(row["cause"])
        rival = f"; else {row['runner_up']}" if row["runner_up"] else ""
        out.print(
            f"{row['cause']} ({row['verdict']}, {percent(row['probability'])}{rival}): {cause.title if cause else ''}."
        )
        out.print(f"Proof: {clean(proof.get(row['close_id'], 'none'))}"[: max(out.width - 1, 40)])
        needs = row["missing"] or ([cause.settle] if cause and cause.settle else [])
        todo, command = advice.check_of(result, row["cause"], result.closes[number])
        if cause and row["verdict"] == "decisive":
            out.print(f"Check: {clean(todo)}")
            if command:
                out.print(whole(command), soft_wrap=True)
        else:
            out.print(f"Collect: {clean('; '.join(needs))}" if needs else "Nothing more is needed.")


def _first_steps(out: Console, result: Analysis) -> None:
    """The first check of each cause, transport before credentials before channels."""
    found = [s for s in advice.steps(result) if s.cause not in ("client.abort", "client.normal", "unknown.unknown")]
    if not found:
        return
    out.print("What to check first (L1 transport, L2 auth, L3 channels):", style="bold")
    for step in found:
        out.print(f"  {step.layer} {step.cause}: {clean(step.check)}")
        if step.command:
            out.print(whole(step.command), soft_wrap=True)
    out.print()


def _footer(out: Console, result: Analysis) -> None:
    """Clocks, what was read and skipped, what failed, and what would settle the open verdicts."""
    for row in result.clocks.to_dicts():
        if row["status"] != "reference" and row["clock_id"] not in ("other", "host"):
            offset, error = (row["offset_ns"] or 0) / 1e6, (row["error_ns"] or 0) / 1e6
            zone = "" if row["zone"] == "as written" else f", zone {row['zone']} ({row['zone_origin']})"
            out.print(
                f"clock {row['clock_id']}: {offset:+.1f} ms ± {error:.1f} ms, {row['status']} ({row['method']}{zone})"
            )
        if fault := sentence(row):
            out.print(clean(fault))
    s = result.sources
    total = {
        c: int(s.get_column(c).fill_null(0).sum())
        for c in ("lines_read", "lines_kept", "lines_skipped", "lines_unparsed")
    }
    inputs = s.get_column("path").n_unique()
    out.print(
        f"read {inputs} input{'s' * (inputs != 1)}, {total['lines_read']:,} lines: {total['lines_kept']:,} kept,"
        f" {total['lines_skipped']:,} skipped, {total['lines_unparsed']:,} unparsed"
    )
    # what is no log at all comes last, so that the rest is not lost among it
    odd = s.filter(pl.col("status").is_in(ODD)).sort(
        pl.col("status").replace_strict(ODD, range(len(ODD)), default=0, return_dtype=pl.Int8), maintain_order=True
    )
    for row in odd.head(FEW).to_dicts():
        out.print(f"  {row['status']}: {clean(row['path'])}: {clean(row['message'])}")
    if odd.height > FEW:
        out.print(f"  … and {odd.height - FEW:,} more; all of them in sources.parquet with -o DIR")
    if asks := advice.collect(result):
        out.print("\nWhat would have settled most of what is open:", style="bold")
        for ask in asks:
            out.print(f"  {ask.closes}×  {ask.what}")
            out.print(whole(ask.line), soft_wrap=True)
