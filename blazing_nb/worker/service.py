"""A worker as a process: starts it, waiting for a store that is not there yet, ends it on signals, on orders, and with
the process that it belongs to."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from typing import TYPE_CHECKING

from blazing_nb.core.supervision import LEFT, UNREADY
from blazing_nb.errors import StoreUnavailable
from blazing_nb.store.process import is_owner_alive
from blazing_nb.worker.signals import Signals

if TYPE_CHECKING:
    from blazing_nb.worker.worker import Worker

log = logging.getLogger(__name__)
LOOK_S = 1.0
FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 2.0


def serve(worker: Worker, patience: float, grace: float, owner: str = "") -> int:
    """Until SIGTERM, SIGINT, an order through the store, or the end of `owner`; then drain for `grace` seconds. A
    second signal gives back at once.

    Returns:
        0 where everything in flight was committed, 1 where something was given back, `LEFT`, `UNREADY`, or 2 where the
        turn loop ended.
    """
    with Signals(signal.SIGTERM, signal.SIGINT) as signals:
        worker.on_news = signals.wake
        if not _connect(worker, signals, patience):
            return 0
        if _warm(worker, signals):
            _say(f"ready {worker.worker_id} app={worker.app_id} pid={os.getpid()}")
        code = _watch(worker, signals, owner)
        clean = _drain(worker, signals, grace)
        worker.close()
    _say(f"stopped {worker.worker_id}: {worker.done} done, {'nothing' if clean else 'rest'} given back")
    return code if code is not None else 0 if clean else 1


def _connect(worker: Worker, signals: Signals, patience: float) -> bool:
    """Start it; False where a signal came first. A server that is not there yet is waited for, with growing pauses."""
    end, pause = time.monotonic() + patience, FIRST_PAUSE_S
    while not signals.ends:
        try:
            worker.reach()
            worker.start()
            return True
        except StoreUnavailable as error:
            if time.monotonic() + pause > end:
                raise
            log.warning("waiting for the store: %s", error)
        signals.wait(pause)
        pause = min(LAST_PAUSE_S, 2 * pause)
    return False


def _warm(worker: Worker, signals: Signals) -> bool:
    while worker.state == "warming" and not signals.ends and not worker.failure and worker.alive:
        signals.wait(LOOK_S)
    return worker.state == "ready"


def _watch(worker: Worker, signals: Signals, owner: str) -> int | None:
    """Until there is a reason to end; its exit code, None where that depends on what is in flight."""
    while not signals.ends:
        if worker.failure:
            log.critical("%s: it cannot be used", worker.failure)
            return UNREADY
        if worker.instructions.closing:
            log.info("told through the store to leave")
            return LEFT
        if not worker.alive:
            log.critical("the turn loop ended")
            return 2
        if owner and not is_owner_alive(owner):
            log.info("the process %s that it belongs to has ended", owner)
            return None
        signals.wait(LOOK_S)
    return None


def _drain(worker: Worker, signals: Signals, grace: float) -> bool:
    """Finish what is in flight; False where that took too long, or somebody insists."""
    worker.stop_accepting()
    _say(f"stopping {worker.worker_id}: {worker.held} in flight")
    end_s = time.monotonic() + grace
    while True:
        end = min(end_s, worker.instructions.ends_s)  # it may be told through the store to hurry
        if worker.wait_for_completion(min(0.05, max(0.0, end - time.monotonic()))):
            return True
        if signals.ends > 1 or time.monotonic() >= end or not worker.alive:
            return False


def _say(text: str) -> None:
    """To whoever started this process. A full disk under its log must not stop the work."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
