"""From an url to the route that it says."""

from __future__ import annotations

from urllib.parse import urlsplit

from blazing_nb.errors import UsageError
from blazing_nb.store.cluster import ClusterRoute
from blazing_nb.store.route import Route
from blazing_nb.store.sentinel import SentinelRoute

SCHEMES = ("redis", "rediss", "unix")


def route(url: str, *, timeout_s: float = 5.0, name: str = "") -> Route:
    """What an url says.

    Raises:
        UsageError: it is none of those that are known, or lacks a part.
    """
    scheme, _, kind = urlsplit(url).scheme.partition("+")
    try:
        if kind == "sentinel" and scheme in SCHEMES[:2]:
            return SentinelRoute(url, timeout_s, name)
        if kind == "cluster" and scheme in SCHEMES[:2]:
            return ClusterRoute(url, timeout_s, name)
        if not kind and scheme in SCHEMES:
            return Route(url, timeout_s, name)
    except (ValueError, TypeError) as error:
        raise UsageError(f"The store's url is not usable: {error}") from error
    raise UsageError(
        f"A store's url does not begin with {urlsplit(url).scheme + '://'!r}: say redis://, rediss:// or unix://, "
        "redis+sentinel://host:port[,host:port]/service[/db], or redis+cluster://host:port[,host:port]."
    )
