"""Reads the history of a run, event by event in the server's order, and says where an invariant of failures.md breaks.

Per operation a small state machine: absent -> waiting -> claimed <-> parked -> final. Everything is O(events).
"""

from __future__ import annotations

import collections
import heapq
import math
from typing import Any, NamedTuple

from tests.fault.awaited import GO, Awaited
from tests.fault.bound import Bounds

WAITING, CLAIMED, PARKED, FINAL = "waiting", "claimed", "parked", "final"
BUDGETS = 3
GIVEN_UP_AT_ONCE = 4
SHOWN = 20


class Op:
    """What the events said of one operation."""

    __slots__ = (
        "asked",
        "claim",
        "deadline",
        "deaths",
        "due",
        "failures",
        "holder",
        "need",
        "onto",
        "owner",
        "releases",
        "state",
        "token",
        "waits",
    )

    def __init__(self, state: str = WAITING, deadline: float = 0.0) -> None:
        self.state, self.deadline = state, deadline
        self.owner = self.holder = ""
        self.claim = 0
        self.deaths = self.failures = self.releases = self.waits = 0
        self.asked = False
        self.need = ""
        self.onto: tuple[str, str] | None = None
        self.token = ""
        self.due = 0.0


class Parked(NamedTuple):
    """A parked operation that becomes due."""

    due: float
    key: tuple[str, str]


