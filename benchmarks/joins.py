"""What a dependency costs beside a plain operation, and joins of many members beside a plain map, in the same run.

python -m benchmarks.joins --sizes 100,10000,100000 --json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.server import server, worker
from blazing_nb import Batch, Blazing, Operation, __version__
from blazing_nb.core.outcome import decode_outcome

Figures = dict[str, float]
ITEMS, ROUND_TRIPS = 5000, 200


def same(x: int) -> int:
    """The payload of every member."""
    return x


def count(parts: list[int]) -> int:
    return len(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="100,10000,100000")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    runs = [_run([int(size) for size in args.sizes.split(",")]) for _ in range(args.repeat)]
    figures: dict[str, Any] = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
    figures |= {
        "repeat": args.repeat,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "version": __version__,
    }
    print(json.dumps(figures) if args.json else "\n".join(f"{key:32} {value}" for key, value in figures.items()))
    return 0


def _run(sizes: list[int]) -> Figures:
    with server(aof=False) as (url, _), Blazing("bench", url=url, node_id="node-0") as app:
        app.step(same)
        app.step(count)
        with worker("bench", url):
            app["same"].map(range(ITEMS)).wait(60)
            figures = _dependency(app) | _latency(app)
            for size in sizes:
                figures |= _join(app, size)
        return figures


def _dependency(app: Blazing) -> Figures:
    """Microseconds an operation, of the client's clock and of the server's CPU: plain ones, and ones of which each
    waits for one of a batch; beyond what the batch itself takes."""
    step = app["same"]
    plain, plain_cpu = _timed(app, lambda: step.map(range(ITEMS)).results(60))
    both, both_cpu = _timed(app, lambda: step.map(step.map(range(ITEMS))).results(60))
    return {
        "plain_us": plain / ITEMS,
        "dependency_us": (both - plain) / ITEMS,
        "dependency_to_plain": (both - plain) / plain,
        "plain_redis_us": plain_cpu / ITEMS,
        "dependency_redis_us": (both_cpu - plain_cpu) / ITEMS,
    }


def _latency(app: Blazing) -> Figures:
    """Milliseconds of a round trip with nothing else to do: one operation, and one more that waits for it."""
    step = app["same"]
    one = _median(lambda: step.enqueue(1).result(30))
    two = _median(lambda: step.enqueue(step.enqueue(1)).result(30))
    return {"plain_p50_ms": one, "dependency_p50_ms": two - one}


def _join(app: Blazing, size: int) -> Figures:
    """From `map` to the merge's result, beside a plain map with its results; from the last member's end to the merge's
    claim, and to its start with all results read."""
    step, merge = app["same"], app["count"]
    plain = _seconds(lambda: step.map(range(size)).results(120))
    began = time.perf_counter()
    parts = step.map(range(size))
    sent = time.perf_counter()
    op = merge.enqueue(parts)
    enqueued = time.perf_counter()
    if op.result(120) != size:
        raise RuntimeError("the merge did not get all of its members")
    total = time.perf_counter() - began
    parts.wait(60)
    last = max(_end_ms(record) for record in _records(parts))
    outcome = decode_outcome(_records(op)[0])
    return {
        f"join_{size}_enqueue_ms": (enqueued - sent) * 1000,
        f"join_{size}_last_to_claim_ms": outcome.claimed_ms - last,
        f"join_{size}_last_to_start_ms": outcome.claimed_ms + outcome.queued_us / 1000 - last,
        f"join_{size}_s": total,
        f"join_{size}_to_plain_map": total / plain,
    }


def _records(handle: Batch | Operation) -> list[bytes]:
    return [record for record in handle._results.records if record]


def _end_ms(record: bytes) -> float:
    outcome = decode_outcome(record)
    return outcome.claimed_ms + (outcome.queued_us + outcome.run_us) / 1000


def _timed(app: Blazing, once: Callable[[], object]) -> tuple[float, float]:
    """The fastest of three: microseconds, and microseconds of the server's CPU."""
    rows = []
    for _ in range(3):
        before = _cpu_us(app)
        seconds = _seconds(once)
        rows.append((seconds * 1e6, _cpu_us(app) - before))
    return min(row[0] for row in rows), min(row[1] for row in rows)


def _cpu_us(app: Blazing) -> float:
    info = app.store.check()
    return (float(info["used_cpu_sys"]) + float(info["used_cpu_user"])) * 1e6


def _seconds(once: Callable[[], object]) -> float:
    began = time.perf_counter()
    once()
    return time.perf_counter() - began


def _median(once: Callable[[], object]) -> float:
    return statistics.median(_seconds(once) * 1000 for _ in range(ROUND_TRIPS))


if __name__ == "__main__":
    sys.exit(main())
