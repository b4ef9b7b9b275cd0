"""Scores a result against labelled incidents: which closes were found, and whether their causes are right."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import link
from occorr.closes import assign

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECOND: Final = 1_000_000_000
MS: Final = 1_000_000
SLACK: Final = 1_500 * MS  # a label may stand this far outside the printed interval and still be meant


@dataclass(slots=True)
class Score:
    """Counts of one incident; `wrong` lists wrong decisive verdicts, `misses` the labels that no close shows."""

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
    clocks: list[dict[str, Any]] = field(default_factory=list)
    off_ns: list[float] = field(default_factory=list)
    half_ns: list[float] = field(default_factory=list)


def labels(path: Path) -> pl.DataFrame:
    """The labels of one incident; see the truth folder's README for the fields."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    want = ("close_id", "client", "mode", "via", "src_ip", "client_local_port", "path", "conn_id", "t_open_ms", "t_close_ms", "code", "reason", "how", "http_status",
            "established", "cause", "family", "accept", "fault_id", "seen_by", "observable", "knowable", "decisive_evidence_in")  # fmt: skip
    return pl.DataFrame([{k: r.get(k) for k in want} | {"accept": r.get("accept") or []} for r in rows], infer_schema_length=None, schema_overrides={"accept": pl.List(pl.String), "src_ip": pl.String, "conn_id": pl.String, "path": pl.String})


