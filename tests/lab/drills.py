"""What can end a gateway's connections on an engine: each as something to do, and the cause that must be told of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab import engine as engines, gateway as gateways

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.engine import Engine
    from lab.gateway import Gateway

PATIENCE = 20.0  # s


@dataclass(frozen=True)
class Scene:
    """One gateway of a project on an engine, and the container that it runs in."""

    engine: Engine
    gateway: Gateway
    project: str
    container: str


def clear(engine: Engine, project: str) -> None:
    """Removes the containers of a project."""
    for ident in engine.docker(
        "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}"
    ).split():
        engine.docker("rm", "--force", ident)


@dataclass(frozen=True)
class Drill:
    """One fault.

    Attributes:
        cause: what ended the connections, in the vocabulary's word.
        act: brings it about.
        options: of `docker run`, for the gateway's container.
        beside: whether a proxy's container stands beside it, whose network it shares.
    """

    name: str
    cause: str
    act: Callable[[Scene], object]
    options: tuple[str, ...] = ()
    beside: bool = False

    def run(self, engine: Engine, gateway: Gateway, project: str) -> tuple[Scene, list[str]]:
        """Starts the gateway, connects two clients, brings the fault about; the connections' ids."""
        options = list(self.options)
        if self.beside:
            labels = (f"com.docker.compose.project={project}", "com.docker.compose.service=proxy")
            proxy = f"{project}-proxy-1"
            flags = [part for label in labels for part in ("--label", label)]
            engine.docker("run", "--detach", "--name", proxy, *flags, engines.IMAGE, "sleep", "1000")
            options += ["--network", f"container:{proxy}"]
        scene = Scene(engine, gateway, project, gateways.run(engine, gateway, project, *options))
        conns = [gateway.connect(), gateway.connect("192.0.2.118")]
        time.sleep(0.5)  # longer than watch takes to judge: the fault is news of its own
        self.act(scene)
        return scene, conns


def _kill(scene: Scene) -> None:
    scene.engine.docker("kill", scene.container)


def _restart(scene: Scene) -> None:
    scene.engine.docker("restart", scene.container)


def _crash(scene: Scene) -> None:
    scene.gateway.crash()


def _out_of_memory(scene: Scene) -> None:
    scene.gateway.say("[health-monitor] checked")  # a gateway that is silent before it dies may have hung
    scene.gateway.send("OOM")


def _unhealthy(scene: Scene) -> None:
    _health(scene, "healthy")
    (scene.gateway.folder / "sick").touch()
    _health(scene, "unhealthy")
    time.sleep(0.3)  # the engine's event follows what inspect says
    _restart(scene)


def _deploy(scene: Scene) -> None:
    scene.engine.docker("rm", "--force", scene.container)
    gateways.run(scene.engine, scene.gateway, scene.project)


def _health(scene: Scene, wanted: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while scene.engine.docker("inspect", "--format", "{{.State.Health.Status}}", scene.container) != wanted:
        assert time.monotonic() < deadline, f"the container did not become {wanted}"
        time.sleep(0.1)


SICKLY = ("--health-cmd", "test ! -e /ctl/sick", "--health-interval", "300ms", "--health-retries", "1")
DRILLS = (
    Drill("a kill", "restart.killed", _kill),
    Drill("a restart by hand", "restart.manual", _restart),
    Drill("a crash under a restart policy", "restart.crash", _crash, ("--restart", "on-failure")),
    Drill("out of memory", "restart.oom", _out_of_memory, ("--memory", "16m", "--memory-swap", "16m")),
    Drill("unhealthy and then restarted", "restart.unhealthy", _unhealthy, SICKLY),
    Drill("a new container in its place", "restart.deploy", _deploy),
    Drill("a kill in the network of another service", "restart.killed", _kill, beside=True),
)
