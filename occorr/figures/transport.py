"""Figures of the way to the gateway: handshakes, probes, the proxy's answers, closes that nothing explains."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import polars as pl

from occorr.figures.seen import Figure, Seen, cited, measured, of_gate, percentile, places
from occorr.schema import MS, SECOND

if TYPE_CHECKING:
    from occorr.gates import Gate

COARSE: Final = 50 * MS  # stamps coarser than this cannot time a handshake
_TRIED: Final = ("connected", "answered", "refused", "timeout", "dns", "closed", "tls", "silent", "unreachable")


def unexplained(seen: Seen, gate: Gate) -> list[Figure]:
    """Closes with 1006 or 1008 whose cause is not known."""
    bad = of_gate(seen, gate, seen.closes).filter(pl.col("websocket_close_code").is_in([1006, 1008]))
    n, open_ = int(bad["weight"].sum()), bad.filter(pl.col("family").fill_null("unknown") == "unknown")
    if not of_gate(seen, gate, seen.closes).height:
        return [measured("unexplained_closes", None, 0, gate, "no close was seen")]
    return [
        measured(
            "unexplained_closes",
            int(open_["weight"].sum()),
            n,
            gate,
            f"of {n} closes with 1006 or 1008",
            cited(seen, open_),
        )
    ]


def handshakes(seen: Seen) -> list[Figure]:
    """How long handshakes took: by the log of a verbose gateway, and by probes."""
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
        opened.join(ready, on=["short", "clock_id"], nulls_equal=True, maintain_order="left")
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
        return [measured(name, None, 0, None, why) for name in ("handshake_p50", "handshake_p95")]
    times = pairs["ms"].to_list()
    return [
        measured(
            name,
            percentile(times, share),
            len(times),
            None,
            "from the open connection to hello, on the gateway's clock",
            places(pairs),
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
                measured(
                    figure,
                    percentile(times, share),
                    len(times),
                    None,
                    "from the connect to the 101, as the probe saw it",
                    places(own),
                ),
                scope=str(name),
            )
            for figure, share in (("handshake_p50", 0.5), ("handshake_p95", 0.95))
        ]
    return made


def proxy_errors(seen: Seen) -> list[Figure]:
    """The share of requests that the proxy answered with 502 or 504."""
    asked = seen.timeline.filter(
        (pl.col("event_name") == "http.access") & pl.col("http_response_status_code").is_not_null()
    )
    bad = asked.filter(pl.col("http_response_status_code").is_in([502, 504]))
    if asked.is_empty():
        return [measured("proxy_502_504", None, 0, None, "no access log of a proxy was read")]
    by_code = ", ".join(
        f"{n}× {code}"
        for code, n in bad.group_by("http_response_status_code").len().sort("http_response_status_code").rows()
    )
    return [
        measured("proxy_502_504", 100 * bad.height / asked.height, asked.height, None, by_code or "none", places(bad))
    ]


def probes(seen: Seen) -> list[Figure]:
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
            measured(
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
            replace(measured("tcp_connect", 100 * shares[name], own.height, None, note, places(bad)), scope=str(name))
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
            measured(
                name, gap / SECOND, times.len(), None, f"the longest time between two probes of the vantage {where}"
            )
            if isinstance(gap, int)
            else measured(name, None, 0, None, f"no two probes with --vantage {where} were read")
        )
    return made
