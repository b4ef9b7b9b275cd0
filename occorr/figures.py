"""The figures that runbooks ask for after an incident, each with its n and its lines, or with the reason why there is none.

A figure is never guessed: where nothing was logged, `value` is None and `note` says which evidence is missing. `floor`
marks a value that is only known to be at least that large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import inventory, lives, schema
from occorr.inventory import Gate, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from occorr.schema import Tables

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
# A pairing request lives this long at the gateway, so mismatches within it belong to one attempt to pair.
PAIRING_WINDOW: Final = 300 * SECOND
COARSE: Final = 50 * MS  # stamps coarser than this cannot time a handshake
ROTATION_REACH: Final = 3600 * SECOND  # a client that offers the old token later than this is another story
_TRIED: Final = ("connected", "answered", "refused", "timeout", "dns", "closed", "tls", "silent", "unreachable")
_LINES: Final = 5  # lines that a figure cites
_SUBAGENT: Final = r"(?i)sub-?agent|sessions_spawn|childSessionKey"

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
class Outage:
    """A time without a ready gateway; ns since 1970. `end` is None where the data ends first.

    `kind` is restart, freeze, or stop where nothing shows that it came back; `downs` how often it went down meanwhile.
    """

    scope: str
    kind: str
    start: int
    end: int | None
    cost_ns: int
    downs: int
    lines: tuple[Place, ...]


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
        inventory.widened(tables.timeline),
        schema.plain(tables.facts),
    )
    lanes = tuple(lives.of(closes, timeline, facts)[0])
    gates = tuple(inventory.gates(facts, lanes, closes))
    at = pl.coalesce("timestamp", "time_latest", "time_earliest")
    closes = closes.with_columns(at=at, weight=pl.col("count").fill_null(1).clip(lower_bound=1)).sort(
        "at", "close_id", nulls_last=True
    )
    return Seen(closes, schema.plain(tables.evidence), timeline, facts, schema.plain(tables.sources), lanes, gates)


def figures(tables: Tables, seen: Seen | None = None) -> list[Figure]:
    """All figures, in the order of `FIGURES`, each once a gateway or once for all that was read.

    Args:
        tables: of one analysis.
        seen: what `look` made of them, where it is known already.
    """
    seen = seen or look(tables)
    made: list[Figure] = []
    for gate in seen.gates:
        made += [
            *_tokens(seen, gate),
            *_pairing(seen, gate),
            *_restarts(seen, gate),
            *_state_lock(seen, gate),
            *_unexplained(seen, gate),
            *_health(seen, gate),
            *_versions(seen, gate),
        ]
    made += [*_handshakes(seen), *_subagents(seen), *_proxy(seen), *_probes(seen), *_coverage(seen)]
    order = {name: place for place, name in enumerate(FIGURES)}
    return sorted(made, key=lambda f: (order[f.id], f.scope))


def outages(seen: Seen) -> list[Outage]:
    """Each time that a gateway which had been up was not ready, in order of time."""
    ends = [t for t in (seen.timeline["timestamp"].max(), seen.closes["at"].max()) if isinstance(t, int)]
    last = max(ends, default=0)
    found = []
    for lane in seen.lanes:
        if not lane.gateway:
            continue
        scope = lane.label
        was_up = False
        current: list[lives.Span] = []
        for span in [*lane.spans, None]:
            if span is not None and span.state in {"down", "starting", "paused"}:
                current.append(span)
                continue
            if current and was_up and current[0].start is not None:
                end, start = current[-1].end, current[0].start
                kind = (
                    "freeze"
                    if all(s.state == "paused" for s in current)
                    else "stop"
                    if len(current) == 1 and end is None and current[0].state == "down"
                    else "restart"
                )
                downs = sum(s.state == "down" and s.end is not None for s in current)
                cost = (end if end is not None else max(last, start)) - start
                found.append(
                    Outage(scope, kind, start, end, cost, max(downs, int(kind == "restart")), _at(seen.timeline, start))
                )
            current, was_up = [], was_up or span is not None
    return sorted(found, key=lambda o: (o.start, o.scope))


def _at(timeline: pl.DataFrame, moment: int) -> tuple[Place, ...]:
    """The line that began it."""
    rows = timeline.filter(
        (pl.col("timestamp") == moment)
        & (pl.col("container_action").is_not_null() | pl.col("event_name").str.starts_with("gateway."))
    )
    return _places(rows.head(1))


def _places(rows: pl.DataFrame) -> tuple[Place, ...]:
    return tuple(
        Place(path or "", line)
        for path, line in rows.select("log_file_path", "log_line").unique(maintain_order=True).head(_LINES).rows()
    )


def _cited(seen: Seen, closes: pl.DataFrame) -> tuple[Place, ...]:
    """The first line of evidence of each close, as far as a figure cites."""
    ids = closes["close_id"].to_list()
    own = seen.evidence.filter(pl.col("close_id").is_in(ids) & (pl.col("role") == "supports")).unique(
        "close_id", keep="first", maintain_order=True
    )
    return _places(own.sort("log_file_path", "log_line"))


def _made(
    name: str,
    value: float | None,
    n: int,
    gate: Gate | None,
    note: str,
    lines: Iterable[Place] = (),
    *,
    floor: bool = False,
) -> Figure:
    title, unit = FIGURES[name]
    return Figure(name, title, value, unit, n, gate.label if gate else "", note, tuple(lines)[:_LINES], floor=floor)


def _own(seen: Seen, gate: Gate, frame: pl.DataFrame) -> pl.DataFrame:
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


def _logged(seen: Seen, gate: Gate, *kinds: str) -> bool:
    return bool(_own(seen, gate, seen.timeline)["source_kind"].is_in(kinds).any())


def _tokens(seen: Seen, gate: Gate) -> list[Figure]:
    found = inventory.tokens(seen.facts, gate, only=seen.only)
    own = [t for t in found if t.side == "gateway" and (t.fingerprint or t.text == "masked")]
    sources, prints = sorted({t.source for t in own}), sorted({t.fingerprint for t in found if t.fingerprint})
    masked = sum(t.text == "masked" for t in found)
    missing = "no document that could hold it was read: docker inspect of the gateway, the Compose file, openclaw.json"
    looked = seen.facts.filter(pl.col("subject").is_in([*gate.subjects, "gateway"])).height > 0
    why = (
        "the documents that were read set none: openclaw.json or docker inspect of the gateway may"
        if looked
        else missing
    )
    made = [
        _made(
            "token_sources",
            len(sources) if own else None,
            len(own),
            gate,
            ", ".join(sources) or why,
            [t.place for t in own],
        )
    ]
    by_print = "; ".join(f"{p} in {', '.join(sorted({t.source for t in found if t.fingerprint == p}))}" for p in prints)
    hidden = f"{masked} masked by whoever collected them" if masked else ""
    made.append(
        _made(
            "token_fingerprints",
            len(prints) if prints else None,
            len([t for t in found if t.fingerprint]),
            gate,
            "; ".join(x for x in (by_print, hidden) if x) or why,
            [t.place for t in found if t.fingerprint],
        )
    )
    return made


def _pairing(seen: Seen, gate: Gate) -> list[Figure]:
    closes, events = _own(seen, gate, seen.closes), _own(seen, gate, seen.timeline)
    heard = _logged(seen, gate, "gateway", "cli") or closes.height > 0
    silent = "no gateway log and no CLI output was read, and only they tell refusals"
    wrong = closes.filter(pl.col("cause") == "auth.token_mismatch")
    timed = wrong.drop_nulls("at").sort("at")
    most, lines = 0, _cited(seen, wrong)
    if timed.height:
        windows = timed.rolling(index_column="at", period=f"{PAIRING_WINDOW}i", closed="both").agg(
            pl.col("weight").sum()
        )
        most = int(windows["weight"].max() or 0)  # type: ignore[arg-type]  # polars types a maximum as any value
    most = max(most, int(wrong.filter(pl.col("at").is_null())["weight"].max() or 0))  # type: ignore[arg-type]  # the same
    total = int(wrong["weight"].sum())
    made = [
        _made(
            "token_mismatches",
            most if heard else None,
            total,
            gate,
            f"the most within {PAIRING_WINDOW // SECOND} s, of {total} in all" if heard else silent,
            lines,
        )
    ]
    made.append(_rotation(seen, gate, closes, events))

    refused = closes.filter(pl.col("cause") == "auth.pairing_required")
    approved = events.filter(pl.col("event_name") == "pairing.approved").sort("timestamp", nulls_last=True)
    retries = int(refused["weight"].sum())
    made.append(
        _made(
            "pairing_retries",
            retries if heard else None,
            retries,
            gate,
            f"against {approved.height} successful" if heard else silent,
            _cited(seen, refused),
        )
    )
    made.append(
        _made(
            "pairing_successes",
            approved.height if _logged(seen, gate, "gateway") else None,
            approved.height,
            gate,
            (
                "approvals that the gateway logged"
                if _logged(seen, gate, "gateway")
                else "no gateway log was read, and only it tells approvals"
            ),
            _places(approved),
        )
    )
    knocks = events.filter(
        pl.col("pairing_request_id").is_not_null() | (pl.col("event_name") == "websocket.close")
    ).drop_nulls(["device_id", "timestamp"])
    knocks = knocks.group_by("device_id").agg(
        pl.col("timestamp").min().alias("first"),
        pl.len().alias("tries"),
        pl.col("log_file_path").first(),
        pl.col("log_line").first(),
    )
    pairs = (
        approved.drop_nulls(["device_id", "timestamp"])
        .select("device_id", done="timestamp")
        .join(knocks, on="device_id")
        .filter(pl.col("done") >= pl.col("first"))
    )
    pairs = pairs.with_columns(took=pl.col("done") - pl.col("first")).sort("took", descending=True)
    if pairs.height:
        middle = pairs["took"].median()
        made.append(
            _made(
                "time_to_pair",
                pairs.item(0, "took") / SECOND,
                pairs.height,
                gate,
                f"from a device's first refused attempt to its approval; median {float(str(middle)) / SECOND:.1f} s",
                _places(pairs),
            )
        )
    else:
        made.append(
            _made(
                "time_to_pair",
                None,
                0,
                gate,
                "no device was both refused and later approved in what was logged" if heard else silent,
            )
        )
    return made


def _rotation(seen: Seen, gate: Gate, closes: pl.DataFrame, events: pl.DataFrame) -> Figure:
    """From a rotation until the last client that still offered the old token."""
    begun = (
        pl.concat(
            [
                events.filter(pl.col("event_name") == "auth.rotated")["timestamp"],
                closes.filter(pl.col("cause") == "auth.rotated")["at"],
            ]
        )
        .drop_nulls()
        .sort()
        .to_list()
    )
    starts: list[int] = []
    for moment in begun:
        if not starts or moment - starts[-1] > PAIRING_WINDOW:
            starts.append(moment)
    if not starts:
        return _made("token_rotation", None, 0, gate, "no rotation of the token was logged")
    wrong = closes.filter(pl.col("cause") == "auth.token_mismatch").drop_nulls("at")
    took, lines = 0.0, _cited(seen, closes.filter(pl.col("cause") == "auth.rotated"))
    for start, until in zip(starts, [*starts[1:], starts[-1] + ROTATION_REACH], strict=True):
        late = wrong.filter((pl.col("at") >= start) & (pl.col("at") < min(until, start + ROTATION_REACH)))
        if late.height:
            took, lines = max(took, (late["at"].to_list()[-1] - start) / SECOND), _cited(seen, late.tail(1))
    return _made(
        "token_rotation",
        took,
        len(starts),
        gate,
        "from the rotation to the last client that offered the old token; 0: none did",
        lines,
    )


def _restarts(seen: Seen, gate: Gate) -> list[Figure]:
    if not any(lane.gateway and (seen.only or lane.label == gate.label) for lane in seen.lanes):
        why = "neither docker events nor a gateway log with its start and stop lines was read"
        return [_made(name, None, 0, gate, why) for name in ("restarts", "restart_cost", "longest_outage")]
    own = [o for o in outages(seen) if seen.only or o.scope == gate.label]
    again = [o for o in own if o.kind != "freeze"]
    open_end = any(o.end is None for o in again)
    tail = "; the last one was not over when the logs end" if open_end else ""
    frozen = len(own) - len(again)
    lines = [p for o in again for p in o.lines]
    counted = next(
        (
            int(r["value"])
            for r in seen.facts.filter(
                (pl.col("key") == "restart_count") & pl.col("subject").is_in(list(gate.subjects))
            ).iter_rows(named=True)
            if (r["value"] or "").isdigit()
        ),
        None,
    )
    policy = f"; the engine's own count for the container that was inspected: {counted}" if counted is not None else ""
    cost, longest = sum(o.cost_ns for o in again), max((o.cost_ns for o in own), default=0)
    return [
        _made(
            "restarts",
            sum(o.downs for o in again),
            len(again),
            gate,
            f"{len(again)} time{'s' * (len(again) != 1)} without a ready gateway{policy}"
            + (f"; {frozen} freeze{'s' * (frozen != 1)} beside them" if frozen else ""),
            lines,
        ),
        _made(
            "restart_cost",
            cost / SECOND,
            len(again),
            gate,
            f"sum of the times without a ready gateway{tail}",
            lines,
            floor=open_end,
        ),
        _made(
            "longest_outage",
            longest / SECOND,
            len(own),
            gate,
            "restarts and freezes" + tail,
            [p for o in own if o.cost_ns == longest for p in o.lines],
            floor=open_end,
        ),
    ]


def _state_lock(seen: Seen, gate: Gate) -> list[Figure]:
    waits = (
        _own(seen, gate, seen.timeline)
        .filter((pl.col("event_name") == "state.lock_wait") & pl.col("elapsed_ms").is_not_null())
        .with_columns(ms=pl.col("elapsed_ms").cast(pl.Float64, strict=False))
        .drop_nulls("ms")
        .sort("ms", descending=True)
    )
    if waits.is_empty():
        why = (
            "no wait was logged: the gateway (2026.9 and later) writes those above 100 ms"
            if _logged(seen, gate, "gateway")
            else "no gateway log was read"
        )
        return [_made("state_lock_p95", None, 0, gate, why)]
    return [
        _made(
            "state_lock_p95",
            _rank(waits["ms"].to_list(), 0.95) / 1000,
            waits.height,
            gate,
            "of the waits that the gateway logs, those above 100 ms",
            _places(waits),
        )
    ]


def _unexplained(seen: Seen, gate: Gate) -> list[Figure]:
    bad = _own(seen, gate, seen.closes).filter(pl.col("websocket_close_code").is_in([1006, 1008]))
    n, open_ = int(bad["weight"].sum()), bad.filter(pl.col("family").fill_null("unknown") == "unknown")
    if not _own(seen, gate, seen.closes).height:
        return [_made("unexplained_closes", None, 0, gate, "no close was seen")]
    return [
        _made(
            "unexplained_closes",
            int(open_["weight"].sum()),
            n,
            gate,
            f"of {n} closes with 1006 or 1008",
            _cited(seen, open_),
        )
    ]


def _health(seen: Seen, gate: Gate) -> list[Figure]:
    checks = inventory.health(seen.facts, gate)
    declared = next((c for c in checks if c.state == "declared"), None)
    names = {"health_start_period": "start_period", "health_interval": "interval", "health_retries": "retries"}
    if declared is None:
        states = {c.state for c in checks}
        why = (
            "the health check is switched off"
            if "disabled" in states
            else (
                "the gateway's container has no health check"
                if "none" in states
                else (
                    "the Compose file declares none; the image may: docker inspect shows it"
                    if states
                    else "neither docker inspect of the gateway nor its Compose file was read"
                )
            )
        )
        return [_made(name, None, 0, gate, why, [c.place for c in checks if c.place]) for name in names]
    return [
        _made(
            name,
            declared.settings[key],
            1,
            gate,
            f"of {declared.subject[:24]}" + ("" if key in declared.stated else "; not set, so Docker's own value"),
            [declared.place] if declared.place else [],
        )
        for name, key in names.items()
    ]


def _versions(seen: Seen, gate: Gate) -> list[Figure]:
    found = inventory.versions(seen.timeline, seen.facts, gate, only=seen.only)
    gateway, cli = ({v.version for v in found if v.side == side} for side in ("gateway", "CLI"))
    stamps = [v for v in found if v.side == "configuration"]
    said = "; ".join(f"{v.side} {v.version} ({v.source})" for v in found if v.side in ("gateway", "CLI"))
    both = bool(gateway and cli)
    lacks = (
        "the gateway's version is not known: docker inspect or an image with a version tag"
        if not gateway
        else "no CLI told its version in what was logged"
    )
    made = [
        _made(
            "versions",
            len(gateway | cli) if both else None,
            sum(v.n for v in found if v.side in ("gateway", "CLI")),
            gate,
            said if both else f"{lacks}{'; ' + said if said else ''}",
            [v.place for v in found if v.side in ("gateway", "CLI")],
        )
    ]
    if stamps and gateway:
        other = [s for s in stamps if s.version not in gateway]
        return [
            *made,
            _made(
                "config_stamp",
                len(other),
                len(stamps),
                gate,
                f"stamp {', '.join(s.version for s in stamps)}, image {', '.join(sorted(gateway))}",
                [s.place for s in stamps],
            ),
        ]
    return [
        *made,
        _made(
            "config_stamp",
            None,
            len(stamps),
            gate,
            (
                "openclaw.json with its meta.lastTouchedVersion was not read"
                if not stamps
                else "the image's version is not known"
            ),
        ),
    ]


def _rank(values: list[float], share: float) -> float:
    """The nearest-rank percentile: a value that occurred."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _handshakes(seen: Seen) -> list[Figure]:
    fine = pl.col("timestamp_raw").is_not_null() & (pl.col("time_resolution_ns").fill_null(0) <= COARSE)
    short = pl.coalesce(
        "conn_short", pl.concat_str(pl.col("conn_id").str.slice(0, 8), pl.lit("…"), pl.col("conn_id").str.slice(-4))
    )
    told = seen.timeline.with_columns(short=short)
    opened = (
        told.filter((pl.col("event_name") == "websocket.open") & fine)
        .drop_nulls("short")
        .select("short", "clock_id", "log_file_path", "log_line", since="timestamp_raw")
    )
    ready = (
        told.filter(pl.col("event_name").is_in(["websocket.hello", "websocket.connected"]) & fine)
        .drop_nulls("short")
        .group_by("short", "clock_id")
        .agg(pl.col("timestamp_raw").min().alias("until"))
    )
    pairs = (
        opened.join(ready, on=["short", "clock_id"], nulls_equal=True)
        .with_columns(ms=(pl.col("until") - pl.col("since")) / MS)
        .filter(pl.col("ms") >= 0)
        .sort("ms", descending=True)
    )
    probed = _probed(seen)
    if pairs.is_empty() and probed:
        return probed
    if pairs.is_empty():
        coarse = told.filter(pl.col("event_name") == "websocket.open").height
        why = (
            "the stamps are too coarse to time a handshake"
            if coarse
            else "only a gateway with --verbose writes when a connection opened; or measure with: occorr probe URL"
        )
        return [_made(name, None, 0, None, why) for name in ("handshake_p50", "handshake_p95")]
    times = pairs["ms"].to_list()
    return [
        _made(
            name,
            _rank(times, share),
            len(times),
            None,
            "from the open connection to hello, on the gateway's clock",
            _places(pairs),
        )
        for name, share in (("handshake_p50", 0.5), ("handshake_p95", 0.95))
    ] + probed


