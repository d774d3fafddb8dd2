"""Panels: the parts that a view is made of. Each holds its data, says to the browser what is new, and is drawn as SVG,
as plotly traces and as text. What a panel is, is said here once; views only feed them.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from blazing_nb.core import plot
from blazing_nb.core.metrics import bounds
from blazing_nb.core.palette import PART
from blazing_nb.core.plot import Row, Spread

if TYPE_CHECKING:
    import plotly.graph_objects as go

ROWS = 4000
_SPARKS = " ▁▂▃▄▅▆▇█"


class Panel:
    """One part of a view."""

    kind: ClassVar[str] = "markup"
    timed: ClassVar[bool] = False
    plotly: ClassVar[str] = "xy"

    def __init__(self, title: str, *, wide: bool = False) -> None:
        self.title = title
        self.wide = wide

    def describe(self) -> dict[str, Any]:
        """All that the browser needs to draw it."""
        return {
            "kind": self.kind,
            "title": self.title,
            "wide": self.wide,
            "timed": self.timed,
            "data": self.everything(),
        }

    def everything(self) -> Any:
        raise NotImplementedError

    def news(self) -> Any:
        """What came since this was asked last."""
        raise NotImplementedError

    def html(self) -> str:
        """As script-free markup."""
        raise NotImplementedError

    def text(self) -> str:
        """For a terminal."""
        raise NotImplementedError

    def traces(self) -> list[go.BaseTraceType]:
        """As plotly draws it; none where plotly has nothing better."""
        return []


class Timed(Panel):
    """Rows that begin with a moment: a ring, whose older half is halved when it is full."""

    timed = True

    def __init__(self, title: str, *, wide: bool = False) -> None:
        super().__init__(title, wide=wide)
        self.rows: deque[Any] = deque()
        self._fresh: list[Any] = []

    def add(self, row: Any) -> None:
        self.rows.append(row)
        self._fresh.append(row)
        if len(self.rows) > ROWS:
            kept = list(self.rows)
            self.rows = deque([row for i, row in enumerate(kept) if i > ROWS // 2 or i % 2])

    def open(self, rows: Sequence[Any]) -> None:
        """What was recorded before the view was there."""
        self.rows = deque(rows)

    def everything(self) -> list[Any]:
        return list(self.rows)

    def news(self) -> list[Any]:
        fresh, self._fresh = self._fresh, []
        return fresh


class Series(Timed):
    """Lines, or areas one above the other. Rows: (at ms, value or None of each name)."""

    kind = "series"

    def __init__(
        self,
        title: str,
        parts: Mapping[str, str],
        *,
        stacked: bool = False,
        log: bool = False,
        unit: str = "per second",
        wide: bool = False,
    ) -> None:
        super().__init__(title, wide=wide)
        self.parts, self.stacked, self.log, self.unit = dict(parts), stacked, log, unit

    def describe(self) -> dict[str, Any]:
        dashes = None if len(set(self.parts.values())) == len(self.parts) else [[], [5, 2], [2, 2]] * 3
        return {
            **super().describe(),
            "names": list(self.parts),
            "colors": list(self.parts.values()),
            "stacked": self.stacked,
            "log": self.log,
            "dashes": dashes,
            "height": 170,
        }

    def html(self) -> str:
        rows: list[Row] = list(self.rows)
        names, colors = list(self.parts), list(self.parts.values())
        return plot.series(rows, names, colors, title=self.title, stacked=self.stacked, log=self.log)

    def text(self) -> str:
        lines = [f"{self.title} ({self.unit})"]
        for i, name in enumerate(self.parts, 1):
            values = [row[i] or 0.0 for row in self.rows]
            now = values[-1] if values else 0.0
            lines.append(f"  {name:<12} {_spark(values):<40} {now:,.1f}")
        return "\n".join(lines)

    def traces(self) -> list[go.BaseTraceType]:
        import plotly.graph_objects as go

        moments = _moments(self.rows)
        area = {"stackgroup": self.title, "line_width": 0.5} if self.stacked else {}
        return [
            go.Scatter(x=moments, y=[row[i] for row in self.rows], name=name, line_color=PART[color][0], **area)
            for i, (name, color) in enumerate(self.parts.items(), 1)
        ]


class Heat(Timed):
    """Log-scaled histograms over time. Rows: (at ms, span ms, [(bucket, n), ...] of each name)."""

    kind = "heat"

    def __init__(self, title: str, names: Sequence[str], *, wide: bool = False) -> None:
        super().__init__(title, wide=wide)
        self.names = list(names)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "names": self.names, "height": 190}

    def html(self) -> str:
        rows: list[Spread] = list(self.rows)
        drawn = plot.heat(rows, len(self.names) - 1, title=f"{self.title}: {self.names[-1]}")
        return drawn and f'<div class="bz-muted">{self.names[-1]}</div>{drawn}'

    def text(self) -> str:
        buckets: dict[int, float] = {}
        for row in self.rows:
            for bucket, n in row[2][-1]:
                buckets[bucket] = buckets.get(bucket, 0) + n
        span = range(min(buckets, default=0), max(buckets, default=-1) + 1)
        ends = f"{bounds(span[0])[0] * 1000:.3g} to {bounds(span[-1])[1] * 1000:.3g} ms" if span else "nothing yet"
        return f"{self.title}: {self.names[-1]}, {ends}\n  {_spark([buckets.get(b, 0.0) for b in span])}"

    def traces(self) -> list[go.BaseTraceType]:
        import plotly.graph_objects as go

        moments, ys, z = _moments(self.rows), [], []
        for bucket in sorted({b for row in self.rows for b, _ in row[2][-1]}):
            ys.append(bounds(bucket)[0] * 1000)
            z.append([dict(row[2][-1]).get(bucket) for row in self.rows])
        return [go.Heatmap(x=moments, y=ys, z=z, colorscale="Blues", showscale=False, name=f"{self.names[-1]} (ms)")]


class Markup(Panel):
    """HTML that Python makes, sent where it changed."""

    def __init__(self, title: str, *, wide: bool = False) -> None:
        super().__init__(title, wide=wide)
        self.content = ""
        self.plain = ""
        self._sent = ""
        self._traces: Any = None

    def set(self, content: str, plain: str, traces: Any = None) -> None:
        """What it shows now. `traces` makes its plotly traces when they are asked for."""
        self.content, self.plain, self._traces = content, plain, traces

    def everything(self) -> str:
        return self.content

    def news(self) -> str | None:
        changed, self._sent = self.content != self._sent, self.content
        return self.content if changed else None

    def html(self) -> str:
        return self.content

    def text(self) -> str:
        return self.plain

    def traces(self) -> list[go.BaseTraceType]:
        return [] if self._traces is None else self._traces()


def clean(value: str) -> str:
    """Without control characters, for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in value)


def _spark(values: Sequence[float], width: int = 40) -> str:
    """A line of blocks; the mean of each part of the values."""
    if not values:
        return ""
    size = max(1, -(-len(values) // width))
    means = [statistics.fmean(values[i : i + size]) for i in range(0, len(values), size)]
    top = max(means) or 1.0
    return "".join(_SPARKS[min(8, round(8 * mean / top))] for mean in means)


def _moments(rows: Sequence[Any] | deque[Any]) -> Any:
    import pandas as pd

    return pd.to_datetime([row[0] for row in rows], unit="ms", utc=True)
