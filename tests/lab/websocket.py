"""A WebSocket client by hand (RFC 6455), since it must also break the rules, and the gateway's connect handshake."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
TCP_USER_TIMEOUT = 18
ADMIN = ("operator.read", "operator.write", "operator.admin")
ERRORS = {
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "etimedout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
}


def now() -> int:
    """The host's clock, epoch ms."""
    return time.time_ns() // 1_000_000


def named(error: OSError) -> str:
    """An error of the network in one word."""
    return (
        "timeout"
        if isinstance(error, TimeoutError) and error.errno is None
        else ERRORS.get(error.errno, f"errno_{error.errno}")
    )


@dataclass(slots=True)
class Socket:
    """One connection: the TCP socket, the HTTP answer to its upgrade, and what was received and not yet read."""

    tcp: socket.socket
    status: int | None = None
    body: bytes = b""
    buffer: bytes = b""
    answer: bytes = field(default=b"", repr=False)  # payload of the close frame that came
    silent: bool = False  # no answer to the upgrade in time

    def take(self, count: int) -> bytes:
        """The next bytes without consuming them, so that a timeout loses none."""
        while len(self.buffer) < count:
            got = self.tcp.recv(1 << 16)
            if not got:
                raise EOFError
            self.buffer += got
        return self.buffer[:count]

    def receive(self, seconds: float, *, pong: bool = True) -> tuple[str, object, object]:
        """The next frame: ("text", object, None), ("close", code, reason), ("other", opcode, None), ("end", how, None) or ("timeout", None, None)."""
        self.tcp.settimeout(max(seconds, 0.01))
        try:
            first, length, head = *self.take(2), 2
            length &= 127
            if length > 125:
                head = 4 if length == 126 else 10
                (length,) = struct.unpack(">H" if head == 4 else ">Q", self.take(head)[2:])
            payload = self.take(head + length)[head:]
            self.buffer = self.buffer[head + length :]
        except EOFError:
            return "end", "eof", None
        except TimeoutError as error:
            return ("timeout", None, None) if error.errno is None else ("end", named(error), None)
        except OSError as error:
            return "end", named(error), None
        kind = first & 15
        if kind == TEXT:
            return "text", json.loads(payload), None
        if kind == CLOSE:
            self.answer = payload
            return (
                "close",
                struct.unpack(">H", payload[:2])[0] if len(payload) > 1 else 1005,
                payload[2:].decode(errors="replace"),
            )
        if kind == PING and pong:
            self.send(payload, PONG)
        return "other", kind, None

    def send(self, data: bytes | str | dict[str, object], kind: int = TEXT) -> None:
        """One masked frame."""
        raw = json.dumps(data).encode() if isinstance(data, dict) else data.encode() if isinstance(data, str) else data
        size = len(raw)
        head = bytes([0x80 | kind]) + (
            bytes([0x80 | size])
            if size < 126
            else b"\xfe" + struct.pack(">H", size)
            if size < 65536
            else b"\xff" + struct.pack(">Q", size)
        )
        mask = os.urandom(4)
        mixed = int.from_bytes(raw, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        self.tcp.sendall(head + mask + mixed.to_bytes(size, "big"))

    def abort(self) -> None:
        """Close with a reset."""
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.tcp.close()


def upgrade(
    address: tuple[str, int],
    path: str,
    headers: dict[str, str],
    *,
    source: str | None = None,
    patience: float = 5,
    http_patience: float = 20,
    user_timeout_ms: int = 0,
    small_buffer: bool = False,
) -> Socket:
    """Connect and ask for a WebSocket; `status` says what came. Errors of the network are raised."""
    tcp = socket.socket()
    try:
        if user_timeout_ms:
            tcp.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, user_timeout_ms)
        if small_buffer:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if source:
            tcp.bind((source, 0))
        tcp.settimeout(patience)
        tcp.connect(address)
    except OSError:
        tcp.close()
        raise
    connection = Socket(tcp)
    asked = {
        "Host": f"{address[0]}:{address[1]}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        **headers,
    }
    connection.tcp.settimeout(http_patience)
    tcp.sendall(
        (f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in asked.items() if v) + "\r\n").encode()
    )
    got = b""
    while b"\r\n\r\n" not in got:
        try:
            part = tcp.recv(1 << 16)
        except TimeoutError as error:
            if error.errno is not None:
                raise
            connection.silent = True
            break
        if not part:
            break
        got += part
    head, _, connection.buffer = got.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    connection.status = int(words[1]) if len(words) > 1 and words[1].isdigit() else None
    if connection.status != 101:
        connection.body = connection.buffer
    return connection


def device_fields(
    device: Ed25519PrivateKey, client: str, mode: str, scopes: Sequence[str], token: str | None, nonce: str, at: int
) -> dict[str, object]:
    """The signed identity of a device."""
    public = device.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    text = "|".join(
        [
            "v2",
            hashlib.sha256(public).hexdigest(),
            client,
            mode,
            "operator",
            ",".join(scopes),
            str(at),
            token or "",
            nonce,
        ]
    )
    encoded = [base64.urlsafe_b64encode(b).decode().rstrip("=") for b in (public, device.sign(text.encode()))]
    return {
        "id": hashlib.sha256(public).hexdigest(),
        "publicKey": encoded[0],
        "signature": encoded[1],
        "signedAt": at,
        "nonce": nonce,
    }


def connect_request(
    *,
    nonce: str,
    token: str | None,
    client: str,
    mode: str,
    scopes: Sequence[str],
    device: Ed25519PrivateKey | None,
    version: str,
    build: str | None,
    protocol: tuple[int, int] = (3, 4),
    skew_ms: int = 0,
) -> dict[str, object]:
    """The first request on a connection."""
    params: dict[str, object] = {
        "minProtocol": protocol[0], "maxProtocol": protocol[1], "role": "operator", "scopes": list(scopes), "caps": [],
        "client": {"id": client, "version": version, "platform": "linux", "mode": mode, **({"buildId": build} if build else {})},
    }  # fmt: skip
    if token is not None:
        params["auth"] = {"token": token}
    if device is not None:
        params["device"] = device_fields(device, client, mode, scopes, token, nonce, now() + skew_ms)
    return {"type": "req", "id": "c1", "method": "connect", "params": params}
