"""The lab's labels: what was done and received, and the cause that follows. Worked out by hand; no root needed."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("cryptography", reason="clients of the lab sign with a device key: pip install cryptography")

from lab import evidence
from lab.clients import Record
from lab.incident import Fault
from lab.labels import label
from lab.stage import Setting

T = 1_800_000_000_000
ROUTES = Setting(routes={"/ops/": "auth", "/eu/": "dns"})


def record(how, *, via="proxy", at=10_000, kind="normal", path="/", fault=None, lasted=3000, **more):
    one = Record("c", via, kind, "cli", "192.0.2.30", path, T + at - lasted, fault_id=fault)
    for name, value in more.items():
        setattr(one, name, value)
    return one.end(how, more.get("ended_by", "remote"), more.get("code"), more.get("reason"), T + at)


def fault(cause, reach, start=9_000, end=20_000, name="f1", **more):
    return Fault(name, cause, reach, "", T + start, T + end, **more)


CASES = {
    "cut off by a restart": (
        record("close_frame", code=1012, reason="service restart", established=True),
        [fault("restart.manual", "gateway")],
        "restart.manual",
    ),
    "refused while it is down": (record("http", http_status=502), [fault("restart.oom", "gateway")], "restart.oom"),
    "too early for the restart": (record("http", http_status=502, at=5_000), [fault("restart.oom", "gateway")], None),
    "a restarted bystander": (record("http", http_status=502), [fault("none.unrelated", "none")], None),
    "still starting": (
        record("close_frame", code=1013, reason="gateway starting"),
        [fault("restart.deploy", "gateway")],
        "restart.startup",
    ),
    "a wrong token while nothing is down": (
        record(
            "close_frame", code=1008, reason="unauthorized: gateway token mismatch (…)", kind="wrong_token", fault="f1"
        ),
        [fault("auth.token_mismatch", "client")],
        "auth.token_mismatch",
    ),
    "a wrong token that met a restart": (
        record("refused", via="direct", kind="wrong_token", fault="f1"),
        [fault("auth.token_mismatch", "client"), fault("restart.crash", "gateway", name="f2")],
        "restart.crash",
    ),
    "the client's own goodbye": (
        record("close_frame", code=1000, reason="bye", ended_by="self", established=True),
        [fault("restart.manual", "gateway")],
        "client.normal",
    ),
    "the client's own reset": (record("rst", code=1006, ended_by="self", established=True), [], "client.abort"),
    "no tick came": (
        record("close_frame", code=4000, reason="tick timeout", ended_by="self", established=True),
        [],
        "timeout.heartbeat",
    ),
    "denied at the proxy": (
        record("http", http_status=401, path="/ops/ws", fault="f1"),
        [fault("auth.proxy_denied", "client")],
        "auth.proxy_denied",
    ),
    "an unknown name": (
        record("http", http_status=503, path="/eu/ws", fault="f1"),
        [fault("unreachable.dns", "client")],
        "unreachable.dns",
    ),
    "never said connect": (
        record("close_frame", code=1000, reason="", kind="silent", lasted=15_100, fault="f1"),
        [fault("timeout.handshake", "client")],
        "timeout.handshake",
    ),
    "the reload of a proxy does not touch a direct client": (
        record("eof", code=1006, via="direct", established=True),
        [fault("restart.proxy", "proxy")],
        None,
    ),
    "a reload of the proxy": (
        record("eof", code=1006, established=True),
        [fault("restart.proxy", "proxy")],
        "restart.proxy",
    ),
    "a refusal while proxy and gateway restart is the proxy's": (
        record("refused"),
        [fault("restart.proxy", "proxy"), fault("restart.manual", "gateway", name="f2")],
        "restart.proxy",
    ),
    "a 502 while proxy and gateway restart is the gateway's": (
        record("http", http_status=502),
        [fault("restart.proxy", "proxy"), fault("restart.manual", "gateway", name="f2")],
        "restart.manual",
    ),
    "the token changed": (
        record("close_frame", code=4001, reason="gateway auth changed", established=True),
        [fault("auth.rotated", "rotation")],
        "auth.rotated",
    ),
    "patience that ended after the freeze": (
        record("no_answer", at=25_000, lasted=20_000, ended_by="local"),
        [fault("timeout.upstream", "freeze")],
        "timeout.client",
    ),
    "no answer from a frozen gateway": (
        record("http", http_status=504),
        [fault("timeout.upstream", "freeze")],
        "timeout.upstream",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cause(name):
    one, faults, cause = CASES[name]
    got = label(one, faults, ROUTES)
    assert got.cause == cause, got
    assert (got.why != "") == (cause is None)


def engine(kind, action, second, ident, **attributes):
    actor = {"ID": ident, "Attributes": attributes}
    return json.dumps({"Type": kind, "Action": action, "Actor": actor, "timeNano": int((1_800_000_000 + second) * 1e9)})


def test_only_a_living_gateways_own_disconnect_tells_of_a_partition():
    """A restarted bystander is taken off the network too, and so is the gateway itself when it stops."""
    begun = [
        engine("container", "start", 0, "g", name="x-gateway-1"),
        engine("container", "start", 0, "b", name="x-redis-1"),
    ]
    stop = [
        engine("container", "die", 9, "g", name="x-gateway-1"),
        engine("network", "disconnect", 9.3, "n", container="g"),
    ]
    other = engine("network", "disconnect", 20, "n", container="b")
    cut = engine("network", "disconnect", 40, "n", container="g")
    assert evidence.cuts("\n".join([*begun, *stop, other]), "x-gateway-1") == ""
    assert evidence.cuts("\n".join([*begun, *stop, other, cut]), "x-gateway-1") == cut


def test_the_connection_of_a_request_to_pair_is_not_the_request():
    """A console of JSON writes the request's id before the connection's; all of a device's attempts have one request."""
    request, conns = "1715a80f-04cf-4ffa-b65f-73ca82308455", [f"1a2dbc5{n}-241f-4336-9bd4-867a8779c367" for n in (1, 2)]
    log = [
        (
            T + n * 5_000 + 30.0,
            f'{{"cause":"pairing-required","forwardedFor":"192.0.2.{n}","requestId":"{request}","message":"closed before connect conn={conn} code=1008 reason=pairing required: device is not approved yet (requestId: {request})"}}',
        )
        for n, conn in enumerate(conns, 1)
    ]
    attempts = []
    for n in (1, 2):
        one = Record(f"c{n}", "visitor", "proxy", "webchat", f"192.0.2.{n}", "/", T + n * 5_000 - 100)
        one.close_id = f"c{n}"
        attempts.append(one.end("close_frame", "remote", 1008, "pairing required", T + n * 5_000))
    sources = evidence.Sources({}, {}, log)
    evidence.find_conns(attempts, sources)
    assert sources.conns == {"c1": conns[0], "c2": conns[1]}
