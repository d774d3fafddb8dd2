"""What views and listings ask: bounded reads, no scan of the key space. Knows bytes and numbers, like `store`."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from blazing_nb.core.codec import origin_of
from blazing_nb.core.dot import CHUNK, OperationId, Range
from blazing_nb.core.output import Piece
from blazing_nb.core.snapshot import Worker
from blazing_nb.store import script
from blazing_nb.store.reply import parse_worker
from blazing_nb.store.store import Store

CHUNKS_A_CALL = 32
ENTRIES_A_CALL = 500
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(strict=False).decode


class FinishedRow(NamedTuple):
    """A finished operation and its record."""

    op: OperationId
    record: bytes


class RollUp(NamedTuple):
    """The running totals of a step at the end of a second of the server's clock."""

    step: str
    second: int
    totals: dict[str, int]


def workers(store: Store) -> list[Worker]:
    """The registered workers. Cheaper than a snapshot: costs nothing for segments and steps."""
    call, prefix = store.connection().call, store.keys.prefix
    seconds, micros = call("TIME")
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    ends = call("ZRANGE", f"{prefix}workers", 0, -1, "WITHSCORES")
    rows = []
    for name, end_ms in zip(ends[::2], ends[1::2], strict=True):
        flat = call("HGETALL", f"{prefix}worker:{name.decode()}")
        rows.append(parse_worker([name.decode(), float(end_ms), [item.decode() for item in flat]], now_ms))
    return rows


def finished(store: Store, *, letters: str = "", step: str = "", since_ms: int = 0) -> Iterator[list[FinishedRow]]:
    """Finished operations in pages, the chunks with the newest commit first, from each shard by turns. `letters`: of
    the records, "" for all."""
    pages = [_finished_pages(shard, letters, step, since_ms) for shard in store.shards]
    while pages:
        for one in list(pages):
            page = next(one, None)
            if page is None:
                pages.remove(one)
            else:
                yield page


def _finished_pages(store: Store, letters: str, step: str, since_ms: int) -> Iterator[list[FinishedRow]]:
    seen: set[bytes] = set()
    bound: str = "+inf"
    while True:
        args = ("ZREVRANGEBYSCORE", f"{store.keys.prefix}chunks", bound, since_ms, "WITHSCORES")
        flat = store.connection().call(*args, "LIMIT", 0, CHUNKS_A_CALL * 2)
        titles = [title for title in flat[::2] if title not in seen][:CHUNKS_A_CALL]
        if not titles:
            return
        scores = dict(zip(flat[::2], flat[1::2], strict=True))
        bound = scores[titles[-1]].decode()
        seen = {title for title in (*seen, *titles) if scores.get(title) == scores[titles[-1]]}
        request = {"chunks": [title.decode() for title in titles], "letters": letters, "step": step}
        rows = script.load("outcomes").run(store.connection(), store.keys.meta, _pack(request))
        yield [_finished(row) for row in rows]


def _finished(row: Sequence[Any]) -> FinishedRow:
    place, title, counter, record = row
    step, _, prio = place.decode().partition(":")
    node, incarnation, chunk = title.decode().rsplit(":", 2)
    return FinishedRow(OperationId(step, prio, node, int(incarnation), int(chunk) * CHUNK + counter), record)


def live(store: Store, *, step: str = "", pending: bool) -> Iterator[list[OperationId]]:
    """Operations that are not final in pages: claimed and parked ones (`pending`), or those that wait."""
    for shard in store.shards:
        for name in shard.connection().call("ZRANGE", f"{shard.keys.prefix}segs", 0, -1):
            segment = name.decode()
            if not step or segment.partition(":")[0] == step:
                yield from (_pending if pending else _waiting)(shard, segment)


def _pending(store: Store, segment: str) -> Iterator[list[OperationId]]:
    key, start = f"{store.keys.prefix}seg:{segment}", "-"
    while rows := store.connection().call("XPENDING", key, "w", start, "+", ENTRIES_A_CALL):
        yield [OperationId.parse(f"{segment}:{row[0].decode()}") for row in rows]
        start = "(" + rows[-1][0].decode()


