"""What to do next: the first check of each cause as a command, and the few settings that would have settled the most.

Made from the tables of a result, so that a result that was read back gives the same advice.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import rules, schema
from occorr.facts import GATEWAY_PORT, PROGRAMS, program, proxies
from occorr.zones import NO_DATE

if TYPE_CHECKING:
    from occorr.schema import Tables

MOST: Final = 3  # more than a few settings nobody makes
_NAME: Final = r"[\w.:/@-]+"  # what a shell takes as one word
LAYERS: Final = ("L1", "L2", "L3")  # transport, then credentials, then channels


@dataclass(frozen=True, slots=True)
class Setting:
    """Something to switch on, by the wish (`missing` of CLOSES) that it would grant."""

    wish: str
    what: str
    line: str


_NGINX: Final = (
    'log_format occorr \'$remote_addr:$remote_port $msec "$request" $status request_time=$request_time'
    " connection=$connection upgrade=$http_upgrade upstream=$upstream_addr upstream_status=$upstream_status"
    ' upstream_time=$upstream_response_time agent="$http_user_agent"\';'
)
_APACHE: Final = (
    '"%h:%{remote}p %t begin=%{begin:msec}t end=%{end:msec}t D=%D X=%X O=%O >s=%>s UID=%L R=%R'
    ' \\"%r\\" up=\\"%{Upgrade}i\\""'
)
_VERBOSE: Final = "openclaw gateway run --verbose   (or keep its file log, /tmp/openclaw/openclaw-*.log)"
PROXIES: Final = {
    "nginx": (
        "nginx logs milliseconds, ports and the upstream's answer",
        f"{_NGINX}  access_log /var/log/nginx/access.log occorr;  error_log /var/log/nginx/error.log info;",
    ),
    "haproxy": (
        "HAProxy logs its own HTTP format, with termination states",
        "option httplog  (and: option logasap off, log stdout format raw local0 info)",
    ),
    "caddy": ("Caddy logs access as JSON", "log { output file /var/log/caddy/access.log  format json }"),
    "traefik": (
        "Traefik logs access as JSON with all headers that matter",
        "--accesslog=true --accesslog.format=json --accesslog.fields.headers.names.Upgrade=keep",
    ),
    "envoy": (
        "Envoy logs response flags, durations and both ports",
        (
            "access_log json_format with %START_TIME%, %RESPONSE_CODE%, %RESPONSE_FLAGS%, %DURATION%,"
            " %DOWNSTREAM_REMOTE_ADDRESS%, %UPSTREAM_LOCAL_ADDRESS%"
        ),
    ),
    "apache": (
        "Apache logs microseconds, ports and its upstream's connection",
        f"LogFormat {_APACHE} occorr  (and: CustomLog logs/access.log occorr)",
    ),
}
SETTINGS: Final = (
    Setting(
        "no docker events cover",
        "Docker's events are recorded all the time",
        "docker events --format json >> docker.events.jsonl   (from a service that restarts with the host)",
    ),
    Setting(
        "what the service manager says",
        "the journal of the gateway's service is kept whole",
        "journalctl --user -u openclaw-gateway -o short-iso-precise > journal.log   (without --user where it is the system's)",
    ),
    Setting(
        "the gateway's log",
        "the gateway's output is kept",
        "docker logs -t <gateway> > gateway.docker.log 2>&1   (and logging.file in openclaw.json)",
    ),
    Setting("the gateway did not log this close", "the gateway logs every close", _VERBOSE),
    Setting("no line of the gateway ties the proxy's clock", "the gateway logs every connection", _VERBOSE),
    Setting("the proxy's access log", "the proxy's access log is kept", ""),
    Setting("the proxy's clock", "the proxy's stamps are fine enough to be tied to the gateway's", ""),
    Setting(
        "what the client saw",
        "what the client prints is recorded with times",
        "occorr record -o cli.out -- openclaw <command>",
    ),
)


@dataclass(frozen=True, slots=True)
class Advice:
    """A setting and how many closes that are not settled it would have settled."""

    what: str
    line: str
    closes: int


@dataclass(frozen=True, slots=True)
class Step:
    """The first check of a cause: for people, and as a command where there is one."""

    cause: str
    layer: str
    check: str
    command: str
    closes: int


def collect(tables: Tables) -> list[Advice]:
    """The settings that would have settled the most of what is open, each counted over what those before it leave.

    A close that wishes for several things is settled by the first of its wishes at the latest; it counts once.
    """
    proxy = _program(tables, tables.closes) or "nginx"
    open_ = (
        tables.closes.filter(pl.col("verdict").cast(pl.String) != "decisive")
        .select("missing", pl.col("count").fill_null(1))
        .filter(pl.col("missing").list.len() > 0)
    )
    out: list[Advice] = []
    rows = [
        ({i for i, s in enumerate(SETTINGS) if any(str(w).startswith(s.wish) for w in wishes)}, n)
        for wishes, n in open_.rows()
    ]
    while rows and len(out) < MOST:
        counts = [sum(n for wishes, n in rows if i in wishes) for i in range(len(SETTINGS))]
        best = max(range(len(SETTINGS)), key=lambda i: (counts[i], -i))
        if not counts[best]:
            break
        setting = SETTINGS[best]
        what, line = (setting.what, setting.line) if setting.line else PROXIES[proxy]
        out.append(Advice(what, line, counts[best]))
        rows = [(wishes, n) for wishes, n in rows if best not in wishes]
    return out


def steps(tables: Tables) -> list[Step]:
    """The first check of every cause that has an incident: transport first, then credentials, then channels; most closes first."""
    causes = {c.cause: c for c in rules.builtin()}
    counts = (
        tables.closes.filter(pl.col("incident_id").is_not_null())
        .group_by(pl.col("cause").cast(pl.String), pl.col("layer").cast(pl.String))
        .agg(pl.col("count").fill_null(1).sum())
    )
    rows = [
        (LAYERS.index(layer) if layer in LAYERS else len(LAYERS), -n, cause, layer)
        for cause, layer, n in counts.rows()
        if cause in causes
    ]
    return [
        Step(cause, layer or "", *check_of(tables, cause), -n)
        for _, n, cause, layer in sorted(rows, key=lambda r: r[:3])
    ]


def check_of(tables: Tables, cause: str, closes: pl.DataFrame | None = None) -> tuple[str, str]:
    """The first check of a cause and its command, with the names of its closes put in, or of those rows of CLOSES that are given."""
    known = {c.cause: c for c in rules.builtin()}.get(cause)
    if known is None:
        return "", ""
    own = tables.closes.filter(pl.col("cause").cast(pl.String) == cause) if closes is None else closes
    names = _names(tables, own)
    check, command = known.check, known.command
    if known.steps:
        check, command = known.steps.get(_program(tables, own), (check, command))
    return filled(check, names), filled(command, names)


def _program(tables: Tables, closes: pl.DataFrame) -> str:
    """The proxy's program that wrote of these closes, else the one that documents or other logs tell of; empty where none does."""
    logs = tables.timeline.filter(pl.col("source_kind").cast(pl.String) == "proxy").select("event_id", name=program())
    own = tables.evidence.filter(pl.col("close_id").is_in(closes.get_column("close_id").implode()))
    cited = logs.filter(pl.col("event_id").is_in(own.get_column("event_id").drop_nulls().implode()))
    told = pl.concat(
        lines.get_column("name").drop_nulls().mode().sort()
        for lines in (cited, proxies(tables.facts).to_frame("name"), logs)
    )
    return next((name for name in told if name in PROGRAMS), "")


