"""The containers of one incident: a gateway, a proxy and a bystander, labelled as Compose labels them, and the files they use."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from . import clients, install, proxies
from .websocket import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .engine import Engine

HERE = Path(__file__).parent
BRIDGE = "br-lab"
PORT = 18789
READY = re.compile(r"gateway\] ready|\\?\"message\\?\":\\?\"(?:gateway )?ready\\?\"|listening on ws://")
LISTENING = re.compile(r"http server listening|listening on ws://")


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything about an incident that is no fault: what varies from one to the next."""

    project: str = "openclaw"
    separator: str = "-"  # of container names: Compose 2 has "-", Compose 1 "_"
    gateway: str = "gateway"  # names of services
    front: str = "proxy"
    bystander: str = "worker"
    subnet: str = "192.0.2"  # a documentation range, /24
    host: int = 10  # the first host part that is used
    version: str = install.NEW
    proxy: str | None = "nginx"
    format: str = "combined"
    level: str = "error"
    idle: int = 75
    cut: int = 1
    routes: Mapping[str, str] = field(default_factory=dict)  # path prefix → kind
    main_route: str = "gateway"
    trusted: bool = True  # the proxy stands in trustedProxies
    verbose: bool = False
    console: str = ""  # pretty, compact, json
    memory: str = "1500m"
    restart: str = "unless-stopped"
    health: tuple[str, ...] = ()  # options of docker run
    zones: Mapping[str, str] = field(default_factory=dict)  # gateway, proxy, cli → TZ
    clocks: Mapping[str, str] = field(default_factory=dict)  # gateway, proxy → FAKETIME
    token: str = "lab-throwaway-token-0001"
    image: str = "openclaw/gateway"
    persistent: bool = True  # the gateway's state survives a new container

    def address(self, number: int) -> str:
        """An address of the incident's network: 0 the gateway, 1 the proxy, 2 the bystander, 3 a second gateway; from 20 on clients."""
        return f"{self.subnet}.{self.host + number}"

    def container(self, service: str) -> str:
        """A container's name."""
        return self.separator.join((self.project, service, "1"))


def deny_names(server: socket.socket) -> None:
    """A name server that knows nobody, and says so at once: without it every unknown name is a timeout, since the engine's network leads nowhere."""
    while True:
        try:
            question, who = server.recvfrom(1500)
            if who is None:  # shut down
                return
            # the same id and question, an answer (0x8180) with NXDOMAIN (3), no records
            server.sendto(question[:2] + b"\x81\x83" + question[4:6] + bytes(6) + question[12:], who)
        except OSError:
            return


def make_images(engine: Engine) -> None:
    """A root file system without files: programs and libraries are the machine's own /usr."""
    if engine.docker("image", "ls", "--quiet", "lab/base:1"):
        return
    root = engine.root / "base"
    for name in (
        "usr",
        "tmp",
        "proc",
        "sys",
        "dev",
        "run/lab",
        "etc",
        "var/lib",
        "var/log",
        "root",
        "conf",
        "logs",
        "state",
        "opt",
        "home",
    ):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    )
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    shutil.copy(HERE / "entry.sh", root / "entry.sh")
    (root / "entry.sh").chmod(0o755)
    subprocess.run(["tar", "-C", str(root), "-cf", f"{root}.tar", "."], check=True)
    engine.docker("import", f"{root}.tar", "lab/base:1")
    shutil.rmtree(root)


def device_of(state: Path) -> Ed25519PrivateKey:
    """The paired device's key, kept beside the state in which it is paired."""
    return Ed25519PrivateKey.from_private_bytes((state / "lab-device").read_bytes())


