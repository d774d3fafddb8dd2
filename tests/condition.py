"""Waiting for what other threads and processes do: on a condition, with a generous bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(holds: Callable[[], Any], timeout: float = 30.0) -> Any:
    """Wait until it holds, and give what it said; fails after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not (said := holds()):
        assert time.monotonic() < end, f"not so within {timeout:g} s: {holds}, which says {said!r}"
        time.sleep(0.01)
    return said
