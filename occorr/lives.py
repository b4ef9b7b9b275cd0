"""Container lives from the engine's and the gateway's own lines: when each was up, starting, unhealthy or down."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import schema
from occorr.episodes.proxies import RELOADS

if TYPE_CHECKING:
    from collections.abc import Iterable

_GATEWAY: Final = re.compile(r"(?i)gateway|openclaw")
_SIDECAR: Final = re.compile(r"(?i)nginx|haproxy|caddy|traefik|envoy|proxy|cli\b")
_BEGINS: Final = {"start", "unpause"}
_ENDS: Final = {"die", "destroy"}
_SIGNS: Final = {
    "gateway.start",
    "gateway.listening",
    "gateway.ready",
    "gateway.shutdown",
    "gateway.restart",
    "gateway.crash",
    "gateway.conflict",
    "gateway.signal",
    "proxy.reload",
    "proxy.worker",
    "proxy.start",
    "proxy.stop",
}
_RELOAD: Final = (  # what reloads a proxy, as a command in its container says it
    r"(?i)\breload\b|-s (?:reload|quit)|\bgraceful\b|\bHUP\b|\bUSR[12]\b"
)
_GRACE: Final = 12_000_000_000  # ns; as long as old workers of a reload usually live on at most
_LOUD: Final = {"OOM", "deploy", "killed", "crash", "unhealthy", "conflict", "reload"}


@dataclass(frozen=True, slots=True)
class Span:
    """One state of a container; times are ns since 1970, null where the data begins or ends first."""

    state: str
    start: int | None
    end: int | None


@dataclass(slots=True)
class Lane:
    """The life of one service's containers, one after the other."""

    project: str
    name: str
    gateway: bool
    spans: list[Span] = field(default_factory=list)
    labels: list[tuple[int, str, bool]] = field(default_factory=list)
    overlays: list[Span] = field(default_factory=list)  # what happened while the container was up, as a proxy's reload

    @property
    def label(self) -> str:
        """`project/service`, or what of it is known."""
        return "/".join(p for p in (self.project, self.name) if p)

    def not_ready(self) -> list[tuple[int, int | None]]:
        """The intervals without a ready gateway, neighbours joined."""
        joined: list[tuple[int, int | None]] = []
        for span in self.spans:
            if span.state not in {"down", "starting", "paused"} or span.start is None:
                continue
            if joined and joined[-1][1] == span.start:
                joined[-1] = (joined[-1][0], span.end)
            else:
                joined.append((span.start, span.end))
        return joined


@dataclass(slots=True)
class _Life:
    """A lane while it is read: the state that holds, and since when."""

    lane: Lane
    state: str | None = None
    since: int | None = None
    container: str | None = None
    heard: bool = False  # whether anything ever said that it is ready
    probed: bool = False  # whether it is up since a health check found it healthy while it started

    def turn(self, state: str | None, at: int) -> None:
        if state == self.state:
            return
        if self.state is not None and (self.since is None or at > self.since):
            self.lane.spans.append(Span(self.state, self.since, at))
        self.state, self.since, self.probed = state, at, False

    def was_not_ready(self, until: int) -> None:
        """A check that only looks for the process passes long before the gateway itself says that it is ready."""
        if self.probed and self.state == "up" and self.lane.spans:
            last = self.lane.spans[-1]
            self.lane.spans[-1], self.since, self.probed = Span(last.state, last.start, until), until, False

    def say(self, at: int, text: str) -> None:
        self.lane.labels.append((at, text, text.split(maxsplit=1)[0] in _LOUD))


def of(closes: pl.DataFrame, timeline: pl.DataFrame, facts: pl.DataFrame) -> tuple[list[Lane], str]:
    """Lanes of all containers, and the project that lines without one belong to: the closes' own, else the only one there is, else none.

    Args:
        closes: CLOSES as `schema.plain` gives it.
        timeline: EVENTS, likewise.
        facts: FACTS, likewise.
    """
    served = closes.select("compose_project", "service_name").unique().drop_nulls("service_name").rows()
    stated = facts.filter((pl.col("key") == "role") & (pl.col("value") == "gateway"))["subject"].implode()
    own = facts.filter(pl.col("subject").is_in(stated) & pl.col("key").is_in(["compose.project", "compose.service"]))
    documented = own.group_by("subject").agg(
        pl.col("value").filter(pl.col("key") == f"compose.{name}").first().alias(name)
        for name in ("project", "service")
    )
    gated = [*closes["compose_project"].drop_nulls(), *documented["project"].drop_nulls()]
    named = [*timeline["compose_project"].drop_nulls().unique(), *gated]
    project = next((one.pop() for one in (set(gated), set(named)) if len(one) == 1), "")
    gateways = {(p or project, s) for p, s in [*served, *documented.select("project", "service").drop_nulls().rows()]}
    return lives(timeline, gateways, project), project


