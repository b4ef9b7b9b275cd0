"""What the engine's documents tell: `docker inspect` of containers, images and networks, `docker version`, `docker ps`, Compose files."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from occorr import scrub
from occorr.facts import GATEWAY, Fact, line_of, proxy_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from occorr.redact import Redactor

_PLAIN_ENV: Final = re.compile(r"^(?:TZ|OPENCLAW_(?!.*KEY)\w+|NODE_OPTIONS|NODE_ENV|PORT|HOST|RELEASE)$")


def _env(pairs: list[str], redactor: Redactor) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        name, _, value = str(pair).partition("=")
        if scrub.SECRET.search(name):
            if value:
                yield f"env.{name}", scrub.secret(value, redactor)
        elif _PLAIN_ENV.match(name):
            yield f"env.{name}", scrub.text(value, redactor)


def _command(value: Any, redactor: Redactor) -> str:
    """A command line as a list of words or as one text, without its secrets."""
    words = [str(word) for word in value] if isinstance(value, list) else None
    if not redactor.enabled:
        return str(value) if words is None else " ".join(words)
    return scrub.script(str(value), redactor) if words is None else " ".join(scrub.command(words, redactor))


def container(item: dict[str, Any], text: str, redactor: Redactor) -> Iterator[Fact]:
    """A container of `docker inspect`; the subject is `container:<id>`."""
    ident = str(item.get("Id", ""))
    subject, at = f"container:{ident}", text.find(ident)
    state, config, host = item.get("State") or {}, item.get("Config") or {}, item.get("HostConfig") or {}
    labels, log = config.get("Labels") or {}, (host.get("LogConfig") or {}).get("Config") or {}
    image = str(config.get("Image", ""))
    command = _command([item.get("Path", ""), *(item.get("Args") or [])], redactor)
    simple = {
        "name": str(item.get("Name", "")).lstrip("/"),
        "image": image,
        "image_id": item.get("Image"),
        "command": command,
        "hostname": config.get("Hostname"),
        "compose.project": labels.get("com.docker.compose.project"),
        "compose.service": labels.get("com.docker.compose.service"),
        "compose.config_hash": labels.get("com.docker.compose.config-hash"),
        "state.status": state.get("Status"),
        "state.started_at": state.get("StartedAt"),
        "state.finished_at": state.get("FinishedAt"),
        "state.exit_code": state.get("ExitCode"),
        "state.oom_killed": str(bool(state.get("OOMKilled"))).lower(),
        "restart_count": item.get("RestartCount"),
        "restart_policy": (host.get("RestartPolicy") or {}).get("Name"),
        "log_max_size": log.get("max-size"),
        "log_max_file": log.get("max-file"),
        "network_mode": host.get("NetworkMode"),
        "memory_limit": host.get("Memory"),
        "log_driver": (host.get("LogConfig") or {}).get("Type"),
        "created": item.get("Created"),
    }
    for key, value in simple.items():
        if value not in (None, "", "0001-01-01T00:00:00Z"):
            yield Fact(subject, key, redactor.text(str(value)), line_of(text, f'"{value}"', at) if at >= 0 else 1)
    for name, network in ((item.get("NetworkSettings") or {}).get("Networks") or {}).items():
        for address in (network.get("IPAddress"), network.get("GlobalIPv6Address")):
            if address:
                yield Fact(subject, f"network.{name}.address", address, line_of(text, address, at))
        if network.get("Gateway"):
            yield Fact(subject, f"network.{name}.gateway", network["Gateway"], line_of(text, network["Gateway"], at))
    for port, bindings in ((item.get("NetworkSettings") or {}).get("Ports") or {}).items():
        for binding in bindings or []:
            yield Fact(
                subject,
                f"port.{port}",
                f"{binding.get('HostIp', '')}:{binding.get('HostPort', '')}",
                line_of(text, port, at),
            )
    for mount in item.get("Mounts") or []:
        yield Fact(
            subject,
            f"mount.{mount.get('Destination', '')}",
            str(mount.get("Type", "")),
            line_of(text, str(mount.get("Destination")), at),
        )
    for key, value in _env(config.get("Env") or [], redactor):
        yield Fact(subject, key, value, line_of(text, key.removeprefix("env."), at))
    if health := config.get("Healthcheck"):
        yield Fact(
            subject,
            "healthcheck.test",
            _command(health.get("Test") or ["inherited"], redactor),
            line_of(text, '"Healthcheck"', at),
        )
        for key in ("Interval", "Timeout", "StartPeriod", "Retries"):
            if health.get(key):
                yield Fact(subject, f"healthcheck.{key.lower()}", str(health[key]), line_of(text, '"Healthcheck"', at))
    if health := state.get("Health"):
        yield Fact(subject, "state.health", str(health.get("Status", "")), line_of(text, '"Health"', at))
        yield Fact(
            subject, "health.failing_streak", str(health.get("FailingStreak", 0)), line_of(text, '"FailingStreak"', at)
        )
        for entry in health.get("Log") or []:
            if entry.get("ExitCode"):
                shown = " ".join(str(entry.get("Output", "")).split())[:200]
                yield Fact(
                    subject,
                    "health.failed",
                    redactor.text(f"{entry.get('Start')} exit {entry['ExitCode']}: {shown}"),
                    line_of(text, str(entry.get("Start")), at),
                )
    if kind := proxy_kind(image) or proxy_kind(command.split(" ")[0]):
        yield Fact(subject, "role", f"proxy.{kind}", line_of(text, image, at))
    if re.search(GATEWAY, f"{image} {command}") and "gateway" in command:
        yield Fact(subject, "role", "gateway", line_of(text, image, at))


def image(item: dict[str, Any], text: str) -> Iterator[Fact]:
    """An image of `docker image inspect`; the subject is `image:<id>`."""
    subject, at = f"image:{item.get('Id', '')}", text.find(str(item.get("Id", "")))
    found = {
        "digest": item.get("RepoDigests") or [],
        "tag": item.get("RepoTags") or [],
        "created": [item.get("Created")],
        "version": [((item.get("Config") or {}).get("Labels") or {}).get("org.opencontainers.image.version")],
    }
    for key, values in found.items():
        for value in values:
            if value:
                yield Fact(subject, key, str(value), line_of(text, str(value), at))


def engine(data: dict[str, Any], text: str) -> Iterator[Fact]:
    """`docker version`, with what `docker info` says beside it; the subject is `engine`."""
    server, info = data["Server"], data.get("Info") or {}
    found = {
        "version": server.get("Version"),
        "api_version": server.get("ApiVersion"),
        "kernel": server.get("KernelVersion"),
        "os": info.get("OperatingSystem"),
        "log_driver": info.get("LoggingDriver"),
        "memory": info.get("MemTotal"),
        "cgroup_version": info.get("CgroupVersion"),
        "live_restore": info.get("LiveRestoreEnabled"),
    }
    for key, value in found.items():
        if value not in (None, ""):
            yield Fact("engine", key, str(value), line_of(text, json.dumps(value)))


def ps(text: str, redactor: Redactor) -> Iterator[Fact]:
    """The table of `docker ps`; columns begin where their titles do. The subject is `container:<short id>`."""
    titles: list[tuple[str, int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("CONTAINER ID"):
            titles = [(m[0], m.start()) for m in re.finditer(r"[A-Z]+(?: [A-Z]+)*", line)]
            continue
        ends = [*(at for _, at in titles[1:]), len(line)]
        row = {title: line[at:end].strip() for (title, at), end in zip(titles, ends, strict=True)} if titles else {}
        ident = row.get("CONTAINER ID", "")
        if not re.fullmatch(r"[0-9a-f]{12,64}", ident):
            continue
        subject = f"container:{ident}"
        for title, key in (
            ("NAMES", "name"),
            ("IMAGE", "image"),
            ("COMMAND", "command"),
            ("STATUS", "state.text"),
            ("PORTS", "ports"),
        ):
            if row.get(title):
                yield Fact(subject, key, redactor.text(row[title]), number)
        status = row.get("STATUS", "")
        if match := re.match(r"(Up|Exited|Restarting|Created|Paused|Dead|Removal)", status):
            state = {
                "Up": "paused" if "(Paused)" in status else "running",
                "Exited": "exited",
                "Removal": "removing",
            }.get(match[1], match[1].lower())
            yield Fact(subject, "state.status", state, number)
        if match := re.match(r"(?:Exited|Restarting) \((\d+)\)", status):
            yield Fact(subject, "state.exit_code", match[1], number)
        if match := re.search(r"\((?:health: )?(healthy|unhealthy|starting)\)", status):
            yield Fact(subject, "state.health", match[1], number)


def network(item: dict[str, Any], text: str) -> Iterator[Fact]:
    """A network of `docker network inspect` and its members; the subjects are `network:<name>` and `container:<id>`."""
    subject = f"network:{item.get('Name', '')}"
    for config in (item.get("IPAM") or {}).get("Config") or []:
        for key in ("Subnet", "Gateway"):
            if config.get(key):
                yield Fact(subject, key.lower(), config[key], line_of(text, config[key]))
    for ident, member in (item.get("Containers") or {}).items():
        address = str(member.get("IPv4Address", "")).partition("/")[0]
        if address:
            yield Fact(f"container:{ident}", f"network.{item.get('Name', '')}.address", address, line_of(text, ident))


def _is_host(network: dict[str, Any] | None, name: str) -> bool:
    """Whether a Compose file's network is the host's own, as a Swarm's stack has to ask for it."""
    said = network or {}
    return bool(said.get("external")) and said.get("name", name) == "host"


