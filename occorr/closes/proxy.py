"""What proxies say: a row a tunnel or refused upgrade, with the error line that belongs to it."""

from __future__ import annotations

from typing import Final

import polars as pl

from occorr.closes.assignment import assign
from occorr.facts import GATEWAY, program
from occorr.schema import MS, SECOND
from occorr.tunnels import was_tunnel

GIVEN_UP: Final = 60 * SECOND  # the usual patience of a proxy
NEAR: Final = 2 * SECOND  # an attempt and its error line lie nearer together
AT_ONCE: Final = 1_200 * MS  # whole seconds, and a busy proxy
_STATIC: Final = r"(?i)^/(?:health|ready|live|metrics|status|favicon|robots|assets?/|static/)|\.(?:js|css|png|ico|svg|map|woff2?|json|txt|html)$"
_PROBE: Final = (  # what monitors call themselves; none of them opens a WebSocket
    r"(?i)^(?:curl|wget|kube-probe|ELB-HealthChecker|GoogleHC|Prometheus|Uptime|Blackbox|Go-http-client/.*health)"
    r"|UptimeRobot|Uptime-Kuma|Pingdom|StatusCake|Site24x7|HetrixTools|Route53-Health|check_http|Zabbix|Datadog"
)


# what an upgrade is answered with at a path at which none was ever opened
_REFUSED: Final = (401, 403, 407, 408, 499, 500, 502, 503, 504)


def read_attempts(events: pl.DataFrame) -> pl.DataFrame:
    """A row a WebSocket connection or refused upgrade that a proxy logged."""
    access = events.filter((pl.col("event_name") == "http.access") & pl.col("timestamp").is_not_null())
    t = pl.col("timestamp").cast(pl.Int64)
    low, high = pl.col("time_earliest").cast(pl.Int64), pl.col("time_latest").cast(pl.Int64)
    starts = pl.col("time_semantics") == "at_start"
    lasted = pl.col("duration_ns")
    status = pl.col("http_response_status_code")
    unanswered, tunnel = (status == 0) & ~was_tunnel(), was_tunnel()
    upgrade = pl.col("http_upgrade").str.to_lowercase()
    paths = access.filter(status == 101).get_column("url_path").unique().to_list()
    # an address, or the host's own name, may be anybody's
    host = pl.col("host_header").str.to_lowercase().str.replace(r":\d+$", "")
    site = pl.when(host.str.contains("[g-z]") & (host != "localhost")).then(host)
    static = pl.col("url_path").fill_null("").str.contains(_STATIC)
    probe = pl.col("user_agent_original").fill_null("").str.contains(_PROBE)
    # a proxy that serves other sites too is asked at their paths; where nothing was upgraded, any may be the gateway's
    known = pl.col("url_path").is_in(paths)
    ours = pl.col("user_agent_original").str.contains(GATEWAY).fill_null(value=False)
    maybe = ~(status == 101).any().over("log_file_path") | status.is_in(_REFUSED)
    asked = ~probe & (pl.col("http_request_method").fill_null("GET") == "GET")
    guess = (status >= 400) & asked & (known | (~static & maybe))
    says = pl.col("http_upgrade").is_not_null().any().over("log_file_path")
    # a browser that connects beforehand and then asks for nothing
    empty = (status == 408) & pl.col("proxy_termination").str.starts_with("cR").fill_null(value=False)
    wanted = ~empty & (tunnel | unanswered | ((upgrade == "websocket") & (status >= 200)) | (~says & guess))
    # a start stamp without a duration leaves the end open, and so does one of which nobody knows what it marks; a
    # refusal is over when it is answered, at the latest when the proxy gives up
    bare = (starts & lasted.is_null()) | (pl.col("time_semantics") == "unknown")
    answer = pl.when(status.is_in([0, 408, 499, 500, 502, 503, 504])).then(GIVEN_UP).otherwise(2 * SECOND)
    end = pl.when(bare & tunnel).then(None).when(starts & lasted.is_not_null()).then(t + lasted).otherwise(t)
    latest = (
        pl.when(bare & tunnel)
        .then(None)
        .when(bare)
        .then(high + answer)
        .when(starts)
        .then(high + lasted + MS)
        .otherwise(high)
    )
    rows = (
        access.filter(wanted.fill_null(value=False))
        .select(
            pl.col("event_id").alias("p_event"),
            pl.col("instance").alias("p_instance"),
            end.alias("p_t"),
            pl.when(starts & ~bare).then(low + lasted).otherwise(low).alias("p_low"),
            latest.alias("p_high"),
            pl.when(bare & tunnel).then(t).alias("p_stamp"),
            pl.when(pl.col("time_semantics") == "unknown")
            .then(None)
            .when(starts)
            .then(t)
            .otherwise(t - lasted)
            .alias("p_opened"),
            lasted.alias("p_duration"),
            pl.col("client_address").alias("p_client"),
            pl.col("client_port").alias("p_port"),
            status.alias("p_status"),
            pl.col("url_path").alias("p_path"),
            site.alias("p_host"),
            pl.col("user_agent_original").replace(["-", ""], None).alias("p_agent"),
            pl.col("proxy_termination").alias("p_termination"),
            pl.col("upstream_address").alias("p_upstream"),
            pl.col("proxy_backend").alias("p_backend"),
            pl.col("upstream_status").alias("p_upstream_status"),
            pl.col("upstream_address").is_not_null().alias("p_says_upstream"),
            pl.col("upstream_port_local").alias("p_local_port"),
            pl.col("proxy_flags").alias("p_flags"),
            pl.col("http_response_content_type").alias("p_content_type"),
            pl.col("clock_id").alias("p_clock"),
            pl.col("clock_status").alias("p_clock_status"),
            pl.col("time_resolution_ns").alias("p_resolution"),
            pl.col("connection_serial").alias("p_serial"),
            pl.col("clock_error_ns").alias("p_clock_error"),
            program().alias("p_kind"),
            pl.col("parser").cast(pl.String).alias("p_form"),
            tunnel.alias("p_established"),
            (bare & ~tunnel).alias("p_open"),
            (unanswered | (status == 499)).fill_null(value=False).alias("p_left"),
            pl.col("log_file_path").alias("p_file"),
            pl.col("log_line").alias("p_line"),
            (~tunnel & ~says & ~ours).alias("p_guessed"),
        )
        .sort("p_t", "p_file", "p_line", nulls_last=True)
        .with_row_index("p_row")
    )
    # nginx names the client of each request: a line without one is of none
    errors = (
        events.filter(
            (pl.col("event_name") == "proxy.error")
            & (program().ne_missing("nginx") | pl.col("client_address").is_not_null())
        )
        .select(
            pl.col("event_id").alias("e_event"),
            t.alias("e_t"),
            low.alias("e_low"),
            high.alias("e_high"),
            pl.col("time_resolution_ns").alias("e_resolution"),
            pl.col("client_address").alias("e_client"),
            pl.col("client_port").alias("e_port"),
            pl.col("connection_serial").alias("e_serial"),
            pl.col("clock_id").alias("e_clock"),
            pl.col("proxy_errno").alias("p_errno"),
            pl.col("proxy_phase").alias("p_phase"),
            pl.col("url_path").alias("e_path"),
            pl.col("upstream_address").alias("e_upstream"),
            pl.col("severity_text").alias("p_error_level"),
            pl.col("proxy_message").alias("p_error"),
        )
        .with_row_index("e_row")
    )
    rows = pl.concat([_with_errors(rows, errors), _errors_alone(events, access)], how="diagonal")
    return rows.drop("p_row", "p_open").sort("p_t", "p_file", "p_line", nulls_last=True).with_row_index("p_row")


