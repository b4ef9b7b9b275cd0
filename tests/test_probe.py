"""`occorr probe` against servers that do what gateways, proxies and broken routes do; all on loopback."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time

import pytest
from websockets.sync.server import serve

import occorr
from occorr import figures, policy, probe

OCCORR = [sys.executable, "-c", "from occorr.cli import main; main()"]
SECRET = "s3cr3t-0123456789abcdef"


@contextlib.contextmanager
def gateway(greet=True, close=None):
    """A WebSocket server that greets as the gateway does, or closes at once."""

    def handle(connection):
        if close:
            connection.close(*close)
        elif greet:
            connection.send('{"type":"event","event":"connect.challenge"}')
        with contextlib.suppress(Exception):
            connection.recv(5)

    with serve(handle, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def speaking(answer, pause=0.0):
    """A server that reads the request, waits and says `answer`, whatever was asked; None: it closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def run():
            with contextlib.suppress(OSError):
                while True:
                    line, _ = server.accept()
                    with line:
                        line.recv(65536)
                        time.sleep(pause)
                        if answer:
                            line.sendall(answer)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield server.getsockname()[1]


def tried(url, count=2, timeout=5.0, **options):
    return list(
        probe.attempts(probe.target(url), count=count, interval=0.05, timeout=timeout, vantage="here", **options)
    )


def test_a_handshake_is_timed_step_by_step():
    with gateway() as port:
        rows = tried(f"ws://127.0.0.1:{port}/?token={SECRET}", count=3)
    assert [(r["n"], r["result"], r["status"]) for r in rows] == [(n, "connected", 101) for n in (1, 2, 3)]
    assert all(0 <= r[step] < 5000 for r in rows for step in ("dns_ms", "connect_ms", "upgrade_ms", "first_frame_ms"))
    assert rows[0]["probe"] == f"ws://127.0.0.1:{port}/"
    assert SECRET not in json.dumps(rows)
    times = [r["time"] for r in rows]
    assert times == sorted(times)


def test_a_slow_answer_is_the_upgrades_time():
    answer = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
    with speaking(answer, pause=0.3) as port:
        (row,) = tried(f"ws://127.0.0.1:{port}/", count=1)
    assert (row["result"], row["status"], row["detail"]) == ("answered", 502, "Bad Gateway")
    assert 300 <= row["upgrade_ms"] < 5000
    assert row["connect_ms"] < 250


@pytest.mark.parametrize(("close", "code"), [((1008, "pairing required"), 1008), ((1012, "service restart"), 1012)])
def test_a_close_after_the_upgrade_keeps_its_code(close, code):
    with gateway(close=close) as port:
        (row,) = tried(f"ws://127.0.0.1:{port}/", count=1)
    assert (row["result"], row["status"], row["code"], row["detail"]) == ("connected", 101, code, close[1])


