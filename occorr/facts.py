"""Reads documents (`docker inspect`, Compose files, `openclaw.json`) into FACTS: subject, key, value, where it stands.

Secrets become fingerprints before a fact is made, so that two sources of one token can be compared.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import json5
import polars as pl
import yaml

from occorr import bundle, configs, schema, scrub

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from occorr.read import Blob
    from occorr.redact import Redactor

LIMIT: Final = 8 << 20  # a document larger than this is a log
_PLAIN_ENV: Final = re.compile(r"^(?:TZ|OPENCLAW_(?!.*KEY)\w+|NODE_OPTIONS|NODE_ENV|PORT|HOST|RELEASE)$")
_PROXY_IMAGE: Final = re.compile(
    r"(?i)(?:^|[/_-])(nginx|openresty|haproxy|caddy|traefik|envoy|httpd|apache2?|swag|cloudflared)(?:[:@/_-]|$)"
)
_PROGRAMS: Final = {"openresty": "nginx", "swag": "nginx", "httpd": "apache", "apache2": "apache"}


@dataclass(frozen=True, slots=True)
class Fact:
    """One property of a subject; `path` is the place inside the document that shows it."""

    subject: str
    key: str
    value: str
    line: int
    valid_from: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """What a document told; `trouble` says what ended the reading before its end, or is empty."""

    kind: str
    facts: tuple[Fact, ...]
    trouble: str = ""


def texts(blobs: Sequence[Blob]) -> Iterator[str]:
    """The inputs that are short enough to be configurations."""
    for blob in blobs:
        if 0 < len(blob.data) <= configs.LIMIT:
            yield bytes(blob.data).decode("utf-8", "replace").lstrip("\ufeff")


def document(blob: Blob, redactor: Redactor) -> Document | None:
    """What a document tells, or None where the input is none that is known; what is not as it should be ends it there."""
    if not 0 < len(blob.data) <= LIMIT:
        return None
    text = bytes(blob.data).decode("utf-8", "replace").lstrip("\ufeff")
    kind, told = _recognised(blob, text, redactor) or ("", ())
    found: list[Fact] = []
    try:
        found.extend(told)  # keeps what came before an error
    except configs.SHAPELESS as error:
        return Document(kind, tuple(found), f"not read to its end: {_why(error)}")
    return Document(kind, tuple(found)) if kind else None


def _why(error: Exception) -> str:
    """An error of a reader, for people: where a YAML text is wrong, or that a value is no such thing as it should be."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return f"a value is not of the kind that belongs there ({error})"


def _recognised(blob: Blob, text: str, redactor: Redactor) -> tuple[str, Iterable[Fact]] | None:
    """The kind of a document and its facts as they are read, or None."""
    head = text[:4000].lstrip()
    if found := bundle.manifest(blob):
        return "occorr bundle", _bundle(found, text)
    if head.startswith(("[", "{")):
        return _from_json(text, redactor) or _proxy_config(text)  # TOML begins so too
    if re.match(r"CONTAINER ID +IMAGE +", head):
        return "docker ps", _ps(text, redactor)
    if re.search(r"(?m)^services:\s*$", text):
        return "compose", _compose_file(text, redactor)
    return _proxy_config(text)


def _compose_file(text: str, redactor: Redactor) -> Iterator[Fact]:
    data = yaml.safe_load(text)
    if isinstance(data, dict) and isinstance(data.get("services"), dict):
        yield from _compose(data, text, redactor)


def proxy_kind(image: str) -> str:
    """The proxy's program that an image's name says it runs, as parsers call it; empty if it says none."""
    found = _PROXY_IMAGE.search(f"{image} ")
    name = found[1].lower() if found else ""
    return _PROGRAMS.get(name, name)


def proxies(facts: pl.DataFrame) -> list[str]:
    """The programs of the containers that are proxies, one a container."""
    said = facts.filter(pl.col("key") == "role").get_column("value").str.extract(r"^proxy\.(.+)$", 1)
    return [str(name) for name in said.drop_nulls()]


def _proxy_config(text: str) -> tuple[str, Iterable[Fact]] | None:
    """A proxy's configuration: the timeouts that it declares, and what its logs will not show."""
    kind = configs.kind(text)
    if not kind:
        return None
    return configs.READERS[kind].title, (
        Fact(f"proxy:{kind}", f.key, f.value, f.line) for f in configs.findings(kind, text)
    )


