"""Nodes, workers and rescuers under a seeded scheduler with a virtual clock, against a real server.

    python -m tests.fault.simulate --seeds 2000     # or: --seed 17 for one, with what happened; --mutants

One seed is one schedule. Requests and replies are dropped, delayed and doubled, actors crash at named points and pause,
the server's clock jumps, and the store falls back to what it was some time ago (as after a failover to a replica that
was behind). The package's own `NodeWriter`, `Holding` and `Store` run; every transition is witnessed (`trace.py`) and
the history is checked (`checker.py`).
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import heapq
import json
import logging
import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from benchmarks.server import server
from blazing_nb.client.node import Call, NodeWriter
from blazing_nb.client.results import Results
from blazing_nb.core.codec import prepare_call
from blazing_nb.core.dot import OperationId
from blazing_nb.core.outcome import decode_outcome, encode_body
from blazing_nb.core.signature import KeyRing
from blazing_nb.errors import StoreError, StoreUnavailable
from blazing_nb.store import script
from blazing_nb.store.redo import Redo
from blazing_nb.store.store import Store
from blazing_nb.worker.commits import Commit, _accepted
from blazing_nb.worker.holding import Batch, Holding
from blazing_nb.worker.job import Finished, Job
from blazing_nb.worker.recovery import Recovery
from tests.fault import trace
from tests.fault.checker import Checker
from tests.fault.mutant import MUTANTS, mutate

T0 = 1_800_000_000_000
LEASE_MS = 1000
TIMEOUT_MS = 300
ATTEMPTS = 3
WORKERS, NODES, CHUNKS, CHUNK = 3, 2, 8, 5
STORM_MS, CALM_MS = 12_000, 90_000
JUMPS_MS = (-20_000, -700, 700, 60_000)
FATES = {"pass": 80.0, "drop_request": 4.0, "drop_reply": 6.0, "delay": 4.0, "double": 3.0}
CRASH, PAUSE = 0.008, 0.01
_decode = msgspec.msgpack.Decoder(strict=False).decode


class Crash(BaseException):
    """An actor dies where it stands."""


class Event(NamedTuple):
    """Somebody goes on, or something happens, at a moment."""

    at: int
    number: int
    go: Callable[[], None]


class Actor:
    """A thread that runs only when the scheduler lets it, one at a time."""

    def __init__(self, world: World, name: str, body: Callable[[Actor], None]) -> None:
        self.world, self.name, self._body = world, name, body
        self._turn = threading.Semaphore(0)
        self.dead = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        world.at(world.now, self.go)

    def _run(self) -> None:
        self._turn.acquire()
        try:
            self._body(self)
        except Crash as crash:
            self.world.faults["crash"] += self.world.stormy
            self.world.note(f"{self.name} crashed {crash}")
        except Exception as error:  # a mutant's script may fail in every way
            self.world.violations.append(f"{self.name} failed: {error!r}")
        self.dead = True
        self.world.idle.release()

    def go(self) -> None:
        """Let it run until it sleeps."""
        if not self.dead:
            self._turn.release()
            self.world.idle.acquire()

    def sleep(self, ms: int) -> None:
        self.world.at(self.world.now + ms, self.go)
        self.world.idle.release()
        self._turn.acquire()
        if self.world.over:
            raise Crash("at the end")


class Net(Store):
    """The store as an actor sees it: every script goes over a network that the seed breaks, and is repeated as
    `Connection` repeats it."""

    def __init__(self, world: World, actor: Actor) -> None:
        super().__init__(world.app, world.url)
        self.world, self.actor = world, actor
        self.retries = 0

    def _admit(self, size: int) -> None:
        """Memory is not what is simulated."""

    def run(self, verb: str, request: object = None, *blobs: bytes, now_ms: int | None = None) -> Any:
        """One call with its repetitions."""

        def execute() -> Any:
            return self.world.store.run(verb, request, *blobs, now_ms=self.world.server_ms())

        self.world.saw(verb, request, blobs)
        for _ in range(ATTEMPTS):
            try:
                return self._once(verb, execute)
            except StoreUnavailable:
                self.retries += 1
                self.actor.sleep(self.world.random.randrange(60))
        raise StoreUnavailable(f"{verb} was not answered")

    def _once(self, verb: str, execute: Callable[[], Any]) -> Any:
        world, actor = self.world, self.actor
        self._point(f"before {verb}")
        actor.sleep(world.random.randrange(4))
        fate = world.fate()
        if fate == "drop_request":
            self._lose(verb, "request")
        if fate == "delay":
            late = world.random.randrange(2 * TIMEOUT_MS)
            world.note(f"{actor.name}: {verb} takes {late} ms")
            if late > TIMEOUT_MS:  # given up here, and executed all the same
                world.at(world.now + late, lambda: world.ghost(execute))
                self._lose(verb, "delayed")
            actor.sleep(late)
        reply = execute()
        self._point(f"after {verb}")
        if fate == "double":
            world.note(f"{actor.name}: {verb} arrives twice")
            self.retries += 1  # only a caller that repeats doubles a request
            world.at(world.now + world.random.randrange(2 * TIMEOUT_MS), lambda: world.ghost(execute))
        if fate == "drop_reply":
            self._lose(verb, "reply")
        actor.sleep(world.random.randrange(4))
        return reply

    def _lose(self, verb: str, what: str) -> None:
        self.world.note(f"{self.actor.name}: {what} of {verb} lost")
        self.actor.sleep(TIMEOUT_MS)
        raise StoreUnavailable(f"{what} lost")

    def _point(self, where: str) -> None:
        if self.world.stormy and self.world.random.random() < CRASH:
            raise Crash(where)


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
            try:
                if self.left:
                    self.left -= 1
                    prepared = [prepare_call((self.left, i), {}) for i in range(CHUNK)]
                    range_ = writer.send(Call("f", b"\0" * 32, prepared), Results(CHUNK), 0)
                    world.acknowledge(range_.ids())
                else:
                    pending = writer.unsettled
                    writer.settle()
                    if pending is not None:
                        world.acknowledge(pending.range.ids())
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
            found = self.net.reassert(commit.consumer, commit.incarnation, commit.groups, commit.bodies)
            self.world.faults["reasserted"] += found.accepted + found.remembered

    def turn(self, actor: Actor) -> None:
        if self.generation != self.world.generation:
            self.reassert()
        if self.batch is None:
            self.batch = self.holding.take(self.done, self.term)
        batch, held = self.batch, len(self.holding) - len(self.batch.rows)
        lanes = [(1 + self.world.random.randrange(6), ["f"])] if not (self.alone and held) else []
        retries = self.net.retries
        turn = self.net.turn(
            self.consumer, self.incarnation, batch.groups, batch.bodies, lanes, held=held, python="3.11"
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
            self.world.at(self.world.now + self.world.random.randrange(400), self.executed(job))

    def job(self, claim: Any, entry: Any, now_ms: int) -> Job:
        id_ = entry[0].decode()
        return Job(self.term, 0, self.incarnation, claim, id_, f"{claim.segment}:{id_}", entry, now_ms, 0)

    def executed(self, job: Job) -> Callable[[], None]:
        """It is done when its time has come; now and then it fails and is tried again."""
        done, draw = self.done, self.world.random.random()

        def finish() -> None:
            self.world.executions[job.operation] += 1
            payload = digest(job.entry[1][1])
            if self.world.stormy and draw < 0.05:
                body = b"R%d;%d;%d;%b" % (200, job.claimed_ms, 1, b"again")
            else:
                body = b"S" + encode_body(int(job.entry[1][3]), job.claimed_ms, 0, 1, job.attempt, payload)
            done.append(Finished(job, body, 1))

        return finish


class World:
    """One seed."""

    def __init__(self, url: str, seed: int, *, verbose: bool = False) -> None:
        self.url, self.seed, self.verbose = url, seed, verbose
        self.random = random.Random(seed)
        self.app = f"sim{seed}-{os.getpid()}"
        self.store = Store(self.app, url)
        self.prefix = self.store.keys.prefix
        self.ring = KeyRing({"k": b"\1" * 32}, "k")
        self.now, self.skew, self._number = T0, 0, 0
        self.queue: list[Event] = []
        self.idle = threading.Semaphore(0)
        self.over = False
        self.stormy = True
        self.generation = 0
        """How often the store fell back."""
        self.wanted: dict[str, bytes] = {}
        self.sent: set[str] = set()
        self.acknowledged: dict[str, OperationId] = {}
        self.executions: collections.Counter[str] = collections.Counter()
        self.faults: collections.Counter[str] = collections.Counter()
        self.violations: list[str] = []
        self.notes: list[str] = []
        self._kept: tuple[dict[bytes, tuple[bytes, int]], dict[str, OperationId]] | None = None

    # -- what actors ask for

    def at(self, moment: int, go: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self.queue, Event(moment, self._number, go))

    def server_ms(self) -> int:
        return self.now + self.skew

    def fate(self) -> str:
        if not self.stormy:
            return "pass"
        [found] = self.random.choices(list(FATES), list(FATES.values()))
        self.faults[found] += found != "pass"
        return found

    def ghost(self, execute: Callable[[], Any]) -> None:
        """A request arrives that nobody waits for any more."""
        try:
            execute()
        except StoreError as error:
            self.note(f"late, and refused: {error}")

    def note(self, text: str) -> None:
        self.notes.append(f"{self.now - T0:7} ms  {text}")
        if self.verbose:
            print(self.notes[-1])

    def saw(self, verb: str, request: Any, blobs: tuple[bytes, ...]) -> None:
        """What each operation must give, by its identity."""
        if verb == "enqueue":
            for i, payload in enumerate(blobs):
                segment = f"{request['step']}:{request['prio']}:{request['node']}"
                self.wanted[f"{segment}:{request['incarnation']}-{request['first'] + i}"] = digest(payload)

    def acknowledge(self, ops: Iterator[OperationId]) -> None:
        self.acknowledged |= {op.text: op for op in ops}

    # -- faults of the server

    def jump(self) -> None:
        by = self.random.choice(JUMPS_MS)
        self.skew += by
        self.faults["clock_jump"] += 1
        self.note(f"the server's clock jumps by {by} ms")

    def keep(self) -> None:
        call = self.store.connection().call
        keys = call("KEYS", f"{self.prefix}*")
        rows = {key: (call("DUMP", key), max(0, call("PTTL", key))) for key in keys}
        self._kept = ({key: row for key, row in rows.items() if row[0] is not None}, dict(self.acknowledged))

    def fall_back(self) -> None:
        """The server is what it was: acknowledged writes since then are gone, as level `memory` says."""
        if self._kept is None:
            return
        call = self.store.connection().call
        rows, self.acknowledged = self._kept
        for key in call("KEYS", f"{self.prefix}*"):
            call("DEL", key)
        for key, (value, ttl) in rows.items():
            call("RESTORE", key, ttl, value, "REPLACE")
        self._kept = None
        self.generation += 1
        self.faults["fall_back"] += 1
        self.note("the store falls back to what it was")

    # -- the run

    def run(self) -> list[str]:
        """Violations; empty where all invariants hold."""
        for i in range(WORKERS):
            SimulatedWorker(self, i)
        for i in range(NODES):
            Node(self, f"n{i}")
        draw, rest = self.random, random.getstate()
        random.seed(self.seed)  # incarnations have random bits
        for _ in range(draw.randrange(3)):
            self.at(T0 + draw.randrange(STORM_MS), self.jump)
        if draw.random() < 0.3:
            moment = draw.randrange(STORM_MS)
            self.at(T0 + moment, self.keep)
            self.at(T0 + min(STORM_MS - 1, moment + draw.randrange(2000)), self.fall_back)
        self.at(T0 + STORM_MS, self.calm)
        try:
            self._schedule()
        except StoreError as error:
            self.violations.append(f"the scripts fail: {error}")
        random.setstate(rest)
        self.over = True
        self._end_actors()
        self._check()
        self._clean()
        return self.violations

    def calm(self) -> None:
        self.stormy = False
        self.note("calm")

    def _schedule(self) -> None:
        looked = 0
        while self.queue and self.now < T0 + STORM_MS + CALM_MS:
            event = heapq.heappop(self.queue)
            self.now = max(self.now, event.at)
            event.go()
            if not self.stormy and self.now > looked + 500:
                looked = self.now
                if self._is_quiet():
                    return

    def _is_quiet(self) -> bool:
        snapshot = self.store.snapshot(now_ms=self.server_ms())
        return snapshot.waiting + snapshot.parked + snapshot.claimed == 0

    def _end_actors(self) -> None:
        while self.queue:
            heapq.heappop(self.queue).go()

    def _check(self) -> None:
        checker = Checker()
        for _, fields in self.store.connection().call("XRANGE", f"{self.prefix}trace", "-", "+"):
            try:
                checker.see(_decode(fields[1]))
            except KeyError as error:
                checker.demand(False, f"I2: {error} was never enqueued")
        checker.finish()
        demand = checker.demand
        snapshot = self.store.snapshot(now_ms=self.server_ms())
        depth = snapshot.waiting + snapshot.parked + snapshot.claimed
        demand(depth == 0, f"I9, I14: {depth} are left {CALM_MS / 1000:g} s after the last fault")
        for step in snapshot.steps:
            demand(step.enqueued == depth + step.finished, f"I19: {step}")
        ops = list(self.acknowledged.values())
        for op, row in zip(ops, self.store.status(ops), strict=True):
            demand(bool(row.record), f"I1: {op.text} was acknowledged and is {row.status}")
            if row.record:
                self._compare(op.text, row.record, demand)
        self.violations += checker.violations

    def _compare(self, op: str, record: bytes, demand: Callable[[bool, str], None]) -> None:
        outcome = decode_outcome(record)
        if record[:1] == b"S":
            demand(outcome.payload == self.wanted[op], f"{op} has the result of another")
            demand(self.executions[op] > 0, f"I10: {op} was never executed")
        else:
            demand(record[:1] == b"L", f"{op} ended as {outcome.status}")

    def _clean(self) -> None:
        call = self.store.connection().call
        for key in call("KEYS", f"{self.prefix}*"):
            call("DEL", key)
        self.store.close()


def digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:8]


@contextmanager
def witnesses(mutant: str = "") -> Iterator[None]:
    """Scripts that write down what they do, with a deliberate bug where one is named."""
    source = script._source
    logging.disable(logging.WARNING)
    try:
        script._source = lambda file: trace.witnessed(file, source(file))
        script.load.cache_clear()
        if mutant:
            mutate(mutant)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # two writers of one name: that is part of it
            yield
    finally:
        script._source = source
        script.load.cache_clear()
        logging.disable(logging.NOTSET)


def search(
    seeds: Iterable[int], mutant: str = "", *, verbose: bool = False, first_only: bool = False
) -> dict[str, Any]:
    """Run seeds on a server of their own: what was violated, by seed, and what was done to them."""
    began, executed = time.monotonic(), 0
    faults: collections.Counter[str] = collections.Counter()
    bad: dict[int, list[str]] = {}
    with server(aof=False) as (url, _), witnesses(mutant):
        for seed in seeds:
            world = World(url, seed, verbose=verbose)
            violations = world.run()
            faults += world.faults
            executed += sum(world.executions.values())
            if violations:
                bad[seed] = violations[:3]
                print(f"seed {seed}: {violations[:3]}", file=sys.stderr)
                print(f"again: python -m tests.fault.simulate --seed {seed} --mutant '{mutant}'", file=sys.stderr)
                if first_only:
                    break
    seconds = round(time.monotonic() - began, 1)
    return {"violations": bad, "executions": executed, "faults": dict(faults), "seconds": seconds}


def hunt(seeds: int) -> dict[str, Any]:
    """Which deliberate bugs die within so many seeds, and at which one."""
    dead: dict[str, int] = {}
    for mutant in MUTANTS:
        found = search(range(seeds), mutant, first_only=True)["violations"]
        if found:
            dead[mutant] = next(iter(found))
    return {"mutants": len(MUTANTS), "die": len(dead), "at_seed": dead, "survive": sorted(set(MUTANTS) - set(dead))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="so many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="only this one, with what happened")
    parser.add_argument("--mutant", default="", help="with this deliberate bug; until the first violation")
    parser.add_argument("--mutants", action="store_true", help="with each deliberate bug in turn: which of them die")
    args = parser.parse_args()
    if args.mutants:
        print(json.dumps(hunt(args.seeds)))
        return 0
    one = args.seed is not None
    seeds = [args.seed] if one else range(args.first, args.first + args.seeds)
    found = search(seeds, args.mutant, verbose=one, first_only=bool(args.mutant))
    print(json.dumps({"seeds": len(seeds), **found}))
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
