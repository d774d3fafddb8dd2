"""An older state of the app's database that came back under a running app: who found it said so in `meta`, and nothing
is enqueued or claimed until somebody decides: `adopt` or `discard`.

Found by whoever misses what every replica, or the disk, had confirmed (`store/window`): no failover takes that.
"""

from __future__ import annotations

import time

import msgspec

from blazing_nb.core.markup import line
from blazing_nb.core.text import one_line
from blazing_nb.errors import ScriptRefused, StoreUnsuitable
from blazing_nb.store.connection import Connection
from blazing_nb.store.store import Store

FIELD, COUNT = "restored", "generation"
ADOPTED = "an older state of its database was adopted"
PART = 1000


class Restored(msgspec.Struct, frozen=True):
    """That an older state of the app's database came back: when that was found (seconds since 1970), and how.

    Examples:
        >>> app.restored is None
        True
    """

    at: float
    why: str

    def __str__(self) -> str:
        at = time.strftime("%H:%M:%S", time.gmtime(self.at))
        return f"an older state of the database came back, found at {at} UTC: {self.why}"

    def __repr__(self) -> str:
        return f"<Restored {one_line(str(self))}>"

    def _repr_html_(self) -> str:
        return line(self)


def accuse(connection: Connection, meta: str, why: str) -> None:
    """Stop everybody until somebody decides. The first accuser's words stay."""
    connection.call("HSETNX", meta, FIELD, f"{time.time():.3f};{why}")


def restored(store: Store) -> Restored | None:
    """What was found, of any shard; None where all is well."""
    for shard in store.shards:
        found = shard.connection().call("HGET", shard.keys.meta, FIELD)
        if found is not None:
            at, _, why = found.decode().partition(";")
            return Restored(float(at), why)
    return None


def adopt(store: Store) -> bool:
    """Go on from what is there: what it holds runs, what came after it is gone but for what processes still keep, and
    send again. True where there was something to decide."""
    decided = False
    for shard in store.shards:
        call, meta = shard.connection().call, shard.keys.meta
        if call("HEXISTS", meta, FIELD):
            call("HINCRBY", meta, COUNT, 1)
            decided |= bool(call("HDEL", meta, FIELD))
    return decided


def discard(store: Store) -> int:
    """Delete everything that the app has in the shards that came back, and go on from nothing but what processes still
    keep, and send again; how many keys that was.

    Raises:
        StoreUnsuitable: this user may not; nothing was deleted.
    """
    return sum(_empty(shard) for shard in store.shards if shard.connection().call("HEXISTS", shard.keys.meta, FIELD))


def _empty(shard: Store) -> int:
    connection = shard.dedicated()
    pattern = "".join(f"\\{c}" if c in "*?[]\\^" else c for c in shard.keys.prefix) + "*"
    deleted: int = 0
    cursor = "0"
    try:
        while True:
            found, keys = connection.call("SCAN", cursor, "MATCH", pattern, "COUNT", PART)
            names = [key.decode() for key in keys if key.decode() != shard.keys.meta]
            deleted += connection.call("UNLINK", *names) if names else 0
            cursor = found.decode()
            if cursor == "0":
                break
        # Last, since it says that this is to be done.
        deleted += connection.call("UNLINK", shard.keys.meta)
        shard.restate()
    except ScriptRefused as error:
        raise StoreUnsuitable(f"To discard, the Redis user needs +scan and +unlink besides: {error}") from error
    finally:
        shard.discard(connection)
    return deleted
