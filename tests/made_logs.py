"""Small inputs whose figures can be worked out by hand: each helper writes lines as the programs do."""

from __future__ import annotations

import json
from pathlib import Path

DEVICE = "48265dce39e73eaa1cb7b152a2dd580fbdc265f793ba76f6754e16acfed8998b"
GATEWAY = "aa" * 32


def conn(n: int) -> str:
    return f"{n:08x}-1111-4222-8333-{n:012x}"


def short(n: int) -> str:
    return f"{conn(n)[:8]}…{conn(n)[-4:]}"


def stamp(text: str) -> str:
    """`10:00:01.500` as the gateway writes it."""
    return f"2026-11-21T{text}+00:00"


def twice(lines: list[str]) -> list[str]:
    """The lines as `docker logs -t` shows them, 1 ms later on the engine's clock: no doubt about the gateway's clock remains."""
    return [f"{line[:20]}{int(line[20:23]) + 1:03d}000000Z {line}" for line in lines]


def started(at: str) -> list[str]:
    return [f"{stamp(at)} [gateway] loading configuration…", f"{stamp(at)} [gateway] starting..."]


def ready(at: str) -> list[str]:
    return [
        f"{stamp(at)} [gateway] http server listening (14 plugins: anthropic; 4.1s)",
        f"{stamp(at)} [gateway] ready",
    ]


def refused(n: int, at: str, cause: str = "token") -> list[str]:
    """A refused attempt as two lines, or for pairing one."""
    peer = f"198.51.100.7:{40000 + n}->192.0.2.2:18789"
    head = f"conn={conn(n)} peer={peer} remote=198.51.100.7"
    if cause == "pairing":
        request = f"{n:08x}-aaaa-4bbb-8ccc-{n:012x}"
        return [
            f"{stamp(at)} [ws] closed before connect {head} fwd=n/a origin=n/a host=gw.example.com ua=openclaw-cli/2026.9.6 code=1008 reason=pairing required: device is not approved yet (requestId: {request}) phase=auth_validated "
            f"cause=pairing-required durationMs=97 handshake=failed phase=auth_validated endpoint={peer} deviceId={DEVICE} requestId={request} reason=not-paired"
        ]
    return [
        f"{stamp(at)} [ws] unauthorized {head} client=cli cli v2026.9.6 role=operator scopes=0 auth=token device=no platform=linux instance=n/a host=gw.example.com origin=n/a ua=openclaw-cli/2026.9.6 reason=token_mismatch guidance=unauthorized: gateway token mismatch",
        f"{stamp(at)} [ws] closed before connect {head} fwd=n/a origin=n/a host=gw.example.com ua=openclaw-cli/2026.9.6 code=1008 reason=unauthorized: gateway token mismatch phase=auth_credentials_received "
        f"cause=unauthorized durationMs=200 handshake=failed phase=auth_credentials_received endpoint={peer} authReason=token_mismatch client=cli mode=cli version=2026.9.6",
    ]


def handshake(n: int, opened: str, hello: str) -> list[str]:
    """Two lines of a gateway with --verbose."""
    return [
        f"{stamp(opened)} [ws] ← open remoteAddr=198.51.100.7 remotePort={50000 + n} localAddr=192.0.2.2 localPort=18789 endpoint=198.51.100.7:{50000 + n}->192.0.2.2:18789 conn={short(n)}",
        f"{stamp(hello)} [ws] → hello-ok methods=467 events=64 presence=2 stateVersion=1 conn={short(n)}",
    ]


def approved(at: str) -> str:
    return f"{stamp(at)} [gateway] device pairing approved device={DEVICE} role=operator"


def lock_wait(ms: int, at: str) -> str:
    return f"{stamp(at)} [sqlite/transaction] slow SQLite coordinator lock wait async=false database=/state/openclaw.sqlite elapsedMs={ms} isMainThread=true operation=state.write pid=14 threadId=0 thresholdMs=100"


def access(at: str, status: int) -> str:
    """nginx, combined."""
    return f'198.51.100.7 - - [21/Nov/2026:{at} +0000] "GET /ws HTTP/1.1" {status} 157 "-" "openclaw-cli/2026.9.6"'


def event(at_ns: int, action: str, **attributes: str) -> str:
    """An engine's event of the gateway's container."""
    own = {
        "image": "openclaw/gateway:2026.9.6",
        "name": "demo-gateway-1",
        "com.docker.compose.project": "demo",
        "com.docker.compose.service": "gateway",
    } | attributes
    return json.dumps(
        {
            "Type": "container",
            "Action": action,
            "Actor": {"ID": GATEWAY, "Attributes": own},
            "scope": "local",
            "time": at_ns // 10**9,
            "timeNano": at_ns,
        }
    )


def inspect(
    *,
    token: str | None = None,
    health: dict | None = None,
    created: str = "2026-11-21T09:00:00.000000000Z",
    image: str = "openclaw/gateway:2026.9.6",
) -> str:
    """`docker inspect` of the gateway."""
    config = {
        "Hostname": GATEWAY[:12],
        "Image": image,
        "Env": ["TZ=UTC", *([f"OPENCLAW_GATEWAY_TOKEN={token}"] if token else [])],
        "Labels": {
            "com.docker.compose.project": "demo",
            "com.docker.compose.service": "gateway",
            "com.docker.compose.config-hash": "c0ffee",
        },
    }
    if health is not None:
        config["Healthcheck"] = health
    item = {
        "Id": GATEWAY, "Created": created, "Path": "node", "Args": ["/app/openclaw.mjs", "gateway", "run"], "State": {"Status": "running", "StartedAt": created}, "Image": "sha256:" + "d" * 64, "Name": "/demo-gateway-1", "RestartCount": 0,
        "HostConfig": {"NetworkMode": "demo_default"}, "Config": config, "NetworkSettings": {"Ports": {"18789/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18789"}]}, "Networks": {"demo_default": {"IPAddress": "192.0.2.2"}}},
    }  # fmt: skip
    return json.dumps([item], indent=1)


def write(folder: Path, **texts: str | list[str]) -> Path:
    """Files by name; `__` stands for a dot."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(
            text if isinstance(text, str) else "\n".join(text) + "\n", encoding="utf-8"
        )
    return folder