def _waiting(store: Store, segment: str) -> Iterator[list[OperationId]]:
    key = f"{store.keys.prefix}seg:{segment}"
    groups = store.connection().call("XINFO", "GROUPS", key)
    start = "(" + groups[0][groups[0].index(b"last-delivered-id") + 1].decode()
    while rows := store.connection().call("XRANGE", key, start, "+", "COUNT", ENTRIES_A_CALL):
        yield [OperationId.parse(f"{segment}:{row[0].decode()}") for row in rows]
        start = "(" + rows[-1][0].decode()


def failed(store: Store, step: str, limit: int) -> list[OperationId]:
    """Operations of a step that ended without success and were not retried, the newest first."""
    return [OperationId.parse(text) for text in _newest(store, f"failed:{step}", limit)]


def _newest(store: Store, key: str, limit: int) -> list[str]:
    """Members of a key that each shard has, those with the highest scores first."""
    rows: list[tuple[float, str]] = []
    for shard in store.shards:
        flat = shard.connection().call("ZREVRANGE", shard.keys.prefix + key, 0, limit - 1, "WITHSCORES")
        rows += [(-float(score), name.decode()) for name, score in zip(flat[::2], flat[1::2], strict=True)]
    if store.count > 1:
        rows = heapq.nsmallest(limit, rows)
    return [name for _, name in rows]


