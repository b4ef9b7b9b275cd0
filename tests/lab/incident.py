"""Runs one incident: background traffic, the planned faults, and every client's record."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import clients, faults, stage
from .websocket import now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CLI_CLOSED = re.compile(r"closed \((\d{4})[^)]*\)(?::? ?([^\n]*))?")
CLI_STATUS = re.compile(r"Unexpected server response: (\d+)|HTTP (\d{3})")


@dataclass(frozen=True, slots=True)
class Step:
    """A fault at a moment."""

    at: float  # seconds after the beginning
    fault: str  # a function of faults
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """One incident."""

    name: str
    seed: int
    setting: stage.Setting
    steps: Sequence[Step]
    background: int = 3  # clients that come and go
    holders: int = 4  # clients that stay until something cuts them off
    seconds: float = 25  # at least
    keep: Mapping[str, Any] = field(default_factory=dict)  # which sources are collected, and under which names
    story: str = ""


@dataclass(slots=True)
class Fault:
    """What was done. `reach` says what it cuts: gateway, proxy, network, freeze, or client (nothing but the attempts that it made)."""

    fault_id: str
    cause: str
    reach: str
    command: str
    t_start_ms: int
    t_end_ms: int = 0
    also: tuple[str, ...] = ()  # causes that count as right, too
    closes: int = 0
    grace_ms: int = 1200  # how long after its end its closes may surface

    def covers(self, at: int) -> bool:
        """Whether a close at this moment may be its work."""
        return self.t_start_ms - 5 <= at <= (self.t_end_ms or at) + self.grace_ms


class Run:
    """The incident while it happens."""

    def __init__(self, place: stage.Stage, plan: Plan) -> None:
        self.stage, self.plan, self.setting = place, plan, plan.setting
        self.rng = random.Random(f"{plan.name}/{plan.seed}")
        self.records: list[clients.Record] = []
        self.faults: list[Fault] = []
        self.lock, self.stop, self.threads = threading.Lock(), threading.Event(), []
        self.errors: list[str] = []
        self.begin = self.end = 0
        s = plan.setting
        fake = re.match(r"[-+][\d.]+", s.clocks.get("gateway", ""))
        self.world = clients.World(
            (s.address(0), stage.PORT), (s.address(1), 80) if s.proxy else None, s.token, stage.device_of(place.folder / "state"), s.version, stage.build_of(place.programs, s.version), int(float(fake[0]) * 1000) if fake else 0, (s.address(3), stage.PORT),
        )  # fmt: skip
        self.ways = ["direct", "proxy"] if s.proxy else ["direct"]

    # ---- clients
    def note(self, record: clients.Record) -> clients.Record:
        with self.lock:
            record.close_id = f"c{len(self.records) + 1:03d}"
            self.records.append(record)
        return record

    def attempt(self, kind: str = "normal", **options: Any) -> clients.Record:
        """An attempt from inside the engine's network; noted."""
        with self.stage.engine.network():
            return self.note(clients.attempt(self.world, kind, **options))

    def spawn(self, work: Callable[..., object], *arguments: Any, **options: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*arguments, **options)
            except Exception as error:  # noqa: BLE001 - it belongs into the incident's report, not into a thread's grave
                self.errors.append(f"{getattr(work, '__name__', work)}: {error!r}"[:300])

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        self.threads.append(thread)
        return thread

    def source(self, number: int) -> str:
        """A client's address."""
        return self.setting.address(20 + number)

    def visitor(self, number: int) -> None:
        """Comes and goes."""
        rng = random.Random(f"{self.plan.name}/{self.plan.seed}/visitor{number}")
        self.stop.wait(rng.uniform(0, 4))
        patience = 3.0
        while not self.stop.is_set():
            got = self.attempt(
                name=f"visitor{number}",
                via=rng.choice(self.ways),
                source=self.source(number),
                mode=rng.choice(["cli", "cli", "webchat"]),
                hold=rng.uniform(1.5, 6),
                stop=self.stop,
                chat=rng.choice([None, 2]),
                end=rng.choice(
                    [
                        "1000",
                        "1000",
                        "1000",
                        "1001",
                        "1005",
                        "rst" if rng.random() < 0.4 else "fin" if rng.random() < 0.1 else "1000",
                    ]
                ),
                rng=rng,
            )
            patience = 4.5 if got.established else min(patience * 1.5, 12)
            self.stop.wait(rng.uniform(1, 4) if got.established else patience * rng.uniform(0.8, 1.2))

    def holder(self, number: int) -> None:
        """Stays until something cuts it off, then comes again."""
        rng = random.Random(f"{self.plan.name}/{self.plan.seed}/holder{number}")
        self.stop.wait(rng.uniform(0, 1.5))
        patience, via = 3.0, self.ways[number % len(self.ways)]
        while not self.stop.is_set():
            got = self.attempt(
                name=f"holder{number}",
                via=via,
                source=self.source(8 + number),
                mode="webchat" if number % 4 in (1, 2) else "cli",
                hold=900,
                end=rng.choice(["1000", "1001", "1005"]),
                stop=self.stop,
                chat=rng.uniform(0.8, 1.6),
                watch=any(step.fault in ("partition", "reset") for step in self.plan.steps),
                rng=rng,
            )
            if not self.stop.is_set():
                patience = 4.5 if got.established else min(patience * 1.6, 14)
                self.stop.wait(patience * rng.uniform(0.5, 1.2))

    def command(
        self,
        url: str,
        *,
        planned: str,
        via: str,
        fault: str | None = None,
        token: str | None = None,
        inside: bool = False,
        arguments: Sequence[str] = ("gateway", "call", "health", "--timeout", "8000"),
    ) -> clients.Record:
        """Run the real CLI once and keep what it printed.

        Args:
            inside: in a one-off container, as `docker compose run cli` does, and not on the host.
        """
        s, folder = self.setting, self.stage.folder
        with self.lock:
            number = len(list((folder / "cli").glob("*.out"))) + 1
            out = folder / "cli" / f"{number:02d}.out"
            out.touch()
        home = folder / "home"
        (home / "openclaw.json").write_text("{}")
        shown = f"openclaw {' '.join(arguments)} --url {url} --token ***"
        words = [*arguments, "--url", url, "--token", token or s.token]
        began = now()
        if inside:
            done = subprocess.run(
                ["docker", "run", "--rm", "--name", f"{s.project}{s.separator}cli{s.separator}run{s.separator}{self.rng.randrange(16**12):012x}", *self.stage.labels("cli", oneoff=True), "--network", f"{s.project}_default",
                 "--volume=/usr:/usr:ro", f"--volume={self.stage.programs.node.resolve()}:/opt/node:ro", f"--volume={self.stage.programs.gateways[s.version] / 'node_modules'}:/app/node_modules:ro", "--env=HOME=/tmp", "--env=NO_COLOR=1", "--env=PATH=/opt/node:/usr/bin:/bin",
                 "--entrypoint", "node", f"{s.image}:{s.version}", "/app/node_modules/openclaw/openclaw.mjs", *words],
                env=self.stage.engine.environment, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False)  # fmt: skip
        else:
            environment = {
                **os.environ,
                "HOME": str(home),
                "OPENCLAW_STATE_DIR": str(home),
                "OPENCLAW_CONFIG_PATH": str(home / "openclaw.json"),
                "NO_COLOR": "1",
                "NODE_COMPILE_CACHE": str(stage.install.CACHE / "compiled"),
                "TZ": s.zones.get("cli", "UTC"),
            }
            environment["PATH"] = f"{self.stage.programs.node}:{environment['PATH']}"
            line = self.stage.engine.inside(
                self.stage.programs.node / "node", self.stage.programs.launcher(s.version), *words
            )
            done = subprocess.run(
                line,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        ended = now()
        text = f"{done.stdout[:6000]}{done.stderr}".replace(str(home), "/home/user/.openclaw")
        out.write_text(f"$ {shown}\n{text}")
        out.with_name(f"{number:02d}.meta.json").write_text(
            json.dumps({"argv": shown, "start_ms": began, "end_ms": ended, "rc": done.returncode})
        )
        record = clients.Record(
            f"cli/{out.name}",
            via,
            planned,
            "cli",
            None,
            "/",
            began,
            fault_id=fault,
            t_close_window_ms=[began, ended],
            error=done.stderr[:600],
            established=done.returncode == 0,
        )
        closed, status = CLI_CLOSED.search(text), CLI_STATUS.search(text)
        record.http_status = int(status[1] or status[2]) if status else None
        how = (
            "cli_ok"
            if done.returncode == 0
            else "cli_close"
            if closed
            else "refused"
            if "ECONNREFUSED" in text
            else "http"
            if status
            else "cli_timeout"
            if re.search(r"timeout after|timed out", text)
            else "dns"
            if "ENOTFOUND" in text or "EAI_AGAIN" in text
            else "cli_other"
        )
        record.end(
            how,
            None,
            int(closed[1]) if closed else 1000 if done.returncode == 0 else None,
            (closed[2] or "") if closed else None,
            ended,
        )
        return self.note(record)

    # ---- faults
    def fault(self, cause: str, reach: str, command: str, **more: Any) -> Fault:
        """Note that a fault begins now."""
        with self.lock:
            one = Fault(f"f{len(self.faults) + 1}", cause, reach, command, now(), **more)
            self.faults.append(one)
        return one

    def perform(self, step: Step, origin: float) -> None:
        time.sleep(max(0.0, origin + step.at - time.monotonic()))
        getattr(faults, step.fault)(self, **step.options)

    def execute(self) -> None:
        """Let it happen."""
        if self.stage.first:
            self.note(self.stage.first)
        self.begin = now()
        origin = time.monotonic()
        for number in range(self.plan.background):
            self.spawn(self.visitor, number)
        for number in range(self.plan.holders):
            self.spawn(self.holder, number)
        steps = [self.spawn(self.perform, step, origin) for step in self.plan.steps]
        for thread in steps:
            thread.join(400)
        time.sleep(max(4.0, origin + self.plan.seconds - time.monotonic()))
        self.stop.set()
        for thread in list(self.threads):
            thread.join(60)
        self.end = now()
        time.sleep(1.5)  # the last lines are written
