"""What happens to the gateway: it is stopped, killed, replaced, or dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

from ..evidence import engine_lines
from ..stage import READY
from ..websocket import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..incident import Fault, Run


def cut(
    run: Run,
    cause: str,
    command: str,
    act: Callable[[], object],
    after: Callable[[], object] | None = None,
    eager: int = 3,
    ready: int = 1,
    seconds: float = 300,
) -> Fault:
    """Take the gateway down and wait until it is ready again; eager clients knock while it starts.

    Args:
        act: takes it down. after: brings it back, where nothing else does.
        ready: how many times it must have become ready.
    """
    place = run.stage
    ident = place.docker("inspect", "-f", "{{.Id}}", place.setting.container(place.setting.gateway))
    listened, was_ready = place.marks()
    fault = run.fault(cause, "gateway", command)
    act()
    if after:
        after()
    if place.docker("inspect", "-f", "{{.Id}}", place.setting.container(place.setting.gateway)) != ident:
        listened = was_ready = 0

    def knock() -> None:
        place.wait_ready(listened, 300, 0)
        for i in range(eager):
            run.attempt(name=f"eager{i}", via=run.ways[i % len(run.ways)], source=run.source(25 + i % 3), hold=1.5)
            time.sleep(0.15)

    if eager:
        run.spawn(knock)
    try:
        fault.t_end_ms = place.wait_ready(was_ready + ready - 1, seconds)
    except TimeoutError:
        fault.t_end_ms = now()
        raise
    return fault


def from_host(run: Run, cause: str, sent: signal.Signals, then: str = "") -> None:
    """A signal of which the engine hears nothing."""
    name, pid = run.setting.container(run.setting.gateway), run.stage.pid(run.setting.gateway)
    command = f"kill -{sent.name.removeprefix('SIG')} of {name}'s first process from the host{then}"
    cut(run, cause, command, lambda: os.kill(pid, sent))


def manual(run: Run, how: str = "restart") -> None:
    """Somebody stops or restarts the gateway."""
    place, name = run.stage, run.setting.container(run.setting.gateway)
    if how == "restart":
        cut(run, "restart.manual", f"docker restart {name}", lambda: place.docker("restart", name))
    elif how == "stop":
        cut(
            run,
            "restart.manual",
            f"docker stop {name}; sleep 2; docker start {name}",
            lambda: place.docker("stop", name),
            lambda: (time.sleep(2), place.docker("start", name)),
        )
    else:
        from_host(run, "restart.manual", signal.SIGTERM, "; the restart policy brings it back")


def killed(run: Run, how: str = "docker") -> None:
    """SIGKILL from outside."""
    place, name = run.stage, run.setting.container(run.setting.gateway)
    if how == "docker":
        cut(
            run,
            "restart.killed",
            f"docker kill {name}; sleep 1.5; docker start {name}",
            lambda: place.docker("kill", name),
            lambda: (time.sleep(1.5), place.docker("start", name)),
        )
    else:
        from_host(run, "restart.killed", signal.SIGKILL)


def trigger(run: Run, word: str, file: str = "trigger") -> None:
    path = run.stage.folder / "run-gateway/hooks" / file
    path.with_suffix(".new").write_text(word)
    path.with_suffix(".new").rename(path)


def crash(run: Run, how: str = "throw") -> None:
    """The gateway exits by itself: throw, reject, abort, exit, heap."""
    cut(run, "restart.crash", f"inside the process: {how}", lambda: trigger(run, how))


def crash_loop(run: Run, how: str = "throw", times: int = 3, life: float = 3) -> None:
    """It exits by itself after each start: one story of several restarts."""
    place = run.stage

    def act() -> None:
        trigger(run, f"{life} {how}", "loop")
        listened, _ = place.marks()
        for i in range(times):
            place.wait_ready(listened + i, 300, 0)
        (place.folder / "run-gateway/hooks/loop").unlink()

    def after() -> None:  # one that crashes soon after it listens is never ready: the last one is
        place.wait_ready(place.marks()[1], 300)

    cut(
        run,
        "restart.crash",
        f"inside the process: {how}, {life} s after it listens, {times} times",
        act,
        after,
        eager=0,
    )


def oom(run: Run) -> None:
    """Memory grows over the container's limit."""
    cut(run, "restart.oom", "inside the process: memory beyond the container's limit", lambda: trigger(run, "memory"))


