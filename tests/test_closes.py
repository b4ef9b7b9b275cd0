"""The assignment that joins observations, against every possible one; and closes that nobody or everybody logged."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import occorr
from occorr import closes

SAMPLES = Path(__file__).parent.parent / "sample_logs"
PAIRS = st.dictionaries(st.tuples(st.integers(0, 3), st.integers(10, 13)), st.integers(0, 6), min_size=1, max_size=12)


def matchings(pairs: dict[tuple[int, int], float]) -> list[dict[int, int]]:
    """Every one-to-one choice among the pairs, the empty one too."""
    found = [{}]
    for left, right in sorted(pairs):
        found += [{**m, left: right} for m in found if left not in m and right not in m.values()]
    return found


def best(pairs: dict[tuple[int, int], float]) -> list[dict[int, int]]:
    """Those with most pairs, and of them those that cost least."""
    every = matchings(pairs)
    most = max(map(len, every))
    cost = {i: sum(pairs[p] for p in m.items()) for i, m in enumerate(every) if len(m) == most}
    return [every[i] for i, c in cost.items() if c - min(cost.values()) < 1e-9]


def assigned(pairs: dict[tuple[int, int], float]) -> pl.DataFrame:
    rows = [(a, b, float(c)) for (a, b), c in pairs.items()]
    return closes.assign(
        pl.DataFrame(rows, schema={"l": pl.UInt32, "r": pl.UInt32, "cost": pl.Float64}, orient="row"), "l", "r"
    )


@settings(max_examples=300, deadline=None)
@given(PAIRS)
def test_assignment_is_optimal(pairs):
    out = dict(assigned(pairs).select("l", "r").rows())
    wanted = best(pairs)
    assert set(out.items()) <= set(pairs)
    assert len(set(out.values())) == len(out)
    assert len(out) == len(wanted[0])
    assert sum(pairs[p] for p in out.items()) == sum(pairs[p] for p in wanted[0].items())


@settings(max_examples=300, deadline=None)
@given(PAIRS)
def test_exactly_what_could_be_otherwise_has_a_group(pairs):
    """Integer costs: two solutions are equally good or clearly not."""
    wanted = best(pairs)
    for left, right, group in assigned(pairs).rows():
        sure = all(m.get(left) == right for m in wanted)
        assert (group is None) == sure, (left, right, group, wanted)


@settings(max_examples=100, deadline=None)
@given(PAIRS, st.randoms(use_true_random=False))
def test_order_of_the_candidates_does_not_matter(pairs, chance):
    turned = list(pairs.items())
    chance.shuffle(turned)
    assert assigned(dict(turned)).sort("l").equals(assigned(pairs).sort("l"))


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_symmetric_closes_share_one_group(size):
    out = assigned({(i, j): 1.0 for i in range(size) for j in range(10, 10 + size)})
    assert out.height == size
    assert out.get_column("group").null_count() == 0
    assert out.get_column("group").n_unique() == 1


def test_separate_symmetries_are_separate_groups():
    out = assigned({(i, j): 1.0 for a in (0, 2) for i in (a, a + 1) for j in (a + 10, a + 11)})
    groups = dict(out.select("l", "group").rows())
    assert groups[0] == groups[1] != groups[2] == groups[3]


def test_a_ring_can_be_turned():
    """No two rows can be exchanged, but all three can be moved on by one."""
    out = assigned({(0, 10): 1, (0, 11): 1, (1, 11): 1, (1, 12): 1, (2, 12): 1, (2, 10): 1})
    assert out.height == 3
    assert out.get_column("group").null_count() == 0
    assert out.get_column("group").n_unique() == 1


def test_one_line_for_two_connections():
    out = assigned({(0, 10): 1.0, (1, 10): 1.0})
    assert out.height == 1
    assert out.item(0, "group") is not None


def test_clear_cases_have_no_group():
    out = assigned({(0, 10): 0.1, (0, 11): 1.0, (1, 10): 1.0, (1, 11): 0.1})
    assert dict(out.select("l", "r").rows()) == {0: 10, 1: 11}
    assert out.get_column("group").to_list() == [None, None]


def test_more_pairs_come_before_cheaper_pairs():
    assert assigned({(0, 10): 0.0, (0, 11): 3.0, (1, 10): 3.0}).height == 2


def test_no_candidates():
    empty = pl.DataFrame(schema={"l": pl.UInt32, "r": pl.UInt32, "cost": pl.Float64})
    assert closes.assign(empty, "l", "r").is_empty()


def test_a_thousand_alike_are_assigned_in_time():
    rows = [(i, 10_000 + j, abs(i - j) / 10) for i in range(1000) for j in range(max(0, i - 2), min(1000, i + 3))]
    out = closes.assign(
        pl.DataFrame(rows, schema={"l": pl.UInt32, "r": pl.UInt32, "cost": pl.Float64}, orient="row"), "l", "r"
    )
    assert out.height == 1000
    assert (out.get_column("r") - 10_000 == out.get_column("l")).all()


# ---------------------------------------------------------------- closes of small logs
OPEN = "{0} [ws] ← open remoteAddr=192.0.2.9 remotePort=4{1:04d} localAddr=192.0.2.2 localPort=18789 endpoint=192.0.2.9:4{1:04d}->192.0.2.2:18789 conn=aaaaaaaa…{1:04d}"
CLOSE = "{0} [ws] → close code={2} durationMs=1000 handshake=connected lastFrameType=req lastFrameMethod=health lastFrameId=h2 endpoint=192.0.2.9:4{1:04d}->192.0.2.2:18789 conn=aaaaaaaa…{1:04d}"
GATEWAY = "7" * 64
T0 = 1_795_240_000_000


def stamp(ms: int) -> str:
    return datetime.fromtimestamp((T0 + ms) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{(T0 + ms) % 1000:03d}Z"


def both(ms: int) -> str:
    """The engine's stamp and, 1 ms before, the gateway's own."""
    return f"{stamp(ms + 1)[:-1]}000001Z {stamp(ms)[:-1]}+00:00"


def event(ms: int, action: str, **attributes: str) -> str:
    image = "openclaw/gateway:2026.9.6"
    return json.dumps(
        {
            "status": action,
            "id": GATEWAY,
            "from": image,
            "Type": "container",
            "Action": action,
            "Actor": {"ID": GATEWAY, "Attributes": {**attributes, "image": image, "name": "claw_gateway_1"}},
            "scope": "local",
            "time": (T0 + ms) // 1000,
            "timeNano": (T0 + ms) * 1_000_000,
        }
    )


@pytest.fixture
def killed(tmp_path):
    """Two connections; one closes, the other is open when the container is killed."""
    lines = [
        f"{both(1000 + i)} [gateway] {t}"
        for i, t in enumerate(
            ["loading configuration…", "starting...", "http server listening (1 plugins: x; 1.0s)", "ready"]
        )
    ]
    lines += [
        OPEN.format(both(5000), 1),
        OPEN.format(both(5500), 2),
        CLOSE.format(both(6000), 1, 1000),
        f"{both(9000)} [ws] ⇄ res ✓ health 4ms cached=true conn=aaaaaaaa…0002 id=h1",
    ]
    (tmp_path / "gateway.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    events = [
        event(0, "create"),
        event(300, "start"),
        event(9900, "kill", signal="9"),
        event(10_000, "die", exitCode="137"),
    ]
    (tmp_path / "docker.events.jsonl").write_text("\n".join(events) + "\n", encoding="utf-8")
    return occorr.analyze(tmp_path).closes


def test_a_close_that_nobody_logged(killed):
    assert killed.height == 2
    row = killed.filter(pl.col("client_port") == 40002).to_dicts()[0]
    assert row["websocket_close_code"] is None and row["code_gateway"] is None and row["code_client"] is None
    assert row["established"]
    assert "docker" in row["observers"]
    low, high = (row[c].timestamp() * 1000 - T0 for c in ("time_earliest", "time_latest"))
    assert low <= 9010 and 9990 <= high <= 10_100
    assert low >= 8900, "it still lived at 9 s"
    assert (row["cause"], row["verdict"]) == ("restart.killed", "decisive")


def test_a_close_that_was_logged_before_the_death(killed):
    row = killed.filter(pl.col("client_port") == 40001).to_dicts()[0]
    assert (row["websocket_close_code"], row["cause"]) == (1000, "client.normal")
    assert row["duration_ns"] == 1_000_000_000


@pytest.fixture(scope="module", params=["oom-then-deploy", "lockout-beside-worker", "paused-gateway-cli-gave-up"])
def rows(request):
    return occorr.analyze(SAMPLES / request.param).closes


def test_close_ids_are_unique(rows):
    assert rows.get_column("close_id").n_unique() == rows.height
    assert rows.get_column("close_id").null_count() == 0


def test_times_are_in_order(rows):
    placed = rows.filter(pl.col("timestamp").is_not_null())
    assert placed.filter(
        (pl.col("timestamp") < pl.col("time_earliest")) | (pl.col("timestamp") > pl.col("time_latest"))
    ).is_empty()
    assert placed.filter(pl.col("opened") > pl.col("time_latest")).is_empty()


def test_a_row_has_an_observer_and_the_code_of_one(rows):
    assert rows.get_column("observers").list.len().min() >= 1
    both = rows.filter(pl.col("code_client").is_not_null())
    assert (both.get_column("websocket_close_code") == both.get_column("code_client")).all()
    assert (both.get_column("code_observer") == "client").all()
    server = rows.filter(pl.col("code_client").is_null() & pl.col("code_gateway").is_not_null())
    assert (server.get_column("websocket_close_code") == server.get_column("code_gateway")).all()


def test_a_group_of_several_causes_decides_only_what_the_gateway_states(rows):
    mixed = rows.filter(pl.col("group_id").is_not_null() & (pl.col("cause").n_unique().over("group_id") > 1))
    stated = pl.col("rule").str.contains("/(?:auth-reason|cause-)")
    assert mixed.filter((pl.col("verdict") == "decisive") & ~stated).is_empty()


def test_attempts_in_some_order_keep_what_the_gateway_says_of_each(tmp_path):
    """Four refusals in one second behind a proxy that writes whole seconds: which tunnel was whose, nothing tells."""
    told = {1: ("token_mismatch", "gateway token mismatch"), 2: ("token_mismatch", "gateway token mismatch")}
    told |= {n: ("rate_limited", "too many failed authentication attempts (retry later)") for n in (3, 4)}
    lines = []
    for n, (reason, words) in told.items():
        conn, peer = f"0000000{n}-1111-4222-8333-00000000000{n}", f"192.0.2.3:5000{n}->192.0.2.2:18789"
        lines.append(
            f"{both(n * 100)} [ws] closed before connect conn={conn} peer={peer} remote=192.0.2.3 fwd=198.51.100.7"
            " origin=n/a host=gw.example.org ua=openclaw-cli/2026.9.6 code=1008"
            f" reason=unauthorized: {words} phase=auth_credentials_received cause=unauthorized durationMs=40"
            f" handshake=failed phase=auth_credentials_received endpoint={peer} authReason={reason} client=cli mode=cli"
        )
    (tmp_path / "gateway.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    second = datetime.fromtimestamp(T0 / 1000, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    access = [f'198.51.100.7 - - [{second}] "GET / HTTP/1.1" 101 80 "-" "openclaw-cli/2026.9.6"'] * 4
    (tmp_path / "nginx.access.log").write_text("\n".join(access) + "\n", encoding="utf-8")
    found = occorr.analyze(tmp_path).closes.sort("conn_id")
    assert found.get_column("observers").to_list() == [["gateway", "proxy"]] * 4
    assert found.get_column("group_id").n_unique() == 1 and found.get_column("group_id").null_count() == 0
    assert found.get_column("cause").to_list() == [f"auth.{told[n][0]}" for n in (1, 2, 3, 4)]
    assert set(found.get_column("verdict")) == {"decisive"}
    assert set(found.get_column("client_address")) == {"198.51.100.7"}


def test_a_refused_message_without_a_close_line_is_a_close(tmp_path):
    """What a gateway logs at its default verbosity of a message that is too large: the error and nothing after it."""
    conn = "2af9242f-248a-4cd9-9f36-34fcaeb4c648"
    lines = [
        f"{both(0)} [gateway] ready",
        f"{both(4000)} [ws] error conn={conn} remote=203.0.113.140: Max payload size exceeded",
        f"{both(9000)} [gateway] ready",
    ]
    (tmp_path / "gateway.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    row = occorr.analyze(tmp_path).closes.to_dicts()
    assert [(r["conn_id"], r["cause"], r["verdict"], r["websocket_close_code"]) for r in row] == [
        (conn, "protocol.payload_too_large", "decisive", None)
    ]
    # a client that is still sending 25 MB hears of it up to 1.1 s later
    low, high = (row[0][c].timestamp() * 1000 - T0 for c in ("time_earliest", "time_latest"))
    assert low <= 4000 and 5100 <= high <= 7000


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        ("pairing required: device is not approved yet (requestId: 7c206152-3a78-4f2f-8ff7-56030576452e)", "decisive"),
        ("pairing required", "supported"),
    ],
)
def test_the_number_of_a_pairing_request_is_the_gateways_own(tmp_path, reason, verdict):
    """Consoles before 2026.8 name no cause; the bare words may be a client's that leaves."""
    head = "conn=3308a312-00b3-483f-a610-16595feb6c97 peer=203.0.113.10:55460->203.0.113.9:18789 remote=203.0.113.10"
    line = f"{both(4000)} [ws] closed before connect {head} fwd=203.0.113.50 origin=http://gw.example.com host=gw.example.com ua=Mozilla/5.0 (X11; Linux x86_64) code=1008 reason={reason}"
    (tmp_path / "gateway.log").write_text(f"{both(0)} [gateway] ready\n{line}\n", encoding="utf-8")
    rows = occorr.analyze(tmp_path).closes
    assert rows.select("cause", "verdict", "client_address").rows() == [
        ("auth.pairing_required", verdict, "203.0.113.50")
    ]


