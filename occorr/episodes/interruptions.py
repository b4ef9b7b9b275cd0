"""Freezes and partitions of a gateway's container."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from occorr.episodes.table import record
from occorr.schema import SECOND

STOP: Final = 5 * SECOND  # a stop takes the container off its network, so long before or after its other signs
DRAIN: Final = 60 * SECOND  # … and a gateway that drains before it ends was asked to stop so long before
# what an engine tells of a container's end and of who takes its place
_LIFE: Final = tuple(f"container.{x}" for x in ("die", "stop", "start", "destroy", "rename"))
_BEGINS: Final = ("gateway.start", "gateway.listening", "gateway.ready")
_OPENS: Final = ("websocket.open", "websocket.connected")


def interruptions(events: pl.DataFrame) -> list[dict[str, Any]]:
    """Freezes (`pause`) and partitions (`network disconnect`) of a gateway's container, with their ends."""
    t = pl.col("timestamp").cast(pl.Int64)
    out = []
    ours = events.filter(pl.col("role") == "gateway")
    lives = ours.filter(pl.col("event_name").is_in(_LIFE)).select("container_id", t)
    gone: dict[str, list[int]] = {}
    for container, moment in lives.rows():
        gone.setdefault(container, []).append(moment)
    spoken = events.filter((pl.col("source_kind") == "gateway") & pl.col("timestamp").is_not_null()).select(
        "instance", t.alias("t"), "event_name"
    )
    for kind, begin, end in (
        ("freeze", "container.pause", "container.unpause"),
        ("partition", "network.disconnect", "network.connect"),
    ):
        starts = (
            ours.filter(pl.col("event_name") == begin)
            .select(t.alias("t"), "event_id", "container_id", "instance")
            .sort("t")
        )
        ends = (
            ours.filter(pl.col("event_name") == end)
            .select(t.alias("until"), pl.col("event_id").alias("end_id"), "container_id")
            .sort("until")
        )
        spans = starts.join_asof(
            ends, left_on="t", right_on="until", by="container_id", strategy="forward", check_sortedness=False
        )
        # an engine may say twice that it began; it ends once
        for row in spans.unique(["until", "container_id"], keep="first", maintain_order=True).to_dicts():
            until = row["until"] if row["until"] is not None else row["t"] + 3600 * SECOND
            if kind == "partition":
                said = spoken.filter(pl.col("instance").eq_missing(row["instance"]))
                if any(abs(g - row["t"]) < STOP for g in gone.get(row["container_id"], ())) or _stopped(said, row["t"]):
                    continue  # a stop takes the container off its network: that is no partition
                # who accepts a new connection is on a network, be it another one
                opened = said.filter((pl.col("t") > row["t"] + SECOND) & pl.col("event_name").is_in(_OPENS))
                until = min([until, *opened.get_column("t").sort().head(1)])
            out.append(
                record(
                    kind=kind,
                    cut_low=row["t"],
                    cut_high=until,
                    up=until,
                    back=row["until"],
                    error=0,
                    covered=True,
                    abrupt=False,
                    shown=True,
                    events=[i for i in (row["event_id"], row["end_id"]) if i],
                    container_id=row["container_id"],
                    instance=row["instance"],
                )
            )
    return out


def _stopped(said: pl.DataFrame, at: int) -> bool:
    """Whether the gateway's own log tells of a stop at a moment: a signal, or nothing but its next start."""
    asked = said.filter(pl.col("t").is_between(at - DRAIN, at + STOP) & (pl.col("event_name") == "gateway.signal"))
    if asked.height:
        since = pl.col("t").is_between(asked.get_column("t").max(), at - STOP)
        if said.filter(since & pl.col("event_name").is_in(_BEGINS)).is_empty():
            return True
    after = said.filter(pl.col("t") > at + SECOND)
    return bool(after.height) and after.sort("t").item(0, "event_name") == "gateway.start"
