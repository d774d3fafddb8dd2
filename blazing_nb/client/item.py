"""Handles of what moves through a flow: one item or many, each at the stage that the store has brought it to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from blazing_nb.client.batch import Batch
from blazing_nb.client.operation import Operation
from blazing_nb.client.results import NEWS, Results
from blazing_nb.core.diagram import StageCounts, pipeline
from blazing_nb.core.dot import OperationId
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.core.status import Status
from blazing_nb.errors import OperationTimeout
from blazing_nb.store.reply import StatusRow

if TYPE_CHECKING:
    from blazing_nb.client.flow import Flow


class FlowResults(Results):
    """Slots of items on their way. `put` moves an item on until its last record comes."""

    __slots__ = ("_left", "_places", "_stages")

    def __init__(self, size: int, stages: int, left: int | None = None) -> None:
        super().__init__(size)
        self._stages = stages
        self._left = [left or stages] * size
        self._places: list[OperationId | None] = [None] * size

    def place(self, slot: int) -> OperationId | None:
        return self._places[slot]

    def stage(self, slot: int) -> int:
        """The index of the stage where it is, or ended."""
        return max(0, self._stages - self._left[slot])

    def grow(self, size: int) -> int:
        self._left += [self._stages] * size
        self._places += [None] * size
        return super().grow(size)

    def shrink(self, size: int) -> None:
        super().shrink(size)
        del self._left[-size:], self._places[-size:]

    def put(self, slot: int, record: bytes) -> None:
        if record[0] == NEWS:
            left, op, *ended = record[1:].split(b"|", 2)
            self.move(slot, f"{left.decode()}|{op.decode()}")
            if ended:
                super().put(slot, ended[0])
        elif place := decode_outcome(record).place:
            self.move(slot, place)
        else:
            super().put(slot, record)

    def move(self, slot: int, place: str) -> None:
        """`<stages left>|<operation>`, 0 left where it ended. News may come twice, and late; an item goes one way."""
        left, _, op = place.partition("|")
        with self._changed:
            if self.records[slot] is not None or int(left) >= self._left[slot]:
                return
            self._left[slot] = int(left) or self._left[slot]
            self._places[slot] = OperationId.parse(op)


class FlowOperation(Operation):
    """One item's way through a flow. `id` is the first stage's; what it answers is of the stage where it is.

    Examples:
        >>> item = (double >> positive).enqueue(-1)
        >>> item.wait(timeout=10), item.stage
        (True, 'positive')
    """

    __slots__ = ("_flow",)
    _results: FlowResults

    def __init__(self, flow: Flow, op: OperationId, results: FlowResults, slot: int) -> None:
        super().__init__(flow.app, op, results, slot)
        self._flow = flow

    def __repr__(self) -> str:
        outcome = self._outcome()
        state = f"{outcome.status} in" if outcome and outcome.status is not Status.SUCCEEDED else "in"
        where = "SUCCEEDED" if outcome and outcome.status is Status.SUCCEEDED else f"{state} {self._where()}"
        return f"<FlowOperation {self.op.text} {where}>"

    @property
    def _at(self) -> OperationId:
        return self._results.place(self._slot) or self.op

    @property
    def stage(self) -> str:
        """The step where it is now, as far as known here; or where it ended.

        Examples:
            >>> item = (double >> double).enqueue(1)
            >>> item.wait(timeout=10), item.stage
            (True, 'double')
        """
        return self._flow.stages[self._results.stage(self._slot)].name

    def _where(self) -> str:
        return f"{self.stage} ({self._results.stage(self._slot) + 1} of {len(self._flow)})"

    def result(self, timeout: float | None = None, *, progress: bool | None = None) -> Any:
        """Wait for the last stage's value. What a stage raised is raised here, with a note that names the stage.

        Examples:
            >>> (double >> positive).enqueue(-1).result(timeout=10)
            Traceback (most recent call last):
                ...
            ValueError: -2 is below zero
            ...
        """
        try:
            return super().result(timeout, progress=progress)
        except OperationTimeout:
            raise
        except Exception as error:
            error.add_note(f"in stage {self._where()} of the flow {self._flow.name}, operation {self._at.text}")
            raise

    def cancel(self) -> Status:
        """Cancel it where it is. A stage that succeeds after a cancel ends CANCELLED; nothing follows it.

        Examples:
            >>> item = (nap >> double).enqueue(60)
            >>> item.cancel().is_final or item.wait(timeout=10)
            True
        """
        while True:
            at = self._at
            status = super().cancel()
            if status.is_final or self._at == at:
                return status

    def retry(self) -> FlowOperation:
        """Enqueue the stage that ended without success anew; the flow goes on from there. As `Operation.retry`.

        Examples:
            >>> item = (double >> positive).enqueue(-1)
            >>> item.wait(timeout=10)
            True
            >>> item.retry().exception(timeout=10)  # from the stage that failed on
            ValueError('-2 is below zero')
        """
        return self._flow._handle(super().retry().op, len(self._flow) - self._results.stage(self._slot))

    def _ask(self) -> StatusRow:
        while True:
            row = super()._ask()
            place = decode_outcome(row.record).place if row.record else ""
            if not place:
                return row
            self._results.move(self._slot, place)


class StagesBatch(Batch):
    """A batch of a flow, drawn by its stages."""

    flow: Flow

    def _repr_html_(self) -> str:
        return self.drawing()

    def drawing(self) -> str:
        """The stages, with what each holds of this batch; beneath its progress too, where that is shown."""
        return pipeline(self.stages(), self.flow.name)

    def whereabouts(self) -> str:
        return ", ".join(f"{stage.here:,} in {stage.name}" for stage in self.stages() if stage.here)

    def stages(self) -> list[StageCounts]:
        """What each stage holds of this batch, as far as known here; asks nobody."""
        raise NotImplementedError


class FlowBatch(StagesBatch):
    """What `flow.map` returns: a batch whose values are the last stage's. Each of its operations is an item's way.

    Examples:
        >>> items = (double >> double).map([1, 2])
        >>> items.results(timeout=10)
        [4, 8]
    """

    _results: FlowResults

    def __init__(self, flow: Flow, ranges: Iterable[Any], *, name: str | None) -> None:
        self.flow = flow
        super().__init__(flow.app, ranges, name=name)

    def stages(self) -> list[StageCounts]:
        """What each stage holds of this batch, as far as known here; asks nobody.

        Examples:
            >>> items = (double >> positive).map([1, -1])
            >>> items.wait(timeout=10)
            True
            >>> [(stage.name, stage.done, stage.ended) for stage in items.stages()]
            [('double', 2, 0), ('positive', 1, 1)]
        """
        here, done, ended = Counter[int](), Counter[int](), Counter[int]()
        for slot, record in enumerate(self._results.records):
            stage = self._results.stage(slot)
            done.update(range(stage))
            (here if record is None else done if record[:1] == b"S" else ended)[stage] += 1
        return [StageCounts(s.name, here[i], done[i], ended[i]) for i, s in enumerate(self.flow.stages)]

    def cancel(self) -> dict[str, int]:
        """Cancel all items where they are; how many were CANCELLED now, ASKED (they run) or FINAL already.

        Examples:
            >>> items = (nap >> double).map([60, 60])
            >>> sum(items.cancel().values())
            2
        """
        answers: Counter[str] = Counter()
        slots = list(range(len(self)))
        while slots:
            before = [self._at(slot) for slot in slots]
            found = dict(zip(slots, self._app.store.cancel(before), strict=True))
            late = [slot for slot in slots if found[slot] == "FINAL"]
            self._follow(late)
            moved = {
                slot for slot, at in zip(slots, before, strict=True) if found[slot] == "FINAL" and self._at(slot) != at
            }
            answers.update(answer for slot, answer in found.items() if slot not in moved)
            slots = sorted(moved)
        return dict(answers)

    def forget(self) -> int:
        """Drop the outcomes of all stages, and its name, now instead of after their retention; how many there were.

        Raises:
            BatchUnfinished: nothing was dropped.

        Examples:
            >>> items = (double >> double).map([1, 2])
            >>> items.wait(timeout=10), items.forget()
            (True, 4)
        """
        way = self._way() if self.done() else []
        dropped = self._app.store.forget(way) if way else 0
        return dropped + super().forget()

    def _follow(self, slots: list[int]) -> None:
        """Learn where items went on that are final where they were thought to be."""
        for slot, row in zip(slots, self._app.store.status([self._at(slot) for slot in slots]), strict=True):
            if row.record:
                self._results.put(slot, row.record)
        self._results.announce()

    def _way(self) -> list[OperationId]:
        """Every operation after the first one of each item."""
        found: list[OperationId] = []
        at = [self._id(slot) for slot in range(len(self))]
        while at:
            outcomes = [decode_outcome(row.record) for row in self._app.store.status(at) if row.record]
            at = [OperationId.parse(o.place.partition("|")[2]) for o in outcomes if o.place]
            found += at
        return found

    def _empty(self, size: int) -> Results:
        return FlowResults(size, len(self.flow))

    def _operation(self, slot: int) -> FlowOperation:
        return FlowOperation(self.flow, self._id(slot), self._results, slot)

    def _at(self, index: int) -> OperationId:
        return self._results.place(index) or self._id(index)

    def _value(self, index: int, record: bytes | None, return_exceptions: bool) -> Any:
        try:
            return super()._value(index, record, return_exceptions)
        except Exception as error:
            error.add_note(f"in stage {self._operation(index)._where()} of the flow {self.flow.name}")
            raise
