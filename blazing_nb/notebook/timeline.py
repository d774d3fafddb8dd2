"""The timeline: attempts as bars by worker, back in time and in replay."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from blazing_nb.client.timeline import Attempt, attempts, running
from blazing_nb.core import plot
from blazing_nb.core.palette import PART
from blazing_nb.core.reading import rate, rates, reading_of
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.core.status import Status
from blazing_nb.errors import UsageError
from blazing_nb.notebook.panel import Panel, Series
from blazing_nb.notebook.throughput import WINDOW_MS, Recent, says
from blazing_nb.notebook.view import HOUR_S, View

if TYPE_CHECKING:
    import pandas as pd

LIMIT = 3000
ASK_MS = 1000
OVERLAP_MS = 3000
RATES = {"succeeded": "succeeded", "failed": "failed", "retried": "retrying"}
_COLUMNS = ["operation", "step", "worker", "attempt", "status", "begin_at", "end_at", "error"]


class Timeline(View):
    """Attempts as bars by worker, coloured by how they ended; what failed, was retried or lost its worker included.

    A slider and a clock go back in time ("what was it at 14:03:07"); it plays again at 1 to 60 times the speed; `at()`
    says the same as a frame. Holds the newest 3,000 attempts of the last hour.

    Args:
        step: of that step only; default: of all.

    .. image:: ../images/timeline.png

    Examples:
        >>> view = Timeline(app)
        >>> view.close()
    """

    title, name = "Timeline", "timeline"
    modules = ("series", "timeline")
    range_s = 120

    def __init__(self, *args: Any, step: str | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._step = step
        self._spans = Spans("attempts by worker", wide=True)
        self._rates = Series("operations a second", RATES, wide=True)
        self.panels = [self._spans, self._rates]
        self._recent = Recent(WINDOW_MS)
        self._asked_ms = 0

    def start(self, snapshot: Snapshot) -> None:
        self._rates.open(rates(self.recorded(snapshot, self._step), list(RATES), snapshot.at_ms))
        self._ask(snapshot, snapshot.at_ms - HOUR_S * 1000)

    def take(self, snapshot: Snapshot) -> None:
        now = reading_of(snapshot, self._step)
        before = self._recent.before(now)
        if says(before, now) or len(self._rates.rows) < 2:
            self._rates.add([now.at_ms, *rate(before, now, list(RATES))])
        if self.closing or snapshot.at_ms - self._asked_ms >= ASK_MS:
            self._ask(snapshot, self._asked_ms - OVERLAP_MS)
        else:
            self._spans.put([one for one in running(snapshot) if self._step in (None, one.step)], snapshot.at_ms)

    def summary(self, snapshot: Snapshot) -> str:
        counts = self._spans.counts()
        return ", ".join(f"{n:,} {status}" for status, n in counts.items()) or "no attempts yet"

    def at(self, moment: datetime | str) -> pd.DataFrame:
        """What was executing at a moment, and what had ended within the minute before: one row an attempt, with its
        status then.

        Args:
            moment: a datetime with a time zone, or "14:03:07": the last time that it was so late, here.

        Examples:
            >>> "status" in Timeline(app).at(datetime.now(UTC)).columns
            True
        """
        at_ms = _moment(moment, self.current().at_ms)
        frame = self.to_frame()
        import pandas as pd

        at = pd.Timestamp(at_ms, unit="ms", tz="UTC")
        frame = frame[(frame.begin_at <= at) & (frame.end_at > at - pd.Timedelta(minutes=1))].copy()
        frame.loc[frame.end_at > at, ["status", "error"]] = [str(Status.RUNNING), ""]
        return frame.reset_index(drop=True)

    def to_frame(self) -> pd.DataFrame:
        """One row an attempt: operation, step, worker, attempt, status, begin_at, end_at (UTC), error.

        Examples:
            >>> list(Timeline(app).to_frame().columns[:2])
            ['operation', 'step']
        """
        import pandas as pd

        self.current()
        rows = [
            (one.operation, one.step, one.worker, one.attempt, str(one.status), *one[5:8]) for one in self._spans.all()
        ]
        frame = pd.DataFrame(rows, columns=_COLUMNS)
        for column in ("begin_at", "end_at"):
            frame[column] = pd.to_datetime(frame[column].astype(float), unit="ms", utc=True)
        return frame

    def _ask(self, snapshot: Snapshot, since_ms: int) -> None:
        self._asked_ms = snapshot.at_ms
        store = getattr(self.app, "store", None)
        if store is not None and not snapshot.is_away:
            self._spans.put(attempts(store, snapshot, since_ms, LIMIT, self._step), snapshot.at_ms)


class Spans(Panel):
    """Attempts in lanes. What is sent are those that are new or have changed."""

    kind = "timeline"
    timed = True

    def __init__(self, title: str, *, wide: bool = False) -> None:
        super().__init__(title, wide=wide)
        self._kept: dict[tuple[str, int], Attempt] = {}
        self._fresh: dict[tuple[str, int], Attempt] = {}
        self._now_ms = 0

    def put(self, found: list[Attempt], now_ms: int) -> None:
        self._now_ms = now_ms
        for one in sorted(found, key=lambda one: one.end_ms):  # the oldest is let go first
            known = self._kept.get(one.key)
            if known is None or known.status is Status.RUNNING:
                self._kept[one.key] = self._fresh[one.key] = one
        while len(self._kept) > LIMIT:
            del self._kept[next(iter(self._kept))]

    def all(self) -> list[Attempt]:
        return sorted(self._kept.values(), key=lambda one: one.begin_ms)

    def counts(self) -> dict[str, int]:
        return {str(s): n for s in Status if (n := sum(one.status is s for one in self._kept.values()))}

    def everything(self) -> list[Any]:
        return [_row(one) for one in self._kept.values()]

    def news(self) -> list[Any]:
        fresh, self._fresh = self._fresh, {}
        return [_row(one) for one in fresh.values()]

    def html(self) -> str:
        rows = [(one.worker, one.begin_ms, one.end_ms, str(one.status), _said(one)) for one in self.all()]
        return plot.spans(rows, title=self.title, now_ms=self._now_ms)

    def text(self) -> str:
        lines = [f"{self.title} (UTC)"]
        for one in self.all()[-20:]:
            at = datetime.fromtimestamp(one.begin_ms / 1000, UTC)
            lines.append(f"  {at:%H:%M:%S} {one.worker:<24} {_said(one)}")
        return "\n".join(lines)

    def traces(self) -> list[Any]:
        import pandas as pd
        import plotly.graph_objects as go

        made = []
        for status in Status:
            rows = [one for one in self.all() if one.status is status]
            if rows:
                begins = pd.to_datetime([one.begin_ms for one in rows], unit="ms", utc=True)
                made.append(
                    go.Bar(
                        base=begins,
                        x=[one.end_ms - one.begin_ms for one in rows],
                        y=[one.worker for one in rows],
                        orientation="h",
                        name=str(status),
                        marker_color=PART[status.lower()][0],
                        hovertext=[_said(one) for one in rows],
                    )
                )
        return made


def _row(one: Attempt) -> list[Any]:
    return [
        one.operation,
        one.worker,
        one.attempt,
        str(one.status),
        one.begin_ms,
        one.end_ms,
        one.error[:120],
        one.claim,
    ]


def _said(one: Attempt) -> str:
    again = f", attempt {one.attempt}" if one.attempt > 1 else ""
    return f"{one.operation}: {one.status}{again}, {one.end_ms - one.begin_ms:,.1f} ms {one.error}".strip()


def _moment(moment: datetime | str, now_ms: int) -> float:
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise UsageError(
                f"A moment is a datetime with a time zone, or a clock's text such as 14:03:07, not {moment!r}."
            )
        return moment.timestamp() * 1000
    try:
        clock = datetime.strptime(moment, "%H:%M:%S" if moment.count(":") == 2 else "%H:%M").time()
    except (ValueError, AttributeError):
        raise UsageError(
            f"A moment is a datetime with a time zone, or a clock's text such as 14:03:07, not {moment!r}."
        ) from None
    now = datetime.fromtimestamp(now_ms / 1000).astimezone()
    then = now.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
    return (then.timestamp() - (86_400 if then > now else 0)) * 1000
