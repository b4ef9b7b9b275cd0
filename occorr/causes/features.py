"""What rules may ask of a close: its observers' words here, closes that are like it in `company`, time and path in `surroundings`."""

from __future__ import annotations

from typing import Final

import polars as pl

from occorr.causes import upstreams
from occorr.causes.company import company
from occorr.causes.surroundings import surroundings
from occorr.facts import proxies
from occorr.schema import MS, SECOND

AT_ONCE: Final = 100 * MS  # a timer takes longer
# addresses that a proxy on the same host or network may have, too
_NOBODYS: Final = (
    r"^(?:127\.|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|169\.254\.|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.)"
    r"|^::1$|^f[cd][0-9a-f]{2}:|^fe[89ab][0-9a-f]:"
)
_LOOPBACK: Final = r"^127\.|^::1$"
_CLOUDFLARE: Final = (  # the addresses from which its edge asks origins, as it publishes them
    r"^(?:103\.21\.24[4-7]|103\.22\.20[0-3]|103\.31\.[4-7]|104\.(?:1[6-9]|2[0-7])\.\d+|108\.162\.(?:19[2-9]|2\d\d)|131\.0\.7[2-5]"
    r"|141\.101\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])|162\.15[89]\.\d+|172\.(?:6[4-9]|7[01])\.\d+|173\.245\.(?:4[89]|5\d|6[0-3])"
    r"|188\.114\.(?:9[6-9]|10\d|11[01])|190\.93\.2[45]\d|197\.234\.24[0-3]|198\.41\.(?:12[89]|1[3-9]\d|2\d\d))\."
    r"|^(?i)(?:2400:cb00|2405:8100|2405:b500|2606:4700|2803:f800|2a06:98c[0-7]|2c0f:f248):"
)
_NAMED_NEAR: Final = r"^0\.0\.0\.0$|\.(?:internal|local|lan|home|localhost)$"
LIMITS: Final = (60.0, 75.0, 300.0, 3600.0)  # idle limits that proxies and balancers come with, s
CITED: Final = {
    "gateway": "g_event",
    "open": "g_open_event",
    "proxy": "p_event",
    "proxy_error": "p_error_event",
    "client": "c_event",
    "auth": "g_auth_event",
    "error": "g_error_event",
    "parse": "g_parse_event",
    "timeout": "g_timeout_event",
    "version": "g_version_event",
    "invalid": "g_invalid_event",
    "death": "death_event",
    "untrusted": "untrusted_event",
}


def features(
    closes: pl.DataFrame,
    episodes: pl.DataFrame,
    events: pl.DataFrame,
    facts: pl.DataFrame,
    place: tuple[str | None, str | None] = (None, None),
) -> pl.DataFrame:
    """The closes with every feature that rules may ask for (`rules.FEATURES`)."""
    rows = closes.with_columns(
        pl.lit(None, pl.String).alias(c)
        for c in (*CITED.values(), "p_error", "p_upstream", "p_backend")
        if c not in closes.columns
    )
    rows = rows.with_columns(upstreams.dialled(facts).alias("p_upstream"))
    rows = rows.with_columns(
        pl.col("websocket_close_code").cast(pl.Int64).alias("code"),
        pl.col("websocket_close_reason").alias("reason"),
        (pl.col("duration_ns") / SECOND).alias("duration_s"),
        *_of_gateway(),
        *_of_proxy(rows, events, facts),
        *_of_client(events, facts, place[0]),
    )
    return surroundings(company(rows), episodes, events, facts)


def _of_gateway() -> list[pl.Expr]:
    """What the gateway wrote of a close."""
    lines = {
        "g_seen": "g_event",
        "g_parse_error": "g_parse_event",
        "g_timeout_line": "g_timeout_event",
        "g_version_line": "g_version_event",
        "g_auth_line": "g_auth_event",
    }
    return [
        *(pl.col(event).is_not_null().alias(name) for name, event in lines.items()),
        pl.col("g_ambiguous").alias("ambiguous"),
        (_clients("g_remote", "g_instance") & ~pl.col("g_remote").str.contains(_NOBODYS))
        .fill_null(value=False)
        .alias("g_public"),
        ((pl.col("g_t") - pl.coalesce("p_t", "c_t")) > 2 * SECOND).fill_null(value=False).alias("late_gateway"),
    ]


def _of_proxy(rows: pl.DataFrame, events: pl.DataFrame, facts: pl.DataFrame) -> list[pl.Expr]:
    """What the proxy wrote of a close, and what is known of that proxy."""
    kinds = {*rows.get_column("p_kind").drop_nulls(), *proxies(facts)}
    known = (pl.col("p_upstream").is_not_null() | pl.col("p_upstream_status").is_not_null()).fill_null(value=False)
    # a format may be changed in the middle of a log, and fields of a structured one may be left out
    says_upstream = pl.col("p_says_upstream").any().over("p_file", "p_form") | pl.col("p_kind").is_in(
        ["haproxy", "envoy", "caddy"]
    )
    to_gateway, own_port = upstreams.to_gateway(rows, events, facts), upstreams.own_port(facts)
    return [
        pl.col("p_event").is_not_null().alias("p_seen"),
        _failed().alias("p_failed"),
        (_failed() & _refused()).alias("p_refused"),
        (known | says_upstream.fill_null(value=False)).alias("p_upstream_known"),
        (pl.col("p_duration") / SECOND).alias("p_duration_s"),
        to_gateway.alias("p_to_gateway"),
        own_port.alias("p_own_port"),
        upstreams.serves().alias("p_serves"),
        upstreams.other_host(rows, events).alias("p_other_host"),
        upstreams.dials_socket().alias("p_socket"),
        upstreams.own_loopback(to_gateway, own_port).alias("p_own_loopback"),
        pl.col("p_clock_status").is_in(["aligned", "reference"]).fill_null(value=False).alias("p_aligned"),
        _limit(facts).alias("p_limit_s"),
        pl.col("p_flags").is_not_null().any().over("p_file").alias("p_flags_known"),
        _clients("p_client", "p_clock").fill_null(value=False).alias("p_edge"),
        pl.lit(kinds.pop() if len(kinds) == 1 else None, pl.String).alias("proxy_known"),
        (pl.coalesce("p_resolution", pl.lit(MS)) < SECOND).alias("fine"),
    ]


