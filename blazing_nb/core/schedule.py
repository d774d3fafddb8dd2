"""When a schedule is due: intervals and cron expressions as values, and what becomes of ticks that nobody fired in
time.

Pure: the moment is an argument. A cron expression is read by `cronsim`, which follows Debian's cron: over a change of
the clocks, a job at a fixed hour runs once, one of every so many minutes at its distances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

if TYPE_CHECKING:
    from cronsim import CronSim

MISSED = ("skip", "one", "all")
LATE_MS = 60_000
"""A tick that is fired up to this late is not missed."""
TICKS_A_CALL = 100


class Rule(msgspec.Struct, frozen=True):
    """Every `every_ms` from `anchor_ms` on, or by a `cron` expression in a time `zone`.

    `missed`: of the ticks that were not fired in time, fire none, one (the newest), or all.
    """

    every_ms: int = 0
    anchor_ms: int = 0
    cron: str = ""
    zone: str = "UTC"
    missed: str = "one"

    def after(self, at_ms: int) -> int:
        """The first tick after a moment; 0 where there is none (a 31st of February)."""
        if self.every_ms:
            return self.anchor_ms + (max(0, at_ms - self.anchor_ms) // self.every_ms + 1) * self.every_ms
        return next((ms for ms in self._moments(at_ms) if ms > at_ms), 0)

    def newest(self, at_ms: int) -> int:
        """The last tick until a moment; 0 where there is none."""
        if self.every_ms:
            n = (at_ms - self.anchor_ms) // self.every_ms
            return self.anchor_ms + n * self.every_ms if n > 0 else 0
        return next((ms for ms in self._moments(at_ms + LATE_MS, reverse=True) if ms <= at_ms), 0)

    def due(self, due_ms: int, now_ms: int) -> tuple[list[int], int]:
        """Which ticks to fire now, where the next one was due at `due_ms`; and when the following is due."""
        if due_ms > now_ms:
            return [], due_ms
        if self.missed == "all":
            ticks = [due_ms]
            while len(ticks) < TICKS_A_CALL and 0 < (following := self.after(ticks[-1])) <= now_ms:
                ticks.append(following)
            return ticks, self.after(ticks[-1])
        newest = max(due_ms, self.newest(now_ms))
        late = self.missed == "skip" and now_ms - newest > LATE_MS
        return [] if late else [newest], self.after(max(newest, now_ms))

    def _moments(self, at_ms: int, *, reverse: bool = False) -> Iterator[int]:
        start = datetime.fromtimestamp(math.floor(at_ms / 1000), UTC).astimezone(ZoneInfo(self.zone))
        for moment in _cron(self.cron, start, reverse):
            yield round(moment.timestamp() * 1000)

    def __str__(self) -> str:
        if self.every_ms:
            return f"every {self.every_ms / 1000:g} s"
        return f"{self.cron} ({self.zone})"


def _cron(expression: str, start: datetime, reverse: bool) -> CronSim:
    from cronsim import CronSim

    return CronSim(expression, start, reverse=reverse)


class Plan(msgspec.Struct, frozen=True):
    """What a schedule's record holds, sealed: the rule, and whose calls it makes."""

    step: str
    rule: Rule
    version: str
