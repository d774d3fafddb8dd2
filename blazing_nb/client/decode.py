"""From an operation's record to its value or its exception, for its app; and why a dependency failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blazing_nb.core import result
from blazing_nb.core.dot import OperationId
from blazing_nb.core.outcome import Outcome, decode_outcome
from blazing_nb.core.status import Status
from blazing_nb.errors import DependencyFailed, InvalidOperationId, StoreError

if TYPE_CHECKING:
    from blazing_nb.client.connected import ConnectedApp

DEPTH = 8


def value_of(app: ConnectedApp, op: OperationId, record: bytes) -> Any:
    """The result. Raises the operation's exception where it did not succeed."""
    __tracebackhide__ = True
    if record[:1] != b"S":
        raise exception_of(app, op, decode_outcome(record))
    return result.value_of(app.app_id, app.ring, op, record)


def exception_of(app: ConnectedApp, op: OperationId, outcome: Outcome) -> Exception:
    """What an unsuccessful outcome raises here; of the remote type where it can be rebuilt."""
    error = result.exception_of(app.app_id, app.ring, op, outcome)
    if isinstance(error, DependencyFailed):
        _explain(app, error, DEPTH)
    return error


def _explain(app: ConnectedApp, error: DependencyFailed, depth: int) -> None:
    """The exception of the operation that is the reason becomes the cause, as far as the store still knows it."""
    try:
        op = OperationId.parse(str(error.operation))
        [row] = app.store.status([op])
    except (InvalidOperationId, StoreError):
        return
    outcome = decode_outcome(row.record) if row.record else None
    if outcome is None or outcome.status is Status.SUCCEEDED:
        return
    cause = result.exception_of(app.app_id, app.ring, op, outcome)
    error.__cause__ = cause
    if isinstance(cause, DependencyFailed) and depth:
        _explain(app, cause, depth - 1)