def in_process(run: Run, how: str = "exec") -> None:
    """A restart without a new process: SIGUSR2 (SIGUSR1 in old releases)."""
    place, name, pid = run.stage, run.setting.container(run.setting.gateway), run.stage.gateway_pid()
    word = "USR2" if run.setting.version >= "2026.9" else "USR1"
    if how == "exec":
        inner = next(line for line in open(f"/proc/{pid}/status") if line.startswith("NSpid")).split()[-1]
        cut(
            run,
            "restart.in_process",
            f"docker exec {name} kill -{word} of the gateway",
            lambda: place.docker("exec", name, "sh", "-c", f"kill -{word} {inner}"),
        )
    else:
        cut(
            run,
            "restart.in_process",
            f"kill -{word} of {name}'s gateway from the host",
            lambda: os.kill(pid, getattr(signal, f"SIG{word}")),
        )


def deploy(run: Run, style: str = "v2") -> None:
    """The container is made anew with another environment, in the order of Compose 2, Compose 1, or by hand."""
    place, s = run.stage, run.setting
    name, docker = s.container(s.gateway), place.docker

    def act() -> None:
        place.release += 1
        place.engine_log += engine_lines(place.json_log())
        old = docker("inspect", "-f", "{{.Id}}", name)
        if not s.persistent:  # the state was inside the old container
            import shutil

            shutil.rmtree(place.folder / "state")
            (place.folder / "state").mkdir()
        if style == "v2":
            place.docker(
                "create",
                "--name",
                f"{old[:12]}_{name}",
                *place.gateway_options(
                    service=s.gateway, address=s.address(0), port=18789, state=place.folder / "state"
                ),
            )
            docker("stop", name)
            write()
            docker("rm", name)
            docker("rename", f"{old[:12]}_{name}", name)
        elif style == "v1":
            docker("stop", name)
            write()
            docker("rename", name, f"{old[:12]}_{name}")
            place.create_gateway()
        else:
            docker("rm", "--force", name)
            write()
            place.create_gateway()
        docker("start", name)
        if style == "v1":
            docker("rm", f"{old[:12]}_{name}")
        place.addresses()

    def write() -> None:
        if not s.persistent:
            (place.folder / "state/openclaw.json").write_text(json.dumps(place.gateway_config(), indent=2))

    if not s.persistent:
        fault = cut(
            run,
            "restart.deploy",
            f"RELEASE changed; docker compose up -d {s.gateway} ({style}); the state was not on a volume",
            act,
        )
        after = run.fault(
            "auth.pairing_required",
            "client",
            "the paired device comes again: the new container knows no device",
            also=("restart.deploy",),
        )
        for i in range(3):
            run.attempt(
                "paired_before",
                name=f"paired{i}",
                via=run.ways[-1],
                source=run.source(21 + i),
                mode="webchat",
                hold=2,
                fault=after.fault_id,
            )
            time.sleep(0.5)
        after.t_end_ms = now()
        assert fault
    else:
        cut(run, "restart.deploy", f"RELEASE changed; docker compose up -d {s.gateway} ({style})", act)


