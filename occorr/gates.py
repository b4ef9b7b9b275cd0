"""Which gateways there are, what speaks of each, and whose a line or a document is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from occorr.facts import GATEWAY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from occorr.lives import Lane

_GATEWAY: Final = re.compile(r"(?i)openclaw|clawdbot|moltbot|gateway")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is said: a file and a line."""

    path: str
    line: int | None

    def __str__(self) -> str:
        return self.path if self.line is None else f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Gate:
    """A gateway: its Compose project and service (or the container's name), and the subjects of FACTS that speak of it."""

    project: str
    service: str
    subjects: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """`project/service`, or what of it is known."""
        return "/".join(p for p in (self.project, self.service) if p)


def gates(facts: pl.DataFrame, lanes: Iterable[Lane], closes: pl.DataFrame) -> list[Gate]:
    """All gateways that anything speaks of; one without a name where nothing names any.

    Args:
        facts: FACTS, plain.
        lanes: of `lives.lives`.
        closes: CLOSES, plain.
    """
    known: dict[tuple[str, str], set[str]] = {}
    described = by_subject(facts)
    for subject, said in described.items():
        if subject.startswith("container:") and said.get("role") == "gateway":
            known.setdefault(
                (said.get("compose.project", ""), said.get("compose.service") or said.get("name", "")), set()
            ).add(subject)
    for lane in lanes:
        if lane.gateway:
            known.setdefault((lane.project, lane.name), set())
    if not known:
        for project, service in closes.select("compose_project", "service_name").unique().sort(pl.all()).rows():
            if service:
                known.setdefault((project or "", service), set())
    if any(
        project for project, _ in known
    ):  # lines that name no project made a lane of their own, which no document knows
        known = {key: subjects for key, subjects in known.items() if key[0] or subjects}
    if not known:
        named = [
            s.removeprefix("service:")
            for s, said in described.items()
            if s.startswith("service:") and _is_gateway(s, said)
        ]
        known = {(described[f"service:{name}"].get("compose.project", ""), name): set() for name in named[:1]} or {
            ("", ""): set()
        }
    for (
        subject,
        said,
    ) in described.items():  # a Compose file speaks of the service of that name, in its project where it says so
        if subject.startswith("service:"):
            alike = [
                key
                for key in known
                if key[1] == subject.removeprefix("service:") and said.get("compose.project", key[0]) in (key[0], "")
            ]
            if len(alike) == 1:  # of two projects with a service of that name nothing says which one the file describes
                known[alike[0]].add(subject)
        elif (
            subject.startswith("container:")
            and (key := (said.get("compose.project", ""), said.get("compose.service") or said.get("name", ""))) in known
        ):
            known[key].add(subject)
    return [Gate(project, service, frozenset(subjects)) for (project, service), subjects in sorted(known.items())]


def _is_gateway(subject: str, said: dict[str, str]) -> bool:
    return bool(_GATEWAY.search(subject) or re.search(GATEWAY, said.get("image", ""))) and not re.search(
        r"(?i)cli\b", subject
    )


def by_subject(facts: pl.DataFrame) -> dict[str, dict[str, str]]:
    """Each subject of FACTS with its keys; the first word on a key stands."""
    found: dict[str, dict[str, str]] = {}
    for row in facts.iter_rows(named=True):
        found.setdefault(row["subject"], {}).setdefault(row["key"], row["value"] or "")
    return found


def owner(subject: str, said: dict[str, str]) -> str:
    """`project/service` of a subject of FACTS, as far as it is known."""
    service = said.get("compose.service") or said.get("name") or subject.partition(":")[2][:12]
    return "/".join(p for p in (said.get("compose.project", ""), service) if p)
