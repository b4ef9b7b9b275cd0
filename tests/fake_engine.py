"""An engine that answers from what it was given: for versions that cannot be had here, and for what a real one does rarely."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IDENT = "4f" * 32


@dataclass
class Told:
    """What the engine tells.

    Attributes: version, api: of the engine. now: its time, RFC 3339. events: lines of the wire. log: (stream, line with its stamp). inspected: the one
    container. asked: the paths that were asked for.
    """

    version: str
    api: str
    now: str
    events: list[str]
    log: list[tuple[str, bytes]]
    inspected: dict[str, Any]
    asked: list[str] = field(default_factory=list)


def container(project: str, service: str, image: str, **state: object) -> dict[str, Any]:
    """`docker inspect` of a container that Compose made, as far as it is read."""
    labels = {"com.docker.compose.project": project, "com.docker.compose.service": service}
    return {
        "Id": IDENT, "Name": f"/{project}-{service}-1", "Created": "2026-11-21T04:00:00Z", "Path": "node", "Args": [], "RestartCount": 0, "Image": f"sha256:{'0' * 64}",
        "State": {"Status": "running", "Running": True, "ExitCode": 0, "OOMKilled": False, "StartedAt": "2026-11-21T04:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z", **state},
        "Config": {"Image": image, "Tty": False, "Labels": labels, "Env": []}, "HostConfig": {"LogConfig": {"Type": "json-file"}, "NetworkMode": "bridge"}, "NetworkSettings": {"Networks": {}},
    }  # fmt: skip


@contextmanager
def serving(told: Told, place: Path) -> Iterator[str]:
    """Answers on a socket in `place`; what DOCKER_HOST must be."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            told.asked.append(parts.path)
            asked, query = re.sub(r"^/v[\d.]+", "", parts.path), parse_qs(parts.query)
            if re.match(r"^/v\d", parts.path) and parts.path.split("/")[1] != f"v{told.api}":
                return self.answer({"message": f"client version {parts.path.split('/')[1]} is too old"}, 400)
            if asked == "/version":
                return self.answer({"Version": told.version, "ApiVersion": told.api, "MinAPIVersion": told.api})
            if asked == "/info":
                return self.answer({"SystemTime": told.now, "ServerVersion": told.version})
            if asked == "/containers/json":
                item = told.inspected
                row = {
                    "Id": item["Id"],
                    "Names": [item["Name"]],
                    "Image": item["Config"]["Image"],
                    "State": "running",
                    "Labels": item["Config"]["Labels"],
                }
                return self.answer([row])
            if asked == f"/containers/{IDENT}/json":
                return self.answer(told.inspected)
            if asked == f"/containers/{IDENT}/logs":
                return self.stream(frame(*line) for line in told.log)
            if asked == "/events":
                since, until = (float(query.get(k, [d])[0]) for k, d in (("since", "0"), ("until", "1e12")))
                lines = [line for line in told.events if since <= json.loads(line)["timeNano"] / 1e9 <= until]
                return self.stream(f"{line}\n".encode() for line in lines)
            return self.answer({"message": "no such thing"}, 404)

        def answer(self, data: object, status: int = 200) -> None:
            body = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def stream(self, pieces: Iterator[bytes]) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

        def address_string(self) -> str:
            return "socket"

        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Server(str(place / "docker.sock"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"unix://{place}/docker.sock"
        finally:
            server.shutdown()
            thread.join()


def frame(stream: str, line: bytes) -> bytes:
    """A line in the engine's multiplexed form."""
    return bytes([2 if stream == "stderr" else 1, 0, 0, 0]) + len(line).to_bytes(4, "big") + line
