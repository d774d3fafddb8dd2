"""What the drivers share. It runs in the peers' environment too: the standard library and redis only.

A driver is a module with `DISTRIBUTION`, `SETTINGS` (labels, each measured on an emptied server) and `running(label)`,
a context in which workers run and which gives `many(calls)` and `one(x, y)`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import redis

Many = Callable[[Sequence[tuple[int, int]]], list[int]]
One = Callable[[int, int], int]
TIMEOUT_S = 300
STOP_S = 30


def url() -> str:
    """The server's address. A driver is imported again once `main` knows it; before that nothing connects."""
    return os.environ.get("PEER_URL", "redis://")


def main(driver: str) -> None:
    """Measure every setting of a driver and print the best figures as one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--ops", type=int, required=True)
    parser.add_argument("--round-trips", type=int, default=300)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _leave)
    os.environ["PEER_URL"] = args.url
    module = importlib.import_module(f"benchmarks.peer.{driver}_driver")
    runs = {label: _measure(module, label, args) for label in module.SETTINGS}
    print(json.dumps(_best(runs) | {"version": importlib.metadata.version(module.DISTRIBUTION)}))


def _leave(*_: object) -> None:
    """A terminated driver still stops its workers, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


@contextmanager
def processes(*commands: Sequence[str], **variables: str) -> Iterator[None]:
    """Python processes, each a session of its own, that are gone at the end with all of their children."""
    environment = {**os.environ, **variables}
    with contextlib.ExitStack() as stack:
        for command in commands:
            process = subprocess.Popen(
                [sys.executable, *command], stdout=subprocess.DEVNULL, env=environment, start_new_session=True
            )
            stack.callback(_stop, process)
        yield


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _measure(module: ModuleType, label: str, args: argparse.Namespace) -> dict[str, float]:
    with redis.Redis.from_url(args.url) as client:
        client.flushall()
    with module.running(label) as (many, one):
        assert one(1, 1) == 2  # a worker is ready
        return {"map_per_s": _map(many, args.ops), **_latency(one, args.round_trips)}


def _map(many: Many, ops: int) -> float:
    """From the first enqueue to all results collected and compared."""
    calls = [(i, 1) for i in range(ops)]
    expected = [i + 1 for i in range(ops)]
    began = time.perf_counter()
    assert many(calls) == expected
    return ops / (time.perf_counter() - began)


def _latency(one: One, round_trips: int) -> dict[str, float]:
    """Idle round trips, the first tenth left out."""
    times = []
    for i in range(round_trips):
        began = time.perf_counter()
        assert one(i, 1) == i + 1
        times.append((time.perf_counter() - began) * 1000)
    cuts = statistics.quantiles(times[round_trips // 10 :], n=100)
    return {"p50_ms": cuts[49], "p99_ms": cuts[98]}


def _best(runs: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The throughput of the setting with the highest, the latencies of the one with the lowest median."""
    fast = max(runs, key=lambda label: runs[label]["map_per_s"])
    prompt = min(runs, key=lambda label: runs[label]["p50_ms"])
    settings = fast if fast == prompt else f"map: {fast}; round trips: {prompt}"
    return {**runs[prompt], "map_per_s": runs[fast]["map_per_s"], "settings": settings, "tried": runs}
