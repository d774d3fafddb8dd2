"""`current()`: what a running step may ask about itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from blazing_nb.core.effect import Effect
from blazing_nb.core.reference import Ref
from blazing_nb.core.signature import KeyRing
from blazing_nb.errors import UsageError
from blazing_nb.worker.effect import Effects

TEXT_LIMIT = 200


def _nothing() -> None:
    """Nobody else is told of a cancel."""


PRINTABLE = 64 << 10


class Running:
    """The operation that runs here.

    Attributes:
        app, operation: the app's name and the operation's id as text.
        attempt: from 1.
        token: sortable text that only the newest claim of the operation has the highest of: give it to outside
            systems, and let them refuse a lower one.
        deadline: seconds that the attempt may take, or None.

    Examples:
        >>> @app.step(timeout=5.0)
        ... def about():
        ...     me = current()
        ...     return me.app, me.attempt, me.deadline
        >>> about.enqueue().result(timeout=10)
        ('examples', 1, 5.0)
    """

    __slots__ = (
        "_cancelled",
        "_effects",
        "_keep",
        "_news",
        "_report",
        "_ring",
        "app",
        "attempt",
        "claim",
        "deadline",
        "on_cancel",
        "operation",
        "printable",
        "printed",
        "since_s",
        "token",
        "told",
    )

    def __init__(
        self,
        app: str,
        operation: str,
        attempt: int,
        token: str,
        deadline: float | None,
        claim: int = 1,
        report: Callable[[str], None] | None = None,
        keep: Callable[[Any, int], Ref] | None = None,
        ring: KeyRing | None = None,
    ) -> None:
        self.app = app
        self.operation = operation
        self.attempt = attempt
        self.token = token
        self.deadline = deadline
        self.claim = claim
        self.printed = 0
        self.since_s = time.monotonic()
        self.told: tuple[float, float, str] | None = None
        self.on_cancel: Callable[[], None] = _nothing
        self.printable = PRINTABLE
        self._cancelled = False
        self._news: str | None = None
        self._report = report
        self._keep = keep
        self._ring = ring
        self._effects: Effects | None = None

    def __repr__(self) -> str:
        return f"<Running {self.operation} attempt={self.attempt}{' cancelled' if self.cancelled else ''}>"

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked to cancel it. A plain function looks at this and raises `Cancel`.

        Examples:
            >>> @app.step
            ... def patient():
            ...     while not current().cancelled:
            ...         time.sleep(0.01)
            ...     raise Cancel("as asked")
            >>> operation = patient.enqueue()
            >>> operation.cancel().is_final or operation.wait(timeout=10)
            True
        """
        return self._cancelled

    def cancel(self) -> None:
        self._cancelled = True
        self.on_cancel()

    @property
    def effect(self) -> Effects:
        """What shall be done with the commit, and only with it: `incr`, `set`, `append`, `publish`.

        Examples:
            >>> count = app.step(lambda: current().effect.incr("counted"), name="count")
            >>> count.enqueue().result(timeout=10)
            >>> app.shared().counter("counted").value
            1
        """
        if self._effects is None:
            if self._ring is None:
                raise UsageError("Effects are for the body of a step, of an app of one shard.")
            self._effects = Effects(self.app, self.operation, self._ring)
        return self._effects

    def effects(self) -> tuple[Effect, ...]:
        """What was recorded."""
        return () if self._effects is None else tuple(self._effects.recorded)

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Say how far it came: `operation.progress` shows the last of these, at most half a second old.

        Args:
            done, total: in units of the step's own; `total` None where it is not known.
            text: up to 200 characters.

        Examples:
            >>> @app.step
            ... def pages(n):
            ...     for page in range(n):
            ...         current().progress(page, n, f"page {page}")
            ...     return n
            >>> pages.enqueue(3).result(timeout=10)
            3
        """
        self.told = (done, -1.0 if total is None else total, text[:TEXT_LIMIT])
        self._news = f"{done:g};{'' if total is None else f'{total:g}'};{text[:TEXT_LIMIT]}"
        if self._report is not None:
            self._report(self._news)

    def put(self, value: Any, *, retention: float = 86_400.0) -> Ref:
        """Store a value once, as `app.put` does: return the reference instead of a large result; `app.get` reads it.

        Args:
            value: up to 256 MiB encoded.
            retention: seconds that it stays, 1 at least.

        Raises:
            ValueNotSerializable, PayloadTooLarge.

        Examples:
            >>> big = app.step(lambda: current().put("x" * 1000), name="big")
            >>> len(app.get(big.enqueue().result(timeout=10)))
            1000
        """
        if not 1 <= retention < math.inf:
            raise UsageError(f"retention is 1 second at least, not {retention!r}.")
        if self._keep is None:
            raise UsageError("current().put is for the body of a step; this is the handle of one that runs elsewhere.")
        return self._keep(value, round(retention * 1000))

    def news(self) -> str | None:
        """What was said since this was asked last."""
        news, self._news = self._news, None
        return news


running: ContextVar[Running | None] = ContextVar("running", default=None)


def current() -> Running:
    """The operation that the calling step executes. Raises `UsageError` outside of one.

    Examples:
        >>> whoami = app.step(lambda: current().operation, name="whoami")
        >>> operation = whoami.enqueue()
        >>> operation.result(timeout=10) == operation.id
        True
        >>> current()
        Traceback (most recent call last):
            ...
        blazing_nb.errors.UsageError: ...
    """
    found = running.get()
    if found is None:
        raise UsageError("current() is for the body of a step while a worker executes it.")
    return found
