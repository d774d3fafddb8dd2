"""ipyparallel: a controller and one engine, a load-balanced view. It needs no Redis."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import ipyparallel

from benchmarks.peer.harness import TIMEOUT_S, Many, One, main

DISTRIBUTION = "ipyparallel"
SETTINGS = {"1 engine": 1}


def add(x: int, y: int) -> int:
    return x + y


@contextmanager
def running(label: str) -> Iterator[tuple[Many, One]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        ipyparallel.Cluster(n=1, ipython_dir=folder, log_level=logging.ERROR) as client,
    ):
        client.wait_for_engines(1, timeout=TIMEOUT_S, interactive=False)
        view = client.load_balanced_view()
        yield (
            lambda calls: view.map_sync(add, *zip(*calls, strict=True), chunksize=SETTINGS[label]),
            lambda x, y: view.apply_async(add, x, y).get(TIMEOUT_S),
        )


if __name__ == "__main__":
    main("ipyparallel")
