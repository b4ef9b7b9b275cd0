"""What the gateway says: a row a connection that ended, or whose process ended under it."""

from __future__ import annotations

from typing import Final

import polars as pl

from occorr.schema import MS, SECOND

REFUSED_LATE: Final = (
    2 * SECOND
)  # a client still sending hears that its message was too large up to 1.1 s after the line
# the library's error always ends a connection; for these the gateway closes it itself
_CLOSED_FOR: Final = (
    "auth.unauthorized",
    "handshake.timeout",
    "handshake.invalid",
    "protocol.mismatch",
)


def first(column: str) -> pl.Expr:
    """The first value of a column that is one."""
    return pl.col(column).drop_nulls().first()


def _of(name: str, column: str = "event_id") -> pl.Expr:
    return pl.col(column).filter(pl.col("event_name") == name).first()


def connections(events: pl.DataFrame) -> pl.DataFrame:
    """A row a connection that the gateway speaks of and that ended, or whose process ended under it."""
    events = events if "instance" in events.columns else events.with_columns(pl.lit("").alias("instance"))
    own = events.filter(pl.col("source_kind") == "gateway").with_columns(pl.col("timestamp").cast(pl.Int64).alias("t"))
    own = own.with_columns(
        pl.when(_nameless() & pl.col("conn_short").is_null())
        .then(pl.col("event_id"))
        .otherwise("conn_short")
        .alias("key"),
        pl.col("endpoint").str.extract(r"^\[?([^\]]+?)\]?:\d+->", 1).alias("_peer"),
        pl.col("endpoint").str.extract(r"^\[?[^\]]+?\]?:(\d+)->", 1).cast(pl.Int64).alias("_port"),
        pl.col("endpoint").str.extract(r"->\[?([^\]]+?)\]?:\d+$", 1).alias("_local"),
    )
    closing = pl.col("_ends")
    opening = pl.col("event_name").is_in(["websocket.open", "websocket.connected"])
    structured = closing & pl.col("parser").is_in(["openclaw/file", "openclaw/json"])
    plain = ~pl.col("ambiguous_text").fill_null(value=False)
    lines = (
        own.filter(pl.col("key").is_not_null())
        .with_columns(_ends().alias("_ends"))
        .sort("t", "log_file_path", "log_line", nulls_last=True)
    )
    rows = lines.group_by("key", maintain_order=True).agg(
        first("conn_id"),
        closing.any().alias("g_closed"),
        pl.col("event_id").filter(closing).first().alias("g_event"),
        pl.col("event_id").filter(opening).first().alias("g_open_event"),
        pl.col("t").filter(closing).min().alias("g_t"),
        pl.col("time_earliest").filter(closing).min().cast(pl.Int64).alias("g_low"),
        (
            pl.col("time_latest").cast(pl.Int64)
            + pl.when(pl.col("event_name") == "websocket.error").then(REFUSED_LATE).otherwise(0)
        )
        .filter(closing)
        .min()
        .alias("g_high"),
        pl.col("t").filter(opening).min().alias("g_opened"),
        pl.col("clock_error_ns").filter(opening).max().alias("g_opened_error"),
        pl.col("t").max().alias("g_last"),
        pl.col("t")
        .filter(~closing & (pl.col("t") < pl.col("t").filter(closing).min() - SECOND))
        .max()
        .alias("g_heard"),
        pl.col("time_earliest")
        .filter(~closing & (pl.col("t") <= pl.col("t").filter(closing).min()))
        .max()
        .cast(pl.Int64)
        .alias("g_decided"),
        pl.col("websocket_close_code").filter(closing).drop_nulls().first().cast(pl.Int64).alias("code_gateway"),
        pl.col("websocket_close_reason").filter(closing).drop_nulls().first().alias("g_reason"),
        structured.any().alias("_structured"),
        pl.col("gateway_cause").filter(structured).drop_nulls().first().alias("_stated"),
        pl.col("gateway_cause").filter(plain).drop_nulls().first().alias("g_cause"),
        pl.col("ambiguous_text").filter(closing).fill_null(value=False).any().alias("g_ambiguous"),
        first("handshake").alias("g_handshake"),
        pl.col("duration_ns").filter(closing).drop_nulls().first().alias("g_duration"),
        pl.coalesce(first("remote_address"), first("_peer")).alias("g_remote"),
        pl.coalesce(first("remote_port"), first("_port")).alias("g_port"),
        pl.coalesce(first("local_address"), first("_local")).alias("g_local"),
        first("forwarded_for").alias("g_forwarded"),
        first("client_mode").alias("g_mode"),
        first("user_agent_original").alias("g_agent"),
        pl.col("suppressed").filter(plain).drop_nulls().first().alias("_suppressed"),
        pl.col("auth_reason").filter(plain | structured).drop_nulls().first().alias("g_auth"),
        first("websocket_error").alias("g_error"),
        first("clock_id").alias("g_clock"),
        pl.col("event_name").eq("websocket.connected").any().alias("g_connected"),
        pl.col("event_id").filter((pl.col("event_name") == "auth.unauthorized") & plain).first().alias("g_auth_event"),
        _of("websocket.error").alias("g_error_event"),
        _of("frame.parse_error").alias("g_parse_event"),
        _of("frame.parse_error", "websocket_error").alias("g_parse"),
        _of("handshake.timeout").alias("g_timeout_event"),
        _of("protocol.mismatch").alias("g_version_event"),
        _of("handshake.invalid").alias("g_invalid_event"),
        pl.col("event_name").eq("rpc.response").any().alias("g_spoke"),
        first("instance").alias("g_instance"),
    )
    rows = rows.with_columns(
        # a structured form says what the cause is, also by saying none; its free text may still be read in two ways
        pl.when("_structured").then("_stated").otherwise("g_cause").alias("g_cause"),
        (pl.col("g_ambiguous") & pl.col("_stated").is_null()).alias("g_ambiguous"),
        pl.when(pl.col("g_ambiguous")).then(None).otherwise("code_gateway").alias("code_gateway"),
        pl.when(pl.col("g_ambiguous")).then(None).otherwise("g_reason").alias("g_reason"),
        (pl.col("_suppressed").fill_null(0) + 1).alias("count"),
        pl.coalesce("g_opened", pl.col("g_t") - pl.col("g_duration")).alias("g_opened"),
        pl.coalesce("g_duration", pl.col("g_t") - pl.col("g_opened")).alias("g_duration"),
    ).drop("_structured", "_stated", "_suppressed")
    deaths = _deaths(own, events)
    # a gateway's connections die with it and with no other; where nobody says whose they are, any death may be theirs
    rows, deaths = rows.sort("g_last", "key"), deaths.sort("dead", "instance", "dead_event")
    theirs = rows.filter(pl.col("g_instance").is_not_null()).join_asof(
        deaths,
        left_on="g_last",
        right_on="dead",
        by_left="g_instance",
        by_right="instance",
        strategy="forward",
        check_sortedness=False,
    )
    anyones = rows.filter(pl.col("g_instance").is_null()).join_asof(
        deaths.drop("instance"), left_on="g_last", right_on="dead", strategy="forward", check_sortedness=False
    )
    rows = pl.concat([theirs, anyones.select(theirs.columns)]).sort("g_last", "key")
    inferred = ~pl.col("g_closed") & pl.col("g_opened").is_not_null() & pl.col("dead").is_not_null()
    rows = rows.filter(pl.col("g_closed") | inferred).with_columns(
        pl.when(inferred).then("g_last").otherwise("g_low").alias("g_low"),
        pl.when(inferred).then("dead").otherwise("g_high").alias("g_high"),
        pl.when(inferred).then(pl.max_horizontal("g_last", pl.col("dead") - 100 * MS)).otherwise("g_t").alias("g_t"),
        inferred.alias("inferred"),
        pl.when(inferred).then("dead_event").otherwise(None).alias("death_event"),
    )
    short = pl.col("key").str.contains("…", literal=True)
    return (
        rows.with_columns(
            pl.coalesce("conn_id", pl.when(short).then("key")).alias("conn_id"),
            pl.coalesce("conn_id", "key").alias("close_id"),
            (pl.col("g_connected") | (pl.col("g_handshake") == "connected") | pl.col("g_spoke"))
            .fill_null(value=False)
            .alias("g_established"),
        )
        .drop("dead", "dead_event")
        .with_row_index("g_row")
    )


