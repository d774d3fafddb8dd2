"""The listeners of an app of several shards: one a shard, made where something of that shard is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from blazing_nb.client.listener import Listener
from blazing_nb.client.results import Results
from blazing_nb.core.dot import OperationId, Range
from blazing_nb.core.shard import shard_of
from blazing_nb.store.store import Store


class Listeners(Listener):
    """Answers as one `Listener`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._made: dict[int, Listener] = {}

    def _of(self, node: str) -> Listener:
        number = shard_of(node, self._store.count)
        with self._lock:
            if number not in self._made:
                self._made[number] = Listener(self._store.shards[number])
            return self._made[number]

    def close(self) -> None:
        with self._lock:
            made, self._made = self._made, {}
        for listener in made.values():
            listener.close()

    def open(self, node: str, incarnation: int, *, wake: bool = True) -> None:
        self._of(node).open(node, incarnation, wake=wake)

    def track(self, range_: Range, results: Results, slot: int) -> None:
        self._of(range_.node).track(range_, results, slot)

    def untrack(self, range_: Range, results: Results) -> None:
        self._of(range_.node).untrack(range_, results)

    def conclude(self, range_: Range, record: Callable[[OperationId], bytes]) -> None:
        self._of(range_.node).conclude(range_, record)

    def attach(self, ranges: Iterable[Range], results: Results, slots: Iterable[int] | None = None) -> None:
        parts: dict[int, tuple[list[Range], list[int]]] = {}
        slot, given = 0, None if slots is None else iter(slots)
        for range_ in ranges:
            slot = slot if given is None else next(given)
            here, begins = parts.setdefault(shard_of(range_.node, self._store.count), ([], []))
            here.append(range_)
            begins.append(slot)
            slot += len(range_)
        for here, begins in parts.values():
            self._of(here[0].node).attach(here, results, begins)

    def restart(self) -> None:
        for listener in self._all():
            listener.restart()

    def ask(self, only: Results | None = None) -> None:
        for listener in self._all():
            listener.ask(only)

    def _all(self) -> list[Listener]:
        with self._lock:
            return list(self._made.values())


def listen(store: Store) -> Listener:
    """What follows the completions of an app."""
    return Listener(store) if store.count == 1 else Listeners(store)
