"""A step: a registered function, and what can be done with it. `client/sender` sends its calls."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from blazing_nb.client import schedule
from blazing_nb.client.batch import Batch
from blazing_nb.client.code import describe
from blazing_nb.client.hint import Hinting
from blazing_nb.client.operation import Operation
from blazing_nb.client.option import Limits, Options, call_options
from blazing_nb.client.parameter import Parameters
from blazing_nb.client.results import Results
from blazing_nb.client.sender import Sender
from blazing_nb.client.window import windowed
from blazing_nb.core.code import seal_code
from blazing_nb.core.dependency import FAIL, Members
from blazing_nb.core.markup import card, drawn
from blazing_nb.core.name import check_name
from blazing_nb.core.policy import Policy
from blazing_nb.core.replay import Invocation, replaying
from blazing_nb.errors import InvalidArguments, UsageError

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.client.flow import Flow
    from blazing_nb.client.schedule import Schedule

DEFAULT = Policy()
UNLIMITED = Limits()


class Step(Hinting):
    """What `@app.step` returns. Calling it calls the function here; `enqueue` and `map` send operations to workers.

    Examples:
        >>> @app.step
        ... def square(x):
        ...     return x * x
        >>> square.enqueue(3).result(timeout=10), square(3)
        (9, 9)
    """

    _called = dict.fromkeys(
        ("delay", "submit", "apply_async", "send", "remote", "apply"), "enqueue, which gives a handle"
    )

    def __init__(
        self,
        app: Blazing,
        function: Callable[..., Any],
        name: str,
        policy: Policy = DEFAULT,
        limits: Limits = UNLIMITED,
        lane: str | None = None,
    ) -> None:
        self.app = app
        self.function = function
        self.name = check_name(name, "step name")
        self.policy = policy
        self.limits = limits
        self.lane = _lane(lane, function, name)
        self._options = Options()
        self._code: tuple[int, bytes] | None = None
        _ = self._parameters  # a function without a signature is refused here
        functools.update_wrapper(self, function)

    _after: tuple[Members, ...] = ()
    """What calls with dependencies wait for beside them."""

    def __getstate__(self) -> dict[str, Any]:
        """A workflow's code names the steps that it calls; where a worker loads it they are there, unconnected."""
        kept = ("app", "function", "name", "policy", "limits", "lane", "_options")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _code=None)

    def __copy__(self) -> Step:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        made.__dict__.pop("_sender", None)  # it is of other options
        return made

    @functools.cached_property
    def _parameters(self) -> Parameters:
        return Parameters(self.function)

    @functools.cached_property
    def _sender(self) -> Sender:
        return Sender(self, self._options, self._after)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the function here and now; in a workflow: the awaitable outcome of an operation."""
        replay = replaying.get()
        return self.function(*args, **kwargs) if replay is None else replay.call(self._invocation(args, kwargs))

    def _invocation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation:
        options = self._options
        if options.key or options.block_s or options.on_failure != FAIL or options.durability:
            raise UsageError(
                "In a workflow a call takes no key (its position is one), no block, no durability and no on_failure."
            )
        return Invocation(
            app=self.app.app_id,
            step=self.name,
            prepared=self._sender.prepare(args, kwargs),
            prio=options.prio,
            delay_ms=options.delay_ms,
            at_ms=options.at_ms,
            expires_ms=options.expires_ms,
            expires_at_ms=options.expires_at_ms,
            options=options.call,
        )

    def __rshift__(self, other: Step | Flow) -> Flow:
        """`load >> clean`: a flow, whose stages hand on their values."""
        from blazing_nb.client.flow import chain

        return chain(self, other)

    def __repr__(self) -> str:
        kind = "async " if inspect.iscoroutinefunction(self.function) else ""
        return f"<Step {self.name} of {self.app.app_id}: {kind}{self.name}{self._parameters}>"

    @drawn
    def _repr_html_(self) -> str:
        rules, limits = self.policy, self.limits
        facts: list[tuple[str, object]] = [("of", self.app.app_id), ("lane", self.lane), ("retries", rules.retries)]
        if rules.timeout_ms:
            facts.append(("timeout", f"{rules.timeout_ms / 1000:g} s"))
        if limits.in_flight:
            facts.append(("at once", limits.in_flight))
        if limits.per_second:
            facts.append(("rate", f"{limits.per_second:g}/s"))
        return card("Step", f"{self.name}{self._parameters}", facts)

    def enqueue(self, /, *args: Any, **kwargs: Any) -> Operation:
        """Send one call to the workers; its handle.

        Operations and batches among the arguments, also in lists, tuples and dicts, are dependencies: the store starts
        this one when they are final, with their results in their places, whether or not this process lives.

        Raises:
            InvalidArguments, ValueNotSerializable, PayloadTooLarge: nothing was sent.
            SegmentFull: the segment is at its cap; nothing was sent.
            StoreUnavailable: the store did not answer within its deadline; nothing was sent.
            OperationUncertain: it was sent, and the store did not answer whether it has it; or it is stored, and not
                confirmed to the durability asked for. `app.settle()` sends the same again.

        Examples:
            >>> double.enqueue(double.enqueue(5)).result(timeout=10)  # the second waits for the first
            20
            >>> double.enqueue(1, 2)
            Traceback (most recent call last):
                ...
            blazing_nb.errors.InvalidArguments: ...
        """
        __tracebackhide__ = True
        results = Results(1)
        return Operation(self.app, self._sender.send(args, kwargs, results), results, 0)

    def options(
        self,
        *,
        delay: float | None = None,
        at: datetime | None = None,
        expires: float | datetime | None = None,
        priority: str = "normal",
        key: str | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        retention: float | None = None,
        block: float = 0.0,
        on_failure: str = FAIL,
        durability: str | None = None,
    ) -> Step:
        """The same step, whose next calls differ: `step.options(delay=5).enqueue(x)`; for `map` too.

        Args:
            delay: seconds until it may start.
            at: an aware moment until which it may not start.
            expires: seconds from now, or an aware moment: not begun by then, it ends as EXPIRED without running.
            priority: "high", "normal" or "low"; the low get a turn too. A delayed operation has none.
            key: an idempotency key: the same key in this step gives the same operation, from any node. `enqueue` only.
            retries: instead of the step's own.
            timeout: seconds that an attempt may take, as for `app.step`.
            retention: seconds that the outcome is kept.
            block: seconds to wait for room where the segment is full, for each call or chunk; then `SegmentFull`.
            on_failure: what follows where an operation whose result this one waits for does not succeed (it fails, is
                cancelled, lost, expired or unknown). "fail": this one ends as FAILED at once, with `DependencyFailed`
                naming it. "collect": its exception stands where its value would. "skip": batches and lists leave it
                out; where it is an argument itself (or a dict's value, or in a tuple), this one ends as CANCELLED.
            durability: what an enqueue has outlived when it returns, instead of the app's; see `Blazing`.

        Raises:
            UsageError: values that do not fit, or not together. Nothing was sent.

        Examples:
            >>> double.options(delay=0.05, expires=60).enqueue(4).result(timeout=10)
            8
            >>> once = double.options(key="page-7")
            >>> once.enqueue(7).id == once.enqueue(7).id
            True
        """
        made = copy.copy(self)
        made._options = Options.make(
            delay=delay,
            at=at,
            expires=expires,
            priority=priority,
            key=key,
            call=call_options(retries, timeout, retention),
            block=block,
            on_failure=on_failure,
            durability=durability,
        )
        return made

    def every(
        self,
        interval: str | float | timedelta,
        *,
        name: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        missed: str = "one",
    ) -> Schedule:
        """Enqueue a call at every interval from now on, whoever goes: `step.options(priority="high").every("5m")`.

        Workers fire what is due, each tick once however many there are; without a worker, nothing is fired.

        Args:
            interval: "30s", "5m", "2h", "1d", a timedelta, or seconds; 0.1 s to 366 d.
            name: of the schedule; default: the step's. Another one of that name is replaced; the same one goes on as
            it was. args, kwargs: of each call.
            missed: what becomes of ticks that nobody fired within a minute: "skip" them, fire "one" (the newest), or
                "all".

        Raises:
            UsageError, InvalidArguments, ValueNotSerializable, PayloadTooLarge: nothing was sent.

        Examples:
            >>> schedule = double.every("5m", name="fives", args=[1], missed="skip")
            >>> schedule.rule, schedule.missed
            ('every 300 s', 'skip')
            >>> schedule.remove()
        """
        return schedule.record(self, schedule.every(interval, missed), name, args, kwargs or {})

    def cron(
        self,
        expression: str,
        *,
        tz: str = "UTC",
        name: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        missed: str = "one",
    ) -> Schedule:
        """Enqueue a call whenever a cron expression says so: `step.cron("0 3 * * MON-FRI", tz="Europe/Berlin")`.

        Args:
            tz: the time zone that it is read in. Over a change of the clocks it does as Debian's cron does.

        The rest is as for `every`.

        Examples:
            >>> schedule = double.cron("0 3 * * MON-FRI", tz="Europe/Berlin", name="nightly", args=[1])
            >>> schedule.next.tzinfo is not None
            True
            >>> schedule.remove()
        """
        return schedule.record(self, schedule.cron(expression, tz, missed), name, args, kwargs or {})

    def pause(self) -> bool:
        """Let nobody claim this step; what is claimed goes on. True where that changed something.

        Examples:
            >>> double.pause()
            True
            >>> double.enqueue(1).wait(timeout=0.2)  # nobody claims it
            False
            >>> double.resume()
            True
        """
        self.code()
        return self.app.store.pause(self.name, True)

    def resume(self) -> bool:
        """Undo `pause`.

        Examples:
            >>> double.resume()  # it was not paused
            False
        """
        return self.app.store.pause(self.name, False)

    def map(
        self,
        items: Iterable[Any],
        *others: Iterable[Any],
        name: str | None = None,
        resume: bool = False,
        node_id: str | None = None,
    ) -> Batch:
        """Send one call for each item, in chunks; the handle of all.

        Args:
            items: each is the one positional argument of a call; read lazily. The operations of a batch are
                dependencies, each of its own call.
            others: refused; several arguments a call are for `starmap`.
            name: records the batch in the store, so that any kernel can `app.attach(name)`.
            resume: continue a batch of that name that exists: as many items as it holds are skipped.
            node_id: write as this node, instead of the app's.

        Raises:
            BatchExists: the name is taken and `resume` is not given. Nothing was sent.
            InvalidArguments, ValueNotSerializable, PayloadTooLarge: of an item; `sent` says how many went before it.
            OperationUncertain: of a chunk; `batch` has the handle of all that went, and says which are uncertain.

        Examples:
            >>> double.map(range(4)).results(timeout=10)
            [0, 2, 4, 6]
            >>> double.map(range(4), name="evens").wait(timeout=10)
            True
            >>> double.map(range(6), name="evens", resume=True).results(timeout=10)  # sends two
            [0, 2, 4, 6, 8, 10]
        """
        __tracebackhide__ = True
        if others:
            raise InvalidArguments(
                f"map gives each call one argument. Several: {self.name}.starmap(zip(first, second)).", step=self.name
            )
        each = items.operations() if isinstance(items, Batch) else items
        return self._map(((item,) for item in each), name, resume, node_id)

    def starmap(
        self,
        items: Iterable[Sequence[Any]],
        *,
        name: str | None = None,
        resume: bool = False,
        node_id: str | None = None,
    ) -> Batch:
        """Like `map`; each item is a sequence of positional arguments.

        Examples:
            >>> power = app.step(pow, name="power")
            >>> power.starmap([(2, 3), (3, 2)]).results(timeout=10)
            [8, 9]
        """
        __tracebackhide__ = True
        return self._map((tuple(item) for item in items), name, resume, node_id)

    def imap(
        self, items: Iterable[Any], *, window: int = 1000, ordered: bool = True, timeout: float | None = None
    ) -> Iterator[Any]:
        """The results, one after the other, of calls for each item, which may be endless: `items` is read no further
        than `window` operations ahead of what was taken.

        Args:
            window: operations that are enqueued and not yet taken, 1 to 100,000.
            ordered: in the items' order, else as they finish.
            timeout: seconds to wait for the next result; then `OperationTimeout`. Nothing is cancelled.

        Raises:
            Exception: what the step raised, at the place of its result; the rest can be taken no more.

        Examples:
            >>> values = double.imap(iter(int, 1), window=10, timeout=10)  # an endless iterator of zeros
            >>> next(values), next(values)
            (0, 0)
            >>> values.close()
        """
        return windowed(self, iter(items), window, ordered, timeout)

    def code(self) -> bytes:
        """The hash of the step's code; recorded in the store where this process has not yet done so.

        Examples:
            >>> len(double.code())  # bytes
            12
        """
        __tracebackhide__ = True
        session = self.app.session
        if self._code is None or self._code[0] != session:
            record = describe(self.function, self.name, self.policy)
            digest, sealed = seal_code(record, self.app.app_id, self.name, self.app.ring)
            options = msgspec.msgpack.encode({"lane": self.lane, "code": digest})
            self.app.define(self.name, digest, sealed, options, self.limits.text)
            self._code = (session, digest)
        return self._code[1]

    def _map(self, calls: Iterable[tuple[Any, ...]], name: str | None, resume: bool, node_id: str | None) -> Batch:
        __tracebackhide__ = True
        sender = self._sender
        return sender.extend(Batch(self.app, sender.begin(name, resume), name=name), calls, node_id)


def _lane(lane: str | None, function: Callable[..., Any], name: str) -> str:
    """Where it executes: as asked, else by its kind."""
    kind = "async" if inspect.iscoroutinefunction(function) else "thread"
    fitting = ("async",) if kind == "async" else ("thread", "process")
    if lane is not None and lane not in fitting:
        raise UsageError(f"Step {name!r} can execute in the lane {' or '.join(fitting)}, not {lane!r}.")
    return lane or kind
