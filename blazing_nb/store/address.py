"""An url: its parts, and as it may be shown, without its password."""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from blazing_nb.errors import UsageError

Address: TypeAlias = tuple[str, int]


def shown(url: str) -> str:
    """`redis://user:***@host:6379/0`. A query is cut, since it may hold one too."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if at:
        host = login.partition(":")[0] + (":***" if ":" in login else "") + "@" + host
    return f"{parts.scheme}://{host}{parts.path}" + ("?..." if parts.query else "")


def plain(parts: SplitResult) -> str:
    """The url of one server with the same login and options. A Sentinel url's database is its path's second part."""
    scheme, _, kind = parts.scheme.partition("+")
    login, at, hosts = parts.netloc.rpartition("@")
    path = "/".join(parts.path.split("/")[2:3]) if kind == "sentinel" else ""
    host = hosts.split(",")[0]
    return f"{scheme}://{login}{at}{host}/{path}" + (f"?{parts.query}" if parts.query else "")


def hosts(parts: SplitResult) -> list[Address]:
    """The hosts of an url that may name several."""
    default = 26379 if parts.scheme.endswith("sentinel") else 6379
    found: list[Address] = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{text}")
        if not one.hostname:
            raise UsageError(f"{parts.scheme}:// names a host without a name: say host:port[,host:port].")
        found.append((one.hostname, one.port or default))
    return found


def service(parts: SplitResult) -> str:
    """The name under which Sentinels watch a primary."""
    found = unquote(parts.path.split("/")[1] if "/" in parts.path else "")
    if not found:
        raise UsageError(
            "redis+sentinel:// lacks the service: say redis+sentinel://host:port[,host:port]/service[/db]."
        )
    return found
