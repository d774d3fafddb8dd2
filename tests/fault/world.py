"""One seed of the simulation: a virtual clock, the queue of what happens next, and what the server does."""

from __future__ import annotations

import collections
import heapq
import os
import random
import threading
from collections.abc import Callable
from typing import Any

from blazing_nb.core.dot import OperationId, Range
from blazing_nb.core.signature import KeyRing
from blazing_nb.errors import StoreError
from blazing_nb.store.chance import CHANCE
from blazing_nb.store.store import Store
from tests.fault import verdict
from tests.fault.actor import TIMEOUT_MS, Event
from tests.fault.awaited import Awaited, Key
from tests.fault.bystander import CAPS, RATES, take_part
from tests.fault.checker import Checker
from tests.fault.role import PYTHONS, STORM_MS, Node, SimulatedWorker, digest

T0 = 1_800_000_000_000
WORKERS, NODES = 3, 2
CALM_MS = 90_000
LATEST_MS = 2 * TIMEOUT_MS
"""After the storm the last late request arrives."""
JUMPS_MS = (-20_000, -700, 700, 60_000)
FATES = {"pass": 80.0, "drop_request": 4.0, "drop_reply": 6.0, "delay": 4.0, "double": 3.0}


class World:
    """One seed."""

    def __init__(self, url: str, seed: int, *, wide: bool = True, verbose: bool = False) -> None:
        self.url, self.seed, self.wide, self.verbose = url, seed, wide, verbose
        self.random = random.Random(seed)
        self.odd = random.Random(~seed)
        """For what the narrow one does not have, so that its schedules stay what they were."""
        self.app = f"sim{seed}-{os.getpid()}"
        self.store = Store(self.app, url)
        self.prefix = self.store.keys.prefix
        self.ring = KeyRing({"k": b"\1" * 32}, "k")
        self.now, self.skew, self._number, self.born = T0, 0, 0, T0
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
        self.ranges: list[Range] = []
        self.order: dict[str, int] = {}
        self.cancels: set[str] = set()
        self.awaited: dict[str, Awaited] = {}
        self.suspends: dict[tuple[str, int], Awaited] = {}
        self.attempts: dict[tuple[str, int], int] = {}
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
        """What each operation must give, by its identity, and what it waits for."""
        if verb == "enqueue":
            head = f"{request['step']}:{request['prio']}:{request['node']}:{request['incarnation']}-"
            for i, payload in enumerate(blobs):
                self.wanted[f"{head}{request['first'] + i}"] = digest(payload)
            for at, heads, rows in request["joins"]:
                self._awaits(f"{head}{request['first'] + at}", heads, rows)
        elif verb == "join":
            self._awaits(request["operation"], request["groups"], request["members"])

    def _awaits(self, op: str, heads: Any, rows: Any) -> None:
        before = self.awaited[op].rows if op in self.awaited else []
        self.awaited[op] = Awaited(heads, [*before, *(row for row in rows if row not in before)])

    def acknowledge(self, range_: Range, before: int) -> None:
        """Unless the store fell back while the answer was on its way: `before` is its generation when it was asked."""
        if before != self.generation:
            return
        self.ranges.append(range_)
        for op in range_.ids():
            self.acknowledged[op.text] = op
            self.order.setdefault(op.text, len(self.order))

    def tell(self, checker: Checker) -> None:
        """What the events do not say. After a fall-back the same claim may have happened twice."""
        checker.bounds.caps, checker.bounds.rates, checker.pythons = CAPS, RATES, PYTHONS
        checker.trusts_members = not self.faults["fall_back"]
        if checker.trusts_members:
            checker.awaited = {key_of(op): awaited for op, awaited in self.awaited.items()}
            checker.suspends = {(key_of(op), claim): awaited for (op, claim), awaited in self.suspends.items()}
            checker.attempts = {(key_of(op), claim): attempt for (op, claim), attempt in self.attempts.items()}

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
        if self.wide:
            take_part(self)
        draw, rest = self.random, CHANCE.getstate()
        CHANCE.seed(self.seed)  # incarnations have random bits
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
        CHANCE.setstate(rest)
        self.over = True
        self._end_actors()
        self.violations += verdict.check(self)
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
            if self.now > max(looked + 500, T0 + STORM_MS + LATEST_MS):
                looked = self.now
                if self._is_quiet():
                    return

    def _is_quiet(self) -> bool:
        snapshot = self.store.snapshot(now_ms=self.server_ms())
        return snapshot.waiting + snapshot.parked + snapshot.claimed == 0

    def _end_actors(self) -> None:
        while self.queue:
            heapq.heappop(self.queue).go()

    def _clean(self) -> None:
        call = self.store.connection().call
        for key in call("KEYS", f"{self.prefix}*"):
            call("DEL", key)
        self.store.close()


def key_of(op: str) -> Key:
    """As events name it."""
    segment, _, id_ = op.rpartition(":")
    return segment, id_