def _probed(seen: Seen) -> list[Figure]:
    """Handshakes that probes timed, from the connect to the 101, by where they were made."""
    done = seen.timeline.filter(
        (pl.col("probe_tool") == "occorr") & (pl.col("http_response_status_code") == 101)
    ).with_columns(
        ms=pl.sum_horizontal(pl.col("probe_connect_ns", "probe_tls_ns", "probe_upgrade_ns").cast(pl.Int64)) / MS
    )
    made = []
    for (name,), own in done.sort("probe_vantage", "ms", descending=[False, True]).group_by(
        "probe_vantage", maintain_order=True
    ):
        times = own["ms"].to_list()
        made += [
            replace(
                _made(
                    figure,
                    _rank(times, share),
                    len(times),
                    None,
                    "from the connect to the 101, as the probe saw it",
                    _places(own),
                ),
                scope=str(name),
            )
            for figure, share in (("handshake_p50", 0.5), ("handshake_p95", 0.95))
        ]
    return made


def _subagents(seen: Seen) -> list[Figure]:
    told = seen.timeline.filter(
        pl.col("log_record_original").str.contains(_SUBAGENT) | pl.col("method").str.contains(_SUBAGENT)
    )
    done = told.filter(pl.col("rpc_status") == "ok")
    failed = told.filter((pl.col("event_name") == "cli.failure") | (pl.col("rpc_status") == "failed"))
    n = done.height + failed.height
    if not n:
        return [
            _made(name, None, 0, None, "no start of a sub-agent (sessions_spawn) was logged")
            for name in ("subagent_failures", "subagent_success")
        ]
    made = [
        _made("subagent_failures", failed.height, n, None, "what the CLI and sessions_spawn reported", _places(failed))
    ]
    if not done.height:  # the logs tell failures and keep silent on success, so a rate of them would be made up
        return [
            *made,
            _made(
                "subagent_success", None, n, None, "only failures were logged; a rate needs the successful starts too"
            ),
        ]
    return [
        *made,
        _made("subagent_success", 100 * done.height / n, n, None, f"{done.height} of {n} starts", _places(failed)),
    ]


