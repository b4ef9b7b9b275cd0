"""What is told of the time between two processes of a gateway: when the one ended, and how."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from occorr.episodes.table import CITED
from occorr.schema import MS, SECOND

# the engine's `die` comes up to 0.25 s after the process's end, and a launcher outlives its child
DIE_LAG: Final = 700 * MS
HUNG: Final = 15 * SECOND  # from the trigger of a crash or OOM kill to the death: up to 11 s measured
_FATE: Final = ("gateway.crash", "process.error", "gateway.conflict", "container.oom")
_CHILDS: Final = re.compile(r"(?i)fatal: out of memory|spawn ENOMEM")  # a host without memory fails what it starts
SHORT: Final = 400 * MS
DRAIN: Final = 300 * SECOND  # a process that is to restart itself waits no longer for what is under way
BEFORE: Final = 120 * SECOND  # how long before a stop an unhealthy report or a command still belongs to it
_STORY: Final = (
    "container.health_status",
    "container.oom",
    "container.kill",
    "gateway.signal",
    "gateway.stop",
    "gateway.restart",
    "gateway.crash",
    "process.error",
    "gateway.conflict",
    "container.die",
    "container.destroy",
    "container.create",
    "container.restart",
)


@dataclass(frozen=True, slots=True)
class Gap:
    """What is told of the time between two processes, in order of time."""

    rows: list[dict[str, Any]]

    def without_outlived(self, last: int | None) -> Gap:
        """Without errors, kills of children and requests to restart that the process outlived: it died later, or wrote until `last`."""
        end = min(self.dies, default=last)
        if end is None:
            return self
        asked = [r for r in self.rows if r["event_name"] == "gateway.signal" and "USR" in str(r["signal"]).upper()]
        refused = self.times("gateway.ignored")
        ignored = [
            r["event_id"]
            for r in asked
            if r["t"] < end - DRAIN
            or (
                ";" not in str(r["body"])  # received, and not yet what came of it
                and any(r["t"] <= x <= r["t"] + SECOND for x in refused)
            )
        ]
        return Gap(
            [
                r
                for r in self.rows
                if (r["event_name"] not in _FATE or r["t"] >= end - HUNG) and r["event_id"] not in ignored
            ]
        )

    def times(self, *names: str) -> list[int]:
        """When events of these names were, ns."""
        return [r["t"] for r in self.rows if r["event_name"] in names]

    def signals(self, name: str, *values: str) -> list[int]:
        """When events of this name told one of these signals, without SIG, ns."""
        return [
            r["t"]
            for r in self.rows
            if r["event_name"] == name and str(r["signal"]).upper().removeprefix("SIG") in values
        ]

    @property
    def dies(self) -> list[int]:
        """When the engine told the end of its container's process."""
        return self.times("container.die")

    @property
    def graceful(self) -> list[int]:
        """When a stop was asked for that lets the process end by itself."""
        told = [*self.signals("gateway.signal", "TERM", "INT", "USR1", "USR2"), *self.times("gateway.stop")]
        if told or self.fatal:
            return sorted(told)
        # what shut down cleanly was asked to, also where no line is left that says by whom
        return sorted(r["t"] - r["shutdown_ms"] * MS for r in self.rows if r["shutdown_ms"] is not None)

    @property
    def fatal(self) -> list[int]:
        """When the process said why it could not go on."""
        return [
            r["t"]
            for r in self.rows
            if r["event_name"] in ("gateway.crash", "process.error") and not _CHILDS.search(str(r["body"]))
        ]

    @property
    def cleaned(self) -> list[int]:
        """When the process said that it had let go of its connections or its state."""
        return self.times("gateway.drained", "gateway.shutdown")

    def ended(self, before: int | None, after: int | None, *, covered: bool) -> bool:
        """Whether a process ended in it; `before` and `after` are when those around it began, `covered` whether the engine tells."""
        other = self.times("gateway.shutdown", "container.stop", "container.destroy", "gateway.conflict")
        ends = bool(self.dies or self.graceful or self.fatal or other)
        if not ends and (before is None or after is None):
            return False  # the first boot, or the time after the last line
        if after is None and not (self.dies or self.graceful):
            return False
        # a container's start and the first line that a slow process wrote in it are one process
        return ends or not covered or bool(self.times("gateway.listening", "gateway.ready", "gateway.start"))

    def cut(self, last: int | None, before: int | None, after: int | None) -> tuple[int, int, bool]:
        """From when to when the process ended its connections, ns, and whether it had no time to; `last` is its last line."""
        graceful, dies, fatal, cleaned = self.graceful, self.dies, self.fatal, self.cleaned
        if graceful:
            low = min([x for x in cleaned if x >= graceful[0] - SECOND], default=graceful[0]) - 50 * MS
            limit = [*dies[:1], *(x + 200 * MS for x in cleaned)]
            high = max(limit, default=after if after is not None else low + 2 * SECOND)
        elif dies:
            low, high = max(dies[0] - DIE_LAG, last or 0), dies[0] + 50 * MS
        elif fatal:
            low, high = fatal[0] - SHORT, fatal[-1] + SECOND
        else:
            low, high = last or before or 0, after or 0
        # two clocks that are not known well enough to say which came first; `error` says so, too
        return min(low, high), max(low, high), not graceful

    def sick(self, onset: int) -> bool:
        """Whether the engine's last word on the container's health, before the stop began, was that it was unhealthy."""
        told = [r["health_status"] for r in self.rows if r["health_status"] and r["t"] <= onset]
        return bool(told) and told[-1] == "unhealthy"

    def unhealthy(self, onset: int) -> int:
        """How often the engine called the container unhealthy before the stop began, and did not call it healthy again."""
        count = 0
        for row in self.rows:
            if onset - BEFORE <= row["t"] <= onset and row["health_status"]:
                count = count + 1 if row["health_status"] == "unhealthy" else 0
        return count

    def cited(self) -> list[str]:
        """The events that tell the story of a downtime, the first two of each kind."""
        seen: dict[str, int] = {}
        out = []
        for row in self.rows:
            name = row["event_name"]
            seen[name] = seen.get(name, 0) + 1
            if name in _STORY and seen[name] <= 2:
                out.append(row["event_id"])
        return out[:CITED]