def _nameless() -> pl.Expr:
    """Whether a line that names no connection stands for one: a close, or a refusal in a log that tells of no close."""
    close, refused = pl.col("event_name") == "websocket.close", pl.col("event_name") == "auth.unauthorized"
    told = close | (pl.col("event_name") == "websocket.open")
    return close | (refused & ~told.any().over("log_file_path"))


def _ends() -> pl.Expr:
    """Whether a line says that its connection ended: the close line, or else what the gateway closes connections for.

    At the default verbosity it warns of an error and does not log the close after it; and people paste the line that
    says why, without the next. Where a log's closes do not all name their connection, any may be that one's.
    """
    close, error = pl.col("event_name") == "websocket.close", pl.col("event_name") == "websocket.error"
    blurred = (close & (pl.col("conn_short").is_null() | (pl.col("suppressed") > 0))).fill_null(value=False)
    why = error | (pl.col("event_name").is_in(_CLOSED_FOR) & ~blurred.any().over("log_file_path"))
    return close | (why & ~close.any().over("key")).fill_null(value=False)


def _deaths(own: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """When a gateway process was gone for certain: its container died, or another one starts in its place."""
    starts = own.filter(pl.col("event_name") == "gateway.start").select(
        pl.col("t").alias("dead"), pl.col("event_id").alias("dead_event"), "instance"
    )
    containers = gateway_containers(events)
    dies = events.filter((pl.col("event_name") == "container.die") & pl.col("container_id").is_in(containers)).select(
        pl.col("timestamp").cast(pl.Int64).alias("dead"), pl.col("event_id").alias("dead_event"), "instance"
    )
    return pl.concat([starts, dies]).drop_nulls()


def gateway_containers(events: pl.DataFrame) -> list[str]:
    """Ids of the containers whose life is the gateway's, as `roles` marked them."""
    if "role" not in events.columns:
        return []
    return events.filter(pl.col("role") == "gateway").get_column("container_id").drop_nulls().unique().sort().to_list()
