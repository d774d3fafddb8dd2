"""The order of what is known of one operation: absent < live < final < retired, a linear sum, and its join.

Laws (checked in `tests/core/test_lattice.py`): `join` is commutative, associative and idempotent; it never goes down;
final is absorbing, so a finished operation never runs again; equal keys mean equal content. Status and result are one
value and never travel apart. No wall clock takes part.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from blazing_nb.core.status import Status
from blazing_nb.errors import BlazingError

RANK = {Status.LOST: 0, Status.EXPIRED: 0, Status.CANCELLED: 1, Status.FAILED: 2, Status.SUCCEEDED: 3}
"""A success that was committed anywhere outranks every other ending."""


class ContentConflict(BlazingError):
    """Two different contents claim the same place in the order: `left` and `right`. An identity was used twice."""


class Absent(msgspec.Struct, frozen=True):
    """Nothing is known."""


class Place(msgspec.Struct, frozen=True, order=True):
    """Who acted last: the owner's term and site, the attempt, the phase within it, the claim's nonce."""

    term: int = 0
    site: str = ""
    attempt: int = 0
    phase: int = 0
    nonce: int = 0


class Live(msgspec.Struct, frozen=True):
    """Enqueued and not finished."""

    place: Place = Place()


class Final(msgspec.Struct, frozen=True):
    """Finished: the status with its result."""

    status: Status
    result: bytes
    place: Place = Place()


class Retired(msgspec.Struct, frozen=True):
    """Finished, and its outcome was dropped after its retention."""


Known: TypeAlias = Absent | Live | Final | Retired
_Key = tuple[int, int, Place, str]


def key(known: Known) -> _Key:
    """The place in the order, as a tuple that compares."""
    match known:
        case Absent():
            return 0, 0, Place(), ""
        case Live(place):
            return 1, 0, place, ""
        case Final(status, _, place):
            return 2, RANK[status], place, status.value
        case Retired():
            return 3, 0, Place(), ""


def join(left: Known, right: Known) -> Known:
    """The larger of the two.

    Raises:
        ContentConflict: they are at the same place and differ.
    """
    ours, theirs = key(left), key(right)
    if ours == theirs and left != right:
        raise ContentConflict(f"two contents at the same place: {left} and {right}", left=left, right=right)
    return left if ours >= theirs else right
