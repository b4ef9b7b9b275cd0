"""What ties a proxy's clock to the gateway's: the ends of the same connections on both sides, and refusals while the gateway is down."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from occorr.offsets import ASSUMED_ERROR, REACH, Estimate, aligned
from occorr.pairs import COARSE, THIN, explained, settle, thin
from occorr.schema import MS, SECOND
from occorr.scope import BEGINS
from occorr.shifts import Downtimes, shifts
from occorr.zones import QUARTER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from occorr import program

ENOUGH: Final = 3  # refusals that tell of an offset
NARROW: Final = 12 * SECOND  # an offset that is left open by more is not taken
NEAR: Final = 60 * SECOND  # … nor one that is further off: a wrong zone is found otherwise
CUT: Final = 3 * SECOND  # tunnels that a death cut, of more than that, ended so shortly before the first refusal
ALIKE: Final = 50 * MS  # a connection that both sides say lasted as long to this is one, if no timer ended several
ABOUT: Final = 300 * MS  # … and may be one where they differ by no more
SHAKING: Final = 1_200 * MS  # … or by the handshake, where the gateway tells only when a connection had made it
BRIEF: Final = 500 * MS  # shorter connections all lasted alike
UNLIKELY: Final = 0.05  # chance below which connections are not missing from the gateway's log by chance
UNHEARD: Final = "connections of this time are not in the gateway's log: the clock may have been set"


def proxy(events: pl.DataFrame, clock: str, found: Mapping[str, Estimate]) -> Estimate:
    """A proxy against the gateway (ends of the same connections) and the engine (refusals while the gateway is down)."""
    none = Estimate(0, ASSUMED_ERROR, 0, 0.0, "nothing ties this clock to the reference", "assumed")
    gateways = {k: v for k, v in found.items() if k.startswith("gateway") and v.status in ("reference", "aligned")}
    access = events.filter(
        (pl.col("clock_id") == clock) & (pl.col("event_name") == "http.access") & pl.col("timestamp_raw").is_not_null()
    )
    if access.is_empty() or not gateways:
        return none
    gateways = _beside(events, access, gateways)
    theirs, extra = _closed(events, access, gateways)
    ours, downtimes = _tunnels(access), _downtimes(events, found)
    pairs = _candidates(ours, theirs)
    longer = pairs.filter(~pl.col("brief"))
    settled = settle(longer, _refusals(access, downtimes), "the same connections and refusals at the gateway", extra)
    if settled is not None and settled.segments and max(ours.height, theirs.height) <= THIN:
        return _heard(settled, pairs, ours, _running(events, gateways))
    plausible = _plausible(access, ours, downtimes, _written(events, gateways).get_column("t"))
    return settled or plausible or _zone(events, access, gateways) or none


def _beside(events: pl.DataFrame, access: pl.DataFrame, gateways: dict[str, Estimate]) -> dict[str, Estimate]:
    """The gateways whose logs lie in a folder of the proxy's, where any do: another folder's may be another host's."""
    folder = pl.col("log_file_path").cast(pl.String).str.extract(r"^(.*)/", 1)
    here = access.select(folder.unique()).to_series().implode()
    own = events.filter(pl.col("clock_id").is_in(list(gateways)) & folder.is_in(here)).get_column("clock_id").unique()
    return {k: v for k, v in gateways.items() if k in set(own)} or gateways


def _running(events: pl.DataFrame, gateways: Mapping[str, Estimate]) -> pl.DataFrame:
    """When a gateway ran and wrote its log, but for the edges of that time, reference ns: `low`, `high`."""
    lives = _written(events, gateways).with_columns(pl.col("began").cum_sum().alias("life"))
    return lives.group_by("life", maintain_order=True).agg(
        (pl.col("t").min() + COARSE).alias("low"), (pl.col("t").max() - COARSE).alias("high")
    )


