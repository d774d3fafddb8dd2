"""A worker's lanes as one, with the executor that they share and the outbox that they fill."""

from __future__ import annotations

import time
from collections.abc import Iterator

from blazing_nb.worker.executor import Executor
from blazing_nb.worker.job import Finished
from blazing_nb.worker.lane import GIVE_BACK_S, PATIENCE_S, AsyncLane, Outbox, ThreadLane
from blazing_nb.worker.process_lane import ProcessLane

LANES = ("thread", "async", "process")
"""In the order in which they are asked for."""
Lane = ThreadLane | AsyncLane | ProcessLane


class Lanes:
    """Threads, an event loop, processes; told by the turn loop's thread."""

    def __init__(
        self, executor: Executor, outbox: Outbox, threads: ThreadLane, coroutines: AsyncLane, processes: ProcessLane
    ) -> None:
        self.executor, self.outbox = executor, outbox
        self.threads, self._coroutines, self._processes = threads, coroutines, processes
        self.all: list[Lane] = [threads, coroutines, processes]
        """As `LANES`."""

    def __iter__(self) -> Iterator[Lane]:
        return iter(self.all)

    def start(self) -> None:
        for lane in self.all:
            lane.start()

    def stop(self) -> None:
        for lane in self.all:
            lane.stop()

    def cancel(self, operation: str) -> None:
        """Coroutines are cancelled, processes killed, plain functions see `current().cancelled`."""
        self.executor.cancel(operation)
        self._coroutines.cancel(operation)
        self._processes.cancel(operation)

    def abandon(self) -> None:
        """What is here runs elsewhere: its outcomes are nobody's."""
        for lane in self.all:
            lane.take_back()
        self.executor.abandon()
        self._coroutines.abandon()
        self._processes.abandon()

    def overrun(self) -> list[Finished]:
        """Attempts on threads whose time is over. Their threads are replaced; they go on, fenced."""
        found = self.executor.overrun()
        for _ in found:
            self.threads.replace()
        return found

    def roomy(self) -> set[str]:
        """The names of those that would take something now."""
        return {lane.name for lane in self.all if lane.room}

    def patience_s(self, most_s: float) -> float:
        """How long the turn loop may sleep for all they know."""
        if self.threads.waiting:
            most_s = min(most_s, PATIENCE_S)
        elif self.threads.behind:
            most_s = min(most_s, GIVE_BACK_S)
        return min(most_s, self.executor.next_overrun - time.monotonic())
