"""Throughput, latency and footprint of one app through the public API.

python -m benchmarks.throughput --ops 20000 --workers 1 --nodes 1 --json
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from benchmarks.server import server, worker
from blazing_nb import Blazing, Step, __version__, gather

ONE_AT_A_TIME = 2000
ROUND_TRIPS = 1000
BARE_CHUNK = 1000
Figures = dict[str, float]


def add(x: int, y: int) -> int:
    """The payload: plain integers in, a plain integer out."""
    return x + y


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ops", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--aof", action="store_true", help="append-only file, fsync every second")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    runs = [_run(args) for _ in range(args.repeat)]
    figures: dict[str, Any] = {key: round(statistics.median(run[key] for run, _ in runs), 3) for key in runs[0][0]}
    figures |= {
        "workers": args.workers,
        "nodes": args.nodes,
        "ops": args.ops,
        "payload": "add(int, int) -> int",
        "aof": args.aof,
        "repeat": args.repeat,
        "server": runs[0][1],
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "version": __version__,
        "date": datetime.date.today().isoformat(),
    }
    print(json.dumps(figures) if args.json else "\n".join(f"{key:24} {value}" for key, value in figures.items()))
    return 0


def _run(args: argparse.Namespace) -> tuple[Figures, str]:
    with server(aof=args.aof) as (url, binary), Blazing("bench", url=url, node_id="node-0") as app:
        step = app.step(add)
        step.code()
        figures = _enqueue(app, step, args.ops)
        with contextlib.ExitStack() as stack:
            pids = [stack.enter_context(worker("bench", url)) for _ in range(args.workers)]
            figures |= _drain(app, args.ops)
            figures |= _map(app, step, args)
            figures |= _latency(step)
            figures["worker_rss_mb"] = statistics.median(map(_rss_mb, pids))
        figures |= _finished(app, step)
        figures["bare_per_s"] = _bare(url, args.ops)
        figures["map_to_bare"] = figures["map_per_s"] / figures["bare_per_s"]
        figures["bare_json_per_s"] = _bare_json(url, args.ops)
        figures["map_to_bare_json"] = figures["map_per_s"] / figures["bare_json_per_s"]
        figures["import_ms"] = _import_ms()
        return figures, f"{binary.brand} {binary.version}"


def _enqueue(app: Blazing, step: Step, ops: int) -> Figures:
    """Before any worker runs: one at a time, then in bulk; and the memory of what waits."""
    one = _rate(ONE_AT_A_TIME, lambda: [step.enqueue(i, 1) for i in range(ONE_AT_A_TIME)])
    before = _info(app)["used_memory"]
    calls = [(i, 1) for i in range(ops)]
    bulk = _rate(ops, lambda: step.starmap(calls))
    arguments = sum(len(step._sender.prepare(call, {})[1]) for call in calls)
    queued = (_info(app)["used_memory"] - before - arguments) / ops
    return {"enqueue_one_per_s": one, "enqueue_bulk_per_s": bulk, "bytes_queued_per_op": queued}


def _drain(app: Blazing, ops: int) -> Figures:
    """The workers have just become ready and find all of it: until the last commit, on the server's counters."""
    total = ops + ONE_AT_A_TIME
    first = app.snapshot()
    began = time.perf_counter()
    while (now := app.snapshot()).finished < total:
        time.sleep(0.005)
    return {"drain_per_s": max(1, now.finished - first.finished) / (time.perf_counter() - began)}


def _map(app: Blazing, step: Step, args: argparse.Namespace) -> Figures:
    """From `starmap` to all results collected and checked; every node maps its share."""
    share = args.ops // args.nodes
    calls = [(i, 1) for i in range(share)]
    expected = [[i + 1 for i in range(share)]] * args.nodes
    _reset(app)
    before = _info(app)

    def once() -> None:
        batches = [step.starmap(calls, node_id=f"node-{n}") for n in range(args.nodes)]
        assert gather(*batches).results(timeout=300) == expected

    rate = _rate(share * args.nodes, once)
    after = _info(app)
    cpu_us = sum(after[f"used_cpu_{k}"] - before[f"used_cpu_{k}"] for k in ("sys", "user")) * 1e6
    return {
        "map_per_s": rate,
        "redis_us_per_op": cpu_us / (share * args.nodes),
        "commands_per_op": (after["calls_from_clients"] - before["calls_from_clients"]) / (share * args.nodes),
    }


