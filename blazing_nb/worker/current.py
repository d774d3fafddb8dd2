"""`current()`: what a running step may ask about itself."""

from __future__ import annotations

from contextvars import ContextVar

from blazing_nb.errors import UsageError


class Running:
    """The operation that runs here.

    Attributes:
        app, operation: the app's name and the operation's id as text.
        attempt: from 1.
        token: sortable text that only the newest claim of the operation has the highest of: give it to outside
            systems, and let them refuse a lower one.
        deadline: seconds that the attempt may take, or None.
    """

    __slots__ = ("_cancelled", "app", "attempt", "deadline", "operation", "token")

    def __init__(self, app: str, operation: str, attempt: int, token: str, deadline: float | None) -> None:
        self.app = app
        self.operation = operation
        self.attempt = attempt
        self.token = token
        self.deadline = deadline
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<Running {self.operation} attempt={self.attempt}{' cancelled' if self.cancelled else ''}>"

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked to cancel it. A plain function looks at this and raises `Cancel`."""
        return self._cancelled

    def cancel(self) -> None:
        self._cancelled = True


running: ContextVar[Running | None] = ContextVar("running", default=None)


def current() -> Running:
    """The operation that the calling step executes. Raises `UsageError` outside of one."""
    found = running.get()
    if found is None:
        raise UsageError("current() is for the body of a step while a worker executes it.")
    return found
