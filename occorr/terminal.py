"""What people see in a terminal: the verdict table, the story of one close, what is known of formats and rules."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from occorr import definitions, detect, ingest, quotes, read, resources, rules as rule_files, schema
from occorr.clocks import sentence
from occorr.errors import OccorrError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from occorr.analysis import Analysis
    from occorr.evaluate import Score

WIDTH: Final = 80  # off a terminal
STYLE: Final = {"decisive": "bold", "supported": "", "circumstantial": "dim", "unknown": "dim"}
SHORT: Final = {"circumstantial": "circumst."}
ROWS: Final = 60  # closes in the table; the rest is counted
FEW: Final = 20
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def console() -> Console:
    """Standard output: colours and the window's width on a terminal, plain text of 80 columns elsewhere."""
    tty = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return Console(width=None if tty else WIDTH, force_terminal=None if tty else False, no_color=None if tty else True, highlight=False, markup=False, soft_wrap=False)


def clean(text: object) -> str:
    """Log text without control characters, which could move the cursor or hide what stands there."""
    return _CONTROL.sub("�", str(text)).replace("\t", " ")


def clock(value: Any) -> str:
    """A time of day in ms, or a dash."""
    return f"{value:%H:%M:%S.%f}"[:-3] if value is not None else "–"


def bound(row: dict[str, Any]) -> str:
    """Half of a close's interval, as ±3 ms."""
    low, high = row["time_earliest"], row["time_latest"]
    if low is None or high is None:
        return ""
    ms = (high - low).total_seconds() * 500
    return f"±{ms:.0f} ms" if ms < 1000 else f"±{ms / 1000:.1f} s"


def label(row: dict[str, Any]) -> str:
    """Close code as the client or the gateway saw it, or the HTTP status of a refused upgrade."""
    if row["websocket_close_code"] is not None:
        return str(row["websocket_close_code"])
    status = row["http_status_proxy"]
    return f"HTTP {status}" if status and status != 101 else "–"


def place(path: str, line: int | None) -> str:
    """file:line, the file by its last part."""
    return f"{clean(path.rsplit('/', 1)[-1])}:{line}"


def show(result: Analysis, *, brief: bool = False) -> None:
    """The verdicts: incidents first, then the closes, then what was read and what is missing."""
    out = console()
    if not result.redacted:
        out.print("NOT REDACTED: this output holds the secrets that the logs hold.", style="bold")
    if brief and result.closes.height <= 3:
        _brief(out, result)
        return
    closes = result.closes
    proof, left = _places(result), ROWS
    listed: set[str] = set()
    order = sorted(result.incidents.to_dicts(), key=lambda r: (-int(r["closes"]), r["incident_id"]))
    for row in order:
        own = closes.filter(pl.col("incident_id") == row["incident_id"])
        _incident(out, result, row, own)
        table = _table()
        for cause in own.get_column("cause").unique(maintain_order=True):
            part = own.filter(pl.col("cause") == cause)
            for close in part.head(max(left, 0)).to_dicts():
                table.add_row(*_cells(close, proof, cause if cause != row["cause"] else ""), style=STYLE.get(close["verdict"], ""))
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
        out.print(f"{quiet} ordinary end{'s' * (quiet != 1)} by the client (client.normal); all of them with -o DIR or --format json\n")
    if not closes.height:
        out.print("No WebSocket close was found in these logs.\n")
    _footer(out, result)


def _incident(out: Console, result: Analysis, row: dict[str, Any], own: pl.DataFrame) -> None:
    """An incident's heading: cause, how sure, the sentence, and the one line that says most."""
    main = own.filter(pl.col("cause") == row["cause"])
    verdict = next((v for v in schema.VERDICTS if (main.get_column("verdict") == v).any()), "unknown")
    out.print(Text.assemble((f"{row['cause']}", "bold"), f"  {verdict}, {_percent(row['probability'])}  ({row['incident_id']})"))
    out.print(clean(row["title"]))
    lines = result.evidence.filter(pl.col("close_id").is_in(main.filter(pl.col("verdict") == verdict).get_column("close_id").to_list()) & (pl.col("role") == "supports"))
    told = lines.join(quotes.sayings(result.timeline.filter(pl.col("event_id").is_in(lines.get_column("event_id").to_list()))), on="event_id", how="left", maintain_order="left").with_columns(pl.col("event_name").cast(pl.String).replace_strict(quotes.TELLING, default=9, return_dtype=pl.Int64).alias("_k"))
    for line in told.sort("_k", maintain_order=True).head(1).to_dicts():
        out.print(f"  {place(line['log_file_path'], line['log_line'])}  {clean(line['said'] or line['quote'])}"[: out.width - 1])


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
    return (f"  {clock(row['timestamp'])}", clean(f"{client}{port}"), f"{label(row)}{times}", f"{SHORT.get(row['verdict'], row['verdict'])} {_percent(row['probability'])}", said)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{min(99, max(1, round(value * 100)))} %"


