"""Stage by stage: `flow.map(xs, barrier=True)`. A stage's operations wait for their own predecessor, and for a gate: an
operation that waits for all of the stage before. Everything is enqueued at once, and goes on without this process.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from blazing_nb.client.batch import Batch
from blazing_nb.client.decode import exception_of
from blazing_nb.client.item import StagesBatch
from blazing_nb.client.node import Call
from blazing_nb.client.results import Results
from blazing_nb.client.step import Step
from blazing_nb.core.codec import prepare_call
from blazing_nb.core.dependency import Members
from blazing_nb.core.diagram import StageCounts
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.errors import DependencyFailed, UsageError
from blazing_nb.store.join import Join

if TYPE_CHECKING:
    from blazing_nb.client.flow import Flow

GATE = "barrier"


def passed() -> None:
    """What a gate executes, once all of the stage before it are final."""


class StagedBatch(StagesBatch):
    """What `flow.map(..., barrier=True)` returns: the last stage's batch, which knows those of the stages before it.

    Attributes:
        flow: what was mapped.
        batches: one a stage; the last is this one's operations.

    Examples:
        >>> batch = (double >> positive).map([1, 2], barrier=True)
        >>> batch.results(timeout=20), [len(stage) for stage in batch.batches]
        ([2, 4], [2, 2])
    """

    def __init__(self, flow: Flow, batches: Sequence[Batch]) -> None:
        self.flow = flow
        self.batches = tuple(batches)
        super().__init__(flow.app, batches[-1]._ranges, name=batches[-1].name)

    def stages(self) -> list[StageCounts]:
        """What each stage holds, as far as known here; asks nobody.

        Examples:
            >>> batch = (double >> positive).map([1, -1], barrier=True)
            >>> batch.wait(timeout=20), [(stage.name, stage.done) for stage in batch.stages()][1]
            (True, ('positive', 1))
        """
        counts, before = [], [b"S"] * len(self)
        for step, batch in zip(self.flow.stages, self.batches, strict=True):
            now = [(record or b"")[:1] for record in batch._results.records]
            reached = [letter for letter, came in zip(now, before, strict=True) if came == b"S"]
            done, here = reached.count(b"S"), reached.count(b"")
            counts.append(StageCounts(step.name, here, done, len(reached) - done - here))
            before = now
        return counts

    def cancel(self) -> dict[str, int]:
        """Cancel all stages, the last one first; the answers are of the last one's operations.

        Examples:
            >>> sum((nap >> double).map([60, 60], barrier=True).cancel().values())
            2
        """
        for batch in reversed(self.batches[:-1]):
            batch.cancel()
        return super().cancel()

    def forget(self) -> int:
        """Drop the outcomes of all stages, and their names; how many there were. Raises `BatchUnfinished`.

        Examples:
            >>> batch = (double >> positive).map([1, 2], barrier=True)
            >>> batch.wait(timeout=20), batch.forget()
            (True, 4)
        """
        return super().forget() + sum(batch.forget() for batch in self.batches[:-1])

    def _value(self, index: int, record: bytes | None, return_exceptions: bool) -> Any:
        try:
            value = super()._value(index, record, return_exceptions)
        except Exception as error:
            raise self._explained(index, error) from error.__cause__
        return self._explained(index, value) if isinstance(value, DependencyFailed) else value

    def _explained(self, index: int, error: Exception) -> Exception:
        """Of the stage that ended it, not of those that waited for it in vain."""
        for number, (step, batch) in enumerate(zip(self.flow.stages, self.batches, strict=True), 1):
            record = batch._results.records[index]
            if record is not None and record[:1] != b"S":
                if isinstance(error, DependencyFailed):
                    error = exception_of(self._app, batch._id(index), decode_outcome(record))
                error.add_note(f"in stage {step.name} ({number} of {len(self.flow)}) of the flow {self.flow.name}")
                break
        return error


def staged(flow: Flow, calls: Iterable[tuple[Any, ...]], name: str | None, node_id: str | None) -> StagedBatch:
    """Enqueue all stages. With a name, the last stage has it, and those before it `<name>.<number>`.

    Raises:
        UsageError: a later stage has a priority: it goes when what it waits for is final. Nothing was sent.
        BatchExists: of any of the names. Nothing was sent.
    """
    names = _names(flow, name)
    for stage, title in zip(flow.stages, names, strict=True):
        if stage is not flow.stages[0] and stage._options.prio not in "nd":
            raise UsageError(f"Stage {stage.name!r} waits for others with barrier=True: it takes no priority.")
        stage._sender.begin(title, False)
    first, *later = flow.stages
    batches = [first._sender.extend(Batch(flow.app, [], name=names[0]), calls, node_id)]
    for stage, title in zip(later, names[1:], strict=True):
        before = batches[-1]
        step = copy.copy(stage)
        if len(before):
            step._after = (_gate(flow, before, node_id),)
        each = ((op,) for op in before.operations())
        batches.append(step._sender.extend(Batch(flow.app, [], name=title), each, node_id))
    return StagedBatch(flow, batches)


def attached(flow: Flow, last: Batch) -> StagedBatch | None:
    """The stages of a named batch that was sent with a barrier; None where it was not."""
    if not last._ranges or last._ranges[0].step != flow.stages[-1].name:
        return None
    found = [flow.app.store.batch(title) for title in _names(flow, last.name)[:-1] if title]
    if not all(found):
        return None
    titles = _names(flow, last.name)
    batches = [Batch(flow.app, ranges, name=title) for ranges, title in zip(found, titles, strict=False)]
    return StagedBatch(flow, [*batches, last])


def _names(flow: Flow, name: str | None) -> list[str | None]:
    if name is None:
        return [None] * len(flow)
    return [*(f"{name}.{number}" for number in range(1, len(flow))), name]


def _gate(flow: Flow, before: Batch, node_id: str | None) -> Members:
    """Final once all of that stage are, however they ended."""
    step = Step(flow.app, passed, GATE)
    flow.app.settle()
    join = Join((Members.of(before._ranges, counts="*", ending=""),))
    call = Call(
        step=GATE, code=step.code(), prepared=[prepare_call((), {})], prio="d", joins=(join,), cap=flow.app.segment_cap
    )
    return Members((flow.app.writer(node_id).send(call, Results(1), 0),), 1, "*", "")
