"""Who is who: which containers are the gateway's and the proxies', found from evidence and not from names where it exists.

A cause must stand on the path of its connection. The restart of any other container never counts.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from occorr.facts import GATEWAY, NO_PROXY, PROXY_IMAGE
from occorr.schema import SECOND

BEGINS: Final = (
    "gateway.start",
    "gateway.listening",
)  # what says that a process of the gateway began, or was there at last
BOOT: Final = 20 * SECOND  # container start → the gateway's first line, at most
_OWNER: Final = {
    "_id": "container_id",
    "_name": "container_name",
    "_project": "compose_project",
    "_service": "compose_service",
}
ONE_OFF: Final = r"[-_]run[-_][0-9a-f]{8,}$"  # what `docker compose run` calls its containers
# what the gateway starts for its agents, its client, and what is called after a proxy and is none
_NEITHER: Final = r"(?i)openclaw-(?:sandbox|sbx)|(?:^|[-_])cli(?:$|[-_]\d)|exporter|whoami"
AFTER_START: Final = -5 * 1_000_000


def owned(events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Names the container of each line whose file a bundle's manifest assigns to one."""
    logs = facts.filter(pl.col("subject").str.starts_with("container:") & (pl.col("key") == "log"))
    if logs.is_empty() or events.is_empty():
        return events
    ident = pl.col("subject").str.slice(10)
    files = logs.select(
        (pl.col("log_file_path").cast(pl.String).str.replace(r"[^/]*$", "") + pl.col("value")).alias("log_file_path"),
        ident.alias("_id"),
    )
    own = (
        facts.filter(pl.col("subject").is_in(logs.get_column("subject").to_list()))
        .group_by(ident.alias("_id"))
        .agg(
            *(
                pl.col("value").filter(pl.col("key") == key).first().alias(name)
                for key, name in (("name", "_name"), ("compose.project", "_project"), ("compose.service", "_service"))
            )
        )
    )
    lines = events.with_columns(pl.lit(None, pl.String).alias(c) for c in _OWNER.values() if c not in events.columns)
    joined = lines.join(
        files.join(own, on="_id", how="left", maintain_order="left").unique(
            "log_file_path", keep="first", maintain_order=True
        ),
        on="log_file_path",
        how="left",
        maintain_order="left",
    )
    return joined.with_columns(pl.coalesce(name, mine).alias(name) for mine, name in _OWNER.items()).drop(*_OWNER)


