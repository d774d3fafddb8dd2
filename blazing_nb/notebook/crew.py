"""The view of workers."""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING, Any

from blazing_nb.core.bulletin import LaneLoad, Ongoing
from blazing_nb.core.palette import PART
from blazing_nb.core.snapshot import Snapshot, Worker
from blazing_nb.notebook.panel import Markup, Series, clean
from blazing_nb.notebook.view import View

if TYPE_CHECKING:
    import pandas as pd

PARTS = {"held": "claimed", "executing": "succeeded"}
SHOWN = 16


class WorkersView(View):
    """Each worker's lanes, how busy they are, what runs and how far it is, its memory and its last failures.

    As new as the last heartbeat: a second while what runs changes, else a third of the lease.

    .. image:: ../images/workers.png

    Examples:
        >>> view = WorkersView(app)
        >>> view.close()
    """

    title, name = "Workers", "workers"
    range_s = 120

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._table = Markup("", wide=True)
        self._load = Series("operations held and executing, all workers", PARTS, unit="operations", wide=True)
        self.panels = [self._table, self._load]

    def take(self, snapshot: Snapshot) -> None:
        found = sorted(snapshot.workers, key=lambda worker: worker.worker_id)
        more = f"<div class='bz-muted'>and {len(found) - SHOWN} more</div>" if len(found) > SHOWN else ""
        cards = (
            "".join(_card(worker) for worker in found[:SHOWN])
            or "<div class='bz-muted'>no workers: app.workers.start(2) starts two</div>"
        )
        self._table.set(cards + more, "\n".join(_line(worker) for worker in found), lambda: [_bars(found)])
        executing = sum(lane.executing for worker in found for lane in worker.bulletin.lanes)
        self._load.add([snapshot.at_ms, sum(worker.running for worker in found), executing])

    def summary(self, snapshot: Snapshot) -> str:
        done, memory = sum(w.done for w in snapshot.workers), sum(w.bulletin.rss for w in snapshot.workers)
        return f"{len(snapshot.workers)} workers, {done:,} done, {memory / 1e6:,.0f} MB"

    def to_frame(self) -> pd.DataFrame:
        """One row a worker: worker, host, pid, state, lease_s, held, executing (mean), busy (share), done, rss_mb,
        running (ids), last_failure.

        Examples:
            >>> len(WorkersView(app).to_frame()) > 0
            True
        """
        import pandas as pd

        rows = [
            (
                *(w.worker_id, w.host, w.pid, w.state, w.lease_ms_left / 1000, w.running),
                *(sum(lane.executing for lane in w.bulletin.lanes), _share(w), w.done, w.bulletin.rss / 1e6),
                *(
                    [one.operation for one in w.bulletin.ongoing],
                    w.bulletin.failures[-1].error if w.bulletin.failures else "",
                ),
            )
            for w in self.current().workers
        ]
        columns = [
            "worker",
            "host",
            "pid",
            "state",
            "lease_s",
            "held",
            "executing",
            "busy",
            "done",
            "rss_mb",
            "running",
        ]
        return pd.DataFrame(rows, columns=[*columns, "last_failure"])


def _share(worker: Worker) -> float:
    """How much of its busiest lane executes. The places of coroutines are so many that their lane says little."""
    return max((min(1.0, lane.executing / lane.slots) for lane in worker.bulletin.lanes if lane.slots), default=0.0)


def _card(worker: Worker) -> str:
    lease = f"{worker.lease_ms_left / 1000:.0f} s" if worker.lease_ms_left >= 0 else "over"
    head = (
        f"<b>{escape(worker.worker_id)}</b> <span class='bz-muted'>{escape(worker.state)}, pid {worker.pid} on "
        f"{escape(worker.host)}, lease {lease}, {worker.done:,} done, {worker.bulletin.rss / 1e6:,.0f} MB</span>"
    )
    lanes = "".join(
        _lane(lane) for lane in worker.bulletin.lanes if lane.held or lane.executing or lane.name == "thread"
    )
    running = "".join(_ongoing(one) for one in worker.bulletin.ongoing[:4])
    failures = "".join(
        f"<div style='font-size:12px;border-left:3px solid var(--failed);padding-left:6px'>"
        f"<span class='bz-muted'>{time.strftime('%H:%M:%S', time.gmtime(one.at_s))} UTC {escape(one.operation)}</span> "
        f"{escape(one.error)}</div>"
        for one in worker.bulletin.failures[-2:]
    )
    return f"<div class='bz-worker' style='margin:6px 0 10px'>{head}<div>{lanes}</div>{running}{failures}</div>"


def _meter(share: float, color: str, said: str) -> str:
    return (
        f'<span title="{escape(said)}" style="display:inline-block;width:120px;height:9px;background:var(--well);'
        f'vertical-align:middle;border-radius:3px;overflow:hidden"><span style="display:block;height:9px;'
        f'width:{100 * min(1.0, max(0.0, share)):.0f}%;background:var(--{color})"></span></span>'
    )


def _lane(lane: LaneLoad) -> str:
    said = f"{lane.executing:.1f} of {lane.slots} executing, {lane.held} held"
    meter = _meter(lane.executing / max(1, lane.slots), "succeeded", said)
    return f"<span style='margin-right:16px'>{escape(lane.name)} {meter} {said}</span>"


def _ongoing(one: Ongoing) -> str:
    attempt = f", attempt {one.attempt}" if one.attempt > 1 else ""
    done, total, text = one.progress or (0.0, -1.0, "")
    bar = _meter(done / total, "claimed", f"{done:g} of {total:g}") if total > 0 else ""
    since = f"<span class='bz-muted'>for {one.for_s:.1f} s{attempt}</span>"
    return f"<div style='font-size:12px'>▶ {escape(one.operation)} {since} {bar} {escape(text)}</div>"


def _line(worker: Worker) -> str:
    lanes = ", ".join(f"{lane.name} {lane.executing:.1f}/{lane.slots}" for lane in worker.bulletin.lanes)
    facts = f"{worker.state:<8} {worker.done:>9,} done {worker.bulletin.rss / 1e6:>6,.0f} MB  {lanes}"
    parts = [
        f"  {clean(worker.worker_id):<28} {facts}",
        *(f"      runs {clean(one.operation)} for {one.for_s:.1f} s" for one in worker.bulletin.ongoing[:4]),
    ]
    parts += [f"      failed {clean(one.operation)}: {clean(one.error)}" for one in worker.bulletin.failures[-2:]]
    return "\n".join(parts)


def _bars(found: list[Worker]) -> Any:
    import plotly.graph_objects as go

    names = [worker.worker_id for worker in found]
    shares = [100 * _share(worker) for worker in found]
    return go.Bar(y=names, x=shares, orientation="h", name="busy %", marker_color=PART["succeeded"][0])
