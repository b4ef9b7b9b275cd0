"""Why a gateway was down: which containers are its own, and what their events and lines make of a downtime."""

from __future__ import annotations

import polars as pl
import pytest
from test_incidents import NOTHING, SECOND, at, facts

from occorr import instances, rules, schema, scope
from occorr.causes import name_episodes
from occorr.causes.evidence import STRENGTH
from occorr.episodes import episodes


def engine(*rows):
    """Engine events: (second, name, container, image, more)."""
    return [
        {
            "source_kind": "docker",
            "event_name": n,
            "container_id": c.ljust(64, "0"),
            "container_name": c,
            "container_image_name": image,
            "timestamp": at(s),
            "timestamp_raw": at(s),
            **more,
        }
        for s, n, c, image, more in rows
    ]


def lines(*rows):
    """Gateway lines: (second, name, more)."""
    return [
        {"source_kind": "gateway", "event_name": n, "timestamp": at(s), "timestamp_raw": at(s), **more}
        for s, n, more in rows
    ]


COLUMNS = {c: (schema.EVENTS | schema.ATTRIBUTES)[c].dtype for c in (*schema.EVENTS, *schema.ATTRIBUTES)}


def events(*rows):
    plain = {c: pl.String if isinstance(t, pl.Categorical | pl.Enum) else t for c, t in COLUMNS.items()} | {
        "timestamp": pl.Int64,
        "timestamp_raw": pl.Int64,
        "instance": pl.String,
    }
    made = pl.DataFrame([{"instance": ""} | r for r in rows], schema=plain).with_columns(
        pl.col("timestamp", "timestamp_raw").cast(schema.TS)
    )
    return made.with_columns(
        pl.format("v{}", pl.int_range(pl.len())).alias("event_id"),
        pl.lit("").alias("part"),
        pl.lit(0, pl.Int64).alias("clock_error_ns"),
    ).sort("timestamp")


GW, PG = "openclaw/gateway:2026.9.6", "postgres:17"


def test_a_database_that_restarts_beside_the_gateway_is_not_the_gateway():
    """Its restart is followed by the gateway's start within seconds; the image tells who is who."""
    rows = events(
        *engine(
            (0, "container.start", "db", PG, {}),
            (0.5, "container.start", "claw", GW, {}),
            (100, "container.die", "db", PG, {}),
            (101, "container.start", "db", PG, {}),
            (103, "container.die", "claw", GW, {}),
            (118, "container.start", "claw", GW, {}),
        ),
        *lines((5, "gateway.start", {}), (120, "gateway.start", {})),
    )
    named = (
        scope.roles(rows, NOTHING).filter(pl.col("role") == "gateway").get_column("container_name").unique().to_list()
    )
    assert named == ["claw"]


def test_a_one_off_container_of_the_service_is_not_the_gateway():
    run = "claw-gateway-run-d4d517b2e222"
    rows = events(
        *engine(
            (0, "container.start", "claw", GW, {"compose_project": "p", "compose_service": "gateway"}),
            (50, "container.start", run, GW, {"compose_project": "p", "compose_service": "gateway"}),
        ),
        *lines((1, "gateway.start", {})),
    )
    assert scope.roles(rows, NOTHING).filter(pl.col("role") == "gateway").get_column(
        "container_name"
    ).unique().to_list() == ["claw"]


def test_lines_of_a_one_off_container_are_not_the_gateways():
    """Its log is a file of its own that begins and ends with it; the gateway's log goes on around it."""
    run = "claw-gateway-run-d4d517b2e222"
    service = {"compose_project": "p", "compose_service": "gateway"}
    rows = events(
        *engine(
            (0, "container.start", "claw", GW, service),
            (50, "container.die", "claw", GW, {**service, "container_exit_code": 0}),
            (51, "container.start", run, GW, service),
            (80, "container.start", "claw", GW, service),
            (90, "container.die", run, GW, service),
        ),
        *lines((1, "gateway.start", {}), (49, "gateway.signal", {"signal": "SIGTERM"}), (82, "gateway.start", {})),
        *lines(
            (60, "gateway.start", {"log_file_path": "run.log"}),
            (88, "gateway.signal", {"log_file_path": "run.log", "signal": "SIGTERM"}),
        ),
    )
    whose = instances.instances(scope.roles(rows.drop("instance"), NOTHING), NOTHING)
    ours = pl.col("source_kind") == "gateway"
    assert whose.filter(ours & pl.col("instance").is_null()).get_column("log_file_path").unique().to_list() == [
        "run.log"
    ]
    assert whose.filter(ours & (pl.col("instance") == "")).height == 3
    found = episodes(whose, NOTHING).filter(pl.col("kind") == "gateway")
    assert found.get_column("cut_low").to_list() == [pytest.approx(at(49), abs=SECOND)]


