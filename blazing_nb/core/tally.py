"""How far something is: counts, the rate of late, an estimate. Pure: whoever asks says what time it is."""

from __future__ import annotations

from collections import deque

WINDOW_MS = 15_000
"""The rate is of so long ago until now; a pause is seen in it."""
SAMPLES = 64


class Tally:
    """Counts of what is awaited.

    Attributes:
        total, done, failed: operations, or the units in which a step reports; `done` includes `failed`.
        note: a word on what it is at.
        drawing: markup to show beneath, made by whoever counts; empty for none.
    """

    def __init__(self, name: str, total: float, at_ms: int) -> None:
        self.name = name
        self.total = total
        self.done = 0.0
        self.failed = 0
        self.note = ""
        self.drawing = ""
        self.began_ms = self.at_ms = at_ms
        self._samples: deque[tuple[int, float]] = deque(maxlen=SAMPLES)

    def count(self, done: float, failed: int, total: float, at_ms: int) -> None:
        """What it is now."""
        if not self._samples:
            self._samples.append((self.began_ms, 0.0))
        self.done, self.failed, self.total, self.at_ms = done, failed, max(total, done), at_ms
        if at_ms - self._samples[-1][0] >= WINDOW_MS // SAMPLES or len(self._samples) == 1:
            self._samples.append((at_ms, done))
        while len(self._samples) > 2 and at_ms - self._samples[0][0] > WINDOW_MS:
            self._samples.popleft()

    @property
    def share(self) -> float:
        """From 0 to 1; 1 where there is nothing to do."""
        return min(1.0, self.done / self.total) if self.total else 1.0

    @property
    def finished(self) -> bool:
        return self.done >= self.total

    @property
    def elapsed_s(self) -> float:
        return (self.at_ms - self.began_ms) / 1000

    @property
    def rate(self) -> float:
        """A second, over the last fifteen seconds; over all of it once it has finished."""
        since_ms, before = (self.began_ms, 0.0) if self.finished or not self._samples else self._samples[0]
        return max(0.0, self.done - before) * 1000 / max(1, self.at_ms - since_ms)

    @property
    def left_s(self) -> float | None:
        """Seconds that it will take at this rate; None where that cannot be said."""
        if self.finished:
            return 0.0
        return (self.total - self.done) / self.rate if self.rate > 0 else None
