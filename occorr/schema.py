"""The tables that occorr writes: every column's name, type, meaning and OpenTelemetry/ECS twin stands here once; and their plain form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION: Final = 1

TS = pl.Datetime("ns", "UTC")
MS: Final = 1_000_000  # a millisecond and a second in the unit of every time and duration, nanoseconds
SECOND: Final = 1_000_000_000
STR, I64, BOOL, F64 = pl.String, pl.Int64, pl.Boolean, pl.Float64
DICT = pl.Categorical()  # written as an Arrow dictionary
KEY_VALUES = pl.List(pl.Struct({"key": STR, "value": STR}))  # the shape of OpenTelemetry's KeyValueList

SOURCE_KINDS: Final = ("gateway", "cli", "proxy", "docker", "kernel", "other")
TIME_SEMANTICS: Final = ("at_event", "at_start", "at_end", "at_write", "unknown")
CLOCK_STATUS: Final = ("reference", "aligned", "assumed", "unalignable")
OBSERVERS: Final = ("server", "client", "proxy")
VERDICTS: Final = ("decisive", "supported", "circumstantial", "unknown")
PROVEN: Final = VERDICTS[:2]  # the others guess
STRENGTHS: Final = ("decisive", "supporting", "circumstantial")
VIA: Final = ("direct", "proxy", "unknown")
LAYERS: Final = ("L1", "L2", "L3", "none")

CAUSES: Final[Mapping[str, tuple[str, ...]]] = {
    "restart": (
        "manual",
        "conflict",
        "crash",
        "oom",
        "killed",
        "in_process",
        "deploy",
        "unhealthy",
        "startup",
        "proxy",
    ),
    "timeout": ("proxy_idle", "handshake", "heartbeat", "upstream", "client"),
    "auth": (
        "token_mismatch",
        "token_missing",
        "pairing_required",
        "device_identity",
        "origin",
        "rate_limited",
        "untrusted_proxy",
        "proxy_denied",
        "rotated",
    ),
    "protocol": ("version_mismatch", "invalid_frame", "payload_too_large", "upgrade_missing"),
    "client": ("normal", "abort"),
    "network": ("reset", "partition"),
    "overload": ("slow_consumer",),
    "unreachable": ("refused", "loopback", "dns", "socket"),
    "unknown": ("unknown",),
}
CAUSE_NAMES: Final = frozenset(f"{family}.{name}" for family, names in CAUSES.items() for name in names)
LAYER_OF_FAMILY: Final = {
    "restart": "L1",
    "timeout": "L1",
    "network": "L1",
    "unreachable": "L1",
    "protocol": "L1",
    "overload": "L1",
    "auth": "L2",
    "client": "none",
    "unknown": "none",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its Polars type, what it means, its name in OpenTelemetry and ECS where it has one, and whether only the pipeline needs it."""

    dtype: pl.DataType | type[pl.DataType]
    doc: str
    otel: str = ""
    ecs: str = ""
    inner: bool = False


