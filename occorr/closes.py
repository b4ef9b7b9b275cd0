"""Folds what the gateway, the proxy and the client say of one close into one row.

Keys join first (connection id, address and port, the recorder's run). What they leave is joined by time within the
bounds, by optimal one-to-one assignment. Where several assignments fit equally well the rows share a `group_id`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from occorr import schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
SLACK: Final = 1_200 * MS  # a gateway's close line comes up to 1 s after its decision
GIVEN_UP: Final = 60 * SECOND  # the usual patience of a proxy
OPEN_SLACK: Final = 700 * MS  # request at the proxy → `← open` at a loaded gateway
LATE: Final = 60 * SECOND  # with equal openings, how far two ends may differ (partition, dead peer)
THAW: Final = 30 * SECOND  # a frozen gateway logs what was given up during the freeze only when it thaws
GATEWAY_LAG: Final = 20 * MS  # a gateway's line stands 2–13 ms behind the client's own moment
STOP_LAG: Final = 35 * MS  # … and up to 32 ms where it closes all its connections
DECIDED_LAG: Final = 12 * MS  # … and up to 10 ms where the gateway itself refused or gave up
PROXY_LAG: Final = 8 * MS  # a proxy's line stands 0–7 ms behind
ANSWER_LAG: Final = 3 * MS  # … and up to 2 ms behind an answer of its own
START_LAG: Final = SECOND  # a starting gateway's line, 0.03–0.8 s
BRUTE: Final = 400  # pairs of one connected part up to which other solutions are searched for
UNSURE: Final = 5.0  # cost of a pair of which one side has no end that is known
EQUAL: Final = 0.05  # two assignments whose costs differ by less are equally good
_STATIC: Final = r"(?i)^/(?:health|ready|live|metrics|status|favicon|robots|assets?/|static/)|\.(?:js|css|png|ico|svg|map|woff2?|json|txt|html)$"
_PROBE: Final = r"(?i)^(?:curl|wget|kube-probe|ELB-HealthChecker|GoogleHC|Prometheus|Uptime|Go-http-client/.*health)"


def closes(events: pl.DataFrame, facts: pl.DataFrame, addresses: Mapping[str, str] | None = None) -> pl.DataFrame:
    """One row a close, with everything that its observers say of it.

    Args:
        events: placed events.
        facts: FACTS.
        addresses: instance of the gateway at each address, where there are several.

    Returns:
        the columns of CLOSES that are known before the cause, and the features that rules read: `g_*` from the
        gateway, `p_*` from the proxy, `c_*` from the client; `g_event`, `p_event`, `c_event` and further `*_event`
        columns hold the ids of the events that say so.
    """
    gateway = _gateway(events)
    proxied = proxies(events, facts)
    attempts = _attempts(events)
    calls = _calls(events)
    gateway = gateway.with_columns(_via(gateway, attempts, proxied))
    left = _match_proxy(gateway, attempts)
    rows = gateway.join(left, on="g_row", how="left").join(attempts, on="p_row", how="left")
    rest = attempts.join(left.select("p_row"), on="p_row", how="anti")
    rows = pl.concat([rows, rest], how="diagonal").with_row_index("row")
    matched = _match_client(rows, calls, facts)
    rows = rows.join(matched, on="row", how="left").join(calls, on="c_row", how="left")
    rows = pl.concat([rows, calls.join(matched.select("c_row"), on="c_row", how="anti")], how="diagonal")
    host = pl.col("p_upstream").str.extract(r"^\[?([^\]]+?)\]?:\d+$", 1)
    by_address = host.replace_strict(dict(addresses), default=None, return_dtype=pl.String) if addresses else pl.lit("")
    rows = rows.with_columns(pl.coalesce("g_instance", by_address).alias("instance"))
    return _finish(rows.drop("row"), events, facts)


def _first(column: str) -> pl.Expr:
    return pl.col(column).drop_nulls().first()


def _of(name: str, column: str = "event_id") -> pl.Expr:
    return pl.col(column).filter(pl.col("event_name") == name).first()


def _gateway(events: pl.DataFrame) -> pl.DataFrame:
    """A row a connection that the gateway speaks of and that ended, or whose process ended under it."""
    events = events if "instance" in events.columns else events.with_columns(pl.lit("").alias("instance"))
    own = events.filter(pl.col("source_kind") == "gateway").with_columns(pl.col("timestamp").cast(pl.Int64).alias("t"))
    own = own.with_columns(
        pl.when((pl.col("event_name") == "websocket.close") & pl.col("conn_short").is_null())
        .then(pl.col("event_id"))
        .otherwise("conn_short")
        .alias("key"),
        pl.col("endpoint").str.extract(r"^\[?([^\]]+?)\]?:\d+->", 1).alias("_peer"),
        pl.col("endpoint").str.extract(r"^\[?[^\]]+?\]?:(\d+)->", 1).cast(pl.Int64).alias("_port"),
        pl.col("endpoint").str.extract(r"->\[?([^\]]+?)\]?:\d+$", 1).alias("_local"),
    )
    closing = pl.col("event_name") == "websocket.close"
    opening = pl.col("event_name").is_in(["websocket.open", "websocket.connected"])
    structured = closing & pl.col("parser").is_in(["openclaw/file", "openclaw/json"])
    plain = ~pl.col("ambiguous_text").fill_null(value=False)
    lines = own.filter(pl.col("key").is_not_null()).sort("t", "log_file_path", "log_line", nulls_last=True)
    rows = lines.group_by("key", maintain_order=True).agg(
        _first("conn_id"),
        closing.any().alias("g_closed"),
        pl.col("event_id").filter(closing).first().alias("g_event"),
        pl.col("event_id").filter(opening).first().alias("g_open_event"),
        pl.col("t").filter(closing).min().alias("g_t"),
        pl.col("time_earliest").filter(closing).min().cast(pl.Int64).alias("g_low"),
        pl.col("time_latest").filter(closing).min().cast(pl.Int64).alias("g_high"),
        pl.col("t").filter(opening).min().alias("g_opened"),
        pl.col("t").max().alias("g_last"),
        pl.col("t")
        .filter(~closing & (pl.col("t") < pl.col("t").filter(closing).min() - SECOND))
        .max()
        .alias("g_heard"),
        pl.col("websocket_close_code").filter(closing).drop_nulls().first().cast(pl.Int64).alias("code_gateway"),
        pl.col("websocket_close_reason").filter(closing).drop_nulls().first().alias("g_reason"),
        structured.any().alias("_structured"),
        pl.col("gateway_cause").filter(structured).drop_nulls().first().alias("_stated"),
        pl.col("gateway_cause").filter(plain).drop_nulls().first().alias("g_cause"),
        pl.col("ambiguous_text").filter(closing).fill_null(value=False).any().alias("g_ambiguous"),
        _first("handshake").alias("g_handshake"),
        _first("handshake_phase").alias("g_phase"),
        pl.col("duration_ns").filter(closing).drop_nulls().first().alias("g_duration"),
        pl.coalesce(_first("remote_address"), _first("_peer")).alias("g_remote"),
        pl.coalesce(_first("remote_port"), _first("_port")).alias("g_port"),
        pl.coalesce(_first("local_address"), _first("_local")).alias("g_local"),
        _first("forwarded_for").alias("g_forwarded"),
        _first("client_mode").alias("g_mode"),
        _first("user_agent_original").alias("g_agent"),
        pl.col("suppressed").filter(plain).drop_nulls().first().alias("_suppressed"),
        pl.col("auth_reason").filter(plain | structured).drop_nulls().first().alias("g_auth"),
        _first("websocket_error").alias("g_error"),
        _first("clock_id").alias("g_clock"),
        _first("part").alias("g_part"),
        pl.col("event_name").eq("websocket.connected").any().alias("g_connected"),
        pl.col("device_id").drop_nulls().first().alias("g_device"),
        pl.col("event_id").filter((pl.col("event_name") == "auth.unauthorized") & plain).first().alias("g_auth_event"),
        _of("websocket.error").alias("g_error_event"),
        _of("frame.parse_error").alias("g_parse_event"),
        _of("handshake.timeout").alias("g_timeout_event"),
        _of("protocol.mismatch").alias("g_version_event"),
        _of("handshake.invalid").alias("g_invalid_event"),
        pl.col("event_name").eq("rpc.response").any().alias("g_spoke"),
        pl.col("origin").drop_nulls().first().alias("g_origin"),
        pl.col("severity_text").filter(closing).first().alias("g_level"),
        pl.col("log_file_path").filter(closing).first().alias("g_file"),
        _first("instance").alias("g_instance"),
    )
    rows = rows.with_columns(
        # a structured form says what the cause is, also by saying none; its free text may still be read in two ways
        pl.when("_structured").then("_stated").otherwise("g_cause").alias("g_cause"),
        (pl.col("g_ambiguous") & pl.col("_stated").is_null()).alias("g_ambiguous"),
        pl.when(pl.col("g_ambiguous")).then(None).otherwise("code_gateway").alias("code_gateway"),
        pl.when(pl.col("g_ambiguous")).then(None).otherwise("g_reason").alias("g_reason"),
        (pl.col("_suppressed").fill_null(0) + 1).alias("count"),
        pl.coalesce("g_opened", pl.col("g_t") - pl.col("g_duration")).alias("g_opened"),
        pl.coalesce("g_duration", pl.col("g_t") - pl.col("g_opened")).alias("g_duration"),
    ).drop("_structured", "_stated", "_suppressed")
    deaths = _deaths(own, events)
    # a gateway's connections die with it and with no other; where nobody says whose they are, any death may be theirs
    rows, deaths = rows.sort("g_last"), deaths.sort("dead")
    theirs = rows.filter(pl.col("g_instance").is_not_null()).join_asof(
        deaths,
        left_on="g_last",
        right_on="dead",
        by_left="g_instance",
        by_right="instance",
        strategy="forward",
        check_sortedness=False,
    )
    anyones = rows.filter(pl.col("g_instance").is_null()).join_asof(
        deaths.drop("instance"), left_on="g_last", right_on="dead", strategy="forward", check_sortedness=False
    )
    rows = pl.concat([theirs, anyones.select(theirs.columns)]).sort("g_last")
    inferred = ~pl.col("g_closed") & pl.col("g_opened").is_not_null() & pl.col("dead").is_not_null()
    rows = rows.filter(pl.col("g_closed") | inferred).with_columns(
        pl.when(inferred).then("g_last").otherwise("g_low").alias("g_low"),
        pl.when(inferred).then("dead").otherwise("g_high").alias("g_high"),
        pl.when(inferred).then(pl.max_horizontal("g_last", pl.col("dead") - 100 * MS)).otherwise("g_t").alias("g_t"),
        inferred.alias("inferred"),
        pl.when(inferred).then("dead_event").otherwise(None).alias("death_event"),
    )
    short = pl.col("key").str.contains("…", literal=True)
    return (
        rows.with_columns(
            pl.coalesce("conn_id", pl.when(short).then("key")).alias("conn_id"),
            pl.coalesce("conn_id", "key").alias("close_id"),
            (pl.col("g_connected") | (pl.col("g_handshake") == "connected") | pl.col("g_spoke"))
            .fill_null(value=False)
            .alias("g_established"),
        )
        .drop("dead", "dead_event")
        .with_row_index("g_row")
    )


def _deaths(own: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """When a gateway process was gone for certain: its container died, or another one starts in its place."""
    starts = own.filter(pl.col("event_name") == "gateway.start").select(
        pl.col("t").alias("dead"), pl.col("event_id").alias("dead_event"), "instance"
    )
    containers = gateway_containers(events)
    dies = events.filter((pl.col("event_name") == "container.die") & pl.col("container_id").is_in(containers)).select(
        pl.col("timestamp").cast(pl.Int64).alias("dead"), pl.col("event_id").alias("dead_event"), "instance"
    )
    return pl.concat([starts, dies]).drop_nulls()


def gateway_containers(events: pl.DataFrame) -> list[str]:
    """Ids of the containers whose life is the gateway's, as `roles` marked them."""
    if "role" not in events.columns:
        return []
    return events.filter(pl.col("role") == "gateway").get_column("container_id").drop_nulls().unique().sort().to_list()


