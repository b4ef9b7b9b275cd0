"""What a follower makes of breaks: gaps filled from inspect, lines and events once, an engine that is lost again and again."""

from __future__ import annotations

import threading
import time

import fake_engine
import pytest

from occorr import engine as engines
from occorr.engine import EngineLostError, stamp_ns
from occorr.follow import EventReader, gaps
from occorr.follow.gaps import Life
from occorr.follow.logs import REMEMBERED, Place
from occorr.redact import Redactor

BEFORE, GAP = stamp_ns("2026-11-21T04:00:00Z"), stamp_ns("2026-11-21T05:00:00Z")
KNOWN = Life(started=BEFORE)


def inspected(restarts=0, **state):
    told = fake_engine.container("demo", "gateway", "openclaw/gateway:2026.9.6", **state)
    return {**told, "RestartCount": restarts}


DIED = {"Status": "exited", "Running": False, "FinishedAt": "2026-11-21T05:00:02.5Z"}
AGAIN = {"FinishedAt": "2026-11-21T05:00:02.5Z", "StartedAt": "2026-11-21T05:00:03Z"}


@pytest.mark.parametrize(
    ("told", "actions", "code"),
    [
        (inspected(), [], None),  # nothing happened
        (inspected(**DIED, ExitCode=1), ["die"], "1"),
        (inspected(**DIED, ExitCode=137, OOMKilled=True), ["oom", "die"], None),
        (
            inspected(**DIED, ExitCode=143),
            ["die"],
            None,
        ),  # who sent the signal nobody told: no code that a cause could rest on
        (inspected(**AGAIN, ExitCode=0), ["die", "start"], None),  # the code of the life that is over is not kept
        (inspected(FinishedAt="2026-11-21T03:59:59Z"), [], None),  # long ago
    ],
)
def test_what_inspect_knows_of_a_gap(told, actions, code):
    found = gaps.missed(told, KNOWN, GAP)
    assert [e["Action"] for e in found.events] == actions
    assert all(e["scope"] == "reconciled" for e in found.events)
    deaths = [e for e in found.events if e["Action"] == "die"]
    assert [e["Actor"]["Attributes"].get("exitCode") for e in deaths] == [code] * len(deaths)
    assert [e["timeNano"] for e in deaths] == [stamp_ns("2026-11-21T05:00:02.5Z")] * len(deaths)
    assert gaps.missed(told, found.life, GAP).events == ()  # once


def test_restarts_that_inspect_only_counts_are_told_in_words():
    found = gaps.missed(inspected(restarts=4, **AGAIN), Life(started=BEFORE, restarts=1), GAP)
    assert [e["Action"] for e in found.events] == ["die", "start"]
    assert any("restarted 3 times" in w for w in found.words)
    assert found.life.restarts == 4


def test_a_log_that_is_faster_than_memory_is_resumed_where_memory_begins():
    """Otherwise lines come twice: the engine gives the last second again, and not all of it is remembered."""
    place, now = Place(), BEFORE
    stamps = [now + i * 1000 for i in range(REMEMBERED + 5_000)]  # a million lines a second
    assert all(place.new("stdout", t, "x") for t in stamps)
    since = place.since_ns(None)
    again = [t for t in stamps if t >= since]
    assert again and not any(place.new("stdout", t, "x") for t in again)


def wire(n: int) -> dict:
    return {
        "Type": "container",
        "Action": "start",
        "Actor": {"ID": f"{n:064x}", "Attributes": {}},
        "timeNano": BEFORE + n,
    }


def test_events_come_once_however_often_the_engine_is_lost(monkeypatch):
    """It is gone now and then, not always there when it is called, and tells its last events again."""
    told, got, said = [wire(n) for n in range(9)], [], []
    redactor, stopping = Redactor(b"k" * 32), threading.Event()
    calls = iter([3, 5, 9])  # how many events each connection has told when it breaks

    class Stream:
        def __init__(self, events):
            self.events = events

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __iter__(self):
            yield from self.events
            if len(got) == len(told):
                stopping.set()
            raise EngineLostError("gone")

    def events(_engine, *, since_ns):
        upto = next(calls)
        return Stream([engines.parse_event(w, redactor) for w in told[:upto] if w["timeNano"] >= since_ns])

    attempts = iter([False, True, False, False, True])

    def connect():
        if not next(attempts):
            raise EngineLostError("not yet")
        return "engine"

    monkeypatch.setattr(engines, "events", events)
    reader = EventReader(
        "engine", connect, lambda e: got.append(e.time_ns), said.append, lambda: said.append("back"), 0
    )
    begun = time.monotonic()
    reader.run(stopping)
    assert got == [w["timeNano"] for w in told]
    assert said == ["gone", "back", "gone", "back"]
    assert time.monotonic() - begun < 30
    assert reader.replayed == 1  # the last one that was known
