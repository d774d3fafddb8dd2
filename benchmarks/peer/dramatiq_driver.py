"""dramatiq: RedisBroker and the Redis results backend, `group` and blocking results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.peer.harness import TIMEOUT_S, Many, One, main, processes, url

DISTRIBUTION = "dramatiq"
SETTINGS = {
    "1 process, 8 threads": {"processes": 1, "idle_ms": 1000},
    "2 processes, 8 threads": {"processes": 2, "idle_ms": 1000},
    "1 process, 8 threads, polling each ms": {"processes": 1, "idle_ms": 1},
}
PREFETCH = 1000
WAIT = {"block": True, "timeout": TIMEOUT_S * 1000}
broker = RedisBroker(url=url())
broker.add_middleware(Results(backend=RedisBackend(url=url())))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, broker=broker)
def add(x: int, y: int) -> int:
    return x + y


@contextmanager
def running(label: str) -> Iterator[tuple[Many, One]]:
    setting = SETTINGS[label]
    variables = {"dramatiq_queue_prefetch": str(PREFETCH), "dramatiq_worker_timeout": str(setting["idle_ms"])}
    command = ["-m", "dramatiq", __name__, "--processes", str(setting["processes"]), "--threads=8", "--skip-logging"]
    with processes(command, **variables):
        yield (
            lambda calls: list(dramatiq.group([add.message(*call) for call in calls]).run().get_results(**WAIT)),
            lambda x, y: add.send(x, y).get_result(**WAIT),
        )


if __name__ == "__main__":
    main("dramatiq")
