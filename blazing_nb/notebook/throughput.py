"""The views of throughput and latency."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from blazing_nb.core.reading import LATENCIES, NOISE_MS, Reading, quantiles, rate, rates, reading_of, spread
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.notebook.panel import Heat, Series
from blazing_nb.notebook.view import View, timed_frame

if TYPE_CHECKING:
    import pandas as pd

COUNTED = {
    "enqueued": "pending",
    "claimed": "claimed",
    "succeeded": "succeeded",
    "failed": "failed",
    "retried": "retrying",
    "fenced": "lost",
}
WINDOW_MS = 1000
SPAN_MS = 10_000
Spread = dict[str, dict[int, int]]
LABELS = ("p50", "p95", "p99")


class Recent:
    """The reading of about a second ago, to compare with."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._kept: deque[Reading] = deque()

    def before(self, now: Reading) -> Reading:
        self._kept.append(now)
        while len(self._kept) > 2 and self._kept[1].at_ms <= now.at_ms - self._window_ms:
            self._kept.popleft()
        return self._kept[0]


def says(before: Reading, now: Reading) -> bool:
    """Whether they are so far apart that a rate between them is one."""
    return now.at_ms - before.at_ms >= NOISE_MS


class Throughput(View):
    """Operations enqueued, claimed, succeeded, failed, retried and fenced, a second; opens with the last hour.

    Args:
        step: of that step only; default: of all.

    .. image:: ../images/throughput.png

    Examples:
        >>> view = Throughput(app, step="double")
        >>> view.close()
    """

    title, name = "Throughput", "throughput"

    def __init__(self, *args: Any, step: str | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._step = step
        self._series = Series("operations a second" + (f" of {step}" if step else ""), COUNTED, wide=True)
        self.panels = [self._series]
        self._recent = Recent(WINDOW_MS)

    def start(self, snapshot: Snapshot) -> None:
        self._series.open(rates(self.recorded(snapshot, self._step), list(COUNTED), snapshot.at_ms))

    def take(self, snapshot: Snapshot) -> None:
        now = reading_of(snapshot, self._step)
        before = self._recent.before(now)
        if says(before, now) or len(self._series.rows) < 2:
            self._series.add([now.at_ms, *rate(before, now, list(COUNTED))])

    def summary(self, snapshot: Snapshot) -> str:
        return f"{self._series.rows[-1][3]:,.0f} succeeded a second, {snapshot.finished:,} finished"

    def to_frame(self) -> pd.DataFrame:
        """Columns: at (UTC), then counts a second.

        Examples:
            >>> list(Throughput(app).to_frame().columns[:2])
            ['at', 'enqueued']
        """
        self.current()
        return timed_frame(self._series.rows, list(COUNTED))


class Latency(View):
    """How long operations wait, run, and take in total: p50, p95, p99, and the whole distribution as a heat map.

    Opens with the last hour. `wait` and `total` are measured on the server's clock of 1 ms; a bucket is a fourth of a
    doubling wide.

    Args:
        step: of that step only; default: of all.

    .. image:: ../images/latency.png

    Examples:
        >>> view = Latency(app)
        >>> view.close()
    """

    title, name = "Latency", "latency"

    def __init__(self, *args: Any, step: str | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._step = step
        self._lines = [
            Series(f"{kind} (ms)", dict.fromkeys((f"{kind} {p}" for p in LABELS), kind), log=True, unit="ms")
            for kind in LATENCIES
        ]
        self._heat = Heat("distribution", LATENCIES)
        self.panels = [*self._lines, self._heat]
        self._recent = Recent(5 * WINDOW_MS)
        self._last: Reading | None = None

    def start(self, snapshot: Snapshot) -> None:
        known = [found for found in self.recorded(snapshot, self._step) if found.latencies is not None]
        for before, after in pairwise(known):
            recent = spread(before, after)
            self._feed_panels(after.at_ms, recent, recent, min(SPAN_MS, after.at_ms - before.at_ms))

    def take(self, snapshot: Snapshot) -> None:
        now, last = reading_of(snapshot, self._step), self._last
        recent = spread(self._recent.before(now), now)
        fresh, span_ms = (spread(last, now), now.at_ms - last.at_ms) if last else (recent, 1)
        self._feed_panels(now.at_ms, recent, fresh, span_ms)
        self._last = now

    def _feed_panels(self, at_ms: int, recent: Spread, fresh: Spread, span_ms: int) -> None:
        """Quantiles of what ended recently; in the heat map what ended since the last row."""
        for kind, panel in zip(LATENCIES, self._lines, strict=True):
            panel.add([at_ms, *quantiles(recent[kind])])
        self._heat.add([at_ms, max(1, span_ms), [sorted(fresh[kind].items()) for kind in LATENCIES]])

    def summary(self, snapshot: Snapshot) -> str:
        shown = [f"{kind} p99 {_ms(panel.rows[-1][3])}" for kind, panel in zip(LATENCIES, self._lines, strict=True)]
        return ", ".join(shown)

    def to_frame(self) -> pd.DataFrame:
        """Columns: at (UTC), then p50, p95 and p99 of wait, run and total, in milliseconds.

        Examples:
            >>> "total_p99" in Latency(app).to_frame().columns
            True
        """
        self.current()
        names = [f"{kind}_{label}" for kind in LATENCIES for label in LABELS]
        rows = zip(*(panel.rows for panel in self._lines), strict=True)
        return timed_frame([[parts[0][0], *(v for part in parts for v in part[1:])] for parts in rows], names)


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.1f} s"