C = Column
EVENTS: Final[Mapping[str, Column]] = {
    "timestamp": C(TS, "aligned to the reference clock; null where nothing bounds it", "Timestamp", "@timestamp"),
    "timestamp_raw": C(TS, "the stamp as written, its zone applied, before alignment"),
    "timestamp_text": C(STR, "the characters of the stamp"),
    "time_earliest": C(TS, "lower bound of the aligned time"),
    "time_latest": C(TS, "upper bound of the aligned time"),
    "observed_timestamp": C(TS, "the envelope's or recorder's stamp", "ObservedTimestamp", "event.created"),
    "observed_clock_id": C(DICT, "the clock of observed_timestamp"),
    "timestamp_desc": C(DICT, "what the stamp marks, in words"),
    "time_semantics": C(pl.Enum(TIME_SEMANTICS), "which moment of the record the stamp marks"),
    "time_resolution_ns": C(I64, "width of the interval that a truncated stamp stands for, ns"),
    "clock_id": C(DICT, "the clock that wrote timestamp_raw"),
    "clock_offset_ns": C(I64, "this clock minus the reference, ns"),
    "clock_error_ns": C(I64, "half-width of the bound of clock_offset_ns, ns"),
    "clock_status": C(pl.Enum(CLOCK_STATUS), "how far the clock can be trusted"),
    "event_id": C(STR, "hash of the source's first record, the byte offset and the record", "", "event.id"),
    "source_kind": C(pl.Enum(SOURCE_KINDS), "which kind of program wrote the line"),
    "log_file_path": C(DICT, "the input file", "log.file.path", "log.file.path"),
    "log_line": C(I64, "line number, from 1"),
    "log_byte_offset": C(I64, "offset of the line in the uncompressed file, bytes"),
    "log_iostream": C(DICT, "stdout or stderr", "log.iostream"),
    "log_record_original": C(STR, "the whole record, secrets replaced", "log.record.original", "event.original"),
    "parser": C(DICT, "definition/dialect that decoded the line"),
    "redacted": C(BOOL, "whether a secret was replaced in this record"),
    "event_name": C(DICT, "what happened", "EventName", "event.action"),
    "severity_number": C(pl.UInt8, "OpenTelemetry's severity, 1 to 24", "SeverityNumber"),
    "severity_text": C(DICT, "the level as written", "SeverityText", "log.level"),
    "body": C(STR, "the message", "Body", "message"),
    "service_name": C(DICT, "the service", "service.name", "service.name"),
    "host_name": C(DICT, "the host", "host.name", "host.name"),
    "process_pid": C(I64, "process id", "process.pid", "process.pid"),
    "exception_type": C(DICT, "class of the exception", "exception.type", "error.type"),
    "container_id": C(DICT, "full container id", "container.id", "container.id"),
    "container_name": C(DICT, "container name", "container.name", "container.name"),
    "container_image_name": C(DICT, "image", "container.image.name", "container.image.name"),
    "container_action": C(DICT, "the engine's action"),
    "container_exit_code": C(I64, "exit code"),
    "compose_project": C(DICT, "Compose project"),
    "compose_service": C(DICT, "Compose service"),
    "client_address": C(DICT, "address of the client", "client.address", "client.address"),
    "client_port": C(I64, "port of the client", "client.port", "client.port"),
    "server_address": C(DICT, "address that was connected to", "server.address", "server.address"),
    "server_port": C(I64, "port that was connected to", "server.port", "server.port"),
    "http_request_method": C(DICT, "HTTP method", "http.request.method", "http.request.method"),
    "http_response_status_code": C(
        I64, "HTTP status sent to the client", "http.response.status_code", "http.response.status_code"
    ),
    "url_path": C(STR, "path without its query", "url.path", "url.path"),
    "user_agent_original": C(DICT, "User-Agent", "user_agent.original", "user_agent.original"),
    "request_id": C(STR, "the request's id", "", "http.request.id"),
    "proxy_termination": C(DICT, "the proxy's own word for how the session ended"),
    "conn_id": C(STR, "the gateway's connection id"),
    "websocket_close_code": C(pl.UInt16, "close code (RFC 6455, 7.4)"),
    "websocket_close_reason": C(STR, "close reason"),
    "websocket_close_observer": C(pl.Enum(OBSERVERS), "who reports the close"),
    "websocket_close_initiator": C(DICT, "who closed, where the line says so"),
    "duration_ns": C(I64, "how long the connection or request lasted, ns"),
    "attributes": C(KEY_VALUES, "all other fields", "Attributes"),
}
# What envelopes may say of the lines in them.
CARRIED: Final = (
    "log_iostream",
    "compose_service",
    "container_name",
    "container_id",
    "host_name",
    "process_pid",
    "systemd_unit",
    "syslog_program",
)
# What definitions may fill beside EVENTS' columns. They travel as columns of their own and are written into
# `attributes`.
ATTRIBUTES: Final[Mapping[str, Column]] = {
    "subsystem": C(STR, "the gateway's logger"),
    "gateway_cause": C(STR, "the gateway's own `cause=` of a close"),
    "handshake": C(STR, "pending, failed or connected"),
    "handshake_phase": C(STR, "how far the connect handshake came"),
    "auth_reason": C(STR, "the gateway's `reason=` of a refusal of credentials"),
    "auth_mode": C(STR, "kind of credentials that were offered"),
    "conn_short": C(STR, "the short form of the connection id, `8…4`"),
    "endpoint": C(STR, "`ip:port->ip:port` as the gateway sees it"),
    "remote_address": C(STR, "the gateway's peer: the client or the proxy"),
    "remote_port": C(I64, "the peer's port"),
    "local_address": C(STR, "the address on which the gateway was reached"),
    "local_port": C(I64, "the port on which the gateway was reached"),
    "forwarded_for": C(STR, "X-Forwarded-For as the gateway received it"),
    "origin": C(STR, "Origin header"),
    "host_header": C(STR, "Host header"),
    "client_id": C(STR, "the client's name"),
    "client_mode": C(STR, "cli, webchat, node, …"),
    "client_version": C(STR, "the client's version"),
    "client_platform": C(STR, "the client's platform"),
    "device_id": C(STR, "the client's device id"),
    "pairing_request_id": C(STR, "id of a pairing request"),
    "suppressed": C(I64, "repeats that were not logged"),
    "websocket_error": C(STR, "the WebSocket library's text"),
    "signal": C(STR, "signal name"),
    "restart_mode": C(STR, "how the gateway restarts itself"),
    "stop_reason": C(STR, "why the gateway stopped taking work"),
    "shutdown_ms": C(I64, "how long the shutdown took, ms"),
    "method": C(STR, "RPC method"),
    "rpc_status": C(STR, "ok or failed"),
    "rpc_duration_ms": C(I64, "how long the RPC took, ms"),
    "elapsed_ms": C(I64, "how long what the line reports took, whole ms"),
    "connection_serial": C(STR, "the proxy's number of a connection"),
    "upstream_address": C(STR, "the proxy's upstream, the last one tried"),
    "upstream_port_local": C(I64, "the proxy's port towards the upstream"),
    "upstream_status": C(STR, "status that the upstream sent, the last one tried; empty if none"),
    "upstream_duration_ns": C(I64, "time of the upstream, ns"),
    "http_upgrade": C(STR, "Upgrade header"),
    "http_response_size": C(I64, "bytes sent to the client"),
    "http_response_content_type": C(STR, "the response's Content-Type as the proxy logs it"),
    "proxy_flags": C(STR, "the proxy's own flags of the session"),
    "proxy_errno": C(I64, "errno of a proxy's error line"),
    "proxy_phase": C(STR, "what the proxy was doing when it failed"),
    "proxy_backend": C(STR, "the proxy's name of the backend"),
    "proxy_frontend": C(STR, "the proxy's name of the frontend or router"),
    "proxy_message": C(STR, "the proxy's message"),
    "image_id": C(STR, "digest of the image"),
    "config_hash": C(STR, "Compose's hash of the service's configuration"),
    "health_status": C(STR, "healthy or unhealthy"),
    "exec_command": C(STR, "command of an exec"),
    "network_name": C(STR, "Docker network"),
    "network_type": C(STR, "driver of the Docker network"),
    "actor_type": C(STR, "what kind of object the engine's event is about"),
    "old_name": C(STR, "the container's former name"),
    "cli_record": C(I64, "which invocation of its file a line belongs to"),
    "cli_command": C(STR, "the command line"),
    "cli_error": C(STR, "kind of the CLI's failure"),
    "cli_target": C(STR, "the URL that the CLI dialled"),
    "cli_source": C(STR, "where the CLI took the URL from"),
    "cli_timeout_ms": C(I64, "the CLI's own timeout, ms"),
    "cli_exit_code": C(I64, "exit code of the command"),
    "recorded_start": C(I64, "recorder's stamp before the command, epoch ms"),
    "recorded_end": C(I64, "recorder's stamp after the command, epoch ms"),
    "multiplicity": C(I64, "closes that a line stands for", inner=True),
    "ambiguous_text": C(BOOL, "the line has more than one possible boundary between free text and fields"),
    "zone_inline": C(BOOL, "the stamp carried its own zone", inner=True),
    "observed_zone_inline": C(BOOL, "the envelope's stamp carried its own zone", inner=True),
    "observed_resolution_ns": C(I64, "width of the interval that the envelope's stamp stands for, ns", inner=True),
    "zone_slack_ns": C(
        I64, "how much later the stamp may be: local times that the end of summer repeats are two, ns", inner=True
    ),
    "zone_assumed": C(BOOL, "the zone of the stamp is an assumption", inner=True),
    "year_origin": C(STR, "where the year of a stamp without one comes from"),
    "unparsed_reason": C(STR, "why a line was not understood"),
    "uptime_s": C(STR, "seconds since boot, as the kernel writes them"),
    "process_name": C(STR, "the process, as the kernel names it"),
    "cgroup": C(STR, "control group of a killed process"),
    "oom_constraint": C(STR, "whose limit the OOM killer enforced"),
    "unit_code": C(STR, "how a unit's main process ended: exited, killed, dumped"),
    "unit_status": C(I64, "exit code or signal number of a unit's main process"),
    "unit_status_name": C(STR, "the same as a name"),
    "unit_result": C(STR, "systemd's word for why a unit failed"),
    "restart_counter": C(I64, "systemd's count of restarts of a unit"),
    "engine_topic": C(STR, "containerd's topic of an event"),
    "engine_error": C(STR, "the engine's error text"),
    "probe_tool": C(STR, "with what a port was tried by hand"),
    "probe_result": C(
        STR, "connected, answered, refused, timeout, dns or closed; of occorr probe also tls, silent and unreachable"
    ),
    "probe_vantage": C(STR, "name of where a probe was made"),
    "probe_url": C(STR, "what a probe dialled, without its query"),
    "probe_connect_ns": C(I64, "time of a probe's TCP connect, ns; null if there was none"),
    "probe_tls_ns": C(I64, "time of a probe's TLS handshake, ns"),
    "probe_upgrade_ns": C(I64, "time from a probe's request to the answer, ns"),
    "probe_first_frame_ns": C(I64, "time from the answer to the first frame, ns; null if none came"),
    "curl_error": C(I64, "curl's exit code"),
    "systemd_unit": C(STR, "the systemd unit"),
    "syslog_program": C(STR, "the program's name in syslog or the journal"),
}
CLOSES: Final[Mapping[str, Column]] = {
    "close_id": C(STR, "id of the close: from the connection id, else from the event that shows it"),
    "timestamp": C(TS, "best estimate inside the interval; null if a side is open"),
    "time_earliest": C(TS, "lower bound"),
    "time_latest": C(TS, "upper bound"),
    "opened": C(TS, "when the connection or attempt began"),
    "duration_ns": C(I64, "how long it lasted, ns"),
    "via": C(pl.Enum(VIA), "whether a proxy was on the path"),
    "conn_id": C(STR, "the gateway's connection id"),
    "client_address": C(DICT, "the client's address"),
    "client_port": C(I64, "the client's port"),
    "websocket_close_code": C(pl.UInt16, "what the client experienced if anybody saw it, else the gateway's code"),
    "code_observer": C(pl.Enum(OBSERVERS), "whose code that is"),
    "code_client": C(pl.UInt16, "the code that the client saw"),
    "code_gateway": C(pl.UInt16, "the code that the gateway logged"),
    "http_status_proxy": C(I64, "HTTP status of the attempt at the proxy"),
    "websocket_close_reason": C(STR, "close reason"),
    "service_name": C(DICT, "the gateway's service"),
    "compose_project": C(DICT, "the Compose project"),
    "established": C(BOOL, "false: refused before the WebSocket opened"),
    "count": C(I64, "how many closes this row stands for"),
    "group_id": C(STR, "rows that share one are these closes in some order"),
    "family": C(DICT, "family of the cause"),
    "cause": C(DICT, "family.cause"),
    "probability": C(F64, "that the cause is right"),
    "verdict": C(pl.Enum(VERDICTS), "strength of the evidence"),
    "rule": C(DICT, "the rule that the verdict rests on; for a restart the one that named its kind"),
    "runner_up": C(DICT, "the next best cause"),
    "runner_up_probability": C(F64, "its probability"),
    "incident_id": C(STR, "the incident it belongs to"),
    "layer": C(pl.Enum(LAYERS), "L1 transport, L2 auth, L3 channels"),
    "observers": C(pl.List(STR), "which kinds of source hold a line of it"),
    "missing": C(pl.List(STR), "what would settle it"),
    "original_cause": C(DICT, "what the logs said, where a person corrected it"),
    "correction": C(STR, "what a person says of this verdict (verdicts.toml)"),
}
EVIDENCE: Final[Mapping[str, Column]] = {
    "close_id": C(STR, "the close"),
    "event_id": C(STR, "the event that is cited"),
    "rule": C(DICT, "the rule that cites it"),
    "cause": C(DICT, "the cause it speaks for or against"),
    "role": C(pl.Enum(("supports", "contradicts")), "for or against"),
    "strength": C(pl.Enum(STRENGTHS), "how strong it is"),
    "delta_ns": C(I64, "event minus close, ns"),
    "error_ns": C(I64, "half-width of the bound of delta_ns, ns"),
    "log_file_path": C(DICT, "file"),
    "log_line": C(I64, "line"),
    "quote": C(STR, "the line"),
}
INCIDENTS: Final[Mapping[str, Column]] = {
    "incident_id": C(STR, "the incident"),
    "start": C(TS, "its first moment"),
    "start_earliest": C(TS, "from when on it may have begun"),
    "start_latest": C(TS, "until when it may have begun"),
    "end": C(TS, "its last moment"),
    "family": C(DICT, "family of its cause"),
    "cause": C(DICT, "its cause"),
    "probability": C(F64, "that the cause is right"),
    "closes": C(I64, "closes in it, counting suppressed ones"),
    "services": C(pl.List(STR), "services it touched"),
    "projects": C(pl.List(STR), "projects it touched"),
    "title": C(STR, "the incident in one sentence"),
    "original_cause": C(DICT, "what the logs said, where a person corrected it"),
    "correction": C(STR, "what a person says of this incident (verdicts.toml)"),
}
FACTS: Final[Mapping[str, Column]] = {
    "subject": C(STR, "what the fact is about: a container, a service, a file, a network"),
    "key": C(STR, "which property"),
    "value": C(STR, "its value; a secret's fingerprint"),
    "valid_from": C(TS, "from when it held, where known"),
    "valid_to": C(TS, "until when it held, where known"),
    "event_id": C(STR, "the event that shows it, where it is one"),
    "log_file_path": C(DICT, "file"),
    "log_line": C(I64, "line"),
}
CLOCKS: Final[Mapping[str, Column]] = {
    "clock_id": C(STR, "the clock"),
    "segment_start": C(TS, "from when the row holds, aligned"),
    "segment_end": C(TS, "until when the row holds, aligned"),
    "reference_time": C(TS, "the aligned moment at which offset_ns holds; drift counts from here"),
    "anchored_from": C(TS, "first anchor; before it the bound widens by 200 ppm of the distance"),
    "anchored_to": C(TS, "last anchor; after it the bound widens likewise"),
    "zone": C(STR, "time zone of its naive stamps"),
    "zone_origin": C(STR, "where the zone comes from"),
    "offset_ns": C(I64, "this clock minus the reference, after its zone is applied, ns"),
    "drift_ppm": C(F64, "drift, parts per million"),
    "error_ns": C(I64, "half-width of the bound of offset_ns, ns"),
    "anchors": C(I64, "how many anchors hold it"),
    "violated_share": C(F64, "share of the anchors that contradict it"),
    "method": C(STR, "how it was found"),
    "status": C(pl.Enum(CLOCK_STATUS), "how far it can be trusted"),
}
SOURCES: Final[Mapping[str, Column]] = {
    "path": C(STR, "the input"),
    "part": C(STR, "the part of the input: a service of a mixed log, else empty"),
    "format": C(STR, "definition/dialect"),
    "envelope": C(STR, "envelopes, outermost first"),
    "lines_read": C(I64, "lines in the part"),
    "lines_kept": C(I64, "lines that became events"),
    "lines_skipped": C(I64, "lines that fit the format and cannot matter"),
    "lines_unparsed": C(I64, "lines that fail the format's line test"),
    "first_time": C(TS, "first aligned time"),
    "last_time": C(TS, "last aligned time"),
    "clock_id": C(STR, "the clock of its stamps"),
    "sha256": C(STR, "digest of the input's bytes"),
    "status": C(STR, "ok, partial, failed or empty"),
    "message": C(STR, "what happened and what to do"),
}
TABLES: Final[Mapping[str, Mapping[str, Column]]] = {
    "timeline": EVENTS,
    "closes": CLOSES,
    "evidence": EVIDENCE,
    "incidents": INCIDENTS,
    "facts": FACTS,
    "clocks": CLOCKS,
    "sources": SOURCES,
}


