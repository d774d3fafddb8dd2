"""From a function to a code record: by import path where a worker can import it, by value where it cannot."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from blazing_nb.core.code import CodeRecord
from blazing_nb.core.policy import Policy
from blazing_nb.core.source import texts_of
from blazing_nb.errors import StepNotEnqueueable


def describe(function: Callable[..., Any], name: str, policy: Policy) -> CodeRecord:
    """The record of a step's function. Functions of cells, of `__main__`, nested ones and lambdas go by value.

    Raises:
        StepNotEnqueueable: it refers to something that cannot be pickled.
    """
    version = sys.version_info[:2]
    is_async = inspect.iscoroutinefunction(function)
    importable = _is_importable(function)
    if importable and policy == Policy():
        return CodeRecord("import", name, version, is_async, ref=_ref(function))
    import cloudpickle

    try:
        rules = b"" if policy == Policy() else cloudpickle.dumps(policy, protocol=5)
        if importable:
            return CodeRecord("import", name, version, is_async, ref=_ref(function), policy=rules)
        blob = cloudpickle.dumps(function, protocol=5)
    except Exception as error:
        raise StepNotEnqueueable(
            f"Step {name!r} cannot be sent to a worker: {error}. Create what it refers to (a connection, a lock, an "
            "open file) inside the function.",
            step=name,
        ) from error
    texts = texts_of(function, lambda used: not _is_importable(used))
    return CodeRecord("source", name, version, is_async, blob=blob, policy=rules, texts=texts)


def _ref(function: Callable[..., Any]) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def _is_importable(function: Callable[..., Any]) -> bool:
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is None or module.__name__ == "__main__" or "<" in function.__qualname__:
        return False
    target: Any = module
    for part in function.__qualname__.split("."):
        target = getattr(target, part, None)
    return target is function or getattr(target, "function", None) is function
