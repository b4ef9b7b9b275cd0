"""What ties a proxy's clock to the gateway's: the ends of the same connections on both sides, and refusals while the gateway is down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from occorr.offsets import ASSUMED_ERROR, REACH, Estimate, aligned
from occorr.pairs import settle, thin

if TYPE_CHECKING:
    from collections.abc import Mapping

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
ENOUGH: Final = 3  # refusals that agree with no offset at all
ALIKE: Final = 50 * MS  # a connection that both sides say lasted as long to this is one, if no timer ended several
ABOUT: Final = 300 * MS  # … and may be one where they differ by no more
BRIEF: Final = 500 * MS  # shorter connections all lasted alike


def proxy(events: pl.DataFrame, clock: str, found: Mapping[str, Estimate]) -> Estimate:
    """A proxy against the gateway (ends of the same connections) and the engine (refusals while the gateway is down)."""
    none = Estimate(0, ASSUMED_ERROR, 0, 0.0, "nothing ties this clock to the reference", "assumed")
    gateways = {k: v for k, v in found.items() if k.startswith("gateway") and v.status in ("reference", "aligned")}
    access = events.filter(
        (pl.col("clock_id") == clock) & (pl.col("event_name") == "http.access") & pl.col("timestamp_raw").is_not_null()
    )
    if access.is_empty() or not gateways:
        return none
    theirs, extra = _closed(events, access, gateways)
    windows = _refusals(events, access, found)
    return (
        settle(
            _candidates(_tunnels(access), theirs), windows, "the same connections and refusals at the gateway", extra
        )
        or _plausible(windows)
        or none
    )


def was_tunnel() -> pl.Expr:
    """Whether an access line is of a connection that was upgraded.

    Traefik and older Caddys write 0 of it; Envoy writes 0 of an attempt whose client left before an answer.
    """
    status = pl.col("http_response_status_code")
    return (status == 101) | ((status == 0) & ~pl.col("parser").cast(pl.String).str.starts_with("envoy"))


def _tunnels(access: pl.DataFrame) -> pl.DataFrame:
    """Connections that a proxy logged: `p`, this clock's time of the end, `before`, how long before it the stamp was read, both ns."""
    base = pl.col("timestamp_raw").cast(pl.Int64)
    end = (
        pl.when(pl.col("time_semantics") == "at_start").then(base + pl.col("duration_ns").fill_null(0)).otherwise(base)
    )
    return access.filter(was_tunnel()).select(
        pl.int_range(pl.len()).alias("ours"),
        "client_address",
        pl.col("user_agent_original").replace(["-", ""], None).alias("agent"),
        "duration_ns",
        end.alias("p"),
        (end - base).alias("before"),
        pl.col("time_resolution_ns").fill_null(SECOND).alias("width"),
    )


def _closed(events: pl.DataFrame, access: pl.DataFrame, gateways: Mapping[str, Estimate]) -> tuple[pl.DataFrame, int]:
    """Connections that the gateway logged and that may have come through the proxy, `g` their aligned end in ns; its clock's half-width, ns."""
    theirs = _gateway_closes(events).filter(pl.col("clock_id").is_in(list(gateways)))
    moment, bound = aligned(gateways, theirs.get_column("clock_id"), theirs.get_column("at"))
    # the lags that are taken for usual hold for stamps of a millisecond; a coarser one may mean any later moment
    coarse = (pl.col("resolution") - MS).clip(0)
    theirs = theirs.with_columns(pl.Series("g", moment) + coarse, coarse.alias("coarse")).select(
        pl.int_range(pl.len()).alias("theirs"),
        "forwarded_for",
        pl.col("duration_ns").alias("lasted"),
        "g",
        "coarse",
        "remote_address",
        "gateway_agent",
        "client_mode",
    )
    direct = pl.col("remote_address").is_in(access.get_column("client_address").drop_nulls().unique().to_list())
    proxied = theirs.filter(~direct | pl.col("forwarded_for").is_not_null() | pl.col("remote_address").is_null())
    return proxied, int(np.median(bound)) if len(bound) else 0