def _clients(address: str, over: str) -> pl.Expr:
    """Whether an address is a client's own: behind another proxy all have that one's, or one of a service's that proxies for many.

    A health check of the same network makes no public address one of several.
    """
    seen = pl.col(address).filter(~pl.col(address).str.contains(_LOOPBACK)).n_unique()
    several = seen.over(over, pl.col(address).str.contains(_NOBODYS)) > 1
    return several & ~pl.col(address).str.contains(_CLOUDFLARE)


def _of_client(events: pl.DataFrame, facts: pl.DataFrame, gateway: str | None) -> list[pl.Expr]:
    """What the client wrote of a close, and where it called."""
    ports, host = _published(events, facts), pl.col("c_host")
    far = host.str.contains(r"[.:]") & ~host.str.contains(_NOBODYS) & ~host.str.contains(_NAMED_NEAR)
    return [
        pl.col("c_event").is_not_null().alias("c_seen"),
        (pl.col("c_port").is_in(ports) if ports is not None else pl.lit(None, pl.Boolean)).alias("c_published"),
        pl.col("c_port").cast(pl.String).is_in(upstreams.own_ports(facts)).alias("c_own_port"),
        _inside(facts, gateway).alias("c_inside"),
        far.fill_null(value=False).alias("c_far"),
    ]


def _limit(facts: pl.DataFrame) -> pl.Expr:
    """The idle limit, s, that a connection lasted as long as: a usual one, or one that a document declares."""
    declared = facts.filter(pl.col("key").str.contains("timeout.idle")).get_column("value")
    limits = sorted({*LIMITS, *declared.cast(pl.Float64, strict=False).drop_nulls()})
    lasted = pl.coalesce("p_duration", "g_duration", "duration_ns") / SECOND
    return pl.coalesce([pl.when((lasted - x).abs() < max(0.25, 0.004 * x)).then(x) for x in limits])


def _failed() -> pl.Expr:
    """Whether the proxy could not reach its upstream, or got no answer; an error line alone says so without a status."""
    told = pl.col("p_status").is_in([502, 503, 504]) | (
        pl.col("p_status").is_null() & pl.col("p_phase").is_in(["connecting", "no_upstream", "awaiting_response"])
    )
    return (told & ~pl.col("p_established")).fill_null(value=False)


def _refused() -> pl.Expr:
    """Whether the proxy could not connect, and that at once, where it names no error number: HAProxy's SC, and Envoy's UF before any timer ran out."""
    haproxy = (pl.col("p_kind") == "haproxy") & pl.col("p_termination").str.starts_with("SC")
    envoy = (pl.col("p_kind") == "envoy") & pl.col("p_termination").str.contains("UF", literal=True)
    told = haproxy | envoy & (pl.col("p_duration") < AT_ONCE)
    return (told & pl.col("p_errno").is_null()).fill_null(value=False)


def _published(events: pl.DataFrame, facts: pl.DataFrame) -> list[int] | None:
    """Ports at which containers are published; None unless the documents tell those of all containers that the events name."""
    ours = pl.col("subject").str.starts_with("container:") & pl.col("key").str.starts_with("port.")
    ports = facts.filter(ours).get_column("value").str.extract(r":(\d+)$", 1)
    named = events.filter((pl.col("source_kind") == "docker") & pl.col("container_id").is_not_null())
    gone = named.filter(pl.col("event_name") == "container.destroy").get_column("container_id")
    known = facts.get_column("subject").str.strip_prefix("container:")
    unknown = named.filter(~pl.col("container_id").is_in(pl.concat([gone.cast(pl.String), known]).implode()))
    return ports.cast(pl.Int64, strict=False).drop_nulls().to_list() if ports.len() and unknown.is_empty() else None


def _inside(facts: pl.DataFrame, gateway: str | None) -> pl.Expr:
    """Whether a call came from another container than the gateway's, as far as its log's service tells; null if it does not.

    A container that shares another one's network (`network_mode: service:…`) has that one's loopback.
    """
    mode = (pl.col("key") == "network_mode") & pl.col("value").str.contains(r"^(?:service|container):|^host$")
    subjects = facts.filter(mode).get_column("subject").unique()
    services = facts.filter(pl.col("subject").is_in(subjects.implode()) & (pl.col("key") == "compose.service"))
    shared = [*subjects.str.replace(r"^\w+:", ""), *services.get_column("value")]
    if gateway is None:
        return pl.lit(None, pl.Boolean)
    known = facts.filter(pl.col("key") == "compose.service").get_column("value")
    said = pl.concat([known, facts.get_column("subject").str.replace(r"^service:", "")]).unique().implode()
    return (
        pl.when(pl.col("c_service").is_null() | ~pl.col("c_service").is_in(said))
        .then(None)
        .otherwise((pl.col("c_service") != gateway) & ~pl.col("c_service").is_in(shared))
    )
