"""The store as a supervisor sees it: who is registered, and giving a dead worker's claims back. It may be away; that is
said, and no time is lost waiting for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from blazing_nb.core.snapshot import Worker
from blazing_nb.errors import StoreError
from blazing_nb.store import query
from blazing_nb.store.shards import open_store
from blazing_nb.store.store import Store

TIMEOUT_S = 2.0


class Registry:
    """Of one app. `away` says why the store could not be reached the last time; empty where it could."""

    def __init__(self, app_id: str, url: str) -> None:
        self.url = url
        self.away = ""
        self._app_id = app_id
        self._store: Store | None = None

    @contextlib.contextmanager
    def reaching(self) -> Iterator[Store]:
        """The store; what fails inside for want of it is noted and left for the next time."""
        try:
            if self._store is None:
                self._store = open_store(self._app_id, self.url, timeout_s=TIMEOUT_S, deadline_s=0.0)
            yield self._store
            self.away = ""
        except StoreError as error:
            self.away = str(error)

    def workers(self) -> list[Worker]:
        """Those that are registered; none where the store is away."""
        found: list[Worker] = []
        with self.reaching() as store:
            found = query.workers(store)
        return found

    def retire(self, worker_id: str) -> None:
        """A dead process's claims go back now, not when its lease ends: it cannot commit any more."""
        with self.reaching() as store:
            for worker in query.workers(store):
                if worker.worker_id == worker_id:
                    store.retire(worker.consumer)
