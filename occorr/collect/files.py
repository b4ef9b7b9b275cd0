"""Files from inside containers: the gateway's file log and configuration, the proxies' logs and configurations.

They are read with the engine's copy function, which needs no program in the container and works on stopped ones. What a
container holds is not trusted: only ordinary files are taken, line by line, up to a size, and without their secrets.
"""

from __future__ import annotations

import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final

import json5

from occorr import engine as engines, facts, packed, scrub
from occorr.engine import EngineError, EngineLostError
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from occorr.bundle import Draft
    from occorr.engine import Engine
    from occorr.redact import Redactor

LARGEST: Final = 256 << 20  # bytes taken of one file
CONFIG: Final = 1 << 20  # bytes of a configuration
_GATEWAY_LOGS: Final = ("/tmp/openclaw", "/tmp/openclaw-0", "/tmp/openclaw-1000", "/tmp/clawdbot", "/tmp/moltbot")  # noqa: S108 - where the gateway writes them
_HOMES: Final = ("/root/.openclaw", "/home/node/.openclaw", "/root/.clawdbot", "/home/node/.clawdbot")
_PROXY_FILES: Final = {
    "nginx": (
        ("/var/log/nginx", "/usr/local/openresty/nginx/logs"),
        ("/etc/nginx/nginx.conf", "/usr/local/openresty/nginx/conf/nginx.conf", "/etc/nginx/conf.d"),
    ),
    "caddy": (("/var/log/caddy", "/data/caddy/logs"), ("/etc/caddy/Caddyfile",)),
    "traefik": (
        ("/var/log/traefik",),
        ("/etc/traefik/traefik.yml", "/etc/traefik/traefik.yaml", "/etc/traefik/traefik.toml"),
    ),
    "haproxy": (("/var/log/haproxy.log",), ("/usr/local/etc/haproxy/haproxy.cfg",)),
    "apache": (("/usr/local/apache2/logs",), ("/usr/local/apache2/conf/httpd.conf",)),
}
_LOG: Final = re.compile(r"(?i)\.(?:log|jsonl|ndjson)(?:[-.]\d[\w.-]*)?(?:\.(?:gz|zst|xz|bz2))?$|_log$")


@dataclass(frozen=True, slots=True)
class Found:
    """An ordinary file of a container."""

    path: str
    size: int
    changed_s: int
    handle: IO[bytes]


def safe(name: str) -> str:
    """A container's name or a path as part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "_"


def is_gateway(item: Mapping[str, Any]) -> bool:
    """Whether `docker inspect` shows a gateway's container."""
    config = item.get("Config") or {}
    words = " ".join(
        map(
            str,
            [
                config.get("Image", ""),
                item.get("Path", ""),
                *(item.get("Args") or []),
                (config.get("Labels") or {}).get("com.docker.compose.service", ""),
            ],
        )
    )
    return bool(re.search(facts.GATEWAY, words)) and "gateway" in words


def take(
    engine: Engine,
    item: Mapping[str, Any],
    draft: Draft,
    since_ns: int,
    paths: tuple[str, ...] = (),
    *,
    usual: bool = True,
) -> None:
    """Takes the files of a container.

    Args:
        engine: the connection.
        item: its `docker inspect`.
        draft: where to write them, under files/NAME/.
        since_ns: log files last changed before are left.
        paths: what was asked for by name; what of it is not there is noted.
        usual: the gateway's and the proxies' usual files too.
    """
    name, ident = str(item.get("Name", "")).lstrip("/"), str(item.get("Id", ""))
    for path in paths:
        if not _logs(engine, ident, name, path, draft, 0, every=True):
            draft.lacks(f"{path} in {name}", "no such file or folder there, or nothing readable in it")
    if not usual:
        return
    if is_gateway(item):
        config = _gateway_config(engine, item, name, ident, draft)
        own = str(((config or {}).get("logging") or {}).get("file") or "")
        if not sum(
            _logs(engine, ident, name, path, draft, since_ns)
            for path in dict.fromkeys(p for p in (own, *_GATEWAY_LOGS) if p)
        ):
            draft.lacks(
                f"the gateway's file log in {name}",
                f"no log file changed in this time under {', '.join(filter(None, (own, *_GATEWAY_LOGS[:1])))} (a tmpfs cannot be read from outside)",
            )
    if kind := facts.proxy_kind(str((item.get("Config") or {}).get("Image", ""))):
        logs, configs = _PROXY_FILES.get(kind, ((), ()))
        words = [*(item.get("Args") or []), *((item.get("Config") or {}).get("Cmd") or [])]
        named = [
            str(b)
            for a, b in zip(words, words[1:], strict=False)
            if a in ("-c", "-f", "--config", "-config") and str(b).startswith("/")
        ]
        for path in logs:
            _logs(engine, ident, name, path, draft, since_ns)
        for path in dict.fromkeys((*named, *configs)):
            _plain(engine, ident, name, path, draft)


