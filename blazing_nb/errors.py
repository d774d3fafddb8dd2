"""Every error that a user can see, in one tree. An error says what happened, with which values, and what to do now.

BlazingError
├── UsageError(ValueError): the call is wrong; nothing was sent
│   ├── InvalidName, InvalidOperationId, InvalidArguments, UnknownStep, StepNotEnqueueable
│   ├── ValueNotSerializable, PayloadTooLarge
│   ├── NotDeterministic, PositionLost, ScheduleUnknown, OutboxUnusable
│   └── AppClosed, ExecutorClosed, BatchExists, BatchUnknown, BatchUnfinished, OperationUnknown, NotRetryable
├── StoreError: the store refused or could not be reached
│   ├── StoreUnavailable (OperationUncertain), StoreUnsuitable, ScriptRefused (RightMissing)
│   ├── SegmentFull, StoreFull, AppDraining, OutboxFull, RolledBack, StoreRestored
│   └── ServerNotFound, ServerFailed: the embedded server
├── TrustError: SignatureRefused, PayloadInvalid, CodeRefused, SecretUnsafe, NotShared
├── OperationError: how an operation ended when not well
│   └── RemoteError, OperationLost, OperationCancelled, OperationExpired, ResultUnavailable, ReferenceUnknown,
│       WorkflowChanged, AttemptTimeout, ProcessDied, DependencyFailed
├── OperationTimeout(TimeoutError): the wait ended; the operation goes on
└── WorkersNotReady
"""

from __future__ import annotations


