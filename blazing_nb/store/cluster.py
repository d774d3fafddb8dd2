"""The primaries of a cluster, by slot: `redis+cluster://host:port[,host:port]`. All keys of a shard are in one slot."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urlsplit

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from blazing_nb.errors import UsageError
from blazing_nb.store.address import Address
from blazing_nb.store.chance import CHANCE
from blazing_nb.store.route import ASK_S, DiscoveredRoute

PREFIX = "bz:{"
SILENT_S = 10.0


class ClusterRoute(DiscoveredRoute):
    """The primaries of a cluster, by slot."""

    def __init__(self, url: str, timeout_s: float, name: str) -> None:
        super().__init__(url, timeout_s, name)
        if urlsplit(url).path.strip("/") not in ("", "0"):
            raise UsageError("A cluster has database 0 only: leave it out of redis+cluster://host:port.")
        self._slots: dict[int, Address] = {}
        self._tags: dict[str, int] = {}
        self._silent: dict[Address, float] = {}
        """Who gave no answer about the topology: until when it is not asked again."""

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
        """From the first that answers and is of the majority. Who was silent lately is asked if all others are."""
        known = sorted({*self.valid(), *self.seeds}, key=lambda _: CHANCE.random())
        now = time.monotonic()
        silent = [address for address in known if self._silent.get(address, 0.0) > now]
        problem: Exception = RedisConnectionError("no node is known")
        for address in [one for one in known if one not in silent] + silent:
            if address in silent and isinstance(problem, ClusterDownError):
                break
            try:
                return self._ask(address)
            except ClusterDownError as error:
                problem = error
            except (RedisError, OSError) as error:
                self._silent[address] = now + SILENT_S
                problem = problem if isinstance(problem, ClusterDownError) else error
        raise problem

    def _ask(self, address: Address) -> dict[int, Address]:
        """By one raw connection for all nodes: each would be garbage, and a Ctrl-C is lost while Python collects it."""
        with self._asker_lock:
            raw = self._asker = self._asker or self.make(address)
            raw.host, raw.port = address
            raw.socket_timeout = raw.socket_connect_timeout = ASK_S
            try:
                return _slots(raw, address)
            finally:
                raw.disconnect()

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
