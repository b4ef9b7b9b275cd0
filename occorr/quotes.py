"""What a line says, in the fewest words: structured records are hard to read where one sentence would do.

The line itself stays beside it everywhere; this is only what is shown first.
"""

from __future__ import annotations

from typing import Any, Final

import polars as pl

# Which lines tell an incident's story best, the smallest first; 9 for all others.
TELLING: Final = {
    "container.oom": 0,
    "gateway.conflict": 0,
    "gateway.crash": 0,
    "process.error": 1,
    "container.die": 2,
    "container.kill": 1,
    "container.destroy": 2,
    "gateway.signal": 3,
    "gateway.restart": 3,
    "container.pause": 1,
    "network.disconnect": 1,
    "proxy.untrusted": 1,
    "auth.unauthorized": 2,
    "websocket.error": 2,
    "frame.parse_error": 2,
    "handshake.invalid": 2,
    "websocket.close": 4,
    "cli.failure": 5,
    "proxy.error": 5,
    "proxy.reload": 3,
    "container.exec_create": 3,
}
# What is worth a word where no close is told: how processes ended, or why they did not start.
ENDS: Final = (
    "gateway.conflict",
    "gateway.start_failed",
    "gateway.crash",
    "process.error",
    "gateway.signal",
    "container.oom",
    "container.die",
    "kernel.oom",
    "kernel.oom_cgroup",
    "unit.oom",
    "unit.exited",
    "unit.failed",
)
FEW: Final = 5


def deciding(
    table: pl.DataFrame, closes: pl.DataFrame, evidence: pl.DataFrame, timeline: pl.DataFrame
) -> dict[str, dict[str, Any]]:
    """The strongest line for each incident's cause; among equals the most telling, then the one most closes cite, then the nearest.

    Args:
        table: INCIDENTS.
        closes: CLOSES.
        evidence: EVIDENCE.
        timeline: EVENTS.

    Returns:
        incident_id → the row of EVIDENCE.
    """
    rank = pl.col("strength").replace_strict(
        {"decisive": 0, "supporting": 1, "circumstantial": 2}, default=3, return_dtype=pl.Int8
    )
    cited = (
        evidence.filter(pl.col("role") == "supports")
        .join(closes.select("close_id", "incident_id"), on="close_id", maintain_order="left")
        .join(table.select("incident_id", incident_cause="cause"), on="incident_id", maintain_order="left")
        .filter(pl.col("cause").eq_missing(pl.col("incident_cause")))
        .join(
            timeline.select("event_id", "event_name").unique("event_id", keep="first", maintain_order=True),
            on="event_id",
            how="left",
            maintain_order="left",
        )
        .with_columns(
            rank=rank,
            telling=pl.col("event_name").cast(pl.String).replace_strict(TELLING, default=9, return_dtype=pl.Int8),
        )
        .with_columns(cites=pl.len().over("incident_id", "event_id"), far=pl.col("delta_ns").abs())
        .sort(
            ["incident_id", "rank", "telling", "cites", "far", "log_file_path", "log_line", "close_id"],
            descending=[False, False, False, True, False, False, False, False],
            nulls_last=True,
        )
        .unique("incident_id", keep="first", maintain_order=True)
    )
    return {row["incident_id"]: row for row in cited.iter_rows(named=True)}


def ends(timeline: pl.DataFrame) -> tuple[list[dict[str, Any]], int]:
    """The first lines that tell how processes ended or why they did not start, and how many there are in all.

    Args:
        timeline: EVENTS.

    Returns:
        rows of log_file_path, log_line and said.
    """
    told = timeline.filter(pl.col("event_name").cast(pl.String).is_in(ENDS))
    first = told.head(FEW)
    said = first.join(sayings(first).select("event_id", "said"), on="event_id", how="left", maintain_order="left")
    return said.select("log_file_path", "log_line", "said").to_dicts(), told.height


def sayings(timeline: pl.DataFrame) -> pl.DataFrame:
    """For each event, `said`: an engine's event, a request and a close as words, any other line's message without its stamps.

    Args:
        timeline: EVENTS.

    Returns:
        columns event_id, event_name, said; one row an event.
    """
    text = timeline.with_columns(
        pl.col(c).cast(pl.String)
        for c in (
            "event_name",
            "container_name",
            "container_action",
            "source_kind",
            "client_address",
            "http_request_method",
        )
    )
    kind, name = pl.col("source_kind"), pl.col("event_name")
    raw = pl.col("log_record_original")

    def attribute(*keys: str) -> pl.Expr:
        return (
            pl.col("attributes")
            .list.eval(pl.element().struct.field("value").filter(pl.element().struct.field("key").is_in(keys)))
            .list.join(" ")
            .replace("", None)
        )

    engine = pl.concat_str(
        pl.col("event_name").str.replace(".", " ", literal=True),
        "container_name",
        pl.when(pl.col("container_exit_code").is_not_null()).then(pl.format("exit code {}", "container_exit_code")),
        pl.format("signal {}", attribute("signal")),
        attribute("health_status", "network_name", "exec_command"),
        separator=" ",
        ignore_nulls=True,
    )
    proxy = pl.concat_str(
        "client_address",
        "http_request_method",
        "url_path",
        pl.format("status {}", pl.col("http_response_status_code")),
        pl.when(pl.col("duration_ns").is_not_null()).then(
            pl.format("after {} s", (pl.col("duration_ns") / 1e9).round(3))
        ),
        separator=" ",
        ignore_nulls=True,
    )
    # Lines of a gateway are long rows of fields, and the ones that decide stand last.
    unauthorized = pl.concat_str(
        pl.lit("unauthorized:"),
        attribute("auth_reason"),
        pl.format("conn {}", pl.col("conn_id").str.slice(0, 8)),
        pl.format("from {}", "client_address"),
        separator=" ",
        ignore_nulls=True,
    )
    close = pl.concat_str(
        pl.col("body").str.extract(r"^(?:\[\w+\] )?(\w[\w -]{0,40}?)(?: conn=| code=|$)").fill_null("closed"),
        pl.format("code {}", "websocket_close_code"),
        pl.format("“{}”", pl.col("websocket_close_reason").replace("", None)),
        pl.format("conn {}", pl.col("conn_id").str.slice(0, 8)),
        pl.format("from {}", "client_address"),
        separator=" ",
        ignore_nulls=True,
    )
    said = (
        pl.when(raw.str.starts_with("{") & (kind == "docker"))
        .then(engine)
        .when((kind == "proxy") & (name == "http.access"))
        .then(proxy)
        .when((kind == "gateway") & (name == "websocket.close") & pl.col("websocket_close_code").is_not_null())
        .then(close)
        .when((name == "auth.unauthorized") & attribute("auth_reason").is_not_null())
        .then(unauthorized)
        .otherwise(pl.coalesce("body", raw))
    )
    return text.select("event_id", "event_name", said.alias("said")).unique(
        "event_id", keep="first", maintain_order=True
    )
