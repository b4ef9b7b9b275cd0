"""What would settle a close that is not settled."""

from __future__ import annotations

from typing import Final

import polars as pl

from occorr.schema import SECOND

ITS_WORDS: Final = 160  # characters of the gateway's error that are repeated


def missing(facts: pl.DataFrame) -> pl.Expr:
    """What would settle a close that is not settled; a proxy's configuration may say that its logs cannot."""
    open_ = pl.col("verdict") != "decisive"
    when = pl.coalesce(pl.col("timestamp").dt.strftime("%H:%M:%S"), pl.lit("that time"))
    asks = [
        pl.when(open_ & pl.col("hosted") & ~pl.col("contained")).then(
            pl.concat_str(
                pl.lit("what the service manager says of the gateway at "),
                when,
                pl.lit(" (journalctl --user -u openclaw-gateway, with systemd's own lines)"),
            )
        ),
        pl.when(open_ & ~pl.col("docker_covers") & (~pl.col("hosted") | pl.col("contained"))).then(
            pl.concat_str(
                pl.lit("no docker events cover "),
                when,
                pl.lit("; collect them while the engine still has them (docker events --since 2h --until 0s)"),
            )
        ),
        pl.when(open_ & ~pl.col("g_parse").str.starts_with("SyntaxError").fill_null(value=True)).then(
            pl.concat_str(
                pl.lit("the gateway itself failed while it handled this connection ("),
                pl.col("g_parse").str.slice(0, ITS_WORDS),
                pl.lit("): look at its disk, and who owns its state directory"),
            )
        ),
        pl.when(open_ & ~pl.col("gateway_log")).then(pl.lit("the gateway's log (docker logs -t <gateway>)")),
        pl.when(open_ & pl.col("gateway_log") & ~pl.col("g_seen") & pl.col("established").fill_null(value=True)).then(
            pl.lit("the gateway did not log this close: run it with --verbose, or keep its file log")
        ),
        pl.when(open_ & (pl.col("via") == "proxy") & ~pl.col("p_seen")).then(
            pl.lit("the proxy's access log with request time and port")
        ),
        pl.when(open_ & (pl.col("p_clock_status") == "assumed").fill_null(value=False)).then(
            pl.when(pl.col("p_resolution") < SECOND)
            .then(pl.lit("no line of the gateway ties the proxy's clock to its own: run it with --verbose"))
            .otherwise(pl.lit("the proxy's clock: whole seconds tie it to no other; log milliseconds and durations"))
        ),
        pl.when(
            open_
            & ~pl.col("c_seen")
            & pl.col("code_client").is_null()
            & (pl.col("code_gateway").is_null() | (pl.col("code_gateway") == 1006))
        ).then(pl.lit("what the client saw (its close code and reason)")),
    ]
    hidden = {
        "logging.access": ~pl.col("p_seen"),
        "logging.duration": pl.col("p_seen") & pl.col("p_duration").is_null(),
        "logging.errors": pl.col("p_seen") & pl.col("p_error_event").is_null(),
    }
    for key, subject, text in (
        facts.filter(pl.col("key").is_in(list(hidden)))
        .select("key", "subject", "value")
        .unique(maintain_order=True)
        .rows()
    ):
        its = pl.col("p_kind").is_null() | (pl.lit(subject) == pl.concat_str(pl.lit("proxy:"), "p_kind"))
        asks.append(
            pl.when(open_ & (pl.col("via") != "direct") & hidden[key].fill_null(value=False) & its).then(pl.lit(text))
        )
    return pl.concat_list(asks).list.drop_nulls()
