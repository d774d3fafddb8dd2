"""The steps that this worker knows, and which lane each is for. Refreshed where a turn says that something is new."""

from __future__ import annotations

import itertools
from collections.abc import Container

import msgspec

from blazing_nb.store.store import Store


class Roster:
    """Steps by lane, in an order that turns, so that no step is always first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = itertools.count()
        self._lane_of: dict[str, str] = {}
        self._by_lane: dict[str, list[str]] = {}
        self._bells: dict[str, str] = {}
        self.version = -1

    def refresh(self, version: int) -> None:
        """Read the steps; `version` is what the store called this state."""
        options = self._store.steps()
        self._lane_of = {step: msgspec.msgpack.decode(data)["lane"] for step, data in options.items()}
        self._bells = {self._store.keys.bell(step): step for step in self._lane_of}
        self._by_lane = {}
        for step, lane in sorted(self._lane_of.items()):
            self._by_lane.setdefault(lane, []).append(step)
        self.version = version

    def lane(self, step: str) -> str:
        """The lane of a step; unknown ones run on threads."""
        return self._lane_of.get(step, "thread")

    def steps(self, lane: str) -> list[str]:
        steps = self._by_lane.get(lane, [])
        if len(steps) < 2:
            return steps
        at = next(self._turn) % len(steps)
        return steps[at:] + steps[:at]

    def bells(self, lanes: Container[str]) -> list[str]:
        """The keys to wait on for work: the bells of the steps of these lanes."""
        return [key for key, step in self._bells.items() if self._lane_of[step] in lanes]

    def step_of(self, bell: str) -> str | None:
        """The step that a bell is of; None for the worker's own."""
        return self._bells.get(bell)
