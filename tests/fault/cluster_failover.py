"""How long a cluster's fail-over stops an app: kill the primary of its slot, and wait until an operation is done again.

    python -m tests.fault.cluster_failover --trials 50 --node-timeout 2 --json

Each trial kills (or stops, every other one) the primary that has the app's slot, while a worker process executes; the
figure is from the kill to the result of an operation that was enqueued after it. All results are asked for in the end.
What was acknowledged is on the replica before the kill (WAIT), since a fail-over may take what is not. `cluster_s` is
when all other nodes agreed on who has the slot now, and `ours_s` what was needed beyond that. Two trials are apart:
a node that was elected does not stand again for four node timeouts, and the same two take turns here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from typing import Any, NamedTuple

from benchmarks.server import worker
from blazing_nb import Blazing
from blazing_nb.core.shard import shard_of
from blazing_nb.store.shards import open_store
from tests.condition import until
from tests.deployment import Cluster, ask

ALLOWED_S = 3.0
REST = 3.0
"""Node timeouts between a promotion and the next trial."""
NODE = "n1"
HOWS = ("kill", "pause")


def same(x: int) -> int:
    return x


class Outage(NamedTuple):
    """How the primary went, the seconds without results, and until the cluster itself was well again."""

    how: str
    took_s: float
    cluster_s: float

    @property
    def ours_s(self) -> float:
        return max(0.0, self.took_s - self.cluster_s)


def trial(cluster: Cluster, app: Blazing, number: int, rest_s: float) -> Outage:
    step = app.step(same)
    before = step.map(range(500))
    shard = app.store.shards[shard_of(NODE, app.store.count)]
    slot = int(shard.connection().call("CLUSTER", "KEYSLOT", shard.keys.meta))
    port = cluster.owner(slot)
    until(lambda: shard.connection().call("WAIT", 1, 2000) == 1)
    how = HOWS[number % 2]
    getattr(cluster, how)(port)
    began = time.monotonic()
    agreed: list[float] = []
    watcher = threading.Thread(target=lambda: agreed.append(_agreed_s(cluster, slot, port)))
    watcher.start()
    assert step.enqueue(number).result(60) == number
    took = time.monotonic() - began
    assert before.results(60) == list(range(500))
    watcher.join()
    cluster.heal()
    time.sleep(max(0.0, agreed[0] + rest_s - time.monotonic()))
    return Outage(how, took, agreed[0] - began)


def _agreed_s(cluster: Cluster, slot: int, dead: int) -> float:
    """When every other node says that all is served, and who has the slot now."""
    others = [port for port in cluster.servers if port != dead]

    def agree() -> bool:
        if not all(b"cluster_state:ok" in ask(port, "CLUSTER", "INFO") for port in others):
            return False
        rows = [row for port in others for row in ask(port, "CLUSTER", "SLOTS") or []]
        return all(int(row[2][1]) != dead for row in rows if row[0] <= slot <= row[1])

    until(agree, 60)
    return time.monotonic()


def measure(trials: int, node_timeout_s: float, shards: int) -> dict[str, Any]:
    cluster = Cluster(node_timeout_s=node_timeout_s)
    os.environ["BLAZING_HOME"] = str(cluster.folder / "home")
    try:
        open_store("failover", cluster.url, shards=shards).close()
        with worker("failover", cluster.url), Blazing("failover", url=cluster.url, node_id=NODE) as app:
            rows = [trial(cluster, app, number, REST * node_timeout_s) for number in range(trials)]
    finally:
        cluster.close()
    allowed = node_timeout_s + ALLOWED_S
    return {
        "node_timeout_s": node_timeout_s,
        "shards": shards,
        "allowed_s": allowed,
        **_figures(rows, allowed),
        **{how: _figures([row for row in rows if row.how == how], allowed) for how in HOWS},
        "rows": [[row.how, round(row.took_s, 3), round(row.cluster_s, 3)] for row in rows],
    }


def _figures(rows: list[Outage], allowed: float) -> dict[str, Any]:
    found: dict[str, Any] = {"trials": len(rows), "within": sum(row.took_s <= allowed for row in rows)}
    for name in ("took_s", "cluster_s", "ours_s"):
        values = [getattr(row, name) for row in rows]
        found[name] = {"median": round(statistics.median(values), 3), "worst": round(max(values), 3)} if rows else {}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--node-timeout", type=float, default=2.0, help="seconds")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report = measure(args.trials, args.node_timeout, args.shards)
    print(json.dumps(report) if args.json else "\n".join(f"{name}: {value}" for name, value in report.items()))
    return int(report["within"] < report["trials"])


if __name__ == "__main__":
    sys.exit(main())
