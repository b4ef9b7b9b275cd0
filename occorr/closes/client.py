"""What the CLI says: a row an invocation, with how it ended and where it wanted to go."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import polars as pl

from occorr import link
from occorr.closes.gateway import first

TOGETHER: Final = timedelta(seconds=1)  # a busy machine; two runs by a script are further apart


def read_calls(events: pl.DataFrame) -> pl.DataFrame:
    """A row an invocation of the CLI that failed or succeeded."""
    cli = events.filter(pl.col("source_kind") == "cli")
    outcome = cli.filter(pl.col("event_name").is_in(["cli.failure", "cli.success"]))
    printed = pl.col("parser") == "openclaw/cli"
    # Lines that a CLI process wrote into a log carry a time; what it has to say it says within a tenth of a second.
    later = (pl.col("timestamp").diff().over("log_file_path") > TOGETHER).fill_null(value=True)
    logged = outcome.filter(~printed).sort("log_file_path", "timestamp", "seq")
    logged = logged.with_columns(later.cum_sum().over("log_file_path").alias("_run"))
    begins = later | link.another("log_file_path", "_run")
    logged = logged.with_columns(begins.cum_sum().over("log_file_path").cast(pl.Int64).alias("cli_record")).drop("_run")
    outcome = pl.concat([outcome.filter(printed), logged], how="diagonal")
    # what says most comes first: a status or a code before a bare "failed"
    rank = pl.col("cli_error").replace_strict(
        {"closed": 0, "rejected": 0, "timeout": 1, "failed": 4, "none": 5}, default=2, return_dtype=pl.Int64
    )
    order = outcome.with_columns(rank.alias("rank"), printed.alias("c_printed")).sort(
        "log_file_path", "c_printed", "cli_record", "rank", "log_line"
    )
    spoken = pl.col("cli_error").is_in(["failed", "closed"])
    rows = (
        order.group_by("log_file_path", "c_printed", "cli_record", maintain_order=True)
        .agg(
            # the line that says why, where the one that says most does not
            pl.col("event_id")
            .sort_by(pl.when(spoken).then("websocket_close_reason").is_null(), maintain_order=True)
            .first()
            .alias("c_event"),
            first("instance").alias("c_instance"),
            pl.col("cli_error").first().alias("c_error"),
            first("websocket_close_code").cast(pl.Int64).alias("code_client"),
            pl.col("websocket_close_reason")
            .filter(spoken)
            .drop_nulls()
            .sort_by(pl.col("websocket_close_reason").filter(spoken).drop_nulls().str.len_bytes(), descending=True)
            .first()
            .alias("c_reason"),
            first("http_response_status_code").alias("c_status"),
            first("cli_target").alias("c_target"),
            first("cli_source").alias("c_source"),
            first("cli_timeout_ms").alias("c_timeout_ms"),
            first("server_address").alias("c_server"),
            pl.col("timestamp").min().cast(pl.Int64).alias("c_t"),
            pl.col("time_earliest").min().cast(pl.Int64).alias("c_low"),
            pl.col("time_latest").max().cast(pl.Int64).alias("c_high"),
            first("cli_command").alias("c_command"),
            pl.col("recorded_start").first().alias("c_start"),
            pl.coalesce("compose_service", pl.col("part").replace("", None)).first().alias("c_service"),
        )
        .rename({"log_file_path": "c_file"})
    )
    rows = rows.with_columns(
        pl.coalesce("c_target", pl.col("c_command").str.extract(r"--url[= ](\S+)", 1)).alias("c_target")
    )
    stamped = events.filter(pl.col("timestamp_raw").is_not_null()).get_column("log_file_path").unique()
    rows = rows.with_columns(
        (pl.col("c_start").is_null() & ~pl.col("c_file").is_in(stamped.implode())).alias("c_undated")
    )
    url = pl.col("c_target")
    rows = rows.with_columns(
        url.str.extract(r"^wss?(?:\+unix)?://\[?([^/\]:]+|[0-9a-fA-F:]+)\]?", 1).alias("c_host"),
        pl.coalesce(
            url.str.extract(r"^wss?://\[?[^/\]]*?\]?:(\d+)", 1).cast(pl.Int64),
            pl.when(url.str.starts_with("wss://")).then(443).when(url.str.starts_with("ws://")).then(80),
        ).alias("c_port"),
        url.str.extract(r"^wss?://[^/]+(/[^?]*)", 1).alias("c_path"),
        pl.when(pl.col("c_error") == "none").then(1000).otherwise("code_client").alias("code_client"),
    )
    # An invocation printed by the CLI is also in the file log when both write there: the printed one stays.
    seen = rows.filter(pl.col("c_printed") & pl.col("c_low").is_not_null())
    if seen.height and rows.filter(~pl.col("c_printed")).height:
        twin = rows.filter(~pl.col("c_printed")).join_where(
            seen.select(pl.col("c_low").alias("_l"), pl.col("c_high").alias("_h")),
            pl.col("c_t") >= pl.col("_l"),
            pl.col("c_t") <= pl.col("_h"),
        )
        rows = rows.join(twin.select("c_event"), on="c_event", how="anti")
    return rows.sort("c_t", "c_file", "cli_record", nulls_last=True).drop("cli_record").with_row_index("c_row")
