"""The faults. Each takes the run, does something to the stage or as a client, and notes what it did and when."""

from __future__ import annotations

from .callers import BEHAVIOURS, ROUTES, burst, cli, route
from .gateways import (
    conflict_loop,
    conflict_second,
    crash,
    crash_loop,
    deploy,
    in_process,
    killed,
    manual,
    oom,
    unhealthy,
)
from .paths import freeze, partition, proxy, reset, rotate, stalled_handshake, unrelated

__all__ = [
    "BEHAVIOURS", "ROUTES", "burst", "cli", "conflict_loop", "conflict_second", "crash", "crash_loop", "deploy", "freeze", "in_process", "killed", "manual", "oom", "partition", "proxy", "reset", "rotate", "route",
    "stalled_handshake", "unhealthy", "unrelated",
]  # fmt: skip
