"""Scores the result of one incident against its labels: which closes were found, and whether their causes are right."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import schema
from occorr.evaluate.matching import labels, match, truth_of, with_files
from occorr.schema import MS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from occorr.analysis import Analysis

TAKEN: Final = ("docker events", "proxy logs", "file log")
OWN: Final = {"gateway": "gateway.*#own-timestamp", "proxy": "proxy.access.log"}  # whose own clock, as truth calls it
MODEST: Final = 0.6  # a circumstantial answer above this is no humble one


@dataclass(slots=True)
class Score:
    """Counts of one incident; `wrong` lists wrong decisive verdicts, `answers` a row a label that some line shows."""

    incident: str
    skewed: bool
    labels: int = 0
    found: int = 0
    missed: int = 0
    split: int = 0
    merged: int = 0
    invented: int = 0
    rows: int = 0
    knowable: int = 0
    cause_right: int = 0
    family_right: int = 0
    decidable: int = 0
    decided: int = 0
    humble: int = 0
    unknowable: int = 0
    grouped: int = 0
    inside: int = 0
    timed: int = 0
    wrong: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    clocks: list[dict[str, Any]] = field(default_factory=list)
    off_ns: list[float] = field(default_factory=list)
    half_ns: list[float] = field(default_factory=list)


def alignment(timeline: pl.DataFrame, facts: pl.DataFrame, truth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How each clock of an incident was aligned: true and found offset, bound, and the share of its events whose bound holds the truth.

    A true drift accumulates from the beginning of the source's process, which may be long before its first line.
    """
    kind, clock = pl.col("source_kind").cast(pl.String), pl.col("clock_id").cast(pl.String)
    out = []
    for speaker, source in OWN.items():
        own = timeline.filter(
            (kind == speaker)
            & (clock != "engine")
            & pl.col("timestamp_raw").is_not_null()
            & pl.col("clock_offset_ns").is_not_null()
        )
        if source not in truth or own.is_empty():
            continue
        at = pl.col("timestamp").cast(pl.Int64)
        own = _since_start(own, timeline, facts, kind_of=speaker).with_columns(
            (truth[source]["offset_ms"] * MS + truth[source]["drift_ppm"] * 1e-6 * (at - pl.col("_begun"))).alias(
                "true"
            )
        )
        seen = own.select(
            pl.col("true").median(),
            pl.col("clock_offset_ns").median().alias("found"),
            pl.col("clock_error_ns").median().alias("error"),
            ((pl.col("clock_offset_ns") - pl.col("true")).abs() <= pl.col("clock_error_ns")).mean().alias("inside"),
        ).row(0, named=True)
        out.append(
            {
                "clock": str(own.get_column("clock_id").cast(pl.String).mode().sort().first()),
                "status": str(own.get_column("clock_status").cast(pl.String).mode().sort().first()),
                "events": own.height,
                "true_ms": round(seen["true"] / MS, 3),
                "found_ms": round(seen["found"] / MS, 3),
                "error_ms": round(seen["error"] / MS, 3),
                "inside": round(seen["inside"], 4),
            }
        )
    return out


def _since_start(own: pl.DataFrame, timeline: pl.DataFrame, facts: pl.DataFrame, *, kind_of: str) -> pl.DataFrame:
    """Events with `_begun`, ns: when their process began, by its container, else by its own words, else by its first line."""
    name, kind = pl.col("event_name").cast(pl.String), pl.col("source_kind").cast(pl.String)
    role = schema.attribute("role").str.starts_with(kind_of)
    told = timeline.filter((name == "container.start") & role.fill_null(value=False)).get_column("timestamp")
    containers = facts.filter((pl.col("key") == "role") & pl.col("value").str.starts_with(kind_of)).get_column(
        "subject"
    )
    inspected = facts.filter((pl.col("key") == "state.started_at") & pl.col("subject").is_in(containers.to_list()))
    started = inspected.get_column("value").str.to_datetime(time_unit="ns", time_zone="UTC", strict=False)
    spoken = timeline.filter((name == f"{kind_of}.start") & (kind == kind_of)).get_column("timestamp")
    known = own.sort("timestamp")
    for column, starts in (("_told", pl.concat([told, started])), ("_spoken", spoken)):
        known = known.join_asof(
            pl.DataFrame({"_t": starts.drop_nulls().sort()}).with_columns(pl.col("_t").cast(pl.Int64).alias(column)),
            left_on="timestamp",
            right_on="_t",
        ).drop("_t", strict=False)
    first = pl.col("timestamp").cast(pl.Int64).min()
    return known.with_columns(pl.coalesce("_told", "_spoken", first).alias("_begun"))