def unhealthy(run: Run, times: int = 1, stall: int = 12) -> None:
    """A health check fails and something restarts the container for it, as autoheal does; with `times` over 1 it does so again while it starts."""
    place, name = run.stage, run.setting.container(run.setting.gateway)

    def sick() -> bool:
        return place.docker("inspect", "-f", "{{.State.Health.Status}}", name) == "unhealthy"

    def wait(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not sick():
            if time.monotonic() > deadline:
                raise TimeoutError("the health check did not fail")
            time.sleep(0.1)

    pause = run.fault(
        "restart.unhealthy",
        "freeze",
        f"inside the process: event loop busy for {stall} s, so that the health check fails",
        also=("timeout.upstream", "timeout.handshake", "timeout.client"),
    )
    trigger(run, f"stall {stall}")
    wait(60)
    pause.t_end_ms = now()

    def act() -> None:
        place.docker("restart", "-t", "3", name)
        for _ in range(times - 1):
            wait(60)
            place.docker("restart", "-t", "3", name)

    cut(run, "restart.unhealthy", f"health check failed; docker restart -t 3 {name}, {times} times", act)


def conflict_loop(run: Run, seconds: float = 25) -> None:
    """A second gateway takes the state while the first restarts; the first cannot start until the second goes."""
    place, s = run.stage, run.setting
    name, second = (
        s.container(s.gateway),
        f"{s.project}{s.separator}{s.gateway}{s.separator}run{s.separator}{run.rng.randrange(16**12):012x}",
    )
    first = run.fault("restart.manual", "gateway", f"docker stop {name}", grace_ms=300)
    place.docker("stop", name)
    first.t_end_ms = now()
    place.engine.docker(
        "create",
        "--name",
        second,
        *place.gateway_options(
            service=s.gateway, address=s.address(3), port=None, state=place.folder / "state", oneoff=True
        ),
    )
    place.engine.docker("start", second)
    deadline = time.monotonic() + 90
    while not place_ready(place, second) and time.monotonic() < deadline:
        time.sleep(0.2)
    first.t_end_ms = now()

    def act() -> None:
        place.docker("start", name)
        time.sleep(seconds)
        place.docker("stop", second)
        keep_log(run, second)
        place.docker("rm", second)
        place.docker("start", name)

    cut(
        run,
        "restart.conflict",
        f"docker compose run {s.gateway} holds the state; docker start {name} fails",
        act,
        eager=1,
    )


def place_ready(place: Any, container: str) -> bool:
    done = subprocess.run(
        ["docker", "logs", container], capture_output=True, text=True, env=place.engine.environment, check=False
    )
    return bool(READY.search(done.stdout + done.stderr))


def conflict_second(run: Run, seconds: float = 30, n: int = 4) -> None:
    """A second gateway on the first one's state loops; its clients are refused."""
    place, s = run.stage, run.setting
    second = s.container(f"{s.gateway}-2")
    fault = run.fault(
        "restart.conflict",
        "client",
        f"a second service on the state of {s.gateway}: {second}",
        also=("unreachable.refused",),
    )
    place.engine.docker(
        "run",
        "--detach",
        "--name",
        second,
        *place.gateway_options(
            service=f"{s.gateway}-2", address=s.address(3), port=18790, state=place.folder / "state"
        ),
    )
    time.sleep(6)
    for i in range(n):
        time.sleep(seconds / n)
        run.command(
            "ws://127.0.0.1:18790", planned="cli_second", via="direct", fault=fault.fault_id
        ) if i % 2 else run.attempt(
            "second", name=f"second{i}", via="second", source=run.source(21 + i), fault=fault.fault_id
        )
    fault.t_end_ms = now()
    keep_log(run, second)
    place.docker("rm", "--force", second)


def keep_log(run: Run, container: str) -> None:
    """What a second gateway wrote, before its container goes."""
    done = subprocess.run(
        f"docker logs -t {container} 2>&1",
        shell=True,
        capture_output=True,
        text=True,
        errors="replace",
        env=run.stage.engine.environment,
        check=False,
    )
    run.stage.other_logs[f"{run.setting.gateway}-2.docker.log"] = done.stdout
