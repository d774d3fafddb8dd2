"""What becomes of an attempt: a result, a failure, another attempt, a wait for others, or it is given back. Pure
but for the log and the jitter."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter_ns
from types import TracebackType

from blazing_nb.core.code import CodeNotHere
from blazing_nb.core.codec import PLAIN, RESULT, encode_failure, prepare, seal
from blazing_nb.core.control import Cancel, Retry
from blazing_nb.core.outcome import encode_body
from blazing_nb.core.policy import backoff_ms
from blazing_nb.core.signature import KeyRing, context
from blazing_nb.errors import (
    DependencyFailed,
    ResultUnavailable,
    StoreError,
    TrustError,
    UnknownStep,
    ValueNotSerializable,
)
from blazing_nb.store.chance import CHANCE
from blazing_nb.store.join import suspend_body
from blazing_nb.worker.execution import Execution
from blazing_nb.worker.gauge import Gauge
from blazing_nb.worker.input import NotYet
from blazing_nb.worker.job import Finished, Job, Next, step_of
from blazing_nb.worker.journal import about
from blazing_nb.worker.replay import Wait
from blazing_nb.worker.stage import calls, next_stage, wait_body

log = logging.getLogger(__name__)
RESULT_LIMIT = 1 << 20
STORY_LIMIT = 500
WORKER = "blazing_nb.worker."


class Endings:
    """Of one executor's attempts.

    Args:
        forget: the attempt runs no more.
        code: the hash of a step's code, for what a workflow calls.
    """

    def __init__(
        self,
        app: str,
        ring: KeyRing,
        gauge: Gauge,
        forget: Callable[[Execution], None],
        code: Callable[[str], bytes],
    ) -> None:
        self._app, self._ring, self._gauge = app, ring, gauge
        self._forget, self._code = forget, code

    def returned(self, execution: Execution, value: object) -> Finished:
        """It came to its end."""
        execution.ended = perf_counter_ns()
        if type(value) is Retry:
            return self.failed(execution, value)
        if type(value) is Wait:
            return self._waits(execution, value)
        try:
            prepared = prepare(value, "the result")
            ctx = b"" if prepared[0] == PLAIN else self._result_context(execution.job)
            payload = seal(prepared, self._ring, ctx)
        except ValueNotSerializable as error:
            return self.failed(execution, ResultUnavailable(f"The step returned, but {error}"))
        if len(payload) > RESULT_LIMIT:
            text = f"The result has {len(payload)} bytes; the limit is {RESULT_LIMIT}."
            return self.failed(execution, ResultUnavailable(text + " Write it to a file, return its name."))
        if not execution.options.flow:
            return self._finished(execution, b"S", payload)
        return self._finished(
            execution, b"S", payload, next_stage(self._app, self._ring, execution.job, execution.options, value)
        )

    def failed(self, execution: Execution, error: BaseException) -> Finished:
        """It raised, or could not begin."""
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
        self._gauge.failed(job.operation, error)
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
        delay_ms = backoff_ms(attempt, policy.base_ms, policy.cap_ms, CHANCE.random())
        if isinstance(error, Retry) and error.after is not None:
            delay_ms = round(error.after * 1000)
        story = f"{type(error).__name__}: {error}".encode(errors="replace")[:STORY_LIMIT]
        self._forget(execution)
        run_us = (execution.ended - execution.started) // 1000
        body = b"R%d;%d;%d;%b" % (delay_ms, execution.job.claimed_ms, run_us, story)
        return Finished(execution.job, body, run_us, retention_ms=execution.retention_ms)

    def _waits(self, execution: Execution, wait: Wait) -> Finished:
        job = execution.job
        try:
            follows = calls(self._app, self._ring, job, execution.options, wait.calls, self._code)
        except UnknownStep as error:
            return self.failed(execution, error)
        self._forget(execution)
        run_us = (execution.ended - execution.started) // 1000
        return Finished(job, wait_body(job, wait), run_us, retention_ms=execution.retention_ms, follows=follows)

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

    def _result_context(self, job: Job) -> bytes:
        return context(self._app, step_of(job), RESULT, job.operation)


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    """The frames of the step, without those of the worker that called it; all of them where there are no others."""
    inner = trace
    while inner is not None and inner.tb_frame.f_globals.get("__name__", "").startswith(WORKER):
        inner = inner.tb_next
    return inner or trace