def proxies(events: pl.DataFrame, facts: pl.DataFrame) -> list[str]:
    """Addresses from which proxies reach the gateway: those that send X-Forwarded-For, and the proxy containers' own."""
    forwarding = events.filter(
        pl.col("forwarded_for").is_not_null()
        & pl.col("remote_address").is_not_null()
        & (pl.col("source_kind") == "gateway")
    ).get_column("remote_address")
    subjects = (
        facts.filter((pl.col("key") == "role") & pl.col("value").str.starts_with("proxy"))
        .get_column("subject")
        .to_list()
    )
    addresses = facts.filter(
        pl.col("subject").is_in(subjects) & pl.col("key").str.contains(r"^network\..*\.address$")
    ).get_column("value")
    untrusted = events.filter(pl.col("event_name") == "proxy.untrusted").get_column("remote_address").drop_nulls()
    return pl.concat([forwarding, addresses, untrusted]).unique().sort().to_list()


def _via(gateway: pl.DataFrame, attempts: pl.DataFrame, proxied: list[str]) -> pl.Expr:
    clients = attempts.get_column("p_client").drop_nulls().unique().to_list()
    known = pl.col("g_remote").is_in(proxied) | pl.col("g_forwarded").is_not_null()
    del gateway
    direct = pl.col("g_remote").is_not_null() & (pl.col("g_remote").is_in(clients) | bool(proxied) | (not clients))
    return (
        pl.when(known)
        .then(pl.lit("proxy"))
        .when(direct)
        .then(pl.lit("direct"))
        .otherwise(pl.lit("unknown"))
        .alias("via")
    )


