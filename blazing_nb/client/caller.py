"""Sends calls of any callable, not only of steps: lambdas, closures, methods, functions of modules.

A callable travels as an argument of one of the generic steps of `client/call`, pickled (by reference where a worker can
import it, by value where not) and therefore signed. A `Step` is sent under its own name and rules.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from blazing_nb.client.batch import Batch
from blazing_nb.client.call import Pickled, call, call_async, call_each, call_each_async
from blazing_nb.client.operation import Operation
from blazing_nb.client.option import policy
from blazing_nb.client.step import Step
from blazing_nb.core.codec import prepare
from blazing_nb.errors import PayloadTooLarge, UsageError

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

LARGE = 64 << 10
"""Bytes of a pickled function from which it is stored once instead of travelling with each chunk."""


class Caller:
    """Calls as operations of the step `name`; in the process lane `name-process`, on the event loop `name-async`.

    Args:
        lane: where plain functions execute: "thread" or "process". Coroutine functions have an event loop.
        retries: how many more attempts follow a failed one.
        timeout: seconds that an attempt may take.
        retention: seconds that outcomes are kept in the store.
    """

    def __init__(
        self,
        app: Blazing,
        name: str,
        *,
        lane: str = "thread",
        retries: int = 0,
        timeout: float | None = None,
        retention: float = 3600.0,
    ) -> None:
        if lane not in ("thread", "process"):
            raise UsageError(f"lane is 'thread' or 'process', not {lane!r}: coroutine functions find their own.")
        self._app = app
        rules = policy(retries, 1.0, (Exception,), (), retention, timeout)
        own = name if lane == "thread" else f"{name}-{lane}"
        self._one = Step(app, call, own, rules, lane=lane)
        self._many = Step(app, call_each, own, rules, lane=lane)
        self._one_async = Step(app, call_async, f"{name}-async", rules)
        self._many_async = Step(app, call_each_async, f"{name}-async", rules)
        self.name = own

    def enqueue(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Operation:
        """Send one call. What is above the payload limit is stored as a value and travels by reference.

        Raises:
            ValueNotSerializable, PayloadTooLarge (over 256 MiB), SegmentFull: nothing was sent.
        """
        if isinstance(function, Step):
            return function.enqueue(*args, **kwargs)
        step = self._one_async if _is_async(function) else self._one
        try:
            return step.enqueue(function, *args, **kwargs)
        except PayloadTooLarge:
            return step.enqueue(self._app.put(functools.partial(function, *args, **kwargs)))

    def chunks(
        self,
        function: Callable[..., Any],
        calls: Iterable[tuple[Any, ...]],
        size: int = 1,
        *,
        name: str | None = None,
        resume: bool = False,
    ) -> Batch:
        """Send calls, `size` in an operation; each gives the list of its results. `name`, `resume`: as `Step.map`."""
        step, carried = self._carried(function)
        return step.starmap(((carried, chunk) for chunk in _chunks(calls, size)), name=name, resume=resume)

    def _carried(self, function: Callable[..., Any]) -> tuple[Step, Any]:
        """The step that executes a chunk, and the function as it travels: pickled once for all of them."""
        if isinstance(function, Step):
            step, function = self._like(function), function.function
        else:
            step = self._many_async if _is_async(function) else self._many
        kind, data = prepare(function, "the function")
        if kind & ~1:
            return step, self._app.put(function)  # it holds buffers
        carried = Pickled(data)
        return step, self._app.put(carried) if len(data) > LARGE else carried

    @staticmethod
    def _like(step: Step) -> Step:
        """Chunks of a step's calls: operations of the same name, lane, limits and rules."""
        each = call_each_async if _is_async(step.function) else call_each
        return Step(step.app, each, step.name, step.policy, step.limits, step.lane)


def _chunks(calls: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    source = iter(calls)
    while chunk := list(islice(source, size)):
        yield chunk


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
