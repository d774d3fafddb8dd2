"""How many workers an app needs: from depth, arrivals and service time to a decision and its reason. Pure; the clock is
an argument.

A worker executes `slots` operations of a step at once, `run_s` long each, so a step that gets `r` a second keeps
`r * run_s / slots` workers busy, and `n` waiting ones are gone within the target when `n * run_s / slots / target` more
work on them. Up at 80 % use, after a second of it; down only where 60 % would do, and only to what was the most within
the dwell time. Where load comes back soon after workers were let go, the dwell time doubles: a load that swings is soon
held still.
"""

from __future__ import annotations

import math

import msgspec

from blazing_nb.errors import UsageError

UP_MS = 1000
"""More workers are needed for so long before they are started."""
RATE_MS = 10_000
"""Arrivals are counted over so long."""
UP_USE, DOWN_USE = 0.8, 0.6
LONGEST_DWELL_MS = 900_000
CALM = 20
"""After so many dwell times without a swing the dwell time halves again."""


class Adapt(msgspec.Struct, frozen=True):
    """What is asked: the bounds, seconds that an operation shall wait at most, seconds before workers are let go."""

    minimum: int = 1
    maximum: int = 8
    target_wait: float = 2.0
    dwell: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum or self.maximum < 1:
            raise UsageError(f"adapt needs 0 <= minimum <= maximum, not {self.minimum} and {self.maximum}.")
        if self.target_wait <= 0 or self.dwell <= 0:
            raise UsageError(f"target_wait and dwell are more than 0 s, not {self.target_wait} and {self.dwell}.")


class StepLoad(msgspec.Struct, frozen=True):
    """One step at a moment: what waits and may be claimed, what is claimed, the total ever enqueued, the mean seconds
    of an execution (NaN: none has ended), the age of the oldest operation in seconds, how many run at once in a
    worker; how many may be claimed at once over all workers, and how many a second (0: any number)."""

    step: str
    waiting: int
    claimed: int
    enqueued: int
    run_s: float
    age_s: float
    slots: int
    max_in_flight: int = 0
    rate: float = 0.0


class Load(msgspec.Struct, frozen=True):
    """All steps at a moment, and how many workers other machines have."""

    at_ms: int
    steps: tuple[StepLoad, ...] = ()
    elsewhere: int = 0


class Decision(msgspec.Struct, frozen=True):
    """From `before` to `after` workers at a moment, and why. Nothing changes where they are equal."""

    at_ms: int
    before: int
    after: int
    reason: str


class Wish(msgspec.Struct, frozen=True):
    """How many workers a moment asked for: to be above, and to be below."""

    at_ms: int
    up: int
    down: int


class Memory(msgspec.Struct, frozen=True):
    """What a decision depends on beside the moment's load."""

    arrivals: tuple[tuple[int, dict[str, int]], ...] = ()
    wishes: tuple[Wish, ...] = ()
    dwell_ms: int = 0
    changed_ms: int = -LONGEST_DWELL_MS
    let_go_ms: int = -LONGEST_DWELL_MS
    swung_ms: int = -LONGEST_DWELL_MS


def decide(adapt: Adapt, memory: Memory, load: Load, workers: int) -> tuple[Memory, Decision]:
    """How many workers there shall be now, where there are `workers`; and what to remember."""
    memory = _remember(adapt, memory, load)
    now, wish = load.at_ms, memory.wishes[-1]
    recent = [w.up for w in memory.wishes if w.at_ms >= now - UP_MS]
    settled = memory.wishes[0].at_ms <= now - UP_MS
    if workers < adapt.minimum:
        return memory, Decision(now, workers, adapt.minimum, f"{adapt.minimum} is the minimum")
    if workers > adapt.maximum:
        return memory, Decision(now, workers, adapt.maximum, f"{adapt.maximum} is the maximum")
    if settled and min(recent) > workers:
        after = min(recent)
        return _went_up(memory, now), Decision(now, workers, after, _why(adapt, memory, load))
    lowest = max(w.down for w in memory.wishes)
    patient = max(memory.wishes[0].at_ms, memory.changed_ms) <= now - memory.dwell_ms
    if patient and lowest < workers:
        reason = f"{lowest} were enough for {memory.dwell_ms / 1000:g} s; {_why(adapt, memory, load)}"
        return msgspec.structs.replace(memory, let_go_ms=now, changed_ms=now), Decision(now, workers, lowest, reason)
    return memory, Decision(now, workers, workers, f"{wish.up} would do")


