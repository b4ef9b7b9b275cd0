"""Figures of how a gateway is set up: health check, versions, how long its logs are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from occorr import inventory
from occorr.figures.seen import Figure, Seen, measured, places
from occorr.schema import SECOND

if TYPE_CHECKING:
    from occorr.gates import Gate


def health_check(seen: Seen, gate: Gate) -> list[Figure]:
    """The health check's settings, as they are declared."""
    checks = inventory.health(seen.facts, gate)
    declared = next((c for c in checks if c.state == "declared"), None)
    names = {"health_start_period": "start_period", "health_interval": "interval", "health_retries": "retries"}
    if declared is None:
        states = {c.state for c in checks}
        why = (
            "the health check is switched off"
            if "disabled" in states
            else (
                "the gateway's container has no health check"
                if "none" in states
                else (
                    "the Compose file declares none; the image may: docker inspect shows it"
                    if states
                    else "neither docker inspect of the gateway nor its Compose file was read"
                )
            )
        )
        return [measured(name, None, 0, gate, why, [c.place for c in checks if c.place]) for name in names]
    return [
        measured(
            name,
            declared.settings[key],
            1,
            gate,
            f"of {declared.subject[:24]}" + ("" if key in declared.stated else "; not set, so Docker's own value"),
            [declared.place] if declared.place else [],
        )
        for name, key in names.items()
    ]


def versions(seen: Seen, gate: Gate) -> list[Figure]:
    """Different versions of gateway and CLI, and whether the configuration was written by the version that runs."""
    found = inventory.versions(seen.timeline, seen.facts, gate, only=seen.only)
    gateway, cli = ({v.version for v in found if v.side == side} for side in ("gateway", "CLI"))
    stamps = [v for v in found if v.side == "configuration"]
    said = "; ".join(f"{v.side} {v.version} ({v.source})" for v in found if v.side in ("gateway", "CLI"))
    both = bool(gateway and cli)
    lacks = (
        "the gateway's version is not known: docker inspect or an image with a version tag"
        if not gateway
        else "no CLI told its version in what was logged"
    )
    made = [
        measured(
            "versions",
            len(gateway | cli) if both else None,
            sum(v.n for v in found if v.side in ("gateway", "CLI")),
            gate,
            said if both else f"{lacks}{'; ' + said if said else ''}",
            [v.place for v in found if v.side in ("gateway", "CLI")],
        )
    ]
    if stamps and gateway:
        other = [s for s in stamps if s.version not in gateway]
        return [
            *made,
            measured(
                "config_stamp",
                len(other),
                len(stamps),
                gate,
                f"stamp {', '.join(s.version for s in stamps)}, image {', '.join(sorted(gateway))}",
                [s.place for s in stamps],
            ),
        ]
    return [
        *made,
        measured(
            "config_stamp",
            None,
            len(stamps),
            gate,
            (
                "openclaw.json with its meta.lastTouchedVersion was not read"
                if not stamps
                else "the image's version is not known"
            ),
        ),
    ]


def coverage(seen: Seen) -> list[Figure]:
    """How many days the gateway's logs reach back."""
    own = seen.timeline.filter((pl.col("source_kind") == "gateway") & pl.col("timestamp").is_not_null()).sort(
        "timestamp"
    )
    if own.is_empty():
        return [measured("log_days", None, 0, None, "no gateway log with a time was read")]
    first, last = own.item(0, "timestamp"), own.item(-1, "timestamp")
    created: list[Any] = [
        d.start
        for d in inventory.deploys(seen.timeline, seen.facts)
        if d.start is not None and any(g.label == d.owner for g in seen.gates)
    ]
    # Logs that begin later than the container did were thrown away or not collected; else they may reach as far back as
    # there was anything to log.
    lost = bool(created) and min(created) < first - 3600 * SECOND
    note = (
        "the container is older than its first line"
        if lost
        else (
            "how long logs are kept cannot be seen from logs that begin with their container"
            if created
            else "how long logs are kept cannot be seen without docker inspect"
        )
    )
    return [
        measured(
            "log_days",
            (last - first) / SECOND / 86400,
            own.height,
            None,
            note,
            places(pl.concat([own.head(1), own.tail(1)])),
            floor=not lost,
        )
    ]
