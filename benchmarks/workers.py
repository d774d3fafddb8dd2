"""How workers begin and end: start to ready, SIGTERM to exit, memory, drains, an idle worker beside a busy one.

python -m benchmarks.workers --json
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.server import server, worker
from benchmarks.work import nap, rest
from blazing_nb import Blazing
from blazing_nb.store.process import memory_bytes

Figures = dict[str, Any]
TRIALS = 5
GRACE_OPS = 100


def start(n: int = 4, trials: int = TRIALS) -> Figures:
    """Seconds from `start(n)` to ready, with and without a supervisor there; from SIGTERM to exit; memory of each."""
    first, again, stop, rss, pulse = [], [], [], [], []
    with server(aof=False) as (url, _), Blazing("bench", url=url) as app:
        app.step(nap).code()
        for _ in range(trials):
            first.append(seconds(lambda: app.workers.start(n)))
            for process in app.workers:
                rss.append(memory_bytes(process.pid) / 1e6)
                pulse += [memory_bytes(child) / 1e6 for child in children(process.pid)]
            app.workers.scale(1)
            until(lambda: len(app.workers) == 1)
            again.append(seconds(lambda: app.workers.start(n)))
            for process in list(app.workers)[1:]:
                stop.append(seconds(lambda pid=process.pid: end(pid)))  # type: ignore[misc]
            app.workers.stop()
    return {
        f"start_{n}_s": statistics.median(first),
        f"start_{n}_worst_s": max(first),
        f"start_{n - 1}_more_s": statistics.median(again),
        "sigterm_to_exit_s": statistics.median(stop),
        "sigterm_to_exit_worst_s": max(stop),
        "rss_mb": statistics.median(rss),
        "pulse_rss_mb": statistics.median(pulse),
    }


def lanes() -> Figures:
    """2 workers of 4 threads, 8 operations of 1 s: all done in about a second, after short operations too."""
    with server(aof=False) as (url, _), Blazing("bench", url=url) as app:
        step = app.step(nap)
        with worker("bench", url, "--threads", "4"):
            step.map([0.0] * 5000).results(60)
            with worker("bench", url, "--threads", "4"):
                after = seconds(lambda: step.map([1.0] * 8).results(60))
                again = seconds(lambda: step.map([1.0] * 8).results(60))
    return {"eight_of_1_s_after_short_s": after, "eight_of_1_s_s": again}


def grace(run_s: float = 5.0) -> Figures:
    """A worker with 100 operations of 5 s under way: with 10 s of grace none is executed again; with 1 s all are
    released within a second of its end, and claimed elsewhere within another."""
    long, _ = _drain(run_s, 2 * run_s)
    short, released = _drain(run_s, 1.0)
    return {"grace_long_executed_again": long, "grace_short_executed_again": short, **released}


def _drain(run_s: float, grace_s: float) -> tuple[int, Figures]:
    """How many of a terminated worker's operations were executed again, and when the released ones went on."""
    with server(aof=False) as (url, _), Blazing("bench", url=url) as app, tempfile.TemporaryDirectory() as folder:
        marker, step = Path(folder) / "ran", app.step(rest)
        with worker("bench", url, "--grace", str(grace_s)) as first:
            batch = step.starmap([(str(marker), run_s)] * GRACE_OPS)
            until(lambda: marker.exists() and len(marker.read_text().split()) == GRACE_OPS)
            with worker("bench", url):
                end_ms = app.snapshot().at_ms + grace_s * 1000
                os.kill(first, signal.SIGTERM)
                batch.results(60)
                again = len(marker.read_text().split()) - GRACE_OPS
                return again, _released(app, [batch[i].id for i in range(GRACE_OPS)], end_ms) if again else {}


def _released(app: Blazing, ids: list[str], end_ms: float) -> Figures:
    """Seconds from the end of the grace until the last release, and from the release to the claim elsewhere."""
    late, claimed = [], []
    for op in ids:
        rows = app.attach(op).history()  # type: ignore[union-attr]
        at = dict(zip(rows["event"], rows["at"].astype("int64") / 1e6, strict=True))
        late.append((at["released"] - end_ms) / 1000)
        claimed.append((at["claimed"] - at["released"]) / 1000)
    return {
        "grace_short_releases": len(late),
        "grace_short_last_release_s": max(late),
        "grace_short_claimed_elsewhere_s": max(claimed),
    }


def end(pid: int) -> None:
    """SIGTERM, until the process is gone; its supervisor reaps it."""
    os.kill(pid, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{pid}").exists() or memory_bytes(pid) == 0, 0.001)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(condition: Callable[[], Any], pause: float = 0.01, timeout: float = 60.0) -> None:
    limit = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < limit, condition
        time.sleep(pause)


def seconds(once: Callable[[], object]) -> float:
    began = time.perf_counter()
    once()
    return time.perf_counter() - began


SECTIONS: dict[str, Callable[[], Figures]] = {"start": start, "lanes": lanes, "grace": grace}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args()
    figures: Figures = {}
    for name in args.sections.split(","):
        figures |= SECTIONS[name]()
    print(json.dumps(figures) if args.json else "\n".join(f"{name:36} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
