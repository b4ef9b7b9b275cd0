"""One client's attempt: what it does, and what it receives, with the host's clock. It never guesses a cause."""

from __future__ import annotations

import random
import select
import socket
import struct
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .websocket import ADMIN, CLOSE, Socket, connect_request, named, now, upgrade

if TYPE_CHECKING:
    import threading

AGENT = {
    "webchat": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36"
}
ORIGIN = "http://gw.example.com"
BAD_FRAMES = {
    "text": "hello there", "other": '{"type":"foo"}', "early": '{"type":"req","id":"x","method":"health","params":{}}',
    "params": '{"type":"req","id":"x","method":"connect","params":{"minProtocol":"a"}}', "bits": b"\xff\xff\xff\xff\xff",
}  # fmt: skip


@dataclass(slots=True)
class World:
    """What every client of an incident needs to know."""

    direct: tuple[str, int]
    proxy: tuple[str, int] | None
    token: str
    device: Ed25519PrivateKey  # paired with the gateway
    version: str
    build: str | None
    skew_ms: int = 0  # of the gateway's clock: a device signs the time
    second: tuple[str, int] | None = None  # another gateway


@dataclass(slots=True)
class Record:
    """What one attempt did and received; times in epoch ms."""

    client: str
    via: str
    kind: str
    mode: str
    src_ip: str | None
    path: str
    t_open_ms: int
    t_close_ms: int = 0
    t_hello_ms: int | None = None
    client_local_port: int | None = None
    code: int | None = None
    reason: str | None = None
    how: str = ""
    ended_by: str | None = None
    http_status: int | None = None
    conn_id: str | None = None
    established: bool = False
    fault_id: str | None = None
    close_id: str = ""
    error: str = ""  # what the gateway answered before it closed, or what a CLI printed
    t_close_window_ms: list[int] | None = None
    extra: dict[str, object] = field(default_factory=dict)

    def end(
        self,
        how: str,
        by: str | None = "remote",
        code: int | None = None,
        reason: str | None = None,
        at: int | None = None,
    ) -> Record:
        """Note how it ended."""
        self.how, self.ended_by, self.code, self.reason, self.t_close_ms = how, by, code, reason, at or now()
        return self

    def plain(self) -> dict[str, object]:
        """As a dictionary."""
        return asdict(self)


def attempt(world: World, kind: str = "normal", *, name: str, via: str = "direct", source: str | None = None, mode: str = "cli", path: str = "/", hold: float = 3, end: str = "1000",
            chat: float | None = None, variant: str = "", watch: bool = False, stop: threading.Event | None = None, http_patience: float = 20, fault: str | None = None, rng: random.Random | None = None) -> Record:  # fmt: skip
    """Open a connection, live its life and return what happened.

    Args:
        kind: how the client behaves: normal, wrong_token, no_token, pairing, nodevice, origin, version, invalid, big_early, big_late, silent (never says connect), deaf (answers no ping), tick (waits for ticks),
            slow (never reads), early_abort, closed_port.
        mode: cli or webchat.
        path: of the upgrade; a proxy routes by it.
        hold: seconds to stay.
        end: how it says goodbye: a close code, rst or fin.
        chat: seconds between its requests.
        watch: it gives a dead network up after 4 s.
    """
    rng = rng or random.Random(name)
    record = Record(name, "proxy" if via == "proxy" else "direct", kind, mode, source, path, now(), fault_id=fault)
    address = {"proxy": world.proxy, "second": world.second}.get(via, world.direct)
    assert address is not None
    if kind == "closed_port":
        address = (address[0], address[1] + 7)
    headers = {
        "User-Agent": AGENT.get(mode, f"openclaw-cli/{world.version}"),
        "Host": "gw.example.com" if via == "proxy" else f"{address[0]}:{address[1]}",
    }
    if mode == "webchat":
        headers["Origin"] = "https://chat.example.com" if kind == "origin" else ORIGIN
    try:
        connection = upgrade(
            address,
            path,
            headers,
            source=source,
            http_patience=http_patience,
            user_timeout_ms=4000 if watch else 0,
            small_buffer=kind == "slow",
        )
    except OSError as error:
        return record.end({"reset": "reset_before_101", "timeout": "connect_timeout"}.get(named(error), named(error)))
    record.client_local_port = connection.tcp.getsockname()[1]
    record.http_status = connection.status
    try:
        if connection.silent:
            return record.end("no_answer", "local")
        if connection.status != 101:
            return record.end(
                "http" if connection.status else "eof_before_101",
                reason=connection.body[:160].decode(errors="replace").strip() or None,
            )
        record.http_status = None
        return _live(
            world,
            connection,
            record,
            kind=kind,
            mode=mode,
            hold=hold,
            end=end,
            chat=chat,
            variant=variant,
            watch=watch,
            stop=stop,
            rng=rng,
        )
    except OSError as error:
        return record.end("reset" if named(error) == "timeout" else named(error), code=1006, reason="")
    finally:
        connection.tcp.close()


