"""The fault lab: real work, a real fault in the middle of it, and whether the promises hold meanwhile.

Only against the embedded server and workers of this user on this machine, and only where the app is at rest.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from blazing_nb.client.batch import Batch
from blazing_nb.client.network import NETWORK, FarSide
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.core.snapshot import Snapshot, Step
from blazing_nb.errors import StoreError, UsageError
from blazing_nb.store import embedded
from blazing_nb.store.address import shown
from blazing_nb.store.chance import CHANCE

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

STEP = "fault-lab"
OPERATIONS = 400
OPERATIONS_LIMIT = 100_000
NAP_S = 0.05
FLOOD = 20
NODES = 4
FIRST_S = 0.3
"""Work goes on for so long before the fault."""
RESCUE_S = 60.0
FENCE_S = 5.0
END_S = 300.0
TURN_S = 0.2


def probe(number: int, nap: float) -> int:
    """What the lab's operations do."""
    time.sleep(nap)
    return number


class Reading(NamedTuple):
    """Counts of the lab's operations at one moment, all from one snapshot of the store.

    Attributes:
        lost: enqueued, and neither final nor live. 0, or a promise is broken.
        twice: more final ones than were enqueued. 0, or a promise is broken.
        fenced: outcomes that a worker brought after its lease was over, refused.
        again: executions that were begun anew, after a death, a release or a retry.
    """

    seconds: float
    enqueued: int
    finished: int
    live: int
    lost: int
    twice: int
    fenced: int
    again: int

    @property
    def holds(self) -> bool:
        return self.lost == self.twice == 0

    def __str__(self) -> str:
        return (
            f"{self.seconds:5.1f} s: {self.finished} of {self.enqueued} final, {self.live} live; lost {self.lost}, "
            f"committed twice {self.twice}, fenced {self.fenced}, executed again {self.again}"
        )