def _port(given: Any) -> tuple[str, str]:
    """A published port of a Compose file as the engine writes both sides: `80/tcp`, `127.0.0.1:8080`."""
    if isinstance(given, dict):
        inner, outer = given.get("target"), f"{given.get('host_ip', '')}:{given.get('published', '')}"
        return f"{inner}/{given.get('protocol', 'tcp')}", outer
    ports, _, protocol = str(given).partition("/")
    outer, _, inner = ports.rpartition(":")
    return f"{inner}/{protocol or 'tcp'}", outer if ":" in outer else f":{outer}"


def _gateways(services: dict[str, dict[str, Any]]) -> set[str]:
    """The services of a Compose file that run a gateway: the image runs the command line too."""
    alike = {n: str(s.get("command", "")) for n, s in services.items() if re.search(GATEWAY, f"{s.get('image', '')}")}
    asked = {n for n, command in alike.items() if "gateway" in command}
    called = {n for n in alike if "gateway" in n}
    return asked or called or (set(alike) if len(alike) == 1 else set())


def compose(data: dict[str, Any], text: str, redactor: Redactor) -> Iterator[Fact]:
    """A Compose file; the subject is `service:<name>`."""
    shared = data.get("networks") or {}
    services = {str(name): service for name, service in data["services"].items() if isinstance(service, dict)}
    gateways = _gateways(services)
    for name, service in services.items():
        subject, at = f"service:{name}", max(text.find(f"\n  {name}:"), 0)
        if kind := proxy_kind(str(service.get("image", ""))):
            yield Fact(subject, "role", f"proxy.{kind}", line_of(text, "image:", at))
        if name in gateways:
            yield Fact(subject, "role", "gateway", line_of(text, "image:", at))
            yield Fact(subject, "compose.service", name, line_of(text, f"{name}:", at))
        for key in ("image", "restart", "network_mode", "mem_limit", "entrypoint", "command"):
            if service.get(key) is not None:
                yield Fact(subject, key, _command(service[key], redactor), line_of(text, f"{key}:", at))
        raw = service.get("environment") or []
        pairs = [f"{k}={v}" for k, v in raw.items()] if isinstance(raw, dict) else list(raw)
        for key, value in _env(pairs, redactor):
            yield Fact(subject, key, value, line_of(text, key.removeprefix("env."), at))
        for port in service.get("ports") or []:
            inner, outer = _port(port)
            yield Fact(subject, f"port.{inner}", outer, line_of(text, "ports:", at))
        for volume in service.get("volumes") or []:
            target = (
                volume.get("target")
                if isinstance(volume, dict)
                else (str(volume).split(":")[1] if ":" in str(volume) else volume)
            )
            yield Fact(
                subject,
                f"mount.{target}",
                "bind" if str(volume).startswith((".", "/")) else "volume",
                line_of(text, str(target), at),
            )
        networks = service.get("networks") or []
        if any(_is_host(shared.get(network), network) for network in networks):
            yield Fact(subject, "network_mode", "host", line_of(text, "networks:", at))
        if isinstance(networks, dict):
            for network, settings in networks.items():
                if isinstance(settings, dict) and settings.get("ipv4_address"):
                    yield Fact(
                        subject,
                        f"network.{network}.address",
                        settings["ipv4_address"],
                        line_of(text, settings["ipv4_address"], at),
                    )
        for key, value in (service.get("healthcheck") or {}).items():
            yield Fact(subject, f"healthcheck.{key}", _command(value, redactor), line_of(text, "healthcheck:", at))
        if data.get("name"):
            yield Fact(subject, "compose.project", str(data["name"]), line_of(text, "name:"))
    for name, network in shared.items():
        for config in ((network or {}).get("ipam") or {}).get("config") or []:
            if config.get("subnet"):
                yield Fact(f"network:{name}", "subnet", config["subnet"], line_of(text, config["subnet"]))
