"""What is live and what is final in the model of the queue, and the steps that several of its verbs share: finishing,
parking, waiting for others. The scripts share the same ones, as `_finish.lua`, `_park.lua` and `_join.lua`. Pure."""

from __future__ import annotations

from blazing_nb.core.entry import PARKED, Dot, Entry
from blazing_nb.core.join import Tally, verdict

ALONE = 2
"""Deaths after which an operation runs alone."""


class Ledger:
    """The operations of one app on one site."""

    def __init__(self) -> None:
        self.live: dict[Dot, Entry] = {}
        self.final: dict[Dot, str] = {}
        """Letter and token of each outcome."""
        self.follows: dict[Dot, Dot] = {}
        """What a commit enqueued, by what it committed (I11)."""
        self.settled: list[tuple[Dot, str]] = []
        """What became final and is still to be handed on to who waits for it."""

    def finish(self, dot: Dot, letter: str, token: str) -> None:
        """As `_finish.lua`."""
        del self.live[dot]
        self.final[dot] = letter + token
        self.settled.append((dot, letter))

    def park(self, dot: Dot, due_ms: int) -> None:
        """As `_park.lua`."""
        entry = self.live[dot]
        entry.owner, entry.due_ms, entry.solo = PARKED, due_ms, entry.deaths >= ALONE

    def wait(self, dot: Dot, groups: tuple[Tally[Dot], ...], due_ms: int, after_ms: int, now_ms: int) -> None:
        """Park it until its groups are decided. Those already final, or of whom nothing is known, count at once."""
        entry = self.live[dot]
        entry.groups, entry.after_ms = list(groups), after_ms
        self.park(dot, due_ms)
        for group in groups:
            for member in sorted(group.missing):
                where = member
                while where in self.follows:
                    where = self.follows[where]
                group.move(member, where)
                if where not in self.live:
                    group.tell(where, self.final.get(where, "?")[0])
        self._decide(dot, now_ms)

    def settle(self, now_ms: int) -> None:
        """Hand on what became final, also what that ends."""
        while self.settled:
            member, letter = self.settled.pop(0)
            for dot, entry in list(self.live.items()):
                if entry.groups is not None and verdict(entry.groups) == "":
                    for group in entry.groups:
                        if member in self.follows:
                            group.move(member, self.follows[member])
                        else:
                            group.tell(member, letter)
                    self._decide(dot, now_ms)

    def _decide(self, dot: Dot, now_ms: int) -> None:
        entry = self.live[dot]
        found = verdict(entry.groups or [])
        if found == "go":
            entry.due_ms = max(now_ms, entry.after_ms)
        elif found:
            self.finish(dot, found, f"0-{entry.claims}")