def _attempts(events: pl.DataFrame) -> pl.DataFrame:
    """A row a WebSocket connection or refused upgrade that a proxy logged."""
    access = events.filter((pl.col("event_name") == "http.access") & pl.col("timestamp").is_not_null())
    t = pl.col("timestamp").cast(pl.Int64)
    low, high = pl.col("time_earliest").cast(pl.Int64), pl.col("time_latest").cast(pl.Int64)
    starts = pl.col("time_semantics") == "at_start"
    lasted = pl.col("duration_ns")
    status = pl.col("http_response_status_code")
    tunnel = status.is_in([101, 0])
    upgrade = pl.col("http_upgrade").str.to_lowercase()
    paths = access.filter(status == 101).get_column("url_path").unique().to_list()
    plain = pl.col("url_path").fill_null("").str.contains(_STATIC) | pl.col("user_agent_original").fill_null(
        ""
    ).str.contains(_PROBE)
    guess = (
        (status >= 400)
        & (pl.col("http_request_method").fill_null("GET") == "GET")
        & (~plain | pl.col("url_path").is_in(paths))
    )
    says = pl.col("http_upgrade").is_not_null().any().over("log_file_path")
    wanted = tunnel | ((upgrade == "websocket") & (status >= 400)) | (~says & guess)
    # a start stamp without a duration leaves the end open, and so does one of which nobody knows what it marks; a
    # refusal is over when it is answered, at the latest when the proxy gives up
    bare = (starts & lasted.is_null()) | (pl.col("time_semantics") == "unknown")
    answer = pl.when(status.is_in([408, 499, 500, 502, 503, 504])).then(GIVEN_UP).otherwise(2 * SECOND)
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
            pl.col("user_agent_original").replace(["-", ""], None).alias("p_agent"),
            pl.col("proxy_termination").alias("p_termination"),
            pl.col("upstream_address").alias("p_upstream"),
            pl.col("upstream_status").alias("p_upstream_status"),
            pl.col("upstream_duration_ns").alias("p_upstream_duration"),
            pl.col("http_response_size").alias("p_size"),
            pl.col("upstream_port_local").alias("p_local_port"),
            pl.col("proxy_backend").alias("p_backend"),
            pl.col("proxy_flags").alias("p_flags"),
            pl.col("clock_id").alias("p_clock"),
            pl.col("clock_status").alias("p_clock_status"),
            pl.col("time_resolution_ns").alias("p_resolution"),
            pl.col("connection_serial").alias("p_serial"),
            pl.col("clock_error_ns").alias("p_clock_error"),
            pl.col("parser").str.extract(r"^([a-z]+)", 1).alias("p_kind"),
            tunnel.alias("p_established"),
            pl.col("log_file_path").alias("p_file"),
            pl.col("log_line").alias("p_line"),
        )
        .sort("p_t", "p_file", "p_line", nulls_last=True)
        .with_row_index("p_row")
    )
    errors = (
        events.filter(pl.col("event_name") == "proxy.error")
        .select(
            pl.col("event_id").alias("e_event"),
            t.alias("e_t"),
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
    return _with_errors(rows, errors)


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
    pairs = rows.select(
        "p_row", "p_clock", "p_client", "p_port", "p_serial", "p_t", "p_path", "p_upstream", "p_status", "p_resolution"
    ).join(errors, left_on="p_clock", right_on="e_clock")
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
    pairs = pairs.filter(same & (gap <= 2 * SECOND))
    if pairs.is_empty():
        return empty
    pairs = pairs.with_columns(
        (gap / SECOND + 0.01 * (pl.col("p_row") - pl.col("e_row").cast(pl.Int64)).abs() / 1000).alias("cost")
    )
    best = assign(pairs, "p_row", "e_row")
    out = rows.join(best.select("p_row", "e_row"), on="p_row", how="left").join(
        errors.select(
            "e_row",
            pl.col("e_event").alias("p_error_event"),
            "p_errno",
            "p_phase",
            "p_error_level",
            "p_error",
            "e_upstream",
        ),
        on="e_row",
        how="left",
    )
    return out.with_columns(pl.coalesce("p_upstream", "e_upstream").alias("p_upstream")).drop("e_row", "e_upstream")


def _calls(events: pl.DataFrame) -> pl.DataFrame:
    """A row an invocation of the CLI that failed or succeeded."""
    cli = events.filter(pl.col("source_kind") == "cli")
    outcome = cli.filter(pl.col("event_name").is_in(["cli.failure", "cli.success"]))
    printed = pl.col("parser") == "openclaw/cli"
    # lines that a CLI process wrote into a log carry a time; those within two seconds are one invocation's
    logged = (
        outcome.filter(~printed)
        .sort("log_file_path", "timestamp")
        .with_columns(
            (pl.col("timestamp").diff().over("log_file_path").dt.total_seconds().fill_null(99) > 2)
            .cum_sum()
            .over("log_file_path")
            .cast(pl.Int64)
            .alias("cli_record")
        )
    )
    outcome = pl.concat([outcome.filter(printed), logged], how="diagonal")
    # what says most comes first: a status or a code before a bare "failed"
    rank = pl.col("cli_error").replace_strict(
        {"closed": 0, "rejected": 0, "timeout": 1, "failed": 4, "none": 5}, default=2, return_dtype=pl.Int64
    )
    order = outcome.with_columns(rank.alias("rank")).sort("log_file_path", "cli_record", "rank", "log_line")
    spoken = pl.col("cli_error").is_in(["failed", "closed"])
    rows = (
        order.group_by("log_file_path", "cli_record", maintain_order=True)
        .agg(
            pl.col("event_id").first().alias("c_event"),
            pl.col("event_id").alias("c_events"),
            pl.col("cli_error").first().alias("c_error"),
            _first("websocket_close_code").cast(pl.Int64).alias("code_client"),
            pl.col("websocket_close_reason")
            .filter(spoken)
            .drop_nulls()
            .sort_by(pl.col("websocket_close_reason").filter(spoken).drop_nulls().str.len_bytes(), descending=True)
            .first()
            .alias("c_reason"),
            _first("http_response_status_code").alias("c_status"),
            _first("cli_target").alias("c_target"),
            _first("cli_source").alias("c_source"),
            _first("cli_timeout_ms").alias("c_timeout_ms"),
            _first("server_address").alias("c_server"),
            pl.col("timestamp").min().cast(pl.Int64).alias("c_t"),
            pl.col("time_earliest").min().cast(pl.Int64).alias("c_low"),
            pl.col("time_latest").max().cast(pl.Int64).alias("c_high"),
            _first("cli_exit_code").alias("c_exit"),
            _first("cli_command").alias("c_command"),
            pl.col("parser").first().eq("openclaw/cli").alias("c_printed"),
            pl.col("log_line").first().alias("c_line"),
            pl.col("recorded_start").first().alias("c_start"),
            pl.coalesce("compose_service", pl.col("part").replace("", None)).first().alias("c_service"),
        )
        .rename({"log_file_path": "c_file"})
    )
    rows = rows.with_columns(
        pl.coalesce("c_target", pl.col("c_command").str.extract(r"--url[= ](\S+)", 1)).alias("c_target")
    )
    url = pl.col("c_target")
    rows = rows.with_columns(
        url.str.extract(r"^wss?(?:\+unix)?://\[?([^/\]:]+|[0-9a-fA-F:]+)\]?", 1).alias("c_host"),
        pl.coalesce(
            url.str.extract(r"^wss?://\[?[^/\]]*?\]?:(\d+)", 1).cast(pl.Int64),
            pl.when(url.str.starts_with("wss://")).then(443).when(url.str.starts_with("ws://")).then(80),
        ).alias("c_port"),
        url.str.extract(r"^wss?://[^/]+(/[^?]*)", 1).alias("c_path"),
        pl.when(pl.col("c_error") == "none").then(1000).otherwise("code_client").alias("code_client"),
    )
    # An invocation printed by the CLI is also in the file log when both write there: the printed one stays.
    seen = rows.filter(pl.col("c_printed") & pl.col("c_low").is_not_null())
    if seen.height and rows.filter(~pl.col("c_printed")).height:
        twin = rows.filter(~pl.col("c_printed")).join_where(
            seen.select(pl.col("c_low").alias("_l"), pl.col("c_high").alias("_h")),
            pl.col("c_t") >= pl.col("_l"),
            pl.col("c_t") <= pl.col("_h"),
        )
        rows = rows.join(twin.select("c_event"), on="c_event", how="anti")
    return rows.sort("c_t", "c_file", "cli_record", nulls_last=True).drop("cli_record").with_row_index("c_row")


def assign(pairs: pl.DataFrame, left: str, right: str) -> pl.DataFrame:
    """Optimal one-to-one assignment over candidate pairs, most pairs first and then least total cost.

    Args:
        pairs: one row a candidate pair, columns `left`, `right` and `cost` (≥ 0).
        left: name of the left key column.
        right: name of the right key column.

    Returns:
        the chosen pairs with `group`: null, or a number shared by pairs that could be exchanged at equal cost.
    """
    schema_out: dict[str, Any] = {left: pairs.schema[left], right: pairs.schema[right], "group": pl.Int64}
    if pairs.is_empty():
        return pl.DataFrame(schema=schema_out)
    pairs = pairs.group_by(left, right).agg(pl.col("cost").min()).sort(left, right)
    rows, columns = pairs.get_column(left).to_numpy(), pairs.get_column(right).to_numpy()
    costs = pairs.get_column("cost").to_numpy()
    if len(np.unique(rows)) == len(rows) and len(np.unique(columns)) == len(columns):
        return pairs.select(
            left, right, pl.lit(None, pl.Int64).alias("group")
        )  # no two compete: there is nothing to solve
    from scipy.sparse import coo_matrix  # noqa: PLC0415 - a fifth of a second that most small inputs need not pay
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    uniq_l, index_l = np.unique(rows, return_inverse=True)
    uniq_r, index_r = np.unique(columns, return_inverse=True)
    size = len(uniq_l) + len(uniq_r)
    _, label = connected_components(
        coo_matrix((np.ones(len(costs)), (index_l, index_r + len(uniq_l))), shape=(size, size)), directed=False
    )
    chosen: list[tuple[int, int, int | None]] = []
    by_part = np.argsort(label[index_l], kind="stable")
    groups = 0
    for part in np.split(by_part, np.flatnonzero(np.diff(label[index_l][by_part])) + 1):
        picked, exchanged = _solve(index_l[part], index_r[part], costs[part])
        for a, b, group in picked:
            chosen.append((int(uniq_l[a]), int(uniq_r[b]), None if group is None else group + groups))
        groups += exchanged
    return pl.DataFrame(chosen, schema=schema_out, orient="row")


def _solve(
    left: NDArray[np.intp], right: NDArray[np.intp], cost: NDArray[np.float64]
) -> tuple[list[tuple[int, int, int | None]], int]:
    """One connected part of the assignment; pairs that two equal solutions exchange share a group."""
    from scipy.sparse import coo_matrix  # noqa: PLC0415
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching  # noqa: PLC0415

    names_l, rows = np.unique(left, return_inverse=True)
    names_r, columns = np.unique(right, return_inverse=True)
    if len(cost) == 1:
        return [(int(names_l[0]), int(names_r[0]), None)], 0
    cost = np.round(cost * 1000) / 1000
    # Each left node may stay alone at a price that no solution pays if it can pair; +1 keeps zero costs in the sparse
    # matrix.
    alone = 1e4 + float(cost.max()) * len(cost)
    size_l, size_r = len(names_l), len(names_r)
    priced = coo_matrix(
        (
            np.concatenate([np.round(cost * 1000) + 1, np.full(size_l, np.round(alone * 1000))]),
            (np.concatenate([rows, np.arange(size_l)]), np.concatenate([columns, size_r + np.arange(size_l)])),
        ),
        shape=(size_l, size_r + size_l),
    ).tocsr()
    matched_r, matched_c = min_weight_full_bipartite_matching(priced)
    paired = matched_c < size_r
    solved_r, solved_c = matched_r[paired].astype(np.intp), matched_c[paired].astype(np.intp)
    table = np.full((size_l, size_r), np.inf)
    table[rows, columns] = cost
    own = table[solved_r, solved_c]
    crossed = table[np.ix_(solved_r, solved_c)]
    member, label = _exchangeable(table, solved_r, solved_c, crossed, own)
    names = {int(v): i for i, v in enumerate(dict.fromkeys(label[member].tolist()))}
    return [
        (int(names_l[r]), int(names_r[c]), names[int(label[k])] if member[k] else None)
        for k, (r, c) in enumerate(zip(solved_r, solved_c, strict=True))
    ], len(names)


def _exchangeable(
    table: NDArray[np.float64],
    solved_r: NDArray[np.intp],
    solved_c: NDArray[np.intp],
    crossed: NDArray[np.float64],
    own: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which pairs another solution of nearly the same cost would pair otherwise, and which of them exchange with each other.

    A pair gives its right side to another pair at the difference of their costs; another solution is a cycle of such
    gifts. Two more nodes stand for the left and the right sides that are left over.
    """
    from scipy.sparse import coo_matrix  # noqa: PLC0415
    from scipy.sparse.csgraph import connected_components, floyd_warshall  # noqa: PLC0415

    count = len(own)
    if count > BRUTE:  # too many to search: none of them is told apart
        return np.ones(count, dtype=bool), np.zeros(count, dtype=np.intp)
    table, crossed, own = (
        np.round(x * 1000) for x in (table, crossed, own)
    )  # whole numbers: sums round a cycle are exact
    gift = np.full((count + 2, count + 2), np.inf)
    gift[:count, :count] = crossed - own[:, None]
    lone_r, lone_c = (
        np.setdiff1d(np.arange(table.shape[0]), solved_r),
        np.setdiff1d(np.arange(table.shape[1]), solved_c),
    )
    if len(lone_r):  # a left-over left side takes a pair's right side, and the pair's own left side is left over
        gift[count, :count] = table[np.ix_(lone_r, solved_c)].min(axis=0)
        gift[:count, count] = -own
    if len(lone_c):
        gift[:count, count + 1] = table[np.ix_(solved_r, lone_c)].min(axis=1) - own
        gift[count + 1, :count] = 0.0
    np.fill_diagonal(gift, np.inf)
    gift = np.where(np.abs(gift) < 1e-6, 1e-6, gift)  # scipy reads what is nearly zero as no edge
    far = floyd_warshall(np.where(np.isinf(gift), 0.0, gift), directed=True)
    back = (gift + far.T) < EQUAL * 1000
    _, label = connected_components(coo_matrix(back | back.T), directed=False)
    return np.array(back[:count].any(axis=1)), label[:count].astype(np.intp)


def _match_proxy(gateway: pl.DataFrame, attempts: pl.DataFrame) -> pl.DataFrame:
    """Pairs of gateway connections and tunnels at the proxy: g_row, p_row, group."""
    g = gateway.filter(pl.col("via") != "direct").select(
        "g_row",
        "g_t",
        "g_low",
        "g_high",
        "g_opened",
        "g_forwarded",
        "g_agent",
        "g_mode",
        "g_local",
        "g_port",
        "g_duration",
        "inferred",
        "code_gateway",
        "g_handshake",
    )
    given_up = pl.col("p_status").is_in([499, 504, 408])
    p = attempts.filter(pl.col("p_established") | given_up).select(
        "p_row",
        "p_established",
        "p_t",
        "p_low",
        "p_high",
        "p_stamp",
        "p_opened",
        "p_client",
        "p_agent",
        "p_upstream",
        "p_resolution",
        "p_clock_status",
        "p_clock_error",
        "p_local_port",
        "p_duration",
    )
    if g.is_empty() or p.is_empty():
        return pl.DataFrame(schema={"g_row": pl.UInt32, "p_row": pl.UInt32, "group": pl.Int64})
    pairs = _near(g, p)
    first_hop = pl.col("g_forwarded").str.split(",").list.eval(pl.element().str.strip_chars())
    fits = pl.col("p_client").is_in(first_hop, nulls_equal=False).fill_null(value=True) | pl.col("p_client").is_null()
    agent = (pl.col("g_agent") == pl.col("p_agent")).fill_null(value=True)
    port = (pl.col("g_port") == pl.col("p_local_port")).fill_null(value=True)
    browser = pl.col("p_agent").str.contains("Mozilla/", literal=True)
    mode = (
        pl.when((pl.col("g_mode") == "webchat") & browser.not_())
        .then(0.6)
        .when((pl.col("g_mode") == "cli") & browser)
        .then(0.6)
        .otherwise(0.0)
    )
    upstream = (pl.col("p_upstream").str.extract(r"^\[?([^\]]+?)\]?:\d+$", 1) == pl.col("g_local")).fill_null(
        value=True
    )
    beyond_end = pl.max_horizontal(pl.col("g_low") - pl.col("p_high"), pl.col("p_low") - pl.col("g_high"), 0)
    width = pl.col("p_resolution").fill_null(SECOND) + pl.col("p_clock_error").fill_null(0)
    start_gap = pl.max_horizontal((pl.col("g_opened") - pl.col("p_opened")).abs() - width, 0)
    same_start = (start_gap <= OPEN_SLACK).fill_null(value=False)
    unknown_start = pl.col("g_opened").is_null() | pl.col("p_opened").is_null()
    # a starting or busy gateway accepts late what the proxy has long since sent
    late_start = (pl.col("g_opened") - pl.col("p_opened") > 0).fill_null(value=False)
    # what the proxy gave up while the gateway was frozen, the gateway logs as an abandoned handshake when it thaws
    thawed = (
        (pl.col("code_gateway") == 1006)
        & (pl.col("g_handshake") != "connected").fill_null(value=True)
        & pl.col("g_forwarded").is_not_null()
        & (pl.col("g_t") - pl.col("p_t")).is_between(-SECOND, THAW)
    )
    # a stamp that may mark the beginning must fall on it, or on the end where nobody knows which of the two it marks
    on_start = ((pl.col("g_opened") - pl.col("p_stamp")).abs() - width <= OPEN_SLACK).fill_null(value=False)
    on_end = (pl.col("p_opened").is_null() & ((pl.col("g_t") - pl.col("p_stamp")).abs() - width <= SLACK)).fill_null(
        value=False
    )
    ok = (
        fits
        & agent
        & upstream
        & port
        & pl.when(pl.col("p_stamp").is_not_null())
        .then(on_start | on_end)
        .when(pl.col("p_established"))
        .then((beyond_end <= SLACK) & (same_start | unknown_start | late_start) | same_start & (beyond_end <= LATE))
        .otherwise(thawed)
    )
    center = (
        pl.col("g_t") - pl.col("p_t") - pl.when(pl.col("p_resolution") >= SECOND).then(SECOND // 2).otherwise(0)
    ).abs()
    cost = (
        (beyond_end / SLACK).clip(0, 3)
        + (start_gap.fill_null(0) / OPEN_SLACK).clip(0, 4)
        + mode
        + pl.when(pl.col("p_resolution") < SECOND).then(center / SLACK).otherwise(0.0).clip(0, 2)
        + pl.when(unknown_start).then(0.3).otherwise(0.0)
    )
    fine_start = (
        pl.when(pl.col("p_resolution") < SECOND)
        .then((pl.col("g_opened") - pl.col("p_opened")).abs() / OPEN_SLACK)
        .otherwise(0.0)
        .fill_null(0.0)
        .clip(0, 4)
    )
    # nobody closed an inferred one before its process was gone: its tunnel ended about then
    center = pl.when("inferred").then((pl.col("g_high") - pl.col("p_t")).abs()).otherwise(center)
    cost = cost + pl.when("inferred").then((center / SLACK).clip(0, 3)).otherwise(0.0)
    # how long it lasted tells apart what stamps of one second cannot
    lasted = (
        pl.when(late_start & ~same_start)
        .then(0.0)
        .otherwise(((pl.col("g_duration") - pl.col("p_duration")).abs() / (100 * MS)).clip(0, 3))
        .fill_null(0.5)
    )
    return assign(
        pairs.filter(ok).with_columns((cost + fine_start + lasted).fill_null(UNSURE).alias("cost")), "g_row", "p_row"
    )


def _near(g: pl.DataFrame, p: pl.DataFrame) -> pl.DataFrame:
    """Candidate pairs whose ends lie within reach, found by buckets of time and never by comparing all with all."""
    bucket = LATE + SECOND
    left = g.with_columns((pl.col("g_t") // bucket).alias("_b"))
    right = pl.concat([p.with_columns((pl.col("p_t") // bucket + shift).alias("_b")) for shift in (-1, 0, 1)])
    pairs = left.join(right, on="_b").drop("_b")
    bare = p.filter(pl.col("p_stamp").is_not_null())
    if bare.height:
        marks = pl.concat(
            [bare.with_columns((pl.col("p_stamp") // bucket + shift).alias("_b")) for shift in (-1, 0, 1)]
        )
        begun = g.with_columns((pl.col("g_opened") // bucket).alias("_b"))
        pairs = pl.concat([pairs, left.join(marks, on="_b").drop("_b"), begun.join(marks, on="_b").drop("_b")])
    return pairs.unique(["g_row", "p_row"], maintain_order=True)


def _match_client(rows: pl.DataFrame, calls: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Pairs of closes and CLI invocations: row, c_row, and the group where several would fit."""
    out = {"row": pl.UInt32, "c_row": pl.UInt32, "c_group": pl.Int64}
    if rows.is_empty() or calls.is_empty():
        return pl.DataFrame(schema=out)
    timed = calls.filter(
        pl.col("c_low").is_not_null()
        & ~_loose()
        & ~pl.col("c_error").is_in(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "ENOENT", "EACCES"])
    )
    bridges = facts.filter(pl.col("key").str.contains(r"^network\..*\.gateway$")).get_column("value").unique().to_list()
    t = pl.coalesce("g_t", "p_t")
    seen = rows.with_columns(t.alias("_t"), pl.coalesce("p_client", "g_forwarded", "g_remote").alias("_from")).filter(
        pl.col("_t").is_not_null()
    )
    pairs = seen.select(
        "row",
        "_t",
        "_from",
        "via",
        "p_status",
        "code_gateway",
        "g_mode",
        "p_path",
        "g_reason",
        "p_agent",
        "g_cause",
        "p_established",
        "p_kind",
    ).join_where(
        timed.select(
            "c_row",
            "c_low",
            "c_high",
            "c_t",
            "c_error",
            "code_client",
            "c_status",
            "c_host",
            "c_path",
            "c_reason",
            "c_printed",
            "c_timeout_ms",
            "c_port",
        ),
        pl.col("_t") >= pl.col("c_low") - SECOND,
        pl.col("_t") <= pl.col("c_high") + THAW,
    )
    # only a client that gave up is outlived by its connection
    pairs = pairs.filter(
        (pl.col("_t") <= pl.col("c_high") + SECOND)
        | ((pl.col("c_error") == "timeout") & (pl.col("code_gateway") == 1006))
    )
    loopback = pl.col("c_host").is_in(["127.0.0.1", "localhost", "::1", "0.0.0.0"])
    here = pl.col("_from").is_in([*bridges, "127.0.0.1", "::1"])
    place = (
        pl.when(loopback & bool(bridges))
        .then(here)
        .when(pl.col("c_host").is_not_null() & bool(bridges))
        .then(pl.lit(value=True))
        .otherwise(pl.lit(value=True))
        .fill_null(value=True)
    )
    ports = _published(facts)
    other_way = (pl.col("c_port").is_in(ports["proxy"]) & (pl.col("via") == "direct")) | (
        pl.col("c_port").is_in(ports["gateway"]) & (pl.col("via") == "proxy")
    )
    place = place & ~(loopback & other_way).fill_null(value=False)
    tunnel = pl.col("p_established").fill_null(value=True)
    status = (
        pl.when(pl.col("c_error") == "rejected")
        .then(pl.col("p_status") == pl.col("c_status"))
        .when(pl.col("c_error") == "timeout")
        .then(pl.lit(value=True))
        .otherwise(tunnel)
        .fill_null(value=False)
    )
    path = pl.col("c_path").fill_null("/") == pl.col("p_path").fill_null(pl.col("c_path").fill_null("/"))
    mode = (pl.col("g_mode").fill_null("cli").is_in(["cli", "backend", "probe"])) & (
        ~pl.col("p_agent").fill_null("").str.contains("Mozilla/", literal=True)
    )
    both = pl.col("code_client").is_not_null() & pl.col("code_gateway").is_not_null()
    normal = [1000, 1001, 1005]
    code = (
        pl.when(both)
        .then(
            (pl.col("code_client") == pl.col("code_gateway"))
            | (pl.col("code_client").is_in(normal) & pl.col("code_gateway").is_in(normal))
            | (pl.col("code_client") == 1006)
        )
        .otherwise(pl.lit(value=True))
    )
    refusal = (
        pl.when(pl.col("c_error") == "failed")
        .then(pl.col("code_gateway").is_in([1008, 1002, 1013]) | pl.col("g_cause").is_not_null())
        .when(pl.col("c_error") == "none")
        .then(pl.col("code_gateway").fill_null(1000).is_in(normal))
        .otherwise(pl.lit(value=True))
        .fill_null(value=False)
    )
    ok = place & status & path & mode & code & refusal
    gap = (pl.col("c_high") - pl.col("_t")).abs() / SECOND
    said = (
        pl.when(
            pl.col("c_reason").is_not_null()
            & pl.col("g_reason").is_not_null()
            & (pl.col("c_reason") != pl.col("g_reason"))
        )
        .then(1.0)
        .otherwise(0.0)
    )
    gone = (
        pl.when(pl.col("c_error") == "timeout")
        .then((pl.col("code_gateway").is_not_null()).cast(pl.Float64))
        .otherwise(0.0)
    )
    found = assign(pairs.filter(ok).with_columns((gap / 5 + said + gone).alias("cost")), "row", "c_row").rename(
        {"group": "c_group"}
    )
    return pl.concat([found, _match_untimed(rows, calls, found)])


def _loose() -> pl.Expr:
    """Whether a call's place in time is too wide to be joined by time."""
    return ((pl.col("c_high") - pl.col("c_low") > LATE) & pl.col("c_start").is_null()).fill_null(value=False)


def _match_untimed(rows: pl.DataFrame, calls: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Calls without any stamp: joined where one close of the gateway, and no other, has their code and reason."""
    bare = calls.filter(
        (pl.col("c_low").is_null() | _loose())
        & pl.col("c_reason").is_not_null()
        & ~pl.col("c_error").is_in(["none", "timeout"])
    )
    free = rows.join(found.select("row"), on="row", how="anti").filter(
        pl.col("code_gateway").is_not_null()
        & pl.col("g_reason").is_not_null()
        & ~pl.col("g_ambiguous").fill_null(value=False)
    )
    told = (pl.col("c_reason") == pl.col("g_reason")) & (
        (pl.col("code_client") == pl.col("code_gateway")) | pl.col("code_client").is_null()
    )
    pairs = (
        bare.select("c_row", "c_reason", "code_client")
        .join(free.select("row", "g_reason", "code_gateway", "g_mode"), how="cross")
        .filter(told & pl.col("g_mode").fill_null("cli").is_in(["cli", "backend", "probe"]))
    )
    alone = pairs.filter((pl.len().over("c_row") == 1) & (pl.len().over("row") == 1))
    return alone.select("row", "c_row", pl.lit(None, pl.Int64).alias("c_group"))


_SHAPE: Final[Sequence[tuple[str, pl.DataType | type[pl.DataType]]]] = (
    ("g_event", pl.String),
    ("p_event", pl.String),
    ("c_event", pl.String),
    ("g_t", pl.Int64),
    ("p_t", pl.Int64),
    ("c_t", pl.Int64),
    ("g_opened", pl.Int64),
    ("c_high", pl.Int64),
    ("p_error_event", pl.String),
    ("c_file", pl.String),
    ("death_event", pl.String),
    ("inferred", pl.Boolean),
    ("group", pl.Int64),
    ("c_group", pl.Int64),
    ("count", pl.Int64),
)


def _finish(rows: pl.DataFrame, events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """The contract's columns from the observers' ones."""
    rows = rows.with_columns(pl.lit(None, d).alias(c) for c, d in _SHAPE if c not in rows.columns)
    del events
    fine = pl.col("p_resolution").fill_null(SECOND) < SECOND
    # what a client gave up, a frozen gateway logs later: the client's moment is the close's
    abandoned = (pl.col("c_error") == "timeout").fill_null(value=False) & (pl.col("code_gateway") == 1006).fill_null(
        value=False
    )
    has_g, has_p = (
        pl.col("g_t").is_not_null() & ~pl.col("inferred").fill_null(value=False) & ~abandoned,
        pl.col("p_t").is_not_null(),
    )
    both = has_g & has_p
    # A gateway's line comes after the fact and a proxy's beside it; where both are fine the earlier one is nearer.
    best = (
        pl.when(both & ~pl.col("p_established"))
        .then("p_t")
        .when(both & fine)
        .then(pl.min_horizontal("g_t", "p_t"))
        .when(has_g)
        .then("g_t")
        .when(has_p)
        .then(pl.when(fine).then("p_t").otherwise(pl.col("p_t") + pl.col("p_resolution") // 2))
        .when(pl.col("g_t").is_not_null() & ~abandoned)
        .then("g_t")
        .otherwise("c_t")
    )
    # A gateway that starts answers with 1013 at once and logs it when its event loop has time: not before the
    # connection began.
    starting = (pl.col("code_gateway") == 1013).fill_null(value=False) & pl.col("g_opened").is_not_null()
    # a gateway that shuts down sends its close frames first and logs them when all are sent
    decided = pl.col("g_cause").is_not_null() | pl.col("code_gateway").is_in(
        [1002, 1003, 1007, 1008, 1009, 4000]
    ).fill_null(value=False)
    lag = (
        pl.when((pl.col("code_gateway") == 1012).fill_null(value=False))
        .then(STOP_LAG)
        .when(decided)
        .then(DECIDED_LAG)
        .otherwise(GATEWAY_LAG)
    )
    g_low = (
        pl.when(starting)
        .then(
            pl.max_horizontal(pl.min_horizontal("g_opened", pl.col("g_low")) - GATEWAY_LAG, pl.col("g_low") - START_LAG)
        )
        .otherwise(pl.col("g_low") - lag)
    )
    p_low = pl.col("p_low") - pl.when(fine).then(
        pl.when("p_established").then(PROXY_LAG).otherwise(ANSWER_LAG)
    ).otherwise(GATEWAY_LAG)
    # what the proxy saw end before, the gateway logged late
    low = (
        pl.when(both & fine)
        .then(pl.min_horizontal(g_low, p_low))
        .when(has_g)
        .then(g_low)
        .when(has_p)
        .then(p_low)
        .when(pl.col("g_t").is_not_null() & ~abandoned)
        .then("g_low")
        .otherwise(pl.coalesce("c_low", p_low))
    )
    # what the proxy gave up ended for the client then, whenever the gateway noticed
    given_up = both & ~pl.col("p_established").fill_null(value=True)
    low = pl.when(given_up).then(p_low).otherwise(low)
    high = (
        pl.when(given_up)
        .then(pl.col("p_high") + 5 * MS)
        .when(has_g)
        .then("g_high")
        .when(has_p)
        .then(pl.col("p_high") + 5 * MS)
        .when(pl.col("g_t").is_not_null() & ~abandoned)
        .then("g_high")
        .otherwise("c_high")
    )
    # what a command reports, it may have seen as late as its end
    high = pl.max_horizontal(high, pl.when(pl.col("c_event").is_not_null()).then("c_high"))
    # the client's run bounds whatever the other sides leave open
    low = pl.max_horizontal(low, pl.when(has_g | has_p).then(None).otherwise("c_low"))
    opened = pl.coalesce(
        pl.when(abandoned).then(pl.col("c_start").cast(pl.Int64) * MS),
        pl.when(fine).then("p_opened"),
        "g_opened",
        "p_opened",
        pl.col("c_start").cast(pl.Int64) * MS,
    )
    code = pl.coalesce("code_client", "code_gateway")
    ports = _published(facts)
    via = (
        pl.when(pl.col("p_event").is_not_null())
        .then(pl.lit("proxy"))
        .when(pl.col("via").is_not_null() & (pl.col("via") != "unknown"))
        .then("via")
        .when(pl.col("c_port").is_in(ports["proxy"]))
        .then(pl.lit("proxy"))
        .when(pl.col("c_port").is_in(ports["gateway"]))
        .then(pl.lit("direct"))
        .otherwise(pl.lit("unknown"))
    )
    observers = pl.concat_list(
        pl.when(pl.col("g_event").is_not_null() | pl.col("g_open_event").is_not_null()).then(pl.lit("gateway")),
        pl.when(pl.col("p_event").is_not_null()).then(pl.lit("proxy")),
        pl.when(pl.col("c_event").is_not_null()).then(pl.lit("cli")),
        pl.when(pl.col("death_event").is_not_null()).then(pl.lit("docker")),
    ).list.drop_nulls()
    rows = rows.with_columns(
        pl.coalesce("close_id", "p_event", "c_event").alias("close_id"),
        best.cast(schema.TS).alias("timestamp"),
        low.cast(schema.TS).alias("time_earliest"),
        high.cast(schema.TS).alias("time_latest"),
        opened.cast(schema.TS).alias("opened"),
        pl.coalesce("g_duration", "p_duration").alias("duration_ns"),
        via.alias("via"),
        pl.coalesce(
            "p_client",
            pl.col("g_forwarded").str.extract(r"^\s*([^,\s]+)", 1),
            pl.when(via == "direct").then("g_remote"),
        ).alias("client_address"),
        pl.coalesce("p_port", pl.when(via == "direct").then("g_port")).alias("client_port"),
        code.alias("websocket_close_code"),
        pl.when(pl.col("code_client").is_not_null())
        .then(pl.lit("client"))
        .when(pl.col("code_gateway").is_not_null())
        .then(pl.lit("server"))
        .otherwise(None)
        .alias("code_observer"),
        pl.col("p_status").alias("http_status_proxy"),
        pl.coalesce("g_reason", "c_reason").alias("websocket_close_reason"),
        pl.coalesce(
            pl.when(pl.col("g_event").is_not_null()).then("g_established"),
            pl.when(pl.col("inferred")).then(pl.lit(value=True)),
            pl.when(pl.col("p_event").is_not_null()).then("p_established"),
            pl.col("c_error").is_in(["none", "closed"]),
        ).alias("established"),
        pl.coalesce("count", pl.lit(1)).alias("count"),
        observers.alias("observers"),
        pl.col("inferred").fill_null(value=False),
        pl.col("g_ambiguous").fill_null(value=False).alias("g_ambiguous"),
    )
    # A middle that lies outside its own bounds (a late gateway line) is drawn to the nearer end.
    rows = rows.with_columns(
        pl.when(pl.col("timestamp") < pl.col("time_earliest"))
        .then("time_earliest")
        .when(pl.col("timestamp") > pl.col("time_latest"))
        .then("time_latest")
        .otherwise("timestamp")
        .alias("timestamp")
    )
    rows = rows.with_columns(
        pl.when(pl.col("opened") <= pl.col("time_latest"))
        .then("opened")
        .when(pl.col("time_latest").is_null())
        .then("opened")
        .alias("opened")
    )
    group = pl.coalesce(pl.format("g{}", "group"), pl.format("c{}", "c_group"))
    rows = rows.with_columns(group.alias("group_id")).sort("timestamp", "close_id", "c_file", nulls_last=True)
    # equal files have equal events: a command that printed the same twice was run twice
    again = pl.int_range(pl.len()).over("close_id")
    return rows.with_columns(
        pl.when(again > 0).then(pl.format("{}.{}", "close_id", again + 1)).otherwise("close_id").alias("close_id")
    )


def _published(facts: pl.DataFrame) -> dict[str, list[int]]:
    """Host ports that lead to the proxies and to the gateways."""
    out: dict[str, list[int]] = {}
    for role in ("proxy", "gateway"):
        subjects = (
            facts.filter((pl.col("key") == "role") & pl.col("value").str.starts_with(role))
            .get_column("subject")
            .to_list()
        )
        ports = (
            facts.filter(pl.col("subject").is_in(subjects) & pl.col("key").str.starts_with("port."))
            .get_column("value")
            .str.extract(r":(\d+)$", 1)
            .cast(pl.Int64, strict=False)
        )
        out[role] = ports.drop_nulls().unique().to_list()
    return out
