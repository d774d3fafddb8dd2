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
from collections.abc import Callable

from blazing_nb import __version__
from blazing_nb.core.code import PYTHON
from blazing_nb.core.markup import line
from blazing_nb.core.name import check_name
from blazing_nb.core.supervision import Setting
from blazing_nb.errors import StoreError, UsageError
from blazing_nb.store import embedded, query
from blazing_nb.store.bell import Bell
from blazing_nb.store.connection import Connection
from blazing_nb.store.process import is_traced, unique_name
from blazing_nb.store.reply import Claim, Turn
from blazing_nb.store.secret import load_ring
from blazing_nb.store.store import Store
from blazing_nb.worker.code import CodeLoader
from blazing_nb.worker.executor import Executor
from blazing_nb.worker.exporter import Exporter
from blazing_nb.worker.heartbeat import Heartbeat
from blazing_nb.worker.holding import Batch, Holding
from blazing_nb.worker.input import Inputs
from blazing_nb.worker.instruction import Instructions
from blazing_nb.worker.job import Job
from blazing_nb.worker.journal import about
from blazing_nb.worker.lane import GIVE_BACK_S, PATIENCE_S, AsyncLane, Outbox, ThreadLane
from blazing_nb.worker.output import Catcher, catch, release
from blazing_nb.worker.process_lane import ProcessLane
from blazing_nb.worker.pulse import Pulse
from blazing_nb.worker.roster import Roster
from blazing_nb.worker.service import serve
from blazing_nb.worker.ticker import Ticker
from blazing_nb.worker.vault import Vault
from blazing_nb.worker.warmup import Warmup

