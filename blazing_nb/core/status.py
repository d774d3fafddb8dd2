"""Statuses of an operation, and the letters that a record begins with."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Live ones first, then the final ones.

    Examples:
        >>> double.options(delay=60).enqueue(1).status == "SCHEDULED"
        True
    """

    PENDING = "PENDING"
    SCHEDULED = "SCHEDULED"
    CLAIMED = "CLAIMED"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"
    EXPIRED = "EXPIRED"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows it: SUCCEEDED, FAILED, CANCELLED, LOST or EXPIRED.

        Examples:
            >>> Status.SUCCEEDED.is_final, Status.RETRYING.is_final
            (True, False)
        """
        return self in _FINAL


LETTER: dict[str, Status] = {
    "S": Status.SUCCEEDED,
    "F": Status.FAILED,
    "C": Status.CANCELLED,
    "L": Status.LOST,
    "X": Status.EXPIRED,
}
_FINAL = frozenset(LETTER.values())