def _errors_alone(events: pl.DataFrame, access: pl.DataFrame) -> pl.DataFrame:
    """A row an attempt of which only the error log tells, where no access log of that proxy reaches.

    An error line says neither the status that the client got nor that it asked for an upgrade: what a person or a
    probe asks for by its path is left out, as it is among the access lines.
    """
    t = pl.col("timestamp").cast(pl.Int64)
    reach = access.group_by("clock_id").agg((t.min() - GIVEN_UP).alias("_first"), (t.max() + GIVEN_UP).alias("_last"))
    plain = pl.col("url_path").fill_null("").str.contains(_STATIC)
    lines = (
        events.filter(
            (pl.col("event_name") == "proxy.error")
            & pl.col("proxy_phase").is_in(["connecting", "no_upstream", "awaiting_response", "tunnel"])
            & pl.col("client_address").is_not_null()
            & pl.col("timestamp").is_not_null()
            & (pl.col("http_request_method").fill_null("GET") == "GET")
            & ~plain
        )
        .join(reach, on="clock_id", how="left", maintain_order="left")
        .filter(~t.is_between("_first", "_last").fill_null(value=False))
    )
    # an attempt at several upstreams, or one told at two levels, is one attempt
    attempt = pl.coalesce(
        pl.format("#{}", "connection_serial"), pl.format("{}:{}", "client_address", "client_port"), "event_id"
    )
    # … but what was refused at once, and again a while later, was asked again on the same connection
    again = (pl.col("proxy_errno") == 111) & (pl.col("timestamp").diff() > pl.duration(nanoseconds=AT_ONCE))
    return (
        lines.with_columns(attempt.alias("_attempt"))
        .sort("timestamp", "log_line")
        .with_columns(again.fill_null(value=False).cum_sum().over("log_file_path", "_attempt").alias("_asked"))
        .unique(["log_file_path", "_attempt", "_asked"], keep="last", maintain_order=True)
        .select(
            pl.lit(None, pl.UInt32).alias("p_row"),
            pl.col("event_id").alias("p_event"),
            pl.col("instance").alias("p_instance"),
            pl.col("event_id").alias("p_error_event"),
            t.alias("p_t"),
            pl.col("time_earliest").cast(pl.Int64).alias("p_low"),
            pl.col("time_latest").cast(pl.Int64).alias("p_high"),
            pl.col("client_address").alias("p_client"),
            pl.col("client_port").alias("p_port"),
            pl.col("http_response_status_code").alias("p_status"),
            pl.col("url_path").alias("p_path"),
            pl.col("upstream_address").alias("p_upstream"),
            pl.col("proxy_errno").alias("p_errno"),
            pl.col("proxy_phase").alias("p_phase"),
            pl.col("severity_text").alias("p_error_level"),
            pl.col("proxy_message").alias("p_error"),
            pl.col("clock_id").alias("p_clock"),
            pl.col("clock_status").alias("p_clock_status"),
            pl.col("clock_error_ns").alias("p_clock_error"),
            pl.col("time_resolution_ns").alias("p_resolution"),
            pl.col("connection_serial").alias("p_serial"),
            program().alias("p_kind"),
            (pl.col("proxy_phase") == "tunnel").alias("p_established"),
            (pl.col("proxy_phase") != "tunnel").alias("p_guessed"),
            pl.col("log_file_path").alias("p_file"),
            pl.col("log_line").alias("p_line"),
        )
    )


