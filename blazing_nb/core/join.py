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
    """One group: those not final yet, each with where it is (a flow's stage goes on as another operation), and how many
    were good and how many not (see `dependency.Members`)."""

    missing: dict[Member, Member]
    needed: int
    counts: str = "S"
    ending: str = "F"
    total: int = 0
    good: int = 0
    bad: int = 0

    @classmethod
    def begin(cls, members: set[Member], needed: int, counts: str = "S", ending: str = "F") -> Tally[Member]:
        return cls({member: member for member in members}, needed, counts, ending, len(members))

    @property
    def missed(self) -> bool:
        """Too few can still be good, and that ends the operation."""
        return self.ending != "" and self.total - self.bad < self.needed

    @property
    def met(self) -> bool:
        return not self.missed and (self.good >= self.needed or self.good + self.bad == self.total)

    def move(self, member: Member, onto: Member) -> None:
        """A member is a flow's stage, and its flow goes on."""
        self.missing = {origin: onto if at == member else at for origin, at in self.missing.items()}

    def tell(self, member: Member, letter: str) -> None:
        """A member is final ("?": nothing is known of it)."""
        for origin in [origin for origin, at in self.missing.items() if at == member]:
            if self.missed or self.met:
                return
            del self.missing[origin]
            if letter == "S" or self.counts == "*":
                self.good += 1
            else:
                self.bad += 1


def verdict(groups: list[Tally[Member]]) -> str:
    """How the waiting operation ends ("F", "C"), "go" where it starts, "" where it waits on."""
    missed = [group.ending for group in groups if group.missed]
    return missed[0] if missed else "go" if all(group.met for group in groups) else ""
