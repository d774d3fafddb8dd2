"""dask.distributed: a scheduler and one worker process, `Client.map` and `gather`. It needs no Redis."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from benchmarks.peer.harness import TIMEOUT_S, Many, One, main, processes

DISTRIBUTION = "distributed"
SETTINGS = {
    "1 process, 8 threads": (8, None),
    "1 process, 8 threads, sent 500 at a time": (8, 500),
    "1 process": (1, None),
}


def add(x: int, y: int) -> int:
    return x + y


@contextmanager
def running(label: str) -> Iterator[tuple[Many, One]]:
    threads, size = SETTINGS[label]
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "scheduler.json")
        scheduler = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
        worker = ["-m", "distributed.cli.dask_worker", "--host", "127.0.0.1", "--nthreads", str(threads), "--no-nanny"]
        rest = ["--no-dashboard", "--scheduler-file", file]
        with (
            processes([*scheduler, *rest], [*worker, *rest, "--local-directory", folder]),
            Client(scheduler_file=file, timeout=TIMEOUT_S) as client,
        ):
            yield (
                lambda calls: client.gather(client.map(add, *zip(*calls, strict=True), pure=False, batch_size=size)),
                lambda x, y: client.submit(add, x, y, pure=False).result(TIMEOUT_S),
            )


if __name__ == "__main__":
    main("dask")
