"""Which arguments fit a function: asked before anything is sent."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from blazing_nb.core.text import one_line
from blazing_nb.errors import InvalidArguments


class Parameters:
    """Of a function; its text is its signature in a line."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._signature = _signature(function)
        self._plain_arity = _arity(self._signature)

    def __str__(self) -> str:
        return one_line(self._signature)

    def check(self, step: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises `InvalidArguments` where they do not fit."""
        __tracebackhide__ = True
        if kwargs or len(args) != self._plain_arity:
            try:
                self._signature.bind(*args, **kwargs)
            except TypeError as error:
                hint = self._hint(args, kwargs)
                raise InvalidArguments(f"{step}{self._signature}: {error}.{hint}", step=step) from None

    def _hint(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Where one sequence came that would do as the arguments."""
        if kwargs or len(args) != 1 or not isinstance(args[0], tuple | list) or len(args[0]) != self._plain_arity:
            return ""
        return " For several arguments a call: starmap, or enqueue(*item)."


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Some functions of C say none: then whatever is given is sent."""
    try:
        return inspect.signature(function)
    except ValueError:
        return inspect.signature(lambda *args, **kwargs: None)


def _arity(signature: inspect.Signature) -> int:
    """How many positional arguments always fit; -1 where the signature must be asked."""
    parameters = signature.parameters.values()
    simple = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return len(parameters) if all(p.kind in simple for p in parameters) else -1
