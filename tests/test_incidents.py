"""Stories of several episodes: storms, starts, what a deploy leads to, and who may not be blamed."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from occorr import advice, incidents, instances, rules, schema, scope
from occorr.causes import name_episodes
from occorr.causes.evidence import STRENGTH
from occorr.episodes import episodes

SECOND = 1_000_000_000
T0 = 1_795_000_000 * SECOND


def at(seconds):
    return int(T0 + seconds * SECOND)


def downs(*rows):
    """Episodes: (name, cause, cut_low, up)."""
    return pl.DataFrame(
        [
            {
                "episode": n,
                "kind": "gateway",
                "cause": c,
                "cut_low": at(low),
                "up": at(up),
                "cut_high": at(low),
                "ready": None,
                "instance": "",
                "told": "Gateway crashed",
                "die": 1,
                "shown": False,
                "fatal": 0,
            }
            for n, c, low, up in rows
        ],
        schema={
            "episode": pl.String,
            "kind": pl.String,
            "cause": pl.String,
            "cut_low": pl.Int64,
            "up": pl.Int64,
            "cut_high": pl.Int64,
            "ready": pl.Int64,
            "instance": pl.String,
            "told": pl.String,
            "die": pl.Int64,
            "shown": pl.Boolean,
            "fatal": pl.Int64,
        },
    )


def closes(*rows):
    """Closes: (id, cause, second, episode, verdict)."""
    return pl.DataFrame([{
        "close_id": i, "cause": c, "timestamp": at(s), "best_episode": e, "verdict": v, "probability": {"decisive": 0.99, "circumstantial": 0.6}[v], "count": 1, "established": False,
        "service_name": "gateway", "compose_project": "claw"} for i, c, s, e, v in rows], schema_overrides={"best_episode": pl.String}).with_columns(pl.col("timestamp").cast(schema.TS)).with_columns(pl.col("timestamp").alias("time_earliest"), pl.col("timestamp").alias("time_latest"))  # fmt: skip


NOTHING = schema.empty(schema.FACTS)


def told(rows, lives, facts=NOTHING):
    found, table = incidents.incidents(rows, lives, facts, rules.builtin())
    return dict(found.select("close_id", "incident_id").rows()), {r["incident_id"]: r for r in table.to_dicts()}


def test_a_storm_is_one_incident_with_its_period():
    lives = downs(*[(f"e{i}", "restart.crash", 15 * i, 15 * i + 9) for i in range(5)])
    of, found = told(closes(*[(f"c{i}", "restart.crash", 15 * i + 1, f"e{i}", "decisive") for i in range(5)]), lives)
    assert set(of.values()) == {"i001"}
    assert "5 times, every 15 s" in found["i001"]["title"] and "5 attempts refused" in found["i001"]["title"]


def test_two_downtimes_are_no_storm_and_other_causes_are_other_incidents():
    assert incidents.storms(downs(("a", "restart.crash", 0, 9), ("b", "restart.crash", 15, 24))) == {}
    assert (
        incidents.storms(
            downs(("a", "restart.crash", 0, 9), ("b", "restart.manual", 15, 24), ("c", "restart.crash", 30, 39))
        )
        == {}
    )
    assert incidents.storms(downs(*[(f"e{i}", "restart.crash", 900 * i, 900 * i + 9) for i in range(5)])) == {}, (
        "a quarter of an hour apart is no storm"
    )


def test_a_heading_says_for_how_many_closes_it_is_decisive():
    of, found = told(
        closes(("c1", "restart.crash", 1, "e0", "decisive"), ("c2", "restart.crash", 2, "e0", "circumstantial")),
        downs(("e0", "restart.crash", 0, 9)),
    )
    assert len(set(of.values())) == 1
    assert found["i001"]["probability"] == 0.99
    assert found["i001"]["title"].endswith("Decisive for 1 of 2, circumstantial for 1.")


def facts(*rows):
    return schema.conform(pl.DataFrame([{"subject": s, "key": k, "value": v} for s, k, v in rows]), schema.FACTS)


INSPECTED = [("container:a", "role", "gateway"), ("container:a", "state.status", "running")]


def test_starts_that_fail_on_a_state_that_is_still_held_are_told_as_such_and_are_no_storm():
    lives = downs(*[(f"e{i}", "restart.deploy", 15 * i, 15 * i + 9) for i in range(5)])
    lives = lives.with_columns((pl.col("episode") != "e0").alias("left"))
    _, found = told(closes(*[(f"c{i}", "restart.deploy", 15 * i + 1, f"e{i}", "decisive") for i in range(5)]), lives)
    assert "could not start 4 times, since its state was still held" in found["i001"]["title"]
    assert "storm" not in found["i001"]["title"]


def test_pairing_after_a_deploy_without_a_persistent_mount_is_one_story():
    lives = downs(("e0", "restart.deploy", 0, 9))
    rows = closes(("c1", "restart.deploy", 1, "e0", "decisive"), ("c2", "auth.pairing_required", 60, None, "decisive"))
    of, found = told(
        rows,
        lives,
        facts(
            *INSPECTED,
            ("container:a", "mount./tmp/logs", "bind"),
            ("container:a", "env.OPENCLAW_STATE_DIR", "/home/node/.openclaw"),
        ),
    )
    assert of["c1"] == of["c2"]
    assert (
        found[of["c1"]]["cause"] == "restart.deploy"
        and "paired again, since /home/node/.openclaw is on no persistent mount" in found[of["c1"]]["title"]
    )
    kept, _ = told(
        rows,
        lives,
        facts(
            *INSPECTED,
            ("container:a", "mount./home/node", "volume"),
            ("container:a", "env.OPENCLAW_STATE_DIR", "/home/node/.openclaw"),
        ),
    )
    assert kept["c1"] != kept["c2"], "its state is on a volume: the pairing has another reason"
    earlier = closes(
        ("c0", "auth.pairing_required", -60, None, "decisive"),
        *[
            tuple(r)
            for r in (
                ("c1", "restart.deploy", 1, "e0", "decisive"),
                ("c2", "auth.pairing_required", 60, None, "decisive"),
            )
        ],
    )
    before, _ = told(earlier, lives, facts(*INSPECTED, ("container:a", "env.OPENCLAW_STATE_DIR", "/state")))
    assert before["c1"] != before["c2"], "devices had to be paired before it, too"


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


@pytest.mark.parametrize(
    ("documents", "where", "rank"),
    [
        (COMPOSE, ("claw.log", "claw.log"), "decisive"),
        ((), ("claw.log", "claw.log"), "circumstantial"),  # nothing says whether its health is checked
        ((*COMPOSE, ("service:gateway", "healthcheck.test", "curl")), ("claw.log", "claw.log"), "circumstantial"),
        ((*COMPOSE, ("service:medic", "image", "willfarrell/autoheal")), ("claw.log", "claw.log"), "circumstantial"),
        (COMPOSE, ("old.log", "new.log"), "circumstantial"),  # a deploy leaves a log for each container
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


@pytest.mark.parametrize(
    ("die", "first", "low", "high", "said"),
    [
        (1, 100, 99.9, 100.1, "at 11:08:20.000 UTC:"),
        (1, 100, 80, 101, "at 11:08:20.000 UTC:"),  # the engine tells the death; nobody logged the close
        (0, 100, 80, 101, "between 11:08:00 and 11:08:21 UTC:"),  # only the gateway's log, which just stops
        (1, 104, 104, 104, "at 11:08:20.500 UTC:"),  # the first client that knocked came later
    ],
)
def test_a_heading_says_when_it_began_or_from_when_to_when_it_may_have(die, first, low, high, said):
    rows = closes(("a", "restart.killed", first, "e0", "decisive")).with_columns(
        pl.lit(at(low)).cast(schema.TS).alias("time_earliest"), pl.lit(at(high)).cast(schema.TS).alias("time_latest")
    )
    lives = downs(("e0", "restart.killed", 99.8, 110)).with_columns(
        pl.lit(at(100.5)).alias("cut_high"), pl.lit(die).alias("die")
    )
    _, table = incidents.incidents(rows, lives, NOTHING, rules.builtin())
    assert f" {said} " in table.item(0, "title")


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


def test_the_missing_subnet_of_an_untrusted_proxy_is_printed():
    known = facts(("network:default", "subnet", "192.0.2.0/26"), ("network:other", "subnet", "198.51.100.0/24"))
    assert advice._subnet(known, "192.0.2.17") == "192.0.2.0/26"
    assert advice._subnet(known, "203.0.113.5") == "203.0.113.5/32"
    assert (
        advice.filled("add <subnet> to gateway.trustedProxies", {"subnet": "192.0.2.0/26"})
        == "add 192.0.2.0/26 to gateway.trustedProxies"
    )
    assert advice.filled("docker logs <gateway>", {}) == "docker logs GATEWAY"


def test_container_names_that_a_shell_would_read_are_not_put_into_commands():
    class Tables:
        facts = facts(("container:a", "role", "gateway"), ("container:a", "name", "x; rm -rf /"))
        timeline = schema.empty(schema.EVENTS)
        closes = schema.empty(schema.CLOSES)

    assert advice.check_of(Tables(), "restart.oom")[1].startswith("docker inspect GATEWAY ")


def test_a_command_names_the_container_of_the_closes_that_it_is_about():
    """Two projects on one engine: the first of them in the documents was named for both."""

    class Tables:
        facts = facts(
            *((f"container:{p}", key, value) for p in ("a", "b") for key, value in (
                ("role", "gateway"), ("name", f"{p}-gateway-1"), ("compose.project", p)
            ))
        )  # fmt: skip
        timeline = schema.empty(schema.EVENTS)
        closes = pl.DataFrame(
            {
                "timestamp": [datetime(2026, 11, 21, tzinfo=UTC)] * 2,
                "compose_project": ["b", "a"],
                "count": [1, 1],
                "cause": ["restart.oom", "restart.crash"],
                "layer": ["L1", "L1"],
                "incident_id": ["i1", "i2"],
            }
        )

    named = {s.cause: s.command.split("gateway-1")[0][-2:] for s in advice.steps(Tables())}
    assert named == {"restart.oom": "b-", "restart.crash": "a-"}


def test_every_cause_but_the_harmless_has_a_command_or_needs_a_person():
    without = {c.cause for c in rules.builtin() if not c.command and c.cause != rules.EPISODE}
    assert without == {"client.abort", "client.normal", "timeout.heartbeat", "unknown.unknown"}