def _closed(connection: Socket, record: Record, frame: tuple[str, object, object]) -> Record:
    """The peer ended it."""
    if frame[0] == "end":
        return record.end(str(frame[1]), code=1006, reason="")
    at = now()
    try:
        connection.send(connection.answer, CLOSE)
        connection.receive(1)
    except OSError:
        pass
    return record.end("close_frame", code=int(str(frame[1])), reason=str(frame[2]), at=at)


def _listen(
    connection: Socket,
    record: Record,
    until: float,
    *,
    pong: bool = True,
    chat: float | None = None,
    watch: bool = False,
    stop: threading.Event | None = None,
    tick: float | None = None,
) -> Record | None:
    """Read until `until` or `stop`; a record if the peer ended it, or the client's own watch did."""
    asked, waiting, heard, number = time.monotonic(), None, time.monotonic(), 0
    while time.monotonic() < until and not (stop and stop.is_set()):
        frame = connection.receive(min(0.5, max(0.05, until - time.monotonic())), pong=pong)
        if frame[0] in ("close", "end"):
            return _closed(connection, record, frame)
        if frame[0] == "text":
            waiting = None
            if isinstance(frame[1], dict) and frame[1].get("event") == "tick":
                heard = time.monotonic()
        if tick and time.monotonic() - heard > tick:
            at = now()
            connection.send(struct.pack(">H", 4000) + b"tick timeout", CLOSE)
            connection.receive(2)
            return record.end("close_frame", "self", 4000, "tick timeout", at)
        if watch and waiting and time.monotonic() - waiting > 5:
            at = now()
            connection.abort()
            return record.end("watchdog", "local", 1006, "no answer", at)
        if chat and time.monotonic() - asked > chat:
            number, asked = number + 1, time.monotonic()
            waiting = waiting or asked
            connection.send({"type": "req", "id": f"h{number}", "method": "health", "params": {}})
    return None


