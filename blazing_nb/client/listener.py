"""The one thread that follows completions. Subscribes before anything is sent; never polls for its own.

Streams of this process are trimmed as they are read. Streams of others (attached batches) are only followed; since
their owner may trim them first, what is still missing there is asked for every two seconds.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable

from blazing_nb.client.results import Results
from blazing_nb.client.tracker import Tracker
from blazing_nb.core.dot import OperationId, Range
from blazing_nb.errors import BlazingError, StoreError
from blazing_nb.store.chance import CHANCE
from blazing_nb.store.store import Store

log = logging.getLogger(__name__)
BLOCK_S = 1.0
TRIM_S = 1.0
ASK_S = 2.0
PAUSE_S = 0.1
Which = tuple[str, int]


class Listener:
    """Follows the done streams of one app for this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection = store.dedicated()
        self._block_ms = round(1000 * min(BLOCK_S, self._connection.timeout_s / 2))
        """Of one question. Its answer is awaited for a socket timeout more: half-open is found within two."""
        self._lock = threading.RLock()
        self._me: Which = (f"@{os.getpid()}-{os.urandom(4).hex()}", 0)
        self._positions: dict[Which, str] = {self._me: "0-0"}
        self._trackers: dict[Which, Tracker] = {}
        self._consumed: dict[Which, str] = {}
        self._trimmed_at = self._asked_at = time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bz-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following. Repeatable."""
        self._closed.set()
        self._connection.close()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def open(self, node: str, incarnation: int, *, wake: bool = True) -> None:
        """Follow an incarnation of this process, before its first operation leaves."""
        with self._lock:
            self._trackers[node, incarnation] = Tracker(own=True)
            self._positions[node, incarnation] = "0-0"
        if wake:
            self._store.wake(*self._me)

    def track(self, range_: Range, results: Results, slot: int) -> None:
        """Fill `results` from `slot` on with the records of an opened incarnation's range."""
        with self._lock:
            self._trackers[range_.node, range_.incarnation].add(range_, results, slot)

    def untrack(self, range_: Range, results: Results) -> None:
        """The range was never stored."""
        with self._lock:
            self._trackers[range_.node, range_.incarnation].remove(range_, results)

    def conclude(self, range_: Range, record: Callable[[OperationId], bytes]) -> None:
        """Who waits for these here gets this as their outcome: they will never be stored."""
        with self._lock:
            tracker = self._trackers.get((range_.node, range_.incarnation))
            fields = [part for op in range_.ids() for part in (op.counter, record(op))] if tracker else []
            touched, _ = tracker.deliver(fields) if tracker else (set(), [])
        for results in touched:
            results.announce()

    def attach(self, ranges: Iterable[Range], results: Results, slots: Iterable[int] | None = None) -> None:
        """Fill `results` with operations of any node: follow first, then ask what is final already. `slots`: where each
        range begins; default: one after the other."""
        slot, fresh, begins = 0, False, None if slots is None else iter(slots)
        for range_ in ranges:
            slot = slot if begins is None else next(begins)
            which = (range_.node, range_.incarnation)
            position = "" if which in self._trackers else self._store.position(*which)
            with self._lock:
                if which not in self._trackers:
                    self._positions[which] = position
                    self._trackers[which] = Tracker(own=False)
                    fresh = True
                self._trackers[which].add(range_, results, slot)
            slot += len(range_)
        if fresh:
            self._store.wake(*self._me)
        self.ask(only=results)

    def restart(self) -> None:
        """The store went back, and with it the streams: read all of them anew. What arrived stays."""
        with self._lock:
            self._positions = dict.fromkeys(self._positions, "0-0")
            self._consumed.clear()
        self.ask()

    def ask(self, only: Results | None = None) -> None:
        """Ask the state of everything awaited (or of `only`) in few calls."""
        with self._lock:
            wanted = [row for t in self._trackers.values() for row in t.missing() if only is None or row[1] is only]
        self._fill(wanted)

    def _fill(self, wanted: list[tuple[OperationId, Results, int]]) -> None:
        """Ask; where a flow turns out to have gone on, ask there too."""
        touched = set()
        while wanted:
            asked = [results.place(slot) or op for op, results, slot in wanted]
            again = []
            for row, at, one in zip(self._store.status(asked), asked, wanted, strict=True):
                _, results, slot = one
                if row.record:
                    with self._lock:
                        results.put(slot, row.record)
                    touched.add(results)
                    if results.records[slot] is None and results.place(slot) not in (None, at):
                        again.append(one)
            wanted = again
        for results in touched:
            results.announce()

    def _run(self) -> None:
        retries, owes = self._connection.retries, False
        while not self._closed.is_set():
            try:
                with self._lock:
                    positions = dict(self._positions)
                rows = self._store.follow(self._connection, positions, self._block_ms)
                for which, position, fields in rows:
                    self._deliver(which, position, fields)
                if owes or self._connection.retries != retries:
                    retries, owes = self._connection.retries, True
                    self.ask()
                    owes = False
                self._tend()
            except StoreError as error:
                owes = True  # what came may not all have been read
                if not self._closed.is_set():
                    log.warning("completions cannot be followed now, trying on: %s", error)
                    self._closed.wait(2 * PAUSE_S * CHANCE.random())
            except BlazingError:
                log.exception("a completion could not be read")

    def _deliver(self, which: Which, position: str, fields: list[object]) -> None:
        with self._lock:
            self._positions[which] = position
            tracker = self._trackers.get(which)
            if tracker is None:
                return
            self._consumed[which] = position
            touched, absent = tracker.deliver(fields)
        if absent:
            numbers = set(absent)
            with self._lock:
                wanted = [row for row in tracker.missing() if row[0].counter in numbers]
            self._fill(wanted)
        for results in touched:
            results.announce()

    def _tend(self) -> None:
        """Trim what was read of one's own; forget what is complete; ask for what others' streams may have dropped."""
        now = time.monotonic()
        if now - self._trimmed_at > TRIM_S:
            self._trimmed_at = now
            with self._lock:
                consumed, self._consumed = self._consumed, {}
                own = {which for which, tracker in self._trackers.items() if tracker.own}
                for tracker in self._trackers.values():
                    tracker.prune()
            for which, position in consumed.items():
                if which in own:
                    self._store.trim(*which, position)
        if now - self._asked_at > ASK_S:
            self._asked_at = now
            with self._lock:
                wanted = [row for t in self._trackers.values() if not t.own for row in t.missing()]
            self._fill(wanted)
