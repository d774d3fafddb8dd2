"""One thread a session that polls snapshots and hands them to open views; one poll an app a turn."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from blazing_nb.core.snapshot import Snapshot
from blazing_nb.errors import BlazingError

log = logging.getLogger(__name__)
PERIOD_S = 0.2


class Source(Protocol):
    """An app, as far as a view needs it."""

    @property
    def app_id(self) -> str: ...
    def snapshot(self) -> Snapshot: ...


class View(Protocol):
    """Takes the newest snapshot; older ones that it missed are never sent."""

    app: Source

    def update(self, snapshot: Snapshot) -> None: ...
    def close(self) -> None: ...


class Pump:
    """Runs while any view is open."""

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._period_s = period_s
        self._views: list[View] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()

    def __repr__(self) -> str:
        return f"<Pump {len(self._views)} views, {'running' if self.running else 'idle'}>"

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def add(self, view: View) -> None:
        """Feed a view from now on. Repeatable."""
        with self._lock:
            if view not in self._views:
                self._views.append(view)
            if not self.running:
                self._thread = threading.Thread(target=self._run, name="bz-pump", daemon=True)
                self._thread.start()

    def remove(self, view: View) -> None:
        """Feed it no more; the thread ends with the last view. Repeatable."""
        with self._lock:
            if view in self._views:
                self._views.remove(view)
        self._changed.set()

    def close(self, app: Source | None = None) -> None:
        """Close every view, or those of one app."""
        with self._lock:
            views = [view for view in self._views if app is None or view.app is app]
        for view in views:
            view.close()

    def _run(self) -> None:
        while True:
            with self._lock:
                views = list(self._views)
                if not views:
                    self._thread = None
                    return
            self._changed.clear()
            self._turn(views)
            self._changed.wait(self._period_s)

    def _turn(self, views: list[View]) -> None:
        snapshots: dict[int, Snapshot] = {}
        for view in views:
            try:
                if id(view.app) not in snapshots:
                    snapshots[id(view.app)] = view.app.snapshot()
                view.update(snapshots[id(view.app)])
            except BlazingError as error:
                log.debug("a view of %s was not fed: %s", view.app.app_id, error)


pump = Pump()
