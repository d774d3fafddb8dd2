"""Scaling out: the same load on an app of one shard in a cluster of one primary, and of three shards on three.

python -m benchmarks.scaling_out --ops 30000 --repeat 3 --json

As many nodes map a share each in both cases, and as many workers serve them; each shard is on a primary of its own.
`redis_us_per_op` is the CPU (user and system) of all primaries during `map`, per operation. On a machine of few cores
the processes share them, so the rate says little, and the cost of an operation is the figure.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import time
from pathlib import Path

from benchmarks.server import server, worker
from benchmarks.throughput import add
from benchmarks.workers import children
from blazing_nb import Blazing, __version__, gather
from blazing_nb.core.shard import shard_of
from blazing_nb.store.key import Keys
from blazing_nb.store.process import memory_bytes
from blazing_nb.store.reply import parse_info
from tests.deployment import Cluster, ask

Figures = dict[str, float]
SHARDS = 20
IDLE_S = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", type=int, default=30_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=6)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    runs: dict[int, list[Figures]] = {1: [], 3: []}
    for _ in range(args.repeat):
        for primaries, found in runs.items():
            found.append(_run(primaries, args))
    report: dict[str, object] = {}
    for primaries, found in runs.items():
        for name in found[0]:
            report[f"{name}_{primaries}"] = round(statistics.median(run[name] for run in found), 3)
    one, three = (statistics.median(run["redis_us_per_op"] for run in found) for found in runs.values())
    report |= {"redis_us_3_to_1": round(three / one, 3), **_idle(SHARDS)}
    report |= {
        "ops": args.ops,
        "workers": args.workers,
        "nodes": args.nodes,
        "repeat": args.repeat,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "version": __version__,
        "date": datetime.date.today().isoformat(),
    }
    print(json.dumps(report) if args.json else "\n".join(f"{name:20} {value}" for name, value in report.items()))
    return 0


def _run(primaries: int, args: argparse.Namespace) -> Figures:
    with contextlib.ExitStack() as stack:
        cluster = Cluster(primaries=primaries, replicas=False)
        stack.callback(cluster.close)
        os.environ["BLAZING_HOME"] = str(cluster.folder / "home")
        app_id = _spread(cluster, primaries)
        app = stack.enter_context(Blazing(app_id, url=cluster.url, shards=primaries))
        step = app.step(add)
        step.code()
        for _ in range(args.workers):
            stack.enter_context(worker(app_id, cluster.url))
        return _map(cluster, app, args)


def _idle(shards: int) -> Figures:
    """What a worker costs that has nothing to do, for each of its shards and each second."""
    with server(aof=False) as (url, _), Blazing("idle", url=url, shards=shards) as app, worker("idle", url) as pid:
        app.step(add).enqueue(1, 2).result(timeout=30)
        call = app.store.connection().call
        ours = len(call("CLIENT", "LIST").splitlines())
        app.listener.close()
        time.sleep(2.0)
        server_us, worker_us = _server_us(call("INFO", "cpu")), _process_us(pid)
        time.sleep(IDLE_S)
        server_us, worker_us = _server_us(call("INFO", "cpu")) - server_us, _process_us(pid) - worker_us
        return {
            "idle_shards": shards,
            "idle_redis_us_per_shard_s": round(server_us / shards / IDLE_S, 1),
            "idle_worker_us_per_shard_s": round(worker_us / shards / IDLE_S, 1),
            "connections_per_shard": round(ours / shards, 1),
            "worker_rss_mb": round(memory_bytes(pid) / 2**20, 1),
        }


def _server_us(text: bytes) -> float:
    facts = parse_info(text)
    return (float(facts["used_cpu_sys"]) + float(facts["used_cpu_user"])) * 1e6


def _process_us(pid: int) -> float:
    """Of the worker and the process that renews its leases."""
    fields = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in (pid, *children(pid))]
    return sum(int(found[11]) + int(found[12]) for found in fields) * 1e6 / os.sysconf("SC_CLK_TCK")


def _spread(cluster: Cluster, shards: int) -> str:
    """A name whose shards are on as many primaries."""
    for i in range(1000):
        name = f"scaling{i}"
        slots = [int(ask(cluster.servers[0], "CLUSTER", "KEYSLOT", Keys(name, s).meta)) for s in range(shards)]
        if len({cluster.owner(slot) for slot in slots}) == shards:
            return name
    raise RuntimeError("no name was found whose shards are apart")


def _map(cluster: Cluster, app: Blazing, args: argparse.Namespace) -> Figures:
    share = args.ops // args.nodes
    calls, expected = [(i, 1) for i in range(share)], [[i + 1 for i in range(share)]] * args.nodes
    step, nodes = app.steps["add"], _nodes(args.nodes, app.store.count)
    # Once before, so that all is loaded and connected.
    gather(*(step.starmap(calls[:100], node_id=node) for node in nodes)).results(timeout=60)
    before, began = _cpu_us(cluster), time.perf_counter()
    batches = [step.starmap(calls, node_id=node) for node in nodes]
    assert gather(*batches).results(timeout=300) == expected
    took = time.perf_counter() - began
    count = share * args.nodes
    return {"map_per_s": count / took, "redis_us_per_op": (_cpu_us(cluster) - before) / count}


def _nodes(count: int, shards: int) -> list[str]:
    """Names that spread evenly over the shards."""
    found: list[str] = []
    for number in range(count):
        found.append(
            next(
                name
                for i in range(10_000)
                if (name := f"node-{i}") not in found and shard_of(name, shards) == number % shards
            )
        )
    return found


def _cpu_us(cluster: Cluster) -> float:
    return sum(_server_us(ask(port, "INFO", "cpu")) for port in cluster.servers)


if __name__ == "__main__":
    raise SystemExit(main())
