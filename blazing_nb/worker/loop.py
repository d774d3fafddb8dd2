"""The event loop that a workflow runs on: callbacks in their order, and no time or event but those it is told.

What a coroutine needs of a loop is here. What would reach outside is refused (`NotDeterministic`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from blazing_nb.errors import NotDeterministic, UsageError

log = logging.getLogger(__name__)
CALLS_LIMIT = 10_000


class CallFuture(asyncio.Future[Any]):
    """The outcome of a call. Cancelling it (a time-out does) gives the operation up."""

    def __init__(self, loop: ReplayLoop, position: int) -> None:
        super().__init__(loop=loop)
        self.position = position
        self._calls = loop.calls
        self._gone = loop.gone

    def cancel(self, msg: Any | None = None) -> bool:
        if self._calls.pop(self.position, None) is not None:
            self._gone.append(self.position)
        return super().cancel(msg)


class ReplayLoop(asyncio.AbstractEventLoop):
    """Runs callbacks in their order; timers and outcomes come when `tell` says so."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.position = 0
        self.calls: dict[int, CallFuture] = {}
        self.gone: list[int] = []
        self.timers: dict[int, asyncio.TimerHandle] = {}
        self.tasks: list[asyncio.Task[Any]] = []
        self._ready: deque[asyncio.Handle] = deque()
        self.on_timer: Callable[[int], None] = lambda position: None

    def next_position(self) -> int:
        self.position += 1
        if self.position > CALLS_LIMIT:
            raise UsageError(f"A workflow has at most {CALLS_LIMIT} calls and timers; let a child workflow do a part.")
        return self.position

    def drain(self) -> None:
        while self._ready:
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()

    def fire(self, position: int) -> None:
        """A timer is due: its moment has come, also by this loop's clock."""
        timer = self.timers.pop(position)
        self.now_s = max(self.now_s, timer.when())
        self._ready.append(timer)

    def close(self) -> None:
        """Let go of what waits; it begins anew in another run."""
        for task in self.tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                try:
                    coroutine = task.get_coro()
                    assert coroutine is not None  # noqa: S101 - it is not done
                    coroutine.close()
                except Exception as error:
                    log.debug("a workflow did not let go: %s", error)

    # -- what coroutines need of a loop

    def time(self) -> float:
        return self.now_s

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        position = self.next_position()
        self.on_timer(position)
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.timers[position] = handle
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        for position in [position for position, timer in self.timers.items() if timer is handle]:
            del self.timers[position]

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self.tasks.append(task)
        return task

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def get_task_factory(self) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        log.debug("in a workflow: %s", context.get("message"), exc_info=context.get("exception"))


def _refuse(name: str) -> Callable[..., Any]:
    def refused(self: ReplayLoop, *args: object, **kwargs: object) -> Any:
        raise NotDeterministic(
            f"A workflow cannot use the event loop's {name}: it would happen at every replay. Do it in a step."
        )

    return refused


for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in vars(ReplayLoop):
        setattr(ReplayLoop, _name, _refuse(_name))
