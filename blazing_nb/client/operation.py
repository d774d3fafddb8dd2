"""The handle of one operation."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from blazing_nb.client.decode import exception_of, value_of
from blazing_nb.client.hint import Hinting
from blazing_nb.client.history import FailedAttempt, failed_attempts, given_back, history_frame, transitions
from blazing_nb.client.output import Output
from blazing_nb.client.progress import show
from blazing_nb.client.reproduction import Reproduction, reproduction
from blazing_nb.client.results import Results
from blazing_nb.core.codec import describe_failure
from blazing_nb.core.dot import OperationId
from blazing_nb.core.markup import card, drawn, span, status_cell
from blazing_nb.core.outcome import Outcome, decode_outcome
from blazing_nb.core.status import Status
from blazing_nb.errors import NotRetryable, OperationTimeout, OperationUnknown, StoreError, UsageError
from blazing_nb.store.reply import StatusRow

if TYPE_CHECKING:
    import pandas as pd

    from blazing_nb.client.observed import ObservedApp


FOLLOW_S = 0.2
STREAMS = (None, "stdout", "stderr", "log")


class Operation(Hinting):
    """One call of a step. Survives this process: `app.attach(op.id)` finds it from any kernel.

    Examples:
        >>> operation = double.enqueue(21)
        >>> operation.result(timeout=10), operation.status
        (42, <Status.SUCCEEDED: 'SUCCEEDED'>)
    """

    __slots__ = ("_app", "_results", "_slot", "op")
    _called = dict.fromkeys(("get", "compute", "join", "value"), "result(timeout=...), which waits for it")

    def __init__(self, app: ObservedApp, op: OperationId, results: Results, slot: int) -> None:
        self._app = app
        self.op = op
        self._results = results
        self._slot = slot

    def __repr__(self) -> str:
        outcome = self._outcome()
        return f"<Operation {self.op.text} {outcome.status if outcome else 'not finished'}>"

    @drawn
    def _repr_html_(self) -> str:
        """As far as known here; asks nobody."""
        outcome = self._outcome()
        if outcome is None:
            return card("Operation", self.op.text, [("", "not finished, as far as known here")])
        facts: list[tuple[str, object]] = [("", status_cell(outcome.status)), ("attempt", outcome.attempt)]
        facts.append(("run", span(outcome.run_us / 1e6)))
        if outcome.status is not Status.SUCCEEDED:
            facts.append(("error", describe_failure(outcome.payload)))
        return card("Operation", self.op.text, facts)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError(
            "an operation is a dependency as an argument, or in lists, tuples and dicts; elsewhere pass its id"
        )

    def __hash__(self) -> int:
        return hash(self.op)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Operation) and self.op == other.op and self._app.app_id == other._app.app_id

    @property
    def _at(self) -> OperationId:
        """Which operation it is now: a flow's goes on from stage to stage."""
        return self.op

    @property
    def id(self) -> str:
        """Its identity as text; `app.attach` takes it.

        Examples:
            >>> double.enqueue(1).id.split(":")[:2]  # then the node, and incarnation-counter
            ['double', 'n']
        """
        return self.op.text

    def done(self) -> bool:
        """Whether its outcome has arrived here. Asks nobody.

        Examples:
            >>> operation = double.enqueue(1)
            >>> operation.wait(timeout=10), operation.done()
            (True, True)
        """
        return self._results.records[self._slot] is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is final; False where `timeout` seconds were not enough.

        Examples:
            >>> sleeping = nap.enqueue(30)
            >>> sleeping.wait(timeout=0.05)
            False
            >>> sleeping.cancel().is_final or sleeping.wait(timeout=10)
            True
        """
        return self._results.wait_for(self.done, timeout)

    def result(self, timeout: float | None = None, *, progress: bool | None = None) -> Any:
        """Wait for the outcome; the step's return value.

        Args:
            timeout: seconds; None waits for ever. A wait that times out cancels nothing.
            progress: show what it reports of itself where it takes longer than two seconds; None: in notebooks and
                terminals.

        Raises:
            OperationTimeout: the wait ended.
            Exception: what the step raised, with the worker's traceback as its cause.

        Examples:
            >>> double.enqueue(21).result(timeout=10)
            42
            >>> positive.enqueue(-1).result(timeout=10)
            Traceback (most recent call last):
                ...
            ValueError: -1 is below zero
        """
        __tracebackhide__ = True
        record = self._wait(timeout, progress)
        return value_of(self._app, self._at, record)

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait for the outcome; what `result` would raise, or None.

        Examples:
            >>> positive.enqueue(-1).exception(timeout=10)
            ValueError('-1 is below zero')
            >>> positive.enqueue(1).exception(timeout=10)
        """
        outcome = decode_outcome(self._wait(timeout))
        return None if outcome.status is Status.SUCCEEDED else exception_of(self._app, self._at, outcome)

    def __await__(self) -> Generator[Any, None, Any]:
        future = self._results.future(self.done)
        yield from asyncio.wrap_future(future).__await__()
        return self.result(0)

    @property
    def status(self) -> Status:
        """Its status now, from the store unless it is final.

        Examples:
            >>> double.options(delay=60).enqueue(1).status
            <Status.SCHEDULED: 'SCHEDULED'>
        """
        outcome = self._outcome()
        if outcome is not None:
            return outcome.status
        if self._app.outbox is not None and self._app.outbox.holds(self._at):
            return Status.PENDING
        status = status_of(self._ask())
        assert status is not None  # noqa: S101 - _ask has raised
        return status

    @property
    def attempt(self) -> int:
        """Executions begun so far, from 1; deaths of workers and releases do not count. 0 before the first.

        Examples:
            >>> operation = positive.options(retries=1).enqueue(-1)
            >>> operation.wait(timeout=10), operation.attempt
            (True, 2)
        """
        outcome = self._outcome()
        if outcome is not None:
            return outcome.attempt
        row = self._ask()
        return decode_outcome(row.record).attempt if row.record else row.attempts

    def cancel(self) -> Status:
        """Ask that it does not run, or stops. Whichever comes first wins, a commit or this; the answer says which.

        Returns:
            CANCELLED: ended now. RUNNING: its worker was asked; a coroutine is cancelled at its next await, a plain
            function sees `current().cancelled`. Another final status: too late.

        Raises:
            OperationUnknown: it was never stored, or its retention has passed.

        Examples:
            >>> double.options(delay=60).enqueue(1).cancel()
            <Status.CANCELLED: 'CANCELLED'>
        """
        answer = self._app.store.cancel([self._at])[0]
        if answer == "ABSENT":
            raise OperationUnknown(f"{self._at.text} is not in the store: never stored, or its retention has passed.")
        return {"CANCELLED": Status.CANCELLED, "ASKED": Status.RUNNING}.get(answer) or self.status

    def retry(self) -> Operation:
        """Enqueue it anew, where it ended without success: another operation. A second time: the same other one.

        Raises:
            NotRetryable: it succeeded, goes on, or was forgotten.

        Examples:
            >>> operation = positive.enqueue(-2)
            >>> operation.wait(timeout=10)
            True
            >>> again = operation.retry()
            >>> again.id != operation.id, again.id == operation.retry().id
            (True, True)
        """
        [found] = self._app.store.retry([self._at])
        if found is None:
            raise NotRetryable(
                f"{self._at.text} cannot be retried: it did not fail, or it was forgotten. "
                "Enqueue it anew with its arguments."
            )
        operation = self._app.attach(found.text)
        assert isinstance(operation, Operation)  # noqa: S101 - an id was given
        return operation

    @property
    def progress(self) -> tuple[float, float | None, str] | None:
        """What it reported last by `current().progress`: (done, total, text); None where it did not.

        Examples:
            >>> operation = double.enqueue(1)
            >>> operation.wait(timeout=10)
            True
            >>> operation.progress  # it reported nothing
        """
        text = self._app.store.story(self._at).get("progress")
        if text is None:
            return None
        done, total, note = text.split(";", 2)
        return float(done), float(total) if total else None, note

    def logs(
        self, *, stream: str | None = None, follow: bool = False, timeout: float | None = None
    ) -> str | Iterator[str]:
        r"""What it printed and logged in its worker process, at most 64 KiB an attempt, kept as long as its outcome.

        Args:
            stream: only "stdout", "stderr" (warnings too) or "log" (what it said through `logging`).
            follow: an iterator of what comes, until it is finished.
            timeout: seconds to follow; then `OperationTimeout`. None: as long as it takes.

        Examples:
            >>> loud = app.step(lambda word: print(word.upper()), name="loud")
            >>> operation = loud.enqueue("hello")
            >>> operation.wait(timeout=10)
            True
            >>> operation.logs(stream="stdout")
            'HELLO\n'
        """
        if stream not in STREAMS:
            raise UsageError(f"stream is one of {', '.join(filter(None, STREAMS))}, or None for all, not {stream!r}.")
        if follow:
            return self._follow(stream, timeout)
        if timeout is not None:
            raise UsageError("timeout= is for follow=True: what is there already is read at once.")
        return "".join(self.output().texts(stream))

    def output(self) -> Output:
        r"""A reader of what it prints and shows, from the beginning, in pieces.

        Examples:
            >>> loud = app.step(lambda word: print(word.upper()), name="loud")
            >>> operation = loud.enqueue("hello")
            >>> operation.wait(timeout=10)
            True
            >>> "".join(operation.output().texts())
            'HELLO\n'
        """
        return Output(self._app.store, lambda: self._at)

    def _follow(self, stream: str | None, timeout: float | None) -> Iterator[str]:
        end = None if timeout is None else time.monotonic() + timeout
        output, over = self.output(), False
        while not over:
            over = self.wait(FOLLOW_S)
            yield from output.texts(stream)
            if not over and end is not None and time.monotonic() > end:
                raise OperationTimeout(f"{self._at.text} was not finished within {timeout:g} s. It goes on.")

    def reproduce(self, *, run: bool = True) -> Reproduction:
        """Bring its code, arguments and exception here, and run it here, so that %debug can look into what it raises.

        Args:
            run: False brings them only; `.run()` is for later. What it does, it does again.

        Raises:
            Exception: what the step raises here.
            OperationUnknown: its arguments are not kept: it succeeded, or its retention has passed.

        Examples:
            >>> operation = positive.enqueue(-3)
            >>> operation.wait(timeout=10)
            True
            >>> found = operation.reproduce(run=False)
            >>> found.args, found.exception
            ([-3], ValueError('-3 is below zero'))
        """
        found = reproduction(self._app, self._at, self.exception(0) if self.done() else None)
        if run:
            found.run()
        return found

    def failures(self) -> list[FailedAttempt]:
        """Attempts that failed and were repeated: (claim number, moment in UTC, error).

        Examples:
            >>> operation = positive.options(retries=1).enqueue(-1)
            >>> operation.wait(timeout=10)
            True
            >>> [(claim, error) for claim, at, error in operation.failures()]
            [(1, 'ValueError: -1 is below zero')]
        """
        return failed_attempts(transitions(self._app.store, self._at))

    def history(self) -> pd.DataFrame:
        """Every transition, in order.

        Columns: event (enqueued, claimed, started, retried, rescued, released, waited, and how it ended), status
        after it, at (UTC), worker, claim (its number), attempt (executions begun), error.

        Examples:
            >>> operation = double.enqueue(1)
            >>> operation.wait(timeout=10)
            True
            >>> list(operation.history().event)
            ['enqueued', 'claimed', 'started', 'succeeded']
        """
        return history_frame(transitions(self._app.store, self._at))

    def _outcome(self) -> Outcome | None:
        record = self._results.records[self._slot]
        return None if record is None else decode_outcome(record)

    def _ask(self) -> StatusRow:
        row = self._app.store.status([self._at])[0]
        if row.status == "ABSENT":
            raise OperationUnknown(f"{self._at.text} is not in the store: never stored, or its retention has passed.")
        return row

    def _obstacle(self) -> str:
        """Why a worker gave it back last, where one did, for whoever waits in vain."""
        with contextlib.suppress(StoreError):  # the wait ended all the same, which is what is said
            if why := given_back(self._app.store.story(self._at)):
                return f" A worker gave it back: {why}."
        return ""

    def _wait(self, timeout: float | None, progress: bool | None = None) -> bytes:
        __tracebackhide__ = True
        if not show(self, timeout, progress):
            raise OperationTimeout(
                f"{self.op.text} was not finished within {timeout:g} s. It goes on: wait again, or attach to its id."
                + self._obstacle(),
                operation=self.op.text,
                timeout=timeout,
            )
        record = self._results.records[self._slot]
        assert record is not None  # noqa: S101 - done() said so
        return record


def status_of(row: StatusRow) -> Status | None:
    """Of what the store answered; None where it knows nothing."""
    if row.record:
        return decode_outcome(row.record).status
    return None if row.status == "ABSENT" else Status(row.status)
