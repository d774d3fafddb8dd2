"""The queue as pure code: its states, and every transition that the scripts make, in the same words and order.

It is the specification: `tests/store/test_model.py` drives the same random histories through it and through the scripts
on a real server, and compares all that can be seen after each step. Time is an argument; nothing is random.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from blazing_nb.core.claim import Claims
from blazing_nb.core.entry import PARKED, Dot, Entry, Row
from blazing_nb.core.join import Tally
from blazing_nb.core.ledger import Ledger
from blazing_nb.core.policy import DEATHS

NEVER_MS = 9_000_000_000_000_000


class Queue:
    """One app on one site."""

    def __init__(self) -> None:
        self.seen_ms = 0
        self.quiet_ms = 0
        self.ledger = Ledger()
        self.live, self.final = self.ledger.live, self.ledger.final
        self.follows = self.ledger.follows
        self.claims = Claims(self.ledger)
        self.paused, self.limits = self.claims.paused, self.claims.limits
        self.retried: dict[Dot, str] = {}
        """The token of the last failed attempt that was parked for another."""
        self.own = (0, 0)
        """Incarnation and counter of the segments that the store writes."""
        self.done: dict[Dot, int] = {}
        """How often the effects of an operation were done."""
        self.ahead: dict[Dot, str] = {}
        """Outcomes that were reasserted before their operations."""
        self.last: dict[str, tuple[int, int]] = {}
        self.leases: dict[str, int] = {}

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
                self.ledger.park(dot, now_ms + delay_ms)
        for dot, groups in (joins or {}).items():
            self.ledger.wait(dot, groups, self.live[dot].deadline_ms or NEVER_MS, now_ms + (delay_ms or 0), now_ms)
        self.ledger.settle(now_ms)
        for dot in dots:
            ahead = self.ahead.pop(dot, "")
            if ahead and dot in self.live:
                self.ledger.finish(dot, ahead[0], ahead[1:])
        self.ledger.settle(now_ms)
        self.last[segment] = (dots[-1].incarnation, dots[-1].counter)
        if delay_ms is None:
            self.claims.activate(segment)
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
                    self.ledger.wait(dot, groups, NEVER_MS, 0, now_ms)
                else:
                    self._commit(dot, entry, "C" if next_step and not follows else letter, token, now_ms + delay_ms)
                if follows:
                    self.follows[dot] = self._write(next_step, now_ms, written)
            elif self.final.get(dot, "?")[1:] != token and self.retried.get(dot) != token:
                lost.append(dot)
        return accepted, lost

    def reassert(self, worker: str, incarnation: int, rows: Iterable[Row], now_ms: int) -> tuple[int, int, list[Dot]]:
        """Commit again what was committed before the store went back: how many were accepted, how many are remembered
        until their operations are enqueued, and which another has. Nobody's claim is taken away."""
        now_ms, accepted, remembered, lost = self.clock(now_ms), 0, 0, list[Dot]()
        for row in rows:
            entry = self.live.get(row.dot)
            if entry is None and row.dot not in self.final and not row.next_step:
                self.ahead[row.dot] = f"{row.letter}{incarnation}-{row.claims}"
                remembered += 1
                continue
            if entry is not None and self._is_free(entry, worker, row.claims):
                entry.owner, entry.claims = worker, row.claims
            new, others = self.commit(worker, incarnation, [row], now_ms)
            accepted, lost = accepted + new, lost + others
        self.ledger.settle(now_ms)
        return accepted, remembered, lost

    @staticmethod
    def _is_free(entry: Entry, worker: str, claims: int) -> bool:
        """Nobody holds it, and no claim of that number was made, or it was that worker's and ended with its death."""
        if entry.owner not in ("", PARKED):
            return False
        return entry.claims < claims or entry.died == (worker, claims) == (worker, entry.claims)

    def _write(self, step: str, now_ms: int, written: set[str]) -> Dot:
        """An operation in a segment that the store writes; activated once a call."""
        incarnation, counter = self.own
        self.own = (incarnation or now_ms * 2048, counter + 1)
        dot = Dot(f"{step}:n:@0", *self.own)
        self.live[dot] = Entry(now_ms)
        if dot.segment not in written:
            self.claims.activate(dot.segment)
        written.add(dot.segment)
        return dot

    def _commit(self, dot: Dot, entry: Entry, letter: str, token: str, due_ms: int) -> None:
        if letter in "RJ" and entry.cancel:
            letter = "C"
        if letter == "S":
            self.done[dot] = self.done.get(dot, 0) + 1
        if letter != "R":
            self.ledger.finish(dot, letter, token)
        else:
            self.retried[dot] = token
            self.ledger.park(dot, due_ms)

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
        taken = self.claims.claim(worker, incarnation, budget, steps, now_ms, python)
        self.ledger.settle(now_ms)
        return accepted, lost, taken

    # -- giving back -------------------------------------------------------------------------------------------------

    def rescue(self, now_ms: int) -> None:
        """Every claim of a worker whose lease is over goes back; the third death ends an operation."""
        for worker in [worker for worker, end in self.leases.items() if end < now_ms]:
            self._lose(worker, now_ms)
        self.ledger.settle(now_ms)

    def retire(self, worker: str, now_ms: int) -> bool:
        now_ms = self.clock(now_ms)
        known = worker in self.leases
        if known:
            self._lose(worker, now_ms)
        self.ledger.settle(now_ms)
        return known

    def _lose(self, worker: str, now_ms: int) -> None:
        del self.leases[worker]
        incarnation = worker.rpartition(".")[2]
        for dot in sorted(dot for dot, entry in self.live.items() if entry.owner == worker):
            entry = self.live[dot]
            entry.deaths, entry.died = entry.deaths + 1, (worker, entry.claims)
            if entry.cancel or entry.deaths >= DEATHS:
                self.ledger.finish(dot, "C" if entry.cancel else "L", f"{incarnation}-{entry.claims}")
            else:
                self.ledger.park(dot, now_ms + (entry.deaths - 1) ** 2 * 1000)

    def release(
        self, worker: str, rows: Iterable[tuple[Dot, int]], now_ms: int, delay_ms: int = 0, need: str = ""
    ) -> int:
        """A worker gives back what it will not run: neither a death nor a failure; what was to be cancelled ends so.
        `need`: only workers of that Python get it from now on. How many are live."""
        now_ms, released = self.clock(now_ms), 0
        for dot, claims in rows:
            entry = self.live.get(dot)
            if entry is None or entry.owner != worker or entry.claims != claims:
                continue
            if entry.cancel:
                self.ledger.finish(dot, "C", f"0-{claims}")
            else:
                entry.releases += 1
                entry.need = need or entry.need
                self.ledger.park(dot, now_ms + delay_ms)
                released += 1
        self.ledger.settle(now_ms)
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
            self.ledger.finish(dot, "C", f"0-{entry.claims}")
            self.ledger.settle(self.seen_ms)
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
