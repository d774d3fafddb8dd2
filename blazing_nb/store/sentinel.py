"""The primary of a service, as Sentinels say: `redis+sentinel://host:port[,host:port]/service[/db]`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urlsplit

from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from blazing_nb.store.address import Address, service
from blazing_nb.store.chance import CHANCE
from blazing_nb.store.route import ASK_S, DiscoveredRoute

log = logging.getLogger(__name__)


class SentinelRoute(DiscoveredRoute):
    """The primary of a service, as Sentinels say."""

    def __init__(self, url: str, timeout_s: float, name: str) -> None:
        super().__init__(url, timeout_s, name)
        self._service = service(urlsplit(url))
        self._found: Address | None = None
        shared = self._options
        options: dict[str, Any] = {key: shared[key] for key in shared if key.startswith("ssl")}
        options |= {"ssl": True} if urlsplit(url).scheme.startswith("rediss") else {}
        for field in ("username", "password"):
            if f"sentinel_{field}" in shared:
                options[field] = shared.pop(f"sentinel_{field}")
        once = Retry(NoBackoff(), 0)
        options |= {"socket_timeout": ASK_S, "socket_connect_timeout": ASK_S, "retry": once, "protocol": 2}
        self._asking = options

    def address(self, args: Sequence[object]) -> Address:
        if self._doubted:
            self._settle()
        if self._found is None:
            raise RedisConnectionError(f"no Sentinel says who the primary of {self._service!r} is: {self.problem}")
        return self._found

    def verify(self, raw: Any) -> None:
        raw.send_command("INFO", "replication")
        if b"role:master" not in raw.read_response():
            raise ReadOnlyError(f"{raw.host}:{raw.port} is not the primary any more, or not yet")

    def valid(self) -> Collection[Address]:
        return () if self._found is None else (self._found,)

    def discover(self) -> Address:
        asked = Sentinel(CHANCE.sample(self.seeds, len(self.seeds)), sentinel_kwargs=self._asking)  # type: ignore[no-untyped-call]
        try:
            host, port = asked.discover_master(self._service)  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            named = ", ".join(f"{host}:{port}" for host, port in self.seeds)
            raise MasterNotFoundError(f"{named} do not answer, or watch none of that name that is up") from None
        finally:
            asked.close()
        return host, int(port)

    def adopt(self, found: Address) -> None:
        if self._found not in (None, found):
            log.warning("the primary of %s is %s:%d now", self._service, *found)
        self._found = found
