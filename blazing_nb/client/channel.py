"""Sharing on purpose: channels and shared spaces of this app, or of one that lets it; who holds which keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from blazing_nb.client.shared import Shared
from blazing_nb.client.stream import Stream
from blazing_nb.core.effect import channel_purpose, space_purpose
from blazing_nb.core.name import check_name
from blazing_nb.core.signature import KeyRing
from blazing_nb.errors import UsageError
from blazing_nb.store import grant

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

WEEK_MS = 7 * 86_400_000


class Channel(Stream):
    """Messages of several apps and nodes: durable, in one order, each delivered at least once.

    Examples:
        >>> app.channel("news", share_with=["reports"]).publish({"page": 7}) > "0-0"
        True
        >>> with Blazing("reports") as reports:
        ...     news = reports.channel("news", owner="examples")
        ...     [message.value for message in news.subscribe("first", idle=0)]
        [{'page': 7}]
    """


def open_channel(
    app: Blazing, name: str, owner: str | None, share_with: Iterable[str] | None, retention: float | None
) -> Channel:
    """Raises `NotShared` where the owner has not given its key to this app."""
    purpose = channel_purpose(check_name(name, "channel"))
    ring = _ring(app, owner, purpose, share_with)
    return Channel(app, owner or app.app_id, purpose, ring, retention=retention, fallback_ms=WEEK_MS)


def open_space(app: Blazing, name: str, owner: str | None, share_with: Iterable[str] | None) -> Shared:
    """Raises `NotShared` where the owner has not given its key to this app."""
    ring = _ring(app, owner, space_purpose(check_name(name, "shared")), share_with)
    return Shared(app, owner or app.app_id, name, ring)


def _ring(app: Blazing, owner: str | None, purpose: str, share_with: Iterable[str] | None) -> KeyRing:
    if owner is not None and check_name(owner, "owner") != app.app_id:
        if share_with is not None:
            raise UsageError(f"Only its owner, {owner!r}, says with whom it is shared.")
        return grant.held(app.app_id, owner, purpose)
    ring = app.ring.derive(purpose)
    if share_with is not None:
        if isinstance(share_with, str):
            raise UsageError(f"share_with is a list of apps, not {share_with!r}.")
        grant.give(app.app_id, purpose, ring, share_with)
    return ring
