"""What a worker holds: claimed operations until their commit, and the grouping of finished ones into a commit."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable

from blazing_nb.core.codec import code_of
from blazing_nb.core.effect import Effect
from blazing_nb.store.request import Follow, Group
from blazing_nb.store.store import Store
from blazing_nb.worker.job import Finished, Job, Next, step_of
from blazing_nb.worker.journal import about

log = logging.getLogger(__name__)
COMMIT_LIMIT = 256
RELEASE_BASE_MS, RELEASE_CAP_MS = 1000, 60_000
REASON_LIMIT = 300


class Batch:
    """One commit: its rows, grouped by segment and sorted by id; and what is to be given back instead."""

    def __init__(self, rows: list[Finished], dropped: list[Finished], held: int) -> None:
        self.rows = rows
        self.dropped = dropped
        self.groups: list[Group] = []
        self.bodies: list[bytes] = []
        self.payloads: list[bytes] = []
        self.effects: dict[str, tuple[Effect, ...]] = {}
        self._returned: list[Finished] = []
        by_segment: dict[str, list[Finished]] = {}
        for row in rows:
            if row.body:
                by_segment.setdefault(row.job.claim.segment, []).append(row)
            else:
                self._returned.append(row)
        for segment, members in by_segment.items():
            self.groups.append(_group(segment, members, held, self.payloads))
            self.bodies += [row.body for row in members]
            self.effects |= {row.job.operation: row.effects for row in members if row.effects}
        self.run_us: dict[int, list[int]] = {}
        """How long each operation took, by lane."""
        for row in (*rows, *dropped):
            self.run_us.setdefault(row.job.lane, []).append(row.run_us)

    def __bool__(self) -> bool:
        return bool(self.rows)

    def tell(self, executed: Callable[[str, bytes], None]) -> None:
        """Say of each operation that was executed its step and the hash of its code."""
        for job in (row.job for row in self.rows if row.body):
            executed(step_of(job), code_of(job.entry[1][1]))

    def release(self, store: Store, consumer: str, refuse: Callable[[str, bytes, str], bool]) -> None:
        """Give back what this worker cannot load.

        What another Python can load goes to workers of that, at once. What this worker will not claim again for a
        while (`refuse` says so) is due at once; the rest waits longer each time.
        """
        ways: dict[tuple[str, str, int], list[Job]] = {}
        for row in self._returned:
            job, delay_ms = row.job, 0
            if not row.python and not refuse(step_of(job), code_of(job.entry[1][1]), row.note):
                delay_ms = min(RELEASE_CAP_MS, RELEASE_BASE_MS << min(job.claim.spent, 6))
            ways.setdefault((row.note, row.python, delay_ms), []).append(job)
        for (note, python, delay_ms), jobs in ways.items():
            log.warning("%d operations given back: %s", len(jobs), note)
            groups = _release_groups(jobs)
            store.release(consumer, groups, delay_ms=delay_ms, need=python, reason=note[:REASON_LIMIT])


class Holding:
    """Claimed operations by id. Written by the turn loop only; other threads may read its length."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def has(self, job: Job) -> bool:
        return self._jobs.get(job.operation) is job

    def keys(self) -> list[str]:
        return list(self._jobs)

    def clear(self) -> None:
        """Forget all: the lease was lost. The lanes still hold them; their outcomes are dropped when they come."""
        self._jobs.clear()

    def add(self, jobs: list[Job]) -> None:
        self._jobs.update((job.operation, job) for job in jobs)

    def take(self, finished: deque[Finished], term: int) -> Batch:
        """Up to one commit's worth of outcomes; those of an earlier term are set apart as `dropped`."""
        rows: list[Finished] = []
        dropped: list[Finished] = []
        while finished and len(rows) < COMMIT_LIMIT:
            row = finished.popleft()
            (rows if row.job.term == term else dropped).append(row)
        for row in dropped:
            with about(row.job.operation, row.job.attempt):
                log.warning("fenced: %s was lost with the lease; this outcome is dropped", row.job.operation)
        return Batch(rows, dropped, len(self._jobs))

    def drop(self, rows: Iterable[Finished]) -> None:
        """These are settled: committed, refused or given back."""
        for row in rows:
            self._jobs.pop(row.job.operation, None)

    def give_back(self, store: Store, consumer: str, jobs: list[Job], reason: str) -> None:
        """These go back to the queue, due now. Where the store does not answer they are still held."""
        store.release(consumer, _release_groups(jobs), reason=reason)
        for job in jobs:
            self._jobs.pop(job.operation, None)

    def groups(self) -> list[tuple[str, list[str], list[int]]]:
        """Everything held, as `release` wants it."""
        return _release_groups(self._jobs.values())


def _group(segment: str, rows: list[Finished], held: int, payloads: list[bytes]) -> Group:
    """Rows in ascending order; what follows them is appended to `payloads`."""
    rows.sort(key=lambda row: (len(row.job.entry[0]), row.job.entry[0]))
    return Group(
        segment=segment,
        held=held,
        retention_ms=max(row.retention_ms for row in rows),
        ids=[row.job.id for row in rows],
        claims=[row.job.claim.claims for row in rows],
        run_us=[row.run_us for row in rows],
        enqueued_ms=[int(row.job.entry[1][3]) for row in rows],
        follows=[_follow(i, next_, payloads) for i, row in enumerate(rows, 1) for next_ in row.follows],
    )


def _follow(index: int, next_: Next, payloads: list[bytes]) -> Follow:
    payloads.append(next_.payload)
    step, prio, _, left, root, delay_ms, deadline_ms = next_
    return Follow(index, len(payloads), step, prio, left, root, delay_ms, deadline_ms)


def _release_groups(jobs: Iterable[Job]) -> list[tuple[str, list[str], list[int]]]:
    groups: dict[str, tuple[str, list[str], list[int]]] = {}
    for job in jobs:
        _, ids, claims = groups.setdefault(job.claim.segment, (job.claim.segment, [], []))
        ids.append(job.id)
        claims.append(job.claim.claims)
    return list(groups.values())
