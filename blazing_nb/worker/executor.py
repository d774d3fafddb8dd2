"""Executes one operation: decodes and calls; `worker/ending` says what becomes of it. Nothing here touches the store
but to fetch code once."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable, Mapping
from time import monotonic, perf_counter_ns
from typing import Any

import msgspec

from blazing_nb.core.code import CodeNotHere
from blazing_nb.core.codec import OPTIONS, SIGNED, code_of, options_of, origin_of, unseal_call
from blazing_nb.core.control import Cancel
from blazing_nb.core.dependency import found
from blazing_nb.core.policy import CallOptions
from blazing_nb.core.reference import resolver
from blazing_nb.core.result import value_of
from blazing_nb.core.signature import KeyRing, context
from blazing_nb.errors import AttemptTimeout, TrustError, UnknownStep
from blazing_nb.store.process import is_traced
from blazing_nb.worker.code import CodeLoader
from blazing_nb.worker.current import Running, running
from blazing_nb.worker.ending import Endings
from blazing_nb.worker.execution import Execution
from blazing_nb.worker.gauge import Gauge
from blazing_nb.worker.input import Inputs
from blazing_nb.worker.job import Finished, Job, step_of
from blazing_nb.worker.replay import History, WorkflowRun
from blazing_nb.worker.trace import processing
from blazing_nb.worker.vault import Vault

_options = msgspec.msgpack.Decoder(CallOptions).decode


class Executor:
    """Runs jobs of one app; safe to use from many threads."""

    def __init__(self, app: str, ring: KeyRing, loader: CodeLoader, vault: Vault, inputs: Inputs) -> None:
        self._app = app
        self._ring = ring
        self._loader = loader
        self._vault = vault
        self._keep = vault.put
        self._inputs = inputs
        self.shards = 1
        """How many the app has: what a commit shall do elsewhere too needs one."""
        self.gauge = Gauge()
        self._endings = Endings(app, ring, self.gauge, self._forget, lambda step: self.code(step))
        self.active: dict[str, Running] = {}
        """Operations that run now, by id: a request to cancel finds them here."""
        self._asked: set[str] = set()
        self._timed: dict[int, Execution] = {}
        self.on_timed: Callable[[], None] = lambda: None
        self.history: Callable[[str], Mapping[str, bytes]] = lambda operation: {}
        """What a workflow was told, by its operation."""
        self.code: Callable[[str], bytes] = _unknown
        """The hash of a step's code."""
        self._loads = 0
        self.traced = False
        """Whether attempts get a span: asked with each claim, and with each code that is loaded."""
        self.report: Callable[[str], None] | None = None
        """Where progress goes at once; None: it waits for the heartbeat."""

    def run(self, job: Job) -> Finished | None:
        """Execute a plain function's operation; None where it overran meanwhile, which was told already."""
        execution = Execution(job)
        value, failure = None, None
        try:
            self._open(execution)
            if execution.waits_for:
                self._fill(execution)
            args, kwargs = execution.arguments
            if execution.timeout_s is not None:
                execution.ends = monotonic() + execution.timeout_s
                self._timed[id(execution)] = execution
                self.on_timed()
            assert execution.code is not None  # noqa: S101 - _open has set it
            replay = execution.code.policy.workflow
            with processing(execution.running, execution.options, self.traced):
                value = self._replay(execution, args, kwargs) if replay else execution.code.function(*args, **kwargs)
        except BaseException as error:
            failure = error
        running.set(None)
        # Whoever takes it out of the register owns the outcome.
        if execution.ends and self._timed.pop(id(execution), None) is None:
            return None
        return self._endings.returned(execution, value) if failure is None else self._endings.failed(execution, failure)

    async def run_async(self, job: Job) -> Finished:
        """Execute a coroutine function's operation."""
        execution, limit = Execution(job), None
        try:
            self._open(execution)
            if execution.waits_for:
                await asyncio.to_thread(self._fill, execution)
            args, kwargs = execution.arguments
            assert execution.code is not None  # noqa: S101 - _open has set it
            async with asyncio.timeout(execution.timeout_s) as limit:
                with processing(execution.running, execution.options, self.traced):
                    value = await execution.code.function(*args, **kwargs)
        except TimeoutError as error:
            late = limit is not None and limit.expired()
            return self._endings.failed(execution, _overran(execution.timeout_s) if late else error)
        except BaseException as error:
            return self._endings.failed(execution, error)
        return self._endings.returned(execution, value)

    # -- what executes elsewhere, or too long

    def begin(self, job: Job) -> str:
        """An operation runs in another process: its id."""
        operation = job.operation
        self.active[operation] = Running(self._app, operation, job.attempt, "", None, job.claim.claims)
        return operation

    def end(self, operation: str) -> None:
        """It ended there."""
        self.active.pop(operation, None)
        self._asked.discard(operation)

    def timeout_s(self, job: Job) -> float | None:
        """How long the attempt may take, as far as it can be known here."""
        execution = Execution(job)
        try:
            self._load(execution)
        except (TrustError, CodeNotHere):
            return None  # the other process finds the same, and says so
        return execution.timeout_s

    def fail(self, job: Job, error: BaseException) -> Finished:
        """What becomes of an attempt that ended with `error` outside of this process."""
        execution = Execution(job)
        try:
            self._load(execution)
        except (TrustError, CodeNotHere) as refused:
            error = refused
        return self._endings.failed(execution, error)

    def overrun(self) -> list[Finished]:
        """Attempts on threads that took too long: they have failed now, whatever the thread still does."""
        now, ended = monotonic(), []
        for execution in [e for e in list(self._timed.values()) if e.ends <= now]:
            if self._timed.pop(id(execution), None) is not None and execution.running is not None:
                execution.running.cancel()
                ended.append(self._endings.failed(execution, _overran(execution.timeout_s)))
        return ended

    @property
    def next_overrun(self) -> float:
        """The monotonic moment of the next one; infinity where none is timed."""
        return min((execution.ends for execution in list(self._timed.values())), default=math.inf)

    # -- asked from outside

    def abandon(self) -> None:
        """The lease was lost: what runs is fenced, and told to stop."""
        for execution in list(self.active.values()):
            execution.cancel()
        self._asked.clear()

    def running(self) -> str:
        """What runs now, for the status RUNNING."""
        return " ".join(list(self.active))

    def progress(self) -> list[tuple[str, str, int, str]]:
        """What running operations reported since this was asked last: (segment, id, claim number, text)."""
        rows = []
        for operation, execution in list(self.active.items()):
            news = execution.news()
            if news is not None:
                segment, _, entry = operation.rpartition(":")
                rows.append((segment, entry, execution.claim, news))
        return rows

    def cancel(self, operation: str) -> None:
        """Somebody asked to cancel it. It is told where it runs; where it has not begun, it will not."""
        # In this order, and the other way round in _open: one of the two sees the other.
        self._asked.add(operation)
        found = self.active.get(operation)
        if found is not None:
            found.cancel()

    def _open(self, execution: Execution) -> None:
        """Decode the arguments; `waits_for` says what is still to be read of them."""
        digest = self._load(execution)
        self._announce(execution)
        self._decode(execution, digest)
        execution.started = perf_counter_ns()

    def _announce(self, execution: Execution) -> None:
        """From now on it runs: `current()` knows it here, and who cancels finds it."""
        job, operation, claim = execution.job, execution.job.operation, execution.job.claim.claims
        token = f"{claim:08d}-{job.worker}"
        ring = self._ring if self.shards == 1 else None  # of several, a commit could not reach the one that has it
        execution.running = Running(
            self._app, operation, job.attempt, token, execution.timeout_s, claim, self.report, self._keep, ring
        )
        running.set(execution.running)
        self.active[operation] = execution.running
        if self._asked and operation in self._asked:
            execution.running.cancel()
            raise Cancel("cancelled before it began")

    def _decode(self, execution: Execution, digest: bytes) -> None:
        job = execution.job
        envelope = job.entry[1][1]
        if not envelope[0] & SIGNED:
            execution.arguments = unseal_call(envelope, self._ring, b"")
            return
        ctx = context(self._app, step_of(job), digest, origin_of(job.operation, job.entry[1]))
        token, notes = resolver.set(self._vault.resolve), found.set(execution.waits_for)
        try:
            execution.arguments = unseal_call(envelope, self._ring, ctx)
        finally:
            found.reset(notes)
            resolver.reset(token)

    def _fill(self, execution: Execution) -> None:
        """Put the results that it waited for in their places."""
        job, token = execution.job, resolver.set(self._vault.resolve)
        args, kwargs = execution.arguments
        try:
            filled = self._inputs.fill([args, kwargs], execution.waits_for, job.operation, job.claim.claims)
        finally:
            resolver.reset(token)
        execution.arguments = filled[0], filled[1]
        execution.started = perf_counter_ns()

    def _load(self, execution: Execution) -> bytes:
        """The code's hash, its function and the call's own options."""
        envelope = execution.job.entry[1][1]
        digest = code_of(envelope)
        execution.code = self._loader.load(step_of(execution.job), digest)
        if self._loads != self._loader.loads:
            self._loads, self.traced = self._loader.loads, is_traced()
        if envelope[0] & OPTIONS:
            execution.options = _options(options_of(envelope))
        return digest

    def _replay(self, execution: Execution, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run a workflow over its history: its value, or where it waits."""
        job = execution.job
        assert execution.code is not None  # noqa: S101 - _open has set it
        history = History(self.history(job.operation) if job.claim.claims > 1 else {})
        run = WorkflowRun(self._app, history, job.claimed_ms, functools.partial(value_of, self._app, self._ring))
        return run.run(execution.code.function, args, kwargs)

    def _forget(self, execution: Execution) -> None:
        mine = execution.running
        # After a lost lease this worker may execute the same operation anew, beside the attempt that was fenced.
        if mine is not None and self.active.get(mine.operation) is mine:
            del self.active[mine.operation]
            self._asked.discard(mine.operation)


def _unknown(step: str) -> bytes:
    raise UnknownStep(f"Step {step!r} is not known here: no step of that name was enqueued or defined.", step=step)


def _overran(timeout_s: float | None) -> AttemptTimeout:
    return AttemptTimeout(f"The attempt took longer than its timeout of {timeout_s:g} s.", timeout=timeout_s)
