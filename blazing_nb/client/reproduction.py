"""An operation's code and arguments, brought here to be run and looked into."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from blazing_nb.core.code import load_function, load_policy, unseal_code
from blazing_nb.core.codec import SIGNED, code_of, unseal_call
from blazing_nb.core.dependency import Dependency, found
from blazing_nb.core.dot import OperationId
from blazing_nb.core.reference import resolver
from blazing_nb.core.signature import context
from blazing_nb.errors import CodeRefused, OperationUnknown, UsageError
from blazing_nb.store import query

if TYPE_CHECKING:
    from blazing_nb.client.connected import ConnectedApp


class Reproduction(msgspec.Struct, frozen=True):
    """What an operation was called with; `run()` does it here.

    Attributes:
        exception: what it ended with there; None where it did not end.

    Examples:
        >>> operation = positive.enqueue(-4)
        >>> operation.wait(timeout=10)
        True
        >>> operation.reproduce(run=False).args
        [-4]
    """

    operation: str
    function: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    exception: BaseException | None

    def __repr__(self) -> str:
        return f"<Reproduction of {self.operation}: {getattr(self.function, '__name__', self.function)}>"

    def run(self) -> Any:
        """Call the function with these arguments, here and now; a coroutine function on a loop of its own. %debug looks
        into what it raises.

        Examples:
            >>> operation = positive.enqueue(-5)
            >>> operation.wait(timeout=10)
            True
            >>> operation.reproduce(run=False).run()
            Traceback (most recent call last):
                ...
            ValueError: -5 is below zero
        """
        if not inspect.iscoroutinefunction(self.function):
            return self.function(*self.args, **self.kwargs)
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: asyncio.run(self.function(*self.args, **self.kwargs))).result()


def reproduction(app: ConnectedApp, op: OperationId, exception: BaseException | None) -> Reproduction:
    """Read and verify what the store keeps of the call.

    Raises:
        OperationUnknown: its arguments are not kept: it succeeded, or its retention has passed.
        UsageError: it is a workflow, or waits for others.
        TrustError: they or the code are not what this app signed.
    """
    kept = query.arguments(app.store, op)
    if kept is None:
        raise OperationUnknown(f"The arguments of {op.text} are not kept: it succeeded, or its retention has passed.")
    envelope, origin = kept
    digest = code_of(envelope)
    sealed = app.store.code(digest)
    if sealed is None:
        raise CodeRefused(
            f"The code of {op.text} is not in the store any more. "
            "Define the step again where the app's key is, and enqueue anew."
        )
    record = unseal_code(sealed, digest, app.app_id, op.step, app.ring)
    if load_policy(record).workflow:
        raise UsageError(f"{op.text} is a workflow: reproduce the operation of the step that failed, by its id.")
    ctx = context(app.app_id, op.step, digest, origin) if envelope[0] & SIGNED else b""
    args, kwargs = _arguments(app, op, envelope, ctx, ended=exception is not None)
    return Reproduction(op.text, load_function(record), args, kwargs, exception)


def _arguments(app: ConnectedApp, op: OperationId, envelope: bytes, ctx: bytes, *, ended: bool) -> tuple[Any, Any]:
    waits_for: list[Dependency] = []
    token, notes = resolver.set(app.get), found.set(waits_for)
    try:
        args, kwargs = unseal_call(envelope, app.ring, ctx)
        if not waits_for:
            return args, kwargs
        if not ended:
            raise UsageError(f"{op.text} waits for the results of others; reproduce it when it has ended.")
        # As a worker does it, which has more of this.
        from blazing_nb.worker.input import Inputs

        args, kwargs = Inputs(app.app_id, app.ring, app.store).fill([args, kwargs], waits_for, op.text, 0)
        return args, kwargs
    finally:
        found.reset(notes)
        resolver.reset(token)