def worker_names(store: Store) -> dict[str, str]:
    """Incarnation of a worker -> its name."""
    found: dict[str, str] = {}
    for shard in store.shards:
        flat = shard.connection().call("HGETALL", f"{shard.keys.prefix}names")
        found |= {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
    return found


def is_registered(store: Store, worker_id: str) -> bool:
    """Whether a worker of that name is, or was a moment ago."""
    consumers = store.connection().call("ZRANGE", f"{store.keys.prefix}workers", 0, -1)
    return any(consumer.decode().rpartition(".")[0] == worker_id for consumer in consumers)


def entry_moment(store: Store, op: OperationId) -> int | None:
    """When a live operation was enqueued, in server milliseconds."""
    store = store.at(op.node)
    entries = store.connection().call("XRANGE", f"{store.keys.prefix}seg:{op.segment}", op.entry, op.entry)
    return int(entries[0][1][3]) if entries else None


def arguments(store: Store, op: OperationId) -> tuple[bytes, str] | None:
    """A call's envelope, and what its signature is bound to; None where they are not kept: it succeeded, or is gone."""
    store = store.at(op.node)
    connection = store.connection()
    entries = connection.call("XRANGE", f"{store.keys.prefix}seg:{op.segment}", op.entry, op.entry)
    if entries:
        return entries[0][1][1], origin_of(op.text, entries[0][1])
    payload, origin = connection.call("HMGET", f"{store.keys.prefix}live:{op.text}", "payload", "origin")
    return None if payload is None else (payload, origin.decode())


def output(store: Store, op: OperationId, after: str) -> tuple[str, list[Piece]]:
    """The next position, and what an operation printed and showed after the one given. A repeated call of the worker
    stores a piece twice, with the same number."""
    store = store.at(op.node)
    key = f"{store.keys.prefix}log:{op.text}"
    entries = store.connection().call("XRANGE", key, f"({after}" if after else "-", "+", "COUNT", ENTRIES_A_CALL)
    rows = [Piece(int(f[1]), int(f[3]), f[5].decode(), f[7].decode(errors="replace")) for _, f in entries]
    return (entries[-1][0].decode() if entries else after), rows


def roll_ups(store: Store, since_ms: int) -> list[RollUp]:
    """What `ts` recorded since a moment of the server's clock, in order."""
    return totalled([_roll_ups(shard, since_ms) for shard in store.shards])


def _roll_ups(store: Store, since_ms: int) -> list[RollUp]:
    rows = []
    for _, fields in store.connection().call("XRANGE", f"{store.keys.prefix}ts", since_ms, "+"):
        flat = _unpack(fields[5])
        totals = {flat[i]: int(flat[i + 1]) for i in range(0, len(flat), 2)}
        rows.append(RollUp(fields[1].decode(), int(fields[3]), totals))
    return rows


def totalled(parts: Sequence[list[RollUp]]) -> list[RollUp]:
    """Running totals of several shards as those of the app: at each moment the sum of what each said last, or, before
    it has said anything, first."""
    if len(parts) == 1:
        return parts[0]
    last: dict[tuple[str, int], dict[str, int]] = {}
    for number, part in enumerate(parts):
        for row in reversed(part):
            last[row.step, number] = row.totals
    found = []
    rows = [(row.second, number, row) for number, part in enumerate(parts) for row in part]
    for second, number, row in sorted(rows, key=lambda item: item[:2]):
        last[row.step, number] = row.totals
        sums: Counter[str] = Counter()
        for at in range(len(parts)):
            sums.update(last.get((row.step, at), {}))
        found.append(RollUp(row.step, second, dict(sums)))
    return found


def keep_blob(store: Store, digest: str, data: bytes, retention_ms: int) -> bool:
    """Store bytes under their hash once; a later call only lengthens their life. True where they were new."""
    key = store.keys.blob(digest)
    if store.connection().call("EXISTS", key):
        store.connection().call("PEXPIRE", key, retention_ms, "GT")
        if store.connection().call("EXISTS", key):
            return False
    store.connection().call("SET", key, data, "PX", retention_ms)
    return True


def records(store: Store, ranges: Iterable[Range]) -> Iterator[tuple[OperationId, bytes]]:
    """Each operation with its record, empty where it has none; a call for each chunk of outcomes."""
    for range_ in ranges:
        counter = range_.first
        while counter <= range_.last:
            end = min(range_.last, counter | (CHUNK - 1))
            slots = [number % CHUNK for number in range(counter, end + 1)]
            shard = store.at(range_.node)
            found = shard.connection().call("HMGET", shard.keys.out(range_.node, range_.incarnation, counter), *slots)
            for place, record in enumerate(found, counter - range_.first):
                yield range_.at(place), record or b""
            counter = end + 1


def firsts(store: Store, operation: str) -> dict[int, list[OperationId]]:
    """By group of an operation's join where fewer than all are needed: the first that were good, in order."""
    store = store.at(OperationId.parse(operation).node)
    flat = store.connection().call("HGETALL", f"{store.keys.prefix}join:{operation}")
    rows = {flat[i]: flat[i + 1] for i in range(0, len(flat), 2) if flat[i][:1] == b"k"}
    return {int(name[1:]): [OperationId.parse(text.decode()) for text in row.split()] for name, row in rows.items()}


def blob(store: Store, digest: str) -> bytes | None:
    """Bytes by their hash."""
    found: bytes | None = store.connection().call("GET", store.keys.blob(digest))
    return found


def paused(store: Store) -> list[str]:
    """Steps that nobody claims now."""
    return sorted(name.decode() for name in store.connection().call("SMEMBERS", f"{store.keys.prefix}paused"))


def limits(store: Store) -> dict[str, tuple[int, float]]:
    """Of steps that have one: how many may be claimed at once, and how many a second (0: any number)."""
    flat = [item.decode() for item in store.connection().call("HGETALL", f"{store.keys.prefix}limits")]
    found = {}
    for step, text in zip(flat[::2], flat[1::2], strict=True):
        cap, interval_ms, _ = text.split(";")
        found[step] = int(cap), 1000 / float(interval_ms) if float(interval_ms) else 0.0
    return found


def due(store: Store, steps: Iterable[str]) -> dict[str, int]:
    """How many parked operations of each step wait for nothing but a worker: delays, retries, rescues."""
    seconds, micros = store.connection().call("TIME")
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    call, parked = store.connection().call, f"{store.keys.prefix}parked:"
    return {step: int(call("ZCOUNT", f"{parked}{step}", "-inf", now_ms)) for step in steps}


def batches(store: Store, limit: int) -> list[str]:
    """Names of batches, those that were enqueued last first."""
    return _newest(store, "batches", limit)
