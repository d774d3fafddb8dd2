"""Which server has the data, for each kind of url. Knows the topology and makes raw connections; uses none for data.

`redis://`, `rediss://`, `unix://` name one server. `redis+sentinel://` names Sentinels, which say who the primary is;
`redis+cluster://` names nodes of a cluster, any of which says who has which slots. What others decide is asked at first
use, at every doubt, and once a second, so that nobody stays at a server that is no longer in charge.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Collection, Sequence
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AskError, NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from blazing_nb.errors import StoreUnsuitable
from blazing_nb.store.address import Address, hosts, plain

log = logging.getLogger(__name__)
HERE: Address = ("", 0)
RTO_MAX_MS, AGAIN_MS = 44, 1000
"""TCP_RTO_MAX_MS of Linux 6.15 and later: what is lost is sent again each second, not after 1, 2, 4, ... seconds, so
that the end of a partition is noticed within one."""
ASK_S = 0.5
"""For one answer about the topology: who does not give it is passed over."""
WATCH_S = 1.0
DOUBT_S = 0.05
TROUBLE_S, TROUBLED_WATCH_S = 30.0, 0.1
"""For so long after a doubt it is watched that closely: whoever waits is told at once that something has changed."""


@functools.cache
def _repeating() -> dict[int, int]:
    """Options of TCP sockets, as far as this kernel has them."""
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, RTO_MAX_MS, AGAIN_MS)
        except OSError:
            return {}
    return {RTO_MAX_MS: AGAIN_MS} if sys.platform == "linux" else {}


class User(Protocol):
    """Who has sockets to what a route named."""

    @property
    def used(self) -> Collection[Address]:
        """Where it has sockets."""

    def follow(self, valid: Collection[Address]) -> None:
        """Cut every socket to another address."""


class Route:
    """One server, always the same."""

    def __init__(self, url: str, timeout_s: float, name: str) -> None:
        once = Retry(NoBackoff(), 0)  # who calls repeats, and asks where before
        options: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "retry": once}
        if not url.startswith("unix"):
            options |= {"socket_keepalive": True, "socket_keepalive_options": _repeating()}
        pool = redis.ConnectionPool.from_url(url, **options, protocol=2, client_name=name or None)
        self._kind, self._options = pool.connection_class, pool.connection_kwargs
        self.timeout_s = float(self._options["socket_timeout"])
        """For one answer: as asked, or as the url says."""
        self._news = threading.Event()
        self.silences = 0
        """How often a connection that was open gave no answer: the others may be dead too, and say nothing either."""
        self.home = ""
        """A key whose server answers what names no key."""

    def address(self, args: Sequence[object]) -> Address:
        """Where a command goes."""
        return HERE

    def make(self, address: Address) -> Any:
        """A raw connection to it, not connected. A pool would count them, and give no more than a hundred."""
        return self._kind(**self._options)

    def verify(self, raw: Any) -> None:
        """Look at who answers, right after it was connected. Raises what a retry mends."""

    def doubt(self) -> None:
        """An address did not serve: look again before the next is given."""

    @property
    def news(self) -> threading.Event:
        """What will be set when something has changed. Taken before a call, it tells what changed while that failed."""
        return self._news

    def wait(self, seconds: float, news: threading.Event) -> bool:
        """Sleep, but no longer than until there is `news`; whether there is. Of one server there is none."""
        time.sleep(seconds)
        return False

    def moved(self, error: AskError, sender: Address) -> Address:
        """Where a redirection points to; learned where it is lasting."""
        raise StoreUnsuitable(f"The server is a node of a cluster ({error}): name it by redis+cluster://host:port.")

    def attend(self, user: User) -> None:
        """Tell `user` to leave when addresses change."""

    def dismiss(self, user: User) -> None:
        """Tell it no more. Repeatable."""


class DiscoveredRoute(Route):
    """A topology that others decide. One thread a route looks once a second, as long as somebody uses it."""

    def __init__(self, url: str, timeout_s: float, name: str) -> None:
        parts = urlsplit(url)
        super().__init__(plain(parts), timeout_s, name)
        self.seeds = hosts(parts)
        self._watched: weakref.WeakSet[User] = weakref.WeakSet()
        self._restart()

    def _restart(self) -> None:
        """In a forked child nothing of the parent's goes on."""
        self._pid, self._lock = os.getpid(), threading.RLock()
        self._thread: threading.Thread | None = None
        self._doubted, self._asked_s, self._troubled_s = True, -DOUBT_S, -TROUBLE_S
        self._news, self._probes = threading.Event(), dict[Address, Any]()
        self._asker_lock, self._asker = threading.Lock(), cast(Any, None)
        self.problem = "nobody was asked"

    def make(self, address: Address) -> Any:
        host, port = address
        return self._kind(**{**self._options, "host": host, "port": port})

    def doubt(self) -> None:
        self._doubted, self._troubled_s = True, time.monotonic()

    def wait(self, seconds: float, news: threading.Event) -> bool:
        return news.wait(seconds)

    def attend(self, user: User) -> None:
        if self._pid != os.getpid():
            self._restart()
        with self._lock:
            self._watched.add(user)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="bz-topology", daemon=True)
                self._thread.start()

    def dismiss(self, user: User) -> None:
        self._watched.discard(user)

    def _watch(self) -> None:
        while True:
            time.sleep(TROUBLED_WATCH_S if self._is_troubled() else WATCH_S)
            with self._lock:
                users = list(self._watched)
                if not users:
                    self._thread = None
                    self._probe(set())
                    return
            if not self._is_troubled():
                self._probe({address for user in users for address in user.used})
            try:
                self._look()
                self._tell(users)
            except (RedisError, OSError) as error:
                self.problem = str(error)  # said by whoever needs an address

    def _is_troubled(self) -> bool:
        return time.monotonic() - self._troubled_s < TROUBLE_S

    def _probe(self, addresses: set[Address]) -> None:
        """Ask those in use for a sign of life. One that is stopped breaks no socket, so whoever waits there would not
        doubt it before others have taken over."""
        for address in self._probes.keys() - addresses:
            self._probes.pop(address).disconnect()
        for address in addresses:
            raw = self._probes.get(address)
            if raw is None:
                raw = self._probes[address] = self.make(address)
                raw.socket_timeout = raw.socket_connect_timeout = ASK_S
            try:
                if raw._sock is None:
                    raw.connect()
                raw.send_command("PING", check_health=False)
                raw.read_response()
            except ResponseError as error:
                log.debug("%s:%d answers the question for a sign of life: %s", *address, error)
            except (RedisError, OSError) as error:
                log.info("%s:%d gives no sign of life: %s", *address, error)
                raw.disconnect()
                self.doubt()

    def _tell(self, users: Collection[User]) -> None:
        valid = self.valid()
        for user in users:
            user.follow(valid)

    def _settle(self) -> None:
        """Where there is doubt, look; what was known stays where nobody answers."""
        with self._lock:
            if not self._doubted or time.monotonic() - self._asked_s < DOUBT_S:
                return
            self._asked_s = time.monotonic()
            try:
                self._look()
            except NoPermissionError:
                raise
            except (RedisError, OSError) as error:
                log.info("the topology cannot be read now: %s", error)
                self.problem = str(error)

    def _look(self) -> None:
        found = self.discover()
        with self._lock:
            was, self.problem = self.problem, ""
            self._doubted, self._asked_s = False, time.monotonic()
            before = set(self.valid())
            self.adopt(found)
            changed = before != set(self.valid())
            if changed or was:
                self._news.set()
                self._news = threading.Event()
            users = list(self._watched) if changed else []
        self._tell(users)

    def valid(self) -> Collection[Address]:
        """The addresses that are in charge, as far as is known."""
        raise NotImplementedError

    def discover(self) -> Any:
        """Ask who is in charge."""
        raise NotImplementedError

    def adopt(self, found: Any) -> None:
        """Take what `discover` gave."""
        raise NotImplementedError
