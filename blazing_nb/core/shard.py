"""Which shard of an app has what: pure. A node's is a hash of its name, a key's a hash of step and key; the segments of
the store itself (`@<shard>`) say theirs."""

from __future__ import annotations

from zlib import crc32

MOST = 1024


def shard_of(node: str, count: int) -> int:
    """The shard that has a node's segments and outcomes."""
    if node.startswith("@") and node[1:].isdigit():
        return int(node[1:]) % count
    return crc32(node.encode()) % count


def shard_of_key(step: str, key: str, count: int) -> int:
    """The shard that has the operation of an idempotency key."""
    return crc32(f"{step}|{key}".encode()) % count