def _proof(result: Analysis) -> dict[str, str]:
    """The first supporting line of each close, with its place."""
    return {r["close_id"]: f"{place(r['log_file_path'], r['log_line'])} {r['quote']}" for r in _first(result)}


def _places(result: Analysis) -> dict[str, str]:
    """The place of each close's first supporting line."""
    return {r["close_id"]: place(r["log_file_path"], r["log_line"]) for r in _first(result)}


def _first(result: Analysis) -> list[dict[str, Any]]:
    """Each close's first supporting row of EVIDENCE."""
    return result.evidence.filter(pl.col("role") == "supports").unique("close_id", keep="first", maintain_order=True).to_dicts()


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
    for row in result.closes.to_dicts():
        cause = titles.get(row["cause"])
        rival = f"; else {row['runner_up']}" if row["runner_up"] else ""
        out.print(f"{row['cause']} ({row['verdict']}, {_percent(row['probability'])}{rival}): {cause.title if cause else ''}.")
        out.print(f"Proof: {clean(proof.get(row['close_id'], 'none'))}"[: max(out.width - 1, 40)])
        needs = row["missing"] or ([cause.settle] if cause and cause.settle else [])
        check = f"Check: {cause.check}" if cause and row["verdict"] == "decisive" else f"Collect: {'; '.join(needs)}" if needs else "Nothing more is needed."
        out.print(clean(check), soft_wrap=True)


def _footer(out: Console, result: Analysis) -> None:
    """Clocks, what was read and skipped, what failed, and what would settle the open verdicts."""
    for row in result.clocks.to_dicts():
        if row["status"] != "reference" and row["clock_id"] not in ("other", "host"):
            offset, error = (row["offset_ns"] or 0) / 1e6, (row["error_ns"] or 0) / 1e6
            zone = "" if row["zone"] == "as written" else f", zone {row['zone']} ({row['zone_origin']})"
            out.print(f"clock {row['clock_id']}: {offset:+.1f} ms ± {error:.1f} ms, {row['status']} ({row['method']}{zone})")
        if fault := sentence(row):
            out.print(clean(fault))
    s = result.sources
    total = {c: int(s.get_column(c).fill_null(0).sum()) for c in ("lines_read", "lines_kept", "lines_skipped", "lines_unparsed")}
    out.print(f"read {s.get_column('path').n_unique()} inputs, {total['lines_read']:,} lines: {total['lines_kept']:,} kept, {total['lines_skipped']:,} skipped, {total['lines_unparsed']:,} unparsed")
    for row in s.filter(pl.col("status").is_in(["failed", "partial", "unknown", "empty"])).to_dicts():
        out.print(f"  {row['status']}: {clean(row['path'])}: {clean(row['message'])}")
    asks = result.closes.filter(pl.col("verdict") != "decisive").explode("missing").get_column("missing").drop_nulls()
    if asks.len():
        out.print("What would settle more:")
        # Wishes that differ by their time only are one wish: the earliest is shown.
        wish = pl.col("missing").str.replace(r"\d\d:\d\d:\d\d", "").alias("wish")
        counts = asks.to_frame().group_by(wish).agg(pl.len().alias("n"), pl.col("missing").min())
        for text, n in counts.sort("n", "missing", descending=[True, False]).head(3).select("missing", "n").rows():
            out.print(f"  {n}×  {clean(text)}")


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
    out.print(f"{row['verdict']}, {_percent(row['probability'])}" + (f"; next best: {row['runner_up']} ({_percent(row['runner_up_probability'])})" if row["runner_up"] else ""))
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
                out.print(f"  {line['log_file_path']}:{line['log_line']}  {_delta(line['delta_ns'], line['error_ns'])}")
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


def _delta(delta: int | None, error: int | None) -> str:
    if delta is None:
        return "(no time)"
    side = "after" if delta > 0 else "before"
    return f"{abs(delta) / 1e6:,.1f} ms {side} ± {(error or 0) / 1e6:,.1f} ms" if abs(delta) < 10**10 else f"{abs(delta) / 1e9:,.1f} s {side} ± {(error or 0) / 1e9:,.3f} s"


