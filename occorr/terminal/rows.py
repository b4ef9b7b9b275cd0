"""Rows of a query: a table where it fits, else one column a line, as psql does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from occorr.report import tabular
from occorr.terminal.base import clean, console, table

if TYPE_CHECKING:
    import polars as pl

_ROWS: Final = 200  # more are for a file
_CELL: Final = 60


def show(frame: pl.DataFrame) -> None:
    """Prints the rows and how many there are."""
    out = console()
    rows = tabular.rows(frame.head(_ROWS))
    texts = [[_text(row[name]) for name in frame.columns] for row in rows]
    widths = [max([len(name), *(min(len(line[i]), _CELL) for line in texts)]) for i, name in enumerate(frame.columns)]
    if sum(widths) + len(widths) <= out.width:
        numbers = tuple(name for name, dtype in frame.schema.items() if dtype.is_numeric())
        grid = table(*frame.columns, right=numbers, gap=1)
        for line in texts:
            grid.add_row(*(Text(cell) for cell in line))
        out.print(grid)
    else:
        left = max(map(len, frame.columns), default=0)
        for number, line in enumerate(texts, 1):
            out.print(Text(f"row {number}", style="bold"))
            for name, cell in zip(frame.columns, line, strict=True):
                out.print(Text(f"  {name:<{left}}  {cell}"), soft_wrap=True)
    more = f"; the first {_ROWS} are shown, --format csv gives all" if frame.height > _ROWS else ""
    out.print(f"{frame.height:,} row{'s' * (frame.height != 1)}{more}")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return clean(", ".join(map(_text, value)) if isinstance(value, list) else value).replace("\n", "␤")