def _files(engine: Engine, ident: str, path: str) -> Iterator[Found]:
    """The ordinary files under a path; none if there is no such path."""
    try:
        with engines.archive(engine, ident, path) as stream:
            source = packed.Source(stream, "")
            with tarfile.open(fileobj=source, mode="r|") as tar:  # type: ignore[call-overload]  # only `read` is used
                for number, entry in enumerate(tar):
                    handle = tar.extractfile(entry) if entry.isreg() and not entry.issparse() else None
                    if number < packed.MEMBERS and handle is not None:
                        inner = PurePosixPath(entry.name).parts[
                            1:
                        ]  # the first part is the last one of what was asked for
                        yield Found("/".join([path.rstrip("/"), *inner]), entry.size, int(entry.mtime), handle)
    except EngineLostError:
        raise
    except (EngineError, tarfile.TarError, OSError):
        return


def _logs(engine: Engine, ident: str, name: str, path: str, draft: Draft, since_ns: int, *, every: bool = False) -> int:
    """Writes the log files under a path that were changed in time; how many."""
    count = 0
    for found in _files(engine, ident, path):
        if not every and (not _LOG.search(found.path) or found.changed_s * SECOND < since_ns):
            continue
        if found.size > LARGEST:
            draft.lacks(f"{found.path} in {name}", f"larger than {LARGEST >> 20} MiB: only its end was taken")
        if _SECRET_FILE.search(found.path):
            draft.lacks(f"{found.path} in {name}", "its name says that it holds keys; it is never taken", asked=every)
            continue
        _copy(found, draft, f"files/{safe(name)}/{safe(found.path.strip('/'))}", engine.redactor)
        count += 1
    return count


_SECRET_FILE: Final = re.compile(
    r"(?i)\.(?:pem|key|p12|pfx|jks|kdbx)$|(?:^|/)(?:id_\w+|\.env[^/]*|credentials?|secrets?)$"
)


def _copy(found: Found, draft: Draft, name: str, redactor: Redactor) -> None:
    """A log's lines without their secrets; packed ones are unpacked, since their secrets cannot be found otherwise."""
    skip = max(found.size - LARGEST, 0)
    while skip > 0 and (piece := found.handle.read(min(skip, 1 << 20))):
        skip -= len(piece)
    head = found.handle.read(1 << 16)
    if kind := packed.kind(head[:6]):
        data, _ = packed.unpack(head + found.handle.read(), kind, packed.Allowance(LARGEST))
        _lines(iter([data]), draft, re.sub(r"\.(?:gz|zst|xz|bz2)$", "", name), redactor)
        return
    if b"\0" in head[:8192]:
        draft.lacks(found.path, "a binary file, no text", asked=False)
        return
    _lines(_rest(head, found.handle), draft, name, redactor)


def _rest(head: bytes, handle: IO[bytes]) -> Iterator[bytes]:
    yield head
    while piece := handle.read(1 << 20):
        yield piece


def _lines(pieces: Iterator[bytes], draft: Draft, name: str, redactor: Redactor) -> None:
    with draft.path(name).open("w", encoding="utf-8", newline="\n") as out:
        held = b""
        for piece in pieces:
            *whole, held = (held + piece).split(b"\n")
            out.writelines(f"{redactor.text(line.decode('utf-8', 'replace'))}\n" for line in whole)
        if held:
            out.write(redactor.text(held.decode("utf-8", "replace")))


def _gateway_config(
    engine: Engine, item: Mapping[str, Any], name: str, ident: str, draft: Draft
) -> dict[str, Any] | None:
    """`openclaw.json`, its secrets learnt and replaced; None where it is not there or cannot be read."""
    env = dict(str(p).partition("=")[::2] for p in (item.get("Config") or {}).get("Env") or [])
    places = [
        env.get("OPENCLAW_CONFIG_PATH"),
        *(f"{d}/openclaw.json" for d in (env.get("OPENCLAW_STATE_DIR"), *_HOMES) if d),
    ]
    for path in (p for p in places if p):
        for found in _files(engine, ident, path):
            text = found.handle.read(CONFIG + 1)
            try:
                data = json5.loads(text.decode("utf-8", "replace")) if len(text) <= CONFIG else None
            except ValueError:
                data = None
            if not isinstance(data, dict):
                draft.lacks(
                    f"{path} in {name}", "it cannot be read as JSON5, so its secrets cannot be found; it was not taken"
                )
                return None
            engine.redactor.learn(scrub.secrets(data))
            clean = scrub.config(data, engine.redactor)
            draft.path(f"files/{safe(name)}/openclaw.json").write_text(
                json.dumps(clean, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
            return clean
    draft.lacks(f"openclaw.json in {name}", f"not at {places[0] or places[1]}")
    return None


def _plain(engine: Engine, ident: str, name: str, path: str, draft: Draft) -> None:
    """Configurations, their secrets replaced; those that are too large or no text are left."""
    for found in _files(engine, ident, path):
        text = found.handle.read(CONFIG + 1)
        if len(text) > CONFIG or b"\0" in text or _SECRET_FILE.search(found.path):
            continue
        clean = "\n".join(scrub.text(line, engine.redactor) for line in text.decode("utf-8", "replace").split("\n"))
        draft.path(f"files/{safe(name)}/{safe(found.path.strip('/'))}").write_text(clean, encoding="utf-8")
