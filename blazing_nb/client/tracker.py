"""Which slot awaits which counter, for one (node, incarnation). Ranges for batches; a range of one for an operation."""

from __future__ import annotations

import operator
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
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


LAST = 1 << 62
_first = operator.attrgetter("first")


class Tracker:
    """The awaited operations and ranges of one incarnation. Guarded by its listener's lock."""

    def __init__(self, *, own: bool) -> None:
        self.own = own
        self._single: dict[int, list[Awaited]] = {}
        """Ranges of one, by counter; they may lie within longer ones."""
        self._ranges: list[Awaited] = []
        """Longer ones, sorted."""
        self._longest = 0
        self._serial = 0

    def __bool__(self) -> bool:
        return bool(self._ranges or self._single)

    def add(self, range_: Range, results: Results, slot: int) -> None:
        self._serial += 1
        awaited = Awaited(range_.first, range_.last, self._serial, slot, results, range_)
        if len(range_) == 1:
            self._single.setdefault(range_.first, []).append(awaited)
        else:
            insort(self._ranges, awaited)
            self._longest = max(self._longest, len(range_))

    def remove(self, range_: Range, results: Results) -> None:
        self._keep(lambda awaited: not (awaited.range == range_ and awaited.results is results))

    def prune(self) -> None:
        """Forget ranges whose results are complete."""
        self._keep(lambda awaited: awaited.results.missing > 0)

    def _keep(self, wanted: Callable[[Awaited], bool]) -> None:
        self._ranges = [awaited for awaited in self._ranges if wanted(awaited)]
        singles = ((counter, list(filter(wanted, found))) for counter, found in self._single.items())
        self._single = {counter: kept for counter, kept in singles if kept}

    def deliver(self, fields: Sequence[Any]) -> tuple[set[Results], list[int]]:
        """Fill slots from [counter, record, ...]; what was touched, and the counters whose record did not travel."""
        touched: set[Results] = set()
        absent: list[int] = []
        low, high, ranges = 1, 0, list[Awaited]()
        pairs = iter(fields)
        for counter, record in zip(pairs, pairs, strict=True):
            if not record:
                absent.append(counter)
                continue
            if not low <= counter <= high:
                low, (high, ranges) = counter, self._around(counter)
                touched.update(awaited.results for awaited in ranges)
            for awaited in ranges:
                awaited.results.put(awaited.slot + counter - awaited.first, record)
            for awaited in self._single.get(counter, ()):
                awaited.results.put(awaited.slot, record)
                touched.add(awaited.results)
        return touched, absent

    def missing(self) -> Iterator[tuple[OperationId, Results, int]]:
        """Every awaited operation without a record, with its place."""
        for awaited in chain(self._ranges, *self._single.values()):
            records = awaited.results.records
            for offset, op in enumerate(awaited.range.ids()):
                if records[awaited.slot + offset] is None:
                    yield op, awaited.results, awaited.slot + offset

    def _around(self, counter: int) -> tuple[int, list[Awaited]]:
        """The longer ranges that a counter is in; up to which one the counters after it are in the same ones."""
        begin = bisect_right(self._ranges, counter - self._longest, key=_first)
        end = bisect_right(self._ranges, counter, key=_first)
        found = [awaited for awaited in self._ranges[begin:end] if awaited.last >= counter]
        ends = [awaited.last for awaited in found]
        if end < len(self._ranges):
            ends.append(self._ranges[end].first - 1)
        return min(ends, default=LAST), found
