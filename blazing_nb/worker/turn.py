"""The turn loop: one thread that talks to the store. It commits and claims at each post, and sleeps on the sockets of
the bells and of the wake-up that the lanes write to."""

from __future__ import annotations

import logging
import selectors
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from blazing_nb.errors import StoreError
from blazing_nb.store.bell import Bell
from blazing_nb.store.courier import Courier
from blazing_nb.store.process import is_traced
from blazing_nb.store.store import Store
from blazing_nb.worker.instruction import Instructions
from blazing_nb.worker.job import Job
from blazing_nb.worker.journal import about
from blazing_nb.worker.lanes import Lanes
from blazing_nb.worker.leader import Leader
from blazing_nb.worker.output import Catcher
from blazing_nb.worker.post import IDLE_S, PAUSE_S, Bench, Post
from blazing_nb.worker.posts import Posts
from blazing_nb.worker.roster import Roster
from blazing_nb.worker.wakeup import Wakeup
from blazing_nb.worker.warmup import Warmup

log = logging.getLogger(__name__)
TELL_S = 1.0
LOG_S = 0.3
FULL = 1 << 30
"""So many outcomes there never are: none wakes a loop that waits for a turn to come back."""


class Equipment(NamedTuple):
    """What the turn loop works with; its worker's."""

    store: Store
    lanes: Lanes
    roster: Roster
    warmup: Warmup
    instructions: Instructions
    catcher: Catcher
    wakeup: Wakeup
    register: Callable[[], None]
    """Become known at every post."""
    on_news: Callable[[], None]
    """It was told something."""
    redo: bool
    """Commits are kept until they are known to outlive their server."""


