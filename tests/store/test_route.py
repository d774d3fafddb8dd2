"""What an url says of where the data is; what it cannot say is refused before anything is sent."""

from __future__ import annotations

import pytest

from blazing_nb import Blazing
from blazing_nb.errors import StoreUnavailable, UsageError
from blazing_nb.store.address import shown
from blazing_nb.store.cluster import ClusterRoute
from blazing_nb.store.connection import Connection
from blazing_nb.store.route import HERE
from blazing_nb.store.sentinel import SentinelRoute
from blazing_nb.store.topology import route


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
