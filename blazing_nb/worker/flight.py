"""Turns under way: the next is sent while the last is not answered yet, so that lanes, store and network work at once.

At most two, and what both may claim fits into the room that there is: nothing is claimed further ahead than by one
turn after the other. What runs alone is claimed where nothing is held, and that turn is waited for.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from blazing_nb.store.connection import Argument
from blazing_nb.store.courier import Courier
from blazing_nb.store.store import Store
from blazing_nb.worker.commits import Commits
from blazing_nb.worker.holding import Batch
from blazing_nb.worker.lanes import Lane

MOST = 2


class Flight(NamedTuple):
    """One of them: what it commits, and the room that is kept for what it may claim, by lane."""

    courier: Courier
    batch: Batch
    asks: bool
    room: list[tuple[Lane, int]]
    generation: int
    """Of what is kept of commits, when it was sent."""


class Flights:
    """In the order in which they began."""

    def __init__(self, store: Store, commits: Commits) -> None:
        self._free = [Courier(store.dedicated()) for _ in range(MOST)]
        self._commits = commits
        self._flights: deque[Flight] = deque()

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def full(self) -> bool:
        return not self._free

    @property
    def couriers(self) -> list[Courier]:
        return [flight.courier for flight in self._flights]

    @property
    def batches(self) -> list[Batch]:
        return [flight.batch for flight in self._flights]

    @property
    def committing(self) -> int:
        """Operations that are on their way to a commit."""
        return sum(len(flight.batch.rows) for flight in self._flights)

    @property
    def claiming(self) -> int:
        """Operations that may be on their way here."""
        return sum(room for flight in self._flights for _, room in flight.room)

    @property
    def overdue_s(self) -> float:
        """The monotonic moment at which the first is given up."""
        return min((flight.courier.overdue_s for flight in self._flights), default=float("inf"))

    def begin(self, words: list[Argument], batch: Batch, asks: bool, room: list[tuple[Lane, int]]) -> bool:
        """Send a turn; False where the store could not be reached. Its room is held until it ends."""
        courier, generation = self._free.pop(), self._commits.generation
        if not self._commits.pass_by(courier, words):
            self._free.append(courier)
            return False
        for lane, n in room:
            lane.held += n
        self._flights.append(Flight(courier, batch, asks, room, generation))
        return True

    def end(self, courier: Courier) -> Flight:
        """It is answered, or given up; its room is free."""
        [flight] = [flight for flight in self._flights if flight.courier is courier]
        self._flights.remove(flight)
        self._free.append(courier)
        for lane, n in flight.room:
            lane.held -= n
        return flight

    def drop(self) -> list[Batch]:
        """Give all up: what they were to commit."""
        batches = []
        while self._flights:
            flight = self.end(self._flights[0].courier)
            flight.courier.forget()
            batches.append(flight.batch)
        return batches
