"""Follows an app's load: reads it from the store once a second, remembers, and answers what `core/scaling` decides."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container

import msgspec

from blazing_nb.core.metrics import difference, mean
from blazing_nb.core.policy import ASYNC_SLOTS
from blazing_nb.core.scaling import Adapt, Decision, Load, Memory, StepLoad, decide
from blazing_nb.core.snapshot import Snapshot, Step
from blazing_nb.core.supervision import Setting
from blazing_nb.store import query
from blazing_nb.store.store import Store

RECENT_S = 30.0
"""Service times are those of the last half minute, where something ended in it."""


class Scaler:
    """Of one order; its memory begins anew with its supervisor."""

    def __init__(self) -> None:
        self._memory = Memory()
        self._before: list[Snapshot] = []

    def decide(self, adapt: Adapt, setting: Setting, store: Store, mine: Container[str], workers: int) -> Decision:
        """How many there shall be, where this order has `workers`; `mine` are the names of those that are its own."""
        load = self._load(store, setting, mine)
        self._memory, decision = decide(adapt, self._memory, load, workers)
        return decision

    def _load(self, store: Store, setting: Setting, mine: Container[str]) -> Load:
        now, paused, limits = store.snapshot(), query.paused(store), query.limits(store)
        lanes = {step: msgspec.msgpack.decode(data)["lane"] for step, data in store.steps().items()}
        self._before = [*self._before, now]
        while len(self._before) > 1 and self._before[1].at_ms < now.at_ms - RECENT_S * 1000:
            del self._before[0]
        slots = {"thread": setting.threads, "process": setting.processes or os.cpu_count() or 1, "async": ASYNC_SLOTS}
        waiting, claimed, ages = Counter(query.due(store, lanes)), Counter[str](), Counter[str]()
        for segment in now.segments:
            waiting[segment.step] += segment.waiting
            claimed[segment.step] += segment.claimed
            ages[segment.step] = max(ages[segment.step], segment.head_age_ms or 0)
        rows = tuple(
            StepLoad(
                step.step,
                0 if step.step in paused else waiting[step.step],
                claimed[step.step],
                step.enqueued,
                self._run_s(step),
                ages[step.step] / 1000,
                slots[lanes.get(step.step, "thread")],
                *limits.get(step.step, (0, 0.0)),
            )
            for step in now.steps
        )
        elsewhere = [w for w in now.workers if w.worker_id not in mine and w.state != "draining"]
        return Load(now.at_ms, rows, len(elsewhere))

    def _run_s(self, step: Step) -> float:
        """The mean time of an execution, of late where possible."""
        earlier = next((old for old in self._before[0].steps if old.step == step.step), None)
        recent = difference(step.run, earlier.run) if earlier is not None else {}
        return mean(recent or step.run)
