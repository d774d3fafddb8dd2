"""What executes where any callable may be sent: four steps that take the function first. Workers import this."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from blazing_nb.core.codec import prepare
from blazing_nb.core.reference import Ref
from blazing_nb.errors import ValueNotSerializable

if TYPE_CHECKING:
    from blazing_nb.client.connected import ConnectedApp

LARGE_RESULT = 512 << 10
"""Bytes from which a result is stored as a value: half of what an outcome takes."""


def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """One call."""
    return light(function(*args, **kwargs))


async def call_async(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """One call of a coroutine function."""
    return light(await function(*args, **kwargs))


def call_each(function: Callable[..., Any], /, calls: Iterable[tuple[Any, ...]]) -> Any:
    """A chunk of calls, one after the other; the list of their results. The first exception ends it."""
    return light([function(*args) for args in calls])


async def call_each_async(function: Callable[..., Any], /, calls: Iterable[tuple[Any, ...]]) -> Any:
    """A chunk of calls of a coroutine function, at once; the first exception cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(function(*args)) for args in calls]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return light([task.result() for task in tasks])


def light(value: Any) -> Any:
    """The value, or, of one that is too large to be a result, a reference: `whole` makes it a value again."""
    try:
        size = len(prepare(value, "the result")[1])
    except ValueNotSerializable:
        return value  # the worker says so, as of any result
    if size <= LARGE_RESULT:
        return value
    from blazing_nb.worker.current import current  # this executes in a worker

    return current().put(value)


def whole(app: ConnectedApp, value: Any) -> Any:
    """What `light` was given."""
    return app.get(value) if isinstance(value, Ref) else value


class Pickled:
    """Stands for a value that was pickled before: pickles as the value, at the cost of a copy.

    It travels only inside what the codec pickles and signs, so its bytes are under that signature.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[object, ...]:
        return pickle.loads, (self.data,)
