"""Which verdicts stand: what is told of a close as its evidence comes in, once, and again where the verdict changes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SETTLE_S: Final = 0.5  # a verdict that has not changed for so long stands
PATIENCE_S: Final = 1.0  # … and so does one that goes on changing, so long after it was first seen
HOPE_S: Final = 1.2  # … but nothing is told of a close that nothing explains yet, until its evidence is late
GONE_S: Final = 900.0  # a close that was told and is gone may come back as another one for so long
SLOW: Final = frozenset(
    {"restart", "unknown", "network", "unreachable"}
)  # families whose evidence comes in several steps: decisive or not, they wait
NAMED: Final = frozenset(
    {"restart.crash", "restart.oom"}
)  # … but for these: what follows a death that its own process or the kernel explains is only the next start


@dataclass(frozen=True, slots=True)
class Told:
    """A verdict that is told.

    Attributes:
        close: the row of CLOSES.
        evidence: its rows of EVIDENCE.
        before: what was told of it before, or None.
        replaces: other closes that were told and turned out to be this one.
    """

    close: Mapping[str, Any]
    evidence: Sequence[Mapping[str, Any]]
    before: Mapping[str, Any] | None = None
    replaces: tuple[str, ...] = ()

    @property
    def revised(self) -> bool:
        """Whether something else was told of it before."""
        return self.before is not None


@dataclass(frozen=True, slots=True)
class _State:
    close: Mapping[str, Any]
    evidence: Sequence[Mapping[str, Any]]
    first_s: float
    since_s: float
    told: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Standing:
    """All closes of the window and what was told of them."""

    settle_s: float = SETTLE_S
    _states: dict[str, _State] = field(default_factory=dict)

    def see(
        self, closes: Iterable[Mapping[str, Any]], evidence: Iterable[Mapping[str, Any]], now_s: float
    ) -> list[Told]:
        """Takes the verdicts of a new analysis and returns those that are to be told now.

        Args:
            closes: rows of CLOSES that are recent enough for all their evidence to be in the window.
            evidence: rows of EVIDENCE.
            now_s: a monotonic clock.
        """
        cited: dict[str, list[Mapping[str, Any]]] = {}
        for row in evidence:
            cited.setdefault(row["close_id"], []).append(row)
        rows = {str(row["close_id"]): row for row in closes}
        merged = self._merged(rows, cited)
        for ident, row in rows.items():
            state = self._states.get(ident)
            if state is None:
                others = merged.get(ident, ())
                before = next((s.told for o in others if (s := self._states.get(o)) and s.told is not None), None)
                self._states[ident] = _State(row, cited.get(ident, ()), now_s, now_s, before)
            else:
                since = state.since_s if sign(state.close) == sign(row) else now_s
                self._states[ident] = replace(state, close=row, evidence=cited.get(ident, ()), since_s=since)
        out = [replace(told, replaces=merged.get(str(told.close["close_id"]), ())) for told in self.due(now_s)]
        merged_away = {ident for others in merged.values() for ident in others}
        self._states = {
            i: s
            for i, s in self._states.items()
            if i in rows or (i not in merged_away and s.told is not None and now_s - s.since_s < GONE_S)
        }
        return out

    def due(self, now_s: float, *, all_: bool = True, decisive: bool = True) -> list[Told]:
        """The verdicts that stand and were not told yet: `all_` of them, or only the `decisive` ones."""
        out = []
        for ident, state in self._states.items():
            if (state.told is not None and sign(state.told) == sign(state.close)) or now_s < self._when(state):
                continue
            if not (all_ or (decisive and state.told is None and state.close["verdict"] == "decisive")):
                continue
            out.append(Told(state.close, state.evidence, state.told))
            self._states[ident] = replace(state, told=state.close)
        return sorted(out, key=lambda t: (str(t.close["timestamp"]), str(t.close["close_id"])))

    def next_s(self) -> float | None:
        """When the next verdict will stand if nothing new comes."""
        return min(
            (self._when(s) for s in self._states.values() if s.told is None or sign(s.told) != sign(s.close)),
            default=None,
        )

    def forget(self, idents: Iterable[str]) -> None:
        """Closes that have left the window."""
        for ident in idents:
            self._states.pop(ident, None)

    def known(self) -> list[str]:
        """The ids of all closes."""
        return list(self._states)

    def _when(self, state: _State) -> float:
        """When a verdict may be told: at once where one line decides it, else when it has settled."""
        close, first = state.close, state.told is None
        if first and close["verdict"] == "decisive" and (close["family"] not in SLOW or close["cause"] in NAMED):
            return state.first_s
        if first and close["verdict"] == "unknown":
            return state.since_s + HOPE_S
        settled = state.since_s + self.settle_s
        return min(settled, max(state.first_s + PATIENCE_S, state.since_s)) if first else settled

    def _merged(
        self, rows: Mapping[str, Mapping[str, Any]], cited: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> dict[str, tuple[str, ...]]:
        """New close → closes that are gone and whose evidence it cites: a proxy's line first stands alone, then with the gateway's."""
        gone = {i: s for i, s in self._states.items() if i not in rows}
        if not gone:
            return {}
        owner = {
            e["event_id"]: ident
            for ident in rows
            for e in cited.get(ident, ())
            if ident not in self._states or self._states[ident].told is None
        }
        out: dict[str, tuple[str, ...]] = {}
        for ident, state in gone.items():
            new = next(
                (owner[e["event_id"]] for e in state.evidence if e["event_id"] in owner and e["role"] == "supports"),
                None,
            )
            if new is not None:
                out[new] = (*out.get(new, ()), ident)
        return out


def sign(close: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a verdict is news when it changes."""
    return close["cause"], close["verdict"], close["websocket_close_code"], close["http_status_proxy"]