def life(*rows):
    found = episodes(scope.roles(events(*rows), NOTHING), NOTHING)
    return found.filter(pl.col("die") > 0).to_dicts()


def test_a_process_that_dies_before_it_listens_is_no_plain_crash():
    boot = engine(
        (0, "container.start", "claw", GW, {}),
        (11, "container.die", "claw", GW, {"container_exit_code": 1}),
        (13, "container.start", "claw", GW, {}),
    )
    (failed,) = life(
        *boot,
        *lines((2, "gateway.start", {}), (10, "other", {}), (15, "gateway.start", {}), (25, "gateway.listening", {})),
    )
    assert failed["listened"] is False
    (up,) = life(
        *boot,
        *lines(
            (2, "gateway.start", {}),
            (8, "gateway.listening", {}),
            (15, "gateway.start", {}),
            (25, "gateway.listening", {}),
        ),
    )
    assert up["listened"] is True


def named(*rows):
    """The causes of a gateway's downtimes, in order."""
    found = name_episodes(episodes(scope.roles(events(*rows), NOTHING), NOTHING), rules.builtin())
    return [(cause, STRENGTH[rank]) for cause, rank in found.sort("cut_low").select("cause", "rank").rows()]


@pytest.mark.parametrize(
    ("before", "between", "causes"),
    [
        # it was killed and kept its state: its new container fails until the lease lapses
        ((99.5, "other"), (), ["restart.deploy", "restart.deploy", "restart.deploy"]),
        # it had let go of it: somebody else holds it
        ((99.5, "gateway.shutdown"), (), ["restart.deploy", "restart.conflict", "restart.conflict"]),
        # somebody talks to clients while it fails
        ((99.5, "other"), ((113, "websocket.connected"),), ["restart.deploy", "restart.conflict", "restart.conflict"]),
    ],
)
def test_a_state_that_its_own_last_life_left_held_is_no_conflict(before, between, causes):
    lease = {"body": "Gateway failed to start: Another Gateway owner lease is still active for this state directory."}
    rows = (
        *engine(
            (0, "container.start", "claw", GW, {}),
            (100, "container.kill", "claw", GW, {"signal": "9"}),
            (100.1, "container.die", "claw", GW, {"container_exit_code": 137}),
            (100.4, "container.destroy", "claw", GW, {}),
            (101, "container.create", "claw", GW, {"container_id": "new".ljust(64, "0")}),
            (101.5, "container.start", "claw", GW, {"container_id": "new".ljust(64, "0")}),
            (110, "container.die", "claw", GW, {"container_id": "new".ljust(64, "0"), "container_exit_code": 1}),
            (111, "container.start", "claw", GW, {"container_id": "new".ljust(64, "0")}),
            (120, "container.die", "claw", GW, {"container_id": "new".ljust(64, "0"), "container_exit_code": 1}),
            (121, "container.start", "claw", GW, {"container_id": "new".ljust(64, "0")}),
        ),
        *lines((2, "gateway.start", {}), (8, "gateway.listening", {}), (*before, {})),
        *lines((103, "gateway.start", {}), (109, "gateway.conflict", lease)),
        *lines(*((s, n, {}) for s, n in between)),
        *lines((112, "gateway.start", {}), (119, "gateway.conflict", lease)),
        *lines((123, "gateway.start", {}), (130, "gateway.listening", {})),
    )
    assert [cause for cause, _ in named(*rows)] == causes


COMPOSE = (("service:gateway", "image", GW), ("service:gateway", "restart", "always"))
INSPECT = (("container:aa", "image", GW), ("container:aa", "state.status", "running"))


