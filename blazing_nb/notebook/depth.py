"""The view of segment depths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from blazing_nb.client.monitor import segments_frame
from blazing_nb.core import board
from blazing_nb.core.palette import PART
from blazing_nb.core.snapshot import Segment, Snapshot
from blazing_nb.notebook.panel import Markup, Series, clean
from blazing_nb.notebook.view import View

if TYPE_CHECKING:
    import pandas as pd

PARTS = {"waiting": "pending", "parked": "retrying", "claimed": "claimed"}
SHOWN = 24
SKEW = 10
STALE_S = 60.0


class SegmentDepths(View):
    """Operations waiting, parked and claimed in each segment: as bars, as steps by nodes, and over time.

    Marked are the age of a segment's head, *skew* (one node of a step holds more than ten times the median of the
    others) and *orphans* (operations of a step that no worker has been taking for a minute).

    .. image:: ../images/depths.png

    Examples:
        >>> view = SegmentDepths(app)  # the last expression of a cell shows it
        >>> view.close()
    """

    title, name = "Segment depths", "depth"
    range_s = 120

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._bars = Markup("segments: operations not finished")
        self._grid = Markup("steps by nodes")
        self._time = Series("operations not finished", PARTS, stacked=True, unit="operations", wide=True)
        self.panels = [self._bars, self._grid, self._time]
        self._claimed: dict[str, tuple[int, int]] = {}

    def take(self, snapshot: Snapshot) -> None:
        marks = self._marks(snapshot)
        ordered = sorted(snapshot.segments, key=lambda s: (-(s.waiting + s.parked + s.claimed), name(s)))
        rows = [(name(s), _parts(s), marks[name(s)], _age(s)) for s in ordered[:SHOWN]]
        rest = f"<div class='bz-muted'>and {len(ordered) - SHOWN} more</div>" if len(ordered) > SHOWN else ""
        self._bars.set(board.bars(rows, list(PARTS.items())) + rest, _text(rows), lambda: _bar_traces(ordered))
        cells: dict[tuple[str, str], tuple[int, str]] = {}
        for s in snapshot.segments:
            n, mark = cells.get((s.step, s.node), (0, ""))
            cells[s.step, s.node] = n + sum(_parts(s)), mark or marks[name(s)]
        steps, nodes = _first(step for step, _ in cells), _first(node for _, node in cells)
        self._grid.set(board.grid(steps, nodes, cells), "")
        self._time.add([snapshot.at_ms, snapshot.waiting, snapshot.parked, snapshot.claimed])

    def to_frame(self) -> pd.DataFrame:
        """One row a segment, as `app.segments()`, and its `mark`: skewed, orphaned or nothing.

        Examples:
            >>> list(SegmentDepths(app).to_frame().columns[:3])
            ['step', 'prio', 'node']
        """
        snapshot = self.current()
        marks = self._marks(snapshot)
        frame = segments_frame(snapshot)
        frame["mark"] = [marks[name(segment)] for segment in snapshot.segments]
        return frame

    def _marks(self, snapshot: Snapshot) -> Mapping[str, str]:
        """What is wrong with each segment: nothing, orphaned, skewed."""
        totals = {step.step: step.claimed for step in snapshot.steps}
        for step, claimed in totals.items():
            if self._claimed.get(step, (-1, 0))[0] != claimed:
                self._claimed[step] = (claimed, snapshot.at_ms)
        made = {}
        for segment in snapshot.segments:
            notes = []
            still_s = (snapshot.at_ms - self._claimed.get(segment.step, (0, snapshot.at_ms))[1]) / 1000
            age_s = (segment.head_age_ms or 0) / 1000
            if segment.waiting and min(age_s, still_s if snapshot.workers else age_s) > STALE_S:
                notes.append("orphaned")
            if _skewed(segment, snapshot):
                notes.append("skewed")
            made[name(segment)] = ", ".join(notes)
        return made


def name(segment: Segment) -> str:
    """How a segment is called in a view."""
    return f"{segment.step} · {segment.node}" + ("" if segment.prio == "n" else f" · {segment.prio}")


def _parts(segment: Segment) -> tuple[int, int, int]:
    return segment.waiting, segment.parked, segment.claimed


def _skewed(segment: Segment, snapshot: Snapshot) -> bool:
    others = sorted(s.waiting for s in snapshot.segments if s.step == segment.step and s.node != segment.node)
    return bool(others) and segment.waiting > SKEW * max(1, others[len(others) // 2])


def _age(segment: Segment) -> str:
    """Of its head, where it is old enough to say."""
    seconds = (segment.head_age_ms or 0) / 1000
    if seconds < 1:
        return ""
    if seconds < 120:
        return f"head {seconds:.0f} s"
    return f"head {seconds / 60:.0f} min" if seconds < 7200 else f"head {seconds / 3600:.0f} h"


def _first(names: Any, most: int = 20) -> list[str]:
    return list(dict.fromkeys(names))[:most]


def _text(rows: list[tuple[str, tuple[int, int, int], str, str]], width: int = 30) -> str:
    top = max((sum(values) for _, values, *_ in rows), default=0) or 1
    lines = []
    for label, values, *notes in rows:
        bar = "".join(mark * round(width * n / top) for mark, n in zip("#=>", values, strict=True))
        counts = " / ".join(map(str, values))
        lines.append(f"  {clean(label):<32} {bar:<{width + 2}} {counts} {', '.join(filter(None, notes))}".rstrip())
    return "\n".join(lines)


def _bar_traces(segments: list[Segment]) -> list[Any]:
    import plotly.graph_objects as go

    names = [name(segment) for segment in segments]
    return [
        go.Bar(y=names, x=[getattr(s, part) for s in segments], name=part, orientation="h", marker_color=PART[color][0])
        for part, color in PARTS.items()
    ]
