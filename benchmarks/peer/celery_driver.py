"""celery: the Redis broker and results backend, kombu's `Producer.batch` and `join_native`.

A batch sends one message for each task, in pipelines; `group(...).apply_async()` sends them one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from celery import Celery
from celery.result import ResultSet

from benchmarks.peer.harness import TIMEOUT_S, Many, One, main, processes, url

DISTRIBUTION = "celery"
SETTINGS = {
    "prefork, 2 processes": ["--pool=prefork", "--concurrency=2"],
    "2 threads": ["--pool=threads", "--concurrency=2"],
    "solo": ["--pool=solo"],
}
QUIET = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
ADDRESS = url().replace("unix://", "redis+socket://")
app = Celery("peer", broker=ADDRESS, backend=ADDRESS)
app.conf.update(worker_prefetch_multiplier=0, worker_disable_rate_limits=True)


@app.task(name="add")
def add(x: int, y: int) -> int:
    return x + y


@contextmanager
def running(label: str) -> Iterator[tuple[Many, One]]:
    with processes(["-W", "ignore", "-m", "celery", "-A", __name__, "--quiet", "worker", *SETTINGS[label], *QUIET]):
        yield _many, _one


def _many(calls: Sequence[tuple[int, int]]) -> list[int]:
    with app.producer_pool.acquire(block=True) as producer, producer.batch():
        results = ResultSet([add.apply_async(call, producer=producer) for call in calls])
    return results.join_native(timeout=TIMEOUT_S)


def _one(x: int, y: int) -> int:
    with app.producer_pool.acquire(block=True) as producer:
        return add.apply_async((x, y), producer=producer).get(timeout=TIMEOUT_S)


if __name__ == "__main__":
    main("celery")
