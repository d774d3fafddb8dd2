"""What executes where any callable may be sent: four steps that take the function first. Workers import this."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterable
from typing import Any


def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """One call."""
    return function(*args, **kwargs)


async def call_async(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """One call of a coroutine function."""
    return await function(*args, **kwargs)


def call_each(function: Callable[..., Any], /, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
    """A chunk of calls, one after the other; the first exception ends it."""
    return [function(*args) for args in calls]


async def call_each_async(function: Callable[..., Any], /, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
    """A chunk of calls of a coroutine function, at once; the first exception cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(function(*args)) for args in calls]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


class Pickled:
    """Stands for a value that was pickled before: pickles as the value, at the cost of a copy.

    It travels only inside what the codec pickles and signs, so its bytes are under that signature.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[object, ...]:
        return pickle.loads, (self.data,)
