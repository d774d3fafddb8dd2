"""`app.executor()`: the app's workers as a `concurrent.futures.Executor`.

Owns the futures and the one thread that settles them. Operations are durable: when this process ends they go on, and
nobody waits for them here.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from typing import TYPE_CHECKING, Any

from blazing_nb.client.batch import Batch
from blazing_nb.client.call import whole
from blazing_nb.client.caller import Caller
from blazing_nb.client.operation import Operation
from blazing_nb.core.dot import OperationId
from blazing_nb.core.markup import line
from blazing_nb.core.status import Status
from blazing_nb.errors import AppClosed, ExecutorClosed, OperationCancelled, UsageError

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

BUSY = frozenset({Status.CLAIMED, Status.RUNNING})


class OperationFuture(Future[Any]):
    """A `concurrent.futures.Future` of one operation.

    Examples:
        >>> with app.executor() as executor:
        ...     future = executor.submit(abs, -1)
        >>> future.result(timeout=10), future.operation.status
        (1, <Status.SUCCEEDED: 'SUCCEEDED'>)
    """

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "finished" if self.done() else "not finished"
        return f"<OperationFuture {self.operation.id} {state}>"

    def _repr_html_(self) -> str:
        return self.operation._repr_html_()

    def running(self) -> bool:
        """Whether a worker has claimed it now; asks the store.

        Examples:
            >>> with app.executor() as executor:
            ...     future = executor.submit(abs, -1)
            >>> future.running()
            False
        """
        return not self.done() and self.operation.status in BUSY

    def cancel(self) -> bool:
        """Cancel it where no worker has claimed it yet, as a future does; `operation.cancel()` also asks a running one
        to stop.

        Examples:
            >>> with app.executor() as executor:
            ...     future = executor.submit(abs, -1)
            >>> future.cancel()  # it is finished
            False
        """
        if self.done():
            return self.cancelled()
        [answer] = self.operation._app.store.cancel([self.operation.op], waiting=True)
        return answer == "CANCELLED" and super().cancel()

    def settle(self) -> None:
        """The outcome has arrived: be done."""
        error: BaseException | None = None
        value = None
        try:
            value = whole(self.operation._app, self.operation.result(0, progress=False))
        except OperationCancelled:
            super().cancel()
        except BaseException as raised:
            error = raised
        if self.set_running_or_notify_cancel():
            self.set_result(value) if error is None else self.set_exception(error)

    def abandon(self) -> None:
        """No outcome will arrive here any more."""
        if self.set_running_or_notify_cancel():
            text = f"The app was closed; {self.operation.id} goes on: attach to its id from a new one."
            self.set_exception(AppClosed(text, operation=self.operation.id))


class Settler:
    """Settles what an executor has sent, in a thread of its own: callbacks never hold up the app's other waits.

    The thread starts with the first operation, and ends when the executor is shut down or gone and nothing is awaited.
    """

    def __init__(self) -> None:
        self.awaited: dict[int, OperationFuture | Batch] = {}
        self._inbox: queue.SimpleQueue[OperationFuture | Batch | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, handle: OperationFuture | Batch) -> None:
        """Settle it when its outcomes have arrived."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="bz-executor", daemon=True)
            self._thread.start()
        self.awaited[id(handle)] = handle
        of = handle if isinstance(handle, Batch) else handle.operation
        of._results.future(of.done).add_done_callback(lambda _: self._inbox.put(handle))

    def finish(self) -> None:
        """Nothing more will be added. Repeatable."""
        self._inbox.put(None)

    def join(self) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def abandon(self) -> None:
        """The app was closed: nothing more arrives."""
        for handle in list(self.awaited.values()):
            self._inbox.put(handle)

    def _run(self) -> None:
        open_ = True
        while open_ or self.awaited:
            handle = self._inbox.get()
            if handle is None:
                open_ = False
            elif self.awaited.pop(id(handle), None) is not None and isinstance(handle, OperationFuture):
                handle.settle() if handle.operation.done() else handle.abandon()
            del handle  # a result that nobody holds is not held here until the next one