def _from_json(text: str, redactor: Redactor) -> tuple[str, Iterable[Fact]] | None:
    first = text.lstrip()[:1]
    if first == "{" and "\n{" in text.strip():  # lines of JSON are a log
        return None
    try:
        data = json.loads(text)
    except RecursionError:
        return None
    except ValueError:
        if not re.search(r'(?m)^\s*"?(?:gateway|agents|channels)"?\s*:', text):
            return None
        try:
            data = json5.loads(text)
        except (ValueError, RecursionError):
            return None
    items = data if isinstance(data, list) else [data]
    if not items or not all(isinstance(i, dict) for i in items):
        return None
    if all("State" in i and "Config" in i for i in items):
        return "docker inspect", (f for i in items for f in _container(i, text, redactor))
    if all("RepoDigests" in i and "RootFS" in i for i in items):
        return "docker image inspect", (f for i in items for f in _image(i, text))
    if isinstance(data, dict) and isinstance(data.get("Server"), dict) and "ApiVersion" in data["Server"]:
        return "docker version", _engine(data, text)
    if all("IPAM" in i for i in items):
        return "docker network inspect", (f for i in items for f in _network(i, text))
    if isinstance(data, dict) and isinstance(data.get("services"), dict):
        return "compose", _compose(data, text, redactor)
    if isinstance(data, dict) and ("static_resources" in data or "envoy.config.listener" in text):
        return _proxy_config(text)
    if isinstance(data, dict) and isinstance(data.get("gateway"), dict):
        return "openclaw.json", _gateway_config(data, text, redactor)
    return None


def _line(text: str, needle: str, start: int = 0) -> int:
    at = text.find(needle, start)
    return text.count("\n", 0, at) + 1 if at >= 0 else 1


def _env(pairs: list[str], redactor: Redactor) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        name, _, value = str(pair).partition("=")
        if scrub.SECRET.search(name):
            if value:
                yield f"env.{name}", scrub.secret(value, redactor)
        elif _PLAIN_ENV.match(name):
            yield f"env.{name}", scrub.text(value, redactor)


def _container(item: dict[str, Any], text: str, redactor: Redactor) -> Iterator[Fact]:
    """A container of `docker inspect`; the subject is `container:<id>`."""
    ident = str(item.get("Id", ""))
    subject, at = f"container:{ident}", text.find(ident)
    state, config, host = item.get("State") or {}, item.get("Config") or {}, item.get("HostConfig") or {}
    labels, log = config.get("Labels") or {}, (host.get("LogConfig") or {}).get("Config") or {}
    image = str(config.get("Image", ""))
    command = " ".join(map(str, [item.get("Path", ""), *(item.get("Args") or [])]))
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
            yield Fact(subject, key, redactor.text(str(value)), _line(text, f'"{value}"', at) if at >= 0 else 1)
    for name, network in ((item.get("NetworkSettings") or {}).get("Networks") or {}).items():
        for address in (network.get("IPAddress"), network.get("GlobalIPv6Address")):
            if address:
                yield Fact(subject, f"network.{name}.address", address, _line(text, address, at))
        if network.get("Gateway"):
            yield Fact(subject, f"network.{name}.gateway", network["Gateway"], _line(text, network["Gateway"], at))
    for port, bindings in ((item.get("NetworkSettings") or {}).get("Ports") or {}).items():
        for binding in bindings or []:
            yield Fact(
                subject,
                f"port.{port}",
                f"{binding.get('HostIp', '')}:{binding.get('HostPort', '')}",
                _line(text, port, at),
            )
    for mount in item.get("Mounts") or []:
        yield Fact(
            subject,
            f"mount.{mount.get('Destination', '')}",
            str(mount.get("Type", "")),
            _line(text, str(mount.get("Destination")), at),
        )
    for key, value in _env(config.get("Env") or [], redactor):
        yield Fact(subject, key, value, _line(text, key.removeprefix("env."), at))
    if health := config.get("Healthcheck"):
        yield Fact(
            subject,
            "healthcheck.test",
            redactor.text(" ".join(map(str, health.get("Test") or ["inherited"]))),
            _line(text, '"Healthcheck"', at),
        )
        for key in ("Interval", "Timeout", "StartPeriod", "Retries"):
            if health.get(key):
                yield Fact(subject, f"healthcheck.{key.lower()}", str(health[key]), _line(text, '"Healthcheck"', at))
    if health := state.get("Health"):
        yield Fact(subject, "state.health", str(health.get("Status", "")), _line(text, '"Health"', at))
        yield Fact(
            subject, "health.failing_streak", str(health.get("FailingStreak", 0)), _line(text, '"FailingStreak"', at)
        )
        for entry in health.get("Log") or []:
            if entry.get("ExitCode"):
                shown = " ".join(str(entry.get("Output", "")).split())[:200]
                yield Fact(
                    subject,
                    "health.failed",
                    redactor.text(f"{entry.get('Start')} exit {entry['ExitCode']}: {shown}"),
                    _line(text, str(entry.get("Start")), at),
                )
    if kind := proxy_kind(image) or proxy_kind(f" {command.split(' ')[0]}"):
        yield Fact(subject, "role", f"proxy.{kind}", _line(text, image, at))
    if re.search(r"(?i)openclaw|clawdbot|moltbot", f"{image} {command}") and "gateway" in command:
        yield Fact(subject, "role", "gateway", _line(text, image, at))


def _image(item: dict[str, Any], text: str) -> Iterator[Fact]:
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
                yield Fact(subject, key, str(value), _line(text, str(value), at))


