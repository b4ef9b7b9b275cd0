"""timeline.html: one file that opens without a network, holds all its data and runs nothing that is not in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import quotes, rules
from occorr.report import shell, words
from occorr.report.digest import Digest, digest, proof_of
from occorr.report.document import headline
from occorr.report.tables import Tables, shown, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SCRIPTS: Final = tuple(f"timeline/{name}.js" for name in ("data", "chart", "dense", "draw", "panel", "table", "main"))
_EVENT_LIMIT: Final = 50_000  # above it, lines that nothing cites and nothing reports are counted and not listed
_TEXT: Final = 160  # characters of a line on the page; the whole line stands at its file:line
_NOSCRIPT_ROWS: Final = 200
# Among lines of one strength the most telling stands first, as in the heading.
_TELLING: Final = pl.col("event_name").cast(pl.String).replace_strict(quotes.TELLING, default=9, return_dtype=pl.Int8)
_STRENGTH: Final = pl.col("strength").replace_strict(
    {"decisive": 0, "supporting": 1, "circumstantial": 2}, default=3, return_dtype=pl.Int8
)


def timeline_html(tables: Tables) -> str:
    """The page, with plotly and the data inside."""
    d = digest(tables)
    rows = d.closes.head(_NOSCRIPT_ROWS)
    data = page_data(d)
    return shell.page(
        "timeline/template.html.j2",
        styles=("timeline/style.css",),
        scripts=_SCRIPTS,
        data=data,
        picture=True,
        banners=d.banners,
        d=d,
        headline=headline(d),
        rows=rows.to_dicts(),
        proofs=_proofs(d, rows),
        families=_families(d),
        corrections=_corrections(d),
    )


def page_data(d: Digest) -> dict[str, Any]:
    """What the page draws: columns, times in µs since `base`, repeated text once."""
    base = (
        min((t for t in (d.first, d.timeline["timestamp"].min()) if isinstance(t, int)), default=0) // 10**9
    ) * 10**9
    events, binned = _events(d, base)
    return {
        "base": base // 10**6,
        "sure": words.SURE,
        "families": words.FAMILIES,
        "titles": {
            c: words.title(c) for c in sorted({*d.closes["cause"].drop_nulls(), *(i.cause for i in d.incidents)})
        },
        "closes": _columns(_closes(d, base)),
        "evidence": _columns(_evidence(d, base)),
        "incidents": [
            {
                "id": shown(i.incident_id),
                "number": i.number,
                "family": i.family,
                "projects": i.projects.split(", "),
                "start": _us(i.start, base),
                "end": _us(i.end, base),
                "title": words.title(i.cause),
                "proof": i.proof.close_id if i.proof else None,
            }
            for i in d.incidents
        ],
        "lanes": [
            {
                "project": shown(lane.project),
                "name": shown(lane.name),
                "gateway": lane.gateway,
                "spans": [[s.state, _us(s.start, base), _us(s.end, base)] for s in [*lane.spans, *lane.overlays]],
                "labels": [[_us(at, base), text, loud] for at, text, loud in lane.labels],
            }
            for lane in d.lanes
        ],
        "events": _columns(events),
        "binned": binned,
    }


def _us(ns: int | None, base: int) -> int | None:
    return None if ns is None else (ns - base) // 1000


def _times(base: int, **columns: str) -> list[pl.Expr]:
    """Columns of ns as µs since base."""
    return [((pl.col(name) - base) // 1000).alias(new) for new, name in columns.items()]


def _closes(d: Digest, base: int) -> pl.DataFrame:
    return d.closes.select(
        *_times(base, t="timestamp", lo="time_earliest", hi="time_latest", opened="opened"),
        pl.col("duration_ns").floordiv(1000).alias("lasted"),
        pl.col("probability").round(4).alias("p"),
        pl.col("runner_up_probability").round(4).alias("runner_p"),
        pl.col("compose_project").fill_null(d.only_project).alias("project"),
        pl.col("family").fill_null("unknown"),
        pl.col("cause").fill_null("unknown.unknown"),
        pl.col("verdict").fill_null("unknown"),
        pl.col("count").fill_null(1).alias("n"),
        pl.col("observers").list.join(", "),
        # Items are made visible before they join, so that none of them can hold the line break that parts them.
        pl.col("missing").list.eval(pl.element().map_elements(visible, pl.String)).list.join("\n"),
        "close_id",
        "via",
        "conn_id",
        "client_address",
        "client_port",
        "code_observer",
        "code_client",
        "code_gateway",
        "established",
        "group_id",
        "runner_up",
        "incident_id",
        "layer",
        code="websocket_close_code",
        http="http_status_proxy",
        reason="websocket_close_reason",
        service="service_name",
    )


def _evidence(d: Digest, base: int) -> pl.DataFrame:
    places = d.closes.select("close_id").with_row_index("close")
    told = (
        d.timeline.select(
            "event_id",
            "timestamp",
            _TELLING.alias("telling"),
            "source_kind",
            "compose_project",
            service=pl.coalesce("compose_service", "service_name"),
        )
        .unique("event_id", keep="first", maintain_order=True)
        .join(
            quotes.sayings(
                d.timeline.filter(pl.col("event_id").is_in(d.evidence["event_id"].drop_nulls().unique().implode()))
            ).select("event_id", "said"),
            on="event_id",
            how="left",
            maintain_order="left",
        )
    )
    because = {rule.id: rule.sentence for cause in rules.builtin() for rule in cause.rules}
    return (
        d.evidence.join(places, on="close_id", maintain_order="left")
        .join(told, on="event_id", how="left", maintain_order="left")
        .with_columns(order=_STRENGTH)
        .sort(
            "close",
            pl.col("role") != "supports",
            "order",
            "telling",
            pl.col("delta_ns").abs(),
            "log_file_path",
            "log_line",
            nulls_last=True,
        )
        .select(
            *_times(base, t="timestamp"),
            pl.col("delta_ns").floordiv(1000).alias("delta"),
            pl.col("error_ns").floordiv(1000).alias("error"),
            _named(d),
            pl.col("quote").str.slice(0, 2000),
            pl.coalesce("said", "quote").str.slice(0, 2000).alias("said"),
            pl.col("rule").replace(because).alias("because"),
            pl.col("compose_project").fill_null(d.only_project).alias("project"),
            "close",
            "rule",
            "cause",
            "role",
            "strength",
            "service",
            line="log_line",
            kind="source_kind",
        )
    )


def _events(d: Digest, base: int) -> tuple[pl.DataFrame, int]:
    """Lines as ticks, and how many were left out: more than a page can hold, where nothing cites or reports them."""
    ticks = d.timeline.filter(
        pl.col("timestamp").is_not_null() & ~pl.col("container_action").str.starts_with("exec").fill_null(value=False)
    ).with_columns(
        severity=pl.when(pl.col("severity_number") >= 17)
        .then(2)
        .when(pl.col("severity_number") >= 13)
        .then(1)
        .otherwise(0)
    )
    binned = 0
    if ticks.height > _EVENT_LIMIT:
        matters = (
            (pl.col("severity") > 0)
            | pl.col("event_id").is_in(d.evidence["event_id"].drop_nulls().unique().implode())
            | (pl.col("source_kind") == "docker")
        )
        # One tick a lane and a 2,000th of the span is what a screen can show of the rest.
        span = max(1, ((d.last or 0) - (d.first or 0)) // 2000)
        slots = ticks.filter(~matters).with_columns(slot=pl.col("timestamp") // span)
        rest = slots.unique(
            ["source_kind", "compose_project", "compose_service", "service_name", "slot"],
            keep="first",
            maintain_order=True,
        ).drop("slot")
        binned = ticks.height
        ticks = pl.concat([ticks.filter(matters), rest])
        binned -= ticks.height
    said = pl.coalesce("body", "log_record_original").str.slice(0, _TEXT)
    return (
        ticks.sort("timestamp", "event_id", maintain_order=True).select(
            *_times(base, t="timestamp"),
            _named(d),
            said.alias("text"),
            pl.col("compose_project").fill_null(d.only_project).alias("project"),
            "severity",
            line="log_line",
            kind="source_kind",
            name="event_name",
            service=pl.coalesce("compose_service", "service_name"),
        ),
        binned,
    )


def _named(d: Digest) -> pl.Expr:
    return pl.col("log_file_path").replace(dict(d.files)).alias("file")


def _columns(frame: pl.DataFrame) -> dict[str, Any]:
    """A frame as JSON columns: numbers as they are, text as a list of its values and an index."""
    return {
        name: _texts(frame[name]) if frame[name].dtype == pl.String else frame[name].to_list() for name in frame.columns
    }


def _texts(column: pl.Series) -> dict[str, list[Any]]:
    values = column.drop_nulls().unique(maintain_order=True).to_list()
    index = {text: i for i, text in enumerate(values)}
    # `missing` parts its items by line breaks, and holds none beside them.
    keep = column.name == "missing"
    return {
        "k": values if keep else [visible(v) for v in values],
        "i": [None if v is None else index[v] for v in column],
    }


def _proofs(d: Digest, rows: pl.DataFrame) -> dict[str, str]:
    """close_id → file:line of its first line of evidence."""
    names = d.timeline.select("event_id", "event_name").unique("event_id", keep="first", maintain_order=True)
    own = (
        d.evidence.filter(pl.col("close_id").is_in(rows["close_id"].implode()) & (pl.col("role") == "supports"))
        .join(names, on="event_id", how="left", maintain_order="left")
        .with_columns(order=_STRENGTH, telling=_TELLING)
        .sort("close_id", "order", "telling", pl.col("delta_ns").abs(), "log_file_path", "log_line", nulls_last=True)
    )
    first = own.unique("close_id", keep="first", maintain_order=True)
    return {row["close_id"]: proof_of(row, d.files).place for row in first.iter_rows(named=True)}


def _families(d: Digest) -> list[tuple[str, int]]:
    """Families that occur, in the order of the lanes, with their closes."""
    counts: Mapping[str, int] = dict(
        d.closes.group_by(pl.col("family").fill_null("unknown"))
        .agg(pl.col("count").fill_null(1).clip(lower_bound=1).sum())
        .iter_rows()
    )
    return [(f, counts[f]) for f in (*words.FAMILIES, *sorted(set(counts) - set(words.FAMILIES))) if f in counts]


def _corrections(d: Digest) -> str:
    """The clocks' corrections as one sentence."""
    said: dict[str, None] = {}
    reference = ""
    for row in d.clocks.iter_rows(named=True):
        name = d.files.get(row["clock_id"], shown(row["clock_id"]))
        if row["status"] == "reference":
            reference = reference or name
        elif row["status"] == "unalignable":
            said[f"{name} could not be aligned"] = None
        elif row["offset_ns"] is not None and abs(row["offset_ns"]) >= max(10**7, row["error_ns"] or 0):
            way = "ahead" if row["offset_ns"] > 0 else "behind"
            said[f"{name} ran {words.length(abs(row['offset_ns']))} {way} (±{words.length(row['error_ns'])})"] = None
        elif row["error_ns"] is not None and row["error_ns"] >= 10**8:
            said[f"{name} is known to ±{words.length(row['error_ns'])}"] = None
    head = f"Time is UTC on the clock of {reference}." if reference else "Time is UTC."
    return head + (f" Corrected: {_listed(said)}." if said else " No clock needed a correction.")


def _listed(parts: Iterable[str], most: int = 6) -> str:
    items = list(parts)
    more = f"; and {len(items) - most} more in the report" if len(items) > most else ""
    return "; ".join(items[:most]) + more
