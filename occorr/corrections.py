"""What people know better: `verdicts.toml` corrects or annotates verdicts, and the original stays beside them.

[[verdict]]
close_id = "e90e0a9f"            # a close by the first characters of its id …
cause = "restart.deploy"         # what it really was; leave it out to only say something about the verdict
note = "the 05:47 rollout"

[[verdict]]
from = 2026-11-21T05:40:00Z      # … or all closes of a stretch of time,
until = 2026-11-21T05:45:00Z
was = "restart"                  # of this cause or family
note = "fire drill, announced"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import schema
from occorr.checked import File
from occorr.errors import DefinitionError, OccorrError, Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from occorr.analysis import Analysis

NAME: Final = "verdicts.toml"
SURE: Final = 0.99  # of what a person says: people are wrong too
_SHAPE: Final[dict[str, Any]] = {
    "close_id": str,
    "from": datetime,
    "until": datetime,
    "was": str,
    "cause": str,
    "note": str,
}


@dataclass(frozen=True, slots=True)
class Correction:
    """One `[[verdict]]`: which closes, what they really were (null: as was said), and why."""

    close_id: str | None
    since: datetime | None
    until: datetime | None
    was: str | None
    cause: str | None
    note: str
    place: str

    def meant(self) -> pl.Expr:
        """Which closes it is about."""
        hit = pl.lit(value=True)
        if self.close_id is not None:
            hit = hit & pl.col("close_id").str.starts_with(self.close_id)
        if self.since is not None:
            hit = hit & (pl.col("timestamp") >= pl.lit(self.since, schema.TS))
        if self.until is not None:
            hit = hit & (pl.col("timestamp") <= pl.lit(self.until, schema.TS))
        if self.was is not None:
            hit = hit & ((pl.col("cause") == self.was) | (pl.col("family") == self.was))
        return hit.fill_null(value=False)


def load(path: Path) -> tuple[Correction, ...]:
    """The corrections of a file.

    Raises:
        OccorrError: it cannot be read.
        DefinitionError: holds every mistake in it.
    """
    try:
        file = File(path.name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise OccorrError(f"{path}: cannot be read: {error}; give a file of [[verdict]] tables") from error
    try:
        data = tomllib.loads(file.text)
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError([Problem(path.name, 1, f"not valid TOML: {error}")]) from error
    file.keys(data, {"verdict": list})
    out = []
    for index, raw in enumerate(data.get("verdict", [])):
        file.keys(raw, _SHAPE, "verdict", index)
        if not raw.get("note"):
            file.wrong("note is missing; say why, for whoever reads the report", "verdict", index)
        if "close_id" not in raw and not ("from" in raw and "until" in raw):
            file.wrong("a verdict needs close_id, or from and until", "verdict", index)
        if (cause := raw.get("cause")) is not None and cause not in schema.CAUSE_NAMES:
            file.wrong(
                f"cause {cause!r} is not in the vocabulary; {nearest(str(cause), schema.CAUSE_NAMES)}",
                "verdict",
                index,
                "cause",
            )
        if (was := raw.get("was")) is not None and was not in {*schema.CAUSE_NAMES, *schema.CAUSES}:
            file.wrong(
                f"was {was!r} is no cause or family; {nearest(str(was), {*schema.CAUSE_NAMES, *schema.CAUSES})}",
                "verdict",
                index,
                "was",
            )
        out.append(
            Correction(
                raw.get("close_id"),
                _utc(raw.get("from")),
                _utc(raw.get("until")),
                raw.get("was"),
                raw.get("cause"),
                str(raw.get("note", "")),
                f"{path.name}:{file.line_of('verdict', index, '')}",
            )
        )
    if file.problems:
        raise DefinitionError(file.problems)
    return tuple(out)


def _utc(moment: Any) -> datetime | None:
    """A TOML moment in UTC; one without a zone is UTC."""
    if not isinstance(moment, datetime):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def apply(result: Analysis, corrections: Sequence[Correction]) -> Analysis:
    """The result with what people say in place of the verdicts that they correct.

    A corrected close is decisive, since somebody states its cause; `original_cause` keeps what the logs said, and
    `correction` the note. An incident all of whose closes were corrected alike is corrected with them.
    """
    if not corrections:
        return result
    closes = result.closes
    for one in reversed(corrections):  # the first that is about a close has the last word
        hit, other = one.meant(), pl.lit(value=False)
        if one.cause is not None:
            other = hit & (pl.coalesce("original_cause", "cause") != one.cause)
        cause, family = pl.lit(one.cause or ""), pl.lit((one.cause or "").partition(".")[0])
        layer = pl.lit(schema.LAYER_OF_FAMILY.get((one.cause or "").partition(".")[0]), pl.String)
        closes = (
            closes.with_columns(
                hit.alias("_hit"),
                other.alias("_other"),
            )
            .with_columns(
                pl.when("_hit").then(pl.lit(one.note)).otherwise("correction").alias("correction"),
                pl.when("_other")
                .then(pl.coalesce("original_cause", "cause"))
                .otherwise("original_cause")
                .alias("original_cause"),
                *(
                    pl.when("_other").then(new).otherwise(name).alias(name)
                    for name, new in (
                        ("cause", cause),
                        ("family", family),
                        ("layer", layer),
                        ("runner_up", pl.col("cause")),
                        ("verdict", pl.lit("decisive")),
                        ("probability", pl.lit(SURE)),
                        ("runner_up_probability", pl.lit(1 - SURE)),
                    )
                ),
            )
            .drop("_hit", "_other")
        )
    return replace(result, closes=closes, incidents=_incidents(result.incidents, closes))


def _incidents(incidents: pl.DataFrame, closes: pl.DataFrame) -> pl.DataFrame:
    """Incidents with the cause, probability and note that all their closes share."""
    own = (
        closes.filter(pl.col("incident_id").is_not_null())
        .group_by("incident_id")
        .agg(
            (pl.col("correction").n_unique() == 1).alias("_one"),
            pl.col("correction").first().alias("_note"),
            (pl.col("cause").n_unique() == 1).alias("_same"),
            pl.col("cause").first().alias("_cause"),
            pl.col("original_cause").is_not_null().any().alias("_changed"),
            pl.col("probability").mean().round(3).alias("_probability"),
        )
    )
    rows = incidents.join(own, on="incident_id", how="left", maintain_order="left")
    noted = pl.col("_one").fill_null(value=False) & pl.col("_note").is_not_null()
    changed = noted & pl.col("_same") & pl.col("_changed") & (pl.col("_cause") != pl.col("cause"))
    rows = rows.with_columns(
        pl.when(noted).then("_note").otherwise("correction").alias("correction"),
        pl.when(changed).then("cause").otherwise("original_cause").alias("original_cause"),
        pl.when(changed).then("_cause").otherwise("cause").alias("cause"),
        pl.when(changed).then(pl.col("_cause").str.extract(r"^([^.]+)", 1)).otherwise("family").alias("family"),
        pl.when(changed).then("_probability").otherwise("probability").alias("probability"),
    )
    return schema.conform(rows, schema.INCIDENTS)


def idle(closes: pl.DataFrame, corrections: Sequence[Correction]) -> list[Correction]:
    """Corrections that no close is meant by; `closes` as they were before any was applied."""
    return [c for c in corrections if closes.filter(c.meant()).is_empty()]
