"""Which way a connection took: through a proxy or straight to the gateway."""

from __future__ import annotations

import polars as pl


def proxies(events: pl.DataFrame, facts: pl.DataFrame) -> list[str]:
    """Addresses from which proxies reach the gateway: those that always send X-Forwarded-For, and the proxy containers' own.

    Any client may send that header. A proxy sends it with every connection, so an address that once came without it is
    none. The lines of refused connections say whether it was there; those of others only say it where it was.
    """
    spoken = events.filter((pl.col("source_kind") == "gateway") & pl.col("remote_address").is_not_null())
    bare = spoken.filter(
        (pl.col("event_name") == "websocket.close")
        & pl.col("forwarded_for").is_null()
        & pl.col("user_agent_original").is_not_null()
    ).get_column("remote_address")
    forwarding = spoken.filter(
        pl.col("forwarded_for").is_not_null() & ~pl.col("remote_address").is_in(bare.unique().to_list())
    ).get_column("remote_address")
    subjects = (
        facts.filter((pl.col("key") == "role") & pl.col("value").str.starts_with("proxy"))
        .get_column("subject")
        .to_list()
    )
    addresses = facts.filter(
        pl.col("subject").is_in(subjects) & pl.col("key").str.contains(r"^network\..*\.address$")
    ).get_column("value")
    # one that the gateway does not trust says nothing of the ways that others take
    return pl.concat([forwarding, addresses]).unique().sort().to_list()


def ways(attempts: pl.DataFrame, proxied: list[str]) -> pl.Expr:
    """`via` of a connection that the gateway saw, by the address that it came from."""
    clients = attempts.get_column("p_client").drop_nulls().unique().to_list()
    known = pl.col("g_remote").is_in(proxied) | (pl.col("g_forwarded").is_not_null() & pl.col("g_remote").is_null())
    claimed = pl.col("g_forwarded").is_not_null()  # by a client, or by a proxy that shares its address with clients
    direct = pl.col("g_remote").is_not_null() & (pl.col("g_remote").is_in(clients) | bool(proxied) | (not clients))
    return (
        pl.when(known)
        .then(pl.lit("proxy"))
        .when(claimed)
        .then(pl.lit("unknown"))
        .when(direct)
        .then(pl.lit("direct"))
        .otherwise(pl.lit("unknown"))
        .alias("via")
    )


def published(facts: pl.DataFrame) -> dict[str, list[int]]:
    """Host ports that lead to the proxies and to the gateways; one that documents give to both tells nothing."""
    out: dict[str, set[int]] = {}
    for role in ("proxy", "gateway"):
        subjects = (
            facts.filter((pl.col("key") == "role") & pl.col("value").str.starts_with(role))
            .get_column("subject")
            .to_list()
        )
        ports = (
            facts.filter(pl.col("subject").is_in(subjects) & pl.col("key").str.starts_with("port."))
            .get_column("value")
            .str.extract(r":(\d+)$", 1)
            .cast(pl.Int64, strict=False)
        )
        out[role] = set(ports.drop_nulls().to_list())
    both = out["proxy"] & out["gateway"]
    return {role: sorted(ports - both) for role, ports in out.items()}