class Experiment:
    """One fault. Iterate over `run()` for readings while it goes on; `reading` is the last, `events` what was done.

    Args:
        fault: kill: a worker dies at once, twice. pause: a worker is stopped until its work was given to others, then
            goes on and brings its outcomes. flood: four nodes send twenty times as much at once. restart: the server
            is killed and started again. partition, slow, drop, storm: a node and a worker of the lab's own reach the
            server through a proxy that cuts them off for longer than the lease, adds 50 ms to every round trip, forgets
            replies, or does all of it as `seed` says.

    Raises:
        UsageError: another server than the embedded one, or operations under way. Nothing was done.
    """

    def __init__(self, app: Blazing, fault: str, operations: int = OPERATIONS, *, seed: int = 0) -> None:
        if fault not in FAULTS and fault not in NETWORK:
            raise UsageError(f"A fault is one of {', '.join((*FAULTS, *NETWORK))}, not {fault!r}.")
        if not 1 <= operations <= OPERATIONS_LIMIT:
            raise UsageError(f"The lab takes 1 to {OPERATIONS_LIMIT} operations, not {operations}.")
        self.app = app
        self.fault = fault
        self.operations, self.seed = operations, seed
        self._far: FarSide | None = None
        self.events: list[tuple[float, str]] = []
        self.reading = Reading(0.0, 0, 0, 0, 0, 0, 0, 0)
        self._began = time.monotonic()
        self._error: Exception | None = None
        self._refuse()

    def __repr__(self) -> str:
        return f"<Experiment {self.fault}: {str(self.reading).strip()}>"

    def _refuse(self) -> None:
        server = embedded.find()
        if server is None or server.url != self.app.url:
            raise UsageError(
                f"Faults are for the embedded server only; app {self.app.app_id!r} is elsewhere: {shown(self.app.url)}."
            )
        now = self.app.snapshot()
        live = now.waiting + now.parked + now.claimed
        if live:
            raise UsageError(
                f"App {self.app.app_id!r} has {live} operations under way, which a fault would hit too: "
                "wait, %blazing drain, or give --app another name."
            )

    def run(self) -> Iterator[Reading]:
        """Do it; a reading about every 0.2 s. At the end every result was compared, and every record read."""
        ours = not len(self.app.workers)
        if ours:
            self.app.workers.start(2, lease=1.0)
            self.say("started two workers of the lab's own")
        try:
            if self.fault in NETWORK:
                self._far = FarSide(self.app, STEP, self.seed)
                self._far.wait_ready()
            yield from self._run()
        finally:
            if self._far is not None:
                self._far.close()
            if ours:
                self.app.workers.stop()

    def _run(self) -> Iterator[Reading]:
        before = _counters(self.app.snapshot())
        step = self.app.step(probe, name=STEP)
        self._began = time.monotonic()
        self.say(f"{self.operations} operations")
        batch = step.starmap([(i, NAP_S) for i in range(self.operations)])
        batches = [batch]
        thread = threading.Thread(target=self._inject, args=(batches,), name="bz-fault", daemon=True)
        thread.start()
        while thread.is_alive() or not all(b.wait(0) for b in list(batches)):
            if self._seconds > END_S:
                raise UsageError(f"The lab's operations were not finished within {END_S:g} s: {self.reading}.")
            self._read(before)
            yield self.reading
            time.sleep(TURN_S)
        if self._error is not None:
            raise self._error
        self._check(batches, before)
        yield self.reading

    def _inject(self, batches: list[Batch]) -> None:
        with self.blamed():
            time.sleep(FIRST_S)
            if self._far is None:
                FAULTS[self.fault](self, batches)
            else:
                NETWORK[self.fault](self, self._far, batches)

    @contextlib.contextmanager
    def blamed(self) -> Iterator[None]:
        """What fails in a thread of the lab is raised where it is watched."""
        try:
            yield
        except Exception as error:
            self._error = error

    # -- counting

    def _read(self, before: Step) -> None:
        try:
            now = self.app.snapshot()
        except StoreError:
            return  # the server is away: the last reading stands
        step = _counters(now)
        live = sum(s.waiting + s.parked + s.claimed for s in now.segments if s.step == STEP)
        enqueued, finished = step.enqueued - before.enqueued, step.finished - before.finished
        again = step.rescued + step.released + step.retried - before.rescued - before.released - before.retried
        missing = enqueued - finished - live
        fenced = step.fenced - before.fenced
        self.reading = Reading(
            self._seconds, enqueued, finished, live, max(0, missing), max(0, -missing), fenced, again
        )

    def _check(self, batches: list[Batch], before: Step) -> None:
        """What no counter says: that each result is that of its operation; how often each was claimed."""
        self._read(before)
        records = [row.record for row in self.app.store.status([op for b in batches for op in b.ids()])]
        missing = sum(not record for record in records)
        wrong = sum(value != i for b in batches for i, value in enumerate(b.results(0, return_exceptions=True)))
        again = sum(decode_outcome(record).claim - 1 for record in records if record)
        self.reading = self.reading._replace(lost=max(self.reading.lost, missing, wrong), again=again)
        self.say(f"{len(records)} results compared")
        for batch in batches:
            batch.forget()

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def counters(self) -> Step:
        """Of the lab's operations, now."""
        return _counters(self.app.snapshot())

    def say(self, what: str) -> None:
        self.events.append((self._seconds, what))

    # -- faults

    def _victim(self) -> int:
        pids = [process.pid for process in self.app.workers]
        if not pids:
            raise UsageError("All workers of this app here have ended; see app.workers.events().")
        return CHANCE.choice(pids)

    def _kill(self, batches: list[Batch]) -> None:
        for _ in range(2):
            pid = self._victim()
            os.kill(pid, signal.SIGKILL)
            self.say(f"killed worker {pid}")
            time.sleep(FIRST_S)

    def _pause(self, batches: list[Batch]) -> None:
        before, pid = _counters(self.app.snapshot()), self._victim()
        os.kill(pid, signal.SIGSTOP)
        self.say(f"stopped worker {pid}")
        try:
            self.wait_for(lambda step: step.rescued > before.rescued, RESCUE_S)
        finally:
            os.kill(pid, signal.SIGCONT)
        self.say(f"let worker {pid} go on, whose work runs elsewhere")
        # What it had executed by then it brings now.
        self.wait_for(lambda step: step.fenced > before.fenced, FENCE_S)

    def wait_for(self, holds: Callable[[Step], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not holds(_counters(self.app.snapshot())) and time.monotonic() < end:
            time.sleep(TURN_S)

    def _flood(self, batches: list[Batch]) -> None:
        step, n = self.app[STEP], FLOOD * self.operations // NODES
        for node in range(NODES):
            batches.append(step.starmap(((i, 0.0) for i in range(n)), node_id=f"flood-{node}"))
            self.say(f"node flood-{node} sent {n} operations")

    def _restart(self, batches: list[Batch]) -> None:
        server = embedded.find()
        if server is None:
            raise UsageError("The embedded server has ended by itself; see %blazing doctor.")
        os.kill(server.pid, signal.SIGKILL)
        self.say(f"killed the server {server.pid}")
        time.sleep(FIRST_S)
        self.say(f"started the server {embedded.ensure().pid}")


FAULTS: dict[str, Callable[[Experiment, list[Batch]], None]] = {
    "kill": Experiment._kill,
    "pause": Experiment._pause,
    "flood": Experiment._flood,
    "restart": Experiment._restart,
}


def _counters(snapshot: Snapshot) -> Step:
    return next((step for step in snapshot.steps if step.step == STEP), Step(STEP))
