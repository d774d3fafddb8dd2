"""How many workers: recorded arrivals, a simulated clock, a simulated app. No process, no sleep."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import pytest

from blazing_nb.core.scaling import Adapt, Decision, Load, Memory, StepLoad, decide
from blazing_nb.errors import UsageError

SLOTS = 4
TICK_MS = 100
START_MS = 1000
"""A worker takes so long from the decision to its first claim."""


class Run(NamedTuple):
    """What came of a simulation."""

    changes: list[Decision]
    waits: list[tuple[int, float]]
    """(arrived at ms, seconds until it was begun)."""
    worker_s: float

    def workers_at(self, ms: int, first: int = 1) -> int:
        return next((d.after for d in reversed(self.changes) if d.at_ms <= ms), first)

    def wait_after(self, ms: int, q: float) -> float:
        late = sorted(wait for at, wait in self.waits if at >= ms)
        return late[min(len(late) - 1, int(q * len(late)))]


def simulate(adapt: Adapt, arrivals: Callable[[int], int], seconds: int, run_s: float = 0.5) -> Run:
    """Workers of `SLOTS` slots serve what `arrivals(ms)` brings each tick; decided once a second."""
    memory, changes, waits = Memory(), [], []
    workers: list[int] = [0] * max(1, adapt.minimum)  # from when each claims
    waiting: deque[int] = deque()
    ends: list[int] = []
    enqueued, worker_ms = 0, 0
    for now in range(0, seconds * 1000, TICK_MS):
        new = arrivals(now)
        waiting.extend([now] * new)
        enqueued += new
        ends = [end for end in ends if end > now]
        room = SLOTS * sum(1 for begins in workers if begins <= now) - len(ends)
        for _ in range(min(room, len(waiting))):
            at = waiting.popleft()
            waits.append((at, (now - at) / 1000))
            ends.append(now + round(run_s * 1000))
        worker_ms += TICK_MS * len(workers)
        if now % 1000 == 0:
            age_s = (now - waiting[0]) / 1000 if waiting else 0.0
            load = Load(now, (StepLoad("f", len(waiting), len(ends), enqueued, run_s, age_s, SLOTS),))
            memory, decision = decide(adapt, memory, load, len(workers))
            if decision.after != decision.before:
                changes.append(decision)
                more = decision.after - len(workers)
                workers = workers[: decision.after] + [now + START_MS] * max(0, more)
    return Run(changes, waits, worker_ms / 1000)


def steady(a_second: float, seed: int = 1) -> Callable[[int], int]:
    """Random arrivals of that rate, the same each time."""
    source = random.Random(seed)
    chance = a_second * TICK_MS / 1000

    def arrive(now: int) -> int:
        whole = int(chance)
        return whole + (source.random() < chance - whole)

    return arrive


def square(a_second: float, period_s: int) -> Callable[[int], int]:
    """On for half of the period, off for the other."""
    on = steady(a_second)
    return lambda now: on(now) if now % (period_s * 1000) < period_s * 500 else 0


ADAPT = Adapt(minimum=1, maximum=8, target_wait=2.0, dwell=30.0)


def test_a_steady_load_gets_the_workers_that_it_needs_and_keeps_them() -> None:
    """20 a second of 0.5 s on 4 slots keep 2.5 workers busy: 4 at 80 % use; 5 where the first backlog brought them."""
    run = simulate(ADAPT, steady(20), 600)
    assert run.workers_at(600_000) in (4, 5)
    assert all(d.after > d.before and d.at_ms < 30_000 for d in run.changes)
    assert run.wait_after(30_000, 0.99) < 2.0


def test_an_idle_app_goes_down_to_its_minimum_and_stays() -> None:
    run = simulate(ADAPT, lambda now: 40 if now < 20_000 and now % 1000 == 0 else 0, 300)
    assert run.workers_at(300_000) == 1
    assert max(d.after for d in run.changes) > 3
    assert len([d for d in run.changes if d.after < d.before]) <= 3


def test_a_burst_is_worked_off_near_the_target_within_the_bounds() -> None:
    """400 operations of 0.5 s are 50 worker-seconds: more than 8 workers can do in 2 s, so all 8 come at once."""
    run = simulate(ADAPT, lambda now: 400 if now == 5000 else 0, 120)
    assert run.changes[0].after == 8
    assert run.changes[0].at_ms <= 8000
    assert max(wait for _, wait in run.waits) < 3 + 50 / 8 + 1


@pytest.mark.parametrize("period_s", [4, 10, 20, 40])
def test_a_square_wave_shorter_than_the_dwell_time_moves_nothing_after_it_was_learnt(period_s: int) -> None:
    run = simulate(ADAPT, square(40, period_s), 1200)
    assert not [d for d in run.changes if d.at_ms > 120_000]
    assert not [d for d in run.changes if d.at_ms > 10_000 and d.after > d.before], "nobody who was let go is needed"
    assert run.wait_after(30_000, 0.99) < 2.0


@pytest.mark.parametrize("period_s", [90, 120, 240])
def test_a_slow_square_wave_is_held_still_after_a_few_swings(period_s: int) -> None:
    """Two hours, 30 to 80 waves: followed, they were twice as many changes at least; the dwell time doubles instead."""
    run = simulate(ADAPT, square(40, period_s), 7200)
    assert 1 <= len([d for d in run.changes if d.after < d.before]) <= 8
    assert len(run.changes) <= 16
    assert run.wait_after(30_000, 0.99) < 2.0


def test_every_change_carries_its_reason() -> None:
    run = simulate(ADAPT, square(40, 200), 400)
    assert all("workers busy" in d.reason and "operations wait" in d.reason for d in run.changes)
    assert any("enough for 30 s" in d.reason for d in run.changes)


def test_a_blip_shorter_than_a_second_starts_nobody() -> None:
    memory, now = Memory(), 0
    for waiting in (0, 0, 200, 0, 0, 200, 0):
        now += 700
        load = Load(now, (StepLoad("f", waiting, 0, 0, 0.5, 0.1, SLOTS),))
        memory, decision = decide(ADAPT, memory, load, 1)
        assert decision.after == 1


def test_where_nothing_has_ended_yet_the_age_says_how_long_it_takes() -> None:
    memory, after = Memory(), 1
    for now in (0, 1000, 2000):
        load = Load(now, (StepLoad("f", 20, 4, 24, math.nan, 12.0, SLOTS),))
        memory, decision = decide(ADAPT, memory, load, after)
        after = decision.after
    assert after == 8


def test_workers_that_hold_operations_are_not_let_go() -> None:
    memory, after = Memory(), 3
    for now in range(0, 120_000, 1000):
        load = Load(now, (StepLoad("f", 0, 12, 12, 60.0, 40.0, SLOTS),))
        memory, decision = decide(ADAPT, memory, load, after)
        assert decision.after == 3


def test_the_workers_of_other_machines_count() -> None:
    memory, after = Memory(), 1
    for now in (0, 1000, 2000):
        load = Load(now, (StepLoad("f", 40, 0, 40, 1.0, 1.0, SLOTS),), elsewhere=3)
        memory, decision = decide(ADAPT, memory, load, after)
        after = decision.after
    assert after == 2, "40 operations of 1 s on 4 slots in 2 s are 5 workers, and 3 are elsewhere"


@pytest.mark.parametrize("limit", [{"max_in_flight": 4}, {"rate": 2.0}])
def test_what_a_limit_holds_back_starts_nobody(limit: dict[str, float]) -> None:
    memory, after = Memory(), 1
    for now in range(0, 20_000, 1000):
        step = StepLoad("f", 1000 + now, 4, 1000 + now, 1.0, 100.0, SLOTS)
        limited = msgspec.structs.replace(step, **limit)
        memory, decision = decide(ADAPT, memory, Load(now, (limited,)), after)
        after = decision.after
        assert decide(ADAPT, memory, Load(now + 1, (step,)), after)[0].wishes[-1].up == 8
    assert after == 2, "four of a second each keep one worker of four slots busy, and a second one is the reserve"


@pytest.mark.parametrize(
    "options", [{"minimum": 3, "maximum": 2}, {"minimum": -1}, {"maximum": 0, "minimum": 0}, {"target_wait": 0}]
)
def test_senseless_bounds_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Adapt(**options)