def _proxy(seen: Seen) -> list[Figure]:
    asked = seen.timeline.filter(
        (pl.col("event_name") == "http.access") & pl.col("http_response_status_code").is_not_null()
    )
    bad = asked.filter(pl.col("http_response_status_code").is_in([502, 504]))
    if asked.is_empty():
        return [_made("proxy_502_504", None, 0, None, "no access log of a proxy was read")]
    by_code = ", ".join(
        f"{n}× {code}"
        for code, n in bad.group_by("http_response_status_code").len().sort("http_response_status_code").rows()
    )
    return [
        _made("proxy_502_504", 100 * bad.height / asked.height, asked.height, None, by_code or "none", _places(bad))
    ]


def _probes(seen: Seen) -> list[Figure]:
    """TCP connects and intervals of probes, by where they were made; those by hand do not say where."""
    ours = pl.col("probe_tool") == "occorr"  # by hand, an answer stands on a line of its own below the connect's
    tried = seen.timeline.filter(
        pl.col("probe_result").is_in(_TRIED) & (ours | (pl.col("probe_result") != "answered"))
    ).with_columns(
        good=pl.when(ours)
        .then(pl.col("probe_connect_ns").is_not_null())
        .otherwise(pl.col("probe_result") == "connected"),
        vantage=pl.col("probe_vantage").fill_null(""),
    )
    if tried.is_empty():
        return [
            _made(
                "tcp_connect",
                None,
                0,
                None,
                "no probe was read; measure from the CLI's namespace with: occorr probe URL",
            ),
            *_apart(tried),
        ]
    made, shares = (
        [],
        {name: float(own.get_column("good").sum()) / own.height for (name,), own in tried.group_by("vantage")},
    )
    best = max(shares.values())
    for (name,), own in tried.sort("vantage", "timestamp", nulls_last=True).group_by("vantage", maintain_order=True):
        bad = own.filter(~pl.col("good"))
        fine = sorted(n or "by hand" for n, share in shares.items() if share == best and share > shares[name])
        note = f"{own.height - bad.height} of {own.height} probes" + (
            f"; {', '.join(fine)} reaches it: the proxy or the route between" if fine else ""
        )
        made.append(
            replace(_made("tcp_connect", 100 * shares[name], own.height, None, note, _places(bad)), scope=str(name))
        )
    return [*made, *_apart(tried)]


