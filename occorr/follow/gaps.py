"""What inspect still knows of a time without events: starts and deaths, exit codes, out of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from occorr.engine import stamp_ns
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

RECONCILED: Final = "reconciled"  # the scope of an event that nobody told
_SIGNALLED: Final = (0, 137, 143)  # exit codes behind which a signal may stand
_NEVER: Final = "0001-01-01T00:00:00Z"  # inspect's word for it


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of a container's starts and deaths, from events or inspect, ns since 1970."""

    started: int = 0
    ended: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Missed:
    """What no event told of a container: as events that say so, in words, and its life with that."""

    events: tuple[dict[str, Any], ...]
    words: tuple[str, ...]
    life: Life


def life(inspected: Mapping[str, Any]) -> Life:
    """The last start and death that inspect knows."""
    state = inspected.get("State") or {}
    return Life(_moment(state, "StartedAt"), _moment(state, "FinishedAt"), int(inspected.get("RestartCount") or 0))


def missed(inspected: Mapping[str, Any], known: Life, begin_ns: int) -> Missed:
    """Starts and deaths from a moment on that are not known yet.

    Args:
        inspected: `docker inspect` of the container as it is now.
        known: what events or an earlier look told.
        begin_ns: the beginning of the time without events, ns since 1970.
    """
    now, state = life(inspected), inspected.get("State") or {}
    name = str(inspected.get("Name", "")).lstrip("/")
    events: list[dict[str, Any]] = []
    words: list[str] = []
    started, ended = known.started, known.ended
    if now.ended > known.ended and now.ended >= begin_ns:
        ended, killed, down = now.ended, bool(state.get("OOMKilled")), now.started < now.ended
        if killed:
            events.append(_event(inspected, "oom", ended))
        # what a signal ended may have been ended by the engine itself as it came back: who sent it nobody told
        code = str(state.get("ExitCode", "")) if down and state.get("ExitCode") not in _SIGNALLED else ""
        events.append(_event(inspected, "die", ended, exitCode=code))
        words.append(
            f"{name}: died at {state['FinishedAt']}"
            + (f", exit code {state.get('ExitCode')}" if down else "")
            + (", OOM killed" if killed else "")
        )
    if now.started > known.started and now.started >= begin_ns:
        started = now.started
        events.append(_event(inspected, "start", started))
        words.append(f"{name}: started at {state['StartedAt']}")
    again = now.restarts - known.restarts
    if again > 1:
        words.append(f"{name}: restarted {again} times by its policy; only the last start and death are known")
    return Missed(tuple(events), tuple(words), Life(started, ended, max(now.restarts, known.restarts)))


def _moment(state: Mapping[str, Any], key: str) -> int:
    text = state.get(key)
    return stamp_ns(str(text)) if text not in (None, "", _NEVER) else 0


def _event(inspected: Mapping[str, Any], action: str, time_ns: int, **more: str) -> dict[str, Any]:
    """An event in the engine's own form; its scope says that nobody told it."""
    config = inspected.get("Config") or {}
    labels = {k: v for k, v in (config.get("Labels") or {}).items() if k.startswith("com.docker.compose.")}
    attributes = {
        **labels,
        **{k: v for k, v in more.items() if v},
        "image": str(config.get("Image", "")),
        "name": str(inspected.get("Name", "")).lstrip("/"),
        "occorr.source": "docker inspect",
    }
    return {
        "Type": "container",
        "Action": action,
        "Actor": {"ID": str(inspected.get("Id", "")), "Attributes": attributes},
        "scope": RECONCILED,
        "time": time_ns // SECOND,
        "timeNano": time_ns,
    }
