"""Judgements as JUnit XML, which CI systems show: a figure is a test case, a breach a failure, no data a skip."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Final

from occorr.report.tables import shorten, shown, visible
from occorr.report.words import amount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from occorr.policy import Judgement

_ILLEGAL: Final = re.compile("[\ufffe\uffff]")  # XML 1.0 allows these in no form; `shown` has written the controls out


def junit(judged: Sequence[Judgement], *, require_data: bool = False) -> str:
    """One test suite.

    Args:
        judged: of `policy.judge`.
        require_data: a figure without data is a failure and not a skip.
    """
    failed = sum(_breach(j, require_data=require_data) for j in judged)
    skipped = sum(j.status == "no-data" and not require_data for j in judged)
    counts = {"tests": str(len(judged)), "failures": str(failed), "errors": "0", "skipped": str(skipped)}
    root = ET.Element(
        "testsuites", {"name": "occorr", "time": "0"} | {k: v for k, v in counts.items() if k != "skipped"}
    )
    suite = ET.SubElement(root, "testsuite", counts | {"name": "occorr check", "time": "0"})
    names = shorten(p.path for j in judged for p in j.figure.lines)
    for j in judged:
        case = ET.SubElement(
            suite,
            "testcase",
            {
                "classname": _safe(f"occorr.check.{j.figure.scope.replace('.', '_') or 'all'}"),
                "name": _safe(f"{j.figure.id}: {j.figure.title}"),
                "time": "0",
            },
        )
        value = amount(j.figure.value, j.figure.unit)
        if _breach(j, require_data=require_data):
            told = f"{value}, limit {j.limit}" if j.status == "fail" else f"no data, limit {j.limit}"
            ET.SubElement(case, "failure", {"type": j.status, "message": _safe(f"{told}: {j.reason}")}).text = _lines(
                j, names
            )
        elif j.status == "no-data":
            ET.SubElement(case, "skipped", {"message": _safe(f"no data: {j.reason}")})
        ET.SubElement(case, "system-out").text = _safe(f"{value} (limit {j.limit}, n = {j.figure.n}): {j.figure.note}")
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _breach(j: Judgement, *, require_data: bool) -> bool:
    return j.status == "fail" or (require_data and j.status == "no-data")


def _safe(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", shown(text))


def _lines(j: Judgement, names: dict[str, str]) -> str:
    places = (names.get(p.path, visible(p.path)) + (f":{p.line}" if p.line is not None else "") for p in j.figure.lines)
    return "\n".join(_safe(text) for text in (j.figure.note, *places))
