"""Samples an app's snapshots from a thread of its own, for the page's charts."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from blazing_nb.client.app import Blazing
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.errors import BlazingError

log = logging.getLogger(__name__)
PERIOD_S = 0.1


class Sampler:
    """Within `with`, `history` grows by about ten snapshots a second; the last one is taken on leaving."""

    def __init__(self, app: Blazing) -> None:
        self.history: list[Snapshot] = []
        self._app = app
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bz-sampler", daemon=True)

    def __enter__(self) -> Sampler:
        self.history.append(self._app.snapshot())
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:
            self.history.append(self._app.snapshot())

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S):
            try:
                self.history.append(self._app.snapshot())
            except BlazingError as error:
                log.warning("a sample is missing: %s", error)
