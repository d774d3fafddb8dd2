"""The app: where a user begins. Connects lazily, so that importing a module with an app and steps starts nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Unpack, overload

from blazing_nb.client.call import whole
from blazing_nb.client.caller import Caller
from blazing_nb.client.channel import Channel, open_channel, open_space
from blazing_nb.client.doctor import Diagnosis, diagnose
from blazing_nb.client.drain import Drained, drain
from blazing_nb.client.gathering import Handle, as_completed
from blazing_nb.client.hook import define_hook
from blazing_nb.client.observed import ObservedApp
from blazing_nb.client.option import Kinds, Limits, StepOptions, limits, policy, seconds
from blazing_nb.client.schedule import Schedules, listed
from blazing_nb.client.session import Session
from blazing_nb.client.setting import OUTBOX_CAP, PAYLOAD_LIMIT, SEGMENT_CAP, AppSetting
from blazing_nb.client.shared import Shared
from blazing_nb.client.step import Step
from blazing_nb.client.workers import Workers
from blazing_nb.core.markup import card, drawn, table
from blazing_nb.core.policy import Policy
from blazing_nb.errors import UnknownStep, UsageError
from blazing_nb.store import generation
from blazing_nb.store.address import shown
from blazing_nb.store.durability import MEMORY
from blazing_nb.store.generation import Restored

if TYPE_CHECKING:
    from blazing_nb.client.executor import AppExecutor


class Blazing(ObservedApp):
    """An app: a namespace of steps and workers, reached through one store.

    Args:
        app_id: its name; apps share nothing.
        url: `redis://`, `rediss://`, `unix://`, `redis+sentinel://host:port[,host:port]/service[/db]` or
            `redis+cluster://host:port[,host:port]`. Default: `BLAZING_REDIS_URL`, else the embedded server, which is
            started where it does not run.
        node_id: the name that this process writes its segments under. Default: `NODE_ID`, read at each enqueue, else
            a unique name.
        payload_limit: bytes that one operation's arguments may take, 32 MiB at most.
        segment_cap: operations that a segment may hold; beyond that `enqueue` raises `SegmentFull`, or waits where
            `options(block=...)` says so. 0: no cap.
        outbox: True, or the path of a file: while the store is out of reach, `enqueue` and `map` go on accepting into
            that file, from which a thread sends them, in order and once, when it answers; see `app.outbox`.
        outbox_cap: operations that it may hold; beyond that `enqueue` raises `OutboxFull`. 0: no cap.
        durability: what an enqueue has outlived when it returns. "memory": the server has it; "fsync": its disk has it
            too; "replicated": every replica has it too, else `OperationUncertain`. `options(durability=...)` for a
            call. A server that cannot give it is refused by `StoreUnsuitable` before anything is sent.
        redo: keep what was acknowledged (100,000 operations, 64 MiB at most) until every replica or the disk has it,
            and send it again where the store went back; see `app.redo`.
        shards: how many parts of a cluster the app is spread over, fixed when it is created; default: as many as it
            has, one where it is new. A node's operations are in the part that a hash of its name says.

    Examples:
        >>> with Blazing("demo") as demo:
        ...     twice = demo.step(lambda x: 2 * x, name="twice")
        ...     ready = demo.workers.start(1)
        ...     twice.enqueue(21).result(timeout=10)
        ...     demo.workers.stop()
        42
        1
    """

    def __init__(
        self,
        app_id: str = "demo",
        url: str | None = None,
        node_id: str | None = None,
        *,
        payload_limit: int = PAYLOAD_LIMIT,
        segment_cap: int = SEGMENT_CAP,
        outbox: bool | str | os.PathLike[str] = False,
        outbox_cap: int = OUTBOX_CAP,
        durability: str = MEMORY,
        redo: bool = True,
        shards: int | None = None,
    ) -> None:
        setting = AppSetting(
            url=url,
            node_id=node_id,
            payload_limit=payload_limit,
            segment_cap=segment_cap,
            outbox=outbox,
            outbox_cap=outbox_cap,
            durability=durability,
            redo=redo,
            shards=shards,
        )
        super().__init__(app_id, setting)
        self.steps: dict[str, Step] = {}
        self.workers = Workers(self)
        self._hook: Callable[[], Any] | None = None
        self._shared: dict[tuple[str, str], Shared] = {}
        self._runner: Caller | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "connected" if self.connected else "not connected"
        return f"<Blazing {self.app_id}: {state}, {len(self.steps)} steps>"

    @drawn
    def _repr_html_(self) -> str:
        rows = [(step.name, step.lane, f"{step.name}{step._parameters}") for step in self.steps.values()]
        facts: list[tuple[str, object]] = [("", "closed" if self._closed else "not connected")]
        if self.connected:
            url = shown(self.store.url)
            facts = [("at", "a socket of this machine" if url.startswith("unix:") else url)]
            facts.append(("workers here", len(self.workers)))
        return card("App", self.app_id, facts, table(("step", "lane", "function"), rows))

    def __reduce__(self) -> tuple[object, ...]:
        """A step that a workflow's code names takes its app along: unconnected, and without an address."""
        return Blazing, (self.app_id,)

    def _connect(self) -> Session:
        session = super()._connect()
        self.define_hook()
        return session

    # -- steps and nodes ---------------------------------------------------------------------------------------------

    @overload
    def step(self, function: Callable[..., Any], **options: Unpack[StepOptions]) -> Step: ...
    @overload
    def step(self, **options: Unpack[StepOptions]) -> Callable[[Callable[..., Any]], Step]: ...

    def step(
        self,
        function: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        retries: int = 0,
        backoff: float | tuple[float, float] = 1.0,
        retry_on: Kinds = (Exception,),
        give_up_on: Kinds = (),
        retention: float = 86_400.0,
        timeout: float | None = None,
        max_in_flight: int | None = None,
        rate: str | float | None = None,
        lane: str | None = None,
    ) -> Any:
        """Register a function as a step: `@app.step` or `@app.step(retries=3)`; `def` and `async def` alike.

        Args:
            name: default: the function's.
            retries: how many more attempts follow a failed one. Deaths of workers do not count.
            backoff: seconds before the second attempt at most, doubling each time, with full jitter; or a pair of
                that and its upper bound (60).
            retry_on, give_up_on: exception classes that are (not) worth another attempt.
            retention: seconds that outcomes are kept.
            timeout: seconds that an attempt may take; then it has failed with `AttemptTimeout`. A coroutine is
                cancelled, a process killed; a thread cannot be: its attempt is fenced and goes on until it looks at
                `current().cancelled`.
            max_in_flight: how many may be claimed at once, over all workers.
            rate: how many may be claimed a second, a minute or an hour, over all workers: "100/s", "30/m", "5/h". A
                tenth of a second's worth may start at once.
            lane: "process" for CPU-bound functions; default: an `async def` on an event loop, a `def` on a thread.

        Examples:
            >>> @app.step(retries=3, retry_on=OSError, timeout=10.0)
            ... def size(path):
            ...     return len(Path(path).read_bytes())
            >>> size.enqueue("/dev/null").result(timeout=10)
            0
        """
        rules = policy(retries, backoff, retry_on, give_up_on, retention, timeout)
        bounds = limits(max_in_flight, rate)
        if function is None:
            return lambda decorated: self._step(decorated, name, rules, bounds, lane)
        return self._step(function, name, rules, bounds, lane)

    def workflow(
        self,
        function: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        retention: float = 86_400.0,
    ) -> Any:
        """Register an `async def` that awaits steps as a workflow: `@app.workflow`. It survives crashes of its workers,
        and costs none of them a slot while it waits.

        Args:
            name: default: the function's.
            retention: seconds that its outcome and its history are kept after its end.

        Examples:
            >>> @app.workflow
            ... async def quadruple(x):
            ...     return await double(await double(x))
            >>> quadruple.enqueue(5).result(timeout=10)
            20
        """
        if function is None:
            return lambda decorated: self.workflow(decorated, name=name, retention=retention)
        from blazing_nb.client.workflow import Workflow

        label = name or str(getattr(function, "__name__", ""))
        made = Workflow(self, function, label, seconds(retention, "retention", low=1.0))
        self.steps[made.name] = made
        return made

    def _step(
        self, function: Callable[..., Any], name: str | None, rules: Policy, bounds: Limits, lane: str | None
    ) -> Step:
        if isinstance(function, Step):
            function = function.function
        if not callable(function):
            raise UsageError(f"@app.step takes a function, not {type(function).__name__}.")
        made = Step(self, function, name or function.__name__, rules, bounds, lane)
        self.steps[made.name] = made
        return made

    # -- any callable -------------------------------------------------------------------------------------------------

    def executor(
        self,
        name: str = "executor",
        *,
        lane: str = "thread",
        retries: int = 0,
        timeout: float | None = None,
        retention: float = 3600.0,
    ) -> AppExecutor:
        """The app's workers as a `concurrent.futures.Executor`, for code that takes one.

        Args:
            name: the step that its operations are seen under; `<name>-async` and `<name>-process` beside it.
            lane: where plain functions execute: "thread", or "process" for CPU-bound ones.
            retries: how many more attempts follow a failed one.
            timeout: seconds that an attempt may take.
            retention: seconds that outcomes are kept in the store.

        Functions are sent as cloudpickles under the app's signature: lambdas, closures, methods and functions of cells
        by value, those of modules by reference. A `Step` is sent under its own name and rules.

        Examples:
            >>> with app.executor() as executor:
            ...     future = executor.submit(pow, 2, 10)
            ...     list(executor.map(abs, [-1, -2])), future.result()
            ([1, 2], 1024)
        """
        from blazing_nb.client.executor import AppExecutor, Settler

        caller = Caller(self, name, lane=lane, retries=retries, timeout=timeout, retention=retention)
        self.connect()
        settler = Settler()
        self._settlers.add(settler)
        return AppExecutor(self, caller, settler)

    async def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run any callable on a worker and await its result, like `asyncio.to_thread`: `await app.run(f, x)`.

        Where the awaiting task is cancelled, so is the operation: nobody else holds its handle.

        Examples:
            >>> asyncio.run(app.run(sorted, [3, 1, 2]))  # in a notebook: await app.run(sorted, [3, 1, 2])
            [1, 2, 3]
        """
        if self._runner is None:
            self._runner = Caller(self, "run")
        operation = self._runner.enqueue(function, args, kwargs)
        try:
            return whole(self, await operation)
        except asyncio.CancelledError:
            operation.cancel()
            raise

    def on_start(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Register what every worker runs before it claims: `@app.on_start` on a function without arguments, plain or
        `async`. For what a worker loads once: fill a module's globals or a cache. A worker on which it raises is not
        ready, and says why. Where its code is new, workers that run already stop claiming until they have run it.

        Examples:
            >>> other = Blazing("other")
            >>> @other.on_start
            ... def warm_up():
            ...     import json  # a module, a model, a connection: once a worker
        """
        if not callable(function):
            raise UsageError(f"@app.on_start takes a function, not {type(function).__name__}.")
        self._hook = function
        if self.connected:
            self.define_hook()
        return function

    def define_hook(self) -> None:
        """Record the function of `on_start`, if there is one, in the store."""
        if self._hook is not None:
            define_hook(self, self._hook)

    def as_completed(self, handles: Iterable[Handle], timeout: float | None = None) -> Iterator[Handle]:
        """As `blazing_nb.as_completed`: operations of a batch, or handles, as they finish.

        Examples:
            >>> sorted(operation.result() for operation in app.as_completed(double.map([1, 2])))
            [2, 4]
        """
        return as_completed(handles, timeout)

    def __getitem__(self, name: str) -> Step:
        """The step of that name. Raises `UnknownStep`, which lists those there are."""
        if name not in self.steps:
            known = ", ".join(sorted(self.steps)) or "none"
            raise UnknownStep(f"App {self.app_id!r} has no step {name!r} here; there are: {known}.", step=name)
        return self.steps[name]

    # -- looking -----------------------------------------------------------------------------------------------------

    def drain(self, timeout: float = 60.0) -> Drained:
        """Accept no new operations, from any node, and wait until the queue is empty or `timeout` seconds have
        passed. Retries go on. The app stays closed to new ones until `resume()`; they raise `AppDraining`.

        Examples:
            >>> app.drain(timeout=30).empty
            True
            >>> double.enqueue(1)
            Traceback (most recent call last):
                ...
            blazing_nb.errors.AppDraining: ...
            >>> app.resume()
            True
        """
        return drain(self, seconds(timeout, "timeout") / 1000)

    def resume(self) -> bool:
        """Accept operations again after `drain()`. True where that changed something. Repeatable.

        Examples:
            >>> app.resume()  # it was not drained
            False
        """
        return self.store.drain(False)

    @property
    def restored(self) -> Restored | None:
        """That an older state of the app's database came back, as from a backup, and nobody has decided yet.

        Examples:
            >>> app.restored is None
            True
        """
        return generation.restored(self.store)

    def adopt(self) -> bool:
        """Go on from an older state that came back: what it holds runs, also again; what came after it is gone, but for
        what living processes still keep and send again. True where there was something to decide.

        Examples:
            >>> app.adopt()  # nothing came back
            False
        """
        return generation.adopt(self.store)

    def discard(self) -> int:
        """Delete an older state that came back, all that the app has there, and go on from nothing but what living
        processes still keep and send again; the number of keys deleted. Without such a state: 0, and nothing is.

        Raises:
            StoreUnsuitable: this Redis user may not; nothing was deleted.

        Examples:
            >>> app.discard()  # nothing came back
            0
        """
        return generation.discard(self.store)

    def doctor(self) -> Diagnosis:
        """Look at the server, its persistence, the key, the workers; each finding says what to do.

        Examples:
            >>> {finding.state for finding in app.doctor().findings} <= {"good", "doubt", "bad"}
            True
        """
        return diagnose(self)

    # -- sharing on purpose ------------------------------------------------------------------------------------------

    def channel(
        self,
        name: str,
        *,
        owner: str | None = None,
        share_with: Iterable[str] | None = None,
        retention: float | None = None,
    ) -> Channel:
        """Messages of several apps and nodes: `publish(value)`, and `subscribe()` by `for` or `async for`.

        Args:
            owner: the app that it is of; default: this one.
            share_with: the apps that may publish and subscribe, none else (they get the channel's own key). Default: as
                it is. Who is no longer named loses the file; rotate the app's key to make it useless.
            retention: seconds that messages are kept, from the next one on; default: as it is, at first a week.

        Raises:
            NotShared: this machine has no key of it for this app.

        Examples:
            >>> app.channel("prices").publish({"EUR": 1.1}) > "0-0"  # its position
            True
        """
        return open_channel(self, name, owner, share_with, retention)

    def shared(
        self, name: str = "main", *, owner: str | None = None, share_with: Iterable[str] | None = None
    ) -> Shared:
        """A space of values that several nodes and apps write without a conflict: `counter`, `set`, `register`, `map`,
        `log`. Arguments and errors as for `channel`.

        Examples:
            >>> app.shared("site").set("tags").add("new")
            >>> app.shared("site").set("tags").value
            {'new'}
        """
        key = (owner or self.app_id, name)
        if key not in self._shared or share_with is not None:
            self._shared[key] = open_space(self, name, owner, share_with)
        return self._shared[key]

    def schedules(self) -> Schedules:
        """What `step.every` and `step.cron` recorded, the next first; by number or name, each to pause or remove.

        Examples:
            >>> double.every("1h", name="hourly", args=[1])
            <Schedule hourly: double every 3600 s, next ...>
            >>> app.schedules()["hourly"].remove()
        """
        return listed(self)
