"""The steps that this worker knows, and which lane each is for. Refreshed where a turn says that something is new."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Container

import msgspec

from blazing_nb.errors import UnknownStep
from blazing_nb.store.store import Store

REFUSED_CAP_S = 60.0
ALARM_LIMIT, REASON_LIMIT = 8, 200


class Refusal(msgspec.Struct):
    """A step that this worker could not load: why, and for how long it does not claim it."""

    digest: bytes
    reason: str
    pause_s: float
    until_s: float


class Roster:
    """Steps by lane, in an order that turns, so that no step is always first.

    A step whose code cannot be loaded here is left to others, for a second first, then for longer; `alarm` says so.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = itertools.count()
        self._lane_of: dict[str, str] = {}
        self._by_lane: dict[str, list[str]] = {}
        self._code_of: dict[str, bytes] = {}
        self.refused: dict[str, Refusal] = {}
        self.version = -1
        self.hook = b""
        """The hash of what runs before a worker claims; empty where there is none."""

    def refresh(self, version: int) -> None:
        """Read the steps; `version` is what the store called this state."""
        options = {step: msgspec.msgpack.decode(data) for step, data in self._store.steps().items()}
        self._lane_of = {step: option["lane"] for step, option in options.items()}
        self._code_of = {step: option.get("code", b"") for step, option in options.items()}
        for step in [step for step, found in self.refused.items() if self._code_of.get(step) != found.digest]:
            del self.refused[step]
        hook = self._store.hook()
        self.hook = msgspec.msgpack.decode(hook)["code"] if hook else b""
        self._by_lane = {}
        for step, lane in sorted(self._lane_of.items()):
            self._by_lane.setdefault(lane, []).append(step)
        self.version = version

    def lane(self, step: str) -> str:
        """The lane of a step; unknown ones run on threads."""
        return self._lane_of.get(step, "thread")

    def code(self, step: str) -> bytes:
        """The hash of the step's newest code. Raises `UnknownStep`."""
        found = self._code_of.get(step)
        if not found:
            raise UnknownStep(f"Step {step!r} is not known here: no step of that name was enqueued.", step=step)
        return found

    def serves(self, lane: str) -> bool:
        """Whether any step is for that lane."""
        return lane in self._by_lane

    def steps(self, lane: str) -> list[str]:
        steps = self._by_lane.get(lane, [])
        if self.refused:
            steps = [step for step in steps if self._is_claimed(step)]
        if len(steps) < 2:
            return steps
        at = next(self._turn) % len(steps)
        return steps[at:] + steps[:at]

    def awaited(self, lanes: Container[str]) -> list[str]:
        """The steps of these lanes whose work is waited for."""
        return [step for step, lane in self._lane_of.items() if lane in lanes and self._is_claimed(step)]

    def _is_claimed(self, step: str) -> bool:
        found = self.refused.get(step)
        return found is None or found.until_s <= time.monotonic()

    def refuse(self, step: str, digest: bytes, reason: str) -> bool:
        """That code does not load here. Where it is the step's newest, the step is left to others for a while: True."""
        if self._code_of.get(step) != digest:
            return False
        now, found = time.monotonic(), self.refused.get(step)
        if found is None:
            found = self.refused[step] = Refusal(digest, reason, 0.5, 0.0)
        if found.until_s <= now:
            found.reason, found.pause_s = reason, min(REFUSED_CAP_S, 2 * found.pause_s)
            found.until_s = now + found.pause_s
        return True

    def accept(self, step: str, digest: bytes) -> None:
        """That code was executed here."""
        found = self.refused.get(step)
        if found is not None and found.digest == digest:
            del self.refused[step]

    def alarm(self) -> str:
        """What cannot be loaded here, as JSON for the worker's record; empty where all can."""
        refused = list(self.refused.items())[:ALARM_LIMIT]
        return json.dumps({step: found.reason[:REASON_LIMIT] for step, found in refused}) if refused else ""
