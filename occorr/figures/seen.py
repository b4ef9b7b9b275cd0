"""What the figures look at: the tables in plain form, what was worked out from them once, and one figure's shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import gates, lives, schema
from occorr.gates import Gate, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from occorr.schema import Tables

_LINES: Final = 5  # lines that a figure cites
# id → (title, unit): everything that `figures` can give.
FIGURES: Final[Mapping[str, tuple[str, str]]] = {
    "token_sources": ("Places that set the gateway's token", ""),
    "token_fingerprints": ("Different tokens in use", ""),
    "token_mismatches": ("Token mismatches in one pairing window", ""),
    "token_rotation": ("Time until clients had the rotated token", "s"),
    "pairing_retries": ("Refused pairing attempts", ""),
    "pairing_successes": ("Successful pairings", ""),
    "time_to_pair": ("Longest time to a successful pair", "s"),
    "restarts": ("Restarts of the gateway", ""),
    "restart_cost": ("Unavailable because of restarts", "s"),
    "longest_outage": ("Longest time without a ready gateway", "s"),
    "handshake_p50": ("Handshake, median", "ms"),
    "handshake_p95": ("Handshake, 95th percentile", "ms"),
    "subagent_failures": ("Failed sub-agent starts", ""),
    "subagent_success": ("Sub-agent success rate", "%"),
    "proxy_502_504": ("Requests that the proxy answered with 502 or 504", "%"),
    "tcp_connect": ("TCP connects that succeeded", "%"),
    "probe_interval_outside": ("Time between probes from outside", "s"),
    "probe_interval_inside": ("Time between probes from inside", "s"),
    "state_lock_p95": ("Wait for the state lock, 95th percentile", "s"),
    "unexplained_closes": ("Closes with 1006 or 1008 that nothing explains", ""),
    "log_days": ("Days that the gateway's logs cover", "d"),
    "health_start_period": ("Health check: start period", "s"),
    "health_interval": ("Health check: interval", "s"),
    "health_retries": ("Health check: retries", ""),
    "versions": ("Different versions of gateway and CLI", ""),
    "config_stamp": ("Configuration stamps of another version than the image", ""),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one gateway (`scope`: project/service, empty for all that was read).

    `value` is in `unit` and None where there is no data; `n` counts the observations behind it.
    """

    id: str
    title: str
    value: float | None
    unit: str
    n: int
    scope: str
    note: str
    lines: tuple[Place, ...] = ()
    floor: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """The tables in plain form, and what was worked out from them once."""

    closes: pl.DataFrame
    evidence: pl.DataFrame
    timeline: pl.DataFrame
    facts: pl.DataFrame
    sources: pl.DataFrame
    lanes: tuple[lives.Lane, ...]
    gates: tuple[Gate, ...]

    @property
    def only(self) -> bool:
        """Whether there is one gateway; then lines that name none are its own."""
        return len(self.gates) == 1


def look(tables: Tables) -> Seen:
    """Reads the tables once."""
    closes, timeline, facts = (
        schema.plain(tables.closes),
        widened(tables.timeline),
        schema.plain(tables.facts),
    )
    lanes = tuple(lives.of(closes, timeline, facts)[0])
    found = tuple(gates.gates(facts, lanes, closes))
    at = pl.coalesce("timestamp", "time_latest", "time_earliest")
    closes = closes.with_columns(at=at, weight=pl.col("count").fill_null(1).clip(lower_bound=1)).sort(
        "at", "close_id", nulls_last=True
    )
    return Seen(closes, schema.plain(tables.evidence), timeline, facts, schema.plain(tables.sources), lanes, found)


def places(rows: pl.DataFrame) -> tuple[Place, ...]:
    """The first lines of these rows, as many as a figure cites."""
    return tuple(
        Place(path or "", line)
        for path, line in rows.select("log_file_path", "log_line").unique(maintain_order=True).head(_LINES).rows()
    )


def cited(seen: Seen, closes: pl.DataFrame) -> tuple[Place, ...]:
    """The first line of evidence of each close, as far as a figure cites."""
    ids = closes["close_id"].to_list()
    own = seen.evidence.filter(pl.col("close_id").is_in(ids) & (pl.col("role") == "supports")).unique(
        "close_id", keep="first", maintain_order=True
    )
    return places(own.sort("log_file_path", "log_line"))


def measured(
    name: str,
    value: float | None,
    n: int,
    gate: Gate | None,
    note: str,
    lines: Iterable[Place] = (),
    *,
    floor: bool = False,
) -> Figure:
    """A figure of `FIGURES`; without a gate it speaks of all that was read."""
    title, unit = FIGURES[name]
    return Figure(name, title, value, unit, n, gate.label if gate else "", note, tuple(lines)[:_LINES], floor=floor)


def of_gate(seen: Seen, gate: Gate, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of a table that are this gateway's: all where it is the only one."""
    if seen.only:
        return frame
    if "service_name" in frame.columns and "close_id" in frame.columns:
        return frame.filter(
            (pl.col("compose_project").fill_null("") == gate.project)
            & pl.col("service_name").fill_null(gate.service).eq(gate.service)
        )
    told = pl.coalesce("instance", pl.concat_str("compose_project", pl.lit("/"), "compose_service")).replace("", None)
    return frame.filter(told == gate.label)


def logged(seen: Seen, gate: Gate, *kinds: str) -> bool:
    """Whether a source of one of these kinds holds the gateway's lines."""
    return bool(of_gate(seen, gate, seen.timeline)["source_kind"].is_in(kinds).any())


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile: a value that occurred."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


_ATTRIBUTES: Final = (
    "role",
    "instance",
    "client_version",
    "client_mode",
    "client_id",
    "config_hash",
    "image_id",
    "device_id",
    "conn_short",
    "elapsed_ms",
    "probe_result",
    "cli_target",
    "cli_source",
    "cli_command",
    "auth_reason",
    "method",
    "rpc_status",
    "pairing_request_id",
    "local_address",
    "local_port",
    "forwarded_for",
    "remote_address",
    "also_at",
    "probe_tool",
    "probe_vantage",
    "probe_connect_ns",
    "probe_tls_ns",
    "probe_upgrade_ns",
)


def widened(timeline: pl.DataFrame) -> pl.DataFrame:
    """EVENTS, plain, with the attributes that figures and reports ask for as columns of their own."""
    numbered = schema.plain(timeline).with_row_index("_row")
    pairs = (
        numbered.select("_row", "attributes")
        .explode("attributes")
        .unnest("attributes")
        .filter(pl.col("key").is_in(_ATTRIBUTES))
    )
    wide = pairs.group_by("_row").agg(
        pl.col("value").filter(pl.col("key") == name).first().alias(name) for name in _ATTRIBUTES
    )
    return numbered.join(wide, on="_row", how="left", maintain_order="left").drop("_row")
