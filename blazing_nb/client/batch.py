"""The handle of many operations of one step, in the order of their items."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex, overload

from blazing_nb.client.decode import exception_of, value_of
from blazing_nb.client.hint import Hinting
from blazing_nb.client.operation import Operation
from blazing_nb.client.progress import Shown, progress, show
from blazing_nb.client.results import Results
from blazing_nb.core.codec import describe_failure
from blazing_nb.core.dot import OperationId, Range
from blazing_nb.core.markup import bar, card, drawn, status_cell, table
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.core.status import Status
from blazing_nb.errors import BatchUnfinished, OperationTimeout, OperationUncertain

if TYPE_CHECKING:
    import pandas as pd

    from blazing_nb.client.node import Call, NodeWriter, Pending
    from blazing_nb.client.observed import ObservedApp


FAILURES = 3
LOOKED_AT = 10_000
"""Outcomes among which a repr looks for failures."""


class Batch(Hinting):
    """What `step.map` returns. `results()`, `operations()`, `batch[3]` and `batch[2:5]` keep the items' order;
    iterating gives operations as they finish, the quickest first.

    Examples:
        >>> batch = double.map([1, 2, 3])
        >>> batch.results(timeout=10), len(batch)
        ([2, 4, 6], 3)
        >>> batch[0].result(), [operation.result() for operation in batch[1:]]
        (2, [4, 6])
    """

    _called: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("result", "get", "compute", "values"), "results(timeout=...), which waits for all"),
        **dict.fromkeys(("failures", "failed", "errors", "status"), "to_frame(), which has a row an operation"),
    }

    def __init__(self, app: ObservedApp, ranges: Iterable[Range], *, name: str | None) -> None:
        self._app = app
        self.name = name
        self._ranges: list[Range] = []
        self._open: list[tuple[int, Pending]] = []
        self._starts: list[int] = []
        self._size = 0
        for range_ in ranges:
            self._append(range_)
        self._results = self._empty(self._size)
        if self._ranges:
            app.listener.attach(self._ranges, self._results)

    def _empty(self, size: int) -> Results:
        return Results(size)

    def __repr__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"<Batch{name}: {self.done_count} of {len(self)} done, {self.failed_count} failed>"

    @drawn
    def _repr_html_(self) -> str:
        """As far as known here; asks nobody."""
        done, failed = self.done_count, self.failed_count
        facts: list[tuple[str, object]] = [("", bar(done, failed, len(self))), ("done", f"{done:,} of {len(self):,}")]
        if failed:
            facts.append(("without success", f"{failed:,}"))
        return card("Batch", self.name or "", facts, table(("operation", "status", "error"), self._first_failures()))

    def _first_failures(self) -> list[tuple[object, ...]]:
        """A few of those that came first."""
        found: list[tuple[object, ...]] = []
        for slot in self._results.order[:LOOKED_AT] if self.failed_count else ():
            record = self._results.records[slot]
            if record is not None and record[:1] != b"S" and len(found) < FAILURES:
                outcome = decode_outcome(record)
                failure = describe_failure(outcome.payload)
                found.append((self._id(slot).text, status_cell(outcome.status), failure))
        return found

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: SupportsIndex) -> Operation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Operation]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Operation | list[Operation]:
        """The operation of item `index`, negative from the end; of a slice, the list of them. In the items' order."""
        __tracebackhide__ = True
        if isinstance(index, slice):
            return [self._operation(slot) for slot in range(self._size)[index]]
        try:
            return self._operation(range(self._size)[index])
        except TypeError:
            raise TypeError(
                f"batch[...] takes an item's number or a slice, not {type(index).__name__}; results() has the values."
            ) from None
        except IndexError:
            raise IndexError(f"no item {index}: the batch has {self._size}, numbered from 0.") from None

    def _operation(self, slot: int) -> Operation:
        return Operation(self._app, self._id(slot), self._results, slot)

    def __iter__(self) -> Iterator[Operation]:
        """Operations as they finish, not in the items' order: that is `operations()`."""
        return self.as_completed()

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError(
            "a batch is a dependency as an argument, or in lists, tuples and dicts; elsewhere pass its name"
        )

    def operations(self) -> list[Operation]:
        """Its operations in the items' order, whether finished or not.

        Examples:
            >>> [operation.result(timeout=10) for operation in double.map([1, 2]).operations()]
            [2, 4]
        """
        return [self._operation(slot) for slot in range(self._size)]

    def ids(self) -> list[OperationId]:
        """The identities of its operations, in the items' order.

        Examples:
            >>> len(double.map([1, 2]).ids())
            2
        """
        self._refresh()
        return [op for range_ in self._ranges for op in range_.ids()]

    def extend(self, writer: NodeWriter, call: Call) -> None:
        """Enqueue further items at the end."""
        slot = self._results.grow(len(call.prepared))
        try:
            self._append(writer.send(call, self._results, slot))
        except BaseException as error:
            pending = writer.unsettled
            if pending is None or pending.results is not self._results or pending.slot != slot:
                self._results.shrink(len(call.prepared))
            else:
                self._open.append((len(self._ranges), pending))
                self._append(pending.range)
            if isinstance(error, OperationUncertain):
                error.fields["batch"] = self
            raise

    @property
    def uncertain(self) -> list[OperationId]:
        """Operations that were sent and not answered: the store has them, or not. All others are certain, and empty is
        the rule. The node's next call, or `app.settle()`, settles them.

        Examples:
            >>> double.map([1, 2]).uncertain
            []
        """
        self._refresh()
        return [op for _, pending in self._open for op in pending.range.ids()]

    def _refresh(self) -> None:
        """Take the identities of what was settled meanwhile: a shared NODE_ID gives it others."""
        for at, pending in self._open:
            self._ranges[at] = pending.range
        self._open = [(at, pending) for at, pending in self._open if not pending.settled]

    @property
    def done_count(self) -> int:
        """How many outcomes have arrived.

        Examples:
            >>> batch = double.map([1, 2])
            >>> batch.wait(timeout=10), batch.done_count
            (True, 2)
        """
        return len(self._results.order)

    @property
    def failed_count(self) -> int:
        """How many of them are not successes.

        Examples:
            >>> batch = positive.map([1, -1])
            >>> batch.wait(timeout=10), batch.failed_count
            (True, 1)
        """
        return self._results.failed

    def done(self) -> bool:
        """Whether every outcome has arrived.

        Examples:
            >>> batch = double.map([1, 2])
            >>> batch.wait(timeout=10), batch.done()
            (True, True)
        """
        return self._results.missing == 0

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all are final; False where `timeout` seconds were not enough.

        Examples:
            >>> double.map(range(3)).wait(timeout=10)
            True
        """
        return self._results.wait_for(self.done, timeout)

    def results(
        self, timeout: float | None = None, *, return_exceptions: bool = False, progress: bool | None = None
    ) -> list[Any]:
        """Wait for all; the values in the items' order. Repeatable.

        Args:
            timeout: seconds for all together; None waits for ever. A wait that times out cancels nothing.
            return_exceptions: exceptions stand in the list, instead of the first one being raised.
            progress: show a bar where it takes longer than two seconds; None: in notebooks and terminals.

        Raises:
            OperationTimeout: `done` and `total` say how far it came.

        Examples:
            >>> positive.map([1, -1, 2]).results(timeout=10, return_exceptions=True)
            [1, ValueError('-1 is below zero'), 2]
        """
        __tracebackhide__ = True
        if not show(self, timeout, progress):
            raise OperationTimeout(
                f"{self.done_count} of {len(self)} operations were finished within {timeout:g} s. The others go on: "
                "wait again" + (f", or attach to {self.name!r}." if self.name else "."),
                done=self.done_count,
                total=len(self),
            )
        return [self._value(i, record, return_exceptions) for i, record in enumerate(self._results.records)]

    def cancel(self) -> dict[str, int]:
        """Cancel all that is not final; how many were CANCELLED now, ASKED (they run) or FINAL already.

        Examples:
            >>> double.options(delay=60).map([1, 2]).cancel()["CANCELLED"]
            2
        """
        answers = self._app.store.cancel(self.ids())
        return {answer: answers.count(answer) for answer in sorted(set(answers))}

    def forget(self) -> int:
        """Drop its outcomes, and its name, from the store now instead of after their retention; how many there were.
        What has arrived here can still be read.

        Raises:
            BatchUnfinished: nothing was dropped.

        Examples:
            >>> batch = double.map([1, 2], name="forgotten")
            >>> batch.wait(timeout=10), batch.forget()
            (True, 2)
            >>> app.attach("forgotten")
            Traceback (most recent call last):
                ...
            blazing_nb.errors.BatchUnknown: ...
        """
        if not self.done():
            raise BatchUnfinished(
                f"{len(self) - self.done_count} of {len(self)} operations are not finished: wait for them, or cancel.",
                done=self.done_count,
                total=len(self),
            )
        return self._app.store.forget(self.ids(), self.name or "")

    def progress(self) -> Shown:
        """Iterate its operations as they finish, or `wait()` for all, with a bar after two seconds.

        Examples:
            >>> sorted(operation.result() for operation in double.map([1, 2]).progress())
            [2, 4]
        """
        return progress(self)

    def as_completed(self, timeout: float | None = None) -> Iterator[Operation]:
        """Operations in the order in which they finish. Raises `OperationTimeout` after `timeout` seconds.

        Examples:
            >>> sorted(operation.result() for operation in double.map([1, 2]).as_completed(timeout=10))
            [2, 4]
        """
        return self._as_completed(timeout)

    def _as_completed(self, timeout: float | None, tick: Callable[[], None] | None = None) -> Iterator[Operation]:
        try:
            for slot in self._results.as_they_come(timeout, tick):
                yield self._operation(slot)
        except TimeoutError:
            raise OperationTimeout(
                f"{self.done_count} of {len(self)} operations were finished within {timeout:g} s.",
                done=self.done_count,
                total=len(self),
            ) from None

    def __await__(self) -> Generator[Any, None, list[Any]]:
        yield from asyncio.wrap_future(self._results.future(self.done)).__await__()
        return self.results(0)

    def to_frame(self) -> pd.DataFrame:
        """One row an operation, as far as known here: times in seconds, moments in UTC. `status` is "uncertain" where
        the store did not answer whether it has it.

        Examples:
            >>> batch = double.map([1, 2])
            >>> batch.wait(timeout=10)
            True
            >>> list(batch.to_frame().status)
            ['SUCCEEDED', 'SUCCEEDED']
        """
        import pandas as pd

        uncertain = set(self.uncertain)
        rows = [self._row(i, record, uncertain) for i, record in enumerate(self._results.records)]
        frame = pd.DataFrame(rows, columns=_COLUMNS)
        for moment in ("enqueued_at", "started_at"):
            frame[moment] = pd.to_datetime(frame[moment], unit="ms", utc=True)
        return frame

    def _row(self, index: int, record: bytes | None, uncertain: Collection[OperationId]) -> list[Any]:
        op = self._id(index)
        if record is None:
            return [op.text, "uncertain" if op in uncertain else "not finished", *[None] * (len(_COLUMNS) - 2)]
        outcome = decode_outcome(record)
        ok = outcome.status is Status.SUCCEEDED
        value = self._value(index, record, True)
        started = outcome.claimed_ms + outcome.queued_us / 1000
        return [
            op.text,
            str(outcome.status),
            outcome.attempt,
            outcome.enqueued_ms,
            started,
            (started - outcome.enqueued_ms) / 1000,
            outcome.run_us / 1e6,
            outcome.worker,
            value if ok else None,
            None if ok else f"{type(value).__name__}: {value}",
        ]

    def _value(self, index: int, record: bytes | None, return_exceptions: bool) -> Any:
        __tracebackhide__ = True
        assert record is not None  # noqa: S101 - all have arrived
        try:
            return value_of(self._app, self._at(index), record)
        except Exception as error:
            if not return_exceptions:
                raise
            return error if record[:1] != b"S" else exception_of(self._app, self._at(index), decode_outcome(record))

    def _at(self, index: int) -> OperationId:
        """Whose record is in that slot."""
        return self._id(index)

    def drawing(self) -> str:
        """Markup beneath its progress; empty for none."""
        return ""

    def whereabouts(self) -> str:
        """A word on where its items are; empty for none."""
        return ""

    def _append(self, range_: Range) -> None:
        self._ranges.append(range_)
        self._starts.append(self._size)
        self._size += len(range_)

    def _id(self, index: int) -> OperationId:
        if self._open:
            self._refresh()
        at = bisect_right(self._starts, index) - 1
        r = self._ranges[at]
        return OperationId(r.step, r.prio, r.node, r.incarnation, r.first + index - self._starts[at])


_COLUMNS = [
    "id",
    "status",
    "attempt",
    "enqueued_at",
    "started_at",
    "wait_s",
    "run_s",
    "worker",
    "result",
    "error",
]
