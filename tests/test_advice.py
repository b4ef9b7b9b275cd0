"""What people are told to do: commands with the names of what was seen."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from test_incidents import facts

from occorr import advice, rules, schema


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


@pytest.mark.parametrize(
    ("wrote", "documented", "word"),
    [
        ("caddy_json", None, "stream_timeout"),
        ("nginx_error", "haproxy", "proxy_read_timeout"),  # what wrote of the close, before what else there is
        (None, "haproxy", "timeout tunnel"),
        (None, None, "the proxy or balancer"),
    ],
)
def test_a_check_speaks_of_the_proxy_that_is_there(wrote, documented, word):
    lines = {"event_id": ["v1"], "source_kind": ["proxy"], "parser": [wrote], "container_name": [None]}

    class Tables:
        facts = facts(*[("container:p", "role", f"proxy.{documented}")] * bool(documented))
        timeline = schema.conform(pl.DataFrame(lines if wrote else {n: [] for n in lines}), schema.EVENTS)
        closes = schema.conform(pl.DataFrame({"close_id": ["c1"], "cause": ["timeout.proxy_idle"]}), schema.CLOSES)
        evidence = schema.conform(pl.DataFrame({"close_id": ["c1"], "event_id": ["v1"]}), schema.EVIDENCE)

    assert word in advice.check_of(Tables(), "timeout.proxy_idle")[0]


def test_a_container_that_only_events_tell_of_is_named():
    seen = [{"key": "role", "value": "gateway"}]

    class Tables:
        facts = schema.empty(schema.FACTS)
        timeline = schema.conform(
            pl.DataFrame({"container_name": ["claw-gateway-1", "db"], "attributes": [seen, []]}), schema.EVENTS
        )
        closes = schema.empty(schema.CLOSES)

    assert advice.check_of(Tables(), "restart.manual")[1].endswith("--filter container=claw-gateway-1")
