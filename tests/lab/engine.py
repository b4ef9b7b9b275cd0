"""A throw-away Docker engine of Debian's docker.io, in a network and mount namespace of its own.

Nothing of it touches the machine's network: bridges, iptables rules and sysctls vanish with the namespace. Several can run at once, each with a
directory of its own. Images: `occorr/busybox:1`, made from Debian's static busybox; no registry is asked.

- The API: `DOCKER_HOST=engine.host`, from anywhere on the machine (`engine.environment`, `engine.docker("ps")`, `docker.DockerClient(engine.host)`).
- Published ports stand on 127.0.0.1 *inside* the namespace. Reach them with `engine.run("curl", "http://127.0.0.1:8080/")`, or from Python with
  `with engine.network(): socket.create_connection(…)`: a socket belongs for good to the namespace in which it was opened.
- `python -m tests.lab.engine DIR` starts one by hand and stops it at Ctrl-C.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

IMAGE = "occorr/busybox:1"
PACKAGES = {
    "dockerd": "docker.io",
    "busybox": "busybox-static",
    "iptables": "iptables",
    "ip": "iproute2",
    "unshare": "util-linux",
}
CLONE_NEWNET = 0x40000000
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# containerd and its shims keep sockets under /run, which a second engine would share
INSIDE = 'ip link set lo up && mkdir -p /run/containerd /run/docker && mount -t tmpfs tmpfs /run/containerd && mount -t tmpfs tmpfs /run/docker && exec "$@"'
OURS = ("dockerd", "containerd", "docker-proxy")  # beginnings of process names


def missing() -> str | None:
    """Why no engine can be started here, and what to do; None if one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a Docker engine of its own needs root on Linux"
    absent = sorted({package for program, package in PACKAGES.items() if shutil.which(program, path=PATH) is None})
    return f"programs are absent: apt-get install {' '.join(absent)}" if absent else None


