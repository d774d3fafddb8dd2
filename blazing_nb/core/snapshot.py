"""Counts and depths at one moment: all that a view may see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from blazing_nb.core.bulletin import Bulletin
from blazing_nb.core.markup import Html, card, drawn, status_cell, table
from blazing_nb.core.status import Status


class Segment(msgspec.Struct, frozen=True):
    """Depths of one segment; `head_age_ms` is the age of its oldest operation that is not final.

    Examples:
        >>> later = double.options(delay=60).enqueue(1)
        >>> [segment.parked > 0 for segment in app.snapshot().segments if segment.prio == "d"]
        [True...]
    """

    step: str
    prio: str
    node: str
    waiting: int
    parked: int
    claimed: int
    head_age_ms: int | None = None


class Step(msgspec.Struct, frozen=True):
    """Running totals of one step, and its latency histograms (see `core/metrics`).

    Of those enqueued, `scheduled` for later; of those claimed, `due` (for the first time, after a delay) and `retaken`
    (parked before, after an attempt); of those cancelled, `withdrawn` before they ran.

    Examples:
        >>> double.map(range(3)).results(timeout=10)
        [0, 2, 4]
        >>> [step.succeeded >= 3 for step in app.snapshot().steps if step.step == "double"]
        [True]
    """

    step: str
    enqueued: int = 0
    claimed: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    retried: int = 0
    lost: int = 0
    fenced: int = 0
    rescued: int = 0
    released: int = 0
    broken: int = 0
    """Segments that could not be read, and effects that could not be done: of keys that hold something else."""
    scheduled: int = 0
    due: int = 0
    retaken: int = 0
    withdrawn: int = 0
    wait: dict[int, int] = {}
    run: dict[int, int] = {}
    total: dict[int, int] = {}

    @property
    def finished(self) -> int:
        """Of them, those that ended, however.

        Examples:
            >>> all(0 <= step.finished <= step.enqueued for step in app.snapshot().steps)
            True
        """
        return self.succeeded + self.failed + self.cancelled + self.expired + self.lost


def merge_steps(parts: Iterable[Iterable[Step]]) -> list[Step]:
    """The same steps in several shards as one: totals and histograms are sums."""
    found: dict[str, Step] = {}
    for step in (step for part in parts for step in part):
        found[step.step] = _sum(found[step.step], step) if step.step in found else step
    return list(found.values())


def _sum(one: Step, other: Step) -> Step:
    row: dict[str, Any] = {"step": one.step}
    for name in Step.__struct_fields__[1:]:
        a, b = getattr(one, name), getattr(other, name)
        row[name] = {k: a.get(k, 0) + b.get(k, 0) for k in a | b} if isinstance(a, dict) else a + b
    return Step(**row)


class Worker(msgspec.Struct, frozen=True):
    """A registered worker; `lease_ms_left` is negative where it is overdue.

    `state`: warming (it claims nothing yet), ready, held (at a barrier) or draining. `steps_version` is how new
    the steps are that it has tried to load.

    Examples:
        >>> [(worker.state, worker.lease_ms_left > 0, worker.refuses) for worker in app.snapshot().workers]
        [('ready', True, {})]
    """

    worker_id: str
    consumer: str
    host: str
    pid: int
    lease_ms_left: int
    running: int
    slots: int
    done: int
    python: str = ""
    processes: int = 0
    version: str = ""
    refuses: dict[str, str] = {}
    """Steps whose code does not load there -> why. Others get their operations."""
    state: str = "ready"
    steps_version: int = 0
    bulletin: Bulletin = Bulletin()


class Need(msgspec.Struct, frozen=True):
    """Operations of a step that were given back until a worker of that Python (minor version) takes them.

    Examples:
        >>> [(need.python, need.operations) for need in app.snapshot().needs]
        []
    """

    python: str
    step: str
    operations: int
    since_ms: int


class OutboxState(msgspec.Struct, frozen=True):
    """What waits on this machine for the store. `away_ms`: since when it is out of reach, 0 where it is not.

    Examples:
        >>> [(outbox.operations, outbox.away_ms) for outbox in away.snapshot().outboxes]
        [(0, 0)]
    """

    path: str
    operations: int
    age_ms: int
    refused: int = 0
    away_ms: int = 0

    def __str__(self) -> str:
        text = f"{self.operations:,} in the outbox"
        if self.operations:
            text += f", the oldest for {self.age_ms / 1000:.1f} s"
        if self.refused:
            text += f", {self.refused:,} refused"
        return text


class Snapshot(msgspec.Struct, frozen=True):
    """One app at one moment of the server's clock. Where the store is out of reach of an app with an outbox, what was
    known last; the outbox and the alarms say so.

    Examples:
        >>> double.options(delay=60).enqueue(1).status
        <Status.SCHEDULED: 'SCHEDULED'>
        >>> app.snapshot().parked > 0
        True
    """

    app: str
    at_ms: int
    segments: list[Segment]
    steps: list[Step]
    workers: list[Worker]
    needs: list[Need] = []
    outboxes: tuple[OutboxState, ...] = ()
    notices: tuple[str, ...] = ()

    def __repr__(self) -> str:
        alarms = f", {len(self.alarms)} alarms" if self.alarms else ""
        return (
            f"<Snapshot {self.app}: {self.waiting} waiting, {self.parked} parked, {self.claimed} claimed, "
            f"{self.finished} finished, {len(self.workers)} workers{alarms}>"
        )

    @drawn
    def _repr_html_(self) -> str:
        depths = (Status.PENDING, self.waiting), (Status.SCHEDULED, self.parked), (Status.CLAIMED, self.claimed)
        counts: list[tuple[str, object]] = [("", Html(f"{status_cell(status)} {n:,}")) for status, n in depths]
        totals = ("enqueued", "succeeded", "failed", "cancelled", "expired", "lost", "retried", "fenced")
        steps = [(step.step, *(getattr(step, name) for name in totals)) for step in self.steps]
        workers = [(w.worker_id, w.pid, w.state, f"{w.running}", w.done, w.python) for w in self.workers]
        return card(
            "Snapshot",
            self.app,
            [*counts, ("finished", f"{self.finished:,}"), *(("", str(outbox)) for outbox in self.outboxes)],
            table(("step", *totals), steps),
            table(("worker", "pid", "state", "runs", "done", "python"), workers),
            table(("alarm",), [(alarm,) for alarm in self.alarms]),
        )

    @property
    def is_away(self) -> bool:
        """Whether the store is out of reach: all but the outboxes is as it was known last.

        Examples:
            >>> app.snapshot().is_away
            False
        """
        return any(outbox.away_ms for outbox in self.outboxes)

    @property
    def waiting(self) -> int:
        """Operations that may be claimed now.

        Examples:
            >>> app.snapshot().waiting >= 0
            True
        """
        return sum(segment.waiting for segment in self.segments)

    @property
    def parked(self) -> int:
        """Operations that wait for a moment: a delay, a back-off, others.

        Examples:
            >>> app.snapshot().parked >= 0
            True
        """
        return sum(segment.parked for segment in self.segments)

    @property
    def claimed(self) -> int:
        """Operations that workers hold.

        Examples:
            >>> app.snapshot().claimed >= 0
            True
        """
        return sum(segment.claimed for segment in self.segments)

    @property
    def alarms(self) -> list[str]:
        """What workers had to give back, and why; empty where all is well.

        Examples:
            >>> app.snapshot().alarms
            []
        """
        found = [
            f"{need.operations} operations of {need.step} wait for a worker of Python {need.python}"
            for need in self.needs
        ]
        found += self.notices
        for outbox in self.outboxes:
            if outbox.away_ms:
                found.append(f"the store is out of reach for {outbox.away_ms / 1000:.0f} s; counts are the last known")
            if outbox.refused:
                found.append(f"the store refused {outbox.refused} operations of {outbox.path}: app.outbox.refused()")
        for step in self.steps:
            if step.broken:
                found.append(f"{step.broken} times a segment or an effect of {step.step} met a key of another type")
        for worker in self.workers:
            found += [f"{worker.worker_id} cannot load {step}: {why}" for step, why in worker.refuses.items()]
        return found

    @property
    def finished(self) -> int:
        """Operations that ended, since the app exists.

        Examples:
            >>> app.snapshot().finished >= 0
            True
        """
        return sum(step.finished for step in self.steps)