def _candidates(ours: pl.DataFrame, theirs: pl.DataFrame) -> pl.DataFrame:
    """Connections of both sides that may be one, as `settle` takes them: by the client's address, by how long they lasted, else all."""
    apart = (pl.col("duration_ns") - pl.col("lasted")).abs()
    browser = pl.col("agent").str.contains("Mozilla/", literal=True)
    same_agent = (pl.col("agent") == pl.col("gateway_agent")).fill_null(value=True)
    same_kind = ((pl.col("client_mode") == "webchat") == browser).fill_null(value=True)
    named, nameless = (
        theirs.filter(known) for known in (pl.col("forwarded_for").is_not_null(), pl.col("forwarded_for").is_null())
    )
    lasting, open_ = (
        ours.filter(known) for known in (pl.col("duration_ns").is_not_null(), pl.col("duration_ns").is_null())
    )
    keyed = ours.join(named, left_on="client_address", right_on="forwarded_for").filter(same_agent)
    loose = (
        thin(lasting)
        .join(thin(nameless.filter(pl.col("lasted").is_not_null())), how="cross")
        .filter((apart <= ABOUT) & (pl.col("lasted") > BRIEF) & same_kind)
    )
    blind = thin(open_).join(thin(nameless), how="cross").filter(same_kind)
    alike = (apart <= ALIKE).fill_null(value=False)
    columns = [
        "ours",
        "theirs",
        "p",
        "g",
        (pl.col("g") - pl.col("before")).alias("at"),
        pl.col("width") + pl.col("coarse"),
        alike.alias("alike"),
        (alike & (pl.col("lasted") > SECOND)).alias("same"),
    ]
    return pl.concat([part.select(columns) for part in (keyed, loose, blind)]).filter(
        (pl.col("p") - pl.col("g")).abs() <= REACH
    )


def _gateway_closes(events: pl.DataFrame) -> pl.DataFrame:
    """One row a connection whose close the gateway logged: clock_id, at (raw ns), duration_ns, forwarded_for, remote_address, resolution (ns)."""
    gateway = events.filter((pl.col("source_kind") == "gateway") & pl.col("conn_short").is_not_null())
    at = pl.col("timestamp_raw").cast(pl.Int64)
    remote = pl.coalesce("remote_address", pl.col("endpoint").str.extract(r"^\[?([^\]]+?)\]?:\d+->", 1))
    begun = pl.col("event_name").is_in(["websocket.open", "websocket.connected"])
    rows = gateway.group_by("conn_short", maintain_order=True).agg(
        pl.col("clock_id").first(),
        at.filter(pl.col("event_name") == "websocket.close").min().alias("at"),
        pl.col("time_resolution_ns")
        .filter(pl.col("event_name") == "websocket.close")
        .max()
        .fill_null(MS)
        .alias("resolution"),
        at.filter(begun).min().alias("began"),
        pl.col("duration_ns").drop_nulls().first(),
        pl.col("forwarded_for").drop_nulls().first(),
        pl.col("user_agent_original").drop_nulls().first().alias("gateway_agent"),
        pl.col("client_mode").drop_nulls().first(),
        remote.drop_nulls().first().alias("remote_address"),
    )
    return rows.filter(pl.col("at").is_not_null()).with_columns(
        pl.coalesce("duration_ns", pl.col("at") - pl.col("began")).alias("duration_ns")
    )


def _refusals(events: pl.DataFrame, access: pl.DataFrame, found: Mapping[str, Estimate]) -> pl.DataFrame:
    """Refused attempts (502, 503) fall between a stop and the next time the gateway listens: windows for the offset."""
    base = pl.col("timestamp_raw").cast(pl.Int64)
    offset = pl.col("clock_id").replace_strict(
        {k: v.offset for k, v in found.items()}, default=0, return_dtype=pl.Int64
    )
    ends = [
        "container.die",
        "gateway.signal",
        "gateway.stop",
        "gateway.shutdown",
        "gateway.start",
        "process.error",
        "gateway.crash",
    ]
    ours = (
        (pl.col("source_kind") == "gateway")
        | (pl.col("role") == "gateway")
        | ~pl.lit(events.get_column("role").is_not_null().any())
    )
    stops = events.filter(pl.col("event_name").is_in(ends) & ours).select((base - offset).alias("t")).sort("t")
    lives = events.filter(pl.col("event_name") == "gateway.listening").select((base - offset).alias("up")).sort("up")
    windows = (
        stops.join_asof(lives, left_on="t", right_on="up", strategy="forward", check_sortedness=False)
        .drop_nulls()
        .group_by("up")
        .agg(pl.col("t").min())
    )
    refused = thin(access.filter(pl.col("http_response_status_code").is_in([502, 503]))).select(
        base.alias("p"),
        pl.when(pl.col("time_semantics") == "at_start").then(pl.col("duration_ns")).fill_null(0).alias("took"),
    )
    pairs = refused.join(windows, how="cross")
    return pairs.select(
        "p",
        "up",
        (pl.col("p") - pl.col("up") - SECOND).alias("low"),
        (pl.col("p") + pl.col("took") - pl.col("t") + SECOND).alias("high"),
    )


def _plausible(windows: pl.DataFrame) -> Estimate | None:
    """No offset at all, where the refusals agree with it; their windows bound the error."""
    holds = windows.filter((pl.col("low") <= 0) & (pl.col("high") >= 0))
    if holds.height < ENOUGH:
        return None
    error = int(min(-holds.get_column("low").to_numpy().max(), holds.get_column("high").to_numpy().min()))
    return Estimate(
        0, max(error, ASSUMED_ERROR), holds.height, 0.0, "refused attempts lie inside the gateway's downtime", "assumed"
    )
