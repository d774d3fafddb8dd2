"""The writer of one node: an incarnation, one counter over all its segments, calls in counter order.

A call that was interrupted stays at the head and is settled (sent again, with the same identities) before another
leaves.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Sequence

import msgspec

from blazing_nb.client.listener import Listener
from blazing_nb.client.results import Results
from blazing_nb.core.codec import PLAIN, RESULT, Prepared, encode_failure, seal_call
from blazing_nb.core.dot import OperationId, Range
from blazing_nb.core.outcome import encode_body
from blazing_nb.core.signature import KeyRing, context
from blazing_nb.errors import BlazingError, OperationUncertain, ScriptRefused, StoreUnavailable
from blazing_nb.store.durability import MEMORY
from blazing_nb.store.join import Join, register
from blazing_nb.store.redo import Redo
from blazing_nb.store.request import Chunk
from blazing_nb.store.store import Store

log = logging.getLogger(__name__)


class Call(msgspec.Struct, frozen=True):
    """What a user asked to enqueue in one step: arguments encoded, not yet identified or signed."""

    step: str
    code: bytes
    prepared: Sequence[Prepared]
    batch: str = ""
    offset: int = 0
    prio: str = "n"
    delay_ms: int = 0
    at_ms: int = 0
    expires_ms: int = 0
    expires_at_ms: int = 0
    options: bytes = b""
    cap: int = 0
    joins: tuple[Join, ...] = ()
    durability: str = MEMORY


class Pending(msgspec.Struct, eq=False):
    """A call with its identities. `settled`: whether the store has it is known."""

    call: Call
    results: Results
    slot: int
    range: Range
    chunk: Chunk
    settled: bool = False


class NodeWriter:
    """One per (process, node name)."""

    def __init__(self, name: str, app: str, store: Store, ring: KeyRing, listener: Listener, redo: Redo) -> None:
        self.name = name
        self.incarnation = 0
        self._app = app
        self._store = store
        self._ring = ring
        self._listener = listener
        self._redo = redo
        self._next = 1
        self._lock = threading.RLock()
        self._unsettled: Pending | None = None

    def __repr__(self) -> str:
        return f"<NodeWriter {self.name} incarnation={self.incarnation} next={self._next}>"

    def send(self, call: Call, results: Results, slot: int) -> Range:
        """Enqueue; the identities given. `results` receives the records from `slot` on.

        Raises:
            SegmentFull, BatchExists: nothing was stored.
            StoreUnavailable: nothing of this call was sent.
            OperationUncertain: not known, or not as well kept as asked; the next call settles it first.
        """
        with self._lock:
            self.settle()
            if not self.incarnation:
                self._open()
            pending = self._unsettled = self._identify(call, results, slot)
            try:
                self._deliver(pending)
            except StoreUnavailable as error:
                raise _uncertain(pending, error) from error.__cause__
            except BlazingError:
                self._listener.untrack(pending.range, pending.results)
                raise
            return pending.range

    @property
    def unsettled(self) -> Pending | None:
        """The call that was sent and not answered."""
        return self._unsettled

    def settle(self) -> None:
        """Send what an interruption left, if anything."""
        with self._lock:
            pending = self._unsettled
            if pending is None:
                return
            try:
                self._deliver(pending)
            except StoreUnavailable:
                raise
            except BlazingError as error:
                log.warning("an interrupted enqueue of %s was refused when it was settled: %s", self.name, error)
                self._listener.conclude(pending.range, refused(self._app, self._ring, error))

    def _deliver(self, pending: Pending) -> None:
        """Send until the store has answered for these operations, or refused them."""
        try:
            while self._enqueue(pending) == "fenced":
                self._move(pending)
        except StoreUnavailable:
            raise
        except BlazingError:
            self._unsettled, pending.settled = None, True
            raise
        self._unsettled, pending.settled = None, True

    def _enqueue(self, pending: Pending) -> str:
        """What waits for many has them registered first; twice where that took so long that it had expired."""
        for last in (False, True):
            for join in pending.chunk.joins:
                register(self._store, pending.range.at(join.at).text, join)
            try:
                return self._redo.enqueue(self._store, pending.chunk)
            except ScriptRefused as error:
                if last or error.fields.get("code") != "BZJOIN":
                    raise
        raise AssertionError("the second time returns or raises")

    def _open(self) -> None:
        self.begin(self._store.open_node(self.name))

    def begin(self, incarnation: int, *, wake: bool = True) -> None:
        """Write as that start of the node, which nobody else has. `wake`: completions are followed from now on, instead
        of within a second."""
        self._listener.open(self.name, incarnation, wake=wake)
        self.incarnation, self._next = incarnation, 1

    def _identify(self, call: Call, results: Results, slot: int) -> Pending:
        first = self._next
        last = first + len(call.prepared) - 1
        range_ = Range(call.step, call.prio, self.name, self.incarnation, first, last)
        chunk = Chunk(
            step=call.step,
            prio=call.prio,
            node=self.name,
            incarnation=self.incarnation,
            first=first,
            payloads=self._sealed(call, range_),
            batch=call.batch,
            offset=call.offset,
            delay_ms=call.delay_ms,
            at_ms=call.at_ms,
            expires_ms=call.expires_ms,
            expires_at_ms=call.expires_at_ms,
            cap=call.cap,
            joins=call.joins,
            durability=call.durability,
        )
        self._listener.track(range_, results, slot)
        self._next = last + 1
        return Pending(call, results, slot, range_, chunk)

    def _sealed(self, call: Call, range_: Range) -> list[bytes]:
        code, ring = call.code, self._ring
        head = seal_call((PLAIN, b""), code, ring, b"", call.options)
        payloads = []
        for counter, prepared in enumerate(call.prepared, range_.first):
            if prepared[0] == PLAIN:
                payloads.append(head + prepared[1])
            else:
                origin = f"{call.step}:{call.prio}:{self.name}:{self.incarnation}-{counter}"
                ctx = context(self._app, call.step, code, origin)
                payloads.append(seal_call(prepared, code, ring, ctx, call.options))
        return payloads

    def _move(self, pending: Pending) -> None:
        """The incarnation was fenced: the same operations under a new one."""
        warnings.warn(
            f"NODE_ID {self.name!r} is used by another process too; {len(pending.chunk.payloads)} operations were sent "
            "again under a new incarnation. Give each process a NODE_ID of its own.",
            RuntimeWarning,
            stacklevel=5,
        )
        self._listener.untrack(pending.range, pending.results)
        self._open()
        moved = self._identify(pending.call, pending.results, pending.slot)
        pending.range, pending.chunk = moved.range, moved.chunk


def refused(app: str, ring: KeyRing, error: BlazingError) -> Callable[[OperationId], bytes]:
    """What operations end as that the store refused when nobody waited for its answer any more."""

    def record(op: OperationId) -> bytes:
        ctx = context(app, op.step, RESULT, op.text)
        return b"F0-0;" + encode_body(0, 0, 0, 0, 0, encode_failure(error, ring, ctx))

    return record


def _uncertain(pending: Pending, error: StoreUnavailable) -> OperationUncertain:
    which = {"operation": pending.range.at(0).text, "operations": len(pending.range)}
    if isinstance(error, OperationUncertain):  # they are stored, and not confirmed to the level
        error.fields |= which
        return error
    count = "1 operation was" if len(pending.range) == 1 else f"{len(pending.range)} operations were"
    return OperationUncertain(
        f"{count} sent, and the store did not answer whether it has them ({error}). Do not enqueue anew: the next "
        "call, or app.settle(), sends the same again, and each is stored once.",
        **which,
        **error.fields,
    )
