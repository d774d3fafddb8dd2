"""Decisions as pure functions: back-off, batch sizes, and the constants of the three budgets."""

from __future__ import annotations

HEARTBEATS_PER_LEASE = 3
DEATHS = 3


def backoff_ms(attempt: int, base_ms: int, cap_ms: int, random: float) -> int:
    """Exponential with full jitter: uniform in [0, min(cap, base * 2^(attempt - 1))]; `random` is in [0, 1)."""
    return int(random * min(cap_ms, base_ms * 2 ** min(max(0, attempt - 1), 62)))


def next_batch(size: int, took_ms: float, target_ms: float = 5.0, low: int = 1, high: int = 256) -> int:
    """Double while a batch takes less than the target, halve otherwise; bounded by [low, high]."""
    wanted = size * 2 if took_ms < target_ms else size // 2
    return max(low, min(high, wanted))
