"""rq: `SimpleWorker`, which does not fork for each job; `enqueue_many` and blocking results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis
from rq import Queue
from rq.job import Job

from benchmarks.peer.harness import TIMEOUT_S, Many, One, main, processes, url

DISTRIBUTION = "rq"
SETTINGS = {"1 SimpleWorker": 1, "2 SimpleWorkers": 2}
WORKER = ["-m", "rq.cli", "worker", "-w", "rq.worker.SimpleWorker", "-q", "--disable-job-desc-logging", "-u", url()]


def add(x: int, y: int) -> int:
    return x + y


@contextmanager
def running(label: str) -> Iterator[tuple[Many, One]]:
    with Redis.from_url(url()) as connection, processes(*[WORKER] * SETTINGS[label]):
        queue = Queue(connection=connection)
        yield (
            lambda calls: [_result(job) for job in queue.enqueue_many([Queue.prepare_data(add, c) for c in calls])],
            lambda x, y: _result(queue.enqueue(add, x, y)),
        )


def _result(job: Job) -> int:
    return job.latest_result(timeout=TIMEOUT_S).return_value


if __name__ == "__main__":
    main("rq")