@pytest.mark.parametrize(
    ("documents", "where", "rank"),
    [
        (INSPECT, ("claw.log", "claw.log"), "decisive"),
        ((), ("claw.log", "claw.log"), "circumstantial"),  # nothing says whether its health is checked
        (COMPOSE, ("claw.log", "claw.log"), "circumstantial"),  # nor does a Compose file: the image may bring a check
        ((*INSPECT, ("service:gateway", "healthcheck.test", "curl")), ("claw.log", "claw.log"), "circumstantial"),
        ((*INSPECT, ("service:medic", "image", "willfarrell/autoheal")), ("claw.log", "claw.log"), "circumstantial"),
        (INSPECT, ("old.log", "new.log"), "circumstantial"),  # a deploy leaves a log for each container
    ],
)
def test_a_signal_in_one_containers_log_is_no_deploy_and_without_health_checks_no_kill(documents, where, rank):
    told = [
        (2, "gateway.start", 0),
        (8, "gateway.listening", 0),
        (99, "gateway.signal", 0),
        (102, "gateway.start", 1),
        (108, "gateway.listening", 1),
    ]
    rows = lines(
        *(
            (s, n, {"log_file_path": where[file], "observed_clock_id": "engine", "signal": "SIGTERM" * (s == 99)})
            for s, n, file in told
        )
    )
    found = name_episodes(episodes(scope.roles(events(*rows), NOTHING), facts(*documents)), rules.builtin())
    assert [(c, STRENGTH[r]) for c, r in found.select("cause", "rank").rows()] == [("restart.manual", rank)]


BORN = lines((2, "gateway.start", {}), (8, "gateway.listening", {}), (99.5, "other", {}))


@pytest.mark.parametrize(
    ("signal", "later", "cause"),
    [
        ("9", (), ("restart.killed", "decisive")),
        # what removes a dead container did not end it, seconds or hours later
        ("9", ((102, "container.destroy"),), ("restart.killed", "decisive")),
        ("9", ((9000, "container.destroy"),), ("restart.killed", "decisive")),
        ("15", ((100.4, "container.destroy"),), ("restart.manual", "supporting")),
        # … unless a new one takes its place
        ("9", ((100.4, "container.destroy"), (101, "container.create")), ("restart.deploy", "decisive")),
        ("15", ((100.4, "container.destroy"), (160, "container.create")), ("restart.deploy", "decisive")),
        # the next morning
        ("9", ((100.4, "container.destroy"), (40_000, "container.create")), ("restart.killed", "decisive")),
    ],
)
def test_a_removed_container_is_a_deploy_only_where_another_takes_its_place(signal, later, cause):
    rows = engine(
        (0, "container.start", "claw", GW, {}),
        (100, "container.kill", "claw", GW, {"signal": signal}),
        (100.1, "container.die", "claw", GW, {"container_exit_code": 137 if signal == "9" else 0}),
        *[(at_, name, "claw", GW, {}) for at_, name in later],
    )
    assert named(*rows, *BORN) == [cause]


def test_a_kill_after_a_death_did_not_bring_it_about():
    """A restart policy's pause ends when the container is removed: kill and destroy follow a crash."""
    rows = engine(
        (0, "container.start", "claw", GW, {}),
        (100, "container.die", "claw", GW, {"container_exit_code": 1}),
        (100.6, "container.kill", "claw", GW, {"signal": "9"}),
        (100.7, "container.destroy", "claw", GW, {}),
    )
    assert named(*rows, *BORN, *lines((99.95, "gateway.crash", {}))) == [("restart.crash", "decisive")]


def test_a_process_may_write_before_its_start_is_told():
    """First lines 3 ms before the engine's event, and the next start within a second: two processes and not three."""
    rows = engine(
        (2.003, "container.start", "claw", GW, {}),
        (2.5, "container.die", "claw", GW, {"container_exit_code": 1}),
        (2.993, "container.start", "claw", GW, {}),
    )
    own = lines(
        (2.0, "gateway.start", {}),
        (2.001, "gateway.listening", {}),
        (2.45, "gateway.crash", {}),
        (2.99, "gateway.start", {}),
        (2.992, "gateway.listening", {}),
    )
    assert named(*rows, *own) == [("restart.crash", "decisive")]


