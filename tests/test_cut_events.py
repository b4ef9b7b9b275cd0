"""The engine's events as people collect them: begun or ended in the middle of what they tell of. What came before or after may be the cause."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from made_logs import GATEWAY, conn, event, inspect, ready, stamp, started, twice, write

import occorr
from occorr import lives, schema

CHECK = {"Test": ["CMD", "true"], "Interval": 30_000_000_000, "Retries": 3}


OTHER = "bb" * 32


def told(at, action, container=GATEWAY, **more):
    moment = datetime.fromisoformat(f"2026-11-21T{at}+00:00").astimezone(UTC)
    return event(int(moment.timestamp() * 1000) * 10**6, action, **more).replace(GATEWAY, container)


def network(at, action, container=GATEWAY):
    row = json.loads(told(at, action))
    row |= {"Type": "network", "Actor": {"ID": "ee" * 32, "Attributes": {"container": container, "name": "demo_default", "type": "bridge"}}}  # fmt: skip
    return json.dumps(row)


# a stop, by the gateway and by the engine; the start is that of the same container
STOPPED = [
    *started("09:00:00.003"),
    *ready("09:00:10.007"),
    f"{stamp('09:30:00.113')} [ws] webchat connected conn={conn(1)} remote=203.0.113.9 client=openclaw-control-ui webchat v2026.9.6",
    f"{stamp('10:05:00.290')} [gateway] received SIGTERM; shutting down",
    f"{stamp('10:05:00.300')} [ws] webchat disconnected code=1012 reason=service restart conn={conn(1)}",
    f"{stamp('10:05:00.400')} [shutdown] completed cleanly in 110ms",
]
AGAIN = [*started("10:05:05.003"), *ready("10:05:15.007")]
STOP = [
    told("10:05:00.200", "kill", signal="15"),
    told("10:05:00.600", "die", exitCode="0"),
    network("10:05:00.640", "disconnect"),
    told("10:05:00.660", "stop"),
]
START = [network("10:05:00.700", "connect"), told("10:05:01.100", "start"), told("10:05:01.110", "restart")]
BEFORE = [told("09:00:00.100", "start")]


def verdict(folder, events, log=(*STOPPED, *AGAIN), **files):
    write(folder, gateway__log=twice(list(log)), docker__events__jsonl=events, **files)
    rows = occorr.analyze([folder]).closes.filter(pl.col("websocket_close_code") == 1012)
    return rows.select(pl.col("cause", "verdict").cast(pl.String)).row(0)


def test_a_restart_of_which_all_is_known_was_by_hand(tmp_path):
    assert verdict(tmp_path, [*BEFORE, *STOP, *START]) == ("restart.manual", "decisive")


def test_what_follows_a_stop_may_make_it_a_deploy(tmp_path):
    """Rename, create and destroy come within a second; whoever stopped collecting at the stop does not know."""
    assert verdict(tmp_path, [*BEFORE, *STOP], log=STOPPED) == ("restart.manual", "supported")


@pytest.mark.parametrize(("since", "sure"), [([], "supported"), (BEFORE, "decisive")])
def test_health_is_told_where_it_changes(tmp_path, since, sure):
    """The container has a check, and its last failed probe is the first event; from 09:00 on nothing said unhealthy."""
    probe = [told("10:04:59.100", "exec_create: true"), told("10:04:59.200", "exec_die", exitCode="1")]
    log_and_files = {"inspect__json": inspect(health=CHECK)}
    assert verdict(tmp_path, [*since, *probe, *STOP, *START], **log_and_files) == ("restart.manual", sure)


def test_a_stop_that_ran_out_of_time_ends_with_sigkill_too(tmp_path):
    """`docker kill` says neither stop nor restart; the SIGTERM of this one came before the events begin."""
    log = [*STOPPED[:5], *AGAIN]  # it hung, and wrote nothing of it
    killed = [told("10:05:00.500", "kill", signal="9"), told("10:05:00.600", "die", exitCode="137"), *STOP[2:]]
    write(tmp_path, gateway__log=twice(log), docker__events__jsonl=[*killed, *START])
    rows = occorr.analyze([tmp_path]).closes
    assert (
        "restart.killed"
        not in rows.filter(pl.col("verdict") == "decisive").get_column("cause").cast(pl.String).to_list()
    )


def test_a_stop_takes_the_container_off_its_network_and_that_is_no_partition(tmp_path):
    """The events begin behind the die of a gateway that drained for seven seconds; clients are refused until the next one listens."""
    log = [*STOPPED[:5], f"{stamp('10:04:53.200')} [gateway] received SIGTERM; shutting down", *STOPPED[6:]]
    access = [
        f'203.0.113.9 - - [21/Nov/2026:10:05:{s:02d} +0000] "GET /ws HTTP/1.1" 502 157 "-" "openclaw-cli/2026.9.6"' for s in (4, 8, 12)
    ]  # fmt: skip
    deploy = [
        told("10:05:00.700", "rename", oldName="/demo-gateway-1"),
        told("10:05:00.750", "create", OTHER),
        network("10:05:00.800", "connect", OTHER),
        told("10:05:01.100", "start", OTHER),
        told("10:05:01.150", "destroy"),
    ]
    write(tmp_path, gateway__log=twice(log), docker__events__jsonl=[*STOP[2:], *deploy], proxy__access__log=access)
    causes = occorr.analyze([tmp_path]).closes.get_column("cause").cast(pl.String).to_list()
    assert len(causes) >= 3
    assert "network.partition" not in causes


def test_oomkilled_of_a_child_outlasts_it(tmp_path):
    """The events cover a death by 137 and hold no oom; the mark may be of a child that was killed in the morning."""
    document = json.loads(inspect())
    document[0]["State"] |= {"Status": "exited", "OOMKilled": True, "ExitCode": 137, "FinishedAt": "2026-11-21T10:05:00.580000000Z"}  # fmt: skip
    log = [*STOPPED[:5], f"{stamp('10:04:59.950')} [gateway] device pairing approved device=x role=operator"]
    write(
        tmp_path,
        gateway__log=twice(log),
        docker__events__jsonl=[*BEFORE, told("10:05:00.600", "die", exitCode="137")],
        inspect__json=json.dumps(document),
    )
    rows = occorr.analyze([tmp_path]).closes
    assert rows.filter(pl.col("verdict") == "decisive").is_empty()


def test_a_check_that_only_looks_for_the_process_does_not_make_the_gateway_ready(tmp_path):
    """Healthy at 10:05:07, listening at 10:05:15: clients found nobody for 15 s, as the heading and the page say alike."""
    healthy = [told("10:05:07.000", "health_status: healthy")]
    write(tmp_path, gateway__log=twice([*STOPPED, *AGAIN]), docker__events__jsonl=[*BEFORE, *STOP, *START, *healthy])
    told_of = occorr.analyze([tmp_path])
    plain = [schema.plain(getattr(told_of, name)) for name in ("closes", "timeline", "facts")]
    (lane,) = [lane for lane in lives.of(*plain)[0] if lane.gateway]
    since, until = lane.not_ready()[-1]
    assert round((until - since) / 10**9, 1) == 14.7  # from the signal to `ready`
    assert "15 s down" in told_of.incidents.get_column("title")[0]
