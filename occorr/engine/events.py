"""What happened: the events that the engine keeps and those that come, as its API tells them.

Only Type, Action, Actor and timeNano are read: status, id and from are missing on networks and volumes, and gone in
API 1.52.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from occorr import scrub
from occorr.engine import connection
from occorr.engine.connection import Stream
from occorr.engine.containers import now_ns
from occorr.engine.stamps import seconds
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import requests

    from occorr.engine.connection import Engine
    from occorr.redact import Redactor

KEPT: Final = 256  # past events that an engine keeps in memory; none over its own restart


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, as the engine tells it.

    Attributes:
        time_ns: the engine's stamp, nanoseconds since 1970.
        kind: container, network, volume, image, daemon, …
        action: `die`, `health_status: unhealthy`, `exec_create: …`, …
        container_id: the container that it is about, also for networks and volumes; else empty.
        attributes: exitCode, signal, name, image, labels …
        wire: the whole, in the form that `docker events --format json` prints.
    """

    time_ns: int
    kind: str
    action: str
    container_id: str
    attributes: Mapping[str, str]
    wire: Mapping[str, Any]

    @property
    def project(self) -> str:
        """The Compose project, or an empty string."""
        return self.attributes.get("com.docker.compose.project", "")


def events(engine: Engine, *, since_ns: int, until_ns: int | None = None) -> Stream[Event]:
    """What happened from a moment on, the kept past first, then live; to `until_ns`, or without end.

    The engine keeps the newest 256 events and forgets them when it restarts: where exactly 256 come before now, earlier
    ones may be missing. The order is the engine's; it differs by version (stop before or after die).

    Args:
        engine: the connection.
        since_ns: the first moment, nanoseconds since 1970, of the engine's clock.
        until_ns: the last one; one that has passed gives the past only.

    Raises:
        EngineLostError: while reading, when the stream ends before `until_ns`: the engine was stopped or died.
    """
    response = connection.request(
        engine, "/events", stream=True, idle=True, since=seconds(since_ns), until=seconds(until_ns)
    )
    return Stream(response, _events(response, engine, until_ns))


def _events(response: requests.Response, engine: Engine, until_ns: int | None) -> Generator[Event]:
    held = b""
    for chunk in connection.chunks(response):
        *whole, held = (held + chunk).split(b"\n")
        for line in whole:
            if line.strip(b"\x1e\r "):
                yield parse_event(json.loads(line.strip(b"\x1e\r ")), engine.redactor)
    if held.strip():
        yield parse_event(json.loads(held), engine.redactor)
    if until_ns is None or now_ns(engine) < until_ns:
        raise ConnectionResetError("the stream of events ended")


def parse_event(wire: Mapping[str, Any], redactor: Redactor) -> Event:
    """An event of the wire, without secrets."""
    clean = scrub.event(wire, redactor)
    actor = clean.get("Actor") or {}
    attributes = {str(k): str(v) for k, v in (actor.get("Attributes") or {}).items()}
    kind = str(clean.get("Type", ""))
    ident = str(actor.get("ID", "")) if kind == "container" else attributes.get("container", "")
    time_ns = int(clean.get("timeNano") or int(clean.get("time") or 0) * SECOND)
    return Event(time_ns, kind, str(clean.get("Action", "")), ident, attributes, clean)
