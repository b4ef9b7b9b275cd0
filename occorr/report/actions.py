"""What to do next, and what to collect for the next time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import advice
from occorr.report import words
from occorr.report.said import Said, say, told

if TYPE_CHECKING:
    from occorr.figures import Seen
    from occorr.policy import Judgement
    from occorr.report.digest import Digest, Incident
    from occorr.report.review import Answer
    from occorr.schema import Tables

_PHASES: Final = {
    "restart": 0,
    "overload": 1,
    "network": 1,
    "unreachable": 1,
    "timeout": 2,
    "protocol": 3,
    "auth": 4,
    "unknown": 5,
}
_HEALTH: Final = {"health_start_period", "health_interval", "health_retries"}


def actions(d: Digest, tables: Tables, judged: list[Judgement], wanted: list[Said]) -> list[Said]:
    """What to do next, in order: the network, what restarts the gateway, other transport causes, auth, thresholds, then what to collect."""
    steps: list[tuple[tuple[int, int], Said]] = []
    failed = [j for j in judged if j.status == "fail"]
    for j in failed:
        phase = (
            -1
            if j.figure.id == "tcp_connect"
            else 0
            if j.figure.id in _HEALTH
            else 4
            if j.figure.id.startswith("token_")
            else 6
        )
        if j.figure.id in _HEALTH and any(
            f.figure.id in _HEALTH and f.figure.scope == j.figure.scope for f in failed[: failed.index(j)]
        ):
            continue
        steps.append(
            (
                (phase, 100),
                say(
                    f"{j.figure.title}{' ({})' if j.figure.scope else ''}:"
                    f" {words.amount(j.figure.value, j.figure.unit)}, the limit is {j.limit}; {{}}.",
                    *([j.figure.scope] if j.figure.scope else []),
                    told(j.reason.rstrip(".")),
                ),
            )
        )
    by_cause: dict[str, list[Incident]] = {}
    for incident in d.incidents:
        by_cause.setdefault(incident.cause, []).append(incident)
    for cause, own in by_cause.items():
        numbers = ", ".join(str(i.number) for i in own[:6]) + (" …" if len(own) > 6 else "")
        which = f"incident{'s' if len(own) > 1 else ''} {numbers}"
        closes = tables.closes.filter(pl.col("incident_id").is_in([i.incident_id for i in own]))
        check, command = advice.check_of(tables, cause, closes)
        if check and own[0].family != "unknown":
            steps.append(
                (
                    (_PHASES.get(own[0].family, 5), own[0].number),
                    say(
                        f"{words.title(cause)} ({which}):"
                        f" {{}}{'' if check.endswith('?') else '.'}{' {}' if command else ''}",
                        told(check.rstrip(".")),
                        *([command] if command else []),
                    ),
                )
            )
    ordered = [text for _, text in sorted(steps, key=lambda s: s[0])]
    unknown = sum(i.closes for i in d.incidents if i.family == "unknown")
    if unknown:
        ordered.append(
            say(
                f"{words.count(unknown, 'close')} {'has' if unknown == 1 else 'have'} no known cause: collect what is"
                " missing before guessing."
            )
        )
    if wanted:
        ordered.append(
            say("Before the next time, see to it that what is missing is kept; the most useful first: {}", wanted[0])
        )
    return ordered or [say("Nothing to do: all closes were ordinary and no threshold is broken.")]


def wanted(d: Digest, tables: Tables, seen: Seen, answers: list[Answer]) -> list[Said]:
    """What to collect next time: sources that were not there, then what single closes lack."""
    kinds = set(seen.timeline["source_kind"].drop_nulls().unique())
    formats = {str(f) for f in seen.sources["format"].drop_nulls()}
    names = set(seen.timeline["event_name"].drop_nulls().unique())
    proxied = "proxy" in kinds or any(
        str(v).startswith("proxy") for v in seen.facts.filter(pl.col("key") == "role")["value"]
    )
    died = any(i.cause in {"restart.oom", "restart.killed", "restart.crash"} for i in d.incidents)
    sources = [
        (
            not any(f.startswith("openclaw/file") for f in formats),
            (
                "the gateway's file log (/tmp/openclaw/openclaw-*.log, on a volume): it survives the container and"
                " names causes"
            ),
        ),
        ("gateway" not in kinds, "the gateway's output: docker logs -t GATEWAY"),
        (
            "docker" not in kinds,
            (
                "the engine's events, taken early, since it keeps only 256: docker events --format json --since 2h"
                " --until 0s"
            ),
        ),
        (
            proxied and "http.access" not in names,
            "the proxy's access log with request time, upstream status and client port",
        ),
        (proxied and "proxy.error" not in names, "the proxy's error log"),
        (
            "docker inspect" not in formats,
            "docker inspect of gateway and proxy: image digests, health checks, ports, token fingerprints",
        ),
        ("openclaw.json" not in formats, "openclaw.json: where the token is set, bind, trusted proxies"),
        ("cli" not in kinds, "what the CLI printed, with times: occorr record -- openclaw …"),
        (died and "kernel" not in kinds, "the kernel's log of the same minutes: journalctl -k, or dmesg -T"),
    ]
    absent = [say("{}", told(text)) for lacks, text in sources if lacks]
    single = [
        say(f"{{}}: {{}} (would have settled {words.count(a.closes, 'close')})", told(a.what), a.line)
        for a in advice.collect(tables)
    ]
    asked = [
        say(f"{{}} (for: {a.question[0].lower()}{a.question[1:].rstrip('?')})", told(a.missing))
        for a in answers
        if a.missing and a.answer
    ]
    return [*single, *absent, *asked]
