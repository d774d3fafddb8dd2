"""One attempt on its way through the executor: what was loaded for it, and the rules that it runs under."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any

from blazing_nb.core.dependency import Dependency
from blazing_nb.core.policy import CallOptions, Policy
from blazing_nb.worker.code import Code
from blazing_nb.worker.current import Running
from blazing_nb.worker.job import Job

_NO_OPTIONS = CallOptions()


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
