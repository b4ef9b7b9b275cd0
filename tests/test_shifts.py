"""By how much a proxy's clock can be wrong: every shift is held against the definition, and a clock that only refusals and tunnels tell of."""

from __future__ import annotations

from datetime import datetime, timedelta

import made_logs
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import occorr
from occorr import shifts

SECOND = 10**9
SECONDS = st.integers(0, 400)


def numbers(values):
    return np.array(values, dtype=np.int64) * SECOND


def fits(shift, refused, tunnels, down):
    """The definition in `shifts`, line by line; in seconds."""
    inside = [any(cut - 2 <= t + shift <= ready + 2 for cut, _, _, ready in down) for t in refused]
    opened = any(cut + 3 < begun + shift < up - 3 for begun, _ in tunnels for cut, _, up, _ in down)
    lasted = any(
        begun + shift < cut - 3 and ended + shift > gone + 2 for begun, ended in tunnels for cut, gone, _, _ in down
    )
    return sum(inside) >= 0.9 * len(refused) and not opened and not lasted


@settings(max_examples=200, deadline=None)
@given(
    st.lists(SECONDS, min_size=1, max_size=12),
    st.lists(st.tuples(SECONDS, st.integers(0, 90)), max_size=8),
    st.lists(st.tuples(*(st.integers(0, 40) for _ in range(3)), st.integers(1, 60)), min_size=1, max_size=4),
    st.lists(st.integers(-3600, 3600), min_size=20, max_size=20),
)
def test_every_shift_is_as_defined(refused, lasting, lengths, tried):
    down, at = [], 0
    for gap, gone, up, ready in lengths:
        cut = at + gap
        down.append((cut, cut + gone, cut + gone + up, cut + gone + up + ready))
        at = down[-1][2] + 1
    tunnels = [(begun, begun + lasted) for begun, lasted in lasting]
    columns = [numbers(c) for c in zip(*down, strict=True)]
    found = shifts.shifts(numbers(refused), numbers(tunnels).reshape(-1, 2), shifts.Downtimes(*columns))
    assert all(b < c for (_, b), (c, _) in zip(found, found[1:], strict=False))
    for shift in (x + 0.5 for x in tried):  # no bound lies between two seconds
        assert any(a < shift * SECOND < b for a, b in found) == fits(shift, refused, tunnels, down)


def test_many_refusals_and_a_long_crash_loop_are_answered_at_once():
    cut = np.arange(2000) * 60
    down = shifts.Downtimes(*(numbers(cut + s) for s in (0, 1, 20, 20)))
    found = shifts.shifts(numbers(np.arange(5000)), np.zeros((0, 2), dtype=np.int64), down)
    assert found == []  # refusals go on for 60 s, downtimes for 20


# ------------------------------------------------------------ a clock that is 12.5 s slow, and nothing else that tells so
BASE = datetime(2026, 11, 21, 10, 0, 0)


def gateway(at, text):
    """A line as `docker logs -t` shows it, 1 ms later on the engine's clock."""
    own, written = ((BASE + timedelta(seconds=at, milliseconds=n)).isoformat(timespec="milliseconds") for n in (0, 1))
    return f"{written}000000Z {own}+00:00 {text}"


def event(at, action, **attributes):
    moment = (BASE - datetime(1970, 1, 1) + timedelta(seconds=at)) // timedelta(microseconds=1)
    return made_logs.event(moment * 1000, action, **attributes)


def access(at, status, lasted, client=7, slow=12.5):
    """nginx stamps the end, in whole seconds, by a clock that may be slow."""
    stamp = (BASE + timedelta(seconds=at - slow)).strftime("%d/%b/%Y:%H:%M:%S +0000")
    return f'192.0.2.{client} - - [{stamp}] "GET / HTTP/1.1" {status} 157 "-" "openclaw-cli/2026.9.6" rt={lasted:.3f} uct=- urt={lasted:.3f} us={status}'


def bundle(folder, refused, slow=12.5, cut=((25.0, 7), (11.0, 8))):
    """Killed at 40 s, back at 71 s; tunnels end with it (how long they lasted, whose), two begin when it is back."""
    (folder / "gateway.docker.log").write_text(
        "\n".join(
            gateway(at, text)
            for start in (0, 61)
            for at, text in (
                (start, "[gateway] loading configuration…"),
                (start + 1, "[gateway] starting..."),
                (start + 10, "[gateway] http server listening (14 plugins: anthropic; 4.1s)"),
                (start + 11, "[gateway] ready"),
                *((start + 12 + s, f"[health-monitor] checked channels in {s} ms") for s in range(1, 28)),
            )
        )
        + "\n"
    )
    events = [event(40, "kill", signal="9"), event(40.1, "die", exitCode="137"), event(60, "start")]
    (folder / "docker.events.jsonl").write_text("\n".join(events) + "\n")
    lines = [
        *((40.1, 101, lasted, client) for lasted, client in cut),
        *((at, 502, 0.0) for at in refused),
        (80, 101, 7.5),
        (82, 101, 8.0),
    ]
    texts = (access(*line, slow=slow) for line in sorted(lines, key=lambda line: line[0]))
    (folder / "proxy.access.log").write_text("\n".join(texts) + "\n")
    return occorr.analyze(folder)


def test_refusals_and_tunnels_tell_of_a_clock_that_nothing_else_ties(tmp_path):
    result = bundle(tmp_path, (41, 42, 44, 47, 55, 61, 69))
    clock = result.clocks.filter(pl.col("clock_id") == "nginx").row(0, named=True)
    assert clock["status"] == "assumed"
    assert abs(clock["offset_ns"] + 12.5 * SECOND) <= 3 * SECOND
    assert clock["error_ns"] >= abs(clock["offset_ns"])  # it may be right for all that
    refused = result.closes.filter(pl.col("http_status_proxy") == 502)
    assert refused.get_column("cause").unique().to_list() == ["restart.killed"]
    assert refused.height == 7


@pytest.mark.parametrize(
    ("refused", "slow", "cut"),
    [
        # 90 s of refusals fit no downtime of 31 s, whatever the clock shows
        ((12, 41, 42, 44, 47, 55, 61, 69, 100), 12.5, ((25.0, 7), (11.0, 8))),
        # a burst that is shorter than the downtime, of another cause while the gateway ran; nobody called during the downtime
        ((86, 87, 88, 90, 92, 94), 0, ((25.0, 7), (11.0, 8))),
        # nobody was connected when it began
        ((41, 42, 44, 47, 55, 61, 69), 12.5, ()),
        # one client left just before, which clients do
        ((41, 42, 44, 47, 55, 61, 69), 12.5, ((25.0, 7),)),
        # after the gateway's last line it may have been down again
        ((301, 302, 304, 307, 315), 0, ((25.0, 7), (11.0, 8))),
    ],
)
def test_refusals_that_may_have_another_reason_move_no_clock(tmp_path, refused, slow, cut):
    result = bundle(tmp_path, refused, slow, cut)
    clock = result.clocks.filter(pl.col("clock_id") == "nginx").row(0, named=True)
    assert (clock["status"], clock["offset_ns"]) == ("assumed", 0)
    if not slow:
        told = result.closes.filter(pl.col("http_status_proxy") == 502)
        assert not ((told.get_column("verdict") == "decisive") & (told.get_column("cause") == "restart.killed")).any()
