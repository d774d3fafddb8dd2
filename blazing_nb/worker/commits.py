"""The redo window of commits: outcomes that were accepted and may still be lost with their server; committed again
where the store went back, so that what had finished is not executed again.

Kept are final outcomes of nodes' own segments. What the store writes itself (stages, calls of workflows, keyed
operations) is not: after a rollback its ids may name other operations. Nor is what goes on (a retry, a workflow that
waits): it is not finished.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import msgspec

from blazing_nb.core.effect import Effect
from blazing_nb.errors import BlazingError, StoreRestored
from blazing_nb.store.connection import Argument, Connection
from blazing_nb.store.courier import Courier
from blazing_nb.store.reply import Reasserted, Turn
from blazing_nb.store.request import Group
from blazing_nb.store.store import Store
from blazing_nb.store.window import Window
from blazing_nb.worker.holding import Batch

log = logging.getLogger(__name__)
KEPT_OPERATIONS, KEPT_BYTES = 50_000, 32 << 20
FINAL = frozenset(b"SFCX")


class Reconnected(BlazingError):
    """The turn would go by a new socket: look first whether the store is the same. Nothing was sent."""


class Commit(NamedTuple):
    """What was accepted of one, as it was sent."""

    consumer: str
    incarnation: int
    groups: list[Group]
    bodies: list[bytes]
    payloads: list[bytes]
    effects: Mapping[str, tuple[Effect, ...]]


class Commits:
    """Of one worker at one shard."""

    def __init__(self, store: Store, *, active: bool = True) -> None:
        self._store = store
        self._window: Window[Commit] = Window(store, (KEPT_OPERATIONS, KEPT_BYTES), self.redo, active=active)
        self._doing = threading.Lock()
        self._fresh = self._sending = False
        self.halted = False
        """An older state of the database has come back, and nobody had decided at the last look."""
        self.restored = 0
        """Outcomes that were missing, and are there again or will be when their operations are."""

    def __repr__(self) -> str:
        return f"<Commits {self._window.operations:,} kept, {self.restored:,} restored>"

    @property
    def kept(self) -> int:
        """Outcomes that are not yet known to outlive their server."""
        return self._window.operations

    def close(self) -> None:
        """Keep no longer. Repeatable."""
        self._window.close()

    def join(self) -> None:
        self._window.join()

    # -- noticing ------------------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """How often all was committed again."""
        return self._window.generation

    def guard(self, connection: Connection, send: Callable[[], Turn]) -> Turn | None:
        """What `send` answers. Where it would go by a new socket, the store is looked at first; None where that went
        back: nothing was sent, and what is kept was committed again."""
        if connection.on_connect != self._meet:
            connection.on_connect, self._fresh = self._meet, True
        while True:
            if self._fresh:
                self._fresh = False
                if self.look():
                    return None
            self._sending = True
            try:
                return send()
            except Reconnected:
                continue
            finally:
                self._sending = False

    def pass_by(self, courier: Courier, words: list[Argument]) -> bool:
        """Send by a socket that is known; False, and nothing was sent, where there is none, or where the store is to be
        looked at first (`guard` does): then it is known by the next time."""
        courier.connection.on_connect = self._meet
        return courier.send(*words, unless=lambda: self._fresh)

    def _meet(self) -> None:
        """A socket is new."""
        self._fresh = True
        if self._sending:
            raise Reconnected("The socket is a new one.")

    def look(self) -> bool:
        """Whether the store may have gone back since the last look; what is kept was committed again then."""
        try:
            why = self._window.look(self._store.connection())
        except StoreRestored as error:  # the store gives nothing out until somebody has decided
            if not self.halted:
                log.error("%s", error)
            self.halted = True
            return False
        self.halted = False
        if why:
            self.redo(why)
        return bool(why)

    # -- keeping and sending again -------------------------------------------------------------------------------------

    def keep(self, consumer: str, incarnation: int, batch: Batch, lost: Collection[str], generation: int) -> None:
        """A commit was answered. `generation`: of before it was sent; another than now sends it again."""
        commit = _accepted(consumer, incarnation, batch, set(lost))
        size = sum(map(len, commit.bodies)) + sum(map(len, commit.payloads))
        while commit.bodies and not self._window.keep(commit, len(commit.bodies), size, generation):
            generation = self._window.generation
            self._again(commit)

    def redo(self, why: str) -> None:
        """Commit everything that is kept once more, in order. Raises `StoreUnavailable`: not all; to repeat is safe."""
        with self._doing:
            found = [self._again(commit) for commit in self._window.begin()]
            accepted, remembered = (sum(one[i] for one in found) for i in (0, 1))
            self.restored += accepted + remembered
            if accepted or remembered:
                text = "the store went back (%s): %d outcomes were missing and are there again"
                log.error(text, why, accepted + remembered)

    def _again(self, commit: Commit) -> tuple[int, int]:
        consumer, incarnation, groups, bodies, payloads, effects = commit
        found: Reasserted = self._store.reassert(
            consumer, incarnation, groups, bodies, payloads=payloads, effects=effects
        )
        return found.accepted, found.remembered


def _accepted(consumer: str, incarnation: int, batch: Batch, lost: set[str]) -> Commit:
    """The part of a batch that is kept."""
    groups, bodies, at = list[Group](), list[bytes](), 0
    for group in batch.groups:
        part = batch.bodies[at : at + len(group.ids)]
        at += len(group.ids)
        if ":@" in group.segment:
            continue
        rows = [i for i, body in enumerate(part) if body[0] in FINAL]
        if lost:
            rows = [i for i in rows if f"{group.segment}:{group.ids[i]}" not in lost]
        if rows:
            groups.append(group if len(rows) == len(part) else _only(group, rows))
            bodies += [part[i] for i in rows]
    return Commit(consumer, incarnation, groups, bodies, batch.payloads, batch.effects)


def _only(group: Group, rows: list[int]) -> Group:
    """Some rows of a group."""
    places = {row: place for place, row in enumerate(rows, 1)}
    follows = [
        msgspec.structs.replace(follow, index=places[follow.index - 1])
        for follow in group.follows
        if follow.index - 1 in places
    ]
    return Group(
        group.segment,
        group.held,
        group.retention_ms,
        [group.ids[i] for i in rows],
        [group.claims[i] for i in rows],
        [group.run_us[i] for i in rows],
        [group.enqueued_ms[i] for i in rows],
        follows,
    )
