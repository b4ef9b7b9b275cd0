"""FACTS: what documents tell of containers, services, proxies and the gateway: subject, key, value, where it stands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

import polars as pl

from occorr import schema

GATEWAY_PORT: Final = "18789"  # unless a configuration says otherwise
GATEWAY: Final = r"(?i)openclaw|clawdbot|moltbot"  # in the name of its image, or in its command
PROXY_IMAGE: Final = (
    r"(?i)(?:^|[/_-])(nginx|openresty|haproxy|caddy|traefik|envoy|httpd|apache2?|swag|cloudflared)(?:[:@/_-]|$)"
)
NO_PROXY: Final = "exporter"  # what only counts what a proxy of that name does
PROGRAMS: Final = ("nginx", "haproxy", "caddy", "traefik", "envoy", "apache")  # proxies whose logs are read
_PROGRAMS: Final = {"openresty": "nginx", "swag": "nginx", "httpd": "apache", "apache2": "apache"}


@dataclass(frozen=True, slots=True)
class Fact:
    """One property of a subject; `path` is the place inside the document that shows it."""

    subject: str
    key: str
    value: str
    line: int
    valid_from: str | None = None


def line_of(text: str, needle: str, start: int = 0) -> int:
    """The line of a document in which a value stands first from a place on; the first where it does not."""
    at = text.find(needle, start)
    return text.count("\n", 0, at) + 1 if at >= 0 else 1


def proxy_kind(image: str) -> str:
    """The proxy's program that an image's name says it runs, as parsers call it; empty if it says none."""
    found = None if NO_PROXY in image.lower() else re.search(PROXY_IMAGE, image)
    name = found[1].lower() if found else ""
    return _PROGRAMS.get(name, name)


def program() -> pl.Expr:
    """Which program wrote a line, as nginx or haproxy: the first word of its parser's name."""
    return pl.col("parser").cast(pl.String).str.extract(r"^([a-z]+)", 1)


def proxies(facts: pl.DataFrame) -> pl.Series:
    """The programs of the containers that are proxies, one a container."""
    return facts.filter(pl.col("key") == "role").get_column("value").str.extract(r"^proxy\.(.+)$", 1).drop_nulls()


def frame(found: list[tuple[str, list[Fact]]]) -> pl.DataFrame:
    """FACTS of all documents. A Compose file's word on who is a gateway or a proxy counts where no container's document beside it has one.

    Args:
        found: (path, facts) pairs.
    """
    every = [(path, f, (PurePath(path).parent, f.value.partition(".")[0])) for path, facts in found for f in facts]
    stated = {role for _, f, role in every if f.key == "role" and f.subject.startswith("container:")}
    rows = [
        {"subject": f.subject, "key": f.key, "value": f.value, "log_file_path": path, "log_line": f.line}
        for path, f, role in every
        if f.key != "role" or f.subject.startswith("container:") or role not in stated
    ]
    return schema.conform(pl.DataFrame(rows) if rows else pl.DataFrame(schema={"subject": pl.String}), schema.FACTS)
