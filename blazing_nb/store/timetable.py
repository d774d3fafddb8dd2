"""Schedules in the store: recorded, due, fired once a tick. Knows bytes and moments, like `store`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from blazing_nb.store.store import Store


class Due(NamedTuple):
    """A schedule, when it is due (server milliseconds), and its sealed record."""

    name: str
    due_ms: int
    record: bytes


class Row(NamedTuple):
    """A schedule as it is listed. `due_ms` None: paused, or never again; `last_ms`: the last tick fired."""

    name: str
    due_ms: int | None
    record: bytes
    fired: int
    last_ms: int | None


def schedule(
    store: Store,
    name: str,
    version: str,
    step: str,
    record: bytes,
    payload: bytes,
    *,
    due_ms: int,
    prio: str = "n",
    expires_ms: int = 0,
    now_ms: int | None = None,
) -> bool:
    """Record a schedule; False where it was so before."""
    request = {
        "name": name,
        "version": version,
        "step": step,
        "prio": prio,
        "due_ms": due_ms,
        "expires_ms": expires_ms,
    }
    return bool(store.run("schedule", request, record, payload, now_ms=now_ms))


def postpone(store: Store, name: str, due_ms: int, *, now_ms: int | None = None) -> bool:
    """Be due at that moment; 0: paused. False where there is none of that name."""
    return bool(store.run("postpone", {"name": name, "due_ms": due_ms}, now_ms=now_ms))


def remove(store: Store, name: str, *, now_ms: int | None = None) -> bool:
    """False where there is none of that name."""
    return bool(store.run("postpone", {"name": name, "due_ms": -1}, now_ms=now_ms))


def upcoming(store: Store, *, now_ms: int | None = None) -> tuple[int, list[Due]]:
    """The server's time, and what is due or will be within a second."""
    now, rows = store.run("upcoming", now_ms=now_ms)
    return now, [Due(name.decode(), due_ms, record) for name, due_ms, record in rows]


def tick(
    store: Store,
    name: str,
    version: str,
    due_ms: int,
    ticks: Sequence[int],
    next_ms: int,
    *,
    now_ms: int | None = None,
) -> int:
    """Fire ticks, unless somebody did; how many operations were enqueued."""
    request = {"name": name, "version": version, "due_ms": due_ms, "ticks": list(ticks), "next_ms": next_ms}
    return int(store.run("tick", request, now_ms=now_ms))


def rows(store: Store) -> list[Row]:
    """All schedules, those that are due first first."""
    found, call = [], store.connection().call
    flat = call("ZRANGE", f"{store.keys.prefix}schedules", 0, -1, "WITHSCORES")
    for name, score in zip(flat[::2], flat[1::2], strict=True):
        record, fired, last = call("HMGET", f"{store.keys.prefix}sched:{name.decode()}", "record", "fired", "last_ms")
        if record is not None:
            due_ms = None if score == b"inf" else int(float(score))
            found.append(Row(name.decode(), due_ms, record, int(fired or 0), int(last) if last else None))
    return found


def moment(store: Store) -> int:
    """The server's time."""
    seconds, micros = store.connection().call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000