def score(
    incident: str, closes: pl.DataFrame, truth: pl.DataFrame, *, skewed: bool = False, fine: bool = False
) -> Score:
    """Counts of one incident; a missed close counts as wrong.

    Args:
        incident: its name.
        closes: CLOSES.
        truth: its labels.
        skewed: whether its clocks were wrong.
        fine: whether its proxy stamps milliseconds.
    """
    out = Score(incident, skewed, rows=closes.height)
    pairs, candidates = match(closes, truth)
    taken = dict(pairs.select("label", "row").rows())
    used = set(taken.values())
    out.grouped = int(closes.get_column("group_id").is_not_null().sum()) if "group_id" in closes.columns else 0
    free = set(range(closes.height)) - used
    feasible_rows = set(candidates.get_column("row").to_list())
    out.split = len(free & feasible_rows)
    out.invented = len(free - feasible_rows)
    verdicts = closes.to_dicts()
    out.errors += [
        {"incident": incident, "kind": "split" if row in feasible_rows else "invented", "row": verdicts[row]}
        for row in sorted(free)
    ]
    feasible = set(candidates.get_column("label").to_list())
    for index, label in enumerate(truth.to_dicts()):
        if not label["observable"]:
            continue
        out.labels += 1
        row: Any = taken.get(index)
        got = verdicts[row] if row is not None else None
        answer = _answer(incident, label, got)
        out.answers.append(answer)
        right = answer["right"]
        if got is None:
            out.missed += 1
            out.merged += index in feasible
            out.errors.append({"incident": incident, "kind": "missed", "label": label})
        else:
            out.found += 1
            _timing(out, closes, row, got, label, fine=fine)
        if answer["decisive"] and not right:
            out.wrong.append({"incident": incident, "label": label, "row": got})
        if label["knowable"]:
            out.knowable += 1
            out.cause_right += right
            out.family_right += answer["family_right"]
            out.decidable += answer["decidable"]
            out.decided += answer["decidable"] and answer["decisive"]
            if not right:
                out.errors.append({"incident": incident, "kind": "wrong", "label": label, "row": got})
        else:
            out.unknowable += 1
            out.humble += answer["humble"]
    return out


def _answer(incident: str, label: dict[str, Any], got: dict[str, Any] | None) -> dict[str, Any]:
    """What was said of one label, and whether it is right; nothing said is wrong with probability 0."""
    meant = [label["cause"], *label["accept"]]
    right = got is not None and got["cause"] in meant
    verdict = got["verdict"] if got is not None else None
    decisive = verdict == "decisive"
    probability = (got["probability"] or 0.0) if got is not None else 0.0
    humble = (
        got is None
        or verdict in ("unknown", None)
        or (verdict == "circumstantial" and probability <= MODEST)
        or (right and not decisive)
    )
    return {
        "incident": incident,
        "label": label["close_id"],
        "knowable": bool(label["knowable"]),
        "decidable": bool(label["knowable"]) and bool(label["decisive_evidence_in"]),
        "cause": label["cause"],
        # an accepted cause is as right as the label's own: the close then counts under it
        "truth": got["cause"] if right and got is not None else label["cause"],
        "said": got["cause"] if got is not None else "missed",
        "verdict": verdict or "missed",
        "decisive": decisive,
        "probability": probability,
        "runner_up": got["runner_up"] if got is not None else None,
        "runner_up_probability": got["runner_up_probability"] if got is not None else None,
        "rule": got.get("rule") if got is not None else None,
        "runner_up_right": got["runner_up"] in meant if got is not None and got["runner_up"] else None,
        "right": right,
        "family_right": got is not None and got["family"] in {c.split(".")[0] for c in meant},
        "humble": humble,
        "code": label["code"],
        "status": label["http_status"],
    }