def _apart(tried: pl.DataFrame) -> list[Figure]:
    """How far probes of the vantages inside and outside lie apart: the longest time between two."""
    made = []
    for name, where in (("probe_interval_outside", "outside"), ("probe_interval_inside", "inside")):
        times = (
            tried.filter(pl.col("probe_vantage").str.to_lowercase() == where)
            .get_column("timestamp")
            .drop_nulls()
            .sort()
            if tried.height
            else pl.Series([], dtype=pl.Int64)
        )
        gap = times.diff().max()
        made.append(
            _made(name, gap / SECOND, times.len(), None, f"the longest time between two probes of the vantage {where}")
            if isinstance(gap, int)
            else _made(name, None, 0, None, f"no two probes with --vantage {where} were read")
        )
    return made


def _coverage(seen: Seen) -> list[Figure]:
    own = seen.timeline.filter((pl.col("source_kind") == "gateway") & pl.col("timestamp").is_not_null()).sort(
        "timestamp"
    )
    if own.is_empty():
        return [_made("log_days", None, 0, None, "no gateway log with a time was read")]
    first, last = own.item(0, "timestamp"), own.item(-1, "timestamp")
    created: list[Any] = [
        d.start
        for d in inventory.deploys(seen.timeline, seen.facts)
        if d.start is not None and any(g.label == d.owner for g in seen.gates)
    ]
    # Logs that begin later than the container did were thrown away or not collected; else they may reach as far back as
    # there was anything to log.
    lost = bool(created) and min(created) < first - 3600 * SECOND
    note = (
        "the container is older than its first line"
        if lost
        else (
            "how long logs are kept cannot be seen from logs that begin with their container"
            if created
            else "how long logs are kept cannot be seen without docker inspect"
        )
    )
    return [
        _made(
            "log_days",
            (last - first) / SECOND / 86400,
            own.height,
            None,
            note,
            _places(pl.concat([own.head(1), own.tail(1)])),
            floor=not lost,
        )
    ]
