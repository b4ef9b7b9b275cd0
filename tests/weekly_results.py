"""Results of invented weeks: each close and each source's span as the test says."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import polars as pl

from occorr import schema
from occorr.analysis import Analysis

MONDAY = datetime(2026, 9, 28, tzinfo=UTC)  # of 2026-W40
HOUR = timedelta(hours=1)


def frame(name: str, rows: list[dict[str, object]]) -> pl.DataFrame:
    table = schema.TABLES[name]
    types = schema.working(table)
    return schema.conform(
        pl.DataFrame({c: pl.Series(c, [row.get(c) for row in rows], dtype=types[c], strict=False) for c in table}),
        table,
    )


def close(
    at: datetime | None,
    cause: str = "client.normal",
    code: int | None = 1000,
    *,
    name: str = "",
    width: float = 0.001,
    text: str = "",
    **more: object,
) -> dict[str, object]:
    """A row of CLOSES; `width` is that of its interval, s; `text` is what the line beside it says."""
    half = timedelta(seconds=width / 2)
    made = {
        "close_id": name or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{at} {cause} {code} {sorted(more.items(), key=str)}")), "timestamp": at, "time_earliest": at and at - half, "time_latest": at and at + half, "websocket_close_code": code, "code_observer": code and "server",
        "service_name": "gateway", "compose_project": "claw", "established": True, "count": 1, "family": cause.split(".")[0], "cause": cause, "probability": 0.98, "verdict": "decisive", "observers": ["gateway"], "missing": [], "_text": text,
    }  # fmt: skip
    return made | more


def result(closes: list[dict[str, object]], cover: list[tuple[object, ...]] = (), *, redacted: bool = True) -> Analysis:
    """A result of these closes; `cover` holds (kind, project, start, end)."""
    lines = []
    for i, (kind, project, *ends) in enumerate(cover):
        lines += [
            {
                "timestamp": t,
                "event_id": f"{kind}-{project}-{t}",
                "source_kind": kind,
                "compose_project": project,
                "log_file_path": f"{kind}{i}.log",
                "log_line": n,
                "log_record_original": "x",
                "attributes": [],
            }
            for n, t in enumerate(ends, 1)
        ]
    cited = []
    for row in closes:
        event = f"line of {row.get('_line', row['close_id'])}"
        lines.append(
            {
                "timestamp": None,
                "event_id": event,
                "event_name": "websocket.close",
                "source_kind": "gateway",
                "log_file_path": "gateway.log",
                "body": row["_text"],
                "attributes": [{"key": "client_id", "value": row["_client"]}] if row.get("_client") else [],
            }
        )
        cited.append(
            {
                "close_id": row["close_id"],
                "event_id": event,
                "role": "supports",
                "rule": "r",
                "cause": row["cause"],
                "strength": "decisive",
                "quote": row["_text"],
            }
        )
    made = {name: [] for name in schema.TABLES} | {"closes": closes, "timeline": lines, "evidence": cited}
    return Analysis(**{name: frame(name, rows) for name, rows in made.items()}, redacted=redacted)
