"""The process lane: CPU-bound steps in processes of their own, which a time-out or a cancel can end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import msgspec
from pebble import ProcessExpired, ProcessPool

from blazing_nb.errors import AttemptTimeout, ProcessDied, SecretUnsafe, StoreError
from blazing_nb.store.process import is_traced
from blazing_nb.store.secret import load_ring
from blazing_nb.store.shards import open_store
from blazing_nb.store.store import Store
from blazing_nb.worker.code import CodeLoader
from blazing_nb.worker.executor import Executor
from blazing_nb.worker.input import Inputs
from blazing_nb.worker.job import Finished, Job
from blazing_nb.worker.journal import Journal, configured
from blazing_nb.worker.lane import Outbox
from blazing_nb.worker.output import Catcher, catch
from blazing_nb.worker.vault import Vault
from blazing_nb.worker.warmup import warm_up

TEND_S = 0.3
PROGRESS_S = 0.5
STOP_S = 5.0


class ProcessLane:
    """Claims one operation a free process. The processes start with the first operation."""

    name = "process"

    def __init__(
        self,
        executor: Executor,
        outbox: Outbox,
        slots: int,
        app: str,
        url: str,
        consumer: Callable[[Job], str],
        hook: Callable[[], bytes],
    ) -> None:
        self.slots = slots
        self.held = 0
        self._executor = executor
        self._outbox = outbox
        self._setup = (app, url, configured())
        self._consumer = consumer
        self._hook = hook
        self._pool: ProcessPool | None = None
        self._futures: dict[str, Future[Any]] = {}

    @property
    def room(self) -> int:
        return max(0, self.slots - self.held)

    def start(self) -> None:
        """Nothing yet: an app without such steps pays nothing."""

    def put(self, jobs: Iterable[Job]) -> None:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPool(self.slots, initializer=prepare, initargs=self._setup, context=context)
        for job in jobs:
            self.held += 1
            name = self._executor.begin(job)
            timeout_s = self._executor.timeout_s(job)
            future = self._pool.schedule(execute, args=[job, self._consumer(job), self._hook()], timeout=timeout_s)
            self._futures[name] = future
            future.add_done_callback(functools.partial(self._done, job, name))

    def _done(self, job: Job, name: str, future: Future[Any]) -> None:
        """In pebble's thread: hand over what came of it."""
        if self._futures.get(name) is future:
            del self._futures[name]
        self._executor.end(name)
        self._outbox.put(self._outcome(job, future))
        self._outbox.wake()

    def _outcome(self, job: Job, future: Future[Any]) -> Finished:
        try:
            return Finished(job, *future.result())
        except CancelledError:
            return self._executor.fail(job, asyncio.CancelledError("cancelled while it ran"))
        except FutureTimeout:
            return self._executor.fail(job, AttemptTimeout("The attempt took longer than its timeout; it was killed."))
        except ProcessExpired as error:
            return self._executor.fail(job, ProcessDied(_death(error), exitcode=error.exitcode))
        except Exception as error:
            return self._executor.fail(job, error)

    def learn(self, run_us: list[int]) -> None:
        """One a process, however short they are."""

    def take_back(self) -> list[Job]:
        """Everything has begun."""
        return []

    def cancel(self, name: str) -> None:
        """End the process of an operation, if it runs here."""
        future = self._futures.get(name)
        if future is not None:
            future.cancel()

    def abandon(self) -> None:
        """The lease was lost: end everything that runs."""
        for future in list(self._futures.values()):
            future.cancel()

    def stop(self) -> None:
        """End the processes; what ran in them is given back by the worker."""
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join(STOP_S)
            self._pool = None


def _death(error: ProcessExpired) -> str:
    code = error.exitcode
    if code is not None and code < 0:
        return f"The process died by {signal.Signals(-code).name}; a crash in C code, or the system was out of memory."
    return f"The process exited with code {code}."


# -- in the child ----------------------------------------------------------------------------------------------------

_child: dict[str, Any] = {}


def prepare(app: str, url: str, journal: Journal | None = None) -> None:
    """Set up a child: its own connection, keys and log. It ends with its parent; Ctrl-C is the parent's."""
    if journal is not None:
        journal.configure()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    store, ring = open_store(app, url), load_ring(app)
    loader = CodeLoader(app, ring, store.code)
    _child.update(store=store, ring=ring, loader=loader, hook=b"")
    _child["executor"] = Executor(app, ring, loader, Vault(app, ring, store), Inputs(app, ring, store))
    _child["executor"].shards = store.count
    _child["catcher"] = Catcher()
    catch(_child["catcher"])
    threading.Thread(target=_tend, args=(os.getppid(),), daemon=True).start()


def _tend(parent: int) -> None:
    """Pass on what is printed; end with the parent."""
    while os.getppid() == parent:
        time.sleep(TEND_S)
        with contextlib.suppress(StoreError, SecretUnsafe):  # told again in a moment
            _child["ring"].refresh()
            _tell()
    os._exit(1)


def _tell() -> None:
    _child["catcher"].tell(_child["store"].log)


def execute(job: Job, consumer: str, hook: bytes) -> tuple[Any, ...]:
    """Execute in a child; what `Finished` needs beside the job. `hook`: what has to have run here before; where it
    fails, so does the attempt."""
    executor: Executor = _child["executor"]
    executor.report = _reporter(job, consumer)
    executor.traced = is_traced()
    try:
        if hook != _child["hook"]:
            warm_up(_child["loader"], hook)
            _child["hook"] = hook
        finished = executor.run(job)
    except Exception as error:
        finished = executor.fail(job, error)
    with contextlib.suppress(StoreError):  # the outcome counts more than what was printed
        _tell()
    assert finished is not None  # noqa: S101 - nobody asks for overruns here
    return msgspec.structs.astuple(finished)[1:]


def _reporter(job: Job, consumer: str) -> Any:
    """Progress goes straight to the store from here, at most twice a second."""
    store: Store = _child["store"]
    told = 0.0

    def report(text: str) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= PROGRESS_S:
            told = now
            store.report(consumer, [(job.claim.segment, job.id, job.claim.claims, text)])

    return report
