"""WebSocket handshakes from where it runs, one after the other, each with its times and how far it came.

Connect, TLS, upgrade and first frame are timed apart, since each fails for another reason: a refused connect is the
route or the port, an answer other than 101 is the proxy, a missing first frame is the gateway.
`parsers/occorr_probe.toml` reads the rows.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from occorr import moments
from occorr.errors import OccorrError
from occorr.schema import MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MOST: Final = 10_000  # attempts in one run
FASTEST: Final = 0.05  # s between attempts: a probe must not be the load that it measures
_CHUNK: Final = 1 << 16
_STATUS: Final = re.compile(rb"HTTP/1\.\d (\d{3})(?: ([^\r\n]{0,200}))?\r?\n")


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL names; without user, password and query, which may be secrets."""

    shown: str
    host: str
    port: int
    secure: bool
    whole: str


def target(url: str) -> Target:
    """Takes a ws:// or wss:// URL apart; http and https stand for them.

    Raises:
        OccorrError: it is none.
    """
    try:
        parts = urlsplit(url if "://" in url else f"ws://{url}")
        port = parts.port
    except ValueError as error:
        raise OccorrError(f"{url!r} is no URL: {error}; give one as ws://127.0.0.1:18789/") from error
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname:
        raise OccorrError(
            f"{url!r} is no WebSocket URL; give one as ws://127.0.0.1:18789/ or wss://gateway.example.com/"
        )
    secure = scheme == "wss"
    port = port or (443 if secure else 80)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path or "/"
    return Target(
        f"{scheme}://{host}:{port}{path}",
        parts.hostname,
        port,
        secure,
        f"{scheme}://{host}:{port}{path}{'?' + parts.query if parts.query else ''}",
    )


def attempts(
    to: Target,
    *,
    count: int,
    interval: float,
    timeout: float,
    vantage: str,
    origin: str | None = None,
    verify: bool = True,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], int] = time.time_ns,
) -> Iterator[dict[str, Any]]:
    """One row an attempt, as soon as it is over.

    Args:
        to: the URL.
        count: how many, `MOST` at most.
        interval: s from the beginning of one to the beginning of the next, `FASTEST` at least.
        timeout: s for each step of an attempt.
        vantage: a name for where this runs.
        origin: Origin header.
        verify: check the certificate.
        wait: sleeps.
        clock: ns since 1970.

    Yields: `probe` (the URL without its query), `vantage`, `n`, `time`, `result`, `status`, the milliseconds of each
    step that was reached, `address`, `port`, `code` and `detail`. `result`: connected (101), answered (another status),
    tls, silent (no answer), closed, refused, timeout, unreachable or dns.

    Raises:
        OccorrError: count or interval are out of bounds.
    """
    if not 1 <= count <= MOST:
        raise OccorrError(f"--count {count}: between 1 and {MOST:,} attempts")
    if not interval >= FASTEST:  # nor no number
        raise OccorrError(
            f"--interval {interval:g}: {FASTEST:g} s at least, so that the probe is not the load that it measures"
        )
    begun = time.monotonic()
    for n in range(count):
        wait(max(0.0, begun + n * interval - time.monotonic()))
        at = clock()
        row = {
            "probe": to.shown,
            "vantage": vantage,
            "n": n + 1,
            "time": moments.iso(at, 6),
        }
        yield row | _attempt(to, timeout, origin, verify=verify)


