"""Values that are stored once and passed by reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blazing_nb.core.codec import PLAIN, prepare, seal, unseal
from blazing_nb.core.reference import Ref, digest_of
from blazing_nb.core.signature import context
from blazing_nb.errors import PayloadTooLarge, ReferenceUnknown, UsageError
from blazing_nb.store import query

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

VALUE_LIMIT = 256 << 20


def put(app: Blazing, value: Any, retention_ms: int) -> Ref:
    """Addressed by content; a pickle is signed under the app and its hash."""
    prepared = prepare(value, "the value")
    size = len(prepared[1])
    if size > VALUE_LIMIT:
        raise PayloadTooLarge(
            f"The value has {size} bytes; put takes up to {VALUE_LIMIT}. Write it to a file and pass its name.",
            size=size,
            limit=VALUE_LIMIT,
        )
    digest = digest_of(prepared)
    query.keep_blob(app.store, digest, seal(prepared, app.ring, _context(app, digest)), retention_ms)
    return Ref(app.app_id, digest, size)


def get(app: Blazing, ref: Ref) -> Any:
    """The value, verified."""
    if not isinstance(ref, Ref):
        raise UsageError(f"get takes what put returned, not {type(ref).__name__}.")
    payload = query.blob(app.store, ref.digest) if ref.app == app.app_id else None
    if payload is None:
        raise ReferenceUnknown(f"{ref!r} is not in the store: its retention has passed, or it is another app's.")
    return unseal(payload, app.ring, b"" if payload[0] == PLAIN else _context(app, ref.digest))


def _context(app: Blazing, digest: str) -> bytes:
    return context(app.app_id, "put", b"", digest)
