"""The view of status transitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from blazing_nb.core import board
from blazing_nb.core.palette import PART
from blazing_nb.core.reading import COUNTERS, rate, rates, reading_of
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.notebook.panel import Markup, Series
from blazing_nb.notebook.throughput import WINDOW_MS, Recent, says
from blazing_nb.notebook.view import View, timed_frame

if TYPE_CHECKING:
    import pandas as pd

INTO = ("PENDING", "SCHEDULED", "CLAIMED", "RETRYING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "LOST")


class Transitions(View):
    """Transitions between statuses a second, as a flow diagram of this moment and as areas over the last hour.

    An operation that runs is still claimed. What is cancelled or past its deadline before it ran leaves PENDING.

    .. image:: ../images/transitions.png

    Examples:
        >>> view = Transitions(app)
        >>> view.close()
    """

    title, name = "Status transitions", "transitions"

    def __init__(self, *args: Any, step: str | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._step = step
        self._flow = Markup("operations a second between statuses", wide=True)
        self._areas = Series("operations a second, by the status that they came to", _parts(), stacked=True, wide=True)
        self.panels = [self._flow, self._areas]
        self._recent = Recent(WINDOW_MS)
        self._edges: dict[tuple[str, str], float] = {}

    def start(self, snapshot: Snapshot) -> None:
        rows = rates(self.recorded(snapshot, self._step), COUNTERS, snapshot.at_ms)
        self._areas.open([[at, *_into(edges(dict(zip(COUNTERS, counts, strict=True))))] for at, *counts in rows])

    def take(self, snapshot: Snapshot) -> None:
        now = reading_of(snapshot, self._step)
        before = self._recent.before(now)
        counts = dict(zip(COUNTERS, rate(before, now, COUNTERS), strict=True))
        self._edges = edges(counts)
        lines = [f"  {a or 'enqueued':>10} -> {b:<10} {n:,.1f}/s" for (a, b), n in self._edges.items() if n]
        self._flow.set(board.flow(self._edges), "\n".join(lines), lambda: [_sankey(self._edges)])
        if says(before, now) or len(self._areas.rows) < 2:
            self._areas.add([now.at_ms, *_into(self._edges)])

    def summary(self, snapshot: Snapshot) -> str:
        return f"{sum(self._edges.values()):,.0f} transitions a second"

    def to_frame(self) -> pd.DataFrame:
        """Columns: at (UTC), then a column for each status: operations a second that came to it.

        Examples:
            >>> Transitions(app).to_frame().columns[0]
            'at'
        """
        self.current()
        return timed_frame(self._areas.rows, list(INTO))


def edges(counts: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """Transitions a second by (from, to) from counters a second; "" is where operations come from."""

    def count(*names: str, less: tuple[str, ...] = ()) -> float:
        return max(0.0, sum(counts.get(name, 0) for name in names) - sum(counts.get(name, 0) for name in less))

    return {
        ("", "PENDING"): count("enqueued", less=("scheduled",)),
        ("", "SCHEDULED"): count("scheduled"),
        ("PENDING", "CLAIMED"): count("claimed", less=("due", "retaken")),
        ("SCHEDULED", "CLAIMED"): count("due"),
        ("RETRYING", "CLAIMED"): count("retaken"),
        ("CLAIMED", "RETRYING"): count("retried", "rescued", "released"),
        ("CLAIMED", "SUCCEEDED"): count("succeeded"),
        ("CLAIMED", "FAILED"): count("failed"),
        ("CLAIMED", "CANCELLED"): count("cancelled", less=("withdrawn",)),
        ("PENDING", "CANCELLED"): count("withdrawn"),
        ("PENDING", "EXPIRED"): count("expired"),
        ("CLAIMED", "LOST"): count("lost"),
    }


def _into(found: Mapping[tuple[str, str], float]) -> list[float]:
    return [sum(n for (_, target), n in found.items() if target == status) for status in INTO]


def _parts() -> dict[str, str]:
    return {status: status.lower() for status in INTO}


def _sankey(found: Mapping[tuple[str, str], float]) -> Any:
    import plotly.graph_objects as go

    # A diagram of flows has no way back: what is claimed once more stands for itself.
    names = ["enqueued", *INTO, "claimed again"]
    links = [
        (a or "enqueued", "claimed again" if (a, b) == ("RETRYING", "CLAIMED") else b, n) for (a, b), n in found.items()
    ]
    return go.Sankey(
        node={"label": names, "color": ["#888", *(PART[status.lower()][0] for status in INTO), PART["claimed"][0]]},
        link={
            "source": [names.index(a) for a, _, _ in links],
            "target": [names.index(b) for _, b, _ in links],
            "value": [n for *_, n in links],
        },
    )
