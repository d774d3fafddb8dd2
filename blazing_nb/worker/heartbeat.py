"""The heartbeat: renews the worker's lease and says what runs, from a thread and a connection of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from blazing_nb.core.policy import HEARTBEATS_PER_LEASE
from blazing_nb.errors import StoreError
from blazing_nb.store.store import Store

log = logging.getLogger(__name__)
PROGRESS_S = 0.5
Progress = list[tuple[str, str, int, str]]


class Heartbeat:
    """Beats three times a lease, and sooner where an operation reported progress. Calls `on_lost` once where the
    store gave this worker up."""

    def __init__(
        self,
        store: Store,
        worker: str,
        lease_ms: int,
        info: Callable[[], dict[str, str | int]],
        progress: Callable[[], Progress],
        on_lost: Callable[[], None],
    ) -> None:
        self._store = store
        self._worker = worker
        self._lease_ms = lease_ms
        self._info = info
        self._progress = progress
        self._on_lost = on_lost
        self._stopped = threading.Event()
        self._hastened = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bz-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop beating. Repeatable; does not wait for a beat under way."""
        self._stopped.set()
        self._hastened.set()

    def hasten(self) -> None:
        """Beat now: there is something to tell."""
        self._hastened.set()

    def _run(self) -> None:
        interval = self._lease_ms / 1000 / HEARTBEATS_PER_LEASE
        beaten = time.monotonic()
        while not self._stopped.is_set():
            hastened = self._hastened.wait(min(interval, PROGRESS_S))
            self._hastened.clear()
            progress, now = self._progress(), time.monotonic()
            if self._stopped.is_set() or not (hastened or progress or now - beaten >= interval - PROGRESS_S / 2):
                continue
            beaten = now
            try:
                kept = self._store.heartbeat(self._worker, self._lease_ms, self._info(), progress)
            except StoreError as error:
                if not self._stopped.is_set():
                    log.warning("heartbeat of %s: %s", self._worker, error)
                continue
            if not kept and not self._stopped.is_set():
                self._stopped.set()
                self._on_lost()
