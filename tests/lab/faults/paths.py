"""What happens between the clients and the gateway, and what only looks as if it did."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from ..websocket import now
from .gateways import trigger

if TYPE_CHECKING:
    from ..incident import Run


def proxy(run: Run, how: str = "reload") -> None:
    """The proxy is reloaded, restarted or killed."""
    place, name = run.stage, run.setting.container(run.setting.front)
    assert place.proxy is not None
    if how == "reload" and not place.proxy.reload:
        how = "restart"
    fault = run.fault("restart.proxy", "proxy", "", grace_ms=300)
    if how == "reload":
        fault.command = "docker " + " ".join(place.proxy.reload).format(name)
        place.docker(*(word.format(name) for word in place.proxy.reload))
        time.sleep(run.setting.cut + 1)
    elif how == "restart":
        fault.command = f"docker restart -t 2 {name}"
        place.docker("restart", "-t", "2", name)
        time.sleep(1)
    else:
        fault.command = f"docker kill {name}; sleep 2; docker start {name}"
        place.docker("kill", name)
        time.sleep(2)
        place.docker("start", name)
        time.sleep(1)
    fault.t_end_ms = now()


def freeze(run: Run, seconds: float = 9, proxied: int = 2, commands: int = 0, how: str = "pause") -> None:
    """The gateway stands still: attempts through the proxy get no answer, a CLI gives up."""
    place, name = run.stage, run.setting.container(run.setting.gateway)
    fault = run.fault(
        "timeout.upstream" if proxied else "timeout.client",
        "freeze",
        f"docker pause {name}; sleep {seconds}; docker unpause {name}"
        if how == "pause"
        else f"event loop busy for {seconds} s",
        grace_ms=3000,
    )
    place.docker("pause", name) if how == "pause" else trigger(run, f"stall {seconds}")
    time.sleep(0.3)
    threads = [
        run.spawn(
            run.attempt, "frozen", name=f"new{i}", via="proxy", source=run.source(12 + i), hold=2, fault=fault.fault_id
        )
        for i in range(proxied if run.world.proxy else 0)
    ]
    for i in range(commands):
        way = run.ways[i % len(run.ways)]
        threads.append(
            run.spawn(
                run.command,
                "ws://127.0.0.1:18789" if way == "direct" else "ws://127.0.0.1:8080",
                planned="cli_giveup",
                via=way,
                fault=fault.fault_id,
                arguments=("gateway", "call", "health", "--timeout", "3500"),
            )
        )
    time.sleep(seconds)
    if how == "pause":
        for thread in threads[proxied:]:
            thread.join(60)
        place.docker("unpause", name)
    fault.t_end_ms = now()
    for thread in threads:
        thread.join(60)


def stalled_handshake(run: Run, n: int = 3, seconds: int = 20) -> None:
    """The event loop stands still while clients are in the middle of their handshake: the timer fires before their request is read."""
    fault = run.fault("timeout.handshake", "client", f"event loop busy for {seconds} s while clients shake hands")
    threads = [
        run.spawn(
            run.attempt,
            "late_hello",
            variant=str(seconds + 3),
            name=f"stalled{i}",
            via=run.ways[i % len(run.ways)],
            source=run.source(12 + i),
            fault=fault.fault_id,
            hold=2,
        )
        for i in range(n)
    ]
    time.sleep(0.5)
    around = run.fault(
        "timeout.upstream",
        "freeze",
        f"event loop busy for {seconds} s",
        also=("timeout.handshake", "timeout.client", "timeout.heartbeat"),
        grace_ms=3000,
    )
    trigger(run, f"stall {seconds}")
    for thread in threads:
        thread.join(90)
    fault.t_end_ms = around.t_end_ms = now()


def partition(run: Run, how: str = "drop", seconds: float = 12) -> None:
    """Packets vanish between the gateway and everybody."""
    place, s = run.stage, run.setting
    name = s.container(s.gateway)
    fault = run.fault("network.partition", "network", "", also=("timeout.upstream", "timeout.heartbeat"), grace_ms=8000)
    if how == "drop":
        fault.command = f"iptables: DROP to and from {s.subnet}.0/24 in the gateway's network"
        for chain, option in (("INPUT", "-s"), ("OUTPUT", "-d")):
            place.netns(s.gateway, "iptables", "-I", chain, option, f"{s.subnet}.0/24", "-j", "DROP")
        time.sleep(seconds)
        for chain, option in (("INPUT", "-s"), ("OUTPUT", "-d")):
            place.netns(s.gateway, "iptables", "-D", chain, option, f"{s.subnet}.0/24", "-j", "DROP")
    else:
        fault.command = f"docker network disconnect {s.project}_default {name}; sleep {seconds}; docker network connect"
        place.docker("network", "disconnect", f"{s.project}_default", name)
        time.sleep(seconds)
        place.docker("network", "connect", "--ip", s.address(0), "--alias", s.gateway, f"{s.project}_default", name)
    fault.t_end_ms = now()


def reset(run: Run, where: str = "gateway", seconds: float = 4) -> None:
    """Something on the path answers established connections with RST: at the gateway, or in front of the proxy."""
    place, s = run.stage, run.setting
    service, port = (s.gateway, 18789) if where == "gateway" else (s.front, 80)
    fault = run.fault(
        "network.reset",
        "network" if where == "gateway" else "proxy-network",
        f"iptables: REJECT --reject-with tcp-reset of established connections of {s.container(service)}",
        also=("client.abort",) if where != "gateway" else (),
        grace_ms=2500,
    )
    resets = ("-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "REJECT", "--reject-with", "tcp-reset")
    rules = [
        (chain, "-p", "tcp", end, str(port), *resets) for chain, end in (("INPUT", "--dport"), ("OUTPUT", "--sport"))
    ]
    for rule in rules:
        done = place.netns(service, "iptables", "-I", *rule)
        if done.returncode:
            raise RuntimeError(done.stderr)
    time.sleep(seconds)
    for rule in rules:
        place.netns(service, "iptables", "-D", *rule)
    fault.t_end_ms = now()


def rotate(run: Run) -> None:
    """The shared token changes while clients are connected; the gateway watches its configuration."""
    place = run.stage
    path = place.folder / "state/openclaw.json"
    config = json.loads(path.read_text())
    new = f"rotated-throwaway-{run.rng.randrange(10**6):06d}"
    config["gateway"]["auth"]["token"] = new
    fault = run.fault("auth.rotated", "rotation", "gateway.auth.token changed in openclaw.json", grace_ms=2500)
    path.with_suffix(".new").write_text(json.dumps(config, indent=2))
    path.with_suffix(".new").rename(path)
    stale = run.fault("auth.token_mismatch", "client", "clients that still have the old token", also=("auth.rotated",))
    time.sleep(8)
    fault.t_end_ms = now()
    time.sleep(4)
    run.world.token = new  # from now on the clients know
    stale.t_end_ms = now()


def unrelated(run: Run) -> None:
    """Another container restarts."""
    name = run.setting.container(run.setting.bystander)
    fault = run.fault("none.unrelated", "none", f"docker restart {name}: no close belongs to it")
    run.stage.docker("restart", "-t", "1", name)
    fault.t_end_ms = now()
