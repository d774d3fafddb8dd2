"""The text of functions that travel by value, so that a worker's traceback shows the lines of a cell.

It is shown, and never run: what runs is the code that travels beside it, under the same signature.
"""

from __future__ import annotations

import hashlib
import inspect
import linecache
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

LIMIT = 64_000
"""Characters of all texts of a step together; what is above goes without."""


def texts_of(function: Callable[..., Any], travels: Callable[[FunctionType], bool]) -> dict[str, str]:
    """The texts of a function and of those that it uses and that travel with it, each by its place."""
    found: dict[str, str] = {}
    for each in _reached(function, travels):
        try:
            text = inspect.getsource(each.__code__)
        except (OSError, TypeError, IndexError, SyntaxError):  # made without a text, or it is gone
            continue
        if sum(map(len, found.values())) + len(text) <= LIMIT:
            found[_place(each.__code__)] = text
    return found


def show(function: Callable[..., Any], texts: dict[str, str]) -> None:
    """Let tracebacks through the function, and those that came with it, show their texts."""
    for each in list(_reached(function, lambda other: _place(other.__code__) in texts)):
        text = texts.get(_place(each.__code__))
        if text is not None:
            code = each.__code__
            name = f"<{code.co_name.strip('<>')} {hashlib.sha256(text.encode()).hexdigest()[:6]}>"
            lines = ["\n"] * (code.co_firstlineno - 1) + text.splitlines(keepends=True)
            linecache.cache[name] = (len(text), None, lines, name)
            each.__code__ = _renamed(code, name)


def _reached(function: Callable[..., Any], wanted: Callable[[FunctionType], bool]) -> Iterator[FunctionType]:
    """The function, and those that it names, directly or through another of them."""
    open_, seen = [function], set[int]()
    while open_:
        each = open_.pop()
        if isinstance(each, FunctionType) and id(each) not in seen and (each is function or wanted(each)):
            seen.add(id(each))
            yield each
            open_ += [each.__globals__[name] for name in _names(each.__code__) if name in each.__globals__]
            open_ += [cell.cell_contents for cell in each.__closure__ or () if _is_filled(cell)]


def _names(code: CodeType) -> set[str]:
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that has no value yet
        return False


def _renamed(code: CodeType, name: str) -> CodeType:
    inner = (_renamed(const, name) if isinstance(const, CodeType) else const for const in code.co_consts)
    return code.replace(co_filename=name, co_consts=tuple(inner))


def _place(code: CodeType) -> str:
    return f"{code.co_qualname}:{code.co_firstlineno}"
