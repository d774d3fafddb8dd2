"""Joins in the soak: now and then a node enqueues an operation that awaits the last hundred of its batch, once however
often the node is started; in the end each has their sum, or failed with one that was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from blazing_nb import Batch, Blazing
from blazing_nb.core.dot import Range
from blazing_nb.errors import BatchUnknown, BlazingError, DependencyFailed, OperationLost
from tests.fault.work import total

MEMBERS = 100
"""As many as travel with the enqueue: so the witness sees all of them."""
JOINS = 50
"""Of one node, at most."""
EVERY = 200


def every(ops: int) -> int:
    """After so many operations of a node comes the next join."""
    return max(EVERY, ops // JOINS)


def enqueue(app: Blazing, batch: str, number: int, journal: str) -> None:
    """The join of that number, unless it is there."""
    ranges = app.store.batch(batch)
    first = sum(map(len, ranges)) - MEMBERS
    if first >= 0:
        name = f"{batch}-join-{number}"
        calls = [(Batch(app, _from(ranges, first), name=None), first, f"{journal}/{name}")]
        app.step(total, retries=3, backoff=0.05).starmap(calls, name=name, resume=True)


def _from(ranges: list[Range], skip: int) -> list[Range]:
    """Without the first `skip` operations."""
    kept = []
    for r in ranges:
        if skip < len(r):
            kept.append(Range(r.step, r.prio, r.node, r.incarnation, r.first + skip, r.last))
        skip = max(0, skip - len(r))
    return kept


def attach(app: Blazing, batch: str) -> Iterator[Batch]:
    """Those that were enqueued."""
    for number in range(1, JOINS + 2):
        try:
            found = app.attach(f"{batch}-join-{number}")
        except BatchUnknown:
            continue
        assert isinstance(found, Batch)
        yield found


def check(
    batch: Batch, start: int, given_up: set[int], journal: Path, demand: Callable[[bool, str], None]
) -> BlazingError | None:
    """I11: it has the committed values of all, and was executed; or it ended with one of them. How it failed."""
    try:
        [[first, found]] = batch.results(0)
    except DependencyFailed as error:
        demand(bool(given_up), f"I11: {batch.name} failed, and no operation was given up: {error}")
        return error
    except OperationLost as error:  # its own workers died three times
        return error
    members = range(start + first, start + first + MEMBERS)
    demand(found == sum(x * x for x in members), f"I11: {batch.name} gave {found} for {members}")
    demand((journal / f"{batch.name}").exists(), f"I10: {batch.name} was never executed")
    return None