log = logging.getLogger(__name__)
IDLE_S = 1.0
TELL_S = 1.0
LOG_S = 0.3
CLAIM_LIMIT = 256
REFUSED_S = 0.5
REACH_S = 2.0
ASYNC_SLOTS = 1000
LANES = ("thread", "async", "process")
Lane = ThreadLane | AsyncLane | ProcessLane


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
        self._holding = Holding()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._drained = threading.Condition()
        self._instructions = Instructions()
        self.on_news: Callable[[], None] = lambda: None
        """Called when whoever runs it should look at its state."""
        self.catcher = Catcher()
        self._logged_s = 0.0
        self._waiting = False
        self.done = 0
        self.fenced = 0

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
        self._store = Store(self.app_id, self._address())
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
            lambda: self.consumer,
            lambda: self._roster.hook,
        )
        self._gauge, self._told_s = executor.gauge, 0.0
        self._lanes: list[Lane] = [self._threads_lane, self._async_lane, self._process_lane]
        executor.on_timed = self._wake
        executor.history, executor.code = self._store.history, self._roster.code
        self._bell = Bell(self._store.dedicated())
        self._own_bell = Bell(self._store.dedicated())
        self._batch: Batch | None = None
        self._news = False
        self._alone = self._draining = False
        self._term = 0
        if query.is_registered(self._store, self.worker_id):
            log.warning(
                "another worker is named %s, or was a moment ago; they do not disturb each other", self.worker_id
            )
        self._register()
        self._refresh(self._store.version())
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
        if self._thread is not None:
            self._heartbeat.hasten()
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
            return self._drained.wait_for(
                lambda: not self._holding and not self._outbox.finished and not self._batch, timeout
            )

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
        return len(self._holding)

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
        self._incarnation = self._store.open_worker(self.worker_id, self._lease_ms, info)
        self.consumer = f"{self.worker_id}.{self._incarnation}"
        self._term += 1
        self._lease_lost = False
        self._rung, self._due_s = True, 0.0
        self._called = False
        self._holding.clear()
        self._heartbeat = Heartbeat(
            self._store, self.consumer, self._lease_ms, self._info, self._executor.progress, self._on_lost
        )
        self._heartbeat.start()
        self._pulse = Pulse(self._store.url, self.app_id, self.consumer, self._lease_ms)
        self._pulse.start()

    def _info(self) -> dict[str, str | int]:
        return {
            "busy": len(self._holding),
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
        self._rung = True
        self._heartbeat.hasten()
        self.on_news()
        self._wake()

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
        return {"held": len(self._holding), "done_total": self.done, "fenced_total": self.fenced}

    def _on_lost(self) -> None:
        self._lease_lost = True
        self._wake()

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
                    if self._lease_lost:
                        log.warning("%s lost its lease; what it held runs elsewhere", self.consumer)
                        self._heartbeat.stop()
                        self._pulse.stop()
                        self._take_back()
                        self._executor.abandon()
                        self._async_lane.abandon()
                        self._process_lane.abandon()
                        self._register()
                    self._step(selector)
                except StoreError as error:
                    log.warning("%s", error)
                    self._rung = True
                    self._stopping.wait(REFUSED_S)
        self._leave()

    def _is_dismissed(self) -> bool:
        """Whether it was told to leave and has finished, or its time for that is over."""
        told = self._instructions
        return told.closing and (not self._holding or time.monotonic() >= told.ends_s)

    def _step(self, selector: selectors.BaseSelector) -> None:
        if self._holding and time.monotonic() - self._told_s > TELL_S:
            self._told_s = time.monotonic()
            self._heartbeat.hasten()
        if self.catcher and time.monotonic() - self._logged_s > LOG_S:
            self._log()
        for finished in self._executor.overrun():
            with about(finished.job.operation, finished.job.attempt):
                log.warning("%s took longer than its timeout; its thread goes on, fenced", finished.job.operation)
            self._threads_lane.replace()
            self._outbox.finished.append(finished)
        if surplus := self._threads_lane.surplus():
            self._give_back(surplus)
        if self._outbox.finished or self._batch or self._called or self._wants_claim():
            self._turn()
        if not self._outbox.finished and not self._wants_claim():
            self._wait(selector)

    @property
    def _claims(self) -> bool:
        """Whether it claims at all now."""
        return self._instructions.accepting and self._warmup.ready and not self._instructions.held

    def _give_back(self, jobs: list[Job]) -> None:
        try:
            self._holding.give_back(self._store, self.consumer, jobs, "it waited for a thread of its worker")
        except StoreError:
            self._threads_lane.put(jobs)
            raise

    def _has_room(self) -> bool:
        return self._claims and not (self._alone and self._holding) and any(lane.room for lane in self._lanes)

    def _wants_claim(self) -> bool:
        return (self._rung or time.monotonic() >= self._due_s) and self._has_room()

    def _turn(self) -> None:
        self._called = False
        batch = self._take()
        if batch and self.catcher:
            self._log()  # before the commit: whoever has the result can read what was printed
        held = len(self._holding) - len(batch.rows)
        asks = self._claims and not (self._alone and held)
        lanes = self._demand() if asks else []
        connection = self._store.connection()
        retries = connection.retries
        turn = self._store.turn(
            self.consumer,
            self._incarnation,
            batch.groups,
            batch.bodies,
            lanes,
            held=held,
            python=PYTHON,
            payloads=batch.payloads,
            effects=batch.effects,
        )
        claims = turn.claims
        batch.release(self._store, self.consumer, self._roster.refuse)
        self._settle(batch, turn)
        if connection.retries != retries:
            known = [*self._holding.keys(), *(f"{c.segment}:{e[0].decode()}" for c in claims for e in c.entries)]
            claims = [*claims, *self._store.recover(self.consumer, known)]
        self._dispatch(claims, turn.now_ms)
        if turn.cancels:
            self._cancel(turn.cancels)
        self._next(turn, bool(claims), asks)

    def _log(self) -> None:
        self._logged_s = time.monotonic()
        self.catcher.tell(self._store.log)

    def _take(self) -> Batch:
        """What to commit: a batch that was sent before and not answered, else what is finished; it frees its slots."""
        if self._batch is None:
            self._batch = self._holding.take(self._outbox.finished, self._term)
            for index, times in self._batch.run_us.items():
                self._lanes[index].held -= len(times)
        return self._batch

    def _demand(self) -> list[tuple[int, list[str]]]:
        """What each lane has room for. One that is full is asked for with the commit that frees it."""
        wanted = [(min(lane.room, CLAIM_LIMIT), self._roster.steps(lane.name)) for lane in self._lanes]
        return [(room, steps) for room, steps in wanted if room and steps]

    def _settle(self, batch: Batch, turn: Turn) -> None:
        self._batch = None
        self.done += turn.accepted
        self.fenced += len(turn.lost) + len(batch.dropped)
        for lost in turn.lost:
            with about(lost):
                log.warning("fenced: %s was taken over; this outcome is dropped", lost)
        self._holding.drop(batch.rows)
        if self._roster.refused:
            batch.tell(self._roster.accept)
        for index, times in batch.run_us.items():
            self._lanes[index].learn(times)
        self._gauge.ran(batch.run_us)
        if turn.lease_lost:
            self._lease_lost = True
        self._news = turn.version != self._roster.version
        if self._news:
            self._refresh(turn.version)
        if not self._holding:
            with self._drained:
                self._drained.notify_all()

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
        self._rung = True
        self._heartbeat.hasten()
        self.on_news()

    def _dispatch(self, claims: list[Claim], now_ms: int) -> None:
        now_ns = time.perf_counter_ns()
        self._executor.traced = is_traced()
        for claim in claims:
            index = LANES.index(self._roster.lane(claim.segment.partition(":")[0]))
            jobs = self._jobs(index, claim, now_ms, now_ns)
            self._holding.add(jobs)
            self._lanes[index].put(jobs)

    def _jobs(self, lane: int, claim: Claim, now_ms: int, now_ns: int) -> list[Job]:
        term, incarnation, segment = self._term, self._incarnation, claim.segment
        ids = [entry[0].decode() for entry in claim.entries]
        return [
            Job(term, lane, incarnation, claim, id_, f"{segment}:{id_}", entry, now_ms, now_ns)
            for id_, entry in zip(ids, claim.entries, strict=True)
        ]

    def _next(self, turn: Turn, claimed: bool, asked: bool) -> None:
        """Decide when to claim again: when rung or due, which is at once where the claim left something.

        What was claimed `alone` stays alone. Where nothing was, this worker drains for it, and leaves the bell to
        others meanwhile.
        """
        if asked:
            self._rung = False
            self._alone = turn.alone and claimed
            self._draining = turn.alone and not claimed
        self._rung |= self._news
        wait_s = IDLE_S
        if turn.due_ms:
            wait_s = min(wait_s, max(0.0, (turn.due_ms - turn.now_ms) / 1000))
        if asked:
            self._due_s = time.monotonic() + wait_s
        busy = len(self._holding)
        self._outbox.threshold = max(1, min(self._threads_lane.batch // 2, busy))

    def _wait(self, selector: selectors.BaseSelector) -> None:
        """Sleep until a bell rings, an outcome waits, or the next moment of interest."""
        claims, ready = self._claims, self._has_room()
        roomy = {lane.name for lane in self._lanes if lane.room} if ready and not self._draining else set()
        steps = self._roster.bells(roomy)
        if steps:
            self._bell.listen(steps)
        self._own_bell.listen([self._store.keys.bell("@" + self.consumer)])
        timeout = max(0.0, min(IDLE_S, self._due_s - time.monotonic())) if ready else IDLE_S
        if self._threads_lane.waiting:
            timeout = min(timeout, PATIENCE_S)
        elif self._threads_lane.behind:
            timeout = min(timeout, GIVE_BACK_S)
        if self.catcher:
            timeout = min(timeout, LOG_S)
        timeout = min(timeout, self._instructions.ends_s - time.monotonic())
        timeout = max(0.0, min(timeout, self._executor.next_overrun - time.monotonic()))
        self._waiting = True
        if self._outbox.finished or self._stopping.is_set() or self._lease_lost or claims != self._claims:
            self._waiting = False
            return
        bells = [bell for bell in (self._bell, self._own_bell) if bell.listening]
        for bell in bells:
            selector.register(bell, selectors.EVENT_READ)
        heard = {key.fileobj for key, _ in selector.select(timeout)}
        self._waiting = False
        for bell in bells:
            selector.unregister(bell)
            if bell in heard and (rung := bell.answer()) is not None:
                self._heard(rung, roomy)
        if self._wake_in in heard:
            self._wake_in.recv(4096)
        self._threads_lane.hasten()

    def _heard(self, bell: str, roomy: set[str]) -> None:
        """A token for a lane that has filled up meanwhile goes back: another worker may have room. The worker's own
        bell asks for a turn, whether it claims or not: somebody cancels, or instructs."""
        step = self._roster.step_of(bell)
        self._called |= step is None
        if step is not None and self._roster.lane(step) not in roomy:
            self._store.connection().call("RPUSH", bell, "1")
        else:
            self._rung = True

    # -- leaving -----------------------------------------------------------------------------------------------------

    def _take_back(self) -> list[Job]:
        return [job for lane in self._lanes for job in lane.take_back()]

    def _leave(self) -> None:
        """Commit what is finished, give back the rest, retire."""
        self._heartbeat.stop()
        try:
            while self._outbox.finished or self._batch:
                self._turn()
            # Before the lanes stop: what that interrupts has not ended, it goes on elsewhere.
            self._store.release(self.consumer, self._holding.groups())
            self._store.retire(self.consumer)
        except StoreError as error:
            log.warning(
                "%s leaves without saying so (%s); its claims go back when the lease ends", self.consumer, error
            )
        self._pulse.stop()
        for lane in self._lanes:
            lane.stop()
        self._bell.forget()
        self._own_bell.forget()
