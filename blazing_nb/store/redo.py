"""The redo window of enqueues: what was acknowledged and may still be lost with its server; sent again where the store
went back.

A store goes back where a replica takes over that had not got everything, where a server restarts without its file, or
where somebody empties it. Every enqueue says what its writer stored last in that segment, and the script refuses it
where that is missing; beside that the window asks (`store/window`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import msgspec

from blazing_nb.core.markup import card, drawn, table
from blazing_nb.errors import BlazingError, RolledBack, StoreRestored, StoreUnavailable
from blazing_nb.store.generation import ADOPTED
from blazing_nb.store.request import Chunk
from blazing_nb.store.store import Store
from blazing_nb.store.window import EMPTIED, Window

log = logging.getLogger(__name__)
KEPT_OPERATIONS, KEPT_BYTES = 100_000, 64 << 20
MISSES = "it misses what it had acknowledged"


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


class Redo:
    """The window of one app's enqueues in this process: `app.redo`. Of several shards each has one of its own.

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
        self._on_back = on_back
        limits = KEPT_OPERATIONS // store.count, KEPT_BYTES // store.count
        self._windows: list[Window[Chunk]] = [
            Window(shard, limits, lambda why, number=number: self.redo(why, number), active=active)  # type: ignore[misc]
            for number, shard in enumerate(store.shards)
        ]
        self._active = active
        self._acknowledged: dict[tuple[str, int], int] = {}
        self._steps: dict[tuple[str, bytes], tuple[bytes, bytes, str]] = {}
        self._doing = threading.RLock()
        self._finished = 0
        """How often all was sent again, to the end."""
        self.rollbacks: list[Rollback] = []

    def __repr__(self) -> str:
        return f"<Redo {self.kept:,} operations kept for {self.window:.1f} s, {len(self.rollbacks)} rollbacks>"

    @drawn
    def _repr_html_(self) -> str:
        facts: list[tuple[str, object]] = [("kept", f"{self.kept:,}"), ("oldest", f"{self.window:.1f} s")]
        rows = [(time.strftime("%H:%M:%S", time.gmtime(row.at)), str(row)) for row in self.rollbacks]
        return card("Redo", self._store.keys.app, facts, table(("at (UTC)", "what"), rows))

    @property
    def kept(self) -> int:
        """Operations that were acknowledged and are not yet known to outlive their server: at most 100,000.

        Examples:
            >>> 0 <= app.redo.kept <= 100_000
            True
        """
        return sum(window.operations for window in self._windows)

    @property
    def window(self) -> float:
        """How long ago the oldest of them was acknowledged, in seconds; 0.0 where none is kept.

        Examples:
            >>> app.redo.window >= 0
            True
        """
        return max(window.age_s for window in self._windows)

    def close(self) -> None:
        """Keep no longer; before the store is closed, which ends what the threads wait for. Repeatable."""
        for window in self._windows:
            window.close()

    def join(self) -> None:
        """Wait for the threads' end."""
        for window in self._windows:
            window.join()

    # -- the writers' side ---------------------------------------------------------------------------------------------

    def define(self, step: str, digest: bytes, record: bytes, options: bytes, limits: str) -> None:
        """Remember a step that was recorded: what is sent again needs its code."""
        if self._active:
            self._steps[step, digest] = record, options, limits

    def enqueue(self, store: Store, chunk: Chunk) -> str:
        """As `Store.enqueue`; where the store went back, what it lost goes first."""
        which, unchecked = (f"{chunk.step}:{chunk.prio}:{chunk.node}", chunk.incarnation), False
        number = self._store.number_of(chunk)
        window = self._windows[number]
        while True:
            generation, finished = window.generation, self._finished
            before = 0 if unchecked else self._acknowledged.get(which, 0)
            try:
                answer = store.enqueue(msgspec.structs.replace(chunk, before=before))
            except RolledBack as error:
                with self._doing:
                    if finished != self._finished:
                        continue  # another thread was sending again what is missed
                unchecked = True
                window.look(self._store.shards[number].connection())
                self.redo(MISSES, number, store, missing=int(str(error.fields["missing"])))
                continue
            if answer == "fenced":
                return answer
            if not chunk.key:
                self._acknowledged[which] = max(chunk.range.last, self._acknowledged.get(which, 0))
            if window.keep(chunk, len(chunk.payloads), sum(map(len, chunk.payloads)), generation):
                return answer

    # -- sending again -------------------------------------------------------------------------------------------------

    def redo(self, why: str, number: int = 0, store: Store | None = None, *, missing: int = 0) -> None:
        """Send everything that is kept of a shard once more, in order; what the store has is known to it. `missing`: of
        one segment, as far as known.

        Raises:
            StoreUnavailable: not all of it; to repeat is safe.
        """
        store, window = store or self._store, self._windows[number]
        with self._doing:
            overflown, kept = window.overflown, window.begin()
            self._store.shards[number].restate()
            for (step, digest), (record, options, limits) in list(self._steps.items()):
                store.define(step, digest, record, options, limits)
            found = [self._again(store, chunk) for chunk in kept]
            restored = sum(len(chunk.payloads) for chunk, new in zip(kept, found, strict=True) if new)
            beyond = max(missing - restored, overflown if restored else 0)
            self._finished += 1
            if restored or beyond or why in (EMPTIED, ADOPTED):
                self._tell(Rollback(time.time(), why, restored, beyond))

    def _tell(self, rollback: Rollback) -> None:
        log.error("%s", rollback)
        self.rollbacks.append(rollback)
        self._on_back()

    def _again(self, store: Store, chunk: Chunk) -> bool:
        """Whether it was missing."""
        try:
            return store.enqueue(chunk) == "added"
        except (StoreUnavailable, StoreRestored):
            raise
        except BlazingError as error:
            log.error("what the store lost cannot be sent again: %s", error)
            return False
