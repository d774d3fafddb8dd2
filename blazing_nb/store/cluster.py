"""The primaries of a cluster, by slot: `redis+cluster://host:port[,host:port]`. All keys of a shard are in one slot."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urlsplit

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from blazing_nb.errors import UsageError
from blazing_nb.store.address import Address
from blazing_nb.store.route import ASK_S, DiscoveredRoute

PREFIX = "bz:{"


class ClusterRoute(DiscoveredRoute):
    """The primaries of a cluster, by slot."""

    def __init__(self, url: str, timeout_s: float, name: str) -> None:
        super().__init__(url, timeout_s, name)
        if urlsplit(url).path.strip("/") not in ("", "0"):
            raise UsageError("A cluster has database 0 only: leave it out of redis+cluster://host:port.")
        self._slots: dict[int, Address] = {}
        self._tags: dict[str, int] = {}

    def address(self, args: Sequence[object]) -> Address:
        if self._doubted:
            self._settle()
        key = next((arg for arg in args if type(arg) is str and arg.startswith(PREFIX)), self.home)
        found = self._slots.get(self._slot(key))
        if found is None:
            self._doubted = True
            raise ClusterDownError(f"no node says who has the slot of these keys: {self.problem}")
        return found

    def _slot(self, key: str) -> int:
        tag = key[: key.find("}") + 1]
        found = self._tags.get(tag)
        if found is None:
            found = self._tags[tag] = key_slot(key.encode())
        return found

    def moved(self, error: AskError, sender: Address) -> Address:
        there = (error.host or sender[0], error.port)
        with self._lock:
            if type(error) is not AskError:  # MOVED: for good
                self._slots[error.slot_id] = there
                self._doubted = True  # it is seldom alone
        return there

    def valid(self) -> Collection[Address]:
        return set(self._slots.values())

    def discover(self) -> dict[int, Address]:
        """From the first that answers and is of the majority."""
        known = sorted({*self.valid(), *self.seeds}, key=lambda _: random.random())  # noqa: S311
        problem: Exception = RedisConnectionError("no node is known")
        for address in known:
            raw = self.make(address)
            raw.socket_timeout = raw.socket_connect_timeout = ASK_S
            try:
                return _slots(raw, address)
            except (RedisError, OSError) as error:
                problem = error
            finally:
                raw.disconnect()
        raise problem

    def adopt(self, found: dict[int, Address]) -> None:
        self._slots = found


def _slots(raw: Any, address: Address) -> dict[int, Address]:
    raw.connect()
    raw.send_command("CLUSTER", "INFO")
    if b"cluster_state:ok" not in raw.read_response():
        raise ClusterDownError(f"{address[0]}:{address[1]} says that the cluster is down")
    raw.send_command("CLUSTER", "SLOTS")
    found: dict[int, Address] = {}
    for first, last, (host, port, *_), *_ in raw.read_response():
        there = (host.decode() if host else address[0], int(port))
        found |= dict.fromkeys(range(first, last + 1), there)
    return found
