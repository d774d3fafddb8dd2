"""What the soak's operations do, importable by workers."""

from __future__ import annotations

import os
import random
import time


def total(values: list[int], first: int, path: str) -> tuple[int, int]:
    """Say that it was executed; of which members, and their sum."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()} is it\n")  # no number: those are what `work` was executed with
    return first, sum(values)


def work(x: int, journal: str, seconds: float) -> int:
    """Say that it was executed, take time, square; one in fifty fails at its first attempt."""
    from blazing_nb import current

    with open(f"{journal}/{os.getpid()}", "a") as file:
        file.write(f"{x}\n")
    time.sleep(seconds * 2 * random.random())
    if x % 50 == 7 and current().attempt == 1:
        raise ConnectionError(f"{x} fails once")
    return x * x
