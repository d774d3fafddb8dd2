"""The two main parts of a simulation: nodes that enqueue through the package's writer, workers that turn with its own
`Holding`."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blazing_nb.client.node import Call, NodeWriter
from blazing_nb.client.results import Results
from blazing_nb.core.codec import prepare_call
from blazing_nb.core.outcome import encode_body
from blazing_nb.errors import SegmentFull, StoreError
from blazing_nb.store.redo import Redo
from blazing_nb.worker.commits import Commit, _accepted
from blazing_nb.worker.holding import Batch, Holding
from blazing_nb.worker.job import Finished, Job
from blazing_nb.worker.recovery import Recovery
from tests.fault.actor import Actor, Crash, Net
from tests.fault.wish import CODE, STEPS, end, wish

if TYPE_CHECKING:
    from tests.fault.world import World

LEASE_MS = 1000
CHUNKS, CHUNK = 8, 5
STORM_MS = 12_000
PAUSE, GIVE_BACK = 0.01, 0.05
PYTHONS = {"w0": "3.11", "w1": "3.11", "w2": "3.12"}


class Deaf:
    """Stands for a listener: what is enqueued here is looked up at the end."""

    def open(self, *args: Any, **options: Any) -> None:
        """Nobody listens."""

    track = untrack = conclude = open


class Node:
    """Enqueues chunks through the package's writer; a crashed one is started again, and goes on with the next chunk."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.left, self.starts = world, name, CHUNKS, 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        Actor(self.world, f"{self.name}/{self.starts}", self.live)

    def live(self, actor: Actor) -> None:
        try:
            self.enqueue(actor)
        except Crash:
            if not self.world.over:
                self.world.at(self.world.now + self.world.random.randrange(500), self.start)
            raise

    def enqueue(self, actor: Actor) -> None:
        world = self.world
        net = Net(world, actor)
        writer = NodeWriter(self.name, world.app, net, world.ring, Deaf(), Redo(net, active=False))  # type: ignore[arg-type]
        while self.left or writer.unsettled:
            before = world.generation
            try:
                if self.left:
                    self.left -= 1
                    prepared = [prepare_call((self.left, i), {}) for i in range(CHUNK)]
                    call = wish(world, prepared) if world.wide else Call("f", CODE, prepared)
                    world.acknowledge(writer.send(call, Results(CHUNK), 0), before)
                else:
                    pending = writer.unsettled
                    writer.settle()
                    if pending is not None:
                        world.acknowledge(pending.range, before)
            except SegmentFull:
                self.left += 1
            except StoreError as error:
                world.note(f"{actor.name}: {error}")
            actor.sleep(world.random.randrange(STORM_MS // CHUNKS))


class SimulatedWorker:
    """The turn loop of `worker.Worker`, with its own `Holding`, without lanes: operations take virtual time."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.name, self.starts = world, f"w{number}", 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        self.paused_until = 0
        Actor(self.world, f"{self.name}/{self.starts}", self.live)

    def live(self, actor: Actor) -> None:
        world = self.world
        self.net, self.holding, self.term = Net(world, actor), Holding(), 0
        self.done: collections.deque[Finished] = collections.deque()
        self.batch: Batch | None = None
        self.consumer, self.lost, self.alone = "", True, False
        self.recovery = Recovery(lambda: world.now / 1000)
        self.committed: list[Commit] = []
        self.generation = world.generation
        beat = Actor(world, f"{self.name}/{self.starts}'s heart", self.beat)
        try:
            while True:
                self.pause(actor)
                try:
                    if self.lost:
                        self.register()
                    self.turn(actor)
                except StoreError as error:
                    self.recovery.begin()
                    world.note(f"{actor.name}: {error}")
                actor.sleep(10 + world.random.randrange(150))
        except Crash:
            beat.dead = True
            if not world.over:
                world.at(world.now + world.random.randrange(1000), self.start)
            raise

    def pause(self, actor: Actor) -> None:
        if self.world.stormy and self.world.random.random() < PAUSE:
            ms = self.world.random.randrange(3 * LEASE_MS)
            self.paused_until = self.world.now + ms
            self.world.faults["pause"] += 1
            self.world.note(f"{actor.name} stands still for {ms} ms")
            actor.sleep(ms)

    def beat(self, actor: Actor) -> None:
        net = Net(self.world, actor)
        while True:
            actor.sleep(LEASE_MS // 3)
            if not self.lost and self.world.now >= self.paused_until:
                consumer = self.consumer
                try:
                    if not net.heartbeat(consumer, LEASE_MS) and consumer == self.consumer:
                        self.lost = True
                except StoreError as error:
                    self.world.note(f"{actor.name}: {error}")

    def register(self) -> None:
        self.holding.clear()
        self.incarnation = self.net.open_worker(self.name, LEASE_MS)
        self.consumer = f"{self.name}.{self.incarnation}"
        self.term += 1
        self.lost = self.alone = False

    def reassert(self) -> None:
        """The store fell back, and this worker has noticed."""
        self.generation = self.world.generation
        for commit in self.committed:
            consumer, incarnation, groups, bodies, payloads, effects = commit
            found = self.net.reassert(consumer, incarnation, groups, bodies, payloads=payloads, effects=effects)
            self.world.faults["reasserted"] += found.accepted + found.remembered

    def turn(self, actor: Actor) -> None:
        if self.generation != self.world.generation:
            self.reassert()
        if self.batch is None:
            self.batch = self.holding.take(self.done, self.term)
        batch, held = self.batch, len(self.holding) - len(self.batch.rows)
        lanes = (
            [(1 + self.world.random.randrange(6), STEPS if self.world.wide else STEPS[:1])]
            if not (self.alone and held)
            else []
        )
        retries = self.net.retries
        turn = self.net.turn(
            self.consumer,
            self.incarnation,
            batch.groups,
            batch.bodies,
            lanes,
            held=held,
            python=PYTHONS[self.name],
            payloads=batch.payloads,
            effects=batch.effects,
        )
        self.batch = None
        self.committed.append(_accepted(self.consumer, self.incarnation, batch, set(turn.lost)))
        self.holding.drop(batch.rows)
        self.lost |= turn.lease_lost
        claims = turn.claims
        if self.net.retries != retries:
            self.recovery.begin()
        if self.recovery.due:
            known = [*self.holding.keys(), *(f"{c.segment}:{e[0].decode()}" for c in claims for e in c.entries)]
            claims = [*claims, *self.net.recover(self.consumer, known)]
            self.recovery.asked()
        self.alone = turn.alone and bool(claims)
        jobs = [self.job(claim, entry, turn.now_ms) for claim in claims for entry in claim.entries]
        self.holding.add(jobs)
        for job in jobs:
            self.world.attempts[job.operation, job.claim.claims] = job.attempt
            self.world.at(self.world.now + self.world.random.randrange(400), self.executed(job))
        if self.world.wide and self.world.stormy and self.world.odd.random() < GIVE_BACK:
            self.give_back(jobs)

    def give_back(self, jobs: list[Job]) -> None:
        """Some of what was just claimed: not to be executed here, or by this Python."""
        some = [job for job in jobs if self.world.odd.random() < 0.5]
        need = self.world.odd.choice(["", *PYTHONS.values()])
        self.holding.drop([Finished(job, b"", 0) for job in some])
        if some:
            groups = [(job.claim.segment, [job.id], [job.claim.claims]) for job in some]
            self.net.release(self.consumer, groups, delay_ms=self.world.odd.randrange(300), need=need)

    def job(self, claim: Any, entry: Any, now_ms: int) -> Job:
        id_ = entry[0].decode()
        return Job(self.term, 0, self.incarnation, claim, id_, f"{claim.segment}:{id_}", entry, now_ms, 0)

    def executed(self, job: Job) -> Callable[[], None]:
        """It is done when its time has come; now and then it fails and is tried again."""
        done, draw = self.done, self.world.random.random()

        def finish() -> None:
            if self.world.wide and not self.holding.has(job):
                return  # it was given back
            self.world.executions[job.operation] += 1
            payload = digest(job.entry[1][1])
            if self.world.stormy and draw < 0.05:
                body = b"R%d;%d;%d;%b" % (200, job.claimed_ms, 1, b"again")
            else:
                stage = job.operation.startswith("m:")
                times = int(job.entry[1][3]), job.claimed_ms, 0, 1, job.attempt
                body = b"S" + encode_body(*times, payload, open_=stage)
            done.append(end(self.world, job, body, payload) if self.world.wide else Finished(job, body, 1))

        return finish


def digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:8]