def _live(
    world: World,
    connection: Socket,
    record: Record,
    *,
    kind: str,
    mode: str,
    hold: float,
    end: str,
    chat: float | None,
    variant: str,
    watch: bool,
    stop: threading.Event | None,
    rng: random.Random,
) -> Record:
    """The life after the upgrade."""
    if kind == "early_abort":
        time.sleep(0.2)
        at = now()
        connection.abort()
        return record.end("rst", "self", 1006, "", at)
    frame = connection.receive(40)
    if frame[0] in ("close", "end"):
        return _closed(connection, record, frame)
    if frame[0] == "timeout":
        at = now()
        connection.abort()
        return record.end("no_challenge", "local", 1006, "no challenge", at)
    nonce = frame[1].get("payload", {}).get("nonce", "") if isinstance(frame[1], dict) else ""
    if kind == "silent":
        return _listen(connection, record, time.monotonic() + 25) or record.end("still_open", "self")
    if kind == "invalid":
        if variant == "bits":
            connection.tcp.sendall(BAD_FRAMES["bits"])
        else:
            connection.send(BAD_FRAMES[variant])
        return _listen(connection, record, time.monotonic() + 20) or record.end("still_open", "self")
    if kind == "big_early":
        connection.send("x" * 70000)
        return _listen(connection, record, time.monotonic() + 8) or record.end("still_open", "self")
    if kind == "late_hello":  # the gateway stalls now; its timer will be faster than our request
        time.sleep(float(variant or 0))
    admin = mode == "webchat"
    request = {
        "nonce": nonce, "token": world.token, "client": "openclaw-control-ui" if admin else "cli", "mode": mode, "scopes": ADMIN if admin else ("operator.read",),
        "device": world.device if admin else None, "version": world.version, "build": world.build if admin else None, "skew_ms": world.skew_ms,
    }  # fmt: skip
    if kind == "wrong_token":
        request |= {
            "token": f"bad-{rng.randrange(10**6)}",
        }
    elif kind == "no_token":
        request |= {"token": None, "device": Ed25519PrivateKey.generate(), "scopes": ADMIN}
    elif kind == "pairing":
        request |= {"device": Ed25519PrivateKey.generate(), "scopes": ADMIN}
    elif kind == "nodevice":
        request |= {"device": None}
    elif kind == "version":
        request |= {"protocol": (1, 2)}
    connection.send(connect_request(**request))
    while True:
        frame = connection.receive(40)
        if frame[0] != "text" or not isinstance(frame[1], dict):
            if frame[0] == "other":
                continue
            break
        if frame[1].get("type") == "event":
            continue
        if frame[1].get("ok"):
            break
        record.error = str(frame[1].get("error"))[:200]
    if frame[0] in ("close", "end"):
        return _closed(connection, record, frame)
    if frame[0] == "timeout":
        at = now()
        connection.abort()
        return record.end("no_hello", "local", 1006, "no hello", at)
    payload = frame[1].get("payload", {}) if isinstance(frame[1], dict) else {}
    record.conn_id, record.established, record.t_hello_ms = payload.get("server", {}).get("connId"), True, now()
    if kind == "big_late":
        connection.send({"type": "req", "id": "b", "method": "health", "params": {"x": "y" * 27_000_000}})
        return _listen(connection, record, time.monotonic() + 10) or record.end("still_open", "self")
    if kind == "slow":
        return _drown(connection, record, hold)
    tick = 2 * payload.get("policy", {}).get("tickIntervalMs", 30000) / 1000 if kind == "tick" else None
    ended = _listen(
        connection, record, time.monotonic() + hold, pong=kind != "deaf", chat=chat, watch=watch, stop=stop, tick=tick
    )
    return ended or _goodbye(connection, record, end, rng)


def _drown(connection: Socket, record: Record, hold: float) -> Record:
    """Ask for far more than is ever read."""
    connection.tcp.settimeout(2)
    gone = select.poll()
    gone.register(connection.tcp, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    try:
        for number in range(400):  # some 50 MB must lie in the gateway's buffer before it acts
            connection.send({"type": "req", "id": f"s{number}", "method": "config.schema", "params": {}})
            if gone.poll(20):
                break
        gone.poll(1000 * hold)
    except OSError:
        pass
    until = time.monotonic() + 25
    while time.monotonic() < until:  # now read what there is, and how it ended
        frame = connection.receive(2)
        if frame[0] in ("close", "end"):
            return _closed(connection, record, frame)
    return record.end("still_open", "self")


def _goodbye(connection: Socket, record: Record, end: str, rng: random.Random) -> Record:
    """The client ends it."""
    at = now()
    if end == "rst":
        connection.abort()
        return record.end("rst", "self", 1006, "", at)
    if end == "fin":
        connection.tcp.shutdown(socket.SHUT_RDWR)
        return record.end("fin", "self", 1006, "", at)
    code = int(end)
    reason = rng.choice(["", "bye", "done"]) if code == 1000 else ""
    connection.send(b"" if code == 1005 else struct.pack(">H", code) + reason.encode(), CLOSE)
    for _ in range(50):
        if connection.receive(2)[0] in ("close", "end", "timeout"):
            break
    return record.end("close_frame", "self", code, reason, at)