class Checker:
    """Feed it with `see`; `violations` is empty where all is well.

    What the events do not say is told before: `awaited` (by operation), `suspends` and `attempts` (by operation and
    claim, as workers counted them), `pythons` by worker, and limits (`bounds`).
    """

    def __init__(self) -> None:
        self.ops: dict[tuple[str, str], Op] = {}
        self.waiting: collections.Counter[str] = collections.Counter()
        self.counts: collections.Counter[str] = collections.Counter()
        self.violations: list[str] = []
        self.recovery_ms: list[float] = []
        self._first: dict[str, tuple[int, int]] = {}
        self._due: dict[str, list[Parked]] = collections.defaultdict(list)
        self._passed_over: collections.Counter[str] = collections.Counter()
        self._waited: collections.Counter[str] = collections.Counter()
        self._claimed_at = 0.0
        self._given_up: collections.Counter[float] = collections.Counter()
        self._lease_end: dict[str, float] = {}
        self._died: dict[tuple[str, str], float] = {}
        self.awaited: dict[tuple[str, str], Awaited] = {}
        self.suspends: dict[tuple[tuple[str, str], int], Awaited] = {}
        self.attempts: dict[tuple[tuple[str, str], int], int] = {}
        self.trusts_members = True
        """False where the store fell back: a member may be unknown to it, and be sent again later."""
        self.bounds = Bounds(self.demand)
        self.pythons: dict[str, str] = {}

    def demand(self, holds: bool, text: str) -> None:
        if not holds and len(self.violations) < SHOWN:
            self.violations.append(text)

    def see(self, event: list[Any]) -> None:
        kind, now, *rest = event
        self.counts[kind] += 1
        getattr(self, kind)(float(now), *rest)

    # -- events

    def enqueued(
        self, now: float, name: str, incarnation: str, first: int, n: int, deadline: float = 0, cap: int = 0
    ) -> None:
        self.bounds.clock(now)
        delayed = name.split(":")[1] == "d"
        for counter in range(int(first), int(first) + int(n)):
            key = (name, f"{incarnation}-{counter}")
            self.demand(key not in self.ops, f"I2, I18: {key} was enqueued twice")
            self.ops[key] = Op(PARKED if delayed else WAITING, float(deadline))
            self.ops[key].due = math.inf  # until it is parked anew
        self.waiting[name] += 0 if delayed else int(n)
        self.bounds.enqueued(name, int(n), cap)

    def claimed(self, now: float, worker: str, given: list[Any]) -> None:
        self._claimed_at = now
        self.bounds.clock(now)
        from_parked: collections.Counter[str] = collections.Counter()
        taken: collections.Counter[str] = collections.Counter()
        due_before = {name.partition(":")[0]: self._is_due(name.partition(":")[0], now) for name, *_ in given}
        for name, claim, ids in given:
            step = name.partition(":")[0]
            for entry in ids:
                was = self._claim((name, entry), int(claim), worker, now)
                from_parked[step] += was == PARKED
                taken[step] += 1
                self.bounds.claimed(step, now)
        for step, n in taken.items():
            self.bounds.check(step)
            # I14: what is due has its share, so that a rescued operation does not wait behind fresh ones.
            self._waited[step] = self._waited[step] + 1 if due_before[step] and not from_parked[step] else 0
            self.demand(self._waited[step] <= 4, f"I14: {n} fresh ones of {step} went before what was due")
        seen = (self.ops.get((name, entry)) for name, _, ids in given for entry in ids)
        # What two workers died under is claimed alone, before all others.
        suspects = [op is not None and op.deaths >= BUDGETS - 1 for op in seen]
        self.demand(
            not any(suspects) or len(suspects) == 1, f"W14: a suspect among {len(suspects)} claimed by {worker}"
        )
        if not all(suspects):
            self._fair(given)

    def _claim(self, key: tuple[str, str], claim: int, worker: str, now: float) -> str:
        op = self.ops.get(key)
        if op is None:
            self.demand(False, f"I2: {key} was claimed, and never enqueued")
            return ""
        self.demand(op.state in (WAITING, PARKED), f"I7: {key} is {op.state} by {op.owner} and was claimed by {worker}")
        self.demand(claim == op.claim + 1, f"I5, I6: claim {claim} of {key} follows {op.claim}")
        spent = op.failures + op.deaths + op.releases + op.waits
        self._may_run(key, op, claim, worker, now)
        self.demand(claim <= spent + 1, f"I13: claim {claim} of {key} after {spent} that ended")
        was, op.state, op.owner, op.claim = op.state, CLAIMED, worker, claim
        op.holder = worker
        if was == WAITING:
            self.waiting[key[0]] -= 1
            incarnation, counter = map(int, key[1].split("-"))
            last = self._first.get(key[0], (0, 0))
            self.demand((incarnation, counter) > last, f"I12: {key} was first claimed after {last}")
            self._first[key[0]] = (incarnation, counter)
        died = self._died.pop(key, None)
        if died is not None:
            self.recovery_ms.append(now - died)
        return was

    def _may_run(self, key: tuple[str, str], op: Op, claim: int, worker: str, now: float) -> None:
        awaited, attempt = self.awaited.get(key), self.attempts.get((key, claim), op.failures + 1)
        if awaited is not None:
            verdict = awaited.verdict(self._letter)
            self.demand(verdict == GO, f"I11: {key} was claimed, and what it awaits is {verdict or 'open'}")
        self.demand(not op.asked, f"W17: {key} was claimed again after its cancel was asked")
        self.demand(
            not 0 < op.deadline <= now, f"deadline: {key} was claimed {now - op.deadline} ms after its deadline"
        )
        self.demand(attempt == op.failures + 1, f"I13: {key} counts attempt {attempt} after {op.failures} failures")
        python = self.pythons.get(worker.partition(".")[0], op.need)
        self.demand(op.need in ("", python), f"python: {key} needs {op.need} and was given to {python}")

    def _letter(self, key: tuple[str, str]) -> str:
        """How it ended; of a flow that went on, how its last stage did."""
        op = self.ops.get(key)
        if op is None:
            return "?"
        if op.state != FINAL:
            return ""
        return self._letter(op.onto) if op.onto else op.token[0]

    def _is_due(self, step: str, now: float) -> bool:
        heap = self._due[step]
        while heap and not self._waits_until(heap[0]):
            heapq.heappop(heap)
        return bool(heap) and heap[0].due <= now

    def _waits_until(self, parked: Parked) -> bool:
        op = self.ops[parked.key]
        return op.state == PARKED and op.due == parked.due

    def _fair(self, given: list[Any]) -> None:
        """I15: a segment with waiting operations is not passed over more often than there are others."""
        served = {name for name, *_ in given}
        for place in {name.rpartition(":")[0] for name in served}:
            active = [name for name, n in self.waiting.items() if n > 0 and name.rpartition(":")[0] == place]
            for name in active:
                if name in served:
                    self._passed_over[name] = 0
                else:
                    self._passed_over[name] += 1
                    passed = self._passed_over[name]
                    self.demand(passed <= 2 * len(active) + 2, f"I15: {name} was passed over {passed} times")

    def finished(self, now: float, name: str, heads: list[Any]) -> None:
        for entry, head in heads:
            key, op = (name, entry), self.ops.get((name, entry))
            if op is None:
                self.demand(False, f"I2: {key} is final, and was never enqueued")
                continue
            self.demand(op.state != FINAL, f"I3: {key} was committed by {op.token} and by {head}")
            if op.state == WAITING:
                self.waiting[name] -= 1
            if op.state != FINAL:
                self.bounds.finished(name, claimed=op.state == CLAIMED)
            self.demand(not op.onto or head[0] == "S", f"{key} ended as {head}, and something follows it")
            self.demand(head[0] != "X" or 0 < op.deadline <= now, f"deadline: {key} expired before its deadline")
            if head.startswith("F0-"):
                ends = key not in self.awaited or self.awaited[key].may_end_as("F", self._letter)
                self.demand(ends, f"I11: the store ended {key} as failed, and nothing that it awaits says so")
            elif head[0] in "SF":
                token = f"{op.owner.rpartition('.')[2]}-{op.claim}"
                self.demand(op.state == CLAIMED and head[1:] == token, f"I4: {key} of {token} was committed by {head}")
            if head[0] == "L":
                self.demand(op.deaths == BUDGETS, f"I13: {key} was given up after {op.deaths} deaths")
            self.counts["final:" + head[0]] += 1
            op.state, op.token = FINAL, head

    def reasserted(self, now: float, name: str, entry: str, worker: str, claim: int) -> None:
        """What a worker had committed before the store went back, and commits again: as if it held it still."""
        key, op = (name, entry), self.ops.get((name, entry))
        if op is None:
            self.demand(False, f"I2: {key} was reasserted, and never enqueued")
            return
        held = op.state == CLAIMED and (op.owner, op.claim) == (worker, claim)
        self.demand(held or op.state in (WAITING, PARKED), f"I7: {key} is {op.state} by {op.owner}, not {worker}")
        last = (op.holder, op.claim) == (worker, claim)
        self.demand(last or claim > op.claim, f"I4: claim {claim} of {key} by {worker} was {op.holder}'s")
        self.waiting[name] -= op.state == WAITING
        if op.state != CLAIMED:
            self.bounds.held(name)
        op.state, op.owner, op.claim = CLAIMED, worker, claim

    def parked(self, due: float, name: str, entry: str) -> None:
        op = self.ops[name, entry]
        self.demand(op.state == CLAIMED, f"I7: {(name, entry)} is {op.state} and was parked")
        self.bounds.parked(name)
        op.state, op.owner, op.due = PARKED, "", due
        if op.deaths < BUDGETS - 1 and not op.need:  # what runs alone, or on one Python, has a register of its own
            heapq.heappush(self._due[name.partition(":")[0]], Parked(due, (name, entry)))

    def failed(self, now: float, name: str, entry: str, token: str) -> None:
        op = self.ops[name, entry]
        held = f"{op.owner.rpartition('.')[2]}-{op.claim};"
        self.demand(token == held, f"I4: attempt {token} of {(name, entry)}, held by {held}")
        op.failures += 1

    def released(self, now: float, name: str, entry: str, need: str = "") -> None:
        self.ops[name, entry].releases += 1
        self.ops[name, entry].need = need or self.ops[name, entry].need

    def suspended(self, now: float, name: str, entry: str, claim: int, token: str) -> None:
        op = self.ops[name, entry]
        held = f"{op.owner.rpartition('.')[2]}-{op.claim};"
        self.demand(op.state == CLAIMED and token == held, f"I4: {(name, entry)} of {held} was suspended by {token}")
        op.waits += 1
        if found := self.suspends.get(((name, entry), int(claim))):
            self.awaited[name, entry] = found

    def awaits(self, now: float, name: str, entry: str, heads: list[Any], rows: list[Any]) -> None:
        if self.trusts_members:
            self.awaited[name, entry] = Awaited(heads, rows)

    def asked(self, now: float, name: str, entry: str) -> None:
        self.ops[name, entry].asked = True

    def followed(self, now: float, name: str, entry: str, token: str, place: str) -> None:
        op = self.ops[name, entry]
        held = f"{op.owner.rpartition('.')[2]}-{op.claim};"
        self.demand(
            op.state == CLAIMED and token == held, f"I4: what follows {(name, entry)} of {held} came by {token}"
        )
        self.demand(not op.onto, f"I3: two operations follow {(name, entry)}")
        self.demand(not op.asked, f"W17: {(name, entry)} goes on, and its cancel was asked")
        child, _, id_ = place.partition("|")[2].rpartition(":")
        op.onto = (child, id_)

    def paused(self, now: float, step: str, flag: int) -> None:
        self.bounds.pause(step, flag)

    def ticked(self, now: float, mark: str) -> None:
        self.bounds.tick(mark)

    def died(self, now: float, name: str, entry: str, worker: str) -> None:
        op = self.ops[name, entry]
        self.demand(op.owner == worker, f"I7: {(name, entry)} of {op.owner} was rescued from {worker}")
        op.deaths += 1
        self._died[name, entry] = self._lease_end.get(worker, now)

    def gave_up(self, now: float, worker: str, end: float) -> None:
        # A worker that leaves by itself is given up before its lease ends.
        # A call gives up four at most; the others are the next one's.
        self._given_up[now] += 1
        late = now > end and self._claimed_at > end and self._given_up[self._claimed_at] < GIVEN_UP_AT_ONCE
        self.demand(not late, f"I14: claims went on, {worker} was over since {end}")
        self._lease_end[worker] = float(end)

    def fenced(self, now: float, name: str, entry: str, token: str) -> None:
        op = self.ops.get((name, entry))
        held = "" if op is None else f"{op.owner.rpartition('.')[2]}-{op.claim};"
        self.demand(op is None or op.state != CLAIMED or token != held, f"I4: the holder {token} was fenced")
        done = op is not None and op.state == FINAL and op.token[1:] + ";" == token
        self.demand(not done, f"I3: the commit of {(name, entry)} by {token}, repeated, was refused")

    # -- the end

    def finish(self) -> None:
        """I1: everything that was enqueued is final."""
        left = [key for key, op in self.ops.items() if op.state != FINAL]
        self.demand(not left, f"I1: {len(left)} are not final, such as {left[:3]}")
