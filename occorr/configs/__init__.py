r"""Reads configurations of reverse proxies: timeouts, log formats, addresses behind names, and what their logs will not show.

A configuration is recognised by its statements and never by its name; a module a proxy knows them. Each reader keeps the
lines' numbers, so that a fact can say where it stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from occorr.configs import apache, caddy, envoy, haproxy, nginx, traefik
from occorr.configs.base import SHAPELESS, Declared, Finding, Reader, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["LIMIT", "READERS", "SHAPELESS", "Declared", "Finding", "Reader", "findings", "formats", "kind", "seconds"]

LIMIT: Final = 1 << 18  # a configuration larger than this is none
READERS: Final[Mapping[str, Reader]] = {
    "nginx": nginx.READER,
    "haproxy": haproxy.READER,
    "apache": apache.READER,
    "caddy": caddy.READER,
    "envoy": envoy.READER,
    "traefik": traefik.READER,
}


def kind(text: str) -> str | None:
    """Whose configuration a text is, or None."""
    if len(text) > LIMIT:
        return None
    return next((name for name, reader in READERS.items() if reader.recognised(text)), None)


def findings(name: str, text: str) -> Iterator[Finding]:
    """Timeouts in seconds, addresses as `upstream.…`, gaps of the logs as sentences under `logging.…`; raises what `SHAPELESS` names."""
    yield from READERS[name].timeouts(text)
    yield from READERS[name].upstreams(text)
    yield from READERS[name].gaps(text)


def formats(name: str, text: str) -> list[Declared]:
    """The log formats that a configuration declares or uses; none where it is not of the shape that it should be."""
    try:
        return READERS[name].formats(text)
    except SHAPELESS:
        return []