def _remember(adapt: Adapt, memory: Memory, load: Load) -> Memory:
    now, dwell_ms = load.at_ms, memory.dwell_ms or round(adapt.dwell * 1000)
    if now - memory.swung_ms > CALM * dwell_ms:
        dwell_ms = max(round(adapt.dwell * 1000), dwell_ms // 2)
        memory = msgspec.structs.replace(memory, swung_ms=now)
    counted = (*memory.arrivals, (now, {step.step: step.enqueued for step in load.steps}))
    # One that is older than the window stays, so that the window is whole.
    first = max((i for i, (at, _) in enumerate(counted) if at <= now - RATE_MS), default=0)
    memory = msgspec.structs.replace(memory, arrivals=counted[first:], dwell_ms=dwell_ms)
    wishes = (*memory.wishes, _wish(adapt, memory, load))
    first = max((i for i, wish in enumerate(wishes) if wish.at_ms <= now - dwell_ms), default=0)
    return msgspec.structs.replace(memory, wishes=wishes[first:])


def _went_up(memory: Memory, now: int) -> Memory:
    """More are needed: soon after some were let go, that was too soon."""
    memory = msgspec.structs.replace(memory, changed_ms=now)
    if now - memory.let_go_ms > 2 * memory.dwell_ms:
        return memory
    longer = min(LONGEST_DWELL_MS, 2 * memory.dwell_ms)
    return msgspec.structs.replace(memory, dwell_ms=longer, swung_ms=now)


def _wish(adapt: Adapt, memory: Memory, load: Load) -> Wish:
    busy, backlog, held = demand(adapt, memory, load)
    backlog /= adapt.target_wait

    def bounded(n: float) -> int:
        return max(adapt.minimum, min(adapt.maximum, math.ceil(round(n, 6)) - load.elsewhere))

    # What runs is not to be interrupted.
    return Wish(load.at_ms, bounded(busy / UP_USE + backlog), bounded(max(busy / DOWN_USE + backlog, held)))


def demand(adapt: Adapt, memory: Memory, load: Load) -> tuple[float, float, float]:
    """Workers that arrivals keep busy, worker-seconds that wait, workers that what is claimed fills. What a limit holds
    back needs no worker: more of them would not get it."""
    at_ms, before = memory.arrivals[0]
    seconds = max(1.0, (load.at_ms - at_ms) / 1000)
    busy = backlog = held = 0.0
    for step in load.steps:
        run_s, slots = _run_s(step), max(1, step.slots)
        arrived = max(0, step.enqueued - before.get(step.step, step.enqueued)) / seconds
        rate, in_flight = step.rate or math.inf, step.max_in_flight or math.inf
        busy += min(min(arrived, rate) * run_s, in_flight) / slots
        backlog += min(step.waiting, rate * adapt.target_wait, max(0, in_flight - step.claimed)) * run_s / slots
        held += step.claimed / slots
    return busy, backlog, held


def _run_s(step: StepLoad) -> float:
    """Where nothing has ended yet, a second, or as long as the oldest is there."""
    return max(1.0, step.age_s) if math.isnan(step.run_s) else step.run_s


def _why(adapt: Adapt, memory: Memory, load: Load) -> str:
    busy, backlog, held = demand(adapt, memory, load)
    waiting = sum(step.waiting for step in load.steps)
    return (
        f"arrivals keep {busy:.1f} workers busy, {waiting} operations wait ({backlog:.1f} s of one worker, "
        f"{adapt.target_wait:g} s are the target), what is claimed fills {held:.1f}"
        + (f", {load.elsewhere} workers elsewhere" if load.elsewhere else "")
    )
