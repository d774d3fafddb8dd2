"""`app.workers`: the app's worker processes on this machine, and some verbs for all of its workers everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Unpack

import msgspec

from blazing_nb.client import everywhere, starting
from blazing_nb.client.starting import WorkerOptions
from blazing_nb.client.supervising import Supervising, last_lines
from blazing_nb.core.markup import card, drawn, table
from blazing_nb.core.scaling import Adapt
from blazing_nb.core.snapshot import Worker
from blazing_nb.core.supervision import PLACES, Post
from blazing_nb.errors import UsageError
from blazing_nb.store.process import is_alive, owner

if TYPE_CHECKING:
    import pandas as pd

    from blazing_nb.client.app import Blazing

START_S = 30.0
COLUMNS = [
    "place",
    "state",
    "pid",
    "worker_id",
    "owner",
    "since",
    "starts",
    "failures",
    "done",
    "memory_mb",
    "reason",
    "log",
]


class WorkerProcess(msgspec.Struct, frozen=True):
    """A worker process on this machine. `started` is its start time: with the pid it names it."""

    pid: int
    started: str
    log: str
    state: str = ""
    worker_id: str = ""

    @property
    def alive(self) -> bool:
        return is_alive(self.pid, self.started)


class Workers:
    """`app.workers`: starts, lists, scales and stops worker processes, through a supervisor that outlives the kernel.

    The supervisor starts a worker that died anew (at once slowly, then slower), one whose memory or work is above a
    limit too. Iterating gives the processes that live here.

    Examples:
        >>> with Blazing("crew") as crew:
        ...     len(crew.workers)  # of this app, on this machine
        0
    """

    def __init__(self, app: Blazing) -> None:
        self._app = app

    def __repr__(self) -> str:
        return f"<Workers of {self._app.app_id}: {len(self)} processes on this machine>"

    @drawn
    def _repr_html_(self) -> str:
        posts = self._supervising.posts()
        facts = [("processes on this machine", sum(post.lives for post in posts))]
        rows = [(post.place, post.state, post.pid, post.reason) for post in posts]
        return card("Workers", self._app.app_id, facts, table(("place", "state", "pid", "reason"), rows))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[WorkerProcess]:
        """Those that live, by place."""
        posts = [post for post in self._supervising.posts() if post.lives]
        return iter([WorkerProcess(p.pid, p.started, p.log, p.state, p.worker_id) for p in posts])

    def start(
        self, n: int = 1, *, wait: float = START_S, detached: bool = True, **options: Unpack[WorkerOptions]
    ) -> Workers:
        """Have at least `n` worker processes here; return when all are ready to claim. Again it starts no others.

        Ready means: registered, `on_start` has run, the steps of this app can be loaded. Workers whose options differ
        from what is asked now are replaced, one by one.

        Args:
            n: processes, 1 to 64.
            wait: seconds for all of them to become ready; 0 does not wait.
            detached: they outlive this process; False: they end with it, even if it is killed.
            lease: seconds until the operations of a worker that cannot be reached run elsewhere.
            threads: plain functions executed at once in each.
            processes: operations of steps with `lane="process"` executed at once in each.
            grace: seconds that a worker which shall end may go on with what is in flight.
            patience: seconds that one may take to become ready; then it is started anew.
            max_operations, max_memory_mb: another takes its place after so many operations, or above so much memory.

        Raises:
            WorkersNotReady: `reasons` says which and why, with exit codes and last log lines. Those that are ready go
                on, and the supervisor goes on trying the others, until `stop()`.
            UsageError: nothing was started.

        Examples:
            >>> crew.workers.start(1)
            <Workers of crew: 1 processes on this machine>
        """
        if not 1 <= n <= PLACES:
            raise UsageError(f"start takes 1 to {PLACES} processes, not {n}.")
        name = "" if detached else owner()
        return self._order(name, wait, lambda found: max(n, found), options)

    def scale(self, n: int, *, wait: float = START_S, **options: Unpack[WorkerOptions]) -> Workers:
        """Have exactly `n` detached worker processes here, 0 to 64; options and errors as for `start`.

        Examples:
            >>> len(crew.workers.scale(1))
            1
        """
        if not 0 <= n <= PLACES:
            raise UsageError(f"An app has 0 to {PLACES} worker processes on a machine, not {n}.")
        if n == 0 and not self._supervising.posts():
            return self
        return self._order("", wait, lambda found: n, options)

    def stop(self, timeout: float = 30.0) -> int:
        """End all of this machine: they claim nothing more and finish what is in flight; what is left after `timeout`
        seconds is given back. How many were stopped.

        Examples:
            >>> crew.workers.stop()
            1
        """
        if timeout < 0:
            raise UsageError(f"timeout is at least 0 s, not {timeout}.")
        supervising = self._supervising
        living = [post for post in supervising.posts() if post.lives]
        if not living and not supervising.station.orders().wanted:
            return 0
        ordered = supervising.order(lambda found: msgspec.structs.replace(found, orders=(), grace=timeout))
        supervising.wait_gone(ordered.version, timeout)
        return len(living)

    def adapt(
        self,
        minimum: int = 1,
        maximum: int = 8,
        target_wait: float = 2.0,
        *,
        dwell: float = 30.0,
        wait: float = START_S,
        **options: Unpack[WorkerOptions],
    ) -> Workers:
        """Let the number of detached workers here follow the load, until `scale` or `stop`: by what waits, what arrives
        and how long it takes. Each decision has its reason: `decisions()`.

        Args:
            minimum, maximum: bounds; a minimum of 0 lets the last one go.
            target_wait: seconds that an operation shall wait at most for its turn.
            dwell: seconds that fewer must have been enough before workers are let go; doubles where the load swings.
            wait: seconds for the first ones to become ready. Options and errors as for `start`.

        Examples:
            >>> len(crew.workers.adapt(1, 2, target_wait=1.0))
            1
        """
        bounds = Adapt(minimum, maximum, target_wait, dwell)
        if maximum > PLACES:
            raise UsageError(f"An app has at most {PLACES} worker processes on a machine, not {maximum}.")
        return self._order("", wait, lambda found: max(minimum, min(maximum, found)), options, bounds)

    def decisions(self) -> pd.DataFrame:
        """The last changes of `adapt`: at, before, after, reason.

        Examples:
            >>> list(crew.workers.decisions().columns)
            ['at', 'before', 'after', 'reason']
        """
        import pandas as pd

        state = self._supervising.station.state()
        rows = [
            (pd.Timestamp(d.at_ms, unit="ms", tz="UTC"), d.before, d.after, d.reason)
            for d in (state.decisions if state else ())
        ]
        return pd.DataFrame(rows, columns=["at", "before", "after", "reason"])

    # -- all workers of the app, on every machine --------------------------------------------------------------------

    def stop_accepting(self, timeout: float = 10.0) -> int:
        """Let all workers of the app claim nothing more, on every machine; what is in flight goes on. How many heard.
        It is for those that are registered now. One that starts later does claim, so that a new release can take over
        from the old; that goes for one that `adapt` starts too: order `scale(n)` before, where none shall.

        Raises:
            WorkersNotReady: `reasons` has those that did not answer.

        Examples:
            >>> crew.workers.stop_accepting()
            1
            >>> crew.workers.accept()
            1
        """
        return everywhere.instruct(self._app, "drain", lambda worker: worker.state == "draining", timeout)

    def accept(self, timeout: float = 10.0) -> int:
        """Undo `stop_accepting`; not for those that are about to leave. How many were told.

        Examples:
            >>> crew.workers.accept()
            1
        """
        return everywhere.instruct(self._app, "accept", lambda worker: worker.state != "held", timeout)

    def wait_for_completion(self, timeout: float | None = None) -> bool:
        """Until no worker holds an operation of the app; False where `timeout` seconds were not enough.

        Examples:
            >>> crew.workers.wait_for_completion(timeout=10)
            True
        """
        return everywhere.wait_for_completion(self._app, timeout)

    def close(self, grace: float = 0.0, timeout: float = 30.0) -> int:
        """Let all workers of the app leave, on every machine: what they have not finished in `grace` seconds is given
        back. What was ordered before, with `start`, `scale` or `adapt`, is over: their supervisors start no others and
        end, also one that hears of it late, and workers that were only starting end too. `start` or `adapt` after it
        begins anew. How many left.

        Raises:
            WorkersNotReady: `reasons` has those that did not leave in time.

        Examples:
            >>> len(crew.workers.scale(1)), crew.workers.close()
            (1, 1)
        """
        if grace < 0 or timeout < 0:
            raise UsageError(f"grace and timeout are at least 0 s, not {grace} and {timeout}.")
        return everywhere.close(self._app, grace, timeout)

    def wait_ready(self, n: int, timeout: float = START_S) -> list[Worker]:
        """The ready workers, once there are `n`, on whatever machines. Raises `WorkersNotReady`.

        Examples:
            >>> starting = crew.workers.start(1, wait=0)
            >>> [worker.state for worker in crew.workers.wait_ready(1, timeout=20)]
            ['ready']
        """
        return everywhere.wait_ready(self._app, n, timeout)

    def barrier(self, n: int, timeout: float = START_S, *, hold: float = 60.0) -> AbstractContextManager[list[Worker]]:
        """Inside `with app.workers.barrier(4):` there are 4 ready workers at least, and none claims; after it all begin
        together. So a batch that is enqueued inside begins with all of them. They wait `hold` seconds at most.

        Examples:
            >>> with crew.workers.barrier(1) as ready:
            ...     batch = crew.step(abs, name="abs").map([-1, -2])
            >>> batch.results(timeout=10)
            [1, 2]
        """
        return everywhere.barrier(self._app, n, timeout, hold)

    # -- looking -----------------------------------------------------------------------------------------------------

    def to_frame(self) -> pd.DataFrame:
        """One row a place or process here: its state, since when, how often it was started, why its last process ended
        (or is to end), the last lines of its log.

        Examples:
            >>> list(crew.workers.to_frame().columns[:3])
            ['place', 'state', 'pid']
        """
        import pandas as pd

        rows = []
        for post in self._supervising.posts():
            since = pd.Timestamp(post.since_ms, unit="ms", tz="UTC")
            known = {**msgspec.structs.asdict(post), "since": since, "log": last_lines(post)}
            rows.append([known[column] for column in COLUMNS])
        return pd.DataFrame(rows, columns=COLUMNS)

    def posts(self) -> list[Post]:
        """The rows of `to_frame` as records.

        Examples:
            >>> [post.place for post in crew.workers.posts()]
            [0]
        """
        return self._supervising.posts()

    def events(self) -> pd.DataFrame:
        """What the supervisor did last, and why: at, place (-1: none), what.

        Examples:
            >>> "what" in crew.workers.events().columns
            True
        """
        import pandas as pd

        state = self._supervising.station.state()
        rows = [(pd.Timestamp(e.at_ms, unit="ms", tz="UTC"), e.place, e.what) for e in state.events] if state else []
        return pd.DataFrame(rows, columns=["at", "place", "what"])

    def want(self, n: int, url: str, **options: Unpack[WorkerOptions]) -> None:
        """Write down that `n` detached workers are wanted here, for a supervisor that is about to start."""
        if not 1 <= n <= PLACES:
            raise UsageError(f"A supervisor has 1 to {PLACES} workers, not {n}.")
        self._app.ring  # noqa: B018 - made before the workers look for it
        made = starting.change(self._app.app_id, "", url, lambda found: n, options)
        self._supervising.order(made, begin=False)

    # -- ordering ----------------------------------------------------------------------------------------------------

    @property
    def _supervising(self) -> Supervising:
        return Supervising(self._app.app_id)

    def _order(
        self,
        owner: str,
        wait: float,
        number: Callable[[int], int],
        options: WorkerOptions,
        bounds: Adapt | None = None,
    ) -> Workers:
        app = self._app.connect()
        app.ring  # noqa: B018 - made before the workers look for it
        dismissed_ms = app.store.dismissed_ms()
        made = starting.change(app.app_id, owner, app.url, number, options, bounds, dismissed_ms)
        starting.order(app, owner, made, wait)
        return self
