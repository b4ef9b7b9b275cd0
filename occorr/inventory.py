"""What ran where, as documents and the engine's events say it: tokens, versions, health checks, ports, deploys."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from occorr import configs, scrub
from occorr.gates import Gate, Place, by_subject, owner

_TOKEN_ENV: Final = re.compile(r"^env\.(?:OPENCLAW|CLAWDBOT|MOLTBOT)_GATEWAY_(?:TOKEN|PASSWORD)$")
_TOKEN_FILE: Final = re.compile(r"^gateway\.(?:auth|remote)\.(?:token|password)$")
_VERSION: Final = re.compile(r"(?:^|[:@v])(\d{2,4}\.\d+(?:\.\d+)?(?:-[\w.]+)?)$")
_CURRENT: Final = r"update available .*\(current v(\d+\.\d+[\w.-]*)\)"
# Docker's own values where a health check leaves them out, in seconds (retries: a number).
HEALTH_DEFAULTS: Final = {"start_period": 0.0, "interval": 30.0, "timeout": 30.0, "retries": 3.0}
_HEALTH_NAMES: Final = {"startperiod": "start_period"}


@dataclass(frozen=True, slots=True)
class Token:
    """One statement of the gateway's token: who uses it, where it is set, its fingerprint (empty: masked or a reference)."""

    side: str
    source: str
    fingerprint: str
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Version:
    """A version that something says of itself or of another."""

    side: str
    version: str
    source: str
    n: int
    place: Place


