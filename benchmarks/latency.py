"""How much of its throughput `map` keeps where the store is far: a proxy adds milliseconds to every round trip.

    python -m benchmarks.latency --json

Client and worker both go through the proxy, which is a process of its own; ratios are to the same proxy adding nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.server import server, worker
from benchmarks.work import add
from blazing_nb import Blazing

DELAYS_MS = (0.0, 1.0, 50.0)
PINGS = 30
WARM = 2000


@contextmanager
def proxied(url: str, delay_ms: float) -> Iterator[str]:
    """The store's url through a proxy."""
    command = [sys.executable, "-m", "blazing_nb.client.proxy", "--server", url, "--delay", str(delay_ms / 1000)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate(timeout=20)


def once(delay_ms: float, ops: int) -> dict[str, float]:
    """One run on a fresh server: operations a second from `map` to all results compared."""
    with (
        server(aof=False) as (url, _),
        proxied(url, delay_ms) as far,
        worker("latency", far),
        Blazing("latency", url=far) as app,
    ):
        step = app.step(add)
        pings = []
        for _ in range(PINGS):
            began = time.perf_counter()
            app.store.connection().call("PING")
            pings.append((time.perf_counter() - began) * 1000)
        assert step.starmap((i, 1) for i in range(WARM)).results(120)[-1] == WARM
        calls = [(i, 1) for i in range(ops)]
        began = time.perf_counter()
        assert step.starmap(calls).results(300) == [i + 1 for i in range(ops)]
        rate = ops / (time.perf_counter() - began)
        began = time.perf_counter()
        assert step.enqueue(1, 1).result(60) == 2
        single = (time.perf_counter() - began) * 1000
        return {"map_per_s": rate, "ping_ms": statistics.median(pings), "one_ms": single}


def measure(ops: int, repeat: int) -> dict[str, object]:
    found: dict[str, object] = {"ops": ops, "repeat": repeat}
    first = 0.0
    for delay in DELAYS_MS:
        runs = [once(delay, ops) for _ in range(repeat)]
        median = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
        first = first or median["map_per_s"]
        found[f"added_{delay:g}_ms"] = {**median, "ratio": round(median["map_per_s"] / first, 3)}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ops", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.ops, args.repeat)
    print(json.dumps(found) if args.json else "\n".join(f"{key:16} {value}" for key, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