def _with_errors(rows: pl.DataFrame, errors: pl.DataFrame) -> pl.DataFrame:
    """Adds each attempt's error line: by the connection's number, by client port, else by client, path and second."""
    empty = rows.with_columns(
        pl.lit(None, pl.String).alias("p_error_event"),
        *(
            pl.lit(None, d).alias(c)
            for c, d in errors.schema.items()
            if c in ("p_errno", "p_phase", "p_error_level", "p_error")
        ),
    )
    if rows.is_empty() or errors.is_empty():
        return empty
    # an outage leaves thousands of both: those of one moment are joined, and never each with each
    marks = pl.concat([errors.with_columns((pl.col("e_t") // NEAR + step).alias("_slot")) for step in (-1, 0, 1)])
    pairs = rows.select(
        "p_row",
        "p_clock",
        "p_client",
        "p_port",
        "p_serial",
        "p_t",
        "p_path",
        (pl.col("p_t") // NEAR).alias("_slot"),
    ).join(marks, left_on=["p_clock", "_slot"], right_on=["e_clock", "_slot"], maintain_order="left")
    gap = (pl.col("e_t") - pl.col("p_t")).abs()
    serial = pl.col("p_serial").is_not_null() & pl.col("e_serial").is_not_null()
    same = (
        pl.when(serial)
        .then(pl.col("p_serial") == pl.col("e_serial"))
        .otherwise(
            (pl.col("p_client") == pl.col("e_client")).fill_null(value=True)
            & (pl.col("p_port") == pl.col("e_port")).fill_null(value=True)
            & (pl.col("p_path") == pl.col("e_path")).fill_null(value=True)
        )
    )
    # a refusal is told at once; one that names no client belongs to the request of that second, or to none that is known
    nobodys = (pl.col("e_client").is_null() & (pl.col("p_errno") == 111)).fill_null(value=False)
    pairs = pairs.filter(same & (gap <= pl.when(nobodys).then(AT_ONCE).otherwise(NEAR)))
    if pairs.is_empty():
        return empty
    pairs = pairs.with_columns(
        (gap / SECOND + 0.01 * (pl.col("p_row") - pl.col("e_row").cast(pl.Int64)).abs() / 1000).alias("cost")
    )
    best = assign(pairs, "p_row", "e_row")
    out = rows.join(best.select("p_row", "e_row"), on="p_row", how="left", maintain_order="left").join(
        errors.select(
            "e_row",
            pl.col("e_event").alias("p_error_event"),
            "p_errno",
            "p_phase",
            "p_error_level",
            "p_error",
            "e_upstream",
            "e_t",
            "e_low",
            "e_high",
            "e_resolution",
        ),
        on="e_row",
        how="left",
        maintain_order="left",
    )
    # a refusal of which nobody knows the end is answered when the error is told
    told = pl.col("p_open") & pl.col("p_phase").is_in(["connecting", "no_upstream"])
    return out.with_columns(
        pl.coalesce("p_upstream", "e_upstream").alias("p_upstream"),
        pl.when(told).then("e_t").otherwise("p_t").alias("p_t"),
        pl.when(told).then("e_resolution").otherwise("p_resolution").alias("p_resolution"),
        pl.when(told).then(pl.max_horizontal("p_low", "e_low")).otherwise("p_low").alias("p_low"),
        pl.when(told).then(pl.min_horizontal("p_high", pl.col("e_high") + SECOND)).otherwise("p_high").alias("p_high"),
    ).drop("e_row", "e_upstream", "e_t", "e_low", "e_high", "e_resolution")
