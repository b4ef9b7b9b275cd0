"""What holds for all of the code and no tool checks."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "occorr"
ROWS_OF_ONE_SIDE = ("semi", "anti", "cross")


def joins():
    """Place, kind and given names of each join of two frames."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join"):
                continue
            given = {k.arg: k.value for k in node.keywords}
            if given.keys() & {"on", "left_on", "how"}:  # a text's join has none of them
                how = given.get("how")
                yield f"{path.name}:{node.lineno}", getattr(how, "value", "inner"), given.keys()


def test_each_join_says_in_which_order_its_rows_come():
    """Without it, polars may give them in another order where it has more threads: same input, other bytes."""
    found = list(joins())
    assert len(found) > 50
    assert [place for place, how, given in found if how not in ROWS_OF_ONE_SIDE and "maintain_order" not in given] == []
