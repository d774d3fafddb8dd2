"""Decisions as pure functions: back-off, batch sizes, and the constants of the three budgets."""

from __future__ import annotations

import msgspec

HEARTBEATS_PER_LEASE = 3
DEATHS = 3
ASYNC_SLOTS = 1000
"""Coroutines that one worker runs at once."""
GROWTH = 8
"""Few operations tell little of the next: a batch grows in steps."""


def backoff_ms(attempt: int, base_ms: int, cap_ms: int, random: float) -> int:
    """Exponential with full jitter: uniform in [0, min(cap, base * 2^(attempt - 1))]; `random` is in [0, 1)."""
    return int(random * min(cap_ms, base_ms * 2 ** min(max(0, attempt - 1), 62)))


def next_batch(size: int, took_ms: float, target_ms: float = 5.0, low: int = 1, high: int = 256) -> int:
    """As many as would take the target, at most `GROWTH` times as many as now; half where a batch takes longer.

    Bounded by [low, high].
    """
    wanted = min(GROWTH * size, int(size * target_ms / max(took_ms, 0.001))) if took_ms < target_ms else size // 2
    return max(low, min(high, wanted))


class Policy(msgspec.Struct, frozen=True):
    """What a step does when it fails, and how long its outcomes are kept. Travels with the step's code, signed."""

    retries: int = 0
    base_ms: int = 1000
    cap_ms: int = 60_000
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()
    retention_ms: int = 86_400_000
    timeout_ms: int = 0
    workflow: bool = False

    def wants_retry(self, error: BaseException, attempt: int, retries: int) -> bool:
        """Whether attempt number `attempt`, which ended with `error`, is followed by another."""
        return attempt <= retries and isinstance(error, self.retry_on) and not isinstance(error, self.give_up_on)


class Stage(msgspec.Struct, frozen=True, array_like=True):
    """A later stage of a flow: its step, the code it was enqueued with, and how it is called. Durations from when the
    stage before it is committed; 0: none. `options` are its own `CallOptions`, encoded."""

    step: str
    code: bytes
    prio: str = "n"
    delay_ms: int = 0
    deadline_ms: int = 0
    options: bytes = b""


class CallOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one call decides differently from its step; travels in its envelope. None: as the step says.

    `flow`: the stages that follow it. `traceparent`, `tracestate`: of the span that enqueued it, as W3C says; empty
    where there is none.
    """

    retries: int | None = None
    timeout_ms: int | None = None
    retention_ms: int | None = None
    flow: tuple[Stage, ...] = ()
    traceparent: str = ""
    tracestate: str = ""
