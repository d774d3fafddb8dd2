"""What passes between the turn loop, the lanes and the executor."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from blazing_nb.core.effect import Effect
from blazing_nb.store.reply import Claim


class Job(msgspec.Struct, frozen=True, gc=False):
    """One claimed operation. `entry`: [id, [b"p", envelope, b"t", enqueued ms]]; `id` is its dot as text.

    `term` counts the worker's registrations (an outcome of an earlier one is dropped); `lane` is the lane's index;
    `worker` the incarnation that claimed it.
    """

    term: int
    lane: int
    worker: int
    claim: Claim
    id: str
    operation: str
    entry: list[Any]
    claimed_ms: int
    claimed_ns: int

    @property
    def attempt(self) -> int:
        """From 1; deaths and releases do not count."""
        return self.claim.claims - self.claim.spent


class Next(NamedTuple):
    """What a commit enqueues: the next stage of a flow. `left`: stages, with it; `root`: the flow's first operation."""

    step: str
    prio: str
    payload: bytes
    left: int
    root: str
    delay_ms: int
    deadline_ms: int


class Finished(msgspec.Struct, frozen=True, gc=False):
    """An executed operation. `body` starts with the status letter; empty means: give it back."""

    job: Job
    body: bytes
    run_us: int
    note: str = ""
    retention_ms: int = 86_400_000
    python: str = ""
    """Where it is given back: the only Python that can load it."""
    follows: tuple[Next, ...] = ()
    effects: tuple[Effect, ...] = ()


def step_of(job: Job) -> str:
    """The step that it is an operation of."""
    return job.claim.segment.partition(":")[0]
