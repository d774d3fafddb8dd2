"""The app: where a user begins. Connects lazily, so that importing a module with an app and steps starts nothing."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, overload

import msgspec

from blazing_nb.client.batch import Batch
from blazing_nb.client.call import whole
from blazing_nb.client.caller import Caller
from blazing_nb.client.channel import Channel, open_channel, open_space
from blazing_nb.client.doctor import Diagnosis, diagnose
from blazing_nb.client.drain import Drained, drain
from blazing_nb.client.failed import Failed
from blazing_nb.client.gathering import Handle, as_completed
from blazing_nb.client.hook import define_hook
from blazing_nb.client.listener import Listener
from blazing_nb.client.listeners import listen
from blazing_nb.client.listing import Listing
from blazing_nb.client.monitor import roll_ups_frame, segments_frame
from blazing_nb.client.node import NodeWriter
from blazing_nb.client.operation import Operation, status_of
from blazing_nb.client.option import Kinds, Limits, limits, policy, seconds
from blazing_nb.client.outbox import CAP as OUTBOX_CAP
from blazing_nb.client.outbox import Outbox, check_options
from blazing_nb.client.results import Results
from blazing_nb.client.schedule import Schedules, listed
from blazing_nb.client.shared import Shared
from blazing_nb.client.spool import open_spool
from blazing_nb.client.step import Step
from blazing_nb.client.value import get, put
from blazing_nb.client.workers import Workers
from blazing_nb.core.dot import OperationId, Range
from blazing_nb.core.markup import card, drawn, table
from blazing_nb.core.name import check_name
from blazing_nb.core.policy import Policy
from blazing_nb.core.reference import Ref
from blazing_nb.core.signature import KeyRing
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.core.status import Status
from blazing_nb.errors import AppClosed, BatchUnknown, NotSharded, OperationUnknown, UnknownStep, UsageError
from blazing_nb.store.address import shown
from blazing_nb.store.durability import MEMORY, check_level
from blazing_nb.store.process import unique_name
from blazing_nb.store.redo import Redo
from blazing_nb.store.shards import open_store
from blazing_nb.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from blazing_nb.client.executor import AppExecutor, Settler

PAYLOAD_LIMIT, PAYLOAD_MOST = 1 << 20, 32 << 20
SEGMENT_CAP = 1_000_000
_sessions = iter(range(1, 1 << 62))


class Blazing:
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
        self.app_id = check_name(app_id, "app_id")
        self._url = url
        self._node_id = None if node_id is None else check_name(node_id, "node_id")
        if not 1 <= payload_limit <= PAYLOAD_MOST:
            raise UsageError(f"payload_limit is 1 to {PAYLOAD_MOST} bytes, not {payload_limit}.")
        self.payload_limit = payload_limit
        if segment_cap < 0:
            raise UsageError(f"segment_cap is at least 0 operations, not {segment_cap}.")
        self.segment_cap = segment_cap
        check_options(outbox, outbox_cap)
        self.durability = check_level(durability)
        if not isinstance(redo, bool):
            raise UsageError(f"redo is True or False, not {redo!r}.")
        self._redoes = redo
        self._outbox_at, self._outbox_cap = outbox, outbox_cap
        if outbox is not False and shards not in (None, 1):
            raise NotSharded("An app of several shards has no outbox yet: leave outbox= or shards= out.")
        self._shards = shards
        self._outbox: Outbox | None = None
        self.steps: dict[str, Step] = {}
        self.workers = Workers(self)
        self._hook: Callable[[], Any] | None = None
        self.session = 0
        self._lock = threading.RLock()
        self._pid = 0
        self._closed = False
        self._ring: KeyRing | None = None
        self._shared: dict[tuple[str, str], Shared] = {}
        self._unique = ""
        self._runner: Caller | None = None
        self._settlers: weakref.WeakSet[Settler] = weakref.WeakSet()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "connected" if self.connected else "not connected"
        return f"<Blazing {self.app_id}: {state}, {len(self.steps)} steps>"

    @drawn
    def _repr_html_(self) -> str:
        rows = [(step.name, step.lane, repr(step)) for step in self.steps.values()]
        facts: list[tuple[str, object]] = [("", "closed" if self._closed else "not connected")]
        if self.connected:
            url = shown(self._store.url)
            facts = [("at", "a socket of this machine" if url.startswith("unix:") else url)]
            facts.append(("workers here", len(self.workers)))
        return card("App", self.app_id, facts, table(("step", "lane", "function"), rows))

    def __reduce__(self) -> tuple[object, ...]:
        """A step that a workflow's code names takes its app along: unconnected, and without an address."""
        return Blazing, (self.app_id,)

    def __enter__(self) -> Blazing:
        return self.connect()

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- connecting --------------------------------------------------------------------------------------------------

    def connect(self) -> Blazing:
        """Reach the store, starting the embedded server where no other is named. Repeatable; done at first use.

        Raises:
            AppClosed, StoreUnavailable, StoreUnsuitable, ServerNotFound, ServerFailed.

        Examples:
            >>> app.connect().connected
            True
        """
        if self._closed:
            raise AppClosed(f"App {self.app_id!r} was closed; make a new Blazing({self.app_id!r}).")
        if self._pid == os.getpid():
            return self
        with self._lock:
            if self._pid != os.getpid():
                self._connect()
        return self

    def _connect(self) -> None:
        store, listener, redo, outbox = self._reach() if self._outbox_at is False else self._spooled()
        self._store, self._listener, self._outbox, self._redo = store, listener, outbox, redo
        # An app that nobody holds any more (its cell was run again) leaves no thread behind.
        self._shut = weakref.finalize(self, _shut, outbox, listener, redo, store)
        self._shut.atexit = False
        self._writers: dict[str, NodeWriter] = {}
        self._unique = ""
        self.session = next(_sessions)
        self._pid = os.getpid()
        self.define_hook()

    def _reach(self) -> tuple[Store, Listener, Redo, None]:
        store = open_store(self.app_id, self._resolve(), shards=self._shards)
        try:
            store.check()
            store.prepare(self.durability)
            listener = listen(store)
        except BaseException:
            store.close()
            raise
        # Of several shards each would have a window of its own.
        redo = Redo(store, active=self._redoes and store.count == 1, on_back=listener.restart)
        return store, listener, redo, None

    def _spooled(self) -> tuple[Store, Listener, Redo, Outbox]:
        """With an outbox the store may be away."""
        store = Store(self.app_id, self._resolve())
        listener = outbox = redo = None
        try:
            spool = open_spool(self._outbox_at, self.app_id, durable=self.durability != MEMORY)
            listener = Listener(store)
            redo = Redo(store, active=self._redoes, on_back=listener.restart)
            outbox = Outbox(spool, self.app_id, store.url, listener, self.ring, redo, self._outbox_cap)
            outbox.check()
            return store, listener, redo, outbox
        except BaseException:
            _shut(outbox, listener, redo, store)
            raise

    def _resolve(self) -> str:
        url = self._url or os.environ.get("BLAZING_REDIS_URL")
        if url:
            return url
        from blazing_nb.store import embedded

        return embedded.ensure().url

    def close(self) -> None:
        """Stop following and disconnect. Operations go on. Repeatable; use after it raises `AppClosed`.

        Examples:
            >>> other = Blazing("other")
            >>> other.close()
            >>> other.snapshot()
            Traceback (most recent call last):
                ...
            blazing_nb.errors.AppClosed: ...
        """
        with self._lock:
            self._closed = True
            if self._pid == os.getpid():
                self._pid = 0
                self._shut()
        for settler in list(self._settlers):
            settler.abandon()

    @property
    def closed(self) -> bool:
        """Whether `close` was called here.

        Examples:
            >>> app.closed
            False
        """
        return self._closed

    @property
    def connected(self) -> bool:
        """Whether this process has reached the store. Asks nobody.

        Examples:
            >>> Blazing("other").connected
            False
        """
        return self._pid == os.getpid()

    @property
    def store(self) -> Store:
        return self.connect()._store

    @property
    def listener(self) -> Listener:
        return self.connect()._listener

    @property
    def outbox(self) -> Outbox | None:
        """What waits here for the store: depth, age, what was refused. None without `Blazing(outbox=...)`.

        Examples:
            >>> app.outbox is None
            True
        """
        return self.connect()._outbox if self._outbox_at is not False else None

    @property
    def redo(self) -> Redo:
        """What was acknowledged here and may still be lost with its server, and how often the store went back.

        Examples:
            >>> app.redo.kept >= 0, app.redo.rollbacks
            (True, ...)
        """
        return self.connect()._redo

    @property
    def url(self) -> str:
        """Where the store is.

        Examples:
            >>> app.url.split(":")[0] in ("unix", "redis", "rediss")
            True
        """
        return self.store.url

    @property
    def ring(self) -> KeyRing:
        """The app's keys; never shown."""
        if self._ring is None:
            from blazing_nb.store.secret import load_ring

            self._ring = load_ring(self.app_id)
        return self._ring

    # -- steps and nodes ---------------------------------------------------------------------------------------------

    @overload
    def step(
        self,
        function: Callable[..., Any],
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
    ) -> Step: ...
    @overload
    def step(
        self,
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
    ) -> Callable[[Callable[..., Any]], Step]: ...

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
        if self._pid == os.getpid():
            self.define_hook()
        return function

    def define_hook(self) -> None:
        """Record the function of `on_start`, if there is one, in the store."""
        if self._hook is not None:
            define_hook(self, self._hook)

    def define(self, step: str, digest: bytes, record: bytes, options: bytes, limits: str = "") -> None:
        """Record a step's code in the store, or in the outbox until it answers."""
        self.connect()
        (self._outbox or self._store).define(step, digest, record, options, limits)
        self._redo.define(step, digest, record, options, limits)

    def recorded(self, name: str, resume: bool) -> list[Range]:
        """What a named batch holds already."""
        return self.outbox.ranges(name, resume) if self.outbox is not None else self.store.batch(name)

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

    def writer(self, node_id: str | None = None) -> NodeWriter:
        """The writer of a node: the one given, the app's, `NODE_ID` as it is now, or a unique one."""
        self.connect()
        name = node_id or self._node_id or os.environ.get("NODE_ID") or self._unique
        with self._lock:
            if not name:
                name = self._unique = unique_name()
            writer = self._writers.get(name)
            if writer is None:
                check_name(name, "NODE_ID")
                writer = (
                    NodeWriter(name, self.app_id, self._store, self.ring, self._listener, self._redo)
                    if self._outbox is None
                    else self._outbox.writer(name)
                )
                self._writers[name] = writer
        return writer

    def settle(self) -> None:
        """Send what interrupted calls left, so that the store knows of all that this process enqueued.

        Examples:
            >>> app.settle()  # nothing was interrupted
        """
        for writer in list(self.connect()._writers.values()):
            writer.settle()

    # -- looking -----------------------------------------------------------------------------------------------------

    def attach(self, name_or_id: str) -> Batch | Operation:
        """The handle of a named batch or of an operation's id, made by whatever kernel.

        Raises:
            BatchUnknown, OperationUnknown.

        Examples:
            >>> batch = double.map([1, 2], name="attached")
            >>> app.attach("attached").results(timeout=10)
            [2, 4]
            >>> app.attach(double.enqueue(21).id).result(timeout=10)
            42
        """
        if name_or_id.count(":") == 3:
            return self._attach_operation(OperationId.parse(name_or_id))
        self.settle()
        ranges = self.store.batch(check_name(name_or_id, "batch name"))
        if not ranges:
            text = (
                f"App {self.app_id!r} has no batch {name_or_id!r}: nothing was sent by that name, or it was forgotten."
            )
            raise BatchUnknown(text, name=name_or_id)
        return Batch(self, ranges, name=name_or_id)

    def _attach_operation(self, op: OperationId) -> Operation:
        if self.store.status([op])[0].status == "ABSENT":
            raise OperationUnknown(f"{op.text} is not in the store: never stored, or its retention has passed.")
        results = Results(1)
        self.listener.attach([op.range], results)
        return Operation(self, op, results, 0)

    def operations(
        self,
        status: Status | str | None = None,
        *,
        step: str | None = None,
        since: datetime | float | None = None,
        limit: int = 100,
    ) -> Listing:
        """Operations of the app, whoever enqueued them: first those that are not final, then the others, newest first.

        Args:
            status: one of `Status`, or None for all.
            step: of that step only.
            since: finished after that moment, or at most that many seconds ago. Leaves out what is not final.
            limit: of a page, 1 to 10,000; `listing.more()` is the next one.

        Examples:
            >>> double.enqueue(1).result(timeout=10)
            2
            >>> page = app.operations("SUCCEEDED", step="double", limit=1)
            >>> len(page), [row.status for row in page]
            (1, [<Status.SUCCEEDED: 'SUCCEEDED'>])
        """
        return Listing(self, status, step, since, limit)

    def statuses(self, operations: Iterable[Operation | str]) -> list[Status | None]:
        """The status of each now, of thousands in few calls; handles or ids. None: not in the store (any more).

        Raises:
            InvalidOperationId: nothing was asked.

        Examples:
            >>> done = double.enqueue(1)
            >>> done.wait(timeout=10)
            True
            >>> app.statuses([done, "double:n:nobody:1-1"])
            [<Status.SUCCEEDED: 'SUCCEEDED'>, None]
        """
        ids = [op.op if isinstance(op, Operation) else OperationId.parse(op) for op in operations]
        return [status_of(row) for row in self.store.status(ids)]

    def failed(self, step: str | None = None, *, only: Batch | Operation | None = None, limit: int = 1000) -> Failed:
        """The dead letters: operations that ended FAILED, LOST or EXPIRED and were not retried, newest first.

        Args:
            step: of that step only.
            only: of that batch, or only that operation.
            limit: of each step, and of all, the newest; 1 to 100,000.

        Examples:
            >>> positive.enqueue(-1).wait(timeout=10)
            True
            >>> app.failed("positive", limit=1).to_frame().error[0]
            'ValueError: -1 is below zero'
        """
        return Failed(self, step, limit, only)

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

    def doctor(self) -> Diagnosis:
        """Look at the server, its persistence, the key, the workers; each finding says what to do.

        Examples:
            >>> {finding.state for finding in app.doctor().findings} <= {"good", "doubt", "bad"}
            True
        """
        return diagnose(self)

    def roll_ups(self, last: float = 3600.0) -> pd.DataFrame:
        """What happened in each second of the last `last` seconds (3600 at most) in which something did, by step.

        Columns: at (UTC), step, then counts within that second: enqueued, claimed, succeeded, failed, ...

        Examples:
            >>> list(app.roll_ups(last=60).columns[:4])
            ['at', 'step', 'enqueued', 'claimed']
        """
        return roll_ups_frame(self.store, self.snapshot(), seconds(last, "last", low=1.0))

    # -- values ------------------------------------------------------------------------------------------------------

    def put(self, value: Any, *, retention: float = 86_400.0) -> Ref:
        """Store a value once; the reference to pass to steps instead of it. The same content is stored once.

        Args:
            value: anything that can be an argument, up to 256 MiB encoded.
            retention: seconds that it stays; a later `put` of the same lengthens it.

        Raises:
            ValueNotSerializable, PayloadTooLarge: nothing was sent.

        Examples:
            >>> table = app.put(list(range(1000)))
            >>> total = app.step(sum, name="total")
            >>> total.enqueue(table).result(timeout=10)  # the step gets the list
            499500
        """
        return put(self, value, seconds(retention, "retention", low=1.0))

    def get(self, ref: Ref) -> Any:
        """The value of a reference. Raises `ReferenceUnknown` where its retention has passed.

        Examples:
            >>> app.get(app.put({"a": 1}))
            {'a': 1}
        """
        return get(self, ref)

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

    def snapshot(self) -> Snapshot:
        """Counts and depths at this moment; costs the same at any load.

        Examples:
            >>> app.snapshot().app
            'examples'
        """
        found = self.outbox.snapshot() if self.outbox is not None else self.store.snapshot()
        notices = tuple(map(str, self.redo.rollbacks))
        return msgspec.structs.replace(found, notices=notices) if notices else found

    def segments(self) -> pd.DataFrame:
        """Depths of every segment as a frame.

        Examples:
            >>> list(app.segments().columns)
            ['step', 'prio', 'node', 'waiting', 'parked', 'claimed', 'head_age_s']
        """
        return segments_frame(self.snapshot())


def _shut(outbox: Outbox | None, listener: Listener | None, redo: Redo | None, store: Store) -> None:
    if outbox is not None:
        outbox.close()
    if redo is not None:
        redo.close()
    if listener is not None:
        listener.close()
    store.close()
    if redo is not None:
        redo.join()
