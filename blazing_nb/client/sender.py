"""Sends a step's calls: one, many in chunks, one with a key. Checks and encodes arguments before anything is sent."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from blazing_nb.client.batch import Batch
from blazing_nb.client.dependency import Finder, portions
from blazing_nb.client.node import Call
from blazing_nb.client.option import Options
from blazing_nb.client.results import Results
from blazing_nb.client.trace import sending
from blazing_nb.core.codec import Prepared, prepare_call, seal_call
from blazing_nb.core.dependency import Members
from blazing_nb.core.dot import OperationId, Range
from blazing_nb.core.name import check_name
from blazing_nb.core.replay import replaying
from blazing_nb.core.signature import context
from blazing_nb.errors import (
    BatchExists,
    BlazingError,
    NotDeterministic,
    PayloadTooLarge,
    SegmentFull,
    StoreUnavailable,
    UsageError,
)
from blazing_nb.store.join import Join
from blazing_nb.store.request import Chunk

if TYPE_CHECKING:
    from blazing_nb.client.step import Step

FIRST_CHUNK, CHUNK = 64, 1000
FIRST_PAUSE_S, LAST_PAUSE_S = 0.005, 0.2
Sent = TypeVar("Sent")
Many = TypeVar("Many", bound=Batch)


class Sender:
    """Of one step, under one set of options. `after`: what calls with dependencies wait for beside them."""

    def __init__(self, step: Step, options: Options, after: tuple[Members, ...] = ()) -> None:
        self._step, self._app, self._name = step, step.app, step.name
        self._options, self._after = options, after

    def send(self, args: tuple[Any, ...], kwargs: dict[str, Any], results: Results) -> OperationId:
        """Send one call, whose outcome goes to `results`. Raises as `Step.enqueue`."""
        __tracebackhide__ = True
        self._refuse_in_workflow()
        finder = self._finder()
        prepared = self.prepare(args, kwargs, finder)
        joins = self._joins(finder)
        if self._options.key:
            op = self._enqueue_once(prepared)
            self._app.listener.attach([op.range], results)
            return op
        writer = self._app.writer()
        with self._sending(1) as options:
            call = self.call([prepared], options, joins=joins)
            range_ = self._when_there_is_room(lambda: writer.send(call, results, 0))
        return next(range_.ids())

    def begin(self, name: str | None, resume: bool) -> list[Range]:
        """What a batch of that name holds already."""
        if name is None:
            if resume:
                raise UsageError("resume= continues a batch of a name: give it, name=...")
            return []
        ranges = self._app.recorded(check_name(name, "batch name"), resume)
        if ranges and not resume:
            raise BatchExists(
                f"Batch {name!r} exists and holds {sum(map(len, ranges))} operations: attach to it, continue it with "
                "resume=True, or choose another name.",
                name=name,
            )
        return ranges

    def extend(self, batch: Many, calls: Iterable[tuple[Any, ...]], node_id: str | None) -> Many:
        """Send the calls that the batch does not hold yet."""
        __tracebackhide__ = True
        self._refuse_in_workflow()
        writer, name = self._app.writer(node_id), batch.name
        if self._options.key:
            raise UsageError("An idempotency key names one operation: use enqueue, not map.")
        source, size = iter(calls), FIRST_CHUNK
        for _ in islice(source, len(batch)):
            pass
        while True:
            try:
                finder = self._finder()
                prepared = [self.prepare(args, {}, finder, at) for at, args in enumerate(islice(source, size))]
                joins = self._joins(finder)
            except BlazingError as error:
                error.fields["sent"] = len(batch)
                error.add_note(f"{len(batch)} operations were sent before this item.")
                raise
            if not prepared:
                return batch
            for part, here in portions(prepared, joins):
                with self._sending(len(part)) as options:
                    call = self.call(part, options, name or "", len(batch) if name else 0, here)
                    self._when_there_is_room(functools.partial(batch.extend, writer, call))
            size = min(CHUNK, size * 4)

    def prepare(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], finder: Finder | None = None, at: int = 0
    ) -> Prepared:
        """Check and encode the arguments of one call, the one at the place `at` of its chunk.

        Raises:
            InvalidArguments, ValueNotSerializable, PayloadTooLarge.
        """
        __tracebackhide__ = True
        self._step._parameters.check(self._name, args, kwargs)
        if finder is None:
            prepared = prepare_call(args, kwargs)
        else:
            finder.at = at
            prepared = prepare_call(args, kwargs, finder.swap)
        size, limit = len(prepared[1]), self._app.payload_limit
        if size > limit:
            raise PayloadTooLarge(
                f"The arguments of {self._name!r} have {size:,} bytes; the limit is {limit:,}. Store what is large by "
                "app.put(value) and pass what that gives, or pass the name of a file.",
                size=size,
                limit=limit,
            )
        return prepared

    def call(
        self, prepared: Sequence[Prepared], own: bytes, batch: str = "", offset: int = 0, joins: tuple[Join, ...] = ()
    ) -> Call:
        """A chunk of calls as a node's writer sends it; `own`: the options that travel with each."""
        __tracebackhide__ = True
        options = self._options
        return Call(
            step=self._name,
            code=self._step.code(),
            prepared=prepared,
            batch=batch,
            offset=offset,
            prio="d" if joins else options.prio,
            delay_ms=options.delay_ms,
            at_ms=options.at_ms,
            expires_ms=options.expires_ms,
            expires_at_ms=options.expires_at_ms,
            options=own,
            cap=self._app.segment_cap,
            joins=joins,
            durability=options.durability or self._app.durability,
        )

    def _refuse_in_workflow(self) -> None:
        if replaying.get() is not None:
            raise NotDeterministic(
                f"A workflow would send {self._name!r} again at every replay: await it, `await {self._name}(...)`."
            )

    def _sending(self, count: int) -> AbstractContextManager[bytes]:
        """The call's own options as they travel, within the span of sending them."""
        return sending(self._app.app_id, self._name, count, self._options.call)

    def _finder(self) -> Finder:
        return Finder(self._app.app_id, self._options.on_failure, self._after)

    def _joins(self, finder: Finder) -> tuple[Join, ...]:
        """What calls wait for that have dependencies; the store knows of these when this returns."""
        joins = finder.joins()
        if joins:
            if self._options.key or self._options.prio not in "nd":
                raise UsageError("What waits for others goes when they are final: no priority= and, yet, no key=.")
            self._app.settle()
        return joins

    def _when_there_is_room(self, send: Callable[[], Sent]) -> Sent:
        """Send; where the segment is full, again and again for as long as the caller said."""
        end, pause = time.monotonic() + self._options.block_s, FIRST_PAUSE_S
        while True:
            try:
                return send()
            except SegmentFull:
                if time.monotonic() + pause > end:
                    raise
            time.sleep(pause)
            pause = min(LAST_PAUSE_S, 2 * pause)

    def _enqueue_once(self, prepared: Prepared) -> OperationId:
        """The store gives the id; the arguments are signed under the key, which is known before."""
        if self._app.outbox is not None and self._app.outbox.away:
            raise StoreUnavailable(
                "Which operation has a key only the store can say, and it is out of reach: go without key=, or wait."
            )
        with self._sending(1) as own:
            return OperationId.parse(self._app.redo.enqueue(self._app.store, self._keyed(prepared, own)))

    def _keyed(self, prepared: Prepared, own: bytes) -> Chunk:
        options, code = self._options, self._step.code()
        ctx = context(self._app.app_id, self._name, code, f"{self._name}|{options.key}")
        return Chunk(
            step=self._name,
            prio=options.prio,
            node="",
            incarnation=0,
            first=0,
            payloads=[seal_call(prepared, code, self._app.ring, ctx, own)],
            delay_ms=options.delay_ms,
            at_ms=options.at_ms,
            expires_ms=options.expires_ms,
            expires_at_ms=options.expires_at_ms,
            key=options.key,
            durability=options.durability or self._app.durability,
        )
