"""Before and after: a table, a sentence a cause, what to mind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from occorr.diff import ALL
from occorr.report import comparison, words
from occorr.terminal.base import console, table

if TYPE_CHECKING:
    from occorr.diff import Diff


def show(found: Diff) -> None:
    """Prints the comparison."""
    out = console()
    out.print(Text(comparison.headline(found), style="bold"))
    out.print()
    grid = table(
        "cause", "before", "after", "after/before", "95 %", "verdict", right=("before", "after", "after/before"), gap=2
    )
    for row in found.rows:
        ratio = "" if row.low is None else comparison.number(row.ratio)
        grid.add_row(
            row.cause,
            str(row.before),
            str(row.after),
            ratio,
            comparison.span(row),
            Text(
                "unclear" if row.verdict == "same" else row.verdict,
                style="bold" if row.verdict in ("better", "worse") else "",
            ),
        )
    out.print(grid)
    out.print()
    for row in found.rows:
        name = ALL.capitalize() if row.cause == ALL else words.title(row.cause)
        out.print(Text.assemble((f"{name}: ", "bold"), comparison.sentence(row, found.before, found.after)))
    for hint in found.hints:
        out.print(Text.assemble(("Mind: ", "bold"), hint))
    out.print()
    out.print(
        "Rates per hour that the logs cover. Closes of one incident do not count as independent; at most 5 % of the"
        " verdicts are chance."
    )
