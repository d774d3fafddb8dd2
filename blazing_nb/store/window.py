"""What was acknowledged here and may still be lost with its server: kept until every replica, or the disk, has it.

Whoever keeps something says how it is sent again. A thread asks, for as long as anything is kept, whether the store is
still the same: its replication id and offset, and the epoch of the app's database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from blazing_nb.errors import StoreError, StoreRestored
from blazing_nb.store.connection import Connection
from blazing_nb.store.generation import ADOPTED, COUNT, FIELD, accuse
from blazing_nb.store.process import unique_name
from blazing_nb.store.refusal import RESTORED
from blazing_nb.store.reply import parse_info
from blazing_nb.store.store import Store

log = logging.getLogger(__name__)
Item = TypeVar("Item")
TICK_S = 0.5
CONFIRM_MS = 200
SYNCED_S = 3.0
"""After that a file that is synced every second holds a write, where the server cannot say so."""

OLD_S = 60.0
"""A mark that was set so long ago is missed only by an old backup, where neither replica nor disk confirms it."""
MARK_S = 86_400
EMPTIED = "its database was emptied or replaced"


class Kept(msgspec.Struct, Generic[Item]):
    """An acknowledged write."""

    number: int
    item: Item
    operations: int
    size: int
    at_s: float


class Identity(msgspec.Struct, frozen=True):
    """Who the store is: its replication, how far it has come, and which database it holds."""

    replication: str
    offset: int
    epoch: bytes | None
    generation: int = 0
    """How often an older state was adopted."""
    mark: int = 0
    """The last that was written here and is there."""
    restored: bool = False
    """An older state came back, and nobody has decided yet."""

    def differs(self, before: Identity) -> str:
        """Why it may have gone back; empty where it has not."""
        if before.epoch is not None and self.epoch != before.epoch:
            return EMPTIED
        if self.replication != before.replication:
            return "another server, or another start of it, took over"
        return "its replication offset fell" if self.offset < before.offset else ""


class Window(Generic[Item]):
    """Writes of one kind at one shard, in order.

    Args:
        store: the shard.
        limits: how many operations and bytes are kept at most; the oldest go.
        again: sends everything that is kept once more, told why. Is called again where it raises `StoreError`.
        active: False keeps nothing.
    """

    def __init__(
        self, store: Store, limits: tuple[int, int], again: Callable[[str], None], *, active: bool = True
    ) -> None:
        self._store = store
        self._limits = limits
        self._again = again
        self.active = active
        self._kept: deque[Kept[Item]] = deque()
        self._number = self._bytes = 0
        self.operations = 0
        self.overflown = 0
        """Operations that were dropped for those that came after, since the last confirmation."""
        self.generation = 0
        """How often all was sent again."""
        self.identity: Identity | None = None
        self._replicas = 0
        self._mark = f"{store.durability.mark}:{unique_name()}"
        self._marks: deque[tuple[int, float]] = deque([(0, -MARK_S)])
        """Number and moment of the marks that were written and are not known to be durable; before them the last that
        is."""
        self._lock = threading.RLock()
        self._looking = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Window {self.operations:,} operations kept for {self.age_s:.1f} s>"

    @property
    def age_s(self) -> float:
        """How long ago the oldest of what is kept was acknowledged."""
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

    # -- keeping -------------------------------------------------------------------------------------------------------

    def keep(self, item: Item, operations: int, size: int, generation: int) -> bool:
        """False where all was sent again since that generation: this was acknowledged meanwhile, perhaps by a server
        that is gone."""
        with self._lock:
            if generation != self.generation:
                return False
            if not self.active:
                return True
            self._number += 1
            self._kept.append(Kept(self._number, item, operations, size, time.monotonic()))
            self._bytes += size
            self.operations += operations
            most, most_bytes = self._limits
            while self.operations > most or self._bytes > most_bytes:
                self.overflown += self._drop()
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="bz-window", daemon=True)
                self._thread.start()
        return True

    def begin(self) -> list[Item]:
        """All is sent again now: what is kept, in order."""
        with self._lock:
            self.generation += 1
            return [kept.item for kept in self._kept]

    def _drop(self) -> int:
        kept = self._kept.popleft()
        self._bytes -= kept.size
        self.operations -= kept.operations
        return kept.operations

    # -- looking -------------------------------------------------------------------------------------------------------

    def look(self, connection: Connection) -> str:
        """Why the store may have gone back since the last look; empty where it has not.

        Raises:
            StoreRestored: further than any failover takes it; nobody has decided yet.
        """
        with self._looking:
            now = self._ask(connection)
            before, self.identity = self.identity, now
            if before is None:
                return ""
            why = ADOPTED if now.generation != before.generation else now.differs(before)
            if why in (ADOPTED, EMPTIED):
                self._marks = deque([(0, -MARK_S)])
                return why
            self._judge(connection, now)
            return why

    def _judge(self, connection: Connection, now: Identity) -> None:
        """Raises where what is known to have been durable is not there: no failover takes that. The first says so."""
        (known, at_s), old_s = self._marks[0], time.monotonic() - OLD_S
        for number, moment_s in list(self._marks):
            if moment_s < old_s:
                known, at_s = number, moment_s
        age_s = time.monotonic() - at_s
        if now.mark < known and age_s < MARK_S / 2 and not now.restored:
            why = f"it misses what was confirmed {age_s:.0f} s ago"
            log.error("an older state of the database of %s came back: %s", self._store.keys.app, why)
            accuse(connection, self._store.keys.meta, why)
        elif not now.restored:
            return
        raise StoreRestored(RESTORED)

    def _run(self) -> None:
        """While anything is kept."""
        connection = self._store.dedicated()
        why = ""
        try:
            while not self._closing.is_set():
                try:
                    why = why or self.look(connection)
                    if why:
                        self._again(why)
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

    def _ask(self, connection: Connection, *, same: bool = False) -> Identity:
        call = connection.confirm if same else connection.call
        info = parse_info(call("INFO", "replication") or b"")
        epoch, generation, restored = call("HMGET", self._store.keys.meta, "epoch", COUNT, FIELD) or (None, 0, None)
        mark = call("GET", self._mark)
        now = Identity(
            info.get("master_replid", ""),
            int(info.get("master_repl_offset", 0)),
            epoch,
            int(generation or 0),
            int(mark or 0),
            restored is not None,
        )
        if not same:
            known = self.identity is not None and self.identity.replication == now.replication
            self._replicas = max(self._replicas if known else 0, int(info.get("connected_slaves", 0)))
        return now

    # -- confirming ----------------------------------------------------------------------------------------------------

    def _confirm(self, connection: Connection) -> None:
        """Drop what every replica, or else the disk, has: after a mark was written behind it, all by one socket of the
        server that was looked at."""
        with self._lock:
            newest, synced_s = self._number, time.monotonic() - SYNCED_S
        mark = self._marks[-1][0] + 1
        connection.call("SET", self._mark, mark, "EX", MARK_S)
        marked_s = time.monotonic()
        durable = self._is_durable(connection)
        if self.identity is None or self._ask(connection, same=True).differs(self.identity):
            return
        self._remember(mark, marked_s, durable)
        if not durable:
            return
        with self._lock:
            while self._kept and self._kept[0].number <= newest:
                if durable == "aged" and self._kept[0].at_s > synced_s:
                    return
                self._drop()
            self.overflown = 0

    def _remember(self, mark: int, at_s: float, durable: str) -> None:
        """A mark was written; those before the last that is durable are of no use."""
        self._marks.append((mark, at_s))
        since_s = at_s if durable == "now" else at_s - (SYNCED_S if durable else OLD_S)
        while len(self._marks) > 1 and self._marks[1][1] <= since_s:
            self._marks.popleft()

    def _is_durable(self, connection: Connection) -> str:
        """ "now" or "aged": what was written before the mark is; empty where nothing says so."""
        if self._replicas:
            found = connection.confirm("WAIT", self._replicas, CONFIRM_MS, block_s=CONFIRM_MS / 1000)
            return "now" if found is not None and int(found) >= self._replicas else ""
        info = parse_info(connection.confirm("INFO", "persistence") or b"")
        good = info.get("aof_enabled") == "1" and info.get("aof_last_write_status") == "ok"
        return "aged" if good else ""