def _heard(found: Estimate, pairs: pl.DataFrame, ours: pl.DataFrame, running: pl.DataFrame) -> Estimate:
    """The estimate, but for what lies beyond its anchors where none of the connections is in the gateway's log.

    A gateway that logged nearly all connections of a kind goes on to do so: by the rule of succession it is unlikely that
    several ends, at moments in which it ran, are missing from its log, and likelier that they stand elsewhere in it.
    """
    told = pairs.filter(explained(found, pairs)).get_column("ours").unique()
    ends = (
        ours.with_columns(
            (pl.col("p") - found.offset).alias("ended"),
            (pl.col("p") - pl.col("before") - found.offset).alias("t"),
            pl.col("ours").is_in(told.implode()).alias("told"),
            pl.concat_str(
                pl.col("agent").str.contains("Mozilla/", literal=True),
                "path",
                "upstream",
                separator=" ",
                ignore_nulls=True,
            ).alias("kind"),
        )
        .join_where(running, pl.col("ended") >= pl.col("low"), pl.col("ended") <= pl.col("high"))
        .sort("t")
    )
    span = ends.filter("told").select(pl.col("t").min().alias("first"), pl.col("t").max().alias("last")).row(0)
    if span[0] is None:
        return found
    within = ends.filter(pl.col("t").is_between(*span))
    pieces = list(found.segments)
    first, last = float(span[0] - found.base - found.error), float(span[1] - found.base + found.error)
    if _unlikely(within, ends.filter(pl.col("t") < span[0])) and first < pieces[0].end:
        pieces = [_lost(pieces[0], -np.inf, first), replace(pieces[0], start=first), *pieces[1:]]
    if _unlikely(within, ends.filter(pl.col("t") > span[1])) and last > pieces[-1].start:
        pieces = [*pieces[:-1], replace(pieces[-1], end=last), _lost(pieces[-1], last, np.inf)]
    return replace(found, segments=tuple(pieces))


def _written(events: pl.DataFrame, gateways: Mapping[str, Estimate]) -> pl.DataFrame:
    """When the gateways wrote lines, sorted: `t`, reference ns, and whether a process `began` there."""
    lines = events.filter(pl.col("clock_id").is_in(list(gateways)) & pl.col("timestamp_raw").is_not_null())
    moment, _ = aligned(gateways, lines.get_column("clock_id"), lines.get_column("timestamp_raw"))
    began = lines.get_column("event_name").is_in(BEGINS)
    return pl.DataFrame({"t": moment, "began": began}).sort("t")


def _unlikely(within: pl.DataFrame, beyond: pl.DataFrame) -> bool:
    """Whether it is unlikely that of some kind none of the connections beyond was told, seen how many within were."""
    for (kind,), lost in beyond.partition_by("kind", as_dict=True).items():
        seen = within.filter(pl.col("kind") == kind)
        moments = int((lost.get_column("t").diff().fill_null(2 * COARSE) > COARSE).sum())
        missing, misses = int((~seen.get_column("told")).sum()), np.arange(moments)
        if np.prod((missing + 1 + misses) / (seen.height + 2 + misses)) < UNLIKELY:
            return True
    return False


def _lost(line: program.Segment, begin: float, end: float) -> program.Segment:
    """The segment of a time in which nothing tells where the clock stood."""
    return replace(line, start=begin, end=end, anchors=0, violated=0.0, status="assumed", reason=UNHEARD)


def was_tunnel() -> pl.Expr:
    """Whether an access line is of a connection that was upgraded.

    Traefik and older Caddys write 0 of it; Envoy writes 0 of an attempt whose client left before an answer.
    """
    status = pl.col("http_response_status_code")
    return (status == 101) | ((status == 0) & ~pl.col("parser").cast(pl.String).str.starts_with("envoy"))


def _end() -> pl.Expr:
    """When a request ended, this clock's ns; null where only its beginning is told: it may have ended whenever."""
    base = pl.col("timestamp_raw").cast(pl.Int64)
    return pl.when(pl.col("time_semantics") == "at_start").then(base + pl.col("duration_ns")).otherwise(base)


def _tunnels(access: pl.DataFrame) -> pl.DataFrame:
    """Connections that a proxy logged: `p`, this clock's time of the end, `before`, how long before it the stamp was read, both ns."""
    base, end = pl.col("timestamp_raw").cast(pl.Int64), _end()
    return access.filter(was_tunnel() & end.is_not_null()).select(
        pl.int_range(pl.len()).alias("ours"),
        "client_address",
        pl.col("user_agent_original").replace(["-", ""], None).alias("agent"),
        "duration_ns",
        pl.col("url_path").alias("path"),
        pl.col("upstream_address").alias("upstream"),
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
        "made",
    )
    forwarded, remote = pl.col("forwarded_for").is_not_null(), pl.col("remote_address")
    # who forwards is known where any line says for whom; else it is whoever is no client of the proxy
    forwards = theirs.filter(forwarded).get_column("remote_address").drop_nulls().unique()
    clients = access.get_column("client_address").drop_nulls().unique()
    through = remote.is_in(forwards.to_list()) if forwards.len() else ~remote.is_in(clients.to_list())
    proxied = theirs.filter(forwarded | through | remote.is_null())
    return proxied, int(np.median(bound)) if len(bound) else 0


