"""Executes one operation: decodes, calls, encodes. Nothing here touches the store but to fetch code once."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import random
from collections.abc import Callable, Mapping
from time import monotonic, perf_counter_ns
from types import TracebackType
from typing import Any

import msgspec

from blazing_nb.core.code import CodeNotHere
from blazing_nb.core.codec import (
    OPTIONS,
    PLAIN,
    RESULT,
    SIGNED,
    code_of,
    encode_failure,
    options_of,
    origin_of,
    prepare,
    seal,
    unseal_call,
)
from blazing_nb.core.control import Cancel, Retry
from blazing_nb.core.dependency import Dependency, found
from blazing_nb.core.outcome import encode_body
from blazing_nb.core.policy import CallOptions, Policy, backoff_ms
from blazing_nb.core.reference import resolver
from blazing_nb.core.result import value_of
from blazing_nb.core.signature import KeyRing, context
from blazing_nb.errors import (
    AttemptTimeout,
    DependencyFailed,
    ResultUnavailable,
    StoreError,
    TrustError,
    UnknownStep,
    ValueNotSerializable,
)
from blazing_nb.store.join import suspend_body
from blazing_nb.store.process import is_traced
from blazing_nb.worker.code import Code, CodeLoader
from blazing_nb.worker.current import Running, running
from blazing_nb.worker.gauge import Gauge
from blazing_nb.worker.input import Inputs, NotYet
from blazing_nb.worker.job import Finished, Job, Next
from blazing_nb.worker.journal import about
from blazing_nb.worker.replay import History, Wait, WorkflowRun
from blazing_nb.worker.stage import calls, next_stage, wait_body
from blazing_nb.worker.trace import processing
from blazing_nb.worker.vault import Vault

log = logging.getLogger(__name__)
RESULT_LIMIT = 1 << 20
STORY_LIMIT = 500
WORKER = "blazing_nb.worker."
_NO_OPTIONS = CallOptions()
_options = msgspec.msgpack.Decoder(CallOptions).decode


class Execution:
    """One attempt: what was loaded for it and what it may ask about itself."""

    __slots__ = ("arguments", "code", "ended", "ends", "job", "options", "running", "started", "waits_for")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.code: Code | None = None
        self.options = _NO_OPTIONS
        self.running: Running | None = None
        self.started = perf_counter_ns()
        self.ended = 0
        self.ends = 0.0
        self.arguments: tuple[list[Any], dict[str, Any]] = ([], {})
        self.waits_for: list[Dependency] = []

    @property
    def timeout_s(self) -> float | None:
        ms = self.policy.timeout_ms if self.options.timeout_ms is None else self.options.timeout_ms
        return ms / 1000 if ms else None

    @property
    def policy(self) -> Policy:
        return self.code.policy if self.code else Policy()

    @property
    def retries(self) -> int:
        return self.policy.retries if self.options.retries is None else self.options.retries

    @property
    def retention_ms(self) -> int:
        return self.options.retention_ms or self.policy.retention_ms


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
        return self._returned(execution, value) if failure is None else self._failed(execution, failure)

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
            return self._failed(execution, _overran(execution.timeout_s) if late else error)
        except BaseException as error:
            return self._failed(execution, error)
        return self._returned(execution, value)

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
        return self._failed(execution, error)

    def overrun(self) -> list[Finished]:
        """Attempts on threads that took too long: they have failed now, whatever the thread still does."""
        now, ended = monotonic(), []
        for execution in [e for e in list(self._timed.values()) if e.ends <= now]:
            if self._timed.pop(id(execution), None) is not None and execution.running is not None:
                execution.running.cancel()
                ended.append(self._failed(execution, _overran(execution.timeout_s)))
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
        job = execution.job
        envelope = job.entry[1][1]
        digest = self._load(execution)
        operation = job.operation
        claim = job.claim.claims
        token = f"{claim:08d}-{job.worker}"
        attempt = claim - job.claim.spent
        ring = self._ring if self.shards == 1 else None  # of several, a commit could not reach the one that has it
        execution.running = Running(
            self._app, operation, attempt, token, execution.timeout_s, claim, self.report, self._keep, ring
        )
        running.set(execution.running)
        self.active[operation] = execution.running
        if self._asked and operation in self._asked:
            execution.running.cancel()
            raise Cancel("cancelled before it began")
        ctx = (
            context(self._app, _step(job), digest, origin_of(operation, job.entry[1])) if envelope[0] & SIGNED else b""
        )
        if not ctx:
            execution.arguments = unseal_call(envelope, self._ring, ctx)
        else:
            token_, notes = resolver.set(self._vault.resolve), found.set(execution.waits_for)
            try:
                execution.arguments = unseal_call(envelope, self._ring, ctx)
            finally:
                found.reset(notes)
                resolver.reset(token_)
        execution.started = perf_counter_ns()

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
        execution.code = self._loader.load(_step(execution.job), digest)
        if self._loads != self._loader.loads:
            self._loads, self.traced = self._loader.loads, is_traced()
        if envelope[0] & OPTIONS:
            execution.options = _options(options_of(envelope))
        return digest

    def _returned(self, execution: Execution, value: object) -> Finished:
        execution.ended = perf_counter_ns()
        if type(value) is Retry:
            return self._failed(execution, value)
        if type(value) is Wait:
            return self._waits(execution, value)
        try:
            prepared = prepare(value, "the result")
            ctx = b"" if prepared[0] == PLAIN else self._result_context(execution.job)
            payload = seal(prepared, self._ring, ctx)
        except ValueNotSerializable as error:
            return self._failed(execution, ResultUnavailable(f"The step returned, but {error}"))
        if len(payload) > RESULT_LIMIT:
            text = f"The result has {len(payload)} bytes; the limit is {RESULT_LIMIT}."
            return self._failed(execution, ResultUnavailable(text + " Write it to a file, return its name."))
        if not execution.options.flow:
            return self._finished(execution, b"S", payload)
        return self._finished(execution, b"S", payload, self._next(execution, value))

    def _failed(self, execution: Execution, error: BaseException) -> Finished:
        job = execution.job
        execution.ended = execution.ended or perf_counter_ns()
        if isinstance(error, CodeNotHere):
            return Finished(job, b"", 0, str(error), python=error.python)
        if isinstance(error, StoreError) and execution.policy.workflow:
            self._forget(execution)
            return Finished(job, b"", 0, f"its history could not be read: {error}")
        if isinstance(error, NotYet):
            self._forget(execution)
            return Finished(job, suspend_body(error.join, job.claimed_ms), 0, retention_ms=execution.retention_ms)
        if isinstance(error, TrustError):
            with about(job.operation, job.attempt):
                log.error("refused %s: %s", job.operation, error)
            return self._ended(execution, error)
        self.gauge.failed(job.operation, error)
        with about(job.operation, job.attempt):
            log.debug("attempt %d of %s failed", job.attempt, job.operation, exc_info=error)
        return self._again(execution, error) if self._wants_retry(execution, error) else self._ended(execution, error)

    def _ended(self, execution: Execution, error: BaseException) -> Finished:
        asked = isinstance(error, Cancel | asyncio.CancelledError)
        error.__traceback__ = _theirs(error.__traceback__)
        payload = encode_failure(error, self._ring, self._result_context(execution.job))
        return self._finished(execution, b"C" if asked else b"F", payload)

    def _wants_retry(self, execution: Execution, error: BaseException) -> bool:
        if isinstance(error, Cancel | asyncio.CancelledError | ResultUnavailable | DependencyFailed):
            return False
        attempt = execution.job.attempt
        if isinstance(error, Retry):
            return attempt <= execution.retries
        return execution.policy.wants_retry(error, attempt, execution.retries)

    def _again(self, execution: Execution, error: BaseException) -> Finished:
        policy, claim = execution.policy, execution.job.claim
        attempt = claim.claims - claim.spent
        delay_ms = backoff_ms(attempt, policy.base_ms, policy.cap_ms, random.random())  # noqa: S311 - jitter
        if isinstance(error, Retry) and error.after is not None:
            delay_ms = round(error.after * 1000)
        story = f"{type(error).__name__}: {error}".encode(errors="replace")[:STORY_LIMIT]
        self._forget(execution)
        run_us = (execution.ended - execution.started) // 1000
        body = b"R%d;%d;%d;%b" % (delay_ms, execution.job.claimed_ms, run_us, story)
        return Finished(execution.job, body, run_us, retention_ms=execution.retention_ms)

    def _result_context(self, job: Job) -> bytes:
        return context(self._app, _step(job), RESULT, job.operation)

    def _replay(self, execution: Execution, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run a workflow over its history: its value, or where it waits."""
        job = execution.job
        assert execution.code is not None  # noqa: S101 - _open has set it
        history = History(self.history(job.operation) if job.claim.claims > 1 else {})
        run = WorkflowRun(self._app, history, job.claimed_ms, functools.partial(value_of, self._app, self._ring))
        return run.run(execution.code.function, args, kwargs)

    def _waits(self, execution: Execution, wait: Wait) -> Finished:
        job = execution.job
        try:
            follows = calls(self._app, self._ring, job, execution.options, wait.calls, self.code)
        except UnknownStep as error:
            return self._failed(execution, error)
        self._forget(execution)
        run_us = (execution.ended - execution.started) // 1000
        return Finished(job, wait_body(job, wait), run_us, retention_ms=execution.retention_ms, follows=follows)

    def _next(self, execution: Execution, value: object) -> Next:
        return next_stage(self._app, self._ring, execution.job, execution.options, value)

    def _finished(self, execution: Execution, letter: bytes, payload: bytes, next_: Next | None = None) -> Finished:
        job, claim = execution.job, execution.job.claim
        self._forget(execution)
        run_us = (execution.ended - execution.started) // 1000
        queued_us = (execution.started - job.claimed_ns) // 1000
        attempt = claim.claims - claim.spent
        enqueued_ms = int(job.entry[1][3])
        body = encode_body(enqueued_ms, job.claimed_ms, queued_us, run_us, attempt, payload, open_=next_ is not None)
        follows = () if next_ is None else (next_,)
        effects = execution.running.effects() if letter == b"S" and execution.running else ()
        return Finished(
            job, letter + body, run_us, retention_ms=execution.retention_ms, follows=follows, effects=effects
        )

    def _forget(self, execution: Execution) -> None:
        mine = execution.running
        # After a lost lease this worker may execute the same operation anew, beside the attempt that was fenced.
        if mine is not None and self.active.get(mine.operation) is mine:
            del self.active[mine.operation]
            self._asked.discard(mine.operation)


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    """The frames of the step, without those of the worker that called it; all of them where there are no others."""
    inner = trace
    while inner is not None and inner.tb_frame.f_globals.get("__name__", "").startswith(WORKER):
        inner = inner.tb_next
    return inner or trace


def _unknown(step: str) -> bytes:
    raise UnknownStep(f"Step {step!r} is not known here: no step of that name was enqueued or defined.", step=step)


def _overran(timeout_s: float | None) -> AttemptTimeout:
    return AttemptTimeout(f"The attempt took longer than its timeout of {timeout_s:g} s.", timeout=timeout_s)


def _step(job: Job) -> str:
    return job.claim.segment.partition(":")[0]
