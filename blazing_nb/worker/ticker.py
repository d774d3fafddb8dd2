"""The ticker: fires what is due, from a thread of its own. Every worker has one; the store lets each tick be fired
once."""

from __future__ import annotations

import logging
import threading

import msgspec

from blazing_nb.core.codec import unseal_always
from blazing_nb.core.schedule import Plan
from blazing_nb.core.signature import KeyRing, context
from blazing_nb.errors import SecretUnsafe, StoreError, TrustError
from blazing_nb.store import timetable
from blazing_nb.store.store import Store

log = logging.getLogger(__name__)
LOOK_S = 1.0


class Ticker:
    """Looks once a second, and at the moment when something is due."""

    def __init__(self, app: str, ring: KeyRing, store: Store) -> None:
        self._app = app
        self._ring = ring
        self._store = store
        self._plans: dict[tuple[str, bytes], Plan | None] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bz-ticker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Fire nothing more. Repeatable; does not wait."""
        self._stopped.set()

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopped.wait(wait_s):
            try:
                self._ring.refresh()  # a key that was dropped verifies nothing any more
                wait_s = self.look()
            except (StoreError, SecretUnsafe) as error:
                wait_s = LOOK_S
                if not self._stopped.is_set():
                    log.warning("schedules: %s", error)

    def look(self) -> float:
        """Fire what is due; seconds until something may be."""
        now_ms, rows = timetable.upcoming(self._store)
        wait_ms = LOOK_S * 1000
        for name, due_ms, record in rows:
            plan = self._plan(name, record)
            if plan is None:
                continue
            if due_ms > now_ms:
                wait_ms = min(wait_ms, due_ms - now_ms)
                continue
            ticks, next_ms = plan.rule.due(due_ms, now_ms)
            timetable.tick(self._store, name, plan.version, due_ms, ticks, next_ms)
            wait_ms = min(wait_ms, max(0, next_ms - now_ms)) if next_ms else wait_ms
        return wait_ms / 1000

    def _plan(self, name: str, record: bytes) -> Plan | None:
        """Of a record that this app's key signed; None, once with a word in the log, for any other."""
        if (name, record) not in self._plans:
            try:
                found = unseal_always(record, self._ring, context(self._app, "schedule", b"", name))
                self._plans[name, record] = msgspec.convert(found, Plan)
            except (TrustError, msgspec.ValidationError) as error:
                log.error("schedule %r is not fired: %s", name, error)
                self._plans[name, record] = None
        return self._plans[name, record]