def test_what_goes_wrong_is_told_apart():
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        free = reserved.getsockname()[1]
    (refused,) = tried(f"ws://127.0.0.1:{free}/", count=1)
    with speaking(None) as port:
        (closed,) = tried(f"ws://127.0.0.1:{port}/", count=1)
    with speaking(None, pause=2) as port:
        (silent,) = tried(f"ws://127.0.0.1:{port}/", count=1, timeout=0.3)
    with speaking(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as port:
        (tls,) = tried(f"wss://127.0.0.1:{port}/", count=1)
    (dns,) = tried("ws://no-such-host.invalid/", count=1)
    with gateway(greet=False) as port:
        (mute,) = tried(f"ws://127.0.0.1:{port}/", count=1, timeout=0.3)
    assert [r["result"] for r in (refused, closed, silent, tls, dns, mute)] == [
        "refused",
        "closed",
        "silent",
        "tls",
        "dns",
        "connected",
    ]
    assert "connect_ms" not in refused and "connect_ms" in closed and "connect_ms" in tls
    assert "first_frame_ms" not in mute


@pytest.mark.parametrize(
    ("said", "status", "detail"),
    [
        (b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n", 400, "Bad Request"),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 401, "Unauthorized"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", 503, "Service Unavailable"),
        (b"HTTP/1.0 403\r\n\r\n", 403, ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "OK"),  # no upgrade
    ],
)
def test_an_answer_that_is_no_upgrade_has_its_status(said, status, detail):
    """Also from who speaks HTTP/1.0 only, as Go's server does to whom forgot TLS."""
    with speaking(said) as port:
        (row,) = tried(f"ws://127.0.0.1:{port}/", count=1)
    assert (row["result"], row["status"], row["detail"]) == ("answered", status, detail)


def test_what_speaks_no_http_is_told_as_closed():
    with speaking(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        (row,) = tried(f"ws://127.0.0.1:{port}/", count=1)
    assert row["result"] == "closed" and "status" not in row


def test_a_name_with_two_addresses_is_reached_by_the_one_that_takes_it(monkeypatch):
    """As clients do it: localhost is ::1 first, and many gateways listen on 127.0.0.1 alone."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        free = reserved.getsockname()[1]
    with gateway() as port:
        both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", p)) for p in (free, port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        (row,) = tried("ws://localhost/", count=1)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both[:1])
        (none,) = tried("ws://localhost/", count=1)
    assert (row["result"], none["result"]) == ("connected", "refused")


@pytest.mark.parametrize("url", ["ftp://x", "ws://", "ws://h:port/", "http:///x"])
def test_urls_that_are_none(url):
    with pytest.raises(occorr.errors.OccorrError, match="URL"):
        probe.target(url)


@pytest.mark.parametrize(("url", "shown"), [
    ("gateway.example.com", "ws://gateway.example.com:80/"), ("https://u:p@gateway.example.com/x?token=1", "wss://gateway.example.com:443/x"), ("ws://[2001:db8::1]:18789", "ws://[2001:db8::1]:18789/"),
])  # fmt: skip
def test_urls_as_they_are_shown(url, shown):
    assert probe.target(url).shown == shown


@pytest.mark.parametrize("options", [["--count", "0"], ["--count", "10001"], ["--interval", "0.01"]])
def test_the_probe_is_bounded(options):
    done = subprocess.run([*OCCORR, "probe", "ws://127.0.0.1:1/", *options], capture_output=True, timeout=60)
    assert done.returncode == 2
    assert options[0].encode() in done.stderr


def test_check_compares_the_vantages(tmp_path):
    """100 probes inside, all fine; 10 of 100 outside refused: 90 %, below the 97 % of the runbook."""
    with gateway() as port:
        done = subprocess.run(
            [
                *OCCORR,
                "probe",
                f"ws://127.0.0.1:{port}/",
                "--count",
                "100",
                "--interval",
                "0.05",
                "--vantage",
                "inside",
                "-o",
                tmp_path / "inside.jsonl",
            ],
            capture_output=True,
            timeout=120,
        )
    assert done.returncode == 0
    assert b"TCP connect: 100 of 100 (100 %)" in done.stderr
    rows = [json.loads(line) for line in (tmp_path / "inside.jsonl").read_text().splitlines()]
    outside = [dict(row, vantage="outside") for row in rows]
    for row in outside[::10]:
        for key in ("connect_ms", "upgrade_ms", "first_frame_ms", "status"):
            del row[key]
        row["result"], row["detail"] = "refused", "Connection refused"
    (tmp_path / "outside.jsonl").write_text("".join(probe.text(r) + "\n" for r in outside))
    made = {(f.id, f.scope): f for f in figures.figures(occorr.analyze(tmp_path))}
    inside, out = made["tcp_connect", "inside"], made["tcp_connect", "outside"]
    assert (inside.value, inside.n, out.value, out.n) == (100, 100, 90, 100)
    assert "inside reaches it: the proxy or the route between" in out.note
    p95 = sorted(probe.handshake(r) for r in rows)[94]
    assert made["handshake_p95", "inside"].value == pytest.approx(p95, abs=0.01)
    judged = {(j.figure.id, j.figure.scope): j.status for j in policy.judge(list(made.values()), policy.default())}
    assert judged["tcp_connect", "inside"] == "pass"
    assert judged["tcp_connect", "outside"] == "fail"
    assert judged["probe_interval_inside", ""] == "pass"  # a twentieth of a second apart
