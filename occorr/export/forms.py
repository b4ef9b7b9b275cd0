"""Which forms `occorr export` knows, and what each is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from occorr import schema
from occorr.errors import OccorrError, nearest
from occorr.export import otlp, perfetto, timesketch
from occorr.report import tabular

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from occorr.report.tables import Tables

# One text for the whole result, by the ending of the file; the first is the form on standard output.
TEXTS: Final[Mapping[str, Mapping[str, Callable[[Tables], str]]]] = {
    "timesketch": {".jsonl": timesketch.jsonl, ".csv": timesketch.csv},
    "perfetto": {".json": perfetto.trace},
    "otlp": {".jsonl": otlp.jsonl, ".json": otlp.jsonl},
}


def text(to: str, ending: str, tables: Tables) -> str:
    """The result in one of the forms of `TEXTS`.

    Args:
        to: the form.
        ending: of the file, as `.csv`; empty for standard output.
        tables: the result.

    Raises:
        OccorrError: the form does not come with this ending.
    """
    known = TEXTS[to]
    if ending and ending not in known:
        raise OccorrError(f"{to} comes as {' or '.join(known)}, not as {ending}")
    return known[ending or next(iter(known))](tables)


def files(to: str, tables: Tables, names: Sequence[str], unit: tabular.Unit) -> dict[str, bytes]:
    """Tables as files: name → bytes.

    Args:
        to: csv or parquet.
        tables: the result.
        names: which tables.
        unit: of the times in Parquet.
    """
    for name in names:
        if name not in schema.TABLES:
            raise OccorrError(f"--table {name!r} is no table; {nearest(name, schema.TABLES)}")
    made = {name: getattr(tables, name) for name in names}
    if to == "csv":
        return {f"{name}.csv": tabular.csv(frame).encode() for name, frame in made.items()}
    return {f"{name}.parquet": tabular.parquet(frame, unit) for name, frame in made.items()}
