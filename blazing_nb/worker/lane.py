"""The lanes: where operations execute. A lane takes jobs, appends `Finished` to the outbox, and wakes the turn loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from blazing_nb.core.policy import next_batch
from blazing_nb.worker.executor import Executor
from blazing_nb.worker.job import Finished, Job

PATIENCE_S = 0.005
"""After this, idle threads take from a batch that was meant for fewer of them."""
GIVE_BACK_S = 0.2
"""After this, what was claimed ahead and has not begun goes back to the queue."""
BATCH_US = 5000
BRIEF_US = 500
"""Operations that take less are executed by the turn loop's thread where they come alone."""
SHARE_MS = 1.0
"""One thread is woken for about this much expected work, so that short operations do not wake all of them."""


class Outbox:
    """Finished operations on their way to a commit. `wake` is called when there are `threshold`, or a lane ran dry."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.finished: deque[Finished] = deque()
        self.threshold = 1
        self.wake = wake

    def put(self, finished: Finished) -> None:
        self.finished.append(finished)
        if len(self.finished) >= self.threshold:
            self.wake()


class ThreadLane:
    """Plain functions on threads. Long operations are claimed one a thread, short ones in batches of about 5 ms."""

    name = "thread"

    def __init__(self, executor: Executor, outbox: Outbox, threads: int) -> None:
        self.slots = threads
        self.held = 0
        self.batch = 1
        self._mean_us = 0.0
        self._executor = executor
        self._outbox = outbox
        self._ready: deque[Job] = deque()
        self.here: Job | None = None
        """What the turn loop's own thread is to execute."""
        self._work = threading.Condition()
        self._idle = 0
        self._put_at = 0.0
        self._stopping = False
        self._threads = [threading.Thread(target=self._run, name=f"bz-thread-{i}", daemon=True) for i in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def room(self) -> int:
        """How many operations it would take now."""
        if self.batch <= self.slots:
            return max(0, self.slots - self.held)
        return max(0, 2 * self.batch - self.held)

    def put(self, jobs: Sequence[Job]) -> None:
        brief = len(jobs) == 1 and not self.held and 0 < self._mean_us < BRIEF_US
        self.held += len(jobs)
        # One with a timeout needs the turn loop to look after it.
        if brief and not self.here and self._executor.timeout_s(jobs[0]) is None:
            self.here = jobs[0]
            return
        self._ready.extend(jobs)
        share = max(1, int(SHARE_MS * 1000 / self._mean_us)) if self._mean_us else 1
        with self._work:
            busy = self.slots - self._idle
            self._work.notify(max(0, -(-len(jobs) // share) - busy))
        self._put_at = time.monotonic()

    def take_here(self) -> Job | None:
        """For the turn loop's thread."""
        job, self.here = self.here, None
        return job

    @property
    def waiting(self) -> bool:
        """Whether something has not begun although a thread is idle."""
        return bool(self._ready) and self._idle > 0

    @property
    def behind(self) -> bool:
        """Whether something has not begun."""
        return bool(self._ready)

    def hasten(self) -> None:
        """Let idle threads help where a batch turned out to take longer than expected."""
        if self._ready and time.monotonic() - self._put_at >= PATIENCE_S:
            with self._work:
                self._work.notify(len(self._ready))

    def learn(self, run_us: list[int]) -> None:
        """Adapt the batch size to how long the last operations took."""
        if not run_us:
            return
        mean = sum(run_us) / len(run_us)
        self._mean_us = mean if not self._mean_us or mean > self._mean_us else 0.7 * self._mean_us + 0.3 * mean
        wanted = next_batch(self.batch, self.batch * self._mean_us / 1000 / self.slots)
        # Long operations after short ones: down at once, not by halves.
        self.batch = max(1, min(wanted, int(BATCH_US * self.slots / max(1.0, self._mean_us))))

    def take_back(self) -> list[Job]:
        """Remove what has not begun."""
        jobs = [job] if (job := self.take_here()) else []
        while self._ready:
            try:
                jobs.append(self._ready.popleft())
            except IndexError:
                break
        self.held -= len(jobs)
        return jobs

    def surplus(self) -> list[Job]:
        """What was claimed ahead, and found every thread busy for so long that another worker may begin sooner: to be
        given back. Batches begin small again."""
        try:
            waited_ns = time.perf_counter_ns() - self._ready[0].claimed_ns
        except IndexError:
            return []
        if self._idle or waited_ns < GIVE_BACK_S * 1e9:
            return []
        self.batch = 1
        return self.take_back()

    def stop(self) -> None:
        with self._work:
            self._stopping = True
            self._work.notify_all()

    def _run(self) -> None:
        """Until told to stop, or until an attempt overran: then another thread has taken this one's place."""
        ready, outbox, run = self._ready, self._outbox, self._executor.run
        while not self._stopping:
            try:
                job = ready.popleft()
            except IndexError:
                outbox.wake()
                self._wait()
                continue
            finished = run(job)
            if finished is None:
                return
            outbox.put(finished)

    def replace(self) -> None:
        """A thread is stuck in an attempt that overran: another takes its place."""
        name = f"bz-thread-{len(self._threads)}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._threads = [*(t for t in self._threads if t.is_alive()), thread]
        thread.start()

    def _wait(self) -> None:
        with self._work:
            self._idle += 1
            self._work.wait_for(lambda: self._ready or self._stopping)
            self._idle -= 1


class AsyncLane:
    """Coroutine functions on one event loop in a thread of its own."""

    name = "async"

    def __init__(self, executor: Executor, outbox: Outbox, slots: int) -> None:
        self.slots = slots
        self.held = 0
        self._executor = executor
        self._outbox = outbox
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._thread = threading.Thread(target=self._run, name="bz-async", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def room(self) -> int:
        return max(0, self.slots - self.held)

    def put(self, jobs: Sequence[Job]) -> None:
        self.held += len(jobs)
        self._loop.call_soon_threadsafe(self._begin, jobs)

    def learn(self, run_us: list[int]) -> None:
        """Every coroutine is claimed as there is room."""

    def take_back(self) -> list[Job]:
        """Everything has begun."""
        return []

    def stop(self) -> None:
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _begin(self, batch: Sequence[Job]) -> None:
        for job in batch:
            self._tasks[job.operation] = self._loop.create_task(self._one(job.operation, job))

    def cancel(self, name: str) -> None:
        """Cancel the coroutine of an operation, if it runs here."""
        self._loop.call_soon_threadsafe(self._cancel, name)

    def abandon(self) -> None:
        """The lease was lost: stop everything that runs."""
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in list(self._tasks.values())])

    def _cancel(self, name: str) -> None:
        task = self._tasks.get(name)
        if task is None:
            return
        if name in self._executor.active:
            task.cancel()
        else:  # a task that is cancelled before its first step would never say how it ended
            self._loop.call_soon(self._cancel, name)

    async def _one(self, name: str, job: Job) -> None:
        self._outbox.put(await self._executor.run_async(job))
        if self._tasks.get(name) is asyncio.current_task():
            del self._tasks[name]
        if not self._tasks:
            self._outbox.wake()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.close()
