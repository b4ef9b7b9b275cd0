"""Who is who: which containers are the gateway's and the proxies', found from evidence and not from names where it exists.

A cause must stand on the path of its connection. The restart of any other container never counts.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

import polars as pl

from occorr.facts import PROXY_IMAGE

SECOND: Final = 1_000_000_000
GATEWAY: Final = r"(?i)openclaw|clawdbot|moltbot"
BOOT: Final = 20 * SECOND  # container start → the gateway's first line, at most
_OWNER: Final = {
    "_id": "container_id",
    "_name": "container_name",
    "_project": "compose_project",
    "_service": "compose_service",
}
ONE_OFF: Final = r"[-_]run[-_][0-9a-f]{8,}$"  # what `docker compose run` calls its containers
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
        files.join(own, on="_id", how="left").unique("log_file_path", keep="first", maintain_order=True),
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
    names = names.join(stated, on="container_id", how="left")
    # `docker compose run` of the gateway's service is a container beside it, not it
    names = names.filter(~pl.col("container_name").fill_null("").str.contains(ONE_OFF))
    image = pl.col("image").fill_null("")
    names = names.with_columns(
        pl.coalesce("role", pl.when(image.str.contains(PROXY_IMAGE)).then(pl.lit("proxy"))).alias("role")
    )
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


def one_offs(events: pl.DataFrame) -> pl.DataFrame:
    """Containers that `docker compose run` made of the gateway's image: container_id, and `a` to `b`, ns, when they ran.

    They stand beside the gateway and may hold its port or its state; `b` is far away where nothing tells their end.
    """
    own = events.filter(
        pl.col("container_name").fill_null("").str.contains(ONE_OFF)
        & pl.col("container_image_name").fill_null("").str.contains(GATEWAY)
    )
    t = pl.col("timestamp_raw").cast(pl.Int64)
    ends = pl.col("event_name").is_in(["container.die", "container.destroy"])
    runs = own.group_by("container_id").agg(
        t.filter(pl.col("event_name") == "container.start").min().alias("a"),
        t.filter(ends).min().fill_null(1 << 62).alias("b"),
    )
    return runs.drop_nulls("a").sort("a", "container_id")


def _aside(events: pl.DataFrame) -> pl.Expr:
    """Whether a line is a one-off container's: it names it, or its file begins and ends with it."""
    runs = one_offs(events)
    ids = runs.get_column("container_id").to_list()
    if not ids:
        return pl.lit(value=False)
    t = pl.coalesce("observed_timestamp", "timestamp_raw").cast(pl.Int64)
    lines = events.filter(pl.col("source_kind") == "gateway").select(
        "log_file_path", "part", "event_name", t.alias("t")
    )
    boots = events.filter(
        (pl.col("event_name") == "container.start")
        & ((pl.col("role") == "gateway") | pl.col("container_id").is_in(ids))
    ).select("container_id", t.alias("boot"))
    begun = (
        lines.filter(pl.col("event_name") == "gateway.start")
        .drop_nulls("t")
        .sort("t")
        .join_asof(boots.sort("boot"), left_on="t", right_on="boot", strategy="backward", check_sortedness=False)
    )
    spans = lines.group_by("log_file_path", "part").agg(
        pl.col("t").min().alias("first"), pl.col("t").max().alias("last")
    )
    files = (
        begun.group_by("log_file_path", "part")
        .agg(pl.col("container_id").unique())
        .filter(pl.col("container_id").list.len() == 1)
        .with_columns(pl.col("container_id").list.first())
        .join(runs, on="container_id")
        .join(spans, on=["log_file_path", "part"])
        .filter((pl.col("first") >= pl.col("a") + AFTER_START) & (pl.col("last") <= pl.col("b") + SECOND))
    )
    file = pl.concat_str("log_file_path", "part", separator="\n", ignore_nulls=True)
    named = pl.col("container_id").is_in(ids) | pl.col("host_name").is_in([i[:12] for i in ids])
    return (pl.col("source_kind") == "gateway") & (
        named.fill_null(value=False) | file.is_in(files.select(file).to_series().to_list())
    )