def _timing(
    out: Score, closes: pl.DataFrame, row: int, got: dict[str, Any], label: dict[str, Any], *, fine: bool
) -> None:
    """Counts whether the printed interval holds the true moment, and how wide it is."""
    if got["time_earliest"] is None or got["time_latest"] is None:
        return
    out.timed += 1
    at = int(label["t_close_ms"] * MS)
    low, high = (int(closes.get_column(c).cast(pl.Int64)[row]) for c in ("time_earliest", "time_latest"))
    out.inside += low <= at + MS and at <= high
    if "gateway" in got["observers"] or ("proxy" in got["observers"] and fine):
        out.off_ns.append(abs(int(closes.get_column("timestamp").cast(pl.Int64)[row]) - at - MS / 2))
        out.half_ns.append((high - low) / 2)


def on_reference(truth: pl.DataFrame, timeline: pl.DataFrame, known: Mapping[str, Any]) -> pl.DataFrame:
    """The labels' times as the result's reference clock shows them: without the engine it is a gateway's or a proxy's own.

    Args:
        truth: labels, on the host's clock.
        timeline: EVENTS of the result.
        known: `ID.clocks.json`, how far each source's clock was off the host's. A drift is left out: it is small beside
            the slack with which a label is found.
    """
    held = timeline.filter((pl.col("clock_status") == "reference") & (pl.col("clock_id") != "engine"))
    kind = held.get_column("source_kind").cast(pl.String).mode().sort().first()
    off = float(known.get(OWN.get(str(kind), ""), {}).get("offset_ms", 0))
    return truth.with_columns(pl.col("t_open_ms", "t_close_ms") + off)


def score_all(bundles: Path, truth: Path, *, without: Sequence[str] = ()) -> list[Score]:
    """Analyses every incident for which there are labels and scores it.

    Args:
        bundles: a folder an incident.
        truth: `ID.jsonl` an incident, with `ID.meta.json` and `ID.clocks.json` where there are.
        without: patterns of files (in the incident's folder) that are left away; labels that only they show are then
            not asked for, and those that only they settle count as unknowable.
    """
    from occorr.analysis import analyze  # noqa: PLC0415 - scoring alone needs no pipeline

    out = []
    for folder in sorted(p for p in bundles.iterdir() if p.is_dir()):
        path = truth_of(folder.name, truth)
        if path is None:
            continue
        meta, clocks = _document(truth / f"{folder.name}.meta.json"), _document(truth / f"{folder.name}.clocks.json")
        left, gone = _left(folder, without)
        wanted = lessened(labels(path), left) if gone else labels(path)
        result = _analysis(analyze, folder, left if gone else None)
        if result is None:
            continue
        one = score(
            folder.name,
            with_files(result.closes, result.evidence),
            on_reference(wanted, result.timeline, clocks),
            skewed=bool(meta.get("skewed")),
            fine=clocks.get("proxy.access.log", {}).get("resolution_ms", 1000) < 1000,
        )
        one.clocks = alignment(result.timeline, result.facts, clocks)
        out.append(one)
    return out


