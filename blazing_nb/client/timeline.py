"""Attempts as they lay in time: from outcomes, the stories of those that needed several, and what runs now."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from blazing_nb.client.history import ended_claims
from blazing_nb.core.codec import describe_failure
from blazing_nb.core.dot import OperationId
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.core.status import Status
from blazing_nb.store import query

if TYPE_CHECKING:
    from blazing_nb.store.store import Store

STORIES = 100
"""Operations of several attempts whose earlier ones are asked for, at once."""


class Attempt(NamedTuple):
    """One execution. Moments in server milliseconds; of what still runs, `end_ms` is now and the status RUNNING."""

    operation: str
    step: str
    worker: str
    attempt: int
    status: Status
    begin_ms: float
    end_ms: float
    error: str
    claim: int

    @property
    def key(self) -> tuple[str, int]:
        """Not by attempt: one that its worker's death ended counts for none, so the next has the same number."""
        return self.operation, self.claim


def attempts(store: Store, snapshot: Snapshot, since_ms: int, limit: int, step: str | None = None) -> list[Attempt]:
    """Those that ended since a moment, the newest `limit` of them, and those that run now."""
    names = query.worker_names(store)
    pages = query.finished(store, step=step or "", since_ms=since_ms)
    found: list[Attempt] = []
    several: list[OperationId] = []
    for op, record in islice(chain.from_iterable(pages), limit):
        outcome = decode_outcome(record)
        begin = outcome.claimed_ms + outcome.queued_us / 1000
        end = begin + outcome.run_us / 1000
        if end < since_ms:
            continue
        if outcome.claim > 1 and len(several) < STORIES:
            several.append(op)
        if outcome.run_us + outcome.queued_us:  # else a script ended it: it did not run
            error = "" if outcome.status is Status.SUCCEEDED else describe_failure(outcome.payload)
            worker = names.get(str(outcome.worker), "")
            made = Attempt(op.text, op.step, worker, outcome.attempt, outcome.status, begin, end, error, outcome.claim)
            found.append(made)
    for op in several:
        found += _earlier(store, op, names)
    return found + [one for one in running(snapshot) if step in (None, one.step)]


def _earlier(store: Store, op: OperationId, names: dict[str, str]) -> Iterator[Attempt]:
    """Claims that did not end it: failed attempts, deaths, releases."""
    rows = ended_claims(store.story(op), names)
    for begun, ended in zip(rows[::2], rows[1::2], strict=True):
        status = Status.LOST if ended.event == "rescued" else Status.RETRYING
        lasted = begun.at_ms, ended.at_ms
        yield Attempt(op.text, op.step, ended.worker, ended.attempt, status, *lasted, ended.error, ended.claim)


def running(snapshot: Snapshot) -> Iterator[Attempt]:
    """What runs, as the workers said last."""
    for worker in snapshot.workers:
        for one in worker.bulletin.ongoing:
            begin = snapshot.at_ms - 1000 * one.for_s
            step = one.operation.partition(":")[0]
            error = one.progress[2] if one.progress else ""
            state = worker.worker_id, one.attempt, Status.RUNNING
            yield Attempt(one.operation, step, *state, begin, snapshot.at_ms, error, one.claim)
