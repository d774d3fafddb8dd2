"""blazing_nb: `starmap` and `enqueue`. One worker process only, although the peers may have more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peer.harness import TIMEOUT_S, Many, One, main, url
from benchmarks.server import worker
from blazing_nb import Blazing

DISTRIBUTION = "blazing_nb"
SETTINGS = ("1 process",)


def add(x: int, y: int) -> int:
    return x + y


@contextmanager
def running(label: str) -> Iterator[tuple[Many, One]]:
    with Blazing("bench", url=url(), node_id="node-0") as app, worker("bench", url()):
        step = app.step(add)
        yield (
            lambda calls: step.starmap(calls).results(timeout=TIMEOUT_S),
            lambda x, y: step.enqueue(x, y).result(timeout=TIMEOUT_S),
        )


if __name__ == "__main__":
    main("ours")