def test_two_lines_of_one_end_keep_what_each_says(tmp_path):
    """The console tells of a refused attempt twice, the file log once; only the first says whose it was."""
    conn = "415c5478-6300-4929-b0b3-8bfca6cc435c"
    peer = "203.0.113.31:43628->203.0.113.30:18789"
    detail = f"cause=startup-sidecars-pending durationMs=220 handshake=failed phase=ws_upgrade_started endpoint={peer} conn={conn[:8]}…{conn[-4:]}"
    console = [
        f"{both(4000)} [ws] closed before connect conn={conn} peer={peer} remote=203.0.113.31 fwd=203.0.113.61 origin=n/a host=gw.example.com ua=openclaw-cli/2026.9.6 code=1013 reason=gateway starting phase=ws_upgrade_started",
        f"{both(4005)} [ws] → close code=1013 reason=gateway starting {detail}",
    ]
    message = f"→ close code=1013 reason=gateway starting {detail}"
    meta = {"runtime": "node", "hostname": "85c53ba36155", "date": stamp(4004), "logLevelName": "INFO"}
    filed = {"0": '{"subsystem":"gateway/ws"}', "1": message, "_meta": meta, "time": stamp(4004)}
    (tmp_path / "gateway.docker.log").write_text("\n".join(console) + "\n", encoding="utf-8")
    (tmp_path / "gateway.file.log").write_text(json.dumps(filed, ensure_ascii=False) + "\n", encoding="utf-8")
    result = occorr.analyze(tmp_path)
    assert result.closes.select("client_address", "via", "websocket_close_code").rows() == [
        ("203.0.113.61", "proxy", 1013)
    ]
    assert result.timeline.filter(pl.col("event_name") == "websocket.close").height == 2


