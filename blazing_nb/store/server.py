"""The server that a store is on: whether it can keep the promises, and whether it has memory for more."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from blazing_nb.errors import StoreFull, StoreUnsuitable
from blazing_nb.store.connection import Connection
from blazing_nb.store.reply import parse_info

log = logging.getLogger(__name__)
ADMISSION_S = 1.0
ADMISSION_SHARE = 0.8


def check(connection: Connection, *, allow_eviction: bool = False) -> dict[str, str]:
    """What it says of itself. Raises `StoreUnsuitable` where it is older than 7.0 or evicts keys."""
    info = parse_info(connection.call("INFO", "everything"))
    version = info.get("redis_version", "0.0")
    if int(version.split(".")[0]) < 7:
        raise StoreUnsuitable(f"The server is Redis {version}; 7.0 or later is needed.", version=version)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and info.get("maxmemory", "0") != "0" and not allow_eviction:
        raise StoreUnsuitable(
            f"The server evicts keys (maxmemory-policy {policy}): operations would vanish silently. "
            "Set maxmemory-policy noeviction.",
            policy=policy,
        )
    if info.get("aof_enabled") == "0":
        log.info("the server keeps no append-only file: a restart of it loses what it has not saved")
    return info


def memory(connection: Connection) -> tuple[int, int]:
    """Bytes that it uses, and may use (0: no limit)."""
    info = parse_info(connection.call("INFO", "memory"))
    return int(info["used_memory"]), int(info.get("maxmemory", 0))


class Admission:
    """Refuses to enqueue while there is still memory for commits. Asks the server once a second, or once for each
    twentieth of its memory. The script itself is allowed beyond the limit: a repeated call must learn that it was
    stored."""

    def __init__(self, memory: Callable[[], tuple[int, int]]) -> None:
        self._memory = memory
        self._asked_s = -ADMISSION_S
        self.allowance = 0.0
        """Bytes until it asks again."""

    def admit(self, size: int) -> None:
        """Raises `StoreFull` where there is no room for that many bytes."""
        now = time.monotonic()
        self.allowance -= size
        if now < self._asked_s + ADMISSION_S and self.allowance > 0:
            return
        used, limit = self._memory()
        self.allowance = limit / 20 if limit else math.inf
        if limit and used > ADMISSION_SHARE * limit:
            raise StoreFull(
                f"The server uses {used:,} of {limit:,} bytes; beyond {ADMISSION_SHARE:.0%} nothing is enqueued, so "
                "that commits still pass. Wait until workers have drained it, shorten retentions, or raise maxmemory.",
                used=used,
                limit=limit,
            )
        self._asked_s = now