@dataclass(frozen=True, slots=True)
class Health:
    """A health check: its settings, Docker's own filled in where it leaves them out; `state` says declared, none or disabled."""

    subject: str
    state: str
    settings: dict[str, float] = field(default_factory=dict)
    stated: frozenset[str] = frozenset()
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a container or service, and what it is published as."""

    owner: str
    port: str
    published: str
    place: Place


@dataclass(frozen=True, slots=True)
class Deploy:
    """One container of a service from its creation to its end: image, digest, hash of the configuration. Times in ns since 1970, null unknown."""

    owner: str
    container_id: str
    image: str
    digest: str
    config_hash: str
    start: int | None
    end: int | None
    place: Place


def tokens(facts: pl.DataFrame, gate: Gate, *, only: bool) -> list[Token]:
    """Every place that says the token of a gateway, and those of its clients.

    Args:
        facts: FACTS, plain.
        gate: the gateway.
        only: whether it is the only one; then documents that name no service speak of it too.
    """
    described = by_subject(facts)
    found = []
    for row in facts.iter_rows(named=True):
        subject, key, value = row["subject"], row["key"] or "", row["value"] or ""
        env, file = _TOKEN_ENV.match(key), _TOKEN_FILE.match(key)
        if not (env or file):
            continue
        if file and not (only or (gate.project and gate.project in (row["log_file_path"] or ""))):
            continue
        project = described[subject].get("compose.project", gate.project)
        if env and subject not in gate.subjects and project != gate.project:
            continue
        side = "gateway" if subject in gate.subjects or key.startswith("gateway.auth.") else "client"
        source = f"environment {key.removeprefix('env.')}" if env else f"{key} in the configuration"
        if side == "client" and env:
            source += f" of {owner(subject, described[subject])}"
        shown = value if value.startswith("fp:") else ""
        found.append(
            Token(
                side,
                source,
                shown,
                shown or ("masked" if scrub.MASKED.fullmatch(value) else value),
                Place(row["log_file_path"] or "", row["log_line"]),
            )
        )
    return found


def versions(timeline: pl.DataFrame, facts: pl.DataFrame, gate: Gate, *, only: bool) -> list[Version]:
    """Versions of the gateway (image, configuration stamp, its own update notice) and of those who connect.

    Args:
        timeline: EVENTS, plain, with `client_version`, `client_mode` and `client_id` beside them.
        facts: FACTS, plain.
        gate: the gateway.
        only: whether it is the only one.
    """
    found: dict[tuple[str, str, str], tuple[int, Place]] = {}

    def add(side: str, version: str, source: str, n: int, place: Place) -> None:
        before, first = found.get((side, version, source), (0, place))
        found[side, version, source] = (before + n, first)

    for row in facts.iter_rows(named=True):
        place = Place(row["log_file_path"] or "", row["log_line"])
        if row["key"] == "image" and row["subject"] in gate.subjects and (tag := _VERSION.search(row["value"] or "")):
            add("gateway", tag[1], "image tag", 1, place)
        elif row["key"] == "meta.lastTouchedVersion" and only:
            add("configuration", row["value"], "meta.lastTouchedVersion", 1, place)
    images = timeline.filter((pl.col("role") == "gateway") & pl.col("container_image_name").is_not_null()).unique(
        "container_image_name", keep="first", maintain_order=True
    )
    for row in images.iter_rows(named=True):
        if (tag := _VERSION.search(row["container_image_name"])) and (only or row["compose_project"] == gate.project):
            add("gateway", tag[1], "image tag", 1, Place(row["log_file_path"] or "", row["log_line"]))
    if only:
        notices = timeline.with_columns(v=pl.col("body").str.extract(_CURRENT, 1)).drop_nulls("v")
        for row in notices.iter_rows(named=True):
            add("gateway", row["v"], "its own update notice", 1, Place(row["log_file_path"] or "", row["log_line"]))
        told = timeline.drop_nulls("client_version").sort("timestamp", "log_file_path", "log_line", nulls_last=True)
        for row in told.iter_rows(named=True):
            side = (
                "CLI"
                if "cli" in (row["client_mode"], row["client_id"])
                else row["client_id"] or row["client_mode"] or "client"
            )
            add(
                side,
                row["client_version"],
                "what it said to the gateway",
                1,
                Place(row["log_file_path"] or "", row["log_line"]),
            )
    order = {"gateway": 0, "configuration": 1, "CLI": 2}
    return [
        Version(s, v, source, n, place)
        for (s, v, source), (n, place) in sorted(found.items(), key=lambda i: (order.get(i[0][0], 3), i[0]))
    ]


def health(facts: pl.DataFrame, gate: Gate) -> list[Health]:
    """The health checks of a gateway's containers and services; one of state `none` where a document shows that there is none."""
    checks = []
    for subject in sorted(gate.subjects):
        own = facts.filter(pl.col("subject") == subject)
        rows = own.filter(pl.col("key").str.starts_with("healthcheck.")).rows(named=True)
        first = own.row(0, named=True)
        place = Place(first["log_file_path"] or "", first["log_line"])
        if not rows:
            checks.append(Health(subject, "none" if subject.startswith("container:") else "not declared", place=place))
            continue
        place = Place(rows[0]["log_file_path"] or "", rows[0]["log_line"])
        said = {_HEALTH_NAMES.get(n, n): r["value"] for r in rows if (n := r["key"].partition(".")[2])}
        if said.get("disable", "").lower() == "true" or said.get("test", "").split(" ")[0] == "NONE":
            checks.append(Health(subject, "disabled", place=place))
            continue
        given = {
            name: value for name in HEALTH_DEFAULTS if name in said and (value := _amount(name, said[name])) is not None
        }
        checks.append(Health(subject, "declared", {**HEALTH_DEFAULTS, **given}, frozenset(given), place))
    return checks


def _amount(name: str, text: str) -> float | None:
    """A setting of a health check: `docker inspect` writes nanoseconds, Compose durations."""
    if name == "retries":
        return float(text) if text.isdigit() else None
    found = configs.seconds(text, 1e-9)
    return None if found is None else round(found, 9)