class Stage:
    """One incident's containers on one engine."""

    def __init__(self, engine: Engine, programs: install.Programs, setting: Setting, folder: Path) -> None:
        self.engine, self.programs, self.setting, self.folder = engine, programs, setting, folder
        self.proxy = proxies.PROXIES[setting.proxy] if setting.proxy else None
        self.events: subprocess.Popen[bytes] | None = None
        self.dns: socket.socket | None = None
        self.release = 1
        self.other_logs: dict[str, str] = {}  # file name → what a second gateway wrote
        self.first: clients.Record | None = None  # the connection that paired the device, if it had to be made
        self.engine_log: list[tuple[float, str]] = []  # of containers that are gone
        for name in ("state", "conf", "logs", "run-gateway/hooks", "run-proxy", "gateway-logs", "cli", "home"):
            (folder / name).mkdir(parents=True)
        (folder / "logs").chmod(0o777)
        (install.CACHE / "compiled").mkdir(exist_ok=True)
        self.docker = partial(engine.docker, check=False)

    # ---- files
    def write_state(self, folder: Path) -> None:
        """A state in which the lab's device is paired, and the gateway's configuration."""
        template = install.CACHE / f"state-{self.setting.version}"
        if template.is_dir():
            shutil.copytree(template, folder, dirs_exist_ok=True)
        (folder / "openclaw.json").write_text(json.dumps(self.gateway_config(), indent=2))

    def gateway_config(self) -> dict[str, object]:
        """openclaw.json."""
        s = self.setting
        gateway: dict[str, object] = {
            "mode": "local",
            "bind": "lan",
            "port": PORT,
            "auth": {"mode": "token", "token": s.token},
            "controlUi": {"allowedOrigins": [clients.ORIGIN]},
        }
        if s.trusted and s.proxy:
            gateway["trustedProxies"] = [s.address(1)]
        logging = {"consoleStyle": s.console} if s.console else {}
        return {"gateway": gateway, "update": {"checkOnStart": False}, **({"logging": logging} if logging else {})}

    def layout(self) -> proxies.Layout:
        """What the proxy is told."""
        s = self.setting
        program = ""
        if self.proxy and self.proxy.pypi:
            program = "/opt/proxy"
        return proxies.Layout(
            gateway=f"{s.address(0)}:{PORT}", closed=f"{s.address(0)}:{PORT - 1}", hole=f"{s.subnet}.1:9000", routes=s.routes, main=s.main_route, idle=s.idle, format=s.format, level=s.level, cut=s.cut, program=program,
            unknown_name={"gateway": "gatway", "openclaw": "openclaw-gw"}.get(s.gateway, f"{s.gateway}-1"),
        )  # fmt: skip

    def write_proxy(self) -> None:
        """The proxy's configuration."""
        if self.proxy:
            for name, text in self.proxy.files(self.layout()).items():
                (self.folder / "conf" / name).write_text(text)

    def private(self, which: str, more: str = "") -> None:
        """The environment that `docker inspect` does not show: the clock, and for the gateway its hook."""
        fake = self.setting.clocks.get(which)
        text = (
            f'export LD_PRELOAD={install.FAKETIME} FAKETIME="{fake}" FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1\n'
            if fake
            else ""
        )
        (self.folder / f"run-{which}/env").write_text(text + more)

    # ---- containers
    def labels(self, service: str, oneoff: bool = False) -> list[str]:
        s = self.setting
        return [f"--label=com.docker.compose.{k}={v}" for k, v in {
            "project": s.project, "service": service, "container-number": "1", "oneoff": str(oneoff), "version": "2.26.1" if s.separator == "-" else "1.29.2", "project.working_dir": f"/srv/{s.project}",
            "project.config_files": f"/srv/{s.project}/compose.yml" if s.separator == "-" else "compose.yml", "config-hash": f"{abs(hash((s.project, service, self.release))):064x}"[:64],
        }.items()]  # fmt: skip

    def gateway_options(
        self, *, service: str, address: str, port: int | None, state: Path, oneoff: bool = False
    ) -> list[str]:
        """What follows `docker create` for a gateway."""
        s = self.setting
        environment = {
            "PATH": "/opt/node:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/state", "OPENCLAW_STATE_DIR": "/state", "OPENCLAW_CONFIG_PATH": "/state/openclaw.json", "OPENCLAW_SKIP_CHANNELS": "1",
            "OPENCLAW_DISABLE_BONJOUR": "1", "OPENCLAW_NO_RESPAWN": "1", "NO_COLOR": "1", "TZ": s.zones.get("gateway", "UTC"), "RELEASE": str(self.release),
        }  # fmt: skip
        binds = {
            "/usr": "/usr:ro", str(self.programs.node.resolve()): "/opt/node:ro", str(self.programs.gateways[s.version] / "node_modules"): "/app/node_modules:ro", str(state): "/state",
            str(self.folder / "run-gateway"): "/run/lab", str(self.folder / "gateway-logs"): "/tmp/openclaw", str(install.CACHE / "compiled"): "/var/cache/node",
        }  # fmt: skip
        return [
            *self.labels(service, oneoff), "--network", f"{s.project}_default", "--network-alias", service, "--ip", address, "--dns", f"{s.subnet}.1", *(("--publish", f"127.0.0.1:{port}:{PORT}") if port else ()),
            "--restart", s.restart, "--memory", s.memory, "--memory-swap", s.memory, *s.health, *(f"--env={k}={v}" for k, v in environment.items()), *(f"--volume={k}:{v}" for k, v in binds.items()),
            "--entrypoint", "/entry.sh", f"{s.image}:{s.version}", "node", "/app/node_modules/openclaw/openclaw.mjs", "gateway", "run", *(("--verbose",) if s.verbose else ()),
        ]  # fmt: skip

    def create_gateway(self, name: str | None = None) -> str:
        """Create the gateway's container, without starting it."""
        s = self.setting
        return self.engine.docker(
            "create",
            "--name",
            name or s.container(s.gateway),
            *self.gateway_options(service=s.gateway, address=s.address(0), port=PORT, state=self.folder / "state"),
        )

    def proxy_options(self) -> list[str]:
        s, proxy = self.setting, self.proxy
        assert proxy is not None
        binds = {
            "/usr": "/usr:ro",
            str(self.folder / "conf"): "/conf:ro",
            str(self.folder / "run-proxy"): "/run/lab:ro",
            str(self.folder / "logs"): "/logs",
        }
        if proxy.pypi:
            program = install.fetch_proxy(proxy.pypi)
            assert program is not None
            binds[str(program)] = "/opt/proxy:ro"
        return [
            *self.labels(s.front), "--network", f"{s.project}_default", "--ip", s.address(1), "--dns", f"{s.subnet}.1", "--publish", "127.0.0.1:8080:80", "--restart", "unless-stopped", f"--env=TZ={s.zones.get('proxy', 'UTC')}", "--env=HOME=/logs",
            "--env=PATH=/usr/sbin:/usr/bin:/sbin:/bin", *(f"--volume={k}:{v}" for k, v in binds.items()), "--entrypoint", "/entry.sh", proxy.image, "sh", "-c", f"exec {proxy.command(self.layout())}",
        ]  # fmt: skip

    def up(self) -> None:
        """Start everything and wait until the gateway is ready."""
        s, docker = self.setting, self.engine.docker
        make_images(self.engine)
        for image in {f"{s.image}:{s.version}", f"{s.bystander}:1", *([self.proxy.image] if self.proxy else [])}:
            docker("tag", "lab/base:1", image)
        self.write_state(self.folder / "state")
        self.write_proxy()
        self.private(
            "gateway", "export NODE_OPTIONS='--require /run/lab/hook.cjs' NODE_COMPILE_CACHE=/var/cache/node\n"
        )
        self.private("proxy")
        shutil.copy(HERE / "hook.cjs", self.folder / "run-gateway/hook.cjs")
        with open(self.folder / "events.jsonl", "ab") as out:
            self.events = subprocess.Popen(
                ["docker", "events", "--format", "{{json .}}"],
                stdout=out,
                stderr=subprocess.DEVNULL,
                env=self.engine.environment,
            )
        time.sleep(0.3)
        docker(
            "network",
            "create",
            "--subnet",
            f"{s.subnet}.0/24",
            "--opt",
            f"com.docker.network.bridge.name={BRIDGE}",
            f"--label=com.docker.compose.project={s.project}",
            f"{s.project}_default",
        )
        with self.engine.network():
            self.dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.dns.bind((f"{s.subnet}.1", 53))
        threading.Thread(target=deny_names, args=(self.dns,), daemon=True).start()
        self.create_gateway()
        docker("start", s.container(s.gateway))
        if self.proxy:
            docker("run", "--detach", "--name", s.container(s.front), *self.proxy_options())
        bystander = (
            "--volume=/usr:/usr:ro",
            "--entrypoint",
            "/bin/sh",
            f"{s.bystander}:1",
            "-c",
            "trap 'exit 0' TERM; while :; do sleep 1 & wait; done",
        )
        docker(
            "run",
            "--detach",
            "--name",
            s.container(s.bystander),
            *self.labels(s.bystander),
            "--network",
            f"{s.project}_default",
            "--ip",
            s.address(2),
            *bystander,
        )
        self.addresses()
        rule = ("INPUT", "-p", "tcp", "--dport", "9000", "-j", "DROP")
        if self.engine.run("iptables", "-C", *rule).returncode:
            self.engine.run("iptables", "-I", *rule)
        self.wait_ready(0, 300)
        key = self.folder / "state/lab-device"
        if (
            not key.is_file()
        ):  # no template: the device pairs now, from the loopback, where the gateway approves by itself
            device = Ed25519PrivateKey.generate()
            key.write_bytes(device.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))
            world = clients.World(
                ("127.0.0.1", PORT), None, s.token, device, s.version, build_of(self.programs, s.version)
            )
            with self.engine.network(self.pid(s.gateway)):
                self.first = clients.attempt(world, name="first", source="127.0.0.1", mode="webchat", hold=1)
            if not self.first.established:
                raise RuntimeError(f"the first device could not pair with {s.version}: {self.first}")

    def addresses(self) -> None:
        """The clients' addresses stand on the bridge; a network that was made anew has lost them."""
        for number in range(20, 60):
            self.engine.run("ip", "addr", "replace", f"{self.setting.address(number)}/32", "dev", BRIDGE)

    def pid(self, service: str) -> int:
        """A container's first process on the host; 0 if it does not run."""
        return int(self.docker("inspect", "-f", "{{.State.Pid}}", self.setting.container(service)) or 0)

    def gateway_pid(self) -> int:
        """The gateway itself on the host: in new releases the container's first process is only its launcher."""
        first = self.pid(self.setting.gateway)
        try:
            children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        except OSError:
            children = []
        for child in children:
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"openclaw-gateway"):
                return int(child)
        return first

    def netns(self, service: str, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a command in a container's network."""
        return subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid(service)}/ns/net", "--", *map(str, command)],
            capture_output=True,
            text=True,
            check=False,
        )

    def json_log(self, service: str | None = None) -> str:
        """The engine's own file of a container's output, so that waiting makes no traffic."""
        ident = self.docker("inspect", "-f", "{{.Id}}", self.setting.container(service or self.setting.gateway))
        path = self.engine.root / "data/containers" / ident / f"{ident}-json.log"
        return path.read_text(errors="replace") if ident and path.is_file() else ""

    def marks(self) -> tuple[int, int]:
        """How often this container's gateway listened and was ready."""
        text = self.json_log()
        return len(LISTENING.findall(text)), len(READY.findall(text))

    def wait_ready(self, seen: int, seconds: float, which: int = 1) -> int:
        """Wait until the gateway was ready more than `seen` times; the moment, epoch ms."""
        deadline = time.monotonic() + seconds
        while self.marks()[which] <= seen:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the gateway is not ready; the end of its log:\n{self.json_log()[-1500:]}")
            time.sleep(0.15)
        return now()

    def down(self) -> None:
        """Remove everything."""
        names = self.docker("ps", "--all", "--quiet").split()
        if names:
            self.docker("rm", "--force", "--volumes", *names)
        self.docker("network", "rm", f"{self.setting.project}_default")
        time.sleep(0.3)
        if self.events:
            self.events.terminate()
            self.events.wait(5)
        if self.dns:
            with suppress(OSError):  # wakes the thread that waits on it: a socket that is waited on keeps its port
                self.dns.shutdown(socket.SHUT_RDWR)
            self.dns.close()
        for name in ("state", "state-b", "home"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    # ---- what people keep
    def compose(self) -> str:
        """The Compose file that these containers would come from."""
        s = self.setting
        services: dict[str, object] = {
            s.gateway: {"image": f"{s.image}:{s.version}", "command": f"gateway run{' --verbose' if s.verbose else ''}", "environment": {"TZ": s.zones.get("gateway", "UTC"), "RELEASE": str(self.release)},
                        "volumes": ["./state:/state", "./logs:/tmp/openclaw"] if s.persistent else ["./logs:/tmp/openclaw"], "ports": [f"127.0.0.1:{PORT}:{PORT}"], "restart": s.restart, "mem_limit": s.memory,
                        "networks": {"default": {"ipv4_address": s.address(0)}}},
            s.bystander: {"image": f"{s.bystander}:1", "networks": {"default": {"ipv4_address": s.address(2)}}},
        }  # fmt: skip
        if s.health:
            options = dict(o.removeprefix("--health-").split("=", 1) for o in s.health)
            services[s.gateway] |= {
                "healthcheck": {
                    {"cmd": "test", "start-period": "start_period"}.get(k, k): int(v) if k == "retries" else v
                    for k, v in options.items()
                }
            }  # type: ignore[operator]
        if self.proxy:
            services[s.front] = {
                "image": self.proxy.image,
                "environment": {"TZ": s.zones.get("proxy", "UTC")},
                "volumes": ["./conf:/conf:ro"],
                "ports": ["127.0.0.1:8080:80"],
                "restart": "unless-stopped",
                "networks": {"default": {"ipv4_address": s.address(1)}},
            }
        top = {"version": "2.4"} if s.separator == "_" else {"name": s.project}
        return yaml.safe_dump(
            {
                **top,
                "services": services,
                "networks": {"default": {"ipam": {"config": [{"subnet": f"{s.subnet}.0/24"}]}}},
            },
            sort_keys=False,
        )


def prepare_state(engine: Engine, programs: install.Programs, version: str, folder: Path) -> None:
    """Make the template of a state once per version: a gateway that runs for the first time, and a device that pairs from the loopback."""
    template = install.CACHE / f"state-{version}"
    if template.is_dir():
        return
    stage = Stage(engine, programs, Setting(version=version, proxy=None, project="prepare", memory="3g"), folder)
    try:
        stage.up()
        engine.docker("stop", stage.setting.container(stage.setting.gateway))
        for path in (folder / "state").rglob("*"):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
        part = template.with_name(f"{template.name}.part-{os.getpid()}")
        shutil.copytree(folder / "state", part, symlinks=True)
        part.rename(template)
    finally:
        stage.down()


def build_of(programs: install.Programs, version: str) -> str | None:
    """The build that this version's Control UI names."""
    path = programs.gateways[version] / "node_modules/openclaw/dist/build-info.json"
    return json.loads(path.read_text()).get("buildId") if path.is_file() else None
