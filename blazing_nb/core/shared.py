"""Conflict-free values as pure code: a counter, a set with observed removal, a last-writer register, a map of those.

The state of each is a map of fields to bytes; two states join field by field, each field by an order of its own. So a
delta is a small state, and what a mutator does is to join its delta. Laws (checked in `tests/core/test_shared.py`):
`join` is commutative, associative, idempotent; mutators are inflationary; any order of deltas, with repetitions, gives
the same state. `store/lua/merge.lua` is the same join (`tests/store/test_sharing.py`). No wall clock takes part.

Fields of a counter: `p:<writer>` and `n:<writer>`, what that writer added and took away: the larger wins. Of a set:
`<writer>-<n>`, the dot of one addition: `+` and the element, or `-` once it was removed: `-` wins. Of a register and a
map: `v:<key>`: `<stamp> <writer> ` and the value, nothing where it was removed: the larger (stamp, writer) wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from blazing_nb.errors import PayloadInvalid

COUNTER, SET, REGISTER, MAP = "c", "s", "r", "m"
LARGEST = 1 << 53
Fields: TypeAlias = dict[bytes, bytes]


def join(kind: str, left: Mapping[bytes, bytes], right: Mapping[bytes, bytes]) -> Fields:
    """The least state that holds both."""
    larger = _LARGER[kind]
    joined = dict(left)
    for field, value in right.items():
        if field not in joined or larger(joined[field], value):
            joined[field] = value
    return joined


def _more(old: bytes, new: bytes) -> bool:
    return int(new) > int(old)


def _removed(old: bytes, new: bytes) -> bool:
    return new == b"-" and old != b"-"


def _later(old: bytes, new: bytes) -> bool:
    return _place(new) > _place(old)


_LARGER: dict[str, Callable[[bytes, bytes], bool]] = {COUNTER: _more, SET: _removed, REGISTER: _later, MAP: _later}


def _place(value: bytes) -> tuple[int, int]:
    """(stamp, writer): no writer gives a stamp twice, so it determines the value."""
    try:
        stamp, writer, _ = value.split(b" ", 2)
        return int(stamp), int(writer)
    except ValueError as error:
        raise PayloadInvalid(f"not a register: {value[:40]!r}") from error


# -- counter


def count(writer: int, plus: int, minus: int) -> Fields:
    """What a writer added and took away so far, in all."""
    return {b"p:%d" % writer: b"%d" % plus, b"n:%d" % writer: b"%d" % minus}


def total(state: Mapping[bytes, bytes]) -> int:
    """The counter's value."""
    return sum(int(value) if field.startswith(b"p:") else -int(value) for field, value in state.items())


# -- set


def add(writer: int, n: int, element: bytes) -> Fields:
    """An addition, the writer's n-th."""
    return {b"%d-%d" % (writer, n): b"+" + element}


def discard(dots: Iterable[bytes]) -> Fields:
    """The removal of additions that were seen; one that nobody had seen stays."""
    return dict.fromkeys(dots, b"-")


def additions(state: Mapping[bytes, bytes]) -> Fields:
    """Dot -> element, of what was not removed."""
    return {dot: value[1:] for dot, value in state.items() if value[:1] == b"+"}


# -- register and map


def stamp_of(state: Mapping[bytes, bytes], key: str) -> int:
    """The stamp of what is written under a key; 0 for nothing."""
    value = state.get(b"v:" + key.encode())
    return _place(value)[0] if value is not None else 0


def write(key: str, stamp: int, writer: int, value: bytes) -> Fields:
    """A value, or nothing for its removal, written over all that had a lower stamp."""
    return {b"v:" + key.encode(): b"%d %d " % (stamp, writer) + value}


def written(state: Mapping[bytes, bytes]) -> dict[str, bytes]:
    """Key -> value, of what was not removed."""
    values = {field[2:].decode(): value.split(b" ", 2)[2] for field, value in state.items()}
    return {key: value for key, value in values.items() if value}
