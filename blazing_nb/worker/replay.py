"""Runs of workflows over their history, so that the same code takes the same way again.

A workflow runs from its beginning each time something that it awaits is final. What it was told before, it is told
again, in the same order; what it calls has the same position again, and is the same operation. Then it is told what is
new. Where it waits, it ends with what it waits for (`Wait`), and costs no slot until that is there.

Steps, `asyncio.sleep`, `gather`, `wait`, `wait_for`, `timeout`, `TaskGroup`, tasks, futures and locks work, since they
need nothing but a loop (`worker/loop`).
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from blazing_nb.core.codec import PLAIN
from blazing_nb.core.dot import OperationId
from blazing_nb.core.replay import Invocation, replaying
from blazing_nb.errors import UsageError, WorkflowChanged
from blazing_nb.worker.loop import CallFuture, ReplayLoop

AT_ONCE = 1000
SLACK_S = 1e-5
NOTHING = "nothing"


class Wait(msgspec.Struct, frozen=True):
    """Where a workflow waits.

    Attributes:
        timer_ms: its next timer on the server's clock; 0: none.
        told: what it was told in this run, and when: `<ms>;<event>,<event>`; empty where nothing.
        calls: what it calls anew, by position.
        groups: it goes on as soon as all members of one of these are final.
        gone: positions of calls that it gave up.
    """

    timer_ms: int
    told: str
    calls: dict[int, Invocation]
    groups: list[list[int]]
    gone: list[int]


class History:
    """What a workflow was told and what became of its calls, as the store keeps it."""

    def __init__(self, fields: Mapping[str, bytes]) -> None:
        self.calls: dict[int, tuple[OperationId, str]] = {}
        self.records: dict[int, bytes] = {}
        told: dict[int, str] = {}
        for field, value in fields.items():
            if field[0] == "=":
                self.records[int(field[1:])] = value
            elif field[0] == "!":
                told[int(field[1:])] = value.decode()
            else:
                op, _, digest = value.decode().rpartition("|")
                self.calls[int(field)] = OperationId.parse(op), digest
        self.told = [_told(text) for _, text in sorted(told.items())]


class WorkflowRun:
    """One run of a workflow, from its beginning over its history to where it waits or ends.

    Args:
        app: the app whose steps it may call.
        now_ms: the server's clock when it was claimed.
        value: from an operation and its record to its value; raises what it raised.
    """

    def __init__(self, app: str, history: History, now_ms: int, value: Callable[[OperationId, bytes], Any]) -> None:
        self._app = app
        self._history = history
        self._now_ms = now_ms
        self._value = value
        self._loop = ReplayLoop()  # type: ignore[abstract]
        self._loop.on_timer = self._check_timer
        self._made: dict[int, Invocation] = {}
        self._groups: list[list[int]] = []
        self._changed: WorkflowChanged | None = None
        self._closed = False

    def run(self, function: Callable[..., Coroutine[Any, Any, Any]], args: Any, kwargs: Any) -> Any:
        """The workflow's value; or a `Wait`. Raises what it raised."""
        token = replaying.set(self)
        asyncio._set_running_loop(self._loop)
        try:
            main = self._loop.create_task(function(*args, **kwargs))
            told = self._go(main)
            if main.done():
                return main.result()
            return self._wait(told)
        finally:
            self._closed = True
            self._loop.close()
            asyncio._set_running_loop(None)
            replaying.reset(token)

    # -- telling it what happened

    def _go(self, main: asyncio.Task[Any]) -> str:
        """Tell it what it was told before, then what is new; that, as text."""
        history, loop = self._history, self._loop
        for number, (at_ms, events) in enumerate(history.told):
            loop.now_s = max(loop.now_s, at_ms / 1000)
            self._drain()
            for event in events:
                self._tell(event)
            self._check_calls(number)
        if main.done():
            return ""
        loop.now_s = max(loop.now_s, self._now_ms / 1000)
        self._drain()
        told = []
        while not main.done() and (event := self._next()):
            told.append(event)
            self._tell(event)
        return f"{round(loop.now_s * 1000)};{','.join(told)}" if told or not history.told else ""

    def _next(self) -> str:
        """The next thing that is new: outcomes in the order of their calls, before timers in that of their moments."""
        records, loop = self._history.records, self._loop
        ready = [position for position in loop.calls if position in records]
        if ready:
            return str(min(ready))
        due = [
            (timer.when(), position) for position, timer in loop.timers.items() if timer.when() <= loop.now_s + SLACK_S
        ]
        return f"t{min(due)[1]}" if due else ""

    def _tell(self, event: str) -> None:
        loop = self._loop
        position = int(event.removeprefix("t"))
        if event[0] == "t":
            if position not in loop.timers:
                raise self._mismatch(position, "a timer", self._met(position))
            loop.fire(position)
        else:
            future = loop.calls.pop(position, None)
            if future is None:
                raise self._mismatch(position, self._expected(position), self._met(position))
            self._settle(future)
        self._drain()

    def _settle(self, future: CallFuture) -> None:
        op, _ = self._history.calls[future.position]
        try:
            value = self._value(op, self._history.records[future.position])
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(value)

    def _drain(self) -> None:
        self._loop.drain()
        if self._changed is not None:
            raise self._changed

    # -- what the workflow asks for

    def call(self, invocation: Invocation) -> Awaitable[Any]:
        """An operation that has this position in the workflow."""
        if self._closed:
            raise UsageError("The workflow waits elsewhere now; nothing can be called while it lets go.")
        if invocation.app != self._app:
            raise UsageError(f"Step {invocation.step!r} is of app {invocation.app!r}; a workflow calls its own app's.")
        position = self._loop.next_position()
        known = self._history.calls.get(position)
        if known is not None:
            self._compare(position, known, invocation)
        self._made[position] = invocation
        future = CallFuture(self._loop, position)
        self._loop.calls[position] = future
        return future

    def gather(self, awaitables: Sequence[Awaitable[Any]], return_exceptions: bool) -> Awaitable[list[Any]]:
        """All, in order. Where all are calls, the workflow is not woken before the last one."""
        futures = [asyncio.ensure_future(awaitable, loop=self._loop) for awaitable in awaitables]
        if all(isinstance(future, CallFuture) for future in futures):
            self._groups.append([future.position for future in futures if isinstance(future, CallFuture)])
        return asyncio.gather(*futures, return_exceptions=return_exceptions)

    async def first(self, awaitables: Sequence[Awaitable[Any]], k: int) -> list[Any]:
        """The first `k` values, in the order in which they come; the others are given up. Raises the last exception
        where too few succeed."""
        pending = [asyncio.ensure_future(awaitable, loop=self._loop) for awaitable in awaitables]
        values: list[Any] = []
        failure: BaseException = asyncio.CancelledError()
        try:
            while len(values) < k:
                if len(pending) < k - len(values):
                    raise failure
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for future in [future for future in pending if future.done()]:
                    pending.remove(future)
                    error = asyncio.CancelledError() if future.cancelled() else future.exception()
                    if error is None:
                        values.append(future.result())
                    failure = error or failure
        finally:
            for future in pending:
                future.cancel()
        return values[:k]

    # -- whether it is still the same workflow

    def _compare(self, position: int, known: tuple[OperationId, str], invocation: Invocation) -> None:
        op, digest = known
        if op.step != invocation.step:
            raise self._mismatch(position, self._expected(position), f"step {invocation.step!r}")
        if digest and digest != digest_of(invocation):
            expected = f"step {op.step!r} with the arguments of then"
            raise self._mismatch(position, expected, f"step {op.step!r} with other arguments")

    def _check_timer(self, position: int) -> None:
        if position in self._history.calls:
            raise self._mismatch(position, self._expected(position), "a timer")

    def _check_calls(self, number: int) -> None:
        """After what was told in one claim, everything it called then is known, and nothing known is left out."""
        for position in self._loop.calls:
            if position not in self._history.calls:
                raise self._mismatch(position, NOTHING, self._met(position))
        if number == len(self._history.told) - 1:
            for position in sorted(self._history.calls):
                if position not in self._made:
                    raise self._mismatch(position, self._expected(position), self._met(position))

    def _expected(self, position: int) -> str:
        known = self._history.calls.get(position)
        return f"step {known[0].step!r}" if known else NOTHING

    def _met(self, position: int) -> str:
        if position in self._made:
            return f"step {self._made[position].step!r}"
        return "a timer" if position in self._loop.timers else NOTHING

    def _mismatch(self, position: int, expected: str, met: str) -> WorkflowChanged:
        self._changed = WorkflowChanged(
            f"At its call {position} the workflow's history has {expected}, its code now {met}: the code has changed "
            "since it began, or depends on something other than its arguments and its steps' results. Start it anew "
            "(`retry()` does), and keep the old code under its name for what began with it.",
            position=position,
            expected=expected,
            met=met,
        )
        return self._changed

    # -- where it waits

    def _wait(self, told: str) -> Wait:
        loop, known = self._loop, self._history.calls
        if not loop.calls and not loop.timers:
            raise UsageError("The workflow awaits something that no step, timer or task of it will ever finish.")
        timers = [timer.when() for timer in loop.timers.values()]
        calls = {position: self._made[position] for position in loop.calls if position not in known}
        gone = [position for position in loop.gone if position in known and position not in self._history.records]
        if len(calls) > AT_ONCE:
            raise UsageError(f"A workflow starts at most {AT_ONCE} calls at once, not {len(calls)}; await some first.")
        return Wait(math.ceil(min(timers) * 1000) if timers else 0, told, calls, self._pending_groups(), gone)

    def _pending_groups(self) -> list[list[int]]:
        """Those gathered together are waited for together; each other one by itself. Each position once."""
        left, groups = dict.fromkeys(self._loop.calls), []
        for group in self._groups:
            members = [position for position in group if position in left]
            if members:
                groups.append(members)
            for position in members:
                del left[position]
        return groups + [[position] for position in left]


def digest_of(invocation: Invocation) -> str:
    """Of plain arguments; empty for others, whose bytes may differ though they are equal."""
    kind, data = invocation.prepared
    return hashlib.sha256(data).hexdigest()[:16] if kind == PLAIN else ""


def _told(text: str) -> tuple[int, list[str]]:
    at_ms, _, events = text.partition(";")
    return int(at_ms), events.split(",") if events else []
