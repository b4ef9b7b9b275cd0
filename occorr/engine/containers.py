"""Who is there: containers, what inspect says of them, their images, networks and files, and the engine itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from occorr import scrub
from occorr.engine import connection
from occorr.engine.connection import Engine, Stream
from occorr.engine.stamps import stamp_ns
from occorr.errors import OccorrError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ID: Final = re.compile(r"[0-9a-f]{12,64}")


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine lists it; `service` and `project` are Compose's, or empty.

    `shares` is the id of the container whose network it uses (`network_mode: service:X`), or empty.
    """

    id: str
    name: str
    image: str
    state: str
    project: str = ""
    service: str = ""
    tty: bool = False
    log_driver: str = ""
    shares: str = ""
    networks: tuple[str, ...] = ()


def containers(
    engine: Engine, projects: Sequence[str] = (), names: Sequence[str] = (), *, missing: str = "raise"
) -> list[Container]:
    """The containers of Compose projects and those with these names or ids, stopped ones too, in a stable order.

    Args:
        engine: the connection.
        projects: names of Compose projects.
        names: containers' names or (short) ids. Without projects and names: all containers.
        missing: `raise` or `ignore` projects and names that are not there.

    Raises:
        OccorrError: there is no such project or container; the message names the nearest.
    """
    listed = [_listed(row) for row in connection.answer(engine, "/containers/json", all=1)]
    if not projects and not names:
        return sorted(listed, key=_order)
    chosen = {c.id: c for c in listed if c.project and c.project in projects}
    known = sorted({c.project for c in listed if c.project})
    for project in projects:
        if missing == "raise" and project not in known:
            hint = nearest(project, known) if known else "no container here belongs to one"
            raise OccorrError(f"--project {project}: the engine has no container of this Compose project; {hint}")
    for name in names:
        found = [
            c
            for c in listed
            if c.name == name.lstrip("/") or c.id == name or (_ID.fullmatch(name) and c.id.startswith(name))
        ]
        if not found and missing == "raise":
            hint = nearest(name, [c.name for c in listed]) if listed else "it has none at all"
            raise OccorrError(f"--container {name}: the engine has no such container; {hint}")
        chosen |= {c.id: c for c in found}
    return sorted(chosen.values(), key=_order)


def _order(container: Container) -> tuple[str, str, str]:
    return container.project, container.name, container.id


def _listed(row: Mapping[str, Any]) -> Container:
    found = row.get("Labels") or {}
    mode = str((row.get("HostConfig") or {}).get("NetworkMode", ""))
    return Container(
        id=str(row["Id"]),
        name=_name(row.get("Names") or []),
        image=str(row.get("Image", "")),
        state=str(row.get("State", "")),
        project=str(found.get("com.docker.compose.project", "")),
        service=str(found.get("com.docker.compose.service", "")),
        shares=_shared(mode),
        networks=tuple(sorted((row.get("NetworkSettings") or {}).get("Networks") or {})),
    )


def _name(names: Sequence[str]) -> str:
    """A container's own name; links give it more, with two slashes."""
    own = sorted(n.lstrip("/") for n in names if n.count("/") == 1)
    return own[0] if own else str(names[0]).lstrip("/") if names else ""


def inspect(engine: Engine, container_id: str) -> dict[str, Any]:
    """`docker inspect` of one container without secrets: environment values, labels and command lines are fingerprints.

    The redactor learns the container's secrets, so that they are also found in log lines read from now on.

    Raises:
        EngineError: the container is gone (`… No such container …`), or the engine is.
    """
    raw = connection.answer(engine, f"/containers/{container_id}/json")
    engine.redactor.learn(scrub.secrets(raw))
    return scrub.inspected(raw, engine.redactor)


def detailed(container: Container, inspected: Mapping[str, Any]) -> Container:
    """The container with what only `inspect` knows: terminal and log driver."""
    config, host = inspected.get("Config") or {}, inspected.get("HostConfig") or {}
    return Container(
        container.id,
        str(inspected.get("Name", container.name)).lstrip("/"),
        str(config.get("Image", container.image)),
        str((inspected.get("State") or {}).get("Status", container.state)),
        container.project,
        container.service,
        bool(config.get("Tty")),
        str((host.get("LogConfig") or {}).get("Type", "")),
        container.shares,
        container.networks,
    )


def from_inspect(inspected: Mapping[str, Any]) -> Container:
    """A container from what `inspect` gives alone."""
    config, host = inspected.get("Config") or {}, inspected.get("HostConfig") or {}
    labels = config.get("Labels") or {}
    bare = Container(
        id=str(inspected.get("Id", "")),
        name="",
        image="",
        state="",
        project=str(labels.get("com.docker.compose.project", "")),
        service=str(labels.get("com.docker.compose.service", "")),
        shares=_shared(str(host.get("NetworkMode", ""))),
        networks=tuple((inspected.get("NetworkSettings") or {}).get("Networks") or {}),
    )
    return detailed(bare, inspected)


def _shared(mode: str) -> str:
    """The container whose network it is, of a network mode; else empty."""
    return mode.removeprefix("container:") if mode.startswith("container:") else ""


def image(engine: Engine, image_id: str) -> dict[str, Any]:
    """`docker image inspect`: digests, tags and versions, without secrets."""
    return scrub.inspected(connection.answer(engine, f"/images/{image_id}/json"), engine.redactor)


def network(engine: Engine, name: str) -> dict[str, Any]:
    """`docker network inspect`: subnets and who is on it, without secrets."""
    return scrub.inspected(connection.answer(engine, f"/networks/{name}"), engine.redactor)


def about(engine: Engine) -> dict[str, Any]:
    """`docker version` of the server, and what `docker info` says of kernel, log driver, storage and start-up."""
    info = connection.answer(engine, "/info")
    kept = (
        "Name",
        "ServerVersion",
        "KernelVersion",
        "OperatingSystem",
        "OSType",
        "Architecture",
        "NCPU",
        "MemTotal",
        "LoggingDriver",
        "CgroupDriver",
        "CgroupVersion",
        "LiveRestoreEnabled",
        "SystemTime",
        "Warnings",
    )
    return scrub.inspected(
        {
            "Server": connection.answer(engine, "/version"),
            "Info": {k: info[k] for k in kept if k in info},
            "ApiVersion": engine.api_version,
        },
        engine.redactor,
    )


def now_ns(engine: Engine) -> int:
    """The engine's own time, nanoseconds since 1970: `until` and `since` are of its clock, not of this machine's."""
    return stamp_ns(str(connection.answer(engine, "/info").get("SystemTime", "")))


def archive(engine: Engine, container_id: str, path: str) -> Stream[bytes]:
    """A file or folder of a container, running or not, as the pieces of a tar archive, whose secrets are still in it.

    Raises:
        EngineError: there is no such path, or the container is gone.
    """
    response = connection.request(engine, f"/containers/{container_id}/archive", stream=True, path=path)
    return Stream(response, (chunk for chunk in connection.chunks(response)))