def filled(text: str, names: dict[str, str]) -> str:
    """A check with what is known put in; a name that is not known stays as a word in capitals, which no shell reads as more."""
    return re.sub(r"<(gateway|proxy|network|subnet|peer|port|since)>", lambda m: names.get(m[1]) or m[1].upper(), text)


def _names(tables: Tables, closes: pl.DataFrame) -> dict[str, str]:
    """Names of these closes for commands: containers, network, subnet and address of a proxy that is not trusted, port, time."""
    facts, events = tables.facts, tables.timeline
    project = (
        closes.drop_nulls("compose_project")
        .group_by(pl.col("compose_project").cast(pl.String))
        .agg(pl.col("count").fill_null(1).sum())
        .sort("count", "compose_project", descending=[True, False])
        .get_column("compose_project")
    )
    if project.len():
        others = facts.filter((pl.col("key") == "compose.project") & (pl.col("value") != project[0]))["subject"]
        facts = facts.filter(~pl.col("subject").is_in(others.implode()))
        events = events.filter((pl.col("compose_project").cast(pl.String) == project[0]).fill_null(value=True))

    def of(role: str, key: str) -> str | None:
        subjects = (
            facts.filter((pl.col("key") == "role") & pl.col("value").str.starts_with(role))
            .get_column("subject")
            .to_list()
        )
        found = (
            facts.filter(pl.col("subject").is_in(subjects) & pl.col("key").str.contains(key))
            .get_column("value")
            .to_list()
        )
        return str(found[0]) if found and re.fullmatch(_NAME, str(found[0])) else None

    def named(role: str) -> str | None:
        if documented := of(role, r"^name$"):
            return documented
        seen = events.drop_nulls("container_name").filter(schema.attribute("role") == role)
        names = seen.get_column("container_name").cast(pl.String).mode().sort()
        return next((name for name in names if re.fullmatch(_NAME, name)), None)

    out = {
        "gateway": named("gateway"),
        "proxy": named("proxy"),
        "network": of("gateway", r"^network_mode$"),
    }
    ports = facts.filter(pl.col("key") == "gateway.port").get_column("value").to_list()
    out["port"] = str(ports[0]) if ports and str(ports[0]).isdigit() else GATEWAY_PORT
    first = closes.get_column("timestamp").min()  # the year of stamps without a date is none to ask an engine for
    out["since"] = f"{first:%Y-%m-%dT%H:%M:%SZ}" if isinstance(first, datetime) and first.year > NO_DATE.year else None
    peer = _untrusted(tables)
    out["peer"] = peer
    out["subnet"] = _subnet(tables.facts, peer)
    return {k: v for k, v in out.items() if v}


def _untrusted(tables: Tables) -> str | None:
    """Address of the proxy that the gateway says it does not trust."""
    lines = tables.timeline.filter(pl.col("event_name").cast(pl.String) == "proxy.untrusted")
    if lines.is_empty():
        return None
    for entry in lines.item(0, "attributes"):
        if entry["key"] == "remote_address" and _address(entry["value"]):
            return str(entry["value"])
    return None


def _address(text: Any) -> bool:
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True


def _subnet(facts: pl.DataFrame, peer: str | None) -> str | None:
    """The network that holds an address, as the documents declare it; else the address alone."""
    if peer is None:
        return None
    for text in facts.filter(pl.col("key") == "subnet").get_column("value").to_list():
        try:
            if ipaddress.ip_address(peer) in ipaddress.ip_network(str(text), strict=False):
                return str(text)
        except ValueError:
            continue
    return f"{peer}/{128 if ':' in peer else 32}"
