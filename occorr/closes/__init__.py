"""Folds what the gateway, the proxy and the client say of one close into one row.

Keys join first (connection id, address and port, the recorder's run). What they leave is joined by time within the
bounds, by optimal one-to-one assignment. Where several assignments fit equally well the rows share a `group_id`.
"""

from __future__ import annotations

import polars as pl

from occorr.closes.assignment import assign
from occorr.closes.client import read_calls
from occorr.closes.gateway import connections, gateway_containers
from occorr.closes.joins import match_client, match_proxy
from occorr.closes.paths import proxies, ways
from occorr.closes.proxy import read_attempts
from occorr.closes.rows import finish


def closes(events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """One row a close, with everything that its observers say of it.

    Args:
        events: placed events.
        facts: FACTS.

    Returns:
        the columns of CLOSES that are known before the cause, and the features that rules read: `g_*` from the
        gateway, `p_*` from the proxy, `c_*` from the client; `g_event`, `p_event`, `c_event` and further `*_event`
        columns hold the ids of the events that say so.
    """
    if "instance" not in events.columns:
        events = events.with_columns(pl.lit("").alias("instance"))
    gateway = connections(events)
    proxied = proxies(events, facts)
    attempts = read_attempts(events)
    calls = read_calls(events)
    gateway = gateway.with_columns(ways(attempts, proxied))
    left = match_proxy(gateway, attempts)
    rows = gateway.join(left, on="g_row", how="left", maintain_order="left").join(
        attempts, on="p_row", how="left", maintain_order="left"
    )
    rest = attempts.join(left.select("p_row"), on="p_row", how="anti")
    rows = pl.concat([rows, rest], how="diagonal").with_row_index("row")
    matched = match_client(rows, calls, facts)
    rows = rows.join(matched, on="row", how="left", maintain_order="left").join(
        calls, on="c_row", how="left", maintain_order="left"
    )
    rows = pl.concat([rows, calls.join(matched.select("c_row"), on="c_row", how="anti")], how="diagonal")
    rows = rows.with_columns(pl.coalesce("g_instance", "p_instance", "c_instance").alias("instance"))
    return finish(rows.drop("row"), facts)


__all__ = ["assign", "closes", "gateway_containers", "proxies"]