def _attempt(to: Target, timeout: float, origin: str | None, *, verify: bool) -> dict[str, Any]:
    """One handshake, and the close frame that ends it politely."""
    out: dict[str, Any] = {}
    last = time.perf_counter_ns()

    def done(step: str) -> None:
        nonlocal last
        now = time.perf_counter_ns()
        out[step] = round((now - last) / MS, 3)
        last = now

    try:
        places = socket.getaddrinfo(to.host, to.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return out | {"result": "dns", "detail": error.strerror or str(error)}
    done("dns_ms")
    line, address, failure = _connect(places, timeout)
    out["address"], out["port"] = address, to.port
    if line is None:
        return out | failure
    try:
        done("connect_ms")
        if to.secure:
            context = ssl.create_default_context()
            if not verify:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            try:
                line = context.wrap_socket(line, server_hostname=to.host)
            except OSError as error:
                return out | {"result": "tls", "detail": _untrusted(error)}
            done("tls_ms")
        return out | _upgrade(line, to, origin, done, out)
    finally:
        line.close()


def _connect(places: Sequence[Any], timeout: float) -> tuple[socket.socket | None, str, dict[str, Any]]:
    """A line to the first address that takes one, as clients do where a name has several; else why the last one did not."""
    address, failure = "", {}
    for family, kind, proto, _, place in places:
        address = str(place[0])
        line = socket.socket(family, kind, proto)
        line.settimeout(timeout)
        try:
            line.connect(place)
        except TimeoutError:
            failure = {"result": "timeout", "detail": f"no connection within {timeout:g} s"}
        except ConnectionRefusedError as error:
            failure = {"result": "refused", "detail": str(error.strerror)}
        except OSError as error:
            failure = {"result": "unreachable", "detail": error.strerror or str(error)}
        else:
            return line, address, {}
        line.close()
    return None, address, failure


def _untrusted(error: OSError) -> str:
    """Why there is no TLS, in words."""
    if getattr(error, "reason", "") in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "the other side speaks no TLS; try ws:// instead of wss://"
    return str(getattr(error, "verify_message", "") or getattr(error, "reason", "") or error.strerror or error)


def _upgrade(
    line: socket.socket, to: Target, origin: str | None, done: Callable[[str], None], out: dict[str, Any]
) -> dict[str, Any]:
    """The HTTP upgrade and the first frame."""
    from websockets.client import ClientProtocol  # noqa: PLC0415 - only a probe needs it
    from websockets.http11 import Response  # noqa: PLC0415
    from websockets.uri import parse_uri  # noqa: PLC0415

    talk = ClientProtocol(parse_uri(to.whole), origin=origin, max_size=None)  # type: ignore[arg-type]  # an origin is a plain string in a new type
    talk.send_request(talk.connect())
    answer: Response | None = None
    heard = b""
    try:
        _send(line, talk)
        while True:
            for event in talk.events_received():
                if isinstance(event, Response):
                    answer = event
                    out["status"] = answer.status_code
                    done("upgrade_ms")
                    if answer.status_code != 101:
                        return {"result": "answered", "detail": answer.reason_phrase}
                else:
                    done("first_frame_ms")
                    if talk.close_rcvd is None:
                        talk.send_close(1000)
                        _send(line, talk)
                        return {"result": "connected"}
                    return {"result": "connected", "code": talk.close_rcvd.code, "detail": talk.close_rcvd.reason}
            if talk.handshake_exc is not None and answer is None:
                if status := _STATUS.match(heard):  # HTTP/1.0, which upgrades nothing, but says why not
                    out["status"] = int(status[1])
                    done("upgrade_ms")
                    return {"result": "answered", "detail": (status[2] or b"").decode("latin-1").strip()}
                return {"result": "closed", "detail": str(talk.handshake_exc)}
            data = line.recv(_CHUNK)
            if not data:
                if answer is not None:
                    return {
                        "result": "connected",
                        "code": 1006,
                        "detail": "closed without a close frame before the first frame",
                    }
                return {"result": "closed", "detail": "closed before an answer"}
            heard = heard or data
            talk.receive_data(data)
    except TimeoutError:
        if answer is not None:
            return {"result": "connected", "detail": "no frame came"}
        return {"result": "silent", "detail": "no answer to the upgrade"}
    except OSError as error:
        if answer is not None:
            return {"result": "connected", "code": 1006, "detail": error.strerror or str(error)}
        return {"result": "closed", "detail": error.strerror or str(error)}


def _send(line: socket.socket, talk: Any) -> None:
    for data in talk.data_to_send():
        if data:
            line.sendall(data)


def text(row: dict[str, Any]) -> str:
    """A row as a line of the file."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def summary(rows: list[dict[str, Any]]) -> str:
    """What the attempts say together: the share that connected, how long handshakes took, and what the rest met."""
    reached = sum("connect_ms" in r for r in rows)
    times = sorted(handshake(r) for r in rows if r.get("status") == 101)
    out = [f"TCP connect: {reached} of {len(rows)} ({100 * reached / len(rows):.0f} %)"]
    if times:
        out.append(
            f"handshake (connect to 101): p50 {quantile(times, 0.5):.1f} ms, p95 {quantile(times, 0.95):.1f} ms, n"
            f" {len(times)}"
        )
    others: dict[str, int] = {}
    for row in rows:
        if row.get("status") != 101:
            what = f"HTTP {row['status']}" if "status" in row else f"{row['result']}: {row.get('detail', '')}"
            others[what] = others.get(what, 0) + 1
    silent = sum(r.get("status") == 101 and "first_frame_ms" not in r for r in rows)
    out += [f"{n}× {what}" for what, n in sorted(others.items(), key=lambda kv: (-kv[1], kv[0]))]
    return "\n".join(
        [
            *out,
            *(
                [f"{silent}× upgraded, and no frame came: the gateway greets every connection with one"]
                if silent
                else []
            ),
        ]
    )


def handshake(row: dict[str, Any]) -> float:
    """Milliseconds from the connect to the answer of the upgrade."""
    return float(sum(row.get(step, 0.0) for step in ("connect_ms", "tls_ms", "upgrade_ms")))


def quantile(ordered: list[float], share: float) -> float:
    """The value at a share of sorted values, by nearest rank."""
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]
