"""A gateway for the throw-away engine: a shell in a busybox container that prints what a Python thread dictates, with current stamps.

busybox has no milliseconds, so the container asks (BOOT, TERM) through a pair of pipes and this side answers with the lines that a recorded
2026.9.6 gateway printed at such moments. It obeys signals as the real one does: SIGTERM ends it in good order, SIGKILL leaves no word.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lab.engine import IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.engine import Engine

GATEWAY_IMAGE = "openclaw/gateway:2026.9.6"
SCRIPT = """
trap 'echo TERM >/ctl/out' TERM
exec 3<>/ctl/in
echo BOOT >/ctl/out
while :; do
  IFS= read -r line <&3 || continue
  case $line in
    "P "*) printf '%s\\n' "${line#P }" ;;
    "E "*) printf '%s\\n' "${line#E }" >&2 ;;
    "X "*) exit ${line#X } ;;
    OOM) exec tail /dev/zero ;;
  esac
done
"""
LISTENING = "[gateway] http server listening (14 plugins: anthropic, browser, canvas, cua-computer, device-pair, file-transfer, geolocation, github, linux-node, memory-core, ollama, openai, talk-voice, xai; 0.1s)"


@dataclass
class Gateway:
    """The speaking side of one service's gateway, whichever of its containers is running."""

    folder: Path
    open: list[str] = field(default_factory=list)
    booted: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    stopping: bool = False

    def __post_init__(self) -> None:
        for name in ("in", "out"):
            os.mkfifo(self.folder / name)
            os.chmod(self.folder / name, 0o666)
        self._in = os.open(self.folder / "in", os.O_RDWR | os.O_NONBLOCK)
        self._out = os.open(self.folder / "out", os.O_RDWR)
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        held = b""
        while True:
            held += os.read(self._out, 4096)
            *words, held = held.split(b"\n")
            for word in words:
                if word == b"BOOT":
                    self._boot()
                elif word == b"TERM":
                    self._term()
                elif word == b"END":
                    return

    def _boot(self) -> None:
        try:
            while os.read(self._in, 65536):  # what a killed container did not read
                pass
        except BlockingIOError:
            pass
        self.open.clear()
        for line in ("[gateway] loading configuration…", "[gateway] starting...", LISTENING, "[gateway] ready"):
            self.say(line)
        self.booted.set()

    def _term(self) -> None:
        for line in (
            "[admission] closed: stop (SIGTERM)",
            "[gateway] received SIGTERM; shutting down",
            "[gateway] active-work drain settled; beginning server close",
        ):
            self.say(line)
        for conn in self.open:
            self.say(f"[ws] webchat disconnected code=1012 reason=service restart conn={conn}")
        self.open.clear()
        self.say("[shutdown] completed cleanly in 12ms")
        self.booted.clear()
        self.send("X 0")

    def send(self, command: str) -> None:
        data = (command + "\n").encode()
        while data:
            try:
                data = data[os.write(self._in, data) :]
            except BlockingIOError:
                time.sleep(0.001)

    def say(self, line: str, *, error: bool = False) -> str:
        """The container prints a line with the present stamp, as the console off a terminal does; returns the stamp."""
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "+00:00"
        self.send(f"{'E' if error else 'P'} {now} {line}")
        return now

    def connect(self, remote: str = "192.0.2.117") -> str:
        """A browser connects; its connection id."""
        conn = str(uuid.uuid4())
        self.say(
            f"[ws] webchat connected conn={conn} remote={remote} client=openclaw-control-ui webchat v2026.9.6 build=2026.9.6-release-eb377ac59e6c-2026-09-23T16-33-12.144Z"
        )
        self.open.append(conn)
        return conn

    def refuse(self, remote: str = "192.0.2.106", port: int = 50825) -> str:
        """A client with a wrong token; the connection's id."""
        conn, peer = str(uuid.uuid4()), f"{remote}:{port}->192.0.2.2:18789"
        self.say(
            f"[ws] unauthorized conn={conn} peer={peer} remote={remote} client=cli cli v2026.9.6 role=operator scopes=0 auth=token device=no platform=linux instance=n/a host=192.0.2.2:18789 origin=n/a ua=openclaw-cli/2026.9.6 reason=token_mismatch guidance=unauthorized: gateway token mismatch (set gateway.remote.token to match gateway.auth.token)",
            error=True,
        )
        self.say(
            f"[ws] closed before connect conn={conn} peer={peer} remote={remote} fwd=n/a origin=n/a host=192.0.2.2:18789 ua=openclaw-cli/2026.9.6 code=1008 reason=unauthorized: gateway token mismatch (set gateway.remote.token to match gateway.auth.token) phase=auth_credentials_received cause=unauthorized durationMs=7 handshake=failed phase=auth_credentials_received lastFrameType=req lastFrameMethod=connect lastFrameId=c1 host=192.0.2.2:18789 userAgent=openclaw-cli/2026.9.6 remoteAddr={remote} remotePort={port} localAddr=192.0.2.2 localPort=18789 endpoint={peer} authMode=token authProvided=token authReason=token_mismatch",
            error=True,
        )
        return conn

    def crash(self) -> None:
        """An unhandled error, then Node's exit code."""
        self.say(
            "[openclaw] FATAL unhandled rejection: TypeError: Cannot read properties of undefined (reading 'sessionKey')",
            error=True,
        )
        self.booted.clear()
        self.send("X 1")

    def close(self) -> None:
        os.write(self._out, b"END\n")
        self._thread.join(5)
        os.close(self._in)
        os.close(self._out)


def prepare(engine: Engine) -> None:
    """Give busybox the gateway's name, by which it is known."""
    if not engine.docker("image", "ls", "--quiet", GATEWAY_IMAGE):
        engine.docker("tag", IMAGE, GATEWAY_IMAGE)


def run(engine: Engine, gateway: Gateway, project: str, *options: object, service: str = "gateway") -> str:
    """Start a container as Compose would; its id."""
    labels = {
        "project": project,
        "service": service,
        "container-number": "1",
        "oneoff": "False",
        "config-hash": uuid.uuid4().hex,
    }
    flags = [part for k, v in labels.items() for part in ("--label", f"com.docker.compose.{k}={v}")]
    gateway.booted.clear()
    ident = engine.docker(
        "run",
        "--detach",
        "--name",
        f"{project}-{service}-1",
        *flags,
        "--volume",
        f"{gateway.folder}:/ctl",
        *options,
        GATEWAY_IMAGE,
        "sh",
        "-c",
        SCRIPT,
        "openclaw",
        "gateway",
    )
    assert gateway.booted.wait(20), engine.docker("logs", ident)
    return ident


@contextmanager
def speaking() -> Iterator[Gateway]:
    folder = Path(tempfile.mkdtemp(prefix="occorr-gw-"))
    gateway = Gateway(folder)
    try:
        yield gateway
    finally:
        gateway.close()
        shutil.rmtree(folder)
