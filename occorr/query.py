"""Answers SQL over the tables of a result directory; reads them and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import results, schema
from occorr.analysis import Analysis
from occorr.errors import OccorrError, nearest
from occorr.report.tables import visible

if TYPE_CHECKING:
    from pathlib import Path

_READS: Final = ("select", "with", "show", "explain", "values", "from")
# A quoted name is kept, but must be seen: a quote or a comment's sign inside it begins nothing.
_LITERAL: Final = re.compile(r"""("(?:[^"]|"")*"|`(?:[^`]|``)*`)|'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_FILES: Final = re.compile(r"""(?i)\bread_\w+["`]?\s*\(""")
# Polars gives the rows of these in an order that changes from run to run; who wants another order says ORDER BY.
_SHUFFLES: Final = re.compile(r"(?i)\b(?:group\s+by|distinct|join|union|intersect|except)\b")
_ORDERED: Final = re.compile(r"(?i)\border\s+by\b")
_COLUMN: Final = re.compile(
    r"(?:unable to find column |no column named )['\"]([^'\"]+)['\"]|Column '?\"?([\w.]+)\"?'? (?:not found|is not)"
)
_TABLE: Final = re.compile(r"relation '([^']+)' was not found")


def query(source: Path | Analysis, sql: str) -> pl.DataFrame:
    """The answer to a SELECT; without ORDER BY the same rows come in the same order all the same.

    Args:
        source: a result directory, of which only the columns that are asked for are read; or a result.
        sql: one statement in Polars' SQL over the tables `schema.TABLES`.

    Raises:
        OccorrError: no result directory; or the statement is wrong, and then it names the nearest table or column.
    """
    bare = _LITERAL.sub(lambda m: m[1] or " ", sql).strip()
    word = bare.lstrip("(").split(None, 1)[0].lower() if bare.strip("();") else ""
    if word not in _READS:
        raise OccorrError(f"SQL: {word or 'nothing'!r} is no question; give one SELECT over {', '.join(schema.TABLES)}")
    if _FILES.search(bare):
        raise OccorrError(f"SQL: only the tables of the result can be read: {', '.join(schema.TABLES)}")
    tables = (
        {name: getattr(source, name) for name in schema.TABLES}
        if isinstance(source, Analysis)
        else results.scan(source)
    )
    context = pl.SQLContext(tables)
    try:
        answer = context.execute(sql, eager=True)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise OccorrError(f"SQL: {visible(_explained(str(error)))}") from error
    if word not in ("explain", "show") and _SHUFFLES.search(bare) and not _ORDERED.search(bare):
        sortable = [name for name, dtype in answer.schema.items() if not dtype.is_nested()]
        return answer.sort(sortable, nulls_last=True, maintain_order=True) if sortable else answer
    return answer


def _explained(message: str) -> str:
    """Polars' message in one line, with the nearest name where one is unknown."""
    first = message.split("\n", 1)[0].split("; valid columns", 1)[0].removeprefix("sql parser error: ")
    if found := _TABLE.search(message):
        return f"there is no table {found[1]!r}; {nearest(found[1].lower(), schema.TABLES)}"
    if found := _COLUMN.search(message):
        name = (found[1] or found[2]).rpartition(".")[2]
        columns = {c for table in schema.TABLES.values() for c in table}
        return (
            f"there is no column {name!r};"
            f" {nearest(name.lower(), columns, few='README names the tables, and LIMIT 1 shows the columns of one')}"
        )
    return first.replace("one (and only one) statement can be parsed at a time", "one statement at a time")[:400]
