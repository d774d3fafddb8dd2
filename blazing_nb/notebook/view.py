"""What every live view is: fed by the pump, drawn in the browser, text in a terminal, plain HTML once it is closed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

from blazing_nb.core.palette import framed
from blazing_nb.core.reading import Reading
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.errors import UsageError
from blazing_nb.notebook.panel import Panel, clean
from blazing_nb.notebook.pump import Pump, Source, pump

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from blazing_nb.client.batch import Batch

HOUR_S = 3600
WATCH_S = 0.2


class View:
    """Shown as the last expression of a cell, or by `show()`. It moves until `close()`, or until the batch `until` is
    done; then script-free HTML is in its place, so that the saved notebook shows it without a kernel.

    Args:
        app: a `Blazing`.
        until: close by itself when this batch is done.

    Examples:
        >>> view = Throughput(app)
        >>> view.show()  # in a terminal, its text
        Throughput of examples: ...
        >>> view.close()
    """

    title: ClassVar[str]
    name: ClassVar[str]
    """Its kind, and the end of its `data-testid`."""
    modules: ClassVar[tuple[str, ...]] = ("series",)
    """What of `static/` it needs beside the canvas."""
    range_s: ClassVar[int] = HOUR_S

    def __init__(self, app: Source, *, until: Batch | None = None, feed: Pump = pump) -> None:
        self.app = app
        self.until = until
        self.panels: list[Panel] = []
        self._feed = feed
        self._lock = threading.RLock()
        self._snapshot: Snapshot | None = None
        self._seq = 0
        self._widget: Any = None
        self._handle: Any = None
        self.closed = self.closing = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else "live" if self._widget is not None else "not shown"
        return f"<{type(self).__name__} of {self.app.app_id}: {state}, {self._seq} states>"

    def __str__(self) -> str:
        snapshot = self.current()
        head = f"{self.title} of {clean(snapshot.app)}: {self.summary(snapshot)}"
        return "\n".join([head, *filter(None, (panel.text() for panel in self.panels))])

    def _repr_html_(self) -> str:
        snapshot = self.current()
        body = (
            f"<b>{escape(self.title)} of {escape(snapshot.app)}</b> "
            f'<span class="bz-muted">{escape(self.summary(snapshot))}</span>'
        )
        for panel in self.panels:
            if drawn := panel.html():
                body += f'<div class="bz-muted" style="margin-top:8px">{escape(panel.title)}</div>{drawn}'
        return framed(body, f"bz-{self.name}-frozen")

    def _ipython_display_(self) -> None:
        """Live; what it showed last, once it is closed."""
        if not self.closed:
            return self.show()
        from IPython.display import display

        display({"text/html": self._repr_html_(), "text/plain": str(self)}, raw=True)  # type: ignore[no-untyped-call]

    # -- what a view is made of ----------------------------------------------------------------------------------------

    def start(self, snapshot: Snapshot) -> None:
        """Fill the panels with what was recorded before. Called once, with the first snapshot."""

    def take(self, snapshot: Snapshot) -> None:
        """Feed the panels with a snapshot."""
        raise NotImplementedError

    def summary(self, snapshot: Snapshot) -> str:
        """One line."""
        return depths(snapshot)

    def to_frame(self) -> pd.DataFrame:
        """What it shows, as a frame.

        Examples:
            >>> len(SegmentDepths(app).to_frame()) > 0
            True
        """
        raise NotImplementedError

    def act(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Do what somebody pressed in the browser; what to answer."""
        return None

    def recorded(self, snapshot: Snapshot, step: str | None = None) -> list[Reading]:
        """Readings of the last hour, from the roll-ups; none where the source keeps none."""
        from blazing_nb.client.monitor import recorded

        store = getattr(self.app, "store", None)
        return [] if store is None or snapshot.is_away else recorded(store, snapshot, HOUR_S * 1000, step)

    # -- live ----------------------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Display it and keep it moving; in a terminal, print it. A second call displays it once more.

        Examples:
            >>> view = Throughput(app)
            >>> view.show()  # in a terminal its text
            Throughput of examples: ...
            >>> view.close()
        """
        if self.closed:
            raise UsageError(f"This view was closed; make a new one: {type(self).__name__}(app).")
        if not in_notebook():
            print(self)
            return
        from IPython.display import display

        if self._widget is None:
            from blazing_nb.notebook.widget import widget

            self._widget = widget(self.modules)
            self._widget.on_msg(self._on_message)
        self.update(self.app.snapshot())
        self._handle = display(self._widget, display_id=True)  # type: ignore[no-untyped-call]
        self._feed.add(self)

    def update(self, snapshot: Snapshot) -> None:
        """Take a snapshot and send on what is new. Called by the pump."""
        with self._lock:
            if self.closed:
                return
            self._take(snapshot)
            self._seq += 1
            if self._widget is not None:
                news = [panel.news() for panel in self.panels]
                self._widget.send({"type": "state", **self._head(snapshot), "news": news})
        if self.until is not None and self._handle is not None and self.until.wait(0):
            self.close()

    def _take(self, snapshot: Snapshot) -> None:
        if self._snapshot is None:
            self.start(snapshot)
        self._snapshot = snapshot
        self.take(snapshot)

    def close(self) -> None:
        """Stop, and replace the widget by what it shows now. Repeatable.

        Examples:
            >>> view = Throughput(app)
            >>> view.close()
            >>> view.close()
        """
        if self.closed:
            return
        self._feed.remove(self)
        self.until = None
        self.closing = True  # what asks the store now and then asks once more
        if self._widget is not None:
            self.update(self.app.snapshot())
        with self._lock:
            self.closed = True
        if self._handle is not None:
            self._handle.update({"text/html": self._repr_html_(), "text/plain": str(self)}, raw=True)
        if self._widget is not None:
            self._widget.close()

    def watch(self, until: Batch | None = None, timeout: float = 60.0) -> None:
        """Move in the foreground until the batch is done or `timeout` seconds passed: for terminals and Colab."""
        end = time.monotonic() + timeout
        done = False
        while not done and time.monotonic() < end:
            done = until is not None and until.wait(WATCH_S)
            if until is None:
                time.sleep(WATCH_S)
            self.update(self.app.snapshot())
            if self._widget is None:
                sys.stdout.write(f"\r{self.summary(self.current())}")
                sys.stdout.flush()
        if self._widget is None:
            sys.stdout.write(f"\n{self}\n")

    # -- looking closely -----------------------------------------------------------------------------------------------

    def figure(self) -> go.Figure:
        """The same data as a plotly figure, for hovering, zooming and export. Needs `pip install blazing_nb[plots]`.

        Examples:
            >>> type(Throughput(app).figure()).__name__
            'Figure'
        """
        try:
            from plotly.subplots import make_subplots
        except ImportError as error:
            raise UsageError("figure() needs plotly: pip install 'blazing_nb[plots]'.") from error
        self.current()
        drawn = [(panel, traces) for panel in self.panels if (traces := panel.traces())]
        specs = [[{"type": "domain" if traces[0].type == "sankey" else "xy"}] for _, traces in drawn] or None
        figure = make_subplots(max(1, len(drawn)), 1, specs=specs, subplot_titles=[panel.title for panel, _ in drawn])
        for row, (panel, traces) in enumerate(drawn, 1):
            for trace in traces:
                figure.add_trace(trace, row, 1)
            if getattr(panel, "log", False) or panel.kind == "heat":
                figure.update_yaxes(type="log", row=row, col=1)
        figure.update_layout(title=f"{self.title} of {self.app.app_id}", barmode="stack", height=140 + 280 * len(drawn))
        return figure

    def current(self) -> Snapshot:
        """The newest snapshot that it took; takes one where there is none.

        Examples:
            >>> Throughput(app).current().app
            'examples'
        """
        with self._lock:
            if self._snapshot is None:
                self._take(self.app.snapshot())
            assert self._snapshot is not None  # noqa: S101 - it was just taken
            return self._snapshot

    def _head(self, snapshot: Snapshot) -> dict[str, Any]:
        return {
            "title": f"{self.title} of {snapshot.app}",
            "summary": self.summary(snapshot),
            "seq": self._seq,
            "ts": time.time() * 1000,
            "at": snapshot.at_ms,
            "facts": {"depth": snapshot.waiting + snapshot.parked + snapshot.claimed},
        }

    def _on_message(self, widget: Any, content: dict[str, Any], buffers: Any) -> None:
        if content.get("type") == "hello":
            with self._lock:
                panels = [panel.describe() for panel in self.panels]
                head = self._head(self.current())
                widget.send({**head, "type": "snapshot", "name": self.name, "range": self.range_s, "panels": panels})
        elif content.get("type") == "do" and (answer := self.act(content)) is not None:
            widget.send({"type": "answer", **answer})


def depths(snapshot: Snapshot) -> str:
    workers = len(snapshot.workers)
    waiting = "".join(f", {outbox}" for outbox in snapshot.outboxes if outbox.operations or outbox.away_ms)
    away = ", the store is out of reach" if snapshot.is_away else ""
    return (
        f"{snapshot.waiting:,} waiting, {snapshot.parked:,} parked, {snapshot.claimed:,} claimed, "
        f"{snapshot.finished:,} finished, {workers} worker{'' if workers == 1 else 's'}{waiting}{away}"
    )


def timed_frame(rows: Iterable[Any], names: list[str]) -> pd.DataFrame:
    """A panel's rows as a frame with the moment (UTC) as `at`."""
    import pandas as pd

    frame = pd.DataFrame([list(row) for row in rows], columns=["at", *names])
    frame["at"] = pd.to_datetime(frame["at"].astype(float), unit="ms", utc=True)
    return frame


def in_notebook() -> bool:
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None
