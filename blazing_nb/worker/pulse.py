"""The pulse: a process of its own that renews a worker's lease, so that no step starves it by holding the interpreter
lock. It ends when the worker's pipe does, and does not renew while the worker is stopped.

    python -m blazing_nb.worker.pulse     # its orders are a line of JSON on stdin: an url may hold a password
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from blazing_nb.core.policy import HEARTBEATS_PER_LEASE
from blazing_nb.errors import StoreError
from blazing_nb.store.process import is_owner_alive, is_stopped, owner
from blazing_nb.store.store import Store

COMMAND = [sys.executable, "-m", "blazing_nb.worker.pulse"]
STOP_S = 5.0


class Pulse:
    """Starts the process for one registration of a worker (its name in each shard); `stop` ends it."""

    def __init__(self, url: str, app: str, workers: Sequence[str], lease_ms: int) -> None:
        self._orders = {"url": url, "app": app, "workers": list(workers), "lease_ms": lease_ms, "owner": owner()}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            start_new_session=True,
        )
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        self._process.stdin.write(json.dumps(self._orders).encode() + b"\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """End it, and take its exit code. Repeatable."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()  # somebody has stopped it
                process.wait()


def beat(orders: dict[str, Any]) -> None:
    """Renew until the pipe ends or the leases are lost: a thread a shard, so that none waits for one that is away."""
    threads = [
        threading.Thread(target=_renew, args=(orders, shard, name), daemon=True)
        for shard, name in enumerate(orders["workers"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _renew(orders: dict[str, Any], shard: int, worker: str) -> None:
    lease_ms, alive = int(orders["lease_ms"]), str(orders["owner"])
    pid = int(alive.partition(":")[0])
    interval_s = lease_ms / 1000 / HEARTBEATS_PER_LEASE
    timeout_s = max(0.5, interval_s)
    store = Store(str(orders["app"]), str(orders["url"]), shard=shard, timeout_s=timeout_s, deadline_s=interval_s)
    while not select.select([sys.stdin], [], [], interval_s)[0]:
        if not is_owner_alive(alive):
            return  # a process that a step forked may hold the pipe open
        if is_stopped(pid):
            continue
        try:
            if not store.heartbeat(worker, lease_ms):
                return
        except StoreError:
            continue  # the worker's own heartbeat says so in its log


def main() -> None:
    """Read the orders, and beat."""
    beat(json.loads(sys.stdin.readline()))


if __name__ == "__main__":
    main()
