"""Executes one operation: decodes, calls, encodes. Nothing here touches the store but to fetch code once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from blazing_nb.core.codec import PLAIN, RESULT, code_of, encode_failure, prepare, seal, unseal_call
from blazing_nb.core.outcome import encode_body
from blazing_nb.core.signature import KeyRing, context
from blazing_nb.errors import CodeRefused, ResultUnavailable, TrustError, ValueNotSerializable
from blazing_nb.worker.code import CodeLoader, CodeNotHere
from blazing_nb.worker.job import Finished, Job

log = logging.getLogger(__name__)
RESULT_LIMIT = 1 << 20
RELEASES_BEFORE_FAILURE = 5

Call = tuple[Callable[..., Any], list[Any], dict[str, Any]]


class Executor:
    """Runs jobs of one app; safe to use from many threads."""

    def __init__(self, app: str, ring: KeyRing, loader: CodeLoader) -> None:
        self._app = app
        self._ring = ring
        self._loader = loader

    def run(self, job: Job) -> Finished:
        """Execute a plain function's operation."""
        started = perf_counter_ns()
        try:
            function, args, kwargs = self._open(job)
            value = function(*args, **kwargs)
        except BaseException as error:
            return self._failed(job, error, started)
        return self._succeeded(job, value, started)

    async def run_async(self, job: Job) -> Finished:
        """Execute a coroutine function's operation."""
        started = perf_counter_ns()
        try:
            function, args, kwargs = self._open(job)
            value = await function(*args, **kwargs)
        except BaseException as error:
            return self._failed(job, error, started)
        return self._succeeded(job, value, started)

    def is_async(self, job: Job) -> bool:
        """Whether the job's own code is a coroutine function; False where it cannot be loaded."""
        try:
            return self._loader.load(_step(job), code_of(job.entry[1][1])).is_async
        except Exception:
            log.debug("code of %s", job.claim.segment, exc_info=True)
            return False

    def _open(self, job: Job) -> Call:
        envelope = job.entry[1][1]
        digest = code_of(envelope)
        code = self._loader.load(_step(job), digest)
        ctx = b"" if envelope[0] == PLAIN else self._context(job, digest)
        args, kwargs = unseal_call(envelope, self._ring, ctx)
        return code.function, args, kwargs

    def _context(self, job: Job, code: bytes) -> bytes:
        return context(self._app, _step(job), code, f"{job.claim.segment}:{job.entry[0].decode()}")

    def _succeeded(self, job: Job, value: object, started: int) -> Finished:
        ended = perf_counter_ns()
        try:
            prepared = prepare(value, "the result")
            if prepared[0] == PLAIN:
                payload = seal(prepared, self._ring, b"")
            else:
                payload = seal(prepared, self._ring, self._context(job, RESULT))
        except ValueNotSerializable as error:
            return self._failed(job, ResultUnavailable(f"The step returned, but {error}"), started)
        if len(payload) > RESULT_LIMIT:
            text = f"The result has {len(payload)} bytes; the limit is {RESULT_LIMIT}."
            return self._failed(job, ResultUnavailable(text + " Write it to a file, return its name."), started)
        return _finished(job, b"S", payload, started, ended)

    def _failed(self, job: Job, error: BaseException, started: int) -> Finished:
        if isinstance(error, CodeNotHere):
            if job.claim.spent < RELEASES_BEFORE_FAILURE:
                return Finished(job, b"", 0, str(error))
            error = CodeRefused(f"No worker could load the step after {job.claim.spent} tries: {error}")
        if isinstance(error, TrustError):
            log.error("refused %s:%s: %s", job.claim.segment, job.entry[0].decode(), error)
        ended = perf_counter_ns()
        payload = encode_failure(error, self._ring, self._context(job, RESULT))
        return _finished(job, b"F", payload, started, ended)


def _step(job: Job) -> str:
    return job.claim.segment.partition(":")[0]


def _finished(job: Job, letter: bytes, payload: bytes, started: int, ended: int) -> Finished:
    claim = job.claim
    run_us = (ended - started) // 1000
    queued_us = (started - job.claimed_ns) // 1000
    attempt = claim.claims - claim.spent
    body = encode_body(int(job.entry[1][3]), job.claimed_ms, queued_us, run_us, attempt, payload)
    return Finished(job, letter + body, run_us)
