"""Workflows: `async def` functions that await steps, durable. Workers run them over their history (`worker/replay`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blazing_nb.client.option import Limits
from blazing_nb.client.step import Step
from blazing_nb.core.policy import Policy
from blazing_nb.core.replay import replaying
from blazing_nb.errors import UsageError

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing


class Workflow(Step):
    """What `@app.workflow` returns: a step whose body awaits steps. `enqueue` and `map` start it, or another workflow.

    Each call of a step in it is an operation of its own, whose identity is the workflow's and the call's position. The
    body runs again from its beginning after each wait, over the outcomes that there are; so all that it does beside
    calling steps must come out the same each time: clocks, randomness, files and networks belong into steps.

    Examples:
        >>> @app.workflow
        ... async def both(x):
        ...     once = await double(x)
        ...     return await gather(double(once), positive(once))
        >>> both.enqueue(7).result(timeout=10)
        [28, 14]
    """

    def __init__(self, app: Blazing, function: Callable[..., Any], name: str, retention_ms: int) -> None:
        if not inspect.iscoroutinefunction(function):
            raise UsageError(f"@app.workflow takes an `async def`, not {getattr(function, '__name__', function)!r}.")
        super().__init__(app, function, name, Policy(retention_ms=retention_ms, workflow=True), Limits())
        # It only runs between two waits, without one of its own: a thread's slot for a moment.
        self.lane = "thread"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if replaying.get() is None:
            raise UsageError(f"Workflow {self.name!r} is started by enqueue or map, or awaited in another workflow.")
        return super().__call__(*args, **kwargs)

    def __repr__(self) -> str:
        return super().__repr__().replace("<Step", "<Workflow", 1)

    def options(self, *, retries: int | None = None, timeout: float | None = None, **options: Any) -> Workflow:
        """As `Step.options`, without retries and timeout: those are of its steps, or `asyncio.timeout` in its body.

        Examples:
            >>> @app.workflow
            ... async def later(x):
            ...     return await double(x)
            >>> later.options(delay=0.05).enqueue(2).result(timeout=10)
            4
        """
        if retries is not None or timeout is not None:
            raise UsageError(
                "retries and timeout are for the steps of a workflow; in its body use asyncio.timeout(...)."
            )
        made = super().options(**options)
        assert isinstance(made, Workflow)  # noqa: S101 - a copy
        return made

    def code(self) -> bytes:
        """As `Step.code`; the steps of the app that this process knows are recorded too, since it may call them."""
        for step in list(self.app.steps.values()):
            if not isinstance(step, Workflow):
                step.code()
        for step in list(self.app.steps.values()):
            if isinstance(step, Workflow) and step is not self:
                Step.code(step)
        return super().code()
