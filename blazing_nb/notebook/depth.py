"""The live view of segment depths: a widget in a notebook, text in a terminal, plain HTML once it is closed."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from blazing_nb.client.monitor import segments_frame
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.errors import UsageError
from blazing_nb.notebook.freeze import freeze, name, summary, text
from blazing_nb.notebook.pump import Pump, Source, pump

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from blazing_nb.client.batch import Batch

LIMIT = 600


class SegmentDepths:
    """Operations waiting, parked and claimed in each segment of an app, now and over the last two minutes.

    Shown as the last expression of a cell, or by `show()`. It moves until `close()`, which leaves script-free HTML in
    its place, so that the saved notebook shows it without a kernel.

    Args:
        app: a `Blazing`, or whatever has `app_id` and `snapshot()`.
    """

    def __init__(self, app: Source, *, feed: Pump = pump) -> None:
        self.app = app
        self._feed = feed
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._history: deque[tuple[int, int, int, int]] = deque(maxlen=LIMIT)
        self._seq = 0
        self._widget: Any = None
        self._handle: Any = None
        self.closed = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else "live" if self._widget is not None else "not shown"
        return f"<SegmentDepths of {self.app.app_id}: {state}, {self._seq} states>"

    def __str__(self) -> str:
        return text(self._current())

    def _repr_html_(self) -> str:
        return freeze(self._current(), list(self._history))

    def _ipython_display_(self) -> None:
        self.show()

    # -- live --------------------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Display it and keep it moving; in a terminal, print it. A second call displays it once more."""
        if self.closed:
            raise UsageError("This view was closed; make a new one with %blazing segments or SegmentDepths(app).")
        if not _in_notebook():
            print(self)
            return
        from IPython.display import display

        if self._widget is None:
            from blazing_nb.notebook.widget import DepthWidget

            self._widget = DepthWidget()
            self._widget.on_msg(self._on_message)
        self.update(self.app.snapshot())
        self._handle = display(self._widget, display_id=True)  # type: ignore[no-untyped-call]
        self._feed.add(self)

    def update(self, snapshot: Snapshot) -> None:
        """Take a snapshot and send it on. Called by the pump."""
        with self._lock:
            if self.closed:
                return
            self._snapshot = snapshot
            point = (snapshot.at_ms, snapshot.waiting, snapshot.parked, snapshot.claimed)
            self._history.append(point)
            self._seq += 1
            message = {**self._state(snapshot), "type": "state", "point": point}
        if self._widget is not None:
            self._widget.send(message)

    def close(self) -> None:
        """Stop, and replace the widget by what it shows now. Repeatable."""
        if self.closed:
            return
        if self._widget is not None:
            self.update(self.app.snapshot())
        self._feed.remove(self)
        with self._lock:
            self.closed = True
        if self._handle is not None:
            plain = text(self._current())
            self._handle.update({"text/html": self._repr_html_(), "text/plain": plain}, raw=True)
        if self._widget is not None:
            self._widget.close()

    def watch(self, until: Batch | None = None, timeout: float = 60.0) -> None:
        """Move in the foreground until the batch is done or `timeout` seconds passed: for terminals and Colab."""
        end = time.monotonic() + timeout
        done = False
        while not done and time.monotonic() < end:
            done = until is not None and until.wait(0.2)
            if until is None:
                time.sleep(0.2)
            self.update(self.app.snapshot())
            if self._widget is None:
                sys.stdout.write(f"\r{summary(self._current())}")
                sys.stdout.flush()
        if self._widget is None:
            sys.stdout.write(f"\n{self}\n")

    # -- looking closely ---------------------------------------------------------------------------------------------

    def to_frame(self) -> pd.DataFrame:
        """One row a segment, as `app.segments()`."""
        return segments_frame(self._current())

    def figure(self) -> go.Figure:
        """The same data as a plotly figure, for hovering, zooming and export. Needs `pip install blazing_nb[plots]`."""
        try:
            import plotly.graph_objects as go
        except ImportError as error:
            raise UsageError("figure() needs plotly: pip install 'blazing_nb[plots]'.") from error
        segments = self._current().segments
        names = [name(segment) for segment in segments]
        parts = (("waiting", "#0072b2"), ("parked", "#e69f00"), ("claimed", "#009e73"))
        rows = [
            go.Bar(y=names, x=[getattr(s, part) for s in segments], name=part, orientation="h", marker_color=color)
            for part, color in parts
        ]
        layout = {"barmode": "stack", "title": f"Segment depths of {self.app.app_id}", "xaxis_title": "operations"}
        return go.Figure(rows, layout)

    def _current(self) -> Snapshot:
        if self._snapshot is None:
            self.update(self.app.snapshot())
        assert self._snapshot is not None  # noqa: S101 - update has set it
        return self._snapshot

    def _state(self, snapshot: Snapshot) -> dict[str, Any]:
        return {
            "app": snapshot.app,
            "seq": self._seq,
            "ts": time.time() * 1000,
            "depth": snapshot.waiting + snapshot.parked + snapshot.claimed,
            "summary": summary(snapshot),
            "segments": [(name(s), s.waiting, s.parked, s.claimed) for s in snapshot.segments],
        }

    def _on_message(self, widget: Any, content: dict[str, Any], buffers: Any) -> None:
        """The browser (re)connected: send everything."""
        if content.get("type") == "hello":
            with self._lock:
                state = self._state(self._current()) if self._snapshot else None
                history = list(self._history)
            if state is not None:
                widget.send({**state, "type": "snapshot", "history": history})


def _in_notebook() -> bool:
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None
