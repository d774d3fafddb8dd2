"""An operation's code and arguments, brought here to be run and looked into."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from blazing_nb.core.code import load_function, unseal_code
from blazing_nb.core.codec import SIGNED, code_of, unseal_call
from blazing_nb.core.dot import OperationId
from blazing_nb.core.reference import resolver
from blazing_nb.core.signature import context
from blazing_nb.errors import CodeRefused, OperationUnknown
from blazing_nb.store import query

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing


class Reproduction(msgspec.Struct, frozen=True):
    """What an operation was called with; `run()` does it here.

    Attributes:
        exception: what it ended with there; None where it did not end.
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
        into what it raises."""
        if not inspect.iscoroutinefunction(self.function):
            return self.function(*self.args, **self.kwargs)
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: asyncio.run(self.function(*self.args, **self.kwargs))).result()


def reproduction(app: Blazing, op: OperationId, exception: BaseException | None) -> Reproduction:
    """Read and verify what the store keeps of the call.

    Raises:
        OperationUnknown: its arguments are not kept: it succeeded, or its retention has passed.
        TrustError: they or the code are not what this app signed.
    """
    found = query.arguments(app.store, op)
    if found is None:
        raise OperationUnknown(f"The arguments of {op.text} are not kept: it succeeded, or its retention has passed.")
    envelope, origin = found
    digest = code_of(envelope)
    sealed = app.store.code(digest)
    if sealed is None:
        raise CodeRefused(f"The code of {op.text} is not in the store any more.")
    function = load_function(unseal_code(sealed, digest, app.app_id, op.step, app.ring))
    ctx = context(app.app_id, op.step, digest, origin) if envelope[0] & SIGNED else b""
    token = resolver.set(app.get)
    try:
        args, kwargs = unseal_call(envelope, app.ring, ctx)
    finally:
        resolver.reset(token)
    return Reproduction(op.text, function, args, kwargs, exception)