def instances(events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Tells several gateways apart: adds `instance`.

    `instance` is `project/service` (or the container's name) of the gateway that an event belongs to; an empty string
    where there is only one gateway; null where several are there and nothing says which one it is, and for lines of a
    container that `docker compose run` put beside it. A proxy's lines and a client's belong to the gateway that they
    name by its address, else to the one whose logs lie beside theirs.
    """
    family = pl.coalesce(pl.concat_str("compose_project", pl.lit("/"), "compose_service"), "container_name")
    docker = (
        events.filter(pl.col("role") == "gateway")
        .group_by("container_id")
        .agg(family.drop_nulls().first().alias("instance"))
    )
    own = facts.filter(pl.col("subject").str.starts_with("container:")).with_columns(
        pl.col("subject").str.slice(10).alias("container_id")
    )
    wide = own.group_by("container_id").agg(
        pl.col("value").filter(pl.col("key") == "compose.project").first().alias("p"),
        pl.col("value").filter(pl.col("key") == "compose.service").first().alias("s"),
        pl.col("value").filter(pl.col("key") == "name").first().alias("n"),
        (pl.col("value").filter(pl.col("key") == "role") == "gateway").any().alias("g"),
    )
    stated = wide.filter("g").select(
        "container_id", pl.coalesce(pl.concat_str("p", pl.lit("/"), "s"), "n").alias("instance")
    )
    known = pl.concat([docker, stated]).drop_nulls().unique("container_id", keep="first", maintain_order=True)
    by_id = dict(known.rows())
    aside = _aside(events)
    by_host = {c[:12]: i for c, i in by_id.items()}
    if len(set(by_host.values())) <= 1:
        by_host |= _by_turns(events.filter(~aside), by_host)
    if len(set(by_host.values())) <= 1:
        return events.with_columns(pl.when(~aside).then(pl.lit("")).alias("instance"))
    addresses = own.filter(
        pl.col("key").str.contains(r"^network\..*\.address$") & pl.col("container_id").is_in(list(by_id))
    )
    # networks of several hosts may give out the same addresses: such a one tells nothing
    documented = addresses.select(
        pl.col("value").alias("address"), pl.col("container_id").replace_strict(by_id).alias("of")
    )
    local = pl.coalesce("local_address", pl.col("endpoint").str.extract(r"->\[?([^\]]+?)\]?:\d+$", 1))
    by_address = _own_addresses(events, local, by_host) | _ones_alone(documented)
    services = [i.rpartition("/")[2] for i in set(by_id.values())]
    by_service = {
        s: i for i in by_id.values() if services.count(s := i.rpartition("/")[2]) == 1
    }  # both projects may call theirs `gateway`
    told = pl.coalesce(
        pl.col("container_id").replace_strict(by_id, default=None, return_dtype=pl.String),
        pl.col("host_name").replace_strict(by_host, default=None, return_dtype=pl.String),
        local.replace_strict(by_address, default=None, return_dtype=pl.String),
        pl.coalesce("compose_service", "part").replace_strict(by_service, default=None, return_dtype=pl.String),
    )
    files = (
        events.filter(pl.col("source_kind") == "gateway")
        .with_columns(told.alias("_t"))
        .group_by("log_file_path", "part")
        .agg(pl.col("_t").drop_nulls().mode().sort().first().alias("_file"))
    )
    upstream = pl.col("upstream_address").str.extract(r"^\[?([^\]]+?)\]?:\d+$", 1)
    named = (
        pl.when(pl.col("source_kind") == "docker")
        .then(pl.col("container_id").replace_strict(by_id, default=None, return_dtype=pl.String))
        .when(pl.col("source_kind") == "gateway")
        .then(pl.coalesce(told, "_file"))  # gateways on one state write one log: a line that says its own is theirs
        .when(pl.col("source_kind") == "proxy")
        .then(upstream.replace_strict(by_address, default=None, return_dtype=pl.String))
    )
    boots = started(events, list(by_id)).with_columns(pl.col("container_id").replace_strict(by_id).alias("_boot"))
    files = files.join(
        boots.select("log_file_path", "part", "_boot"), on=["log_file_path", "part"], how="left", nulls_equal=True
    )
    files = files.select("log_file_path", "part", pl.coalesce("_file", "_boot").alias("_file"))
    events = events.join(files, on=["log_file_path", "part"], how="left", maintain_order="left")
    events = events.with_columns(named.alias("instance")).drop("_file")
    documents = own.filter(pl.col("container_id").is_in(list(by_id))).select(
        pl.col("log_file_path").cast(pl.String), pl.col("container_id").replace_strict(by_id).alias("instance")
    )
    beside = pl.col("log_file_path").replace_strict(_beside(events, documents), default=None, return_dtype=pl.String)
    missing = pl.col("instance").is_null() & pl.col("source_kind").is_in(["gateway", "proxy", "cli"])
    whose = pl.when(missing).then(beside).otherwise("instance")
    return events.with_columns(pl.when(~aside).then(whose).alias("instance"))


def _by_turns(events: pl.DataFrame, known: dict[str, str]) -> dict[str, str]:
    """Host names of gateways that no document names and that write by turns with others: two gateways on one log or state.

    One that takes another's place, as a new container does, writes only after it. A host that started no gateway wrote
    something else, as the CLI does.
    """
    lines = events.filter((pl.col("source_kind") == "gateway") & pl.col("host_name").is_not_null()).select(
        "event_name",
        "host_name",
        pl.col("host_name").replace(known).alias("name"),
        pl.coalesce("observed_timestamp", "timestamp_raw").alias("t"),
    )
    ran = lines.filter(pl.col("event_name").is_in(["gateway.start", "gateway.listening"])).get_column("host_name")
    lines = lines.filter(pl.col("host_name").is_in(ran.unique().implode())).drop_nulls("t").sort("t")
    turns = lines.filter((pl.col("name") != pl.col("name").shift(1)).fill_null(value=True)).get_column("name")
    if turns.len() == turns.n_unique():
        return {}
    return dict(lines.select("host_name", "name").unique().sort("host_name").rows())


def _own_addresses(events: pl.DataFrame, local: pl.Expr, by_host: dict[str, str]) -> dict[str, str]:
    """Addresses at which gateways were reached, as their own lines tell: address → instance, where one alone has it."""
    own = events.filter(pl.col("source_kind") == "gateway").select(
        local.alias("address"),
        pl.col("host_name").replace_strict(by_host, default=None, return_dtype=pl.String).alias("of"),
    )
    return _ones_alone(own.filter(~pl.col("address").str.contains(r"^127\.|^::1$")).drop_nulls())


def _ones_alone(found: pl.DataFrame) -> dict[str, str]:
    """Of addresses and whose they are (`of`): address → instance, without those that several have."""
    alone = found.group_by("address").agg(pl.col("of").unique()).filter(pl.col("of").list.len() == 1)
    return dict(alone.select("address", pl.col("of").list.first()).sort("address").rows())


def _beside(events: pl.DataFrame, documents: pl.DataFrame) -> dict[str, str]:
    """The one gateway of which a file's folder tells, by lines or documents, or, if it tells of none, the nearest folder above: path → instance."""
    told: dict[PurePath, set[str]] = {}
    said = events.drop_nulls("instance").select(pl.col("log_file_path").cast(pl.String), "instance")
    for path, instance in pl.concat([said, documents]).unique().rows():
        for folder in PurePath(path).parents:
            told.setdefault(folder, set()).add(instance)
    paths = events.get_column("log_file_path").unique().to_list()
    nearest = {p: next((told[f] for f in PurePath(p).parents if f in told), set()) for p in paths}
    return {p: next(iter(names)) for p, names in nearest.items() if len(names) == 1}


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
