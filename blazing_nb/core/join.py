"""Joins as pure code: groups of members, and when each is decided. What `_join.lua` and `_settle.lua` do; see `queue`.

A group counts a set: a member that is told twice counts once. Laws: the verdict does not depend on the order in which
members become final, but for which of them are the first; a decided group stays decided.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import msgspec

Member = TypeVar("Member", bound=Hashable)


class Tally(msgspec.Struct, Generic[Member]):
    """One group: those not final yet, and the sizes of what was good and what was not (see `dependency.Members`)."""

    missing: set[Member]
    needed: int
    counts: str = "S"
    ending: str = "F"
    total: int = 0
    good: int = 0
    bad: int = 0
    first: list[Member] = []

    @classmethod
    def begin(cls, members: set[Member], needed: int, counts: str = "S", ending: str = "F") -> Tally[Member]:
        return cls(set(members), needed, counts, ending, len(members))

    @property
    def missed(self) -> bool:
        """Too few can still be good, and that ends the operation."""
        return self.ending != "" and self.total - self.bad < self.needed

    @property
    def met(self) -> bool:
        return not self.missed and (self.good >= self.needed or self.good + self.bad == self.total)

    def tell(self, member: Member, letter: str) -> None:
        """A member is final ("?": nothing is known of it)."""
        if self.missed or self.met or member not in self.missing:
            return
        self.missing.remove(member)
        if letter == "S" or self.counts == "*":
            self.good += 1
            self.first.append(member)
        else:
            self.bad += 1


def verdict(groups: list[Tally[Member]]) -> str:
    """How the waiting operation ends ("F", "C"), "go" where it starts, "" where it waits on."""
    missed = [group.ending for group in groups if group.missed]
    return missed[0] if missed else "go" if all(group.met for group in groups) else ""
