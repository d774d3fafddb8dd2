"""What a claim takes, and in which order, in the model of the queue: what runs alone, what is due, then the segments,
least recently served first; within pauses and limits. Pure."""

from __future__ import annotations

import math

from blazing_nb.core.entry import PARKED, Dot, Limit
from blazing_nb.core.ledger import Ledger

HIGH_FIRST, LOW_FIRST = ("h", "n", "l"), ("l", "n", "h")


class Claims:
    """Of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._turns = 0
        self._ones: dict[str, int] = {}
        self._drain = ""
        self._active: dict[tuple[str, str], dict[str, int]] = {}
        self._full_ms: dict[str, float] = {}
        self.paused: set[str] = set()
        self.limits: dict[str, Limit] = {}

    def activate(self, segment: str) -> None:
        """Something waits there."""
        self._turns += 1
        step, prio, _ = segment.split(":", 2)
        self._active.setdefault((step, prio), {}).setdefault(segment, self._turns)

    def claim(
        self, worker: str, incarnation: int, budget: int, steps: list[str], now_ms: int, python: str = ""
    ) -> list[Dot]:
        taken: list[Dot] = []
        if self._alone((worker, incarnation, python), steps, now_ms, taken):
            return taken
        for step in steps:
            if budget > 0:
                budget -= self._take_step(step, (worker, incarnation, python), budget, now_ms, taken)
        return taken

    def _alone(self, taker: tuple[str, int, str], steps: list[str], now_ms: int, taken: list[Dot]) -> bool:
        """An operation under which two workers died runs alone; who holds something drains for it first."""
        worker, incarnation, python = taker
        suspects = [
            dot
            for dot in self._due(now_ms, solo=True)
            if dot.step in steps
            and dot.step not in self.paused
            and self._allowance(dot.step, now_ms) > 0
            and self._ledger.live[dot].need in ("", python)
        ]
        if not suspects:
            return False
        if not any(entry.owner == worker for entry in self._ledger.live.values()):
            self._drain = ""
            self._give(suspects[0], worker, incarnation, now_ms, taken)
            self._spend(suspects[0].step, len(taken), now_ms)
            return bool(taken)
        self._drain = self._drain or worker
        return self._drain == worker

    def _take_step(self, step: str, taker: tuple[str, int, str], budget: int, now_ms: int, taken: list[Dot]) -> int:
        most = min(budget, self._allowance(step, now_ms))
        due = bool(self._parked(step, taker[2], now_ms))
        if step in self.paused or most <= 0 or not (due or any(self._active.get((step, prio)) for prio in HIGH_FIRST)):
            return 0
        self._turns += 1
        turn = self._turns
        share = math.ceil(most / 2)
        if most == 1:
            self._ones[step] = self._ones.get(step, 0) + 1
            share = self._ones[step] % 2
        left = most - self._take_parked(step, taker, share, now_ms, taken)
        for prio in LOW_FIRST if turn % 8 == 0 else HIGH_FIRST:
            active = self._active.get((step, prio), {})
            names = sorted(active, key=lambda name: (active[name], name))[: max(0, left)]
            for i, name in enumerate(names):
                want = math.ceil(left / (len(names) - i))
                waiting = sorted(d for d, e in self._ledger.live.items() if d.segment == name and e.owner == "")[:want]
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
        needed = [dot for dot in due if python and self._ledger.live[dot].need == python]
        return needed + [dot for dot in due if not self._ledger.live[dot].need]

    def _take_parked(self, step: str, taker: tuple[str, int, str], limit: int, now_ms: int, taken: list[Dot]) -> int:
        parked = self._parked(step, taker[2], now_ms)[:limit]
        for dot in parked:
            self._give(dot, *taker[:2], now_ms, taken)
        return len(parked)

    def _give(self, dot: Dot, worker: str, incarnation: int, now_ms: int, taken: list[Dot]) -> None:
        entry = self._ledger.live[dot]
        entry.claims += 1
        if entry.deadline_ms and entry.deadline_ms <= now_ms:
            self._ledger.finish(dot, "X", f"{incarnation}-{entry.claims}")
        else:
            entry.owner = worker
            taken.append(dot)

    def _due(self, now_ms: int, *, solo: bool) -> list[Dot]:
        found = [d for d, e in self._ledger.live.items() if e.owner == PARKED and e.solo is solo and e.due_ms <= now_ms]
        return sorted(found, key=lambda dot: (self._ledger.live[dot].due_ms, dot.member))

    def flight(self, step: str) -> int:
        """Operations of a step that workers hold."""
        return sum(dot.step == step and entry.owner not in ("", PARKED) for dot, entry in self._ledger.live.items())

    def _allowance(self, step: str, now_ms: int) -> int:
        limit, n = self.limits.get(step, Limit()), 256
        if limit.in_flight:
            n = limit.in_flight - self.flight(step)
        if limit.interval_ms:
            full = max(now_ms, self._full_ms.get(step, 0.0))
            n = min(n, math.floor(limit.burst - (full - now_ms) / limit.interval_ms + 1e-9))
        return n

    def _spend(self, step: str, n: int, now_ms: int) -> None:
        limit = self.limits.get(step, Limit())
        if n and limit.interval_ms:
            self._full_ms[step] = round(max(now_ms, self._full_ms.get(step, 0.0)) + n * limit.interval_ms, 3)