def lives(timeline: pl.DataFrame, gateways: Iterable[tuple[str, str]], project_of: str) -> list[Lane]:
    """Lanes of all containers, gateways first.

    Args:
        timeline: EVENTS as `tables.plain` gives it.
        gateways: (project, service) of what the closes call their gateway.
        project_of: the project of lines that name none.
    """
    known = set(gateways)
    all_lives: dict[tuple[str, str], _Life] = {}
    by_id: dict[str, _Life] = {}
    rows = (
        timeline.filter(
            pl.col("timestamp").is_not_null()
            & (pl.col("container_action").is_not_null() | pl.col("event_name").is_in(sorted(_SIGNS)))
            & ~(
                pl.col("container_action").str.starts_with("exec")
                & ~pl.col("body").str.contains(_RELOAD).fill_null(value=False)
            ).fill_null(value=False)
        )
        .sort("timestamp", "event_id", maintain_order=True)
        .select(
            "timestamp",
            "source_kind",
            "event_name",
            "container_action",
            "container_exit_code",
            "container_id",
            "container_name",
            "container_image_name",
            "compose_project",
            "compose_service",
            "service_name",
            "attributes",
            "time_resolution_ns",
        )
    )
    known_roles = dict(
        timeline.select("container_id", role=schema.attribute("role"))
        .drop_nulls()
        .unique("container_id", keep="first", maintain_order=True)
        .rows()
    )
    told = "gateway" in known_roles.values()
    several = timeline.select((schema.attribute("instance") != "").any()).to_series().any()
    for row in rows.iter_rows(named=True):
        project = row["compose_project"] or project_of
        service = (
            row["compose_service"] or row["service_name"] or row["container_name"] or (row["container_id"] or "")[:12]
        )
        if row["container_action"] is None and str(row["event_name"]).startswith("proxy."):
            _hear_proxy(all_lives, project, row)
            continue
        if row["container_action"] is None:
            if _instance(row) or not several:  # of several gateways, nothing says whose such a line is
                _hear(all_lives, known, project, row)
            continue
        # A network's event names the container by its id alone.
        life = (
            by_id.get(row["container_id"])
            if str(row["event_name"]).startswith("network.")
            else all_lives.get((project, service))
        )
        if not service or (life is None and str(row["event_name"]).startswith("network.")):
            continue
        if life is None:
            what = f"{service} {row['container_image_name'] or ''}"
            named = (project, service) in known or bool(_GATEWAY.search(what) and not _SIDECAR.search(what))
            gateway = known_roles.get(row["container_id"]) == "gateway" if told else named  # a name is only a guess
            life = all_lives[(project, service)] = _Life(Lane(project, service, gateway))
        if row["container_id"]:
            by_id[row["container_id"]] = life
        _see(life, row)
    return sorted(
        (lane for lane in map(_finish, all_lives.values()) if lane.spans),
        key=lambda lane: (lane.project, not lane.gateway, lane.name),
    )


def _see(life: _Life, row: dict[str, Any]) -> None:
    """One event of the engine."""
    action, at = str(row["container_action"]), int(row["timestamp"])
    attributes = {a["key"]: a["value"] for a in row["attributes"] or ()}
    health = attributes.get("health_status") or (
        action.rpartition(":")[2].strip() if action.startswith("health_status") else ""
    )
    if action.startswith("exec_create") or (action == "kill" and attributes.get("signal") in RELOADS):
        if not life.lane.gateway:
            _reload(life, at)
        return
    if action == "create" and life.container not in {None, row["container_id"]}:
        life.say(at, "deploy")
    if action in _BEGINS:
        life.turn("starting" if life.lane.gateway and action == "start" else "up", at)
        life.container = row["container_id"]
    elif action in _ENDS:
        if life.state is None and life.since is None and action == "die":
            life.state = "up"
        if action == "die":
            life.turn("down", at)
            exit_code = row["container_exit_code"]
            if not any(text == "OOM" and 0 <= at - t < 60e9 for t, text, _ in life.lane.labels[-2:]):
                life.say(at, "down" if exit_code is None else f"exit {exit_code}")
    elif action == "oom":
        if life.state is None and life.since is None:
            life.state = "up"
        life.say(at, "OOM")
    elif action == "disconnect" and life.state in {"up", "unhealthy"}:
        life.turn("cut off", at)
        life.say(at, "network off")
    elif action == "connect" and life.state == "cut off":
        life.turn("up", at)
        life.say(at, "network on")
    elif action == "pause":
        life.turn("paused", at)
        life.say(at, "paused")
    elif health in {"healthy", "unhealthy"}:
        life.heard, early = True, life.state == "starting" and health == "healthy"
        life.turn("up" if health == "healthy" else "unhealthy", at)
        life.probed = early
        if health == "unhealthy":
            life.say(at, "unhealthy")


