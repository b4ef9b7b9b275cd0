"""The result in short, as all reports tell it: incidents by harm, the line that decides each, what is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from occorr import lives, quotes, schema
from occorr.report import words
from occorr.report.tables import Tables, plain, shorten, shown
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Proof:
    """One line of evidence; `place` is file:line, `said` the message inside the quoted line."""

    place: str
    rule: str
    strength: str
    role: str
    when: str
    quote: str
    close_id: str
    said: str


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident with its harm: `cut` connections were open, `refused` ones never opened. Times in ns since 1970.

    `down_ns` is how long no gateway was ready; `shared` are the numbers of the incidents that made it longer.
    """

    incident_id: str
    number: int
    family: str
    cause: str
    title: str
    start: int | None
    earliest: int | None
    latest: int | None
    end: int | None
    probability: float | None
    verdict: str
    cut: int
    refused: int
    down_ns: int | None
    shared: tuple[int, ...]
    services: str
    projects: str
    proof: Proof | None
    correction: str = ""
    original_cause: str = ""

    @property
    def start_error(self) -> int | None:
        """By how much it may have begun earlier or later than `start`, ns."""
        if self.start is None or self.earliest is None or self.latest is None:
            return None
        return max(self.start - self.earliest, self.latest - self.start)

    @property
    def closes(self) -> int:
        """All closes of the incident."""
        return self.cut + self.refused

    @property
    def proven(self) -> bool:
        """Whether several signs agree on the cause, or a line decides it; else it is a guess."""
        return self.verdict in schema.PROVEN

    @property
    def harm(self) -> float:
        """How bad it was, in refused attempts.

        An attempt is made again, but a session that was cut is lost: it counts for three. A second without a ready
        gateway counts for one. What is only guessed counts for its closes alone: it heads no report above what is known.
        """
        if not self.proven:
            return self.closes
        return 3 * self.cut + self.refused + (self.down_ns or 0) / SECOND


@dataclass(frozen=True, slots=True)
class Digest:
    """All that the reports say in words, and the plain frames behind it. `incidents` are worst first; ordinary closes are none."""

    incidents: tuple[Incident, ...]
    lanes: tuple[lives.Lane, ...]
    closes: pl.DataFrame
    evidence: pl.DataFrame
    timeline: pl.DataFrame
    sources: pl.DataFrame
    clocks: pl.DataFrame
    facts: pl.DataFrame
    projects: tuple[str, ...]
    only_project: str
    files: Mapping[str, str]
    total: int
    ordinary: int
    unexplained: int
    first: int | None
    last: int | None
    missing: tuple[tuple[str, int], ...]
    banners: Sequence[str]

    @property
    def worst(self) -> Incident | None:
        """The incident with the most harm."""
        return self.incidents[0] if self.incidents else None


def digest(tables: Tables) -> Digest:
    """Reads the tables once, for every report."""
    closes = plain(tables.closes).sort("timestamp", "time_latest", "close_id", nulls_last=True)
    evidence, timeline, sources = plain(tables.evidence), plain(tables.timeline), plain(tables.sources)
    facts = plain(tables.facts)
    held = pl.concat([f["log_file_path"] for f in (timeline, evidence, facts)] + [sources["path"]])
    named = pl.concat([closes["compose_project"], timeline["compose_project"]]).drop_nulls().unique().sort()
    projects = tuple(p for p in named if p)
    files = shorten(held.drop_nulls().unique().to_list())
    lanes, only = lives.of(closes, timeline, facts)
    weight = closes["count"].fill_null(1).clip(lower_bound=1)
    moments = pl.concat([closes["timestamp"], closes["time_latest"], closes["opened"]]).drop_nulls()
    if moments.is_empty():
        moments = timeline["timestamp"].drop_nulls()
    wants = (
        closes.select(pl.col("missing").list.eval(pl.element().drop_nulls()), n=weight).explode("missing").drop_nulls()
    )
    missing = wants.group_by("missing").agg(pl.col("n").sum()).sort(["n", "missing"], descending=[True, False])
    return Digest(
        incidents=_incidents(plain(tables.incidents), closes, evidence, timeline, lanes, files=files),
        lanes=tuple(lanes),
        closes=closes,
        evidence=evidence,
        timeline=timeline,
        sources=sources.sort("path", "part", nulls_last=False, maintain_order=True),
        clocks=plain(tables.clocks).sort("clock_id", "segment_start", maintain_order=True),
        facts=facts,
        projects=projects,
        only_project=only,
        files=files,
        total=int(weight.sum()),
        ordinary=int(weight.filter(closes["family"].fill_null("unknown") == "client").sum()),
        unexplained=int(weight.filter(closes["family"].fill_null("unknown") == "unknown").sum()),
        first=_whole(moments.min()),
        last=_whole(moments.max()),
        missing=tuple((shown(text), int(n)) for text, n in missing.rows()),
        banners=tables.banners,
    )


def proof_of(row: Mapping[str, Any], files: Mapping[str, str], said: str = "") -> Proof:
    """A row of EVIDENCE as text that is safe to show."""
    path = row["log_file_path"]
    place = files.get(path, shown(path)) if path else "no file"
    line = f":{row['log_line']}" if row["log_line"] is not None else ""
    return Proof(
        place=place + line,
        rule=shown(row["rule"]),
        strength=shown(row["strength"]),
        role=shown(row["role"]),
        when=words.since(row["delta_ns"], row["error_ns"]),
        quote=shown(row["quote"]),
        close_id=shown(row["close_id"]),
        said=shown(said or row["quote"]),
    )


