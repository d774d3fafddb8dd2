"""A worker's post at one shard: its registration there, what it holds of it, its commits and claims, its bells.

A worker has one post for each shard of its app. They share its lanes: what one claims, another has no room for.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from blazing_nb.core.code import PYTHON
from blazing_nb.errors import StoreError
from blazing_nb.store.bell import Bell
from blazing_nb.store.courier import Courier
from blazing_nb.store.reply import Claim, Turn, parse_turn
from blazing_nb.store.request import TurnRequest
from blazing_nb.store.store import Store
from blazing_nb.worker.commits import Commits
from blazing_nb.worker.flight import Flights
from blazing_nb.worker.gauge import Gauge
from blazing_nb.worker.heartbeat import Heartbeat, Progress
from blazing_nb.worker.holding import Batch, Holding
from blazing_nb.worker.job import Finished, Job
from blazing_nb.worker.journal import about
from blazing_nb.worker.lanes import LANES, Lane
from blazing_nb.worker.recovery import Recovery
from blazing_nb.worker.roster import Roster

log = logging.getLogger(__name__)
IDLE_S = 1.0
CLAIM_LIMIT = 256
PAUSE_S, PAUSE_CAP_S = 0.5, 4.0
RESTS_S = 0.25, 1.0
"""How long to claim nothing where the store may have gone back, and where it has: others reconnect within a second."""
Info = Callable[[], dict[str, str | int]]


class Bench(NamedTuple):
    """What the posts of a worker share."""

    lanes: list[Lane]
    roster: Roster
    gauge: Gauge
    on_commit: Callable[[], None]
    """Right before a commit leaves."""
    on_version: Callable[[Post], None]
    """The steps have changed."""
    on_claims: Callable[[], None]
    """Right before what was claimed goes to the lanes."""
    on_cancels: Callable[[list[str]], None]
    """Somebody cancels, or instructs."""
    on_lost: Callable[[], None]
    """A lease was lost, or a shard that was left alone is well again."""
    redoes: bool = True
    """Keep commits until they are known to outlive their server."""


class Post:
    """One shard's part of the turn loop, used by its thread only, but for `lease_lost`."""

    def __init__(self, store: Store, bench: Bench, worker_id: str, lease_ms: int, finished: deque[Finished]) -> None:
        self.store = store
        self.recovery = Recovery()
        self.holding = Holding()
        self.finished = finished
        """Outcomes of this post that are not taken into a commit yet."""
        self._bench = bench
        self._worker_id, self._lease_ms = worker_id, lease_ms
        self._line = store.dedicated()
        self.bell, self.own_bell = Bell(store.dedicated()), Bell(self._line)
        self._line.attend(self)
        self.idle_s = min(IDLE_S, self._line.timeout_s / 2)
        self.commits = Commits(store, active=bench.redoes)
        self.flights = Flights(store, self.commits)
        self.enough = 1
        """So many outcomes are worth a turn beside one that is under way."""
        self.overlaps = False
        """Whether turns may overlap at all."""
        self._unsettled: deque[Batch] = deque()
        """What was sent and not answered: to be sent again."""
        self._leaving = False
        self.heartbeat: Heartbeat | None = None
        self.consumer = ""
        self.term = self.done = self.fenced = 0
        self.version = -1
        """How often the steps have changed here."""
        self.lease_lost = self.called = self.alone = self.draining = False
        self.rung, self._due_s = True, 0.0
        self.away_s, self._pause_s, self._moved = 0.0, 0.0, self._line.news

    def __repr__(self) -> str:
        return f"<Post {self.consumer} at {self.store!r}, {len(self.holding)} held>"

    # -- registration ------------------------------------------------------------------------------------------------

    def register(self, term: int, info: Mapping[str, str | int], tell: Info, progress: Callable[[], Progress]) -> None:
        """Become known under a new incarnation; what was held under the last one is dropped when it comes."""
        self._unsettled.extend(self.flights.drop())
        if self.consumer and self.commits.look():
            self._offer()
        self._incarnation = self.store.open_worker(self._worker_id, self._lease_ms, info)
        self.consumer = f"{self._worker_id}.{self._incarnation}"
        self.term = term
        self.lease_lost = self.called = False
        self.rung, self._due_s = True, 0.0
        self.holding.clear()
        self.commits.look()  # from now on it may go back
        self.heartbeat = Heartbeat(self.store, self.consumer, self._lease_ms, tell, progress, self._lose)
        self.heartbeat.start()

    def _lose(self) -> None:
        self.lease_lost = True
        self._bench.on_lost()

    def hasten(self) -> None:
        """Say how it is, now."""
        if self.heartbeat is not None:
            self.heartbeat.hasten()

    def stop(self) -> None:
        """Renew the lease no more."""
        if self.heartbeat is not None:
            self.heartbeat.stop()

    # -- turns -------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether something of this shard is not committed yet."""
        return bool(self.holding or self.finished or self.flights) or any(self._unsettled)

    @property
    def due_s(self) -> float:
        """The monotonic moment at which to claim again, rung or not."""
        if self._is_full:
            return math.inf
        return max(self._due_s, self.away_s) if self.away else self._due_s

    @property
    def away(self) -> bool:
        """Whether it is left alone now, since its store did not answer and no other is in charge yet."""
        return self.away_s > 0 and time.monotonic() < self.away_s and not self._moved.is_set()

    @property
    def used(self) -> tuple[()]:
        """Its connections say that for themselves."""
        return ()

    def follow(self, valid: object) -> None:
        """In the thread that looks who is in charge: where that has changed, nobody waits any longer."""
        if self.away_s and self._moved.is_set():
            self._bench.on_lost()

    @property
    def wants(self) -> bool:
        """Whether there may be something to claim."""
        return not self.away and not self._is_full and (self.rung or time.monotonic() >= self._due_s)

    @property
    def has_to_turn(self) -> bool:
        """Whether something waits to be committed, or somebody to be heard."""
        if self.away or self._is_full:
            return False
        if not self.flights or self.called or any(self._unsettled):
            return bool(self.finished or self.called) or any(self._unsettled)
        idle = len(self.holding) == self.flights.committing + len(self.finished)
        return len(self.finished) >= (1 if idle else self.enough)

    @property
    def _is_full(self) -> bool:
        """Whether a turn has to come back first. What was lost is asked for where none is under way."""
        return self.flights.full or (bool(self.flights) and self.recovery.due)

    def turn(self, asks: bool, share: tuple[int, int], elsewhere: int) -> bool:
        """Commit what has finished, and claim a share of the lanes' room; whether that was more than nothing.

        Args:
            asks: claim at all.
            share: (part, of how many): of the room that there is.
            elsewhere: operations that the worker holds of other shards.
        """
        self.called, self._moved = False, self._line.news
        batch = self._take()
        if batch:
            self._bench.on_commit()
        flights = self.flights
        held = len(self.holding) - len(batch.rows) - flights.committing + flights.claiming + elsewhere
        asks = asks and not (self.alone and held)
        lanes = self._demand(*share) if asks else []
        asks &= bool(lanes) or not self._is_short(*share)  # whose share is nothing has not asked, and looks again
        rooms = [(room, steps) for _, room, steps in lanes]
        work = batch.groups, batch.bodies, rooms, held, PYTHON, batch.payloads, batch.effects
        request = TurnRequest(self.consumer, self._incarnation, *work)
        if held and self._depart(request, batch, asks, lanes):
            return bool(lanes)
        connection = self.store.connection()
        retries, generation = connection.retries, self.commits.generation
        restored = self.commits.restored
        turn = self.commits.guard(connection, lambda: self.store.turn(**request._asdict()))
        if turn is None:
            self._offer()
            self._rest(RESTS_S[self.commits.restored > restored])
            return False
        if connection.retries != retries:
            self._doubt()
        self._end(batch, asks, turn, generation)
        return bool(lanes)

    def _depart(self, request: TurnRequest, batch: Batch, asks: bool, lanes: list[tuple[Lane, int, list[str]]]) -> bool:
        """Send a turn that `land` ends; False where it has to be waited for."""
        if not self.overlaps or len(self._unsettled) > 1 or self.recovery.due:
            return False
        room = [(lane, room) for lane, room, _ in lanes]
        if not self.flights.begin(self.store.turn_words(request), batch, asks, room):
            return False
        self._unsettled.remove(batch)
        if asks:
            self.rung, self._due_s = False, time.monotonic() + self.idle_s
        return True

    def land(self, courier: Courier) -> None:
        """A turn has come back, or is given up: then what it was to commit is sent again."""
        reply = courier.answer()
        flight = self.flights.end(courier)
        self._unsettled.appendleft(flight.batch)
        if reply is None:
            self._doubt()
            self.rung = True
            return
        try:
            self._end(flight.batch, flight.asks, parse_turn(reply), flight.generation)
        except StoreError:
            self.recovery.begin()
            raise

    def _doubt(self) -> None:
        """A reply was lost: it may have brought something; and what broke one socket may have broken all."""
        self.recovery.begin()
        self.bell.forget()
        self.own_bell.forget()

    def _end(self, batch: Batch, asks: bool, turn: Turn, generation: int) -> None:
        claims = turn.claims
        self.commits.keep(self.consumer, self._incarnation, batch, turn.lost, generation)
        batch.release(self.store, self.consumer, self._bench.roster.refuse)
        self._settle(batch, turn)
        if self.recovery.due and not self.flights:
            known = [*self.holding.keys(), *(f"{c.segment}:{e[0].decode()}" for c in claims for e in c.entries)]
            claims = [*claims, *self.store.recover(self.consumer, known)]
            self.recovery.asked()
        self._dispatch(claims, turn.now_ms)
        if turn.cancels:
            self._bench.on_cancels(turn.cancels)
        self._next(turn, bool(claims), asks)
        self.away_s = self._pause_s = 0.0

    def _offer(self) -> None:
        """The store went back: what was to be committed has finished, too. It may have been committed, unheard."""
        for batch in (*self._unsettled, *self.flights.batches):
            self.commits.keep(self.consumer, self._incarnation, batch, (), -1)

    def _rest(self, seconds: float) -> None:
        """Claim after a moment, so that what others had finished is there by then. Nothing but work done twice depends
        on it."""
        self.recovery.begin()
        self.rung, self.away_s = True, time.monotonic() + seconds

    def _take(self) -> Batch:
        """What to commit: a batch that was sent before and not answered, else what is finished; it frees its slots."""
        while self._unsettled and not self._unsettled[0]:
            self._unsettled.popleft()
        if not self._unsettled:
            batch = self.holding.take(self.finished, self.term)
            for index, times in batch.run_us.items():
                self._bench.lanes[index].held -= len(times)
            self._unsettled.append(batch)
        return self._unsettled[0]

    def _demand(self, part: int, of: int) -> list[tuple[Lane, int, list[str]]]:
        """What each lane has room for. One that is full is asked for with the commit that frees it."""
        roster = self._bench.roster
        wanted = [
            (lane, min((lane.room + part) // of, CLAIM_LIMIT), roster.steps(name))
            for name, lane in zip(LANES, self._bench.lanes, strict=True)
        ]
        return [(lane, room, steps) for lane, room, steps in wanted if room and steps]

    def _is_short(self, part: int, of: int) -> bool:
        return any(0 < lane.room < of - part for lane in self._bench.lanes)

    def _settle(self, batch: Batch, turn: Turn) -> None:
        self._unsettled.remove(batch)
        self.done += turn.accepted
        self.fenced += len(turn.lost) + len(batch.dropped)
        for lost in turn.lost:
            with about(lost):
                log.warning("fenced: %s was taken over; this outcome is dropped", lost)
        self.holding.drop(batch.rows)
        if self._bench.roster.refused:
            batch.tell(self._bench.roster.accept)
        for index, times in batch.run_us.items():
            self._bench.lanes[index].learn(times)
        self._bench.gauge.ran(batch.run_us)
        if turn.lease_lost:
            self.lease_lost = True
        self._news = turn.version != self.version
        if self._news:
            self.version = turn.version
            self._bench.on_version(self)

    def _dispatch(self, claims: list[Claim], now_ms: int) -> None:
        now_ns = time.perf_counter_ns()
        self._bench.on_claims()
        for claim in claims:
            index = LANES.index(self._bench.roster.lane(claim.segment.partition(":")[0]))
            jobs = self._jobs(index, claim, now_ms, now_ns)
            self.holding.add(jobs)
            if not self._leaving:
                self._bench.lanes[index].put(jobs)

    def _jobs(self, lane: int, claim: Claim, now_ms: int, now_ns: int) -> list[Job]:
        term, incarnation, segment = self.term, self._incarnation, claim.segment
        ids = [entry[0].decode() for entry in claim.entries]
        return [
            Job(term, lane, incarnation, claim, id_, f"{segment}:{id_}", entry, now_ms, now_ns)
            for id_, entry in zip(ids, claim.entries, strict=True)
        ]

    def _next(self, turn: Turn, claimed: bool, asked: bool) -> None:
        """Decide when to claim again: when rung or due, which is at once where the claim left something.

        What was claimed `alone` stays alone. Where nothing was, this worker drains for it, and leaves the bell to
        others meanwhile.
        """
        if asked:
            self.rung = False
            self.alone = turn.alone and claimed
            self.draining = turn.alone and not claimed
        self.rung |= self._news
        wait_s = self.idle_s
        if turn.due_ms:
            wait_s = min(wait_s, max(0.0, (turn.due_ms - turn.now_ms) / 1000))
        if asked:
            self._due_s = time.monotonic() + wait_s

    def fail(self) -> float:
        """The store did not answer: seconds to leave this shard alone."""
        self.rung = True
        self._pause_s = min(PAUSE_CAP_S, max(PAUSE_S, 2 * self._pause_s))
        self.away_s = time.monotonic() + self._pause_s
        return self._pause_s

    def give_back(self, jobs: list[Job]) -> None:
        """These waited for a thread for too long."""
        self.holding.give_back(self.store, self.consumer, jobs, "it waited for a thread of its worker")

    # -- bells -------------------------------------------------------------------------------------------------------

    def listen(self, steps: list[str]) -> list[Bell]:
        """Ask for what rings here: work of these steps, and somebody who wants this worker."""
        keys = self.store.keys
        if steps:
            self.bell.listen([keys.bell(step) for step in steps])
        self.own_bell.listen([keys.bell("@" + self.consumer)])
        if self.own_bell.missed:  # it may have said that there is a first step: nothing else would make a turn then
            self.own_bell.missed, self.called = False, True
        return [bell for bell in (self.bell, self.own_bell) if bell.listening]

    @property
    def patience_s(self) -> float:
        """How long to sleep before the bells are to be listened to anew."""
        return self.idle_s if self.away else min(self.bell.patience_s, self.own_bell.patience_s)

    def heard(self, bell: str, roomy: set[str]) -> None:
        """A token for a lane that has filled up meanwhile goes back: another worker may have room. The worker's own
        bell asks for a turn, whether it claims or not: somebody cancels, or instructs."""
        name = bell.removeprefix(self.store.keys.bell(""))
        self.called |= name.startswith("@")
        if not name.startswith("@") and self._bench.roster.lane(name) not in roomy:
            self.store.connection().call("RPUSH", bell, "1")
        else:
            self.rung = True

    # -- leaving -----------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Commit what is finished, give back the rest (what is on its way here too), retire. Where the store is away,
        the lease says it later."""
        self.stop()
        self._leaving, self.overlaps = True, False
        try:
            for courier in self.flights.couriers:
                self.land(courier)
            while self.finished or any(self._unsettled):
                self.turn(False, (0, 1), 0)
            # Before the lanes stop: what that interrupts has not ended, it goes on elsewhere.
            self.store.release(self.consumer, self.holding.groups())
            self.store.retire(self.consumer)
        except StoreError as error:
            log.warning(
                "%s leaves without saying so (%s); its claims go back when the lease ends", self.consumer, error
            )

    def surrender(self) -> None:
        """Give everything back and leave, to come again under a new name."""
        try:
            self.store.release(self.consumer, self.holding.groups())
            self.store.retire(self.consumer)
        except StoreError as error:
            log.warning("%s cannot give back now (%s); its claims go back when the lease ends", self.consumer, error)

    def forget(self) -> None:
        """Ask for nothing any more."""
        self.flights.drop()
        self.commits.close()
        self.bell.forget()
        self.own_bell.forget()
        self.commits.join()
