"""Verbs for all of an app's workers, on every machine: told through the store, answered by what they report of
themselves. Said again to whoever has not answered, since a reply may be lost on its way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blazing_nb.core.snapshot import Worker
from blazing_nb.errors import UsageError, WorkersNotReady
from blazing_nb.store import query

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

TURN_S = 0.05
AGAIN_S = 1.0


def instruct(app: Blazing, text: str, is_done: Callable[[Worker], bool], timeout: float) -> int:
    """Tell all that are registered now; return when each has left or `is_done`. How many were told.

    Raises:
        WorkersNotReady: `reasons` has the others, and how they are.
    """
    told = {worker.consumer for worker in query.workers(app.store)}
    end, again = time.monotonic() + timeout, 0.0
    while True:
        app.store.rescue()  # the dead leave so, where no other worker is there to see it
        open_ = {w.consumer: w for w in query.workers(app.store) if w.consumer in told and not is_done(w)}
        if not open_:
            return len(told)
        now = time.monotonic()
        if now > end:
            reasons = {name: f"{w.state} on {w.host}, pid {w.pid}" for name, w in open_.items()}
            raise WorkersNotReady(
                f"{len(open_)} of {len(told)} workers did not answer within {timeout:g} s: {reasons}. They may be dead "
                "(their lease ends soon), or stopped.",
                reasons=reasons,
            )
        if now >= again:
            app.store.instruct(text, list(open_))
            again = now + AGAIN_S
        time.sleep(TURN_S)


def close(app: Blazing, grace: float, timeout: float) -> int:
    """Dismiss all: supervisors first, so that none starts others. How many workers left. Raises `WorkersNotReady`."""
    app.store.dismiss(app.store.dismissed_ms())
    return instruct(app, f"close {round(grace * 1000)}", lambda worker: False, grace + timeout)


def wait_for_completion(app: Blazing, timeout: float | None) -> bool:
    """Until nothing of the app is claimed; False where `timeout` seconds were not enough."""
    end = None if timeout is None else time.monotonic() + timeout
    while app.snapshot().claimed:
        if end is not None and time.monotonic() > end:
            return False
        time.sleep(TURN_S)
    return True


def wait_ready(app: Blazing, n: int, timeout: float) -> list[Worker]:
    """The workers, once `n` are ready on any machine. Raises `WorkersNotReady`."""
    end = time.monotonic() + timeout
    while True:
        workers = query.workers(app.store)
        ready = [worker for worker in workers if worker.state == "ready" and worker.lease_ms_left > 0]
        if len(ready) >= n:
            return ready
        if time.monotonic() > end:
            reasons = {w.consumer: f"{w.state} on {w.host}, pid {w.pid}" for w in workers if w not in ready}
            raise WorkersNotReady(
                f"{len(ready)} of {n} workers were ready within {timeout:g} s; the others: {reasons or 'none'}. "
                "app.workers.start(n) starts some here.",
                reasons=reasons,
            )
        time.sleep(TURN_S)


@contextmanager
def barrier(app: Blazing, n: int, timeout: float, hold: float) -> Iterator[list[Worker]]:
    """`n` ready workers that claim nothing inside, and begin together afterwards, or after `hold` seconds."""
    if hold <= 0:
        raise UsageError(f"hold is more than 0 s, not {hold}.")
    ready = wait_ready(app, n, timeout)
    instruct(app, f"hold {round(hold * 1000)}", lambda worker: worker.state != "ready", timeout)
    try:
        yield ready
    finally:
        app.store.instruct("hold 0")
