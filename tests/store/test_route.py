"""What an url says of where the data is; what it cannot say is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ClusterDownError
from redis.exceptions import TimeoutError as RedisTimeoutError

from blazing_nb import Blazing
from blazing_nb.client.proxy import Proxy
from blazing_nb.errors import StoreUnavailable, UsageError
from blazing_nb.store.address import Address, shown
from blazing_nb.store.bell import Bell
from blazing_nb.store.cluster import ClusterRoute
from blazing_nb.store.connection import Connection
from blazing_nb.store.route import HERE, DiscoveredRoute
from blazing_nb.store.sentinel import SentinelRoute
from blazing_nb.store.topology import route
from tests.condition import until


@pytest.fixture(scope="module")
def url(single_url: str) -> str:
    """Behind a proxy."""
    return single_url


def test_an_url_names_several_sentinels_a_service_a_database_and_both_logins() -> None:
    made = route("rediss+sentinel://me:pa%40ss@a:1,b,[::1]:3/main/2?sentinel_password=s&ssl_cert_reqs=none")
    assert isinstance(made, SentinelRoute)
    assert made.seeds == [("a", 1), ("b", 26379), ("::1", 3)]
    raw = made.make(("primary", 7))
    assert (raw.host, raw.port, raw.db, raw.username, raw.password) == ("primary", 7, 2, "me", "pa@ss")
    assert (made._asking["password"], made._asking["ssl"]) == ("s", True)


def test_an_url_names_several_nodes_of_a_cluster() -> None:
    made = route("redis+cluster://:secret@a:1,b")
    assert isinstance(made, ClusterRoute)
    assert made.seeds == [("a", 1), ("b", 6379)]
    assert made.make(("c", 2)).password == "secret"  # noqa: S105
    assert shown("redis+cluster://me:secret@a:1,b") == "redis+cluster://me:***@a:1,b"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://a", "redis\\+sentinel://"),
        ("unix+cluster:///a", "does not begin with 'unix\\+cluster://'"),
        ("redis+sentinel://a:1", "lacks the service"),
        ("redis+sentinel:///main", "a host without a name"),
        ("redis+cluster://a:1/3", "database 0 only"),
        ("redis+cluster://a:port", "not usable"),
    ],
)
def test_an_url_that_cannot_be_used_says_what_to_write(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Blazing("demo", url=url).connect()


@pytest.mark.parametrize("url", ["redis+sentinel://127.0.0.1:1/main", "redis+cluster://127.0.0.1:1"])
def test_where_nobody_says_where_the_store_is_the_deadline_holds(url: str) -> None:
    connection = Connection(url, deadline_s=0.3)
    with pytest.raises(StoreUnavailable, match=r"no (Sentinel|node) says who .*(refused|do not answer)"):
        connection.call("PING")
    connection.close()


def test_connections_are_not_counted(url: str) -> None:
    """A route gives one to each thread, and to each that failed another one."""
    made = route(url)
    assert len({id(raw) for raw in [made.make(HERE) for _ in range(300)]}) == 300


def test_a_node_that_was_silent_is_asked_again_only_where_nobody_else_answers() -> None:
    """Each question to one that is stopped costs half a second, during which nobody hears of the fail-over."""
    made = route("redis+cluster://a:1,b:2")
    assert isinstance(made, ClusterRoute)
    asked: list[str] = []
    errors: dict[str, Exception] = {"a": RedisTimeoutError("stopped"), "b": ClusterDownError("no majority")}

    def ask(address: Address) -> Any:
        asked.append(address[0])
        raise errors[address[0]]

    made._ask = ask  # type: ignore[method-assign]
    for _ in range(5):
        with pytest.raises(ClusterDownError):
            made.discover()
    assert asked.count("a") <= 1
    errors["b"] = RedisTimeoutError("stopped too")
    for _ in range(2):
        asked.clear()
        with pytest.raises(RedisTimeoutError):
            made.discover()
    assert sorted(asked) == ["a", "b"]


class _Fixed(DiscoveredRoute):
    """A topology of one server, which nobody else says to be gone."""

    def address(self, args: object) -> Address:
        return self.seeds[0]

    def valid(self) -> list[Address]:
        return self.seeds[:1] if self.problem == "" else []

    def discover(self) -> None:
        return None

    def adopt(self, found: None) -> None:
        """It stays."""


@pytest.fixture
def proxy(url: str) -> Any:
    with Proxy(url) as made:
        yield made


def test_one_that_is_stopped_is_doubted_before_anybody_asks_it_anything(proxy: Proxy) -> None:
    made = _Fixed(f"redis+cluster://{proxy.host}:{proxy.port}", 5.0, "")
    connection = Connection(made)
    connection.call("PING")
    until(lambda: made._probes)
    assert not made._is_troubled()
    proxy.partition()
    until(made._is_troubled)
    proxy.heal()
    connection.close()


def test_whoever_waits_for_another_server_is_woken_when_there_is_one() -> None:
    made = _Fixed("redis+cluster://127.0.0.1:1", 5.0, "")
    made.problem = ""
    news = made.news
    made._look()
    assert not news.is_set() and not made.wait(0.0, news), "nothing has changed"
    made.problem = "the cluster is down"
    made._look()
    assert news.is_set() and made.wait(60.0, news), "taken before the call that failed: nothing is missed"
    assert not made.news.is_set()


@pytest.mark.parametrize("way", ["both", "requests", "replies"])
def test_a_connection_that_is_silent_says_so_for_the_others(proxy: Proxy, way: str) -> None:
    """Each thread has its own: they are not found dead one after the other."""
    made = route(f"{proxy.url}?socket_timeout=0.3")
    first, second = Connection(made), Connection(made)
    first.call("PING"), second.call("PING")
    proxy.half_open(way)
    first.call("PING")
    assert (first.retries, made.silences) == (1, 1)
    second.call("PING")
    assert (second.retries, made.silences) == (0, 1)
    first.close(), second.close()


def test_what_a_socket_wrote_is_confirmed_on_that_socket_whatever_others_met(proxy: Proxy) -> None:
    made = route(proxy.url)
    connection = Connection(made)
    connection.call("PING")
    sock = connection.open()._sock
    made.silences += 1
    assert connection.confirm("WAIT", 0, 1) == 0
    assert connection._raws[HERE]._sock is sock
    connection.close()


def test_a_bell_that_is_silent_is_given_up_within_two_socket_timeouts(proxy: Proxy) -> None:
    made = route(f"{proxy.url}?socket_timeout=0.4")
    bell = Bell(Connection(made))
    assert bell.listen(["nothing"])
    assert 0 < bell.patience_s <= 2 * 0.4
    proxy.half_open()
    until(lambda: bell.patience_s == 0)
    accepted = proxy.accepted
    assert bell.listen(["nothing"]) and made.silences == 1
    until(lambda: proxy.accepted == accepted + 1)
    bell.forget()
