"""`blazing-nb top`: an app in a terminal, live. Draws what a snapshot holds; fits 80 columns and 24 lines."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from blazing_nb.core.codec import describe_failure
from blazing_nb.core.metrics import Histogram, difference, merge, quantile
from blazing_nb.core.name import printable
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.core.snapshot import Segment, Snapshot, Step, Worker
from blazing_nb.errors import StoreError
from blazing_nb.store import query

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

PERIOD_S = 0.5
FAILURES, ALARMS = 4, 3
HEAD_LINES = 5
"""The two lines at the head, and a table's own line each."""
BARS = "▁▂▃▄▅▆▇█"
HISTORY = 40


class Failure(NamedTuple):
    """An operation that ended without success, and when."""

    at_ms: float
    status: str
    step: str
    error: str


class Top:
    """Keeps the last snapshot and the last rates, to show what happens now."""

    def __init__(self, app: Blazing) -> None:
        self._app = app
        self._before: Snapshot | None = None
        self._rates: deque[float] = deque(maxlen=HISTORY)
        self._failures: tuple[list[int], list[Failure]] = ([], [])

    def frame(self, height: int = 40) -> Group:
        """The screen at this moment, in so many lines at most."""
        try:
            now = self._app.snapshot()
            failures = self._failed(now)
        except StoreError as error:
            return Group(_line(f"{self._app.app_id}: {error}", "bold red"))
        before, self._before = self._before or now, now
        alarms = now.alarms[:ALARMS]
        steps, segments, workers = _busiest(now.steps), _deepest(now.segments), now.workers
        lines = height - HEAD_LINES - len(alarms) - len(failures)
        room = shares([len(steps), len(segments), len(workers)], lines)
        parts: list[RenderableType] = [
            *self._head(now, before),
            *(_line(alarm, "bold red") for alarm in alarms),
            _steps(steps, room[0], before, _seconds(now, before)),
            _segments(segments, room[1]),
            _workers(workers, room[2]),
            *(_line(_failure(failure, now.at_ms), "red") for failure in failures),
        ]
        return Group(*parts)

    def run(self, console: Console, seconds: float | None = None) -> None:
        """Draw until interrupted, or for a while."""
        end = None if seconds is None else time.monotonic() + seconds
        first = self.frame(console.height)
        with Live(first, console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while end is None or time.monotonic() < end:
                time.sleep(PERIOD_S)
                live.update(self.frame(console.height), refresh=True)

    def _head(self, now: Snapshot, before: Snapshot) -> list[Text]:
        seconds = _seconds(now, before)
        done = (now.finished - before.finished) / seconds
        if now is not before:
            self._rates.append(done)
        came = sum(step.enqueued for step in now.steps) - sum(step.enqueued for step in before.steps)
        depth = f"{now.waiting} waiting  {now.parked} parked  {now.claimed} claimed  {now.finished} finished"
        bars = "".join(BARS[min(7, int(rate / (max(self._rates) or 1) * 7))] for rate in self._rates)
        rates = f"in {came / seconds:.0f}/s  done {done:.0f}/s  {bars}"
        return [_line(f"{now.app}  {depth}", "bold"), _line(rates, "")]

    def _failed(self, now: Snapshot) -> list[Failure]:
        """The last ones of all steps; asked for again when there are more."""
        counts = [step.failed + step.lost + step.expired for step in now.steps]
        if counts != self._failures[0]:
            steps = [step.step for step, count in zip(now.steps, counts, strict=True) if count]
            self._failures = (counts, _last_failures(self._app, steps))
        return self._failures[1]


def shares(wanted: list[int], room: int) -> list[int]:
    """How many rows each table gets: as many as it wants where there is room, else fairly; one at least."""
    given, left = [0] * len(wanted), max(room, len(wanted))
    while left > 0 and any(g < w for g, w in zip(given, wanted, strict=True)):
        for i, want in enumerate(wanted):
            if given[i] < want and left > 0:
                given[i], left = given[i] + 1, left - 1
    return given


def _last_failures(app: Blazing, steps: list[str]) -> list[Failure]:
    ids = [op for step in steps for op in query.failed(app.store, step, FAILURES)]
    found = []
    for op, row in zip(ids, app.store.status(ids), strict=True):
        if row.record:
            outcome = decode_outcome(row.record)
            at_ms = outcome.claimed_ms + (outcome.queued_us + outcome.run_us) / 1000
            found.append(Failure(at_ms, str(outcome.status), op.step, describe_failure(outcome.payload)))
    return sorted(found, reverse=True)[:FAILURES]


def _failure(failure: Failure, now_ms: int) -> str:
    return f"{failure.status} {_age(now_ms - failure.at_ms)} ago  {failure.step}: {failure.error}"


def _age(ms: float) -> str:
    seconds = max(0.0, ms / 1000)
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def _line(text: str, style: str) -> Text:
    """As it is: no markup, no control characters."""
    return Text(printable(text), style=style, overflow="ellipsis", no_wrap=True)


def _seconds(now: Snapshot, before: Snapshot) -> float:
    return max(0.001, (now.at_ms - before.at_ms) / 1000)


def _table(first: str, shown: int, of: int, *columns: str) -> Table:
    """The first column gives way, the others keep their names and numbers."""
    table = Table(expand=True, box=None, pad_edge=False, header_style="bold cyan")
    title = first if shown >= of else f"{first} ({shown} of {of})"
    table.add_column(title, overflow="ellipsis", no_wrap=True, ratio=1)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    return table


def _busiest(steps: list[Step]) -> list[Step]:
    return sorted(steps, key=lambda step: -step.enqueued)


def _deepest(segments: list[Segment]) -> list[Segment]:
    return sorted(segments, key=lambda segment: -(segment.waiting + segment.parked + segment.claimed))


def _steps(steps: list[Step], room: int, before: Snapshot, seconds: float) -> Table:
    table = _table("step", room, len(steps), "in/s", "done/s", "failed", "retried", "p50 ms", "p99 ms")
    earlier = {step.step: step for step in before.steps}
    for step in steps[:room]:
        old = earlier.get(step.step, Step(step.step))
        recent = _recent(step.total, old.total)
        table.add_row(
            _line(step.step, ""),
            f"{(step.enqueued - old.enqueued) / seconds:.0f}",
            f"{(step.finished - old.finished) / seconds:.0f}",
            str(step.failed + step.lost),
            str(step.retried),
            *(f"{quantile(recent, q) * 1000:.1f}" if recent else "-" for q in (0.5, 0.99)),
        )
    return table


def _recent(later: Histogram, earlier: Histogram) -> Histogram:
    """Of the last frame; of all time where nothing happened in it."""
    return difference(later, earlier) or merge(later, {})


def _segments(segments: list[Segment], room: int) -> Table:
    table = _table("segment", room, len(segments), "waiting", "parked", "claimed", "head age")
    for segment in segments[:room]:
        age = "-" if segment.head_age_ms is None else _age(segment.head_age_ms)
        name = f"{segment.step}:{segment.prio}:{segment.node}"
        table.add_row(_line(name, ""), str(segment.waiting), str(segment.parked), str(segment.claimed), age)
    return table


def _workers(workers: list[Worker], room: int) -> Table:
    table = _table("worker", room, len(workers), "pid", "state", "held", "done", "lease")
    for worker in workers[:room]:
        lease = f"{worker.lease_ms_left / 1000:.1f} s" if worker.lease_ms_left >= 0 else "over"
        counts = (str(worker.running), str(worker.done), lease)
        name = _line(f"{worker.worker_id} {worker.host}", "")
        table.add_row(name, str(worker.pid), _line(worker.state, ""), *counts)
    return table
