"""A server and workers of the benchmark's own, in a directory of its own; nothing is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blazing_nb.errors import StoreError
from blazing_nb.store.candidate import Binary, find_binary
from blazing_nb.store.connection import Connection
from blazing_nb.store.embedded import STREAM_NODE_ENTRIES


@contextmanager
def server(*, aof: bool) -> Iterator[tuple[str, Binary]]:
    """A running server: its url and its binary. Keys go to a state directory of its own too."""
    folder = Path(tempfile.mkdtemp(prefix="bzb-", dir="/tmp"))
    os.environ["BLAZING_HOME"] = str(folder / "home")
    binary, socket = find_binary(), folder / "s.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
    options += [
        "--stream-node-max-entries",
        str(STREAM_NODE_ENTRIES),
        "--appendonly",
        "yes" if aof else "no",
        "--appendfsync",
        "everysec",
    ]
    process = subprocess.Popen([str(binary), *options], stdout=subprocess.DEVNULL)
    try:
        url = f"unix://{socket}"
        _wait(url)
        yield url, binary
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder)


@contextmanager
def worker(app: str, url: str, *options: str) -> Iterator[int]:
    """A worker process that is ready: its process id."""
    command = [sys.executable, "-m", "blazing_nb", "worker", "--app", app, *options]
    environment = {**os.environ, "BLAZING_REDIS_URL": url}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith("ready"):
            raise RuntimeError(f"the worker said {line!r}")
        yield process.pid
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _wait(url: str) -> None:
    end = time.monotonic() + 20
    while True:
        connection = Connection(url, deadline_s=0.0)
        try:
            connection.call("PING")
            return
        except StoreError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        finally:
            connection.close()
