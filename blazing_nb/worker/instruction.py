"""What a worker is told: by whoever owns it, or through the store by whoever runs `app.workers` anywhere."""

from __future__ import annotations

import math
import time


class Instructions:
    """Taken by the turn loop, read by others.

    Attributes:
        closing: whether it was told to leave; `ends_s` is the monotonic moment until when it may finish.
    """

    def __init__(self) -> None:
        self.closing = False
        self.ends_s = math.inf
        self._drained = self._over = False
        self._held_until_s = 0.0

    @property
    def accepting(self) -> bool:
        """Whether it may claim, at a barrier or not."""
        return not self._drained and not self._over

    @property
    def held(self) -> bool:
        """Whether it waits at a barrier. One whose maker has gone away ends by itself."""
        return self._held_until_s > 0 and time.monotonic() < self._held_until_s

    def stop_accepting(self) -> None:
        """For good: its owner said so."""
        self._over = True

    def take(self, text: str) -> None:
        """`accept`, `drain`, `hold <ms>` or `close <ms of grace>`."""
        verb, _, ms = text.partition(" ")
        if verb == "hold":
            self._held_until_s = time.monotonic() + int(ms) / 1000
        elif verb == "accept":
            self._drained, self._held_until_s = False, 0.0
        elif verb == "drain":
            self._drained = True
        elif verb == "close":
            self.closing = self._over = True
            self.ends_s = min(self.ends_s, time.monotonic() + int(ms) / 1000)