def empty(table: Mapping[str, Column]) -> pl.DataFrame:
    """A frame of the table's working types with no row."""
    return pl.DataFrame(schema=working(table))


def working(table: Mapping[str, Column]) -> dict[str, pl.DataType | type[pl.DataType]]:
    """Types while the data is made: plain strings in place of dictionaries and enums, which only files carry."""
    plain = (pl.Categorical, pl.Enum)
    return {name: STR if isinstance(c.dtype, plain) else c.dtype for name, c in table.items()}


def conform(frame: pl.DataFrame, table: Mapping[str, Column], *, final: bool = False) -> pl.DataFrame:
    """The frame with exactly the table's columns, in its order and types; what is absent becomes null.

    Args:
        frame: any columns.
        table: the contract.
        final: cast to the written types (dictionaries, enums) and not to the working ones.
    """
    types = {name: c.dtype for name, c in table.items()} if final else working(table)
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in types.items()
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """Which closes a person asked for.

    Attributes:
        since_ns: none that was over before, ns since 1970.
        until_ns: none that came after.
        project: those of this Compose project alone.
    """

    since_ns: int | None = None
    until_ns: int | None = None
    project: str | None = None

    def closes(self) -> pl.Expr:
        """Whether a close may be one of them: its interval reaches into the span, or nothing tells when it was."""
        low = pl.coalesce("time_earliest", "timestamp", "time_latest").cast(pl.Int64)
        high = pl.coalesce("time_latest", "timestamp", "time_earliest").cast(pl.Int64)
        after = pl.lit(value=True) if self.since_ns is None else high >= self.since_ns
        before = pl.lit(value=True) if self.until_ns is None else low < self.until_ns
        inside = (after & before).fill_null(value=True)
        if self.project is None:
            return inside
        return inside & (pl.col("compose_project") == self.project).fill_null(value=False)


