"""Which slot awaits which counter, for one (node, incarnation). Ranges for batches; a range of one for an operation."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from blazing_nb.client.results import Results
from blazing_nb.core.dot import OperationId, Range


class Awaited(NamedTuple):
    """Counters `first` to `last` fill the slots of `results` from `slot` on."""

    first: int
    last: int
    serial: int
    slot: int
    results: Results
    range: Range


class Tracker:
    """The awaited ranges of one incarnation, sorted. Guarded by its listener's lock."""

    def __init__(self, *, own: bool) -> None:
        self.own = own
        self._awaited: list[Awaited] = []
        self._serial = 0

    def __bool__(self) -> bool:
        return bool(self._awaited)

    def add(self, range_: Range, results: Results, slot: int) -> None:
        self._serial += 1
        insort(self._awaited, Awaited(range_.first, range_.last, self._serial, slot, results, range_))

    def remove(self, range_: Range, results: Results) -> None:
        self._awaited = [a for a in self._awaited if not (a.range == range_ and a.results is results)]

    def deliver(self, fields: Sequence[Any]) -> tuple[set[Results], list[int]]:
        """Fill slots from [counter, record, ...]; what was touched, and the counters whose record did not travel."""
        touched: dict[int, Results] = {}
        absent: list[int] = []
        low, high, base, results = 1, 0, 0, None
        pairs = iter(fields)
        for counter, record in zip(pairs, pairs, strict=True):
            if not record:
                absent.append(counter)
                continue
            if not low <= counter <= high:
                matches = self._find(counter)
                for match in matches:
                    match.results.put(match.slot + counter - match.first, record)
                    touched[id(match.results)] = match.results
                # More than one reader of the same range is rare: only a single one is remembered.
                if len(matches) == 1:
                    low, high, _, slot, results, _ = matches[0]
                    base = slot - low
                continue
            if results is not None:
                results.put(base + counter, record)
        return set(touched.values()), absent

    def prune(self) -> None:
        """Forget ranges whose results are complete."""
        self._awaited = [a for a in self._awaited if a.results.missing]

    def missing(self) -> Iterator[tuple[OperationId, Results, int]]:
        """Every awaited operation without a record, with its place."""
        for awaited in self._awaited:
            records = awaited.results.records
            for offset, op in enumerate(awaited.range.ids()):
                if records[awaited.slot + offset] is None:
                    yield op, awaited.results, awaited.slot + offset

    def _find(self, counter: int) -> list[Awaited]:
        at = bisect_right(self._awaited, counter, key=lambda awaited: awaited.first)
        found = []
        for awaited in reversed(self._awaited[max(0, at - 64) : at]):
            if awaited.first <= counter <= awaited.last:
                found.append(awaited)
            elif found:
                break
        return found
