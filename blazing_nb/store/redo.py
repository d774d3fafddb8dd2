"""The redo window: what was acknowledged and may still be lost with its server; sent again where the store went back.

A store goes back where a replica takes over that had not got everything, where a server restarts without its file, or
where somebody empties it. Every enqueue says what its writer stored last in that segment, and the script refuses it
where that is missing; beside that a thread asks, for as long as anything is kept, whether the store is still the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from blazing_nb.core.markup import card, drawn, table
from blazing_nb.errors import BlazingError, RolledBack, StoreError, StoreUnavailable
from blazing_nb.store.connection import Connection
from blazing_nb.store.request import Chunk
from blazing_nb.store.store import Store

log = logging.getLogger(__name__)
KEPT_OPERATIONS, KEPT_BYTES = 100_000, 64 << 20
TICK_S = 0.5
CONFIRM_MS = 200
SYNCED_S = 3.0
"""After that a file that is synced every second holds a write, where the server cannot say so."""

MISSES = "it misses what it had acknowledged"
EMPTIED = "its database was emptied or replaced"


class Kept(msgspec.Struct):
    """An acknowledged chunk."""

    number: int
    chunk: Chunk
    size: int
    at_s: float


class Rollback(msgspec.Struct, frozen=True):
    """That the store went back: when, and what was seen of it; how many operations were missing and were sent again,
    and up to how many are lost: they were beyond the window, or nothing was kept.

    Attributes:
        at: seconds since 1970, by this machine's clock.

    Examples:
        >>> [(rollback.restored, rollback.beyond) for rollback in app.redo.rollbacks]
        []
    """

    at: float
    why: str
    restored: int
    beyond: int

    def __str__(self) -> str:
        text = f"the store went back ({self.why}): {self.restored:,} operations were missing and are there again"
        return text + (f"; up to {self.beyond:,} others are lost, beyond the redo window" if self.beyond else "")


class Identity(msgspec.Struct, frozen=True):
    """Who the store is: its replication, how far it has come, and which database it holds."""

    replication: str
    offset: int
    epoch: bytes | None

    def differs(self, before: Identity) -> str:
        """Why it may have gone back; empty where it has not."""
        if before.epoch is not None and self.epoch != before.epoch:
            return EMPTIED
        if self.replication != before.replication:
            return "another server, or another start of it, took over"
        return "its replication offset fell" if self.offset < before.offset else ""


class Redo:
    """The window of one app's enqueues in this process: `app.redo`.

    Args:
        store: what is kept is sent again there.
        active: False keeps nothing: what a store loses is only found out, and said.
        on_back: called where something was missing and is there again.

    Attributes:
        rollbacks: every time that the store was found to have gone back.

    Examples:
        >>> app.redo
        <Redo ... operations kept for ... s, 0 rollbacks>
    """

    def __init__(self, store: Store, *, active: bool = True, on_back: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._active = active
        self._on_back = on_back
        self._kept: deque[Kept] = deque()
        self._bytes = self._operations = 0
        self._number = self._overflown = 0
        self._acknowledged: dict[tuple[str, int], int] = {}
        self._steps: dict[tuple[str, bytes], tuple[bytes, bytes, str]] = {}
        self._generation = 0
        self._identity: Identity | None = None
        self._replicas = 0
        self._lock = threading.RLock()
        self._doing = threading.RLock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.rollbacks: list[Rollback] = []

    def __repr__(self) -> str:
        return f"<Redo {self._operations:,} operations kept for {self.window:.1f} s, {len(self.rollbacks)} rollbacks>"

    @drawn
    def _repr_html_(self) -> str:
        facts: list[tuple[str, object]] = [("kept", f"{self._operations:,}"), ("oldest", f"{self.window:.1f} s")]
        rows = [(time.strftime("%H:%M:%S", time.gmtime(row.at)), str(row)) for row in self.rollbacks]
        return card("Redo", self._store.keys.app, facts, table(("at (UTC)", "what"), rows))

    @property
    def kept(self) -> int:
        """Operations that were acknowledged and are not yet known to outlive their server: at most 100,000.

        Examples:
            >>> 0 <= app.redo.kept <= 100_000
            True
        """
        return self._operations

    @property
    def window(self) -> float:
        """How long ago the oldest of them was acknowledged, in seconds; 0.0 where none is kept.

        Examples:
            >>> app.redo.window >= 0
            True
        """
        with self._lock:
            return time.monotonic() - self._kept[0].at_s if self._kept else 0.0

    def close(self) -> None:
        """Keep no longer; before the store is closed, which ends what the thread waits for. Repeatable."""
        self._closing.set()

    def join(self) -> None:
        """Wait for the thread's end."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # -- the writers' side ---------------------------------------------------------------------------------------------

    def define(self, step: str, digest: bytes, record: bytes, options: bytes, limits: str) -> None:
        """Remember a step that was recorded: what is sent again needs its code."""
        if self._active:
            self._steps[step, digest] = record, options, limits

    def enqueue(self, store: Store, chunk: Chunk) -> str:
        """As `Store.enqueue`; where the store went back, what it lost goes first."""
        which, unchecked = (f"{chunk.step}:{chunk.prio}:{chunk.node}", chunk.incarnation), False
        while True:
            generation = self._generation
            before = 0 if unchecked else self._acknowledged.get(which, 0)
            try:
                answer = store.enqueue(msgspec.structs.replace(chunk, before=before))
            except RolledBack as error:
                unchecked = True
                self.redo(MISSES, store, missing=int(str(error.fields["missing"])))
                continue
            if answer == "fenced":
                return answer
            if not chunk.key:
                last = chunk.first + len(chunk.payloads) - 1
                self._acknowledged[which] = max(last, self._acknowledged.get(which, 0))
            if self._keep(chunk, generation):
                return answer

    def _keep(self, chunk: Chunk, generation: int) -> bool:
        """False where something was sent again meanwhile: then this may have been lost, too."""
        with self._lock:
            if generation != self._generation:
                return False
            if not self._active:
                return True
            size = sum(map(len, chunk.payloads))
            self._number += 1
            self._kept.append(Kept(self._number, chunk, size, time.monotonic()))
            self._bytes += size
            self._operations += len(chunk.payloads)
            while self._operations > KEPT_OPERATIONS or self._bytes > KEPT_BYTES:
                self._overflown += len(self._drop().payloads)
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="bz-redo", daemon=True)
                self._thread.start()
        return True

    def _drop(self) -> Chunk:
        kept = self._kept.popleft()
        self._bytes -= kept.size
        self._operations -= len(kept.chunk.payloads)
        return kept.chunk

    # -- sending again -------------------------------------------------------------------------------------------------

    def redo(self, why: str, store: Store | None = None, *, missing: int = 0) -> None:
        """Send everything that is kept once more, in order; what the store has is known to it. `missing`: of one
        segment, as far as known.

        Raises:
            StoreUnavailable: not all of it; to repeat is safe.
        """
        store = store or self._store
        with self._doing:
            with self._lock:
                self._generation += 1
                kept = list(self._kept)
            for (step, digest), (record, options, limits) in list(self._steps.items()):
                store.define(step, digest, record, options, limits)
            found = [self._again(store, one.chunk) for one in kept]
            restored = sum(len(one.chunk.payloads) for one, new in zip(kept, found, strict=True) if new)
            beyond = max(missing - restored, self._overflown if restored else 0)
            if restored or beyond or why == EMPTIED:
                self._tell(Rollback(time.time(), why, restored, beyond))

    def _tell(self, rollback: Rollback) -> None:
        log.error("%s", rollback)
        self.rollbacks.append(rollback)
        self._on_back()

    def _again(self, store: Store, chunk: Chunk) -> bool:
        """Whether it was missing."""
        try:
            return store.enqueue(chunk) == "added"
        except StoreUnavailable:
            raise
        except BlazingError as error:
            log.error("what the store lost cannot be sent again: %s", error)
            return False

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """While anything is kept."""
        connection = self._store.dedicated()
        why = ""
        try:
            while not self._closing.is_set():
                try:
                    why = why or self._look(connection)
                    if why:
                        self.redo(why)
                        why = ""
                    self._confirm(connection)
                except StoreError as error:
                    log.debug("what is kept cannot be confirmed now: %s", error)
                with self._lock:
                    if not self._kept and not why:
                        self._thread = None
                        return
                self._closing.wait(TICK_S)
        finally:
            self._store.discard(connection)

    def _look(self, connection: Connection) -> str:
        """Why the store may have gone back since the last look; empty where it has not."""
        now = self._ask(connection)
        before, self._identity = self._identity, now
        return now.differs(before) if before is not None else ""

    def _ask(self, connection: Connection, *, same: bool = False) -> Identity:
        call = connection.confirm if same else connection.call
        info = _fields(call("INFO", "replication") or b"")
        epoch = call("HGET", self._store.keys.meta, "epoch")
        now = Identity(info.get("master_replid", ""), int(info.get("master_repl_offset", 0)), epoch)
        if not same:
            known = self._identity is not None and self._identity.replication == now.replication
            self._replicas = max(self._replicas if known else 0, int(info.get("connected_slaves", 0)))
        return now

    def _confirm(self, connection: Connection) -> None:
        """Drop what every replica, or else the disk, has: after a mark was written behind it, all by one socket of the
        server that was looked at."""
        with self._lock:
            newest, synced_s = self._number, time.monotonic() - SYNCED_S
        connection.call("SET", self._store.durability.mark, "1")
        durable = self._is_durable(connection)
        if not durable or self._identity is None or self._ask(connection, same=True).differs(self._identity):
            return
        with self._lock:
            while self._kept and self._kept[0].number <= newest:
                if durable == "aged" and self._kept[0].at_s > synced_s:
                    return
                self._drop()
            self._overflown = 0

    def _is_durable(self, connection: Connection) -> str:
        """ "now" or "aged": what was written before the mark is; empty where nothing says so."""
        if self._replicas:
            found = connection.confirm("WAIT", self._replicas, CONFIRM_MS, block_s=CONFIRM_MS / 1000)
            return "now" if found is not None and int(found) >= self._replicas else ""
        info = _fields(connection.confirm("INFO", "persistence") or b"")
        good = info.get("aof_enabled") == "1" and info.get("aof_last_write_status") == "ok"
        return "aged" if good else ""


def _fields(info: bytes) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
