"""What is executed, importable by workers."""

from __future__ import annotations

import time


def add(x: int, y: int) -> int:
    """Plain integers in, a plain integer out."""
    return x + y


def nap(seconds: float) -> None:
    """Wait, as for a reply from elsewhere."""
    time.sleep(seconds)


def fail(x: int) -> None:
    raise ValueError(x)