EVERY: Final = Asked()


class Tables(Protocol):
    """The tables of one analysis, each with the columns of `schema.TABLES`."""

    @property
    def timeline(self) -> pl.DataFrame:
        """EVENTS."""

    @property
    def closes(self) -> pl.DataFrame:
        """CLOSES."""

    @property
    def evidence(self) -> pl.DataFrame:
        """EVIDENCE."""

    @property
    def incidents(self) -> pl.DataFrame:
        """INCIDENTS."""

    @property
    def facts(self) -> pl.DataFrame:
        """FACTS."""

    @property
    def clocks(self) -> pl.DataFrame:
        """CLOCKS."""

    @property
    def sources(self) -> pl.DataFrame:
        """SOURCES."""

    @property
    def redacted(self) -> bool:
        """Whether secrets were replaced."""

    @property
    def banners(self) -> Sequence[str]:
        """What every report says first: that secrets are in it, that it does not hold all closes."""


def plain(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with strings for dictionaries and enums, int64 ns since 1970 for times, and null for NaN."""
    return frame.with_columns(
        (
            pl.col(name).cast(pl.String)
            if isinstance(dtype, pl.Categorical | pl.Enum)
            else pl.col(name).dt.epoch("ns")
            if isinstance(dtype, pl.Datetime)
            else pl.col(name).fill_nan(None)
        )
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Categorical | pl.Enum | pl.Datetime) or dtype.is_float()
    )


def attribute(key: str) -> pl.Expr:
    """What EVENTS say of a thing that has no column of its own; null where they do not."""
    said = pl.element().filter(pl.element().struct.field("key") == key).struct.field("value")
    return pl.col("attributes").list.eval(said).list.first()


def refusal() -> pl.Expr:
    """The HTTP status with which an attempt of CLOSES ended; null where it was upgraded, or where its proxy wrote none (0)."""
    status = pl.col("http_status_proxy")
    return pl.when(~status.is_in([0, 101])).then(status)
