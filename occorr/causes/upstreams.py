"""Which upstream of a proxy is the gateway, as far as what one line names can be held against what others show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from occorr.facts import GATEWAY, GATEWAY_PORT, proxy_kind

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOOPBACK: Final = r"^(?:127\.\d+\.\d+\.\d+|localhost|\[?::1\]?)(?::\d+)?$"
_ADDRESS: Final = (
    r"^(?:\d+\.\d+\.\d+\.\d+(?::\d+)?|\[[0-9a-fA-F:.]+\](?::\d+)?|[0-9a-fA-F]*:[0-9a-fA-F:]+:[0-9a-fA-F:.]*)$"
)
_SOCKET: Final = r"^(?:unix:|/)"  # Envoy writes the path alone


def own_ports(facts: pl.DataFrame) -> list[str]:
    """Where gateways listen, inside their containers."""
    return sorted({GATEWAY_PORT, *facts.filter(pl.col("key") == "gateway.port").get_column("value").to_list()})


def own_port(facts: pl.DataFrame) -> pl.Expr:
    """Whether the upstream's port is one of those; null where none is named."""
    return pl.col("p_upstream").str.extract(r":(\d+)$", 1).is_in(own_ports(facts))


def dialled(facts: pl.DataFrame) -> pl.Expr:
    """The address that the proxy dialled: HAProxy's log says the server's name, and its configuration where that is.

    Of several HAProxys or configurations nothing says which is whose.
    """
    known = facts.filter(pl.col("key").str.starts_with("upstream.")).select(
        pl.col("key").str.strip_prefix("upstream."), "value", "log_file_path"
    )
    known = known.filter((pl.col("log_file_path").n_unique() == 1) & (pl.len().over("key") == 1))
    alone = pl.col("p_clock").filter(pl.col("p_kind") == "haproxy").n_unique() == 1
    name = pl.when(alone).then(pl.concat_str("p_backend", "p_upstream", separator="/"))
    return pl.coalesce(
        name.replace_strict(known.get_column("key"), known.get_column("value"), default=None, return_dtype=pl.String),
        "p_upstream",
    )


def dials_socket() -> pl.Expr:
    """Whether the proxy asked for a Unix socket, as far as its lines tell."""
    return pl.col("p_upstream").str.contains(_SOCKET).fill_null(value=False) | pl.col("p_error").str.contains(
        r"unix:|dial unix "
    ).fill_null(value=False)


def to_gateway(rows: pl.DataFrame, events: pl.DataFrame, facts: pl.DataFrame) -> pl.Expr:
    """Whether the proxy asked the gateway; null where that cannot be told.

    An address is another one's only at a port that is not the gateway's, or where the proxy reaches the gateway elsewhere
    (it may be published at several, and has a new one after a start), a name only where its names are (what
    HAProxy calls a server is no host's name: only its own tunnels tell), and a loopback only where the proxy is known to
    have one of its own: a proxy on the host reaches the gateway there, by a published port. A proxy serves other sites too:
    their tunnels, paths and addresses tell nothing of the gateway.
    """
    established = pl.col("p_established").fill_null(value=False)
    tunnels = rows.filter(established)
    own = _own(tunnels, events, facts)
    # another site's WebSockets have a path of their own
    joined = tunnels.filter(pl.col("g_event").is_not_null())
    paths = (joined if joined.height else tunnels).get_column("p_path").drop_nulls().unique().to_list()
    paths = paths if joined.height or len(paths) == 1 else []
    addresses, names = own.filter(own.str.contains(_ADDRESS) & ~own.str.contains(_LOOPBACK)), _names(facts)
    upstream = pl.col("p_upstream")
    loopback, address, socket = (upstream.str.contains(form) for form in (_LOOPBACK, _ADDRESS, _SOCKET))
    named = ~loopback & ~address & ~socket
    host = upstream.str.replace(r":\d+$", "")
    # another site's tunnels say nothing of the gateway's: they go to its port, or the gateway's log has them
    gateways = pl.col("g_event").is_not_null() | own_port(facts).fill_null(value=False) | host.is_in(names)
    elsewhere = (established & ~loopback & gateways).fill_null(value=False).any().over("p_clock")
    by_name = (established & named).fill_null(value=False).any().over("p_clock")
    other_name = by_name | (pl.lit(bool(names)) & (pl.col("p_kind") != "haproxy"))
    same_path = pl.when(pl.col("p_path").is_in(paths) & ~other_host(rows, events)).then(pl.lit(value=True))
    return (
        pl.when(upstream.is_null())
        .then(same_path)
        .when(upstream.is_in([*own, *own.str.replace(r":\d+$", "")]) | (named & host.is_in(names)))
        .then(pl.lit(value=True))
        .when(loopback)
        .then(pl.when(pl.col("p_kind").is_in(_contained(facts)) & ~serves()).then(pl.lit(value=False)))
        .when(
            address & bool(len(addresses)) & (elsewhere | ~own_port(facts))
            | socket & bool(len(own))
            | named & other_name
        )
        .then(pl.lit(value=False))
        .when(address & ~own_port(facts))
        .then(None)
        .otherwise(same_path)
    )


