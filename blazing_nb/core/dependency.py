"""What stands in the arguments of a waiting operation for others' results, and what its join waits for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import msgspec

from blazing_nb.core.dot import Range

FAIL, COLLECT, SKIP = RULES = ("fail", "collect", "skip")
ONE, ALL, FIRST = "one", "all", "first"


class Members(msgspec.Struct, frozen=True):
    """One group of members. It is decided as soon as `needed` of them are good, or can no longer be.

    Attributes:
        ranges: who they are.
        needed: how many must be good.
        counts: "S": good are those that succeeded; "*": all that are final.
        ending: how the waiting operation ends at once where too few can be good: "F" FAILED, "C" CANCELLED; "": it
            goes on when all are final.
    """

    ranges: tuple[Range, ...]
    needed: int
    counts: str = "S"
    ending: str = "F"

    @classmethod
    def of(cls, ranges: Iterable[Range], *, counts: str = "S", ending: str = "F") -> Members:
        """All of them are needed."""
        kept = tuple(ranges)
        return cls(kept, sum(map(len, kept)), counts, ending)

    def __len__(self) -> int:
        return sum(map(len, self.ranges))


class Dependency(msgspec.Struct, frozen=True):
    """The place of a result, or of a list of results.

    Attributes:
        kind: "one": a value; "all": a list; "first": a list of the first `needed` good ones.
        rule: "fail", "collect" or "skip".
        listed: it is an element of a list, which may leave it out.
    """

    kind: str
    ranges: tuple[Range, ...]
    needed: int
    rule: str = FAIL
    listed: bool = False

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, msgspec.structs.astuple(self)

    @property
    def members(self) -> Members:
        if self.rule == FAIL:
            return Members(self.ranges, self.needed)
        if self.rule == COLLECT:
            return Members(self.ranges, self.needed, "*", "")
        if self.kind == ONE and not self.listed:
            return Members(self.ranges, self.needed, "S", "C")
        return Members(self.ranges, self.needed, "S" if self.kind == FIRST else "*", "")


found: ContextVar[list[Dependency] | None] = ContextVar("found", default=None)
"""Where this is set, unpickling a dependency notes it there."""


def _rebuild(*fields: Any) -> Dependency:
    made, notes = Dependency(*fields), found.get()
    if notes is not None:
        notes.append(made)
    return made


def groups_of(dependencies: Iterable[Dependency]) -> tuple[Members, ...]:
    """What the operation waits for: a group for each `first`, in order; those of which all count are joined."""
    firsts: list[Members] = []
    rest: dict[tuple[str, str], list[Range]] = {}
    for dependency in dependencies:
        members = dependency.members
        if dependency.kind == FIRST:
            firsts.append(members)
        else:
            rest.setdefault((members.counts, members.ending), []).extend(members.ranges)
    return (*firsts, *(Members.of(ranges, counts=c, ending=e) for (c, e), ranges in rest.items()))


LEFT_OUT = object()
"""An element that its list leaves out."""


Swap = Callable[[Any, bool], Any]


def replace(value: Any, swap: Swap, opened: Callable[[Any], Any] = lambda item: item, listed: bool = False) -> Any:
    """A copy of lists, tuples and dicts, to any depth, in which `swap(item, listed)` stands for every other item, and
    for lists where it gives another value. `opened`: what is looked at instead of an item."""
    value = opened(value)
    kind = type(value)
    if kind is list:
        whole = swap(value, listed)
        if whole is not value:
            return whole
        items = [replace(item, swap, opened, True) for item in value]
        return [item for item in items if item is not LEFT_OUT]
    if kind is tuple:
        return tuple([replace(item, swap, opened) for item in value])
    if kind is dict:
        return {key: replace(item, swap, opened) for key, item in value.items()}
    return swap(value, listed)