class AppExecutor(Executor):
    """What `app.executor()` returns; see there.

    Examples:
        >>> with app.executor() as executor:
        ...     executor.submit(pow, 2, 10).result(timeout=10)
        1024
    """

    def __init__(self, app: Blazing, caller: Caller, settler: Settler) -> None:
        self._app = app
        self._caller = caller
        self._settler = settler
        self._lock = threading.Lock()
        self._closed = False
        # Dropped without a shutdown, it leaves a thread only until what it sent has finished.
        weakref.finalize(self, settler.finish).atexit = False

    def __repr__(self) -> str:
        state = "shut down" if self._closed else "open"
        return f"<AppExecutor {self._caller.name} of {self._app.app_id}: {state}, {len(self._settler.awaited)} awaited>"

    def _repr_html_(self) -> str:
        return line(self)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> OperationFuture:
        """Send one call; its future. `fn`: a `Step` (with its own rules), or any callable that can be pickled.

        Raises:
            ExecutorClosed (a RuntimeError): after `shutdown`.
            ValueNotSerializable, SegmentFull, StoreUnavailable: as for `step.enqueue`; nothing was sent.

        Examples:
            >>> with app.executor() as executor:
            ...     executor.submit(lambda word: word.upper(), "a").result(timeout=10)
            'A'
        """
        self._check()
        future = OperationFuture(self._caller.enqueue(fn, args, kwargs))
        self._await(future)
        return future

    def map(
        self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[Any]:
        """The results in the order of the arguments; all calls are sent at once, `chunksize` in an operation.

        Args:
            timeout: seconds from now for each result to be there; then a `TimeoutError`, and what no worker has
                claimed is cancelled, as it is when the iterator is closed early.

        Examples:
            >>> with app.executor() as executor:
            ...     list(executor.map(abs, [-1, -2, -3], chunksize=2))
            [1, 2, 3]
        """
        if chunksize < 1:
            raise UsageError(f"chunksize is at least 1, not {chunksize}.")
        self._check()
        batch = self._caller.chunks(fn, zip(*iterables, strict=False), chunksize)
        self._await(batch)
        return self._values(batch, None if timeout is None else time.monotonic() + timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls. Repeatable.

        Args:
            wait: until all that was sent has finished.
            cancel_futures: cancel what no worker has claimed yet.

        Examples:
            >>> executor = app.executor()
            >>> executor.shutdown()
            >>> executor.submit(abs, -1)
            Traceback (most recent call last):
                ...
            blazing_nb.errors.ExecutorClosed: ...
        """
        with self._lock:
            self._closed = True
        if cancel_futures:
            self._cancel(list(self._settler.awaited.values()))
        self._settler.finish()
        if wait:
            self._settler.join()

    def _check(self) -> None:
        if self._closed:
            raise ExecutorClosed("The executor was shut down: get another by app.executor().")

    def _await(self, handle: OperationFuture | Batch) -> None:
        with self._lock:
            if not self._closed:
                self._settler.add(handle)
                return
        self._cancel([handle])
        raise ExecutorClosed("The executor was shut down while this was sent; what had not begun was cancelled.")

    def _cancel(self, handles: list[OperationFuture | Batch]) -> None:
        ids: list[OperationId] = []
        for handle in handles:
            ids += handle.ids() if isinstance(handle, Batch) else [handle.operation.op]
        ended = dict(zip(ids, self._app.store.cancel(ids, waiting=True), strict=True))
        for handle in handles:
            if isinstance(handle, OperationFuture) and ended[handle.operation.op] == "CANCELLED":
                Future.cancel(handle)

    def _values(self, batch: Batch, end: float | None) -> Iterator[Any]:
        try:
            for index in range(len(batch)):
                yield from self._chunk(batch[index], end)
        finally:
            if not batch.done() and not self._app.closed:
                self._cancel([batch])

    def _chunk(self, operation: Operation, end: float | None) -> Iterator[Any]:
        left = None if end is None else max(0.0, end - time.monotonic())
        try:
            values = whole(self._app, operation.result(left, progress=False))
        except OperationCancelled as error:
            raise CancelledError(str(error)) from None
        values.reverse()
        while values:
            yield values.pop()
