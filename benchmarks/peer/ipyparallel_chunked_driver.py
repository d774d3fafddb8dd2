"""ipyparallel with 100 calls a task: faster, and what is known of a call is what is known of its hundred."""

from __future__ import annotations

from benchmarks.peer import ipyparallel_driver
from benchmarks.peer.harness import main
from benchmarks.peer.ipyparallel_driver import DISTRIBUTION, running

SETTINGS = {"1 engine, 100 calls a task": 100}
ipyparallel_driver.SETTINGS = SETTINGS
__all__ = ("DISTRIBUTION", "SETTINGS", "running")

if __name__ == "__main__":
    main("ipyparallel_chunked")