def _engine(data: dict[str, Any], text: str) -> Iterator[Fact]:
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
            yield Fact("engine", key, str(value), _line(text, json.dumps(value)))


def _bundle(found: dict[str, Any], text: str) -> Iterator[Fact]:
    """A bundle's manifest: from when to when its events reach, and what could not be had."""
    events, collected = found.get("events") or {}, found.get("collected") or {}
    for key, value in (
        ("events.covered_from", events.get("covered_from")),
        ("events.covered_to", events.get("covered_to")),
    ):
        if value:
            yield Fact("engine", key, str(value), _line(text, str(value)))
    for key in ("from", "to"):
        if collected.get(key):
            yield Fact("bundle", f"collected.{key}", str(collected[key]), _line(text, f'"{key}"'))
    for row in found.get("containers") or []:
        for path in row.get("paths") or []:
            yield Fact(f"container:{row.get('id')}", "log", str(path), _line(text, json.dumps(path)))
    for row in found.get("missing") or []:
        yield Fact(
            "bundle",
            "missing",
            f"{row.get('what')}: {row.get('why')}",
            _line(text, json.dumps(row.get("what"), ensure_ascii=False)),
        )


def _ps(text: str, redactor: Redactor) -> Iterator[Fact]:
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


def _network(item: dict[str, Any], text: str) -> Iterator[Fact]:
    subject = f"network:{item.get('Name', '')}"
    for config in (item.get("IPAM") or {}).get("Config") or []:
        for key in ("Subnet", "Gateway"):
            if config.get(key):
                yield Fact(subject, key.lower(), config[key], _line(text, config[key]))
    for ident, member in (item.get("Containers") or {}).items():
        address = str(member.get("IPv4Address", "")).partition("/")[0]
        if address:
            yield Fact(f"container:{ident}", f"network.{item.get('Name', '')}.address", address, _line(text, ident))


def _compose(data: dict[str, Any], text: str, redactor: Redactor) -> Iterator[Fact]:
    """A Compose file; the subject is `service:<name>`."""
    for name, service in data["services"].items():
        if not isinstance(service, dict):
            continue
        subject, at = f"service:{name}", max(text.find(f"\n  {name}:"), 0)
        for key in ("image", "restart", "network_mode", "mem_limit", "entrypoint", "command"):
            if service.get(key) is not None:
                value = service[key]
                shown = " ".join(map(str, value)) if isinstance(value, list) else str(value)
                yield Fact(subject, key, redactor.text(shown), _line(text, f"{key}:", at))
        raw = service.get("environment") or []
        pairs = [f"{k}={v}" for k, v in raw.items()] if isinstance(raw, dict) else list(raw)
        for key, value in _env(pairs, redactor):
            yield Fact(subject, key, value, _line(text, key.removeprefix("env."), at))
        for port in service.get("ports") or []:
            yield Fact(
                subject,
                "port",
                str(port if not isinstance(port, dict) else f"{port.get('published')}:{port.get('target')}"),
                _line(text, "ports:", at),
            )
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
                _line(text, str(target), at),
            )
        networks = service.get("networks")
        if isinstance(networks, dict):
            for network, settings in networks.items():
                if isinstance(settings, dict) and settings.get("ipv4_address"):
                    yield Fact(
                        subject,
                        f"network.{network}.address",
                        settings["ipv4_address"],
                        _line(text, settings["ipv4_address"], at),
                    )
        for key, value in (service.get("healthcheck") or {}).items():
            command = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield Fact(subject, f"healthcheck.{key}", redactor.text(command), _line(text, "healthcheck:", at))
        if data.get("name"):
            yield Fact(subject, "compose.project", str(data["name"]), _line(text, "name:"))
    for name, network in (data.get("networks") or {}).items():
        for config in ((network or {}).get("ipam") or {}).get("config") or []:
            if config.get("subnet"):
                yield Fact(f"network:{name}", "subnet", config["subnet"], _line(text, config["subnet"]))


def _gateway_config(data: dict[str, Any], text: str, redactor: Redactor) -> Iterator[Fact]:
    """`openclaw.json`; the subject is `gateway`."""
    public: dict[str, Any] = {k: data[k] for k in scrub.PUBLIC_CONFIG if k in data}
    stack: list[tuple[str, Any]] = list(scrub.config(public, redactor).items())
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{key}.{k}", v) for k, v in value.items()]
        elif value is not None:
            shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            yield Fact("gateway", key, shown, _line(text, key.rpartition(".")[2]))


def frame(found: list[tuple[str, list[Fact]]]) -> pl.DataFrame:
    """FACTS of all documents.

    Args:
        found: (path, facts) pairs.
    """
    rows = [
        {"subject": f.subject, "key": f.key, "value": f.value, "log_file_path": path, "log_line": f.line}
        for path, facts in found
        for f in facts
    ]
    return schema.conform(pl.DataFrame(rows) if rows else pl.DataFrame(schema={"subject": pl.String}), schema.FACTS)
