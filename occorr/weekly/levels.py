"""Closes counted by group and week, and what changed against the weeks before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from occorr import history, rates, schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from occorr.weekly.calendar import Week

TRAILING: Final = 4  # weeks
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "total": (),
    "cause": ("family", "cause"),
    "code": ("code", "code_observer"),
    "service": ("project", "service"),
    "callout": ("callout",),
    "mix": ("code", "code_observer", "family", "cause", "project", "service"),
}


def labelled(closes: pl.DataFrame) -> pl.DataFrame:
    """The closes with the code as people say it, and plain names of project and service."""
    status = schema.refusal()
    code = (
        pl.when(pl.col("websocket_close_code").is_not_null())
        .then(pl.col("websocket_close_code").cast(pl.String))
        .when(status.is_not_null())
        .then(pl.format("HTTP {}", status))
        .otherwise(pl.lit("none"))
    )
    observer = (
        pl.when(pl.col("websocket_close_code").is_not_null())
        .then(pl.col("code_observer"))
        .when(status.is_not_null())
        .then(pl.lit("proxy"))
        .otherwise(pl.lit("nobody"))
    )
    return closes.with_columns(
        code=code,
        code_observer=observer.fill_null("unknown"),
        project=pl.col("compose_project").fill_null(""),
        service=pl.col("service_name").fill_null(""),
    )


def level(closes: pl.DataFrame, level: str, found: Sequence[Week], cover: pl.DataFrame) -> pl.DataFrame:
    """One row a group and week with what changed; weeks in which nothing is or was are left out."""
    keys = list(KEYS[level])
    refused = pl.col("weight").filter(~pl.col("established").fill_null(value=True)).sum()
    clusters = closes.group_by(*keys, "index", "cluster").agg(m=pl.col("weight").sum(), refused=refused)
    counted = clusters.group_by(*keys, "index").agg(
        closes=pl.col("m").sum(), refused=pl.col("refused").sum(), incidents=pl.len(), squares=(pl.col("m") ** 2).sum()
    )
    groups = (
        (closes.select(keys).unique() if keys else pl.DataFrame({"_": [0]}))
        .sort(keys or "_", nulls_last=True)
        .with_row_index("group")
        .drop("_", strict=False)
    )
    shape = (groups.height, len(found))
    joined = (
        counted.join(groups, on=keys, how="left", nulls_equal=True, maintain_order="left")
        if keys
        else counted.with_columns(group=pl.lit(0, dtype=pl.UInt32))
    )
    arrays = {}
    for name in ("closes", "refused", "incidents", "squares"):
        arrays[name] = np.zeros(shape)
        arrays[name][joined["group"].to_numpy(), joined["index"].to_numpy()] = joined[name].to_numpy()
    exposure = _exposure(groups, found, cover)
    columns: dict[str, Any] = {
        "group": np.repeat(np.arange(shape[0]), shape[1]),
        "week": np.tile(np.arange(shape[1]), shape[0]),
        "hours": exposure.ravel(),
    } | {name: a.ravel() for name, a in arrays.items()}
    for name, width in (("previous", 1), ("trailing", TRAILING)):
        past_closes, past_hours, past_squares = (
            _before(a, width) for a in (arrays["closes"], exposure, arrays["squares"])
        )
        spread = rates.spread_of(arrays["closes"] + past_closes, arrays["squares"] + past_squares)
        compared = rates.ratios(arrays["closes"], exposure, past_closes, past_hours, spread)
        columns |= {
            name: past_closes.ravel(),
            f"{name}_hours": past_hours.ravel(),
            f"{name}_ratio": compared.ratio.ravel(),
            f"{name}_low": compared.low.ravel(),
            f"{name}_high": compared.high.ravel(),
            f"{name}_change": _said(compared, past_hours, exposure).ravel(),
        }
    frame = pl.DataFrame(columns).with_columns(
        pl.col("group").cast(pl.UInt32), pl.col("closes", "refused", "incidents", "previous", "trailing").cast(pl.Int64)
    )
    named = frame.join(groups, on="group", how="left", maintain_order="left").with_columns(
        week=(
            pl.col("week").replace_strict({i: w.name for i, w in enumerate(found)}, return_dtype=pl.String)
            if found
            else pl.lit("")
        )
    )
    floats = [name for name, dtype in named.schema.items() if dtype.is_float()]
    return (
        named.filter((pl.col("closes") > 0) | (pl.col("trailing") > 0) | pl.lit(level == "total"))
        .with_columns(pl.when(pl.col(floats).is_finite()).then(pl.col(floats)))
        .select("week", *keys, *(c for c in columns if c not in ("group", "week", "squares")))
    )


def _exposure(groups: pl.DataFrame, found: Sequence[Week], cover: pl.DataFrame) -> Any:
    """Covered hours by group and week: of the group's own project, where the sources say whose they are."""
    if "project" not in groups.columns:
        return np.tile(np.array([week.covered for week in found]), (groups.height, 1))
    by_project = {
        name: np.array([history.hours(spans, week.start, week.end) for week in found])
        for name in groups["project"].unique().to_list()
        for spans in [history.seen(cover, name or None)]
    }
    return np.array([by_project[name] for name in groups["project"].to_list()]).reshape(groups.height, len(found))


def _before(values: Any, width: int) -> Any:
    """For each week the sum of the `width` weeks before it."""
    summed = np.cumsum(np.pad(values, ((0, 0), (width + 1, 0))), axis=1)
    return summed[:, width:-1] - summed[:, : -width - 1]


def _said(compared: rates.Ratios, past_hours: Any, exposure: Any) -> Any:
    """More, fewer or same, week by week; `no data` where one side has no hours."""
    out = np.full(compared.p.shape, "same", dtype="<U7")
    for week, p in enumerate(compared.p.T):
        moved = rates.real(p)
        up = moved & ~(compared.ratio[:, week] < 1)
        out[up, week] = "more"
        out[moved & ~up, week] = "fewer"
    out[(past_hours <= 0) | (exposure <= 0)] = "no data"
    return out