def test_what_a_busy_gateway_accepts_late_keeps_its_order(tmp_path):
    """Two tunnels, opened 3.0 s and 3.8 s late by a gateway that starts, and closed at one moment: first come, first served."""
    began = {1: (0, 37763), 2: (800, 52499)}
    opened = {1: 3000, 2: 4600}
    lines = [OPEN.format(both(at), n) for n, at in opened.items()]
    lines += [CLOSE.format(both(9000 + n), n, 1012) for n in began]
    lines = [
        line.replace("192.0.2.9:4", "192.0.2.3:4").replace("remoteAddr=192.0.2.9", "remoteAddr=192.0.2.3")
        for line in lines
    ]
    (tmp_path / "gateway.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    access = []
    for at, port in began.values():
        moment = (
            datetime.fromtimestamp((T0 + at) / 1000, UTC).strftime("%d/%b/%Y:%H:%M:%S.") + f"{(T0 + at) % 1000:03d}"
        )
        access.append(
            f"203.0.113.142:{port} [{moment}] web gateway/gateway-1 0/0/0/2644/{9000 - at} 101 31633 - - SD-- 1/1/0/0/0 0/0"
            ' "GET / HTTP/1.1"'
        )
    (tmp_path / "haproxy.log").write_text("\n".join(access) + "\n", encoding="utf-8")
    found = occorr.analyze(tmp_path).closes
    assert dict(found.select("conn_id", "client_port").rows()) == {"aaaaaaaa…0001": 37763, "aaaaaaaa…0002": 52499}


def test_a_command_that_was_reset_is_no_connection_that_ended_meanwhile(tmp_path):
    """The CLI says ECONNRESET of a connection that it did not get; another client's polite end beside it stays that client's."""
    lines = [f"{both(0)} [gateway] ready", OPEN.format(both(5000), 1)]
    lines += [f"{both(5100)} [ws] → hello-ok methods=467 events=64 presence=2 stateVersion=1 conn=aaaaaaaa…0001"]
    lines += [CLOSE.format(both(6000), 1, 1001), f"{both(20_000)} [gateway] ready"]
    (tmp_path / "gateway.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "cli").mkdir()
    told = "Gateway not reachable at ws://127.0.0.1:18790 (ECONNRESET).\nGateway target: ws://127.0.0.1:18790\nSource: cli --url\n"
    (tmp_path / "cli" / "01.out").write_text(told, encoding="utf-8")
    meta = {"argv": "openclaw gateway call health", "start_ms": T0 + 4000, "end_ms": T0 + 6500, "rc": 1}
    (tmp_path / "cli" / "01.meta.json").write_text(json.dumps(meta), encoding="utf-8")
    found = occorr.analyze(tmp_path).closes
    assert sorted(found.get_column("observers").to_list()) == [["cli"], ["gateway"]]


def command(folder, number, start, end, *told):
    """What a command printed, with when it ran: ms after T0."""
    folder.mkdir(exist_ok=True)
    (folder / f"{number:02}.out").write_text("\n".join(told) + "\n", encoding="utf-8")
    meta = {"argv": "openclaw gateway call health", "start_ms": T0 + start, "end_ms": T0 + end, "rc": 1}
    (folder / f"{number:02}.meta.json").write_text(json.dumps(meta), encoding="utf-8")


def refused_beside(folder, *others):
    """A command that was refused at 16 s, another client's tunnel that ended at 4 s, and other commands beside them."""
    why = "unauthorized: gateway token mismatch"
    peer = "198.51.100.7:40001->192.0.2.2:18789"
    refusal = f"{both(16_000)} [ws] closed before connect conn=00000001-1111-4222-8333-000000000001 peer={peer} remote=198.51.100.7 fwd=n/a origin=n/a host=gw.example.com ua=n/a code=1008 reason={why} phase=auth_credentials_received cause=unauthorized durationMs=200 handshake=failed phase=auth_credentials_received endpoint={peer} authReason=token_mismatch client=cli mode=cli version=2026.9.6"
    lines = [f"{both(0)} [gateway] ready", refusal, f"{both(40_000)} [gateway] ready"]
    (folder / "gateway.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "access.log").write_text(
        f'203.0.113.9:4000 {(T0 + 4000) / 1000:.3f} "GET / HTTP/1.1" 101 request_time=2.500 connection=7 upgrade=websocket'
        f' upstream=192.0.2.2:18789 upstream_status=101 upstream_time=2.500 agent="openclaw-cli/2026.9.6"\n'
    )
    closed = f"Gateway call failed: GatewayTransportError: gateway closed (1008): {why}"
    command(folder / "cli", 1, 1000, 16_500, closed)
    for n, (start, end, told) in enumerate(others, 2):
        command(folder / "cli", n, start, end, told)
    return occorr.analyze(folder).closes


@pytest.mark.parametrize(
    "other",
    [
        (15_500, 18_500, "Gateway call failed: GatewayTransportError: gateway closed (1008): no close reason"),
        (15_500, 18_500, 'Gateway call failed: Error: SECURITY ERROR: Gateway URL "ws://gw:18789" uses plaintext ws://'),
        (15_500, 25_000, "Gateway call failed: GatewayTransportError: gateway closed (1006 abnormal closure (no close frame)): no close reason"),
    ],
)  # fmt: skip
def test_a_command_that_was_told_the_very_words_of_a_close_is_that_closes(tmp_path, other):
    """It was given a bystander's tunnel, so that a later command, which had another end, could have its close."""
    found = refused_beside(tmp_path, other)
    (own,) = found.filter(pl.col("code_gateway") == 1008).to_dicts()
    assert (own["observers"], own["code_client"]) == (["gateway", "cli"], 1008)
    (tunnel,) = found.filter(pl.col("observers").list.contains("proxy")).to_dicts()
    assert tunnel["observers"] == ["proxy"]


def test_a_command_that_did_not_dial_had_no_connection_to_close(tmp_path):
    refusal = 'Gateway call failed: Error: SECURITY ERROR: Gateway URL "ws://gw:18789" uses plaintext ws://'
    assert refused_beside(tmp_path, (20_000, 22_000, refusal)).height == 2


def test_a_refusal_whose_end_apache_does_not_stamp_ends_where_its_error_is_told(tmp_path):
    """Apache's common format stamps the start, and a refusal may take a minute; its error log tells when it failed."""
    (tmp_path / "access.log").write_text(
        '192.0.2.117 - - [28/Nov/2026:17:42:55 +0000] "GET / HTTP/1.1" 503 529 "-" "-"\n'
        '192.0.2.119 - - [28/Nov/2026:17:43:40 +0000] "GET / HTTP/1.1" 503 529 "-" "-"\n'
    )
    (tmp_path / "error.log").write_text(
        "[Sat Nov 28 17:42:02.077971 2026] [mpm_event:notice] [pid 1:tid 1] AH00489: Apache/2.4.71 (Debian) configured -- resuming normal operations\n"
        "[Sat Nov 28 17:42:55.193251 2026] [proxy_http:error] [pid 7:tid 21] [client 192.0.2.117:33915] AH01114: HTTP: failed to make connection to backend: 192.0.2.88\n"
    )
    told, alone = occorr.analyze(tmp_path, tz="UTC").closes.sort("timestamp").to_dicts()
    error = datetime(2026, 11, 28, 17, 42, 55, 193251, tzinfo=UTC)
    clock = timedelta(seconds=2.1)  # what a clock that nothing ties may be off by
    assert told["timestamp"] == error
    assert (
        error - clock <= told["time_earliest"] <= error <= told["time_latest"] <= error + clock + timedelta(seconds=1)
    )
    assert alone["time_latest"] - alone["time_earliest"] > timedelta(seconds=60)
