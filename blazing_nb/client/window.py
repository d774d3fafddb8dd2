"""The results of calls for items that may be endless: read no further ahead than a window."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from blazing_nb.client.batch import Batch
from blazing_nb.client.operation import Operation
from blazing_nb.errors import UsageError

if TYPE_CHECKING:
    from blazing_nb.client.step import Step

WINDOW_LIMIT = 100_000


def windowed(step: Step, items: Iterator[Any], window: int, ordered: bool, timeout: float | None) -> Iterator[Any]:
    """As `Step.imap`. Raises `UsageError` at once where the window does not fit."""
    if not 1 <= window <= WINDOW_LIMIT:
        raise UsageError(f"window is 1 to {WINDOW_LIMIT} operations, not {window}.")
    return _windowed(step, items, window, ordered, timeout)


def _windowed(step: Step, items: Iterator[Any], window: int, ordered: bool, timeout: float | None) -> Iterator[Any]:
    ahead: deque[Iterator[Operation]] = deque()
    part = max(1, window // 4)
    while True:
        while len(ahead) < max(1, window // part) and (group := list(islice(items, part))):
            batch = step.map(group)
            ahead.append(_operations(batch, ordered, timeout))
        if not ahead:
            return
        for operation in ahead.popleft():
            yield operation.result(timeout)


def _operations(batch: Batch, ordered: bool, timeout: float | None) -> Iterator[Operation]:
    return (batch[i] for i in range(len(batch))) if ordered else batch.as_completed(timeout)
