"""The worker: one turn loop that commits and claims, lanes that execute, a heartbeat. Owns the process's life cycle.

One thread talks to the store; it sleeps on the bell's socket and on a wake-up socket that the lanes write to.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from blazing_nb import __version__
from blazing_nb.core.markup import line
from blazing_nb.core.name import check_name
from blazing_nb.core.shard import shard_of
from blazing_nb.core.supervision import Setting
from blazing_nb.errors import StoreError, UsageError
from blazing_nb.store import embedded, query
from blazing_nb.store.connection import Connection
from blazing_nb.store.process import is_traced, unique_name
from blazing_nb.store.secret import load_ring
from blazing_nb.store.shards import open_store
from blazing_nb.worker.code import CodeLoader
from blazing_nb.worker.executor import Executor
from blazing_nb.worker.exporter import Exporter
from blazing_nb.worker.heartbeat import Progress
from blazing_nb.worker.input import Inputs
from blazing_nb.worker.instruction import Instructions
from blazing_nb.worker.job import Job
from blazing_nb.worker.journal import about
from blazing_nb.worker.lane import GIVE_BACK_S, PATIENCE_S, AsyncLane, Outbox, ThreadLane
from blazing_nb.worker.output import Catcher, catch, release
from blazing_nb.worker.post import IDLE_S, LANES, PAUSE_S, Bench, Lane, Post
from blazing_nb.worker.process_lane import ProcessLane
from blazing_nb.worker.pulse import Pulse
from blazing_nb.worker.roster import Roster
from blazing_nb.worker.service import serve
from blazing_nb.worker.ticker import Ticker
from blazing_nb.worker.vault import Vault
from blazing_nb.worker.warmup import Warmup

log = logging.getLogger(__name__)
TELL_S = 1.0
LOG_S = 0.3
REACH_S = 2.0
ASYNC_SLOTS = 1000
SHARD_DEADLINE_S = 2.0
"""Of a call of the turn loop where there are other shards to serve meanwhile."""


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
    ) -> None:
        self._processes = os.cpu_count() or 1 if processes is None else processes
        self._setting = Setting(lease, threads, processes, grace, patience)
        self.app_id = check_name(app_id, "app_id")
        self.worker_id = check_name(worker_id or unique_name(), "worker_id")
        self._lease_ms = round(lease * 1000)
        self._url = url or os.environ.get("BLAZING_REDIS_URL")
        self._threads = threads
        self._metrics = (metrics_host, metrics_port)
        self._exporter: Exporter | None = None
        self._posts: list[Post] = []
        self._progress_lock = threading.Lock()
        self._progress: dict[int, Progress] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._drained = threading.Condition()
        self._instructions = Instructions()
        self.on_news: Callable[[], None] = lambda: None
        """Called when whoever runs it should look at its state."""
        self.catcher = Catcher()
        self._logged_s = 0.0
        self._waiting = False

    def __repr__(self) -> str:
        state = "new" if self._thread is None else "running" if self._thread.is_alive() else "stopped"
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
        if self._thread is not None:
            raise UsageError("This worker was started before; make a new one.")
        self._store = open_store(self.app_id, self._address())
        self._store.check()
        self._export()
        ring = load_ring(self.app_id)
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._waiting = False
        self._outbox = Outbox(self._wake)
        loader, vault = CodeLoader(self.app_id, ring, self._store.code), Vault(self.app_id, ring, self._store)
        self._roster = Roster(self._store)
        self._ticker = Ticker(self.app_id, ring, self._store)
        self._warmup = Warmup(self._store, loader, self._roster.refuse, self._warmed)
        executor = self._executor = Executor(self.app_id, ring, loader, vault, Inputs(self.app_id, ring, self._store))
        self._threads_lane = ThreadLane(executor, self._outbox, self._threads)
        self._async_lane = AsyncLane(executor, self._outbox, ASYNC_SLOTS)
        self._process_lane = ProcessLane(
            executor,
            self._outbox,
            self._processes,
            self.app_id,
            self._store.url,
            lambda job: self._post(job).consumer,
            lambda: self._roster.hook,
        )
        self._gauge, self._told_s = executor.gauge, 0.0
        self._lanes: list[Lane] = [self._threads_lane, self._async_lane, self._process_lane]
        executor.on_timed = self._wake
        executor.history, executor.code = self._store.history, self._roster.code
        executor.shards = self._store.count
        self._term = 0
        self._open_posts()
        if query.is_registered(self._store, self.worker_id):
            log.warning(
                "another worker is named %s, or was a moment ago; they do not disturb each other", self.worker_id
            )
        self._register()
        self._refresh(self._store.version())
        for post in self._posts:
            post.version = post.store.version()
        for lane in self._lanes:
            lane.start()
        self._thread = threading.Thread(target=self._run, name="bz-turn", daemon=True)
        self._thread.start()
        self._warmup.start()
        self._ticker.start()
        return self

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
        self._hasten()
        self._wake()

    def wait_for_completion(self, timeout: float | None = None) -> bool:
        """Wait until everything in flight is committed; False where `timeout` seconds were not enough.

        Examples:
            >>> worker = Worker("other").start()
            >>> worker.wait_for_completion(timeout=10)
            True
            >>> worker.close()
        """
        with self._drained:
            return self._drained.wait_for(lambda: not self._outbox.finished and not self._busy(), timeout)

    def close(self) -> None:
        """Give back what is not committed, leave, stop. Repeatable. Functions on threads cannot be stopped: their
        outcome is dropped, another worker executes the operation.

        Examples:
            >>> worker = Worker("other").start()
            >>> worker.close()
            >>> worker.alive
            False
        """
        if self._thread is None:
            return
        self._instructions.stop_accepting()
        self._warmup.stop()
        self._ticker.stop()
        self._stopping.set()
        self._wake()
        self._thread.join()
        if self._exporter is not None:
            self._exporter.close()
        self._store.close()
        self._wake_in.close()
        self._wake_out.close()

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
        return self._thread is not None and self._thread.is_alive()

    @property
    def state(self) -> str:
        """new, warming (it claims nothing yet), ready, held (at a barrier) or draining.

        Examples:
            >>> Worker("other").state
            'new'
        """
        if self._thread is None:
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
        return sum(len(post.holding) for post in self._posts)

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

    # -- the turn loop -----------------------------------------------------------------------------------------------

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
        for number, post in enumerate(self._posts):
            self._term += 1
            post.register(self._term, info, self._info, self._progress_of(number))
            info["home"] = self._posts[0].consumer
        self._terms = {post.term: post for post in self._posts}
        self._pulse = Pulse(self._store.url, self.app_id, [post.consumer for post in self._posts], self._lease_ms)
        self._pulse.start()

    def _open_posts(self) -> None:
        """One a shard. The only one takes what has finished as it comes."""
        bench = Bench(
            lanes=self._lanes,
            roster=self._roster,
            gauge=self._gauge,
            on_commit=self._log_before,
            on_version=self._renewed,
            on_claims=self._look,
            on_cancels=self._cancel,
            on_lost=self._wake,
        )
        shards = self._store.shards
        for shard in shards:
            finished = self._outbox.finished if len(shards) == 1 else deque()
            if len(shards) > 1:
                shard.deadline_s = SHARD_DEADLINE_S
            self._posts.append(Post(shard, bench, self.worker_id, self._lease_ms, finished))
        self._order = list(self._posts)
        """The one that has claimed last is last."""

    def _post(self, job: Job) -> Post:
        return self._terms.get(job.term, self._posts[0])

    def _progress_of(self, number: int) -> Callable[[], Progress]:
        """What running operations of a shard reported since it was asked last."""
        if len(self._posts) == 1:
            return self._executor.progress

        def own() -> Progress:
            with self._progress_lock:
                for row in self._executor.progress():
                    at = shard_of(row[0].rpartition(":")[2], len(self._posts))
                    self._progress.setdefault(at, []).append(row)
                return self._progress.pop(number, [])

        return own

    @property
    def consumer(self) -> str:
        """Its name in the store; in the app's first shard, where there are several.

        Examples:
            >>> worker = Worker("other").start()
            >>> worker.consumer.startswith(f"{worker.worker_id}.")
            True
            >>> worker.close()
        """
        return self._posts[0].consumer

    @property
    def done(self) -> int:
        """Operations that it has committed.

        Examples:
            >>> Worker("other").done
            0
        """
        return sum(post.done for post in self._posts)

    @property
    def fenced(self) -> int:
        """Outcomes that were not accepted, since another worker had taken the operation over.

        Examples:
            >>> Worker("other").fenced
            0
        """
        return sum(post.fenced for post in self._posts)

    def _hasten(self) -> None:
        for post in self._posts:
            post.hasten()

    def _busy(self) -> bool:
        return any(post.busy for post in self._posts)

    def _info(self) -> dict[str, str | int]:
        return {
            "busy": self.held,
            "done": self.done,
            "running": self._executor.running(),
            "refuses": self._roster.alarm(),
            "state": self.state,
            "steps": self._warmup.version,
            "bulletin": self._gauge.text(self._lanes, self._executor.active, self._lane_of),
        }

    def _lane_of(self, step: str) -> int:
        return LANES.index(self._roster.lane(step))

    def _warmed(self) -> None:
        """In the warm-up's thread: what can be claimed has changed, and so has what the others may see."""
        self._ring()
        self._hasten()
        self.on_news()
        self._wake()

    def _ring(self) -> None:
        for post in self._posts:
            post.rung = True

    def _renewed(self, post: Post) -> None:
        """What the steps are is read in the first shard, and counted there."""
        first = self._posts[0]
        self._refresh(post.version if post is first else first.store.version())
        for other in self._posts:
            other.rung |= other is not post

    def _refresh(self, version: int) -> None:
        self._roster.refresh(version)
        self._warmup.request(version, self._roster.hook)

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

    def _wake(self) -> None:
        if self._waiting:
            self._waiting = False
            try:
                self._wake_out.send(b"1")
            except OSError:
                log.debug("the turn loop is awake already, or has ended")

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_in, selectors.EVENT_READ)
            while not self._stopping.is_set() and not self._is_dismissed():
                try:
                    if any(post.lease_lost for post in self._posts):
                        self._begin_anew()
                    self._step(selector)
                except StoreError as error:
                    log.warning("%s", error)
                    self._ring()
                    self._stopping.wait(PAUSE_S)
        self._leave()

    def _begin_anew(self) -> None:
        """A lease was lost: what was held there runs elsewhere. What is held of other shards is given back."""
        for post in self._posts:
            post.stop()
            if post.lease_lost:
                log.warning("%s lost its lease; what it held runs elsewhere", post.consumer)
        self._pulse.stop()
        for lane in self._lanes:
            lane.take_back()
        self._executor.abandon()
        self._async_lane.abandon()
        self._process_lane.abandon()
        for post in self._posts:
            if not post.lease_lost:
                post.surrender()
        self._register()

    def _is_dismissed(self) -> bool:
        """Whether it was told to leave and has finished, or its time for that is over."""
        told = self._instructions
        return told.closing and (not self.held or time.monotonic() >= told.ends_s)

    def _step(self, selector: selectors.BaseSelector) -> None:
        if self.held and time.monotonic() - self._told_s > TELL_S:
            self._told_s = time.monotonic()
            self._hasten()
        if self.catcher and time.monotonic() - self._logged_s > LOG_S:
            self._log()
        for finished in self._executor.overrun():
            with about(finished.job.operation, finished.job.attempt):
                log.warning("%s took longer than its timeout; its thread goes on, fenced", finished.job.operation)
            self._threads_lane.replace()
            self._outbox.finished.append(finished)
        if surplus := self._threads_lane.surplus():
            self._give_back(surplus)
        self._sort()
        for post in list(self._order):
            if post.has_to_turn or (post.wants and self._has_room()):
                self._turn(post)
        self._sort()
        if not any(post.has_to_turn or (post.wants and self._has_room()) for post in self._posts):
            self._wait(selector)

    def _sort(self) -> None:
        """Each outcome to the post of its shard; of earlier registrations to any, which drops it."""
        if len(self._posts) > 1:
            while self._outbox.finished:
                row = self._outbox.finished.popleft()
                self._post(row.job).finished.append(row)

    @property
    def _claims(self) -> bool:
        """Whether it claims at all now."""
        return self._instructions.accepting and self._warmup.ready and not self._instructions.held

    def _give_back(self, jobs: list[Job]) -> None:
        try:
            for post in self._posts:
                own = jobs if len(self._posts) == 1 else [job for job in jobs if self._post(job) is post]
                if own:
                    post.give_back(own)
        except StoreError:
            self._threads_lane.put([job for job in jobs if self._post(job).holding.has(job)])
            raise

    def _has_room(self) -> bool:
        alone = any(post.alone and post.holding for post in self._posts)
        room = any(lane.room and self._roster.serves(lane.name) for lane in self._lanes)
        return self._claims and not alone and room

    def _turn(self, post: Post) -> None:
        """A turn at one shard. Of the room there is, each that may have work gets its share; the rest of the division
        is for who has waited longest."""
        hungry = [other for other in self._order if other.wants or other is post]
        part = len(hungry) - 1 if post is hungry[0] and post.wants else 0
        elsewhere = self.held - len(post.holding)
        alone = any(other.alone and other.holding for other in self._posts if other is not post)
        try:
            served = post.turn(self._claims and not alone, (part, len(hungry)), elsewhere)
        except StoreError as error:
            post.recovery.begin()  # what it claimed may not have been taken up
            if len(self._posts) == 1:
                raise
            log.warning("%s; this shard is left alone for %.1f s", error, post.fail())
            return
        if served:
            self._order.remove(post)
            self._order.append(post)
        if not self._busy():
            with self._drained:
                self._drained.notify_all()
        self._outbox.threshold = max(1, min(self._threads_lane.batch // 2, self.held))

    def _log_before(self) -> None:
        """Before a commit: whoever has the result can read what was printed."""
        if self.catcher:
            self._log()

    def _look(self) -> None:
        self._executor.traced = is_traced()

    def _log(self) -> None:
        self._logged_s = time.monotonic()
        self.catcher.tell(self._store.log)

    def _cancel(self, operations: list[str]) -> None:
        """Somebody asked: coroutines are cancelled, plain functions see `current().cancelled`."""
        for operation in operations:
            if operation.startswith("@"):
                self._obey(operation[1:])
                continue
            self._executor.cancel(operation)
            self._async_lane.cancel(operation)
            self._process_lane.cancel(operation)

    def _obey(self, instruction: str) -> None:
        self._instructions.take(instruction)
        self._ring()
        self._hasten()
        self.on_news()

    def _wait(self, selector: selectors.BaseSelector) -> None:
        """Sleep until a bell rings, an outcome waits, or the next moment of interest."""
        claims, ready = self._claims, self._has_room()
        draining = any(post.draining for post in self._posts)
        roomy = {lane.name for lane in self._lanes if lane.room} if ready and not draining else set()
        steps = self._roster.awaited(roomy)
        listening = {bell: post for post in self._posts if not post.away for bell in post.listen(steps)}
        due_s = min(post.due_s for post in self._posts)
        timeout = max(0.0, min(IDLE_S, due_s - time.monotonic())) if ready else IDLE_S
        if self._threads_lane.waiting:
            timeout = min(timeout, PATIENCE_S)
        elif self._threads_lane.behind:
            timeout = min(timeout, GIVE_BACK_S)
        if self.catcher:
            timeout = min(timeout, LOG_S)
        timeout = min(timeout, self._instructions.ends_s - time.monotonic())
        timeout = max(0.0, min(timeout, self._executor.next_overrun - time.monotonic()))
        self._waiting = True
        lost = any(post.lease_lost for post in self._posts)
        if self._outbox.finished or self._stopping.is_set() or lost or claims != self._claims:
            self._waiting = False
            return
        for bell in listening:
            selector.register(bell, selectors.EVENT_READ)
        heard = {key.fileobj for key, _ in selector.select(timeout)}
        self._waiting = False
        for bell, post in listening.items():
            selector.unregister(bell)
            if bell in heard and (rung := bell.answer()) is not None:
                post.heard(rung, roomy)
        if self._wake_in in heard:
            self._wake_in.recv(4096)
        self._threads_lane.hasten()

    # -- leaving -----------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Commit what is finished, give back the rest, retire."""
        for post in self._posts:
            post.stop()
        self._sort()
        for post in self._posts:
            post.leave()
        self._pulse.stop()
        for lane in self._lanes:
            lane.stop()
        for post in self._posts:
            post.forget()