class TurnLoop:
    """`start()`, `hasten()` and `wake()` from any thread, `wait_for_completion()`, `stop()`."""

    def __init__(self, equipment: Equipment, posts: Posts) -> None:
        self._store, self._lanes, self._roster = equipment.store, equipment.lanes, equipment.roster
        self._warmup, self._instructions = equipment.warmup, equipment.instructions
        self._catcher, self._wakeup = equipment.catcher, equipment.wakeup
        self._register, self._on_news = equipment.register, equipment.on_news
        self._outbox = equipment.lanes.outbox
        self._posts = posts
        self._told_s = self._logged_s = 0.0
        self._stopping = threading.Event()
        self._drained = threading.Condition()
        self._leader = Leader(self._run)
        posts.open(equipment.store, self._bench(equipment.redo), self._outbox.finished)

    def _bench(self, redo: bool) -> Bench:
        return Bench(
            lanes=self._lanes.all,
            roster=self._roster,
            gauge=self._lanes.executor.gauge,
            on_commit=self._log_before,
            on_version=self._renewed,
            on_claims=self._look,
            on_cancels=self._cancel,
            on_lost=self._wakeup.wake,
            redoes=redo,
        )

    # -- life cycle --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Register, read the steps, begin to turn."""
        self._register()
        self._refresh(self._store.version())
        for post in self._posts:
            post.version = post.store.version()
        self._lanes.start()
        self._leader.start()

    @property
    def alive(self) -> bool:
        return self._leader.alive

    def stop(self) -> None:
        """Commit what is finished, give back the rest, retire; returns when that is done."""
        self._stopping.set()
        self._wakeup.wake()
        self._leader.join()

    def wait_for_completion(self, timeout: float | None = None) -> bool:
        """Wait until everything in flight is committed."""
        with self._drained:
            return self._drained.wait_for(lambda: not self._outbox.finished and not self._posts.busy, timeout)

    def news(self) -> None:
        """What can be claimed has changed, and so has what the others may see."""
        self._posts.ring()
        self._posts.hasten()
        self._on_news()
        self._wakeup.wake()

    def _run(self) -> bool:
        """Until the worker leaves; False where another thread has taken over."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakeup.heard, selectors.EVENT_READ)
            while not self._stopping.is_set() and not self._is_dismissed():
                try:
                    if self._posts.lease_lost:
                        self._begin_anew()
                    self._step(selector)
                except StoreError as error:
                    log.warning("%s", error)
                    self._posts.ring()
                    self._stopping.wait(PAUSE_S)
                if (job := self._lanes.threads.take_here()) and not self._execute(job):
                    return False
        self._leave()
        return True

    def _execute(self, job: Job) -> bool:
        """A short operation that came alone; False where it took so long that another thread leads."""
        leads, finished = self._leader.execute(lambda: self._lanes.executor.run(job))
        if finished is not None:
            self._outbox.put(finished)
        return leads

    def _is_dismissed(self) -> bool:
        """Whether it was told to leave and has finished, or its time for that is over."""
        told = self._instructions
        return told.closing and (not self._posts.held or time.monotonic() >= told.ends_s)

    def _begin_anew(self) -> None:
        """A lease was lost: what was held there runs elsewhere. What is held of other shards is given back."""
        for post in self._posts:
            post.stop()
            if post.lease_lost:
                log.warning("%s lost its lease; what it held runs elsewhere", post.consumer)
        self._posts.stop_pulse()
        self._lanes.abandon()
        for post in self._posts:
            if not post.lease_lost:
                post.surrender()
        self._register()

    def _leave(self) -> None:
        """Commit what is finished, give back the rest, retire."""
        for post in self._posts:
            post.stop()
        self._posts.sort(self._outbox.finished)
        for post in self._posts:
            post.leave()
        self._posts.stop_pulse()
        self._lanes.stop()
        for post in self._posts:
            post.forget()

    # -- a turn ------------------------------------------------------------------------------------------------------

    def _step(self, selector: selectors.BaseSelector) -> None:
        if self._posts.held and time.monotonic() - self._told_s > TELL_S:
            self._told_s = time.monotonic()
            self._posts.hasten()
        if self._catcher and time.monotonic() - self._logged_s > LOG_S:
            self._log()
        for finished in self._lanes.overrun():
            with about(finished.job.operation, finished.job.attempt):
                log.warning("%s took longer than its timeout; its thread goes on, fenced", finished.job.operation)
            self._outbox.finished.append(finished)
        if surplus := self._lanes.threads.surplus():
            self._give_back(surplus)
        self._posts.sort(self._outbox.finished)
        for post in list(self._posts.order):
            if self._may_turn(post):
                self._turn(post)
        self._posts.sort(self._outbox.finished)
        if not self._lanes.threads.here and not any(map(self._may_turn, self._posts)):
            self._wait(selector)

    def _may_turn(self, post: Post) -> bool:
        return post.has_to_turn or (post.wants and self._has_room())

    @property
    def _claims(self) -> bool:
        """Whether it claims at all now."""
        return self._instructions.accepting and self._warmup.ready and not self._instructions.held

    def _has_room(self) -> bool:
        room = any(lane.room and self._roster.serves(lane.name) for lane in self._lanes)
        return self._claims and not self._posts.is_alone() and room

    def _turn(self, post: Post) -> None:
        """A turn at one shard. Of the room there is, each that may have work gets its share; the rest of the division
        is for who has waited longest."""
        order = self._posts.order
        hungry = [other for other in order if other.wants or other is post]
        part = len(hungry) - 1 if post is hungry[0] and post.wants else 0
        elsewhere = self._posts.held - len(post.holding)
        asks = self._claims and not self._posts.is_alone(but=post)
        try:
            served = post.turn(asks, (part, len(hungry)), elsewhere)
        except StoreError as error:
            post.recovery.begin()  # what it claimed may not have been taken up
            if len(self._posts) == 1:
                raise
            log.warning("%s; this shard is left alone for %.1f s", error, post.fail())
            return
        if served:
            order.remove(post)
            order.append(post)
        self._turned()

    def _turned(self) -> None:
        """After a turn: who waits for the end of all is told, and from how many outcomes on the next is worth it."""
        if not self._posts.busy:
            with self._drained:
                self._drained.notify_all()
        batch, flying = self._lanes.threads.batch, [len(post.flights) for post in self._posts]
        for post in self._posts:
            post.enough = max(1, min(batch, self._posts.held))
        # A half is worth a turn where none is under way; beside another, a whole batch.
        enough = max(1, min(batch if any(flying) else batch // 2, self._posts.held))
        self._outbox.threshold = FULL if all(post.flights.full for post in self._posts) else enough

    def _give_back(self, jobs: list[Job]) -> None:
        try:
            for post in self._posts:
                own = jobs if len(self._posts) == 1 else [job for job in jobs if self._posts.of(job) is post]
                if own:
                    post.give_back(own)
        except StoreError:
            self._lanes.threads.put([job for job in jobs if self._posts.of(job).holding.has(job)])
            raise

    def _wait(self, selector: selectors.BaseSelector) -> None:
        """Sleep until a bell rings, an outcome waits, or the next moment of interest."""
        claims, ready = self._claims, self._has_room()
        draining = any(post.draining for post in self._posts)
        roomy = self._lanes.roomy() if ready and not draining else set()
        steps = self._roster.awaited(roomy)
        listening = {bell: post for post in self._posts if not post.away for bell in post.listen(steps)}
        flying = {courier: post for post in self._posts for courier in post.flights.couriers}
        timeout = self._patience_s(ready)
        self._wakeup.waiting = True
        if self._is_called() or claims != self._claims:
            self._wakeup.waiting = False
            return
        sockets: list[Bell | Courier] = [*listening, *flying]
        for awaited in sockets:
            selector.register(awaited, selectors.EVENT_READ)
        heard = {key.fileobj for key, _ in selector.select(timeout)}
        self._wakeup.waiting = False
        for awaited in sockets:
            selector.unregister(awaited)
        for bell, post in listening.items():
            if bell in heard:
                rung = bell.answer()
                if rung is not None:
                    post.heard(rung, roomy)
                post.rung |= bell.broken  # the store may be another one by now
        for courier, post in flying.items():
            if courier in heard or time.monotonic() >= courier.overdue_s:
                post.land(courier)
                self._turned()
        if self._wakeup.heard in heard:
            self._wakeup.clear()
        self._lanes.threads.hasten()

    def _is_called(self) -> bool:
        """Whether something has come up that no socket tells of."""
        unsorted = len(self._posts) > 1 and bool(self._outbox.finished)
        due = any(post.has_to_turn for post in self._posts)
        return unsorted or due or self._stopping.is_set() or self._posts.lease_lost

    def _patience_s(self, ready: bool) -> float:
        """How long to sleep at most."""
        now, timeout = time.monotonic(), IDLE_S
        if ready:
            timeout = min(timeout, min(post.due_s for post in self._posts) - now)
        for post in self._posts:
            timeout = min(timeout, post.patience_s, post.flights.overdue_s - now)
        if self._catcher:
            timeout = min(timeout, LOG_S)
        timeout = min(timeout, self._instructions.ends_s - now)
        return max(0.0, self._lanes.patience_s(timeout))

    # -- what the posts tell -----------------------------------------------------------------------------------------

    def _log_before(self) -> None:
        """Before a commit: whoever has the result can read what was printed."""
        if self._catcher:
            self._log()

    def _log(self) -> None:
        self._logged_s = time.monotonic()
        self._catcher.tell(self._store.log)

    def _look(self) -> None:
        self._lanes.executor.traced = is_traced()

    def _renewed(self, post: Post) -> None:
        """What the steps are is read in the first shard, and counted there."""
        home = self._posts.home
        self._refresh(post.version if post is home else home.store.version())
        for other in self._posts:
            other.rung |= other is not post

    def _refresh(self, version: int) -> None:
        self._roster.refresh(version)
        self._warmup.request(version, self._roster.hook)

    def _cancel(self, operations: list[str]) -> None:
        """Somebody asked for it, or instructs."""
        for operation in operations:
            if operation.startswith("@"):
                self._obey(operation[1:])
            else:
                self._lanes.cancel(operation)

    def _obey(self, instruction: str) -> None:
        self._instructions.take(instruction)
        self._posts.ring()
        self._posts.hasten()
        self._on_news()
