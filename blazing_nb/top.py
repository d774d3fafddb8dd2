"""`blazing-nb top`: an app in a terminal, live. Draws what a snapshot holds; works over ssh in 80 columns."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from blazing_nb.core.metrics import difference, quantile
from blazing_nb.core.snapshot import Snapshot, Step
from blazing_nb.errors import StoreError

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

PERIOD_S = 0.5
ROWS = 8
FAILURES = 4
ALARMS = 3


class Top:
    """Keeps the last snapshot, to show rates."""

    def __init__(self, app: Blazing) -> None:
        self._app = app
        self._before: Snapshot | None = None

    def frame(self) -> Group:
        """The screen at this moment."""
        try:
            now = self._app.snapshot()
            failures = self._app.failed(limit=FAILURES).to_frame()
        except StoreError as error:
            return Group(Text(f"{self._app.app_id}: {error}", style="bold red"))
        before, self._before = self._before or now, now
        seconds = max(0.001, (now.at_ms - before.at_ms) / 1000)
        head = f"{now.app}  {now.waiting} waiting  {now.parked} parked  {now.claimed} claimed  {now.finished} finished"
        parts: list[RenderableType] = [
            Text(head, style="bold"),
            *(Text(alarm, style="bold red", overflow="ellipsis", no_wrap=True) for alarm in now.alarms[:ALARMS]),
            _steps(now, before, seconds),
            _segments(now),
            _workers(now),
        ]
        for _, row in failures.iterrows():
            parts.append(
                Text(f"{row['status']} {row['step']}: {row['error']}", style="red", overflow="ellipsis", no_wrap=True)
            )
        return Group(*parts)

    def run(self, console: Console, seconds: float | None = None) -> None:
        """Draw until interrupted, or for a while."""
        end = None if seconds is None else time.monotonic() + seconds
        with Live(self.frame(), console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while end is None or time.monotonic() < end:
                time.sleep(PERIOD_S)
                live.update(self.frame(), refresh=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", expand=True, box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="ellipsis", no_wrap=True)
    return table


def _steps(now: Snapshot, before: Snapshot, seconds: float) -> Table:
    table = _table("steps", "step", "in/s", "done/s", "failed", "retried", "p50 ms", "p99 ms")
    earlier = {step.step: step for step in before.steps}
    busiest = sorted(now.steps, key=lambda step: -step.enqueued)
    for step in busiest[:ROWS]:
        old = earlier.get(step.step, Step(step.step))
        recent = difference(step.total, old.total) or step.total
        table.add_row(
            step.step,
            f"{(step.enqueued - old.enqueued) / seconds:.0f}",
            f"{(step.finished - old.finished) / seconds:.0f}",
            str(step.failed + step.lost),
            str(step.retried),
            *(f"{quantile(recent, q) * 1000:.1f}" if recent else "-" for q in (0.5, 0.99)),
        )
    return table


def _segments(now: Snapshot) -> Table:
    table = _table("segments", "segment", "waiting", "parked", "claimed", "head age")
    deepest = sorted(now.segments, key=lambda segment: -(segment.waiting + segment.parked + segment.claimed))
    for segment in deepest[:ROWS]:
        age = "-" if segment.head_age_ms is None else f"{segment.head_age_ms / 1000:.1f} s"
        name = f"{segment.step}:{segment.prio}:{segment.node}"
        table.add_row(name, str(segment.waiting), str(segment.parked), str(segment.claimed), age)
    return table


def _workers(now: Snapshot) -> Table:
    table = _table("workers", "worker", "pid", "held", "done", "lease")
    for worker in now.workers[:ROWS]:
        lease = f"{worker.lease_ms_left / 1000:.1f} s" if worker.lease_ms_left >= 0 else "over"
        table.add_row(worker.worker_id, str(worker.pid), str(worker.running), str(worker.done), lease)
    return table