def _candidates(ours: pl.DataFrame, theirs: pl.DataFrame) -> pl.DataFrame:
    """Connections of both sides that may be one, as `settle` takes them: by the client's address, by how long they lasted, else all.

    `brief` are those that are told from others by a length that many have.
    """
    apart = (pl.col("duration_ns") - pl.col("lasted")).abs()
    shaking = pl.col("made") & (pl.col("duration_ns") - pl.col("lasted")).is_between(0, SHAKING)
    browser = pl.col("agent").str.contains("Mozilla/", literal=True)
    same_agent = (pl.col("agent") == pl.col("gateway_agent")).fill_null(value=True)
    same_kind = ((pl.col("client_mode") == "webchat") == browser).fill_null(value=True)
    named, nameless = (
        theirs.filter(known) for known in (pl.col("forwarded_for").is_not_null(), pl.col("forwarded_for").is_null())
    )
    lasting, open_ = (
        ours.filter(known) for known in (pl.col("duration_ns").is_not_null(), pl.col("duration_ns").is_null())
    )
    keyed = ours.join(named, left_on="client_address", right_on="forwarded_for", maintain_order="left").filter(
        same_agent
    )
    loose = (
        thin(lasting)
        .join(thin(nameless.filter(pl.col("lasted").is_not_null())), how="cross")
        .filter(((apart <= ABOUT) | shaking) & (pl.col("lasted") > 0) & same_kind)
    )
    loose = loose.with_columns((pl.col("lasted") <= BRIEF).alias("brief"))
    blind = thin(open_).join(thin(nameless), how="cross").filter(same_kind)
    keyed, blind = (part.with_columns(pl.lit(value=False).alias("brief")) for part in (keyed, blind))
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
        "brief",
    ]
    return pl.concat([part.select(columns) for part in (keyed, loose, blind)]).filter(
        (pl.col("p") - pl.col("g")).abs() <= REACH
    )


def _gateway_closes(events: pl.DataFrame) -> pl.DataFrame:
    """One row a connection whose close the gateway logged: clock_id, at (raw ns), duration_ns, forwarded_for, remote_address, resolution (ns)."""
    gateway = events.filter((pl.col("source_kind") == "gateway") & pl.col("conn_short").is_not_null())
    at = pl.col("timestamp_raw").cast(pl.Int64)
    remote = pl.coalesce("remote_address", pl.col("endpoint").str.extract(r"^\[?([^\]]+?)\]?:\d+->", 1))
    opened = pl.col("event_name") == "websocket.open"
    begun = opened | (pl.col("event_name") == "websocket.connected")
    rows = gateway.group_by("conn_short", maintain_order=True).agg(
        pl.col("clock_id").first(),
        at.filter(pl.col("event_name") == "websocket.close").min().alias("at"),
        pl.col("time_resolution_ns")
        .filter(pl.col("event_name") == "websocket.close")
        .max()
        .fill_null(MS)
        .alias("resolution"),
        at.filter(begun).min().alias("began"),
        (~opened.any() & pl.col("duration_ns").is_null().all()).alias("made"),
        pl.col("duration_ns").drop_nulls().first(),
        pl.col("forwarded_for").drop_nulls().first(),
        pl.col("user_agent_original").drop_nulls().first().alias("gateway_agent"),
        pl.col("client_mode").drop_nulls().first(),
        remote.drop_nulls().first().alias("remote_address"),
    )
    return rows.filter(pl.col("at").is_not_null()).with_columns(
        pl.coalesce("duration_ns", pl.col("at") - pl.col("began")).alias("duration_ns")
    )


def _downtimes(events: pl.DataFrame, found: Mapping[str, Estimate]) -> pl.DataFrame:
    """Times between a stop of the gateway and the next time it listens, reference ns: cut, gone, up."""
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
    stops = (
        events.filter(pl.col("event_name").is_in(ends) & ours)
        .select((base - offset).alias("t"), (pl.col("event_name") == "container.die").alias("died"))
        .sort("t")
    )
    lives = events.filter(pl.col("event_name") == "gateway.listening").select((base - offset).alias("up")).sort("up")
    return (
        stops.join_asof(lives, left_on="t", right_on="up", strategy="forward", check_sortedness=False)
        .drop_nulls("up")
        .group_by("up")
        .agg(pl.col("t").min().alias("cut"), pl.col("t").filter("died").min().alias("gone"))
        .with_columns(pl.coalesce("gone", "up"))
        .sort("up")
    )