def _reload(life: _Life, at: int) -> None:
    """A proxy takes new settings and lets old workers go; several lines and signals may tell of one reload."""
    if life.lane.overlays and at - (life.lane.overlays[-1].end or 0) < 3_000_000_000:
        return
    life.lane.overlays.append(Span("reload", at, at))
    life.say(at, "reload")


def _hear_proxy(all_lives: dict[tuple[str, str], _Life], project: str, row: dict[str, Any]) -> None:
    """One line of a proxy about itself; it belongs to its project's only proxy, or to the service it names."""
    service = row["compose_service"] or row["service_name"]
    own = [
        life
        for (of, _), life in all_lives.items()
        if of == project and not life.lane.gateway and (life.lane.name == service or _SIDECAR.search(life.lane.name))
    ]
    named = [life for life in own if life.lane.name == service]
    if not own:
        life = all_lives[(project, service or "proxy")] = _Life(Lane(project, service or "proxy", gateway=False))
        life.state = "up"
    elif len(own) == 1 or named:
        life = (named or own)[0]
    else:
        return  # several proxies and no name
    at, name = int(row["timestamp"]), row["event_name"]
    if name == "proxy.reload":
        _reload(life, at)
    elif name == "proxy.worker":
        last = life.lane.overlays[-1] if life.lane.overlays else None
        if last and last.start is not None and 0 <= at - last.start <= _GRACE:
            life.lane.overlays[-1] = Span(
                "reload", last.start, max(at + (row["time_resolution_ns"] or 0), last.end or at)
            )
    elif name == "proxy.start":
        life.turn("up", at)
    elif life.state == "up":
        life.turn("down", at)


def _instance(row: dict[str, Any]) -> str:
    """Of several gateways the one whose line it is, as far as anything tells it."""
    return next((a["value"] for a in row["attributes"] or () if a["key"] == "instance"), "") or ""


def _hear(
    all_lives: dict[tuple[str, str], _Life], known: set[tuple[str, str]], project: str, row: dict[str, Any]
) -> None:
    """One line of a gateway about itself; it belongs to its project's only gateway, or to the service it names."""
    instance = _instance(row)
    project, service = (
        instance.split("/", 1)
        if "/" in instance
        else (project, row["compose_service"] or row["service_name"] or instance)
    )
    own = [life for (of, _), life in all_lives.items() if of == project and life.lane.gateway]
    named = [life for life in own if life.lane.name == service]
    if not own or (instance and not named):
        name = service or next((s for p, s in sorted(known) if p == project), "gateway")
        life = all_lives[(project, name)] = _Life(Lane(project, name, gateway=True))
    elif len(own) == 1 or named:
        life = (named or own)[0]
    else:
        return  # several gateways and no name: no lane can claim the line
    at, name = int(row["timestamp"]), row["event_name"]
    if name in {"gateway.ready", "gateway.listening"}:
        # Listening is not ready: only where no line says ready does it count.
        if name == "gateway.ready" or not life.heard:
            life.turn("up", at)
        if name == "gateway.ready":
            life.was_not_ready(at)
            life.heard = True
            life.say(at, "ready")
    elif name == "gateway.start":
        life.turn("starting", at)
    elif name in {"gateway.shutdown", "gateway.restart", "gateway.crash", "gateway.conflict"} or (
        name == "gateway.signal" and {"key": "signal", "value": "SIGTERM"} in (row["attributes"] or ())
    ):
        if life.state is None and life.since is None:
            life.state = "up"
        if life.state in {"up", "unhealthy"}:
            life.turn("down", at)
        if name not in {"gateway.shutdown", "gateway.signal"}:
            life.say(at, name.split(".")[1])


def _finish(life: _Life) -> Lane:
    """Closes the last span; a container that nothing ever called ready counts as up from its start."""
    if life.state is not None:
        life.lane.spans.append(Span(life.state, life.since, None))
    if not life.heard and not any(s.state == "up" for s in life.lane.spans):
        life.lane.spans = [Span("up", s.start, s.end) if s.state == "starting" else s for s in life.lane.spans]
    return life.lane
