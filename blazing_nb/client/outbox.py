"""Accepting while the store is out of reach: calls wait in a file, and a thread sends them, in order, once.

While the store answers, nothing is written here. The first call that it does not answer goes into the file as it is;
all that follow go behind it, under the identity of the file's own node, until the thread has sent the last one.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import msgspec

from blazing_nb.client.listener import Listener
from blazing_nb.client.node import Call, NodeWriter, refused
from blazing_nb.client.outbox_writer import OutboxWriter
from blazing_nb.client.results import Results
from blazing_nb.client.spool import Parcel, Refused, Spool
from blazing_nb.core.dot import OperationId, Range
from blazing_nb.core.markup import card, drawn, table
from blazing_nb.core.signature import KeyRing
from blazing_nb.core.snapshot import OutboxState, Snapshot
from blazing_nb.core.text import one_line
from blazing_nb.errors import (
    AppDraining,
    BatchExists,
    BlazingError,
    OutboxFull,
    ScriptRefused,
    SegmentFull,
    StoreError,
    StoreFull,
    StoreRestored,
    StoreUnavailable,
    StoreUnsuitable,
)
from blazing_nb.store.join import register
from blazing_nb.store.redo import Redo
from blazing_nb.store.request import Chunk
from blazing_nb.store.shards import assume_store
from blazing_nb.store.store import Store

log = logging.getLogger(__name__)
PATIENCE_S = 1.0
"""How long a call waits for the store before it goes into the file."""
SILENCE_S = 2.0
PAUSES_S = (0.05, 1.0)
PASSING = (StoreUnavailable, SegmentFull, StoreFull, AppDraining, StoreRestored, StoreUnsuitable)
NOPERM = "NOPERM"


class Outbox:
    """What waits on this machine for the store: `app.outbox` of an app with `Blazing(outbox=...)`.

    Attributes:
        cap: how many operations may wait here; 0: any number. Beyond it `enqueue` raises `OutboxFull`.

    Examples:
        >>> half = away.step(lambda x: x // 2, name="half")
        >>> half.enqueue(6).result(timeout=10)  # where the store is out of reach, `enqueue` accepts it all the same
        3
        >>> away.outbox
        <Outbox of examples: 0 operations; the store is in reach>
    """

    def __init__(self, spool: Spool, store: Store, listener: Listener, ring: KeyRing, redo: Redo, cap: int) -> None:
        self._spool = spool
        app, url, shards = store.keys.app, store.url, store.count
        self._app = app
        self._quick = assume_store(app, url, shards, timeout_s=SILENCE_S, deadline_s=PATIENCE_S)
        self._store = assume_store(app, url, shards)
        self._listener = listener
        self._ring = ring
        self._redo = redo
        self.cap = cap
        self._own = NodeWriter(spool.node, app, self._quick, ring, listener, redo)
        self._changed = threading.Condition(threading.RLock())
        self._closing = threading.Event()
        self._away = spool.depth > 0
        self._since: float | None = None
        self._error = ""
        self._unchecked = False
        self._last: Snapshot | None = None
        self._thread: threading.Thread | None = None
        if self._away:
            self._start()

    def __repr__(self) -> str:
        depth = self.depth
        waits = f"{depth:,} operation{'' if depth == 1 else 's'}"
        if depth:
            waits += f", the oldest for {self.age:.1f} s"
        if self._spool.refused:
            waits += f", {self._spool.refused:,} refused"
        reach = "out of reach" if self._since is not None else "being caught up with" if self._away else "in reach"
        return f"<Outbox of {self._app}: {waits}; the store is {reach}>"

    @drawn
    def _repr_html_(self) -> str:
        facts: list[tuple[str, object]] = [("waiting", f"{self.depth:,}"), ("oldest", f"{self.age:.1f} s")]
        facts += [("refused", f"{self._spool.refused:,}"), ("at most", f"{self.cap:,}" if self.cap else "any number")]
        facts += [("store", "out of reach" if self._since is not None else "in reach"), ("", one_line(self._error))]
        rows = [(row.first, row.operations, row.why) for row in self.refused()]
        return card("Outbox", self._app, facts, table(("refused from", "operations", "why"), rows))

    @property
    def path(self) -> Path:
        """The file, of mode 0600.

        Examples:
            >>> away.outbox.path.is_file()
            True
        """
        return self._spool.path

    @property
    def depth(self) -> int:
        """Operations that wait here.

        Examples:
            >>> away.outbox.depth
            0
        """
        return self._spool.depth

    @property
    def age(self) -> float:
        """Seconds that the oldest has waited; 0.0 where none does.

        Examples:
            >>> away.outbox.age
            0.0
        """
        return self._spool.oldest_ms() / 1000

    @property
    def away(self) -> bool:
        """Whether what is enqueued now waits here: the store is out of reach, or has not got all that came before.

        Examples:
            >>> away.outbox.away
            False
        """
        return self._away

    def refused(self) -> list[Refused]:
        """What the store would not take (a batch's name was taken, say), with the reasons. It is kept until
        `dismiss()`.

        Examples:
            >>> away.outbox.refused()
            []
        """
        return self._spool.refusals()

    def dismiss(self) -> int:
        """Forget what was refused; how many operations it was.

        Examples:
            >>> away.outbox.dismiss()
            0
        """
        return self._spool.dismiss()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all is sent; False where `timeout` seconds were not enough.

        Examples:
            >>> away.outbox.wait(timeout=10)
            True
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._away or self._closing.is_set(), timeout)
            return not self._away

    def close(self) -> None:
        """Stop sending. What waits stays in the file, for the next process. Repeatable. `app.close()` does it.

        Examples:
            >>> brief = Blazing("examples", outbox=True)
            >>> brief.outbox.close()
            >>> brief.close()
        """
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._store.close()
            thread.join()
        self._store.close()
        self._quick.close()
        self._spool.close()

    # -- the app's side ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Probe the server now, or when it answers. Raises `StoreUnsuitable`."""
        try:
            self._quick.check()
        except StoreUnavailable as error:
            self._unchecked = True
            self.leave(error)

    def writer(self, name: str) -> NodeWriter:
        return OutboxWriter(name, self._app, self._quick, self._ring, self._listener, self._redo, self)

    def define(self, step: str, digest: bytes, record: bytes, options: bytes, limits: str) -> None:
        """Record a step in the store, or in the file until it answers."""
        if not self._away:
            try:
                self._quick.define(step, digest, record, options, limits)
                return
            except StoreUnavailable as error:
                self.leave(error)
        with self._changed:
            self._spool.define(step, digest, record, options, limits)
            self._wake()

    def ranges(self, name: str, resume: bool) -> list[Range]:
        """What a named batch holds, as far as can be known: while the store is away, nothing."""
        if self._away and resume:
            raise StoreUnavailable(
                f"Whether the batch {name!r} exists only the store knows, and it is out of reach: "
                "leave resume= out, or wait."
            )
        if self._spool.has_batch(name):
            raise BatchExists(f"A batch {name!r} waits in the outbox already: choose another name.", name=name)
        if not self._away:
            try:
                return self._quick.batch(name)
            except StoreUnavailable as error:
                self.leave(error)
        return []

    def holds(self, op: OperationId) -> bool:
        """Whether that operation waits here."""
        return self.depth > 0 and self._spool.holds(op)

    def state(self) -> OutboxState:
        since = self._since
        away_ms = 0 if since is None else max(1, round(1000 * (time.monotonic() - since)))
        return OutboxState(str(self.path), self.depth, self._spool.oldest_ms(), self._spool.refused, away_ms)

    def snapshot(self) -> Snapshot:
        """The store's, or while it is out of reach the last one, and what waits here."""
        if self._since is None:
            try:
                self._last = self._quick.snapshot()
            except StoreUnavailable as error:
                self.leave(error)
        last = self._last or Snapshot(self._app, time.time_ns() // 1_000_000, [], [], [])
        return msgspec.structs.replace(last, outboxes=(self.state(),))

    # -- accepting -----------------------------------------------------------------------------------------------------

    def leave(self, error: StoreUnavailable) -> None:
        """The store is out of reach: from now on what is enqueued waits here."""
        with self._changed:
            if self._since is None:
                self._since = time.monotonic()
                log.warning("the store is out of reach, what is enqueued waits in %s: %s", self.path, error)
            self._error = str(error)
            self._away = True
            self._wake()

    def take(self, chunk: Chunk) -> None:
        """A call that the store may have or not, as it is, behind what waits. Beyond the cap too: it was accepted."""
        with self._changed:
            self._away = True
            self._spool.add(chunk)
            self._wake()

    def accept(self, call: Call, results: Results, slot: int) -> Range | None:
        """The call under an identity of the file's node; None where nothing waits any more: the store takes it.

        Raises:
            OutboxFull: nothing was accepted.
        """
        with self._changed:
            if not self._away:
                return None
            n = len(call.prepared)
            if self.cap and self.depth + n > self.cap:
                raise OutboxFull(
                    f"The outbox {self.path} holds {self.depth:,} of at most {self.cap:,} operations; {n:,} more were "
                    "refused. Enqueue again when the store has answered.",
                    operations=self.depth,
                    cap=self.cap,
                )
            if not self._own.incarnation:
                self._own.begin(self._spool.incarnation, wake=False)
            pending = self._own._identify(call, results, slot)
            try:
                self._spool.add(pending.chunk)
            except OutboxFull:
                self._listener.untrack(pending.range, results)
                raise
            self._wake()
            return pending.range

    # -- sending -------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="bz-outbox", daemon=True)
        self._thread.start()

    def _wake(self) -> None:
        if self._thread is None and not self._closing.is_set():
            self._start()

    def _run(self) -> None:
        """Until nothing waits any more; pauses double while the store does not take it."""
        pause = PAUSES_S[0]
        while not self._closing.is_set():
            try:
                if self._turn():
                    return
                pause = PAUSES_S[0]
            except PASSING as error:
                self._note(error)
                self._closing.wait(pause)
                pause = min(PAUSES_S[1], 2 * pause)
            except Exception:
                if self._closing.is_set():
                    return
                log.exception("the outbox %s cannot be sent now", self.path)
                self._closing.wait(PAUSES_S[1])

    def _note(self, error: StoreError) -> None:
        with self._changed:
            self._error = str(error)
            away = isinstance(error, StoreUnavailable)
            self._since = (self._since or time.monotonic()) if away else None
            self._changed.notify_all()

    def _turn(self) -> bool:
        """One call; True where nothing was left, and direct calls may go again."""
        if self._unchecked:
            self._store.check()
            self._unchecked = False
        for number, step, digest, record, options, limits in self._spool.definitions():
            self._store.define(step, digest, record, options, limits)
            self._spool.defined(number)
        parcel = self._spool.head()
        if parcel is not None:
            self._send(parcel)
            self._reached()
            return False
        self._store.memory()  # it answers
        with self._changed:
            if self._spool.depth or self._spool.definitions():
                return False
            self._away, self._since, self._error, self._thread = False, None, "", None
            self._changed.notify_all()
        return True

    def _reached(self) -> None:
        with self._changed:
            self._since, self._error = None, ""

    def _send(self, parcel: Parcel) -> None:
        chunk = _aged(parcel)
        try:
            answer = self._enqueue(chunk)
        except PASSING:
            raise
        except BlazingError as error:
            if isinstance(error, ScriptRefused) and error.fields.get("code") == NOPERM:
                raise StoreUnsuitable(str(error)) from error
            self._refuse(parcel, error)
            return
        if answer == "fenced":
            text = f"another process uses the NODE_ID {chunk.node!r}; these were never stored: enqueue them again"
            self._refuse(parcel, StoreError(text))
            return
        self._spool.sent(parcel)

    def _enqueue(self, chunk: Chunk) -> str:
        for join in chunk.joins:
            register(self._store, chunk.range.at(join.at).text, join)
        return self._redo.enqueue(self._store, chunk)

    def _refuse(self, parcel: Parcel, error: BlazingError) -> None:
        """Put aside; whoever waits for it here learns why."""
        log.error("the store refused what waited in the outbox: %s", error)
        for chunk in self._spool.refuse(parcel, f"{type(error).__name__}: {error}"):
            self._listener.conclude(chunk.range, refused(self._app, self._ring, error))


def _aged(parcel: Parcel) -> Chunk:
    """Delays and deadlines count from the call, not from when it reaches the store."""
    chunk = parcel.chunk
    if not chunk.delay_ms and not chunk.expires_ms:
        return chunk
    waited = max(0, time.time_ns() // 1_000_000 - parcel.at_ms)
    chunk = msgspec.structs.replace(chunk, delay_ms=max(0, chunk.delay_ms - waited))
    if chunk.expires_ms > waited:
        return msgspec.structs.replace(chunk, expires_ms=chunk.expires_ms - waited)
    return msgspec.structs.replace(chunk, expires_ms=0, expires_at_ms=1 if chunk.expires_ms else chunk.expires_at_ms)
