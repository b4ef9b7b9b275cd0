"""Who is who: which containers are the gateway's and the proxies', found from evidence and not from names where it exists.

A cause must stand on the path of its connection. The restart of any other container never counts.
"""

from __future__ import annotations

from typing import Final

import polars as pl

SECOND: Final = 1_000_000_000
_GATEWAY: Final = r"(?i)openclaw|clawdbot|moltbot"
_PROXY: Final = r"(?i)(?:^|[/_-])(?:nginx|openresty|haproxy|caddy|traefik|envoy|httpd|apache2?|swag|cloudflared)(?:[:@/_-]|$)"
BOOT: Final = 20 * SECOND  # container start → the gateway's first line, at most
AFTER_START: Final = -5 * 1_000_000


def roles(events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Adds `role` (gateway, proxy or null) to the engine's events, by container and by what recreated containers share.

    In this order: what a document says of the container's command and image; the address or host name that the gateway
    writes itself; the image's name in the events; the container whose starts precede the gateway's own start lines.
    """
    docker = (pl.col("source_kind") == "docker") & pl.col("container_id").is_not_null()
    known = events.filter(docker)
    if known.is_empty():
        return events.with_columns(pl.lit(None, pl.String).alias("role"))
    stated = _stated(events, facts)
    names = known.group_by("container_id").agg(
        pl.col("container_name").drop_nulls().first(), pl.col("compose_service").drop_nulls().first(), pl.col("compose_project").drop_nulls().first(), pl.col("container_image_name").drop_nulls().first().alias("image"),
    )  # fmt: skip
    names = names.join(stated, on="container_id", how="left")
    image = pl.col("image").fill_null("")
    names = names.with_columns(pl.coalesce("role", pl.when(image.str.contains(_PROXY)).then(pl.lit("proxy")).when(image.str.contains(_GATEWAY)).then(pl.lit("gateway"))).alias("role"))
    if not (names.get_column("role") == "gateway").any():
        names = _by_starts(names, events)
    # a recreated container is another id of the same service, or of the same name
    family = pl.coalesce(pl.concat_str("compose_project", pl.lit("/"), "compose_service"), "container_name")
    names = names.with_columns(pl.coalesce("role", pl.col("role").drop_nulls().first().over(family)).alias("role"))
    return events.join(names.select("container_id", "role"), on="container_id", how="left", maintain_order="left")


def _stated(events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    containers = facts.filter(pl.col("subject").str.starts_with("container:")).with_columns(pl.col("subject").str.slice(10).alias("container_id"))
    said = containers.filter(pl.col("key") == "role").with_columns(pl.col("value").str.extract(r"^([a-z]+)", 1).alias("role"))
    gateway = events.filter(pl.col("source_kind") == "gateway")
    local = pl.concat([gateway.get_column("local_address"), gateway.get_column("endpoint").str.extract(r"->\[?([^\]]+?)\]?:\d+$", 1)]).drop_nulls().unique()
    local = local.filter(~local.is_in(["127.0.0.1", "::1", "0.0.0.0"]))
    by_address = containers.filter(pl.col("key").str.contains(r"^network\..*\.address$") & pl.col("value").is_in(local.to_list()))
    hosts = gateway.get_column("host_name").drop_nulls().unique()
    hosts = hosts.filter(hosts.str.contains(r"^[0-9a-f]{12}$"))
    ids = pl.concat([containers.get_column("container_id"), events.get_column("container_id")]).drop_nulls().unique()
    by_host = ids.filter(ids.str.slice(0, 12).is_in(hosts.to_list()))
    # An address or host name that the gateway itself writes outranks what a name or image suggests.
    written = pl.concat([by_address.get_column("container_id"), by_host]).unique()
    strong = pl.DataFrame({"container_id": written}, schema={"container_id": pl.String}).with_columns(pl.lit("gateway").alias("role"))
    return pl.concat([strong, said.select("container_id", "role")]).unique("container_id", keep="first", maintain_order=True)


def _by_starts(names: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """The one container whose `start` events are followed by the gateway's own first lines."""
    t = pl.coalesce("observed_timestamp", "timestamp_raw").cast(pl.Int64)
    ours = events.filter(pl.col("event_name") == "gateway.start").select(t.alias("line"))
    starts = events.filter(pl.col("event_name") == "container.start").select("container_id", t.alias("start"))
    hits = ours.join_where(starts, pl.col("line") - pl.col("start") >= AFTER_START, pl.col("line") - pl.col("start") <= BOOT).group_by("container_id").len().sort("len", descending=True)
    free = hits.join(names.filter(pl.col("role").is_null()), on="container_id")
    if free.is_empty() or (free.height > 1 and free.item(0, "len") == free.item(1, "len")):
        return names
    winner = free.sort("len", descending=True).item(0, "container_id")
    return names.with_columns(pl.when(pl.col("container_id") == winner).then(pl.lit("gateway")).otherwise("role").alias("role"))


def placement(events: pl.DataFrame, facts: pl.DataFrame) -> tuple[str | None, str | None]:
    """The gateway's service and Compose project, null where several differ or none is known."""
    own = events.filter(pl.col("role") == "gateway") if "role" in events.columns else events.clear()
    service, project = (own.get_column(c).drop_nulls().unique().to_list() for c in ("compose_service", "compose_project"))
    if not service:
        subjects = facts.filter((pl.col("key") == "role") & (pl.col("value") == "gateway")).get_column("subject").to_list()
        mine = facts.filter(pl.col("subject").is_in(subjects))
        service = mine.filter(pl.col("key") == "compose.service").get_column("value").unique().to_list()
        project = mine.filter(pl.col("key") == "compose.project").get_column("value").unique().to_list()
    if not service:  # a Compose log names the service of each line
        own_lines = events.filter(pl.col("source_kind") == "gateway")
        service = pl.concat([own_lines.get_column("compose_service"), own_lines.get_column("part").replace("", None)]).drop_nulls().unique().to_list()
    return (service[0] if len(service) == 1 else None, project[0] if len(project) == 1 else None)
