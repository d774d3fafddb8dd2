"""Measures a worker for its bulletin: memory, how busy its lanes are, what runs and what failed."""

from __future__ import annotations

import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from blazing_nb.core.bulletin import SHOWN, TEXT_LIMIT, Bulletin, LaneLoad, Ongoing, Setback, encode_bulletin
from blazing_nb.worker.current import Running

_STATM = Path("/proc/self/statm")


class Lane(Protocol):
    """As far as it is measured."""

    name: str
    held: int
    slots: int


class Gauge:
    """Fed by the turn loop (`ran`) and the executor (`failed`), asked by the heartbeat."""

    def __init__(self) -> None:
        self._ran_us: dict[int, int] = {}
        self._counted: dict[int, float] = {}
        self._asked_s = time.monotonic()
        self._failures: deque[Setback] = deque(maxlen=SHOWN)

    def ran(self, times: Mapping[int, Iterable[int]]) -> None:
        """Operations of these lanes (by index) took so long, in microseconds."""
        for lane, found in times.items():
            self._ran_us[lane] = self._ran_us.get(lane, 0) + sum(found)

    def failed(self, operation: str, error: BaseException) -> None:
        """An attempt ended so."""
        said = f"{type(error).__name__}: {error}"[:TEXT_LIMIT]
        self._failures.append(Setback(operation, round(time.time(), 1), said))

    def text(self, lanes: Sequence[Lane], active: Mapping[str, Running], lane_of: Callable[[str], int]) -> str:
        """The bulletin. `lane_of`: a step's lane, by index."""
        now = time.monotonic()
        running = sorted(active.items(), key=lambda item: item[1].since_s)
        seconds, self._asked_s = max(0.001, now - self._asked_s), now
        loads = []
        for index, lane in enumerate(lanes):
            elapsed = sum(now - one.since_s for op, one in running if lane_of(op.partition(":")[0]) == index)
            total = self._ran_us.get(index, 0) / 1e6 + elapsed
            # What has ended and is not committed yet is missing for a moment: the total never goes back.
            before = self._counted.get(index, 0.0)
            self._counted[index] = max(before, total)
            executing = min(float(lane.slots), max(0.0, total - before) / seconds)
            loads.append(LaneLoad(lane.name, lane.held, lane.slots, round(executing, 2)))
        ongoing = [
            Ongoing(op, one.attempt, round(now - one.since_s, 1), one.told, one.claim) for op, one in running[:SHOWN]
        ]
        return encode_bulletin(Bulletin(memory(), loads, ongoing, list(self._failures)))


def memory() -> int:
    """Bytes of this process that are in memory; where the system does not say, the most that ever were."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
