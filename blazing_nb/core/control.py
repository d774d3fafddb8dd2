"""Outcomes that a step asks for by raising or returning them."""

from __future__ import annotations


class Retry(Exception):
    """Raise or return it in a step: try again, after `after` seconds (default: the step's back-off).

    It counts as a failed attempt; when the step's `retries` are used up, the operation ends as FAILED with it.

    Examples:
        >>> @app.step(retries=1)
        ... def second_time():
        ...     if current().attempt == 1:
        ...         raise Retry("not there yet", after=0.01)
        ...     return current().attempt
        >>> second_time.enqueue().result(timeout=10)
        2
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason or "the step asked for another attempt")
        self.after = after

    def __reduce__(self) -> tuple[object, ...]:
        return _retry, (str(self), self.after)


class Cancel(Exception):
    """Raise it in a step: the operation ends as CANCELLED, with this reason.

    Examples:
        >>> @app.step
        ... def not_needed():
        ...     raise Cancel("somebody else has done it")
        >>> not_needed.enqueue().exception(timeout=10)
        OperationCancelled('not_needed:n:...: somebody else has done it')
    """


def _retry(reason: str, after: float | None) -> Retry:
    return Retry(reason, after=after)