def dry_run(inputs: Sequence[str], parsers: Path | None) -> None:
    """File → envelope → format → margin over the runner-up, without reading on."""
    library = definitions.builtin() if parsers is None else definitions.load(resources.folder("parsers"), parsers)
    from occorr import facts, redact  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("input", "envelope", "format", "zone", "share", "margin"):
        table.add_column(name, overflow="fold")
    for blob in read.blobs(inputs):
        if not len(blob.data):
            table.add_row(clean(blob.path), "", f"({blob.status})", "", "", blob.message)
            continue
        if document := facts.document(blob, redact.Redactor(b"")):
            table.add_row(clean(blob.path), "", document[0], "", "", "")
            continue
        for plan in ingest.plans(blob, library):
            r = plan.recognition
            table.add_row(clean(blob.path) + (f" [{plan.part}]" if plan.part else ""), " > ".join(e.name for e in plan.envelopes), r.name or "(not known)", _zone_shown(plan), f"{r.shares[0]:.0%}" if r.shares else "", f"{r.margin:+.0%}")
    console().print(table)


def _zone_shown(plan: ingest.Plan) -> str:
    """How the stamps of a part get their zone."""
    time = plan.recognition.dialects[0].time if plan.recognition.dialects else None
    time = time or next((e.time for e in reversed(plan.envelopes) if e.time is not None), None)
    if time is None:
        return "no stamps"
    if time.zone != "naive":
        return "UTC" if time.zone == "UTC" else "as written"
    return "not written: a second stamp, the container's TZ, --tz, else UTC is assumed"


def formats() -> None:
    """The list of formats and envelopes."""
    library = definitions.builtin()
    out = console()
    for f in library.formats.values():
        out.print(Text.assemble((f.name, "bold"), f"  {f.title}  ({f.path})"))
        out.print(f"  dialects: {', '.join(d.name for d in f.dialects)}")
    for e in library.envelopes.values():
        out.print(Text.assemble((e.name, "bold"), f"  envelope: {e.title}  ({e.path})"))


def format_details(name: str) -> None:
    """One format or envelope.

    Raises:
        OccorrError: no such name.
    """
    library = definitions.builtin()
    out = console()
    if name in library.envelopes:
        e = library.envelopes[name]
        out.print(f"{e.name}: {e.title} ({e.path})\nline: {e.line}\nclock: {e.clock or 'none'}")
        return
    if name not in library.formats:
        raise OccorrError(f"format {name!r} is unknown; {nearest(name, [*library.formats, *library.envelopes])}")
    f = library.formats[name]
    out.print(f"{f.name}: {f.title} ({f.path}), {f.source_kind}")
    if f.ambiguous_with:
        out.print(f"looks like: {', '.join(f.ambiguous_with)}")
    for d in f.dialects:
        t = d.time
        out.print(f"\n{d.parser}: " + (f"stamp {t.format}, zone {t.zone}, marks the {t.marks}" if t else "no stamp"))
        out.print(f"  line {d.line}")
    out.print("\nevents: " + ", ".join(dict.fromkeys(e.name for e in f.events)))
    for s in [s for s in f.samples if s.dialect][:12]:
        out.print(Text(f"  {s.path}:{s.line_number} {clean(s.line)[:200]}"))


def format_test(path: str, parsers: Path | None) -> None:
    """For the first lines of a file: what claims each, or how far the nearest dialect matches."""
    library = definitions.builtin() if parsers is None else definitions.load(resources.folder("parsers"), parsers)
    out = console()
    for blob in read.blobs([path]):
        if not len(blob.data):
            out.print(f"{blob.path}: {blob.status}: {blob.message}")
            continue
        from occorr import unwrap  # noqa: PLC0415

        first = next(iter(read.chunks(blob))).head(20)
        bare = unwrap.bare(first)
        envelopes, _ = unwrap.chain(bare.get_column("text"), library.envelopes)
        if envelopes:
            out.print(f"envelopes: {' > '.join(e.name for e in envelopes)}")
        lines = unwrap.peel(bare, envelopes)
        found = detect.recognise(lines.get_column("text"), library)
        order = detect.order(found.dialects, library)
        for row in detect.assign(lines, found.dialects, library).to_dicts():
            if not row["text"].strip():
                continue
            if row["_dialect"] >= 0:
                out.print(Text(f"{row['line']}: {order[row['_dialect']].parser}"))
            else:
                near, stop = _nearest_stop(row["text"], library)
                out.print(Text(f"{row['line']}: no format. Nearest: {near}, which matches {stop} characters:"))
                out.print(Text("    " + clean(row["text"])[:stop] + " ⟂ " + clean(row["text"])[stop : stop + 60]))