@dataclass(frozen=True)
class Engine:
    """A running engine."""

    root: Path
    process: subprocess.Popen[bytes]  # unshare and sh exec what they start, so this is dockerd itself

    @property
    def pid(self) -> int:
        """dockerd's process id."""
        return self.process.pid

    @property
    def host(self) -> str:
        """What DOCKER_HOST must be."""
        return f"unix://{self.root}/docker.sock"

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """The environment in which docker's own programs find this engine and no other."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "COMPOSE_"))}
        return {**kept, "DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self.root / "client")}

    def docker(self, *arguments: object, check: bool = True, timeout: float = 120) -> str:
        """Run Debian's docker client against this engine; its stdout without the last line end."""
        program = shutil.which("docker", path="/usr/bin") or "docker"
        done = subprocess.run(
            [program, *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise RuntimeError(
                f"docker {' '.join(map(str, arguments))}: exit {done.returncode}: {done.stderr.strip()[-500:]}"
            )
        return done.stdout.rstrip("\n")

    def inside(self, *command: object) -> Sequence[str]:
        """The command line that runs a command in the engine's network, where its published ports and container addresses are."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *map(str, command)]

    def run(self, *command: object, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command in the engine's network."""
        return subprocess.run(
            self.inside(*command),
            **{"capture_output": True, "text": True, "env": self.environment, "timeout": 120, **options},
        )

    @contextmanager
    def network(self, pid: int | None = None) -> Iterator[None]:
        """Whatever this thread opens inside the block belongs to the engine's network, or to that of the container with process `pid`."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as home, open(f"/proc/{pid or self.pid}/ns/net") as there:
            if libc.setns(there.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns into the engine's network failed")
            try:
                yield
            finally:
                if libc.setns(home.fileno(), CLONE_NEWNET):
                    os._exit(
                        70
                    )  # a thread that cannot come home would quietly run everything else in the wrong network


def cgroup(root: Path) -> str:
    """The control group above all containers of the engine in `root`."""
    return f"occorr-{zlib.crc32(os.fsencode(root)):08x}"


def start(root: Path, *options: str, image: bool = True) -> Engine:
    """Start an engine that keeps everything below `root`.

    Args:
        root: its directory; short, since a socket's path may not have more than 107 bytes.
        options: more of dockerd's own options.
        image: make `occorr/busybox:1`, if it is not there yet.
    """
    root.mkdir(parents=True, exist_ok=True)
    # TEST-NET-2, so that no private range of the machine's is ever shadowed
    command = [
        "dockerd", "--host", f"unix://{root}/docker.sock", "--data-root", f"{root}/data", "--exec-root", f"{root}/exec", "--pidfile", f"{root}/docker.pid", "--cgroup-parent", f"/{cgroup(root)}",
        "--bip", "198.51.100.1/25", "--default-address-pool", "base=198.51.100.128/25,size=28", "--shutdown-timeout", "5", *options,
    ]  # fmt: skip
    environment = {**os.environ, "PATH": PATH}
    with open(root / "dockerd.log", "ab") as log:
        child = subprocess.Popen(
            ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", INSIDE, "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    engine = Engine(root, child)
    deadline = time.monotonic() + 60
    while engine.docker("version", "--format", "{{.Server.Version}}", check=False) == "":
        if child.poll() is not None or time.monotonic() > deadline:
            tail = (root / "dockerd.log").read_text(errors="replace").splitlines()[-8:]
            stop(engine)
            raise RuntimeError("dockerd does not answer; the end of its log:\n" + "\n".join(tail))
        time.sleep(0.1)
    if image and not engine.docker("image", "ls", "--quiet", IMAGE):
        make_image(engine)
    return engine


def make_image(engine: Engine) -> None:
    """Import busybox and its names as an image."""
    with tempfile.TemporaryDirectory(dir=engine.root) as folder:
        system = Path(folder)
        for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "var/log", "var/www"):
            (system / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox", path=PATH), system / "bin/busybox")
        for name in subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
            if name != "busybox":
                (system / "bin" / name).symlink_to("busybox")
        (system / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (system / "etc/group").write_text("root:x:0:\n")
        subprocess.run(["tar", "-C", folder, "-cf", f"{folder}.tar", "."], check=True)
    engine.docker("import", "--change", 'CMD ["/bin/sh"]', f"{folder}.tar", IMAGE)
    os.unlink(f"{folder}.tar")


def processes(root: Path) -> list[int]:
    """The engine's own processes: each names its directory in its command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if (entry / "comm").read_text().startswith(OURS) and f"{root}/".encode() in (
                    entry / "cmdline"
                ).read_bytes():
                    found.append(int(entry.name))
    return found


def groups(root: Path) -> list[Path]:
    """The engine's control groups, in either version of them."""
    top = Path("/sys/fs/cgroup")
    return [p for p in (top / cgroup(root), *top.glob(f"*/{cgroup(root)}")) if p.is_dir()]


def send(pids: Sequence[int], what: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, what)


def clear(root: Path) -> None:
    """End what a killed daemon left behind; its directory stays, and another `start` takes it over."""
    send(processes(root), signal.SIGKILL)
    for group in groups(root):  # its containers are in its groups and nowhere else
        for members in group.rglob("cgroup.procs"):
            with suppress(OSError):
                send([int(p) for p in members.read_text().split()], signal.SIGKILL)
    time.sleep(0.05)
    shutil.rmtree(
        root / "exec", ignore_errors=True
    )  # the next containerd would wait for the one whose pid stands there
    for name in ("docker.pid", "docker.sock"):
        (root / name).unlink(missing_ok=True)


def stop(engine: Engine) -> None:
    """End everything that `start` began, containers too, and remove the engine's directory."""
    engine.process.terminate()
    with suppress(subprocess.TimeoutExpired):
        engine.process.wait(20)
    sweep(engine.root)
    engine.process.wait(5)


def sweep(root: Path) -> None:
    """Remove an engine's remains, also one whose starter was killed: `python -m tests.lab.engine --sweep DIR`."""
    for patience, what in ((10.0, signal.SIGTERM), (5.0, signal.SIGKILL)):
        deadline = time.monotonic() + patience
        while (left := processes(root)) and time.monotonic() < deadline:
            send(left, what)
            time.sleep(0.1)
    clear(root)
    for group in groups(root):
        for folder in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
            with suppress(OSError):
                folder.rmdir()
        with suppress(OSError):
            group.rmdir()
    shutil.rmtree(root, ignore_errors=True)


@contextmanager
def running(root: Path | None = None, *options: str, image: bool = True) -> Iterator[Engine]:
    """An engine for the time of the block, in a new directory of its own unless one is given."""
    engine = start(root or Path(tempfile.mkdtemp(prefix="occorr-engine-")), *options, image=image)
    try:
        yield engine
    finally:
        stop(engine)


if __name__ == "__main__":
    if reason := missing():
        sys.exit(reason)
    if sys.argv[1:2] == ["--sweep"]:
        sys.exit(sweep(Path(sys.argv[2]).absolute()))
    with running(Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else None) as engine, suppress(KeyboardInterrupt):
        print(f"DOCKER_HOST={engine.host}\n{' '.join(engine.inside())} COMMAND…   # in its network", flush=True)
        signal.pause()
