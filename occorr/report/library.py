"""Which reports there are: each folder of `reports/` that holds a `report.toml` is one; that file is all the registry there is.

about = "what a reader finds in it" md = "page.md.j2"                            # a template of the folder, rendered
over `document.context` html = "postmortem:html"                     # or a function of a module of occorr.report:
tables in, text or bytes out over = "weeks"                               # for functions of many results: they take
`occorr.weekly.Weekly` in place of tables
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from occorr import resources
from occorr.checked import File
from occorr.errors import DefinitionError, OccorrError, Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from occorr.report.tables import Tables

FILE: Final = "report.toml"
FORMS: Final = ("html", "md", "json", "csv", "parquet")
OVERS: Final = ("result", "weeks")
_SHAPE: Final = {"about": str, "over": str, **dict.fromkeys(FORMS, str)}


@dataclass(frozen=True, slots=True)
class Report:
    """A report: its folder's name, what it is about, who makes which form (ending without a dot → maker), and from what: one result, or the weeks of many."""

    name: str
    about: str
    makers: Mapping[str, str]
    over: str = "result"


def reports(folder: Path | None = None) -> dict[str, Report]:
    """All reports of a folder by name.

    Args:
        folder: by default the one that comes with occorr.

    Raises:
        DefinitionError: holds every mistake of every `report.toml`.
    """
    root = folder or resources.folder("reports")
    found, problems = {}, []
    for path in sorted(root.glob(f"*/{FILE}")):
        file = File(f"{root.name}/{path.parent.name}/{FILE}", path.read_text(encoding="utf-8"))
        try:
            data = tomllib.loads(file.text)
        except tomllib.TOMLDecodeError as error:
            problems.append(Problem(file.path, 1, f"not valid TOML: {error}"))
            continue
        file.keys(data, _SHAPE)
        for form in (f for f in FORMS if isinstance(data.get(f), str)):
            if data[form].endswith(".j2") and not (path.parent / data[form]).is_file():
                file.wrong(
                    f"{data[form]!r} is no file of this folder;"
                    f" {nearest(data[form], [p.name for p in path.parent.glob('*.j2')])}",
                    key=form,
                )
            elif not data[form].endswith(".j2") and data[form].count(":") != 1:
                file.wrong(f"{data[form]!r} is neither a template (NAME.j2) nor a function (module:function)", key=form)
        if data.get("over", "result") not in OVERS:
            file.wrong(
                f"{data['over']!r} is nothing that a report is made of; {nearest(str(data['over']), OVERS)}", key="over"
            )
        problems += file.problems
        found[path.parent.name] = Report(
            path.parent.name,
            str(data.get("about", "")),
            {f: data[f] for f in FORMS if f in data},
            str(data.get("over", "result")),
        )
    if problems:
        raise DefinitionError(problems)
    return found


def over(name: str) -> str:
    """What a report is made of: `result`, or `weeks`; see `Report.over`."""
    known = reports()
    return known[name].over if name in known else "result"


def pick(name: str, form: str) -> Callable[[Any], str | bytes]:
    """The function that makes a report in a form, of what `over` says.

    Args:
        name: of the report.
        form: a file's ending without the dot, in lower case.

    Raises:
        OccorrError: there is no such report, or not in this form.
    """
    known = reports()
    if name not in known:
        raise OccorrError(f"report {name!r} is unknown; {nearest(name, known)}")
    makers = known[name].makers
    if form not in makers:
        raise OccorrError(
            f"the file's ending says the form, and {name} comes as {', '.join('.' + f for f in makers)}; not as"
            f" {'.' + form if form else 'a file without an ending'}"
        )
    maker = makers[form]
    if maker.endswith(".j2"):
        return lambda tables: _rendered(f"{name}/{maker}", tables)
    module, _, function = maker.partition(":")
    made: Callable[[Any], str | bytes] = getattr(import_module(f"occorr.report.{module}"), function)
    return made


def _rendered(template: str, tables: Tables) -> str:
    from occorr.report import document  # noqa: PLC0415 - jinja2 loads only where it is used

    return document.environment().get_template(template).render(document.context(tables))
