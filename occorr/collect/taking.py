"""Takes evidence from an engine into a bundle: what it still keeps, and with a duration what happens from now on."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from occorr import __version__, engine as engines, facts
from occorr.collect import files, host, live
from occorr.collect.work import OWN_NETWORKS, Log, Wanted, Work
from occorr.engine import EngineError, EngineLostError
from occorr.errors import OccorrError
from occorr.moments import iso
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from occorr.bundle import Draft
    from occorr.engine import Engine

_AT_ONCE: Final = 4  # logs read at once when nothing is followed


def collect(
    engine: Engine,
    wanted: Wanted,
    draft: Draft,
    *,
    tell: Callable[[str], None],
    interrupted: threading.Event | None = None,
) -> dict[str, Any]:
    """Collects into a draft.

    Args:
        engine: the connection.
        wanted: what to take.
        draft: where to write it.
        tell: is told what is being done, a sentence at a time.
        interrupted: when set, following ends early and what is there is kept.

    Returns:
        what the manifest says of it.

    Raises:
        OccorrError: there is no such project or container.
        EngineError: the engine cannot be had.
    """
    begun = engines.now_ns(engine)
    skew = begun - time.time_ns()
    until = begun + wanted.follow_ns if wanted.follow_ns else min(wanted.until_ns or begun, begun)
    if until <= wanted.since_ns:
        raise OccorrError("--since is not before --until (by the engine's clock); nothing could be in between")
    work = Work(engine, wanted, draft, until)
    _choose(work, tell)
    _past(work, min(begun, until))
    if wanted.follow_ns:
        tell(f"following until {iso(until, 3)}; Ctrl-C ends it and keeps what is there")
        live.follow(work, begun, interrupted or threading.Event())
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(work.read, [ident for ident, reader in work.readers.items() if not reader.gone]))
    for log in work.logs.values():
        for out in log.files.values():
            out.close()
    return _documents(work, begun, skew)


def _choose(work: Work, tell: Callable[[str], None]) -> None:
    """Who belongs to it: those asked for, those that share their network, and proxies on their networks."""
    asked = engines.containers(work.engine, work.wanted.projects, work.wanted.names)
    ids = {c.id for c in asked}
    networks = {n for c in asked for n in c.networks} - OWN_NETWORKS
    for other in engines.containers(work.engine):
        shares = other.shares in ids or any(c.shares == other.id for c in asked)
        if other.id not in ids and (shares or (facts.proxy_kind(other.image) and networks & set(other.networks))):
            work.beside.add(other.id)
            asked.append(other)
    tell(
        f"{len(asked)} container{'s' * (len(asked) != 1)}:"
        f" {', '.join(c.name + ' (beside)' * (c.id in work.beside) for c in asked)}"
    )
    for container in asked:  # all of them before the first line is read: from then on their secrets are known
        work.add(container)
    if work.wanted.files or work.wanted.paths:
        for ident, item in list(work.inspected.items()):
            name = work.logs[ident].container.name
            paths = tuple(p for n, p in work.wanted.paths if n in (name, work.logs[ident].container.service))
            files.take(work.engine, item, work.draft, work.wanted.since_ns, paths, usual=work.wanted.files)
        for name in sorted(
            {n for n, _ in work.wanted.paths}
            - {x for log in work.logs.values() for x in (log.container.name, log.container.service)}
        ):
            raise OccorrError(
                f"--path {name}:…: no such container among those collected:"
                f" {', '.join(log.container.name for log in work.logs.values())}"
            )


def _past(work: Work, until_ns: int) -> None:
    """The events that the engine still keeps, and how far back they reach."""
    with engines.events(work.engine, since_ns=work.wanted.since_ns, until_ns=until_ns) as stream:
        found = list(stream)
    for event in found:
        work.note(event)
    start = host.engine_start_ns(work.engine.address) if work.engine.local else None
    first = min((e.time_ns for e in found), default=until_ns)
    work.covered_from = first
    if len(found) >= engines.KEPT:
        work.draft.lacks(
            "docker events",
            f"the engine keeps only the newest {engines.KEPT}: those before {iso(first, 3)} are gone; collect sooner, or"
            " with --follow",
            asked=False,
        )
    elif start is None:
        work.draft.lacks(
            "docker events",
            f"none before {iso(first, 3)}: either nothing happened before, or the engine was restarted then and forgot it",
            asked=False,
        )
    elif start > work.wanted.since_ns:
        work.covered_from = start
        work.draft.lacks(
            "docker events",
            f"none before {iso(start, 3)}: the engine was started then and knows nothing of what was before",
            asked=False,
        )
    else:
        work.covered_from = work.wanted.since_ns


def _documents(work: Work, begun: int, skew: int) -> dict[str, Any]:
    """Writes everything that is no log, and what the manifest says."""
    engine, draft = work.engine, work.draft
    for ident in list(work.inspected):
        work.look(ident)
    items = sorted(work.inspected.values(), key=lambda i: (str(i.get("Name")), str(i.get("Created"))))
    draft.write_json("docker.inspect.json", items)
    images = _each(draft, "image", sorted({str(i.get("Image")) for i in items}), lambda x: engines.image(engine, x))
    draft.write_json("docker.images.json", images)
    names = sorted(
        {n for i in items for n in (i.get("NetworkSettings") or {}).get("Networks") or {}} - {"none", "host"}
    )
    draft.write_json("docker.networks.json", _each(draft, "network", names, lambda x: engines.network(engine, x)))
    version = engines.about(engine)
    draft.write_json("docker.version.json", version)
    events = sorted((e for e in work.events.values() if e.time_ns <= work.until_ns), key=lambda e: e.time_ns)
    with draft.path("docker.events.jsonl").open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(json.dumps(e.wire, ensure_ascii=False, separators=(",", ":")) + "\n" for e in events)
    lines, why = (
        host.kills(work.wanted.since_ns - skew, work.until_ns - skew)
        if engine.local
        else ([], "the engine runs on another machine; run 'dmesg -T' there")
    )
    if why:
        draft.lacks("kernel log", why, asked=False)
    if lines:
        draft.path("kernel.log").write_text(
            "".join(f"{engine.redactor.text(line)}\n" for line in lines), encoding="utf-8"
        )
    return {
        "occorr": __version__,
        "collected": {
            "at": iso(begun, 3),
            "from": iso(work.wanted.since_ns, 3),
            "to": iso(work.until_ns, 3),
            "followed_s": work.wanted.follow_ns / SECOND,
        },
        "asked": {
            "projects": list(work.wanted.projects),
            "containers": list(work.wanted.names),
            "files": work.wanted.files,
        },
        "engine": {
            "version": engine.version,
            "api_version": engine.api_version,
            "clock_ahead_of_collector_ms": round(skew / 1e6, 1),
            "kernel": version["Info"].get("KernelVersion"),
            "os": version["Info"].get("OperatingSystem"),
        },
        "events": {
            "count": len(events),
            "covered_from": iso(work.covered_from, 3),
            "covered_to": iso(work.until_ns, 3),
        },
        "containers": [
            _row(work, log, images)
            for log in sorted(work.logs.values(), key=lambda x: (x.container.project, x.container.name, x.container.id))
        ],
        "redaction": (
            "environment values, labels, command lines, configuration and log lines hold fingerprints (fp:…) in place"
            " of secrets"
        ),
    }


def _each(draft: Draft, what: str, names: list[str], ask: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    out = []
    for name in names:
        try:
            out.append(ask(name))
        except EngineLostError:
            raise
        except EngineError as error:
            draft.lacks(f"{what} {name}", str(error), asked=False)
    return out


def _row(work: Work, log: Log, images: list[dict[str, Any]]) -> dict[str, Any]:
    """A container in the manifest."""
    container, item = log.container, work.inspected.get(log.container.id, {})
    digests = next((i.get("RepoDigests") or [] for i in images if i.get("Id") == item.get("Image")), [])
    return {
        "id": container.id,
        "name": container.name,
        "project": container.project,
        "service": container.service,
        "image": container.image,
        "image_id": item.get("Image"),
        "image_digests": digests,
        "beside": container.id in work.beside,
        "gone": work.readers[container.id].gone,
        "log_driver": container.log_driver,
        "lines": log.count,
        "first": log.first,
        "last": log.last,
        "paths": sorted(
            p.relative_to(log.draft.place).as_posix()
            for p in [
                *log.draft.place.glob(f"logs/*-{container.id[:12]}.*"),
                *(
                    []
                    if work.readers[container.id].gone
                    else log.draft.place.glob(f"files/{files.safe(container.name)}/*")
                ),
            ]
        ),
    }
