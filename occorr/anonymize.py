"""Replaces addresses and host names in result tables by fingerprints, the same for the same name, so that joins keep working.

It runs last: verdicts rest on the real addresses. Loopback and unspecified addresses stay, since they name nobody and
often are the finding.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_V4: Final = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")
_V6: Final = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4})(?![\w:])")
_MAC: Final = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![\w:])")
# Only texts that hold one of these are looked at singly.
_HINT: Final = r"\d\.\d{1,3}\.\d{1,3}\.\d|::|(?:[0-9A-Fa-f]{1,4}:){4}"
# Where log lines name hosts: fields, headers, URLs, the registry of an image.
_FIELD: Final = re.compile(
    r"(?i)(?<![\w-])(?:host|hostname|origin|server|server_name|upstream|authority|sni|fwd|remote_host|domain)\\?[\"']?\s*[=:]\s*\[?\\?[\"']?(?:\w+://)?([A-Za-z0-9][\w-]*(?:\.[\w-]+)+)"
)
_URL: Final = re.compile(r"\w://(?:[^/@\s\"']*@)?([A-Za-z0-9][\w-]*(?:\.[\w-]+)+)")
_IMAGE: Final = re.compile(r"^([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)(?::\d+)?/")
_FILE: Final = re.compile(r"(?i)\.(?:log|gz|zst|json|jsonl|js|ts|mjs|toml|ya?ml|conf|sock|service|txt|html?)$")
_CONTAINER: Final = re.compile(r"[0-9a-f]{12}$")  # a container is called by its id where nobody names it
_NOBODY: Final = frozenset(
    {
        "localhost",
        "localhost.localdomain",
        "n/a",
        "null",
        "none",
        "unknown",
        "host.docker.internal",
        "gateway.docker.internal",
    }
)


def frames(tables: Mapping[str, pl.DataFrame], key: bytes | None = None) -> dict[str, pl.DataFrame]:
    """The tables with every address, host name and shared folder replaced.

    Args: tables: by their name in `schema.TABLES`. key: of the fingerprints, to compare them across results. By default
    it is drawn from the whole text of the logs, so that only who has the logs could try addresses against a
    fingerprint.
    """
    secret = key or _key(tables["timeline"])
    texts = {t for frame in tables.values() for t in _texts(frame)}
    folders = _folders(
        [
            p
            for name in ("timeline", "evidence", "facts")
            for p in tables[name]["log_file_path"].cast(pl.String).unique()
        ]
        + tables["sources"]["path"].to_list()
    )
    hosts = _hosts(tables, texts)
    names = (
        re.compile(
            rf"(?<![\w.-])(?:{'|'.join(map(re.escape, sorted(hosts, key=lambda h: (-len(h), h))))})(?![\w-]|\.\w)",
            re.IGNORECASE,
        )
        if hosts
        else None
    )
    candidates = pl.Series(sorted(texts), dtype=pl.String)
    looked = set(candidates.filter(candidates.str.contains(_HINT)).to_list())
    if hosts:
        looked |= set(candidates.filter(candidates.str.to_lowercase().str.contains_any(sorted(hosts))).to_list())
    new = {}
    for text in looked | set(folders):
        told = _V4.sub(
            lambda m: _address(m[0], secret),
            _V6.sub(
                lambda m: _address(m[0], secret),
                _MAC.sub(lambda m: _print("mac", m[0].lower(), secret), folders.get(text, text)),
            ),
        )
        told = names.sub(lambda m: _print("host", m[0].lower(), secret), told) if names else told
        if told != text:
            new[text] = told
    return {name: _replaced(frame, new) for name, frame in tables.items()}


def _print(kind: str, name: str, key: bytes) -> str:
    """`ip-` or `host-` and ten hex digits; no colon or dot, so that a port may follow and nothing is replaced twice."""
    return f"{kind}-{hmac.new(key, f'{kind}:{name}'.encode(), hashlib.sha256).hexdigest()[:10]}"


def _address(text: str, key: bytes) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text  # a time of day, a version
    mapped = getattr(address, "ipv4_mapped", None)
    own = mapped or address
    return text if own.is_loopback or own.is_unspecified else _print("ip", str(own), key)


def _key(timeline: pl.DataFrame) -> bytes:
    digest = hashlib.sha256(b"occorr anonymize\0")
    for record in timeline["log_record_original"].to_list():
        digest.update((record or "").encode("utf-8", "surrogatepass") + b"\0")
    return digest.digest()


def _folders(paths: Iterable[str | None]) -> dict[str, str]:
    """Each path without the folders that all of them share: those name the machine or its user."""
    unique = sorted({p for p in paths if p})
    parents = [PurePosixPath(p).parts[:-1] for p in unique]
    shared = 0
    while parents and all(len(p) > shared and p[shared] == parents[0][shared] for p in parents):
        shared += 1
    return {p: short for p in unique if (short := "/".join(PurePosixPath(p).parts[shared:]) or p) != p}


def _hosts(tables: Mapping[str, pl.DataFrame], texts: Iterable[str]) -> set[str]:
    """Every host name that a line names as one, in lower case; a service of Compose is no machine and stays."""
    timeline = tables["timeline"]
    found = {h for h in timeline["host_name"].cast(pl.String).unique() if h}
    services = {
        s
        for c in ("compose_service", "service_name", "compose_project", "container_name")
        for s in timeline[c].cast(pl.String).unique()
        if s
    }
    for text in texts:
        if "." in text:
            found.update(_FIELD.findall(text), _URL.findall(text))
    found |= {
        v for c in ("server_address", "client_address") for v in timeline[c].cast(pl.String).unique() if v and "." in v
    }
    found |= {
        h for image in timeline["container_image_name"].cast(pl.String).unique() if image for h in _IMAGE.findall(image)
    }
    return {
        h.lower()
        for h in found
        if len(h) > 2
        and h.lower() not in _NOBODY
        and h not in services
        and re.search(r"[A-Za-z]", h)
        and not _FILE.search(h)
        and not _CONTAINER.match(h)
        and not h.startswith(("host-", "ip-"))
    }


def _texts(frame: pl.DataFrame) -> Iterable[str]:
    for name, dtype in frame.schema.items():
        column = frame.get_column(name)
        if isinstance(dtype, pl.Categorical | pl.Enum) or dtype == pl.String:
            yield from column.cast(pl.String).drop_nulls().unique()
        elif dtype == pl.List(pl.String):
            yield from column.explode(empty_as_null=True, keep_nulls=True).drop_nulls().unique()
        elif dtype == schema.KEY_VALUES:
            yield from column.explode(empty_as_null=True, keep_nulls=True).struct.field("value").drop_nulls().unique()


def _replaced(frame: pl.DataFrame, new: Mapping[str, str]) -> pl.DataFrame:
    if not new:
        return frame
    changes: list[pl.Expr] = []
    old, told = list(new), list(new.values())
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Categorical) or dtype == pl.String:
            changes.append(pl.col(name).cast(pl.String).replace(old, told).cast(dtype))
        elif dtype == pl.List(pl.String):
            changes.append(pl.col(name).list.eval(pl.element().replace(old, told)))
        elif dtype == schema.KEY_VALUES:
            pair: Any = pl.element().struct
            changes.append(pl.col(name).list.eval(pl.struct(pair.field("key"), pair.field("value").replace(old, told))))
    return frame.with_columns(changes)
