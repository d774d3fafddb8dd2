"""Failover to a replica whose link was cut before: what each level of durability loses of what it acknowledged.

One trial: a primary and a replica behind a proxy, three producers (plain memory, memory with the redo window,
replicated). The link is cut for a while, the primary is killed, the replica takes over. The producers live on.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from blazing_nb import Blazing, Worker, current
from blazing_nb.client.proxy import Proxy
from blazing_nb.errors import StoreError
from tests.condition import until
from tests.deployment import HOST, Deployment, ask, free_ports

PACE_S = 0.002
MODES: dict[str, dict[str, Any]] = {
    "memory": {"redo": False},
    "memory with redo": {},
    "replicated": {"durability": "replicated", "redo": False},
}


class Loss(NamedTuple):
    """Of one trial and mode: what was acknowledged, how much of that is gone, for how long before the end."""

    acknowledged: int
    lost: int
    window_s: float
    reported: int


def passed(x: int) -> int:
    return x


class Producer:
    """Enqueues one operation after the other; remembers what was acknowledged, and when."""

    def __init__(self, mode: str, url: str) -> None:
        self.app = Blazing(mode.replace(" ", "-"), url=url, **MODES[mode]).connect()
        self.step = self.app.step(passed)
        self.acknowledged: list[tuple[str, float]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.step.enqueue(0)
        self.app.store.durability._timeout_s = 0.25
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(PACE_S):
            try:
                operation = self.step.enqueue(len(self.acknowledged))
            except StoreError:
                continue
            self.acknowledged.append((operation.id, time.monotonic()))

    def loss(self, killed_s: float) -> Loss:
        """Ends the producer."""
        self._stopped.set()
        self._thread.join(60)
        ids = [name for name, _ in self.acknowledged]
        gone = [at for (_, at), status in zip(self.acknowledged, self.app.statuses(ids), strict=True) if status is None]
        window = killed_s - min(gone) if gone else 0.0
        reported = sum(rollback.beyond for rollback in self.app.redo.rollbacks)
        self.app.close()
        return Loss(len(ids), len(gone), window, reported)


@contextmanager
def site() -> Iterator[tuple[Deployment, int, int, Proxy, Proxy]]:
    """A primary, its replica, the proxy of their link, the proxy that clients use."""
    servers = Deployment()
    try:
        primary, replica = free_ports(2)
        servers.launch(primary, "--appendonly", "no", "--repl-diskless-sync-delay", 0)
        with Proxy(f"redis://{HOST}:{primary}") as link, Proxy(f"redis://{HOST}:{primary}") as front:
            servers.launch(replica, "--replicaof", f"{HOST} {link.port}", "--appendonly", "no")
            until(lambda: b"state=online" in ask(primary, "INFO", "replication"))
            yield servers, primary, replica, link, front
    finally:
        servers.close()


def trial(cut_s: float, before_s: float = 0.3, *, split_s: float = 0.0) -> dict[str, Loss]:
    """One failover, `cut_s` after the link was cut. `split_s`: the old primary lives, and the producers still write to
    it for as long after the replica has taken over."""
    with site() as (servers, primary, replica, link, front):
        producers = {mode: Producer(mode, front.url) for mode in MODES}
        time.sleep(before_s)
        link.partition()
        time.sleep(cut_s)
        if not split_s:
            servers.kill(primary)
        ask(replica, "REPLICAOF", "NO", "ONE")
        time.sleep(split_s)
        killed_s = time.monotonic()
        front._parts = urlsplit(f"redis://{HOST}:{replica}")
        front.cut()
        for mode in ("memory", "memory with redo"):
            one = producers[mode]
            until(lambda one=one: one.acknowledged and one.acknowledged[-1][1] > killed_s + 0.5)  # type: ignore[misc]
        return {mode: one.loss(killed_s) for mode, one in producers.items()}


EXECUTED: collections.Counter[str] = collections.Counter()
"""How often each operation was executed, in the workers of this process."""


def counted(x: int) -> int:
    EXECUTED[current().operation] += 1
    return x


class Again(NamedTuple):
    """Of one failover under workers: how many operations had finished, and how many of these were executed again."""

    finished: int
    executed_again: int


def again(*, redo: bool, count: int = 200, workers: int = 2) -> Again:
    """Half of the operations are on the replica before its link is cut, half are enqueued after; all are executed, and
    then the primary is killed."""
    EXECUTED.clear()
    with site() as (servers, primary, replica, link, front), contextlib.ExitStack() as stack:
        app = stack.enter_context(Blazing(f"again-{redo}".lower(), url=front.url, node_id="n1"))
        step = app.step(counted)
        batches = [step.map(range(count))]
        until(lambda: app.store.connection().call("WAIT", 1, 1000) == 1)
        link.partition()
        crew = [Worker(app.app_id, url=front.url, threads=2, redo=redo).start() for _ in range(workers)]
        for worker in crew:
            stack.callback(worker.close)
        batches.append(step.map(range(count)))
        for batch in batches:
            assert batch.results(60) == list(range(count))
        assert all(worker.wait_for_completion(30) for worker in crew)  # they have heard so, too
        servers.kill(primary)
        ask(replica, "REPLICAOF", "NO", "ONE")
        front._parts = urlsplit(f"redis://{HOST}:{replica}")
        front.cut()
        ids = [op.text for batch in batches for op in batch.ids()]
        until(lambda: all(str(status) == "SUCCEEDED" for status in app.statuses(ids)), 60)
        assert all(EXECUTED[id_] for id_ in ids)
        return Again(len(ids), sum(EXECUTED[id_] > 1 for id_ in ids))


def summary(trials: list[dict[str, Loss]]) -> dict[str, Any]:
    found: dict[str, Any] = {"trials": len(trials)}
    for mode in MODES:
        rows = [losses[mode] for losses in trials]
        found[mode] = {
            "acknowledged": sum(row.acknowledged for row in rows),
            "lost": sum(row.lost for row in rows),
            "reported lost": sum(row.reported for row in rows),
            "trials with loss": sum(row.lost > 0 for row in rows),
            "longest window s": round(max(row.window_s for row in rows), 3),
        }
    return found


def executed_again(trials: int) -> dict[str, Any]:
    found: dict[str, Any] = {"trials": trials}
    for name, redo in (("without", False), ("with", True)):
        rows = [again(redo=redo) for _ in range(trials)]
        found[name] = {"finished": sum(r.finished for r in rows), "executed again": sum(r.executed_again for r in rows)}
    return found


def is_good(found: dict[str, Any]) -> bool:
    """Nothing that was promised is lost, and what was not promised is said."""
    plain = found["memory"]
    said = plain["reported lost"] >= plain["lost"]
    return said and not found["memory with redo"]["lost"] and not found["replicated"]["lost"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--longest", type=float, default=5.0, help="seconds that the link is cut before, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--again", action="store_true", help="what is executed again, with the workers' window and without"
    )
    args = parser.parse_args()
    if args.again:
        from tests.fault import failover  # its steps are imported by name, where this program's would be copied

        print(json.dumps(failover.executed_again(args.trials)))
        return 0
    draw, trials = random.Random(args.seed), []
    for number in range(args.trials):
        trials.append(trial(draw.uniform(0, args.longest)))
        if not args.json:
            print(number + 1, trials[-1], flush=True)
    found = summary(trials)
    print(json.dumps(found) if args.json else found)
    return 0 if is_good(found) else 1


if __name__ == "__main__":
    os.environ.setdefault("BLAZING_HOME", f"/tmp/bz-failover-{os.getpid()}")
    sys.exit(main())