def match(closes: pl.DataFrame, truth: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Optimal one-to-one pairs of closes and labels.

    Returns:
        pairs: columns `row`, `label`; candidates: every pair that could have been meant, with its cost.
    """
    rows = closes.select(
        pl.int_range(pl.len()).alias("row"), "conn_id", "client_address", "client_port", "websocket_close_code", "http_status_proxy", "via", "observers", "established",
        pl.col("timestamp").cast(pl.Int64).alias("t"), pl.col("time_earliest").cast(pl.Int64).alias("low"), pl.col("time_latest").cast(pl.Int64).alias("high"),
    ).with_columns(pl.when(pl.col("conn_id").str.contains("…", literal=True)).then("conn_id").otherwise(link.short(pl.col("conn_id"))).alias("key"))  # fmt: skip
    wanted = truth.select(
        pl.int_range(pl.len()).alias("label"), link.short(pl.col("conn_id")).alias("label_key"), "src_ip", "client_local_port", "code", "http_status", pl.col("via").alias("label_via"), "client", "how",
        (pl.col("t_close_ms") * MS).alias("at"), (pl.col("t_open_ms") * MS).alias("from"), pl.col("established").alias("label_established"), "observable",
    )  # fmt: skip
    pairs = rows.join(wanted, how="cross")
    keyed = (pl.col("key") == pl.col("label_key")).fill_null(value=False)
    clash = (pl.col("key") != pl.col("label_key")).fill_null(value=False) & pl.col("conn_id").is_not_null()
    address = (pl.col("client_address") == pl.col("src_ip")).fill_null(value=True)
    port = pl.col("client_port") == pl.col("client_local_port")
    cli = pl.col("client").str.starts_with("cli/")
    spoken = pl.col("observers").list.contains("cli")
    beyond = pl.max_horizontal(pl.col("low") - pl.col("at"), pl.col("at") - pl.col("high"), 0)
    near = beyond <= SLACK
    exact = port.fill_null(value=False) & (pl.col("client_address") == pl.col("src_ip")).fill_null(value=False) & (beyond <= 15 * SECOND)
    status = pl.when(pl.col("http_status").is_not_null()).then((pl.col("http_status_proxy") == pl.col("http_status")).fill_null(value=False) | spoken).otherwise(pl.col("http_status_proxy").fill_null(101).is_in([101, 0]))
    code = (pl.col("websocket_close_code") == pl.col("code")).fill_null(value=True) | (pl.col("code") == 1006).fill_null(value=False) | (pl.col("websocket_close_code") == 1006).fill_null(value=False)
    code = code | (pl.col("code").is_in([1000, 1001, 1005]) & pl.col("websocket_close_code").is_in([1000, 1001, 1005])).fill_null(value=False)
    via = (pl.col("via") == pl.col("label_via")) | (pl.col("via") == "unknown")
    other_port = (port == False).fill_null(value=False) & ~cli  # noqa: E712 - three-valued
    loose = near & address & status & code & via & ~clash & ~other_port & pl.when(cli).then(spoken).otherwise(~(spoken & (pl.col("observers").list.len() == 1)))
    late = cli & spoken & (pl.col("t") >= pl.col("from") - SECOND) & (pl.col("t") <= pl.col("at") + SECOND) & via
    ok = keyed | exact | loose | late
    cost = pl.when(keyed).then(0.0).when(exact).then(0.1).when(late).then(0.3 + (pl.col("t") - pl.col("at")).abs() / (10 * SECOND)).otherwise(1.0 + (pl.col("t") - pl.col("at")).abs() / SECOND)
    cost = cost + pl.when(pl.col("observable").fill_null(value=True)).then(0.0).otherwise(0.5)
    candidates = pairs.filter(ok).with_columns(cost.fill_null(3.0).alias("cost"))
    return assign(candidates, "row", "label"), candidates


def alignment(timeline: pl.DataFrame, truth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How each clock of an incident was aligned: true and found offset, bound, and the share of its events whose bound holds the truth.

    A true drift accumulates from the source's first stamp.
    """
    kind, clock = pl.col("source_kind").cast(pl.String), pl.col("clock_id").cast(pl.String)
    out = []
    for source, which in (("gateway.*#own-timestamp", kind == "gateway"), ("proxy.access.log", kind == "proxy")):
        own = timeline.filter(which & (clock != "engine") & pl.col("timestamp_raw").is_not_null() & pl.col("clock_offset_ns").is_not_null())
        if source not in truth or own.is_empty():
            continue
        raw = pl.col("timestamp_raw").cast(pl.Int64)
        true = truth[source]["offset_ms"] * MS + truth[source]["drift_ppm"] * 1e-6 * (raw - raw.min())
        own = own.with_columns(true.alias("true"))
        seen = own.select(pl.col("true").median(), pl.col("clock_offset_ns").median().alias("found"), pl.col("clock_error_ns").median().alias("error"), ((pl.col("clock_offset_ns") - pl.col("true")).abs() <= pl.col("clock_error_ns")).mean().alias("inside")).row(0, named=True)
        out.append({
            "clock": str(own.get_column("clock_id").cast(pl.String).mode().sort().first()), "status": str(own.get_column("clock_status").cast(pl.String).mode().sort().first()), "events": own.height,
            "true_ms": round(seen["true"] / MS, 3), "found_ms": round(seen["found"] / MS, 3), "error_ms": round(seen["error"] / MS, 3), "inside": round(seen["inside"], 4),
        })  # fmt: skip
    return out


def score(incident: str, closes: pl.DataFrame, truth: pl.DataFrame, *, skewed: bool = False, fine: bool = False) -> Score:
    """Counts of one incident; a missed close counts as wrong. `fine`: its proxy stamps milliseconds."""
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
    out.errors += [{"incident": incident, "kind": "split" if row in feasible_rows else "invented", "row": verdicts[row]} for row in sorted(free)]
    feasible = set(candidates.get_column("label").to_list())
    for index, label in enumerate(truth.to_dicts()):
        if not label["observable"]:
            continue
        out.labels += 1
        row: Any = taken.get(index)
        got = verdicts[row] if row is not None else None
        right = got is not None and (got["cause"] == label["cause"] or got["cause"] in label["accept"])
        decisive = got is not None and got["verdict"] == "decisive"
        if got is None:
            out.missed += 1
            out.merged += index in feasible
            out.errors.append({"incident": incident, "kind": "missed", "label": label})
        else:
            out.found += 1
            if got["time_earliest"] is not None and got["time_latest"] is not None:
                out.timed += 1
                at = label["t_close_ms"] * MS
                low, high = (int(closes.get_column(c).cast(pl.Int64)[row]) for c in ("time_earliest", "time_latest"))
                out.inside += low <= at + MS and at <= high
                if "gateway" in got["observers"] or ("proxy" in got["observers"] and fine):
                    out.off_ns.append(abs(int(closes.get_column("timestamp").cast(pl.Int64)[row]) - at - MS / 2))
                    out.half_ns.append((high - low) / 2)
        if decisive and not right:
            out.wrong.append({"incident": incident, "label": label, "row": got})
        if label["knowable"]:
            out.knowable += 1
            out.cause_right += right
            families = {c.split(".")[0] for c in [label["cause"], *label["accept"]]}
            out.family_right += got is not None and got["family"] in families
            out.decidable += bool(label["decisive_evidence_in"])
            out.decided += bool(label["decisive_evidence_in"]) and decisive
            if not right:
                out.errors.append({"incident": incident, "kind": "wrong", "label": label, "row": got})
        else:
            out.unknowable += 1
            modest = got is None or got.get("verdict") in ("unknown", None) or (got.get("verdict") == "circumstantial" and (got.get("probability") or 0) <= 0.6) or (right and not decisive)
            out.humble += modest
    return out


def score_all(bundles: Path, truth: Path) -> list[Score]:
    """Analyses every incident for which there are labels and scores it."""
    from occorr.analysis import analyze  # noqa: PLC0415 - scoring alone needs no pipeline

    out = []
    for folder in sorted(p for p in bundles.iterdir() if p.is_dir()):
        path = truth / f"{folder.name}.jsonl"
        if not path.is_file():
            continue
        meta = truth / f"{folder.name}.meta.json"
        skewed = bool(json.loads(meta.read_text(encoding="utf-8")).get("skewed")) if meta.is_file() else False
        clocks = truth / f"{folder.name}.clocks.json"
        known = json.loads(clocks.read_text(encoding="utf-8")) if clocks.is_file() else {}
        result = analyze([folder])
        one = score(folder.name, result.closes, labels(path), skewed=skewed, fine=known.get("proxy.access.log", {}).get("resolution_ms", 1000) < 1000)
        one.clocks = alignment(result.timeline, known)
        out.append(one)
    return out


def summary(scores: list[Score]) -> dict[str, Any]:
    """Shares over the incidents with right clocks, with skewed ones, and over all."""
    groups = {"clean": [s for s in scores if not s.skewed], "skewed": [s for s in scores if s.skewed], "all": scores}
    return {name: _shares(group) for name, group in groups.items() if group} | {"clocks": [{"incident": s.incident, **c} for s in scores for c in s.clocks]}


def _middle(values: list[float]) -> float:
    return round(statistics.median(values) / MS, 3) if values else 0.0


def _shares(group: list[Score]) -> dict[str, Any]:
    clocks = [c for s in group for c in s.clocks]
    held = [c for c in clocks if c["status"] in ("aligned", "reference")]

    def total(name: str) -> int:
        return sum(int(getattr(s, name)) for s in group)

    def share(part: str, whole: str) -> float:
        return round(total(part) / max(total(whole), 1), 4)

    return {
        "incidents": len(group), "labels": total("labels"), "recall": share("found", "labels"), "invented": share("invented", "rows"), "split": total("split"), "merged": total("merged"),
        "family_accuracy": share("family_right", "knowable"), "cause_accuracy": share("cause_right", "knowable"), "decided": share("decided", "decidable"), "humble": share("humble", "unknowable"),
        "time_inside": share("inside", "timed"), "wrong_decisive": sum(len(s.wrong) for s in group),
        "time_error_ms": _middle([v for s in group for v in s.off_ns]), "time_half_width_ms": _middle([v for s in group for v in s.half_ns]),
        "clocks_aligned": round(len(held) / max(len(clocks), 1), 4), "clocks_inside": round(sum(c["inside"] == 1 for c in held) / max(len(held), 1), 4),
    }  # fmt: skip
