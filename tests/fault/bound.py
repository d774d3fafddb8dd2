"""Bounds that hold at each moment of a history: a clock that never goes back, caps, rates, pauses, ticks fired once."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping


class Bounds:
    """Told by the checker what happens. `caps` and `rates` (ms between two, burst) are by step."""

    def __init__(self, demand: Callable[[bool, str], None]) -> None:
        self.caps: Mapping[str, int] = {}
        self.rates: Mapping[str, tuple[int, int]] = {}
        self._demand = demand
        self._now = 0.0
        self._live: collections.Counter[str] = collections.Counter()
        self._flight: collections.Counter[str] = collections.Counter()
        self._begun: dict[str, list[float]] = collections.defaultdict(list)
        self._paused: set[str] = set()
        self._ticks: set[str] = set()

    def clock(self, now: float) -> None:
        self._demand(now >= self._now, f"the clock went back from {self._now} to {now}")
        self._now = now

    def enqueued(self, name: str, n: int, cap: int) -> None:
        self._live[name] += n
        self._demand(not cap or self._live[name] <= cap, f"cap: {self._live[name]} are in {name}, not {cap}")

    def finished(self, name: str, *, claimed: bool) -> None:
        self._live[name] -= 1
        self._flight[_step(name)] -= claimed

    def claimed(self, step: str, now: float) -> None:
        self._flight[step] += 1
        self._begun[step].append(now)

    def held(self, name: str) -> None:
        """As if it had been claimed, by no claim of now."""
        self._flight[_step(name)] += 1

    def parked(self, name: str) -> None:
        self._flight[_step(name)] -= 1

    def check(self, step: str) -> None:
        """After a claim."""
        in_flight = self._flight[step]
        self._demand(step not in self._paused, f"pause: {step} was claimed while it is paused")
        self._demand(in_flight <= self.caps.get(step, in_flight), f"cap: {in_flight} of {step} are in flight")
        if step in self.rates:
            between, burst = self.rates[step]
            last = self._begun[step][-1]
            for i, at in enumerate(reversed(self._begun[step]), 1):
                self._demand(i <= burst + (last - at) / between + 1e-6, f"rate: {i} of {step} in {last - at} ms")

    def pause(self, step: str, flag: int) -> None:
        (self._paused.add if flag else self._paused.discard)(step)

    def tick(self, mark: str) -> None:
        self._demand(mark not in self._ticks, f"I2: the tick {mark} was fired twice")
        self._ticks.add(mark)


def _step(name: str) -> str:
    return name.partition(":")[0]