def _latency(step: Step) -> Figures:
    """An idle round trip: enqueue one, wait for its result."""
    times = []
    for i in range(ROUND_TRIPS):
        began = time.perf_counter()
        assert step.enqueue(i, 1).result(timeout=30) == i + 1
        times.append((time.perf_counter() - began) * 1000)
    cuts = statistics.quantiles(times[ROUND_TRIPS // 10 :], n=100)
    return {"p50_ms": cuts[49], "p95_ms": cuts[94], "p99_ms": cuts[98]}


def _finished(app: Blazing, step: Step) -> Figures:
    """The memory of what is finished, beyond the results: outcome chunks only, everything else is trimmed."""
    call = app.store.connection().call
    chunks = call("KEYS", f"{app.store.keys.prefix}out:*")
    beside = call("KEYS", f"{app.store.keys.prefix}whose:*")
    used = sum(call("MEMORY", "USAGE", key, "SAMPLES", 0) for key in (*chunks, *beside))
    slots = sum(call("HLEN", key) for key in chunks)
    # A small integer takes one to three bytes as msgpack; three are subtracted.
    return {"bytes_finished_per_op": used / slots - 3}


def _bare(url: str, ops: int) -> float:
    """The limit beside it: the same values through a bare list with redis-py, a thousand at a time, both ways, in one
    process."""
    client = redis.Redis.from_url(url)

    def once() -> None:
        for start in range(0, ops, BARE_CHUNK):
            values = [b"%d 1" % i for i in range(start, min(start + BARE_CHUNK, ops))]
            client.rpush("bare", *values)
            taken: Any = client.lpop("bare", BARE_CHUNK)
            results = [b"%d" % (int(value.split()[0]) + int(value.split()[1])) for value in taken]
            client.rpush("bare-results", *results)
            collected: Any = client.lpop("bare-results", BARE_CHUNK)
            assert len(collected) == len(values)

    rate = _rate(ops, once)
    client.close()
    return rate


def _bare_json(url: str, ops: int) -> float:
    """The same, as one would write it by hand: calls and results as JSON, the function called, the results compared."""
    client = redis.Redis.from_url(url)

    def once() -> None:
        for start in range(0, ops, BARE_CHUNK):
            calls = [(i, 1) for i in range(start, min(start + BARE_CHUNK, ops))]
            client.rpush("bare", *[json.dumps(call) for call in calls])
            taken: Any = client.lpop("bare", BARE_CHUNK)
            client.rpush("bare-results", *[json.dumps(add(*json.loads(call))) for call in taken])
            collected: Any = client.lpop("bare-results", BARE_CHUNK)
            assert [json.loads(result) for result in collected] == [x + y for x, y in calls]

    rate = _rate(ops, once)
    client.close()
    return rate


def _rate(ops: int, once: Callable[[], object]) -> float:
    began = time.perf_counter()
    once()
    return ops / (time.perf_counter() - began)


def _reset(app: Blazing) -> None:
    app.store.connection().call("CONFIG", "RESETSTAT")


def _info(app: Blazing) -> dict[str, float]:
    info = app.store.check()
    # Commands of scripts are counted too: only those that arrive on a connection are calls of clients.
    calls = sum(
        int(value.split(",")[0].removeprefix("calls="))
        for name, value in info.items()
        if name in {"cmdstat_evalsha", "cmdstat_eval", "cmdstat_xread", "cmdstat_blpop", "cmdstat_info"}
    )
    numbers = {key: float(info[key]) for key in ("used_memory", "used_cpu_sys", "used_cpu_user")}
    return {**numbers, "calls_from_clients": calls}


def _rss_mb(pid: int) -> float:
    done = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)  # noqa: S607
    return int(done.stdout) / 1024


def _import_ms() -> float:
    code = "import time; t = time.perf_counter(); import blazing_nb; blazing_nb.Blazing; print(time.perf_counter() - t)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    return float(done.stdout) * 1000


if __name__ == "__main__":
    sys.exit(main())