def test_unhealthy_counts_only_until_it_is_healthy_again():
    def stopped(*health):
        rows = engine(
            (0, "container.start", "claw", GW, {}),
            *[(s, "container.health_status", "claw", GW, {"health_status": h}) for s, h in health],
            (200, "container.kill", "claw", GW, {"signal": "15"}),
            (200.3, "container.die", "claw", GW, {"container_exit_code": 0}),
            (202, "container.start", "claw", GW, {}),
        )
        (one,) = life(*rows, *lines((2, "gateway.start", {}), (8, "gateway.listening", {}), (205, "gateway.start", {})))
        return one["unhealthy"]

    assert stopped((199.8, "unhealthy")) == 1
    assert stopped((150, "unhealthy"), (170, "healthy")) == 0
    assert stopped((20, "unhealthy")) == 0, "three minutes before says nothing"


def test_two_gateways_that_write_one_log_by_turns_are_no_deploy():
    rows = [
        *engine(
            (0, "container.start", "claw", GW, {}),
            (100, "container.kill", "claw", GW, {"signal": "15"}),
            (101, "container.die", "claw", GW, {"container_exit_code": 0}),
            (103, "container.start", "claw", GW, {}),
        )
    ]
    own = lines(
        (2, "gateway.start", {"host_name": "aaaaaaaaaaaa"}),
        (8, "gateway.listening", {"host_name": "aaaaaaaaaaaa"}),
        (50, "other", {"host_name": "bbbbbbbbbbbb"}),
        (60, "other", {"host_name": "aaaaaaaaaaaa"}),
        (99, "other", {"host_name": "bbbbbbbbbbbb"}),
        (105, "gateway.start", {"host_name": "aaaaaaaaaaaa"}),
    )
    assert [e["moved"] for e in life(*rows, *own)] == [False]


def test_a_gateway_is_back_when_it_listens_however_many_starts_failed_before():
    """Stopped at 100 s, two starts fail on a held state, the third listens at 148 s."""
    tries = [(t, name, {}) for t in (117, 127) for name in ("gateway.start", "gateway.conflict")]
    rows = events(
        *lines(
            (5, "gateway.start", {}),
            (9, "gateway.listening", {}),
            (100, "gateway.signal", {"signal": "SIGTERM"}),
            *((t + (name == "gateway.conflict"), name, more) for t, name, more in tries),
            (140, "gateway.start", {}),
            (148, "gateway.listening", {}),
        )
    ).with_columns(pl.lit("gateway").alias("role"))
    found = episodes(rows, NOTHING).to_dicts()
    assert [((r["back"] - at(0)) / SECOND, r["failed"], r["boot"]) for r in found] == [
        (148, 2, None),
        (148, 1, None),
        (148, 0, None),
    ]


def test_a_start_that_a_deploy_cut_short_did_not_fail():
    """Killed for memory at 100 s; what started then was stopped before it listened, and the next one listens at 143 s."""
    rows = events(
        *engine(
            (0, "container.start", "claw", GW, {}),
            (100, "container.oom", "claw", GW, {}),
            (100.1, "container.die", "claw", GW, {"container_exit_code": 137}),
            (101, "container.start", "claw", GW, {}),
            (122, "container.kill", "claw", GW, {"signal": "15"}),
            (122.5, "container.die", "claw", GW, {"container_exit_code": 0}),
            (130, "container.start", "claw", GW, {}),
        ),
        *lines(
            (5, "gateway.start", {}),
            (9, "gateway.listening", {}),
            (106, "gateway.start", {}),
            (122.1, "gateway.signal", {"signal": "SIGTERM"}),
            (135, "gateway.start", {}),
            (143, "gateway.listening", {}),
        ),
    ).with_columns(pl.lit("gateway").alias("role"))
    oom, _ = episodes(rows, NOTHING).to_dicts()
    assert ((oom["back"] - at(0)) / SECOND, oom["failed"]) == (143, 0)


def test_without_its_log_only_the_container_is_known_to_run_again():
    rows = events(
        *engine(
            (0, "container.start", "claw", GW, {}),
            (100, "container.die", "claw", GW, {}),
            (104, "container.start", "claw", GW, {}),
        )
    ).with_columns(pl.lit("gateway").alias("role"))
    (row,) = episodes(rows, NOTHING).to_dicts()
    assert (row["back"], (row["boot"] - at(0)) / SECOND) == (None, 104)
