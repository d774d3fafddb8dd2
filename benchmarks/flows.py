"""What a stage, a workflow's step, and a recovery cost, each against plain operations in the same run.

python -m benchmarks.flows --items 2000 --json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.server import server, worker
from blazing_nb import Blazing, Operation, __version__, gather

Figures = dict[str, float]
STAGES, STEPS, ROUND_TRIPS, LEASE_S, NAP_S = 3, 10, 60, 1.0, 2.0


def same(x: int) -> int:
    """The payload of every stage and step."""
    return x


def nap(seconds: float) -> None:
    time.sleep(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    runs = [_run(args.items) for _ in range(args.repeat)]
    figures: dict[str, Any] = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
    figures |= {
        "items": args.items,
        "repeat": args.repeat,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "version": __version__,
    }
    print(json.dumps(figures) if args.json else "\n".join(f"{key:28} {value}" for key, value in figures.items()))
    return 0


def _run(items: int) -> Figures:
    with server(aof=False) as (url, _), Blazing("bench", url=url, node_id="node-0") as app:
        app.step(same)
        with worker("bench", url):
            figures = _throughput(app, items) | _latency(app)
        return figures | _recovery(app, url)


def _throughput(app: Blazing, items: int) -> Figures:
    """Microseconds an operation: plain ones, stages of a flow, steps of workflows; the first run of each warms up."""
    step = app["same"]
    flow = step >> step >> step
    walk = _workflow(app)
    few = items // STEPS
    plain = _best(items * STAGES, lambda: step.map(range(items * STAGES)).results(120))
    stage = _best(items * STAGES, lambda: flow.map(range(items)).results(120))
    walked = _best(few * STEPS, lambda: walk.starmap([(x, STEPS) for x in range(few)]).results(120))
    return {
        "plain_us": plain,
        "stage_us": stage,
        "stage_to_plain": stage / plain,
        "workflow_step_us": walked,
        "workflow_step_to_plain": walked / plain,
    }


def _latency(app: Blazing) -> Figures:
    """Milliseconds of a round trip with nothing else to do: one operation, and what each stage or step adds."""
    step = app["same"]
    flow, walk = step >> step >> step, app["walk"]
    one = _median(lambda: step.enqueue(1).result(30))
    staged = _median(lambda: flow.enqueue(1).result(30))
    walked = _median(lambda: walk.enqueue(1, STEPS).result(30))
    return {
        "plain_p50_ms": one,
        "each_stage_ms": (staged - one) / (STAGES - 1),
        "each_workflow_step_ms": walked / STEPS,
        "workflow_step_to_plain_p50": walked / STEPS / one,
        "chain_100_ms": _median(lambda: walk.enqueue(1, 100).result(60), 3),
        "gather_1000_ms": _median(lambda: app["spread"].enqueue(1000).result(60), 5),
    }


def _recovery(app: Blazing, url: str) -> Figures:
    """From `kill -9` of a worker under a workflow, in the middle of a step, to its next step elsewhere; lease 1 s."""
    walk, pause = app["walk"], app.step(nap)

    async def sleepy() -> None:
        await pause(NAP_S)

    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(worker("bench", url, "--lease", str(LEASE_S)))
        assert walk.enqueue(1, 1).result(30) == 1
        operation: Operation = app.workflow(sleepy).enqueue()
        while not (busy := [found.pid for found in app.snapshot().workers if found.running]):
            time.sleep(0.002)
        os.kill(busy[0], signal.SIGKILL)
        began = time.perf_counter()
        operation.result(60)
        return {"recovery_s": time.perf_counter() - began - NAP_S, "recovery_lease_s": LEASE_S}


def _workflow(app: Blazing) -> Any:
    step = app["same"]

    async def walk(x: int, steps: int) -> int:
        for _ in range(steps):
            x = await step(x)
        return x

    async def spread(n: int) -> int:
        return len(await gather(*(step(x) for x in range(n))))

    app.workflow(spread)
    return app.workflow(walk)


def _best(operations: int, once: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        once()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:]) / operations * 1e6


def _median(once: Callable[[], object], trips: int = ROUND_TRIPS) -> float:
    times = []
    for _ in range(trips):
        began = time.perf_counter()
        once()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