class BlazingError(Exception):
    """Root of all errors of blazing_nb. Keyword arguments become fields.

    Examples:
        >>> try:
        ...     app.attach("nobody")
        ... except BlazingError as error:
        ...     type(error).__name__
        'BatchUnknown'
    """

    def __init__(self, message: str = "", **fields: object) -> None:
        super().__init__(message)
        self.fields = fields

    def __getattr__(self, name: str) -> object:
        fields = self.__dict__.get("fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(name)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args[0] if self.args else "", self.fields)


def _rebuild(kind: type[BlazingError], message: str, fields: dict[str, object]) -> BlazingError:
    return kind(message, **fields)


class UsageError(BlazingError, ValueError):
    """The call is wrong. Nothing was sent."""


class InvalidName(UsageError):
    """An app, node, step, worker or batch name has a character or a length that keys cannot carry."""


class InvalidOperationId(UsageError):
    """The text is not `<step>:<prio>:<node>:<incarnation>-<counter>`."""


class InvalidArguments(UsageError):
    """The arguments do not fit the step's signature."""


class UnknownStep(UsageError):
    """The app has no step of that name."""


class StepNotEnqueueable(UsageError):
    """The function cannot be sent to a worker: it is neither importable nor picklable."""


class ValueNotSerializable(UsageError):
    """A value is neither plain data nor picklable."""


class PayloadTooLarge(UsageError):
    """The encoded value is above the limit; put it in a file or a database and pass its name."""


class NotDeterministic(UsageError):
    """A workflow did something that only a step may do: its code runs again after each wait, and must do the same."""


class AppClosed(UsageError):
    """The app was closed; make a new `Blazing(...)`."""


class ShardsFixed(UsageError):
    """The app exists with another number of shards, which is fixed when an app is created: leave `shards=` out, or
    create an app of another name and let this one be drained."""


class NotSharded(UsageError):
    """An app of several shards cannot do this, since it would have to be atomic over two of them."""


class ExecutorClosed(UsageError, RuntimeError):
    """The executor was shut down; get another by `app.executor()`."""


class BatchExists(UsageError):
    """A batch of that name exists; attach to it, continue it with `resume=True`, or choose another name."""


class BatchUnknown(UsageError):
    """No batch of that name is recorded in this app."""


class BatchUnfinished(UsageError):
    """The batch is not done: wait for it or cancel it before it is forgotten."""


class NotRetryable(UsageError):
    """Only an operation that ended without success, and whose arguments are still kept, can be retried."""


class OperationUnknown(UsageError):
    """No operation of that id is in the store: it was never stored, or its retention has passed."""


class ScheduleUnknown(UsageError):
    """No schedule of that name is recorded in this app."""


class PositionLost(UsageError):
    """Messages after `position` were dropped, up to `dropped`: they were older than the retention."""


class OutboxUnusable(UsageError):
    """The outbox's file cannot be made, is no outbox or another app's, or another process has it."""


class StoreError(BlazingError):
    """The store refused, or could not be reached."""


class StoreUnavailable(StoreError):
    """The store did not answer within the deadline. Repeating the call is safe."""


class OperationUncertain(StoreUnavailable):
    """Operations were sent, and whether they are stored as was asked is not known: nobody answered; or they are stored,
    and of `asked` copies of the `level` only `confirmed` were. Their identities are fixed: the node's next call, or
    `app.settle()`, sends the same again, so that each is stored once. Do not enqueue them anew: `app.attach(
    error.operation)` is the handle of the first of `operations`, and after a map `error.batch` that of all."""


class RolledBack(StoreError):
    """The store went back: of what this node wrote, `missing` are not there any more. What is in the redo window is
    sent again."""


class StoreRestored(StoreError):
    """An older state of the app's database came back under the running app, as from a backup: it misses what every
    replica, or the disk, had confirmed. Nothing is enqueued or claimed until you decide: `app.adopt()`
    (`blazing-nb restored adopt`) goes on from what is there; `app.discard()` (`blazing-nb restored discard`) deletes it
    and goes on from nothing. What living processes still keep is sent again in both cases."""


class StoreUnsuitable(StoreError):
    """The server is too old, evicts keys, or lacks a capability."""


class ScriptRefused(StoreError):
    """A script refused its arguments: `code` and `fields` say why."""


class RightMissing(ScriptRefused):
    """The Redis user may not do this: `right` says which ACL rule it lacks, `+command` or `~keys`."""


class SegmentFull(StoreError):
    """The segment is at its cap: `depth` and `cap` say so. Enqueue again when workers have drained it."""


class StoreFull(StoreError):
    """The server has used most of the memory that it may: `used` and `limit` in bytes. Commits still pass."""


class AppDraining(StoreError):
    """The app is drained and accepts no new operations, until it is resumed. What is stored goes on."""


class OutboxFull(StoreError):
    """The outbox holds `operations` of at most `cap`, or its disk is full. Nothing was accepted: enqueue again when the
    store has answered."""


class ServerNotFound(StoreError):
    """No usable Redis or Valkey server was found to start."""


class ServerFailed(StoreError):
    """The embedded server did not start or stopped answering; the message ends with its last log lines."""


class TrustError(BlazingError):
    """What was read from the store is not what this app signed."""


class SignatureRefused(TrustError):
    """The signature does not hold: the bytes were altered, moved, or signed with another key."""


class PayloadInvalid(TrustError):
    """The bytes do not decode."""


class CodeRefused(TrustError):
    """The step's code is missing, altered, or made by another Python minor version."""


class SecretUnsafe(TrustError):
    """The secret's file can be read by others, or is not a key file."""


class NotShared(TrustError):
    """The owner shares this with other apps, or this machine has not got the key that it gave to this app."""


class OperationError(BlazingError):
    """How an operation ended when it did not succeed."""


class RemoteError(OperationError):
    """The step raised an exception that cannot be rebuilt here: `type` and the message say which."""


class OperationLost(OperationError):
    """The operation's worker died under it three times."""


class OperationCancelled(OperationError):
    """The operation was cancelled."""


class OperationExpired(OperationError):
    """The operation's deadline passed before it ran."""


class ResultUnavailable(OperationError):
    """The step's result could not be encoded, or is above the limit."""


class WorkflowChanged(OperationError):
    """The workflow's code does not fit its history: at call `position` that has `expected`, and the code `met`."""


class AttemptTimeout(OperationError):
    """The attempt took longer than its `timeout`. It counts as a failed attempt."""


class ProcessDied(OperationError):
    """The process that executed the operation died: `exitcode` says how. It counts as a failed attempt."""


class ReferenceUnknown(OperationError):
    """The value that `app.put` stored is not there any more: its retention has passed. Put it again."""


class DependencyFailed(OperationError):
    """An operation whose result this one waited for did not succeed: `operation` is its id, and its exception the
    cause where it is still known."""


class OperationTimeout(BlazingError, TimeoutError):
    """The wait ended. The operation goes on: wait again, or attach to its id later.

    Examples:
        >>> double.options(delay=60).enqueue(1).result(timeout=0.01)
        Traceback (most recent call last):
            ...
        blazing_nb.errors.OperationTimeout: ...
    """


class WorkersNotReady(BlazingError):
    """Workers did not become ready in time: `reasons` says which and why."""


class RemoteTraceback(Exception):
    """The worker's traceback, as text, shown as the cause of a remote exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return "\n" + self.text
