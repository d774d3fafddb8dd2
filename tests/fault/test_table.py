"""`docs/faults.md` names a test, or a reason, for every row of failures.md; the tests exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = TESTS.parent / "docs" / "faults.md"
ROW = re.compile(r"^\| ([A-Z]\d+) \| ([^|]+) \| (.+) \|$", re.MULTILINE)
NAMES = re.compile(r"`([\w/]+\.py)::(\w+)`")
ROWS = {found[1]: found[3] for found in ROW.finditer(TABLE.read_text())}
WANTED = [
    *(f"W{n}" for n in range(1, 24)),
    *(f"C{n}" for n in range(1, 17)),
    *(f"R{n}" for n in range(1, 26)),
    *(f"S{n}" for n in range(1, 14)),
    "I11",
]


@pytest.mark.parametrize("row", WANTED)
def test_a_row_has_a_test_or_a_reason(row: str) -> None:
    cell = ROWS[row]
    tests = NAMES.findall(cell)
    assert tests or cell.startswith("Not here: ")
    for file, name in tests:
        tree = ast.parse((TESTS / file).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in functions, f"{file} has no {name}"
