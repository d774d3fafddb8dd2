"""What a write has outlived before it counts as done: its level. Asks on the socket that the write went by.

`memory`: the script has replied. `fsync`: it is on the server's disk too. `replicated`: every replica has it too.
"""

from __future__ import annotations

import threading
import time

from blazing_nb.errors import OperationUncertain, ScriptRefused, StoreUnsuitable, UsageError
from blazing_nb.store.connection import Connection
from blazing_nb.store.reply import parse_info

MEMORY, FSYNC, REPLICATED = LEVELS = ("memory", "fsync", "replicated")
LOOK_S = 1.0


def check_level(level: object) -> str:
    """Raises `UsageError` where it is none."""
    if not isinstance(level, str) or level not in LEVELS:
        raise UsageError(f"durability is one of {', '.join(LEVELS)}, not {level!r}.")
    return level


class Durability:
    """Of one store, for all its threads.

    Args:
        mark: a key that a repeated write sets, so that there is something to wait for.
        timeout_s: how long a confirmation may take.
    """

    def __init__(self, mark: str, timeout_s: float) -> None:
        self.mark = mark
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._looked_s = {level: -LOOK_S for level in LEVELS}
        self._primary = ""
        self._replicas = 0
        self._always = False
        self._waitaof: bool | None = None

    def __repr__(self) -> str:
        return f"<Durability replicas={self._replicas} waitaof={self._waitaof}>"

    def prepare(self, connection: Connection, level: str) -> None:
        """Before a write: whether the server can give that level at all. Asks it once a second.

        Raises:
            StoreUnsuitable: it cannot; nothing was sent.
        """
        if level == MEMORY:
            return
        with self._lock:
            if time.monotonic() < self._looked_s[level] + LOOK_S:
                return
            try:
                (self._look_at_disk if level == FSYNC else self._look_at_replicas)(connection)
            except ScriptRefused as error:
                raise StoreUnsuitable(
                    f'Whether the server can give durability="{level}" cannot be found out: {error} Beside those it '
                    f"needs +command|info, and {'+waitaof or +config|get' if level == FSYNC else '+wait'}."
                ) from error
            self._looked_s[level] = time.monotonic()

    def confirm(self, connection: Connection, level: str, *, repeated: bool = False) -> None:
        """After a write, which may have been `repeated` on another socket than it first went by.

        Raises:
            OperationUncertain: it is stored, and not known to have reached that level. To repeat is safe.
        """
        if level == MEMORY or (level == FSYNC and self._always):
            return
        asked = 1 if level == FSYNC else self._replicas
        found = self._wait(connection, level, asked, repeated)
        if found is None or found < asked:
            kept = "the server's disk" if level == FSYNC else f"{asked} replicas, but {found or 0}"
            raise OperationUncertain(
                f"It is stored, and was not confirmed to be on {kept} within {self._timeout_s:g} s. app.settle() asks "
                "again; nothing is stored twice.",
                level=level,
                asked=asked,
                confirmed=found or 0,
            )

    def _wait(self, connection: Connection, level: str, asked: int, repeated: bool) -> int | None:
        """How many confirmed it; None where the socket is gone."""
        timeout_ms = round(self._timeout_s * 1000)
        try:
            if repeated and connection.confirm("SET", self.mark, "1") is None:
                return None
            if level == FSYNC:
                reply = connection.confirm("WAITAOF", 1, 0, timeout_ms, block_s=self._timeout_s)
                return None if reply is None else int(reply[0])
            reply = connection.confirm("WAIT", asked, timeout_ms, block_s=self._timeout_s)
            return None if reply is None else int(reply)
        except ScriptRefused as error:
            self._looked_s[level] = -LOOK_S  # another server, or another configuration: look again
            raise OperationUncertain(f"It is stored, but cannot be confirmed: {error}", level=level) from error

    def _look_at_disk(self, connection: Connection) -> None:
        if b"aof_enabled:1" not in connection.call("INFO", "persistence"):
            raise StoreUnsuitable(
                'The server keeps no append-only file, so durability="fsync" cannot be had: set appendonly yes.'
            )
        self._waitaof = connection.call("COMMAND", "INFO", "waitaof")[0] is not None
        if self._waitaof:
            return
        policy = connection.call("CONFIG", "GET", "appendfsync")[1].decode()
        self._always = policy == "always"
        if not self._always:
            raise StoreUnsuitable(
                f"This server has no WAITAOF (Redis 7.2 and Valkey have), and appendfsync is {policy}: "
                'durability="fsync" needs the one, or `CONFIG SET appendfsync always`.',
                policy=policy,
            )

    def _look_at_replicas(self, connection: Connection) -> None:
        """Of one primary the most that were seen count: one whose link is cut is missed, not forgotten."""
        info = parse_info(connection.call("INFO", "replication"))
        primary, online = info.get("master_replid", ""), int(info.get("connected_slaves", 0))
        if primary != self._primary:
            if not online and not self._primary:
                raise StoreUnsuitable('No replica is connected to the server: durability="replicated" needs one.')
            self._primary, self._replicas = primary, 1
        self._replicas = max(self._replicas, online)
