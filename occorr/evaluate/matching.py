"""Which close of the result is which label: by key where one is shared, else by address, code and time, one to one."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import link
from occorr.closes import assign
from occorr.schema import MS, SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SLACK: Final = 1_500 * MS  # a label may stand this far outside the printed interval and still be meant

WANT: Final = (
    "close_id",
    "client",
    "mode",
    "via",
    "src_ip",
    "client_local_port",
    "path",
    "conn_id",
    "t_open_ms",
    "t_close_ms",
    "code",
    "reason",
    "how",
    "http_status",
    "established",
    "cause",
    "family",
    "accept",
    "fault_id",
    "seen_by",
    "visible_in",
    "observable",
    "knowable",
    "decisive_evidence_in",
)
TYPES: Final[dict[str, Any]] = {
    "accept": pl.List(pl.String),
    "visible_in": pl.List(pl.String),
    "decisive_evidence_in": pl.List(pl.String),
    "src_ip": pl.String,
    "conn_id": pl.String,
    "path": pl.String,
    "client": pl.String,
    "client_local_port": pl.Int64,
    "code": pl.Int64,
    "http_status": pl.Int64,
    "t_open_ms": pl.Float64,
    "t_close_ms": pl.Float64,
    "established": pl.Boolean,
    "how": pl.String,
}


def truth_of(name: str, truth: Path) -> Path | None:
    """The file that holds the labels of an incident: `ID.jsonl`, or `ID/expected.toml` as the sample incidents have it."""
    return next((p for p in (truth / f"{name}.jsonl", truth / name / "expected.toml") if p.is_file()), None)


def labels(path: Path) -> pl.DataFrame:
    """The labels of one incident: a line of JSON a close, or the `[[close]]` tables of an `expected.toml`.

    An `expected.toml` says `least` of what the logs can settle and `most` of what they cannot; which file shows a close
    it does not say.
    """
    if path.suffix == ".toml":
        rows = [
            _expected(number, close)
            for number, close in enumerate(tomllib.loads(path.read_text(encoding="utf-8")).get("close", []), 1)
        ]
    else:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return pl.DataFrame(
        [{k: r.get(k) for k in WANT} | {"accept": r.get("accept") or []} for r in rows],
        schema_overrides=TYPES,
        infer_schema_length=None,
    )


def _expected(number: int, close: Mapping[str, Any]) -> dict[str, Any]:
    at = close["at"].timestamp() * 1000
    return {
        "close_id": f"c{number:03d}",
        "client": f"cli/{number:02d}.out" if close.get("cli") else "client",
        "via": close.get("via"),
        "src_ip": close.get("client"),
        "client_local_port": close.get("port"),
        "conn_id": close.get("conn"),
        "t_open_ms": at,
        "t_close_ms": at,
        "code": close.get("code"),
        "http_status": close.get("status"),
        "established": None,
        "cause": close["cause"],
        "family": close["cause"].split(".")[0],
        "accept": list(close.get("also", ())),
        "observable": True,
        "knowable": "least" in close,
        "decisive_evidence_in": [],
    }


def with_files(closes: pl.DataFrame, evidence: pl.DataFrame) -> pl.DataFrame:
    """The closes with `cli_file`, the command that tells of each as labels name it but for what follows a dot; null where none does.

    What a command printed and when it ran may stand in files of one name.
    """
    own = (
        evidence.select(
            "close_id", cli_file=pl.col("log_file_path").cast(pl.String).str.extract(r"(?:^|/)(cli/[^/.]+)[^/]*$", 1)
        )
        .drop_nulls()
        .unique("close_id", keep="first", maintain_order=True)
    )
    return closes.join(own, on="close_id", how="left", maintain_order="left")


def match(closes: pl.DataFrame, truth: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Optimal one-to-one pairs of closes and labels.

    Args:
        closes: CLOSES, as `with_files` gives it where the evidence is there too.
        truth: labels.

    Returns:
        pairs: columns `row`, `label`; candidates: every pair that could have been meant, with its cost.
    """
    rows = closes.select(
        pl.int_range(pl.len()).alias("row"),
        "conn_id",
        "client_address",
        "client_port",
        "websocket_close_code",
        "http_status_proxy",
        "via",
        "observers",
        "established",
        pl.col("cli_file") if "cli_file" in closes.columns else pl.lit(None, pl.String).alias("cli_file"),
        pl.col("timestamp").cast(pl.Int64).alias("t"),
        pl.col("opened").cast(pl.Int64),
        pl.col("time_earliest").cast(pl.Int64).alias("low"),
        pl.col("time_latest").cast(pl.Int64).alias("high"),
    ).with_columns(
        pl.when(pl.col("conn_id").str.contains("…", literal=True))
        .then("conn_id")
        .otherwise(link.short(pl.col("conn_id")))
        .alias("key")
    )
    wanted = truth.select(
        pl.int_range(pl.len()).alias("label"),
        link.short(pl.col("conn_id")).alias("label_key"),
        "src_ip",
        "client_local_port",
        "code",
        "http_status",
        pl.col("via").alias("label_via"),
        "client",
        "how",
        (pl.col("t_close_ms") * MS).cast(pl.Int64).alias("at"),
        (pl.col("t_open_ms") * MS).cast(pl.Int64).alias("from"),
        pl.col("established").alias("label_established"),
        "observable",
    )
    pairs = rows.join(wanted, how="cross")
    keyed = (pl.col("key") == pl.col("label_key")).fill_null(value=False)
    clash = (pl.col("key") != pl.col("label_key")).fill_null(value=False) & pl.col("conn_id").is_not_null()
    address = (pl.col("client_address") == pl.col("src_ip")).fill_null(value=True)
    port = pl.col("client_port") == pl.col("client_local_port")
    cli = pl.col("client").str.starts_with("cli/")
    spoken = pl.col("observers").list.contains("cli")
    beyond = pl.max_horizontal(pl.col("low") - pl.col("at"), pl.col("at") - pl.col("high"), 0)
    near = beyond <= SLACK
    exact = (
        port.fill_null(value=False)
        & (pl.col("client_address") == pl.col("src_ip")).fill_null(value=False)
        & (beyond <= 15 * SECOND)
    )
    status = (
        pl.when(pl.col("http_status").is_not_null())
        .then(
            (pl.col("http_status_proxy") == pl.col("http_status")).fill_null(
                value=~pl.col("established").fill_null(value=True) & pl.col("observers").list.contains("proxy")
            )
            | spoken
        )
        .otherwise(pl.col("http_status_proxy").fill_null(101).is_in([101, 0]))
    )
    code = (
        (pl.col("websocket_close_code") == pl.col("code")).fill_null(value=True)
        | (pl.col("code") == 1006).fill_null(value=False)
        | (pl.col("websocket_close_code") == 1006).fill_null(value=False)
    )
    code = code | (
        pl.col("code").is_in([1000, 1001, 1005]) & pl.col("websocket_close_code").is_in([1000, 1001, 1005])
    ).fill_null(value=False)
    via = (pl.col("via") == pl.col("label_via")) | (pl.col("via") == "unknown")
    other_port = (port == False).fill_null(value=False) & ~cli  # noqa: E712 - three-valued
    loose = (
        near
        & address
        & status
        & code
        & via
        & ~clash
        & ~other_port
        & pl.when(cli).then(spoken).otherwise(~(spoken & (pl.col("observers").list.len() == 1)))
    )
    # an `expected.toml` says only when it ended
    begun = ((pl.col("opened") - pl.col("from")).abs() <= SLACK).fill_null(value=True) | (
        pl.col("from") == pl.col("at")
    )
    late = (
        cli & spoken & begun & (pl.col("t") >= pl.col("from") - SECOND) & (pl.col("t") <= pl.col("at") + SECOND) & via
    )
    # an `expected.toml` does not name the files of its commands
    files = rows.get_column("cli_file").drop_nulls().implode()
    command = pl.col("client").str.extract(r"^([^.]+)", 1)
    elsewhere = (pl.col("cli_file") != command).fill_null(value=False) & cli & command.is_in(files)
    ok = keyed | exact | (loose | late) & ~elsewhere
    cost = (
        pl.when(keyed)
        .then(0.0)
        .when(exact)
        .then(0.1)
        .when(late)
        .then(0.3 + (pl.col("t") - pl.col("at")).abs() / (10 * SECOND))
        .otherwise(1.0 + (pl.col("t") - pl.col("at")).abs() / SECOND)
    )
    cost = cost + pl.when(pl.col("observable").fill_null(value=True)).then(0.0).otherwise(0.5)
    candidates = pairs.filter(ok).with_columns(cost.fill_null(3.0).alias("cost"))
    return assign(candidates, "row", "label"), candidates
