"""What a worker is told through the store, by whoever runs `app.workers` anywhere."""

from __future__ import annotations

import time


class Instructions:
    """Taken by the turn loop, read by others.

    Attributes:
        accepting: whether it may claim, as far as it was told.
        closing: whether it was told to leave; then `grace_s` is how long it may take for that.
    """

    def __init__(self) -> None:
        self.accepting = True
        self.closing = False
        self.grace_s = 0.0
        self._held_until_s = 0.0

    @property
    def held(self) -> bool:
        """Whether it waits at a barrier. One whose maker has gone away ends by itself."""
        return self._held_until_s > 0 and time.monotonic() < self._held_until_s

    def take(self, text: str) -> None:
        """`accept`, `drain`, `hold <ms>` or `close <ms of grace>`."""
        verb, _, ms = text.partition(" ")
        if verb == "hold":
            self._held_until_s = time.monotonic() + int(ms) / 1000
        elif verb == "accept" and not self.closing:
            self.accepting, self._held_until_s = True, 0.0
        elif verb == "drain":
            self.accepting = False
        elif verb == "close":
            self.accepting, self.closing, self.grace_s = False, True, int(ms) / 1000
