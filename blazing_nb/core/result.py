"""From an operation's record to its value or its exception, for whoever waits for it: a client or a workflow."""

from __future__ import annotations

from typing import Any

from blazing_nb.core.codec import RESULT, decode_failure, unseal
from blazing_nb.core.dot import OperationId
from blazing_nb.core.outcome import Outcome, decode_outcome
from blazing_nb.core.signature import KeyRing, context
from blazing_nb.core.status import Status
from blazing_nb.errors import (
    DependencyFailed,
    OperationCancelled,
    OperationExpired,
    OperationLost,
    PayloadInvalid,
    RemoteError,
    TrustError,
)

_ENDINGS = {
    Status.LOST: OperationLost,
    Status.CANCELLED: OperationCancelled,
    Status.EXPIRED: OperationExpired,
}


def value_of(app: str, ring: KeyRing, op: OperationId, record: bytes) -> Any:
    """The result. Raises the operation's exception where it did not succeed."""
    outcome = decode_outcome(record)
    if outcome.status is Status.SUCCEEDED:
        return unseal(outcome.payload, ring, b"" if outcome.payload[:1] == b"\0" else _context(app, op))
    raise exception_of(app, ring, op, outcome)


def exception_of(app: str, ring: KeyRing, op: OperationId, outcome: Outcome) -> Exception:
    """What an unsuccessful outcome raises here; of the remote type where it can be rebuilt."""
    try:
        error = decode_failure(outcome.payload, ring, _context(app, op))
    except PayloadInvalid as invalid:
        return invalid
    kind = _ENDINGS.get(outcome.status)
    if kind is not None:
        return kind(f"{op.text}: {str(error).removeprefix(f'{kind.__name__}: ')}", operation=op.text)
    if isinstance(error, RemoteError) and error.type == DependencyFailed.__name__:
        return unmet(str(error).partition(": ")[2])  # written by the store, which knows no types
    if isinstance(error, TrustError | Exception):
        return error
    return RemoteError(f"{type(error).__name__}: {error}", type=type(error).__name__)


def unmet(story: str) -> DependencyFailed:
    """`<operation> ended FAILED`, as an exception that has the operation's id."""
    return DependencyFailed(story, operation=story.partition(" ")[0])


def _context(app: str, op: OperationId) -> bytes:
    return context(app, op.step, RESULT, op.text)
