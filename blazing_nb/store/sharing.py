"""Channels and shared values in the store: appended to, read from a position, merged. Knows bytes, like `store`.

Their keys are given whole, since an app may use those of another that lets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from blazing_nb.store import script
from blazing_nb.store.connection import Connection
from blazing_nb.store.key import Keys
from blazing_nb.store.store import Store

MESSAGES_A_CALL = 64
_pack = msgspec.msgpack.Encoder().encode


class Entry(NamedTuple):
    """A message as it is stored: its position, who wrote it where (bound by its signature), its sealed value."""

    position: str
    origin: str
    payload: bytes


def key_of(owner: str, rest: str) -> str:
    """A key of an app by its name without prefix."""
    return Keys(owner).prefix + rest


def publish(
    store: Store, key: str, writer: str, n: int, origin: str, payload: bytes, *, retention_ms: int, fallback_ms: int
) -> str:
    """Append once a (writer, n); the position."""
    request = {"writer": writer, "n": n, "origin": origin, "retention_ms": retention_ms, "fallback_ms": fallback_ms}
    answer: bytes = script.load("publish").run(store.connection(), key, _pack(request), payload)
    return answer.decode()


def entries(connection: Connection, key: str, after: str, block_ms: int = 0) -> list[Entry]:
    """What was appended after a position, in order; waits for it up to `block_ms`."""
    wait = ("BLOCK", block_ms) if block_ms else ()
    reply = connection.call("XREAD", "COUNT", MESSAGES_A_CALL, *wait, "STREAMS", key, after, block_s=block_ms / 1000)
    rows = reply[0][1] if reply else []
    return [Entry(position.decode(), fields[1].decode(), fields[3]) for position, fields in rows]


def newest(store: Store, key: str) -> str:
    """The position of the last message."""
    rows = store.connection().call("XREVRANGE", key, "+", "-", "COUNT", 1)
    return rows[0][0].decode() if rows else dropped(store, key)


def dropped(store: Store, key: str) -> str:
    """Up to which position messages were dropped, since they were older than the retention."""
    found = store.connection().call("HGET", key + ":w", "@dropped")
    return found.decode() if found else "0-0"


def merge(store: Store, key: str, kind: str, delta: Mapping[bytes, bytes]) -> int:
    """Join a delta into a value; how many fields changed."""
    flat = [part for pair in delta.items() for part in pair]
    return int(script.load("merge").run(store.connection(), key, kind, *flat))


def state(store: Store, key: str) -> dict[bytes, bytes]:
    """All fields of a value."""
    flat = store.connection().call("HGETALL", key)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def field(store: Store, key: str, name: bytes) -> dict[bytes, bytes]:
    """One field of a value, where it is there."""
    found = store.connection().call("HGET", key, name)
    return {} if found is None else {name: found}
