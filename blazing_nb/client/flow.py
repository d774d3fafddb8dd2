"""Flows: `load >> clean >> save` as a value. The commit of a stage enqueues the next one in the same script.

Owns the value; its handles are in `client/item`, what follows a commit is made by the worker and written by the store.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from blazing_nb.client.barrier import StagedBatch, attached, staged
from blazing_nb.client.batch import Batch
from blazing_nb.client.item import FlowBatch, FlowOperation, FlowResults
from blazing_nb.client.operation import Operation
from blazing_nb.client.step import Step
from blazing_nb.core.dependency import FAIL
from blazing_nb.core.diagram import StageCounts, pipeline
from blazing_nb.core.dot import OperationId
from blazing_nb.core.policy import CallOptions, Stage
from blazing_nb.core.replay import replaying
from blazing_nb.errors import UsageError

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
        return FlowOperation(self, self._head()._sender.send(args, kwargs, results), results, 0)

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
        sender = self._head()._sender
        return sender.extend(FlowBatch(self, sender.begin(name, resume), name=name), calls, node_id)

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
