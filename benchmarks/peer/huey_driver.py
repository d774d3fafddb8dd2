"""huey: RedisHuey with results that notify, `map` and `ResultGroup.get`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huey import RedisHuey

from benchmarks.peer.harness import TIMEOUT_S, Many, One, main, processes, url

DISTRIBUTION = "huey"
SETTINGS = {
    "8 threads": ["-w", "8", "-k", "thread"],
    "4 processes": ["-w", "4", "-k", "process"],
}
app = RedisHuey("peer", url=url(), notify_result=True)


@app.task()
def add(x: int, y: int) -> int:
    return x + y


@contextmanager
def running(label: str) -> Iterator[tuple[Many, One]]:
    consumer = ["-m", "huey.bin.huey_consumer", f"{__name__}.app", *SETTINGS[label], "--quiet", "--no-periodic"]
    with processes(consumer):
        yield (
            lambda calls: add.map(calls).get(blocking=True, timeout=TIMEOUT_S),
            lambda x, y: add(x, y).get(blocking=True, timeout=TIMEOUT_S),
        )


if __name__ == "__main__":
    main("huey")
