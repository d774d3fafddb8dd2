"""Values that are stored once and passed by reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blazing_nb.core.codec import Prepared, prepare
from blazing_nb.core.reference import Ref, seal_value, unseal_value
from blazing_nb.errors import ReferenceUnknown, UsageError
from blazing_nb.store import query

if TYPE_CHECKING:
    from blazing_nb.client.connected import ConnectedApp


def put(app: ConnectedApp, value: Any, retention_ms: int) -> Ref:
    """Addressed by content."""
    return keep(app, prepare(value, "the value"), retention_ms)


def keep(app: ConnectedApp, prepared: Prepared, retention_ms: int) -> Ref:
    """The same, of what is encoded."""
    ref, payload = seal_value(prepared, app.app_id, app.ring)
    query.keep_blob(app.store, ref.digest, payload, retention_ms)
    return ref


def get(app: ConnectedApp, ref: Ref) -> Any:
    """The value, verified."""
    if not isinstance(ref, Ref):
        raise UsageError(f"get takes what put returned, not {type(ref).__name__}.")
    payload = query.blob(app.store, ref.digest) if ref.app == app.app_id else None
    if payload is None:
        raise ReferenceUnknown(
            f"{ref!r} is not in the store: its retention has passed, or it is another app's. "
            "`app.put` the value again, with a longer retention."
        )
    return unseal_value(payload, ref, app.ring)