def _whole(value: Any) -> int | None:
    """A reduction's result, which polars types as anything, as ns."""
    return None if value is None else int(value)


def _incidents(
    table: pl.DataFrame,
    closes: pl.DataFrame,
    evidence: pl.DataFrame,
    timeline: pl.DataFrame,
    lanes: list[lives.Lane],
    *,
    files: Mapping[str, str],
) -> tuple[Incident, ...]:
    n = pl.col("count").fill_null(1).clip(lower_bound=1)
    harm = {
        row["incident_id"]: row
        for row in (
            closes.drop_nulls("incident_id")
            .group_by("incident_id")
            .agg(
                cut=n.filter(pl.col("established").fill_null(value=True)).sum(),
                refused=n.filter(~pl.col("established").fill_null(value=True)).sum(),
            )
            .iter_rows(named=True)
        )
    }
    by_cause = closes.group_by("incident_id", "cause").agg(pl.col("verdict").unique())
    verdicts = {(of, cause): held for of, cause, held in by_cause.iter_rows()}
    proofs = quotes.deciding(table, closes, evidence, timeline)
    said = said_of(timeline, [best["event_id"] for best in proofs.values()])
    outages = _outages(table, lanes)
    made = []
    for row in table.sort("start", "incident_id", nulls_last=True).iter_rows(named=True):
        if row["family"] == "client":
            continue
        own = harm.get(row["incident_id"], {})
        # One close with proof of the shared cause proves it for the incident; its other closes keep their own verdicts.
        held = verdicts.get((row["incident_id"], row["cause"]), ())
        verdict = next((v for v in words.SURE if v in held), "unknown")
        best = proofs.get(row["incident_id"])
        made.append(
            Incident(
                incident_id=row["incident_id"] or "",
                number=0,
                family=row["family"] or "unknown",
                cause=row["cause"] or "unknown.unknown",
                title=shown(row["title"]),
                start=row["start"],
                earliest=row["start_earliest"],
                latest=row["start_latest"],
                end=row["end"],
                probability=row["probability"],
                verdict=verdict,
                cut=int(own.get("cut", 0)) if own else int(row["closes"] or 0),
                refused=int(own.get("refused", 0)),
                down_ns=outages[row["incident_id"]][0] if row["incident_id"] in outages else None,
                shared=(),
                services=", ".join(shown(s) for s in row["services"] or ()),
                projects=", ".join(shown(p) for p in row["projects"] or ()),
                proof=proof_of(best, files, said.get(best["event_id"]) or "") if best else None,
                correction=shown(row.get("correction")),
                original_cause=shown(row.get("original_cause")),
            )
        )
    made.sort(key=lambda i: (-i.harm, i.start or 0))
    numbers = {incident.incident_id: number for number, incident in enumerate(made, 1)}
    return tuple(
        replace(
            incident,
            number=numbers[incident.incident_id],
            shared=tuple(sorted(numbers[i] for i in outages.get(incident.incident_id, (0, frozenset()))[1])),
        )
        for incident in made
    )


def said_of(timeline: pl.DataFrame, events: Iterable[str | None]) -> dict[str, str]:
    """What the lines of these events say, in the fewest words."""
    cited = timeline.filter(pl.col("event_id").is_in([e for e in events if e]))
    return dict(quotes.sayings(cited).select("event_id", "said").iter_rows())


def _outages(table: pl.DataFrame, lanes: list[lives.Lane]) -> dict[str, tuple[int, frozenset[str]]]:
    """How long the gateway was not ready because of each restart, ns.

    Of several restarts at one outage it is the first one's, which began it; the others stand beside the length.
    """
    restarts = table.filter((pl.col("family") == "restart") & pl.col("start").is_not_null())
    in_order = list(restarts.sort("start", "incident_id").iter_rows(named=True))
    found: dict[str, tuple[int, frozenset[str]]] = {}
    gateways = [lane for lane in lanes if lane.gateway]
    several = {lane.name for lane in gateways} if len(gateways) > 1 else set()
    for lane in gateways:
        for since, until in lane.not_ready():
            if until is None:
                continue
            here = [row["incident_id"] for row in in_order if _stands_at(row, lane, several, since, until)]
            if here:
                length, others = found.get(here[0], (0, frozenset()))
                found[here[0]] = (length + until - since, others | frozenset(here[1:]))
    return found


def _stands_at(incident: Mapping[str, Any], lane: lives.Lane, several: set[str], since: int, until: int) -> bool:
    """Whether a restart belongs to an outage of a gateway, of several the one that it touched: they overlap, but for 2 s.

    A process that dies stops answering before the engine says so, and stamps lie apart.
    """
    projects, end = incident["projects"] or (), incident["end"] or incident["start"]
    near = since - 2 * SECOND <= end and until >= incident["start"] - 2 * SECOND
    touched = several & set(incident["services"] or ())
    return near and (not projects or lane.project in projects) and (not touched or lane.name in touched)
