"""Waiting for several handles at once: `gather`, `wait`, `as_completed`."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from blazing_nb.client.batch import Batch
from blazing_nb.client.operation import Operation
from blazing_nb.client.progress import show
from blazing_nb.client.results import TURN_S
from blazing_nb.core.markup import bar, card, drawn
from blazing_nb.core.replay import replaying
from blazing_nb.errors import OperationTimeout, UsageError

Handle = Operation | Batch


class Gathered:
    """Several handles as one: a value for each, in the order given; a batch's value is the list of its results.

    Examples:
        >>> both = gather(double.enqueue(1), double.enqueue(2))
        >>> both.results(timeout=10)
        [2, 4]
    """

    def __init__(self, handles: Iterable[Handle]) -> None:
        self.handles = tuple(handles)
        for handle in self.handles:
            if not isinstance(handle, Operation | Batch):
                raise UsageError(
                    f"gather takes operations and batches, not {type(handle).__name__}; of a list: gather(*handles)."
                )

    def __repr__(self) -> str:
        return f"<Gathered {sum(handle.done() for handle in self.handles)} of {len(self)} done>"

    @drawn
    def _repr_html_(self) -> str:
        done = sum(handle.done() for handle in self.handles)
        return card("Gathered", "", [("", bar(done, 0, len(self))), ("done", f"{done:,} of {len(self):,}")])

    def __len__(self) -> int:
        return len(self.handles)

    def done(self) -> bool:
        """Whether all have arrived. Asks nobody.

        Examples:
            >>> gather().done()
            True
        """
        return all(handle.done() for handle in self.handles)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all are final; False where `timeout` seconds were not enough.

        Examples:
            >>> gather(double.enqueue(1), double.enqueue(2)).wait(timeout=10)
            True
        """
        end = _end(timeout)
        return all(handle._results.wait_for(handle.done, _left(end)) for handle in self.handles)

    def results(
        self, timeout: float | None = None, *, return_exceptions: bool = False, progress: bool | None = None
    ) -> list[Any]:
        """Wait for all; the values in order. Repeatable. Raises the first exception in that order.

        Args:
            progress: show a bar where it takes longer than two seconds; None: in notebooks and terminals.

        Raises:
            OperationTimeout: after `timeout` seconds; nothing is cancelled.

        Examples:
            >>> gather(double.enqueue(1), double.map([2, 3])).results(timeout=10)
            [2, [4, 6]]
        """
        __tracebackhide__ = True
        end = _end(timeout)
        show(self, timeout, progress)
        values: list[Any] = []
        for handle in self.handles:
            try:
                wait = handle.results if isinstance(handle, Batch) else handle.result
                values.append(wait(_left(end), progress=False))
            except OperationTimeout:
                raise
            except Exception as error:
                if not return_exceptions:
                    raise
                values.append(error)
        return values

    result = results

    def __await__(self) -> Generator[Any, None, list[Any]]:
        for handle in self.handles:
            yield from asyncio.wrap_future(handle._results.future(handle.done)).__await__()
        return self.results(0)


def gather(*handles: Any, return_exceptions: bool = False) -> Gathered:
    """Wait for several operations or batches as one. In a workflow: for several of its calls, or coroutines of its own.

    Args:
        return_exceptions: in a workflow, exceptions stand in the list, instead of the first one being raised when all
            are final. Elsewhere `results` takes it.

    Examples:
        >>> gather(double.enqueue(2), double.map([3, 4])).results(timeout=10)
        [4, [6, 8]]
        >>> gather().results()
        []
    """
    replay = replaying.get()
    if replay is not None:
        return replay.gather(handles, return_exceptions)  # type: ignore[return-value]
    if return_exceptions:
        raise UsageError("return_exceptions is for results(): gather(...).results(return_exceptions=True).")
    return Gathered(handles)


def wait(handles: Iterable[Handle], timeout: float | None = None) -> tuple[set[Handle], set[Handle]]:
    """Wait until all are final or `timeout` seconds passed: (done, not done). Cancels nothing.

    Examples:
        >>> quick, sleeping = double.enqueue(1), nap.options(delay=60).enqueue(1)
        >>> quick.wait(timeout=10)
        True
        >>> done, left = wait([quick, sleeping], timeout=0.05)
        >>> done == {quick}, left == {sleeping}
        (True, True)
    """
    handles = _all(handles)
    end = _end(timeout)
    for handle in handles:
        handle._results.wait_for(handle.done, _left(end))
    done = {handle for handle in handles if handle.done()}
    return done, set(handles) - done


def as_completed(handles: Iterable[Handle], timeout: float | None = None) -> Iterator[Handle]:
    """Handles in the order in which they become final; of a batch, its operations. Raises `OperationTimeout` after
    `timeout` seconds.

    Examples:
        >>> sorted(operation.result() for operation in as_completed(double.map([1, 2]), timeout=10))
        [2, 4]
    """
    if isinstance(handles, Batch):
        return handles.as_completed(timeout)
    return as_they_complete(tuple(handles), timeout)


def as_they_complete(
    handles: tuple[Handle, ...], timeout: float | None, tick: Callable[[], None] | None = None
) -> Iterator[Handle]:
    """As `as_completed`; `tick` is called five times a second while the next one is awaited."""
    end = _end(timeout)
    finished: queue.SimpleQueue[Handle] = queue.SimpleQueue()
    for handle in handles:
        future = handle._results.future(handle.done)
        future.add_done_callback(lambda _, handle=handle: finished.put(handle))  # type: ignore[misc]
    count = 0
    while count < len(handles):
        left = _left(end)
        turn = left if tick is None else TURN_S if left is None else min(TURN_S, left)
        try:
            handle = finished.get(timeout=turn)
        except queue.Empty:
            if tick is None or turn == left:
                raise OperationTimeout(
                    f"{count} of {len(handles)} were finished within {timeout:g} s.", done=count, total=len(handles)
                ) from None
            tick()
        else:
            count += 1
            yield handle


def _all(handles: Iterable[Handle]) -> tuple[Handle, ...]:
    """A batch as its operations at once: iterating it would wait for each."""
    return tuple(handles[at] for at in range(len(handles))) if isinstance(handles, Batch) else tuple(handles)


def _end(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - time.monotonic())
