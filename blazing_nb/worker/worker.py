"""The worker: what it is made of, its life cycle, and what it says of itself. `worker/turn` is what it does."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable

from blazing_nb import __version__
from blazing_nb.core.markup import line
from blazing_nb.core.name import check_name
from blazing_nb.core.policy import ASYNC_SLOTS
from blazing_nb.core.supervision import Setting
from blazing_nb.errors import UsageError
from blazing_nb.store import embedded, query
from blazing_nb.store.connection import Connection
from blazing_nb.store.process import unique_name
from blazing_nb.store.secret import load_ring
from blazing_nb.store.shards import open_store
from blazing_nb.worker.code import CodeLoader
from blazing_nb.worker.executor import Executor
from blazing_nb.worker.exporter import Exporter
from blazing_nb.worker.input import Inputs
from blazing_nb.worker.instruction import Instructions
from blazing_nb.worker.lane import AsyncLane, Outbox, ThreadLane
from blazing_nb.worker.lanes import LANES, Lanes
from blazing_nb.worker.output import Catcher, catch, release
from blazing_nb.worker.posts import Posts
from blazing_nb.worker.process_lane import ProcessLane
from blazing_nb.worker.roster import Roster
from blazing_nb.worker.service import serve
from blazing_nb.worker.ticker import Ticker
from blazing_nb.worker.turn import Equipment, TurnLoop
from blazing_nb.worker.vault import Vault
from blazing_nb.worker.wakeup import Wakeup
from blazing_nb.worker.warmup import Warmup

log = logging.getLogger(__name__)
REACH_S = 2.0


class Worker:
    """Claims and executes the operations of one app.

    Args:
        app_id: the app.
        worker_id: a name to be seen by; unique by default. Workers may share it: each start has its own incarnation.
        url: the store; default `BLAZING_REDIS_URL`, else the embedded server.
        threads: plain functions executed at once.
        processes: operations of steps with `lane="process"` executed at once; default: the machine's cores.
        lease: seconds that claims stay good without a heartbeat; 0.3 to 3600.
        grace: seconds that a first SIGTERM waits for operations in flight.
        metrics_port, metrics_host: where Prometheus may scrape; 0: any free port, a range: its first free one. Needs
            the extra `metrics`.
        patience: seconds that `run()` waits for a store that is not there yet.
        redo: keep what it has committed (50,000 outcomes, 32 MiB at most) until every replica or the disk has it, and
            commit it again where the store went back, so that it is not executed again.

    Its life: `start()`, `stop_accepting()`, `wait_for_completion(timeout)`, `close()`; or `run()`, which does
    all of it on signals.

    Examples:
        >>> worker = Worker("other").start()
        >>> worker.alive
        True
        >>> worker.close()
    """

    def __init__(
        self,
        app_id: str = "demo",
        worker_id: str | None = None,
        *,
        url: str | None = None,
        threads: int = 8,
        processes: int | None = None,
        lease: float = 10.0,
        grace: float = 30.0,
        metrics_port: int | range | None = None,
        metrics_host: str = "127.0.0.1",
        patience: float = 120.0,
        redo: bool = True,
    ) -> None:
        if not isinstance(redo, bool):
            raise UsageError(f"redo is True or False, not {redo!r}.")
        self._redoes = redo
        self._processes = os.cpu_count() or 1 if processes is None else processes
        self._setting = Setting(lease, threads, processes, grace, patience)
        self.app_id = check_name(app_id, "app_id")
        self.worker_id = check_name(worker_id or unique_name(), "worker_id")
        self._url = url or os.environ.get("BLAZING_REDIS_URL")
        self._threads = threads
        self._metrics = (metrics_host, metrics_port)
        self._exporter: Exporter | None = None
        self._posts = Posts(self.worker_id, round(lease * 1000))
        self._loop: TurnLoop | None = None
        self._instructions = Instructions()
        self.on_news: Callable[[], None] = lambda: None
        """Called when whoever runs it should look at its state."""
        self.catcher = Catcher()

    def __repr__(self) -> str:
        state = "new" if self._loop is None else "running" if self.alive else "stopped"
        return f"<Worker {self.worker_id} of {self.app_id}: {state}, {self.done} done>"

    def _repr_html_(self) -> str:
        return line(self)

    # -- life cycle --------------------------------------------------------------------------------------------------

    def start(self) -> Worker:
        """Connect, register, begin to claim. Raises `StoreUnavailable` where the store does not answer.

        Examples:
            >>> worker = Worker("other", threads=2).start()
            >>> worker.close()
        """
        if self._loop is not None:
            raise UsageError("This worker was started before; make a new one.")
        self._store = open_store(self.app_id, self._address())
        self._store.check()
        self._export()
        loop = self._assemble()
        if query.is_registered(self._store, self.worker_id):
            log.warning(
                "another worker is named %s, or was a moment ago; they do not disturb each other", self.worker_id
            )
        loop.start()
        self._loop = loop
        self._warmup.start()
        self._ticker.start()
        return self

    def _assemble(self) -> TurnLoop:
        """All that it works with; nothing runs yet."""
        ring, store = load_ring(self.app_id), self._store
        loader = CodeLoader(self.app_id, ring, store.code)
        self._wakeup = Wakeup()
        self._roster = Roster(store)
        self._ticker = Ticker(self.app_id, ring, store)
        self._warmup = Warmup(store, loader, self._roster.refuse, self._warmed)
        vault, inputs = Vault(self.app_id, ring, store), Inputs(self.app_id, ring, store)
        executor = self._executor = Executor(self.app_id, ring, loader, vault, inputs)
        executor.on_timed = self._wakeup.wake
        executor.history, executor.code = store.history, self._roster.code
        executor.shards = store.count
        self._lanes = self._open_lanes(executor)
        return TurnLoop(
            Equipment(
                store=store,
                lanes=self._lanes,
                roster=self._roster,
                warmup=self._warmup,
                instructions=self._instructions,
                catcher=self.catcher,
                wakeup=self._wakeup,
                register=self._register,
                on_news=lambda: self.on_news(),
                redo=self._redoes,
            ),
            self._posts,
        )

    def _open_lanes(self, executor: Executor) -> Lanes:
        outbox = Outbox(self._wakeup.wake)
        processes = ProcessLane(
            executor,
            outbox,
            self._processes,
            self.app_id,
            self._store.url,
            lambda job: self._posts.of(job).consumer,
            lambda: self._roster.hook,
        )
        threads, coroutines = ThreadLane(executor, outbox, self._threads), AsyncLane(executor, outbox, ASYNC_SLOTS)
        return Lanes(executor, outbox, threads, coroutines, processes)

    def stop_accepting(self) -> None:
        """Claim nothing more; what is in flight goes on. Repeatable.

        Examples:
            >>> worker = Worker("other").start()
            >>> worker.stop_accepting()
            >>> worker.wait_for_completion(timeout=10)
            True
            >>> worker.close()
        """
        self._instructions.stop_accepting()
        self._posts.hasten()
        self._wake()

    def wait_for_completion(self, timeout: float | None = None) -> bool:
        """Wait until everything in flight is committed; False where `timeout` seconds were not enough.

        Examples:
            >>> worker = Worker("other").start()
            >>> worker.wait_for_completion(timeout=10)
            True
            >>> worker.close()
        """
        return self._loop is None or self._loop.wait_for_completion(timeout)

    def close(self) -> None:
        """Give back what is not committed, leave, stop. Repeatable. Functions on threads cannot be stopped: their
        outcome is dropped, another worker executes the operation.

        Examples:
            >>> worker = Worker("other").start()
            >>> worker.close()
            >>> worker.alive
            False
        """
        if self._loop is None:
            return
        self._instructions.stop_accepting()
        self._warmup.stop()
        self._ticker.stop()
        self._loop.stop()
        if self._exporter is not None:
            self._exporter.close()
        self._store.close()
        self._wakeup.close()

    def run(self, owner: str = "") -> int:
        """Start, work until SIGTERM or SIGINT, drain for `grace` seconds, close. A second signal gives back at once.

        Args:
            owner: `<pid>:<start time>` of a process that it shall end with.

        Returns:
            0 where everything in flight was committed, 1 where something was given back, 3 where it was told through
            the store to leave, 4 where the app's `on_start` failed.
        """
        self.catcher = Catcher(self._wake)
        catch(self.catcher)
        try:
            return serve(self, self._setting.patience, self._setting.grace, owner)
        finally:
            release()

    # -- looked at by whoever runs it --------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether its turn loop runs.

        Examples:
            >>> Worker("other").alive
            False
        """
        return self._loop is not None and self._loop.alive

    @property
    def state(self) -> str:
        """new, warming (it claims nothing yet), ready, held (at a barrier) or draining.

        Examples:
            >>> Worker("other").state
            'new'
        """
        if self._loop is None:
            return "new"
        if not self._instructions.accepting:
            return "draining"
        return "warming" if not self._warmup.ready else "held" if self._instructions.held else "ready"

    @property
    def failure(self) -> str:
        """Why it cannot be used: what `on_start` raised. Empty where all is well.

        Examples:
            >>> Worker("other").failure
            ''
        """
        return "" if self.state == "new" else self._warmup.failure

    @property
    def instructions(self) -> Instructions:
        """What it was told through the store."""
        return self._instructions

    @property
    def held(self) -> int:
        """Operations that it has claimed and not committed.

        Examples:
            >>> Worker("other").held
            0
        """
        return self._posts.held

    @property
    def consumer(self) -> str:
        """Its name in the store; in the app's first shard, where there are several.

        Examples:
            >>> worker = Worker("other").start()
            >>> worker.consumer.startswith(f"{worker.worker_id}.")
            True
            >>> worker.close()
        """
        return self._posts.home.consumer

    @property
    def done(self) -> int:
        """Operations that it has committed.

        Examples:
            >>> Worker("other").done
            0
        """
        return self._posts.done

    @property
    def fenced(self) -> int:
        """Outcomes that were not accepted, since another worker had taken the operation over.

        Examples:
            >>> Worker("other").fenced
            0
        """
        return self._posts.fenced

    @property
    def restored(self) -> int:
        """Outcomes of its that a store which went back had lost, and that it has committed again.

        Examples:
            >>> Worker("other").restored
            0
        """
        return self._posts.restored

    def reach(self) -> None:
        """Raises `StoreUnavailable` where the store does not answer now.

        Examples:
            >>> with_worker = Worker("other").start()
            >>> with_worker.reach()
            >>> with_worker.close()
        """
        connection = Connection(self._address(), timeout_s=REACH_S, deadline_s=0.0)
        try:
            connection.call("PING")
        finally:
            connection.close()

    def _address(self) -> str:
        return self._url or embedded.ensure().url

    # -- what it says of itself --------------------------------------------------------------------------------------

    def _register(self) -> None:
        info: dict[str, str | int] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slots": self._threads,
            "state": self.state if self.alive else "warming",
            "processes": self._processes,
            "python": sys.version.split()[0],
            "version": __version__,
        }
        self._posts.register(info, self._info, self._executor.progress)

    def _info(self) -> dict[str, str | int]:
        return {
            "busy": self.held,
            "done": self.done,
            "running": self._executor.running(),
            "refuses": self._roster.alarm(),
            "state": self.state,
            "steps": self._warmup.version,
            "bulletin": self._executor.gauge.text(self._lanes.all, self._executor.active, self._lane_of),
        }

    def _lane_of(self, step: str) -> int:
        return LANES.index(self._roster.lane(step))

    def _export(self) -> None:
        host, port = self._metrics
        if port is None:
            return
        ports = range(port, port + 1) if isinstance(port, int) else port
        self._exporter = Exporter(self.app_id, self._store.url, self.worker_id, self._counts, host, ports)
        try:
            self._exporter.start()
        except UsageError:
            self._store.close()
            raise

    def _counts(self) -> dict[str, int]:
        return {"held": self.held, "done_total": self.done, "fenced_total": self.fenced}

    def _warmed(self) -> None:
        """In the warm-up's thread."""
        if self._loop is not None:
            self._loop.news()

    def _wake(self) -> None:
        if self._loop is not None:
            self._wakeup.wake()
