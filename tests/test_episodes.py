"""What happened to which path: one container's end is never another one's."""

from datetime import UTC, datetime

import polars as pl
import pytest

from occorr import rules
from occorr.causes import findings
from occorr.episodes.interruptions import interruptions
from occorr.episodes.proxies import proxies

SECOND = 1_000_000_000
START = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp()) * SECOND
TEXTS = (
    "event_name",
    "event_id",
    "container_id",
    "container_name",
    "compose_project",
    "compose_service",
    "instance",
    "role",
    "source_kind",
    "exec_command",
    "signal",
)


def events(*rows):
    """Placed engine events: seconds after the start, and columns."""
    full = [
        {
            **dict.fromkeys(TEXTS),
            "event_id": f"v{n}",
            "source_kind": "docker",
            "clock_error_ns": 0,
            "time_resolution_ns": 1,
            "container_exit_code": None,
            "timestamp": START + int(at * SECOND),
            **row,
        }
        for n, (at, row) in enumerate(rows)
    ]
    types = {
        **dict.fromkeys(TEXTS, pl.String),
        "clock_error_ns": pl.Int64,
        "time_resolution_ns": pl.Int64,
        "container_exit_code": pl.Int64,
        "timestamp": pl.Int64,
    }
    return pl.DataFrame(full, schema=types).with_columns(pl.col("timestamp").cast(pl.Datetime("ns", "UTC")))


def gateway(name, event):
    return {"role": "gateway", "container_id": name, "instance": f"{name}/gateway", "event_name": event}


def proxy(project, event, service="nginx"):
    who = {"container_id": f"{project}-{service}", "compose_project": project, "compose_service": service}
    return {"role": "proxy", "event_name": event, **who}


def seconds(row, *columns):
    return tuple((row[c] - START) / SECOND for c in columns)


@pytest.mark.parametrize(
    ("begin", "end"), [("container.pause", "container.unpause"), ("network.disconnect", "network.connect")]
)
def test_two_gateways_are_interrupted_each_for_its_own_time(begin, end):
    """a from 100 s to 200 s, b within that from 150 s to 160 s."""
    found = interruptions(
        events(
            (100, gateway("a", begin)), (150, gateway("b", begin)), (160, gateway("b", end)), (200, gateway("a", end))
        )
    )
    assert {r["instance"]: seconds(r, "cut_low", "cut_high") for r in found} == {
        "a/gateway": (100, 200),
        "b/gateway": (150, 160),
    }


def test_a_stop_of_another_gateway_does_not_hide_a_partition():
    """Only the stop of the container itself takes it off its network."""
    found = interruptions(
        events(
            (100, gateway("a", "network.disconnect")),
            (101, gateway("b", "container.die")),
            (130, gateway("a", "network.connect")),
        )
    )
    assert [(r["kind"], *seconds(r, "cut_low", "cut_high")) for r in found] == [("partition", 100, 130)]


def test_two_proxies_that_die_soon_after_each_other_are_two_deaths():
    found = proxies(
        events(
            (50, {**gateway("g", "container.start"), "compose_project": "claw"}),
            (100, proxy("claw", "container.die")),
            (103, proxy("claw", "container.start")),
            (108, proxy("claw", "container.die", "caddy")),
            (120, proxy("claw", "container.start", "caddy")),
        ),
        None,
    )
    # a death is told up to 0.45 s late; a proxy takes connections a second after it started
    assert [seconds(r, "cut_low", "cut_high", "up") for r in found] == [(99.55, 100.15, 104), (107.55, 108.15, 121)]
    assert [r["die"] for r in found] == [1, 1]


def test_a_proxy_of_another_project_is_not_on_the_path_where_the_gateways_project_has_its_own():
    rows = [
        (50, {**gateway("g", "container.start"), "compose_project": "claw"}),
        (60, proxy("claw", "container.start")),
        (100, proxy("shop", "container.die")),
        (200, proxy("claw", "container.die")),
    ]
    assert [seconds(r, "cut_low")[0] for r in proxies(events(*rows), None)] == [199.55]
    # a shared proxy in front of a project without one is
    assert [seconds(r, "cut_low")[0] for r in proxies(events(rows[0], rows[2]), None)] == [99.55]


def test_a_proxy_that_is_created_anew_is_the_same_proxy():
    old, new = proxy("claw", "container.die"), {**proxy("claw", "container.start"), "container_id": "another"}
    (death,) = proxies(events((100, old), (105, new)), None)
    assert seconds(death, "up") == (106,)


@pytest.mark.parametrize(
    ("lines", "back"),
    [
        (((100, "proxy.stop"), (101, "proxy.start")), 101),  # its own log tells both; nobody was served until 101 s
        (((100, "proxy.stop"),), None),  # when it came back nobody says
        (((100, "proxy.reload"), (104, "proxy.worker"), (104.5, "proxy.start")), None),  # it was never away
    ],
)
def test_a_proxy_is_back_when_something_says_so(lines, back):
    rows = events(*((at, {"source_kind": "proxy", "event_name": name}) for at, name in lines))
    assert [r["back"] and (r["back"] - START) / SECOND for r in proxies(rows, None)] == [back]


def test_a_close_belongs_to_the_downtime_whose_cut_it_lies_at():
    """A restart, and 1.3 s later a deploy: the windows of both hold the second close, and the restart's middle is nearer."""
    (rule,) = [r for c in rules.builtin() for r in c.rules if r.id.endswith("code-1012-at-stop")]
    down = pl.LazyFrame(
        {
            "episode": ["e0", "e1"],
            "kind": ["gateway"] * 2,
            "cause": ["restart.manual", "restart.deploy"],
            "rank": [3, 3],
            "cut_low": [START, START + 1_351_000_000],
            "cut_high": [START + 250_000_000, START + 1_601_000_000],
            "up": [START + 565_000_000, START + 2_128_000_000],
            "error": [1_000_000] * 2,
            "instance": ["one/gateway"] * 2,
            "own_low": [START, START + 1_351_000_000],
            "own_high": [START + 50_000_000, START + 1_401_000_000],
        },
        schema_overrides={"rank": pl.Int32},
    ).with_columns(pl.lit(None, pl.Int64).alias("ready"))
    moments = [START + 50_000_000, START + 1_401_000_000]
    hits = pl.LazyFrame({"close_id": ["a", "b"], "instance": ["one/gateway"] * 2, "t": moments, "logged": moments})
    hits = hits.with_columns(lo=pl.col("t"), hi=pl.col("t"), gone=pl.lit(None, pl.Int64))
    found = findings._related(hits, down, rule, rule.relation).collect()
    assert dict(found.select("close_id", "cause").rows()) == {"a": "restart.manual", "b": "restart.deploy"}
