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
        self._store = Store(app_id, url, timeout_s=TIMEOUT_S, deadline_s=0.0)
        self._known = False

    @contextlib.contextmanager
    def reaching(self) -> Iterator[Store]:
        """The store; what fails inside for want of it is noted and left for the next time."""
        try:
            yield self._reach()
            self.away = ""
        except StoreError as error:
            self.away = str(error)

    def _reach(self) -> Store:
        """With all shards, from the first time that it answers on."""
        if not self._known:
            with contextlib.suppress(StoreError):  # said by whoever uses it
                self._store = open_store(self._store.keys.app, self.url, timeout_s=TIMEOUT_S, deadline_s=0.0)
                self._known = True
        return self._store

    def workers(self) -> list[Worker]:
        """Those that are registered; none where the store is away."""
        found: list[Worker] = []
        with self.reaching() as store:
            found = query.workers(store)
        return found

    def dismissed_ms(self) -> int:
        """When all workers were dismissed last; -1 where the store is away."""
        found = -1
        with self.reaching() as store:
            found = store.dismissed_ms()
        return found

    def retire(self, worker_id: str) -> None:
        """A dead process's claims go back now, not when its lease ends: it cannot commit any more."""
        with self.reaching() as store:
            for worker in query.workers(store):
                if worker.worker_id == worker_id:
                    store.retire(worker.consumer)