def _refusals(access: pl.DataFrame, downtimes: pl.DataFrame) -> pl.DataFrame:
    """Refused attempts (502, 503) fall into downtimes: windows for the offset, a row a pair of both."""
    told = pl.col("http_response_status_code").is_in([502, 503])
    refused = thin(access.filter(told & _end().is_not_null())).select(
        pl.col("timestamp_raw").cast(pl.Int64).alias("p"), _end().alias("end")
    )
    return refused.join(downtimes, how="cross").select(
        "p",
        "up",
        (pl.col("p") - pl.col("up") - SECOND).alias("low"),
        (pl.col("end") - pl.col("cut") + SECOND).alias("high"),
    )


def _zone(events: pl.DataFrame, access: pl.DataFrame, gateways: Mapping[str, Estimate]) -> Estimate | None:
    """The zone of stamps without one that makes a refusal the one at which the gateway said that it does not trust the proxy.

    It says so once a process. Two moments at random lie so near to a quarter of an hour in one case of some 200.
    """
    guessed = access.filter(pl.col("zone_assumed") & (pl.col("http_response_status_code") == 403))
    words = events.filter((pl.col("event_name") == "proxy.untrusted") & pl.col("clock_id").is_in(list(gateways)))
    said, _ = aligned(gateways, words.get_column("clock_id"), words.get_column("timestamp_raw"))
    ends = guessed.select(_end()).to_series().drop_nulls().to_numpy()
    apart = (ends[None, :] - said[:, None]).ravel()
    quarters = np.round(apart / QUARTER)
    fits = (np.abs(apart - quarters * QUARTER) <= SECOND) & (np.abs(apart) <= REACH)
    if len(set(quarters[fits])) != 1:
        return None
    offset = int(quarters[fits][0]) * QUARTER
    how = "the zone in which the gateway first refused it as not trusted"
    return Estimate(offset, ASSUMED_ERROR, int(fits.sum()), 0.0, how, "assumed")


def _plausible(access: pl.DataFrame, ours: pl.DataFrame, downtimes: pl.DataFrame, spoken: pl.Series) -> Estimate | None:
    """No offset at all, where refusals and tunnels agree with it, else the one that they leave; its bound reaches back to none.

    Before its first line and after its last (`spoken`) the gateway may have been down too. And refusals have other reasons:
    only where the tunnels of several clients ended at once just before, as they do when a gateway dies, are they a downtime's.
    """
    # where tunnels go is the gateway
    ways = ours.select(pl.col("path").alias("url_path"), pl.col("upstream").alias("upstream_address")).unique()
    to_gateway = access.filter(pl.col("http_response_status_code").is_in([502, 503])).join(
        ways, on=["url_path", "upstream_address"], how="semi", nulls_equal=True
    )
    refused = np.sort(to_gateway.get_column("timestamp_raw").cast(pl.Int64).to_numpy())
    if spoken.len():
        refused = refused[(refused >= spoken[0]) & (refused <= spoken[-1])]
    if len(refused) < ENOUGH or downtimes.is_empty():
        return None
    cut, gone, up = (downtimes.get_column(c).to_numpy() for c in ("cut", "gone", "up"))
    lasted = ours.select(pl.col("p") - pl.col("duration_ns").fill_null(0), pl.col("p").alias("ended"))
    possible = shifts(refused, lasted.to_numpy(), Downtimes(cut, gone, up, up))
    here = [(low, high) for low, high in possible if low <= 0 <= high]
    if here:
        error = min(-here[0][0], here[0][1])
        how = "refused attempts lie inside the gateway's downtime"
        return Estimate(0, max(error, ASSUMED_ERROR), len(refused), 0.0, how, "assumed")
    at_once = ours.filter(pl.col("p").is_between(refused[0] - CUT, refused[0] + SECOND) & (pl.col("duration_ns") > CUT))
    if (
        at_once.get_column("client_address").n_unique() < 2
        or len(possible) != 1
        or possible[0][1] - possible[0][0] > NARROW
        or abs(sum(possible[0])) > 2 * NEAR
    ):
        return None
    low, high = possible[0]
    offset = -(low + high) // 2
    how = "refused attempts and tunnels fit the gateway's downtime so, and not without an offset"
    return Estimate(offset, abs(offset) + (high - low) // 2 + SECOND, len(refused), 0.0, how, "assumed")
