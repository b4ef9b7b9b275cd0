"""What clients do wrong, and routes that lead nowhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..websocket import now

if TYPE_CHECKING:
    from ..incident import Run

# a client's behaviour → the cause of its close
BEHAVIOURS = {
    "wrong_token": "auth.token_mismatch", "no_token": "auth.token_missing", "pairing": "auth.pairing_required", "origin": "auth.origin", "nodevice": "auth.device_identity", "version": "protocol.version_mismatch",
    "invalid": "protocol.invalid_frame", "big_early": "protocol.payload_too_large", "big_late": "protocol.payload_too_large", "silent": "timeout.handshake", "late_hello": "timeout.handshake", "deaf": "timeout.heartbeat",
    "tick": "timeout.heartbeat", "slow": "overload.slow_consumer", "closed_port": "unreachable.refused", "early_abort": "client.abort", "idle": "timeout.proxy_idle",
}  # fmt: skip
# a route's kind → the cause of a failure on it
ROUTES = {
    "auth": "auth.proxy_denied", "deny": "auth.proxy_denied", "closed": "unreachable.refused", "hole": "timeout.upstream", "plain": "protocol.upgrade_missing", "loopback": "unreachable.loopback", "dns": "unreachable.dns",
    "socket": "unreachable.socket",
}  # fmt: skip


def burst(
    run: Run, kind: str, n: int = 3, gap: float = 0.5, via: str | None = None, one_source: bool = False, **options: Any
) -> None:
    """Several attempts of clients that do one thing wrong."""
    fault = run.fault(BEHAVIOURS[kind], "client", f"{n} attempts: {kind}")
    threads = []
    for i in range(n):
        more = dict(options)
        if kind == "invalid":
            more.setdefault("variant", ["other", "early", "params", "bits", "text"][(i + run.plan.seed) % 5])
        if kind in ("origin", "nodevice", "pairing"):
            more.setdefault("mode", "webchat")
        way = via if via in run.ways else run.rng.choice(run.ways)
        number = 20 if one_source else 12 + (len(run.faults) * 3 + i) % 8
        threads.append(
            run.spawn(
                run.attempt,
                "normal" if kind == "idle" else kind,
                name=f"{kind}{i}",
                via=way,
                source=run.source(number),
                fault=fault.fault_id,
                **more,
            )
        )
        time.sleep(gap * run.rng.uniform(0.5, 1.5))
    for thread in threads:
        thread.join(120)
    fault.t_end_ms = now()


def route(run: Run, path: str, n: int = 3, gap: float = 0.6) -> None:
    """Attempts on a route of the proxy that goes wrong."""
    kind = run.setting.routes.get(path) or run.setting.main_route
    fault = run.fault(ROUTES[kind], "client", f"{n} attempts on {path}, a route of kind {kind}")
    threads = []
    for i in range(n):
        threads.append(
            run.spawn(
                run.attempt,
                name=f"route{i}",
                via="proxy",
                source=run.source(21 + i % 4),
                path=path if path == "/" else f"{path}ws",
                fault=fault.fault_id,
                mode=run.rng.choice(["cli", "webchat"]),
                hold=2,
            )
        )
        time.sleep(gap * run.rng.uniform(0.5, 1.5))
    for thread in threads:
        thread.join(60)
    fault.t_end_ms = now()


def cli(run: Run, planned: str = "normal", via: str = "direct", cause: str | None = None, inside: bool = False) -> None:
    """The real CLI: normal, wrong_token, closed_port, denied (401 at the proxy), loopback, dns."""
    s = run.setting
    host = "127.0.0.1:18789" if via == "direct" else "127.0.0.1:8080"
    if inside:
        host = f"{s.gateway}:18789" if via == "direct" else f"{s.front}:80"
    denied = next((p for p, k in s.routes.items() if k in ("auth", "deny")), "/")
    url = {
        "closed_port": "ws://127.0.0.1:18999",
        "loopback": "ws://127.0.0.1:18789",
        "dns": f"ws://{run.stage.layout().unknown_name}:18789",
        "denied": f"ws://127.0.0.1:8080{denied}",
    }.get(planned, f"ws://{host}")
    known = {
        "wrong_token": "auth.token_mismatch",
        "closed_port": "unreachable.refused",
        "loopback": "unreachable.loopback",
        "dns": "unreachable.dns",
        "denied": "auth.proxy_denied",
    }
    fault = (
        run.fault(
            known[planned],
            "client",
            f"openclaw CLI: {planned}",
            also=("unreachable.refused",) if planned == "loopback" else (),
        )
        if planned in known
        else None
    )
    run.command(
        url,
        planned=f"cli_{planned}",
        via=via,
        fault=fault and fault.fault_id,
        token="not-the-token" if planned == "wrong_token" else None,
        inside=inside or planned in ("loopback", "dns"),
    )
    if fault:
        fault.t_end_ms = now()
