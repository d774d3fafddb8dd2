"""A durable cell as values: its text with what it reads, and what comes of it. Knows Python's names, runs nothing."""

from __future__ import annotations

import ast
import builtins
import dis
from collections.abc import Iterator
from types import CodeType
from typing import Any

import msgspec

STEP = "durable-cell"
"""The name of the step that runs cells; `durable-cell-process` runs them in processes."""
_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.With, ast.AsyncWith, ast.Match)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_LOADS = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_GLOBALS", "DELETE_NAME", "DELETE_GLOBAL"}
_STORES = {"STORE_NAME", "STORE_GLOBAL"}


class Cell(msgspec.Struct, frozen=True):
    """What travels to a worker.

    Attributes:
        source: with an empty first line for that of the magic, so that lines have the notebook's numbers.
        file: what tracebacks call it.
        variables: those of the notebook that it reads; large ones are references.
        out: the variable that comes back; "": all small ones.
        target: what each item is assigned to; "": there are none.
    """

    source: str
    file: str
    variables: dict[str, Any]
    out: str = ""
    target: str = ""


class CellResult(msgspec.Struct, frozen=True):
    """Variables that a cell assigned and that came back; `left`: those that stayed behind, and why."""

    values: dict[str, Any]
    left: dict[str, str]
    out: str = ""

    def __repr__(self) -> str:
        left = f", without {', '.join(self.left)}" if self.left else ""
        return f"<CellResult {', '.join(self.values) or 'nothing'}{left}>"


def is_cell(step: str) -> bool:
    """Whether operations of that step are durable cells."""
    return step == STEP or step.startswith(STEP + "-")


def compiled(tree: ast.Module | ast.Expression, file: str) -> CodeType:
    """Code of a cell or a part of it; `await` is allowed at its top."""
    mode = "eval" if isinstance(tree, ast.Expression) else "exec"
    code: CodeType = compile(tree, file, mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code


def reads(source: str, file: str) -> list[str]:
    """Names that the text may read before it has bound them, in their order; more than it does where only running it
    would tell. Raises `SyntaxError`."""
    bound: set[str] = set()
    found: dict[str, None] = {}
    for statement in ast.parse(source, file).body:
        loads, stores = _names(compiled(ast.Module([statement], []), file))
        own = {statement.name} if isinstance(statement, _DEFINITIONS) and not statement.decorator_list else set()
        found.update(dict.fromkeys(name for name in loads if name not in bound | own))
        # What a block binds may not have been bound.
        if not isinstance(statement, _BLOCKS):
            bound |= stores
    return [name for name in found if not hasattr(builtins, name) and not name.startswith("__")]


def _names(code: CodeType) -> tuple[list[str], set[str]]:
    loads: list[str] = []
    stores: set[str] = set()
    for part in _parts(code):
        for instruction in dis.get_instructions(part):
            if instruction.opname in _LOADS:
                loads.append(instruction.argval)
            elif instruction.opname in _STORES and part is code:
                stores.add(instruction.argval)
    return loads, stores


def _parts(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)
