"""The rules of the causes and their cases."""

from __future__ import annotations

import polars as pl
from rich.text import Text

from occorr import fitted, rules as rule_files
from occorr.errors import OccorrError, nearest
from occorr.terminal.base import console, percent


def rules() -> None:
    """The list of causes and rules."""
    out = console()
    for cause in rule_files.builtin():
        out.print(Text.assemble((cause.cause, "bold"), f"  {cause.title}  ({cause.path})"))
        every: tuple[rule_files.EpisodeRule | rule_files.Rule, ...] = (*cause.episodes, *cause.rules)
        for rule in every:
            out.print(f"  {rule.strength:<15} {rule.id.split('/')[-1]}: {rule.sentence}")


def rule_details(name: str) -> None:
    """One cause.

    Raises:
        OccorrError: no such cause.
    """
    causes = {c.path.rpartition("/")[2].removesuffix(".toml"): c for c in rule_files.builtin()}
    if name not in causes:
        raise OccorrError(f"cause {name!r} has no rules; {nearest(name, causes)}")
    cause, out = causes[name], console()
    out.print(
        f"{cause.cause}: {cause.title} ({cause.path})\ncheck first: {cause.check}"
        + (f"\n  {cause.command}" if cause.command else "")
        + f"\nwhat settles it: {cause.settle}",
        soft_wrap=True,
    )
    worth = fitted.builtin()
    every: tuple[rule_files.EpisodeRule | rule_files.Rule, ...] = (*cause.episodes, *cause.rules)
    for rule in every:
        out.print(f"\n{rule.id} [{rule.strength}]\n  {rule.sentence}\n  when {rule.when}")
        for row in worth.filter(pl.col("rule") == rule.id).to_dicts():
            out.print(
                f"  {row['verdict']}: right in {row['share']:.0%} of {row['incidents']} labelled incidents"
                f" ({row['closes']} closes), so {percent(row['probability'])}"
            )
        relation = getattr(rule, "relation", None)
        if relation:
            out.print(
                f"  at the {relation.at} of a {relation.kind} episode, from {relation.before:g} s before to"
                f" {relation.after:g} s after" + (f", where {relation.when}" if relation.when else "")
            )


def rule_cases() -> bool:
    """Runs every case of every rule file and prints those that fail; True if none did."""
    out, good, total = console(), True, 0
    for cause in rule_files.builtin():
        if {case.fires for case in cause.cases} != {True, False}:
            good = False
            out.print(f"{cause.path}: needs a case that fires and one that does not")
        for case in cause.cases:
            total += 1
            features = rule_files.EPISODE_FEATURES if case.about == "episode" else rule_files.FEATURES
            frame = pl.DataFrame({name: [case.values.get(name)] for name in features}, schema=features)
            asked = cause.episodes if case.about == "episode" else cause.rules
            fired = [
                r.id
                for r in asked
                if r.when and frame.select(pl.sql_expr(r.when).fill_null(value=False).alias("_")).item()
            ]
            if bool(fired) != case.fires:
                good = False
                out.print(
                    f"{case.path}:{case.line_number}: expected {'a rule to fire' if case.fires else 'no rule to fire'},"
                    f" got {', '.join(fired) or 'none'}"
                )
    out.print(f"{total} cases, {'all hold' if good else 'some fail'}")
    return good
