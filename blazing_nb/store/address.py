"""An url as it may be shown: without its password."""

from __future__ import annotations

from urllib.parse import urlsplit


def shown(url: str) -> str:
    """`redis://user:***@host:6379/0`. A query is cut, since it may hold one too."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if at:
        host = login.partition(":")[0] + (":***" if ":" in login else "") + "@" + host
    return f"{parts.scheme}://{host}{parts.path}" + ("?..." if parts.query else "")