def score_ablated(bundles: Path, truth: Path) -> dict[str, list[Score]]:
    """Scores every incident again with kinds of sources taken away: each of `TAKEN`, and each two of them.

    Which file is of which kind, the whole incident's analysis says; an incident that lacks a kind is left out where it
    is taken.
    """
    from occorr.analysis import analyze  # noqa: PLC0415

    out: dict[str, list[Score]] = {}
    for folder in sorted(p for p in bundles.iterdir() if p.is_dir()):
        path = truth_of(folder.name, truth)
        if path is None:
            continue
        wanted, clocks = labels(path), _document(truth / f"{folder.name}.clocks.json")
        kinds = _kinds(analyze([folder]).sources)
        for taken in [c for n in (1, 2) for c in combinations(TAKEN, n)]:
            gone = {path for path, kind in kinds.items() if kind in taken}
            if set(taken) - {kinds[path] for path in gone}:
                continue
            left = [p for p in sorted(folder.rglob("*")) if p.is_file() and str(p) not in gone]
            result = _analysis(analyze, folder, left)
            if result is not None:
                asked = on_reference(lessened(wanted, left), result.timeline, clocks)
                out.setdefault(" and ".join(taken), []).append(
                    score(folder.name, with_files(result.closes, result.evidence), asked)
                )
    return out


def _kinds(sources: pl.DataFrame) -> dict[str, str]:
    """Which of `TAKEN` each input is."""
    from occorr.definitions import builtin  # noqa: PLC0415

    proxies = {name for name, f in builtin().formats.items() if f.source_kind == "proxy"}
    out = {}
    for path, form in sources.select("path", pl.col("format").cast(pl.String)).drop_nulls().rows():
        name = form.partition("/")[0]
        kind = (
            "docker events"
            if name == "docker_events"
            else "proxy logs"
            if name in proxies
            else "file log"
            if form == "openclaw/file"
            else None
        )
        if kind:
            out[path] = kind
    return out


def _document(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _left(folder: Path, without: Sequence[str]) -> tuple[list[Path], bool]:
    """The incident's files that no pattern names, and whether any was named."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    left = [p for p in files if not any(fnmatch(str(p.relative_to(folder)), g) or fnmatch(p.name, g) for g in without)]
    return left, len(left) < len(files)


def _analysis(analyze: Any, folder: Path, left: list[Path] | None) -> Analysis | None:
    from occorr.errors import NothingParsableError  # noqa: PLC0415

    try:
        return analyze([folder] if left is None else left)  # type: ignore[no-any-return]  # passed on from the caller, which imports it late
    except NothingParsableError:
        return None  # nothing is left of it


def lessened(truth: pl.DataFrame, left: Sequence[Path]) -> pl.DataFrame:
    """The labels as they are when only some files are left.

    A label stays observable while a file that shows it is left, and knowable while one that states its cause is.
    """
    names = [p.name for p in left] + [f"{p.parent.name}/{p.name}" for p in left]
    shown, settled = (
        pl.col(c).list.eval(pl.element().is_in(names)).list.any().fill_null(value=False)
        for c in ("visible_in", "decisive_evidence_in")
    )
    told, stated = (pl.col(c).list.len().fill_null(0) > 0 for c in ("visible_in", "decisive_evidence_in"))
    return truth.with_columns(
        (pl.col("observable") & (shown | ~told)).alias("observable"),
        (pl.col("knowable") & (settled | ~stated)).alias("knowable"),
    )


def score_corrected(bundles: Path) -> list[Score]:
    """What people corrected as labels: answers for the closes that a `verdicts.toml` in an incident's folder speaks of."""
    from occorr import corrections  # noqa: PLC0415
    from occorr.analysis import analyze  # noqa: PLC0415

    out = []
    for path in sorted(bundles.glob(f"*/{corrections.NAME}")):
        result = analyze([path.parent])
        one = Score(path.parent.name, skewed=False)
        known = (
            corrections.apply(result, corrections.load(path))
            .closes.filter(pl.col("correction").is_not_null())
            .select("close_id", pl.col("cause").alias("truth"))
        )
        for row in result.closes.join(known, on="close_id", maintain_order="left").sort("close_id").to_dicts():
            label = {
                "close_id": row["close_id"],
                "cause": row["truth"],
                "accept": [],
                "knowable": True,
                "decisive_evidence_in": [],
                "code": row["websocket_close_code"],
                "http_status": row["http_status_proxy"],
            }
            one.answers.append(_answer(one.incident, label, row))
        out.append(one)
    return out
