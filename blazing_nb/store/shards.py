"""An app of several shards: each an app of its own in the store, whole and atomic in itself; here they are one.

A verb on operations goes to the shard of each; one on the app goes to all; what an app has once (steps as they are
read, schedules, channels, shared and stored values, workers as they are listed) is in the first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from blazing_nb.core.dot import OperationId, Range
from blazing_nb.core.shard import MOST, shard_of, shard_of_key
from blazing_nb.core.snapshot import Snapshot, merge_steps
from blazing_nb.errors import BatchExists, NotSharded, UsageError
from blazing_nb.store.reply import StatusRow
from blazing_nb.store.request import Chunk
from blazing_nb.store.store import Store

Answer = TypeVar("Answer")


def open_store(
    app_id: str, url: str, *, shards: int | None = None, timeout_s: float = 5.0, deadline_s: float = 15.0
) -> Store:
    """The store of an app with as many shards as it was created with: `shards`, where that is now; default 1.

    Raises:
        UsageError: `shards` is out of range.
        ShardsFixed: it exists with another number.
    """
    if shards is not None and not 1 <= shards <= MOST:
        raise UsageError(f"shards is 1 to {MOST}, not {shards}.")
    first = Store(app_id, url, timeout_s=timeout_s, deadline_s=deadline_s)
    try:
        count = first.created_with(shards)
    except BaseException:
        first.close()
        raise
    return first if count == 1 else Shards(first, count)


def assume_store(app_id: str, url: str, shards: int, *, timeout_s: float = 5.0, deadline_s: float = 15.0) -> Store:
    """As `open_store`, and asks nobody: the store may be away. `check` says later whether the number is right."""
    first = Store(app_id, url, timeout_s=timeout_s, deadline_s=deadline_s)
    return first if shards == 1 else Shards(first, shards)


class Shards(Store):
    """Several shards as one store. Itself it is the first; `shards` are the single ones."""

    def __init__(self, first: Store, count: int) -> None:
        patience = first.connections.timeout_s, first.connections.deadline_s
        super().__init__(first.keys.app, first.url, timeout_s=patience[0], deadline_s=patience[1])
        first.close()
        self.count = count
        self.shards: list[Store] = [self._one(number) for number in range(count)]

    def _one(self, number: int) -> Store:
        timeout_s, deadline_s = self.connections.timeout_s, self.connections.deadline_s
        store = Store(self.keys.app, self.url, shard=number, timeout_s=timeout_s, deadline_s=deadline_s)
        store.count = self.count
        return store

    def at(self, node: str) -> Store:
        return self.shards[shard_of(node, self.count)]

    def number_of(self, chunk: Chunk) -> int:
        if chunk.key:
            return shard_of_key(chunk.step, chunk.key, self.count)
        return shard_of(chunk.node, self.count)

    def close(self) -> None:
        for shard in self.shards:
            shard.close()
        super().close()

    def check(self, *, allow_eviction: bool = False) -> dict[str, str]:
        self.shards[0].created_with(self.count)
        return [shard.check(allow_eviction=allow_eviction) for shard in reversed(self.shards)][-1]

    def prepare(self, level: str) -> None:
        for shard in self.shards:
            shard.prepare(level)

    # -- the node's side ---------------------------------------------------------------------------------------------

    def open_node(self, node: str, *, now_ms: int | None = None) -> int:
        return self.at(node).open_node(node, now_ms=now_ms)

    def enqueue(self, chunk: Chunk, *, now_ms: int | None = None) -> str:
        home = self.shards[self.number_of(chunk)]
        if chunk.key:
            return home.enqueue(chunk, now_ms=now_ms)
        for join in chunk.joins:
            self._check_near(home, (range_ for group in join.groups for range_ in group.ranges))
        if chunk.batch:
            self._check_batch(home, chunk)
        return home.enqueue(chunk, now_ms=now_ms)

    def _check_near(self, home: Store, ranges: Iterable[Range]) -> None:
        for range_ in ranges:
            if self.at(range_.node) is not home:
                raise NotSharded(
                    f"{range_.at(0).text} is in another shard of {self.keys.app!r}: an operation can wait in the store "
                    "for those of its own node only. Pass its result, or enqueue both under one node_id."
                )

    def _check_batch(self, home: Store, chunk: Chunk) -> None:
        if any(shard.batch(chunk.batch) for shard in self.shards if shard is not home):
            raise BatchExists(
                f"Batch {chunk.batch!r} was begun by a node of another shard: continue it under that node_id, attach "
                "to it, or choose another name.",
                name=chunk.batch,
            )

    def define(
        self,
        step: str,
        digest: bytes,
        record: bytes,
        options: bytes,
        limits: str = "",
        *,
        now_ms: int | None = None,
    ) -> bool:
        if limits:
            raise NotSharded(
                f"max_in_flight and rate of step {step!r} would hold in each of the {self.count} shards by itself: "
                "they need an app of one shard."
            )
        # The first one last: workers read it there, and then it is everywhere.
        news = [shard.define(step, digest, record, options, now_ms=now_ms) for shard in reversed(self.shards)]
        return any(news)

    def join(
        self,
        op: str,
        round_: int,
        at: int,
        groups: Sequence[object],
        members: Sequence[Any],
        *,
        now_ms: int | None = None,
    ) -> int:
        home = self.at(OperationId.parse(op).node)
        self._check_near(home, (_range(row) for row in members))
        return home.join(op, round_, at, groups, members, now_ms=now_ms)

    def status(self, operations: Sequence[OperationId]) -> list[StatusRow]:
        return self._each(operations, lambda shard, part: shard.status(part))

    def cancel(
        self, operations: Sequence[OperationId], *, waiting: bool = False, now_ms: int | None = None
    ) -> list[str]:
        return self._each(operations, lambda shard, part: shard.cancel(part, waiting=waiting, now_ms=now_ms))

    def retry(self, operations: Sequence[OperationId], *, now_ms: int | None = None) -> list[OperationId | None]:
        return self._each(operations, lambda shard, part: shard.retry(part, now_ms=now_ms))

    def forget(self, operations: Sequence[OperationId], batch: str = "", *, now_ms: int | None = None) -> int:
        dropped = 0
        for number, shard in enumerate(self.shards):
            part = [op for op in operations if shard_of(op.node, self.count) == number]
            dropped += shard.forget(part, batch, now_ms=now_ms)
        return dropped

    def _each(
        self, operations: Sequence[OperationId], ask: Callable[[Store, list[OperationId]], Sequence[Answer]]
    ) -> list[Answer]:
        """Ask each shard for its own; the answers in the order of the operations."""
        places: dict[int, list[int]] = {}
        for place, op in enumerate(operations):
            places.setdefault(shard_of(op.node, self.count), []).append(place)
        found: dict[int, Answer] = {}
        for number, own in places.items():
            answers = ask(self.shards[number], [operations[place] for place in own])
            found.update(zip(own, answers, strict=True))
        return [found[place] for place in range(len(operations))]

    def pause(self, step: str, paused: bool, *, now_ms: int | None = None) -> bool:
        changed = [shard.pause(step, paused, now_ms=now_ms) for shard in self.shards]
        return any(changed)

    def drain(self, draining: bool, *, now_ms: int | None = None) -> bool:
        changed = [shard.drain(draining, now_ms=now_ms) for shard in self.shards]
        return any(changed)

    def story(self, op: OperationId) -> dict[str, str]:
        return self.at(op.node).story(op)

    def history(self, operation: str) -> dict[str, bytes]:
        return self.at(OperationId.parse(operation).node).history(operation)

    def batch(self, name: str) -> list[Range]:
        return next(filter(None, (shard.batch(name) for shard in self.shards)), [])

    def position(self, node: str, incarnation: int) -> str:
        return self.at(node).position(node, incarnation)

    # -- the worker's side -------------------------------------------------------------------------------------------

    def report(self, worker: str, progress: Iterable[tuple[str, str, int, str]]) -> None:
        for number, rows in self._by_node(progress, lambda row: row[0].rpartition(":")[2]).items():
            self.shards[number].report(worker, rows)

    def log(self, rows: Sequence[tuple[str, int, int, str, str]]) -> None:
        for number, part in self._by_node(rows, lambda row: OperationId.parse(row[0]).node).items():
            self.shards[number].log(part)

    def _by_node(self, rows: Iterable[Answer], node: Callable[[Answer], str]) -> Mapping[int, list[Answer]]:
        found: dict[int, list[Answer]] = {}
        for row in rows:
            found.setdefault(shard_of(node(row), self.count), []).append(row)
        return found

    def rescue(self, *, now_ms: int | None = None) -> int:
        return sum(shard.rescue(now_ms=now_ms) for shard in self.shards)

    def retire(self, worker: str, *, now_ms: int | None = None) -> bool:
        """By its name in the first shard; in the others it said which that is."""
        for shard in self.shards[1:]:
            for own in shard.homed(worker):
                shard.retire(own, now_ms=now_ms)
        return self.shards[0].retire(worker, now_ms=now_ms)

    # -- the views' side ---------------------------------------------------------------------------------------------

    def snapshot(self, *, now_ms: int | None = None) -> Snapshot:
        found = [shard.snapshot(now_ms=now_ms) for shard in self.shards]
        return Snapshot(
            app=self.keys.app,
            at_ms=max(one.at_ms for one in found),
            segments=list(heapq.merge(*(one.segments for one in found), key=lambda s: (s.step, s.prio, s.node))),
            steps=merge_steps(one.steps for one in found),
            workers=found[0].workers,
            needs=[need for one in found for need in one.needs],
        )

    def memory(self) -> tuple[int, int]:
        """Of the fullest of the servers."""
        return max((shard.memory() for shard in self.shards), key=lambda found: found[0] / (found[1] or 1e300))


def _range(row: Sequence[Any]) -> Range:
    """A member of a join, as it travels."""
    _, segment, incarnation, first, last = row
    step, prio, node = segment.split(":", 2)
    return Range(step, prio, node, int(incarnation), first, last)
