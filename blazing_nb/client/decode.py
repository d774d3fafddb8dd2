"""From an operation's record to its value or its exception, with the app's keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blazing_nb.core import result

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.core.dot import OperationId
    from blazing_nb.core.outcome import Outcome


def value_of(app: Blazing, op: OperationId, record: bytes) -> Any:
    """The result. Raises the operation's exception where it did not succeed."""
    return result.value_of(app.app_id, app.ring, op, record)


def exception_of(app: Blazing, op: OperationId, outcome: Outcome) -> Exception:
    """What an unsuccessful outcome raises here; of the remote type where it can be rebuilt."""
    return result.exception_of(app.app_id, app.ring, op, outcome)