def _nearest_stop(text: str, library: definitions.Library) -> tuple[str, int]:
    """The dialect whose line test matches the longest beginning of a text, and how long that is."""
    best = ("none", 0)
    for dialect in library.dialects:
        pattern = dialect.line
        for end in range(len(pattern), 1, -1):
            try:
                found = re.match(pattern[:end].replace("(?P<", "(?P<"), text)
            except re.error:
                continue
            if found:
                if found.end() > best[1]:
                    best = (dialect.parser, found.end())
                break
    return best


def rules() -> None:
    """The list of causes and rules."""
    out = console()
    for cause in rule_files.builtin():
        out.print(Text.assemble((cause.cause, "bold"), f"  {cause.title}  ({cause.path})"))
        every: tuple[rule_files.EpisodeRule | rule_files.Rule, ...] = (*cause.episodes, *cause.rules)
        for rule in every:
            out.print(f"  {rule.strength:<15} {rule.id.split('/')[-1]}: {rule.sentence}")


def rule_details(name: str) -> None:
    """One cause.

    Raises:
        OccorrError: no such cause.
    """
    causes = {c.path.rpartition("/")[2].removesuffix(".toml"): c for c in rule_files.builtin()}
    if name not in causes:
        raise OccorrError(f"cause {name!r} has no rules; {nearest(name, causes)}")
    cause, out = causes[name], console()
    out.print(f"{cause.cause}: {cause.title} ({cause.path})\ncheck first: {cause.check}\nwhat settles it: {cause.settle}")
    every: tuple[rule_files.EpisodeRule | rule_files.Rule, ...] = (*cause.episodes, *cause.rules)
    for rule in every:
        out.print(f"\n{rule.id} [{rule.strength}]\n  {rule.sentence}\n  when {rule.when}")
        relation = getattr(rule, "relation", None)
        if relation:
            out.print(f"  at the {relation.at} of a {relation.kind} episode, from {relation.before:g} s before to {relation.after:g} s after" + (f", where {relation.when}" if relation.when else ""))


def rule_cases() -> bool:
    """Runs every case of every rule file and prints those that fail; True if none did."""
    out, good, total = console(), True, 0
    for cause in rule_files.builtin():
        for case in cause.cases:
            total += 1
            features = rule_files.EPISODE_FEATURES if case.about == "episode" else rule_files.FEATURES
            frame = pl.DataFrame({name: [case.values.get(name)] for name in features}, schema=features)
            asked = cause.episodes if case.about == "episode" else cause.rules
            fired = [r.id for r in asked if r.when and frame.select(pl.sql_expr(r.when).fill_null(value=False).alias("_")).item()]
            if bool(fired) != case.fires:
                good = False
                out.print(f"{case.path}:{case.line_number}: expected {'a rule to fire' if case.fires else 'no rule to fire'}, got {', '.join(fired) or 'none'}")
    out.print(f"{total} cases, {'all hold' if good else 'some fail'}")
    return good


def scores(found: Sequence[Score], total: dict[str, Any]) -> None:
    """The scores as a table, and every wrong decisive verdict."""
    out = console()
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("incident", "clocks", "found", "split", "inv", "cause", "family", "decided", "humble", "wrong"):
        table.add_column(name, justify="left" if name in ("incident", "clocks") else "right")
    for s in found:
        table.add_row(s.incident, "skewed" if s.skewed else "", f"{s.found}/{s.labels}", str(s.split + s.merged), str(s.invented), f"{s.cause_right}/{s.knowable}", f"{s.family_right}/{s.knowable}", f"{s.decided}/{s.decidable}", f"{s.humble}/{s.unknowable}", str(len(s.wrong)))
    out.print(table)
    for name in ("clean", "skewed", "all"):
        if name in total:
            t = total[name]
            out.print(f"{name}: " + ", ".join(f"{k.replace('_', ' ')} {v:.4f}" if isinstance(v, float) else f"{k.replace('_', ' ')} {v}" for k, v in t.items()))
    for s in found:
        for c in s.clocks:
            mark = "inside" if c["inside"] == 1 else f"{c['inside']:.0%} inside"
            out.print(f"{s.incident} {c['clock']}: true {c['true_ms']:+.3f} ms, found {c['found_ms']:+.3f} ms ± {c['error_ms']:.3f} ms, {mark}, {c['status']}")
    for s in found:
        for wrong in s.wrong:
            row, truth = wrong["row"], wrong["label"]
            out.print(f"wrong decisive: {s.incident} {truth['close_id']}: {truth['cause']} called {row['cause']}")