def roles(events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Adds `role` (gateway, proxy or null) to the engine's events, by container and by what recreated containers share.

    In this order: what a document says of the container's command and image; the address or host name that the gateway
    writes itself; the image's name in the events, where one service has it; the container whose starts precede the
    gateway's own start lines.
    """
    docker = (pl.col("source_kind") == "docker") & pl.col("container_id").is_not_null()
    known = events.filter(docker)
    if known.is_empty():
        return events.with_columns(pl.lit(None, pl.String).alias("role"))
    stated = _stated(events, facts)
    names = known.group_by("container_id").agg(
        pl.col("container_name").drop_nulls().first(),
        pl.col("compose_service").drop_nulls().first(),
        pl.col("compose_project").drop_nulls().first(),
        pl.col("container_image_name").drop_nulls().first().alias("image"),
    )
    names = names.join(stated, on="container_id", how="left", maintain_order="left")
    # `docker compose run` of the gateway's service is a container beside it, not it
    names = names.filter(~pl.col("container_name").fill_null("").str.contains(ONE_OFF))
    names = names.filter(pl.col("role").is_not_null() | ~_neither("image", "container_name", "compose_service"))
    image = pl.col("image").fill_null("")
    proxy = image.str.contains(PROXY_IMAGE) & ~image.str.to_lowercase().str.contains(NO_PROXY, literal=True)
    names = names.with_columns(pl.coalesce("role", pl.when(proxy).then(pl.lit("proxy"))).alias("role"))
    # a recreated container is another id of the same service, or of the same name
    family = pl.coalesce(pl.concat_str("compose_project", pl.lit("/"), "compose_service"), "container_name")
    if not (names.get_column("role") == "gateway").any():
        alike = names.filter(pl.col("role").is_null() & image.str.contains(GATEWAY))
        if alike.select(family).to_series().n_unique() == 1:
            names = names.with_columns(
                pl.when(pl.col("container_id").is_in(alike.get_column("container_id").to_list()))
                .then(pl.lit("gateway"))
                .otherwise("role")
                .alias("role")
            )
        else:  # the CLI's container runs the gateway's image too: where several do, the one that starts when the gateway does
            names = _by_starts(names, events, alike.get_column("container_id").to_list())
    if not (names.get_column("role") == "gateway").any():  # … and then the one that is called so
        called = pl.concat_str(
            pl.col("compose_service").fill_null(""), pl.col("container_name").fill_null("")
        ).str.contains(r"(?i)gateway|gw")
        like = pl.col("role").is_null() & image.str.contains(GATEWAY)
        some = names.filter(like & called).height > 0
        names = names.with_columns(
            pl.when(like & (called | (not some))).then(pl.lit("gateway")).otherwise("role").alias("role")
        )
    names = names.with_columns(pl.coalesce("role", pl.col("role").drop_nulls().first().over(family)).alias("role"))
    return events.join(names.select("container_id", "role"), on="container_id", how="left", maintain_order="left")


def _neither(*columns: str) -> pl.Expr:
    """Whether a container is neither a gateway nor a proxy, by the names in these columns."""
    return pl.any_horizontal(pl.col(c).fill_null("").str.contains(_NEITHER) for c in columns)


def _stated(events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    containers = facts.filter(pl.col("subject").str.starts_with("container:")).with_columns(
        pl.col("subject").str.slice(10).alias("container_id")
    )
    said = containers.filter(pl.col("key") == "role").with_columns(
        pl.col("value").str.extract(r"^([a-z]+)", 1).alias("role")
    )
    gateway = events.filter(pl.col("source_kind") == "gateway")
    local = (
        pl.concat(
            [
                gateway.get_column("local_address"),
                gateway.get_column("endpoint").str.extract(r"->\[?([^\]]+?)\]?:\d+$", 1),
            ]
        )
        .drop_nulls()
        .unique()
    )
    local = local.filter(~local.is_in(["127.0.0.1", "::1", "0.0.0.0"]))
    by_address = containers.filter(
        pl.col("key").str.contains(r"^network\..*\.address$") & pl.col("value").is_in(local.to_list())
    )
    hosts = gateway.get_column("host_name").drop_nulls().unique()
    hosts = hosts.filter(hosts.str.contains(r"^[0-9a-f]{12}$"))
    ids = pl.concat([containers.get_column("container_id"), events.get_column("container_id")]).drop_nulls().unique()
    by_host = ids.filter(ids.str.slice(0, 12).is_in(hosts.to_list()))
    # An address or host name that the gateway itself writes outranks what a name or image suggests.
    written = pl.concat([by_address.get_column("container_id"), by_host]).unique()
    strong = pl.DataFrame({"container_id": written}, schema={"container_id": pl.String}).with_columns(
        pl.lit("gateway").alias("role")
    )
    return pl.concat([strong, said.select("container_id", "role")]).unique(
        "container_id", keep="first", maintain_order=True
    )


def _by_starts(names: pl.DataFrame, events: pl.DataFrame, alike: list[str]) -> pl.DataFrame:
    """The containers whose `start` events are followed by a gateway's own first lines: of each log one, a tie names nobody.

    Args:
        names: containers with what is known of their roles.
        events: linked events.
        alike: containers with the gateway's image; empty: all without a role may be it.
    """
    maybe = pl.col("container_id").is_in(alike) if alike else pl.col("role").is_null()
    found = started(events, names.filter(maybe).get_column("container_id").to_list()).get_column("container_id")
    ours = pl.col("container_id").is_in(found.unique().implode())
    return names.with_columns(pl.when(ours).then(pl.lit("gateway")).otherwise("role").alias("role"))


def begun(events: pl.DataFrame) -> pl.DataFrame:
    """When containers began that are the gateway's or have its image: container_id, compose_project, t in ns.

    Those that stand beside a gateway, as the CLI's, do not count.
    """
    beside = _neither("container_image_name", "container_name", "compose_service")
    alike = pl.col("container_image_name").fill_null("").str.contains(GATEWAY)
    one_off = pl.col("container_name").fill_null("").str.contains(ONE_OFF)
    starts = events.filter(
        (pl.col("event_name") == "container.start")
        & ((pl.col("role") == "gateway") | (alike & ~beside & ~one_off)).fill_null(value=False)
    )
    return starts.select("container_id", "compose_project", pl.col("timestamp").cast(pl.Int64).alias("t")).drop_nulls(
        ["container_id", "t"]
    )


def started(events: pl.DataFrame, ids: list[str]) -> pl.DataFrame:
    """Which of these containers wrote each log, as its first lines follow their starts: log_file_path, part, container_id.

    A line belongs to the last start before it, of whichever container; a log to the container that most of its lines
    belong to, if one has the most.
    """
    t = pl.coalesce("observed_timestamp", "timestamp_raw").cast(pl.Int64)
    lines = events.filter(pl.col("event_name") == "gateway.start").select("log_file_path", "part", t.alias("line"))
    starts = events.filter((pl.col("event_name") == "container.start") & pl.col("container_id").is_in(ids)).select(
        "container_id", t.alias("start")
    )
    near = lines.with_row_index("_line").join_where(
        starts, pl.col("line") - pl.col("start") >= AFTER_START, pl.col("line") - pl.col("start") <= BOOT
    )
    hits = (
        near.sort("_line", "start", descending=[False, True])
        .unique("_line", keep="first", maintain_order=True)
        .group_by("log_file_path", "part", "container_id")
        .len()
    )
    log = ["log_file_path", "part"]
    most = hits.filter(pl.col("len") == pl.col("len").max().over(log)).filter(pl.len().over(log) == 1)
    return most.sort(*log).select(*log, "container_id")


def placement(events: pl.DataFrame, facts: pl.DataFrame) -> tuple[str | None, str | None]:
    """The gateway's service and Compose project, null where several differ or none is known."""
    own = events.filter(pl.col("role") == "gateway") if "role" in events.columns else events.clear()
    service, project = (
        own.get_column(c).drop_nulls().unique().to_list() for c in ("compose_service", "compose_project")
    )
    if not service:
        subjects = (
            facts.filter((pl.col("key") == "role") & (pl.col("value") == "gateway")).get_column("subject").to_list()
        )
        mine = facts.filter(pl.col("subject").is_in(subjects))
        service = mine.filter(pl.col("key") == "compose.service").get_column("value").unique().to_list()
        project = mine.filter(pl.col("key") == "compose.project").get_column("value").unique().to_list()
    if not service:  # a Compose log names the service of each line
        own_lines = events.filter(pl.col("source_kind") == "gateway")
        service = (
            pl.concat([own_lines.get_column("compose_service"), own_lines.get_column("part").replace("", None)])
            .drop_nulls()
            .unique()
            .to_list()
        )
    return (service[0] if len(service) == 1 else None, project[0] if len(project) == 1 else None)