def ports(facts: pl.DataFrame) -> list[Port]:
    """Which project and service owns which port. A container's own word stands before a Compose file's."""
    described = by_subject(facts)
    found: dict[tuple[str, str, str], Port] = {}
    for row in facts.filter(pl.col("key").str.starts_with("port")).iter_rows(named=True):
        said, key, value = described[row["subject"]], row["key"], row["value"] or ""
        if key.startswith("port."):
            port, published = key.removeprefix("port."), value.removeprefix(":")
        elif key == "ports":
            published, _, port = value.partition("->")
        else:
            continue
        made = Port(
            owner(row["subject"], said),
            port.removesuffix("/tcp"),
            published,
            Place(row["log_file_path"] or "", row["log_line"]),
        )
        # the same port of the same service, once more in the Compose file
        found.setdefault((made.owner, made.port, made.published), made)
    owners = {p.owner for p in found.values() if "/" in p.owner}
    # a Compose file says the same of a service once more, without its project
    repeated = {
        k
        for k, p in found.items()
        if "/" not in p.owner and any((o, p.port, p.published) in found for o in owners if o.endswith(f"/{p.owner}"))
    }
    return sorted((p for k, p in found.items() if k not in repeated), key=lambda p: (p.owner, p.port, p.published))


def deploys(timeline: pl.DataFrame, facts: pl.DataFrame) -> list[Deploy]:
    """Each container of a gateway or a proxy that anything shows, in order of time.

    Args:
        timeline: EVENTS, plain, with `role`, `config_hash` and `image_id` beside them.
        facts: FACTS, plain.
    """
    described = by_subject(facts)
    rows: dict[str, dict[str, Any]] = {}
    engine = timeline.filter(pl.col("container_id").is_not_null() & pl.col("role").is_not_null()).sort(
        "timestamp", "log_line", nulls_last=True
    )
    for event in engine.iter_rows(named=True):
        row = rows.setdefault(
            event["container_id"],
            {
                "owner": "",
                "image": "",
                "digest": "",
                "config_hash": "",
                "start": None,
                "end": None,
                "place": Place(event["log_file_path"] or "", event["log_line"]),
            },
        )
        row["owner"] = row["owner"] or "/".join(
            p for p in (event["compose_project"], event["compose_service"] or event["container_name"]) if p
        )
        row["image"], row["config_hash"], row["digest"] = (
            row["image"] or event["container_image_name"] or "",
            row["config_hash"] or event["config_hash"] or "",
            row["digest"] or event["image_id"] or "",
        )
        if event["event_name"] == "container.create" or (
            event["event_name"] == "container.start" and row["start"] is None
        ):
            row["start"] = event["timestamp"]
        elif event["event_name"] == "container.destroy":
            row["end"] = event["timestamp"]
    places = (
        facts.unique("subject", keep="first", maintain_order=True).select("subject", "log_file_path", "log_line").rows()
    )
    for subject, path, line in places:
        said = described[subject]
        if not subject.startswith("container:") or not said.get("role"):
            continue
        ident = subject.partition(":")[2]
        known = next((i for i in rows if i.startswith(ident) or ident.startswith(i)), ident)
        row = rows.setdefault(
            known,
            {
                "owner": "",
                "image": "",
                "digest": "",
                "config_hash": "",
                "start": None,
                "end": None,
                "place": Place(path or "", line),
            },
        )
        row["owner"] = row["owner"] or owner(subject, said)
        row["image"], row["config_hash"], row["digest"] = (
            row["image"] or said.get("image", ""),
            row["config_hash"] or said.get("compose.config_hash", ""),
            row["digest"] or said.get("image_id", ""),
        )
        if row["start"] is None and (created := said.get("created")):
            row["start"] = _stamp(created)
    made = [
        Deploy(
            row["owner"], ident, row["image"], row["digest"], row["config_hash"], row["start"], row["end"], row["place"]
        )
        for ident, row in rows.items()
    ]
    return sorted(made, key=lambda d: (d.owner, d.start if d.start is not None else -1, d.container_id))


def _stamp(text: str) -> int | None:
    """Nanoseconds of an RFC 3339 stamp in UTC."""
    found = pl.Series([text]).str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="ns", strict=False).dt.epoch("ns")
    return found.item()  # type: ignore[no-any-return]  # polars types an item as any value
