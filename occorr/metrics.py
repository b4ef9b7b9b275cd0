"""What `watch` tells, as counters for Prometheus; the only module that knows prometheus_client.

The library, and not our own text: the exposition format has more corners (escaping, OpenMetrics, negotiation) than it
seems.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, start_http_server

from occorr.errors import OccorrError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LAGS: Final = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 60.0)  # seconds


class Metrics:
    """Counters of one run, served over HTTP.

    Args:
        address: of the server; loopback unless somebody asked for more.
        port: of the server; 0 takes a free one.
        gauges: names and functions of what is looked up when it is asked for.

    Raises:
        OccorrError: the port cannot be had.
    """

    def __init__(self, address: str, port: int, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series, and rate() needs none of them
        registry = CollectorRegistry()
        self._closes = Counter(
            "occorr_closes",
            "WebSocket closes told, as first told",
            ["code", "family", "cause", "verdict", "service", "project"],
            registry=registry,
        )
        self._revisions = Counter(
            "occorr_revisions",
            "verdicts that changed after they were told",
            ["cause_before", "cause"],
            registry=registry,
        )
        self._restarts = Counter(
            "occorr_restarts",
            "starts of a service's container after a death",
            ["container", "service", "project"],
            registry=registry,
        )
        self._died: set[tuple[str, str]] = set()
        self._deaths = Counter(
            "occorr_container_deaths",
            "deaths of containers",
            ["container", "service", "project", "exit_code"],
            registry=registry,
        )
        self._ooms = Counter(
            "occorr_container_ooms",
            "containers that ran out of memory",
            ["container", "service", "project"],
            registry=registry,
        )
        self._gaps = Counter("occorr_gaps", "times without events that cannot be filled", registry=registry)
        self._gap_s = Counter("occorr_gap_seconds", "how long they were together", registry=registry)
        self._lag = Histogram(
            "occorr_verdict_lag_seconds",
            "from the last line of evidence, by the engine's stamp, until the verdict was told",
            buckets=LAGS,
            registry=registry,
        )
        for name, (what, look) in gauges.items():
            Gauge(name, what, registry=registry).set_function(look)
        try:
            self._server, self._thread = start_http_server(port, addr=address, registry=registry)
        except (OSError, OverflowError) as error:
            raise OccorrError(
                f"--metrics: port {port} of {address} cannot be had: {getattr(error, 'strerror', None) or error}; give"
                " another one"
            ) from error
        self.address, self.port = address, int(self._server.server_port)

    def put(self, row: Mapping[str, Any]) -> None:
        """Counts a row."""
        kind = row["type"]
        place = {
            "service": str(row.get("service") or row.get("service_name") or ""),
            "project": str(row.get("project") or row.get("compose_project") or ""),
        }
        if kind == "close":
            code = (
                row["websocket_close_code"]
                if row["websocket_close_code"] is not None
                else f"http_{row['http_status_proxy']}"
                if row["http_status_proxy"]
                else "none"
            )
            self._closes.labels(
                code=str(code), family=row["family"], cause=row["cause"], verdict=row["verdict"], **place
            ).inc(max(int(row["count"] or 1), 1))
        if kind == "revised":
            self._revisions.labels(cause_before=row["was"]["cause"], cause=row["cause"]).inc()
        if kind in ("close", "revised") and row.get("lag_ms") is not None:
            self._lag.observe(row["lag_ms"] / 1000)
        if kind == "container":
            labels = {"container": str(row.get("container") or ""), **place}
            who = (place["project"], place["service"] or labels["container"])
            if row["action"] == "start" and who in self._died:
                self._restarts.labels(**labels).inc()
            elif row["action"] == "die":
                self._died.add(who)
                self._deaths.labels(**labels, exit_code=str(row.get("exit_code", ""))).inc()
            elif row["action"] == "oom":
                self._ooms.labels(**labels).inc()
        if kind == "gap":
            self._gaps.inc()
            self._gap_s.inc(max(float(row["seconds"]), 0.0))

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)
