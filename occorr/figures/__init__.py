"""The figures that runbooks ask for after an incident, each with its n and its lines, or with the reason why there is none.

A figure is never guessed: where nothing was logged, `value` is None and `note` says which evidence is missing. `floor`
marks a value that is only known to be at least that large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from occorr.figures import auth, setup, transport, uptime
from occorr.figures.seen import FIGURES, Figure, Seen, look
from occorr.figures.uptime import Outage, outages

if TYPE_CHECKING:
    from occorr.schema import Tables

__all__ = ["FIGURES", "Figure", "Outage", "Seen", "figures", "look", "outages"]


def figures(tables: Tables, seen: Seen | None = None) -> list[Figure]:
    """All figures, in the order of `FIGURES`, each once a gateway or once for all that was read.

    Args:
        tables: of one analysis.
        seen: what `look` made of them, where it is known already.
    """
    seen = seen or look(tables)
    made: list[Figure] = []
    for gate in seen.gates:
        made += [
            *auth.tokens(seen, gate),
            *auth.pairing(seen, gate),
            *uptime.restarts(seen, gate),
            *uptime.state_lock(seen, gate),
            *transport.unexplained(seen, gate),
            *setup.health_check(seen, gate),
            *setup.versions(seen, gate),
        ]
    made += [
        *transport.handshakes(seen),
        *auth.subagents(seen),
        *transport.proxy_errors(seen),
        *transport.probes(seen),
        *setup.coverage(seen),
    ]
    order = {name: place for place, name in enumerate(FIGURES)}
    return sorted(made, key=lambda f: (order[f.id], f.scope))
