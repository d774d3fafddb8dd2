"""Importing this registers the joblib backend "blazing", for scikit-learn and whatever else uses joblib.

Example:
    >>> import blazing_nb.joblib
    >>> from joblib import Parallel, delayed, parallel_config
    >>> with parallel_config("blazing", app=app):
    ...     Parallel()(delayed(pow)(x, 2) for x in range(4))
    [0, 1, 4, 9]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from joblib import Parallel, register_parallel_backend
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from blazing_nb.client.parcel import Parcels
from blazing_nb.errors import UsageError, WorkersNotReady

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.client.executor import AppExecutor, OperationFuture

RETENTION_S = 6 * 3600.0
"""Seconds that outcomes, and the arrays that calls share, stay in the store."""


class BlazingBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's batches as operations of an app.

    Arguments of `parallel_config("blazing", ...)`:
        app: whose workers execute.
        lane: "process" (as joblib's own default isolates), or "thread" for functions that release the interpreter lock
            or wait.
        retries: how many more attempts follow a failed batch.

    `n_jobs=-1`, the default, is all the slots that the app's workers have in that lane. What a batch calls in parallel
    itself runs on threads of its worker: it never waits for the queue that it came from.

    Examples:
        >>> from joblib import Parallel, delayed, parallel_config
        >>> import blazing_nb.joblib
        >>> with parallel_config("blazing", app=app, lane="thread"):
        ...     Parallel()(delayed(pow)(x, 2) for x in range(3))
        [0, 1, 4]
    """

    default_n_jobs = -1
    supports_retrieve_callback = True
    uses_threads = False
    supports_sharedmem = False

    def __init__(
        self, app: Blazing | None = None, *, lane: str = "process", retries: int = 0, nesting_level: int | None = None
    ) -> None:
        super().__init__(nesting_level=nesting_level)
        if app is None:
            raise UsageError('The joblib backend needs an app: parallel_config("blazing", app=app).')
        self._app = app
        self._lane = lane
        self._open: Callable[[], AppExecutor] = lambda: app.executor(
            "joblib", lane=lane, retries=retries, retention=RETENTION_S
        )
        self._executor: AppExecutor | None = self._open()
        self._parcels = Parcels(app, RETENTION_S)

    def configure(self, n_jobs: int = 1, parallel: Parallel | None = None, **_: object) -> int:
        """How many batches at once; called for each `Parallel`."""
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """`n_jobs`, or, counted from the end, the slots of all workers.

        Raises:
            WorkersNotReady: the app has none.
        """
        if n_jobs == 0:
            raise UsageError("n_jobs is a number of batches at once, or -1 for all slots; not 0.")
        if n_jobs is not None and n_jobs > 0:
            return n_jobs
        workers = self._app.snapshot().workers
        if not workers:
            raise WorkersNotReady(f"App {self._app.app_id!r} has no workers: app.workers.start(2).", reasons={})
        slots = sum(worker.processes if self._lane == "process" else worker.slots for worker in workers)
        return max(1, slots + 1 + (-1 if n_jobs is None else n_jobs))

    def start_call(self) -> None:
        """A `Parallel` begins: arrays that it passes again and again are stored once."""
        self._parcels = Parcels(self._app, RETENTION_S)

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> OperationFuture:
        """Send one batch of calls."""
        if self._executor is None:
            self._executor = self._open()
        future = self._executor.submit(self._parcels.pack(func))
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: OperationFuture) -> Any:
        """The list of a batch's results, in the executor's thread."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A batch failed: cancel what has not begun."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)

    def terminate(self) -> None:
        """A `Parallel` has ended."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None


register_parallel_backend("blazing", BlazingBackend)