def other_host(rows: pl.DataFrame, events: pl.DataFrame) -> pl.Expr:
    """Whether a request asked for another host than those by which the gateway is known: another site's, or another name.

    It is known by those of the tunnels that are in its log too, and those that it was told of by a proxy. Null where
    nothing tells which of several names is the gateway's.
    """
    joined = rows.filter(pl.col("p_established").fill_null(value=False) & pl.col("g_event").is_not_null())
    told = events.filter((pl.col("source_kind") == "gateway") & pl.col("forwarded_for").is_not_null())
    known = pl.concat(
        [joined.get_column("p_host"), told.get_column("host_header").str.to_lowercase().str.replace(r":\d+$", "")]
    )
    hosts = known.drop_nulls().unique().to_list()
    if hosts:
        return (~pl.col("p_host").is_in(hosts)).fill_null(value=False)
    several = pl.col("p_host").drop_nulls().n_unique().over("p_clock") > 1
    return pl.when(several & pl.col("p_host").is_not_null()).then(None).otherwise(pl.lit(value=False))


def serves() -> pl.Expr:
    """Whether the proxy has tunnels to the upstream's very address."""
    answered = pl.col("p_established").fill_null(value=False).any().over("p_clock", "p_upstream")
    return answered & pl.col("p_upstream").is_not_null()


def own_loopback(to_gateway: pl.Expr, own_port: pl.Expr) -> pl.Expr:
    """Whether the proxy dialled a loopback that is not the gateway's, at the gateway's port; null where it is not known whose it is."""
    dialled = pl.col("p_upstream").str.contains(_LOOPBACK).fill_null(value=False) & own_port.fill_null(value=False)
    return pl.when(dialled).then(~to_gateway).otherwise(pl.lit(value=False))


def _own(tunnels: pl.DataFrame, events: pl.DataFrame, facts: pl.DataFrame) -> pl.Series:
    """host:port of the gateways: where tunnels go, where the gateways are reached, where they listen."""
    reached = (
        events.get_column("endpoint").str.extract(r"->\[?([^\]]+?\]?:\d+)$", 1)
        if "endpoint" in events.columns
        else None
    )
    # where the gateway's log shows some of a proxy's tunnels, those of which it shows none went elsewhere
    joined = pl.col("g_event").is_not_null()
    # … and where it shows none, those at its port, or at the only address there is
    alone = (pl.col("p_upstream").n_unique().over("p_clock") == 1) | own_port(facts).fill_null(value=False)
    own = tunnels.filter(joined.any().over("p_clock", "p_upstream") | (~joined.any().over("p_clock") & alone))
    out = {
        *own.get_column("p_upstream").drop_nulls(),
        *(reached.drop_nulls().unique() if reached is not None else ()),
    }
    gateways = facts.filter((pl.col("key") == "role") & (pl.col("value") == "gateway")).get_column("subject").unique()
    at = facts.filter(
        pl.col("subject").is_in(gateways.implode()) & pl.col("key").str.contains(r"^network\..*\.address$")
    )
    ports = {*facts.filter(pl.col("key") == "gateway.port").get_column("value"), *(u.rpartition(":")[2] for u in out)}
    out |= {f"{a}:{p}" for a in at.get_column("value") for p in ports or {GATEWAY_PORT}}
    return pl.Series(sorted(out), dtype=pl.String)


def _names(facts: pl.DataFrame) -> list[str]:
    """Names under which a container network knows the gateways."""
    gateways = facts.filter((pl.col("key") == "role") & (pl.col("value") == "gateway")).get_column("subject").unique()
    said = facts.filter(pl.col("subject").is_in(gateways.implode()) & pl.col("key").is_in(["name", "compose.service"]))
    return sorted({str(name) for name in said.get_column("value").drop_nulls()})


def _contained(facts: pl.DataFrame) -> list[str]:
    """Programs that run as proxies in containers beside the gateway, with a loopback of their own, and nowhere else as far as documents tell.

    Beside it is a service of its Compose file, or a container on one of its networks. Who lends a network to another has its
    loopback too, and so may have who takes it from a variable.
    """
    networks = facts.filter(pl.col("key").str.contains(r"^network\..*\.address$")).select("subject", "key")
    gateways = facts.filter((pl.col("key") == "role") & (pl.col("value") == "gateway")).get_column("subject").unique()
    own = networks.filter(pl.col("subject").is_in(gateways.implode())).get_column("key").unique()
    near = networks.filter(pl.col("key").is_in(own.implode())).get_column("subject").unique()
    ours = (pl.col("key") == "image") & pl.col("value").str.contains(GATEWAY)
    files = facts.filter(ours).get_column("log_file_path").unique()
    of_compose = pl.col("subject").str.starts_with("service:") & pl.col("log_file_path").is_in(files.implode())
    told = facts.filter((pl.col("key") == "image") & (of_compose | pl.col("subject").is_in(near.implode())))
    images = told.select("subject", "value").rows()
    shared = facts.filter(
        (pl.col("key") == "network_mode") & pl.col("value").str.contains(r"^(?:service|container):|^host$|\$")
    )
    beside = {str(side) for side in (*shared.get_column("subject"), *shared.get_column("value"))}

    def programs(of: Iterable[tuple[str, str]]) -> set[str]:
        return {kind for _, image in of if (kind := proxy_kind(image))}

    return sorted(programs(i for i in images if i[0] not in beside) - programs(i for i in images if i[0] in beside))
