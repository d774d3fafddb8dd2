"""Flows: `load >> clean >> save` as a value. The commit of a stage enqueues the next one in the same script.

Owns the value and its handles; what follows a commit is made by the worker and written by the store.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from blazing_nb.client.barrier import StagedBatch, attached, staged
from blazing_nb.client.batch import Batch
from blazing_nb.client.operation import Operation
from blazing_nb.client.results import NEWS, Results
from blazing_nb.client.step import Step
from blazing_nb.core.dependency import FAIL
from blazing_nb.core.diagram import StageCounts, pipeline
from blazing_nb.core.dot import OperationId
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.core.policy import CallOptions, Stage
from blazing_nb.core.replay import replaying
from blazing_nb.core.status import Status
from blazing_nb.errors import OperationTimeout, UsageError
from blazing_nb.store.reply import StatusRow

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

OPTIONS_LIMIT = 0xFFFF
_decode = msgspec.msgpack.Decoder(CallOptions).decode


def chain(*parts: Step | Flow) -> Flow:
    """One after the other. Raises `UsageError` where they cannot be."""
    stages: list[Step] = []
    for part in parts:
        if not isinstance(part, Step | Flow):
            raise UsageError(f"A flow is made of steps, not {type(part).__name__}: load >> clean >> save.")
        stages += part.stages if isinstance(part, Flow) else [part]
    return Flow(stages)


class Flow:
    """What `load >> clean >> save` makes: each stage's value is the one argument of the next.

    An item goes on by itself: the commit of one stage enqueues the next in the same transaction, whether or not this
    process lives. Options of a stage are given before: `load >> clean.options(retries=3) >> save`.

    Examples:
        >>> flow = double >> positive
        >>> flow.enqueue(3).result(timeout=10)
        6
        >>> flow.map([1, 2]).results(timeout=10)
        [2, 4]
    """

    def __init__(self, stages: Sequence[Step]) -> None:
        self.stages = tuple(stages)
        self.app: Blazing = self.stages[0].app
        for stage in self.stages[1:]:
            _check(stage, self.app)

    def __rshift__(self, other: Step | Flow) -> Flow:
        return chain(self, other)

    def __len__(self) -> int:
        return len(self.stages)

    def __repr__(self) -> str:
        return f"<Flow {self.name} of {self.app.app_id}>"

    def _repr_html_(self) -> str:
        """The stages, with what their steps hold now: of all their operations, also those outside of this flow."""
        return pipeline(self._depths(), self.name)

    @property
    def name(self) -> str:
        """The names of its stages.

        Examples:
            >>> (double >> positive).name
            'double >> positive'
        """
        return " >> ".join(stage.name for stage in self.stages)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """In a workflow: await the stages, one after the other."""
        if replaying.get() is None:
            raise UsageError(f"{self!r} is started by enqueue or map, or awaited in a workflow.")
        first, *rest = self.stages
        value = await first(*args, **kwargs)
        for stage in rest:
            value = await stage(value)
        return value

    def enqueue(self, *args: Any, **kwargs: Any) -> FlowOperation:
        """Send one item through the stages; the handle of its way. Arguments are the first stage's.

        Raises:
            As `Step.enqueue`: nothing was sent.

        Examples:
            >>> (double >> double).enqueue(3).result(timeout=10)
            12
        """
        results = FlowResults(1, len(self))
        return FlowOperation(self, self._head()._send(args, kwargs, results), results, 0)

    def map(
        self,
        items: Iterable[Any],
        *,
        name: str | None = None,
        resume: bool = False,
        node_id: str | None = None,
        barrier: bool = False,
    ) -> FlowBatch | StagedBatch:
        """Send many items; each goes from stage to stage on its own.

        Args:
            items, name, node_id: as for `Step.map`.
            resume: as for `Step.map`; not with a barrier.
            barrier: a stage begins when all items are through the one before it, or have failed there.

        Examples:
            >>> (double >> double).map([1, 2]).results(timeout=10)
            [4, 8]
            >>> (double >> double).map([1, 2], barrier=True).results(timeout=10)  # stage by stage
            [4, 8]
        """
        each = items.operations() if isinstance(items, Batch) else items
        return self._map(((item,) for item in each), name, resume, node_id, barrier)

    def starmap(
        self,
        items: Iterable[Sequence[Any]],
        *,
        name: str | None = None,
        resume: bool = False,
        node_id: str | None = None,
        barrier: bool = False,
    ) -> FlowBatch | StagedBatch:
        """Like `map`; each item is a sequence of positional arguments of the first stage.

        Examples:
            >>> power = app.step(pow, name="power")
            >>> (power >> double).starmap([(2, 3), (3, 2)]).results(timeout=10)
            [16, 18]
        """
        return self._map((tuple(item) for item in items), name, resume, node_id, barrier)

    def attach(self, name_or_id: str) -> FlowOperation | FlowBatch | StagedBatch:
        """The handle of a named batch, or of an operation's id, that was sent through this flow by whatever kernel.

        Raises:
            BatchUnknown, OperationUnknown.

        Examples:
            >>> flow = double >> double
            >>> flow.map([1, 2], name="ways").wait(timeout=10)
            True
            >>> flow.attach("ways").results(timeout=10)
            [4, 8]
        """
        found = self.app.attach(name_or_id)
        if isinstance(found, Operation):
            return self._handle(found.op, len(self))
        return attached(self, found) or FlowBatch(self, found._ranges, name=found.name)

    def _map(
        self, calls: Iterable[tuple[Any, ...]], name: str | None, resume: bool, node_id: str | None, barrier: bool
    ) -> FlowBatch | StagedBatch:
        if barrier:
            if resume:
                raise UsageError("A batch with a barrier is not continued: its stages are enqueued together.")
            return staged(self, calls, name, node_id)
        head = self._head()
        return head._extend(FlowBatch(self, head._begin(name, resume), name=name), calls, node_id)

    def _handle(self, op: OperationId, left: int) -> FlowOperation:
        results = FlowResults(1, len(self), left)
        self.app.listener.attach([op.range], results)
        return FlowOperation(self, op, results, 0)

    def _head(self) -> Step:
        """The first step, whose calls carry the others."""
        first, *rest = self.stages
        own = _decode(first._options.call) if first._options.call else CallOptions()
        call = msgspec.msgpack.encode(msgspec.structs.replace(own, flow=tuple(map(_stage, rest))))
        if len(call) > OPTIONS_LIMIT:
            raise UsageError(f"A flow of {len(self)} stages takes {len(call)} bytes; the limit is {OPTIONS_LIMIT}.")
        head = copy.copy(first)
        head._options = msgspec.structs.replace(first._options, call=call)
        return head

    def _depths(self) -> list[StageCounts]:
        if not self.app.connected:
            return [StageCounts(stage.name) for stage in self.stages]
        snapshot = self.app.snapshot()
        here: Counter[str] = Counter()
        for segment in snapshot.segments:
            here[segment.step] += segment.waiting + segment.parked + segment.claimed
        totals = {step.step: step for step in snapshot.steps}
        return [
            StageCounts(s.name, here[s.name], t.succeeded, t.finished - t.succeeded)
            if (t := totals.get(s.name))
            else StageCounts(s.name)
            for s in self.stages
        ]


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


class FlowBatch(Batch):
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

    def _repr_html_(self) -> str:
        return self.drawing()

    def drawing(self) -> str:
        """The stages, with what each holds of this batch; beneath its progress too, where that is shown."""
        return pipeline(self.stages(), self.flow.name)

    def whereabouts(self) -> str:
        return ", ".join(f"{stage.here:,} in {stage.name}" for stage in self.stages() if stage.here)

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


def _check(stage: Step, app: Blazing) -> None:
    """A later stage begins when the one before it is committed: moments and keys of a call make no sense there."""
    if stage.app.app_id != app.app_id:
        raise UsageError(f"Step {stage.name!r} is of app {stage.app.app_id!r}, the flow of {app.app_id!r}.")
    options = stage._options
    if options.key or options.at_ms or options.expires_at_ms or options.block_s or options.durability:
        raise UsageError(
            f"Stage {stage.name!r} comes after another: it takes delay, expires (in seconds), priority, retries, "
            "timeout and retention; key, at, block, durability and a moment for expires are for the first stage."
        )


def _stage(step: Step) -> Stage:
    options = step._options
    if options.on_failure != FAIL:
        raise UsageError(
            f"Stage {step.name!r} has on_failure={options.on_failure!r}, but begins only after a success; with "
            "barrier=True it would hold."
        )
    prio = "n" if options.prio == "d" else options.prio
    return Stage(step.name, step.code(), prio, options.delay_ms, options.expires_ms, options.call)
