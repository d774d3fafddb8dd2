"""When to ask for claims that the worker has and does not know of: their replies were lost. Decides only."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_S = 1.0
LAST_S = 128.0


class Recovery:
    """Due at once after a call was repeated or failed, and again after 1, 2, 4, ... 128 s: a request that was given up
    may still be on its way, and be executed after the one that was sent instead."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._due_s = float("inf")
        self._pause_s = FIRST_S

    def begin(self) -> None:
        """A call was repeated, or its reply did not arrive."""
        self._due_s, self._pause_s = 0.0, FIRST_S

    @property
    def due(self) -> bool:
        """Whether to ask now; stays so until `asked`."""
        return self._now() >= self._due_s

    def asked(self) -> None:
        """The store has answered."""
        self._due_s = self._now() + self._pause_s if self._pause_s <= LAST_S else float("inf")
        self._pause_s *= 2
