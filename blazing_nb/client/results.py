"""Records of awaited operations: filled by the listener's thread, read by whoever waits. Knows no user values."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from blazing_nb.core.dot import OperationId
from blazing_nb.errors import UsageError

NEWS = ord(">")
"""Begins what is said of a flow to its first operation's node; not a record."""


TURN_S = 0.2
SUCCEEDED = ord("S")


class Results:
    """Slots for `size` records. `order` lists the filled slots as they came; `failed` counts those not successes."""

    __slots__ = ("_changed", "_futures", "_pid", "failed", "order", "records")

    def __init__(self, size: int) -> None:
        self.records: list[bytes | None] = [None] * size
        self.order: list[int] = []
        self.failed = 0
        self._changed = threading.Condition()
        self._futures: list[tuple[Callable[[], bool], Future[None]]] = []
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def missing(self) -> int:
        return len(self.records) - len(self.order)

    def put(self, slot: int, record: bytes) -> None:
        """Fill a slot; a second record for it is a repetition and changes nothing. Call `announce` afterwards."""
        if self.records[slot] is None and record[0] != NEWS:
            self.records[slot] = record
            if record[0] != SUCCEEDED:
                self.failed += 1
            self.order.append(slot)

    def place(self, slot: int) -> OperationId | None:
        """Which operation the slot waits for instead of its first one; None: that one."""
        return None

    def grow(self, size: int) -> int:
        """Add empty slots; the first new one."""
        with self._changed:
            first = len(self.records)
            self.records.extend([None] * size)
            return first

    def shrink(self, size: int) -> None:
        """Take the last `size` slots back: their operations were never stored."""
        with self._changed:
            del self.records[len(self.records) - size :]

    def announce(self) -> None:
        """Wake who waits for what `put` has filled."""
        with self._changed:
            self._changed.notify_all()
            ready = [future for satisfied, future in self._futures if satisfied()]
            if ready:
                self._futures = [pair for pair in self._futures if pair[1] not in ready]
        for future in ready:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def wait_for(self, satisfied: Callable[[], bool], timeout: float | None) -> bool:
        """Block until `satisfied()`; False after `timeout` seconds."""
        if satisfied():
            return True
        self._check_process()
        with self._changed:
            return self._changed.wait_for(satisfied, timeout)

    def future(self, satisfied: Callable[[], bool]) -> Future[None]:
        """A future that is done once `satisfied()`."""
        future: Future[None] = Future()
        if not satisfied():
            self._check_process()
        with self._changed:
            if not satisfied():
                self._futures.append((satisfied, future))
                return future
        future.set_result(None)
        return future

    def _check_process(self) -> None:
        """A forked child has none of the threads of its parent: nobody would ever fill these slots in it."""
        if self._pid != os.getpid():
            raise UsageError(
                "This handle was made before a fork, in the parent. In the child, app.attach(operation.id) or "
                "app.attach(<the batch's name>) gives another."
            )

    def as_they_come(self, timeout: float | None, tick: Callable[[], None] | None = None) -> Iterator[int]:
        """Slots in the order of completion; ends with the last one, or raises `TimeoutError`. `tick` is called five
        times a second while the next one is awaited."""
        end = None if timeout is None else time.monotonic() + timeout
        at = 0
        while at < len(self.records):
            wanted = at
            left = None if end is None else max(0.0, end - time.monotonic())
            turn = left if tick is None else TURN_S if left is None else min(TURN_S, left)
            if not self.wait_for(lambda: len(self.order) > wanted, turn):  # noqa: B023 - used before the next turn
                if turn == left:
                    raise TimeoutError
                assert tick is not None  # noqa: S101 - only then turns are shorter
                tick()
            while at < len(self.order):
                yield self.order[at]
                at += 1
