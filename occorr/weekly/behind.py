"""What is behind the closes of a week: words beside the codes, offenders, hours of the day, periods that come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import keywords, periods, resources

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOP: Final = 8
_OFFENDER: Final = ("client_address", "client")


def stop_words() -> frozenset[str]:
    """What `reports/weekly/stop_words.txt` lists."""
    lines = (resources.folder("reports") / "weekly" / "stop_words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def telling_words(last: pl.DataFrame) -> pl.DataFrame:
    """The words that tell the closes of one code from those of the others."""
    proxied = pl.col("code").str.starts_with("HTTP")
    label = (
        pl.when(pl.col("code") == "none")
        .then(pl.lit("no code seen"))
        .when(proxied)
        .then(pl.format("{} at the proxy", "code"))
        .otherwise(pl.format("{} seen by {}", "code", "code_observer"))
        .alias("group")
    )
    counted = (
        last.select(label, pl.col("weight"), keywords.words(pl.col("words").fill_null(""), stop_words()).alias("word"))
        .explode("word")
        .drop_nulls("word")
        .group_by("group", "word")
        .agg(n=pl.col("weight").sum())
    )
    return (
        keywords.telling(counted, _TOP) if counted["group"].n_unique() > 1 else keywords.telling(counted.clear(), _TOP)
    )


def offenders(inside: pl.DataFrame, last: int) -> pl.DataFrame:
    """Who is behind the closes of the last week: neither ordinary ones nor restarts, which make victims and no offenders."""
    loud = inside.filter(~pl.col("family").is_in(["client", "restart"]))
    parts = []
    for kind in _OFFENDER:
        held = loud.drop_nulls(kind)
        now = (
            held.filter(pl.col("index") == last)
            .group_by(name=kind)
            .agg(
                closes=pl.col("weight").sum(),
                causes=pl.col("cause").unique().sort(),
                incidents=pl.col("cluster").n_unique(),
            )
        )
        before = held.filter(pl.col("index") == last - 1).group_by(name=kind).agg(previous=pl.col("weight").sum())
        parts.append(
            now.join(before, on="name", how="left", maintain_order="left")
            .with_columns(
                pl.col("previous").fill_null(0), kind=pl.lit("address" if kind == "client_address" else "client")
            )
            .sort("closes", "name", descending=[True, False])
            .head(_TOP)
        )
    return pl.concat(parts).select("kind", "name", "closes", "previous", "incidents", "causes")


def _wall(zone: str) -> pl.Expr:
    return (
        pl.from_epoch("timestamp", time_unit="ns")
        .dt.replace_time_zone("UTC")
        .dt.convert_time_zone(zone)
        .dt.replace_time_zone(None, ambiguous="earliest", non_existent="null")
    )


def by_hour(last: pl.DataFrame, zone: str) -> tuple[int, ...]:
    """Closes by hour of the day in the zone, ordinary ones left out."""
    counts = dict(
        last.filter((pl.col("family") != "client") & pl.col("timestamp").is_not_null())
        .group_by(_wall(zone).dt.hour().alias("hour"))
        .agg(pl.col("weight").sum())
        .iter_rows()
    )
    return tuple(int(counts.get(hour, 0)) for hour in range(24))


def beats(recent: pl.DataFrame, zone: str) -> tuple[Mapping[str, Any], ...]:
    """Causes that come back with a beat, by the address or client that they come from, else by themselves."""
    loud = recent.filter((pl.col("family") != "client") & pl.col("timestamp").is_not_null()).with_columns(
        wall=_wall(zone).dt.epoch("ms") / 1000, utc=pl.col("timestamp") / 1e9
    )
    found: list[Mapping[str, Any]] = []
    known: set[tuple[str, float]] = set()
    for kind in (*_OFFENDER, None):
        for _, rows in loud.drop_nulls(kind or "cause").group_by(
            ["cause", *([kind] if kind else [])], maintain_order=True
        ):
            # A job keeps its hour on the wall's clock or on UTC's; where summer time begins or ends, only one of them
            # has the beat.
            tries = [
                (beat.jitter, i, beat)
                for i, clock in enumerate(("wall", "utc"))
                if (beat := periods.period(rows[clock])) is not None
            ]
            if not tries:
                continue
            _, clock, beat = min(tries)
            cause = str(rows["cause"][0])
            if (cause, beat.seconds) in known:
                continue
            known.add((cause, beat.seconds))
            found.append(
                {
                    "cause": cause,
                    "kind": {"client_address": "address", "client": "client", None: "cause"}[kind],
                    "name": str(rows[kind][0]) if kind else "",
                    "closes": int(rows["weight"].sum()),
                    "seconds": beat.seconds,
                    "jitter": beat.jitter,
                    "at": beat.at,
                    "clock": "UTC" if clock else zone,
                    "visits": beat.visits,
                    "beats": beat.beats,
                }
            )
    return tuple(sorted(found, key=lambda b: (-b["closes"], b["cause"], b["kind"], b["name"])))
