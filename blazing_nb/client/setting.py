"""What users say about an app, checked before anything is reached."""

from __future__ import annotations

import os

import msgspec

from blazing_nb.core.name import check_name
from blazing_nb.core.shard import MOST
from blazing_nb.errors import UsageError
from blazing_nb.store.durability import MEMORY, check_level

PAYLOAD_LIMIT, PAYLOAD_MOST = 1 << 20, 32 << 20
SEGMENT_CAP = OUTBOX_CAP = 1_000_000


class AppSetting(msgspec.Struct, frozen=True):
    """The options of `Blazing`; see there. Raises `UsageError` where they do not fit."""

    url: str | None = None
    node_id: str | None = None
    payload_limit: int = PAYLOAD_LIMIT
    segment_cap: int = SEGMENT_CAP
    outbox: bool | str | os.PathLike[str] = False
    outbox_cap: int = OUTBOX_CAP
    durability: str = MEMORY
    redo: bool = True
    shards: int | None = None

    def __post_init__(self) -> None:
        if self.node_id is not None:
            check_name(self.node_id, "node_id")
        if not 1 <= self.payload_limit <= PAYLOAD_MOST:
            raise UsageError(f"payload_limit is 1 to {PAYLOAD_MOST} bytes, not {self.payload_limit}.")
        if self.segment_cap < 0:
            raise UsageError(f"segment_cap is at least 0 operations, not {self.segment_cap}.")
        _check_outbox(self.outbox, self.outbox_cap)
        check_level(self.durability)
        if not isinstance(self.redo, bool):
            raise UsageError(f"redo is True or False, not {self.redo!r}.")
        if self.shards is not None and not 1 <= self.shards <= MOST:
            raise UsageError(f"shards is 1 to {MOST}, not {self.shards}.")

    def address(self) -> str:
        """Where the store is; the embedded server is started where no other is named."""
        url = self.url or os.environ.get("BLAZING_REDIS_URL")
        if url:
            return url
        from blazing_nb.store import embedded

        return embedded.ensure().url


def _check_outbox(outbox: object, cap: object) -> None:
    if not isinstance(outbox, bool | str | os.PathLike) or outbox == "":
        raise UsageError(f"outbox is True, False or the path of a file, not {outbox!r}.")
    if isinstance(cap, bool) or not isinstance(cap, int) or cap < 0:
        raise UsageError(f"outbox_cap is at least 0 operations, not {cap!r}.")
