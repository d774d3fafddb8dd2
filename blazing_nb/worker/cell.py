"""The step that runs durable cells. Their text comes signed, as a `Cell`; anything else is refused."""

from __future__ import annotations

import ast
import asyncio
import builtins
import ctypes
import inspect
import linecache
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from blazing_nb.core.cell import Cell, CellResult, compiled
from blazing_nb.core.codec import prepare
from blazing_nb.core.control import Cancel
from blazing_nb.errors import ValueNotSerializable
from blazing_nb.worker import display
from blazing_nb.worker.current import running

PRINTABLE = 4 << 20
SMALL = 64 << 10
TOGETHER = 512 << 10
_MISSING = object()


class Stopped(BaseException):
    """Raised in the thread of a cell that was cancelled; `except Exception` does not catch it."""


def run_cell(cell: Cell, *items: Any) -> Any:
    """Run a cell's text with its variables.

    Returns:
        For an item of a map: the variable that was asked for, else the value of the last expression. For a cell that is
        run once: a `CellResult`.
    """
    # Plain arguments are not signed: text that was written into the store by others ends here.
    if type(cell) is not Cell:
        raise TypeError(f"A cell travels signed, not as {type(cell).__name__}.")
    show = _prepare(cell)
    names = {"__name__": "__main__", "__builtins__": builtins, "display": show, **cell.variables}
    if cell.target:
        exec(compiled(ast.parse(f"{cell.target} = __item"), cell.file), {"__item": items[0]}, names)  # nosec  # noqa: S102
    before, drawn = dict(names), display.figures()
    try:
        with _cancellable():
            value = _execute(cell, names, show)
    finally:
        display.show_figures(drawn)
    if cell.out and cell.out not in names:
        raise NameError(f"The cell assigned no {cell.out!r}, which --out asks for.")
    if cell.target:
        return _kept(names[cell.out] if cell.out else value)
    return _result(cell, names, before)


@contextmanager
def _cancellable() -> Iterator[None]:
    """A cancel, or a time-out, stops the cell's thread at its next line of Python: a cell seldom looks at
    `current().cancelled`. Once the cell is over nothing is left pending, so that nothing else can be hit."""
    mine = running.get()
    if mine is None:
        yield
        return
    thread, lock, over = ctypes.c_ulong(threading.get_ident()), threading.Lock(), False
    raise_there = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def stop() -> None:
        with lock:
            if not over:
                raise_there(thread, ctypes.py_object(Stopped))

    mine.on_cancel = stop
    try:
        if mine.cancelled:
            raise Stopped
        yield
    except Stopped:
        raise Cancel("cancelled while it ran") from None
    finally:
        with lock:
            over = True
            raise_there(thread, None)


def _prepare(cell: Cell) -> Callable[..., Any]:
    """Make it known to tracebacks; the function that displays."""
    lines = cell.source.splitlines(keepends=True)
    linecache.cache[cell.file] = (len(cell.source), None, lines, cell.file)
    mine = running.get()
    if mine is None:  # reproduced in a kernel
        from IPython.display import display as theirs

        return theirs
    mine.printable = PRINTABLE
    display.install()
    return display.display


def _execute(cell: Cell, names: dict[str, Any], show: Callable[..., Any]) -> Any:
    """The value of the last expression; shown, as in a notebook, where it is no item of a map."""
    tree, last = ast.parse(cell.source, cell.file), None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
    _evaluate(compiled(tree, cell.file), names)
    value = None if last is None else _evaluate(compiled(last, cell.file), names)
    if value is not None and not cell.target and not cell.source.rstrip().endswith(";"):
        show(value)
    return value


def _evaluate(code: Any, names: dict[str, Any]) -> Any:
    value = eval(code, names)  # nosec B307  # noqa: S307 - its signature was verified
    return asyncio.run(value) if code.co_flags & inspect.CO_COROUTINE else value


def _result(cell: Cell, names: dict[str, Any], before: dict[str, Any]) -> CellResult:
    if cell.out:
        return CellResult({cell.out: _kept(names[cell.out])}, {}, cell.out)
    values: dict[str, Any] = {}
    left: dict[str, str] = {}
    together = 0
    for name, value in names.items():
        if name.startswith("_") or _is_imported(value) or value is before.get(name, _MISSING):
            continue
        size, reason = _size(name, value)
        if reason or together + size > TOGETHER:
            left[name] = reason or f"{size / 1e6:.1f} MB"
        else:
            values[name], together = value, together + size
    if left:
        print(f"[stay here: {', '.join(f'{n} ({why})' for n, why in left.items())}]", file=sys.stderr)
    return CellResult(values, left)


def _is_imported(value: Any) -> bool:
    """Whether it is a module, or a function or class of one: the notebook imports what it needs."""
    return isinstance(value, ModuleType) or (
        isinstance(value, type | FunctionType | BuiltinFunctionType) and value.__module__ != "__main__"
    )


def _size(name: str, value: Any) -> tuple[int, str]:
    """Its bytes, and why it cannot come back by itself, if so."""
    try:
        size = len(prepare(value, name)[1])
    except ValueNotSerializable:
        return 0, f"{type(value).__name__} cannot be sent"
    return size, "" if size <= SMALL else f"{size / 1e6:.1f} MB, name it with --out"


def _kept(value: Any) -> Any:
    """The value, or a reference to it where it is large."""
    mine = running.get()
    if mine is None or len(prepare(value, "the result")[1]) <= TOGETHER:
        return value
    return mine.put(value)
