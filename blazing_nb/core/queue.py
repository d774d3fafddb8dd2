"""The queue as pure code: its states, and every transition that the scripts make, in the same words and order.

It is the specification: `tests/store/test_model.py` drives the same random histories through it and through the scripts
on a real server, and compares all that can be seen after each step. Time is an argument; nothing is random.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from blazing_nb.core.join import Tally, verdict

DEATHS, ALONE = 3, 2
HIGH_FIRST, LOW_FIRST = ("h", "n", "l"), ("l", "n", "h")
PARKED = "@parked"
NEVER_MS = 9_000_000_000_000_000


class Dot(NamedTuple):
    """(segment, incarnation, counter)."""

    segment: str
    incarnation: int
    counter: int

    @property
    def step(self) -> str:
        return self.segment.partition(":")[0]

    @property
    def member(self) -> str:
        return f"{self.segment}|{self.incarnation}-{self.counter}"


class Entry(msgspec.Struct):
    """An operation that is not final. `owner`: "" waits, `@parked`, or a worker."""

    enqueued_ms: int
    deadline_ms: int = 0
    owner: str = ""
    claims: int = 0
    deaths: int = 0
    releases: int = 0
    due_ms: int = 0
    solo: bool = False
    need: str = ""
    """The Python whose workers alone can load it; empty where any can."""
    cancel: bool = False
    waited: int = 0
    """The last claim that gave it back until others are final."""
    groups: list[Tally[Dot]] | None = None
    """What it waits for, or waited for; and not before `after_ms`."""
    after_ms: int = 0


class Limit(NamedTuple):
    """In flight (0: any number), milliseconds between two claims (0: no rate), burst."""

    in_flight: int = 0
    interval_ms: float = 0.0
    burst: int = 1


class Row(NamedTuple):
    """One of a commit: claim number, letter, the delay of a retry, and which step follows a success ("": none)."""

    dot: Dot
    claims: int
    letter: str
    delay_ms: int = 0
    next_step: str = ""
    groups: tuple[Tally[Dot], ...] = ()


class Queue:
    """One app on one site."""

    def __init__(self) -> None:
        self.seen_ms = 0
        self.quiet_ms = 0
        self.turns = 0
        self.ones: dict[str, int] = {}
        self.drain = ""
        self.live: dict[Dot, Entry] = {}
        self.final: dict[Dot, str] = {}
        """Letter and token of each outcome."""
        self.retried: dict[Dot, str] = {}
        """The token of the last failed attempt that was parked for another."""
        self.follows: dict[Dot, Dot] = {}
        """What a commit enqueued, by what it committed (I11)."""
        self.settled: list[tuple[Dot, str]] = []
        """What became final and is still to be handed on to who waits for it."""
        self.own = (0, 0)
        """Incarnation and counter of the segments that the store writes."""
        self.done: dict[Dot, int] = {}
        """How often the effects of an operation were done."""
        self.last: dict[str, tuple[int, int]] = {}
        self.active: dict[tuple[str, str], dict[str, int]] = {}
        self.leases: dict[str, int] = {}
        self.paused: set[str] = set()
        self.limits: dict[str, Limit] = {}
        self.full_ms: dict[str, float] = {}

    # -- time and registration ---------------------------------------------------------------------------------------

    def clock(self, now_ms: int) -> int:
        """Never goes back. Where no script ran for half a lease, every lease shifts by the gap."""
        if now_ms <= self.seen_ms:
            return self.seen_ms
        gap = now_ms - self.seen_ms
        if self.seen_ms and gap > 100 and 0 < self.quiet_ms < gap:
            self.leases = {worker: end + gap for worker, end in self.leases.items()}
        self.seen_ms = now_ms
        return now_ms

    def open_worker(self, worker: str, lease_ms: int, now_ms: int) -> None:
        now_ms = self.clock(now_ms)
        self.leases[worker] = now_ms + lease_ms
        self.quiet_ms = max(self.quiet_ms, lease_ms // 2)

    def heartbeat(self, worker: str, lease_ms: int, now_ms: int) -> bool:
        """Renew the lease, unless the worker was given up."""
        now_ms = self.clock(now_ms)
        known = worker in self.leases
        if known:
            self.leases[worker] = now_ms + lease_ms
        self.rescue(now_ms)
        return known

    # -- enqueue -----------------------------------------------------------------------------------------------------

    def enqueue(
        self,
        dots: list[Dot],
        now_ms: int,
        *,
        cap: int = 0,
        delay_ms: int | None = None,
        expires_ms: int = 0,
        joins: Mapping[Dot, tuple[Tally[Dot], ...]] | None = None,
    ) -> str:
        """Consecutive operations of one segment: added, known, fenced or full."""
        now_ms = self.clock(now_ms)
        first, segment = dots[0], dots[0].segment
        incarnation, counter = self.last.get(segment, (0, 0))
        if incarnation == first.incarnation and counter >= first.counter:
            return "known"
        if incarnation > first.incarnation:
            return "known" if first in self.live or first in self.final else "fenced"
        if cap and sum(dot.segment == segment for dot in self.live) + len(dots) > cap:
            return "full"
        for dot in dots:
            self.live[dot] = Entry(now_ms, now_ms + expires_ms if expires_ms else 0)
            if delay_ms is not None:
                self._park(dot, now_ms + delay_ms)
        for dot, groups in (joins or {}).items():
            self._await(dot, groups, self.live[dot].deadline_ms or NEVER_MS, now_ms + (delay_ms or 0), now_ms)
        self.settle(now_ms)
        self.last[segment] = (dots[-1].incarnation, dots[-1].counter)
        if delay_ms is None:
            self.turns += 1
            step, prio, _ = segment.split(":", 2)
            self.active.setdefault((step, prio), {}).setdefault(segment, self.turns)
        return "added"

    # -- commit ------------------------------------------------------------------------------------------------------

    def commit(self, worker: str, incarnation: int, rows: Iterable[Row], now_ms: int) -> tuple[int, list[Dot]]:
        """How many were accepted, and which were another's."""
        accepted, lost, written = 0, [], set[str]()
        for dot, claims, letter, delay_ms, next_step, groups in rows:
            entry, token = self.live.get(dot), f"{incarnation}-{claims}"
            if entry is not None and entry.owner == worker and entry.claims == claims:
                accepted += 1
                follows = next_step and letter == "S" and not entry.cancel
                if letter == "J" and not entry.cancel:
                    self.retried[dot], entry.waited = token, claims
                    self._await(dot, groups, NEVER_MS, 0, now_ms)
                else:
                    self._commit(dot, entry, "C" if next_step and not follows else letter, token, now_ms + delay_ms)
                if follows:
                    self.follows[dot] = self._write(next_step, now_ms, written)
            elif self.final.get(dot, "?")[1:] != token and self.retried.get(dot) != token:
                lost.append(dot)
        return accepted, lost

    def _write(self, step: str, now_ms: int, written: set[str]) -> Dot:
        """An operation in a segment that the store writes; activated once a call."""
        incarnation, counter = self.own
        self.own = (incarnation or now_ms * 2048, counter + 1)
        dot = Dot(f"{step}:n:@0", *self.own)
        self.live[dot] = Entry(now_ms)
        if dot.segment not in written:
            self.turns += 1
            self.active.setdefault((step, "n"), {}).setdefault(dot.segment, self.turns)
        written.add(dot.segment)
        return dot

    def _commit(self, dot: Dot, entry: Entry, letter: str, token: str, due_ms: int) -> None:
        if letter in "RJ" and entry.cancel:
            letter = "C"
        if letter == "S":
            self.done[dot] = self.done.get(dot, 0) + 1
        if letter != "R":
            self._finish(dot, letter, token)
        else:
            self.retried[dot] = token
            self._park(dot, due_ms)

    def _finish(self, dot: Dot, letter: str, token: str) -> None:
        del self.live[dot]
        self.final[dot] = letter + token
        self.settled.append((dot, letter))

    # -- waiting for others ------------------------------------------------------------------------------------------

    def _await(self, dot: Dot, groups: tuple[Tally[Dot], ...], due_ms: int, after_ms: int, now_ms: int) -> None:
        """Park it until its groups are decided. Those already final, or of whom nothing is known, count at once."""
        entry = self.live[dot]
        entry.groups, entry.after_ms = list(groups), after_ms
        self._park(dot, due_ms)
        for group in groups:
            for member in sorted(group.missing):
                where = member
                while where in self.follows:
                    where = self.follows[where]
                group.move(member, where)
                if where not in self.live:
                    group.tell(where, self.final.get(where, "?")[0])
        self._decide(dot, now_ms)

    def settle(self, now_ms: int) -> None:
        """Hand on what became final, also what that ends."""
        while self.settled:
            member, letter = self.settled.pop(0)
            for dot, entry in list(self.live.items()):
                if entry.groups is not None and verdict(entry.groups) == "":
                    for group in entry.groups:
                        if member in self.follows:
                            group.move(member, self.follows[member])
                        else:
                            group.tell(member, letter)
                    self._decide(dot, now_ms)

    def _decide(self, dot: Dot, now_ms: int) -> None:
        entry = self.live[dot]
        found = verdict(entry.groups or [])
        if found == "go":
            entry.due_ms = max(now_ms, entry.after_ms)
        elif found:
            self._finish(dot, found, f"0-{entry.claims}")

    def _park(self, dot: Dot, due_ms: int) -> None:
        entry = self.live[dot]
        entry.owner, entry.due_ms, entry.solo = PARKED, due_ms, entry.deaths >= ALONE

    # -- claim -------------------------------------------------------------------------------------------------------

    def turn(
        self,
        worker: str,
        incarnation: int,
        rows: Iterable[Row],
        budget: int,
        steps: list[str],
        now_ms: int,
        python: str = "",
    ) -> tuple[int, list[Dot], list[Dot]]:
        """Commit, rescue, claim: how many were accepted, which were another's, and what was claimed, in order."""
        now_ms = self.clock(now_ms)
        accepted, lost = self.commit(worker, incarnation, rows, now_ms)
        self.rescue(now_ms)
        if worker not in self.leases or not budget:
            return accepted, lost, []
        taken = self.claim(worker, incarnation, budget, steps, now_ms, python)
        self.settle(now_ms)
        return accepted, lost, taken

    def claim(
        self, worker: str, incarnation: int, budget: int, steps: list[str], now_ms: int, python: str = ""
    ) -> list[Dot]:
        taken: list[Dot] = []
        if self._alone(worker, incarnation, steps, now_ms, taken):
            return taken
        for step in steps:
            if budget > 0:
                budget -= self._take_step(step, (worker, incarnation, python), budget, now_ms, taken)
        return taken

    def _alone(self, worker: str, incarnation: int, steps: list[str], now_ms: int, taken: list[Dot]) -> bool:
        """An operation under which two workers died runs alone; who holds something drains for it first."""
        suspects = [
            dot
            for dot in self._due(now_ms, solo=True)
            if dot.step in steps and dot.step not in self.paused and self._allowance(dot.step, now_ms) > 0
        ]
        if not suspects:
            return False
        if not any(entry.owner == worker for entry in self.live.values()):
            self.drain = ""
            self._give(suspects[0], worker, incarnation, now_ms, taken)
            self._spend(suspects[0].step, len(taken), now_ms)
            return bool(taken)
        self.drain = self.drain or worker
        return self.drain == worker

    def _take_step(self, step: str, taker: tuple[str, int, str], budget: int, now_ms: int, taken: list[Dot]) -> int:
        most = min(budget, self._allowance(step, now_ms))
        due = bool(self._parked(step, taker[2], now_ms))
        if step in self.paused or most <= 0 or not (due or any(self.active.get((step, prio)) for prio in HIGH_FIRST)):
            return 0
        self.turns += 1
        turn = self.turns
        share = math.ceil(most / 2)
        if most == 1:
            self.ones[step] = self.ones.get(step, 0) + 1
            share = self.ones[step] % 2
        left = most - self._take_parked(step, taker, share, now_ms, taken)
        for prio in LOW_FIRST if turn % 8 == 0 else HIGH_FIRST:
            active = self.active.get((step, prio), {})
            names = sorted(active, key=lambda name: (active[name], name))[: max(0, left)]
            for i, name in enumerate(names):
                want = math.ceil(left / (len(names) - i))
                waiting = sorted(d for d, e in self.live.items() if d.segment == name and e.owner == "")[:want]
                if len(waiting) < want:
                    del active[name]
                else:
                    active[name] = turn
                for dot in waiting:
                    self._give(dot, *taker[:2], now_ms, taken)
                left -= len(waiting)
        left -= self._take_parked(step, taker, left, now_ms, taken)
        self._spend(step, most - left, now_ms)
        return most - left

    def _parked(self, step: str, python: str, now_ms: int) -> list[Dot]:
        """What is due of a step; first that which only workers of this Python can load."""
        due = [dot for dot in self._due(now_ms, solo=False) if dot.step == step]
        needed = [dot for dot in due if python and self.live[dot].need == python]
        return needed + [dot for dot in due if not self.live[dot].need]

    def _take_parked(self, step: str, taker: tuple[str, int, str], limit: int, now_ms: int, taken: list[Dot]) -> int:
        parked = self._parked(step, taker[2], now_ms)[:limit]
        for dot in parked:
            self._give(dot, *taker[:2], now_ms, taken)
        return len(parked)

    def _give(self, dot: Dot, worker: str, incarnation: int, now_ms: int, taken: list[Dot]) -> None:
        entry = self.live[dot]
        entry.claims += 1
        if entry.deadline_ms and entry.deadline_ms <= now_ms:
            self._finish(dot, "X", f"{incarnation}-{entry.claims}")
        else:
            entry.owner = worker
            taken.append(dot)

    def _due(self, now_ms: int, *, solo: bool) -> list[Dot]:
        found = [d for d, e in self.live.items() if e.owner == PARKED and e.solo is solo and e.due_ms <= now_ms]
        return sorted(found, key=lambda dot: (self.live[dot].due_ms, dot.member))

    def flight(self, step: str) -> int:
        """Operations of a step that workers hold."""
        return sum(dot.step == step and entry.owner not in ("", PARKED) for dot, entry in self.live.items())

    def _allowance(self, step: str, now_ms: int) -> int:
        limit, n = self.limits.get(step, Limit()), 256
        if limit.in_flight:
            n = limit.in_flight - self.flight(step)
        if limit.interval_ms:
            full = max(now_ms, self.full_ms.get(step, 0.0))
            n = min(n, math.floor(limit.burst - (full - now_ms) / limit.interval_ms + 1e-9))
        return n

    def _spend(self, step: str, n: int, now_ms: int) -> None:
        limit = self.limits.get(step, Limit())
        if n and limit.interval_ms:
            self.full_ms[step] = round(max(now_ms, self.full_ms.get(step, 0.0)) + n * limit.interval_ms, 3)

    # -- giving back -------------------------------------------------------------------------------------------------

    def rescue(self, now_ms: int) -> None:
        """Every claim of a worker whose lease is over goes back; the third death ends an operation."""
        for worker in [worker for worker, end in self.leases.items() if end < now_ms]:
            self._lose(worker, now_ms)
        self.settle(now_ms)

    def retire(self, worker: str, now_ms: int) -> bool:
        now_ms = self.clock(now_ms)
        known = worker in self.leases
        if known:
            self._lose(worker, now_ms)
        self.settle(now_ms)
        return known

    def _lose(self, worker: str, now_ms: int) -> None:
        del self.leases[worker]
        incarnation = worker.rpartition(".")[2]
        for dot in sorted(dot for dot, entry in self.live.items() if entry.owner == worker):
            entry = self.live[dot]
            entry.deaths += 1
            if entry.cancel or entry.deaths >= DEATHS:
                self._finish(dot, "C" if entry.cancel else "L", f"{incarnation}-{entry.claims}")
            else:
                self._park(dot, now_ms + (entry.deaths - 1) ** 2 * 1000)

    def release(
        self, worker: str, rows: Iterable[tuple[Dot, int]], now_ms: int, delay_ms: int = 0, need: str = ""
    ) -> int:
        """A worker gives back what it will not run: neither a death nor a failure. `need`: only workers of that Python
        get it from now on."""
        now_ms, released = self.clock(now_ms), 0
        for dot, claims in rows:
            entry = self.live.get(dot)
            if entry is not None and entry.owner == worker and entry.claims == claims:
                entry.releases += 1
                entry.need = need or entry.need
                self._park(dot, now_ms + delay_ms)
                released += 1
        return released

    def cancel(self, dot: Dot, now_ms: int, *, waiting: bool = False) -> str:
        """Whichever comes first wins, a commit or this. With `waiting`, what is claimed is left alone."""
        self.clock(now_ms)
        if dot in self.final:
            return "FINAL"
        entry = self.live.get(dot)
        if entry is None:
            return "ABSENT"
        if entry.owner in ("", PARKED):
            self._finish(dot, "C", f"0-{entry.claims}")
            self.settle(self.seen_ms)
            return "CANCELLED"
        if waiting:
            return "CLAIMED"
        entry.cancel = True
        return "ASKED"

    # -- looking -----------------------------------------------------------------------------------------------------

    def status(self, dot: Dot) -> tuple[str, int, int, int]:
        """Its status, claims, deaths and releases."""
        entry = self.live.get(dot)
        if entry is None:
            return ("FINAL" if dot in self.final else "ABSENT"), 0, 0, 0
        parked = "RETRYING" if entry.claims > entry.waited else "SCHEDULED"
        name = {"": "PENDING", PARKED: parked}.get(entry.owner, "CLAIMED")
        return name, entry.claims, entry.deaths, entry.releases
